//! Asks the cluster how it is: all processes at once, none for longer than [`PATIENCE`].

use super::app::App;
use crate::error::{Error, Result};
use crate::net::Stream;
use crate::protocol::cluster::ClusterStatus;
use crate::protocol::command::{Command, Peer};
use crate::protocol::reply::Reply;
use crate::protocol::wire::read_line;
use std::io::{BufReader, Write};
use std::time::{Duration, Instant};

/// How long a source may take; a page waits no longer.
pub(super) const PATIENCE: Duration = Duration::from_millis(800);
/// Longest line that is read of a process.
const LINE_BYTES_MAX: usize = 4096;
/// Lines that are read of an answer over HTTP.
const LINES_MAX: usize = 64;

/// What the processes said.
pub(super) struct Gathered {
    /// The master's view.
    pub(super) cluster: Result<ClusterStatus>,
    /// Name, role, address and answer of every other process.
    pub(super) processes: Vec<Process>,
}

/// A process and its own answer.
pub(super) struct Process {
    pub(super) name: String,
    pub(super) role: &'static str,
    pub(super) address: String,
    /// What it said when it was asked whether it is there.
    pub(super) answer: Result<String>,
}

/// Asks everyone.
pub(super) fn gather(app: &App) -> Gathered {
    std::thread::scope(|scope| {
        let cluster = scope.spawn(|| cluster_status(app));
        let asked: Vec<_> = app
            .config
            .processes()
            .into_iter()
            .filter(|(_, role, _)| matches!(*role, "frontend" | "smtp" | "balancer"))
            .map(|(name, role, address)| {
                (name, role, address, scope.spawn(move || ping(role, address)))
            })
            .collect();
        let process = |(name, role, address, answer): (&str, _, &str, _)| Process {
            name: name.into(),
            role,
            address: address.into(),
            answer: joined(answer),
        };
        Gathered { processes: asked.into_iter().map(process).collect(), cluster: joined(cluster) }
    })
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| Err(Error::unknown("asking it failed")))
}

/// The master's view of the cluster.
pub(super) fn cluster_status(app: &App) -> Result<ClusterStatus> {
    let peer = Peer { verb: "@GETSTATUS".into(), words: Vec::new(), payload: Vec::new() };
    let client = app.client.with_time_limit(PATIENCE);
    match client.call_at(&app.config.master.address, Command::Peer(peer))? {
        Reply::Peer { payload, .. } => serde_json::from_slice(&payload).map_err(Error::corrupt),
        other => Err(Error::corrupt(format!("a strange answer: {other:?}"))),
    }
}

/// Asks a process whether it is there; what it says.
fn ping(role: &str, address: &str) -> Result<String> {
    let mut stream = Stream::connect(address, PATIENCE)?;
    stream.set_deadline(Some(Instant::now() + PATIENCE));
    let mut from = BufReader::new(stream.clone());
    if role == "smtp" {
        let greeting = line(&mut from)?;
        let _ = stream.write_all(b"QUIT\r\n");
        return greeting
            .strip_prefix("220 ")
            .map(Into::into)
            .ok_or_else(|| Error::retry(&greeting));
    }
    let ask = format!("GET /ping HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes())?;
    let status = line(&mut from)?;
    if !status.starts_with("HTTP/1.1 200") {
        return Err(Error::retry(format!("it answered {status}")));
    }
    let head_end = (0..LINES_MAX).find(|_| line(&mut from).is_ok_and(|l| l.is_empty()));
    head_end.ok_or_else(|| Error::retry("its answer has no end"))?;
    line(&mut from)
}

fn line(from: &mut BufReader<Stream>) -> Result<String> {
    let line = read_line(from, LINE_BYTES_MAX)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&line).into_owned())
}
