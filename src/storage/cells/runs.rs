//! All runs of a tablet at one moment: what lies below its table.

use super::filter;
use super::merged::{Merged, Wanted};
use super::run::Run;
use super::values::ValueFiles;
use crate::error::Result;
use crate::protocol::cell::Key;
use crate::protocol::entry::Encode;
use crate::protocol::kept::{Kept, Lower, Range};
use std::ops::Bound;
use std::sync::Arc;

/// The runs and value files of a tablet at one moment. Never changed: whoever holds it reads on, whatever is flushed,
/// merged or installed meanwhile, and the disk's room is given back when nobody does.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    /// Oldest first.
    pub(in crate::storage) list: Vec<Arc<Run>>,
    /// All that the runs refer to.
    pub(in crate::storage) values: ValueFiles,
}

impl Runs {
    /// These runs, oldest first, and of the value files those to which they refer.
    pub(in crate::storage) fn new(list: Vec<Arc<Run>>, mut values: ValueFiles) -> Runs {
        values.retain(|sequence, _| {
            list.iter().any(|run| run.footer.referred.contains_key(sequence))
        });
        Runs { list, values }
    }

    /// Number of runs.
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.run_bytes() + self.value_bytes()
    }

    /// Bytes of the runs.
    pub fn run_bytes(&self) -> u64 {
        self.list.iter().map(|run| run.bytes).sum()
    }

    /// Bytes of the value files.
    pub fn value_bytes(&self) -> u64 {
        self.values.values().map(|file| file.bytes).sum()
    }

    /// All that the runs say, newest first of each key, past the cache.
    pub(in crate::storage) fn merged(&self) -> Merged {
        Merged::all(self.list.iter().rev().cloned())
    }
}

impl Lower for Runs {
    fn get(&self, key: &Key) -> Result<Option<Kept>> {
        let hash = filter::hash(&key.to_bytes());
        for run in self.list.iter().rev() {
            if let Some(found) = run.get(key, hash)? {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn range(&self, low: Bound<Key>, high: Bound<Key>, reverse: bool) -> Range<'_> {
        let wanted = Wanted { low, high, reverse };
        let merged = Merged::new(self.list.iter().rev().cloned(), wanted);
        Box::new(
            merged.filter_map(|cell| {
                cell.map(|(key, kept)| kept.map(|kept| (key, kept))).transpose()
            }),
        )
    }
}
