//! Tablets on disk: the log, the checkpoint and the small files around them. No sockets, no clocks.
//!
//! A write is an [`Entry`](crate::protocol::entry::Entry) of its tablet's *log*, synced before it is
//! acknowledged. Now and then all committed cells are written out, sorted, as a *checkpoint*, and the
//! log before it is let go. After a crash a tablet is its newest checkpoint and the log after it.
//!
//! # Terms
//!
//! * *Version*: the tablet's version number, one more for every entry. *Epoch*: the reign of a primary.
//!   Both together are a [`Position`]; it names one entry and everything before it.
//! * *Segment*: one preallocated file of the log. The last one is *active*: records are written there.
//! * *Spare*: a segment file made ahead, or one that a checkpoint has set free, waiting to be used.
//! * *Incarnation*: a random number that a segment file gets each time it is put to use. It is part of
//!   every checksum, so what an earlier use left in the file is never taken for a record.
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
//!                              checkpoint-<version>     checkpoints, 16 hexadecimal digits
//!                              install-<version>        a table that takes the place of all else here
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
//! ## Checkpoint
//!
//! ```text
//! file     magic "PENNCKP1" | block … | index | footer
//! block    items, about 64 KiB: cells only, or other items only
//! index    per block: offset u64 | len u32 | crc u32 | items u32 | its first key, if it is of cells
//! footer   version u64 | epoch u64 | items u64 | index_offset u64 | index_len u64 | index_crc u32 | footer_crc u32
//! ```
//!
//! Cells come first, in the order of their keys, so one cell is found by the index and one block. The index and
//! the footer are what the original design calls a checkpoint's *meta*.
//!
//! ## Installed table
//!
//! A replica that is too far behind takes the primary's whole table ([`Log::install`]). It is a checkpoint in its
//! format, written as `install-<version>.tmp`, synced, and renamed. From that rename on it counts alone. Then a
//! segment is begun that goes on from its position, the other segments go, the durable mark is set to its version
//! and synced, all checkpoints go, of earlier and of later versions, and it is renamed to `checkpoint-<version>`.
//!
//! # Recovery
//!
//! 0. Unfinished files are removed. If there is an `install-<version>`, all segments, the mark and all checkpoints are
//!    removed, and it is renamed to `checkpoint-<version>`.
//! 1. The end of the log is synced, and read anew from the disk: an earlier process may have written it and not synced.
//!    The newest checkpoint whose index and footer are whole is taken.
//! 2. Segments that hold nothing after the checkpoint are removed. The others are read in order; each must go
//!    on from the position that the one before reaches.
//! 3. The log ends at the first record that is not valid. Is it *torn* or is it *damage*? It is damage when
//!    anything says that this version had been synced: the `after` of a later segment, a record further on
//!    that carries a `durable` mark as high (every multiple of 8 is tried), or the file `durable`. Then
//!    [`open`] fails with [`Error::Corrupt`], file and byte, and changes nothing.
//! 4. Otherwise it is the torn tail of a write that nobody was told of. If any record further on is valid (pages
//!    reach the disk in any order), a new segment cuts it off; else the log goes on in place.
//!
//! # Invariants
//!
//! 1. Versions in the log rise by one; epochs never fall; each entry names the epoch of the one before.
//! 2. What [`Log::sync`] has covered comes back, or `open` fails. It never comes back changed.
//! 3. A segment is named `log-…` only when its zeroes, its header and its name are on disk: an append and its
//!    sync change no metadata, and cannot run out of space.
//! 4. A segment is left for the next only after it was synced whole.
//! 5. A checkpoint has its name only when it is whole and synced; older ones go only after that; segments only
//!    after that.
//! 6. A directory with an `install-…` is the table in it and nothing else. It loses that name only when nothing of
//!    what it replaces is on disk.
//! 7. After the first error of a write or a sync the log refuses everything. The disk that failed is not asked
//!    again: a second fsync may say yes to pages that the kernel has dropped.
//! 8. A disk that has no room for a new file ([`Error::NoSpace`]) harms nothing: nothing is left of the file, what was
//!    there is whole, and the same may be tried again. Only new files need room: segments, checkpoints, `epoch`.
//!
//! # Threads
//!
//! A [`Log`] belongs to one thread. [`write_checkpoint`] runs on another at the same time: the two touch
//! different files. It is of committed entries, and no committed entry is ever cut off or replaced by another
//! lineage: so no checkpoint that is published late can count against [`Log::truncate_after`] or
//! [`Log::install`]. Whoever installs a table that is not beyond the committed entries waits first for the
//! checkpoint that is being written. A third, short-lived thread makes the next spare once the active segment is half full, so
//! an append seldom waits for one.
//!
//! # Bytes written per byte stored
//!
//! The log takes each entry once, plus 32 bytes. The node starts a checkpoint when the log has grown by
//! `checkpoint_bytes` or by the size of the last checkpoint, whichever is more, so a checkpoint writes at most twice
//! what the log has taken since the one before: at most 3 bytes reach the disk for each byte stored, however large
//! the tablet is.
//!
//! # Caveats
//!
//! * A checkpoint is whole, never incremental: a large-value tablet rewrites its chunks once per doubling.
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
