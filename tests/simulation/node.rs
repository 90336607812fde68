//! A node of the simulation: its clock, and for each tablet a replica and a disk.

use super::cells::Written;
use super::plan::{Plan, Random, Switches};
use super::world::{SECOND, name};
use penncloud::protocol::cluster::{NodeState, Report, Role, TabletReport};
use penncloud::protocol::entry::Entry;
use penncloud::replication::{
    Configuration, DiskSpace, Node as Name, Outbox, Output, Position, Reads, Replica, Rules, Table,
    Timing,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What a replica wants written, in this order.
pub enum Task {
    /// An epoch: the configuration, and the epoch sealed.
    Adopt(Configuration, u64),
    Append(Arc<Entry>),
    Truncate(u64),
    Install(Table),
}

/// What is on a disk of one tablet, and what is on its way there.
#[derive(Default)]
pub struct Disk {
    /// Configuration last adopted, and the epoch sealed.
    pub adopted: (Configuration, u64),
    /// What the log thread has yet to begin.
    pub tasks: VecDeque<Task>,
    /// The epoch that it is storing.
    pub storing: Option<(Configuration, u64)>,
    /// How many epochs this process has stored.
    pub stored: u64,
    /// The checkpoint.
    pub checkpoint: Table,
    /// Its cells.
    pub written_out: Arc<Written>,
    /// Entries before it that the log still holds.
    pub before: VecDeque<Entry>,
    /// Entries after it, synced.
    pub log: Vec<Entry>,
    /// Entries written, not synced.
    pub buffer: VecDeque<Arc<Entry>>,
    /// A table that is being installed.
    pub installing: Option<Table>,
}

impl Disk {
    /// Where the synced log ends.
    pub fn end(&self) -> Position {
        match self.log.last() {
            Some(entry) => Position::of(entry),
            None => self.checkpoint.position(),
        }
    }

    /// The epoch of the entry with this version; none: it is under the checkpoint, or not there.
    pub fn epoch_at(&self, version: u64) -> Option<u64> {
        let at = version.checked_sub(self.checkpoint.version + 1)?;
        self.log.get(at as usize).map(|entry| entry.epoch)
    }

    /// The log holds every entry after this version.
    pub fn log_start(&self) -> u64 {
        self.before.front().map_or(self.checkpoint.version, |first| first.version - 1)
    }

    /// Entries after a version up to another, `n` at most, and where they go on from; none: they are not there any more.
    pub fn read_back(&self, after: u64, last: u64, n: usize) -> (Position, Vec<Arc<Entry>>) {
        let entries = self.before.iter().chain(&self.log);
        let within = |entry: &&Entry| entry.version > after && entry.version <= last;
        let found = entries.filter(within).take(n);
        let found: Vec<_> = found.map(|entry| Arc::new(entry.clone())).collect();
        match found.first() {
            Some(first) if first.version == after + 1 => {
                (Position { epoch: first.prev_epoch, version: after }, found)
            }
            _ => (Position::default(), Vec::new()),
        }
    }

    /// Whether an entry is on it: in the log, or under the checkpoint.
    pub fn holds(&self, at: Position) -> bool {
        at.version <= self.checkpoint.version || self.epoch_at(at.version) == Some(at.epoch)
    }

    /// Where the log ends when all that it was asked to write is written.
    pub fn written(&self) -> Position {
        let mut cut = u64::MAX;
        for task in self.tasks.iter().rev() {
            match task {
                Task::Append(entry) if entry.version <= cut => return Position::of(entry),
                Task::Truncate(version) => cut = cut.min(*version),
                Task::Install(table) => return table.position(),
                Task::Append(_) | Task::Adopt(..) => {}
            }
        }
        if let Some(table) = &self.installing {
            return table.position();
        }
        let synced = self.log.iter().rev().map(Position::of);
        let written = self.buffer.iter().rev().map(|entry| Position::of(entry));
        let mut entries = written.chain(synced);
        entries.find(|at| at.version <= cut).unwrap_or(self.checkpoint.position())
    }

    /// The highest epochs that are, or will be, stored.
    pub fn epochs(&self) -> (u64, u64) {
        let storing = self.storing.iter().map(|(new, sealed)| (new.epoch, *sealed));
        let tasks = self.tasks.iter().filter_map(|task| match task {
            Task::Adopt(new, sealed) => Some((new.epoch, *sealed)),
            _ => None,
        });
        let stored = (self.adopted.0.epoch, self.adopted.1);
        storing.chain(tasks).last().unwrap_or(stored)
    }

    /// Whether what is being synced will be another log by then.
    pub fn is_cut_later(&self) -> bool {
        self.tasks.iter().any(|task| matches!(task, Task::Truncate(_) | Task::Install(_)))
    }

    /// The epoch that was being stored is.
    pub fn end_store(&mut self) {
        if let Some(epoch) = self.storing.take() {
            self.adopted = epoch;
            self.stored += 1;
        }
    }

    /// Cuts the log off after a version.
    pub fn truncate(&mut self, version: u64) {
        self.buffer.retain(|entry| entry.version <= version);
        self.log.retain(|entry| entry.version <= version);
    }

    /// Has the first `n` buffered entries synced.
    pub fn sync(&mut self, n: usize) {
        self.log.extend(self.buffer.drain(..n).map(|entry| Entry::clone(&entry)));
    }

    /// The process dies: what was not synced is gone, all but the first `n` entries; the epoch that was being stored is
    /// there, or not.
    pub fn lose_power(&mut self, n: usize, stored: bool) {
        self.sync(n);
        self.buffer.clear();
        self.tasks.clear();
        self.installing = None;
        if stored {
            self.end_store();
        }
        (self.storing, self.stored) = (None, 0);
    }

    /// A checkpoint is written: everything up to it may leave the log, all but the newest of that does.
    pub fn take_checkpoint(&mut self, table: Table, below: Arc<Written>, keep: usize) {
        self.before.extend(self.log.extract_if(.., |entry| entry.version <= table.version));
        self.before.drain(..self.before.len().saturating_sub(keep));
        self.checkpoint = below.holding(&table);
        self.written_out = below;
    }

    /// A table from the primary is to replace everything that was written.
    pub fn begin_install(&mut self, table: Table) {
        self.buffer.clear();
        self.installing = Some(table);
    }

    /// It has.
    pub fn end_install(&mut self) {
        if let Some(table) = self.installing.take() {
            self.log.clear();
            self.before.clear();
            self.written_out = Written::all_of(&table);
            self.checkpoint = self.written_out.holding(&table);
        }
    }
}

/// What a log thread is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Work {
    #[default]
    Rests,
    Stores,
    Syncs,
    Installs,
}

