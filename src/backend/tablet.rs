//! The shell around a tablet's [`Replica`]: its two threads, its log, and what readers see.
//!
//! The *replica thread* owns the replica: it takes inputs, performs outputs in their order, and hands
//! entries to the *log thread*, which writes what has gathered, syncs once, and reports back. What is
//! asked while a sync runs goes into the next one: group commit.

use super::checkpoints::Checkpoints;
use crate::config;
use crate::error::{Error, Result};
use crate::protocol::cluster::{Role, TabletReport};
use crate::protocol::command::{Op, Options};
use crate::protocol::entry::Entry;
use crate::replication::{
    self, Configuration, DiskSpace, Input, Outcome, Output, Proposal, Reads, Replica, Rules,
    Setting, Table, Time, Timing, Token,
};
use crate::storage::{self, Log, Position, TabletConfig};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded, select};
use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Requests that wait for one tablet.
const INBOX_MAX: usize = 1024;
/// Writes that the replica thread takes before it hands entries to the log.
const WRITES_PER_ROUND: usize = 256;
/// What a tablet's own threads and the master have to say to it. The replica thread hears it even while it
/// waits for the log thread, so the two never wait for each other.
const CONTROL_MAX: usize = 64;
/// Batches of entries that wait for the log.
const LOG_QUEUE_MAX: usize = 64;

/// A tablet on this node. Shared by all threads.
pub struct Tablet {
    /// Its name in the cluster.
    pub id: String,
    inbox: Sender<Asked>,
    control: Sender<Event>,
    view: Arc<RwLock<View>>,
}

/// What readers see.
#[derive(Clone, Default)]
pub struct View {
    /// The committed table.
    pub table: Table,
    /// Whether this node may answer reads from it.
    pub serves: bool,
    /// Epoch of the configuration adopted last.
    pub epoch: u64,
    /// Whether that epoch is over here: the node waits for the next.
    pub sealed: bool,
}

impl View {
    /// What the node is for the tablet. A primary whose first entry is not on disk yet is not sealed: it would be
    /// given another epoch, and begin again.
    fn role(&self) -> Role {
        match (self.serves, self.sealed) {
            (true, _) => Role::Primary,
            (false, true) => Role::Sealed,
            (false, false) => Role::Learner,
        }
    }
}

/// What a tablet's threads need to know of their node.
#[derive(Clone)]
pub struct Surroundings {
    /// The node's name.
    pub node: String,
    /// The store's limits.
    pub limits: config::Store,
    /// Free bytes of the node's disk, as last seen.
    pub free_bytes: Arc<AtomicU64>,
    /// Whether a tablet of the node writes a checkpoint to free a low disk: one at a time, each takes room first.
    pub freeing: Arc<AtomicBool>,
}

