//! Checkpoints: written once, sorted, read by block. The format stands in [`storage`](super).

mod read;
mod write;

pub use read::{CheckpointReader, Items};
pub use write::write_checkpoint;
pub(super) use write::write_temporary;

use super::{Position, file};
use crate::error::{Error, Result};
use crate::protocol::cell::Key;
use crate::protocol::entry::{Decoder, Encode};
use std::path::{Path, PathBuf};

/// Names of checkpoints begin with this; the version follows.
const PREFIX: &str = "checkpoint";

const MAGIC: &[u8; 8] = b"PENNCKP1";

/// A block is closed when it has this many bytes; one item may be larger.
const BLOCK_BYTES: usize = 64 << 10;

/// Bytes of the footer.
const FOOTER_BYTES: usize = 5 * 8 + 2 * 4;

/// What a finished checkpoint holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointSummary {
    /// The last entry that it contains.
    pub position: Position,
    /// Items in it.
    pub items: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Where a block lies, and what it begins with.
#[derive(Clone, Debug, PartialEq)]
struct Block {
    offset: u64,
    len: u32,
    crc: u32,
    items: u32,
    /// Key of its first cell; none if it is not of cells.
    first: Option<Key>,
}

impl Encode for Block {
    fn encode(&self, out: &mut Vec<u8>) {
        self.offset.encode(out);
        self.len.encode(out);
        self.crc.encode(out);
        self.items.encode(out);
        self.first.encode(out);
    }
    fn decode(from: &mut Decoder) -> Result<Block> {
        Ok(Block {
            offset: from.read()?,
            len: from.read()?,
            crc: from.read()?,
            items: from.read()?,
            first: from.read()?,
        })
    }
}

/// The end of the file: what it holds, and where its index lies.
#[derive(Clone, Debug, PartialEq)]
struct Footer {
    position: Position,
    items: u64,
    index_offset: u64,
    index_len: u64,
    index_crc: u32,
}

impl Footer {
    fn to_bytes(&self) -> Vec<u8> {
        let (Position { version, epoch }, mut out) = (self.position, Vec::new());
        for number in [version, epoch, self.items, self.index_offset, self.index_len] {
            number.encode(&mut out);
        }
        self.index_crc.encode(&mut out);
        crc32c::crc32c(&out).encode(&mut out);
        out
    }

    /// Reads a footer; `None` if its checksum is wrong.
    fn decode(bytes: &[u8; FOOTER_BYTES]) -> Option<Footer> {
        let (body, crc) = bytes.split_at(FOOTER_BYTES - 4);
        if crc32c::crc32c(body).to_le_bytes() != crc {
            return None;
        }
        let mut from = Decoder(body);
        let mut number = || from.read::<u64>().ok();
        Some(Footer {
            position: Position { version: number()?, epoch: number()? },
            items: number()?,
            index_offset: number()?,
            index_len: number()?,
            index_crc: from.read().ok()?,
        })
    }
}

/// Opens the newest checkpoint whose index and footer are whole. Where a newer one is damaged, that error
/// comes with it: it matters if the log does not reach back to this one.
pub(super) fn newest(dir: &Path) -> Result<(Option<CheckpointReader>, Option<Error>)> {
    let mut damage = None;
    for (version, path) in list(dir)?.into_iter().rev() {
        match CheckpointReader::open(&path, version) {
            Ok(reader) => return Ok((Some(reader), damage)),
            Err(Error::Corrupt(why)) => {
                log::error!("{why}");
                damage = damage.or(Some(Error::Corrupt(why)));
            }
            Err(other) => return Err(other),
        }
    }
    Ok((None, damage))
}

/// Path of the checkpoint of a version.
pub(super) fn path(dir: &Path, version: u64) -> PathBuf {
    file::numbered_path(dir, PREFIX, version)
}

/// Checkpoints of a tablet's directory by version.
pub(super) fn list(dir: &Path) -> Result<Vec<(u64, PathBuf)>> {
    file::numbered(dir, PREFIX)
}

/// Removes the checkpoints before a version.
pub(super) fn remove_older(dir: &Path, version: u64) -> Result<()> {
    let mut older = list(dir)?.into_iter().filter(|(v, _)| *v < version);
    older.try_for_each(|(_, path)| file::remove(&path))
}

#[cfg(test)]
mod tests;
