//! The shell around a tablet's [`Replica`]: hands it what happens, and performs what it wants done.
//!
//! It is called under the tablet's lock, by whatever thread has something to say, and waits for nothing. What is to be
//! written goes to the log thread; what is asked while that syncs goes into its next sync, and over the links as one
//! message: group commit.

use super::checkpoints::Checkpoints;
use super::clock::{boot_time, unix_ms};
use super::disk::{Done, Shared, Task};
use super::surroundings::{Freeing, Surroundings};
use super::tablet::{Event, SharedView, Tablet, View, Write, spawn, stored};
use super::trouble::{HANGS, With};
use super::waits::{Filler, Tray};
use crate::error::Result;
use crate::protocol::cluster::Role;
use crate::replication::{
    Configuration, DiskSpace, Input, Outbox, Outcome, Output, Proposal, Replica, Setting, Table,
    Token,
};
use crate::storage;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Pause between two looks at what can be given back to a low disk.
const FREE_PAUSE: Duration = Duration::from_secs(10);
/// Pause before a checkpoint that failed is tried again.
const CHECKPOINT_PAUSE: Duration = Duration::from_secs(10);

/// A replica, and what is around it.
pub struct Shell {
    id: Arc<str>,
    dir: PathBuf,
    around: Surroundings,
    replica: Replica,
    configuration: Arc<Configuration>,
    view: SharedView,
    /// The log's tasks. Their bytes are bounded by the windows of the replication.
    to_log: Tray<Task>,
    /// The tablet itself, for what ends later.
    me: Weak<Tablet>,
    /// Who waits for the outcome of a write.
    writers: HashMap<Token, Filler<Outcome>>,
    /// Who waits for word of what is committed.
    readers: HashMap<Token, Filler<Result<()>>>,
    /// The last token. Where the machine went on, those of an earlier process are smaller: an answer to one is none here.
    next: Token,
    outbox: Outbox,
    /// How often the log was cut: what the log thread said before means another log.
    cuts: u64,
    stuck: bool,
    /// The room on the disk, as the replica was told last.
    space: DiskSpace,
    shared: Shared,
    checkpoints: Checkpoints,
    /// When the last checkpoint failed, if it did.
    failed: Option<Instant>,
    /// When the tablet last looked for what it can give back to a low disk, and how often the ballast had been given
    /// up by then.
    freed: Option<(Instant, u64)>,
}

impl Shell {
    /// The shell of a replica that was recovered from a directory.
    pub fn new(
        id: &str,
        dir: &Path,
        around: &Surroundings,
        replica: Replica,
        to_log: Tray<Task>,
        me: Weak<Tablet>,
        shared: Shared,
    ) -> Shell {
        let mut shell = Shell {
            id: id.into(),
            dir: dir.into(),
            around: around.clone(),
            configuration: Arc::new(replica.configuration().clone()),
            checkpoints: Checkpoints::new(replica.committed().bytes()),
            replica,
            view: SharedView::default(),
            to_log,
            me,
            writers: HashMap::new(),
            readers: HashMap::new(),
            next: boot_time(),
            outbox: Outbox::default(),
            cuts: 0,
            stuck: false,
            space: DiskSpace::Enough,
            shared,
            failed: None,
            freed: None,
        };
        shell.publish();
        shell
    }

    /// Where it publishes what readers see.
    pub fn view(&self) -> SharedView {
        self.view.clone()
    }

    /// Takes what happened.
    pub fn hear(&mut self, event: Event) {
        match event {
            Event::Configure(configuration) => self.step(Input::Configure(configuration)),
            Event::Seal(configuration) => self.step(Input::Seal(configuration)),
            Event::Resign(epoch) => self.step(Input::Resign(epoch)),
            Event::Message(from, message) => self.step(Input::Message(from, *message)),
            Event::Confirm(answer) => {
                self.next += 1;
                self.readers.insert(self.next, answer);
                self.step(Input::Query(self.next));
            }
            Event::Persisted(done) => self.persisted(done),
            Event::Checkpointed(done) => self.checkpointed(done),
            Event::Rewrite => self.rewrite(),
            Event::Tick => self.tick(),
        }
    }

