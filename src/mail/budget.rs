//! How much memory messages may take that are read whole, in this process: who comes when it is used up
//! waits for those before.

use crate::error::{Error, Result};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Bytes of all messages in memory; parsing one takes about as much again.
pub const BYTES_MAX: u64 = 192 << 20;
/// How long a reader waits.
const WAIT: Duration = Duration::from_secs(10);

/// The budget of this process.
pub(super) static BUDGET: Budget = Budget::new(BYTES_MAX);

/// Bytes that are free.
pub(super) struct Budget {
    free: Mutex<u64>,
    returned: Condvar,
}

/// A part of a budget; given back when it is dropped.
pub(super) struct Share<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Budget {
    /// A budget of so many bytes.
    pub const fn new(bytes: u64) -> Budget {
        Budget { free: Mutex::new(bytes), returned: Condvar::new() }
    }

    /// Takes a share; waits for it, but not for ever.
    pub fn take(&self, bytes: u64) -> Result<Share<'_>> {
        self.take_within(bytes, WAIT)
    }

    fn take_within(&self, bytes: u64, wait: Duration) -> Result<Share<'_>> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut free, waited) = self
            .returned
            .wait_timeout_while(free, wait, |free| *free < bytes)
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() && *free < bytes {
            return Err(Error::retry("many large messages are being read"));
        }
        *free -= bytes;
        Ok(Share { budget: self, bytes })
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        *self.budget.free.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
        self.budget.returned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_too_late_waits_or_hears_so() {
        let budget = Budget::new(100);
        let first = budget.take(60).unwrap();
        assert!(budget.take_within(60, Duration::from_millis(1)).is_err());
        let small = budget.take_within(40, Duration::ZERO).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| budget.take(100).map(drop));
            drop(first);
            drop(small);
            assert_eq!(waiting.join().unwrap(), Ok(()));
        });
    }
}
