//! The account `admin`: its password, and how fast it may be guessed.
//!
//! The hash lies in `~console/admin`, column `password`; where there is none yet it is made from the secrets
//! file. While the store does not answer, the hash seen last counts, and before any was seen the secrets
//! file: the admin must get in to mend the store.
//!
//! The first [`FREE_TRIES`] wrong passwords in a row cost nothing; each further one doubles the time until
//! the next is heard, up to [`WAIT_S_MAX`].

use crate::account::now_s;
use crate::account::password::Passwords;
use crate::client::{Client, Op};
use crate::config::Config;
use crate::error::Result;
use std::sync::{Mutex, MutexGuard};
use subtle::ConstantTimeEq;

/// Name of the account.
pub(super) const NAME: &str = "admin";
/// Wrong passwords that cost no time.
const FREE_TRIES: u32 = 5;
/// Longest wait between two tries.
const WAIT_S_MAX: u64 = 300;
/// Largest password cell that is read.
const CELL_BYTES_MAX: u64 = 1024;
const ROW: &str = "~console/admin";
const COLUMN: &str = "password";

/// What came of a try to log in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Name and password are right.
    Welcome,
    /// One of them is not.
    Wrong,
    /// So many seconds too early.
    Wait(u64),
}

/// The account.
pub(super) struct Admin {
    client: Client,
    passwords: Passwords,
    /// The password of the first start.
    first: String,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The hash that was last read from the store.
    hash: Option<String>,
    tries: Tries,
}

#[derive(Clone, Copy, Default)]
struct Tries {
    wrong: u32,
    /// No try is heard before this second since 1970.
    until: u64,
}

impl Tries {
    /// Counts a try before it is judged; the seconds to wait if it is not to be heard.
    fn count(&mut self, now: u64) -> Option<u64> {
        if now < self.until {
            return Some(self.until - now);
        }
        self.wrong = self.wrong.saturating_add(1);
        let doublings = self.wrong.saturating_sub(FREE_TRIES);
        let wait = if doublings == 0 { 0 } else { (1 << doublings.min(9)).min(WAIT_S_MAX) };
        self.until = now + wait;
        None
    }
}

impl Admin {
    pub(super) fn new(config: &Config, client: Client) -> Result<Admin> {
        let first = config.secrets()?.admin_password;
        Ok(Admin { client, passwords: Passwords::new(), first, known: Mutex::default() })
    }

    /// Judges a name and a password.
    pub(super) fn log_in(&self, name: &str, password: &str) -> Result<Verdict> {
        if let Some(wait) = self.lock().tries.count(now_s()) {
            return Ok(Verdict::Wait(wait));
        }
        let right = self.is_password(password)? && name == NAME;
        if !right {
            return Ok(Verdict::Wrong);
        }
        self.lock().tries = Tries::default();
        Ok(Verdict::Welcome)
    }

    fn is_password(&self, password: &str) -> Result<bool> {
        let stored = self.client.get(ROW, COLUMN, CELL_BYTES_MAX);
        let answered = stored.is_ok();
        if let Ok(Some(found)) = stored {
            self.lock().hash = String::from_utf8(found.value).ok();
        }
        let hash = self.lock().hash.clone();
        if hash.is_some() {
            return self.passwords.verify(password, hash.as_deref());
        }
        let right = bool::from(self.first.as_bytes().ct_eq(password.as_bytes()));
        if right && answered {
            self.make_row()?;
        }
        Ok(right)
    }

    /// Writes the hash of the first password, unless somebody was faster.
    fn make_row(&self) -> Result<()> {
        let hash = self.passwords.hash(&self.first)?;
        if let Err(error) = self.client.write(Op::put_if(ROW, COLUMN, hash, 0)) {
            log::warn!("the admin's password is not in the store yet: {error}");
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no thread panics while it holds the admin's account")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guessing_gets_slower_and_never_stops_for_good() {
        let mut tries = Tries::default();
        for _ in 0..FREE_TRIES {
            assert_eq!(tries.count(1000), None);
        }
        assert_eq!(tries.count(1000), None);
        assert_eq!(tries.count(1000), Some(2));
        assert_eq!(tries.count(1002), None);
        assert_eq!(tries.count(1002), Some(4));
        for _ in 0..100 {
            let now = tries.until;
            assert_eq!(tries.count(now), None);
            assert!(tries.until - now <= WAIT_S_MAX);
        }
    }
}
