//! `penncloud bench http`: a small file, a redirect and the inbox of somebody who is signed in, beside the bare loop of
//! [`bare`](super::bare) and nginx.

use super::children::{Children, free_addresses};
use super::group::Group;
use super::load::{self, Load, Measured};
use super::table::{COLUMNS, numbers};
use super::web::Account;
use super::{Comparison, nginx, smtp};
use crate::config::Scheme;
use crate::error::{Error, Result};
use crate::http::client::{self, Answer};
use crate::net::Stream;
use memchr::memmem;
use std::io::{ErrorKind, Read, Write};
use std::process::Command;
use std::time::Duration;

/// Connections.
const CONNECTIONS: [usize; 4] = [1, 16, 128, 1000];
/// Messages in the inbox: more than a page shows.
const MESSAGES: usize = 60;
/// The small file.
const FILE: &str = "/static/favicon.svg";
/// Time for one request, and for a process to answer first.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes that are read at once.
const PIECE: usize = 16 << 10;
/// Bytes that one case moves at most.
const CASE_BYTES_MAX: u64 = 4 << 30;

const NOTES: &str = "\
Everything runs on this machine, the load too: so what counts is not only how many requests are answered in a second, but
how many for each second of processor time that the server takes (per core). The bare loop is a thread a connection that
parses nothing and always sends the bytes of our answer. The last column is our rate per core by that server's.
";

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    File,
    Redirect,
    Inbox,
}

/// One server as it is asked for one page.
struct Server<'c> {
    name: &'static str,
    /// Its process, and whose child that is.
    process: String,
    children: &'c Children,
    /// Where it listens, or why it does not.
    address: Result<String>,
    /// Target and further fields of a request.
    target: String,
    fields: String,
    status: u16,
}

/// Starts all servers, measures them case by case in turn, and prints a table.
pub fn run(settings: &Comparison, out: &mut dyn Write) -> Result<()> {
    let [web, balancer, exchange] = free_addresses()?;
    let more = format!(
        "[[frontend]]\nname = \"f1\"\naddress = {web:?}\n[[balancer]]\nname = \"lb\"\naddress = {balancer:?}\n\
         [[smtp]]\nname = \"s1\"\nexchange = {exchange:?}\n"
    );
    let group = Group::start_with(&settings.program, &settings.dir, &more)?;
    let others = Children::new(&settings.dir)?;
    let pages = pages(&group, &others, settings)?;
    write!(out, "{NOTES}\n{:28} {:>5} {:9} {COLUMNS}   per core  ratio\n", "", "conns", "")?;
    for kept in [true, false] {
        for (page, servers) in &pages {
            for connections in CONNECTIONS {
                let name = format!("{}, {}", page.name(), if kept { "kept" } else { "one each" });
                if !format!("{name}, {connections}").contains(&settings.only) {
                    continue;
                }
                let load = Load { connections, time: settings.time, bytes_max: CASE_BYTES_MAX };
                let results = servers.iter().map(|server| server.measure(&load, kept)).collect();
                print(out, &format!("{name:28} {connections:>5}"), servers, results)?;
            }
        }
    }
    Ok(())
}

impl Page {
    fn name(self) -> &'static str {
        match self {
            Page::File => "a file of 242 B",
            Page::Redirect => "a redirect",
            Page::Inbox => "an inbox of 60",
        }
    }
}

/// All pages, each with the servers that have it, ours first.
fn pages<'c>(
    group: &'c Group,
    others: &'c Children,
    settings: &Comparison,
) -> Result<Vec<(Page, Vec<Server<'c>>)>> {
    let config = group.config();
    let (web, balancer) = (&config.frontends[0].address, &config.balancers[0].address);
    let file = await_answer(group.children(), web, FILE, 200)?;
    await_answer(group.children(), balancer, "/", 303)?;
    let cookie = inbox(group)?;
    let ours = |process: &str, address: &str, target: &str, fields: &str, status| Server {
        name: "PennCloud",
        process: process.into(),
        children: group.children(),
        address: Ok(address.into()),
        target: target.into(),
        fields: fields.into(),
        status,
    };
    let mut pages = vec![
        (Page::File, vec![ours("f1", web, FILE, "", 200)]),
        (Page::Redirect, vec![ours("lb", balancer, "/", "", 303)]),
        (Page::Inbox, vec![ours("f1", web, "/mail", &cookie, 200)]),
    ];
    let [nginx] = free_addresses()?;
    let started = nginx::start(others, &nginx, &file.body);
    for (page, servers) in &mut pages {
        let bare = bare(&servers[0], others, settings)?;
        servers.push(bare);
        let target = if *page == Page::File { "/file" } else { "/" };
        if *page != Page::Inbox {
            let (name, address) = (nginx::NAME, started.clone().map(|()| nginx.clone()));
            let (process, status) = (name.into(), servers[0].status);
            let (target, fields) = (target.into(), String::new());
            servers.push(Server {
                name,
                process,
                children: others,
                address,
                target,
                fields,
                status,
            });
        }
    }
    if started.is_ok() {
        await_answer(others, &nginx, "/file", 200)?;
    }
    Ok(pages)
}

/// Waits until a server has a page.
fn await_answer(children: &Children, address: &str, target: &str, status: u16) -> Result<Answer> {
    let mut got = None;
    children.await_work(&format!("wait for {target} of {address}"), || {
        let answer = client::get(Scheme::Http, address, target, PATIENCE)?;
        if answer.status != status {
            return Err(Error::retry(format_args!("the server answered {}", answer.status)));
        }
        got = Some(answer);
        Ok(())
    })?;
    Ok(got.expect("it was waited for"))
}