    /// Takes what a client asks for; whether the log thread has an entry to write for it.
    pub fn write(&mut self, write: Write, answer: Filler<Outcome>) -> bool {
        let end = self.replica.end().version;
        self.next += 1;
        self.writers.insert(self.next, answer);
        let proposal = self.proposal(write);
        self.step(Input::Propose(proposal));
        self.replica.end().version > end
    }

    fn persisted(&mut self, done: Done) {
        self.checkpoints.note_grown(done.grown_bytes);
        for output in self.outbox.stored(done.adopted) {
            self.perform(output);
        }
        if done.cuts == self.cuts {
            self.step(Input::Persisted(done.version));
        }
    }

    fn tick(&mut self) {
        let stuck = self.shared.busy.time(boot_time()) > self.around.hangs_after();
        if stuck != std::mem::replace(&mut self.stuck, stuck) {
            self.step(Input::Stuck(stuck));
            match stuck {
                true => self.shared.troubles.note(With::Disk, HANGS),
                false => self.shared.troubles.end(With::Disk),
            }
        }
        let space = self.around.disk_space();
        if space != std::mem::replace(&mut self.space, space) {
            self.step(Input::Space(space));
        }
        self.step(Input::Tick);
        self.checkpoint_if_due();
        self.free_disk();
    }

    /// Has the replica take an input. What is to be stored is on its way to the log, and what readers see is published,
    /// before anybody else hears of it; of a new epoch nobody hears before it is on disk.
    fn step(&mut self, input: Input) {
        let outputs = self.replica.step(boot_time(), input);
        let (tasks, others): (Vec<_>, Vec<_>) = outputs.into_iter().partition(is_task);
        if !tasks.is_empty() {
            let tasks: Vec<Task> = tasks.into_iter().filter_map(|task| self.task(task)).collect();
            self.to_log.add(tasks);
        }
        self.publish();
        for output in others {
            if let Some(output) = self.outbox.say(output) {
                self.perform(output);
            }
        }
    }

    /// What the log thread is to do.
    fn task(&mut self, output: Output) -> Option<Task> {
        Some(match output {
            Output::Adopt(configuration, sealed_epoch) => {
                self.outbox.adopt();
                self.note_epoch(&configuration, sealed_epoch);
                Task::Adopt(stored(&configuration, sealed_epoch))
            }
            Output::Append(entry) => Task::Append(entry),
            Output::Truncate(version) => {
                self.cuts += 1;
                Task::Cut(version)
            }
            Output::Install(table) => {
                self.cuts += 1;
                log::info!("tablet {}: takes the table of version {}", self.id, table.version);
                self.shared.troubles.end(With::Contents);
                Task::Install(table)
            }
            _ => return None,
        })
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

    fn perform(&mut self, output: Output) {
        let (around, id) = (&self.around, &self.id);
        match output {
            Output::Send(to, message) => around.send(&to, id, message),
            Output::Mention(to, message) => around.links.mention(&to, id, message),
            Output::Plead(epoch, plea) => around.master.plead(id, epoch, &plea),
            Output::ReadBack(..) => {}
            Output::Sealed(epoch, end) => around.master.sealed(id, epoch, end),
            Output::Resigned(epoch) => around.master.resigned(id, epoch),
            Output::Differs(version) => {
                let why = format!("its table differs from the primary's at version {version}");
                self.shared.troubles.note(With::Contents, &why);
            }
            Output::Lost(node, acked, end) => log::error!(
                "tablet {id}: {node} has lost what it had on disk: its log ends at {end}, it had {acked}"
            ),
            Output::Answer(token, outcome) => {
                if let Some(answer) = self.writers.remove(&token) {
                    answer.fill(outcome);
                }
            }
            Output::Confirm(token, answer) => {
                if let Some(reader) = self.readers.remove(&token) {
                    reader.fill(answer);
                }
            }
            Output::Adopt(..) | Output::Append(_) | Output::Truncate(_) | Output::Install(_) => {}
        }
    }

    fn note_epoch(&self, configuration: &Configuration, sealed_epoch: u64) {
        let Configuration { epoch, primary, isr, .. } = configuration;
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
            self.shared.troubles.end(With::Table);
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
            self.checkpoint(view.table.clone(), None);
        }
    }

