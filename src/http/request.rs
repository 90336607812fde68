//! A request as handlers see it.

use crate::config::{self, Scheme};
use crate::error::{Error, Result};
use crate::http::body::{Body, Source};
use crate::http::cookie;
use crate::http::form::{Form, read_all};
use crate::http::head::Head;
use crate::http::headers::Headers;
use crate::http::method::Method;
use crate::http::multipart::Multipart;
use crate::http::params::Value;
use crate::http::target::query_of;
use std::fmt;
use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

/// One request. Its body is read by the handler while it comes in.
pub struct Request<'a> {
    /// What is asked.
    pub method: Method,
    /// The path, percent-decoded once: UTF-8, begins with `/`, without `.` and `..` segments.
    pub path: String,
    /// `path?query` as sent.
    pub target: String,
    /// Fields of the head. `host` is the target's own authority where it has one.
    pub headers: Headers,
    /// The other side of the connection.
    pub peer: SocketAddr,
    /// How it came: in the clear or under TLS.
    pub scheme: Scheme,
    /// Names this request in logs and on error pages.
    pub id: RequestId,
    /// Connections of this listener that were open when the request came.
    pub connections: usize,
    query: Vec<(String, String)>,
    params: Vec<(&'static str, String)>,
    body: Body<'a>,
    form_bytes_max: u64,
    form_time: Duration,
}

/// Names a request among all of all processes: `<tag of the process>-<number>`, both hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId {
    /// Random: makes the ids of two processes differ.
    pub tag: u32,
    /// Counts the requests of a process.
    pub number: u64,
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:x}", self.tag, self.number)
    }
}

/// Where a request came in, and by which limits.
pub struct Arrival<'l> {
    /// The other side of the connection.
    pub peer: SocketAddr,
    /// The request's name.
    pub id: RequestId,
    /// Open connections.
    pub connections: usize,
    /// Limits of the listener.
    pub limits: &'l config::Http,
}

impl<'a> Request<'a> {
    /// A request from its head and the source of its body.
    pub fn new(head: Head, source: &'a mut (dyn Source + 'a), arrival: Arrival<'_>) -> Request<'a> {
        let query = form_urlencoded::parse(query_of(&head.target.raw).as_bytes());
        Request {
            method: head.method,
            path: head.target.path,
            query: query.into_owned().collect(),
            target: head.target.raw,
            headers: head.headers,
            peer: arrival.peer,
            scheme: arrival.limits.scheme(),
            id: arrival.id,
            connections: arrival.connections,
            params: Vec::new(),
            body: Body::new(source, head.framing, arrival.limits.upload_bytes_max),
            form_bytes_max: arrival.limits.form_bytes_max,
            form_time: Duration::from_millis(arrival.limits.form_ms),
        }
    }

    /// The first value of a field, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// The first value of a name in the query, decoded.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// A parameter of the route's pattern, decoded; empty where there is none. It may hold a `/` that was
    /// sent as `%2F`.
    pub fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(n, _)| *n == name).map_or("", |(_, v)| v.as_str())
    }

    pub(super) fn set_params(&mut self, params: Vec<(&'static str, String)>) {
        self.params = params;
    }

    /// The first cookie of a name.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        cookie::find(&self.headers, self.scheme, name)
    }

    /// The fields of a submitted form: urlencoded, or multipart without files.
    pub fn form(&mut self) -> Result<Form> {
        let max = self.form_bytes_max;
        if self.length().is_some_and(|length| length > max) {
            return Err(Error::TooBig(format!("a form of more than {max} bytes")));
        }
        self.body.set_time(self.form_time);
        match self.content_type()?.essence.as_str() {
            "application/x-www-form-urlencoded" => {
                Form::from_urlencoded(&read_all(&mut self.body, max, "a form")?)
            }
            "multipart/form-data" => Form::from_multipart(self.multipart()?, max),
            other => Err(Error::bad(format!("a form cannot be of type {other:?}"))),
        }
    }

    /// The parts of a form with files, streamed.
    pub fn multipart(&mut self) -> Result<Multipart<'_>> {
        let content_type = self.headers.get("content-type").unwrap_or_default();
        Multipart::new(content_type, &mut self.body)
    }

    /// Bytes of the body that are still to be read, where it is known.
    pub fn length(&self) -> Option<u64> {
        self.body.length()
    }

    /// Reads away so many bytes of the body, if the client sends them unasked.
    pub fn read_away(&mut self, bytes_max: u64) {
        self.body.read_away(bytes_max);
    }

    /// The decoded body.
    pub fn body(&mut self) -> &mut dyn Read {
        &mut self.body
    }

    /// The body itself, for the server.
    pub(super) fn body_mut(&mut self) -> &mut Body<'a> {
        &mut self.body
    }

    fn content_type(&self) -> Result<Value> {
        Value::parse(self.headers.get("content-type").unwrap_or_default())
    }
}
