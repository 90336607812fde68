//! A tablet on this node: what it is asked, and what readers see of it.
//!
//! Whoever has something to say to its replica, a client's connection, another node's link, the log, the clock, takes
//! the lock and has the replica act ([`super::shell`]): nobody waits under that lock, and no thread stands between. What
//! is to be written goes to the *log thread* ([`super::disk`]), which writes and syncs.

use super::clock::boot_time;
use super::disk::{Busy, Disk, Done, Shared, fail_stop};
use super::links::Links;
use super::memory::Memory;
use super::shell::Shell;
use super::surroundings::Surroundings;
use super::trouble::{HANGS, Troubles};
use super::waits::{Filler, Nothing, slot, tray};
use crate::error::{Error, Result};
use crate::protocol::cell::Key;
use crate::protocol::cluster::{Role, TabletReport};
use crate::protocol::command::{Op, Options};
use crate::protocol::entry::Entry;
use crate::replication::{
    Configuration, Message, Node, Outcome, Position, Replica, Rules, Table, Time,
};
use crate::storage::{self, Checkpointer, Received, TabletConfig};
use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, Weak};
use std::time::{Duration, Instant};

/// Pause between two ticks of a replica.
const TICK: Duration = Duration::from_millis(50);
/// How long a reader waits for the primary's word.
const CONFIRM: Duration = Duration::from_secs(1);

/// A tablet on this node. Shared by all threads.
pub struct Tablet {
    /// Its name in the cluster.
    pub id: String,
    /// Whether a table is being fetched for it from another node.
    pub fetching: AtomicBool,
    /// What is wrong with it.
    pub troubles: Arc<Troubles>,
    /// Its cells on the disk.
    pub cells: Arc<Checkpointer>,
    /// Bytes that were written into its log since it was opened.
    pub logged: Arc<AtomicU64>,
    /// None: the copy is given up.
    shell: Mutex<Option<Shell>>,
    /// Held by all who have its files open.
    files: Arc<()>,
    links: Arc<Links>,
    memory: Arc<Memory>,
    view: SharedView,
    /// What the log thread is at on the disk, and how long it may be at it.
    busy: Arc<Busy>,
    hangs_after: Time,
}

/// Where what readers see is published.
pub type SharedView = Arc<RwLock<Arc<View>>>;

/// What readers see: one instant of the replica.
#[derive(Clone, Default)]
pub struct View {
    /// The committed table.
    pub table: Table,
    /// Entries that may be committed elsewhere; at the primary none.
    pub prepared: Vec<Arc<Entry>>,
    /// Until when this node may answer reads from the table, on the machine's clock.
    pub lease_until: Time,
    /// The configuration adopted last.
    pub configuration: Arc<Configuration>,
    /// Highest epoch that was sealed here.
    pub sealed: u64,
    /// Where the log ends.
    pub end: Position,
    /// What the node is for the tablet.
    pub role: Role,
}

impl View {
    /// Whether a cell, or its absence, may not be the current one.
    pub fn is_dirty(&self, key: &Key) -> bool {
        !self.prepared.is_empty()
            && match self.table.kept(key) {
                Ok(Some(_)) => self.prepared.iter().any(|entry| entry.touches(key)),
                Ok(None) | Err(_) => self.is_row_dirty(key.slot, &key.row),
            }
    }

    /// Whether a row may hold other cells now.
    pub fn is_row_dirty(&self, slot: u16, row: &[u8]) -> bool {
        self.prepared.iter().any(|entry| entry.touches_row(slot, row))
    }

    /// Whether this is a primary that serves nothing yet: what begins its epoch is not committed.
    fn begins(&self) -> bool {
        self.role == Role::Primary && self.table.epoch < self.configuration.epoch
    }

    /// Whether this node takes part in the epoch, so that it may learn what is committed.
    fn takes_part(&self) -> bool {
        matches!(self.role, Role::Primary | Role::Replica)
    }
}

