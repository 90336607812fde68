//! Checkpoints: written once, sorted, read by block.

use super::Position;
use crate::error::{Error, Result};
use crate::protocol::cell::{Cell, Key};
use crate::protocol::entry::Item;
use std::path::Path;

/// What a finished checkpoint holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointSummary {
    /// The last entry that it contains.
    pub position: Position,
    /// Items in it.
    pub items: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Writes the checkpoint of a tablet's directory: temporary file, sync, rename, sync of the directory; then
/// older checkpoints are removed. The items are a tablet's whole table at `position`, which is committed: the
/// cells first, in the order of their keys.
pub fn write_checkpoint(
    dir: &Path,
    position: Position,
    items: impl IntoIterator<Item = Item>,
) -> Result<CheckpointSummary> {
    let _ = (dir, position, items.into_iter());
    Err(Error::retry("storage is being built"))
}

/// An open checkpoint. Reading does not disturb a newer one being written, nor its own removal.
#[derive(Debug)]
pub struct CheckpointReader {
    /// What it holds.
    pub summary: CheckpointSummary,
}

impl CheckpointReader {
    /// All items, in the order in which they were written, checked block by block.
    pub fn items(&self) -> Items<'_> {
        Items { reader: self }
    }

    /// One cell, by the index and one block.
    pub fn get(&self, key: &Key) -> Result<Option<Cell>> {
        let _ = key;
        Err(Error::retry("storage is being built"))
    }
}

/// Iterates over a checkpoint's items. Ends after the first error.
pub struct Items<'a> {
    #[allow(dead_code)]
    reader: &'a CheckpointReader,
}

impl Iterator for Items<'_> {
    type Item = Result<Item>;

    fn next(&mut self) -> Option<Result<Item>> {
        None
    }
}
