//! The head of a request, as a machine over bytes: [`Scan`] finds its end while bytes come in, and
//! [`Head::parse`] judges the whole. `httparse` splits the fields; every rule of framing is here.

use crate::http::headers::Headers;
use crate::http::method::Method;
use crate::http::status::Refusal;
use crate::http::target::{Target, check_authority};
use std::ops::Range;

/// Fields of one head.
pub const FIELDS_MAX: usize = 100;
/// Bytes of a target.
pub const TARGET_BYTES_MAX: usize = 8 << 10;
/// Bytes of a request line: a target, the longest method, the version, two spaces.
const REQUEST_LINE_MAX: usize = TARGET_BYTES_MAX + 64;
/// Bytes of empty lines before a request.
const LEADING_MAX: usize = 16;

/// How the body that follows a head is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By this many bytes; 0 where there is no body.
    Length(u64),
    /// By chunks (RFC 9112, section 7.1).
    Chunked,
}

/// The version of the protocol that the other side speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One request a connection, unless asked; no chunks, no 1xx.
    Http10,
    /// Kept connections and chunks.
    Http11,
}

/// A request's head that has passed every rule.
#[derive(Clone, Debug)]
pub struct Head {
    /// What is asked.
    pub method: Method,
    /// Of what.
    pub target: Target,
    /// Which protocol.
    pub version: Version,
    /// All fields.
    pub headers: Headers,
    /// What follows.
    pub framing: Framing,
    /// Whether the client lets the connection stay open.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

/// Looks for a head while it comes in, and refuses what can never become a good one: a slow sender is
/// answered as soon as it breaks a rule.
#[derive(Debug, Default)]
pub struct Scan {
    /// Bytes of empty lines before the head: some clients send one after a form.
    start: usize,
    begun: bool,
    at: usize,
    line: usize,
    lines: usize,
}

impl Scan {
    /// Where in `bytes` the head lies, once it is whole. `bytes` may only grow between calls.
    pub fn find(
        &mut self,
        bytes: &[u8],
        bytes_max: usize,
    ) -> Result<Option<Range<usize>>, Refusal> {
        self.skip_empty_lines(bytes);
        while self.begun && self.at < bytes.len() {
            self.skip_plain(bytes, bytes_max);
            if self.at == bytes.len() {
                break;
            }
            self.check_byte(bytes, bytes_max)?;
            self.at += 1;
            if bytes[self.at - 1] != b'\n' {
                continue;
            }
            if self.at - self.line == 2 {
                return Ok(Some(self.start..self.at));
            }
            self.end_line(bytes)?;
        }
        Ok(None)
    }

    /// Whether the head's first byte is there.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    fn skip_empty_lines(&mut self, bytes: &[u8]) {
        while !self.begun {
            match &bytes[self.at..] {
                [] | [b'\r'] => return,
                [b'\r', b'\n', ..] if self.start < LEADING_MAX => self.start += 2,
                _ => self.begun = true,
            }
            (self.at, self.line) = (self.start, self.start);
        }
    }

    /// Goes over bytes that need no look of their own: within the limits, not control characters, not after a CR.
    fn skip_plain(&mut self, bytes: &[u8], bytes_max: usize) {
        if self.at > self.line && bytes[self.at - 1] == b'\r' {
            return;
        }
        let allowed = if self.lines == 0 { bytes_max.min(REQUEST_LINE_MAX) } else { bytes_max };
        let rest = &bytes[self.at..bytes.len().min(self.start + allowed).max(self.at)];
        let plain = rest.iter().position(|b| b.is_ascii_control() && *b != b'\t');
        self.at += plain.unwrap_or(rest.len());
    }

    fn check_byte(&self, bytes: &[u8], bytes_max: usize) -> Result<(), Refusal> {
        if self.at - self.start >= bytes_max {
            return Err(Refusal::new(431, "the head is too long"));
        }
        if self.lines == 0 && self.at - self.start >= REQUEST_LINE_MAX {
            return Err(Refusal::new(414, "the target is too long"));
        }
        let after_cr = self.at > self.line && bytes[self.at - 1] == b'\r';
        match bytes[self.at] {
            b'\n' if after_cr => Ok(()),
            _ if after_cr => Err(Refusal::bad("a CR without LF")),
            b'\n' => Err(Refusal::bad("an LF without CR")),
            b'\r' | b'\t' => Ok(()),
            b if b.is_ascii_control() => Err(Refusal::bad("a control character in the head")),
            _ => Ok(()),
        }
    }

    fn end_line(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if self.lines == 0 {
            let mut none = [];
            httparse::Request::new(&mut none)
                .parse(&bytes[self.start..self.at])
                .map_err(|e| refusal(e, &bytes[self.start..self.at]))?;
        }
        self.line = self.at;
        self.lines += 1;
        if self.lines > FIELDS_MAX + 1 {
            return Err(Refusal::new(431, "too many fields"));
        }
        Ok(())
    }
}

