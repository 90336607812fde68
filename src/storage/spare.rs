//! Segment files that wait to be used: made ahead, or set free by a checkpoint.

use super::file;
use super::segment;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// Names of spares begin with this.
const PREFIX: &str = "spare";

/// Spares kept for use again; what is free beyond them is removed.
const SPARES_MAX: usize = 8;

/// The spares of one log.
#[derive(Debug)]
pub(super) struct Spares {
    dir: PathBuf,
    /// Files and their lengths.
    ready: Vec<(PathBuf, u64)>,
    /// Number of the next spare.
    next: u64,
    /// The thread that makes one more, and the file that it makes.
    making: Option<(JoinHandle<Result<()>>, PathBuf, u64)>,
}

impl Spares {
    /// The spares of a tablet's directory.
    pub fn open(dir: &Path) -> Result<Spares> {
        let found = file::numbered(dir, PREFIX)?;
        let next = found.last().map_or(1, |(number, _)| number + 1);
        let ready = found.into_iter().map(|(_, path)| Ok((path.clone(), length(&path)?)));
        let ready = ready.collect::<Result<_>>()?;
        Ok(Spares { dir: dir.to_path_buf(), ready, next, making: None })
    }

    /// Takes a spare of at least this length, made now if there is none; on a disk that has no room for it, one of
    /// at least `least` bytes.
    ///
    /// # Errors
    /// [`Error::NoSpace`]: there is no room for that either.
    pub fn take(&mut self, len: u64, least: u64) -> Result<(PathBuf, u64)> {
        self.collect();
        let made = self.take_ready(len).map_or_else(|| self.make_now(len), Ok);
        match made {
            Err(Error::NoSpace) => self.take_ready(least).map_or_else(|| self.make_now(least), Ok),
            made => made,
        }
    }

    /// Sees to it that [`Spares::take`] will find one.
    pub fn reserve(&mut self, len: u64, least: u64) -> Result<()> {
        let spare = self.take(len, least)?;
        self.ready.push(spare);
        Ok(())
    }

    fn take_ready(&mut self, len: u64) -> Option<(PathBuf, u64)> {
        let at = self.ready.iter().position(|(_, has)| *has >= len)?;
        Some(self.ready.swap_remove(at))
    }

    /// Makes a spare on a thread of its own, unless there is one.
    pub fn make_ahead(&mut self, len: u64) {
        if self.making.is_some() || self.ready.iter().any(|(_, has)| *has >= len) {
            return;
        }
        let path = self.next_path();
        let target = path.clone();
        let made = std::thread::Builder::new()
            .name("spare".into())
            .spawn(move || segment::preallocate(&target, len));
        match made {
            Ok(thread) => self.making = Some((thread, path, len)),
            Err(e) => log::warn!("no thread to make a log segment ahead: {e}"),
        }
    }

    /// Keeps a segment file that is not needed any more, or removes it. The caller syncs the directory
    /// before the next [`Spares::take`].
    pub fn give(&mut self, path: &Path, len: u64, full_len: u64) -> Result<()> {
        if len != full_len || self.ready.len() >= SPARES_MAX {
            return file::remove(path);
        }
        let spare = self.next_path();
        file::rename(path, &spare)?;
        self.ready.push((spare, len));
        Ok(())
    }

    /// Removes all spares that are ready, but one of at least this length if none is being made. Whether there
    /// were any.
    pub fn trim(&mut self, len: u64) -> Result<bool> {
        let keep = self.ready.iter().position(|(_, has)| *has >= len && self.making.is_none());
        let kept: Vec<_> = keep.map(|at| self.ready.swap_remove(at)).into_iter().collect();
        let rest = std::mem::replace(&mut self.ready, kept);
        rest.iter().try_for_each(|(path, _)| file::remove(path))?;
        Ok(!rest.is_empty())
    }

    fn make_now(&mut self, len: u64) -> Result<(PathBuf, u64)> {
        let path = self.next_path();
        segment::preallocate(&path, len)?;
        Ok((path, len))
    }

    /// Waits for a spare that is being made.
    fn collect(&mut self) {
        let Some((thread, path, len)) = self.making.take() else { return };
        match thread.join() {
            Ok(Ok(())) => self.ready.push((path, len)),
            Ok(Err(e)) => log::warn!("cannot make a log segment ahead: {e}"),
            Err(_) => log::warn!("the thread that makes a log segment ahead panicked"),
        }
    }

    fn next_path(&mut self) -> PathBuf {
        let path = file::numbered_path(&self.dir, PREFIX, self.next);
        self.next += 1;
        path
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        self.collect();
    }
}

fn length(path: &Path) -> Result<u64> {
    let found = std::fs::metadata(path);
    found.map(|m| m.len()).map_err(|e| Error::from(e).during(path.display()))
}
