//! The queue of messages that leave: durable, and worked on by every smtp process.
//!
//! # Where it lies
//!
//! In 16 rows `~queue/00` to `~queue/15`, each an owner of its own, so that the load spreads over tablets and groups:
//!
//! | column | value |
//! |---|---|
//! | `<due>-<guid>` | an [`Entry`]: JSON. `due` is the time of the next try, 13 digits of milliseconds since 1970, so that a SCAN gives what is due first |
//! | `body/<guid>` | the message byte for byte, below our Received line: the queue's own copy, so that an author who deletes his loses nothing |
//! | `done/<delivery>` | the guid under which this was queued, for 7 days: a second try finds it |
//!
//! # The life of an entry
//!
//! ```text
//!           ┌────────────── reschedule (new column, old one deleted: one BATCH) ─────────────┐
//!           ▼                                                                                │
//! put ─▶ due ─▶ take (CPUT: lease) ─▶ [ recipient states, lease renewed ]* ──────────────────┤
//!           ▲        │ the lease ends: the next worker takes it, lapses + 1                  ▼
//!           │        ▼                                                                    finish (entry
//!        release ◀─ held (after five lapses, or by an operator)                           and body go)
//! ```
//!
//! # Invariants
//!
//! 1. An entry has its body: both appear in one BATCH, and both go in one BATCH.
//! 2. A message is queued once under one [`Identity`]: `done/…` is written in the same BATCH, if it is not there.
//! 3. One worker at a time: each write of an entry is made over the version that its writer wrote or read. Who lost
//!    the lease is refused at his next write, and renews before each step that takes long.
//! 4. What was heard of a recipient is durable before the next transaction begins: a worker that dies repeats one
//!    transaction at most.
//! 5. An entry goes only when every recipient has it or has failed, and each failure was told.
//!
//! # Parts
//!
//! * [`entry`]: what a cell says. [`schedule`]: when it is tried again (pure).
//! * [`incoming`]: into the queue. [`taken`]: in a worker's hands. [`orders`]: an operator's orders.
//! * [`outcome`]: what authors see of it.
//!
//! # Caveats
//!
//! * To the outside a message is sent at least once: a host that took it and whose reply was lost gets it again.
//! * Without a Message-ID nothing says that a message is the same: a client that repeats it queues it twice.
//! * Due times and leases use the clocks of the processes that write them: a clock that is ahead by more than a lease
//!   takes what another still has, whose next write is refused then.

pub mod entry;
pub mod incoming;
pub mod orders;
pub mod outcome;
pub mod schedule;
pub mod taken;

pub use entry::{Answer, Entry, Lease, Notify, Options, Origin, Recipient, Return, State};
pub use incoming::{Enqueued, Envelope, Identity, Incoming};
pub use orders::Order;
pub use outcome::Shown;
pub use schedule::Schedule;
pub use taken::{LAPSES_MAX, Taken};

use super::Mailboxes;
use crate::client::{Column, Scan};
use crate::error::Result;
use std::time::{SystemTime, UNIX_EPOCH};

/// Rows over which the queue is spread.
pub const SHARDS: u16 = 16;
/// Recipients of one entry: with the answers of all it is far from a cell's size.
pub const RECIPIENTS_MAX: usize = 1000;
/// Bytes of an entry that is read.
const ENTRY_BYTES_MAX: u64 = 2 << 20;
/// When what is held is due: after all else.
const NEVER: u64 = 9_999_999_999_999;
/// Digits of a time in a column.
const DUE_DIGITS: usize = 13;

/// The queue of the configured cluster. Cheap to clone; safe to share.
#[derive(Clone)]
pub struct Queue {
    mailboxes: Mailboxes,
}

/// Where an entry lies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Which of the rows.
    pub shard: u16,
    /// The column, `<due>-<guid>`.
    pub column: String,
}

/// An entry as it was read.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where it lies.
    pub place: Place,
    /// Version of its cell.
    pub version: u64,
    /// What it says.
    pub entry: Entry,
}

