//! The memory of a node's tablets: who writes out next, and when there is no more.
//!
//! A tablet holds in memory what was written since its last checkpoint; the rest lies on disk, and what is read of it
//! often is in the node's cache of blocks. All tablets together may hold a quarter of `memory_limit_bytes`: beyond that
//! the one that can give up most begins a checkpoint. Where writes come faster than checkpoints are written, they are
//! refused for now at three eighths. The cache has another quarter; the rest is for entries that are kept for replicas
//! that lag, for the indexes and filters of what is on disk, connections, and what the allocator does not give back.

use crate::storage::Cache;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

/// The memory of a node's tablets. Shared by its threads.
pub struct Memory {
    limit: u64,
    cache: Arc<Cache>,
    shares: Mutex<Vec<Weak<Bytes>>>,
}

/// What one tablet holds in memory.
#[derive(Default)]
struct Bytes {
    /// What a checkpoint that begins now would write out.
    recent: AtomicU64,
    /// All of it: also what is being written out.
    held: AtomicU64,
}

impl Memory {
    /// The memory of a node that may take so many bytes.
    pub fn new(limit: u64) -> Memory {
        Memory { limit, cache: Arc::new(Cache::new(limit / 4)), shares: Mutex::default() }
    }

    /// Bytes by which a tablet's log may grow before its next checkpoint: what a process that starts has to read of the
    /// logs of all its tablets fits in its memory.
    pub fn log_bytes(&self) -> u64 {
        self.limit / 24
    }

    /// Blocks that were read lately.
    pub fn cache(&self) -> Arc<Cache> {
        self.cache.clone()
    }

    /// The share of one more tablet.
    pub fn share(self: &Arc<Memory>) -> Share {
        let bytes = Arc::new(Bytes::default());
        let mut shares = self.shares.lock().expect("a list is not left half-changed");
        shares.retain(|share| share.strong_count() > 0);
        shares.push(Arc::downgrade(&bytes));
        Share { memory: self.clone(), bytes }
    }

    /// Bytes that all tablets hold that have not been written out.
    pub fn held(&self) -> u64 {
        self.all().iter().map(|share| share.held.load(Ordering::Relaxed)).sum()
    }

    fn all(&self) -> Vec<Arc<Bytes>> {
        let shares = self.shares.lock().expect("a list is not left half-changed");
        shares.iter().filter_map(Weak::upgrade).collect()
    }
}

/// One tablet's share of its node's memory.
pub struct Share {
    memory: Arc<Memory>,
    bytes: Arc<Bytes>,
}

impl Share {
    /// The tablet holds so many bytes now; a checkpoint that begins now would write out so many of them.
    pub fn set(&self, held: u64, recent: u64) {
        self.bytes.held.store(held, Ordering::Relaxed);
        self.bytes.recent.store(recent, Ordering::Relaxed);
    }

    /// Whether the tablets hold too much, and none can give up more than this one.
    pub fn is_to_be_written_out(&self) -> bool {
        let recent: Vec<u64> = self.memory.all().iter().map(|share| share.recent()).collect();
        let own = self.bytes.recent();
        own > 0
            && recent.iter().sum::<u64>() > self.memory.limit / 4
            && recent.iter().all(|other| *other <= own)
    }

    /// Whether the tablets hold so much that nothing more is taken before some of it is written out.
    pub fn is_exhausted(&self) -> bool {
        self.memory.held() > self.memory.limit / 8 * 3
    }
}

impl Bytes {
    fn recent(&self) -> u64 {
        self.recent.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_is_written_out_when_all_together_hold_too_much() {
        let memory = Arc::new(Memory::new(1000));
        let (small, large) = (memory.share(), memory.share());
        small.set(100, 100);
        large.set(150, 150);
        assert!(!large.is_to_be_written_out(), "there is room");
        small.set(101, 101);
        assert!(large.is_to_be_written_out() && !small.is_to_be_written_out());
        large.set(150, 0);
        assert!(!small.is_to_be_written_out(), "enough is being written out");
        assert!(!small.is_exhausted());
        small.set(300, 300);
        assert!(small.is_to_be_written_out() && small.is_exhausted() && large.is_exhausted());
        drop(small);
        assert!(!large.is_exhausted());
    }
}
