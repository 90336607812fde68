//! The cells of a table, in three layers: what was written lately, what is being written out, and what lies below.
//!
//! ```text
//! recent   what was written since the last freeze: a persistent map         memory
//! frozen   what was recent when a checkpoint began, until it is on disk     memory
//! below    what checkpoints have written out                                disk
//! ```
//!
//! A cell is found in the uppermost layer that has it; `None` there hides what is further down. To *freeze* moves what is
//! recent one down; once it is on disk, to *settle* lets it go from memory. Neither changes what a table holds.

use crate::error::Result;
use crate::protocol::cell::Key;
use crate::protocol::kept::{Changes, Kept, Lower, Range};
use imbl::OrdMap;
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

/// Bytes that a cell takes in memory beyond its names and value.
const ENTRY_BYTES: u64 = 192;
/// Bytes that it takes on the disk beyond them.
const ON_DISK_BYTES: u64 = 48;

/// A layer in memory.
#[derive(Clone, Debug, Default)]
struct Layer {
    cells: OrdMap<Key, Option<Kept>>,
    /// About what it takes.
    bytes: u64,
}

/// The cells of a table. A clone shares everything that does not change.
#[derive(Clone, Debug, Default)]
pub(super) struct Cells {
    recent: Layer,
    frozen: Option<Arc<Layer>>,
    below: Option<Arc<dyn Lower>>,
}

impl Layer {
    fn insert(&mut self, key: Key, kept: Option<Kept>) {
        let bytes = weight(&key, &kept);
        self.bytes += bytes;
        let size = |before: &Option<Kept>| weight(&key, before);
        let before = self.cells.get(&key).map_or(0, size);
        self.bytes -= before;
        self.cells.insert(key, kept);
    }

    fn remove(&mut self, key: &Key) {
        if let Some(before) = self.cells.remove(key) {
            self.bytes -= weight(key, &before);
        }
    }

    fn range(&self, low: Bound<Key>, high: Bound<Key>, reverse: bool) -> Changes<'_> {
        let seen = |(key, kept): (&Key, &Option<Kept>)| Ok((key.clone(), kept.clone()));
        let cells = self.cells.range((low, high));
        if reverse { Box::new(cells.rev().map(seen)) } else { Box::new(cells.map(seen)) }
    }
}

fn weight(key: &Key, kept: &Option<Kept>) -> u64 {
    let value = kept.as_ref().map_or(0, |kept| kept.value.weight());
    (key.row.len() + key.column.len()) as u64 + value + ENTRY_BYTES
}

impl Cells {
    /// Cells that all lie below.
    pub fn above(below: Arc<dyn Lower>) -> Cells {
        Cells { below: Some(below), ..Cells::default() }
    }

    /// About how many bytes of memory they take.
    pub fn memory_bytes(&self) -> u64 {
        self.recent.bytes + self.frozen.as_ref().map_or(0, |frozen| frozen.bytes)
    }

    /// About how many bytes a checkpoint of all that is in memory writes.
    pub fn write_out_bytes(&self) -> u64 {
        let cells = self.recent.cells.len() + self.frozen.as_ref().map_or(0, |f| f.cells.len());
        self.memory_bytes() - cells as u64 * (ENTRY_BYTES - ON_DISK_BYTES)
    }

    /// A cell.
    pub fn get(&self, key: &Key) -> Result<Option<Kept>> {
        let frozen = || self.frozen.as_ref().and_then(|frozen| frozen.cells.get(key));
        match (self.recent.cells.get(key).or_else(frozen), &self.below) {
            (Some(kept), _) => Ok(kept.clone()),
            (None, Some(below)) => below.get(key),
            (None, None) => Ok(None),
        }
    }

    /// Writes a cell.
    pub fn insert(&mut self, key: Key, kept: Kept) {
        self.recent.insert(key, Some(kept));
    }

    /// Removes a cell.
    pub fn remove(&mut self, key: &Key) {
        match (&self.frozen, &self.below) {
            (None, None) => self.recent.remove(key),
            _ => self.recent.insert(key.clone(), None),
        }
    }

    /// Cells from one key to another, in order or in the opposite one; the lowest must not lie above the highest.
    pub fn range(&self, low: Bound<Key>, high: Bound<Key>, reverse: bool) -> Range<'_> {
        let recent = self.recent.range(low.clone(), high.clone(), reverse);
        if self.frozen.is_none() && self.below.is_none() {
            return Box::new(recent.filter_map(present));
        }
        let mut layers = vec![recent.peekable()];
        if let Some(frozen) = &self.frozen {
            layers.push(frozen.range(low.clone(), high.clone(), reverse).peekable());
        }
        if let Some(below) = &self.below {
            let cells = below.range(low, high, reverse);
            let cells: Changes =
                Box::new(cells.map(|cell| cell.map(|(key, kept)| (key, Some(kept)))));
            layers.push(cells.peekable());
        }
        Box::new(Merged { layers, reverse, failed: false }.filter_map(present))
    }

    /// Whether a checkpoint of them is being written.
    pub fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// Moves what is recent one layer down, which must be empty.
    pub fn freeze(&mut self) {
        assert!(self.frozen.is_none(), "one checkpoint is written at a time");
        self.frozen = Some(Arc::new(std::mem::take(&mut self.recent)));
    }

    /// What is being written out, in order.
    pub fn frozen(&self) -> Changes<'_> {
        match &self.frozen {
            Some(frozen) => frozen.range(Bound::Unbounded, Bound::Unbounded, false),
            None => Box::new(std::iter::empty()),
        }
    }

    /// Lets go of what is being written out: it lies below now.
    pub fn settle(&mut self, below: Arc<dyn Lower>) {
        self.frozen = None;
        self.below = Some(below);
    }

    /// Reads what lies below from other files that hold the same.
    pub fn rebase(&mut self, below: Arc<dyn Lower>) {
        self.below = Some(below);
    }
}

fn present(change: Result<(Key, Option<Kept>)>) -> Option<Result<(Key, Kept)>> {
    match change {
        Ok((key, kept)) => kept.map(|kept| Ok((key, kept))),
        Err(error) => Some(Err(error)),
    }
}

/// Layers as one: of equal keys the uppermost counts. Ends after the first error.
struct Merged<'a> {
    layers: Vec<Peekable<Changes<'a>>>,
    reverse: bool,
    failed: bool,
}

impl Merged<'_> {
    /// The layer that is next: the uppermost with the first key. One that failed is.
    fn next_layer(&mut self) -> Option<usize> {
        let mut first: Option<(usize, Key)> = None;
        for at in 0..self.layers.len() {
            let key = match self.layers[at].peek() {
                None => continue,
                Some(Err(_)) => return Some(at),
                Some(Ok((key, _))) => key,
            };
            let before = |other: &Key| if self.reverse { key > other } else { key < other };
            if first.as_ref().is_none_or(|(_, other)| before(other)) {
                first = Some((at, key.clone()));
            }
        }
        first.map(|(at, _)| at)
    }
}

impl Iterator for Merged<'_> {
    type Item = Result<(Key, Option<Kept>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let at = self.next_layer()?;
        let next = self.layers[at].next()?;
        match &next {
            Err(_) => self.failed = true,
            Ok((key, _)) => {
                for below in &mut self.layers[at + 1..] {
                    below.next_if(|other| matches!(other, Ok((hidden, _)) if hidden == key));
                }
            }
        }
        Some(next)
    }
}