/// One tablet at a node.
#[derive(Default)]
pub struct Held {
    pub disk: Disk,
    /// None: the node is dead.
    pub replica: Option<Replica>,
    /// Up to here the observer has seen what is committed here.
    pub seen: u64,
    /// What the log thread is at: it does one thing after the other.
    pub work: Work,
    /// A checkpoint that is being written.
    pub frozen: Option<Table>,
    /// The room on the disk, as its replica was told last.
    pub space: DiskSpace,
    /// What its replica has to say at the end of the round.
    pub said: Vec<Output>,
    /// What waits for an epoch to be on disk.
    pub outbox: Outbox,
    /// Entries of such an epoch: a crash undoes them, and the epoch may begin with others.
    pub unheard: Vec<Arc<Entry>>,
    /// The highest epochs of which anyone may have heard that they were adopted, or sealed, here.
    pub epochs: (u64, u64),
}

impl Held {
    /// Takes what is to be said at the end of the round: one message may say what several do.
    pub fn gather(&mut self, said: Output, batch_bytes: u64) {
        let (Output::Send(to, message) | Output::Mention(to, message)) = said else {
            return self.said.push(said);
        };
        let last = self.said.iter_mut().rev().find_map(|said| match said {
            Output::Send(other, last) if *other == to => Some(last),
            _ => None,
        });
        let left = match last {
            Some(last) => last.join(message, batch_bytes),
            None => Some(message),
        };
        self.said.extend(left.map(|message| Output::Send(to, message)));
    }
}

