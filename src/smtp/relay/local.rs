//! Recipients of our own domain.

use super::Relay;
use crate::error::{Error, Result};
use crate::mail::message::received;
use crate::mail::queue::{Answer, Taken, now_ms};
use crate::mail::{Address, DeliveryId};
use crate::smtp::client::Outcome;
use std::cell::RefCell;
use std::io::Read;

/// Trace lines that delivery puts above a message.
const TRACE_BYTES_MAX: u64 = 4 << 10;
/// Bytes of a message in memory at a time.
const PIECE_BYTES: usize = 64 << 10;

impl Relay {
    /// Whether an address is for us to deliver.
    pub(super) fn is_here(&self, address: &Address) -> bool {
        self.queue.mailboxes().is_local(address)
    }

    /// Delivers to everybody here who is due, and makes durable what it came to.
    pub(super) fn deliver_here(&self, taken: &RefCell<Taken>, now: u64) -> Result<()> {
        let due: Vec<(usize, Address)> = {
            let taken = taken.borrow();
            let recipients = taken.entry.recipients.iter().enumerate();
            let due = recipients.filter(|(_, r)| r.is_due(now) && self.is_here(&r.address));
            due.map(|(n, recipient)| (n, recipient.address.clone())).collect()
        };
        for (n, address) in due {
            let outcome = self.deliver_to(taken, &address)?;
            let mut taken = taken.borrow_mut();
            self.note(&mut taken, n, outcome);
            taken.write()?;
            self.show(&taken);
        }
        Ok(())
    }

    /// What the store refuses for now is put off; a lost lease is an error.
    fn deliver_to(&self, taken: &RefCell<Taken>, address: &Address) -> Result<Outcome> {
        let user = match self.queue.mailboxes().resolve(address) {
            Ok(Some(user)) => user,
            Ok(None) => {
                let answer = Answer::of_ours("5.1.1", "there is no such mailbox");
                return Ok(Outcome::Failed(answer));
            }
            Err(error) => return Ok(put_off(&error)),
        };
        match self.copy_to(taken, &user) {
            Ok(()) => Ok(Outcome::Sent(Answer::of_ours("2.1.5", "it is in the mailbox"))),
            Err(error @ Error::Denied(_)) => Err(error),
            Err(error) => Ok(put_off(&error)),
        }
    }

    fn copy_to(&self, taken: &RefCell<Taken>, user: &str) -> Result<()> {
        let (entry, mut body) = {
            let taken = taken.borrow();
            (taken.entry.clone(), taken.open_body()?)
        };
        let mailboxes = self.queue.mailboxes();
        let max = entry.size + TRACE_BYTES_MAX;
        let mut incoming = mailboxes.incoming(entry.sender.clone(), [user.to_string()], max)?;
        let domain = mailboxes.domain();
        incoming.trace(&received("the queue", domain, "local", &entry.guid, now_ms() / 1000))?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let n = body.read(&mut piece)?;
            if n == 0 {
                break;
            }
            incoming.add(&piece[..n])?;
            taken.borrow_mut().renew_in_time()?;
        }
        let made = incoming.deliver_as(DeliveryId::of_queued(&entry.guid))?;
        made.into_iter().try_for_each(|(_, outcome)| outcome.map(drop))
    }
}

fn put_off(error: &Error) -> Outcome {
    Outcome::Deferred(Answer::of_ours(
        "4.3.0",
        format!("the mailbox cannot be written now: {error}"),
    ))
}
