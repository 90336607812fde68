//! HTTP/1.1: the server, what handlers see of it, and a small client.
//!
//! ```text
//! connection ──▶ head ──▶ request ──▶ App ──▶ response ──▶ connection
//!   wire        head      request    router    response       send
//!               target    body       (handler)
//!               framing   chunked
//!                         form, multipart
//! ```
//!
//! # What a request goes through
//!
//! 1. [`net::serve`](crate::net::serve) accepts and gives the connection a thread. Over the caps the
//!    acceptor answers 503 itself. Where a certificate is configured, the thread shakes hands first
//!    ([`net::tls`](crate::net::tls)); SIGHUP reads the certificate again.
//! 2. [`head::Scan`] finds the end of the head while bytes come in and refuses at the first byte that breaks
//!    a rule; [`head::Head::parse`] judges the whole. `httparse` splits the fields and checks their
//!    characters; hosts, targets, framing, versions and expectations are judged here.
//! 3. The [`App`] gets a [`Request`]; a [`Router`] finds the handler. The body is read by the handler while it
//!    comes in: as bytes, as a [`Form`], or as a streamed [`Multipart`].
//! 4. What of the body nobody wanted is read away if it is short, so that the next request can follow.
//! 5. The [`Response`] (which [`conditional::answer`] cuts to what is wanted of a resource) leaves: head and
//!    small body in one write, larger ones in pieces of 64 KiB.
//!
//! Everything that judges bytes ([`head`], [`target`], [`chunked`], [`body`], [`params`], [`parts`]) is a machine
//! without sockets and clocks: the scripts in `tests/http/scripts` show what each does, whole and in pieces.
//!
//! # Rules
//!
//! Errors are of two kinds: *they* broke a rule, which is a [`status::Refusal`] with the status to say it with;
//! or *we* could not do what was asked, which is an [`Error`](crate::error::Error), and [`status_of`] is the one
//! place that gives it a status.
//!
//! * A message has one length. `Content-Length` is digits, once; `Transfer-Encoding` is `chunked`, once, in
//!   HTTP/1.1; both together, or anything else, is refused. HTTP/1.0 bodies need a `Content-Length` (411).
//! * Lines end in CRLF. A bare CR or LF, a control character, a folded line, a space before a colon is refused.
//! * One `Host`, one name or address. An absolute target overrules it.
//! * A path is decoded once, is UTF-8 and holds no control character and no `.` or `..` segment. An encoded `/`
//!   stays within its segment: routes are matched before decoding.
//! * Trailers are checked and dropped, chunk extensions are read away.
//! * `100 Continue` is sent when the body is first read, never before, never to HTTP/1.0.
//! * A body that is malformed, too slow or cut is answered by the server (400, 408, 413), whatever the
//!   handler made of it, and is malformed even where no handler reads it.
//! * After an error the connection ends. An unread rest of at most 64 KiB and 1 s is read away, after which the
//!   connection may go on; a longer one ends it, unless the handler has it read away. Before every close of ours
//!   the peer's last bytes (64 KiB, 1 s) are read away, because a reset would take the answer with it.
//! * A header value never starts another line. Framing fields, `Date` and `Connection` are the server's own.
//! * HEAD is GET without the body; only GET has ranges.
//! * Under TLS every cookie is `__Host-` and `Secure` ([`cookie`]), and every answer has `Strict-Transport-Security`;
//!   that counts for a whole host, so all listeners of a cluster are under TLS or none is.
//!
//! # Limits
//!
//! | what | how much | otherwise |
//! |---|---|---|
//! | connections; from one address | `http.connections_max`; `…_per_address_max` | 503 |
//! | head, target, fields | `http.head_bytes_max`; 8 KiB; 100 | 431, 414, 431 |
//! | form; upload | `http.form_bytes_max`, 1,000 fields; `http.upload_bytes_max` | 413 |
//! | part's head, name; parts | 8 KiB, 1 KiB; 1,000 | 413 |
//! | chunk's size line; trailers | 256 bytes; 4 KiB | 400, 431 |
//! | TLS handshake | 5 s, `http.head_ms` if that is less | closed |
//! | head, from its first byte | `http.head_ms` in all | 408 |
//! | form | `http.form_ms` in all | 408 |
//! | other bodies, and responses | 1 KiB/s, averaged over `http.stall_ms` of waiting | 408, cut |
//! | silence between requests | `http.idle_ms`, 1 s where it begins with three quarters of the connections taken | closed |
//!
//! All times are totals or rates, never times per read: a byte now and then does not hold a thread. A blocked read may
//! notice up to a 32nd of its time too late, which saves a system call a request.
//!
//! # Threads
//!
//! One a connection, which reads, answers and writes; one acceptor; one that reads away what refused
//! connections still send, and under TLS tells them first; one that waits for SIGHUP where there is a
//! certificate. Handlers run on the connection's thread. A panic there is a 500, and the thread and its place
//! under the cap are free again.
//!
//! An idle connection of a balancer costs 11 KiB of resident memory, and 17 KiB after a request, measured with 10,000 of
//! them in a release build (19 and 25 KiB in a debug build). Its buffer is 1 KiB until a longer head comes, the rest is the
//! thread's stack: what the deepest handler touched of it stays, so a frontend's may cost more.
//!
//! # Caveats
//!
//! * HTTP/1.1 and 1.0 alone; no upgrade, no compression, no response to several ranges.
//! * A multipart form has no preamble and no padding behind its boundaries; browsers send neither.
//! * A response of unknown length to HTTP/1.0 ends with the connection: such a client cannot tell a whole
//!   one from a cut one.
//! * A small answer on a kept connection costs about 1.4 times the processor time of a thread a connection that parses
//!   nothing (`penncloud bench http`): what is not the kernel's work is code that each request finds cold.
//! * TLS is 1.2: `native-tls` accepts no 1.3. Who speaks HTTP in the clear to its port gets a 400 that says so.
//! * The log names method, path and status at level `debug`, and neither query, cookie nor form.

pub mod body;
pub mod chunked;
pub mod client;
pub mod conditional;
pub mod cookie;
pub mod date;
pub mod form;
pub mod guard;
pub mod head;
pub mod headers;
pub mod method;
pub mod multipart;
pub mod pace;
pub mod params;
pub mod parts;
pub mod request;
pub mod response;
pub mod router;
mod send;
mod server;
pub mod status;
pub mod target;
mod transfer;
mod wire;

pub use form::Form;
pub use headers::Headers;
pub use method::Method;
pub use multipart::{Multipart, Part};
pub use request::{Request, RequestId};
pub use response::{Body, Response};
pub use router::{Handler, Routed, Router};
pub use server::{App, serve};
pub use status::status_of;
