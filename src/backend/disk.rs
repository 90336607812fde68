//! A tablet's log thread: writes what has gathered, syncs once, reports back.

use super::room::{PAUSE, Room};
use super::tablet::Event;
use super::trouble::{Troubles, With};
use crate::error::{Error, Result};
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
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
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
    /// What is kept free on the disk for the worst.
    pub room: Arc<Room>,
    /// Where it says what is wrong.
    pub troubles: Arc<Troubles>,
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
                    self.write(|log| log.truncate_after(version))
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
        let appended = self.write(|log| {
            let end = log.end().version;
            log.append(entries.iter().map(Arc::as_ref).filter(|entry: &&Entry| entry.version > end))
        });
        appended.unwrap_or_else(|error| fail_stop("writing the log", &error));
        entries.clear();
    }

    /// Writes what must be written. A disk that has no room for it is as one that hangs, until it has.
    fn write(&mut self, mut work: impl FnMut(&mut Log) -> Result<()>) -> Result<()> {
        let log = &mut self.log;
        self.busy.during(|| self.room.until_done(&self.troubles, || work(log)))
    }

    /// Takes as long as the table is large: that is no sign of a disk that hangs. While there is no room for it, the
    /// copy stays behind, and it is tried again.
    fn install(&mut self, table: &Table) -> Result<()> {
        let position = table.position();
        loop {
            let alone = self.checkpointing.lock();
            let alone = alone.expect("a checkpoint that panics ends the process");
            match self.log.install(position, table.items()) {
                Err(Error::NoSpace) => {
                    let why = format!(
                        "no room on the disk for the table of version {}",
                        position.version
                    );
                    self.troubles.note(With::Table, &why);
                }
                done => {
                    self.troubles.end(With::Table);
                    return done.map(drop);
                }
            }
            drop(alone);
            std::thread::sleep(PAUSE);
        }
    }
}

/// A disk that failed once is not trusted again: the process ends, and what it acknowledged is on disk.
pub fn fail_stop(what: &str, error: &Error) -> ! {
    log::error!("{what}: {error}; the store stops: its disk is not trusted any more");
    std::process::exit(3);
}
