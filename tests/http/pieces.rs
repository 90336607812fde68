//! Bytes that arrive piece by piece, and what the machines make of them, without sockets.

use penncloud::error::Error;
use penncloud::http::Multipart;
use penncloud::http::body::{Body, Source};
use penncloud::http::head::{Head, Scan};
use penncloud::http::status::Refusal;
use std::io::{self, BufRead, Read};
use std::time::Duration;

/// Bytes of a head in these tests.
const HEAD_MAX: usize = 16 << 10;

/// Bytes of which no more than a piece arrives at once.
pub struct Pieces {
    bytes: Vec<u8>,
    at: usize,
    arrived: usize,
    size: usize,
}

impl Pieces {
    pub fn new(bytes: &[u8], size: usize) -> Pieces {
        Pieces { bytes: bytes.to_vec(), at: 0, arrived: 0, size }
    }

    fn window(&self) -> &[u8] {
        &self.bytes[self.at..self.arrived]
    }

    fn arrive(&mut self) -> bool {
        let before = self.arrived;
        self.arrived = self.bytes.len().min(self.arrived.saturating_add(self.size));
        self.arrived > before
    }
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(out)?;
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.arrived {
            self.arrive();
        }
        Ok(self.window())
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

impl Source for Pieces {
    fn set_time(&mut self, _within: Duration) {}

    fn is_awaited(&self) -> bool {
        false
    }
}

/// A request with its whole body.
pub type Whole = (Head, Vec<u8>);

/// All requests of a connection up to the first that is refused.
pub fn requests(bytes: &[u8], piece: usize) -> (Vec<Whole>, Option<Refusal>) {
    let mut source = Pieces::new(bytes, piece);
    let mut requests: Vec<Whole> = Vec::new();
    while requests.last().is_none_or(|(head, _)| head.keep_alive) {
        match request(&mut source) {
            Ok(Some(request)) => requests.push(request),
            Ok(None) => return (requests, None),
            Err(refusal) => return (requests, Some(refusal)),
        }
    }
    (requests, None)
}

fn request(source: &mut Pieces) -> Result<Option<Whole>, Refusal> {
    let mut scan = Scan::default();
    let found = loop {
        if let Some(found) = scan.find(source.window(), HEAD_MAX)? {
            break found;
        }
        if !source.arrive() {
            return match scan.has_begun() {
                true => Err(Refusal::bad("the head ends too early")),
                false => Ok(None),
            };
        }
    };
    let head = Head::parse(&source.window()[found.clone()])?;
    source.consume(found.end);
    let mut body = Body::new(source, head.framing, 1 << 40);
    let mut bytes = Vec::new();
    match body.read_to_end(&mut bytes) {
        Ok(_) => Ok(Some((head, bytes))),
        Err(_) => Err(body.failed().expect("a failed body says why").clone()),
    }
}

/// One part of a form: name, file name, content type, bytes.
pub type PartRead = (String, Option<String>, Option<String>, Vec<u8>);

/// All parts of a form.
pub fn parts(content_type: &str, body: &[u8], piece: usize) -> Result<Vec<PartRead>, Error> {
    let mut source = Pieces::new(body, piece);
    let mut form = Multipart::new(content_type, &mut source)?;
    let mut parts = Vec::new();
    while let Some(mut part) = form.next_part()? {
        let mut bytes = Vec::new();
        part.read_to_end(&mut bytes)?;
        parts.push((part.name, part.filename, part.content_type, bytes));
    }
    Ok(parts)
}
