//! A streamed `multipart/form-data` body: one window of bytes in memory, however large its files are.

use crate::error::{Error, Result};
use crate::http::form::read_all;
use crate::http::parts::{Found, PART_HEAD_MAX, PartHead, Scanner};
use crate::http::transfer::decoded;
use std::io::{self, Read};

/// Bytes of a body that are in memory at once.
const WINDOW: usize = 64 << 10;
const _: () = assert!(WINDOW >= 2 * PART_HEAD_MAX, "a whole head fits the window");

/// The parts of a form, in the order sent.
pub struct Multipart<'a> {
    pieces: Pieces<'a>,
}

/// One part: a field of the form. Reading it gives its bytes.
pub struct Part<'p> {
    /// Name of the form's field.
    pub name: String,
    /// Name of the file, where the field holds one; empty where none was chosen. Never a path to be used.
    pub filename: Option<String>,
    /// Type of the content, as the browser guessed it.
    pub content_type: Option<String>,
    from: Box<dyn Read + 'p>,
}

impl<'a> Multipart<'a> {
    /// The parts of a body with this content type.
    pub fn new(content_type: &str, body: &'a mut (dyn Read + 'a)) -> Result<Multipart<'a>> {
        let scanner = Scanner::new(content_type)?;
        let window = vec![0; WINDOW];
        Ok(Multipart {
            pieces: Pieces { body, scanner, window, start: 0, end: 0, left: 0, in_part: false },
        })
    }

    /// The next part; what is left of the part before is skipped. After the last part the rest of the body
    /// is read away.
    pub fn next_part(&mut self) -> Result<Option<Part<'_>>> {
        io::copy(&mut self.pieces, &mut io::sink())?;
        let Some(head) = self.pieces.next_head()? else { return Ok(None) };
        let PartHead { name, filename, content_type, encoding } = head;
        let from = decoded(encoding.as_deref(), &mut self.pieces)?;
        Ok(Some(Part { name, filename, content_type, from }))
    }
}

impl Part<'_> {
    /// The part as text of at most `max` bytes.
    pub fn text(&mut self, max: usize) -> Result<String> {
        let what = format!("the field {:?}", self.name);
        let bytes = read_all(self, max as u64, &what)?;
        String::from_utf8(bytes).map_err(|_| Error::bad(format!("{what} is not UTF-8")))
    }
}

impl Read for Part<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.from.read(out)
    }
}

/// The window over the body, and where the scanner stands in it. Reading gives the bytes of the current
/// part.
struct Pieces<'a> {
    body: &'a mut (dyn Read + 'a),
    scanner: Scanner,
    window: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of the part that are known to lie at `start`.
    left: usize,
    in_part: bool,
}

impl Pieces<'_> {
    fn next_head(&mut self) -> Result<Option<PartHead>> {
        loop {
            match self.step()? {
                Found::Skip(n) => self.start += n,
                Found::Head(n, head) => {
                    self.start += n;
                    self.in_part = true;
                    return Ok(Some(head));
                }
                Found::End => {
                    io::copy(self.body, &mut io::sink())?;
                    return Ok(None);
                }
                found => unreachable!("{found:?} outside a part"),
            }
        }
    }

    /// What the scanner finds, after as many reads as it needs.
    fn step(&mut self) -> Result<Found> {
        loop {
            match self.scanner.step(&self.window[self.start..self.end])? {
                Found::More => self.fill()?,
                found => return Ok(found),
            }
        }
    }

    fn fill(&mut self) -> Result<()> {
        if self.start > 0 {
            self.window.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let n = self.body.read(&mut self.window[self.end..])?;
        if n == 0 {
            return Err(Error::bad("the form ends before its last boundary"));
        }
        self.end += n;
        Ok(())
    }

    /// Finds more bytes of the part; `false` at its end.
    fn find_bytes(&mut self) -> Result<bool> {
        match self.step()? {
            Found::Bytes(n) => self.left = n,
            Found::PartEnd(n) => {
                self.start += n;
                self.in_part = false;
            }
            found => unreachable!("{found:?} within a part"),
        }
        Ok(self.in_part)
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if !self.in_part || out.is_empty() || (self.left == 0 && !self.find_bytes()?) {
            return Ok(0);
        }
        let n = self.left.min(out.len());
        out[..n].copy_from_slice(&self.window[self.start..self.start + n]);
        self.start += n;
        self.left -= n;
        Ok(n)
    }
}
