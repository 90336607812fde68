//! A block of a run: encoded cells, and where each of them begins.

use super::values::ValueFiles;
use crate::error::{Error, Result};
use crate::protocol::cell::{Bytes, Key, Value};
use crate::protocol::entry::{Decoder, Encode};
use crate::protocol::kept::{Away, Held, Kept};
use std::cmp::Ordering;

/// A block is closed when it has this many bytes; one cell may be larger.
pub const BLOCK_BYTES: usize = 32 << 10;

/// Bytes of an offset in the table at the end of a block.
const OFFSET_BYTES: usize = 4;

const GONE: u8 = 0;
const INLINE: u8 = 1;
const BIG: u8 = 2;
const AWAY: u8 = 3;

/// A key where it lies. Ordered as [`Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyRef<'a> {
    slot: u16,
    row: &'a [u8],
    column: &'a [u8],
}

impl<'a> KeyRef<'a> {
    /// The key at the front of a cell, and how many bytes it takes.
    pub fn parse(cell: &'a [u8]) -> Result<(KeyRef<'a>, usize)> {
        let number = |at: usize| Some(u32::from_le_bytes(*cell.get(at..)?.first_chunk()?) as usize);
        let parse = || {
            let slot = u16::from_le_bytes(*cell.first_chunk()?);
            let row_end = number(2)?.checked_add(6)?;
            let row = cell.get(6..row_end)?;
            let column_end = number(row_end)?.checked_add(row_end + 4)?;
            Some((KeyRef { slot, row, column: cell.get(row_end + 4..column_end)? }, column_end))
        };
        parse().ok_or_else(|| Error::corrupt("a key ends early"))
    }

    /// The key by itself.
    pub fn to_key(self) -> Key {
        Key { slot: self.slot, row: self.row.into(), column: self.column.into() }
    }
}

impl<'a> From<&'a Key> for KeyRef<'a> {
    fn from(key: &'a Key) -> KeyRef<'a> {
        KeyRef { slot: key.slot, row: &key.row, column: &key.column }
    }
}

/// A block that is being filled.
#[derive(Debug, Default)]
pub struct Builder {
    bytes: Vec<u8>,
    offsets: Vec<u32>,
}

impl Builder {
    /// Cells in it.
    pub fn cells(&self) -> u32 {
        self.offsets.len() as u32
    }

    /// Whether it has its size.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= BLOCK_BYTES
    }

    /// Appends a cell whose value is where it shall be.
    pub fn add(&mut self, key: &Key, cell: Option<&Kept>) {
        self.offsets.push(self.bytes.len() as u32);
        key.encode(&mut self.bytes);
        encode_cell(cell, &mut self.bytes);
    }

    /// The block's bytes. The builder is empty again.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        self.offsets.drain(..).for_each(|offset| offset.encode(&mut bytes));
        bytes
    }
}

fn encode_cell(cell: Option<&Kept>, out: &mut Vec<u8>) {
    let Some(Kept { version, expires, hash, value }) = cell else { return out.push(GONE) };
    out.push(match value {
        Held::Here(Value::Inline(_)) => INLINE,
        Held::Here(Value::Big(_)) => BIG,
        Held::Away(_) => AWAY,
    });
    [version, expires, hash].iter().for_each(|number| number.encode(out));
    match value {
        Held::Here(Value::Inline(bytes)) => bytes.encode(out),
        Held::Here(Value::Big(head)) => head.encode(out),
        Held::Away(away) => {
            [away.file, away.offset].iter().for_each(|number| number.encode(out));
            [away.length, away.crc].iter().for_each(|number| number.encode(out));
        }
    }
}

/// Reads a cell; none is a cell that was removed.
///
/// # Errors
/// [`Error::Corrupt`]: it is no cell, or its value lies in none of these files.
pub fn decode_cell(bytes: &[u8], values: &ValueFiles) -> Result<(Key, Option<Kept>)> {
    let (key, end) = KeyRef::parse(bytes)?;
    let kept = decode_kept(&bytes[end..], values)?;
    Ok((key.to_key(), kept))
}

fn decode_kept(bytes: &[u8], values: &ValueFiles) -> Result<Option<Kept>> {
    let Some((&tag, rest)) = bytes.split_first() else {
        return Err(Error::corrupt("a cell ends early"));
    };
    let mut from = Decoder(rest);
    let kept = match tag {
        GONE => None,
        INLINE | BIG | AWAY => {
            let (version, expires, hash) = (from.read()?, from.read()?, from.read()?);
            let value = match tag {
                INLINE => Held::Here(Value::Inline(from.read::<Bytes>()?)),
                BIG => Held::Here(Value::Big(from.read()?)),
                _ => Held::Away(decode_away(&mut from, values)?),
            };
            Some(Kept { version, expires, hash, value })
        }
        tag => return Err(Error::corrupt(format!("unknown tag {tag} of a cell"))),
    };
    match from.is_empty() {
        true => Ok(kept),
        false => Err(Error::corrupt("bytes follow a cell")),
    }
}

fn decode_away(from: &mut Decoder, values: &ValueFiles) -> Result<Away> {
    let (file, offset, length, crc) = (from.read()?, from.read()?, from.read()?, from.read()?);
    let Some(found) = values.get(&file) else {
        return Err(Error::corrupt(format!("there is no file {file:016x} of values")));
    };
    Ok(Away { file, offset, length, crc, from: found.clone() })
}

/// A block that was read.
#[derive(Debug)]
pub struct Block {
    bytes: Vec<u8>,
    cells: usize,
    /// Where the table of offsets begins.
    table: usize,
}

impl Block {
    /// Takes a block of so many cells.
    pub fn new(bytes: Vec<u8>, cells: u32) -> Result<Block> {
        let cells = cells as usize;
        let table = cells.checked_mul(OFFSET_BYTES).and_then(|len| bytes.len().checked_sub(len));
        let table = table.ok_or_else(|| Error::corrupt("a block is too short for its cells"))?;
        Ok(Block { bytes, cells, table })
    }

    /// Bytes that it takes in memory.
    pub fn weight(&self) -> u64 {
        (self.bytes.len() + size_of::<Block>()) as u64
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        self.cells
    }

    /// A cell's bytes.
    pub fn cell(&self, n: usize) -> Result<&[u8]> {
        let end = if n + 1 == self.cells { Some(self.table) } else { self.offset(n + 1) };
        let cell = || self.bytes.get(self.offset(n)?..end?);
        cell().ok_or_else(|| Error::corrupt("a cell lies outside its block"))
    }

    /// A cell's key.
    pub fn key(&self, n: usize) -> Result<KeyRef<'_>> {
        Ok(KeyRef::parse(self.cell(n)?)?.0)
    }

    /// The number of cells whose keys lie before a place among them.
    pub fn partition(&self, is_before: impl Fn(KeyRef) -> bool) -> Result<usize> {
        let (mut low, mut high) = (0, self.cells);
        while low < high {
            let middle = low + (high - low) / 2;
            match is_before(self.key(middle)?) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        Ok(low)
    }

    /// The bytes of the cell with this key.
    pub fn find(&self, key: KeyRef) -> Result<Option<&[u8]>> {
        let at = self.partition(|other| other < key)?;
        if at == self.cells || self.key(at)?.cmp(&key) != Ordering::Equal {
            return Ok(None);
        }
        self.cell(at).map(Some)
    }

    fn offset(&self, n: usize) -> Option<usize> {
        let at = self.table + n * OFFSET_BYTES;
        let offset = u32::from_le_bytes(*self.bytes.get(at..)?.first_chunk()?) as usize;
        (offset <= self.table).then_some(offset)
    }
}
