//! The answer to a request.

use serde::Serialize;
use std::borrow::Cow;
use std::fmt;
use std::io::Read;

/// Fields of most responses.
const FIELDS: usize = 12;
/// Type of an HTML page.
const HTML: &str = "text/html; charset=utf-8";
/// Type of plain text.
const TEXT: &str = "text/plain; charset=utf-8";
/// Type of JSON.
const JSON: &str = "application/json";

/// A response. The server adds `Date`, `Connection` and the framing fields itself; `Connection: close` here
/// ends the connection.
#[derive(Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Fields, in the order in which they are sent. No value has a control character.
    headers: Vec<(&'static str, Cow<'static, str>)>,
    /// What follows the head.
    pub body: Body,
}

/// The body of a response.
pub enum Body {
    /// Nothing.
    Empty,
    /// Bytes in memory.
    Bytes(Cow<'static, [u8]>),
    /// Bytes that are read while they are sent.
    Stream {
        /// How many, where it is known; else the body is sent chunked, or until close to HTTP/1.0.
        length: Option<u64>,
        /// Where they come from. An error here cuts the connection, so that nobody takes a part for the whole.
        from: Box<dyn Read + Send>,
    },
}

impl Body {
    /// The body's length, where it is known.
    pub fn length(&self) -> Option<u64> {
        match self {
            Body::Empty => Some(0),
            Body::Bytes(bytes) => Some(bytes.len() as u64),
            Body::Stream { length, .. } => *length,
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "body of {:?} bytes", self.length())
    }
}

impl Response {
    /// A response without a body.
    pub fn empty(status: u16) -> Response {
        Response { status, headers: Vec::with_capacity(FIELDS), body: Body::Empty }
    }

    /// A page.
    pub fn html(status: u16, page: String) -> Response {
        Response::bytes(status, HTML, page.into_bytes())
    }

    /// Plain text.
    pub fn text(status: u16, text: impl Into<String>) -> Response {
        Response::bytes(status, TEXT, text.into().into_bytes())
    }

    /// A value as JSON; 500 where it cannot be written as such.
    pub fn json(status: u16, value: &impl Serialize) -> Response {
        match serde_json::to_vec(value) {
            Ok(bytes) => Response::bytes(status, JSON, bytes),
            Err(e) => Response::text(500, format!("the answer is not JSON: {e}")),
        }
    }

    /// 303: the visitor goes on with a GET of `to`.
    pub fn redirect(to: &str) -> Response {
        Response::empty(303).with_header("Location", printable(to))
    }

    /// Bytes of a content type.
    pub fn bytes(
        status: u16,
        content_type: &'static str,
        bytes: impl Into<Cow<'static, [u8]>>,
    ) -> Response {
        let response = Response::empty(status).with_header("Content-Type", content_type);
        Response { body: Body::Bytes(bytes.into()), ..response }
    }

    /// 200 with bytes that are read while they are sent.
    pub fn stream(
        content_type: impl Into<Cow<'static, str>>,
        length: Option<u64>,
        from: Box<dyn Read + Send>,
    ) -> Response {
        let response = Response::empty(200).with_header("Content-Type", content_type);
        Response { body: Body::Stream { length, from }, ..response }
    }

    /// Adds a field. Control characters in the value become spaces: no value can start another line.
    pub fn with_header(
        mut self,
        name: &'static str,
        value: impl Into<Cow<'static, str>>,
    ) -> Response {
        debug_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{name:?}");
        self.headers.push((name, clean(value.into())));
        self
    }

    /// Whether it is an HTML page.
    pub fn is_page(&self) -> bool {
        self.header("Content-Type").is_some_and(|t| t.starts_with("text/html"))
    }

    /// The first value of a field, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.fields().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v)
    }

    /// Name and value of every field, in the order in which they are sent.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (*name, &**value))
    }
}

/// A field value without control characters. Most values are plain, which is seen without decoding them.
fn clean(value: Cow<'static, str>) -> Cow<'static, str> {
    let is_plain = value.bytes().fold(true, |plain, b| plain & (b' '..=b'~').contains(&b));
    if is_plain {
        return value;
    }
    let is_odd = |c: char| c.is_control() && c != '\t';
    value.replace(is_odd, " ").into()
}

/// A URL in which everything but printable ASCII is percent-encoded.
fn printable(url: &str) -> String {
    const KEPT: &percent_encoding::AsciiSet =
        &percent_encoding::CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>');
    percent_encoding::utf8_percent_encode(url, KEPT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_start_another_line() {
        let response = Response::empty(200).with_header("X-Name", "a\r\nSet-Cookie: b=c\0");
        assert_eq!(response.header("x-name"), Some("a  Set-Cookie: b=c "));
    }

    #[test]
    fn a_location_is_ascii() {
        let response = Response::redirect("/files/grün?a=b c\r\nX: y");
        assert_eq!(response.header("location"), Some("/files/gr%C3%BCn?a=b%20c%0D%0AX:%20y"));
    }
}
