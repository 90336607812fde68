//! Reads what lies on disk and does not change any more, to find damage before it is needed.
//!
//! The log goes on meanwhile, and checkpoints are written. A file that is let go while it is read has nothing to say: its
//! damage is none.

use super::checkpoint::{self, Loaded};
use super::file::{self, corrupt};
use super::segment::{self, Header, Segment};
use super::{Position, scan};
use crate::error::{Error, Result};
use std::path::Path;

/// Checks all checkpoints of a tablet's directory, and the segments of its log but the active one, against their
/// checksums. `pace` is told how many bytes were read each time, and may wait.
///
/// # Errors
/// [`Error::Corrupt`]: this file is damaged, at this byte. Others may be too.
pub fn scrub(dir: &Path, mut pace: impl FnMut(u64)) -> Result<()> {
    let mut covered = 0;
    for (version, path) in checkpoint::list(dir)? {
        if checkpoint(&path, version, &mut pace)? {
            covered = covered.max(version);
        }
    }
    segments(dir, covered, &mut pace)
}

/// Reads a checkpoint and all files that it names, as they lie on the disk; whether it counts still.
fn checkpoint(path: &Path, version: u64, pace: &mut impl FnMut(u64)) -> Result<bool> {
    let loaded = file::forget(path).and_then(|()| Loaded::load(path, version));
    let loaded = match loaded {
        Err(_) if !path.exists() => return Ok(false),
        loaded => loaded?,
    };
    pace(loaded.bytes);
    still_counts(checkpoint::check(path, &loaded, pace).map(drop), || loaded.is_current())
}

/// Segments from the newest on: what an earlier one holds counts up to where a later one goes on. Those that a
/// checkpoint covers are not needed.
fn segments(dir: &Path, covered: u64, pace: &mut impl FnMut(u64)) -> Result<()> {
    let mut limit = u64::MAX;
    for (sequence, path) in file::numbered(dir, segment::PREFIX)?.into_iter().rev() {
        let loaded = Header::load(&path, sequence);
        let header = match loaded {
            Err(_) if !path.exists() => continue,
            loaded => loaded?,
        };
        let is_closed = limit != u64::MAX && header.after.version < limit && covered < limit;
        if is_closed {
            let is_same = || Header::load(&path, sequence).is_ok_and(|now| now == header);
            still_counts(check(&path, header, limit, pace), is_same)?;
        }
        limit = limit.min(header.after.version);
    }
    Ok(())
}

/// Whether a closed segment holds every entry up to its limit.
fn check(path: &Path, header: Header, limit: u64, pace: &mut impl FnMut(u64)) -> Result<()> {
    file::forget(path)?;
    let segment = Segment::load(path, header.sequence)?;
    pace(segment.len());
    let (Position { version, .. }, offset) = scan::records(&segment, header.after, limit);
    if version < limit {
        let next = version + 1;
        return Err(corrupt(path, offset, format_args!("the record of version {next} is damaged")));
    }
    Ok(())
}

/// What was found in a file, unless the file does not count any more: then nothing.
fn still_counts(found: Result<()>, counts: impl Fn() -> bool) -> Result<bool> {
    match found {
        Ok(()) => Ok(true),
        Err(Error::Corrupt(_) | Error::Io(..)) if !counts() => Ok(false),
        Err(error) => Err(error),
    }
}