    /// While the disk is low: gives spare segments back, and writes a checkpoint where that lets more go than
    /// it takes. On one that is exhausted the ballast goes first, where a checkpoint needs its room.
    fn free_disk(&mut self) {
        let given = self.around.room.times_given();
        let lately = |(at, seen): (Instant, u64)| seen == given && at.elapsed() < FREE_PAUSE;
        if self.around.disk_space() == DiskSpace::Enough || self.freed.is_some_and(lately) {
            return;
        }
        self.freed = Some((Instant::now(), given));
        self.to_log.add([Task::Trim]);
        let (view, free_bytes) = (self.seen(), self.around.free_bytes.load(Ordering::Relaxed));
        let exhausted = self.around.disk_space() == DiskSpace::Exhausted;
        let ballast = if exhausted { self.around.room.bytes() } else { 0 };
        let bytes = view.table.bytes();
        if self.checkpoints.would_free(bytes, free_bytes + ballast)
            && self.is_durable(&view.table)
            && let Some(alone) = self.around.begin_freeing()
        {
            let needs_ballast = !self.checkpoints.would_free(bytes, free_bytes);
            self.checkpoint(view.table.clone(), Some((alone, needs_ballast)));
        }
    }

    /// Whether the log on disk reaches as far as a table: a checkpoint must not lie beyond it, nor beyond a cut
    /// that is still to be made.
    fn is_durable(&self, table: &Table) -> bool {
        table.version <= self.replica.durable()
    }

    /// Has a checkpoint written. One that frees the disk may need the room of the ballast.
    fn checkpoint(&mut self, table: Table, frees: Option<(Freeing, bool)>) {
        self.checkpoints.begin(table.bytes());
        let (dir, me, room) = (self.dir.clone(), self.me.clone(), self.around.room.clone());
        let (checkpointing, files) = (self.shared.checkpointing.clone(), self.shared.files.clone());
        spawn(format!("{} checkpoint", self.id), move || {
            let _alone = checkpointing.lock();
            if frees.as_ref().is_some_and(|(_, needs_ballast)| *needs_ballast) {
                room.give();
            }
            let done = write_checkpoint(&dir, &table);
            drop((frees, files));
            if let Some(tablet) = me.upgrade() {
                tablet.tell(Event::Checkpointed(done));
            }
        });
    }

    /// Writes a checkpoint whether it is due or not: what is on the disk is damaged.
    fn rewrite(&mut self) {
        let view = self.seen();
        if !self.checkpoints.is_running() && self.is_durable(&view.table) {
            self.checkpoint(view.table.clone(), None);
        }
    }

    /// What is before a checkpoint may go, and its segments with it if the disk is low.
    fn checkpointed(&mut self, done: Result<u64>) {
        self.checkpoints.end(done.is_ok());
        self.failed = done.is_err().then(Instant::now);
        match done {
            Ok(version) => {
                self.shared.troubles.end(With::Checkpoint);
                log::info!("tablet {}: checkpoint of version {version}", self.id);
                self.to_log.add([Task::Release(version)]);
                if self.around.disk_space() != DiskSpace::Enough {
                    self.to_log.add([Task::Trim]);
                }
            }
            Err(error) => {
                let why = format!("no checkpoint, the log stays: {error}");
                self.shared.troubles.note(With::Checkpoint, &why);
            }
        }
    }
}

/// Whether this is for the log thread to do.
fn is_task(output: &Output) -> bool {
    use Output::{Adopt, Append, Install, Truncate};
    matches!(output, Adopt(..) | Append(_) | Truncate(_) | Install(_))
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
    let items = table.items().collect::<Result<Vec<_>>>()?;
    storage::write_checkpoint(dir, table.position(), items)?;
    Ok(table.version)
}
