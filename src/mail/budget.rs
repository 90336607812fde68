//! How much memory messages may take that are read whole, in this process: who comes when it is used up
//! waits for those before.

use crate::error::{Error, Result};
use std::io::{self, Cursor, Read};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Bytes of all messages in memory; parsing one takes about as much again.
pub const BYTES_MAX: u64 = 192 << 20;
/// How long a reader waits.
const WAIT: Duration = Duration::from_secs(10);

/// For messages that are being read.
pub(super) static BUDGET: Budget = Budget::new(BYTES_MAX);
/// For files out of messages that are on their way to somebody, who may be slow: a budget of their own, so
/// that reading does not wait for them.
static FILES: Budget = Budget::new(BYTES_MAX);

/// A file out of a message. Its bytes count against a budget until it is dropped.
pub struct FileReader {
    bytes: Cursor<Vec<u8>>,
    _share: Share<'static>,
}

impl FileReader {
    /// A file of these bytes; waits until there is room for them, but not for ever.
    pub(super) fn new(bytes: &[u8]) -> Result<FileReader> {
        FileReader::within(&FILES, bytes)
    }

    fn within(budget: &'static Budget, bytes: &[u8]) -> Result<FileReader> {
        let share = budget.take(bytes.len() as u64)?;
        Ok(FileReader { bytes: Cursor::new(bytes.to_vec()), _share: share })
    }
}

impl Read for FileReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.bytes.read(out)
    }
}

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
    fn a_file_counts_until_it_is_dropped() {
        static SMALL: Budget = Budget::new(100);
        let mut file = FileReader::within(&SMALL, &[7; 60]).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [7; 60]);
        assert!(SMALL.take_within(41, Duration::ZERO).is_err());
        drop(file);
        assert!(SMALL.take_within(100, Duration::ZERO).is_ok());
    }

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
