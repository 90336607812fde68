//! Golden scripts. Every input is fed whole, and in pieces of 1 and of 7 bytes: the output is one.

use super::pieces::{parts, requests};
use super::server::{connect, limits, start};
use penncloud::http::head::{Framing, Head, Version};
use std::error::Error;
use std::fmt::Write;
use std::io::{Read, Write as _};
use std::net::Shutdown;

#[derive(goldenscript::Command)]
enum Step {
    /// Bytes of a connection: the requests that they are, and why no more.
    Bytes(Vec<String>),
    /// A chunked body behind a good head.
    Chunked(Vec<String>),
    /// A form of this content type.
    Form(String, Vec<String>),
    /// As many times the text, as bytes of a connection, between two others.
    Many { before: String, text: String, after: String, times: usize },
    /// Bytes to the whole server: what it answers until it closes.
    Server(Vec<String>),
}

struct Runner;

impl goldenscript::Runner for Runner {
    type Command = Step;

    fn run(&mut self, step: &Step, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        Ok(match step {
            Step::Bytes(lines) => in_pieces(&bytes(lines), show_requests),
            Step::Chunked(lines) => {
                let head = b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
                in_pieces(&[head, &bytes(lines)[..]].concat(), show_bodies)
            }
            Step::Form(content_type, lines) => {
                in_pieces(&bytes(lines), |body, piece| show_parts(content_type, body, piece))
            }
            Step::Many { before, text, after, times } => {
                let all = [before.clone(), text.repeat(*times), after.clone()];
                in_pieces(&bytes(&all), show_requests)
            }
            Step::Server(lines) => answers(&bytes(lines)),
        })
    }
}

/// Each character of a script is one byte.
fn bytes(lines: &[String]) -> Vec<u8> {
    let byte = |c| u8::try_from(u32::from(c)).expect("a script writes bytes over 127 as \\xNN");
    lines.iter().flat_map(|line| line.chars()).map(byte).collect()
}

/// The answers of a new server, without what differs from run to run: the time and the tag of its request ids.
fn answers(request: &[u8]) -> String {
    let mut stream = connect(start(limits()));
    stream.write_all(request).expect("send");
    stream.shutdown(Shutdown::Write).expect("half closed");
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers).expect("the server ends the connection in order");
    let answers = String::from_utf8_lossy(&answers).replace('\r', "");
    let line = |line: &str| match line.split_once(' ') {
        Some(("Date:", date)) if date.ends_with(" GMT") => "Date: now\n".to_string(),
        Some(("request", id)) => format!("request <tag>{}\n", &id[id.len().min(8)..]),
        _ => format!("{line}\n"),
    };
    answers.lines().map(line).collect()
}

fn in_pieces(bytes: &[u8], show: impl Fn(&[u8], usize) -> String) -> String {
    let whole = show(bytes, usize::MAX);
    for piece in [1, 7] {
        assert_eq!(show(bytes, piece), whole, "in pieces of {piece}");
    }
    whole
}

fn show_requests(bytes: &[u8], piece: usize) -> String {
    let (requests, refusal) = requests(bytes, piece);
    let mut out = String::new();
    for (head, body) in &requests {
        show_head(&mut out, head);
        show_body(&mut out, head, body);
    }
    if let Some(refusal) = refusal {
        writeln!(out, "{} {}", refusal.status, refusal.why).expect("a string takes all");
    }
    out
}

fn show_head(out: &mut String, head: &Head) {
    let version = if head.version == Version::Http10 { " HTTP/1.0" } else { "" };
    write!(out, "{} {}{version}", head.method, shortened(&head.target.raw))
        .expect("a string takes all");
    if head.target.path != head.target.raw.split('?').next().unwrap_or_default() {
        write!(out, " path={:?}", head.target.path).expect("a string takes all");
    }
    for (name, value) in head.headers.iter().take(8) {
        write!(out, " {name}={:?}", shortened(value)).expect("a string takes all");
    }
    out.push_str(if head.expects_continue { " waits" } else { "" });
    out.push_str(if head.keep_alive { "\n" } else { " close\n" });
}

fn show_body(out: &mut String, head: &Head, body: &[u8]) {
    if head.framing != Framing::Length(0) {
        writeln!(out, "  body {:?}", shortened(&latin(body))).expect("a string takes all");
    }
}

fn show_bodies(bytes: &[u8], piece: usize) -> String {
    let (requests, refusal) = requests(bytes, piece);
    let bodies = requests.iter().map(|(_, body)| format!("{:?}\n", latin(body)));
    let refusal = refusal.map(|r| format!("{} {}\n", r.status, r.why));
    bodies.chain(refusal).collect()
}

fn show_parts(content_type: &str, body: &[u8], piece: usize) -> String {
    let parts = match parts(content_type, body, piece) {
        Ok(parts) => parts,
        Err(e) => return format!("{e}\n"),
    };
    let show = |(name, file, kind, bytes)| -> String {
        let file: Option<String> = file;
        let kind: Option<String> = kind;
        let file = file.map(|f| format!(" file={f:?}")).unwrap_or_default();
        let kind = kind.map(|k| format!(" type={k:?}")).unwrap_or_default();
        let name: String = name;
        let bytes: Vec<u8> = bytes;
        format!("{:?}{file}{kind} {:?}\n", shortened(&name), shortened(&latin(&bytes)))
    };
    match parts.is_empty() {
        true => "no parts\n".into(),
        false => parts.into_iter().map(show).collect(),
    }
}

fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(*b)).collect()
}

fn shortened(text: &str) -> String {
    match text.len() {
        0..=80 => text.to_string(),
        n => format!("{}... of {n} bytes", text.chars().take(20).collect::<String>()),
    }
}

fn run(script: &str) {
    let path = format!("{}/tests/http/scripts/{script}", env!("CARGO_MANIFEST_DIR"));
    goldenscript::run(&mut Runner, path).expect("the script can be read");
}

#[test]
fn request_lines_and_targets() {
    run("targets");
}

#[test]
fn fields_and_line_ends() {
    run("fields");
}

#[test]
fn framing_has_one_meaning() {
    run("framing");
}

#[test]
fn chunks() {
    run("chunks");
}

#[test]
fn forms() {
    run("forms");
}

#[test]
fn answers_of_the_whole_server() {
    run("answers");
}

#[test]
fn conditions_and_ranges() {
    run("conditions");
}

#[test]
fn limits_of_a_head() {
    run("limits");
}
