//! The durable mark: up to which version the log is known to be synced.

use super::file::{self, AtPath};
use crate::error::Result;
use crate::protocol::entry::{Decoder, Encode};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Name of the file in the tablet's directory.
const NAME: &str = "durable";

const MAGIC: &[u8; 8] = b"PENNDUR1";

/// Each slot has a sector of its own.
const SLOT_BYTES: u64 = 512;

/// Bytes of a slot that mean something: magic, three numbers, checksum.
const USED_BYTES: usize = 8 + 3 * 8 + 4;

/// What the mark says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// One more with every write.
    serial: u64,
    /// Everything up to this version was synced.
    pub version: u64,
    /// The active segment.
    pub sequence: u64,
}

impl Mark {
    /// Reads the mark of a tablet's directory; none says nothing.
    pub(super) fn load(dir: &Path) -> Result<Option<Mark>> {
        let path = dir.join(NAME);
        match std::fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            read => Ok(Mark::newest(&read.at("read", &path)?)),
        }
    }

    fn newest(bytes: &[u8]) -> Option<Mark> {
        [0, SLOT_BYTES as usize]
            .into_iter()
            .filter_map(|at| Mark::decode(bytes.get(at..at + USED_BYTES)?))
            .max()
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for number in [self.serial, self.version, self.sequence] {
            number.encode(&mut out);
        }
        crc32c::crc32c(&out).encode(&mut out);
        out
    }

    fn decode(bytes: &[u8]) -> Option<Mark> {
        let (body, crc) = bytes.split_at(USED_BYTES - 4);
        if crc32c::crc32c(body).to_le_bytes() != crc || !body.starts_with(MAGIC) {
            return None;
        }
        let mut from = Decoder(&body[MAGIC.len()..]);
        let mut number = || from.read::<u64>().ok();
        Some(Mark { serial: number()?, version: number()?, sequence: number()? })
    }
}

/// Removes the mark of a tablet's directory; durable after the next sync of the directory.
pub(super) fn remove(dir: &Path) -> Result<()> {
    file::remove(&dir.join(NAME))
}

/// Writes the mark.
#[derive(Debug)]
pub(super) struct Marker {
    file: File,
    path: PathBuf,
    serial: u64,
}

impl Marker {
    /// Opens the mark of a tablet's directory for writing, made if it is not there.
    pub fn open(dir: &Path) -> Result<Marker> {
        let path = dir.join(NAME);
        let serial = Mark::load(dir)?.unwrap_or_default().serial;
        if !path.exists() {
            super::segment::preallocate(&path, 2 * SLOT_BYTES)?;
            file::sync_dir(dir)?;
        }
        let file = OpenOptions::new().write(true).open(&path).at("open", &path)?;
        Ok(Marker { file, path, serial })
    }

    /// Says that everything up to `version` is synced. Not synced itself: it reaches the disk in time.
    pub fn set(&mut self, version: u64, sequence: u64) -> Result<()> {
        self.serial += 1;
        let mark = Mark { serial: self.serial, version, sequence };
        let offset = self.serial % 2 * SLOT_BYTES;
        file::write_at(&self.file, &self.path, &mark.encode(), offset)
    }

    /// Takes back what the mark says of later versions, durably, before they are cut off.
    pub fn lower(&mut self, version: u64, sequence: u64) -> Result<()> {
        for _slot in 0..2 {
            self.set(version, sequence)?;
        }
        file::sync(&self.file, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_whole_slot_counts() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(Mark::load(dir.path()), Ok(None));
        let mut marker = Marker::open(dir.path()).expect("made");
        marker.set(7, 1).expect("written");
        marker.set(9, 2).expect("written");
        let version = || Mark::load(dir.path()).expect("read").expect("there").version;
        assert_eq!(version(), 9);
        let path = dir.path().join(NAME);
        let mut bytes = std::fs::read(&path).expect("read");
        bytes[10] ^= 1;
        std::fs::write(&path, bytes).expect("written");
        assert_eq!(version(), 7);
    }

    #[test]
    fn a_lowered_mark_stays_lowered_after_a_torn_write() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut marker = Marker::open(dir.path()).expect("made");
        marker.set(9, 2).expect("written");
        marker.lower(4, 2).expect("written");
        for at in [10, SLOT_BYTES as usize + 10] {
            let mut bytes = std::fs::read(dir.path().join(NAME)).expect("read");
            bytes[at] ^= 1;
            assert_eq!(Mark::newest(&bytes).expect("one slot is whole").version, 4);
        }
    }
}
