//! The cells of one tablet on disk, and who changes which files they are in.

use super::manifest::{Items, Manifest};
use super::receive::{Received, Receiver};
use super::{Opened, path, paths, remove_older};
use crate::error::{Error, Result};
use crate::protocol::cell::{Key, Value};
use crate::protocol::entry::{Item, Position};
use crate::protocol::kept::{Held, Kept, Totals};
use crate::storage::cells::{self, Damage, Output, Runs, Sequences, Shared};
use crate::storage::{file, install};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

/// The cells of one tablet on disk. Shared by all threads: one flushes, another merges, a third may install a table, and
/// all read. What becomes the tablet's is decided under a lock, held for one small file; the rest goes on beside it.
#[derive(Debug)]
pub struct Checkpointer {
    pub(super) dir: PathBuf,
    pub(super) shared: Shared,
    pub(super) sequences: Arc<Sequences>,
    current: RwLock<Arc<Runs>>,
    published: Mutex<Published>,
    counters: Counters,
}

/// The checkpoint that counts.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// Where it stands.
    pub position: Position,
    /// What its table adds up to.
    pub totals: Totals,
    /// How often another table took the place of the one before: by a flush, or whole.
    changes: u64,
    /// The error after which nobody knows which checkpoint counts: the next opening finds out.
    failed: Option<Error>,
}

/// Bytes written to new files of cells since the tablet was opened; checkpoints themselves are small and not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// In runs of new cells.
    pub flushed: u64,
    /// In runs of cells that were in others before.
    pub merged: u64,
    /// In value files.
    pub values: u64,
}

#[derive(Debug, Default)]
struct Counters {
    flushed: AtomicU64,
    merged: AtomicU64,
    values: AtomicU64,
}

/// What cells are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Flush,
    Merge,
}

impl Checkpointer {
    /// Of a tablet with this checkpoint; new files are numbered after the last.
    pub(in crate::storage) fn new(
        dir: &Path,
        shared: Shared,
        opened: Option<Opened>,
        last: u64,
    ) -> Checkpointer {
        let (mut published, mut runs) = (Published::default(), Runs::default());
        if let Some(opened) = opened {
            let Manifest { position, totals, .. } = opened.loaded.manifest;
            published = Published { position, totals, ..Published::default() };
            runs = opened.runs;
        }
        Checkpointer {
            dir: dir.into(),
            shared,
            sequences: Arc::new(Sequences::after(last)),
            current: RwLock::new(Arc::new(runs)),
            published: Mutex::new(published),
            counters: Counters::default(),
        }
    }

    /// The cells of the newest checkpoint.
    pub fn runs(&self) -> Arc<Runs> {
        self.current.read().expect("runs are replaced whole").clone()
    }

    /// Damage that was met in the files, whoever read them.
    pub fn damage(&self) -> &Damage {
        &self.shared.damage
    }

    /// The error after which no checkpoint is published any more.
    pub fn failure(&self) -> Option<Error> {
        self.lock().failed.clone()
    }

    /// Bytes that were written.
    pub fn written(&self) -> Written {
        let Counters { flushed, merged, values } = &self.counters;
        let [flushed, merged, values] =
            [flushed, merged, values].map(|n| n.load(Ordering::Relaxed));
        Written { flushed, merged, values }
    }

    /// Publishes a checkpoint: what was written since the one before becomes a run, if there is any. The changes are in
    /// the order of their keys; a value that lies on the disk is read and written anew. The others are all items that are
    /// no cells.
    ///
    /// # Errors
    /// [`Error::NoSpace`]: all is as it was, and the same may be tried again. [`Error::Retry`]: all is as it was, for
    /// a table was installed meanwhile, or a later checkpoint published.
    ///
    /// # Panics
    /// If the changes are out of order, or one of the others is a cell.
    pub fn flush(
        &self,
        at: Position,
        totals: Totals,
        changes: impl Iterator<Item = Result<(Key, Option<Kept>)>>,
        mut others: impl Iterator<Item = Item>,
    ) -> Result<Arc<Runs>> {
        let begun = self.lock().changes;
        let has_lower = self.runs().count() > 0;
        let mut output = self.output(0);
        for change in changes {
            let (key, kept) = change?;
            if kept.is_some() || has_lower {
                output.add(&key, kept.map(in_memory).transpose()?.as_ref())?;
            }
        }
        let written = output.finish(&self.shared, &Runs::default())?;
        self.count(&written, Purpose::Flush);
        let mut published = self.lock();
        published.allow(Some(begun), at)?;
        let before = self.runs();
        let mut values = before.values.clone();
        values.extend(written.values.iter().map(|file| (file.sequence, file.clone())));
        let list = before.list.iter().cloned().chain(written.run.clone()).collect();
        let runs = Runs::new(list, values);
        self.publish((at, totals), &mut published, runs, Items::New(&mut others), &written.files)
    }

    /// Publishes a checkpoint of exactly the cells that were received, in the place of all runs. The log is left alone:
    /// they are what the tablet holds at this position.
    ///
    /// # Errors
    /// As of [`Checkpointer::flush`]; then what was received is still there.
    pub fn replace(
        &self,
        at: Position,
        totals: Totals,
        received: &Received,
        mut others: impl Iterator<Item = Item>,
    ) -> Result<Arc<Runs>> {
        let mut published = self.lock();
        published.allow(None, at)?;
        let runs = Runs::clone(&received.runs);
        self.publish((at, totals), &mut published, runs, Items::New(&mut others), &received.files)
    }

