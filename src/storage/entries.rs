//! Reads the entries of a log back, in order.

use super::Position;
use super::file::{self, AtPath, corrupt};
use super::record::{self, Record};
use super::scan::Scanned;
use super::segment::{self, Header};
use crate::error::Result;
use crate::protocol::entry::{Encode, Entry};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::PathBuf;

/// Bytes that are read from a segment at a time.
const READ_BYTES: usize = 256 << 10;

/// A segment to be read: its file, its header, and the last version of it that counts.
pub(super) struct Source {
    pub path: PathBuf,
    pub header: Header,
    pub limit: u64,
}

impl From<&Scanned> for Source {
    fn from(segment: &Scanned) -> Source {
        let Scanned { path, header, limit, .. } = segment;
        Source { path: path.clone(), header: *header, limit: *limit }
    }
}

/// A segment that is being read.
struct Reader {
    source: Source,
    from: BufReader<File>,
    offset: u64,
    /// The record that was read last.
    record: Vec<u8>,
}

impl Reader {
    fn open(source: Source) -> Result<Reader> {
        let path = &source.path;
        if Header::load(path, source.header.sequence)? != source.header {
            return Err(corrupt(path, 0, "the segment was put to another use"));
        }
        let mut file = File::open(path).at("open", path)?;
        let offset = file.seek(SeekFrom::Start(segment::HEADER_BYTES)).at("read", path)?;
        let from = BufReader::with_capacity(READ_BYTES, file);
        Ok(Reader { source, from, offset, record: Vec::new() })
    }

    /// The next record, which follows this position.
    fn next(&mut self, after: Position) -> Result<Record<'_>> {
        let gap = record::padded(self.record.len()) - self.record.len();
        self.from.seek_relative(gap as i64).at("read", &self.source.path)?;
        self.offset += gap as u64;
        let (incarnation, offset) = (self.source.header.incarnation, self.offset);
        self.record.clear();
        self.read(record::HEADER_BYTES)?;
        if let Some(header) = record::Header::decode(&self.record, incarnation) {
            self.read(header.len as usize)?;
        }
        let Reader { source, record, .. } = self;
        Record::decode(record, incarnation)
            .filter(|record| record.follows(after))
            .ok_or_else(|| corrupt(&source.path, offset, "a record has changed"))
    }

    fn read(&mut self, bytes: usize) -> Result<()> {
        let (start, path) = (self.record.len(), &self.source.path);
        self.record.resize(start + bytes, 0);
        match self.from.read_exact(&mut self.record[start..]) {
            Err(end) if end.kind() == ErrorKind::UnexpectedEof => {
                return Err(corrupt(path, self.offset, "a record is cut off"));
            }
            read => file::readable(read, path, self.offset)?,
        }
        self.offset += bytes as u64;
        Ok(())
    }
}

/// Iterates over entries of a log, one of them in memory at a time. Ends after the first error.
///
/// Entries that the log lets go or cuts off meanwhile are an error when their turn comes.
pub struct Entries {
    /// Entries up to here are passed over.
    skip: u64,
    /// The entry read last.
    at: Position,
    /// The last version to be read.
    last: u64,
    sources: VecDeque<Source>,
    current: Option<Reader>,
    failed: bool,
}

impl Entries {
    /// The entries after a version up to another one, of segments in their order.
    pub(super) fn new(mut sources: VecDeque<Source>, skip: u64, last: u64) -> Entries {
        while sources.len() > 1 && sources[0].limit <= skip {
            sources.pop_front();
        }
        let at = sources.front().map(|first| first.header.after).unwrap_or_default();
        Entries { skip, at, last, sources, current: None, failed: false }
    }

    fn read(&mut self) -> Result<Option<Entry>> {
        while self.at.version < self.last {
            if !self.enter()? {
                break;
            }
            let reader = self.current.as_mut().expect("a segment was entered");
            let record = reader.next(self.at)?;
            self.at = record.position;
            if self.at.version > self.skip {
                return Entry::from_bytes(record.entry).map(Some);
            }
        }
        Ok(None)
    }

    /// Goes on to the segment that holds the next entry; false if there is none.
    fn enter(&mut self) -> Result<bool> {
        let at = self.at.version;
        while self.current.as_ref().is_none_or(|reader| at >= reader.source.limit) {
            let Some(source) = self.sources.pop_front() else { return Ok(false) };
            self.current = Some(Reader::open(source)?);
        }
        Ok(true)
    }
}

impl Iterator for Entries {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        if self.failed {
            return None;
        }
        let read = self.read();
        self.failed = read.is_err();
        read.transpose()
    }
}
