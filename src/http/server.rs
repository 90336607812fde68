//! Connections, one thread each: read a head, let the application answer, send the answer.

use crate::config;
use crate::http::head::{Framing, Head, Version};
use crate::http::method::Method;
use crate::http::request::{Arrival, Request};
use crate::http::response::Response;
use crate::http::send::{Ending, Manner, send};
use crate::http::status::{Refusal, reason};
use crate::http::wire::{Missing, Wire, linger};
use crate::net::{self, Stream};
use crossbeam::channel::{Sender, bounded};
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Idle time of a kept connection when more than three quarters of all connections are in use.
const CROWDED_IDLE: Duration = Duration::from_secs(1);
/// Connections over the cap that wait for their last bytes to be read away; more are reset.
const REFUSED_MAX: usize = 64;
/// Time for the answer to a connection over the cap.
const REFUSE_TIME: Duration = Duration::from_millis(100);

/// What answers the requests of a listener.
pub trait App: Send + Sync + 'static {
    /// Answers a request; its body may be left unread.
    fn respond(&self, request: &mut Request<'_>) -> Response;

    /// The page for an error that the server itself found: 4xx for what it cannot read, 500 after a panic,
    /// 503 over the cap of connections.
    fn error(&self, status: u16, why: &str, id: &str) -> Response {
        Response::text(status, format!("{status} {}: {why}\nrequest {id}\n", reason(status)))
    }
}

/// Answers the requests of a listener for ever.
pub fn serve(listener: TcpListener, limits: &config::Http, app: Arc<dyn App>) {
    let caps = net::Limits {
        connections: limits.connections_max,
        per_address: limits.connections_per_address_max,
    };
    let server = Arc::new(Server::new(limits.clone(), app));
    let refused = start_refusing();
    let refusing = server.clone();
    net::serve(
        listener,
        caps,
        move |stream, peer| server.connection(stream, peer),
        move |stream| refusing.refuse(stream, &refused),
    );
}

struct Server {
    app: Arc<dyn App>,
    limits: config::Http,
    open: AtomicUsize,
    requests: AtomicU64,
    /// Makes the request ids of two processes differ.
    tag: u32,
}

/// A request whose head has been read, without its head.
struct Exchange {
    id: String,
    manner: Manner,
    what: String,
    began: Instant,
}

impl Server {
    fn new(limits: config::Http, app: Arc<dyn App>) -> Server {
        let mut tag = [0; 4];
        getrandom::fill(&mut tag).expect("the operating system gives random bytes");
        let (open, requests) = (AtomicUsize::new(0), AtomicU64::new(0));
        Server { app, limits, open, requests, tag: u32::from_le_bytes(tag) }
    }

    fn connection(&self, stream: Stream, peer: SocketAddr) {
        self.open.fetch_add(1, Ordering::Relaxed);
        let _leave = Leave(&self.open);
        let mut wire = Wire::new(stream, self.limits.head_bytes_max);
        while self.exchange(&mut wire, peer) {}
    }

    /// One request and its answer; whether another may follow.
    fn exchange(&self, wire: &mut Wire, peer: SocketAddr) -> bool {
        let head = wire.head(self.idle(), Duration::from_millis(self.limits.head_ms));
        wire.begin_body(Duration::from_millis(self.limits.stall_ms));
        let id = self.next_id();
        let (response, exchange) = match head {
            Err(Missing::Nothing) => return false,
            Err(Missing::Refused(refusal)) => {
                (self.refusal(&refusal, &id), Exchange::unread(id, peer))
            }
            Ok(head) => {
                let mut exchange = Exchange::new(id, peer, &head);
                (self.answer(wire, peer, head, &mut exchange), exchange)
            }
        };
        wire.begin_body(Duration::from_millis(self.limits.stall_ms));
        exchange.finish(wire, response)
    }

    fn answer(
        &self,
        wire: &mut Wire,
        peer: SocketAddr,
        head: Head,
        exchange: &mut Exchange,
    ) -> Response {
        let keep_alive = std::mem::take(&mut exchange.manner.keep_alive);
        if matches!(head.framing, Framing::Length(n) if n > self.limits.upload_bytes_max) {
            return self.refusal(&Refusal::new(413, "the body is too large"), &exchange.id);
        }
        let arrival = Arrival {
            peer,
            id: exchange.id.clone(),
            connections: self.open.load(Ordering::Relaxed),
            limits: &self.limits,
        };
        let mut request = Request::new(head, wire, arrival);
        let Some(response) = self.respond(&mut request) else {
            return self.error(500, "an error of the server itself", &exchange.id);
        };
        let body = request.body_mut();
        body.settle();
        exchange.manner.keep_alive = keep_alive && body.is_over();
        match body.failed() {
            Some(refusal) => self.refusal(refusal, &exchange.id),
            None => response,
        }
    }

