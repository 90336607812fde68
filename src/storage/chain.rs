//! The segments of a log in their order: which are used, which is active, which are let go.

use super::entries::Source;
use super::file::{self, AtPath};
use super::scan::Scanned;
use super::segment::{self, Header};
use super::spare::Spares;
use super::{Options, Position};
use crate::error::Result;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

/// Size of a tablet's first segment; each next one is twice as large, up to `segment_bytes`.
const FIRST_SEGMENT_BYTES: u64 = 1 << 20;

/// The segments of a log. There is always an active one once [`Chain::begin`] was called.
#[derive(Debug)]
pub(super) struct Chain {
    dir: PathBuf,
    segment_bytes: u64,
    /// Oldest first.
    segments: Vec<Live>,
    spares: Spares,
}

/// A segment in use.
#[derive(Debug)]
pub(super) struct Live {
    pub path: PathBuf,
    pub header: Header,
    /// Entries up to this version count.
    pub limit: u64,
    /// Bytes of the file.
    pub len: u64,
}

impl Live {
    /// Whether a cut has taken all that it holds.
    fn is_void(&self) -> bool {
        self.limit <= self.header.after.version
    }
}

impl Chain {
    /// Takes the segments that a scan found.
    pub fn open(dir: &Path, options: &Options, scanned: Vec<Scanned>) -> Result<Chain> {
        let live = |s: Scanned| Live { path: s.path, header: s.header, limit: s.limit, len: s.len };
        Ok(Chain {
            dir: dir.to_path_buf(),
            segment_bytes: options.segment_bytes,
            segments: scanned.into_iter().map(live).collect(),
            spares: Spares::open(dir)?,
        })
    }

    /// The segment in which records are written.
    pub fn active(&self) -> &Live {
        self.segments.last().expect("a log has an active segment")
    }

    /// Opens the active segment for writing.
    pub fn open_active(&self) -> Result<File> {
        let path = &self.active().path;
        OpenOptions::new().write(true).open(path).at("open", path)
    }

    /// The position that the oldest entry follows.
    pub fn start(&self) -> Position {
        self.segments.first().map(|s| s.header.after).unwrap_or_default()
    }

    /// Begins a new active segment that has room for `room` bytes of records and goes on from `after`; what
    /// lies beyond that in older segments is void. Where the disk has no room for one ([`Error::NoSpace`]) nothing
    /// has changed.
    ///
    /// [`Error::NoSpace`]: crate::error::Error::NoSpace
    pub fn begin(&mut self, after: Position, room: u64) -> Result<File> {
        let sequence = self.segments.last().map_or(0, |s| s.header.sequence) + 1;
        let (len, least) = self.lengths(room);
        let (spare, len) = self.spares.take(len, least)?;
        let header = Header::new(sequence, after)?;
        let (file, path) = segment::put_to_use(&spare, &self.dir, &header)?;
        self.segments.iter_mut().for_each(|s| s.limit = s.limit.min(after.version));
        self.segments.push(Live { path, header, limit: u64::MAX, len });
        self.release(|s| s.is_void())?;
        Ok(file)
    }

    /// Sees to it that the next segment can begin, whatever becomes of the room on the disk.
    pub fn reserve(&mut self) -> Result<()> {
        let (len, least) = self.lengths(0);
        self.spares.reserve(len, least)
    }

    /// Makes the next segment's file on another thread, unless it is there.
    pub fn make_ahead(&mut self) {
        let len = self.next_len();
        self.spares.make_ahead(len);
    }

    /// Lets all segments go whose entries are all `<= version`, but not the active one, nor those that hold the newest
    /// bytes that are to be kept.
    pub fn release_before(&mut self, version: u64, keep_bytes: u64) -> Result<()> {
        let newer = self.segments.iter().rev().scan(0, |sum, s| {
            *sum += s.len;
            Some((*sum - s.len, s.header.sequence))
        });
        let oldest = newer.filter(|(newer, _)| *newer < keep_bytes).map(|(_, n)| n).min();
        self.release(|s| s.limit <= version && oldest.is_none_or(|n| s.header.sequence < n))
    }

    /// Lets all segments go but the active one.
    pub fn release_all(&mut self) -> Result<()> {
        self.release(|_| true)
    }

    /// Removes all spares but the next.
    pub fn trim_spares(&mut self) -> Result<()> {
        if self.spares.trim(self.next_len())? { file::sync_dir(&self.dir) } else { Ok(()) }
    }

    /// The segments to read, oldest first.
    pub fn sources(&self) -> VecDeque<Source> {
        let source = |s: &Live| Source { path: s.path.clone(), header: s.header, limit: s.limit };
        self.segments.iter().map(source).collect()
    }

    fn release(&mut self, free: impl Fn(&Live) -> bool) -> Result<()> {
        let segments = std::mem::take(&mut self.segments).into_iter();
        let (free, kept): (Vec<Live>, Vec<Live>) =
            segments.partition(|s| s.limit != u64::MAX && free(s));
        self.segments = kept;
        if free.is_empty() {
            return Ok(());
        }
        for segment in free {
            self.spares.give(&segment.path, segment.len, self.segment_bytes)?;
        }
        file::sync_dir(&self.dir)
    }

    /// Length of the next segment, and the least that will do, with room for so many bytes of records.
    fn lengths(&self, room: u64) -> (u64, u64) {
        let needed = (segment::HEADER_BYTES + room).next_multiple_of(4096);
        (needed.max(self.next_len()), needed.max(FIRST_SEGMENT_BYTES.min(self.segment_bytes)))
    }

    fn next_len(&self) -> u64 {
        let grown = self.segments.last().map_or(0, |s| s.len * 2);
        grown.max(FIRST_SEGMENT_BYTES).min(self.segment_bytes)
    }
}
