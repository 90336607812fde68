//! Reads the entries of a log back, in order.

use super::Position;
use super::file::corrupt;
use super::scan::Scanned;
use super::segment::{self, Segment};
use crate::error::Result;
use crate::protocol::entry::{Encode, Entry};
use std::collections::VecDeque;
use std::path::PathBuf;

/// A segment to be read: its file, its sequence number, and the last version of it that counts.
pub(super) struct Source {
    pub path: PathBuf,
    pub sequence: u64,
    pub limit: u64,
}

impl From<&Scanned> for Source {
    fn from(segment: &Scanned) -> Source {
        let Scanned { path, header, limit, .. } = segment;
        Source { path: path.clone(), sequence: header.sequence, limit: *limit }
    }
}

/// Iterates over entries of a log, one segment in memory at a time. Ends after the first error.
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
    current: Option<(Source, Segment, u64)>,
    failed: bool,
}

impl Entries {
    pub(super) fn new(start: Position, sources: VecDeque<Source>, skip: u64, last: u64) -> Entries {
        Entries { skip, at: start, last, sources, current: None, failed: false }
    }

    fn read(&mut self) -> Result<Option<Entry>> {
        while self.at.version < self.last {
            if !self.enter()? {
                break;
            }
            let (source, segment, offset) = self.current.as_mut().expect("a segment was entered");
            let record = segment.record(*offset).filter(|record| record.follows(self.at));
            let record =
                record.ok_or_else(|| corrupt(&source.path, *offset, "a record has changed"))?;
            *offset += record.size() as u64;
            self.at = record.position;
            if self.at.version > self.skip {
                return Entry::from_bytes(record.entry).map(Some);
            }
        }
        Ok(None)
    }

    /// Goes on to the segment that holds the next entry; false if there is none.
    fn enter(&mut self) -> Result<bool> {
        while self.current.as_ref().is_none_or(|(source, ..)| self.at.version >= source.limit) {
            let Some(source) = self.sources.pop_front() else { return Ok(false) };
            let segment = Segment::load(&source.path, source.sequence)?;
            self.current = Some((source, segment, segment::HEADER_BYTES));
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
