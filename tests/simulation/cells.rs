//! Cells of the simulation's tables, and what stands for the files below them.

use penncloud::error::Result;
use penncloud::protocol::cell::{Cell, Key};
use penncloud::protocol::kept::{Kept, Lower, Range};
use penncloud::replication::Table;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Why nothing fails to be read.
const WHOLE: &str = "the disks of the simulation are whole";

/// A cell of a table.
pub fn cell(table: &Table, key: &Key) -> Option<Cell> {
    table.get(key).expect(WHOLE)
}

/// Cells with their values.
pub fn cells(range: Range<'_>) -> impl Iterator<Item = (Key, Cell)> {
    range.map(|cell| {
        let (key, kept) = cell.expect(WHOLE);
        (key, kept.load().expect(WHOLE))
    })
}

/// Cells that a checkpoint has written out.
#[derive(Debug, Default)]
pub struct Written(BTreeMap<Key, Kept>);

impl Written {
    /// What lies below a frozen table once that is written out.
    pub fn with(&self, frozen: &Table) -> Arc<Written> {
        let mut cells = self.0.clone();
        for change in frozen.changes() {
            match change.expect(WHOLE) {
                (key, Some(kept)) => drop(cells.insert(key, kept)),
                (key, None) => drop(cells.remove(&key)),
            }
        }
        Arc::new(Written(cells))
    }

    /// A table that is all here: as a process finds it when it starts.
    pub fn holding(self: &Arc<Written>, table: &Table) -> Table {
        let mut found = Table::above(self.clone(), table.position(), table.totals());
        found.load_others(table.others());
        found
    }

    /// The whole of a table, as one that was taken from another node is written.
    pub fn all_of(table: &Table) -> Arc<Written> {
        let cells = table.cells_from(Bound::Unbounded);
        Arc::new(Written(cells.map(|cell| cell.expect(WHOLE)).collect()))
    }
}

impl Lower for Written {
    fn get(&self, key: &Key) -> Result<Option<Kept>> {
        Ok(self.0.get(key).cloned())
    }

    fn range(&self, low: Bound<Key>, high: Bound<Key>, reverse: bool) -> Range<'_> {
        let seen = |(key, kept): (&Key, &Kept)| Ok((key.clone(), kept.clone()));
        let cells = self.0.range((low, high));
        if reverse { Box::new(cells.rev().map(seen)) } else { Box::new(cells.map(seen)) }
    }
}
