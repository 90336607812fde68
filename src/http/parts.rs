//! The parts of a `multipart/form-data` body (RFC 7578, RFC 2046), as a machine over bytes.
//!
//! [`Scanner::step`] looks at all bytes that are there and not used yet, and says what their beginning is.
//! A delimiter is `CRLF -- boundary` followed by `CRLF` or `--`; anything else, however alike, is data.

use crate::error::{Error, Result};
use crate::http::params::Value;
use memchr::memmem;

/// Bytes of one part's head.
pub const PART_HEAD_MAX: usize = 8 << 10;
/// Fields of one part's head.
const PART_FIELDS_MAX: usize = 16;
/// Parts of one body.
pub const PARTS_MAX: usize = 1000;
/// Bytes of a part's name, or of a file's.
const NAME_MAX: usize = 1024;
/// Bytes of a boundary (RFC 2046, section 5.1.1).
const BOUNDARY_MAX: usize = 70;
/// Empty lines before the first boundary, in bytes. A form has no preamble.
const LEADING_MAX: usize = 16;

/// What a part's head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartHead {
    /// Name of the form's field.
    pub name: String,
    /// Name of the file, where the field holds one; as the browser sent it, so never a path.
    pub filename: Option<String>,
    /// Type of the content, as the browser guessed it.
    pub content_type: Option<String>,
    /// Transfer encoding of the content, where it has one.
    pub encoding: Option<String>,
}

/// What the beginning of the bytes is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It cannot be said before more bytes are there.
    More,
    /// This many bytes before the first part: to be dropped.
    Skip(usize),
    /// A part's head of this many bytes.
    Head(usize, PartHead),
    /// This many bytes of the part.
    Bytes(usize),
    /// A delimiter of this many bytes: the part is over.
    PartEnd(usize),
    /// Behind the last delimiter: whatever follows means nothing.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    Head,
    Part,
    End,
}

/// Finds the parts.
#[derive(Debug)]
pub struct Scanner {
    state: State,
    skipped: usize,
    parts: usize,
    delimiter: memmem::Finder<'static>,
}

impl Scanner {
    /// A scanner for bodies of this content type; its boundary must be one.
    pub fn new(content_type: &str) -> Result<Scanner> {
        let value = Value::parse(content_type)?;
        if value.essence != "multipart/form-data" {
            return Err(Error::bad("the body is not multipart/form-data"));
        }
        let boundary = value.get("boundary").unwrap_or_default();
        let graphic = boundary.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        if boundary.is_empty() || boundary.len() > BOUNDARY_MAX || !graphic {
            return Err(Error::bad("the boundary of the form"));
        }
        let delimiter = format!("\r\n--{boundary}");
        let delimiter = memmem::Finder::new(delimiter.as_bytes()).into_owned();
        Ok(Scanner { state: State::Start, skipped: 0, parts: 0, delimiter })
    }

