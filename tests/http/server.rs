//! A server with a small application, on a free port.

use penncloud::config;
use penncloud::error::Result;
use penncloud::http::{self, App, Request, Response, Routed, Router, conditional};
use std::io::{Read, repeat};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// How long a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

struct Site {
    router: Router<()>,
}

impl App for Site {
    fn respond(&self, request: &mut Request<'_>) -> Response {
        match self.router.dispatch(&(), request) {
            Routed::Response(response) => response,
            Routed::Error(e) => Response::text(http::status_of(&e), e.to_string()),
            Routed::NotFound => {
                count(&(), request).unwrap_or_else(|e| Response::text(400, e.to_string()))
            }
            Routed::MethodNotAllowed(methods) => {
                Response::text(405, "no").with_header("Allow", http::Method::list(&methods))
            }
        }
    }
}

/// Anything else: says how long the body is.
fn count(_: &(), request: &mut Request<'_>) -> Result<Response> {
    let length = std::io::copy(request.body(), &mut std::io::sink())?;
    Ok(Response::text(200, format!("{} {} {length}", request.method, request.path)))
}

fn echo(_: &(), request: &mut Request<'_>) -> Result<Response> {
    let mut body = Vec::new();
    request.body().read_to_end(&mut body)?;
    Ok(Response::bytes(200, "application/octet-stream", body))
}

fn unread(_: &(), _: &mut Request<'_>) -> Result<Response> {
    Ok(Response::text(200, "unread"))
}

/// How many connections are open.
fn open(_: &(), request: &mut Request<'_>) -> Result<Response> {
    Ok(Response::text(200, request.connections.to_string()))
}

/// Promises more than it has.
fn short(_: &(), _: &mut Request<'_>) -> Result<Response> {
    Ok(Response::stream("text/plain", Some(10), Box::new(repeat(b'x').take(5))))
}

fn last(_: &(), _: &mut Request<'_>) -> Result<Response> {
    Ok(Response::text(200, "last").with_header("Connection", "close"))
}

fn panics(_: &(), _: &mut Request<'_>) -> Result<Response> {
    panic!("on purpose");
}

fn form(_: &(), request: &mut Request<'_>) -> Result<Response> {
    let form = request.form()?;
    let fields: Vec<String> = form.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Ok(Response::text(200, fields.join("\n")))
}

fn upload(_: &(), request: &mut Request<'_>) -> Result<Response> {
    let mut said = String::new();
    let mut parts = request.multipart()?;
    while let Some(mut part) = parts.next_part()? {
        let n = std::io::copy(&mut part, &mut std::io::sink())?;
        said += &format!("{} {:?} {n}\n", part.name, part.filename);
    }
    Ok(Response::text(200, said))
}

/// What one part of a form is, in words.
pub fn part_line(name: &str, filename: Option<&str>, bytes: &[u8]) -> String {
    format!("{name:?} {filename:?} {bytes:?}\n")
}

/// The parts of a form, byte for byte.
fn read_parts(_: &(), request: &mut Request<'_>) -> Result<Response> {
    let (mut said, mut parts) = (String::new(), request.multipart()?);
    while let Some(mut part) = parts.next_part()? {
        let mut bytes = Vec::new();
        part.read_to_end(&mut bytes)?;
        said += &part_line(&part.name, part.filename.as_deref(), &bytes);
    }
    Ok(Response::text(200, said))
}

/// Ten bytes that are known by their tag.
fn tagged(_: &(), request: &mut Request<'_>) -> Result<Response> {
    let digits = |range: std::ops::Range<u64>| {
        let part = &b"0123456789"[range.start as usize..range.end as usize];
        Ok(Some(Response::bytes(200, "text/plain", part.to_vec())))
    };
    Ok(conditional::answer(request, "\"tag\"", 10, digits)?.expect("it is there"))
}

/// The cookie `c`, and sets it.
fn bakes(_: &(), request: &mut Request<'_>) -> Result<Response> {
    let sent = request.cookie("c").unwrap_or("none").to_string();
    Ok(Response::text(200, sent).with_header("Set-Cookie", "c=1; Path=/"))
}

fn streamed(_: &(), request: &mut Request<'_>) -> Result<Response> {
    let size: u64 = request.param("size").parse().unwrap_or_default();
    let length = request.query("sized").map(|_| size);
    Ok(Response::stream("text/plain", length, Box::new(repeat(b'x').take(size))))
}

fn broken(_: &(), request: &mut Request<'_>) -> Result<Response> {
    let length = request.query("sized").map(|_| 1_000_000);
    let from = repeat(b'x').take(100_000).chain(Failing);
    Ok(Response::stream("text/plain", length, Box::new(from)))
}

struct Failing;

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("the store is gone"))
    }
}

/// Limits that a test need not wait long for, and that no test meets unasked.
pub fn limits() -> config::Http {
    config::Http { idle_ms: 20_000, head_ms: 20_000, ..config::Http::default() }
}

pub fn start(limits: config::Http) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound listener has an address");
    std::thread::spawn(move || serve(listener, limits).expect("good limits"));
    address
}

/// Serves for ever.
pub fn serve(listener: TcpListener, limits: config::Http) -> Result<()> {
    let router = Router::new()
        .post("/echo", echo)
        .post("/unread", unread)
        .get("/unread", unread)
        .get("/open", open)
        .get("/short", short)
        .get("/last", last)
        .get("/panic", panics)
        .post("/form", form)
        .post("/upload", upload)
        .post("/parts", read_parts)
        .get("/tagged", tagged)
        .get("/cookie", bakes)
        .get("/stream/:size", streamed)
        .get("/broken", broken);
    http::serve(listener, &limits, Arc::new(Site { router }))
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    stream.set_nodelay(true).expect("delay can be turned off");
    stream
}

/// The statuses of all answers; no body of ours looks like a status line.
pub fn statuses(answers: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(answers);
    let words = text.match_indices("HTTP/1.1 ").filter_map(|(at, _)| text.get(at + 9..at + 12));
    words.filter_map(|word| word.parse().ok()).collect()
}
