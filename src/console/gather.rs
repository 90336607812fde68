//! Asks the cluster how it is: all processes at once, none for longer than [`PATIENCE`].

use super::app::App;
use crate::config::{Group, Scheme};
use crate::error::{Error, Result};
use crate::http::client;
use crate::net::Stream;
use crate::protocol::cluster::{ClusterStatus, Routes};
use crate::protocol::command::{Command, Peer};
use crate::protocol::reply::Reply;
use crate::protocol::wire::read_line;
use serde::de::DeserializeOwned;
use std::io::{BufReader, Write};
use std::time::{Duration, Instant};

/// How long a source may take; a page waits no longer.
pub(super) const PATIENCE: Duration = Duration::from_millis(800);
/// Longest line that is read of a process.
const LINE_BYTES_MAX: usize = 4096;

/// What the processes said.
pub(super) struct Gathered {
    /// The master's view.
    pub(super) cluster: Result<ClusterStatus>,
    /// Every other process that the page shows, and its own answer.
    pub(super) processes: Vec<Process>,
}

/// A process and its own answer.
pub(super) struct Process {
    pub(super) name: String,
    pub(super) role: &'static str,
    /// The replica group of a backend.
    pub(super) group: Option<String>,
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
            .filter(|(_, role, _)| !matches!(*role, "master" | "console"))
            .map(|(name, role, address)| {
                (
                    name,
                    role,
                    address,
                    scope.spawn(move || ping(app, role, app.config.via(name, address))),
                )
            })
            .collect();
        let process = |(name, role, address, answer): (&str, _, &str, _)| Process {
            name: name.into(),
            role,
            group: group_of(app, name),
            address: address.into(),
            answer: joined(answer),
        };
        Gathered { processes: asked.into_iter().map(process).collect(), cluster: joined(cluster) }
    })
}

fn group_of(app: &App, backend: &str) -> Option<String> {
    let has = |group: &&Group| group.backends.iter().any(|b| b.name == backend);
    app.config.groups.iter().find(has).map(|group| group.name.clone())
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| Err(Error::unknown("asking it failed")))
}

/// The master's view of the cluster.
pub(super) fn cluster_status(app: &App) -> Result<ClusterStatus> {
    ask_master(app, "@GETSTATUS")
}

/// Where everything is.
pub(super) fn routes(app: &App) -> Result<Routes> {
    ask_master(app, "@GETROUTES")
}

fn ask_master<T: DeserializeOwned>(app: &App, verb: &str) -> Result<T> {
    let peer = Peer { verb: verb.into(), words: Vec::new(), payload: Vec::new() };
    let client = app.client.with_time_limit(PATIENCE);
    match client.call_at(app.config.master_address(), Command::Peer(peer))? {
        Reply::Peer { payload, .. } => serde_json::from_slice(&payload).map_err(Error::corrupt),
        other => Err(Error::corrupt(format!("a strange answer: {other:?}"))),
    }
}

/// Asks a process whether it is there; what it says.
fn ping(app: &App, role: &str, address: &str) -> Result<String> {
    match role {
        "backend" => pong(app, address),
        "smtp" => greeting(address),
        _ => web_ping(app.config.http.scheme(), address),
    }
}

/// Whether a backend answers at all: what is known of it while the master is silent.
fn pong(app: &App, address: &str) -> Result<String> {
    match app.client.with_time_limit(PATIENCE).call_at(address, Command::Ping)? {
        Reply::Pong => Ok("It answers.".into()),
        other => Err(Error::corrupt(format!("a strange answer: {other:?}"))),
    }
}

/// What a frontend or a balancer says of itself.
fn web_ping(scheme: Scheme, address: &str) -> Result<String> {
    let answer = client::get(scheme, address, "/ping", PATIENCE)?;
    match answer.status {
        200 => Ok(String::from_utf8_lossy(&answer.body).trim().into()),
        status => Err(Error::retry(format!("it answered {status}"))),
    }
}

/// The greeting of an SMTP server.
fn greeting(address: &str) -> Result<String> {
    let mut stream = Stream::connect(address, PATIENCE)?;
    stream.set_deadline(Some(Instant::now() + PATIENCE));
    let line = read_line(&mut BufReader::new(stream.clone()), LINE_BYTES_MAX)?.unwrap_or_default();
    let _ = stream.write_all(b"QUIT\r\n");
    let line = String::from_utf8_lossy(&line);
    match line.strip_prefix("220 ") {
        Some(greeting) => Ok(greeting.into()),
        None => Err(Error::retry(format!("it answered {line}"))),
    }
}
