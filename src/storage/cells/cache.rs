//! The blocks that are kept in memory, for all tablets of a node.

use super::block::Block;
use quick_cache::Weighter;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of an average block, to begin with.
const BLOCK_BYTES: u64 = 32 << 10;

/// A bounded cache of blocks, shared by all threads of a node.
///
/// A cell that is asked for brings its block in. Whoever reads a range takes what is there, and brings in the first
/// blocks only: a short list is served from memory the next time, and a long one, or a merge, clears nothing out.
#[derive(Debug)]
pub struct Cache {
    blocks: quick_cache::sync::Cache<(u64, u32), Arc<Block>, Weight>,
    /// Number of the next run that is opened.
    next: AtomicU64,
}

#[derive(Clone, Debug)]
struct Weight;

impl Weighter<(u64, u32), Arc<Block>> for Weight {
    fn weight(&self, _: &(u64, u32), block: &Arc<Block>) -> u64 {
        block.weight()
    }
}

impl Cache {
    /// A cache of so many bytes.
    pub fn new(bytes: u64) -> Cache {
        let blocks = (bytes / BLOCK_BYTES).max(1) as usize;
        let blocks = quick_cache::sync::Cache::with_weighter(blocks, bytes, Weight);
        Cache { blocks, next: AtomicU64::new(0) }
    }

    /// Bytes that are in it.
    pub fn used(&self) -> u64 {
        self.blocks.weight()
    }

    /// A number for a run: no two that are open have the same.
    pub(super) fn register(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A block of a run, which counts as used.
    pub(super) fn get(&self, run: u64, block: u32) -> Option<Arc<Block>> {
        self.blocks.get(&(run, block))
    }

    /// A block of a run; it makes no difference that it was asked for.
    pub(super) fn peek(&self, run: u64, block: u32) -> Option<Arc<Block>> {
        self.blocks.peek(&(run, block))
    }

    /// Takes a block in; another may have to go.
    pub(super) fn insert(&self, run: u64, number: u32, block: &Arc<Block>) {
        self.blocks.insert((run, number), block.clone());
    }

    /// Lets a run's blocks go: nobody asks for them any more.
    pub(super) fn forget(&self, run: u64, blocks: u32) {
        (0..blocks).for_each(|block| drop(self.blocks.remove(&(run, block))));
    }
}
