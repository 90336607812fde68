//! Tablets on disk: the log, the cells, the checkpoint and the small files around them. No sockets, no clocks.
//!
//! A write is an [`Entry`](crate::protocol::entry::Entry) of its tablet's *log*, synced before it is
//! acknowledged. Now and then the committed cells that were written since the last time are *flushed*, sorted, as a
//! *run*, a *checkpoint* says which runs count, and the log before it is let go. Runs are *merged* in the background.
//! After a crash a tablet is its newest checkpoint and the log after it. (A log-structured merge tree, as of Bigtable and
//! LevelDB; the values apart from it as in WiscKey, by Lu and others, 2016.)
//!
//! # Terms
//!
//! * *Version*: the tablet's version number, one more for every entry. *Epoch*: the reign of a primary.
//!   Both together are a [`Position`]; it names one entry and everything before it.
//! * *Segment*: one preallocated file of the log. The last one is *active*: records are written there.
//! * *Spare*: a segment file made ahead, or one that a checkpoint has set free, waiting to be used.
//! * *Incarnation*: a random number that a segment file gets each time it is put to use. It is part of
//!   every checksum, so what an earlier use left in the file is never taken for a record.
//! * *Run*: an immutable sorted file of cells. A newer one hides what an older one says of the same key, also by a
//!   *tombstone*: this cell is gone. *Value file*: large values, to which cells of runs refer.
//! * *Flush*: writes a run of what changed since the checkpoint before. *Merge*: makes one run of several that are next to
//!   one another in age.
//! * *Alive*: what a reader may still find; all else in runs and value files is *garbage*.
//! * *Durable*: covered by a sync that returned. The *durable mark* says up to which version that is.
//!
//! # Files
//!
//! ```text
//! data/<node>/LOCK                          held while a process uses the directory
//!             format                        version of all formats here, store_uuid
//!             ballast                       room that is given up when there is no other left
//!             routes                        what the master said of the cluster last
//!             tablets/<tablet>/epoch        durable configuration (TabletConfig)
//!                              durable      the durable mark
//!                              log-<sequence>           segments, 16 hexadecimal digits
//!                              spare-<sequence>         segments waiting to be used
//!                              run-<sequence>           cells, 16 hexadecimal digits
//!                              values-<sequence>        large values; runs and they are numbered in one
//!                              checkpoint-<version>     checkpoints, 16 hexadecimal digits
//!                              install-<version>        a checkpoint that takes the place of all else here
//!                              *.tmp                    unfinished; removed at open
//!             tablets-damaged/<tablet>-<n>          directories of tablets that were set aside, at most 3 each
//! ```
//!
//! All integers are little-endian; every CRC is CRC-32C. `format`, `routes` and `epoch` are text that a person
//! can read: one JSON object, and below it a line `crc32c=<8 hexadecimal digits>` over the bytes above.
//!
//! ## Segment
//!
//! A segment begins with a header that fills a page of its own; records follow from byte 4,096 on.
//!
//! ```text
//! header   magic "PENNLOG1" | sequence u64 | incarnation u64 | after_version u64 | after_epoch u64 | crc u32
//! record   len u32 | entry_crc u32 | durable u64 | version u64 | header_crc u32 | 0 u32 | entry (len bytes)
//! ```
//!
//! `entry` is the entry's binary form, which begins with its epoch, version and the epoch before. A record
//! begins at a multiple of 8 and never crosses into another segment; one that is larger than a segment gets
//! a segment of its own. `durable` is the version up to which the log was synced when the record was
//! written. `header_crc` covers the incarnation and the 24 bytes before it.
//!
//! `after` is the position that the segment goes on from. Usually that is where the segment before ended, but
//! it may lie earlier: that is how the log is **cut**. What the older segments hold after that position is
//! void for ever, and no byte of them needs to be changed to make it so.
//!
//! ## Durable mark
//!
//! The file `durable` has two slots of 512 bytes, written in turn; the valid one with the higher serial counts.
//!
//! ```text
//! slot     magic "PENNDUR1" | serial u64 | version u64 | sequence u64 | crc u32
//! ```
//!
//! It is written after every sync but not synced itself: it is exact after the death of a process, and at most
//! some seconds old after a power cut. `sequence` is that of the active segment.
//!
//! ## Run
//!
//! ```text
//! file     magic "PENNRUN1" | block … | index | filter … | footer
//! block    cell … | per cell: where it begins in the block u32
//! cell     key | 0: gone
//!          key | 1, 2 or 3: kept | version u64 | expires u64 | hash u64 | value
//! value    1: bytes | 2: the head of a big value | 3: file u64 | offset u64 | length u32 | crc u32
//! index    per block: offset u64 | len u32 | crc u32 | cells u32 | key of its first cell
//! filter   per block: a Bloom filter of its keys
//! footer   sequence u64 | merges u32 | cells u64 | gone u64 | index_offset u64 | index_len u64 | index_crc u32
//!          | filter_len u64 | filter_crc u32 | per value file: sequence u64, bytes u64 | footer_len u32 | footer_crc u32
//! ```
//!
//! Keys, bytes and heads have the binary forms of [`entry`](crate::protocol::entry). Cells are in the order of their
//! keys, each key once. A block is closed when its cells have 32 KiB; one cell is found in it by binary search, and only
//! that one is decoded. Blocks follow one another without a gap. A filter has 10 bits for each key, 8 bytes at least, and
//! looks at 7: where a cell is not, a block is read once in about a hundred times. Index and filters stay in memory while
//! a run is open, about half a percent of it and 10 bits a key; index and filters are what the original design calls
//! *meta*. `merges` says how often the cells were merged, which decides about the next merge. `cells` and `gone` count the
//! cells that are kept and the tombstones. The footer says how many bytes the run's cells have in each value file.
//!
//! ## Value file
//!
//! ```text
//! file     magic "PENNVAL1" | value …
//! ```
//!
//! An inline value of 16 KiB or more lies in a value file; its place, length and checksum stand in the cell. A value file
//! is closed at 256 MiB. A flush writes the values of its cells; merges carry the places on, not the values. Values are
//! not cached here, the kernel does that.
//!
//! ## Checkpoint
//!
//! ```text
//! file     magic "PENNCKP2" | body | crc u32 of the body
//! body     version u64 | epoch u64 | cells u64 | bytes u64 | digest u64
//!          | number of runs u32 | per run, oldest first: sequence u64 | bytes u64 | footer_crc u32
//!          | number of value files u32 | per value file: sequence u64 | bytes u64
//!          | items that are no cells, to the end
//! ```
//!
//! It is the tablet's table at that position: the cells that its runs say are kept, and the items. `cells`, `bytes` and
//! `digest` are what the table adds up to ([`Totals`]). A flush publishes the checkpoint of its version. A merge publishes
//! the one there is anew, under the same name, with other runs and the same items.
//!
//! Runs and value files are written under their names, and are nothing until a checkpoint names them: before it is
//! published they and their names are synced. Afterwards older checkpoints are removed, durably, then files that are not
//! named any more. Whoever still reads those does so on.
//!
//! ## Installed table
//!
//! A replica that is too far behind takes the primary's whole table. Its cells are *received* into a run and value files
//! as they come ([`Checkpointer::receive`]); nothing names them, and the tablet goes on. [`Log::install`] then writes a
//! checkpoint in its format that names them as `install-<version>.tmp`, syncs it, and renames it. From that rename on it
//! counts alone. Then a segment is begun that goes on from its position, the other segments go, the durable mark is set
//! to its version and synced, all checkpoints go, of earlier and of later versions, it is renamed to
//! `checkpoint-<version>`, and the files of the table before go.
//!
//! # Recovery
//!
//! 0. Unfinished files are removed. If there is an `install-<version>` and all that it names, all segments, the mark and
//!    all checkpoints are removed, and it is renamed to `checkpoint-<version>`.
//! 1. The end of the log is synced, and read anew from the disk: an earlier process may have written it and not synced.
//!    The newest checkpoint is taken that is whole, whose runs and value files are there with their lengths, and whose
//!    runs have whole footers, indexes and filters. Blocks and values are checked when they are read.
//! 2. Segments that hold nothing after the checkpoint are removed. The others are read in order; each must go
//!    on from the position that the one before reaches.
//! 3. The log ends at the first record that is not valid. Is it *torn* or is it *damage*? It is damage when
//!    anything says that this version had been synced: the `after` of a later segment, a record further on
//!    that carries a `durable` mark as high (every multiple of 8 is tried), or the file `durable`. Then
//!    [`open`] fails with [`Error::Corrupt`], file and byte, and changes nothing.
//! 4. Otherwise it is the torn tail of a write that nobody was told of. If any record further on is valid (pages
//!    reach the disk in any order), a new segment cuts it off; else the log goes on in place.
//! 5. Older checkpoints are removed, then all runs and value files that the one that was taken does not name.
//!
//! # Invariants
//!
//! 1. Versions in the log rise by one; epochs never fall; each entry names the epoch of the one before.
//! 2. What [`Log::sync`] has covered comes back, or `open` fails. It never comes back changed.
//! 3. A segment is named `log-…` only when its zeroes, its header and its name are on disk: an append and its
//!    sync change no metadata, and cannot run out of space.
//! 4. A segment is left for the next only after it was synced whole.
//! 5. A checkpoint has its name only when it and all that it names are whole and synced; older ones go only after that;
//!    segments, and files that no checkpoint names any more, only after that.
//! 6. A directory with an `install-…` is the table in it and nothing else. It loses that name only when no log and no
//!    checkpoint of what it replaces is on disk.
//! 7. After the first error of a write or a sync the log refuses everything. The disk that failed is not asked
//!    again: a second fsync may say yes to pages that the kernel has dropped.
//! 8. A disk that has no room for a new file ([`Error::NoSpace`]) harms nothing: nothing is left of the file, what was
//!    there is whole, and the same may be tried again. Only new files need room: segments, runs, value files,
//!    checkpoints, `epoch`.
//! 9. A run and a value file never change once a checkpoint names them, and their numbers are not used again while the
//!    process lives. All that was written is read again only against a checksum: of its block, its value, its index, its
//!    filter, its footer, its checkpoint.
//! 10. No tombstone is dropped while there is an older run. So a merge that takes part of the runs keeps them, unless it
//!     takes the oldest.
//! 11. A value file is removed when no run refers to it, and not before.
//! 12. After an error in the moment of publication nobody knows which checkpoint counts: until the next opening no other
//!     is published, and nothing is removed.
//!
//! # Threads
//!
//! A [`Log`] belongs to one thread. A [`Checkpointer`] is shared by all: one thread flushes, another merges, any number
//! read, each from [`Runs`] of one moment, which stay as they are. Writing runs takes no lock; only publication does, and
//! that is one small file. Whoever publishes looks whether the tablet is still what they began with: a merge whose runs
//! are not there any more, and a flush during which a table was installed, are discarded.
//!
//! A checkpoint is of committed entries, and no committed entry is ever cut off or replaced by another lineage: so no
//! checkpoint that is published late can count against [`Log::truncate_after`] or [`Log::install`]. Whoever installs a
//! table that is not beyond the committed entries waits first for the flush that is under way. Another, short-lived
//! thread makes the next spare once the active segment is half full, so an append seldom waits for one.
//!
//! # Memory
//!
//! A tablet keeps in memory the indexes and filters of its runs. Blocks that are read for a cell go into the node's
//! [`Cache`], which is bounded in bytes; a range brings in the first two of each run, a merge none. Flush, merge and
//! reception hold one block and one value at a time, and the index and filters of the run that they write. A checkpoint's
//! file is read whole: its items are the tablet's sessions and the like, some MiB at most.
//!
//! # Bytes written per byte stored
//!
//! The log takes each entry once, plus 32 bytes, and a flush takes it once more, unless it was overwritten before. A
//! large value is not written again until its file is less than half alive, and that happens to a byte about once. A small
//! cell is written again by each merge. Which runs are merged is decided so that there are 16 at most, and few are merged
//! more than twice (the module `checkpoint::policy` says how). Measured by its model, for each byte that is flushed:
//!
//! | tablet is so many flushes large | rewritten, if only inserted | rewritten, if overwritten at random |
//! |---|---|---|
//! | 10 | 0 | 0.8 |
//! | 100 | 1.0 | 1.7 |
//! | 360 | 1.8 | 2.4 |
//! | 1000 | 2.9 | 3.0 |
//!
//! With 16 runs no policy does much better: to keep n equal flushes in k runs, some cells must be rewritten m times once
//! n exceeds m + k over k. Garbage is given up by a merge of all once the files take more than twice what is alive and
//! 4 MiB. So a tablet takes about twice its size on the disk at most, and while such a merge runs once more for the new
//! runs.
//!
//! # Caveats
//!
//! * Finding a cell that is there reads one block, but each run that is newer is asked by its filter first. A range asks
//!   all runs.
//! * A merge is one thread's, from its first cell to its last: a tablet's largest one reads and writes all its small cells.
//!   If the process ends meanwhile it begins anew.
//! * A merge of all that gives up value files reads the runs twice: first to know what is alive.
//! * What is deleted takes its room until the next merge of all; a range over many tombstones reads them.
//! * Each run and each value file is an open file of the process: 4 for each GiB of large values, and 16 runs a tablet.
//! * [`scrub()`] and [`inspect()`] read value by value, in the order of keys.
//! * The active segment is not scrubbed ([`scrub()`]): its records are on their way, and damage in it is found at the
//!   next opening.
//! * If power fails in the moment of a sync *and* the disk later damages a record of that same last group, the
//!   two cannot be told apart: what nothing marks as durable counts as torn.
//! * Each tablet has its own log, so each active tablet costs a sync of its own.

