//! What a replica's tables hold in memory goes to the disk below them. Nothing that anybody sees changes.

use super::replica::Replica;
use super::table::Table;
use crate::protocol::kept::Lower;
use std::sync::Arc;

impl Replica {
    /// Begins a checkpoint: what the committed table holds in memory is to be written out. None: one is being written.
    pub fn freeze(&mut self) -> Option<Table> {
        if self.committed.is_frozen() {
            return None;
        }
        self.committed.freeze();
        let (prepared, table) = (self.known(self.committed.version).., self.committed.clone());
        self.log.range_mut(prepared).fold(table, |mut table, logged| {
            table.apply(&logged.entry);
            if logged.after.is_some() {
                logged.after = Some(table.clone());
            }
            table
        });
        Some(self.committed.clone())
    }

    /// What was to be written out is: it lies below now.
    pub fn settle(&mut self, below: Arc<dyn Lower>) {
        self.tables().for_each(|table| table.settle(below.clone()));
    }

    /// What lies below is in other files.
    pub fn rebase(&mut self, below: Arc<dyn Lower>) {
        self.tables().for_each(|table| table.rebase(below.clone()));
    }

    /// The committed table, and those after prepared entries.
    fn tables(&mut self) -> impl Iterator<Item = &mut Table> {
        let prepared = self.log.iter_mut().filter_map(|logged| logged.after.as_mut());
        std::iter::once(&mut self.committed).chain(prepared)
    }
}
