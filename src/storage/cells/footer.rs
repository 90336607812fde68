//! The end of a run: what it holds, and where.

use super::filter;
use crate::error::{Error, Result};
use crate::protocol::cell::Key;
use crate::protocol::entry::{Decoder, Encode};
use std::collections::BTreeMap;

/// Bytes at the very end: length and checksum of the footer.
pub const TAIL_BYTES: usize = 8;

/// Where a block lies, and what it begins with.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its first byte.
    pub offset: u64,
    /// Bytes.
    pub len: u32,
    /// CRC-32C of them.
    pub crc: u32,
    /// Cells in it.
    pub cells: u32,
    /// Key of the first.
    pub first: Key,
}

impl Encode for Entry {
    fn encode(&self, out: &mut Vec<u8>) {
        self.offset.encode(out);
        [self.len, self.crc, self.cells].iter().for_each(|number| number.encode(out));
        self.first.encode(out);
    }
    fn decode(from: &mut Decoder) -> Result<Entry> {
        let (offset, len, crc, cells) = (from.read()?, from.read()?, from.read()?, from.read()?);
        Ok(Entry { offset, len, crc, cells, first: from.read()? })
    }
}

/// Reads an index whose blocks begin at a byte; they follow one another without a gap.
pub fn read_index(bytes: &[u8], start: u64) -> Result<Vec<Entry>> {
    let (mut from, mut index, mut end) = (Decoder(bytes), Vec::<Entry>::new(), start);
    while !from.is_empty() {
        let entry: Entry = from.read()?;
        let is_next = index.last().is_none_or(|last| last.first < entry.first);
        if entry.offset != end || entry.cells == 0 || !is_next {
            return Err(Error::corrupt("the blocks of an index do not follow one another"));
        }
        end += u64::from(entry.len);
        index.push(entry);
    }
    Ok(index)
}

/// Where the filter of each block begins, and the end of them all.
pub fn filter_offsets(index: &[Entry]) -> Vec<usize> {
    let mut ends = vec![0];
    ends.extend(index.iter().scan(0, |end, block| {
        *end += filter::len(block.cells);
        Some(*end)
    }));
    ends
}

/// What a run holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Footer {
    /// The run's number.
    pub sequence: u64,
    /// How often what it holds was merged with its like; [`SETTLED`](super::SETTLED) where that does not
    /// count.
    pub merges: u32,
    /// Cells.
    pub cells: u64,
    /// Cells that were removed.
    pub gone: u64,
    /// Where the index begins, and the blocks end.
    pub index_offset: u64,
    /// Bytes of the index; the filters follow it.
    pub index_len: u64,
    /// CRC-32C of the index.
    pub index_crc: u32,
    /// Bytes of the filters; the footer follows them.
    pub filter_len: u64,
    /// CRC-32C of the filters.
    pub filter_crc: u32,
    /// Bytes that its cells have in each file of values.
    pub referred: BTreeMap<u64, u64>,
}

impl Footer {
    /// The footer and its tail; the checksum with which both end.
    pub fn to_bytes(&self) -> (Vec<u8>, u32) {
        let mut out = Vec::new();
        self.sequence.encode(&mut out);
        self.merges.encode(&mut out);
        for number in [self.cells, self.gone, self.index_offset, self.index_len] {
            number.encode(&mut out);
        }
        self.index_crc.encode(&mut out);
        self.filter_len.encode(&mut out);
        self.filter_crc.encode(&mut out);
        for (file, bytes) in &self.referred {
            [file, bytes].iter().for_each(|number| number.encode(&mut out));
        }
        (out.len() as u32).encode(&mut out);
        let crc = crc32c::crc32c(&out);
        crc.encode(&mut out);
        (out, crc)
    }

    /// Length of the footer without its tail, as the tail says.
    pub fn length(tail: &[u8; TAIL_BYTES]) -> u64 {
        let [a, b, c, d, ..] = *tail;
        u32::from_le_bytes([a, b, c, d]).into()
    }

    /// Reads a footer with its tail, and its checksum; none if it is damaged.
    pub fn decode(bytes: &[u8]) -> Option<(Footer, u32)> {
        let (rest, crc) = bytes.split_last_chunk::<4>()?;
        let (body, len) = rest.split_last_chunk::<4>()?;
        let crc = u32::from_le_bytes(*crc);
        if crc32c::crc32c(rest) != crc || u32::from_le_bytes(*len) as usize != body.len() {
            return None;
        }
        let mut from = Decoder(body);
        let mut footer = Footer {
            sequence: from.read().ok()?,
            merges: from.read().ok()?,
            cells: from.read().ok()?,
            gone: from.read().ok()?,
            index_offset: from.read().ok()?,
            index_len: from.read().ok()?,
            index_crc: from.read().ok()?,
            filter_len: from.read().ok()?,
            filter_crc: from.read().ok()?,
            referred: BTreeMap::new(),
        };
        while !from.is_empty() {
            footer.referred.insert(from.read().ok()?, from.read().ok()?);
        }
        Some((footer, crc))
    }
}
