//! Frames: lines and bytes over any reader and writer.

use super::command::{self, BATCH_BYTES_MAX, BATCH_ITEMS_MAX, Command, Op, Payload, Request};
use super::reply::{self, Reply};
use crate::error::{Error, Result};
use std::io::{self, BufRead, Read};

/// Longest line.
pub const LINE_BYTES_MAX: usize = 8 << 10;
/// Bytes of a refused value that are read away to keep the connection.
pub const DRAIN_BYTES_MAX: u64 = 1 << 20;
/// Longest line of an answer: an OK to a BATCH names up to 256 columns.
const REPLY_LINE_BYTES_MAX: usize = 1 << 20;
/// Bytes that one of our own processes sends in one message.
const PEER_BYTES_MAX: u64 = 64 << 20;

/// Reads a line without its LF or CRLF; `None` at the end of the stream.
pub fn read_line(from: &mut impl BufRead, max: usize) -> Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    from.take(max as u64 + 2).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        let long = line.len() >= max;
        return Err(if long {
            Error::bad(format!("the line is longer than {max} bytes"))
        } else {
            ended()
        });
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(line))
}

/// Reads exactly `n` bytes. Memory grows with what arrives, not with what was announced.
pub fn read_bytes(from: &mut impl Read, n: u64) -> Result<Vec<u8>> {
    let (mut bytes, mut from) = (Vec::new(), from.take(n));
    while from.limit() > 0 {
        let room = from.limit().min(bytes.len().max(64 << 10) as u64);
        bytes.reserve_exact(room as usize);
        if from.by_ref().take(room).read_to_end(&mut bytes)? < room as usize {
            return Err(ended());
        }
    }
    Ok(bytes)
}

/// Reads exactly `n` bytes away.
pub fn drain(from: &mut impl Read, n: u64) -> Result<()> {
    let read = io::copy(&mut from.take(n), &mut io::sink())?;
    if read == n { Ok(()) } else { Err(ended()) }
}

fn ended() -> Error {
    Error::Io(
        io::ErrorKind::UnexpectedEof,
        "the connection ended in the middle of a message".into(),
    )
}

/// What a server read.
#[derive(Debug)]
pub enum Incoming {
    /// A whole request.
    Request(Request),
    /// A PUT whose value is larger than a cell: its bytes are still to be read.
    BigPut(Request, u64),
    /// Refused; the connection goes on.
    Refused(Error),
    /// Refused, and where the next request begins is not known: answer and close.
    Lost(Error),
    /// The other side has closed, or speaks HTTP.
    Closed,
}

/// Reads the next request. Empty lines, and those of blanks alone, are skipped. What `admit` refuses is lost before any of its bytes are
/// read: who has not proved himself takes no memory. Errors are those of the stream itself.
pub fn read_request(
    from: &mut impl BufRead,
    cell_bytes: u64,
    admit: impl Fn(&Command) -> Result<()>,
) -> Result<Incoming> {
    loop {
        let line = match read_line(from, LINE_BYTES_MAX) {
            Ok(Some(line)) if is_blank(&line) => continue,
            Ok(Some(line)) => line,
            Ok(None) => return Ok(Incoming::Closed),
            Err(e @ Error::Bad(_)) => return Ok(Incoming::Lost(e)),
            Err(e) => return Err(e),
        };
        if looks_like_http(&line) {
            return Ok(Incoming::Closed);
        }
        let parsed = command::parse(&line);
        if let Ok((request, _)) = &parsed
            && let Err(error) = admit(&request.command)
        {
            return Ok(Incoming::Lost(error));
        }
        return match parsed {
            Ok((request, Payload::Items(n))) => read_batch(from, request, n, cell_bytes),
            Ok((request, payload)) => read_payload(from, request, payload, cell_bytes),
            Err(error) => refuse(from, error, announced(&line)),
        };
    }
}

/// Whether a line, or its end, says nothing.
pub fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

/// A web page must not talk to the store through a visitor's browser.
fn looks_like_http(line: &[u8]) -> bool {
    let verb = line.split(|&b| b == b' ').next().unwrap_or_default();
    matches!(verb, b"POST" | b"OPTIONS" | b"HEAD" | b"CONNECT" | b"Host:" | b"host:")
        || line.ends_with(b" HTTP/1.1")
        || line.ends_with(b" HTTP/1.0")
}

fn read_payload(
    from: &mut impl BufRead,
    mut request: Request,
    payload: Payload,
    cell: u64,
) -> Result<Incoming> {
    let n = payload.bytes();
    let limit = if matches!(request.command, Command::Peer(_)) { PEER_BYTES_MAX } else { cell };
    if payload.fits(limit) {
        request.fill(read_bytes(from, n)?, payload);
        return Ok(Incoming::Request(request));
    }
    match (&request.command, payload) {
        (Command::Write(Op::Put { .. }), _) => Ok(Incoming::BigPut(request, n)),
        (_, Payload::Two(..)) => refuse(
            from,
            Error::TooBig("CPUT compares values of one cell; use if= for larger ones".into()),
            Some(n),
        ),
        _ => refuse(from, Error::TooBig(format!("at most {limit} bytes")), Some(n)),
    }
}

