//! A client's connection: read a request, answer it, until the other side closes.

use super::node::Node;
use super::reads::Range;
use super::status;
use super::tablet::Write as TabletWrite;
use crate::config::Auth;
use crate::error::{Error, Result};
use crate::net::Stream;
use crate::protocol::auth::{self, Gate};
use crate::protocol::command::{Command, Request};
use crate::protocol::reply::Reply;
use crate::protocol::wire::{self, Incoming};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Longest time for one read or write of a connection in use.
const STALL: Duration = Duration::from_secs(60);
/// Silence after which a client's connection is closed.
const IDLE: Duration = Duration::from_secs(600);
/// How long a request may take to arrive, from its first byte on, a large value apart: who types it has time.
const ARRIVAL: Duration = Duration::from_secs(120);
/// How long a refused client's bytes are read away.
const LINGER: Duration = Duration::from_secs(1);
/// Longest deadline that a request may ask for.
const DEADLINE_MAX: Duration = Duration::from_secs(120);

/// Serves one connection until it ends.
pub fn serve(node: &Arc<Node>, secret: &Arc<str>, stream: Stream, peer: SocketAddr) {
    let required = node.config.cluster.auth == Auth::Always || !peer.ip().is_loopback();
    serve_behind(Gate::new(Some(secret.clone()), required), node, stream, peer);
}

/// Serves one connection over the cap until it ends.
pub fn serve_reserved(node: &Arc<Node>, secret: &Arc<str>, stream: Stream, peer: SocketAddr) {
    serve_behind(Gate::reserved(secret.clone()), node, stream, peer);
}

fn serve_behind(gate: Gate, node: &Arc<Node>, stream: Stream, peer: SocketAddr) {
    node.connections.fetch_add(1, Ordering::Relaxed);
    let required = !gate.is_open();
    let mut connection = Connection {
        node,
        gate,
        from: BufReader::new(stream.clone()),
        to: BufWriter::with_capacity(64 << 10, stream.clone()),
        stream,
    };
    if required {
        connection.stream.set_deadline(Some(Instant::now() + auth::HANDSHAKE));
    }
    if let Err(error) = connection.run() {
        log::debug!("connection of {peer}: {error}");
    }
    node.connections.fetch_sub(1, Ordering::Relaxed);
}

struct Connection<'a> {
    node: &'a Arc<Node>,
    gate: Gate,
    stream: Stream,
    from: BufReader<Stream>,
    to: BufWriter<Stream>,
}

