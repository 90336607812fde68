//! The bytes of a connection: what has come in and is not read yet, and the clocks that run.

use crate::error::Result;
use crate::http::body::Source;
use crate::http::head::{Head, Scan};
use crate::http::pace::Pace;
use crate::http::status::Refusal;
use crate::net::Channel;
use std::io::{self, BufRead, Read, Write};
use std::time::{Duration, Instant};

/// Bytes read away before a close, and the time for it: unread bytes would make the close a reset, and a
/// reset takes the answer with it.
const LINGER_BYTES: usize = 64 << 10;
const LINGER_TIME: Duration = Duration::from_secs(1);
/// Bytes of the buffer of an idle connection.
const BUFFER_LEAST: usize = 1 << 10;
/// A reader with more room than this is served from the socket directly.
const DIRECT: usize = 4 << 10;

/// A connection.
pub struct Wire {
    channel: Channel,
    /// Grows up to the longest head, and is small again when the connection is idle.
    buffer: Vec<u8>,
    head_bytes_max: usize,
    start: usize,
    end: usize,
    /// When what is read now must be over.
    until: Option<Instant>,
    /// The slowest that a body may be.
    pace: Option<Pace>,
    /// The client waits for `100 Continue`.
    awaited: bool,
}

/// What came instead of a request.
#[derive(Debug)]
pub enum Missing {
    /// Nothing: the connection was closed, or was idle for too long.
    Nothing,
    /// What cannot be served.
    Refused(Refusal),
}

impl From<Refusal> for Missing {
    fn from(refusal: Refusal) -> Missing {
        Missing::Refused(refusal)
    }
}

impl Wire {
    /// A connection whose heads have at most `head_bytes_max`.
    pub fn new(channel: Channel, head_bytes_max: usize) -> Wire {
        let buffer = vec![0; BUFFER_LEAST];
        Wire {
            channel,
            buffer,
            head_bytes_max,
            start: 0,
            end: 0,
            until: None,
            pace: None,
            awaited: false,
        }
    }

    /// Reads the next request's head. `idle` is the time until its first byte, `time` from there to its end.
    pub fn head(&mut self, idle: Duration, time: Duration) -> Result<Head, Missing> {
        self.set_clocks(Some(idle), None);
        self.shrink();
        self.awaited = false;
        let mut scan = Scan::default();
        loop {
            let begun = scan.has_begun();
            if let Some(found) = scan.find(self.window(), self.head_bytes_max)? {
                let head = Head::parse(&self.window()[found.clone()])?;
                self.consume(found.end);
                self.awaited = head.expects_continue;
                return Ok(head);
            }
            if scan.has_begun() && !begun {
                self.set_clocks(Some(time), None);
            }
            let filled = self.fill();
            match filled.map_err(|e| e.kind()) {
                Ok(n) if n > 0 => {}
                _ if !scan.has_begun() => return Err(Missing::Nothing),
                Ok(_) => return Err(Refusal::bad("the head ends too early").into()),
                Err(io::ErrorKind::TimedOut) => {
                    return Err(Refusal::new(408, "the head came too slowly").into());
                }
                Err(_) => return Err(Missing::Nothing),
            }
        }
    }

    /// Gives the room of a long head back.
    fn shrink(&mut self) {
        if self.start == self.end && self.buffer.len() > BUFFER_LEAST {
            self.buffer = vec![0; BUFFER_LEAST];
            (self.start, self.end) = (0, 0);
        }
    }

    /// From now on a body is read or written, which may not stall for longer than this.
    pub fn begin_body(&mut self, stall: Duration) {
        self.set_clocks(None, Some(Pace::new(stall)));
    }

    fn set_clocks(&mut self, within: Option<Duration>, pace: Option<Pace>) {
        self.until = within.map(|w| Instant::now() + w);
        self.pace = pace;
    }

    /// Sends all of `bytes`.
    pub fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let began = self.start_clocks();
            let n = self.channel.write(bytes)?;
            if n == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.count(n, began);
            bytes = &bytes[n..];
        }
        Ok(())
    }

    /// Ends the connection so that the peer gets what was sent.
    pub fn linger(&mut self) {
        linger(&mut self.channel);
    }

    fn window(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Reads more behind what is there; 0 at the end.
    fn fill(&mut self) -> io::Result<usize> {
        self.make_room();
        self.say_continue()?;
        let began = self.start_clocks();
        let n = self.channel.read(&mut self.buffer[self.end..])?;
        self.count(n, began);
        self.end += n;
        Ok(n)
    }

    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.end < self.buffer.len() {
            return;
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        } else {
            self.buffer.resize(2 * self.buffer.len(), 0);
        }
    }

    /// The client is told to send its body when somebody wants to read it, and no sooner.
    fn say_continue(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.awaited) {
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        Ok(())
    }

    fn start_clocks(&mut self) -> Instant {
        let now = Instant::now();
        let pace = self.pace.as_ref().map(|pace| now + pace.left());
        self.channel.stream().set_deadline([self.until, pace].into_iter().flatten().min());
        now
    }

    fn count(&mut self, bytes: usize, began: Instant) {
        if let Some(pace) = &mut self.pace {
            pace.count(bytes as u64, began.elapsed());
        }
    }
}

/// Says that nothing more comes, and reads away a little of what the peer still sends.
pub fn linger(channel: &mut Channel) {
    let stream = channel.stream().clone();
    stream.set_deadline(Some(Instant::now() + LINGER_TIME));
    channel.close_write();
    let _ = io::copy(&mut stream.clone().take(LINGER_BYTES as u64), &mut io::sink());
    stream.close();
}

impl Read for Wire {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.start == self.end && out.len() >= DIRECT {
            self.say_continue()?;
            let began = self.start_clocks();
            let n = self.channel.read(out)?;
            self.count(n, began);
            return Ok(n);
        }
        let n = self.fill_buf()?.read(out)?;
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Wire {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.fill()?;
        }
        Ok(self.window())
    }

    fn consume(&mut self, n: usize) {
        self.start += n;
    }
}

impl Source for Wire {
    fn set_time(&mut self, within: Duration) {
        self.until = Some(Instant::now() + within);
    }

    fn is_awaited(&self) -> bool {
        self.awaited
    }
}
