//! A message on its way into the queue: its body in constant memory, then all of it in one BATCH.

use super::{
    Entry, Options, Origin, Queue, RECIPIENTS_MAX, Recipient, column_of, now_ms, shard_row,
};
use crate::client::Written as Outcome;
use crate::error::{Error, Result};
use crate::mail::Address;
use crate::mail::delivery::DeliveryId;
use crate::mail::message::message_id_of;
use crate::mail::staging::{Body, Staging, Written};
use std::collections::HashSet;

/// Who sends what to whom.
#[derive(Clone, Debug, Default)]
pub struct Envelope {
    /// The sender; `None` is the null path.
    pub sender: Option<Address>,
    /// The recipients.
    pub recipients: Vec<Recipient>,
    /// What the sender asked for.
    pub options: Options,
    /// What it is the outgoing copy of.
    pub origin: Option<Origin>,
}

/// What makes a second try the same message.
#[derive(Clone, Debug)]
pub enum Identity {
    /// The envelope, the Message-ID and the body without trace lines.
    OfMessage,
    /// A name that is known before.
    Known(DeliveryId),
}

/// What queueing came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// It is in the queue now, under this guid.
    Stored(String),
    /// An earlier try had put it there, under this guid; it may have left since.
    AlreadyThere(String),
}

/// A message that is coming in. [`Incoming::trace`] first, then [`Incoming::add`], then [`Incoming::enqueue`].
/// Dropped before, it leaves nothing behind.
pub struct Incoming {
    queue: Queue,
    staging: Staging,
    row: String,
    envelope: Envelope,
    identity: Identity,
}

impl Queue {
    /// Begins a message of at most so many bytes. A recipient who is named twice gets it once.
    pub fn incoming(
        &self,
        mut envelope: Envelope,
        identity: Identity,
        bytes_max: u64,
    ) -> Result<Incoming> {
        let mut seen = HashSet::new();
        envelope.recipients.retain(|recipient| seen.insert(recipient.address.to_string()));
        if envelope.recipients.is_empty() {
            return Err(Error::bad("a message without recipients"));
        }
        if envelope.recipients.len() > RECIPIENTS_MAX {
            return Err(Error::TooBig(format!("at most {RECIPIENTS_MAX} recipients")));
        }
        let place = match &identity {
            Identity::Known(id) => id.clone(),
            Identity::OfMessage => of_envelope(&envelope, &[]),
        };
        let row = shard_row(place.shard(super::SHARDS));
        let staging = Staging::for_row(&self.mailboxes, row.clone(), bytes_max);
        Ok(Incoming { queue: self.clone(), staging, row, envelope, identity })
    }
}

/// The name of an envelope and further parts.
fn of_envelope(envelope: &Envelope, more: &[&[u8]]) -> DeliveryId {
    let mut recipients: Vec<String> =
        envelope.recipients.iter().map(|r| r.address.to_string()).collect();
    recipients.sort_unstable();
    let sender = envelope.sender.as_ref().map_or_else(String::new, Address::to_string);
    let mut parts: Vec<&[u8]> = vec![b"queue", sender.as_bytes()];
    parts.extend(recipients.iter().map(String::as_bytes));
    parts.extend(more);
    DeliveryId::of(&parts)
}

impl Incoming {
    /// Adds trace lines: they stand above the message and do not make it another one.
    pub fn trace(&mut self, lines: &str) -> Result<()> {
        self.staging.add_unhashed(lines.as_bytes())
    }

    /// Adds bytes of the message as they came. More than the limit is `TooBig`, for every later call too.
    pub fn add(&mut self, bytes: &[u8]) -> Result<()> {
        self.staging.add(bytes)
    }

    /// Puts it into the queue, to be tried at a time (milliseconds since 1970; one that is over: at once) for
    /// so many milliseconds. After `Ok` it is durable, and there once, however often this was tried.
    pub fn enqueue(self, due: u64, life_ms: u64) -> Result<Enqueued> {
        let Incoming { queue, staging, row, envelope, identity } = self;
        let size = staging.len();
        let mut written = staging.finish()?;
        let id = identity_of(identity, &envelope, &written);
        let staged = written.staged.pop().ok_or_else(|| Error::corrupt("a message for no row"))?;
        let body = staged.body?;
        let guid = uuid::Uuid::now_v7().simple().to_string();
        let queued = now_ms();
        let Envelope { sender, recipients, options, origin } = envelope;
        let expires = queued.max(due) + life_ms;
        let entry = Entry {
            guid,
            sender,
            recipients,
            size,
            queued,
            expires,
            tries: 0,
            lapses: 0,
            held: None,
            late: false,
            options,
            lease: None,
            origin,
        };
        queue.put(&row, &id, due.max(queued), &entry, &body)
    }
}

fn identity_of(identity: Identity, envelope: &Envelope, written: &Written) -> DeliveryId {
    match (identity, message_id_of(&written.head)) {
        (Identity::Known(id), _) => id,
        (Identity::OfMessage, Some(mid)) => of_envelope(envelope, &[mid.as_bytes(), &written.hash]),
        (Identity::OfMessage, None) => DeliveryId::of_message(None, None, &written.hash),
    }
}

impl Queue {
    fn put(
        &self,
        row: &str,
        id: &DeliveryId,
        due: u64,
        entry: &Entry,
        body: &Body,
    ) -> Result<Enqueued> {
        use crate::client::Op;
        let guid = entry.guid.clone();
        let ops = vec![
            id.op(row, &guid),
            body.op(row, &guid),
            Op::put_if(row, column_of(due, &guid), entry.to_json(), 0),
        ];
        let made = self.mailboxes.client.batch(row, ops);
        let is_spare = match &made {
            Ok(outcome) => !matches!(outcome, Outcome::Done { .. }),
            Err(error) => error.is_definite(),
        };
        if is_spare {
            self.mailboxes.abandon_in(row, body);
        }
        match made? {
            Outcome::Done { .. } => Ok(Enqueued::Stored(guid)),
            Outcome::Mismatch { at: 0, .. } => Ok(Enqueued::AlreadyThere(self.earlier(row, id)?)),
            other => Err(Error::corrupt(format!("queueing was answered {other:?}"))),
        }
    }

    /// The guid under which an earlier try was queued.
    fn earlier(&self, row: &str, id: &DeliveryId) -> Result<String> {
        let found = self.mailboxes.client.get(row, id.column(), 1 << 10)?;
        Ok(found.map_or_else(String::new, |f| String::from_utf8_lossy(&f.value).into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(to: &[&str]) -> Envelope {
        let recipient = |text: &&str| Recipient::new(Address::parse(text).unwrap());
        Envelope { recipients: to.iter().map(recipient).collect(), ..Envelope::default() }
    }

    #[test]
    fn an_envelope_is_the_same_in_any_order_and_another_with_other_people() {
        let both = of_envelope(&envelope(&["a@x.org", "b@x.org"]), &[]);
        assert_eq!(both, of_envelope(&envelope(&["b@x.org", "a@x.org"]), &[]));
        assert_ne!(both, of_envelope(&envelope(&["a@x.org"]), &[]));
        assert_ne!(both, of_envelope(&envelope(&["a@x.org", "b@x.org"]), &[b"m"]));
    }
}