/// Makes an account with mail; the field that signs a request in.
fn inbox(group: &Group) -> Result<String> {
    let config = group.config();
    let account = Account::make(&config.frontends[0].address, "bench".into())?;
    let recipient = format!("bench@{}", config.cluster.mail_domain);
    smtp::deliver(&config.smtps[0].exchange, &recipient, MESSAGES)?;
    Ok(format!("Cookie: {}\r\n", account.cookie))
}

/// The bare loop, with the bytes that our server answers.
fn bare<'c>(ours: &Server<'_>, others: &'c Children, settings: &Comparison) -> Result<Server<'c>> {
    let (target, fields) = (ours.target.clone(), ours.fields.clone());
    let mut line = Line::new(ours.address.clone()?, ours.request(true), ours.status, true);
    line.ask()?;
    let process = format!("bare-{}", target.replace('/', "-"));
    let answer = others.dir().join(&process);
    std::fs::write(&answer, &line.answer)?;
    let [address] = free_addresses()?;
    let mut command = Command::new(&settings.program);
    command.args(["bench", "bare"]).arg(&address).arg(&answer);
    others.start(&process, &mut command)?;
    await_answer(others, &address, "/", ours.status)?;
    let (address, status) = (Ok(address), ours.status);
    Ok(Server { name: "bare loop", process, children: others, address, target, fields, status })
}

impl Server<'_> {
    /// What came of a case, and the processor time that the server took for it.
    fn measure(&self, load: &Load, kept: bool) -> Result<(Measured, Duration)> {
        let address = self.address.clone()?;
        let before = self.children.processor_time(&self.process)?;
        let measured = load::measure(load, |_| {
            let mut line = Line::new(address.clone(), self.request(kept), self.status, kept);
            Ok(move || line.ask())
        });
        let after = self.children.processor_time(&self.process)?;
        match measured.fault {
            Some(fault) => Err(fault),
            None => Ok((measured, after.saturating_sub(before))),
        }
    }

    fn request(&self, kept: bool) -> Vec<u8> {
        let close = if kept { "" } else { "Connection: close\r\n" };
        let (target, fields) = (&self.target, &self.fields);
        format!("GET {target} HTTP/1.1\r\nHost: bench\r\n{fields}{close}\r\n").into_bytes()
    }
}

/// A connection that asks the same again and again, or one after the other that ask once.
struct Line {
    address: String,
    request: Vec<u8>,
    status: u16,
    kept: bool,
    stream: Option<Stream>,
    piece: Vec<u8>,
    answer: Vec<u8>,
}

impl Line {
    fn new(address: String, request: Vec<u8>, status: u16, kept: bool) -> Line {
        let (piece, answer) = (vec![0; PIECE], Vec::new());
        Line { address, request, status, kept, stream: None, piece, answer }
    }

    /// Sends the request and reads the whole answer; how many bytes it has.
    fn ask(&mut self) -> Result<u64> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => Stream::connect(&self.address, PATIENCE)?,
        };
        stream.set_stall(Some(PATIENCE));
        stream.write_all(&self.request)?;
        let mut whole = None;
        self.answer.clear();
        while !self.kept || whole.is_none_or(|length| self.answer.len() < length) {
            let n = stream.read(&mut self.piece)?;
            self.answer.extend_from_slice(&self.piece[..n]);
            whole = whole.or_else(|| length_of(&self.answer));
            if n == 0 {
                break;
            }
        }
        self.stream = self.kept.then_some(stream);
        let status = self.answer.get(9..12);
        if status != Some(self.status.to_string().as_bytes()) || whole != Some(self.answer.len()) {
            return Err(Error::bad(format_args!("an answer of {} bytes", self.answer.len())));
        }
        Ok(self.answer.len() as u64)
    }
}

/// Bytes of a whole answer, once its head is there.
fn length_of(answer: &[u8]) -> Option<usize> {
    let head = memmem::find(answer, b"\r\n\r\n")?;
    let length = memmem::find(&answer[..head], b"Content-Length: ")? + 16;
    let digits = answer[length..].split(|b| *b == b'\r').next()?;
    Some(head + 4 + std::str::from_utf8(digits).ok()?.parse::<usize>().ok()?)
}

/// The lines of one case: ours, then the others, each with the ratio.
fn print(
    out: &mut dyn Write,
    case: &str,
    servers: &[Server<'_>],
    results: Vec<Result<(Measured, Duration)>>,
) -> Result<()> {
    let per_core = |result: &Result<(Measured, Duration)>| {
        let (measured, took) = result.as_ref().ok()?;
        Some(measured.times.len() as f64 / took.as_secs_f64().max(1e-3))
    };
    let ours = per_core(&results[0]);
    for (number, (server, result)) in servers.iter().zip(&results).enumerate() {
        let (case, name, rate) =
            (if number == 0 { case } else { "" }, server.name, per_core(result));
        let ratio = match (number, ours, rate) {
            (1.., Some(ours), Some(theirs)) => format!("{:6.2}", ours / theirs),
            _ => String::new(),
        };
        let said = match result {
            Err(Error::Io(ErrorKind::NotFound, _)) => "not installed".into(),
            Err(fault) => format!("failed: {fault}"),
            Ok((measured, _)) => {
                format!("{} {:>10.0} {ratio}", numbers(measured), rate.unwrap_or_default())
            }
        };
        writeln!(out, "{case:34} {name:9} {}", said.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_an_answer_is_known_when_its_head_is_there() {
        assert_eq!(length_of(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"), None);
        assert_eq!(length_of(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na"), Some(40));
        assert_eq!(length_of(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nContent-Length: 2\r\n"), None);
    }
}
