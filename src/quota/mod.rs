//! The quota: how many bytes of files and mail each user may keep.
//!
//! # What is kept, in the row `<user>`
//!
//! ```text
//! usage          bytes of all files and messages (ADD)
//! reserve/<id>   bytes that an upload may yet need, with a time to live ([`reservation`])
//! ```
//!
//! # Who keeps to it
//!
//! | what | when it is judged | otherwise |
//! |---|---|---|
//! | a file | when its upload begins (for its length, where that is known) and while it goes on: [`Reservation`] | refused before its bytes are read, or as soon as it is over |
//! | | when it becomes visible: [`Quota::take`] in that BATCH | refused, nothing is written |
//! | a draft | when it is saved: [`Quota::take`] in that BATCH | refused; what was typed stays on the page |
//! | mail for somebody | when the recipient is named: [`Quota::admit`] | refused; what was accepted is delivered, even if it goes over |
//! | what deletes, moves or marks | never | |
//!
//! # Invariants
//!
//! * `usage` changes in the BATCH that makes bytes visible or removes them.
//! * No file and no draft takes `usage` over the quota: the tablet's primary judges `ADD … max=` on all that was written
//!   before, so those that are committed at once cannot go over together.
//! * Of the uploads that go on together, all have reserved what they have read, but for [`SMALL_BYTES`] each: one that
//!   would not fit beside the others is refused early.
//! * What is above the quota can be made less, and never needs room to be.
//!
//! # Caveats
//!
//! * Mail is not reserved for, and takes no notice of reservations: what is delivered while an upload goes on may take the
//!   room from it, and several messages accepted at once may go over together.
//! * Names, entries, sessions and drafts' address fields are not counted, only bytes of files and messages.
//! * Every user has the same quota. One that is made smaller takes effect for what is written from then on.

pub mod reservation;

use crate::client::{Client, Found, Op};
use crate::config::Config;
use crate::error::{Error, Result};
pub use reservation::{Reservation, SMALL_BYTES};

/// The column that counts.
const USAGE: &str = "usage";
/// Bytes of a counter.
const COUNTER_BYTES_MAX: u64 = 64;

/// How many bytes each user may keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// None: any number.
    limit: Option<u64>,
}

/// What a user has of their quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes of files and mail.
    pub used: u64,
    /// Bytes that there may be; none: any number.
    pub limit: Option<u64>,
}

impl Quota {
    /// The quota of the configured cluster.
    pub fn new(config: &Config) -> Quota {
        Quota::of(config.cluster.quota_bytes)
    }

    /// So many bytes; 0: any number.
    pub fn of(bytes: u64) -> Quota {
        Quota { limit: (bytes > 0).then_some(bytes) }
    }

    /// What a user has of it.
    pub fn space(self, client: &Client, user: &str) -> Result<Space> {
        let (_, used) = counted(client, user)?;
        Ok(Space { used: used.max(0) as u64, limit: self.limit })
    }

    /// Refuses more bytes for a user who has no room for them. What may be written meanwhile it does not know.
    pub fn admit(self, client: &Client, user: &str, bytes: u64) -> Result<()> {
        match self.limit {
            Some(_) => self.space(client, user)?.admit(bytes),
            None => Ok(()),
        }
    }

    /// The item of a BATCH that counts bytes which become visible in it, and refuses it where they are too many.
    pub fn take(self, user: &str, bytes: u64) -> Op {
        match self.limit {
            Some(limit) => Op::add_within(user, USAGE, signed(bytes), signed(limit)),
            None => count(user, signed(bytes)),
        }
    }
}

/// The item of a BATCH that counts bytes which become visible in it, or go, whatever the quota.
pub fn count(user: &str, bytes: i64) -> Op {
    Op::add(user, USAGE, bytes)
}

impl Space {
    fn admit(self, bytes: u64) -> Result<()> {
        match self.limit {
            Some(limit) if self.used.saturating_add(bytes) > limit => {
                Err(Error::Quota { used: signed(self.used), limit: signed(limit) })
            }
            _ => Ok(()),
        }
    }
}

/// The cell that counts, if it is there, and what it counts.
fn counted(client: &Client, user: &str) -> Result<(Option<Found>, i64)> {
    let found = client.get(user, USAGE, COUNTER_BYTES_MAX)?;
    let used = found.as_ref().map_or(Ok(0), |found| number(&found.value))?;
    Ok((found, used))
}

fn number(digits: &[u8]) -> Result<i64> {
    let text = std::str::from_utf8(digits).ok();
    let number = text.and_then(|text| text.parse().ok());
    number.ok_or_else(|| Error::corrupt("a counter of bytes is no number"))
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_just_fits_is_admitted() {
        let space = |used| Space { used, limit: Some(10) };
        assert_eq!(space(7).admit(3), Ok(()));
        assert_eq!(space(7).admit(4), Err(Error::Quota { used: 7, limit: 10 }));
        assert_eq!(space(10).admit(0), Ok(()));
        assert!(space(12).admit(0).is_err(), "who is over gets nothing");
        assert!(space(1).admit(u64::MAX).is_err());
        assert_eq!(Space { used: 7, limit: None }.admit(u64::MAX), Ok(()));
    }

    #[test]
    fn without_a_quota_nothing_is_bounded() {
        assert_eq!(Quota::of(0).take("alice", 5), count("alice", 5));
        assert_eq!(Quota::of(9).take("alice", 5), Op::add_within("alice", "usage", 5, 9));
    }
}
