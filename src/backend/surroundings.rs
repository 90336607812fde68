//! What a tablet's threads need to know of their node.

use super::catch_up::Snapshots;
use super::links::Links;
use super::master_line::MasterLine;
use super::memory::Memory;
use super::room::Room;
use crate::config::{self, Replication};
use crate::replication::{DiskSpace, Message, Node, Reads, Timing};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What a tablet's threads need to know of their node.
#[derive(Clone)]
pub struct Surroundings {
    /// The node's name.
    pub node: Node,
    /// The store's limits.
    pub limits: config::Store,
    /// Times of the replication.
    pub timing: Timing,
    /// Free bytes of the node's disk, as last seen.
    pub free_bytes: Arc<AtomicU64>,
    /// What the node's tablets may hold in memory.
    pub memory: Arc<Memory>,
    /// Held by the tablet that writes a checkpoint to free a low disk: each takes room first.
    pub freeing: Turn,
    /// Held by the tablet that merges its runs.
    pub merging: Turn,
    /// What is kept free on the disk for the worst.
    pub room: Arc<Room>,
    /// Ways to the other nodes.
    pub links: Arc<Links>,
    /// The way to the master.
    pub master: MasterLine,
    /// Tables that others may fetch.
    pub snapshots: Arc<Snapshots>,
}

/// What one tablet of a node does at a time.
#[derive(Clone, Default)]
pub struct Turn(Arc<AtomicBool>);

/// Held by the tablet whose turn it is.
pub struct Taken(Arc<AtomicBool>);

impl Turn {
    /// The turn, if nobody has it.
    pub fn take(&self) -> Option<Taken> {
        (!self.0.swap(true, Ordering::Relaxed)).then(|| Taken(self.0.clone()))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Surroundings {
    /// How long a disk may be at one write or sync, in microseconds, before it counts as one that hangs.
    pub fn hangs_after(&self) -> u64 {
        self.timing.lease / 2
    }

    /// The room on the node's disk.
    pub fn disk_space(&self) -> DiskSpace {
        let free_bytes = self.free_bytes.load(Ordering::Relaxed);
        DiskSpace::of(free_bytes, self.limits.disk_reserve_bytes)
    }

    /// Sends a tablet's message to another node. A table is kept for it, to be fetched.
    pub fn send(&self, to: &str, tablet: &Arc<str>, message: Message) {
        if let Message::Install { table, .. } = &message {
            self.snapshots.keep(tablet, table);
        }
        self.links.say(to, tablet, message);
    }
}

/// The replication's times and sizes as configured. What it keeps for replicas that lag is a part of the memory.
pub fn timing(replication: &Replication, memory_limit_bytes: u64) -> Timing {
    let lease = replication.lease_ms * 1000;
    let reads = match replication.reads {
        config::Reads::Lease => Reads::Lease,
        config::Reads::Confirm => Reads::Confirm,
    };
    Timing {
        reads,
        lease,
        grace: replication.grace_ms * 1000,
        beacon: lease / 5,
        silence: replication.silence_ms * 1000,
        keep: 1,
        keep_bytes: memory_limit_bytes / 128,
        batch: 256,
        batch_bytes: 1 << 20,
        window_bytes: 8 << 20,
    }
}