fn read_batch(
    from: &mut impl BufRead,
    mut request: Request,
    n: usize,
    cell_bytes: u64,
) -> Result<Incoming> {
    if n == 0 || n > BATCH_ITEMS_MAX {
        return Ok(Incoming::Lost(Error::bad(format!("a BATCH has 1 to {BATCH_ITEMS_MAX} items"))));
    }
    let (mut ops, mut bytes, mut refused) = (Vec::with_capacity(n), 0u64, None);
    while ops.len() < n {
        let line = match read_line(from, LINE_BYTES_MAX) {
            Ok(Some(line)) if is_blank(&line) => continue,
            Ok(Some(line)) => line,
            Ok(None) => return Err(ended()),
            Err(e @ Error::Bad(_)) => return Ok(Incoming::Lost(e)),
            Err(e) => return Err(e),
        };
        let (mut op, payload) = match command::parse_item(&line) {
            Ok(item) => item,
            Err(e) => return Ok(Incoming::Lost(e)),
        };
        bytes = bytes.saturating_add(line.len() as u64).saturating_add(payload.bytes());
        if bytes > BATCH_BYTES_MAX {
            return Ok(Incoming::Lost(Error::TooBig(format!(
                "a BATCH has at most {BATCH_BYTES_MAX} bytes"
            ))));
        }
        op.fill(read_bytes(from, payload.bytes())?, payload);
        if !payload.fits(cell_bytes) {
            refused =
                Some(Error::TooBig(format!("a value in a BATCH has at most {cell_bytes} bytes")));
        }
        ops.push(op);
    }
    if let Some(error) = refused {
        return Ok(Incoming::Refused(error));
    }
    if let Command::Batch { owner, items } = &mut request.command {
        if let Err(error) = command::check_batch(owner, &ops) {
            return Ok(Incoming::Refused(error));
        }
        *items = ops;
    }
    Ok(Incoming::Request(request))
}

/// Bytes that a refused line announced, where it is one of those that announce any.
fn announced(line: &[u8]) -> Option<u64> {
    let words: Vec<&[u8]> = line.split(|&b| b == b' ').filter(|w| !w.is_empty()).collect();
    let number =
        |at: usize| -> Option<u64> { std::str::from_utf8(words.get(at)?).ok()?.parse().ok() };
    match *words.first()? {
        b"PUT" | b"APPEND" => number(3),
        b"CHUNK" => number(4),
        b"CPUT" => number(3)?.checked_add(number(4)?),
        b"BATCH" => None,
        verb if verb.starts_with(b"@") => None,
        _ => Some(0),
    }
}

fn refuse(from: &mut impl BufRead, error: Error, announced: Option<u64>) -> Result<Incoming> {
    match announced {
        Some(n) if n <= DRAIN_BYTES_MAX => {
            drain(from, n)?;
            Ok(Incoming::Refused(error))
        }
        _ => Ok(Incoming::Lost(error)),
    }
}

/// Reads an answer; of a VALUE, the line alone: its bytes and one LF follow. `values` says whether a
/// SCAN asked for values.
pub fn read_reply(from: &mut impl BufRead, values: bool) -> Result<Reply> {
    let line = read_line(from, REPLY_LINE_BYTES_MAX)?.ok_or_else(ended)?;
    match reply::parse(&line)? {
        reply::Head::Whole(reply) => Ok(reply),
        reply::Head::Columns(n, more) => {
            let columns = (0..n).map(|_| read_column(from, values)).collect::<Result<_>>()?;
            Ok(Reply::Columns { columns, more })
        }
        reply::Head::Rows(n, more) => {
            let mut row = || reply::parse_row(&read_line(from, LINE_BYTES_MAX)?.ok_or_else(ended)?);
            let rows = (0..n).map(|_| row()).collect::<Result<_>>()?;
            Ok(Reply::Rows { rows, more })
        }
        reply::Head::Peer(words, n) if n <= PEER_BYTES_MAX => {
            Ok(Reply::Peer { words, payload: read_value(from, n)? })
        }
        reply::Head::Peer(..) => Err(Error::corrupt("an answer is too long")),
    }
}

/// Reads the bytes of a VALUE and the LF after them.
pub fn read_value(from: &mut impl BufRead, n: u64) -> Result<Vec<u8>> {
    let bytes = read_bytes(from, n)?;
    end_value(from)?;
    Ok(bytes)
}

/// Reads the LF after the bytes of a VALUE.
pub fn end_value(from: &mut impl BufRead) -> Result<()> {
    if read_bytes(from, 1)? == b"\n" {
        Ok(())
    } else {
        Err(Error::corrupt("a value is not ended by LF"))
    }
}

fn read_column(from: &mut impl BufRead, values: bool) -> Result<reply::Column> {
    let mut column = reply::parse_column(&read_line(from, LINE_BYTES_MAX)?.ok_or_else(ended)?)?;
    if values && !column.big {
        column.value = Some(read_value(from, column.len)?.into());
    }
    Ok(column)
}

/// Reads lines for people, up to the empty line.
pub fn read_text(from: &mut impl BufRead) -> Result<String> {
    let mut text = String::new();
    loop {
        let line = read_line(from, LINE_BYTES_MAX)?.ok_or_else(ended)?;
        if line.is_empty() {
            return Ok(text);
        }
        text.push_str(&String::from_utf8_lossy(&line));
        text.push('\n');
    }
}
