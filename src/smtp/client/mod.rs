//! The SMTP client: one message to some recipients through one host (RFC 5321).
//!
//! ```text
//! socket ──octets──▶ answer::Reader ──reply──▶ machine::Machine ──▶ Action: send, shake hands,
//!                       (PURE)                   (PURE)                     send the body, close
//! body of the store ──▶ stuff::Stuffer (PURE) ──▶ socket
//! ```
//!
//! * [`command`]: what we say, and what hosts offer. [`answer`]: what they reply, within limits.
//! * [`machine`]: what is said when, and what a reply means for each recipient. Golden scripts in `tests/smtp_client/`
//!   show whole conversations.
//! * [`stuff`]: the message on the wire. [`talk`]: the shell: a connection, its time limits.
//!
//! # Rules
//!
//! 1. **The first digit decides** (RFC 5321, 4.2.1), and each recipient has a result of its own: one who is refused
//!    keeps the message from no other.
//! 2. **Not now, unless it is said for ever.** A lost connection, a time-out, a reply that is none, a digit that makes no
//!    sense: the message is tried again. So is one whose connection broke after the dot: it may arrive twice, never not
//!    at all.
//! 3. A host that refuses the session (greeting, EHLO and HELO, AUTH) has said nothing of the message: the next host is
//!    asked, or the same one later.
//! 4. **TLS where it is offered**, with any certificate, as is the custom between mail hosts; where the handshake fails,
//!    once more in the clear on a new connection. What came in the clear after STARTTLS is forgotten. With a name to
//!    sign in, never without TLS, nor with a certificate that nobody vouches for.
//! 5. Commands are sent together only where the host offers it (RFC 2920).
//! 6. Lines end with CR LF and have 998 octets at most: a CR or LF alone becomes CR LF, a longer line is folded.
//!
//! # Decisions
//!
//! * A message with octets beyond ASCII goes to a host without 8BITMIME as it is: hosts that mind are rare, and a
//!   conversion would break its signatures.
//! * 552 to RCPT is taken as 452 (RFC 5321, 4.5.3.1.10).
//! * One transaction a connection.

pub mod answer;
pub mod command;
pub mod machine;
pub mod stuff;
mod talk;

pub use command::{Login, Order};
pub use machine::{Action, Machine, Outcome, Secrecy, Wait};
pub use talk::{Ended, Patience, Session, Target};
