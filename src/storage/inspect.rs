//! Looks a tablet over without changing it: everything is read, and every checksum compared.

use super::checkpoint::{self, Loaded};
use super::entries::{Entries, Source};
use super::mark::Mark;
use super::scan::Scanned;
use super::{Position, TabletConfig, file, gap, install, scan};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// What lies in a tablet's directory.
#[derive(Debug)]
pub struct Inspection {
    /// The durable configuration.
    pub config: Result<Option<TabletConfig>>,
    /// Each checkpoint, newest first. A table that was being installed counts alone.
    pub checkpoints: Vec<Result<CheckpointSummary>>,
    /// The log; nothing of it counts beside a table that was being installed.
    pub log: Result<LogSummary>,
    /// Whether the segments that are kept for replicas that lag are whole. Damage there loses nothing: who lacks what they
    /// hold takes the table.
    pub kept: Result<()>,
    /// Whether the durable mark is there: without it a lost tail of the log goes unnoticed.
    pub has_mark: bool,
    /// Whether a table was being installed, which the next opening finishes.
    pub installing: bool,
    /// Unfinished files, which the next opening removes.
    pub unfinished: usize,
    /// Runs and value files that the newest checkpoint does not name; the next opening removes them.
    pub leftovers: usize,
}

/// What a checkpoint holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckpointSummary {
    /// The last entry that it contains.
    pub position: Position,
    /// Cells of the table.
    pub cells: u64,
    /// Items that are no cells.
    pub items: u64,
    /// Runs.
    pub runs: usize,
    /// Bytes of them.
    pub run_bytes: u64,
    /// Value files.
    pub values: usize,
    /// Bytes of them.
    pub value_bytes: u64,
}

/// What a log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSummary {
    /// The position that its first entry follows.
    pub start: Position,
    /// Its last entry.
    pub end: Position,
    /// Segments in use.
    pub segments: usize,
    /// Bytes of their files.
    pub bytes: u64,
    /// Segments that a checkpoint covers, kept for replicas that lag.
    pub kept: usize,
    /// Bytes of their files.
    pub kept_bytes: u64,
    /// Whether parts of a write that nobody was told of lie beyond the end; the next opening cuts them off.
    pub torn: bool,
}

impl Inspection {
    /// What is damaged, worst first. A newer checkpoint that cannot be read counts, even if all it held is
    /// in the log.
    pub fn damage(&self) -> Vec<&Error> {
        let log = self.log.as_ref().err();
        let checkpoints = self.checkpoints.iter().filter_map(|c| c.as_ref().err());
        let others = [self.config.as_ref().err(), self.kept.as_ref().err()];
        log.into_iter().chain(checkpoints).chain(others.into_iter().flatten()).collect()
    }

    /// The newest checkpoint that is whole.
    pub fn checkpoint(&self) -> Option<CheckpointSummary> {
        self.checkpoints.iter().find_map(|c| c.as_ref().ok()).copied()
    }
}

/// Inspects the directory of a tablet that no process has open.
pub fn inspect(dir: &Path) -> Result<Inspection> {
    let names = file::names(dir)?;
    let mark = Mark::load(dir)?;
    let installing = install::pending(dir)?;
    let (checkpoints, log, kept) = match &installing {
        Some((version, path)) => {
            let table = read_checkpoint(path, *version);
            let at = table.as_ref().map(|c| c.position).unwrap_or_default();
            (vec![table], Ok(LogSummary { start: at, end: at, ..LogSummary::default() }), Ok(()))
        }
        None => {
            let checkpoints = read_checkpoints(dir)?;
            let newest = checkpoints.iter().find_map(|c| c.as_ref().ok()).map(|c| c.position);
            match read_log(dir, mark, newest.unwrap_or_default()) {
                Ok((log, kept)) => (checkpoints, Ok(log), kept),
                Err(error) => (checkpoints, Err(error), Ok(())),
            }
        }
    };
    Ok(Inspection {
        config: TabletConfig::load(dir),
        log,
        kept,
        checkpoints,
        has_mark: mark.is_some(),
        installing: installing.is_some(),
        leftovers: leftovers(dir, installing.as_ref())?,
        unfinished: names.iter().filter(|name| name.ends_with(file::TEMPORARY)).count(),
    })
}

/// All checkpoints, newest first.
fn read_checkpoints(dir: &Path) -> Result<Vec<Result<CheckpointSummary>>> {
    let files = checkpoint::list(dir)?.into_iter().rev();
    Ok(files.map(|(version, path)| read_checkpoint(&path, version)).collect())
}

/// Reads all that a checkpoint names, and counts its cells.
fn read_checkpoint(path: &Path, version: u64) -> Result<CheckpointSummary> {
    let loaded = Loaded::load(path, version)?;
    let runs = checkpoint::check(path, &loaded, |_| {})?;
    let mut cells = 0;
    for cell in runs.merged() {
        cells += u64::from(cell?.1.is_some());
    }
    let (position, totals) = (loaded.manifest.position, loaded.manifest.totals);
    if cells != totals.cells {
        let what = format_args!("there are {cells} cells, and {} were counted", totals.cells);
        return Err(file::corrupt(path, 0, what));
    }
    Ok(CheckpointSummary {
        position,
        cells,
        items: loaded.items()?.len() as u64,
        runs: runs.count(),
        run_bytes: runs.run_bytes(),
        values: loaded.manifest.values.len(),
        value_bytes: runs.value_bytes(),
    })
}

/// Files of cells that the table being installed, or else the newest checkpoint that can be read, does not name.
fn leftovers(dir: &Path, installing: Option<&(u64, PathBuf)>) -> Result<usize> {
    let listed = checkpoint::list(dir)?;
    let counts = installing.into_iter().chain(listed.iter().rev());
    let named = counts.filter_map(|(version, path)| Loaded::load(path, *version).ok()).next();
    let named: Vec<_> = named.iter().flat_map(|loaded| loaded.manifest.paths(dir)).collect();
    let (files, _) = checkpoint::files(dir)?;
    Ok(files.iter().filter(|file| !named.contains(file)).count())
}

/// What the log holds after the checkpoint, and whether what it keeps from before is whole.
fn read_log(
    dir: &Path,
    mark: Option<Mark>,
    checkpoint: Position,
) -> Result<(LogSummary, Result<()>)> {
    let scan = scan::scan(dir, mark, checkpoint)?;
    if scan.start.version > checkpoint.version {
        return Err(gap(dir, scan.start, checkpoint));
    }
    read_all(&scan.segments, scan.start.version, scan.end.version)?;
    let kept = match (scan.covered.first(), scan.covered.last()) {
        (Some(first), Some(last)) => {
            read_all(&scan.covered, first.header.after.version, last.limit)
        }
        _ => Ok(()),
    };
    let log = LogSummary {
        start: scan.start,
        end: scan.end,
        segments: scan.segments.len(),
        bytes: bytes(&scan.segments),
        kept: scan.covered.len(),
        kept_bytes: bytes(&scan.covered),
        torn: scan.torn,
    };
    Ok((log, kept))
}

fn read_all(segments: &[Scanned], after: u64, last: u64) -> Result<()> {
    let sources = segments.iter().map(Source::from).collect();
    Entries::new(sources, after, last).try_for_each(|entry| entry.map(drop))
}

fn bytes(segments: &[Scanned]) -> u64 {
    segments.iter().map(|segment| segment.len).sum()
}
