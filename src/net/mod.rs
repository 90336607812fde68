//! Sockets and threads: the only place that accepts or connects.
//!
//! * [`listen`]: the accept loop, one OS thread a connection, with a cap, a cap per address, and idle
//!   threads that wait a moment for the next connection; more than one cap for different uses.
//! * [`stream`]: a TCP stream with one *total* deadline instead of a time-out per read: a peer that sends
//!   a byte a second cannot hold a thread for ever.
//! * [`tls`]: connections under TLS, and the certificate of a listener.
//! * [`auth`]: the challenge and response with which a connection between processes begins.
//! * [`dns`]: where other mail hosts are.

pub mod auth;
pub mod dns;
pub mod listen;
pub mod stream;
pub mod tls;

pub use listen::{Crew, Limits, bind, serve, serve_crews, spawn, subscriber};
pub use stream::Stream;
pub use tls::{Channel, Tls};
