//! What comes from the client: lines of commands, and the octets of messages.

use super::session::LineFault;
use std::io::{self, Read};

/// Octets read from the socket at a time.
const READ_BYTES: usize = 64 << 10;

/// A buffered reader that cuts lines at CR LF alone.
pub struct Input<R> {
    from: R,
    buffer: Vec<u8>,
    start: usize,
}

/// A line without its CR LF, or why it is none.
pub type Line = Result<Vec<u8>, LineFault>;

impl<R: Read> Input<R> {
    /// Reads from here.
    pub fn new(from: R) -> Input<R> {
        Input { from, buffer: Vec::new(), start: 0 }
    }

    /// Whether a whole line is there already: then its answer can travel with the one before.
    pub fn has_line(&self) -> bool {
        self.buffer[self.start..].contains(&b'\n')
    }

    /// Where it reads from.
    pub fn channel(&mut self) -> &mut R {
        &mut self.from
    }

    /// The next line, of at most so many octets with its end; `None` at the end of the stream. Of a line that is too
    /// long the rest is skipped.
    pub fn line(&mut self, bytes_max: usize) -> io::Result<Option<Line>> {
        let mut too_long = false;
        loop {
            let there = &self.buffer[self.start..];
            if let Some(end) = there.iter().position(|b| *b == b'\n') {
                too_long |= end >= bytes_max;
                let line = cut(&there[..end]).map(<[u8]>::to_vec);
                self.start += end + 1;
                return Ok(Some(if too_long { Err(LineFault::TooLong) } else { line }));
            }
            if there.len() > bytes_max {
                too_long = true;
                self.start = self.buffer.len();
            }
            if self.fill()? == 0 {
                return Ok(None);
            }
        }
    }

    /// A piece of a message: at least one octet, or none at the end of the stream. [`Input::consume`]
    /// says how much of it was used.
    pub fn piece(&mut self) -> io::Result<&[u8]> {
        if self.start == self.buffer.len() {
            self.fill()?;
        }
        Ok(&self.buffer[self.start..])
    }

    /// So many octets of the piece are done with.
    pub fn consume(&mut self, n: usize) {
        self.start += n;
    }

    fn fill(&mut self) -> io::Result<usize> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let held = self.buffer.len();
        self.buffer.resize(held + READ_BYTES, 0);
        let read = self.from.read(&mut self.buffer[held..]);
        self.buffer.truncate(held + *read.as_ref().unwrap_or(&0));
        read
    }
}

/// Takes the CR away; refuses one that stands elsewhere, and a line without one.
fn cut(line: &[u8]) -> Result<&[u8], LineFault> {
    match line.split_last() {
        Some((b'\r', line)) if !line.contains(&b'\r') => Ok(line),
        _ => Err(LineFault::BareNewline),
    }
}

#[cfg(test)]
mod tests {
    use super::super::LINE_BYTES_MAX;
    use super::*;

    #[test]
    fn only_crlf_ends_a_line() {
        let mut input = Input::new(&b"NOOP\r\nNOOP\nA\rB\r\nQUIT\r\n"[..]);
        let mut next = || input.line(LINE_BYTES_MAX).unwrap();
        assert_eq!(next(), Some(Ok(b"NOOP".to_vec())));
        assert_eq!(next(), Some(Err(LineFault::BareNewline)));
        assert_eq!(next(), Some(Err(LineFault::BareNewline)));
        assert_eq!(next(), Some(Ok(b"QUIT".to_vec())));
        assert_eq!(next(), None);
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_whole_and_does_not_fill_memory() {
        let long = [vec![b'x'; 40 * READ_BYTES], b"\r\nNOOP\r\n".to_vec()].concat();
        let mut input = Input::new(long.as_slice());
        assert_eq!(input.line(LINE_BYTES_MAX).unwrap(), Some(Err(LineFault::TooLong)));
        assert!(input.buffer.capacity() < 8 * READ_BYTES);
        assert_eq!(input.line(LINE_BYTES_MAX).unwrap(), Some(Ok(b"NOOP".to_vec())));
        let just = [vec![b'x'; LINE_BYTES_MAX - 2], b"\r\n".to_vec()].concat();
        assert!(Input::new(just.as_slice()).line(LINE_BYTES_MAX).unwrap().unwrap().is_ok());
    }
}
