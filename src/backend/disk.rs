//! A tablet's log thread: writes what has gathered, syncs once, reports back.

use super::room::{PAUSE, Room};
use super::tablet::{Event, Tablet, spawn};
use super::trouble::{Troubles, With};
use super::waits::Worker;
use crate::error::{Error, Result};
use crate::protocol::entry::Entry;
use crate::replication::{Node, Table};
use crate::storage::{Checkpointer, Entries, Log, Received, TabletConfig};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// What is to be done to the log, in this order.
pub enum Task {
    /// Store an epoch.
    Adopt(TabletConfig),
    /// Append an entry.
    Append(Arc<Entry>),
    /// Cut the log off after this version.
    Cut(u64),
    /// Replace everything by this table, whose cells were received.
    Install(Table, Box<Received>),
    /// A checkpoint of this version is on disk: what is before it may go, all but the newest of these bytes.
    Release(u64, u64),
    /// Read entries after this version back, none after the second, for this node.
    ReadBack(Node, u64, u64),
    /// Give spare segments back to the disk.
    Trim,
}

/// What a log thread has done since it began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Version of the last entry on disk.
    pub version: u64,
    /// How often the log was cut or replaced.
    pub cuts: u64,
    /// How often it was replaced.
    pub installs: u64,
    /// How many epochs were stored.
    pub adopted: u64,
    /// The log holds every entry after this version.
    pub log_start: u64,
    /// Bytes that the log has grown by.
    pub grown_bytes: u64,
}

/// Bytes that are written and synced at a time.
const ROUND_BYTES: u64 = 8 << 20;
/// Bytes of entries that are read back at a time.
const READ_BACK_BYTES: u64 = 2 << 20;

