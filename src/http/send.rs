//! A response on its way: the head, and the body by the framing that fits it.

use crate::config::Scheme;
use crate::http::cookie;
use crate::http::date;
use crate::http::head::Version;
use crate::http::method::Method;
use crate::http::response::{Body, Response};
use crate::http::status::reason;
use crate::http::wire::Wire;
use std::io::{self, Read, Write};
use std::time::SystemTime;

/// Bytes of a body that are in memory at once, and the most that is written at once.
const PIECE: usize = 64 << 10;
/// Bytes of most heads: they are not moved while they grow.
const HEAD_BYTES: usize = 1 << 10;
/// Fields that are the server's own.
const OURS: [&str; 4] = ["connection", "content-length", "date", "transfer-encoding"];
/// Under TLS a browser is told to come back by no other way, for a year.
const NEVER_IN_THE_CLEAR: &str = "Strict-Transport-Security: max-age=31536000\r\n";

/// What a response depends on beside itself.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// The request's method.
    pub method: Method,
    /// The request's version.
    pub version: Version,
    /// How the request came.
    pub scheme: Scheme,
    /// Whether another request may follow.
    pub keep_alive: bool,
}

/// How the receiver finds the end of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// There is no body, and nothing says how long one would be.
    Absent,
    /// After this many bytes.
    Length(u64),
    /// By the last chunk.
    Chunked,
    /// By the end of the connection.
    Close,
}

impl Ending {
    /// The framing of a response (RFC 9112, section 6.3).
    pub fn of(response: &Response, version: Version) -> Ending {
        match (response.status, response.body.length(), version) {
            (100..200 | 204 | 304, ..) => Ending::Absent,
            (_, Some(length), _) => Ending::Length(length),
            (_, None, Version::Http11) => Ending::Chunked,
            (_, None, Version::Http10) => Ending::Close,
        }
    }
}

/// The head of a response.
pub fn head(response: &Response, manner: Manner, ending: Ending, now: SystemTime) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    let mut say = |parts: &[&str]| parts.iter().for_each(|part| head.extend(part.as_bytes()));
    let status = response.status;
    say(&["HTTP/1.1 ", &status.to_string(), " ", reason(status), "\r\nDate: ", &date::format(now)]);
    say(&["\r\n"]);
    let theirs = |name: &str| !OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours));
    for (name, value) in response.fields().filter(|(name, _)| theirs(name)) {
        let value = match name.eq_ignore_ascii_case("set-cookie") {
            true => cookie::set(value, manner.scheme),
            false => value.into(),
        };
        say(&[name, ": ", &value, "\r\n"]);
    }
    if manner.scheme == Scheme::Https {
        say(&[NEVER_IN_THE_CLEAR]);
    }
    match ending {
        Ending::Length(length) => say(&["Content-Length: ", &length.to_string(), "\r\n"]),
        Ending::Chunked => say(&["Transfer-Encoding: chunked\r\n"]),
        Ending::Absent | Ending::Close => {}
    }
    match (manner.keep_alive, manner.version) {
        (false, _) => say(&["Connection: close\r\n"]),
        (true, Version::Http10) => say(&["Connection: keep-alive\r\n"]),
        (true, Version::Http11) => {}
    }
    say(&["\r\n"]);
    head
}

/// Sends a response; the head and a small body leave in one write. An error means that the peer has not
/// got all of it, and that the connection can only be closed.
pub fn send(wire: &mut Wire, response: Response, manner: Manner, ending: Ending) -> io::Result<()> {
    let mut out = head(&response, manner, ending, SystemTime::now());
    if manner.method == Method::Head || ending == Ending::Absent {
        return wire.send(&out);
    }
    match response.body {
        Body::Empty => wire.send(&out),
        Body::Bytes(bytes) => {
            let (first, rest) = bytes.split_at(bytes.len().min(PIECE));
            out.extend_from_slice(first);
            wire.send(&out)?;
            wire.send(rest)
        }
        Body::Stream { length: Some(length), from } => send_sized(wire, out, length, from),
        Body::Stream { length: None, from } => send_until_end(wire, out, ending, from),
    }
}

fn send_sized(
    wire: &mut Wire,
    mut out: Vec<u8>,
    length: u64,
    mut from: Box<dyn Read + Send>,
) -> io::Result<()> {
    let mut piece = vec![0; length.min(PIECE as u64) as usize];
    let mut left = length;
    while left > 0 {
        let room = left.min(PIECE as u64) as usize;
        let n = read_some(&mut *from, &mut piece[..room])?;
        if n == 0 {
            return Err(io::Error::other("the body is shorter than its length"));
        }
        left -= n as u64;
        if out.is_empty() {
            wire.send(&piece[..n])?;
        } else {
            out.extend_from_slice(&piece[..n]);
            wire.send(&std::mem::take(&mut out))?;
        }
    }
    wire.send(&out)
}

fn send_until_end(
    wire: &mut Wire,
    mut out: Vec<u8>,
    ending: Ending,
    mut from: Box<dyn Read + Send>,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let n = read_some(&mut *from, &mut piece)?;
        match ending {
            Ending::Chunked => add_chunk(&mut out, &piece[..n])?,
            _ => out.extend_from_slice(&piece[..n]),
        }
        wire.send(&out)?;
        if n == 0 {
            return Ok(());
        }
        out.clear();
    }
}

/// One chunk; the empty one is the last.
fn add_chunk(out: &mut Vec<u8>, data: &[u8]) -> io::Result<()> {
    write!(out, "{:x}\r\n", data.len())?;
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn read_some(from: &mut dyn Read, piece: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(piece) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
