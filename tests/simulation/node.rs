//! A node of the simulation: its clock, and for each tablet a replica and a disk.

use super::plan::{Plan, Random, Switches};
use super::world::{SECOND, name};
use penncloud::protocol::cluster::{NodeState, Report, Role, TabletReport};
use penncloud::protocol::entry::Entry;
use penncloud::replication::{
    Configuration, DiskSpace, Node as Name, Output, Position, Reads, Replica, Rules, Table, Timing,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What is on a disk of one tablet, and what is on its way there.
#[derive(Default)]
pub struct Disk {
    /// Configuration last adopted, and the epoch sealed.
    pub adopted: (Configuration, u64),
    /// The checkpoint.
    pub checkpoint: Table,
    /// Entries after it, synced.
    pub log: Vec<Entry>,
    /// Entries written, not synced.
    pub buffer: VecDeque<Arc<Entry>>,
    /// How many of these the sync that runs will have synced.
    pub in_flight: usize,
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

    /// Whether an entry is on it: in the log, or under the checkpoint.
    pub fn holds(&self, at: Position) -> bool {
        at.version <= self.checkpoint.version || self.epoch_at(at.version) == Some(at.epoch)
    }

    /// The last entry that was written, synced or not.
    pub fn written(&self) -> Position {
        match (self.buffer.back(), &self.installing) {
            (Some(entry), _) => Position::of(entry),
            (None, Some(table)) => table.position(),
            (None, None) => self.end(),
        }
    }

    /// Cuts the log off after a version.
    pub fn truncate(&mut self, version: u64) {
        self.buffer.retain(|entry| entry.version <= version);
        self.in_flight = self.in_flight.min(self.buffer.len());
        self.log.retain(|entry| entry.version <= version);
    }

    /// Has the first `n` buffered entries synced.
    pub fn sync(&mut self, n: usize) {
        self.log.extend(self.buffer.drain(..n).map(|entry| Entry::clone(&entry)));
        self.in_flight = 0;
    }

    /// What was not synced is gone, all but the first `n` entries.
    pub fn lose_power(&mut self, n: usize) {
        self.sync(n);
        self.buffer.clear();
        self.installing = None;
    }

    /// Writes a checkpoint: everything up to it leaves the log.
    pub fn take_checkpoint(&mut self, table: Table) {
        if table.version > self.checkpoint.version {
            self.log.retain(|entry| entry.version > table.version);
            self.checkpoint = table;
        }
    }

    /// A table from the primary is to replace everything that was written.
    pub fn begin_install(&mut self, table: Table) {
        self.buffer.clear();
        self.in_flight = 0;
        self.installing = Some(table);
    }

    /// It has; its version, unless another one has come.
    pub fn end_install(&mut self) -> Option<u64> {
        let table = self.installing.take()?;
        self.log.clear();
        self.checkpoint = table;
        Some(self.checkpoint.version)
    }
}

/// One tablet at a node.
#[derive(Default)]
pub struct Held {
    pub disk: Disk,
    /// None: the node is dead.
    pub replica: Option<Replica>,
    /// Up to here the observer has seen what is committed here.
    pub seen: u64,
    pub syncing: bool,
    /// The room on the disk, as its replica was told last.
    pub space: DiskSpace,
    /// What its replica has to say at the end of the round.
    pub said: Vec<Output>,
    /// The highest epochs that were adopted and sealed here.
    pub epochs: (u64, u64),
}

impl Held {
    /// Takes down the epochs that its replica has adopted and sealed.
    pub fn note_epochs(&mut self) {
        if let Some(replica) = &self.replica {
            self.epochs = (replica.configuration().epoch, replica.sealed_epoch());
        }
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
            held.syncing = false;
            held.said.clear();
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
