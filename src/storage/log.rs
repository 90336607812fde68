//! The log of one tablet.

use super::Position;
use crate::error::{Error, Result};
use crate::protocol::entry::Entry;

/// The log of one tablet, owned by one thread.
#[derive(Debug)]
pub struct Log {
    end: Position,
}

impl Log {
    /// Writes entries after the last one. They are durable only after [`Log::sync`].
    pub fn append(&mut self, entries: &[Entry]) -> Result<()> {
        let _ = entries;
        Err(Error::retry("storage is being built"))
    }

    /// Makes everything appended durable: one fdatasync. After an error the log refuses everything.
    pub fn sync(&mut self) -> Result<()> {
        Err(Error::retry("storage is being built"))
    }

    /// The last entry appended.
    pub fn end(&self) -> Position {
        self.end
    }

    /// The version up to which everything is synced.
    pub fn durable_version(&self) -> u64 {
        0
    }

    /// The position that the oldest entry still in the log follows.
    pub fn start(&self) -> Position {
        self.end
    }

    /// Bytes of the entries that were recovered after the checkpoint, and of all appended since. Only ever
    /// grows: whoever starts a checkpoint remembers it, and starts the next when it has grown enough.
    pub fn grown_bytes(&self) -> u64 {
        0
    }

    /// Lets segments go whose entries are all `<= version`, after a checkpoint of that version is durable.
    pub fn truncate_before(&mut self, version: u64) -> Result<()> {
        let _ = version;
        Err(Error::retry("storage is being built"))
    }

    /// Cuts off everything after an entry, durably.
    pub fn truncate_after(&mut self, position: Position) -> Result<()> {
        let _ = position;
        Err(Error::retry("storage is being built"))
    }

    /// The entries after a version, from disk; an error if the log does not reach back to it.
    pub fn entries_after(&self, version: u64) -> Result<Entries> {
        let _ = version;
        Err(Error::retry("storage is being built"))
    }
}

/// Iterates over entries of a log, one segment in memory at a time. Ends after the first error.
pub struct Entries {}

impl Iterator for Entries {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        None
    }
}
