//! Connections, one thread each: read a head, let the application answer, send the answer.

use crate::config::{self, Scheme};
use crate::error::Result;
use crate::http::head::{Framing, Head, Version};
use crate::http::method::Method;
use crate::http::request::{Arrival, Request, RequestId};
use crate::http::response::Response;
use crate::http::send::{Ending, Manner, send};
use crate::http::status::{Refusal, reason};
use crate::http::wire::{Missing, Wire, linger};
use crate::net::{self, Channel, Stream, Tls};
use crossbeam::channel::{Sender, bounded};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Idle time of a kept connection when more than three quarters of all connections are in use.
const CROWDED_IDLE: Duration = Duration::from_secs(1);
/// Connections over the cap that wait for their last bytes to be read away; more are reset.
const REFUSED_MAX: usize = 64;
/// Time for the answer to a connection over the cap; under TLS, with the handshake.
const REFUSE_TIME: Duration = Duration::from_millis(100);
const REFUSE_TLS_TIME: Duration = Duration::from_secs(1);
/// Most time for a TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// What answers the requests of a listener.
pub trait App: Send + Sync + 'static {
    /// Answers a request; its body may be left unread.
    fn respond(&self, request: &mut Request<'_>) -> Response;

    /// The page for an error that the server itself found: 4xx for what it cannot read, 500 after a panic,
    /// 503 over the cap of connections.
    fn error(&self, status: u16, why: &str, id: RequestId) -> Response {
        Response::text(status, format!("{status} {}: {why}\nrequest {id}\n", reason(status)))
    }
}

/// Answers the requests of a listener for ever.
///
/// # Errors
/// The certificate cannot be used.
pub fn serve(listener: TcpListener, limits: &config::Http, app: Arc<dyn App>) -> Result<()> {
    let caps = net::Limits {
        connections: limits.connections_max,
        per_address: limits.connections_per_address_max,
    };
    let server = Arc::new(Server::new(limits.clone(), app)?);
    let refused = start_refusing(server.clone());
    let refusing = server.clone();
    net::serve(
        listener,
        caps,
        move |stream, peer| server.connection(stream, peer),
        move |stream| refusing.refuse(stream, &refused),
    );
    Ok(())
}

struct Server {
    app: Arc<dyn App>,
    limits: config::Http,
    tls: Option<Arc<Tls>>,
    open: AtomicUsize,
    requests: AtomicU64,
    /// Of the ids of requests.
    tag: u32,
}

/// A request whose head has been read, without its head.
struct Exchange {
    id: RequestId,
    manner: Manner,
    what: String,
    began: Instant,
}

impl Server {
    fn new(limits: config::Http, app: Arc<dyn App>) -> Result<Server> {
        let mut tag = [0; 4];
        getrandom::fill(&mut tag).expect("the operating system gives random bytes");
        let (open, requests) = (AtomicUsize::new(0), AtomicU64::new(0));
        let tls = match limits.scheme() {
            Scheme::Http => None,
            Scheme::Https => Some(Arc::new(Tls::load(&limits.tls_cert, &limits.tls_key)?)),
        };
        tls.as_ref().map_or(Ok(()), Tls::reload_on_hangup)?;
        Ok(Server { app, limits, tls, open, requests, tag: u32::from_le_bytes(tag) })
    }

    fn connection(&self, stream: Stream, peer: SocketAddr) {
        self.open.fetch_add(1, Ordering::Relaxed);
        let _leave = Leave(&self.open);
        match self.channel(stream.clone()) {
            Ok(channel) => {
                let mut wire = Wire::new(channel, self.limits.head_bytes_max);
                while self.exchange(&mut wire, peer) {}
            }
            Err(e) => {
                log::debug!("{peer} no TLS: {e}");
                self.refuse_in_the_clear(stream, &e);
            }
        }
    }

    /// Under TLS hands are shaken first: on the connection's own thread, so that a silent client holds up nobody.
    fn channel(&self, stream: Stream) -> io::Result<Channel> {
        let Some(tls) = &self.tls else { return Ok(Channel::Plain(stream)) };
        let within = HANDSHAKE_TIME.min(Duration::from_millis(self.limits.head_ms));
        stream.set_deadline(Some(Instant::now() + within));
        tls.accept(stream)
    }

    /// Whoever speaks something else than TLS is told so: it may be a browser that was given `http://`.
    fn refuse_in_the_clear(&self, stream: Stream, error: &io::Error) {
        if error.kind() == io::ErrorKind::InvalidData {
            let refusal = Refusal::bad("this port speaks TLS: the address begins with https://");
            let response = self.refusal(&refusal, self.next_id());
            if let Some(mut wire) = self.say_last(Channel::Plain(stream), response) {
                wire.linger();
            }
        }
    }

