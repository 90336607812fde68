//! The shell around a tablet's [`Replica`]: hands it what happens, and performs what it wants done.
//!
//! It is called under the tablet's lock, by whatever thread has something to say, and waits for nothing. What is to be
//! written goes to the log thread; what is asked while that syncs goes into its next sync, and over the links as one
//! message: group commit.

mod files;

use super::checkpoints::Checkpoints;
use super::clock::{boot_time, unix_ms};
use super::disk::{Done, Shared, Task};
use super::memory::{Holding, Share};
use super::surroundings::Surroundings;
use super::tablet::{Event, SharedView, Tablet, View, Write, stored};
use super::trouble::{HANGS, With};
use super::waits::{Filler, Tray};
use crate::error::{Error, Result};
use crate::protocol::cluster::Role;
use crate::replication::{
    Configuration, DiskSpace, Input, Message, Outbox, Outcome, Output, Position, Proposal, Replica,
    Setting, Table, Token,
};
use crate::storage::Received;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

/// What writers hear while the node's tablets hold all the memory that they may.
const NO_MEMORY: &str = "the memory is full until more is written out";

/// A replica, and what is around it.
pub struct Shell {
    id: Arc<str>,
    around: Surroundings,
    replica: Replica,
    configuration: Arc<Configuration>,
    view: SharedView,
    /// The log's tasks. Their bytes are bounded by the windows of the replication.
    to_log: Tray<Task>,
    /// Its share of the node's memory.
    share: Share,
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
    /// How often another node's table was taken, and how often it was put in the place of what was on the disk.
    installs: (u64, u64),
    /// A table that has arrived, until the replica has said whether it takes it.
    received: Option<Box<Received>>,
    stuck: bool,
    /// The room on the disk, as the replica was told last.
    space: DiskSpace,
    shared: Shared,
    checkpoints: Checkpoints,
    /// The table of which a checkpoint is being written, or is to be tried again.
    frozen: Option<Table>,
    /// The version of the last checkpoint, and the bytes of its table.
    released: u64,
    live_bytes: u64,
    /// Whether what readers see holds what lies on the disk now.
    stale: bool,
    /// When the last checkpoint failed, if it did.
    failed: Option<Instant>,
    /// Whether runs are being merged, and when that failed last.
    merging: bool,
    unmerged: Option<Instant>,
    /// When the tablet last looked for what it can give back to a low disk, and how often the ballast had been given
    /// up by then.
    freed: Option<(Instant, u64)>,
}

impl Shell {
    /// The shell of a replica that was recovered from a directory.
    pub fn new(
        id: &str,
        around: &Surroundings,
        replica: Replica,
        to_log: Tray<Task>,
        me: Weak<Tablet>,
        shared: Shared,
    ) -> Shell {
        let mut shell = Shell {
            id: id.into(),
            around: around.clone(),
            configuration: Arc::new(replica.configuration().clone()),
            checkpoints: Checkpoints::default(),
            share: around.memory.share(),
            released: replica.committed().version,
            live_bytes: replica.committed().bytes(),
            replica,
            view: SharedView::default(),
            to_log,
            me,
            writers: HashMap::new(),
            readers: HashMap::new(),
            next: boot_time(),
            outbox: Outbox::default(),
            cuts: 0,
            installs: (0, 0),
            received: None,
            stuck: false,
            space: DiskSpace::Enough,
            shared,
            frozen: None,
            stale: false,
            failed: None,
            merging: false,
            unmerged: None,
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
            Event::Message(from, message) => {
                let message = self.within_memory(*message);
                self.step(Input::Message(from, message));
            }
            Event::Fetched(from, configuration, table, received) => {
                self.received = Some(received);
                self.step(Input::Message(from, Message::Install { configuration, table }));
                self.received = None;
            }
            Event::Confirm(answer) => {
                self.next += 1;
                self.readers.insert(self.next, answer);
                self.step(Input::Query(self.next));
            }
            Event::Persisted(done) => self.persisted(done),
            Event::ReadBack(node, after, entries) => {
                let epoch = entries.first().map_or(0, |first| first.prev_epoch);
                self.step(Input::ReadBack(node, Position { epoch, version: after }, entries));
            }
            Event::Checkpointed(written) => self.checkpointed(written),
            Event::Merged(written) => self.merged(written),
            Event::Rewrite => self.rewrite(),
            Event::Tick => self.tick(),
        }
    }

    /// Takes what a client asks for; whether the log thread has an entry to write for it.
    pub fn write(&mut self, write: Write, answer: Filler<Outcome>) -> bool {
        if self.share.refuses_writes() && !write.frees() {
            answer.fill(Outcome::Refused(Error::retry(NO_MEMORY)));
            return false;
        }
        let end = self.replica.end().version;
        self.next += 1;
        self.writers.insert(self.next, answer);
        let proposal = self.proposal(write);
        self.step(Input::Propose(proposal));
        self.replica.end().version > end
    }

    fn persisted(&mut self, done: Done) {
        self.checkpoints.note_grown(done.grown_bytes);
        self.installs.1 = done.installs;
        for output in self.outbox.stored(done.adopted) {
            self.perform(output);
        }
        if done.cuts == self.cuts {
            self.step(Input::Persisted(done.version));
            self.step(Input::LogStart(done.log_start));
        }
        self.checkpoint_if_due();
    }

    /// Where there is no more memory for entries, they are as good as lost on their way; a beacon is heard all the same.
    fn within_memory(&self, mut message: Message) -> Message {
        if let Message::Prepare(prepare) = &mut message
            && self.share.refuses_entries()
        {
            prepare.entries.clear();
        }
        message
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
        self.merge_if_due();
        self.note_damage();
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
                let received =
                    self.received.take().expect("only a table that has arrived is installed");
                self.cuts += 1;
                self.installs.0 += 1;
                self.frozen = None;
                (self.released, self.live_bytes) = (table.version, table.bytes());
                log::info!("tablet {}: takes the table of version {}", self.id, table.version);
                self.shared.troubles.end(With::Contents);
                Task::Install(table, received)
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
            Output::ReadBack(node, after, last) => {
                self.to_log.add([Task::ReadBack(node, after, last)]);
            }
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
        let may_begin = !self.checkpoints.is_running() && !self.is_held_up();
        self.share.set(holding(replica, may_begin));
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
        if before == now && seen.role == role && !std::mem::take(&mut self.stale) {
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
}

/// What a replica holds in memory, and how much of it a checkpoint that begins now would write out.
fn holding(replica: &Replica, may_begin: bool) -> Holding {
    let (committed, last) = (replica.committed(), replica.last());
    let recent = if may_begin { committed.memory_bytes() } else { 0 };
    Holding {
        recent,
        frozen: committed.memory_bytes() - recent,
        prepared: last.memory_bytes().saturating_sub(committed.memory_bytes()),
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
