//! Words of a protocol line: any byte, with space, control characters, `%` and `=` written `%XX`.

use crate::error::{Error, Result};
use percent_encoding::percent_decode;
use std::collections::BTreeMap;

/// Whether a byte must be written `%XX`. Bytes from 0x80 stay as they are: UTF-8 names remain readable.
fn is_special(byte: u8) -> bool {
    byte <= b' ' || matches!(byte, b'%' | b'=' | 0x7f)
}

/// Writes bytes as one word.
pub fn escape(bytes: &[u8]) -> Vec<u8> {
    let mut word = Vec::with_capacity(bytes.len());
    for &byte in bytes {
        if is_special(byte) {
            word.extend(format!("%{byte:02X}").bytes());
        } else {
            word.push(byte);
        }
    }
    word
}

/// A word for people: escaped, and lossy where it is not UTF-8.
pub fn display(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&escape(bytes)).into_owned()
}

/// Reads a word back; a control character, and a `%` without two hexadecimal digits, are refused.
pub fn unescape(word: &[u8]) -> Result<Vec<u8>> {
    if word.iter().any(u8::is_ascii_control) {
        return Err(Error::bad("a control character in a word is written %XX"));
    }
    let mut rest = word;
    while let Some(at) = rest.iter().position(|&b| b == b'%') {
        let digits = rest.get(at + 1..at + 3).unwrap_or_default();
        if digits.len() != 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(Error::bad("a % in a word must be followed by two hexadecimal digits"));
        }
        rest = &rest[at + 3..];
    }
    Ok(percent_decode(word).collect())
}

/// A line cut into words and trailing `name=value` options. Whoever reads it takes words and options
/// one by one; [`Line::end`] refuses what nobody took.
#[derive(Debug)]
pub struct Line {
    words: std::vec::IntoIter<Vec<u8>>,
    options: BTreeMap<String, Vec<u8>>,
}

impl Line {
    /// Cuts a line (without its end) into words.
    pub fn parse(line: &[u8]) -> Result<Line> {
        let mut words = Vec::new();
        let mut options = BTreeMap::new();
        for raw in line.split(|&b| b == b' ').filter(|w| !w.is_empty()) {
            if let Some(at) = raw.iter().position(|&b| b == b'=') {
                let name = String::from_utf8(raw[..at].to_vec())
                    .map_err(|_| Error::bad("option names are ASCII"))?;
                if options.insert(name.clone(), unescape(&raw[at + 1..])?).is_some() {
                    return Err(Error::bad(format!(
                        "option {} is given twice",
                        display(name.as_bytes())
                    )));
                }
            } else if !options.is_empty() {
                return Err(Error::bad("options come after all words"));
            } else {
                words.push(unescape(raw)?);
            }
        }
        Ok(Line { words: words.into_iter(), options })
    }

    /// How many words are left.
    pub fn words_left(&self) -> usize {
        self.words.len()
    }

    /// Takes the next word.
    pub fn word(&mut self, name: &str) -> Result<Vec<u8>> {
        self.words.next().ok_or_else(|| Error::bad(format!("<{name}> is missing")))
    }

    /// Takes the next word, which may not be empty.
    pub fn name(&mut self, name: &str) -> Result<Vec<u8>> {
        let word = self.word(name)?;
        if word.is_empty() { Err(Error::bad(format!("<{name}> is empty"))) } else { Ok(word) }
    }

    /// Takes the next word as UTF-8 text.
    pub fn text(&mut self, name: &str) -> Result<String> {
        String::from_utf8(self.word(name)?)
            .map_err(|_| Error::bad(format!("<{name}> is not UTF-8")))
    }

    /// Takes the next word as a number.
    pub fn number<T: std::str::FromStr>(&mut self, name: &str) -> Result<T> {
        parse_number(&self.word(name)?, name)
    }

    /// Takes an option.
    pub fn option(&mut self, name: &str) -> Option<Vec<u8>> {
        self.options.remove(name)
    }

