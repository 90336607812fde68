//! Reads a log as it lies on disk, changing nothing: where it ends, and whether it is whole.

use super::Position;
use super::file::{self, corrupt};
use super::mark::Mark;
use super::segment::{self, Header, Segment};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// A log that is whole, but for a torn tail.
#[derive(Debug)]
pub(super) struct Scan {
    /// The segments that count, oldest first.
    pub segments: Vec<Scanned>,
    /// Segments whose entries are all in the checkpoint, oldest first; they were not read.
    pub covered: Vec<Scanned>,
    /// Segments that a cut has made void, or that are before those.
    pub unneeded: Vec<PathBuf>,
    /// The position that the first entry follows.
    pub start: Position,
    /// The last entry.
    pub end: Position,
    /// Whether records of a write that was never synced lie beyond the end.
    pub torn: bool,
}

/// One segment.
#[derive(Debug)]
pub(super) struct Scanned {
    /// Its file.
    pub path: PathBuf,
    /// Its header.
    pub header: Header,
    /// Entries up to this version count; later segments go on from here.
    pub limit: u64,
    /// Where its last record that counts ends.
    pub end: u64,
    /// Bytes of the file.
    pub len: u64,
}

/// Scans the log of a tablet's directory. Segments that hold nothing after the checkpoint are only listed.
pub(super) fn scan(dir: &Path, mark: Option<Mark>, checkpoint: Position) -> Result<Scan> {
    let Listed { after, covered, unneeded } = list(dir, checkpoint.version)?;
    let start = after.first().map(|(_, header, _)| header.after).unwrap_or_default();
    let mut scan = Scan { segments: Vec::new(), covered, unneeded, start, end: start, torn: false };
    for (path, header, limit) in after {
        scan.segment(path, header, limit)?;
    }
    scan.check(dir, mark.unwrap_or_default())?;
    Ok(scan)
}

/// Segments by sequence.
#[derive(Default)]
struct Listed {
    /// Those that hold something after the checkpoint, with the last version of each that counts.
    after: Vec<(PathBuf, Header, u64)>,
    covered: Vec<Scanned>,
    unneeded: Vec<PathBuf>,
}

/// Lists segments from the newest on: what an earlier one holds counts up to where a later one goes on. Damage in the
/// header of one that the checkpoint covers only means that the log begins after it.
fn list(dir: &Path, checkpoint: u64) -> Result<Listed> {
    let (mut listed, mut limit, mut begins) = (Listed::default(), u64::MAX, false);
    for (sequence, path) in file::numbered(dir, segment::PREFIX)?.into_iter().rev() {
        let is_covered = limit <= checkpoint;
        let header = match Header::load(&path, sequence) {
            Err(Error::Corrupt(_)) if is_covered => None,
            header => Some(header?),
        };
        begins |= header.is_none();
        match header.filter(|header| header.after.version < limit && !begins) {
            None => listed.unneeded.push(path),
            Some(header) if is_covered => {
                let len = path.metadata().map_or(0, |file| file.len());
                listed.covered.push(Scanned { path, header, limit, end: len, len });
            }
            Some(header) => listed.after.push((path, header, limit)),
        }
        limit = header.map_or(limit, |header| limit.min(header.after.version));
    }
    listed.after.reverse();
    listed.covered.reverse();
    listed.unneeded.reverse();
    Ok(listed)
}

/// Follows a segment's records from a position up to the limit; the last one, and where they end.
pub(super) fn records(segment: &Segment, after: Position, limit: u64) -> (Position, u64) {
    let (mut end, mut offset) = (after, segment::HEADER_BYTES);
    while end.version < limit {
        let record = segment.record(offset).filter(|record| record.follows(end));
        let Some(record) = record else { break };
        end = record.position;
        offset += record.size() as u64;
    }
    (end, offset)
}

impl Scan {
    fn segment(&mut self, path: PathBuf, header: Header, limit: u64) -> Result<()> {
        if header.after != self.end {
            return Err(corrupt(&path, 0, self.gap(header.after)));
        }
        let segment = Segment::load(&path, header.sequence)?;
        let (last, end) = records(&segment, self.end, limit);
        self.end = last;
        if self.end.version < limit && self.was_synced(&segment, end, limit) {
            return Err(corrupt(&path, end, format_args!("{} is damaged", self.next())));
        }
        self.torn = limit == u64::MAX && segment.headers_from(end).next().is_some();
        self.segments.push(Scanned { path, header, limit, end, len: segment.len() });
        Ok(())
    }

    /// Whether anything in the log says that the record missing at an offset had been synced.
    fn was_synced(&self, segment: &Segment, offset: u64, limit: u64) -> bool {
        let more_segments = limit != u64::MAX;
        more_segments
            || segment.record(offset).is_some()
            || segment.headers_from(offset).any(|header| header.durable > self.end.version)
    }

    fn check(&self, dir: &Path, mark: Mark) -> Result<()> {
        let (path, sequence) = match self.segments.last() {
            Some(last) => (last.path.as_path(), last.header.sequence),
            None => (dir, 0),
        };
        if mark.sequence > sequence {
            return Err(Error::Corrupt(format!(
                "{}: the log segment {:016x} is missing",
                dir.display(),
                mark.sequence
            )));
        }
        if mark.version > self.end.version {
            let offset = self.segments.last().map_or(0, |last| last.end);
            return Err(corrupt(
                path,
                offset,
                format_args!("{} was synced and is gone", self.next()),
            ));
        }
        Ok(())
    }

    fn next(&self) -> String {
        format!("the record of version {}", self.end.version + 1)
    }

    fn gap(&self, after: Position) -> String {
        format!(
            "the segment goes on from version {} of epoch {}, but those before it reach version {} of epoch {}",
            after.version, after.epoch, self.end.version, self.end.epoch
        )
    }
}