/// A write as the node passes it to a tablet.
#[derive(Clone, Debug)]
pub struct Write {
    /// What to do: all or none.
    pub ops: Vec<Op>,
    /// Whether it is a single op or a batch.
    pub single: bool,
    /// Who asks.
    pub options: Options,
}

impl Write {
    /// Whether it makes room.
    pub fn frees(&self) -> bool {
        self.ops.iter().all(Op::frees)
    }
}

/// What a tablet hears.
pub enum Event {
    /// The master's configuration.
    Configure(Configuration),
    /// The master ends an epoch.
    Seal(Configuration),
    /// The master asks this node to leave an epoch.
    Resign(u64),
    /// Another node says something.
    Message(Node, Box<Message>),
    /// A reader asks what is committed.
    Confirm(Filler<Result<()>>),
    /// What is on disk.
    Persisted(Done),
    /// Entries after this version were read back, for this node; none: they are not there any more.
    ReadBack(Node, u64, Vec<Arc<Entry>>),
    /// Another node's table has arrived.
    Fetched(Node, Configuration, Box<Table>, Box<Received>),
    /// A checkpoint of this version was written, or not.
    Checkpointed(Written<u64>),
    /// Runs were merged, if they still counted then, or not.
    Merged(Written<()>),
    /// The log is damaged, and nobody else has the tablet: a checkpoint is to take its place.
    Rewrite,
    /// Time has passed.
    Tick,
}

/// What became of files that were to be written.
pub struct Written<T> {
    /// How many tables of other nodes had been installed when that began.
    pub installs: u64,
    /// What was done.
    pub done: Result<T>,
}

impl Tablet {
    /// Opens a tablet's directory, recovers what it holds, and starts its threads.
    pub fn open(id: &str, dir: &Path, around: &Surroundings) -> Result<Arc<Tablet>> {
        let options = storage::Options {
            segment_bytes: around.limits.segment_bytes,
            cache: around.memory.cache(),
        };
        let recovered =
            storage::open(dir, &options).map_err(|e| e.during(format!("tablet {id}")))?;
        let adopted = TabletConfig::load(dir)?.unwrap_or_default();
        let cells = recovered.cells;
        let table = match recovered.checkpoint {
            Some(checkpoint) => table_of(checkpoint, &cells),
            None => Table::default(),
        };
        let entries = recovered.entries.collect::<Result<Vec<_>>>()?;
        let replica = Replica::recover(
            around.node.clone(),
            (Rules::ALL, around.timing),
            boot_time(),
            (configuration(&adopted), adopted.sealed_epoch),
            table,
            entries,
        );
        let (to_log, tasks) = tray();
        let shared = Shared::new(id, cells);
        let mut disk = Disk {
            tablet: Weak::new(),
            log: recovered.log,
            dir: dir.into(),
            room: around.room.clone(),
            shared: shared.clone(),
        };
        let files = shared.files.clone();
        let tablet = Arc::new_cyclic(|me: &Weak<Tablet>| {
            let shell = Shell::new(id, around, replica, to_log, me.clone(), shared.clone());
            Tablet {
                id: id.into(),
                fetching: AtomicBool::new(false),
                troubles: shared.troubles,
                cells: shared.cells,
                logged: shared.logged,
                view: shell.view(),
                shell: Mutex::new(Some(shell)),
                files: shared.files,
                links: around.links.clone(),
                memory: around.memory.clone(),
                busy: shared.busy,
                hangs_after: around.hangs_after(),
            }
        });
        disk.tablet = Arc::downgrade(&tablet);
        spawn(format!("{id} log"), move || {
            disk.run(&tasks);
            drop(files);
        });
        let me = Arc::downgrade(&tablet);
        spawn(format!("{id} clock"), move || run_clock(&me));
        Ok(tablet)
    }

    /// Tells the replica something, and sends what it has to say to others; false: the copy is given up.
    pub fn tell(&self, event: Event) -> bool {
        let heard = self.hear(event);
        self.links.flush();
        heard
    }