impl Connection<'_> {
    fn run(&mut self) -> Result<()> {
        loop {
            let incoming = self.read_request()?;
            let go_on = match incoming {
                Incoming::Closed => return Ok(()),
                Incoming::Refused(error) => self.reply(&Reply::Error(error), true)?,
                Incoming::Lost(error) => self.reply(&Reply::Error(error), false)?,
                Incoming::Request(request) => self.answer(request)?,
                Incoming::BigPut(request, len) => self.put_big(&request, len)?,
            };
            if self.nothing_waits() {
                self.to.flush()?;
            }
            if !go_on {
                return self.close();
            }
        }
    }

    /// Waits for a request, and then for all of it.
    fn read_request(&mut self) -> Result<Incoming> {
        self.stream.set_stall(Some(IDLE));
        self.skip_blanks()?;
        self.stream.set_stall(Some(STALL));
        let is_open = self.gate.is_open();
        if is_open {
            self.stream.set_deadline(Some(Instant::now() + ARRIVAL));
        }
        let (gate, cell_bytes) = (&self.gate, self.node.config.store.cell_bytes);
        let incoming =
            wire::read_request(&mut self.from, cell_bytes, |command| gate.check(command))?;
        if is_open {
            self.stream.set_deadline(None);
        }
        Ok(incoming)
    }

    /// Waits for the first byte of a request: the end of the line after a value is none.
    fn skip_blanks(&mut self) -> Result<()> {
        loop {
            let buffer = self.from.fill_buf()?;
            let blanks = buffer.iter().take_while(|byte| wire::is_blank(&[**byte])).count();
            if blanks == 0 {
                return Ok(());
            }
            self.from.consume(blanks);
        }
    }

    /// Whether no pipelined request has arrived: the LF after a value does not count, nor does a line that
    /// has not ended, since its rest may wait for our answer.
    fn nothing_waits(&self) -> bool {
        let buffer = self.from.buffer();
        let lines = buffer.iter().rposition(|&byte| byte == b'\n').unwrap_or(0);
        wire::is_blank(&buffer[..lines])
    }

    /// Closes after the last answer. What the other side still sends is read away for a moment: a reset
    /// would take the answer from it.
    fn close(&mut self) -> Result<()> {
        self.to.flush()?;
        self.stream.close_write();
        self.stream.set_deadline(Some(Instant::now() + LINGER));
        std::io::copy(&mut (&mut self.from).take(wire::DRAIN_BYTES_MAX), &mut std::io::sink())?;
        Ok(())
    }

    /// Writes an answer; passes on whether the connection goes on.
    fn reply(&mut self, reply: &Reply, go_on: bool) -> Result<bool> {
        let mut out = Vec::new();
        reply.write(&mut out);
        self.to.write_all(&out)?;
        Ok(go_on)
    }

    fn deadline(&self, request: &Request) -> Instant {
        let asked = request.options.deadline_ms.map(Duration::from_millis);
        Instant::now() + asked.unwrap_or(self.node.config.request_time()).min(DEADLINE_MAX)
    }

    fn answer(&mut self, request: Request) -> Result<bool> {
        let deadline = self.deadline(&request);
        let node = self.node;
        let reply = match request.command {
            Command::Get { row, column, offset, length, if_version, local } => {
                let found = node.find(&row, &column, local, deadline);
                return self.answer_get(&row, found, Range { offset, length }, if_version);
            }
            Command::Auth(words) => {
                let reply = self.gate.answer(&words);
                if self.gate.is_open() {
                    self.stream.set_deadline(None);
                }
                let failed = matches!(reply, Reply::Error(_));
                return self.reply(&reply, !failed);
            }
            Command::Peer(peer) if peer.verb == "@LINK" => {
                node.take_link(&peer, &mut self.from, &mut self.to)?;
                return Ok(false);
            }
            Command::Quit => return Ok(false),
            command => execute(node, command, request.options, deadline),
        };
        self.reply(&reply.unwrap_or_else(Reply::Error), true)
    }

    fn answer_get(
        &mut self,
        row: &[u8],
        found: Result<Option<crate::protocol::cell::Cell>>,
        range: Range,
        if_version: Option<u64>,
    ) -> Result<bool> {
        let cell = match found {
            Ok(Some(cell)) => cell,
            Ok(None) if if_version.is_some_and(|version| version > 0) => {
                return self.reply(&Reply::Mismatch { version: 0, at: None }, true);
            }
            Ok(None) => return self.reply(&Reply::NotFound, true),
            Err(error) => return self.reply(&Reply::Error(error), true),
        };
        if if_version.is_some_and(|version| version != cell.version) {
            return self.reply(&Reply::Mismatch { version: cell.version, at: None }, true);
        }
        self.node.write_value(&mut self.to, row, &cell, range)?;
        Ok(true)
    }

    fn put_big(&mut self, request: &Request, len: u64) -> Result<bool> {
        let deadline = self.deadline(request);
        let mut value = (&mut self.from).take(len);
        let answer = self.node.put_big(request, len, &mut value, deadline);
        let left = value.limit();
        let reply = answer.unwrap_or_else(Reply::Error);
        if left > wire::DRAIN_BYTES_MAX {
            return self.reply(&reply, false);
        }
        wire::drain(&mut self.from, left)?;
        self.reply(&reply, true)
    }
}

/// Executes a command whose answer is written whole.
fn execute(
    node: &Arc<Node>,
    command: Command,
    options: crate::protocol::command::Options,
    deadline: Instant,
) -> Result<Reply> {
    match command {
        Command::Write(op) => node.write(op, options, deadline),
        Command::Batch { items, .. } => {
            node.execute(TabletWrite { ops: items, single: false, options }, deadline)
        }
        Command::Stage { row, id } => node.stage(&row, id, options, deadline),
        Command::Chunk { row, id, offset, value } => {
            node.put_chunk(&row, id, offset, value, deadline)
        }
        Command::Staged { row, id } => node.staged_length(&row, id, deadline),
        Command::Scan(scan) => node.scan(scan, deadline),
        Command::Rows { prefix, after, limit } => node.rows(&prefix, after.as_deref(), limit),
        Command::Peer(peer) => node.answer_peer(peer, options, deadline),
        Command::Status => Ok(Reply::Text(status::status(node))),
        Command::Help => Ok(Reply::Text(status::HELP.into())),
        Command::Ping => Ok(Reply::Pong),
        _ => Err(Error::bad("this is for the master; a backend does not know")),
    }
}
