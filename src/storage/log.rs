//! The log of one tablet, as its writer sees it.

use super::chain::Chain;
use super::entries::Entries;
use super::file::AtPath;
use super::mark::Marker;
use super::scan::Scan;
use super::{Checkpointer, Options, Position, Received, Runs, record, segment};
use crate::error::{Error, Result};
use crate::protocol::entry::{Entry, Item};
use crate::protocol::kept::Totals;
use std::borrow::Borrow;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Bytes of records that are gathered for one write.
const WRITE_BYTES: usize = 256 << 10;

/// The log of one tablet, owned by one thread.
#[derive(Debug)]
pub struct Log {
    chain: Chain,
    active: File,
    /// Where the next record goes in the active segment.
    offset: u64,
    end: Position,
    durable: u64,
    grown: u64,
    marker: Marker,
    /// Records on their way into the active segment.
    buffer: Vec<u8>,
    /// The first error of a write or a sync.
    failed: Option<Error>,
}

impl Log {
    /// Goes on with a log that was scanned and whose end is synced. Where the checkpoint is ahead of the log,
    /// the log begins anew after it.
    pub(super) fn resume(
        dir: &Path,
        options: &Options,
        scan: Scan,
        checkpoint: Position,
    ) -> Result<Log> {
        let behind = scan.end.version < checkpoint.version;
        let end = if behind { checkpoint } else { scan.end };
        let offset = scan.segments.last().map(|last| last.end);
        let grown = grown_since(checkpoint.version, &scan);
        let segments = scan.covered.into_iter().chain(scan.segments).collect();
        let mut chain = Chain::open(dir, options, segments)?;
        let (active, offset) = match offset {
            Some(offset) if !behind && !scan.torn => (chain.open_active()?, offset),
            _ => (chain.begin(end, 0)?, segment::HEADER_BYTES),
        };
        if behind {
            chain.release_before(end.version, 0)?;
        }
        let marker = Marker::open(dir)?;
        let (buffer, failed) = (Vec::new(), None);
        let durable = end.version;
        let mut log = Log { chain, active, offset, end, durable, grown, marker, buffer, failed };
        log.mark()?;
        Ok(log)
    }

    /// Writes entries after the last one. They are durable only after [`Log::sync`].
    ///
    /// # Errors
    /// [`Error::NoSpace`]: the disk has no room for the next segment. [`Log::end`] says which entries were taken; the
    /// log is whole, and the rest may be appended later. After any other error it refuses everything.
    ///
    /// # Panics
    /// If they do not follow the last one: that would break the log's lineage.
    pub fn append<E: Borrow<Entry>>(&mut self, entries: impl IntoIterator<Item = E>) -> Result<()> {
        self.unless_failed(|log| {
            for entry in entries {
                log.stage(entry.borrow())?;
                if log.buffer.len() >= WRITE_BYTES {
                    log.write()?;
                }
            }
            log.write()
        })
    }

    /// Makes everything appended durable: one fdatasync. After an error the log refuses everything.
    pub fn sync(&mut self) -> Result<()> {
        self.unless_failed(Log::sync_active)
    }

    /// The last entry appended.
    pub fn end(&self) -> Position {
        self.end
    }

    /// The version up to which everything is synced.
    pub fn durable_version(&self) -> u64 {
        self.durable
    }

    /// The position that the oldest entry still in the log follows.
    pub fn start(&self) -> Position {
        self.chain.start()
    }

    /// Bytes of the entries that were recovered after the checkpoint (rounded up to segments), and of all
    /// appended since. Only ever grows: whoever starts a checkpoint remembers it, and starts the next when it
    /// has grown enough.
    pub fn grown_bytes(&self) -> u64 {
        self.grown
    }

    /// Lets segments go whose entries are all `<= version`, after a checkpoint of that version is durable; but not those
    /// that hold the newest `keep_bytes` of the log, for replicas that lag.
    pub fn truncate_before(&mut self, version: u64, keep_bytes: u64) -> Result<()> {
        self.unless_failed(|log| log.chain.release_before(version, keep_bytes))
    }

    /// Gives spare segments back to the disk, all but the next: for when the disk is low.
    pub fn trim_spares(&mut self) -> Result<()> {
        self.unless_failed(|log| log.chain.trim_spares())
    }

    /// Cuts off everything after a version, durably. The caller cuts nothing that is committed; so nothing of it
    /// is in a checkpoint, nor in one that is being written. Where the disk has no room for a segment that goes on
    /// from there ([`Error::NoSpace`]) the same cut is tried again, before anything else.
    pub fn truncate_after(&mut self, version: u64) -> Result<()> {
        self.unless_failed(|log| {
            let end = log.position_of(version)?;
            log.sync_active()?;
            log.marker.lower(version, log.chain.active().header.sequence)?;
            (log.end, log.durable) = (end, version);
            log.begin_segment(0)
        })
    }