    /// One request and its answer; whether another may follow.
    fn exchange(&self, wire: &mut Wire, peer: SocketAddr) -> bool {
        let head = wire.head(self.idle(), Duration::from_millis(self.limits.head_ms));
        wire.begin_body(Duration::from_millis(self.limits.stall_ms));
        let id = self.next_id();
        let (response, exchange) = match head {
            Err(Missing::Nothing) => return false,
            Err(Missing::Refused(refusal)) => {
                (self.refusal(&refusal, id), Exchange::unread(id, peer, self.last_words()))
            }
            Ok(head) => {
                let mut exchange = Exchange::new(id, peer, &head, self.limits.scheme());
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
            return self.refusal(&Refusal::new(413, "the body is too large"), exchange.id);
        }
        let arrival = Arrival {
            peer,
            id: exchange.id,
            connections: self.open.load(Ordering::Relaxed),
            limits: &self.limits,
        };
        let mut request = Request::new(head, wire, arrival);
        let Some(response) = self.respond(&mut request) else {
            return self.error(500, "an error of the server itself", exchange.id);
        };
        let body = request.body_mut();
        body.settle();
        exchange.manner.keep_alive = keep_alive && body.is_over();
        match body.failed() {
            Some(refusal) => self.refusal(refusal, exchange.id),
            None => response,
        }
    }

    /// The application's answer; `None` when it panicked.
    fn respond(&self, request: &mut Request<'_>) -> Option<Response> {
        if request.path == "*" {
            return Some(Response::empty(204).with_header("Allow", Method::list(&Method::ALL)));
        }
        catch_unwind(AssertUnwindSafe(|| self.app.respond(request)))
            .inspect_err(|_| log::error!("request {} panicked", request.id))
            .ok()
    }

    fn refusal(&self, refusal: &Refusal, id: RequestId) -> Response {
        let response = self.error(refusal.status, refusal.why, id);
        match refusal.status {
            405 => response.with_header("Allow", Method::list(&Method::ALL)),
            _ => response,
        }
    }

    fn error(&self, status: u16, why: &str, id: RequestId) -> Response {
        catch_unwind(AssertUnwindSafe(|| self.app.error(status, why, id)))
            .unwrap_or_else(|_| Response::text(status, format!("{status} {why}\n")))
    }

    /// How long a kept connection may be silent.
    fn idle(&self) -> Duration {
        let idle = Duration::from_millis(self.limits.idle_ms);
        let crowded = self.open.load(Ordering::Relaxed) > self.limits.connections_max / 4 * 3;
        if crowded { idle.min(CROWDED_IDLE) } else { idle }
    }

    fn next_id(&self) -> RequestId {
        RequestId { tag: self.tag, number: self.requests.fetch_add(1, Ordering::Relaxed) }
    }

    /// Answers a connection over the cap, on the acceptor's thread; what takes longer is left to another.
    fn refuse(&self, stream: Stream, refused: &Sender<Stream>) {
        stream.set_deadline(Some(Instant::now() + REFUSE_TIME));
        if self.tls.is_none() {
            if self.say_full(Channel::Plain(stream.clone())).is_none() {
                return;
            }
            stream.close_write();
        }
        let _ = refused.try_send(stream);
    }

    /// Ends a connection over the cap, so that its 503 arrives.
    fn part(&self, stream: Stream) {
        let Some(tls) = &self.tls else { return linger(&mut Channel::Plain(stream)) };
        stream.set_deadline(Some(Instant::now() + REFUSE_TLS_TIME));
        let told = tls.accept(stream).ok().and_then(|channel| self.say_full(channel));
        if let Some(mut wire) = told {
            wire.linger();
        }
    }

    fn say_full(&self, channel: Channel) -> Option<Wire> {
        let response = self.error(503, "too many connections", self.next_id());
        self.say_last(channel, response.with_header("Retry-After", "1"))
    }

    /// Sends an answer to no request; `None` where it could not be sent.
    fn say_last(&self, channel: Channel, response: Response) -> Option<Wire> {
        let (manner, mut wire) = (self.last_words(), Wire::new(channel, 0));
        let ending = Ending::of(&response, manner.version);
        send(&mut wire, response, manner, ending).ok().map(|()| wire)
    }

    /// How an answer is sent to what is no request.
    fn last_words(&self) -> Manner {
        let scheme = self.limits.scheme();
        Manner { method: Method::Get, version: Version::Http11, scheme, keep_alive: false }
    }
}

impl Exchange {
    fn new(id: RequestId, peer: SocketAddr, head: &Head, scheme: Scheme) -> Exchange {
        let Head { method, version, keep_alive, .. } = *head;
        let what = match log::log_enabled!(log::Level::Debug) {
            true => format!("{peer} {method} {:?}", head.target.path),
            false => String::new(),
        };
        let manner = Manner { method, version, scheme, keep_alive };
        Exchange { id, manner, what, began: Instant::now() }
    }

    /// A request whose head could not be read.
    fn unread(id: RequestId, peer: SocketAddr, manner: Manner) -> Exchange {
        Exchange { id, manner, what: format!("{peer} unreadable"), began: Instant::now() }
    }

    /// Sends the response; whether another request may follow.
    fn finish(mut self, wire: &mut Wire, response: Response) -> bool {
        let status = response.status;
        let ending = Ending::of(&response, self.manner.version);
        let ends = response.header("connection") == Some("close") || ending == Ending::Close;
        self.manner.keep_alive &= !ends;
        let sent = send(wire, response, self.manner, ending);
        if log::log_enabled!(log::Level::Debug) {
            let (id, what, ms) = (self.id, &self.what, self.began.elapsed().as_millis());
            let cut = sent.as_ref().err().map_or(String::new(), |e| format!(", cut off: {e}"));
            log::debug!("{id} {what} {status} {ms} ms{cut}");
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
fn start_refusing(server: Arc<Server>) -> Sender<Stream> {
    let (sender, refused) = bounded::<Stream>(REFUSED_MAX);
    let work = move || refused.iter().for_each(|stream| server.part(stream));
    std::thread::Builder::new()
        .name("refuse".into())
        .spawn(work)
        .expect("a process can start one thread more");
    sender
}
