//! The shell around a tablet's [`Replica`]: the thread that owns it.
//!
//! It takes inputs, performs outputs in their order, and hands what is to be written to the log thread. What is
//! asked while a sync runs goes into the next one: group commit.

use super::checkpoints::Checkpoints;
use super::clock::{boot_time, unix_ms};
use super::disk::{Busy, Task, fail_stop};
use super::outbox::Outbox;
use super::surroundings::Surroundings;
use super::tablet::{Asked, Event, SharedView, View, Write, spawn, stored};
use super::trouble::{HANGS, Troubles, With};
use crate::error::Result;
use crate::protocol::cluster::Role;
use crate::replication::{
    Configuration, DiskSpace, Input, Outcome, Output, Proposal, Replica, Setting, Table, Token,
};
use crate::storage;
use crossbeam::channel::{Receiver, Sender, select};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Writes that the replica thread takes before it hands entries to the log.
const WRITES_PER_ROUND: usize = 256;
/// Pause between two ticks of a replica.
const TICK: Duration = Duration::from_millis(50);
/// Pause between two looks at what can be given back to a low disk.
const FREE_PAUSE: Duration = Duration::from_secs(10);
/// Pause before a checkpoint that failed is tried again.
const CHECKPOINT_PAUSE: Duration = Duration::from_secs(10);

/// The replica thread's state.
pub struct Shell {
    id: Arc<str>,
    dir: PathBuf,
    around: Surroundings,
    replica: Replica,
    configuration: Arc<Configuration>,
    view: SharedView,
    to_log: Sender<Vec<Task>>,
    to_self: Sender<Event>,
    /// What is said once the round's inputs were taken and their result is published.
    outbox: Outbox,
    /// Who waits for the outcome of a write.
    writers: HashMap<Token, Sender<Outcome>>,
    /// Who waits for word of what is committed.
    readers: HashMap<Token, Sender<Result<()>>>,
    /// The last token. Tokens of an earlier process are smaller: an answer to one is no answer here.
    next: Token,
    next_tick: Instant,
    /// How often the log was cut: what the log thread said before means another log.
    cuts: u64,
    busy: Arc<Busy>,
    /// What this thread is at itself.
    adopting: Arc<Busy>,
    stuck: bool,
    /// The room on the disk, as the replica was told last.
    space: DiskSpace,
    checkpointing: Arc<Mutex<()>>,
    checkpoints: Checkpoints,
    /// When the last checkpoint failed, if it did.
    failed: Option<Instant>,
    troubles: Arc<Troubles>,
    /// When the tablet last looked for what it can give back to a low disk, and how often the ballast had been given
    /// up by then.
    freed: Option<(Instant, u64)>,
    /// Whether the checkpoint that runs is the one that frees the disk.
    freeing: bool,
}

impl Shell {
    /// The shell of a replica that was recovered from a directory.
    pub fn new(
        id: &str,
        dir: &Path,
        around: &Surroundings,
        replica: Replica,
        to_log: Sender<Vec<Task>>,
        to_self: Sender<Event>,
    ) -> Shell {
        let mut shell = Shell {
            id: id.into(),
            dir: dir.into(),
            around: around.clone(),
            configuration: Arc::new(replica.configuration().clone()),
            replica,
            view: SharedView::default(),
            to_log,
            to_self,
            outbox: Outbox::new(around.timing.batch_bytes),
            writers: HashMap::new(),
            readers: HashMap::new(),
            next: boot_time(),
            next_tick: Instant::now(),
            cuts: 0,
            busy: Arc::default(),
            adopting: Arc::default(),
            stuck: false,
            space: DiskSpace::Enough,
            checkpointing: Arc::default(),
            checkpoints: Checkpoints::default(),
            failed: None,
            troubles: Arc::new(Troubles::new(id)),
            freed: None,
            freeing: false,
        };
        shell.publish();
        shell
    }

    /// With what it shares with the log thread.
    pub fn with_disk(self, busy: Arc<Busy>, checkpointing: Arc<Mutex<()>>) -> Shell {
        Shell { busy, checkpointing, ..self }
    }

    /// With the checkpoints that are there.
    pub fn with_checkpoints(self, checkpoints: Checkpoints) -> Shell {
        Shell { checkpoints, ..self }
    }

