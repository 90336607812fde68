//! Counted tries: guessing passwords is slow, whichever frontend is asked.
//!
//! Of an account the first [`FREE_TRIES`] wrong passwords cost nothing; each further one doubles the time
//! until the next is heard, up to [`WAIT_S_MAX`]. A try is counted *before* the password is looked at, by a
//! conditional write, so that many at once do not all count as the first. The right password clears the
//! count, and time does: nobody is locked out for good. From one address [`ADDRESS_TRIES`] a minute are
//! heard; the configuration names addresses that are exempt (tests, proxies). A mail program signs in for each message, so
//! its right passwords are given back to its address.

use super::{json, now_s};
use crate::client::{Client, Op, Written};
use crate::error::Result;
use crate::net::subscriber;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::net::IpAddr;

/// Wrong passwords of an account that cost no time.
pub const FREE_TRIES: u32 = 5;
/// Longest wait between two tries, in seconds.
pub const WAIT_S_MAX: u64 = 300;
/// Tries from one address in a minute.
pub const ADDRESS_TRIES: u32 = 20;
/// An account's count is forgotten after so many seconds without a try.
const FORGET_S: u64 = 900;
/// Window of an address's count, in seconds.
const WINDOW_S: u64 = 60;
/// How often a lost race for the counter is run again.
const RACES: usize = 4;
const COLUMN: &str = "tries";

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
struct Count {
    tries: u32,
    /// No try is heard before this second since 1970.
    until: u64,
}

impl Count {
    /// The count after one more try of an account, or the seconds to wait.
    fn account_try(self, now: u64) -> Result<Count, u64> {
        if now < self.until {
            return Err(self.until - now);
        }
        let tries = self.tries.saturating_add(1);
        let doublings = tries.saturating_sub(FREE_TRIES);
        let wait = if doublings == 0 { 0 } else { (1 << doublings.min(9)).min(WAIT_S_MAX) };
        Ok(Count { tries, until: now + wait })
    }

    /// The count after one more try from an address, or the seconds to wait. `until` ends the window.
    fn address_try(self, now: u64) -> Result<Count, u64> {
        if now >= self.until {
            return Ok(Count { tries: 1, until: now + WINDOW_S });
        }
        if self.tries >= ADDRESS_TRIES {
            Err(self.until - now)
        } else {
            Ok(Count { tries: self.tries + 1, ..self })
        }
    }
}

/// Takes a try from an address back.
pub(super) fn address_welcome(client: &Client, from: IpAddr) -> Result<()> {
    let less = |count: Count, _| Ok(Count { tries: count.tries.saturating_sub(1), ..count });
    count(client, &format!("~throttle/from-{}", subscriber(from)), WINDOW_S, less).map(drop)
}

/// Counts a try of an account; the seconds to wait if it is not to be heard.
pub(super) fn account_try(client: &Client, user: &str) -> Result<Option<u64>> {
    count(client, &account_row(user), FORGET_S, Count::account_try)
}

/// Clears the count of an account whose password was right.
pub(super) fn account_welcome(client: &Client, user: &str) -> Result<()> {
    client.write(Op::delete(account_row(user), COLUMN)).map(drop)
}

/// Counts a try from an address; the seconds to wait if it is not to be heard.
pub(super) fn address_try(client: &Client, from: IpAddr) -> Result<Option<u64>> {
    count(client, &format!("~throttle/from-{}", subscriber(from)), WINDOW_S, Count::address_try)
}

/// The name is hashed: whatever was typed makes a valid row, and the store's raw view shows no names that
/// may be passwords typed into the wrong field.
fn account_row(user: &str) -> String {
    let digest = Sha256::digest(user.as_bytes());
    format!(
        "~throttle/account-{}",
        digest[..12].iter().map(|b| format!("{b:02x}")).collect::<String>()
    )
}

fn count(
    client: &Client,
    row: &str,
    ttl: u64,
    step: fn(Count, u64) -> Result<Count, u64>,
) -> Result<Option<u64>> {
    for _ in 0..RACES {
        let found = client.get(row, COLUMN, 1024)?;
        let version = found.as_ref().map_or(0, |f| f.version);
        let before = found.and_then(|f| serde_json::from_slice(&f.value).ok()).unwrap_or_default();
        let after = match step(before, now_s()) {
            Ok(after) => after,
            Err(wait) => return Ok(Some(wait)),
        };
        let write = Op::put_if(row, COLUMN, json(&after), version).with_ttl(ttl);
        if matches!(client.write(write)?, Written::Done { .. }) {
            return Ok(None);
        }
    }
    Ok(Some(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_after_the_free_tries() {
        let (mut count, mut now) = (Count::default(), 1000);
        let mut waits = Vec::new();
        for _ in 0..16 {
            count = count.account_try(now).unwrap();
            waits.push(count.until - now);
            now = count.until;
        }
        assert_eq!(waits, [0, 0, 0, 0, 0, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    }

    #[test]
    fn a_try_before_its_time_is_not_heard() {
        assert_eq!(Count { tries: 7, until: 1010 }.account_try(1003), Err(7));
    }

    #[test]
    fn an_address_has_twenty_tries_a_minute() {
        let mut count = Count::default();
        for _ in 0..ADDRESS_TRIES {
            count = count.address_try(500).unwrap();
        }
        assert_eq!(count.address_try(510), Err(50));
        assert_eq!(count.address_try(560).unwrap().tries, 1);
    }

    #[test]
    fn buckets_are_valid_rows_whatever_was_typed() {
        let row = account_row("\0 ../\u{1F980}");
        assert!(row.is_ascii() && row.len() < 64);
        assert_ne!(row, account_row("alice"));
    }
}
