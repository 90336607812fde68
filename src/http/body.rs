//! The body of a request, decoded while it is read.

use crate::error::{Error, Result};
use crate::http::chunked::Chunked;
use crate::http::head::Framing;
use crate::http::status::Refusal;
use std::io::{self, BufRead, Read};
use std::time::Duration;

/// Bytes of an unwanted rest that are read away, and the time for it.
const REST_MAX: u64 = 64 << 10;
const REST_TIME: Duration = Duration::from_secs(1);

/// Where a body's bytes come from: a connection, or bytes in memory.
pub trait Source: BufRead {
    /// From now on the whole body must be there within this time.
    fn set_time(&mut self, within: Duration);

    /// Whether the client waits to be told to send the body.
    fn is_awaited(&self) -> bool;
}

/// How far a body has been read, as a machine over bytes.
#[derive(Clone, Debug)]
pub enum Decoder {
    /// This many bytes are still to come.
    Length(u64),
    /// The chunked coding.
    Chunked(Chunked),
}

impl Decoder {
    /// A body that has not been read yet.
    pub fn new(framing: Framing) -> Decoder {
        match framing {
            Framing::Length(length) => Decoder::Length(length),
            Framing::Chunked => Decoder::Chunked(Chunked::default()),
        }
    }

    /// Bytes of data that come next; 0 at the end and where framing comes next.
    pub fn data_left(&self) -> u64 {
        match self {
            Decoder::Length(left) => *left,
            Decoder::Chunked(chunked) => chunked.data_left(),
        }
    }

    /// Counts data that was read.
    pub fn took(&mut self, n: u64) {
        match self {
            Decoder::Length(left) => *left -= n,
            Decoder::Chunked(chunked) => chunked.took(n),
        }
    }

    /// Reads framing at the start of `bytes`; returns how many bytes it was.
    pub fn framing(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        match self {
            Decoder::Length(_) => Ok(0),
            Decoder::Chunked(chunked) => chunked.framing(bytes),
        }
    }

    /// Whether the whole body has been read.
    pub fn is_over(&self) -> bool {
        match self {
            Decoder::Length(left) => *left == 0,
            Decoder::Chunked(chunked) => chunked.is_over(),
        }
    }
}

/// A body, read through its framing. After an error it gives that error again: nobody takes a part of a
/// body for the whole.
pub struct Body<'a> {
    source: &'a mut (dyn Source + 'a),
    decoder: Decoder,
    /// Bytes that it may still have.
    allowed: u64,
    failed: Option<Refusal>,
    /// Nobody reads on.
    abandoned: bool,
}

impl<'a> Body<'a> {
    /// The body that follows a head in `source`, of at most `bytes_max`.
    pub fn new(source: &'a mut (dyn Source + 'a), framing: Framing, bytes_max: u64) -> Body<'a> {
        Body {
            source,
            decoder: Decoder::new(framing),
            allowed: bytes_max,
            failed: None,
            abandoned: false,
        }
    }

    /// From now on the whole body must be there within this time.
    pub fn set_time(&mut self, within: Duration) {
        self.source.set_time(within);
    }

    /// Whether the whole body has been read.
    pub fn is_over(&self) -> bool {
        self.decoder.is_over() && self.failed.is_none() && !self.abandoned
    }

    /// What was wrong with the body, as far as it was read.
    pub fn failed(&self) -> Option<&Refusal> {
        self.failed.as_ref()
    }

    /// Bytes that are still to be read, where it is known.
    pub fn length(&self) -> Option<u64> {
        match &self.decoder {
            Decoder::Length(left) => Some(*left),
            Decoder::Chunked(_) => None,
        }
    }

    /// Reads away so many bytes, unless the client waits to be told to send them.
    pub fn read_away(&mut self, bytes_max: u64) {
        if !self.source.is_awaited() {
            let _ = io::copy(&mut self.take(bytes_max), &mut io::sink());
        }
    }

    /// Reads away a short rest that nobody wanted, so that another request can follow. A long or slow rest
    /// stays: the connection ends then. What is malformed is found, whoever reads it.
    pub fn settle(&mut self) {
        if self.decoder.is_over()
            || self.source.is_awaited()
            || self.decoder.data_left() > REST_MAX
            || self.failed.is_some()
        {
            return;
        }
        self.set_time(REST_TIME);
        self.allowed = self.allowed.min(REST_MAX);
        let _ = io::copy(self, &mut io::sink());
        if self.failed.as_ref().is_some_and(|refusal| matches!(refusal.status, 408 | 413)) {
            self.failed = None;
            self.abandoned = true;
        }
    }

    fn step(&mut self, out: &mut [u8]) -> Result<Option<usize>, Refusal> {
        let left = self.decoder.data_left();
        if left > 0 {
            return self.data(left, out).map(Some);
        }
        if self.decoder.is_over() {
            return Ok(Some(0));
        }
        let bytes = self.source.fill_buf().map_err(lost)?;
        if bytes.is_empty() {
            return Err(CUT);
        }
        let used = self.decoder.framing(bytes)?;
        self.source.consume(used);
        Ok(None)
    }

    fn data(&mut self, left: u64, out: &mut [u8]) -> Result<usize, Refusal> {
        if self.allowed == 0 {
            return Err(Refusal::new(413, "the body is too large"));
        }
        let room = left.min(self.allowed).min(out.len() as u64) as usize;
        let n = self.source.read(&mut out[..room]).map_err(lost)?;
        if n == 0 {
            return Err(CUT);
        }
        self.decoder.took(n as u64);
        self.allowed -= n as u64;
        Ok(n)
    }
}

const CUT: Refusal = Refusal::bad("the body ends too early");

fn lost(error: io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::TimedOut => Refusal::new(408, "the body came too slowly"),
        _ => Refusal::bad("the connection was lost within the body"),
    }
}

impl Read for Body<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        while self.failed.is_none() {
            match self.step(out) {
                Ok(Some(n)) => return Ok(n),
                Ok(None) => {}
                Err(refusal) => self.failed = Some(refusal),
            }
        }
        let refusal = self.failed.clone().expect("the loop ends by a failure");
        Err(Error::from(refusal).into())
    }
}