impl Surroundings {
    /// The room on the node's disk.
    pub fn disk_space(&self) -> DiskSpace {
        let free_bytes = self.free_bytes.load(Ordering::Relaxed);
        DiskSpace::of(free_bytes, self.limits.disk_reserve_bytes)
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

/// A write, and where its outcome goes.
struct Asked(Write, Sender<Outcome>);

/// What a tablet hears from the master and from its own threads. These do not queue behind clients.
enum Event {
    Configure(Configuration),
    Persisted { version: u64, grown_bytes: u64 },
    Checkpointed(Result<u64>),
}

/// What the log thread is to do next.
#[derive(Default)]
struct Batch {
    entries: Vec<Arc<Entry>>,
    /// Version of a checkpoint: what is before it may go.
    release: Option<u64>,
    /// Whether spare segments go back to the disk.
    trim: bool,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.release.is_none() && !self.trim
    }
}

/// Leases and promises of two seconds and a half; the clocks of two nodes may differ by 11 % in rate.
const TIMING: Timing = Timing {
    reads: Reads::Lease,
    lease: 2_000_000,
    grace: 2_500_000,
    beacon: 400_000,
    silence: 1_000_000,
    keep: 16,
    keep_bytes: 16 << 20,
    catch_up_bytes: 256 << 20,
    batch: 256,
    batch_bytes: 1 << 20,
    window_bytes: 8 << 20,
};
/// Pause between two ticks of a replica.
const TICK: Duration = Duration::from_millis(100);

/// Pause between two looks at what can be given back to a low disk.
const FREE_PAUSE: Duration = Duration::from_secs(10);

/// Microseconds since the machine started, suspended or not: what leases are counted by.
fn boot_time() -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

/// Milliseconds since 1970.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

impl Tablet {
    /// Opens a tablet's directory, recovers what it holds, and starts its threads.
    pub fn open(id: &str, dir: &Path, around: &Surroundings) -> Result<Arc<Tablet>> {
        let options = storage::Options { segment_bytes: around.limits.segment_bytes };
        let recovered =
            storage::open(dir, &options).map_err(|e| e.during(format!("tablet {id}")))?;
        let adopted = TabletConfig::load(dir)?.unwrap_or_default();
        let table = match &recovered.checkpoint {
            Some(checkpoint) => load_table(checkpoint)?,
            None => Table::default(),
        };
        let entries = recovered.entries.collect::<Result<Vec<_>>>()?;
        let checkpoints = Checkpoints::new(table.bytes());
        let view = View { table: table.clone(), serves: false, epoch: adopted.epoch, sealed: true };
        let view = Arc::new(RwLock::new(view));
        let adopted = (configuration(&adopted), adopted.sealed_epoch);
        let rules = (Rules::ALL, TIMING);
        let replica = Replica::recover(
            around.node.as_str().into(),
            rules,
            boot_time(),
            adopted,
            table,
            entries,
        );
        let (inbox, asked) = bounded(INBOX_MAX);
        let (control, events) = bounded(CONTROL_MAX);
        let (to_log, batches) = bounded(LOG_QUEUE_MAX);
        let shell = Shell {
            id: id.into(),
            dir: dir.into(),
            around: around.clone(),
            replica,
            view: view.clone(),
            to_log,
            to_self: control.clone(),
            open: HashMap::new(),
            next: 0,
            checkpoints,
            freed: None,
            freeing: false,
        };
        let to_replica = control.clone();
        spawn(format!("{id} log"), move || write_log(recovered.log, &batches, &to_replica));
        spawn(format!("{id} replica"), move || shell.run(&events, &asked));
        Ok(Arc::new(Tablet { id: id.into(), inbox, control, view }))
    }

    /// Tells the replica the master's configuration.
    pub fn configure(&self, configuration: Configuration) {
        let _ = self.control.send(Event::Configure(configuration));
    }

    /// Has ops executed, and waits for the outcome until the deadline.
    pub fn propose(&self, write: Write, deadline: Instant) -> Outcome {
        let (answer, outcome) = bounded(1);
        if self.inbox.send_deadline(Asked(write, answer), deadline).is_err() {
            return Outcome::Refused(Error::retry("the tablet has too much to do"));
        }
        match outcome.recv_deadline(deadline) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => {
                Outcome::Refused(Error::unknown("the write did not reach the disk in time"))
            }
            Err(RecvTimeoutError::Disconnected) => {
                Outcome::Refused(Error::unknown("the tablet was closed"))
            }
        }
    }

    /// What readers see now.
    pub fn view(&self) -> View {
        self.view.read().expect("views are replaced whole").clone()
    }

    /// The committed table, if this node may answer reads from it.
    pub fn serving(&self) -> Result<Table> {
        let view = self.view();
        if view.serves { Ok(view.table) } else { Err(not_serving(&self.id)) }
    }

    /// What the node reports of it to the master.
    pub fn report(&self) -> TabletReport {
        let view = self.view();
        TabletReport {
            id: self.id.clone(),
            epoch: view.epoch,
            version: view.table.version,
            committed: view.table.version,
            role: view.role(),
            cells: view.table.len() as u64,
            bytes: view.table.bytes(),
            ..TabletReport::default()
        }
    }
}

fn not_serving(id: &str) -> Error {
    Error::retry(format!("this node does not serve tablet {id} now"))
}

fn load_table(checkpoint: &storage::CheckpointReader) -> Result<Table> {
    let mut table = Table::default();
    for item in checkpoint.items() {
        table.load(item?);
    }
    table.version = checkpoint.summary.position.version;
    table.epoch = checkpoint.summary.position.epoch;
    Ok(table)
}

/// A tablet's threads end with the process, or when nobody can send to them any more. One that panics ends
/// the process: without it the tablet would hang.
fn spawn(name: String, run: impl FnOnce() + Send + 'static) {
    let run = move || {
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            log::error!("a tablet's thread panicked; the store stops");
            std::process::exit(3);
        }
    };
    std::thread::Builder::new().name(name).spawn(run).expect("a node can start a tablet's threads");
}

/// A disk that failed once is not trusted again: the process ends, and what it acknowledged is on disk.
fn fail_stop(what: &str, error: &Error) -> ! {
    log::error!("{what}: {error}; the store stops: its disk is not trusted any more");
    std::process::exit(3);
}