    /// Tells the replica something; false: the copy is given up. What it has to say to others is sent with the next
    /// [`Links::flush`].
    ///
    /// # Panics
    /// If another thread panicked at this: the clock comes by soon, and ends the process.
    pub fn hear(&self, event: Event) -> bool {
        if let Event::Message(_, message) = &event
            && let Message::Prepare(prepare) = &**message
        {
            self.warm(prepare.entries.iter().flat_map(|entry| entry.keys()));
        }
        self.shell().as_mut().map(|shell| shell.hear(event)).is_some()
    }

    fn shell(&self) -> MutexGuard<'_, Option<Shell>> {
        self.shell.lock().expect("a replica that panicked is not asked again")
    }

    /// Sends what its replica has to say to others. Whoever gave the log thread its work has said all that belongs to it
    /// when they let go of the replica.
    pub fn flush(&self) {
        drop(self.shell());
        self.links.flush();
    }

    /// Gives the copy up: it hears nothing any more. Waits for those who have its files open; whether all have ended
    /// in time.
    pub fn close(&self, time: Duration) -> bool {
        drop(self.shell().take());
        let until = Instant::now() + time;
        while Arc::strong_count(&self.files) > 1 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        Arc::strong_count(&self.files) == 1
    }

    /// Whether the disk hangs: what the replica would tell others may wait for it.
    fn hangs(&self) -> bool {
        self.busy.time(boot_time()) > self.hangs_after
    }

    /// Has ops executed, and waits for the outcome until the deadline. An entry goes to other nodes when the log thread
    /// writes it, with all that came while that was at the disk. While the node's memory is full it waits for half of
    /// the time, before anybody is held up by that.
    pub fn propose(&self, write: Write, deadline: Instant) -> Outcome {
        self.warm(write.ops.iter().filter_map(Op::key));
        if !write.frees() && self.view().role == Role::Primary {
            let now = Instant::now();
            self.memory.wait_for_room(now + deadline.saturating_duration_since(now) / 2);
        }
        let (answer, outcome) = slot();
        let written = self.shell().as_mut().map(|shell| shell.write(write, answer));
        match written {
            None => return Outcome::Refused(self.not_serving()),
            Some(true) => {}
            Some(false) => self.links.flush(),
        }
        match outcome.wait_until(deadline) {
            Ok(outcome) => outcome,
            Err(Nothing::Late) => {
                Outcome::Refused(Error::unknown("the write did not reach all disks in time"))
            }
            Err(Nothing::Closed) => Outcome::Refused(Error::unknown("the tablet was closed")),
        }
    }

    /// Has what is to be overwritten, or compared, read from the disk before anybody is held up by that.
    fn warm(&self, keys: impl Iterator<Item = impl Borrow<Key>>) {
        let view = self.view();
        keys.for_each(|key| drop(view.table.kept(key.borrow())));
    }

    /// What readers see now.
    pub fn view(&self) -> Arc<View> {
        self.view.read().expect("views are replaced whole").clone()
    }

    /// A view from which a read may be answered. `dirty` says whether what is read may be touched by a write whose
    /// fate this node does not know.
    ///
    /// A view is one instant, and its lease is looked at after it was taken: a lease that has not run out by then
    /// ran at that instant too. Without a lease, or for what is dirty, the primary is asked which entries are
    /// committed.
    ///
    /// # Errors
    /// [`Error::Retry`]: this node cannot tell now; the primary may.
    pub fn current(&self, dirty: impl Fn(&View) -> bool, deadline: Instant) -> Result<Arc<View>> {
        let view = self.view();
        if !dirty(&view) && boot_time() < view.lease_until {
            return Ok(view);
        }
        if !view.takes_part() || self.hangs() {
            return Err(self.not_serving());
        }
        self.confirm(deadline)?;
        Ok(self.view())
    }

    /// Waits until everything that was committed before is in the view.
    fn confirm(&self, deadline: Instant) -> Result<()> {
        let (to, answer) = slot();
        let deadline = deadline.min(Instant::now() + CONFIRM);
        self.tell(Event::Confirm(to));
        answer.wait_until(deadline).unwrap_or_else(|_| Err(self.not_serving()))
    }

    /// The committed table, if this node is the tablet's primary and may answer reads.
    pub fn serving(&self, deadline: Instant) -> Result<Table> {
        if self.view().role != Role::Primary {
            return Err(self.not_serving());
        }
        Ok(self.current(|_| false, deadline)?.table.clone())
    }

    fn not_serving(&self) -> Error {
        Error::retry(format!("this node does not serve tablet {} now", self.id))
    }

    /// Held by who works on its files: it is not set aside meanwhile.
    pub fn hold_files(&self) -> Arc<()> {
        self.files.clone()
    }

    /// Whether nobody fetches a table for it yet; from now on somebody does.
    pub fn begin_fetch(&self) -> bool {
        !self.fetching.swap(true, Ordering::Relaxed)
    }

    /// What the node reports of it to the master.
    pub fn report(&self) -> TabletReport {
        let (view, hangs) = (self.view(), self.hangs());
        let left_ms = view.lease_until.saturating_sub(boot_time()) / 1000;
        TabletReport {
            id: self.id.clone(),
            epoch: view.configuration.epoch,
            sealed: view.sealed,
            version: view.end.version,
            committed: view.table.version,
            role: if hangs { Role::Stuck } else { view.role },
            begins: view.begins(),
            lease_ms: (view.lease_until != Time::MAX).then_some(left_ms),
            cells: view.table.len(),
            bytes: view.table.bytes(),
            flawed: self.troubles.is_flawed(),
            problem: self.troubles.words().or_else(|| hangs.then(|| HANGS.into())),
        }
    }
}

