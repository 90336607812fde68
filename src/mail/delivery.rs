//! Delivery into mailboxes: exactly once each, whatever dies in between.

use super::Mailboxes;
use super::address::Address;
use super::entry::{Entry, Folder, row};
use super::mailbox::{Plan, mailbox_is_gone};
use super::message::{Summary, message_id_of, return_path};
use super::staging::{Body, Staging, Written};
use crate::client::{Op, Written as Outcome};
use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// How long a mailbox remembers that a delivery was made.
pub const DONE_SECONDS: u64 = 7 * 24 * 60 * 60;

/// Names a delivery into one mailbox: made once under this name, and found again by a second try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryId(String);

impl DeliveryId {
    /// The same sender, Message-ID and body (without trace lines) are the same delivery. Without a
    /// Message-ID two equal messages may be meant as two, so each is a delivery of its own.
    pub fn of_message(
        sender: Option<&Address>,
        message_id: Option<&str>,
        body_sha256: &[u8; 32],
    ) -> DeliveryId {
        let Some(message_id) = message_id else {
            return DeliveryId(uuid::Uuid::new_v4().simple().to_string());
        };
        let sender = sender.map_or_else(String::new, Address::to_string);
        DeliveryId::of(&[b"message", sender.as_bytes(), message_id.as_bytes(), body_sha256])
    }

    /// What one user composed under one guid is delivered once, however often it is sent.
    pub fn of_compose(author: &str, guid: &str) -> DeliveryId {
        DeliveryId::of(&[b"compose", author.as_bytes(), guid.as_bytes()])
    }

    /// The same for those at other hosts: with others among them it is another entry of the queue.
    pub fn of_compose_outside(author: &str, guid: &str, outside: &[Address]) -> DeliveryId {
        let outside: BTreeSet<String> = outside.iter().map(Address::to_string).collect();
        let mut parts: Vec<&[u8]> = vec![b"outside", author.as_bytes(), guid.as_bytes()];
        parts.extend(outside.iter().map(String::as_bytes));
        DeliveryId::of(&parts)
    }

    /// The copy in the author's Sent folder.
    pub fn of_sent_copy(author: &str, guid: &str) -> DeliveryId {
        DeliveryId::of(&[b"sent", author.as_bytes(), guid.as_bytes()])
    }

    /// What lies in the queue under one guid is delivered once to each user.
    pub fn of_queued(guid: &str) -> DeliveryId {
        DeliveryId::of(&[b"queued", guid.as_bytes()])
    }

    /// What the sender of a queued message is told about some of its recipients.
    pub fn of_report(
        guid: &str,
        kind: &str,
        recipients: impl Iterator<Item = String>,
    ) -> DeliveryId {
        let recipients: Vec<String> = recipients.collect();
        let mut parts: Vec<&[u8]> = vec![b"report", guid.as_bytes(), kind.as_bytes()];
        parts.extend(recipients.iter().map(String::as_bytes));
        DeliveryId::of(&parts)
    }

    /// Its name: 32 or 64 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// One of so many shards, the same for the same id.
    pub(super) fn shard(&self, shards: u16) -> u16 {
        let digits = self.0.get(..4).and_then(|digits| u16::from_str_radix(digits, 16).ok());
        digits.unwrap_or(0) % shards
    }

    /// Whatever is named by these parts.
    pub(super) fn of(parts: &[&[u8]]) -> DeliveryId {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        DeliveryId(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    pub(super) fn column(&self) -> String {
        format!("done/{}", self.0)
    }

    /// The write that only the first try can make.
    pub(super) fn op(&self, row: &str, guid: &str) -> Op {
        Op::put_if(row, self.column(), guid, 0).with_ttl(DONE_SECONDS)
    }
}

/// What a delivery came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// It is in the mailbox now.
    Stored,
    /// An earlier try had put it there.
    AlreadyThere,
}

/// A message that is coming in for one or several users. Memory is one cell, whatever its size.
///
/// [`Incoming::trace`] first, then [`Incoming::add`], then [`Incoming::deliver`]. Dropped before, it
/// leaves nothing behind.
pub struct Incoming {
    staging: Staging,
    sender: Option<Address>,
}

impl Mailboxes {
    /// Begins a message from `sender` (none: the null path) for these users, of at most so many bytes.
    /// A user who is named twice gets it once. Its first line is Return-Path.
    pub fn incoming(
        &self,
        sender: Option<Address>,
        users: impl IntoIterator<Item = String>,
        bytes_max: u64,
    ) -> Result<Incoming> {
        let users: BTreeSet<String> = users.into_iter().collect();
        let mut staging = Staging::new(self, users.into_iter().collect(), bytes_max);
        staging.add_unhashed(return_path(sender.as_ref()).as_bytes())?;
        Ok(Incoming { staging, sender })
    }