impl Place {
    /// The row.
    pub fn row(&self) -> String {
        shard_row(self.shard)
    }

    /// When it is due, in milliseconds since 1970.
    pub fn due(&self) -> u64 {
        self.column.get(..DUE_DIGITS).and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    /// Reads `<shard>/<due>-<guid>`, as a page names it.
    pub fn parse(text: &str) -> Option<Place> {
        let (shard, column) = text.split_once('/')?;
        let shard = shard.parse().ok().filter(|shard| *shard < SHARDS)?;
        is_entry(column.as_bytes()).then(|| Place { shard, column: column.into() })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:02}/{}", self.shard, self.column)
    }
}

impl Queue {
    /// The queue beside these mailboxes.
    pub fn new(mailboxes: Mailboxes) -> Queue {
        Queue { mailboxes }
    }

    /// The mailboxes of the same cluster.
    pub fn mailboxes(&self) -> &Mailboxes {
        &self.mailboxes
    }

    /// So many entries of a shard in the order in which they are due, after a column; and whether more follow.
    /// Damaged ones are left out and said in the log.
    pub fn list(
        &self,
        shard: u16,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Found>, bool)> {
        let (columns, more) = self.mailboxes.client.scan(Scan {
            row: shard_row(shard).into_bytes(),
            after: after.map(|column| column.as_bytes().to_vec()),
            limit,
            values: true,
            ..Scan::default()
        })?;
        let more = more && columns.last().is_some_and(|last| is_entry(&last.name));
        Ok((columns.iter().filter_map(|column| found(shard, column)).collect(), more))
    }

    /// One entry, if it is there.
    pub fn find(&self, place: &Place) -> Result<Option<Found>> {
        let cell = self.mailboxes.client.get(place.row(), &place.column, ENTRY_BYTES_MAX)?;
        let found = cell.map(|cell| {
            let entry = Entry::from_json(&cell.value)?;
            Ok(Found { place: place.clone(), version: cell.version, entry })
        });
        found.transpose()
    }
}

/// The entry of a column, if it is one.
fn found(shard: u16, cell: &Column) -> Option<Found> {
    let name =
        String::from_utf8(cell.name.clone()).ok().filter(|name| is_entry(name.as_bytes()))?;
    let place = Place { shard, column: name };
    match Entry::from_json(cell.value.as_deref().unwrap_or_default()) {
        Ok(entry) => Some(Found { place, version: cell.version, entry }),
        Err(error) => {
            log::error!("{place}: {error}");
            None
        }
    }
}

/// Whether a column is one of an entry: all others begin with a letter.
fn is_entry(column: &[u8]) -> bool {
    let digits = column.iter().take_while(|b| b.is_ascii_digit()).count();
    let guid = column.get(DUE_DIGITS + 1..).unwrap_or_default();
    digits == DUE_DIGITS
        && column.get(DUE_DIGITS) == Some(&b'-')
        && std::str::from_utf8(guid).is_ok_and(super::send::is_guid)
}

fn shard_row(shard: u16) -> String {
    format!("~queue/{shard:02}")
}

fn column_of(due: u64, guid: &str) -> String {
    format!("{due:013}-{guid}")
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_sort_by_time_and_before_all_others() {
        let guid = "0123456789abcdef0123456789abcdef";
        assert!(column_of(999, guid) < column_of(1_000_000_000_000, guid));
        assert!(column_of(now_ms(), guid).as_str() < "body/");
        let place = Place { shard: 3, column: column_of(77, guid) };
        assert_eq!(place.due(), 77);
        assert_eq!(Place::parse(&place.to_string()), Some(place));
    }

    #[test]
    fn places_are_read_strictly() {
        let guid = "0123456789abcdef0123456789abcdef";
        for bad in ["", "03", "16/0000000000077-", "03/body/x", &format!("16/0000000000077-{guid}")]
        {
            assert_eq!(Place::parse(bad), None, "{bad}");
        }
        assert_eq!(Place::parse(&format!("03/000000000077-{guid}")), None);
    }
}