    /// The application's answer; `None` when it panicked.
    fn respond(&self, request: &mut Request<'_>) -> Option<Response> {
        if request.path == "*" {
            return Some(Response::empty(204).with_header("Allow", &Method::list(&Method::ALL)));
        }
        catch_unwind(AssertUnwindSafe(|| self.app.respond(request)))
            .inspect_err(|_| log::error!("request {} panicked", request.id))
            .ok()
    }

    fn refusal(&self, refusal: &Refusal, id: &str) -> Response {
        let response = self.error(refusal.status, refusal.why, id);
        match refusal.status {
            405 => response.with_header("Allow", &Method::list(&Method::ALL)),
            _ => response,
        }
    }

    fn error(&self, status: u16, why: &str, id: &str) -> Response {
        catch_unwind(AssertUnwindSafe(|| self.app.error(status, why, id)))
            .unwrap_or_else(|_| Response::text(status, format!("{status} {why}\n")))
    }

    /// How long a kept connection may be silent.
    fn idle(&self) -> Duration {
        let idle = Duration::from_millis(self.limits.idle_ms);
        let crowded = self.open.load(Ordering::Relaxed) > self.limits.connections_max / 4 * 3;
        if crowded { idle.min(CROWDED_IDLE) } else { idle }
    }

    fn next_id(&self) -> String {
        format!("{:08x}-{:x}", self.tag, self.requests.fetch_add(1, Ordering::Relaxed))
    }

    /// Answers a connection over the cap, on the acceptor's thread.
    fn refuse(&self, stream: Stream, refused: &Sender<Stream>) {
        stream.set_deadline(Some(Instant::now() + REFUSE_TIME));
        let response = self.error(503, "too many connections", &self.next_id());
        let response = response.with_header("Retry-After", "1");
        let manner = Manner { method: Method::Get, version: Version::Http11, keep_alive: false };
        let ending = Ending::of(&response, manner.version);
        let mut wire = Wire::new(stream.clone(), 0);
        if send(&mut wire, response, manner, ending).is_ok() {
            stream.close_write();
            let _ = refused.try_send(stream);
        }
    }
}

impl Exchange {
    fn new(id: String, peer: SocketAddr, head: &Head) -> Exchange {
        let Head { method, version, keep_alive, .. } = *head;
        let what = format!("{peer} {method} {:?}", head.target.path);
        Exchange { id, manner: Manner { method, version, keep_alive }, what, began: Instant::now() }
    }

    /// A request whose head could not be read.
    fn unread(id: String, peer: SocketAddr) -> Exchange {
        let manner = Manner { method: Method::Get, version: Version::Http11, keep_alive: false };
        Exchange { id, manner, what: format!("{peer} unreadable"), began: Instant::now() }
    }

    /// Sends the response; whether another request may follow.
    fn finish(mut self, wire: &mut Wire, response: Response) -> bool {
        let status = response.status;
        let ending = Ending::of(&response, self.manner.version);
        let ends = response.header("connection") == Some("close") || ending == Ending::Close;
        self.manner.keep_alive &= !ends;
        let sent = send(wire, response, self.manner, ending);
        let (id, what, ms) = (&self.id, &self.what, self.began.elapsed().as_millis());
        match &sent {
            Ok(()) => log::debug!("{id} {what} {status} {ms} ms"),
            Err(e) => log::debug!("{id} {what} {status} {ms} ms, cut off: {e}"),
        }
        if sent.is_ok() && !self.manner.keep_alive {
            wire.linger();
        }
        sent.is_ok() && self.manner.keep_alive
    }
}

/// Counts a connection out, even past a panic.
struct Leave<'a>(&'a AtomicUsize);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Starts the thread that reads away what refused connections still send, so that their 503 arrives.
fn start_refusing() -> Sender<Stream> {
    let (sender, refused) = bounded::<Stream>(REFUSED_MAX);
    let work = move || refused.iter().for_each(|mut stream| linger(&mut stream));
    std::thread::Builder::new()
        .name("refuse".into())
        .spawn(work)
        .expect("a process can start one thread more");
    sender
}