    /// Puts a message into a user's folder, unless this delivery was made before. One BATCH. `Retry` where the
    /// mailbox is gone.
    pub fn deliver(
        &self,
        user: &str,
        id: &DeliveryId,
        folder: Folder,
        entry: &Entry,
        body: &Body,
    ) -> Result<Delivered> {
        let row = row(user);
        let mut plan = Plan::new(user);
        plan.push(id.op(&row, &entry.guid));
        let made = self.unchanged_folder(user, folder).and_then(|unchanged| {
            plan.push(unchanged);
            plan.push(body.op(&row, &entry.guid));
            plan.arrive(folder, entry);
            self.client.batch(user, plan.into_ops())
        });
        let body_is_spare = match &made {
            Ok(outcome) => !matches!(outcome, Outcome::Done { .. }),
            Err(error) => error.is_definite(),
        };
        if body_is_spare {
            self.abandon(user, body);
        }
        match made? {
            Outcome::Done { .. } => Ok(Delivered::Stored),
            Outcome::Mismatch { at: 0, .. } => Ok(Delivered::AlreadyThere),
            Outcome::Mismatch { at: 1, .. } => Err(mailbox_is_gone()),
            other => Err(Error::corrupt(format!("a delivery was answered {other:?}"))),
        }
    }
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

    /// Puts it into every user's inbox, and says for each what came of it. `Err` alone: nobody has it.
    pub fn deliver(self) -> Result<Vec<(String, Result<Delivered>)>> {
        let sender = self.sender.clone();
        self.deliver_by(|written| {
            let message_id = message_id_of(&written.head);
            DeliveryId::of_message(sender.as_ref(), message_id.as_deref(), &written.hash)
        })
    }

    /// The same under an id that is known before.
    pub fn deliver_as(self, id: DeliveryId) -> Result<Vec<(String, Result<Delivered>)>> {
        self.deliver_by(|_| id)
    }

    fn deliver_by(
        self,
        id: impl FnOnce(&Written) -> DeliveryId,
    ) -> Result<Vec<(String, Result<Delivered>)>> {
        let mailboxes = self.staging.mailboxes().clone();
        let size = self.staging.len();
        let written = self.staging.finish()?;
        let id = id(&written);
        let guid = uuid::Uuid::now_v7().simple().to_string();
        let entry = Entry::new(&guid, size, Summary::of(&written.head));
        let deliver = |user: &str, body: Result<Body>| {
            mailboxes.deliver(user, &id, Folder::Inbox, &entry, &body?)
        };
        Ok(written
            .staged
            .into_iter()
            .map(|one| {
                let outcome = deliver(&one.user, one.body);
                (one.user, outcome)
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(sender: &str, message_id: Option<&str>, body: u8) -> DeliveryId {
        let sender = Address::parse(sender).unwrap();
        DeliveryId::of_message(Some(&sender), message_id, &[body; 32])
    }

    #[test]
    fn the_same_message_is_the_same_delivery() {
        let first = id("a@x.org", Some("1@x"), 1);
        assert_eq!(first, id("a@x.org", Some("1@x"), 1));
        assert_ne!(first, id("b@x.org", Some("1@x"), 1));
        assert_ne!(first, id("a@x.org", Some("2@x"), 1));
        assert_ne!(first, id("a@x.org", Some("1@x"), 2));
        assert_ne!(first, DeliveryId::of_message(None, Some("1@x"), &[1; 32]));
    }

    #[test]
    fn without_a_message_id_every_delivery_is_another() {
        assert_ne!(id("a@x.org", None, 1), id("a@x.org", None, 1));
    }

    #[test]
    fn what_is_composed_is_its_authors_own() {
        assert_eq!(DeliveryId::of_compose("a", "g"), DeliveryId::of_compose("a", "g"));
        assert_ne!(DeliveryId::of_compose("a", "g"), DeliveryId::of_compose("b", "g"));
        assert_ne!(DeliveryId::of_compose("a", "bg"), DeliveryId::of_compose("ab", "g"));
        assert_ne!(DeliveryId::of_compose("a", "g"), DeliveryId::of_sent_copy("a", "g"));
    }
}
