//! Mail: addresses, messages, and the mailboxes in which they lie.
//!
//! # Where mail lies
//!
//! A mailbox is the row `<user>/mail`:
//!
//! | column | value |
//! |---|---|
//! | `folder/<id>` | JSON: name, special use, uidvalidity |
//! | `m/<folder>/<12 digits>` | an [`Entry`]: JSON of a few hundred bytes, written by APPEND, which numbers it |
//! | `count/<folder>/total`, `…/unread`, `…/bytes` | counters, changed by ADD in the BATCH that changes entries |
//! | `body/<guid>` | the message as it was received, byte for byte, below our trace lines |
//! | `typed/<guid>` | JSON: the address fields of a draft or of a sent message as they were typed. Blind recipients are never in the message |
//! | `outcome/<guid>` | JSON: how far each recipient of a sent message at another host is; for 30 days |
//! | `done/<delivery>` | this delivery was made; for 7 days |
//!
//! and `~address/<address in lower case>`, column `user`, says whose an address is (empty: its account was
//! deleted). The bytes of all messages are part of the counter `usage` in the row `<user>`, which the
//! [`quota`](crate::quota) bounds: a draft over it is not saved, and who is over it gets no mail. What was
//! accepted for somebody is delivered, even if it goes over.
//!
//! # Invariants
//!
//! 1. An entry has its body: both appear in one BATCH, and both go in one BATCH.
//! 2. A body has one entry: a move deletes the old entry and appends the new one in one BATCH.
//! 3. Counters equal a recount: whatever changes entries changes them in the same BATCH.
//! 4. A delivery happens once: `done/<delivery>` is written in its BATCH on the condition that it is not
//!    there, so a second try, by whomever, finds it ([`DeliveryId`]).
//! 5. Flags are merged, never overwritten: an entry is written over the version that was read, else it is
//!    read again.
//! 6. Nothing arrives where no mailbox is: the BATCH names the folder's cell that it finds.
//! 7. A body never changes. Saving a draft again writes a new body and removes the old one.
//!
//! # The parts
//!
//! * [`address`]: addresses of RFC 5321 and lists as people type them.
//! * [`message`]: reading messages. [`compose`]: writing them, attachments streamed.
//! * [`entry`]: what a list shows of a message. [`mailbox`]: folders, pages, flags, moves.
//! * [`staging`]: a message on its way in, written once and staged in each mailbox, in constant memory.
//! * [`delivery`]: exactly once into each mailbox. [`send`]: drafts, and mail between our users.
//! * [`queue`]: what leaves for other hosts, durable until each recipient has it or its sender knows.
//!
//! # Caveats
//!
//! * Recipients here get a composed message before the page is answered; only those of other hosts wait in the queue.
//! * A message is parsed in memory when it is read: up to [`mailbox::READ_BYTES_MAX`], and all of
//!   them in a process together up to a budget; who comes when it is used up waits. A file out of a message
//!   is in memory until it has been sent, within a budget of the same size.
//! * Of a message with hundreds of messages in it, or with an encoded one, only the head is parsed; the rest is
//!   shown as it came.
//! * A list knows of attachments from the first [`message::HEAD_BYTES_MAX`] of a message.

pub mod address;
mod budget;
pub mod compose;
pub mod delivery;
pub mod entry;
pub mod mailbox;
pub mod message;
mod nesting;
pub mod queue;
pub mod reply;
pub mod send;
mod staging;

pub use address::{Address, Contact};
pub use compose::{Composer, Outline};
pub use delivery::{Delivered, DeliveryId, Incoming};
pub use entry::{Entry, Flags, Folder, Held, Place, Tally};
pub use mailbox::Mailboxes;
pub use message::{Letter, Summary};
pub use queue::Queue;
pub use send::{Audience, DraftWriter, Recipient, Typed, Unreachable};
pub use staging::Body;
