//! A tablet's log thread: writes what has gathered, syncs once, reports back.

use super::tablet::Event;
use crate::error::Error;
use crate::protocol::entry::Entry;
use crate::replication::Table;
use crate::storage::Log;
use crossbeam::channel::{Receiver, Sender};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What is to be done to the log, in this order.
pub enum Task {
    /// Append an entry.
    Append(Arc<Entry>),
    /// Cut the log off after this version.
    Cut(u64),
    /// Replace everything by this table.
    Install(Table),
    /// A checkpoint of this version is on disk: what is before it may go.
    Release(u64),
    /// Give spare segments back to the disk.
    Trim,
}

/// Bytes that are written and synced at a time.
const ROUND_BYTES: u64 = 8 << 20;

fn weight(tasks: &[Task]) -> u64 {
    let weight = |task: &Task| match task {
        Task::Append(entry) => entry.weight(),
        _ => 0,
    };
    tasks.iter().map(weight).sum()
}

/// Since when a disk has been at work on one write or sync: microseconds of the machine's clock; 0: it rests.
#[derive(Default)]
pub struct Busy(AtomicU64);

impl Busy {
    /// How long it has been at it, in microseconds.
    pub fn time(&self, now: u64) -> u64 {
        match self.0.load(Ordering::Relaxed) {
            0 => 0,
            since => now.saturating_sub(since),
        }
    }

    /// Runs a piece of work.
    fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.store(super::clock::boot_time(), Ordering::Relaxed);
        let done = work();
        self.0.store(0, Ordering::Relaxed);
        done
    }
}

/// The log thread's state.
pub struct Disk {
    /// The tablet's log.
    pub log: Log,
    /// What it is at.
    pub busy: Arc<Busy>,
    /// Held while a checkpoint is written: a table is not installed meanwhile.
    pub checkpointing: Arc<Mutex<()>>,
}

impl Disk {
    /// Runs until nobody gives it tasks any more.
    pub fn run(mut self, batches: &Receiver<Vec<Task>>, to_replica: &Sender<Event>) {
        let mut cuts = 0;
        while let Ok(mut round) = batches.recv() {
            while weight(&round) < ROUND_BYTES
                && let Ok(more) = batches.try_recv()
            {
                round.extend(more);
            }
            if self.perform(round, &mut cuts) {
                let (version, grown_bytes) = (self.log.end().version, self.log.grown_bytes());
                if to_replica.send(Event::Persisted { version, cuts, grown_bytes }).is_err() {
                    return;
                }
            }
        }
    }

    /// Performs tasks, and syncs what was appended; whether the log's end may have changed.
    fn perform(&mut self, tasks: Vec<Task>, cuts: &mut u64) -> bool {
        let (mut entries, mut appended, mut replaced) = (Vec::new(), false, false);
        for task in tasks {
            if !matches!(task, Task::Append(_)) {
                self.append(&mut entries);
            }
            let done = match task {
                Task::Append(entry) => {
                    entries.push(entry);
                    appended = true;
                    Ok(())
                }
                Task::Cut(version) => {
                    (*cuts, replaced) = (*cuts + 1, true);
                    self.busy.during(|| self.log.truncate_after(version))
                }
                Task::Install(table) => {
                    (*cuts, replaced) = (*cuts + 1, true);
                    self.install(&table)
                }
                Task::Release(version) => self.busy.during(|| self.log.truncate_before(version)),
                Task::Trim => self.busy.during(|| self.log.trim_spares()),
            };
            done.unwrap_or_else(|error| fail_stop("writing the log", &error));
        }
        self.append(&mut entries);
        if appended {
            let synced = self.busy.during(|| self.log.sync());
            synced.unwrap_or_else(|error| fail_stop("syncing the log", &error));
        }
        appended || replaced
    }

    fn append(&mut self, entries: &mut Vec<Arc<Entry>>) {
        if let Err(error) = self.busy.during(|| self.log.append(entries.drain(..))) {
            fail_stop("writing the log", &error);
        }
    }

    /// Takes as long as the table is large: that is no sign of a disk that hangs.
    fn install(&mut self, table: &Table) -> crate::error::Result<()> {
        let _alone = self.checkpointing.lock().expect("a checkpoint that panics ends the process");
        self.log.install(table.position(), table.items()).map(drop)
    }
}

/// A disk that failed once is not trusted again: the process ends, and what it acknowledged is on disk.
pub fn fail_stop(what: &str, error: &Error) -> ! {
    log::error!("{what}: {error}; the store stops: its disk is not trusted any more");
    std::process::exit(3);
}
