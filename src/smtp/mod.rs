//! SMTP: mail from anyone to our users (RFC 5321), into their mailboxes before it is acknowledged; and mail from our
//! users to other hosts, out of the queue.
//!
//! # Parts
//!
//! ```text
//! socket ──bytes──▶ input::Input ──lines──▶ session::Session ──▶ Action: reply, look a recipient up,
//!                        │                    (PURE)                     receive a message, close
//!                        └─after DATA──▶ data::Decoder (PURE) ──▶ mail::Incoming (staged, exactly once)
//! ```
//!
//! * [`command`]: one line of a client, parsed: verbs, paths, parameters.
//! * [`reply`]: one answer, with its code and enhanced code (RFC 3463).
//! * [`session`]: what a client may say when, and what it is answered. No socket, no clock, no store:
//!   golden scripts in `tests/smtp_session/` show whole conversations.
//! * [`data`]: the message after DATA: dots unstuffed, its end found, header fields counted.
//! * [`server`]: the shell: sockets, time limits, the store.
//! * [`client`]: one message to another host. [`relay`]: the workers that take messages out of the queue, find the hosts
//!   for them, and tell senders what could not be delivered.
//!
//! # Rules
//!
//! 1. **250 after the dot means durable** in the mailbox of every recipient (RFC 5321, 6.1). When one of
//!    them cannot be written the answer is 451 for all, and the client comes again: the delivery's id makes the
//!    copies that were written the first time the only ones.
//! 2. **No relay, in no disguise.** A recipient is taken when its domain is ours and a user has the address;
//!    `%`, `!` and quoted `@` in a local part are letters like others, and source routes are cut off
//!    (RFC 5321, 4.1.1.3 and appendix C). Unknown users are refused at RCPT, never by a bounce.
//! 3. **Only CR LF ends a line** (RFC 5321, 2.3.8), and only CR LF `.` CR LF a message. A CR or LF alone is
//!    refused; in a message it also closes the session, since what follows may be smuggled.
//! 4. Answers come in the order of the commands, however they are packed (RFC 2920).
//! 5. Everything has a limit: see the constants here and `[[smtp]]` in the configuration.
//! 6. A user who is over the [`quota`](crate::quota), or would be with the SIZE that MAIL declared, is refused at RCPT: 452
//!    4.2.2, so that the sender tries again later. Who was taken there gets the message, even if it goes over.
//!
//! # Decisions
//!
//! * `<postmaster>`, alone or in our domain, goes to the user whom `cluster.postmaster` names (RFC 5321, 4.5.1).
//!   While there is no such user it is answered 450: mail that nobody can read is not taken, nor lost.
//! * A body line may be longer than 998 octets: it is kept as it came. Command lines are bounded.
//! * A message with more than one From field is refused: programs differ in which one they show.
//!
//! # Threads
//!
//! One for each session; it holds one cell of a message at most. The relay has one that looks for due messages and a fixed
//! number of workers. One waits for the signal to end: then open
//! messages are received, answered and sent, for half a minute at most, and all else is answered 421.
//!
//! # Caveats
//!
//! * The exchange listener only: no AUTH, no TLS, no submission. What leaves was composed on a page.
//! * A message without a Message-ID that was stored for some recipients and not for others is stored again
//!   for those when the client repeats it: nothing says that it is the same.

pub mod client;
pub mod command;
pub mod data;
mod drain;
mod input;
pub mod relay;
pub mod reply;
mod server;
pub mod session;

pub use server::run;

use std::time::Duration;

/// Octets of a command line with its end: 512 of RFC 5321, 4.5.3.1.4, and room for parameters.
pub const LINE_BYTES_MAX: usize = 2048;
/// Failed commands after which a session is closed with 421.
pub const ERRORS_MAX: usize = 20;
/// Received fields after which a message is taken to be in a loop (RFC 5321, 6.3).
pub const HOPS_MAX: usize = 100;
/// Sessions from one address at a time.
pub const SESSIONS_PER_ADDRESS: usize = 50;
/// Longest session, whatever goes on in it.
pub const SESSION_TIME_MAX: Duration = Duration::from_secs(60 * 60);