    /// Takes an option that is a number.
    pub fn option_number<T: std::str::FromStr>(&mut self, name: &str) -> Result<Option<T>> {
        self.option(name).map(|v| parse_number(&v, name)).transpose()
    }

    /// Takes an option that is `0` or `1`; absent is `0`.
    pub fn flag(&mut self, name: &str) -> Result<bool> {
        match self.option(name).as_deref() {
            None | Some(b"0") => Ok(false),
            Some(b"1") => Ok(true),
            Some(_) => Err(Error::bad(format!("{name} must be 0 or 1"))),
        }
    }

    /// Refuses whatever was not taken.
    pub fn end(mut self) -> Result<()> {
        if let Some(word) = self.words.next() {
            return Err(Error::bad(format!("one word too many: {}", display(&word))));
        }
        match self.options.keys().next() {
            Some(name) => Err(Error::bad(format!("unknown option {}", display(name.as_bytes())))),
            None => Ok(()),
        }
    }
}

fn parse_number<T: std::str::FromStr>(word: &[u8], name: &str) -> Result<T> {
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    std::str::from_utf8(word)
        .ok()
        .filter(|_| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::bad(format!("{name} is not a number in range: {}", display(word))))
}

/// Builds a line: words and options, escaped, ended by LF.
#[derive(Default)]
pub struct LineBuilder(Vec<u8>);

impl LineBuilder {
    /// Begins a line with its verb.
    pub fn new(verb: &str) -> LineBuilder {
        LineBuilder(verb.as_bytes().to_vec())
    }

    /// Adds a word.
    pub fn word(mut self, bytes: impl AsRef<[u8]>) -> LineBuilder {
        self.0.push(b' ');
        self.0.extend(escape(bytes.as_ref()));
        self
    }

    /// Adds a number or anything else that needs no escape.
    pub fn plain(mut self, value: impl std::fmt::Display) -> LineBuilder {
        self.0.push(b' ');
        self.0.extend(value.to_string().bytes());
        self
    }

    /// Adds an option.
    pub fn option(mut self, name: &str, value: impl AsRef<[u8]>) -> LineBuilder {
        self.0.push(b' ');
        self.0.extend(name.bytes());
        self.0.push(b'=');
        self.0.extend(escape(value.as_ref()));
        self
    }

    /// Adds an option if there is a value for it.
    pub fn option_if(self, name: &str, value: Option<impl std::fmt::Display>) -> LineBuilder {
        match value {
            Some(value) => self.option(name, value.to_string()),
            None => self,
        }
    }

    /// The line with its LF.
    pub fn build(mut self) -> Vec<u8> {
        self.0.push(b'\n');
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_survive_as_a_word(bytes in proptest::collection::vec(any::<u8>(), 1..64)) {
            let line = LineBuilder::new("GET").word(&bytes).option("after", &bytes).build();
            let mut line = Line::parse(line.strip_suffix(b"\n").unwrap()).unwrap();
            prop_assert_eq!(line.word("verb").unwrap(), b"GET");
            prop_assert_eq!(line.word("row").unwrap(), &bytes[..]);
            prop_assert_eq!(line.option("after").unwrap(), &bytes[..]);
            prop_assert!(line.end().is_ok());
        }

        #[test]
        fn any_line_is_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Line::parse(&bytes);
            let _ = crate::protocol::command::parse(&bytes);
        }
    }

    #[test]
    fn what_nobody_took_is_refused() {
        assert_eq!(Line::parse(b"a b").unwrap().end(), Err(Error::bad("one word too many: a")));
        assert_eq!(Line::parse(b"x=1").unwrap().end(), Err(Error::bad("unknown option x")));
        assert!(Line::parse(b"x=1 word").is_err());
        assert!(Line::parse(b"x=1 x=2").is_err());
        assert!(Line::parse(b"a%2").is_err());
        assert!(Line::parse(b"a%zz").is_err());
    }
}
