//! The table of another replica takes the place of all that a tablet held.
//!
//! A checkpoint named `install-…` counts alone, with the runs and value files that it names, whatever lies beside them: its
//! rename is the one step that decides between old and new. What follows only clears away, and is begun again by the
//! next opening if a crash ends it.

use super::cells::Shared;
use super::{Position, checkpoint, file, mark, segment};
use crate::error::Result;
use std::path::{Path, PathBuf};

/// The name begins with this; the version follows.
const PREFIX: &str = "install";

/// Path of the table of a position while it is installed.
pub(super) fn path(dir: &Path, position: Position) -> PathBuf {
    file::numbered_path(dir, PREFIX, position.version)
}

/// The table that is being installed, and its version. There are never two: a log whose installation failed
/// refuses everything, and the next opening finishes it.
pub(super) fn pending(dir: &Path) -> Result<Option<(u64, PathBuf)>> {
    Ok(file::numbered(dir, PREFIX)?.pop())
}

/// Makes the installed table the only checkpoint, once no other log than its own is left.
pub(super) fn finish(dir: &Path, installed: &Path, version: u64) -> Result<()> {
    for (_, path) in checkpoint::list(dir)? {
        file::remove(&path)?;
    }
    file::sync_dir(dir)?;
    file::publish(installed, &checkpoint::path(dir, version))
}

/// Finishes what a crash has interrupted. A table that is damaged is an error, and nothing is changed.
pub(super) fn recover(dir: &Path, shared: &Shared) -> Result<()> {
    let Some((version, installed)) = pending(dir)? else { return Ok(()) };
    checkpoint::open(&installed, version, shared)?;
    file::sync_dir(dir)?;
    for (_, path) in file::numbered(dir, segment::PREFIX)? {
        file::remove(&path)?;
    }
    mark::remove(dir)?;
    finish(dir, &installed, version)
}
