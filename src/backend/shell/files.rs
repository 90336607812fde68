//! What the shell has done to the tablet's files: checkpoints and merges, each on a thread of its own, and what goes from
//! the log and from memory after that.

use super::super::checkpoints::fits;
use super::super::disk::{Task, fail_stop};
use super::super::surroundings::Taken;
use super::super::tablet::{Event, Written, spawn};
use super::super::trouble::With;
use super::Shell;
use crate::error::{Error, Result};
use crate::replication::{DiskSpace, Table};
use crate::storage::Merge;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Pause between two looks at what can be given back to a low disk.
const FREE_PAUSE: Duration = Duration::from_secs(10);
/// Pause before a checkpoint that failed is tried again.
const CHECKPOINT_PAUSE: Duration = Duration::from_secs(10);

impl Shell {
    /// Begins a checkpoint where the log or the memory asks for one. On a disk that is low, [`Shell::free_disk`] decides.
    pub(super) fn checkpoint_if_due(&mut self) {
        let step = self.around.limits.checkpoint_bytes.min(self.around.memory.log_bytes());
        let is_due = match self.around.disk_space() {
            DiskSpace::Enough => self.checkpoints.is_due(step) || self.is_to_be_written_out(),
            DiskSpace::Low | DiskSpace::Exhausted => self.is_to_be_written_out(),
        };
        if is_due && !self.is_held_up() {
            self.checkpoint(None);
        }
    }

    /// Whether what is in memory has to go to the disk, and finds room there.
    fn is_to_be_written_out(&self) -> bool {
        !self.checkpoints.is_running()
            && (self.share.is_to_be_written_out() || self.replica.committed().is_frozen())
            && fits(self.replica.committed().write_out_bytes(), self.free_bytes())
    }

    /// Whether no checkpoint can begin now: one has failed lately, the log on the disk does not reach as far as the table,
    /// another node's table is about to take the place of everything, or nothing is new.
    pub(super) fn is_held_up(&self) -> bool {
        let version = self.replica.committed().version;
        self.failed.is_some_and(|at| at.elapsed() < CHECKPOINT_PAUSE)
            || self.installs.0 != self.installs.1
            || version > self.replica.durable()
            || version <= self.released
    }

    /// While the disk is low: gives spare segments back, and writes a checkpoint where that lets more go than
    /// it takes. On one that is exhausted the ballast goes first, where a checkpoint needs its room.
    pub(super) fn free_disk(&mut self) {
        let given = self.around.room.times_given();
        let lately = |(at, seen): (Instant, u64)| seen == given && at.elapsed() < FREE_PAUSE;
        if self.around.disk_space() == DiskSpace::Enough || self.freed.is_some_and(lately) {
            return;
        }
        self.freed = Some((Instant::now(), given));
        self.release(self.released);
        let exhausted = self.around.disk_space() == DiskSpace::Exhausted;
        let ballast = if exhausted { self.around.room.bytes() } else { 0 };
        let (table, free_bytes) = (self.replica.committed(), self.free_bytes());
        let bytes = table.write_out_bytes();
        let garbage = self.shared.cells.runs().bytes().saturating_sub(table.bytes());
        if self.checkpoints.would_free(bytes, garbage, free_bytes + ballast)
            && !self.is_held_up()
            && let Some(turn) = self.around.freeing.take()
        {
            let needs_ballast = !self.checkpoints.would_free(bytes, garbage, free_bytes);
            self.checkpoint(Some((turn, needs_ballast)));
        }
    }

    fn free_bytes(&self) -> u64 {
        self.around.free_bytes.load(Ordering::Relaxed)
    }

    /// The table to write out: that of a checkpoint that failed, or what is committed now.
    fn freeze(&mut self) -> Option<Table> {
        if !self.replica.committed().is_frozen() {
            self.frozen = self.replica.freeze();
            self.stale = true;
            self.publish();
        }
        self.frozen.clone()
    }

    /// Has a checkpoint written. One that frees the disk may need the room of the ballast.
    fn checkpoint(&mut self, frees: Option<(Taken, bool)>) {
        let Some(table) = self.freeze() else { return };
        self.checkpoints.begin();
        let (room, cells) = (self.around.room.clone(), self.shared.cells.clone());
        self.spawn(
            "checkpoint",
            move || {
                if frees.as_ref().is_some_and(|(_, needs_ballast)| *needs_ballast) {
                    room.give();
                }
                let done =
                    cells.flush(table.position(), table.totals(), table.changes(), table.others());
                drop(frees);
                done.map(|_| table.version)
            },
            Event::Checkpointed,
        );
    }