/// The log thread: writes what has gathered, syncs once, reports.
fn write_log(mut log: Log, batches: &Receiver<Batch>, to_replica: &Sender<Event>) {
    while let Ok(batch) = batches.recv() {
        let mut appended = false;
        for Batch { entries, release, trim } in std::iter::once(batch).chain(batches.try_iter()) {
            appended |= !entries.is_empty();
            let appended = log.append(entries);
            appended
                .and_then(|()| release.map_or(Ok(()), |version| log.truncate_before(version)))
                .and_then(|()| if trim { log.trim_spares() } else { Ok(()) })
                .unwrap_or_else(|error| fail_stop("writing the log", &error));
        }
        if appended {
            log.sync().unwrap_or_else(|error| fail_stop("syncing the log", &error));
            let (version, grown_bytes) = (log.end().version, log.grown_bytes());
            if to_replica.send(Event::Persisted { version, grown_bytes }).is_err() {
                return;
            }
        }
    }
}

/// The replica thread's state.
struct Shell {
    id: String,
    dir: PathBuf,
    around: Surroundings,
    replica: Replica,
    view: Arc<RwLock<View>>,
    to_log: Sender<Batch>,
    to_self: Sender<Event>,
    open: HashMap<Token, Sender<Outcome>>,
    next: Token,
    checkpoints: Checkpoints,
    /// When the tablet last looked for what it can give back to a low disk.
    freed: Option<Instant>,
    /// Whether the checkpoint that runs is the one that frees the disk.
    freeing: bool,
}

impl Shell {
    fn run(mut self, events: &Receiver<Event>, asked: &Receiver<Asked>) {
        let mut batch = Batch::default();
        loop {
            select! {
                recv(events) -> event => match event {
                    Ok(event) => self.hear(event, &mut batch),
                    Err(_) => return,
                },
                recv(asked) -> write => match write {
                    Ok(write) => self.propose(write, &mut batch),
                    Err(_) => return,
                },
                default(TICK) => {
                    self.step(Input::Tick, &mut batch);
                    self.free_disk(&mut batch);
                }
            }
            events.try_iter().for_each(|event| self.hear(event, &mut batch));
            asked
                .try_iter()
                .take(WRITES_PER_ROUND)
                .for_each(|write| self.propose(write, &mut batch));
            while !batch.is_empty() {
                let full = std::mem::take(&mut batch);
                if !self.hand_over(full, events, &mut batch) {
                    return;
                }
            }
        }
    }

    /// Hands a batch to the log thread. What is heard while its queue is full goes into the next one. False
    /// if there is no log thread any more.
    fn hand_over(&mut self, full: Batch, events: &Receiver<Event>, next: &mut Batch) -> bool {
        let to_log = self.to_log.clone();
        loop {
            select! {
                send(to_log, full) -> sent => return sent.is_ok(),
                recv(events) -> event => match event {
                    Ok(event) => self.hear(event, next),
                    Err(_) => return false,
                },
            }
        }
    }

    fn hear(&mut self, event: Event, batch: &mut Batch) {
        match event {
            Event::Configure(configuration) => self.step(Input::Configure(configuration), batch),
            Event::Persisted { version, grown_bytes } => {
                self.step(Input::Persisted(version), batch);
                self.checkpoints.note_grown(grown_bytes);
                self.checkpoint_if_due();
                self.free_disk(batch);
            }
            Event::Checkpointed(done) => self.checkpointed(done, batch),
        }
    }

    fn propose(&mut self, asked: Asked, batch: &mut Batch) {
        let input = self.proposal(asked.0, asked.1);
        self.step(input, batch);
    }

    /// What is committed is published before anyone is answered.
    fn step(&mut self, input: Input, batch: &mut Batch) {
        let outputs = self.replica.step(boot_time(), input);
        self.publish();
        self.perform(outputs, &mut batch.entries);
    }

    fn proposal(&mut self, write: Write, answer: Sender<Outcome>) -> Input {
        self.next += 1;
        self.open.insert(self.next, answer);
        let limits = &self.around.limits;
        let setting = Setting {
            now: unix_ms(),
            stage_ms: limits.stage_ms,
            retire_ms: limits.retire_ms,
            tablet_bytes_max: limits.tablet_bytes_max,
            disk_space: self.around.disk_space(),
        };
        Input::Propose(Proposal {
            token: self.next,
            request: write.options.session,
            retry: write.options.retry,
            ops: write.ops,
            single: write.single,
            setting,
        })
    }

