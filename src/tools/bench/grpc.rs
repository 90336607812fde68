//! As much of gRPC (over HTTP/2, RFC 9113, in the clear) as unary calls need, one at a time on a connection.
//!
//! Answers' headers are not read: they are compressed, and an answer without a message is a failed call.

use crate::error::{Error, Result};
use crate::net::Stream;
use std::io::{BufReader, Read, Write};
use std::time::Duration;

/// Time for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Largest frame that either side may send unless told otherwise (RFC 9113, section 6.5.2).
const FRAME_BYTES_MAX: usize = 16 << 10;
/// What may be on its way in each direction unless told otherwise.
const WINDOW_BYTES: i64 = 65_535;
/// Room for answers: more than any.
const OUR_WINDOW_BYTES: u32 = 1 << 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// The setting that is the window of a new stream.
const INITIAL_WINDOW: u16 = 4;

/// A connection.
pub struct Session {
    from: BufReader<Stream>,
    to: Stream,
    authority: String,
    stream: u32,
    /// What we may still send: on the connection, on a new stream, on this one.
    window: i64,
    stream_window_at_first: i64,
    stream_window: i64,
    /// Bytes of answers for which the other side was not given new room yet.
    taken: u32,
}

impl Session {
    /// Connects to `host:port`.
    pub fn open(address: &str) -> Result<Session> {
        let mut to = Stream::connect(address, PATIENCE)?;
        to.set_stall(Some(PATIENCE));
        let mut hello = PREFACE.to_vec();
        let mut setting = INITIAL_WINDOW.to_be_bytes().to_vec();
        setting.extend(OUR_WINDOW_BYTES.to_be_bytes());
        frame(&mut hello, SETTINGS, 0, 0, &setting);
        frame(&mut hello, WINDOW_UPDATE, 0, 0, &OUR_WINDOW_BYTES.to_be_bytes());
        to.write_all(&hello)?;
        Ok(Session {
            from: BufReader::with_capacity(64 << 10, to.clone()),
            to,
            authority: address.into(),
            stream: 1,
            window: WINDOW_BYTES,
            stream_window_at_first: WINDOW_BYTES,
            stream_window: WINDOW_BYTES,
            taken: 0,
        })
    }

    /// Calls a method with a message; the message that it answers.
    pub fn call(&mut self, path: &str, message: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        if self.taken > OUR_WINDOW_BYTES / 4 {
            let room = std::mem::take(&mut self.taken).to_be_bytes();
            frame(&mut out, WINDOW_UPDATE, 0, 0, &room);
        }
        frame(&mut out, HEADERS, END_HEADERS, self.stream, &headers(path, &self.authority));
        self.stream_window = self.stream_window_at_first;
        let mut body = vec![0];
        body.extend((message.len() as u32).to_be_bytes());
        body.extend_from_slice(message);
        let (mut answer, mut over) = (Vec::new(), false);
        let mut rest = &body[..];
        while !rest.is_empty() && !over {
            rest = self.send(&mut out, rest)?;
            if !rest.is_empty() {
                over = self.receive(&mut answer)?;
            }
        }
        while !over {
            over = self.receive(&mut answer)?;
        }
        self.stream += 2;
        match answer.get(5..) {
            Some(message) => Ok(message.to_vec()),
            None => Err(Error::retry(format_args!("{path} failed"))),
        }
    }

    /// Sends as much as there is room for; what is left.
    fn send<'a>(&mut self, out: &mut Vec<u8>, mut rest: &'a [u8]) -> Result<&'a [u8]> {
        while !rest.is_empty() && self.window.min(self.stream_window) > 0 {
            let room = self.window.min(self.stream_window) as usize;
            let (now, later) = rest.split_at(rest.len().min(room).min(FRAME_BYTES_MAX));
            let flags = if later.is_empty() { END_STREAM } else { 0 };
            frame(out, DATA, flags, self.stream, now);
            self.window -= now.len() as i64;
            self.stream_window -= now.len() as i64;
            rest = later;
        }
        self.to.write_all(out)?;
        out.clear();
        Ok(rest)
    }

    /// Takes one frame; whether the answer is over.
    fn receive(&mut self, answer: &mut Vec<u8>) -> Result<bool> {
        let mut head = [0; 9];
        self.from.read_exact(&mut head)?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let len = u32::from_be_bytes([0, a, b, c]);
        if len as usize > FRAME_BYTES_MAX {
            return Err(Error::corrupt("a frame is too long"));
        }
        let mut bytes = vec![0; len as usize];
        self.from.read_exact(&mut bytes)?;
        let stream = u32::from_be_bytes(stream);
        match kind {
            DATA => {
                self.taken += len;
                answer.extend_from_slice(&bytes);
            }
            SETTINGS if flags & ACK == 0 => self.set(&bytes)?,
            PING if flags & ACK == 0 => self.confirm(PING, &bytes)?,
            WINDOW_UPDATE => self.widen(stream, number(&bytes)?),
            RESET | GO_AWAY => return Err(Error::retry("the other side gave up")),
            _ => {}
        }
        let ours = stream == self.stream && matches!(kind, DATA | HEADERS);
        Ok(ours && flags & END_STREAM != 0)
    }

    fn set(&mut self, settings: &[u8]) -> Result<()> {
        for setting in settings.chunks_exact(6) {
            if setting[..2] == INITIAL_WINDOW.to_be_bytes() {
                let window = number(&setting[2..])?;
                self.stream_window += window - self.stream_window_at_first;
                self.stream_window_at_first = window;
            }
        }
        self.confirm(SETTINGS, &[])
    }

    fn confirm(&mut self, kind: u8, bytes: &[u8]) -> Result<()> {
        let mut out = Vec::new();
        frame(&mut out, kind, ACK, 0, bytes);
        Ok(self.to.write_all(&out)?)
    }

    fn widen(&mut self, stream: u32, by: i64) {
        if stream == 0 {
            self.window += by;
        } else if stream == self.stream {
            self.stream_window += by;
        }
    }
}

fn number(bytes: &[u8]) -> Result<i64> {
    let bytes = bytes.try_into().map_err(|_| Error::corrupt("a frame is too short"))?;
    Ok(i64::from(u32::from_be_bytes(bytes)))
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// The headers of a call, without compression (RFC 7541): names are those of its static table where they are in it.
fn headers(path: &str, authority: &str) -> Vec<u8> {
    let (method_post, scheme_http) = (0x83, 0x86);
    let mut out = vec![method_post, scheme_http];
    for (name, value) in [
        (&[0x04][..], path),
        (&[0x01], authority),
        (&[0x0f, 0x10], "application/grpc"),
        (b"\x00\x02te", "trailers"),
    ] {
        out.extend_from_slice(name);
        out.push(value.len() as u8);
        out.extend_from_slice(value.as_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_its_length_kind_flags_and_stream() {
        let mut out = Vec::new();
        frame(&mut out, DATA, END_STREAM, 3, b"ab");
        assert_eq!(out, [0, 0, 2, 0, 1, 0, 0, 0, 3, b'a', b'b']);
    }

    #[test]
    fn headers_are_short_literals() {
        let out = headers("/p", "h:1");
        assert_eq!(out[..9], [0x83, 0x86, 0x04, 2, b'/', b'p', 0x01, 3, b'h']);
        assert!(out.ends_with(b"\x08trailers"));
    }
}