mod ballast;
mod cells;
mod chain;
mod checkpoint;
#[cfg(test)]
mod crash_tests;
mod datadir;
mod entries;
mod epoch;
mod file;
#[cfg(test)]
mod fuzz_tests;
mod inspect;
mod install;
#[cfg(test)]
#[path = "journal_tests.rs"]
mod journal;
mod log;
mod mark;
mod record;
mod scan;
mod scrub;
mod segment;
mod spare;
#[cfg(test)]
mod tests;

pub use crate::protocol::entry::Position;
pub use ballast::Ballast;
pub use cells::{Cache, Damage, Runs};
pub use checkpoint::{Checkpointer, Merge, Received, Receiver, Written};
pub use datadir::{DataDir, FORMAT_VERSION, is_tablet_name};
pub use entries::Entries;
pub use epoch::TabletConfig;
pub use inspect::{CheckpointSummary, Inspection, LogSummary, inspect};
pub use log::Log;
pub use record::ENTRY_BYTES_MAX;
pub use scrub::scrub;

use crate::error::{Error, Result};
use crate::protocol::entry::Item;
use crate::protocol::kept::Totals;
use cells::Shared;
use file::AtPath;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// How a tablet's files are kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size of a full-grown segment; the first ones of a tablet are smaller.
    pub segment_bytes: u64,
    /// The node's block cache.
    pub cache: Arc<Cache>,
}