    /// Where it says what is wrong, and that it is at work on the disk itself.
    pub fn with_troubles(self, troubles: Arc<Troubles>, adopting: Arc<Busy>) -> Shell {
        Shell { troubles, adopting, ..self }
    }

    /// Where it publishes what readers see.
    pub fn view(&self) -> SharedView {
        self.view.clone()
    }

    /// Runs until nobody can send to it any more.
    pub fn run(mut self, events: &Receiver<Event>, asked: &Receiver<Asked>) {
        let mut tasks = Vec::new();
        loop {
            let rest = self.next_tick.saturating_duration_since(Instant::now());
            select! {
                recv(events) -> event => match event {
                    Ok(event) => self.hear(event, &mut tasks),
                    Err(_) => return,
                },
                recv(asked) -> write => match write {
                    Ok(write) => self.propose(write, &mut tasks),
                    Err(_) => return,
                },
                default(rest) => {}
            }
            events.try_iter().take(WRITES_PER_ROUND).for_each(|event| self.hear(event, &mut tasks));
            asked
                .try_iter()
                .take(WRITES_PER_ROUND)
                .for_each(|write| self.propose(write, &mut tasks));
            self.tick_if_due(&mut tasks);
            self.speak(&mut tasks);
            while !tasks.is_empty() {
                let full = std::mem::take(&mut tasks);
                if !self.hand_over(full, events, &mut tasks) {
                    return;
                }
            }
        }
    }

    /// Hands tasks to the log thread. What is heard while its queue is full goes into the next batch. False if
    /// there is no log thread any more.
    fn hand_over(
        &mut self,
        full: Vec<Task>,
        events: &Receiver<Event>,
        next: &mut Vec<Task>,
    ) -> bool {
        let to_log = self.to_log.clone();
        loop {
            select! {
                send(to_log, full) -> sent => return sent.is_ok(),
                recv(events) -> event => match event {
                    Ok(event) => self.hear(event, next),
                    Err(_) => return false,
                },
                default(TICK) => {}
            }
            self.tick_if_due(next);
            self.speak(next);
        }
    }

    fn tick_if_due(&mut self, tasks: &mut Vec<Task>) {
        if Instant::now() < self.next_tick {
            return;
        }
        self.next_tick = Instant::now() + TICK;
        let stuck = self.busy.time(boot_time()) > self.around.hangs_after();
        if stuck != std::mem::replace(&mut self.stuck, stuck) {
            match stuck {
                true => self.troubles.note(With::Disk, HANGS),
                false => self.troubles.end(With::Disk),
            }
            self.step(Input::Stuck(stuck), tasks);
        }
        let space = self.around.disk_space();
        if space != std::mem::replace(&mut self.space, space) {
            self.step(Input::Space(space), tasks);
        }
        self.step(Input::Tick, tasks);
        self.checkpoint_if_due();
        self.free_disk(tasks);
    }

    fn hear(&mut self, event: Event, tasks: &mut Vec<Task>) {
        match event {
            Event::Configure(configuration) => self.step(Input::Configure(configuration), tasks),
            Event::Seal(configuration) => self.step(Input::Seal(configuration), tasks),
            Event::Resign(epoch) => self.step(Input::Resign(epoch), tasks),
            Event::Message(from, message) => self.step(Input::Message(from, *message), tasks),
            Event::Confirm(answer) => {
                self.next += 1;
                self.readers.insert(self.next, answer);
                self.step(Input::Query(self.next), tasks);
            }
            Event::Persisted { version, cuts, grown_bytes } => {
                self.checkpoints.note_grown(grown_bytes);
                if cuts == self.cuts {
                    self.step(Input::Persisted(version), tasks);
                }
            }
            Event::Checkpointed(done) => self.checkpointed(done, tasks),
        }
    }

    fn propose(&mut self, Asked(write, answer): Asked, tasks: &mut Vec<Task>) {
        self.next += 1;
        self.writers.insert(self.next, answer);
        let proposal = self.proposal(write);
        self.step(Input::Propose(proposal), tasks);
    }

