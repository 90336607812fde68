//! What an operator orders.

use super::{Found, Place, Queue, column_of, now_ms};
use crate::error::{Error, Result};

/// An order about one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nobody tries it until it is released.
    Hold,
    /// It is tried again, as if its leases had never ended.
    Release,
    /// It is tried now, whatever the schedule says.
    Retry,
    /// It is removed, and nobody is told.
    Delete,
}

impl Queue {
    /// Follows an order. `Retry` while somebody is sending it, `Bad` where it is gone.
    pub fn order(&self, place: &Place, order: Order) -> Result<()> {
        let found =
            self.find(place)?.ok_or_else(|| Error::bad("this message has left the queue"))?;
        if found.entry.is_leased(now_ms()) {
            return Err(Error::retry("this message is being sent at this moment"));
        }
        match self.follow(found, order) {
            Err(Error::Denied(_)) => Err(Error::retry("this message has just changed")),
            done => done,
        }
    }

    fn follow(&self, found: Found, order: Order) -> Result<()> {
        let Found { place, version, mut entry } = found;
        let now = now_ms();
        let mut moved = place.clone();
        match order {
            Order::Delete => return self.remove(&place, version, &entry.guid),
            Order::Hold => {
                entry.held = Some("an operator holds it".into());
                moved.column = column_of(super::NEVER, &entry.guid);
            }
            Order::Release | Order::Retry => {
                entry.held = None;
                entry.lapses = 0;
                entry.recipients.iter_mut().for_each(|recipient| recipient.hasten(now));
                moved.column = column_of(now, &entry.guid);
            }
        }
        entry.lease = None;
        self.replace(&place, version, &moved, &entry)
    }
}

impl super::Recipient {
    /// Who waits waits no longer.
    fn hasten(&mut self, now: u64) {
        if let super::State::Deferred(until) = &mut self.state {
            *until = now.min(*until);
        }
    }
}
