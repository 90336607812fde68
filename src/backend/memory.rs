//! The memory of a node's tablets: who writes out next, and when there is no more.
//!
//! A tablet holds in memory what was written since its last checkpoint; the rest lies on disk, and what is read of it
//! often is in the node's cache of blocks. Once all tablets together hold an eighth of `memory_limit_bytes`, the one that
//! can give up most begins a checkpoint. Where writes come faster than checkpoints are written, they wait at their
//! primary once that is a fifth, are refused for now, and, where that does not help, replicas take no entries for a while.
//! What is not committed can be written out by nobody, so a primary refuses more of it than a sixteenth; but no replica
//! refuses entries because of it: two that wait for one another's place would wait for ever. The cache has a quarter; the
//! rest is for entries that are kept for replicas that lag, for the indexes and filters of what is on disk, for
//! connections and what the allocator holds back.

use crate::storage::Cache;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::{Duration, Instant};

/// How often whoever waits for room looks for it by itself: being woken is quicker, and not promised.
const LOOK: Duration = Duration::from_millis(100);

/// The memory of a node's tablets. Shared by its threads.
pub struct Memory {
    limit: u64,
    cache: Arc<Cache>,
    shares: Mutex<Vec<Weak<Bytes>>>,
    /// Writers that wait for room.
    waiting: AtomicUsize,
    room: Condvar,
}

/// What one tablet holds in memory, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Holding {
    /// What a checkpoint that begins now would write out.
    pub recent: u64,
    /// What is being written out.
    pub frozen: u64,
    /// What is not committed.
    pub prepared: u64,
}

#[derive(Default)]
struct Bytes {
    recent: AtomicU64,
    frozen: AtomicU64,
    prepared: AtomicU64,
}

impl Memory {
    /// The memory of a node that may take so many bytes.
    pub fn new(limit: u64) -> Memory {
        let cache = Arc::new(Cache::new(limit / 4));
        let (shares, waiting, room) = Default::default();
        Memory { limit, cache, shares, waiting, room }
    }

    /// Bytes by which a tablet's log may grow before its next checkpoint: what a process that starts has to read of the
    /// logs of nine tablets or so is less than half of its memory.
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
        let Holding { recent, frozen, prepared } = self.sum();
        recent + frozen + prepared
    }

    /// Waits while a primary takes no more.
    pub fn wait_for_room(&self, until: Instant) {
        if !self.refuses_writes(self.sum()) {
            return;
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut shares = self.shares.lock().expect("a list is not left half-changed");
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.refuses_writes(sum(&shares)) {
                break;
            }
            let woken = self.room.wait_timeout(shares, left.min(LOOK));
            shares = woken.expect("a list is not left half-changed").0;
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    fn refuses_writes(&self, Holding { recent, frozen, prepared }: Holding) -> bool {
        recent + frozen > self.limit / 5 || prepared > self.limit / 16
    }

    fn sum(&self) -> Holding {
        sum(&self.shares.lock().expect("a list is not left half-changed"))
    }

    /// The bytes that can be written out or are not committed, and the most that one tablet can write out.
    fn to_write_out(&self) -> (u64, u64) {
        let shares = self.shares.lock().expect("a list is not left half-changed");
        holdings(&shares).fold((0, 0), |(held, most), one| {
            (held + one.recent + one.prepared, one.recent.max(most))
        })
    }
}

fn holdings(shares: &[Weak<Bytes>]) -> impl Iterator<Item = Holding> {
    shares.iter().filter_map(Weak::upgrade).map(|one| one.holding())
}

fn sum(shares: &[Weak<Bytes>]) -> Holding {
    holdings(shares).fold(Holding::default(), |sum, one| Holding {
        recent: sum.recent + one.recent,
        frozen: sum.frozen + one.frozen,
        prepared: sum.prepared + one.prepared,
    })
}

/// One tablet's share of its node's memory.
pub struct Share {
    memory: Arc<Memory>,
    bytes: Arc<Bytes>,
}

impl Share {
    /// The tablet holds so much now.
    pub fn set(&self, holding: Holding) {
        self.bytes.recent.store(holding.recent, Ordering::Relaxed);
        self.bytes.frozen.store(holding.frozen, Ordering::Relaxed);
        self.bytes.prepared.store(holding.prepared, Ordering::Relaxed);
        if self.memory.waiting.load(Ordering::SeqCst) > 0 && !self.refuses_writes() {
            self.memory.room.notify_all();
        }
    }

    /// Whether the tablets hold too much, and none can give up more than this one.
    pub fn is_to_be_written_out(&self) -> bool {
        let own = self.bytes.holding().recent;
        let (held, most) = self.memory.to_write_out();
        own > 0 && held > self.memory.limit / 8 && most <= own
    }

    /// Whether a primary takes no more before something was written out, or committed.
    pub fn refuses_writes(&self) -> bool {
        self.memory.refuses_writes(self.memory.sum())
    }

    /// Whether a replica takes no more before something was written out.
    pub fn refuses_entries(&self) -> bool {
        let Holding { recent, frozen, .. } = self.memory.sum();
        recent + frozen > self.memory.limit / 4
    }
}

impl Bytes {
    fn holding(&self) -> Holding {
        let [recent, frozen, prepared] =
            [&self.recent, &self.frozen, &self.prepared].map(|bytes| bytes.load(Ordering::Relaxed));
        Holding { recent, frozen, prepared }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(recent: u64, frozen: u64, prepared: u64) -> Holding {
        Holding { recent, frozen, prepared }
    }

    #[test]
    fn the_largest_is_written_out_when_all_together_hold_too_much() {
        let memory = Arc::new(Memory::new(1000));
        let (small, large) = (memory.share(), memory.share());
        small.set(holding(50, 0, 0));
        large.set(holding(75, 0, 0));
        assert!(!large.is_to_be_written_out(), "there is room");
        small.set(holding(50, 0, 1));
        assert!(large.is_to_be_written_out() && !small.is_to_be_written_out());
        large.set(holding(0, 75, 0));
        assert!(!small.is_to_be_written_out(), "enough is being written out");
    }

    #[test]
    fn writes_are_refused_before_entries_and_entries_only_for_what_can_be_written_out() {
        let memory = Arc::new(Memory::new(1000));
        let (one, other) = (memory.share(), memory.share());
        one.set(holding(100, 100, 62));
        assert!(!other.refuses_writes());
        other.set(holding(1, 0, 0));
        assert!(other.refuses_writes() && !other.refuses_entries());
        other.set(holding(0, 0, 1));
        assert!(one.refuses_writes(), "too much is not committed");
        one.set(holding(100, 100, 10_000));
        assert!(!other.refuses_entries(), "nobody can write that out");
        other.set(holding(51, 0, 0));
        assert!(other.refuses_entries());
        drop((one, memory.share()));
        assert!(!other.refuses_entries());
    }

    #[test]
    fn who_waits_for_room_goes_on_when_there_is_some_and_not_for_ever() {
        let memory = Arc::new(Memory::new(1000));
        let share = memory.share();
        share.set(holding(0, 201, 0));
        memory.wait_for_room(Instant::now() + Duration::from_millis(1));
        assert!(share.refuses_writes(), "it was in vain");
        let until = Instant::now() + Duration::from_secs(60);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| memory.wait_for_room(until));
            while memory.waiting.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            share.set(holding(0, 0, 0));
            waiting.join().expect("it was woken");
            assert!(Instant::now() < until);
        });
    }
}
