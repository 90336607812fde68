//! Cells on disk: sorted runs, and the large values beside them. The formats stand in [`storage`](super).
//!
//! From the bottom up: a [`block`] of encoded cells and its [`filter`]; a run's end ([`footer`]), how it is written
//! ([`mod@write`]) and read ([`run`]); files of large [`values`]; several runs as one sorted sequence ([`merged`]); all runs
//! of a tablet as what lies below its table ([`runs`]). All blocks that are read for somebody go through the node's
//! [`cache`].

mod block;
mod cache;
mod damage;
mod filter;
mod footer;
mod merged;
mod output;
mod run;
mod runs;
mod values;
mod write;

pub use cache::Cache;
pub use damage::Damage;
pub use runs::Runs;

pub(super) use output::{Finished, Output, Sequences};
pub(super) use run::Run;
pub(super) use values::ValueFile;

use std::sync::Arc;

/// Names of runs begin with this; the sequence number follows.
pub(super) const RUN: &str = "run";

/// Names of value files begin with this; the sequence number follows.
pub(super) const VALUES: &str = "values";

/// In a run's footer: it was made of all cells that there were, and is merged again only with as much.
pub(super) const SETTLED: u32 = u32::MAX;

/// What all files of a tablet's cells share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    /// The node's block cache.
    pub cache: Arc<Cache>,
    /// Damage that was met in them.
    pub damage: Arc<Damage>,
}

impl Shared {
    /// Of a tablet in which no damage was met yet.
    pub fn new(cache: Arc<Cache>) -> Shared {
        Shared { cache, damage: Arc::default() }
    }
}

#[cfg(test)]
#[path = "fuzz_tests.rs"]
pub(super) mod fuzz;
