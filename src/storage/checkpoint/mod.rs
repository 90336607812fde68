//! Checkpoints: which files a tablet's cells are in, and all that is no cell. The format stands in [`storage`](super).

mod checkpointer;
mod manifest;
mod merge;
mod policy;
mod receive;

pub use checkpointer::{Checkpointer, Written};
pub use merge::Merge;
pub use receive::{Received, Receiver};

#[cfg(test)]
pub(super) use manifest::Items;
pub(super) use manifest::{Loaded, Manifest};

use super::cells::{self, Cache, Run, Runs, Shared, ValueFile};
use super::file::{self, corrupt};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Names of checkpoints begin with this; the version follows.
const PREFIX: &str = "checkpoint";

/// A checkpoint whose files are all open.
pub(super) struct Opened {
    /// What it says.
    pub loaded: Loaded,
    /// Its runs.
    pub runs: Runs,
}

/// Opens a checkpoint and all its files; each is as long as it was written, and index, filters and footers of the runs
/// are whole.
pub(super) fn open(path: &Path, version: u64, shared: &Shared) -> Result<Opened> {
    let loaded = Loaded::load(path, version)?;
    let runs = open_files(path, &loaded.manifest, shared)?;
    Ok(Opened { loaded, runs })
}

fn open_files(path: &Path, manifest: &Manifest, shared: &Shared) -> Result<Runs> {
    let (dir, mut values, mut list) = (file::dir_of(path), BTreeMap::new(), Vec::new());
    for entry in &manifest.values {
        let file = ValueFile::open(dir, entry.sequence, entry.bytes, shared)?;
        values.insert(entry.sequence, file);
    }
    for entry in &manifest.runs {
        let run = Run::open(dir, entry.sequence, &values, shared)?;
        if (run.bytes, run.crc) != (entry.bytes, entry.crc) {
            return Err(corrupt(run.path(), 0, "this is not the run that was written"));
        }
        list.push(Arc::new(run));
    }
    Ok(Runs::new(list, values))
}

/// Opens the newest checkpoint that is whole. Where a newer one is damaged, that error comes with it: it matters if the
/// log does not reach back to this one.
pub(super) fn newest(dir: &Path, shared: &Shared) -> Result<(Option<Opened>, Option<Error>)> {
    let mut damage = None;
    for (version, path) in list(dir)?.into_iter().rev() {
        match open(&path, version, shared) {
            Ok(opened) => return Ok((Some(opened), damage)),
            Err(Error::Corrupt(why)) => {
                log::error!("{why}");
                damage = damage.or(Some(Error::Corrupt(why)));
            }
            Err(other) => return Err(other),
        }
    }
    Ok((None, damage))
}

/// Reads all files that a checkpoint names, as they lie on the disk, and compares everything with everything. `pace` is
/// told how many bytes were read each time.
pub(super) fn check(path: &Path, loaded: &Loaded, mut pace: impl FnMut(u64)) -> Result<Runs> {
    loaded.items()?;
    let dir = file::dir_of(path);
    loaded.manifest.paths(dir).try_for_each(|file| match file.exists() {
        true => file::forget(&file),
        false => Err(corrupt(&file, 0, "the file is missing")),
    })?;
    let shared = Shared::new(Arc::new(Cache::new(0)));
    let runs = open_files(path, &loaded.manifest, &shared)?;
    for run in &runs.list {
        run.check(&mut pace)?;
    }
    Ok(runs)
}

/// Path of the checkpoint of a version.
pub(super) fn path(dir: &Path, version: u64) -> PathBuf {
    file::numbered_path(dir, PREFIX, version)
}

/// Checkpoints of a tablet's directory by version.
pub(super) fn list(dir: &Path) -> Result<Vec<(u64, PathBuf)>> {
    file::numbered(dir, PREFIX)
}

/// Removes the checkpoints before a version, durably: what they alone name can go after that.
pub(super) fn remove_older(dir: &Path, version: u64) -> Result<()> {
    let older: Vec<_> = list(dir)?.into_iter().filter(|(v, _)| *v < version).collect();
    if older.is_empty() {
        return Ok(());
    }
    older.iter().try_for_each(|(_, path)| file::remove(path))?;
    file::sync_dir(dir)
}

/// The files of cells in a directory, and the last number that one has.
pub(super) fn files(dir: &Path) -> Result<(Vec<PathBuf>, u64)> {
    let all = [file::numbered(dir, cells::RUN)?, file::numbered(dir, cells::VALUES)?].concat();
    let last = all.iter().map(|(sequence, _)| *sequence).max().unwrap_or(0);
    Ok((all.into_iter().map(|(_, path)| path).collect(), last))
}

/// The files of cells in a directory that none of these runs needs.
pub(super) fn leftovers(dir: &Path, runs: &Runs) -> Result<Vec<PathBuf>> {
    let mut all = files(dir)?.0;
    all.retain(|path| !paths(runs).any(|needed| needed == path));
    Ok(all)
}

/// The files of runs.
fn paths(runs: &Runs) -> impl Iterator<Item = &Path> {
    let values = runs.values.values().map(|file| file.path());
    runs.list.iter().map(|run| run.path()).chain(values)
}