    /// Takes an input. What is to be done here is done at once, in order; what others hear waits for the end of the
    /// round.
    fn step(&mut self, input: Input, tasks: &mut Vec<Task>) {
        for output in self.replica.step(boot_time(), input) {
            if let Some(output) = self.outbox.add(output) {
                self.perform(output, tasks);
            }
        }
    }

    /// Ends a round. What is committed is published before anyone is answered, what is prepared before it is
    /// acknowledged, and the end of an epoch before the master hears of it.
    fn speak(&mut self, tasks: &mut Vec<Task>) {
        self.publish();
        self.outbox.take().for_each(|output| self.perform(output, tasks));
    }

    fn proposal(&self, write: Write) -> Proposal {
        let limits = &self.around.limits;
        let setting = Setting {
            now: unix_ms(),
            stage_ms: limits.stage_ms,
            retire_ms: limits.retire_ms,
            tablet_bytes_max: limits.tablet_bytes_max,
            disk_space: self.around.disk_space(),
        };
        Proposal {
            token: self.next,
            request: write.options.session,
            retry: write.options.retry,
            ops: write.ops,
            single: write.single,
            setting,
        }
    }

    fn perform(&mut self, output: Output, tasks: &mut Vec<Task>) {
        let (around, id) = (&self.around, &self.id);
        match output {
            Output::Adopt(configuration, sealed) => self.adopt(configuration, sealed),
            Output::Append(entry) => tasks.push(Task::Append(entry)),
            Output::Truncate(version) => {
                self.cuts += 1;
                tasks.push(Task::Cut(version));
            }
            Output::Install(table) => {
                self.cuts += 1;
                log::info!("tablet {id}: takes the table of version {}", table.version);
                tasks.push(Task::Install(table));
            }
            Output::Send(to, message) => around.send(&to, id, message),
            Output::Plead(plea) => around.master.plead(id, self.configuration.epoch, &plea),
            Output::Sealed(epoch, end) => around.master.sealed(id, epoch, end),
            Output::Resigned(epoch) => around.master.resigned(id, epoch),
            Output::Answer(token, outcome) => {
                if let Some(answer) = self.writers.remove(&token) {
                    let _ = answer.send(outcome);
                }
            }
            Output::Confirm(token, answer) => {
                if let Some(reader) = self.readers.remove(&token) {
                    let _ = reader.send(answer);
                }
            }
        }
    }

    fn adopt(&mut self, configuration: Configuration, sealed_epoch: u64) {
        let stored = stored(&configuration, sealed_epoch);
        let store = || self.around.room.until_done(&self.troubles, || stored.store(&self.dir));
        let done = self.adopting.during(store);
        done.unwrap_or_else(|error| fail_stop("storing the tablet's epoch", &error));
        let Configuration { epoch, primary, isr, .. } = &configuration;
        let (primary, isr) = (primary.as_deref().unwrap_or("none"), isr.iter());
        let isr: Vec<&str> = isr.map(|node| &**node).collect();
        let isr = isr.join(",");
        log::info!(
            "tablet {}: epoch {epoch}, primary {primary}, in sync {isr}, sealed {sealed_epoch}",
            self.id
        );
    }

    fn publish(&mut self) {
        let replica = &self.replica;
        let epoch = replica.configuration().epoch;
        if epoch != self.configuration.epoch {
            self.configuration = Arc::new(replica.configuration().clone());
        }
        let (committed, end) = (replica.committed(), replica.end());
        let (lease_until, sealed) = (replica.lease_until(), replica.sealed_epoch());
        let role = role(replica, &self.around.node);
        let seen = self.view.read().expect("views are replaced whole").clone();
        let before =
            (seen.table.version, seen.end, seen.lease_until, seen.configuration.epoch, seen.sealed);
        let now = (committed.version, end, lease_until, epoch, sealed);
        if before == now && seen.role == role {
            return;
        }
        if role != seen.role && matches!(role, Role::Primary | Role::Replica) {
            self.troubles.end(With::Table);
        }
        let follows = role != Role::Primary;
        let prepared = if follows { replica.prepared().cloned().collect() } else { Vec::new() };
        let view = View {
            table: committed.clone(),
            prepared,
            lease_until,
            configuration: self.configuration.clone(),
            sealed,
            end,
            role,
        };
        *self.view.write().expect("views are replaced whole") = Arc::new(view);
    }

