//! What a tablet's threads need to know of their node.

use super::catch_up::Snapshots;
use super::links::Links;
use super::master_line::MasterLine;
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
    /// Whether a tablet of the node writes a checkpoint to free a low disk.
    pub freeing: Arc<AtomicBool>,
    /// What is kept free on the disk for the worst.
    pub room: Arc<Room>,
    /// Ways to the other nodes.
    pub links: Arc<Links>,
    /// The way to the master.
    pub master: MasterLine,
    /// Tables that others may fetch.
    pub snapshots: Arc<Snapshots>,
}

/// Held while a checkpoint is written to free a low disk: one at a time, for each takes room first.
pub struct Freeing(Arc<AtomicBool>);

impl Drop for Freeing {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Surroundings {
    /// The right to write a checkpoint to free the disk, if nobody does.
    pub fn begin_freeing(&self) -> Option<Freeing> {
        (!self.freeing.swap(true, Ordering::Relaxed)).then(|| Freeing(self.freeing.clone()))
    }

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

/// The replication's times and sizes as configured.
pub fn timing(replication: &Replication) -> Timing {
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
        keep: 16,
        keep_bytes: 16 << 20,
        batch: 256,
        batch_bytes: 1 << 20,
        window_bytes: 8 << 20,
    }
}