    /// Puts another replica's whole table in the place of all that the tablet held: its log, its checkpoints and their
    /// cells are void, of whatever epoch and version, and the log goes on from exactly this position. The others are all
    /// items that are no cells. A crash leaves the old state or the new one. What is flushed or merged meanwhile and ends
    /// later is discarded.
    ///
    /// An error while the table is written (on a disk that is full: [`Error::NoSpace`]) leaves all as it was, what was
    /// received too, and the log goes on.
    ///
    /// A flush that is begun after this, of the table that goes, and at a later position, would count nevertheless. Whoever
    /// installs only what is beyond its own committed entries is safe, since a checkpoint holds no others; whoever else
    /// does waits first for the checkpoint that is being written.
    ///
    /// # Panics
    /// If one of the others is a cell.
    pub fn install(
        &mut self,
        cells: &Checkpointer,
        at: Position,
        totals: Totals,
        received: &Received,
        others: impl Iterator<Item = Item>,
    ) -> Result<Arc<Runs>> {
        self.unless_failed(|log| log.chain.reserve())?;
        let mut installation = cells.begin_install(at, totals, received, others)?;
        self.unless_failed(|log| {
            installation.decide()?;
            log.begin_anew(at)?;
            installation.finish()
        })
    }

    /// The entries after a version, from disk; an error if the log does not reach back to it.
    pub fn entries_after(&self, version: u64) -> Result<Entries> {
        let start = self.start();
        if version < start.version {
            return Err(Error::bad(format_args!("the log begins after version {}", start.version)));
        }
        Ok(Entries::new(self.chain.sources(), version, self.end.version))
    }

    /// The position of a version that the log holds or goes on from.
    pub fn position_of(&self, version: u64) -> Result<Position> {
        if version == self.start().version {
            return Ok(self.start());
        }
        let entry = self.entries_after(version.saturating_sub(1))?.next().transpose()?;
        let entry =
            entry.ok_or_else(|| Error::bad(format_args!("the log ends before {version}")))?;
        Ok(Position::of(&entry))
    }

    /// Encodes an entry's record into the buffer, in a new segment where it does not fit.
    fn stage(&mut self, entry: &Entry) -> Result<()> {
        assert!(
            entry.version == self.end.version + 1 && entry.prev_epoch == self.end.epoch,
            "entry {} after epoch {} does not follow {:?}",
            entry.version,
            entry.prev_epoch,
            self.end
        );
        let before = self.buffer.len();
        self.encode(entry)?;
        if self.offset + self.buffer.len() as u64 > self.chain.active().len {
            let room = self.buffer.len() - before;
            self.buffer.truncate(before);
            self.roll(room as u64)?;
            self.encode(entry)?;
        }
        self.end = Position::of(entry);
        Ok(())
    }

    fn encode(&mut self, entry: &Entry) -> Result<()> {
        let incarnation = self.chain.active().header.incarnation;
        record::encode(entry, self.durable, incarnation, &mut self.buffer)
    }

    /// Writes the buffer into the active segment.
    fn write(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let active = self.chain.active();
        self.active.write_all_at(&self.buffer, self.offset).at("write", &active.path)?;
        self.offset += self.buffer.len() as u64;
        self.grown += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(2 * WRITE_BYTES);
        if self.offset > active.len / 2 {
            self.chain.make_ahead();
        }
        Ok(())
    }

    fn sync_active(&mut self) -> Result<()> {
        if self.durable == self.end.version {
            return Ok(());
        }
        self.active.sync_data().at("sync", &self.chain.active().path)?;
        self.durable = self.end.version;
        self.mark()
    }

    /// Goes on in a new segment, once the active one is synced whole.
    fn roll(&mut self, room: u64) -> Result<()> {
        self.write()?;
        self.sync_active()?;
        self.begin_segment(room)
    }

    fn begin_segment(&mut self, room: u64) -> Result<()> {
        self.active = self.chain.begin(self.end, room)?;
        self.offset = segment::HEADER_BYTES;
        self.mark()
    }

    /// Voids all entries, and goes on from a position.
    fn begin_anew(&mut self, position: Position) -> Result<()> {
        (self.end, self.durable) = (position, position.version);
        self.begin_segment(0)?;
        self.chain.release_all()?;
        self.marker.lower(position.version, self.chain.active().header.sequence)
    }

    fn mark(&mut self) -> Result<()> {
        self.marker.set(self.durable, self.chain.active().header.sequence)
    }

    /// Runs a step; after the first error of the disk every later one is refused. One that found no room for a new
    /// file has harmed nothing.
    fn unless_failed<T>(&mut self, step: impl FnOnce(&mut Log) -> Result<T>) -> Result<T> {
        if let Some(error) = &self.failed {
            return Err(error.clone().during("the log stopped earlier"));
        }
        let done = step(self);
        self.failed = done.as_ref().err().filter(|error| **error != Error::NoSpace).cloned();
        done
    }
}

#[cfg(test)]
impl Log {
    /// Writes and syncs another file from now on.
    pub(super) fn swap_file(&mut self, file: File) -> File {
        std::mem::replace(&mut self.active, file)
    }
}

fn grown_since(version: u64, scan: &Scan) -> u64 {
    let after = scan.segments.iter().filter(|s| s.limit > version);
    after.map(|s| s.end - segment::HEADER_BYTES).sum()
}