    fn seen(&self) -> Arc<View> {
        self.view.read().expect("views are replaced whole").clone()
    }

    /// On a disk that is low, [`Shell::free_disk`] decides.
    fn checkpoint_if_due(&mut self) {
        let (view, free_bytes) = (self.seen(), self.around.free_bytes.load(Ordering::Relaxed));
        let step = self.around.limits.checkpoint_bytes;
        if self.around.disk_space() == DiskSpace::Enough
            && self.failed.is_none_or(|at| at.elapsed() >= CHECKPOINT_PAUSE)
            && self.checkpoints.is_due(view.table.bytes(), step, free_bytes)
            && self.is_durable(&view.table)
        {
            self.checkpoint(view.table.clone());
        }
    }

    /// While the disk is low: gives spare segments back, and writes a checkpoint where that lets more go than
    /// it takes. On one that is exhausted the ballast goes first, where a checkpoint needs its room.
    fn free_disk(&mut self, tasks: &mut Vec<Task>) {
        let given = self.around.room.times_given();
        let lately = |(at, seen): (Instant, u64)| seen == given && at.elapsed() < FREE_PAUSE;
        if self.around.disk_space() == DiskSpace::Enough || self.freed.is_some_and(lately) {
            return;
        }
        self.freed = Some((Instant::now(), given));
        tasks.push(Task::Trim);
        let (view, free_bytes) = (self.seen(), self.around.free_bytes.load(Ordering::Relaxed));
        let exhausted = self.around.disk_space() == DiskSpace::Exhausted;
        let ballast = if exhausted { self.around.room.bytes() } else { 0 };
        let bytes = view.table.bytes();
        if self.checkpoints.would_free(bytes, free_bytes + ballast)
            && self.is_durable(&view.table)
            && !self.around.freeing.swap(true, Ordering::Relaxed)
        {
            self.freeing = true;
            if !self.checkpoints.would_free(bytes, free_bytes) {
                self.around.room.give();
            }
            self.checkpoint(view.table.clone());
        }
    }

    /// Whether the log on disk reaches as far as a table: a checkpoint must not lie beyond it, nor beyond a cut
    /// that is still to be made.
    fn is_durable(&self, table: &Table) -> bool {
        table.version <= self.replica.durable()
    }

    fn checkpoint(&mut self, table: Table) {
        self.checkpoints.begin(table.bytes());
        let (dir, to_self) = (self.dir.clone(), self.to_self.clone());
        let checkpointing = self.checkpointing.clone();
        spawn(format!("{} checkpoint", self.id), move || {
            let _alone = checkpointing.lock();
            let _ = to_self.send(Event::Checkpointed(write_checkpoint(&dir, &table)));
        });
    }

    /// What is before a checkpoint may go, and its segments with it if the disk is low.
    fn checkpointed(&mut self, done: Result<u64>, tasks: &mut Vec<Task>) {
        self.checkpoints.end(done.is_ok());
        if std::mem::take(&mut self.freeing) {
            self.around.freeing.store(false, Ordering::Relaxed);
        }
        self.failed = done.is_err().then(Instant::now);
        match done {
            Ok(version) => {
                self.troubles.end(With::Checkpoint);
                log::info!("tablet {}: checkpoint of version {version}", self.id);
                tasks.push(Task::Release(version));
                if self.around.disk_space() != DiskSpace::Enough {
                    tasks.push(Task::Trim);
                }
            }
            Err(error) => {
                let why = format!("no checkpoint, the log stays: {error}");
                self.troubles.note(With::Checkpoint, &why);
            }
        }
    }
}

/// What a node is for a tablet. A primary whose first entry is not committed yet is one, and serves nothing.
fn role(replica: &Replica, node: &crate::replication::Node) -> Role {
    let configuration = replica.configuration();
    if replica.leads() {
        Role::Primary
    } else if replica.sealed_epoch() >= configuration.epoch {
        Role::Sealed
    } else if configuration.isr.contains(node) {
        Role::Replica
    } else {
        Role::Learner
    }
}

fn write_checkpoint(dir: &Path, table: &Table) -> Result<u64> {
    storage::write_checkpoint(dir, table.position(), table.items())?;
    Ok(table.version)
}
