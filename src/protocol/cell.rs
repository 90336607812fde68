//! What a tablet holds: keys, cells, and where a row belongs.

use crate::error::{Error, Result};
use std::sync::Arc;

/// Bytes shared between the tables, snapshots and answers that hold them.
pub type Bytes = Arc<[u8]>;

/// Number of slots into which owners are hashed. A constant of the file format.
pub const SLOTS: u16 = 1024;

/// Longest row or column name.
pub const NAME_BYTES_MAX: usize = 1024;

/// The owner of a row: its name up to the first `/`; a row that starts with `~` is its own owner.
pub fn owner(row: &[u8]) -> &[u8] {
    if row.first() == Some(&b'~') {
        return row;
    }
    let end = row.iter().position(|&b| b == b'/').unwrap_or(row.len());
    &row[..end]
}

/// The slot of an owner: CRC-32C of its name, modulo [`SLOTS`].
pub fn slot_of_owner(owner: &[u8]) -> u16 {
    (crc32c::crc32c(owner) % u32::from(SLOTS)) as u16
}

/// The slot of a row.
pub fn slot(row: &[u8]) -> u16 {
    slot_of_owner(owner(row))
}

/// Name of a big value that is being written or has been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub u128);

impl ValueId {
    /// A new id.
    pub fn new() -> ValueId {
        ValueId(uuid::Uuid::now_v7().as_u128())
    }

    /// Reads 32 hexadecimal digits.
    pub fn parse(word: &[u8]) -> Result<ValueId> {
        parse_hex128(word)
            .map(ValueId)
            .ok_or_else(|| Error::bad("<id> must be 32 hexadecimal digits"))
    }
}

impl Default for ValueId {
    fn default() -> ValueId {
        ValueId::new()
    }
}

impl std::fmt::Display for ValueId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Reads exactly 32 hexadecimal digits.
pub fn parse_hex128(word: &[u8]) -> Option<u128> {
    let text = std::str::from_utf8(word).ok()?;
    (word.len() == 32 && word.iter().all(u8::is_ascii_hexdigit))
        .then(|| u128::from_str_radix(text, 16).ok())?
}

/// Where a cell stands in its tablet. Ordered by slot, row, column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Slot of the row's owner.
    pub slot: u16,
    /// Row name.
    pub row: Bytes,
    /// Column name.
    pub column: Bytes,
}

impl Key {
    /// The key of a cell.
    pub fn new(row: &[u8], column: &[u8]) -> Key {
        Key { slot: slot(row), row: row.into(), column: column.into() }
    }

    /// The key of a chunk in its large-value tablet: the value's id is the row, the offset the column.
    pub fn chunk(slot: u16, id: ValueId, offset: u64) -> Key {
        Key {
            slot,
            row: id.to_string().as_bytes().into(),
            column: format!("{offset:016x}").as_bytes().into(),
        }
    }
}

/// A stored value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The tablet's version when it was written.
    pub version: u64,
    /// When the primary removes it, in milliseconds since 1970; 0 is never.
    pub expires: u64,
    /// The value's bytes, or its head.
    pub value: Value,
}

/// The value of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Bytes kept in the cell.
    Inline(Bytes),
    /// A big value whose chunks lie in large-value tablets.
    Big(Arc<Head>),
}

impl Value {
    /// Length of the whole value in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Value::Inline(bytes) => bytes.len() as u64,
            Value::Big(head) => head.length,
        }
    }

    /// Whether the value has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, if they are kept in the cell.
    pub fn into_inline(self) -> Option<Bytes> {
        match self {
            Value::Inline(bytes) => Some(bytes),
            Value::Big(_) => None,
        }
    }

    /// Bytes that the cell itself takes.
    pub fn weight(&self) -> u64 {
        match self {
            Value::Inline(bytes) => bytes.len() as u64,
            Value::Big(head) => 32 + 8 * head.chunks.len() as u64,
        }
    }
}

/// Head of a big value: which chunks it is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The value's id, under which its chunks lie.
    pub id: ValueId,
    /// Length of the whole value.
    pub length: u64,
    /// CRC-32C of the whole value.
    pub crc: u32,
    /// Length and CRC-32C of each chunk, in order.
    pub chunks: Vec<Chunk>,
}

/// One chunk of a big value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Length in bytes.
    pub length: u32,
    /// CRC-32C of its bytes.
    pub crc: u32,
}

impl Head {
    /// Puts a head together from contiguous chunks.
    pub fn new(id: ValueId, chunks: Vec<Chunk>) -> Head {
        let length = chunks.iter().map(|c| u64::from(c.length)).sum();
        let crc =
            chunks.iter().fold(0, |crc, c| crc32c::crc32c_combine(crc, c.crc, c.length as usize));
        Head { id, length, crc, chunks }
    }
}
