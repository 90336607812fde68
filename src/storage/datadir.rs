//! The data directory of a node.

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// The data directory of a node, locked for this process.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    uuid: Uuid,
}

impl DataDir {
    /// Opens a data directory, made if it is not there. Refuses one that another process uses, one of an
    /// unknown format, and one that cannot be written, each with a sentence.
    pub fn open_or_create(path: &Path) -> Result<DataDir> {
        let _ = path;
        Err(Error::retry("storage is being built"))
    }

    /// Made with the directory: a wiped disk is another store.
    pub fn store_uuid(&self) -> Uuid {
        self.uuid
    }

    /// Bytes that may still be written to its disk.
    pub fn free_bytes(&self) -> Result<u64> {
        Ok(0)
    }

    /// Directory of a tablet, for [`open`](super::open); its name has letters, digits and `-` only.
    pub fn tablet(&self, name: &str) -> PathBuf {
        self.path.join("tablets").join(name)
    }

    /// Names of the tablets that are there, sorted.
    pub fn tablets(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}
