//! Connections from one of PennCloud's processes to another, and a pool of them.

use super::auth;
use super::command::{Command, Request};
use super::reply::Reply;
use super::wire;
use crate::error::{Error, Result};
use crate::net::Stream;
use std::collections::HashMap;
use std::io::{BufReader, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Idle connections kept for one address.
const IDLE_MAX: usize = 64;
/// Longest time to connect and prove membership.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// An authenticated connection, on which requests are asked one by one.
pub struct Connection {
    reader: BufReader<Stream>,
    writer: Stream,
}

impl Connection {
    /// Connects and proves membership. An error here means that nothing was asked.
    pub fn open(address: &str, secret: &str, deadline: Instant) -> Result<Connection> {
        let left = deadline.saturating_duration_since(Instant::now()).min(CONNECT_MAX);
        if left.is_zero() {
            return Err(Error::retry("no time left to connect"));
        }
        let stream = Stream::connect(address, left).map_err(|e| Error::retry(e.to_string()))?;
        stream.set_deadline(Some(Instant::now() + left));
        let mut connection = Connection { reader: BufReader::new(stream.clone()), writer: stream };
        auth::prove(&mut connection.reader, &mut connection.writer, secret)
            .map_err(|e| Error::retry(format!("{address} does not let us in: {e}")))?;
        Ok(connection)
    }

    /// From now on everything must be over at this instant.
    pub fn set_deadline(&self, deadline: Instant) {
        self.writer.set_deadline(Some(deadline));
    }

    /// Sends a request and reads its answer; of a VALUE, the line alone.
    pub fn call(&mut self, request: &Request) -> Result<Reply> {
        let values =
            matches!(&request.command, Command::Scan(scan) if scan.values) || is_peer_scan(request);
        self.writer.write_all(&request.to_bytes())?;
        wire::read_reply(&mut self.reader, values)
    }

    /// Sends a request that is answered by lines for people.
    pub fn call_text(&mut self, request: &Request) -> Result<String> {
        self.writer.write_all(&request.to_bytes())?;
        wire::read_text(&mut self.reader)
    }

    /// The socket alone, for who only sends from now on.
    pub fn into_stream(self) -> Stream {
        self.writer
    }

    /// The socket, for who may have to close it while another thread waits for an answer.
    pub fn stream(&self) -> Stream {
        self.writer.clone()
    }

    /// What the other side sends.
    pub fn reader(&mut self) -> &mut BufReader<Stream> {
        &mut self.reader
    }

    /// Whether the other side has closed, or sent what nobody asked for.
    fn is_stale(&self) -> bool {
        let socket = self.writer.socket();
        let silent = socket.set_nonblocking(true).is_ok()
            && matches!(socket.peek(&mut [0]), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock);
        !(silent && socket.set_nonblocking(false).is_ok() && self.reader.buffer().is_empty())
    }
}

/// A SCAN that one node passes on to another is answered as the SCAN inside.
fn is_peer_scan(request: &Request) -> bool {
    let inside = match &request.command {
        Command::Peer(peer) if peer.verb == "@SCAN" => &peer.payload,
        _ => return false,
    };
    let line = inside.strip_suffix(b"\n").unwrap_or(inside);
    matches!(super::command::parse(line), Ok((Request { command: Command::Scan(scan), .. }, _)) if scan.values)
}

/// Idle connections by address.
pub struct Pool {
    secret: String,
    idle: Mutex<HashMap<String, Vec<Connection>>>,
}

impl Pool {
    /// An empty pool of a process that knows the cluster's secret.
    pub fn new(secret: &str) -> Pool {
        Pool { secret: secret.into(), idle: Mutex::default() }
    }

    /// A connection to an address: one that was kept, or a new one.
    pub fn take(&self, address: &str, deadline: Instant) -> Result<Connection> {
        loop {
            let kept = self
                .idle
                .lock()
                .expect("no thread panics here")
                .get_mut(address)
                .and_then(Vec::pop);
            match kept {
                Some(connection) if connection.is_stale() => continue,
                Some(connection) => {
                    connection.set_deadline(deadline);
                    return Ok(connection);
                }
                None => break,
            }
        }
        let connection = Connection::open(address, &self.secret, deadline)?;
        connection.set_deadline(deadline);
        Ok(connection)
    }

    /// Keeps a connection on which every answer was read to its end.
    pub fn put(&self, address: &str, connection: Connection) {
        let mut idle = self.idle.lock().expect("no thread panics here");
        let kept = idle.entry(address.to_string()).or_default();
        if kept.len() < IDLE_MAX {
            kept.push(connection);
        }
    }

    /// Asks one request and reads its whole answer; not for GET, whose bytes follow.
    ///
    /// `Retry`: nothing was asked. `Unknown`: it was sent, and no answer came.
    pub fn call(&self, address: &str, request: &Request, deadline: Instant) -> Result<Reply> {
        let mut connection = self.take(address, deadline)?;
        match connection.call(request) {
            Ok(reply) => {
                self.put(address, connection);
                Ok(reply)
            }
            Err(e) => Err(Error::unknown(format!("{address}: {e}"))),
        }
    }
}