impl Head {
    /// Judges a whole head, up to and with its empty line, whose line ends [`Scan`] has checked.
    pub fn parse(bytes: &[u8]) -> Result<Head, Refusal> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut split = httparse::Request::new(&mut fields);
        match split.parse(bytes) {
            Ok(httparse::Status::Complete(n)) if n == bytes.len() => {}
            Ok(_) => return Err(Refusal::bad("the head ends where it should not")),
            Err(e) => return Err(refusal(e, bytes)),
        }
        let version = if split.version == Some(0) { Version::Http10 } else { Version::Http11 };
        let method = method(split.method.unwrap_or_default())?;
        let mut headers = Headers::with_room(split.headers.len(), bytes.len());
        for field in split.headers.iter() {
            headers.add(field.name, field.value);
        }
        let target = target(method, split.path.unwrap_or_default())?;
        check_host(&mut headers, version, &target)?;
        let framing = framing(&headers, version, method)?;
        let expects_continue = expectation(&headers, version)? && framing != Framing::Length(0);
        let keep_alive = keeps_alive(&headers, version);
        Ok(Head { method, target, version, headers, framing, keep_alive, expects_continue })
    }
}

fn refusal(error: httparse::Error, bytes: &[u8]) -> Refusal {
    use httparse::Error::*;
    match error {
        TooManyHeaders => Refusal::new(431, "too many fields"),
        Version if names_http(bytes) => Refusal::new(505, "the version is HTTP/1.1 or HTTP/1.0"),
        Version => Refusal::bad("the request line ends in HTTP/1.1"),
        HeaderName => Refusal::bad("a field's name"),
        HeaderValue => Refusal::bad("a field's value"),
        _ => Refusal::bad("the request line"),
    }
}

/// Whether the request line ends in a version of HTTP, though not one of ours.
fn names_http(bytes: &[u8]) -> bool {
    let line = bytes.split(|b| *b == b'\r').next().unwrap_or_default();
    matches!(line, [.., b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit())
}

fn method(name: &str) -> Result<Method, Refusal> {
    Method::named(name).ok_or(match name {
        "CONNECT" | "TRACE" => Refusal::new(405, "this method is not served"),
        _ => Refusal::new(501, "an unknown method"),
    })
}

fn target(method: Method, sent: &str) -> Result<Target, Refusal> {
    match (method, sent) {
        (Method::Options, "*") => Ok(Target::server()),
        (_, sent) if sent.len() > TARGET_BYTES_MAX => {
            Err(Refusal::new(414, "the target is too long"))
        }
        (_, sent) => Target::parse(sent),
    }
}

/// RFC 9112, section 3.2: HTTP/1.1 names exactly one host; an absolute target overrules it.
fn check_host(headers: &mut Headers, version: Version, target: &Target) -> Result<(), Refusal> {
    match (headers.all("host").count(), version) {
        (0, Version::Http11) => return Err(Refusal::bad("Host is missing")),
        (0 | 1, _) => {}
        _ => return Err(Refusal::bad("more than one Host")),
    }
    headers.get("host").map_or(Ok(()), check_authority)?;
    if let Some(authority) = &target.authority {
        headers.set("host", authority);
    }
    Ok(())
}

/// RFC 9112, section 6, without its leniency: two opinions about a length are how requests are smuggled.
fn framing(headers: &Headers, version: Version, method: Method) -> Result<Framing, Refusal> {
    let mut lengths = headers.all("content-length").fuse();
    let mut codings = headers.all("transfer-encoding").fuse();
    match ((lengths.next(), lengths.next()), (codings.next(), codings.next())) {
        ((None, _), (None, _)) if version == Version::Http10 && has_body(method) => {
            Err(Refusal::new(411, "an HTTP/1.0 body needs a Content-Length"))
        }
        ((None, _), (None, _)) => Ok(Framing::Length(0)),
        ((Some(length), None), (None, _)) => content_length(length).map(Framing::Length),
        ((Some(_), Some(_)), (None, _)) => Err(Refusal::bad("more than one Content-Length")),
        ((None, _), (Some(_), None)) if version == Version::Http10 => {
            Err(Refusal::bad("Transfer-Encoding in HTTP/1.0"))
        }
        ((None, _), (Some(coding), None)) => transfer_coding(coding),
        ((None, _), (Some(_), Some(_))) => Err(Refusal::bad("more than one Transfer-Encoding")),
        _ => Err(Refusal::bad("Content-Length with Transfer-Encoding")),
    }
}

fn has_body(method: Method) -> bool {
    matches!(method, Method::Post | Method::Put | Method::Patch)
}

fn content_length(value: &str) -> Result<u64, Refusal> {
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Refusal::bad("Content-Length is a number"));
    }
    value.parse().map_err(|_| Refusal::bad("Content-Length is larger than any body"))
}

fn transfer_coding(value: &str) -> Result<Framing, Refusal> {
    if value.eq_ignore_ascii_case("chunked") {
        return Ok(Framing::Chunked);
    }
    let last = value.rsplit(',').next().unwrap_or_default().trim_matches([' ', '\t']);
    match last.eq_ignore_ascii_case("chunked") {
        true => Err(Refusal::new(501, "chunked is the only transfer coding")),
        false => Err(Refusal::bad("Transfer-Encoding is chunked")),
    }
}

/// RFC 9110, section 10.1.1: whether the client waits; any other expectation is refused.
fn expectation(headers: &Headers, version: Version) -> Result<bool, Refusal> {
    let mut expected = headers.all("expect");
    match (expected.next(), expected.next()) {
        (None, _) => Ok(false),
        (Some(what), None) if what.eq_ignore_ascii_case("100-continue") => {
            Ok(version == Version::Http11)
        }
        _ => Err(Refusal::new(417, "100-continue is the only expectation")),
    }
}

fn keeps_alive(headers: &Headers, version: Version) -> bool {
    match version {
        Version::Http11 => !headers.has_token("connection", "close"),
        Version::Http10 => {
            headers.has_token("connection", "keep-alive")
                && !headers.has_token("connection", "close")
        }
    }
}
