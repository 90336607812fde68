//! A node of the simulation: a replica, its disk and its clock.

use penncloud::protocol::entry::Entry;
use penncloud::replication::{
    Configuration, Node as Name, Position, Replica, Rules, Table, Timing,
};
use std::collections::VecDeque;
use std::sync::Arc;

/// What is on a disk, and what is on its way there.
#[derive(Default)]
pub struct Disk {
    /// Configuration last adopted, and the epoch sealed.
    pub adopted: (Configuration, u64),
    /// The checkpoint.
    pub checkpoint: Table,
    /// Entries after it, synced.
    pub log: Vec<Entry>,
    /// Entries written, not synced.
    pub buffer: VecDeque<Arc<Entry>>,
    /// A table that is being installed.
    pub installing: Option<Table>,
}

impl Disk {
    /// Where the synced log ends.
    pub fn end(&self) -> Position {
        match self.log.last() {
            Some(entry) => Position { epoch: entry.epoch, version: entry.version },
            None => Position { epoch: self.checkpoint.epoch, version: self.checkpoint.version },
        }
    }

    /// Whether an entry is on it: in the log, or under the checkpoint.
    pub fn holds(&self, at: Position) -> bool {
        let first = self.checkpoint.version + 1;
        match at.version.checked_sub(first) {
            None => true,
            Some(i) => self.log.get(i as usize).is_some_and(|entry| entry.epoch == at.epoch),
        }
    }

    /// Cuts the log off after a version.
    pub fn truncate(&mut self, version: u64) {
        self.buffer.retain(|entry| entry.version <= version);
        self.log.retain(|entry| entry.version <= version);
    }

    /// Syncs the first `n` buffered entries.
    pub fn sync(&mut self, n: usize) -> Option<u64> {
        for entry in self.buffer.drain(..n.min(self.buffer.len())).collect::<Vec<_>>() {
            self.log.push(Entry::clone(&entry));
        }
        self.log.last().map(|entry| entry.version)
    }

    /// Writes a checkpoint: everything up to it leaves the log.
    pub fn take_checkpoint(&mut self, table: Table) {
        if table.version > self.checkpoint.version {
            self.log.retain(|entry| entry.version > table.version);
            self.checkpoint = table;
        }
    }

    /// A table from the primary replaces everything.
    pub fn install(&mut self, table: Table) {
        self.log.clear();
        self.buffer.retain(|entry| entry.version > table.version);
        self.checkpoint = table;
    }
}

/// A node.
pub struct Node {
    pub name: Name,
    pub disk: Disk,
    /// None: it is dead.
    pub replica: Option<Replica>,
    /// Rises with every start: what belongs to an earlier life is dropped.
    pub life: u64,
    /// Nothing happens here before (SIGSTOP).
    pub paused_until: u64,
    /// Syncs take so long until then (a stalled disk).
    pub stalled_until: u64,
    pub syncing: bool,
    /// The clock: offset, and rate in parts per thousand.
    pub offset: u64,
    pub rate: u64,
}

impl Node {
    /// The node's own clock.
    pub fn clock(&self, now: u64) -> u64 {
        self.offset + now * self.rate / 1000
    }

    /// Starts from what is on disk.
    pub fn start(&mut self, now: u64, rules: Rules, timing: Timing) {
        self.life += 1;
        self.syncing = false;
        self.disk.buffer.clear();
        self.disk.installing = None;
        let (adopted, checkpoint) = (self.disk.adopted.clone(), self.disk.checkpoint.clone());
        let clock = self.clock(now);
        let log = self.disk.log.clone();
        self.replica = Some(Replica::recover(
            self.name.clone(),
            (rules, timing),
            clock,
            adopted,
            checkpoint,
            log,
        ));
    }
}
