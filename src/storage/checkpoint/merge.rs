//! Merges runs in the background, while others flush and read.

use super::checkpointer::{Checkpointer, Purpose, in_memory};
use super::manifest::{Items, Loaded};
use super::path;
use super::policy::{self, Size};
use crate::error::Result;
use crate::protocol::cell::Key;
use crate::protocol::kept::{Held, Kept};
use crate::storage::cells::{self, Run, Runs, SETTLED};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// Runs that are to become one.
#[derive(Debug)]
pub struct Merge {
    /// Next to one another, oldest first, with their values.
    inputs: Runs,
    /// Whether there is nothing below: what was removed need not be said any more.
    from_oldest: bool,
    /// Whether these are all runs.
    is_whole: bool,
    /// What the run will say of itself.
    merges: u32,
}

impl Merge {
    /// Of some of a tablet's runs. A merge of all is settled, but not where there were just too many.
    fn of(runs: &Runs, group: Range<usize>, settled_max: usize) -> Merge {
        let (sizes, is_whole) = (sizes(runs), group == (0..runs.count()));
        let settles = is_whole && sizes.len() <= settled_max;
        let merges = if settles { SETTLED } else { policy::merges_of(&sizes[group.clone()]) };
        let inputs = Runs::new(runs.list[group.clone()].to_vec(), runs.values.clone());
        Merge { inputs, from_oldest: group.start == 0, is_whole, merges }
    }

    /// Bytes of the runs that it takes: as many at most are written, values aside.
    pub fn bytes(&self) -> u64 {
        self.inputs.run_bytes()
    }
}

impl Checkpointer {
    /// The merge that is due, if one is, for a table of which so many bytes are alive ([`Totals::bytes`](crate::protocol::kept::Totals::bytes)).
    /// Asked after each flush and each merge; one runs at a time.
    pub fn merge_due(&self, live_bytes: u64) -> Option<Merge> {
        let runs = self.runs();
        let sparse = !sparse(&runs, &referred(&runs)).is_empty();
        let values = policy::Values { bytes: runs.value_bytes(), sparse };
        let group = policy::choose(&sizes(&runs), values, live_bytes)?;
        Some(Merge::of(&runs, group, policy::RUNS_MAX))
    }

    /// The merge of all runs, if there are any, due or not: it leaves the least on the disk.
    pub fn merge_all(&self) -> Option<Merge> {
        let runs = self.runs();
        (runs.count() > 0).then(|| Merge::of(&runs, 0..runs.count(), usize::MAX))
    }

    /// Merges runs into one and publishes the checkpoint anew, at its version. `pace` is told how many bytes were read
    /// each time, and may wait. None: the runs are not the tablet's any more, and nothing has changed.
    ///
    /// # Errors
    /// [`Error::NoSpace`](crate::error::Error::NoSpace): all is as it was. [`Error::Corrupt`](crate::error::Error::Corrupt):
    /// so it is, and what is to be merged is damaged.
    pub fn merge(&self, merge: Merge, mut pace: impl FnMut(u64)) -> Result<Option<Arc<Runs>>> {
        let rewritten = match merge.is_whole && !merge.inputs.values.is_empty() {
            true => sparse(&merge.inputs, &live(&merge.inputs, &mut pace)?),
            false => BTreeSet::new(),
        };
        let mut output = self.output(merge.merges);
        for cell in merge.inputs.merged() {
            let (key, kept) = cell?;
            pace(weight(&key, kept.as_ref()));
            let Some(kept) = kept else {
                if !merge.from_oldest {
                    output.add(&key, None)?;
                }
                continue;
            };
            let kept = match &kept.value {
                Held::Away(away) if rewritten.contains(&away.file) => {
                    pace(away.length.into());
                    in_memory(kept)?
                }
                _ => kept,
            };
            output.add(&key, Some(&kept))?;
        }
        let written = output.finish(&self.shared, &merge.inputs)?;
        self.count(&written, Purpose::Merge);
        self.publish_merge(&merge.inputs, &written)
    }

    fn publish_merge(&self, inputs: &Runs, written: &cells::Finished) -> Result<Option<Arc<Runs>>> {
        let mut published = self.lock();
        published.unless_failed()?;
        let before = self.runs();
        let Some(start) = place_of(inputs, &before) else { return Ok(None) };
        let mut list = before.list.clone();
        list.splice(start..start + inputs.count(), written.run.clone());
        let mut values = before.values.clone();
        values.extend(written.values.iter().map(|file| (file.sequence, file.clone())));
        let (at, totals) = (published.position, published.totals);
        let version = at.version;
        let loaded = self.shared.damage.noted(Loaded::load(&path(&self.dir, version), version))?;
        let runs = Runs::new(list, values);
        let items = Items::Copied(&loaded.items);
        self.publish((at, totals), &mut published, runs, items, &written.files).map(Some)
    }
}

fn sizes(runs: &Runs) -> Vec<Size> {
    let size = |run: &Arc<Run>| Size { bytes: run.bytes, merges: run.footer.merges };
    runs.list.iter().map(size).collect()
}

/// Where runs are among others.
fn place_of(inputs: &Runs, all: &Runs) -> Option<usize> {
    let first = inputs.list.first()?;
    let start = all.list.iter().position(|run| Arc::ptr_eq(run, first))?;
    let found = all.list.get(start..start + inputs.count())?;
    found.iter().zip(&inputs.list).all(|(a, b)| Arc::ptr_eq(a, b)).then_some(start)
}

/// Bytes of each value file to which runs refer, whether newer ones say otherwise or not.
fn referred(runs: &Runs) -> BTreeMap<u64, u64> {
    let mut referred = BTreeMap::new();
    for (file, bytes) in runs.list.iter().flat_map(|run| &run.footer.referred) {
        *referred.entry(*file).or_default() += bytes;
    }
    referred
}

/// Bytes of each value file that are alive.
fn live(runs: &Runs, pace: &mut impl FnMut(u64)) -> Result<BTreeMap<u64, u64>> {
    let mut live = BTreeMap::new();
    for cell in runs.merged() {
        let (key, kept) = cell?;
        pace(weight(&key, kept.as_ref()));
        if let Some(Kept { value: Held::Away(away), .. }) = kept {
            *live.entry(away.file).or_default() += u64::from(away.length);
        }
    }
    Ok(live)
}

/// The value files of which less than half is alive.
fn sparse(runs: &Runs, live: &BTreeMap<u64, u64>) -> BTreeSet<u64> {
    let is_sparse = |file: u64, bytes: u64| live.get(&file).copied().unwrap_or(0) < bytes / 2;
    let files = runs.values.iter().map(|(file, values)| (*file, values.bytes));
    files.filter(|(file, bytes)| is_sparse(*file, *bytes)).map(|(file, _)| file).collect()
}

/// About what a cell takes in its run.
fn weight(key: &Key, kept: Option<&Kept>) -> u64 {
    let value = match kept {
        Some(Kept { value: Held::Here(value), .. }) => value.weight(),
        _ => 0,
    };
    (key.row.len() + key.column.len()) as u64 + value + 40
}
