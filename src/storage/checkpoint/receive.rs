//! A whole table from elsewhere, written as it comes.

use crate::error::{Error, Result};
use crate::protocol::cell::Key;
use crate::protocol::kept::Kept;
use crate::storage::cells::{Output, Runs, Shared};
use crate::storage::file::NewFiles;
use std::sync::Arc;

/// Takes the cells of a table in the order of their keys, and writes them at once: it holds one block of them in memory.
/// Its files go when it does.
#[derive(Debug)]
pub struct Receiver {
    output: Output,
    last: Option<Key>,
    shared: Shared,
}

/// The cells of a table that was received, on disk and readable. Its files go when it does, unless it was installed; then
/// the tablet has them.
#[derive(Debug)]
pub struct Received {
    /// The cells.
    pub runs: Arc<Runs>,
    pub(super) files: NewFiles,
}

impl Receiver {
    pub(super) fn new(output: Output, shared: Shared) -> Receiver {
        Receiver { output, last: None, shared }
    }

    /// Takes the next cell, its value in memory.
    ///
    /// # Errors
    /// [`Error::Corrupt`]: it does not come after the last one. [`Error::NoSpace`]: nothing is left of it once it is
    /// dropped. After any error it is of no use.
    pub fn add(&mut self, key: Key, kept: Kept) -> Result<()> {
        if self.last.as_ref().is_some_and(|last| *last >= key) {
            return Err(Error::corrupt("the cells of a table are not in order"));
        }
        self.output.add(&key, Some(&kept))?;
        self.last = Some(key);
        Ok(())
    }

    /// Ends the table: it is durable.
    pub fn finish(self) -> Result<Received> {
        let written = self.output.finish(&self.shared, &Runs::default())?;
        Ok(Received { runs: Arc::new(written.runs()), files: written.files })
    }
}