    /// Says what `bytes` begin with. After anything but [`Found::More`] the caller drops the bytes named
    /// and asks again; after it, the same bytes come again with more behind them.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Found> {
        match self.state {
            State::Start => self.start(bytes),
            State::Head => self.head(bytes),
            State::Part => self.part(bytes),
            State::End => Ok(Found::End),
        }
    }

    /// The first boundary has no CRLF of its own before it, but may have empty lines.
    fn start(&mut self, bytes: &[u8]) -> Result<Found> {
        let boundary = &self.delimiter.needle()[2..];
        let known = boundary.len().min(bytes.len());
        if bytes[..known] == boundary[..known] {
            let Some(after) = bytes.get(known..known + 2) else { return Ok(Found::More) };
            return match self.after_delimiter(after) {
                true => Ok(Found::Skip(known + 2)),
                false => Err(Error::bad("the form does not begin with its boundary")),
            };
        }
        if bytes.starts_with(b"\r\n") && self.skipped < LEADING_MAX {
            self.skipped += 2;
            return Ok(Found::Skip(2));
        }
        match bytes {
            b"\r" => Ok(Found::More),
            _ => Err(Error::bad("the form does not begin with its boundary")),
        }
    }

    /// Judges the two bytes behind a delimiter's boundary: whether it is one, and what follows it.
    fn after_delimiter(&mut self, after: &[u8]) -> bool {
        self.state = match after {
            b"\r\n" => State::Head,
            b"--" => State::End,
            _ => return false,
        };
        true
    }

    fn head(&mut self, bytes: &[u8]) -> Result<Found> {
        let end = match bytes.starts_with(b"\r\n") {
            true => Some(2),
            false => memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4),
        };
        if end.unwrap_or(bytes.len()) > PART_HEAD_MAX {
            return Err(Error::TooBig("a part's head is too long".into()));
        }
        let Some(end) = end else { return Ok(Found::More) };
        self.parts += 1;
        if self.parts > PARTS_MAX {
            return Err(Error::TooBig(format!("a form of more than {PARTS_MAX} parts")));
        }
        let head = PartHead::parse(&bytes[..end])?;
        self.state = State::Part;
        Ok(Found::Head(end, head))
    }

    fn part(&mut self, bytes: &[u8]) -> Result<Found> {
        let length = self.delimiter.needle().len();
        match self.delimiter.find(bytes) {
            None => Ok(match bytes.len().saturating_sub(length - 1) {
                0 => Found::More,
                sure => Found::Bytes(sure),
            }),
            Some(0) => match bytes.get(length..length + 2) {
                None => Ok(Found::More),
                Some(after) if self.after_delimiter(after) => Ok(Found::PartEnd(length + 2)),
                Some(_) => Ok(Found::Bytes(length)),
            },
            Some(before) => Ok(Found::Bytes(before)),
        }
    }
}

impl PartHead {
    /// Judges a part's head, up to and with its empty line.
    fn parse(bytes: &[u8]) -> Result<PartHead> {
        let odd = || {
            Error::bad(
                "the form cannot be read: perhaps a file name in it has a line break or a NUL",
            )
        };
        let mut fields = [httparse::EMPTY_HEADER; PART_FIELDS_MAX];
        let split = httparse::parse_headers(bytes, &mut fields);
        let Ok(httparse::Status::Complete((used, fields))) = split else { return Err(odd()) };
        if used != bytes.len() || has_bare_line_end(bytes) {
            return Err(odd());
        }
        let field = |name: &str| {
            let mut found = fields.iter().filter(|f| f.name.eq_ignore_ascii_case(name));
            found.next().map(|f| std::str::from_utf8(f.value).map_err(|_| odd())).transpose()
        };
        let disposition = Value::parse(field("content-disposition")?.ok_or_else(odd)?)?;
        if disposition.essence != "form-data" {
            return Err(odd());
        }
        let filename = match disposition.get("filename") {
            Some(plain) => Some(name(plain)?),
            None => disposition.get("filename*").map(extended_name).transpose()?,
        };
        Ok(PartHead {
            name: name(disposition.get("name").ok_or_else(odd)?)?,
            filename,
            content_type: field("content-type")?.map(String::from),
            encoding: field("content-transfer-encoding")?.map(String::from),
        })
    }
}

fn has_bare_line_end(bytes: &[u8]) -> bool {
    let bare_lf = |(n, b): (usize, &u8)| *b == b'\n' && (n == 0 || bytes[n - 1] != b'\r');
    bytes.iter().enumerate().any(bare_lf)
}

/// Undoes what the form submission algorithm of HTML does to names: `"`, CR and LF alone are written `%XX`.
fn name(sent: &str) -> Result<String> {
    if sent.len() > NAME_MAX {
        return Err(Error::TooBig(format!("a name of more than {NAME_MAX} bytes in a form")));
    }
    Ok(sent.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n"))
}

/// `UTF-8''gr%C3%BCn.txt` (RFC 8187): browsers do not send it, some programs do.
fn extended_name(sent: &str) -> Result<String> {
    let odd = || Error::bad("an extended file name");
    let (charset, rest) = sent.split_once('\'').ok_or_else(odd)?;
    let (_language, encoded) = rest.split_once('\'').ok_or_else(odd)?;
    if !charset.eq_ignore_ascii_case("utf-8") || encoded.len() > NAME_MAX {
        return Err(odd());
    }
    let decoded = percent_encoding::percent_decode_str(encoded).decode_utf8();
    decoded.map(|name| name.into_owned()).map_err(|_| odd())
}
