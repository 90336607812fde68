//! One record of the log: a header with a checksum of its own, and an entry.

use super::Position;
use crate::error::{Error, Result};
use crate::protocol::entry::{Decoder, Encode, Entry};

/// Records begin at multiples of this.
pub(super) const ALIGN: usize = 8;

/// Bytes of a record's header.
pub(super) const HEADER_BYTES: usize = 32;

/// Largest entry, in its binary form. Far above what a BATCH or a chunk may hold.
pub const ENTRY_BYTES_MAX: usize = 64 << 20;

/// Bytes of the entry's epoch, version and epoch before, with which its binary form begins.
const LINEAGE_BYTES: usize = 24;

/// The header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes of the entry.
    pub len: u32,
    /// Checksum of the entry.
    pub entry_crc: u32,
    /// Version up to which the log was synced when this was written.
    pub durable: u64,
    /// Version of the entry.
    pub version: u64,
}

impl Header {
    /// Reads a header; `None` if these bytes are not one of this incarnation.
    pub fn decode(bytes: &[u8], incarnation: u64) -> Option<Header> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        let mut from = Decoder(bytes);
        let mut word = || from.read::<u32>().ok();
        let (len, entry_crc) = (word()?, word()?);
        if len < LINEAGE_BYTES as u32 || len as usize > ENTRY_BYTES_MAX || bytes[28..] != [0; 4] {
            return None;
        }
        let (durable, version) = (from.read().ok()?, from.read().ok()?);
        let crc: u32 = from.read().ok()?;
        (crc == checksum(incarnation, &bytes[..24])).then_some(Header {
            len,
            entry_crc,
            durable,
            version,
        })
    }

    fn encode(&self, incarnation: u64) -> [u8; HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        self.len.encode(&mut bytes);
        self.entry_crc.encode(&mut bytes);
        self.durable.encode(&mut bytes);
        self.version.encode(&mut bytes);
        checksum(incarnation, &bytes).encode(&mut bytes);
        0u32.encode(&mut bytes);
        bytes.try_into().expect("a header's fields are its bytes")
    }
}

fn checksum(incarnation: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&incarnation.to_le_bytes()), bytes)
}

/// A whole and valid record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    /// Its entry, in binary form.
    pub entry: &'a [u8],
    /// Which entry it is.
    pub position: Position,
    /// Epoch of the entry before.
    pub prev_epoch: u64,
}

impl<'a> Record<'a> {
    /// Reads the record at the front of these bytes; `None` if there is no whole one of this incarnation.
    pub fn decode(bytes: &'a [u8], incarnation: u64) -> Option<Record<'a>> {
        let header = Header::decode(bytes, incarnation)?;
        let entry = bytes.get(HEADER_BYTES..HEADER_BYTES + header.len as usize)?;
        if crc32c::crc32c(entry) != header.entry_crc {
            return None;
        }
        let mut from = Decoder(entry);
        let position = Position { epoch: from.read().ok()?, version: from.read().ok()? };
        let prev_epoch = from.read().ok()?;
        (position.version == header.version).then_some(Record { entry, position, prev_epoch })
    }

    /// Bytes of the record in its segment.
    pub fn size(&self) -> usize {
        padded(HEADER_BYTES + self.entry.len())
    }

    /// Whether it is the entry right after this position.
    pub fn follows(&self, before: Position) -> bool {
        self.position.version == before.version + 1
            && self.prev_epoch == before.epoch
            && self.position.epoch >= before.epoch
    }
}

/// Appends an entry's record. The length of `out` must be a multiple of [`ALIGN`], and stays one.
pub(super) fn encode(
    entry: &Entry,
    durable: u64,
    incarnation: u64,
    out: &mut Vec<u8>,
) -> Result<()> {
    let start = out.len();
    out.resize(start + HEADER_BYTES, 0);
    entry.encode(out);
    let bytes = &out[start + HEADER_BYTES..];
    if bytes.len() > ENTRY_BYTES_MAX {
        return Err(Error::TooBig(format!("an entry of {} bytes", bytes.len())));
    }
    let header = Header {
        len: bytes.len() as u32,
        entry_crc: crc32c::crc32c(bytes),
        durable,
        version: entry.version,
    };
    out[start..start + HEADER_BYTES].copy_from_slice(&header.encode(incarnation));
    out.resize(padded(out.len()), 0);
    Ok(())
}

/// Bytes of a record, or of an entry in it, up to where the next may begin.
pub(super) fn padded(len: usize) -> usize {
    len.next_multiple_of(ALIGN)
}

#[cfg(test)]
mod tests {
    use super::super::tests::entry;
    use super::*;

    fn record(durable: u64, incarnation: u64) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&entry(7, 100), durable, incarnation, &mut out).expect("small");
        out
    }

    #[test]
    fn a_record_comes_back() {
        let bytes = record(5, 1);
        let read = Record::decode(&bytes, 1).expect("valid");
        assert_eq!(Entry::from_bytes(read.entry), Ok(entry(7, 100)));
        assert_eq!(read.size(), bytes.len());
        assert_eq!(read.position.version, 7);
        assert_eq!(Header::decode(&bytes, 1).expect("valid").durable, 5);
    }

    #[test]
    fn a_record_of_another_incarnation_is_none() {
        assert!(Record::decode(&record(5, 1), 2).is_none());
        assert!(Header::decode(&record(5, 1), 2).is_none());
    }

    #[test]
    fn no_flipped_bit_passes() {
        let whole = record(5, 1);
        let end = HEADER_BYTES + entry(7, 100).to_bytes().len();
        for bit in 0..end * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::decode(&bytes, 1).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn no_part_of_a_record_passes() {
        let whole = record(5, 1);
        let end = HEADER_BYTES + entry(7, 100).to_bytes().len();
        for len in 0..end {
            assert!(Record::decode(&whole[..len], 1).is_none(), "{len} bytes");
        }
    }

    #[test]
    fn an_entry_over_the_limit_is_refused() {
        let mut big = entry(1, 0);
        big.answer.words = vec![vec![0; ENTRY_BYTES_MAX].into()];
        assert!(matches!(encode(&big, 0, 1, &mut Vec::new()), Err(Error::TooBig(_))));
    }
}
