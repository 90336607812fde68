//! Cells as a tablet keeps them: in memory, or on its disk and read when they are needed.
//!
//! A table holds in memory what was written lately; everything else lies below it, in files. What is below never
//! changes: a table with other files below it is another table, and whoever still reads the one before goes on to.

use super::cell::{Bytes, Cell, Key, Value};
use crate::error::Result;
use std::fmt::Debug;
use std::ops::Bound;
use std::sync::Arc;

/// A cell, and what is known of it without reading its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// The tablet's version when it was written.
    pub version: u64,
    /// When the primary removes it, in milliseconds since 1970; 0 is never.
    pub expires: u64,
    /// Its hash in the table's digest: who overwrites a large value need not read it.
    pub hash: u64,
    /// The value, or where it is.
    pub value: Held,
}

/// The value of a cell, or where it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Held {
    /// In memory.
    Here(Value),
    /// On the disk, apart from the cell.
    Away(Away),
}

/// A value that lies on the disk.
#[derive(Clone, Debug)]
pub struct Away {
    /// Number of the file.
    pub file: u64,
    /// Its first byte there.
    pub offset: u64,
    /// Bytes.
    pub length: u32,
    /// CRC-32C of them.
    pub crc: u32,
    /// Who reads the file.
    pub from: Arc<dyn Values>,
}

impl PartialEq for Away {
    fn eq(&self, other: &Away) -> bool {
        let what = |away: &Away| (away.file, away.offset, away.length, away.crc);
        what(self) == what(other)
    }
}

/// A file of values.
pub trait Values: Debug + Send + Sync {
    /// Reads a value and compares its checksum.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::error::Error::Corrupt): it is not what was written.
    fn read(&self, offset: u64, length: u32, crc: u32) -> Result<Bytes>;
}

impl Kept {
    /// The cell with its value, read from the disk where it lies there.
    pub fn load(&self) -> Result<Cell> {
        let value = match &self.value {
            Held::Here(value) => value.clone(),
            Held::Away(away) => {
                Value::Inline(away.from.read(away.offset, away.length, away.crc)?)
            }
        };
        Ok(Cell { version: self.version, expires: self.expires, value })
    }
}

impl Held {
    /// Length of the whole value in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Held::Here(value) => value.len(),
            Held::Away(away) => away.length.into(),
        }
    }

    /// Whether the value has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the cell itself takes, wherever they are.
    pub fn weight(&self) -> u64 {
        match self {
            Held::Here(value) => value.weight(),
            Held::Away(away) => away.length.into(),
        }
    }
}

/// Some cells of a table in the order of their keys. What was removed is `None`: it hides what older cells there are.
pub type Changes<'a> = Box<dyn Iterator<Item = Result<(Key, Option<Kept>)>> + Send + 'a>;

/// Cells in the order of their keys, or in the opposite one.
pub type Range<'a> = Box<dyn Iterator<Item = Result<(Key, Kept)>> + Send + 'a>;

/// The cells below a table: on disk, and never changed.
pub trait Lower: Debug + Send + Sync {
    /// A cell.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::error::Error::Corrupt): what should say so is damaged.
    fn get(&self, key: &Key) -> Result<Option<Kept>>;

    /// Cells from one key to another, read while they are taken. Ends after the first error.
    fn range(&self, low: Bound<Key>, high: Bound<Key>, reverse: bool) -> Range<'_>;
}

/// What a table's cells and everything beside them add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Number of cells.
    pub cells: u64,
    /// Bytes of names and values, and of what stands beside the cells.
    pub bytes: u64,
    /// The sum of the hashes of all parts.
    pub digest: u64,
}
