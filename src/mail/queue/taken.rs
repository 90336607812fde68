//! A message in the hands of one worker, for as long as its lease is renewed.

use super::{Entry, Found, Lease, Place, Queue, column_of, now_ms};
use crate::client::{Op, ValueReader, Written};
use crate::error::{Error, Result};
use crate::mail::entry::body_column;

/// Leases after which a message is held: it may be what ended them.
pub const LAPSES_MAX: u32 = 5;

/// A message that nobody else works on. Every write is made on the condition that it is as this worker left it:
/// `Denied` says that the lease is lost, and whatever is under way must be dropped.
pub struct Taken {
    queue: Queue,
    place: Place,
    version: u64,
    node: String,
    lease_ms: u64,
    /// What is known of it; [`Taken::write`] makes changes durable.
    pub entry: Entry,
}

fn lost() -> Error {
    Error::Denied("another worker has this message now".into())
}

impl Queue {
    /// Takes a message for so many milliseconds. `None`: somebody else has it, it is held, or it is gone.
    pub fn take(&self, found: Found, node: &str, lease_ms: u64) -> Result<Option<Taken>> {
        let Found { place, version, mut entry } = found;
        if entry.is_leased(now_ms()) || entry.held.is_some() {
            return Ok(None);
        }
        if entry.lease.take().is_some() {
            entry.lapses += 1;
        }
        let (queue, node) = (self.clone(), node.to_string());
        let mut taken = Taken { queue, place, version, node, lease_ms, entry };
        let made = match taken.entry.lapses >= LAPSES_MAX {
            true => {
                let why = format!("{LAPSES_MAX} workers ended while they were sending it");
                taken.hold(why).map(|()| None)
            }
            false => taken.write().map(|()| Some(taken)),
        };
        match made {
            Err(Error::Denied(_)) => Ok(None),
            made => made,
        }
    }
}

impl Taken {
    /// Makes the entry durable as it is now, and renews the lease.
    pub fn write(&mut self) -> Result<()> {
        let until = now_ms() + self.lease_ms;
        self.entry.lease = Some(Lease { node: self.node.clone(), until });
        self.put()
    }

    /// Renews the lease when a third of it is over.
    pub fn renew_in_time(&mut self) -> Result<()> {
        let until = self.entry.lease.as_ref().map_or(0, |lease| lease.until);
        if until.saturating_sub(now_ms()) > self.lease_ms / 3 * 2 {
            return Ok(());
        }
        self.write()
    }

    fn put(&mut self) -> Result<()> {
        let (row, column) = (self.place.row(), self.place.column.as_str());
        let op = Op::put_if(row, column, self.entry.to_json(), self.version);
        match self.queue.mailboxes.client.write(op)? {
            Written::Done { version, .. } => {
                self.version = version;
                Ok(())
            }
            Written::Mismatch { .. } | Written::NotFound => Err(lost()),
        }
    }

    /// Its bytes from the first to the last.
    pub fn open_body(&self) -> Result<ValueReader> {
        let column = body_column(&self.entry.guid);
        let found = self.queue.mailboxes.client.open(self.place.row(), column, 0, None)?;
        found.ok_or_else(|| Error::corrupt("a queued message without a body"))
    }

    /// Gives it back, to be tried at a time: a new column and the end of the old one in one BATCH.
    pub fn reschedule(mut self, due: u64) -> Result<()> {
        self.entry.lease = None;
        self.entry.lapses = 0;
        let moved = self.place.due_at(due, &self.entry.guid);
        self.queue.replace(&self.place, self.version, &moved, &self.entry)
    }

    /// Takes it out of the queue with its body.
    pub fn finish(self) -> Result<()> {
        self.queue.remove(&self.place, self.version, &self.entry.guid)
    }

    /// Keeps it from being tried again, until somebody looks at it: no later try would go better.
    pub fn hold(mut self, why: String) -> Result<()> {
        log::error!("message {} is held: {why}", self.entry.guid);
        self.entry.lease = None;
        self.entry.held = Some(why);
        let held = self.place.due_at(super::NEVER, &self.entry.guid);
        self.queue.replace(&self.place, self.version, &held, &self.entry)
    }
}

impl Place {
    fn due_at(&self, due: u64, guid: &str) -> Place {
        Place { shard: self.shard, column: column_of(due, guid) }
    }
}

impl Queue {
    /// An entry at another time.
    pub(super) fn replace(
        &self,
        from: &Place,
        version: u64,
        to: &Place,
        entry: &Entry,
    ) -> Result<()> {
        let row = from.row();
        let ops = match from == to {
            true => vec![Op::put_if(row.as_str(), to.column.as_str(), entry.to_json(), version)],
            false => vec![
                Op::delete_if(row.as_str(), from.column.as_str(), version),
                Op::put_if(row.as_str(), to.column.as_str(), entry.to_json(), 0),
            ],
        };
        self.change(&row, ops)
    }

    /// An entry goes, and its body.
    pub(super) fn remove(&self, place: &Place, version: u64, guid: &str) -> Result<()> {
        let row = place.row();
        let ops = vec![
            Op::delete_if(row.as_str(), place.column.as_str(), version),
            Op::delete(row.as_str(), body_column(guid)),
        ];
        self.change(&row, ops)
    }

    fn change(&self, row: &str, ops: Vec<Op>) -> Result<()> {
        match self.mailboxes.client.batch(row, ops)? {
            Written::Done { .. } => Ok(()),
            Written::Mismatch { .. } | Written::NotFound => Err(lost()),
        }
    }
}
