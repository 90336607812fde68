//! SMTP: mail from anyone to our users (RFC 5321), and from our users to anyone (RFC 6409), durable before it is
//! acknowledged.
//!
//! # Listeners
//!
//! | in `[[smtp]]` | port by custom | for | TLS |
//! |---|---|---|---|
//! | `exchange` | 25 | anyone who has mail for our users | by STARTTLS, where a certificate is configured |
//! | `submission` | 587 | our users, after AUTH | by STARTTLS; before it no password is taken |
//! | `submissions` | 465 | our users, after AUTH | from the first octet (RFC 8314) |
//!
//! # Parts
//!
//! ```text
//! socket ──bytes──▶ input::Input ──lines──▶ session::Session ──▶ Action: reply, close, shake hands, check a
//!   (or TLS)             │                    (PURE)                password, look an address up, receive …
//!                        └─after DATA──▶ data::Decoder (PURE) ──▶ receipt::Receipt ─┬▶ mail::Incoming (mailboxes)
//!                          or BDAT                                                  └▶ mail::queue::Incoming
//! ```
//!
//! * [`command`]: one line of a client, parsed: verbs, paths; [`parameters`]: what stands behind them.
//! * [`auth`]: PLAIN and LOGIN. [`reply`]: one answer, with its code and enhanced code (RFC 3463).
//! * [`session`]: what a client may say when, and what it is answered. No socket, no clock, no store:
//!   golden scripts in `tests/smtp_session/` show whole conversations.
//! * [`data`]: the octets of a message: dots unstuffed, its end found; [`header`]: what is looked at of its header.
//! * [`receipt`]: a message on its way into mailboxes or the queue.
//! * [`talk`]: a session over its connection. [`server`]: listeners, and what sessions share.
//! * [`client`]: one message to another host. [`relay`]: the workers that take messages out of the queue, find the hosts
//!   for them, and tell senders what could not be delivered.
//!
//! # Rules
//!
//! 1. **250 after the message means durable** for every recipient (RFC 5321, 6.1): in each mailbox, or as one entry of the
//!    [`queue`](crate::mail::queue), which then delivers to our users too. When something cannot be written the answer is
//!    451 for all, and the client comes again: the delivery's id makes what was written the first time the only copies.
//! 2. **No relay, in no disguise.** A recipient is taken when its domain is ours and a user has the address, or when the
//!    client has proved to be one of our users; `%`, `!` and quoted `@` in a local part are letters like others, and source
//!    routes are cut off (RFC 5321, 4.1.1.3 and appendix C). Unknown users are refused at RCPT, never by a bounce.
//! 3. **Only CR LF ends a line** (RFC 5321, 2.3.8), and only CR LF `.` CR LF a message. A CR or LF alone is
//!    refused; in a message it also closes the session, since what follows may be smuggled.
//! 4. Answers come in the order of the commands, however they are packed (RFC 2920).
//! 5. Everything has a limit: see the constants here and `[[smtp]]` in the configuration.
//! 6. A user who is over the [`quota`](crate::quota), or would be with the SIZE that MAIL declared, is refused at RCPT: 452
//!    4.2.2, so that the sender tries again later. Who was taken there gets the message, even if it goes over.
//! 7. **Nobody submits as somebody else**: MAIL names an address of the user (553) or nobody, and the only From field holds
//!    addresses of the user and no others (550), as far as a parser can say; what it cannot read is refused.
//! 8. **STARTTLS forgets** what was said and what came behind it (RFC 3207, 4.2).
//! 9. **AUTH tells nothing**: an unknown name, a wrong password and a foreign identity cost the same and are answered the
//!    same; tries are counted for the account and for the address ([`throttle`](crate::account::throttle)). It is not
//!    offered in the clear, unless `auth_in_clear` says so.
//!
//! # Decisions
//!
//! * `<postmaster>`, alone or in our domain, goes to the user whom `cluster.postmaster` names (RFC 5321, 4.5.1).
//!   While there is no such user it is answered 450: mail that nobody can read is not taken, nor lost.
//! * A body line may be longer than 998 octets: it is kept as it came. Command lines are bounded.
//! * A message with more than one From field is refused: programs differ in which one they show.
//! * A submitted message gets the Date and Message-ID that it lacks, and nothing else is changed. What comes from outside
//!   is never touched.
//! * A message to our users alone goes into their mailboxes at once. One with a recipient elsewhere, or whose sender wants
//!   to hear of its arrival (RFC 3461), goes through the queue as a whole.
//! * DSN is offered to our users alone: a notice of success to whoever names a sender is a way to mail strangers. Success
//!   is passed on to hosts that know DSN; we report none ourselves, not of our own mailboxes either.
//! * Names in Received lines: `for` where there is one recipient, and the protocol by RFC 3848 and RFC 6531.
//!
//! # Threads
//!
//! One for each session; it holds one cell of a message at most, and the header of a submitted one. The relay has one that
//! looks for due messages and a fixed number of workers. One waits for the signal to end: then open messages are received,
//! answered and sent, for half a minute at most, and all else is answered 421. One reads the certificate again at SIGHUP.
//!
//! # Caveats
//!
//! * TLS is 1.2: `native-tls` accepts no 1.3.
//! * A message without a Message-ID that was stored for some recipients and not for others is stored again
//!   for those when the client repeats it: nothing says that it is the same.
//! * Forged Authentication-Results fields and Return-Path fields of earlier hosts stay where they are, below ours.
//! * A local part beyond ASCII is nobody's here: our users' names are ASCII.

pub mod auth;
pub mod client;
pub mod command;
pub mod data;
mod drain;
pub mod header;
mod input;
pub mod parameters;
mod receipt;
pub mod relay;
pub mod reply;
mod server;
pub mod session;
mod talk;

pub use server::run;

use std::time::Duration;

/// Octets of a command line with its end: 512 of RFC 5321, 4.5.3.1.4, and room for parameters.
pub const LINE_BYTES_MAX: usize = 2048;
/// Octets of a line where AUTH may be said (RFC 4954, 4), with its end.
pub const AUTH_LINE_BYTES_MAX: usize = 12_288 + 2;
/// Failed commands after which a session is closed with 421.
pub const ERRORS_MAX: usize = 20;
/// Wrong passwords after which a session is closed with 421.
pub const AUTH_ERRORS_MAX: usize = 5;
/// Received fields after which a message is taken to be in a loop (RFC 5321, 6.3).
pub const HOPS_MAX: usize = 50;
/// Octets of the header of a message that our users submit.
pub const HEADER_BYTES_MAX: usize = 100 << 10;
/// Longest session, whatever goes on in it.
pub const SESSION_TIME_MAX: Duration = Duration::from_secs(60 * 60);
