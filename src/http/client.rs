//! A blocking HTTP/1.1 client, for pings between our own processes, for tests and for `bench`. It follows
//! no redirect, keeps no cookie and speaks to one host.

use crate::config::Scheme;
use crate::error::{Error, Result};
use crate::http::body::{Body, Source};
use crate::http::form::read_all;
use crate::http::head::Framing;
use crate::http::headers::Headers;
use crate::net::{Channel, Stream};
use std::io::{BufRead, BufReader, Read, Write};
use std::time::{Duration, Instant};

/// Bytes of an answer's head.
const HEAD_MAX: usize = 16 << 10;
/// Fields of an answer's head.
const FIELDS_MAX: usize = 100;
/// Bytes of an answer's body.
const BODY_MAX: u64 = 64 << 20;

/// What a server said.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Fields of the head.
    pub headers: Headers,
    /// The decoded body.
    pub body: Vec<u8>,
}

/// A connection to one server, kept between requests.
pub struct Client {
    input: BufReader<Channel>,
    host: String,
    within: Duration,
}

/// One GET over a connection of its own; everything together takes `within` at most.
pub fn get(scheme: Scheme, address: &str, target: &str, within: Duration) -> Result<Answer> {
    let mut client = Client::connect_by(scheme, address, within)?;
    client.request("GET", target, &[("Connection", "close")], b"")
}

impl Client {
    /// Connects to `host:port`. Connecting, and each request, take `within` at most.
    pub fn connect(address: &str, within: Duration) -> Result<Client> {
        Client::connect_by(Scheme::Http, address, within)
    }

    /// The same under TLS, where the scheme says so: with a server of ours, whatever its certificate is.
    pub fn connect_by(scheme: Scheme, address: &str, within: Duration) -> Result<Client> {
        let stream = Stream::connect(address, within)?;
        stream.set_deadline(Some(Instant::now() + within));
        let channel = match scheme {
            Scheme::Http => Channel::Plain(stream),
            Scheme::Https => Channel::connect_tls(stream)?,
        };
        Ok(Client { input: BufReader::new(channel), host: address.to_string(), within })
    }

    /// Sends a request and reads the whole answer.
    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer> {
        self.input.set_time(self.within);
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.host);
        for (name, value) in fields {
            request += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        request += "\r\n";
        let request = [request.as_bytes(), body].concat();
        self.input.get_mut().write_all(&request)?;
        self.answer(method)
    }

    /// Reads the next answer, past any 1xx.
    fn answer(&mut self, method: &str) -> Result<Answer> {
        loop {
            let (status, headers) = self.head()?;
            if status >= 200 {
                let body = self.body(method, status, &headers)?;
                return Ok(Answer { status, headers, body });
            }
        }
    }

    fn head(&mut self) -> Result<(u16, Headers)> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            let room = (HEAD_MAX - bytes.len()) as u64;
            if (&mut self.input).take(room).read_until(b'\n', &mut bytes)? == 0 {
                return Err(Error::unknown("the answer's head ends too early"));
            }
        }
        parse_head(&bytes)
    }

    fn body(&mut self, method: &str, status: u16, headers: &Headers) -> Result<Vec<u8>> {
        let framing = match headers.get("content-length") {
            _ if method == "HEAD" || status == 204 || status == 304 => Framing::Length(0),
            _ if headers.has_token("transfer-encoding", "chunked") => Framing::Chunked,
            Some(length) => Framing::Length(length.parse().map_err(Error::bad)?),
            None => return read_all(&mut self.input, BODY_MAX, "an answer"),
        };
        read_all(&mut Body::new(&mut self.input, framing, BODY_MAX), BODY_MAX, "an answer")
    }
}

fn parse_head(bytes: &[u8]) -> Result<(u16, Headers)> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut split = httparse::Response::new(&mut fields);
    split.parse(bytes).map_err(|e| Error::bad(format!("the answer's head: {e}")))?;
    let mut headers = Headers::default();
    for field in split.headers.iter() {
        headers.add(field.name, field.value);
    }
    let status = split.code.ok_or_else(|| Error::bad("an answer without status"))?;
    Ok((status, headers))
}

impl Source for BufReader<Channel> {
    fn set_time(&mut self, within: Duration) {
        self.get_ref().stream().set_deadline(Some(Instant::now() + within));
    }

    fn is_awaited(&self) -> bool {
        false
    }
}