fn weight(task: &Task) -> u64 {
    match task {
        Task::Append(entry) => entry.weight(),
        _ => 0,
    }
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

/// What the threads of a tablet share.
#[derive(Clone)]
pub struct Shared {
    /// What the log thread is at on the disk.
    pub busy: Arc<Busy>,
    /// Held by all who have files of the tablet open.
    pub files: Arc<()>,
    /// What is wrong with the tablet.
    pub troubles: Arc<Troubles>,
    /// The tablet's cells on the disk.
    pub cells: Arc<Checkpointer>,
    /// Bytes that were written into the log.
    pub logged: Arc<AtomicU64>,
}

impl Shared {
    /// Of a tablet at which nobody is yet.
    pub fn new(id: &str, cells: Arc<Checkpointer>) -> Shared {
        let (busy, files, logged) = Default::default();
        Shared { busy, files, troubles: Arc::new(Troubles::new(id)), cells, logged }
    }
}

/// The first entries up to a version, of so many bytes together.
fn some_of(entries: Entries, last: u64, bytes: u64) -> Result<Vec<Arc<Entry>>> {
    let (mut some, mut weight) = (Vec::new(), 0);
    for entry in entries {
        let entry = entry?;
        if entry.version > last {
            break;
        }
        weight += entry.weight();
        some.push(Arc::new(entry));
        if weight >= bytes {
            break;
        }
    }
    Ok(some)
}

/// The log thread's state.
pub struct Disk {
    /// Whose log it is.
    pub tablet: Weak<Tablet>,
    /// The tablet's log.
    pub log: Log,
    /// The tablet's directory.
    pub dir: PathBuf,
    /// What is kept free on the disk for the worst.
    pub room: Arc<Room>,
    /// What it shares with the tablet's other threads.
    pub shared: Shared,
}

impl Disk {
    /// Runs until nobody gives it tasks any more. The tablet is told what is on disk. What it has to say is sent first:
    /// the other replicas write while this one does.
    pub fn run(mut self, tasks: &Worker<Task>) {
        let (mut done, tablet) = (Done::default(), self.tablet.clone());
        let recovered = self.log.grown_bytes();
        while let Some(round) = tasks.take(weight, ROUND_BYTES) {
            if let Some(tablet) = tablet.upgrade() {
                tablet.flush();
            }
            let mut tell = |disk: &Disk, done: &mut Done| {
                let log = &disk.log;
                (done.version, done.grown_bytes) = (log.durable_version(), log.grown_bytes());
                done.log_start = log.start().version;
                disk.shared.logged.store(done.grown_bytes - recovered, Ordering::Relaxed);
                if let Some(tablet) = tablet.upgrade() {
                    tablet.tell(Event::Persisted(*done));
                }
            };
            self.perform(round, &mut done, &mut tell);
        }
    }

    /// Performs tasks, and syncs what was appended. The replica is told when that is done, and at once of an epoch: all
    /// that it has to say in the epoch waits for that.
    fn perform(
        &mut self,
        tasks: Vec<Task>,
        done_so_far: &mut Done,
        tell: &mut impl FnMut(&Disk, &mut Done),
    ) {
        let (mut entries, mut appended, mut released) = (Vec::new(), false, false);
        let cuts = done_so_far.cuts;
        for task in tasks {
            if !matches!(task, Task::Append(_)) {
                self.append(&mut entries);
            }
            let done = match task {
                Task::Adopt(epoch) => {
                    done_so_far.adopted += 1;
                    let store = || epoch.store(&self.dir);
                    let stored = self
                        .shared
                        .busy
                        .during(|| self.room.until_done(&self.shared.troubles, store));
                    if stored.is_ok() {
                        tell(self, done_so_far);
                    }
                    stored
                }
                Task::Append(entry) => {
                    entries.push(entry);
                    appended = true;
                    Ok(())
                }
                Task::Cut(version) => {
                    done_so_far.cuts += 1;
                    self.write(|log| log.truncate_after(version))
                }
                Task::Install(table, received) => {
                    done_so_far.cuts += 1;
                    done_so_far.installs += 1;
                    self.install(&table, &received)
                }
                Task::Release(version, keep_bytes) => {
                    released = true;
                    self.shared.busy.during(|| self.log.truncate_before(version, keep_bytes))
                }
                Task::ReadBack(node, after, last) => {
                    self.read_back(node, after, last);
                    Ok(())
                }
                Task::Trim => self.shared.busy.during(|| self.log.trim_spares()),
            };
            done.unwrap_or_else(|error| fail_stop("writing the log", &error));
        }
        self.append(&mut entries);
        if appended {
            let synced = self.shared.busy.during(|| self.log.sync());
            synced.unwrap_or_else(|error| fail_stop("syncing the log", &error));
        }
        if appended || released || cuts != done_so_far.cuts {
            tell(self, done_so_far);
        }
    }

    /// Reads entries back on a thread of its own: the log goes on meanwhile. What it lets go before it is read is not
    /// there any more.
    fn read_back(&self, node: Node, after: u64, last: u64) {
        let (entries, me) = (self.log.entries_after(after), self.tablet.clone());
        spawn(format!("{} read back", self.shared.troubles.tablet()), move || {
            let entries = entries.and_then(|entries| some_of(entries, last, READ_BACK_BYTES));
            let entries = entries.unwrap_or_else(|error| {
                log::info!("the log is not read back after {after}: {error}");
                Vec::new()
            });
            if let Some(tablet) = me.upgrade() {
                tablet.tell(Event::ReadBack(node, after, entries));
            }
        });
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
        self.shared.busy.during(|| self.room.until_done(&self.shared.troubles, || work(log)))
    }

    /// Takes as long as the table is large: that is no sign of a disk that hangs. While there is no room for it, the
    /// copy stays behind, and it is tried again.
    fn install(&mut self, table: &Table, received: &Received) -> Result<()> {
        let (position, totals) = (table.position(), table.totals());
        loop {
            let others = table.others();
            match self.log.install(&self.shared.cells, position, totals, received, others) {
                Err(Error::NoSpace) => {
                    let why = format!(
                        "no room on the disk for the table of version {}",
                        position.version
                    );
                    self.shared.troubles.note(With::Table, &why);
                }
                done => {
                    self.shared.troubles.end(With::Table);
                    return done.map(drop);
                }
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// A disk that failed once is not trusted again: the process ends, and what it acknowledged is on disk.
pub fn fail_stop(what: &str, error: &Error) -> ! {
    log::error!("{what}: {error}; the store stops: its disk is not trusted any more");
    std::process::exit(3);
}
