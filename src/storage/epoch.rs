//! The durable configuration of a tablet: the file `epoch`.

use super::file;
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Name of the file in the tablet's directory.
const NAME: &str = "epoch";

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
        file::load_json(&dir.join(NAME))
    }

    /// Stores it durably in a tablet's directory, which is made if it is not there.
    pub fn store(&self, dir: &Path) -> Result<()> {
        file::create_dir(dir)?;
        file::store_json(&dir.join(NAME), self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn config() -> TabletConfig {
        TabletConfig {
            epoch: 7,
            sealed_epoch: 6,
            primary: "a1".into(),
            isr: vec!["a1".into()],
            members: vec!["a1".into(), "a2".into()],
            min_insync: 1,
        }
    }

    #[test]
    fn a_stored_configuration_comes_back() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let tablet = dir.path().join("tablets/a-s0");
        assert_eq!(TabletConfig::load(&tablet), Ok(None));
        config().store(&tablet).expect("stored");
        assert_eq!(TabletConfig::load(&tablet), Ok(Some(config())));
    }

    #[test]
    fn a_damaged_configuration_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        config().store(dir.path()).expect("stored");
        let path = dir.path().join(NAME);
        let text = std::fs::read_to_string(&path).expect("read").replace("\"a1\"", "\"a2\"");
        std::fs::write(&path, text).expect("written");
        assert!(matches!(TabletConfig::load(dir.path()), Err(Error::Corrupt(_))));
    }
}
