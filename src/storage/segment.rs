//! One segment of the log: a preallocated file that holds records of one incarnation.

use super::Position;
use super::file::{self, AtPath, NewFile, corrupt};
use super::record::{self, ALIGN, Record};
use crate::error::{Error, Result};
use crate::protocol::entry::{Decoder, Encode};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Names of segments begin with this.
pub(super) const PREFIX: &str = "log";

/// The header fills a page, so that no write of a record touches it.
pub(super) const HEADER_BYTES: u64 = 4096;

const MAGIC: &[u8; 8] = b"PENNLOG1";

/// Bytes of the header that mean something: magic, four numbers, checksum.
const USED_BYTES: usize = 8 + 4 * 8 + 4;

/// Zeroes are written in pieces of this size.
const ZEROES_BYTES: usize = 256 << 10;

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Place among the segments; rises with every use of any file.
    pub sequence: u64,
    /// Random number of this use of the file.
    pub incarnation: u64,
    /// The position that it goes on from.
    pub after: Position,
}

impl Header {
    /// A header with a new incarnation.
    pub fn new(sequence: u64, after: Position) -> Result<Header> {
        let incarnation = getrandom::u64()
            .map_err(|e| Error::Io(std::io::ErrorKind::Other, format!("random numbers: {e}")))?;
        Ok(Header { sequence, incarnation, after })
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for number in [self.sequence, self.incarnation, self.after.version, self.after.epoch] {
            number.encode(&mut out);
        }
        crc32c::crc32c(&out).encode(&mut out);
        out
    }

    fn decode(bytes: &[u8]) -> Option<Header> {
        let bytes = bytes.get(..USED_BYTES)?;
        let (body, crc) = bytes.split_at(USED_BYTES - 4);
        if crc32c::crc32c(body).to_le_bytes() != crc || !body.starts_with(MAGIC) {
            return None;
        }
        let mut from = Decoder(&body[MAGIC.len()..]);
        let mut number = || from.read::<u64>().ok();
        Some(Header {
            sequence: number()?,
            incarnation: number()?,
            after: Position { version: number()?, epoch: number()? },
        })
    }

    /// Reads the header of the segment with this sequence number.
    pub fn load(path: &Path, sequence: u64) -> Result<Header> {
        let file = File::open(path).at("open", path)?;
        let mut bytes = [0; USED_BYTES];
        file.read_exact_at(&mut bytes, 0)
            .ok()
            .and_then(|()| Header::decode(&bytes))
            .filter(|header| header.sequence == sequence)
            .ok_or_else(|| corrupt(path, 0, "the header of the segment is damaged"))
    }
}

/// A segment read into memory.
#[derive(Debug)]
pub(super) struct Segment {
    /// Its header.
    pub header: Header,
    bytes: Vec<u8>,
}

impl Segment {
    /// Reads a segment whole.
    pub fn load(path: &Path, sequence: u64) -> Result<Segment> {
        let header = Header::load(path, sequence)?;
        Ok(Segment { header, bytes: file::readable(std::fs::read(path), path, 0)? })
    }

    /// Bytes of the file.
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The whole record at an offset.
    pub fn record(&self, offset: u64) -> Option<Record<'_>> {
        Record::decode(self.bytes.get(offset as usize..)?, self.header.incarnation)
    }

    /// Valid record headers from an offset on (a multiple of 8), wherever a record could begin.
    pub fn headers_from(&self, offset: u64) -> impl Iterator<Item = record::Header> + '_ {
        let rest = self.bytes.get(offset as usize..).unwrap_or_default();
        let pages = rest.chunks(ZERO_PAGE.len()).zip((0..).step_by(ZERO_PAGE.len()));
        let used = pages.filter(|(page, _)| *page != &ZERO_PAGE[..page.len()]);
        used.flat_map(|(page, at)| (at..at + page.len()).step_by(ALIGN))
            .filter_map(|at| record::Header::decode(&rest[at..], self.header.incarnation))
    }
}

/// No record header begins in a page of zeroes: its length is not zero.
static ZERO_PAGE: [u8; 4096] = [0; 4096];

/// Makes a file of zeroes under a name, durable with its length; the name is durable after the next
/// sync of the directory.
///
/// # Errors
/// [`Error::NoSpace`]: there is no room for it on the disk.
pub(super) fn preallocate(path: &Path, len: u64) -> Result<()> {
    let temporary = file::temporary(path);
    file::write_temporary(&temporary, |path| fill(path, len))?;
    file::rename(&temporary, path)
}

fn fill(path: &Path, len: u64) -> Result<()> {
    let mut file = NewFile::create(path)?;
    file.take_room(len)?;
    let zeroes = vec![0; ZEROES_BYTES];
    while file.len() < len {
        let n = (len - file.len()).min(ZEROES_BYTES as u64);
        file.write(&zeroes[..n as usize])?;
    }
    file.finish().map(drop)
}

/// Puts a spare to use as a segment, durably. Nothing of what it held counts any more.
pub(super) fn put_to_use(spare: &Path, dir: &Path, header: &Header) -> Result<(File, PathBuf)> {
    let file = OpenOptions::new().write(true).open(spare).at("open", spare)?;
    file::write_at(&file, spare, &header.encode(), 0)?;
    file::sync(&file, spare)?;
    let path = file::numbered_path(dir, PREFIX, header.sequence);
    file::publish(spare, &path)?;
    Ok((file, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_and_no_flipped_bit_passes() {
        let header = Header::new(3, Position { epoch: 2, version: 9 }).expect("random");
        let whole = header.encode();
        assert_eq!(Header::decode(&whole), Some(header));
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&bytes), None, "bit {bit}");
        }
    }

    #[test]
    fn a_preallocated_file_is_all_zeroes() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("spare");
        let len = ZEROES_BYTES + 17;
        preallocate(&path, len as u64).expect("made");
        assert!(std::fs::read(&path).expect("read") == vec![0; len]);
    }
}