/// The table of a checkpoint; its cells stay on the disk.
fn table_of(checkpoint: storage::Checkpoint, cells: &Checkpointer) -> Table {
    let mut table = Table::above(cells.runs(), checkpoint.position, checkpoint.totals);
    table.load_others(checkpoint.items);
    table
}

/// Tells a tablet that time passes, for as long as anyone else holds it.
fn run_clock(tablet: &Weak<Tablet>) {
    while let Some(tablet) = tablet.upgrade() {
        tablet.hear(Event::Tick);
        tablet.links.flush_all();
        drop(tablet);
        std::thread::sleep(TICK);
    }
}

/// A tablet's threads end with the process, or when nobody holds the tablet any more. One that panics ends the
/// process: without it the tablet would hang.
pub fn spawn(name: String, run: impl FnOnce() + Send + 'static) {
    let run = move || {
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            log::error!("a tablet's thread panicked; the store stops");
            std::process::exit(3);
        }
    };
    if let Err(error) = std::thread::Builder::new().name(name).spawn(run) {
        fail_stop("starting a tablet's threads", &error.into());
    }
}

/// A configuration as it was stored.
fn configuration(stored: &TabletConfig) -> Configuration {
    let names = |list: &[String]| list.iter().map(|name| name.as_str().into()).collect();
    Configuration {
        epoch: stored.epoch,
        primary: Some(stored.primary.as_str()).filter(|name| !name.is_empty()).map(Into::into),
        isr: names(&stored.isr),
        members: names(&stored.members),
        min_insync: stored.min_insync as usize,
        clean: false,
    }
}

/// A configuration as it is stored.
pub fn stored(configuration: &Configuration, sealed_epoch: u64) -> TabletConfig {
    let names = |set: &BTreeSet<Node>| set.iter().map(|name| name.to_string()).collect();
    TabletConfig {
        epoch: configuration.epoch,
        sealed_epoch,
        primary: configuration.primary.as_deref().unwrap_or_default().into(),
        isr: names(&configuration.isr),
        members: names(&configuration.members),
        min_insync: configuration.min_insync as u32,
    }
}

#[cfg(test)]
#[path = "tablet_tests.rs"]
mod tests;