/// What [`open`] found.
pub struct Recovered {
    /// The newest checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// The cells of the checkpoint, and whoever writes the next one.
    pub cells: Arc<Checkpointer>,
    /// The entries after it, in order.
    pub entries: Entries,
    /// The log, ready to go on.
    pub log: Log,
}

/// A checkpoint, but for its cells.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The last entry that it contains.
    pub position: Position,
    /// What the table adds up to.
    pub totals: Totals,
    /// All items that are no cells.
    pub items: Vec<Item>,
}

/// Opens a tablet's directory, made if it is not there. See *Recovery* above.
///
/// # Errors
/// [`Error::Corrupt`]: the files are damaged. [`Error::NoSpace`]: a file has yet to be made, and the disk is full.
pub fn open(dir: &Path, options: &Options) -> Result<Recovered> {
    let shared = Shared::new(options.cache.clone());
    file::create_dir(dir)?;
    file::remove_temporary(dir)?;
    install::recover(dir, &shared)?;
    settle(dir)?;
    let (opened, damage) = checkpoint::newest(dir, &shared)?;
    let checkpoint = opened.as_ref().map(Checkpoint::of).transpose()?;
    let after = checkpoint.as_ref().map(|c| c.position).unwrap_or_default();
    let scan = scan::scan(dir, mark::Mark::load(dir)?, after)?;
    if scan.start.version > after.version {
        return Err(damage.unwrap_or_else(|| gap(dir, scan.start, after)));
    }
    for path in &scan.unneeded {
        file::remove(path)?;
    }
    let log = Log::resume(dir, options, scan, after)?;
    checkpoint::remove_older(dir, after.version)?;
    let (_, last) = checkpoint::files(dir)?;
    let cells = Arc::new(Checkpointer::new(dir, shared, opened, last));
    for path in checkpoint::leftovers(dir, &cells.runs())? {
        file::remove(&path)?;
    }
    Ok(Recovered { checkpoint, cells, entries: log.entries_after(after.version)?, log })
}

impl Checkpoint {
    fn of(opened: &checkpoint::Opened) -> Result<Checkpoint> {
        let manifest = &opened.loaded.manifest;
        let (position, totals) = (manifest.position, manifest.totals);
        Ok(Checkpoint { position, totals, items: opened.loaded.items()? })
    }
}

/// Syncs the log's end, and has the kernel forget its copy: what is read next is what the disk holds. Where an
/// earlier sync failed, the kernel may show pages that never reached it.
fn settle(dir: &Path) -> Result<()> {
    let Some((_, path)) = file::numbered(dir, segment::PREFIX)?.pop() else { return Ok(()) };
    let file = File::open(&path).at("open", &path)?;
    file.sync_data().at("sync", &path)?;
    file::forget(&path)
}

fn gap(dir: &Path, start: Position, after: Position) -> Error {
    Error::Corrupt(format!(
        "{}: the log begins after version {}, but the newest checkpoint is of version {}",
        dir.display(),
        start.version,
        after.version
    ))
}