    fn perform(&mut self, outputs: Vec<Output>, entries: &mut Vec<Arc<Entry>>) {
        for output in outputs {
            match output {
                Output::Adopt(configuration, sealed) => self.adopt(&configuration, sealed),
                Output::Append(entry) => entries.push(entry),
                Output::Answer(token, outcome) => {
                    if let Some(answer) = self.open.remove(&token) {
                        let _ = answer.send(outcome);
                    }
                }
                other => unreachable!("a tablet of one member has nobody to talk to: {other:?}"),
            }
        }
    }

    fn adopt(&mut self, configuration: &Configuration, sealed_epoch: u64) {
        if let Err(error) = stored(configuration, sealed_epoch).store(&self.dir) {
            fail_stop("storing the tablet's epoch", &error);
        }
        let primary = configuration.primary.as_deref().unwrap_or("none");
        log::info!("tablet {}: epoch {}, primary {primary}", self.id, configuration.epoch);
    }

    fn publish(&mut self) {
        let (committed, epoch) = (self.replica.committed(), self.replica.configuration().epoch);
        let serves = self.replica.leads() && self.replica.may_read(boot_time());
        let sealed = self.replica.sealed_epoch() >= epoch;
        let mut view = self.view.write().expect("views are replaced whole");
        let seen = (view.table.version, view.serves, view.epoch, view.sealed);
        if seen != (committed.version, serves, epoch, sealed) {
            *view = View { table: committed.clone(), serves, epoch, sealed };
        }
    }

    /// On a disk that is low, [`Shell::free_disk`] decides.
    fn checkpoint_if_due(&mut self) {
        let (view, free_bytes) = (self.view(), self.around.free_bytes.load(Ordering::Relaxed));
        let step = self.around.limits.checkpoint_bytes;
        if self.around.disk_space() == DiskSpace::Enough
            && self.checkpoints.is_due(view.table.bytes(), step, free_bytes)
            && view.serves
        {
            self.checkpoint(view.table);
        }
    }

    /// While the disk is low: gives spare segments back, and writes a checkpoint where that lets more go than
    /// it takes.
    fn free_disk(&mut self, batch: &mut Batch) {
        if self.around.disk_space() == DiskSpace::Enough
            || self.freed.is_some_and(|at| at.elapsed() < FREE_PAUSE)
        {
            return;
        }
        self.freed = Some(Instant::now());
        batch.trim = true;
        let (view, free_bytes) = (self.view(), self.around.free_bytes.load(Ordering::Relaxed));
        if view.serves
            && self.checkpoints.would_free(view.table.bytes(), free_bytes)
            && !self.around.freeing.swap(true, Ordering::Relaxed)
        {
            self.freeing = true;
            self.checkpoint(view.table);
        }
    }

    fn checkpoint(&mut self, table: Table) {
        self.checkpoints.begin(table.bytes());
        let (dir, to_self) = (self.dir.clone(), self.to_self.clone());
        spawn(format!("{} checkpoint", self.id), move || {
            let _ = to_self.send(Event::Checkpointed(write_checkpoint(&dir, &table)));
        });
    }

    /// What is before a checkpoint may go, and its segments with it if the disk is low.
    fn checkpointed(&mut self, done: Result<u64>, batch: &mut Batch) {
        self.checkpoints.end(done.is_ok());
        if std::mem::take(&mut self.freeing) {
            self.around.freeing.store(false, Ordering::Relaxed);
        }
        match done {
            Ok(version) => {
                log::info!("tablet {}: checkpoint of version {version}", self.id);
                batch.release = Some(version);
                batch.trim |= self.around.disk_space() != DiskSpace::Enough;
            }
            Err(error) => {
                log::error!("tablet {}: no checkpoint, the log stays: {error}", self.id);
            }
        }
    }

    fn view(&self) -> View {
        self.view.read().expect("views are replaced whole").clone()
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
fn stored(configuration: &Configuration, sealed_epoch: u64) -> TabletConfig {
    let names =
        |set: &BTreeSet<replication::Node>| set.iter().map(|name| name.to_string()).collect();
    TabletConfig {
        epoch: configuration.epoch,
        sealed_epoch,
        primary: configuration.primary.as_deref().unwrap_or_default().into(),
        isr: names(&configuration.isr),
        members: names(&configuration.members),
        min_insync: configuration.min_insync as u32,
    }
}

fn write_checkpoint(dir: &Path, table: &Table) -> Result<u64> {
    let position = Position { epoch: table.epoch, version: table.version };
    storage::write_checkpoint(dir, position, table.items())?;
    Ok(table.version)
}

#[cfg(test)]
#[path = "tablet_tests.rs"]
mod tests;