    /// Does something to the tablet's files on a thread of its own, and hears what came of it.
    fn spawn<T: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce() -> Result<T> + Send + 'static,
        event: fn(Written<T>) -> Event,
    ) {
        let (me, files, installs) = (self.me.clone(), self.shared.files.clone(), self.installs.0);
        spawn(format!("{} {what}", self.id), move || {
            let done = work();
            drop(files);
            if let Some(tablet) = me.upgrade() {
                tablet.tell(event(Written { installs, done }));
            }
        });
    }

    /// Writes a checkpoint whether it is due or not: the log is damaged.
    pub(super) fn rewrite(&mut self) {
        if !self.checkpoints.is_running() && !self.is_held_up() {
            self.checkpoint(None);
        }
    }

    /// What a checkpoint has written out goes from memory, and the log before it from the disk.
    pub(super) fn checkpointed(&mut self, Written { installs, done }: Written<u64>) {
        self.checkpoints.end(done.is_ok());
        self.failed = done.is_err().then(Instant::now);
        if installs != self.installs.0 {
            return;
        }
        match done {
            Ok(version) => {
                self.live_bytes = self.frozen.take().map_or(self.live_bytes, |table| table.bytes());
                self.replica.settle(self.shared.cells.runs());
                self.stale = true;
                self.publish();
                self.shared.troubles.end(With::Checkpoint);
                log::info!("tablet {}: checkpoint of version {version}", self.id);
                self.release(version);
            }
            Err(error) => {
                self.stop_if_failed();
                if matches!(error, Error::Corrupt(_)) {
                    self.shared
                        .troubles
                        .note(With::Contents, &format!("damage in memory: {error}"));
                }
                let why = format!("no checkpoint, the log stays: {error}");
                self.shared.troubles.note(With::Checkpoint, &why);
            }
        }
    }

    /// Lets the log before a checkpoint go, all but what replicas that lag may need; on a low disk all of it.
    fn release(&mut self, version: u64) {
        self.released = version;
        let fetched = self.around.snapshots.oldest(&self.id).unwrap_or(version);
        match self.around.disk_space() {
            DiskSpace::Enough => {
                let keep_bytes = self.around.limits.log_keep_bytes;
                self.to_log.add([Task::Release(version.min(fetched), keep_bytes)]);
            }
            DiskSpace::Low | DiskSpace::Exhausted => {
                self.to_log.add([Task::Release(version, 0), Task::Trim]);
            }
        }
    }

    /// Merges runs where there are many, or where they hold much that does not count any more.
    pub(super) fn merge_if_due(&mut self) {
        let paused = self.unmerged.is_some_and(|at| at.elapsed() < CHECKPOINT_PAUSE);
        if self.merging || paused || self.installs.0 != self.installs.1 {
            return;
        }
        let Some(merge) = self.shared.cells.merge_due(self.live_bytes) else { return };
        if !fits(merge.bytes(), self.free_bytes()) {
            return;
        }
        if let Some(turn) = self.around.merging.take() {
            self.merge(merge, turn);
        }
    }

    fn merge(&mut self, merge: Merge, turn: Taken) {
        self.merging = true;
        let cells = self.shared.cells.clone();
        self.spawn(
            "merge",
            move || {
                let done = cells.merge(merge, |_| {});
                drop(turn);
                done.map(drop)
            },
            Event::Merged,
        );
    }

    pub(super) fn merged(&mut self, Written { installs, done }: Written<()>) {
        self.merging = false;
        self.unmerged = done.is_err().then(Instant::now);
        match done {
            Err(error) => {
                self.stop_if_failed();
                log::warn!("tablet {}: its runs are not merged: {error}", self.id);
            }
            Ok(()) if installs == self.installs.0 => {
                self.replica.rebase(self.shared.cells.runs());
                self.stale = true;
                self.publish();
            }
            Ok(()) => {}
        }
    }

    /// A disk on which no checkpoint can be published any more is not trusted.
    fn stop_if_failed(&self) {
        if let Some(error) = self.shared.cells.failure() {
            fail_stop("publishing a checkpoint", &error);
        }
    }

    /// What readers found damaged counts as what the scrub finds.
    pub(super) fn note_damage(&self) {
        if let Some(error) = self.shared.cells.damage().take() {
            self.shared.troubles.note(With::Files, &format!("damage on the disk: {error}"));
        }
    }
}