    /// Begins to take a whole table from elsewhere, beside what there is.
    pub fn receive(&self) -> Receiver {
        Receiver::new(self.output(cells::SETTLED), self.shared.clone())
    }

    /// Files of new cells, which were merged so often.
    pub(super) fn output(&self, merges: u32) -> Output {
        Output::new(&self.dir, &self.sequences, merges)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Published> {
        self.published.lock().expect("a thread that panics ends the process")
    }

    pub(super) fn count(&self, written: &cells::Finished, purpose: Purpose) {
        let runs = match purpose {
            Purpose::Flush => &self.counters.flushed,
            Purpose::Merge => &self.counters.merged,
        };
        runs.fetch_add(written.run_bytes(), Ordering::Relaxed);
        self.counters.values.fetch_add(written.value_bytes(), Ordering::Relaxed);
    }

    /// Publishes a checkpoint whose files are durable. From the rename on it counts.
    pub(super) fn publish(
        &self,
        (at, totals): (Position, Totals),
        published: &mut Published,
        runs: Runs,
        items: Items,
        files: &file::NewFiles,
    ) -> Result<Arc<Runs>> {
        let path = path(&self.dir, at.version);
        let temporary = Manifest::of(at, totals, &runs).write_temporary(&path, items)?;
        files.stay();
        published.or_stop(file::publish(&temporary, &path))?;
        published.become_of(at, totals);
        Ok(self.put(runs, at.version))
    }

    /// Puts the runs of the checkpoint of a version in the place of the current ones, and removes older checkpoints and
    /// the files that those alone had. Whoever reads them still goes on to. What cannot be removed is left for the next
    /// opening.
    fn put(&self, runs: Runs, version: u64) -> Arc<Runs> {
        let runs = Arc::new(runs);
        let before = {
            let mut current = self.current.write().expect("runs are replaced whole");
            std::mem::replace(&mut *current, runs.clone())
        };
        let mut old = paths(&before).filter(|path| !paths(&runs).any(|kept| kept == *path));
        let removed =
            remove_older(&self.dir, version).and_then(|()| old.try_for_each(file::remove));
        if let Err(error) = removed {
            log::warn!("files that are not needed any more are left: {error}");
        }
        runs
    }

    /// Begins to install a table: it is written, and has yet to be decided.
    pub(in crate::storage) fn begin_install<'a>(
        &'a self,
        at: Position,
        totals: Totals,
        received: &'a Received,
        mut others: impl Iterator<Item = Item>,
    ) -> Result<Installation<'a>> {
        let published = self.lock();
        published.unless_failed()?;
        let path = install::path(&self.dir, at);
        let manifest = Manifest::of(at, totals, &received.runs);
        let temporary = manifest.write_temporary(&path, Items::New(&mut others))?;
        Ok(Installation { cells: self, published, received, at, totals, temporary, path })
    }
}

impl Published {
    /// Whether a checkpoint of this position may be published, which was begun after so many changes.
    fn allow(&self, begun: Option<u64>, at: Position) -> Result<()> {
        let is_late = begun.is_some_and(|begun| begun != self.changes)
            || at.version < self.position.version
            || at.epoch < self.position.epoch;
        match is_late {
            true => Err(Error::retry("another table took the place of the one to be written")),
            false => self.unless_failed(),
        }
    }

    /// # Errors
    /// What failed before.
    pub(super) fn unless_failed(&self) -> Result<()> {
        let failed = self.failed.clone();
        failed.map_or(Ok(()), |error| Err(error.during("checkpoints stopped earlier")))
    }

    /// After an error of this step nothing more is published.
    fn or_stop<T>(&mut self, done: Result<T>) -> Result<T> {
        self.failed = done.as_ref().err().cloned();
        done
    }

    fn become_of(&mut self, at: Position, totals: Totals) {
        (self.position, self.totals) = (at, totals);
        self.changes += 1;
    }
}

/// A table that is being installed. Until this goes, no checkpoint is published.
pub(in crate::storage) struct Installation<'a> {
    cells: &'a Checkpointer,
    published: MutexGuard<'a, Published>,
    received: &'a Received,
    at: Position,
    totals: Totals,
    temporary: PathBuf,
    path: PathBuf,
}

impl Installation<'_> {
    /// Decides that the table takes the place of all else, whatever becomes of this process.
    pub fn decide(&mut self) -> Result<()> {
        self.received.files.stay();
        let unfinished =
            Error::retry("a table is installed that is to take the place of all others");
        self.published.failed = Some(unfinished);
        file::publish(&self.temporary, &self.path)
    }

    /// Makes it the only checkpoint, once no other log than its own is left.
    pub fn finish(mut self) -> Result<Arc<Runs>> {
        install::finish(&self.cells.dir, &self.path, self.at.version)?;
        self.published.become_of(self.at, self.totals);
        self.published.failed = None;
        Ok(self.cells.put(Runs::clone(&self.received.runs), self.at.version))
    }
}

/// A cell with its value in memory, to be written anew.
pub(super) fn in_memory(kept: Kept) -> Result<Kept> {
    match &kept.value {
        Held::Here(_) => Ok(kept),
        Held::Away(away) => {
            let value = away.from.read(away.offset, away.length, away.crc)?;
            Ok(Kept { value: Held::Here(Value::Inline(value)), ..kept })
        }
    }
}
