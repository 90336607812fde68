//! Content-Transfer-Encoding of a form's parts (RFC 2045, section 6). RFC 7578 advises against it and
//! browsers do not use it; programs that write mail do.

use crate::error::{Error, Result};
use base64::prelude::BASE64_STANDARD;
use base64::read::DecoderReader;
use std::io::{self, Read};

/// Reads a part through its encoding.
pub fn decoded<'p>(encoding: Option<&str>, from: impl Read + 'p) -> Result<Box<dyn Read + 'p>> {
    match encoding.unwrap_or("binary").to_ascii_lowercase().as_str() {
        "7bit" | "8bit" | "binary" => Ok(Box::new(from)),
        "base64" => {
            Ok(Box::new(Base64(DecoderReader::new(WithoutLineEnds(from), &BASE64_STANDARD))))
        }
        "quoted-printable" => Ok(Box::new(Quoted { from, state: State::Text })),
        other => Err(Error::bad(format!("the transfer encoding {other:?}"))),
    }
}

struct WithoutLineEnds<R>(R);

impl<R: Read> Read for WithoutLineEnds<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.0.read(out)?;
            let kept = keep(&mut out[..n], |b| Ok((!matches!(b, b'\r' | b'\n')).then_some(b)))?;
            if n == 0 || kept > 0 {
                return Ok(kept);
            }
        }
    }
}

/// Puts what `decode` gives for each byte in the place of the bytes; returns how many that were.
fn keep(bytes: &mut [u8], mut decode: impl FnMut(u8) -> Result<Option<u8>>) -> Result<usize> {
    let mut kept = 0;
    for at in 0..bytes.len() {
        if let Some(byte) = decode(bytes[at])? {
            bytes[kept] = byte;
            kept += 1;
        }
    }
    Ok(kept)
}

struct Base64<R: Read>(DecoderReader<'static, base64::engine::GeneralPurpose, R>);

impl<R: Read> Read for Base64<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out).map_err(|e| match e.kind() {
            io::ErrorKind::InvalidData => Error::bad("a part's base64").into(),
            _ => e,
        })
    }
}

struct Quoted<R> {
    from: R,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Text,
    Equals,
    High(u32),
    SoftBreak,
}

impl State {
    /// The byte that one more byte makes whole.
    fn step(&mut self, byte: u8) -> Result<Option<u8>> {
        let digit = char::from(byte).to_digit(16);
        let (next, made) = match (*self, byte, digit) {
            (State::Text, b'=', _) => (State::Equals, None),
            (State::Text, byte, _) => (State::Text, Some(byte)),
            (State::Equals, b'\r', _) => (State::SoftBreak, None),
            (State::Equals, b'\n', _) | (State::SoftBreak, b'\n', _) => (State::Text, None),
            (State::Equals, _, Some(high)) => (State::High(high), None),
            (State::High(high), _, Some(low)) => (State::Text, Some((high << 4 | low) as u8)),
            _ => return Err(Error::bad("a part's quoted-printable")),
        };
        *self = next;
        Ok(made)
    }
}

impl<R: Read> Read for Quoted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.from.read(out)?;
            if n == 0 && self.state != State::Text && !out.is_empty() {
                return Err(Error::bad("a part's quoted-printable ends too early").into());
            }
            let kept = keep(&mut out[..n], |b| self.state.step(b))?;
            if n == 0 || kept > 0 {
                return Ok(kept);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(encoding: &str, text: &str) -> Result<String> {
        let mut out = String::new();
        decoded(Some(encoding), text.as_bytes())?.read_to_string(&mut out)?;
        Ok(out)
    }

    #[test]
    fn encodings_are_undone() {
        assert_eq!(decode("8BIT", "a=b\r\n"), Ok("a=b\r\n".into()));
        assert_eq!(decode("Base64", "VGVz\r\ndCAxMjM=\r\n"), Ok("Test 123".into()));
        assert_eq!(
            decode("quoted-printable", "gr=C3=bcn=\r\n!=\n="),
            odd("quoted-printable ends too early")
        );
        assert_eq!(decode("quoted-printable", "gr=C3=bcn=\r\n!\r\n"), Ok("grün!\r\n".into()));
    }

    #[test]
    fn what_is_none_is_refused() {
        assert_eq!(decode("base64", "VGVz*"), odd("base64"));
        assert_eq!(decode("quoted-printable", "=4"), odd("quoted-printable ends too early"));
        assert_eq!(decode("quoted-printable", "=x"), odd("quoted-printable"));
        assert!(decode("x-uuencode", "").is_err());
    }

    fn odd(what: &str) -> Result<String> {
        Err(Error::bad(format!("a part's {what}")))
    }
}