/// A node.
pub struct Node {
    pub name: Name,
    pub tablets: Vec<Held>,
    /// Rises with every start: what belongs to an earlier life is dropped.
    pub life: u64,
    /// Its disk's name.
    pub store: u64,
    /// The master has refused its disk, and has not accepted it since.
    pub refused: bool,
    /// Taken out of service by the master.
    pub shut_down: bool,
    /// Nothing happens here before (SIGSTOP, or a suspended machine).
    pub paused_until: u64,
    /// Syncs take so long until then (a stalled disk).
    pub stalled_until: u64,
    /// The room on its disk.
    pub space: DiskSpace,
    /// The clock when its rate was set last, and when that was.
    pub clock: (u64, u64),
    /// Parts per thousand; 0: it stands still.
    pub rate: u64,
    /// The rate at which it runs when it runs.
    pub usual_rate: u64,
    /// Until when a staged value is known to be, by its id.
    pub staged: BTreeMap<u128, u64>,
}

impl Node {
    pub fn new(random: &mut Random, i: usize, switches: &Switches, plan: Plan) -> Node {
        let rate = match plan.reads {
            Reads::Confirm => random.between(300, 1701),
            Reads::Lease if switches.drift_bound => random.between(900, 1101),
            Reads::Lease => [650, 1350][random.below(2) as usize],
        };
        Node {
            name: name(i).into(),
            tablets: (0..plan.tablets).map(|_| Held::default()).collect(),
            life: 0,
            store: i as u64 + 1,
            refused: false,
            shut_down: false,
            paused_until: 0,
            stalled_until: 0,
            space: DiskSpace::Enough,
            clock: (random.below(1000) * SECOND + SECOND, 0),
            rate,
            usual_rate: rate,
            staged: BTreeMap::new(),
        }
    }

    /// The node's own clock.
    pub fn clock(&self, now: u64) -> u64 {
        self.clock.0 + (now - self.clock.1) * self.rate / 1000
    }

    /// From now on the clock runs so fast.
    pub fn set_rate(&mut self, now: u64, rate: u64) {
        self.clock = (self.clock(now), now);
        self.rate = rate;
    }

    pub fn is_up(&self) -> bool {
        self.tablets[0].replica.is_some()
    }

    pub fn replica(&self, t: usize) -> Option<&Replica> {
        self.tablets[t].replica.as_ref()
    }

    /// Starts from what is on disk.
    pub fn start(&mut self, now: u64, rules: Rules, timing: Timing) {
        self.life += 1;
        self.staged.clear();
        let (clock, name) = (self.clock(now), self.name.clone());
        for held in &mut self.tablets {
            held.work = Work::Rests;
            held.said.clear();
            held.outbox = Outbox::default();
            held.frozen = None;
            held.unheard.clear();
            held.space = DiskSpace::Enough;
            held.seen = held.disk.checkpoint.version;
            let disk = &held.disk;
            held.replica = Some(Replica::recover(
                name.clone(),
                (rules, timing),
                clock,
                disk.adopted.clone(),
                disk.checkpoint.clone(),
                disk.log.clone(),
            ));
        }
    }

    /// What it says of itself to the master.
    pub fn report(&self, ids: &[String]) -> Report {
        let state = if self.shut_down { NodeState::Shutdown } else { NodeState::Alive };
        let tablet = |(held, id): (&Held, &String)| {
            let replica = held.replica.as_ref()?;
            let (epoch, sealed) = (replica.configuration().epoch, replica.sealed_epoch());
            let role = match () {
                _ if sealed >= epoch => Role::Sealed,
                _ if replica.leads() => Role::Primary,
                _ if replica.configuration().isr.contains(&self.name) => Role::Replica,
                _ => Role::Learner,
            };
            let (version, committed) = (replica.end().version, replica.committed().version);
            let id = id.clone();
            Some(TabletReport { id, epoch, sealed, version, committed, role, ..Default::default() })
        };
        let tablets = self.tablets.iter().zip(ids).filter_map(tablet).collect();
        Report { state, tablets, ..Report::default() }
    }
}
