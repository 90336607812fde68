//! Who is alive, and who serves what: PURE. `step(now, input) -> outputs`; no clock, file or socket.
//!
//! The shell performs the outputs in order. It answers a [`Output::Cas`] with [`Input::Stored`] before
//! it goes on, so nothing is told to a node that is not on disk. If another master won the race, the
//! rest of the outputs is dropped: they were judged by tables that are no more.
//!
//! Here are the nodes; `tablets.rs` holds elections, pleas and first epochs, `handover.rs` what is moved in order.

use super::handover::Leaving;
use super::probation::Probation;
use super::record::{NodeRecord, Record};
use super::tablets::Tablet;
use crate::protocol::cluster::{
    ClusterStatus, GroupRoute, NodeRoute, NodeState, NodeStatus, Report, Role, Routes, SlotRange,
    Tables, TabletReport, TabletRoute,
};
use log::Level;
use std::collections::BTreeMap;

/// What happens to the master.
#[derive(Clone, Debug)]
pub enum Input {
    /// A node has said who it is, on a new heartbeat connection.
    Hello {
        /// Its name.
        node: String,
        /// Its disk.
        store_uuid: String,
        /// Its running instance.
        boot_id: String,
        /// What it says of itself.
        report: Report,
    },
    /// A node has answered a heartbeat.
    Beat {
        /// Its name.
        node: String,
        /// What it says of itself.
        report: Report,
    },
    /// A node could not be reached, or has refused.
    Failed {
        /// Its name.
        node: String,
        /// Why, in a sentence.
        why: String,
    },
    /// A node has sealed a tablet's epoch, as it was asked to; no lease of it runs any more.
    Sealed {
        /// Its name.
        node: String,
        /// The tablet.
        tablet: String,
        /// The epoch that it has sealed.
        epoch: u64,
        /// Where its log ends: epoch and version.
        end: (u64, u64),
    },
    /// A node has sealed a tablet's epoch to leave its place in order; it holds no lease any more.
    Resigned {
        /// Its name.
        node: String,
        /// The tablet.
        tablet: String,
        /// The epoch that it has sealed.
        epoch: u64,
    },
    /// A node asks for something.
    Pleaded {
        /// Its name.
        node: String,
        /// The tablet.
        tablet: String,
        /// The epoch in which it asks.
        epoch: u64,
        /// What it asks for.
        plea: Plea,
    },
    /// A node is to be taken out of service in order.
    Shutdown {
        /// Its name.
        node: String,
        /// Whether it is though tablets need it.
        force: bool,
    },
    /// A node is to be put back into service.
    Wakeup {
        /// Its name.
        node: String,
    },
    /// The store holds this record under its key.
    Stored {
        /// The record.
        record: Record,
        /// The store's version at which it was written.
        revision: u64,
    },
    /// Time has passed.
    Tick,
}

/// What a replica asks of the master ([`crate::replication::Plea`], with the nodes as the tables name them).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plea {
    /// Take this member out of the in-sync set.
    Remove(String),
    /// Take this member, which has caught up, into the in-sync set.
    Add(String),
    /// This primary has had no lease for long.
    NoLease,
    /// A newer epoch was seen: what is the configuration?
    Tell,
}

/// What the master wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write this record if its key still has this revision (0: no such key).
    Cas(Record, u64),
    /// The node that said HELLO is who it should be.
    Accept(String),
    /// It is not, and may be told nothing.
    Refuse(String, String),
    /// The routes have changed: tell all nodes.
    Announce,
    /// A node speaks of an epoch that is over: tell it the routes again.
    Tell(String),
    /// Beat a node's heart now.
    Beat(String),
    /// Ask a node to seal a tablet's epoch.
    Seal(String, TabletRoute),
    /// Ask a node to leave its place in a tablet's epoch in order.
    Resign(String, TabletRoute),
    /// Take a node out of service now, or put it back.
    Serve(String, bool),
    /// A node is not taken out of service, and why.
    Keep(String, String),
    /// A line for the log.
    Log(Level, String),
}

/// All tables, and what is known of each node.
pub struct Membership {
    master: String,
    timeout_ms: u64,
    started: u64,
    /// When time was last told, and since when it has been told often enough to judge who is silent.
    ticked: u64,
    watching_since: u64,
    /// Random name of the register that holds the tables.
    register: String,
    /// Version of the newest record.
    version: u64,
    slots: Vec<SlotRange>,
    pub(super) groups: BTreeMap<String, GroupRoute>,
    pub(super) tablets: BTreeMap<String, Tablet>,
    pub(super) nodes: Nodes,
}

/// The nodes by their names.
pub(super) type Nodes = BTreeMap<String, Node>;

/// A node's record, and what is known of the node.
pub(super) struct Node {
    record: NodeRecord,
    /// The store's version at which the record was written.
    revision: u64,
    pub(super) state: NodeState,
    /// When it was last heard; none: not since the master started.
    heard: Option<u64>,
    /// Since when it has been heard to serve.
    alive_since: Option<u64>,
    boot_id: Option<String>,
    problem: Option<String>,
    report: Report,
    /// Whether it knows of what is not in the tables.
    is_ahead: bool,
    /// Set while the node is being taken out of service.
    pub(super) leaving: Option<Leaving>,
    /// Whether it is trusted with primaries.
    pub(super) probation: Probation,
}

impl Membership {
    /// A master that has just started, at `now`, with empty tables: [`Input::Stored`] fills them.
    pub fn new(master: &str, timeout_ms: u64, now: u64) -> Membership {
        Membership {
            master: master.into(),
            timeout_ms,
            started: now,
            ticked: now,
            watching_since: now,
            register: String::new(),
            version: 0,
            slots: Vec::new(),
            groups: BTreeMap::new(),
            tablets: BTreeMap::new(),
            nodes: BTreeMap::new(),
        }
    }

    /// Takes one input at `now` (milliseconds of a clock that only rises). A master whose tables are old decides nothing.
    pub fn step(&mut self, now: u64, input: Input) -> Vec<Output> {
        if self.is_behind()
            && let Some(outputs) = self.refrain(now, &input)
        {
            return outputs;
        }
        let mut outputs = self.take(now, input);
        if self.is_behind() {
            outputs.retain(|output| !output.decides());
        }
        outputs
    }

    /// What becomes of an input that asks for a decision while none is taken.
    fn refrain(&mut self, now: u64, input: &Input) -> Option<Vec<Output>> {
        match input {
            Input::Tick => Some(self.note_silence(now)),
            Input::Sealed { .. } | Input::Resigned { .. } | Input::Pleaded { .. } => {
                Some(Vec::new())
            }
            Input::Shutdown { node, .. } => {
                let why = "the master's tables are old, nothing is changed by them";
                Some(vec![Output::Keep(node.clone(), why.into())])
            }
            _ => None,
        }
    }

    fn take(&mut self, now: u64, input: Input) -> Vec<Output> {
        match input {
            Input::Hello { node, store_uuid, boot_id, report } => {
                self.hello(now, &node, store_uuid, boot_id, report)
            }
            Input::Beat { node, report } => self.beat(now, &node, report),
            Input::Failed { node, why } => self.failed(&node, why),
            Input::Sealed { node, tablet, epoch, end } => {
                self.sealed(now, &node, &tablet, epoch, end)
            }
            Input::Resigned { node, tablet, epoch } => self.resigned(now, &node, &tablet, epoch),
            Input::Pleaded { node, tablet, epoch, plea } => {
                self.pleaded(now, &node, &tablet, epoch, &plea)
            }
            Input::Shutdown { node, force } => self.shut_down(now, &node, force),
            Input::Wakeup { node } => self.wake_up(&node),
            Input::Stored { record, revision } => self.stored(record, revision),
            Input::Tick => self.tick(now),
        }
    }

    fn hello(
        &mut self,
        now: u64,
        name: &str,
        store_uuid: String,
        boot_id: String,
        report: Report,
    ) -> Vec<Output> {
        let Some(node) = self.nodes.get(name) else {
            return vec![Output::Refuse(name.into(), format!("no node {name} is configured"))];
        };
        let known = node.record.store_uuid.as_ref();
        let replaced = known.is_some_and(|known| *known != store_uuid);
        if replaced && self.tablets.values().any(|t| t.needs_disk_of(name)) {
            let why = self.disk_replaced(name, &store_uuid);
            return self.refuse(now, name, why);
        }
        if known != Some(&store_uuid)
            && self.tablets.values().any(|tablet| tablet.route.epoch > 0)
            && let Some(why) = self.knows_newer(&report)
        {
            return self.refuse(now, name, format!("its disk is not of this cluster: {why}"));
        }
        let mut outputs = Vec::new();
        if replaced {
            outputs.extend(self.forget_disk_of(name));
        }
        if known != Some(&store_uuid) {
            let record = NodeRecord { store_uuid: Some(store_uuid), ..node.record.clone() };
            outputs.push(Output::Cas(Record::Node(record), node.revision));
        }
        let node = self.node(name);
        if node.boot_id.replace(boot_id.clone()).is_some_and(|before| before != boot_id) {
            node.leaving = None;
        }
        outputs.extend(self.heard(now, name, report));
        outputs.push(Output::Accept(name.into()));
        outputs
    }

    /// Another disk under a known name is another replica: what the tablets held is not on it.
    fn disk_replaced(&self, name: &str, store_uuid: &str) -> String {
        let only = self.only_copies_of(name);
        let known = self.nodes[name].record.store_uuid.clone().unwrap_or_default();
        format!(
            "disk replaced: its tablets' data is missing (store {store_uuid} instead of {known}){only}"
        )
    }

    /// A node that is told nothing, and whose word does not count.
    fn refuse(&mut self, now: u64, name: &str, why: String) -> Vec<Output> {
        let node = self.node(name);
        node.heard = Some(now);
        node.alive_since = None;
        (node.report, node.is_ahead) = (Report::default(), false);
        let changed = std::mem::replace(&mut node.state, NodeState::Refused) != NodeState::Refused;
        let mut outputs = Vec::new();
        if changed {
            outputs.push(Output::Log(Level::Error, format!("node {name} is refused: {why}")));
            outputs.push(Output::Announce);
        }
        node.problem = Some(why.clone());
        outputs.push(Output::Refuse(name.into(), why));
        outputs
    }

    fn beat(&mut self, now: u64, name: &str, report: Report) -> Vec<Output> {
        match self.nodes.get(name) {
            Some(node) if node.boot_id.is_some() => {
                let mut outputs = self.heard(now, name, report);
                outputs.extend(self.remove_silent(name));
                outputs
            }
            _ => Vec::new(),
        }
    }

    /// Takes down a node's report; the state changes with it.
    fn heard(&mut self, now: u64, name: &str, report: Report) -> Vec<Output> {
        let newer = self.knows_newer(&report);
        let is_ahead = newer.is_some();
        let problem = newer.or_else(|| report.problem.clone());
        let node = self.node(name);
        node.is_ahead = is_ahead;
        let mut outputs = Vec::new();
        if problem.is_some() && node.problem != problem {
            let why = problem.clone().unwrap_or_default();
            outputs.push(Output::Log(Level::Error, format!("node {name}: {why}")));
        }
        node.heard = Some(now);
        node.problem = problem;
        outputs.extend(node.become_state(name, report.state));
        match report.state {
            NodeState::Alive => _ = node.alive_since.get_or_insert(now),
            _ => node.alive_since = None,
        }
        if report.state == NodeState::Shutdown {
            node.leaving = None;
        }
        node.report = report;
        outputs
    }

    /// A node that the caller has found.
    fn node(&mut self, name: &str) -> &mut Node {
        self.nodes.get_mut(name).expect("the caller has found it")
    }

    /// Whether a node knows of what is not in the tables: they are an old copy, or those of another cluster. What would
    /// be decided by them may have been decided otherwise.
    fn is_behind(&self) -> bool {
        self.nodes.values().any(|node| node.is_ahead)
    }

    /// A node that was told newer tables than the master's, or of another register, or knows a newer epoch.
    fn knows_newer(&self, report: &Report) -> Option<String> {
        let tablets = self.tablets.values().map(|tablet| &tablet.route);
        let mine = Tables::new(&self.register, self.version, tablets);
        if let Some(why) = report.knows.forgotten_by(&mine) {
            return Some(format!("{why}; nothing is changed by them"));
        }
        let newer = |t: &&TabletReport| {
            self.tablets.get(&t.id).is_some_and(|known| t.epoch > known.route.epoch)
        };
        let ahead = report.tablets.iter().find(newer)?;
        Some(format!(
            "it knows tablet {} at epoch {}, newer than the master's {}: the master's tables are old",
            ahead.id, ahead.epoch, self.tablets[&ahead.id].route.epoch
        ))
    }

    fn failed(&mut self, name: &str, why: String) -> Vec<Output> {
        let Some(node) = self.nodes.get_mut(name) else { return Vec::new() };
        if node.state == NodeState::Refused || node.problem.as_ref() == Some(&why) {
            return Vec::new();
        }
        let line = format!("node {name}: {why}");
        node.problem = Some(why);
        vec![Output::Log(Level::Warn, line)]
    }

    /// Silence counts only while the master itself runs: after a pause, everyone is as good as just heard.
    fn note_silence(&mut self, now: u64) -> Vec<Output> {
        if now > self.ticked + self.timeout_ms / 2 {
            self.watching_since = now;
        }
        self.ticked = now;
        let (timeout, watching) = (self.timeout_ms, self.watching_since);
        let mut outputs = Vec::new();
        for (name, node) in &mut self.nodes {
            let heard = node.heard.unwrap_or(watching).max(watching);
            if now.saturating_sub(heard) > timeout {
                node.alive_since = None;
                outputs.extend(node.become_state(name, NodeState::Dead));
            }
        }
        outputs
    }

    fn tick(&mut self, now: u64) -> Vec<Output> {
        let mut outputs = self.note_silence(now);
        outputs.extend(self.begin(now, self.timeout_ms));
        outputs.extend(self.elect(now));
        outputs.extend(self.leave(now));
        let away = self.nodes.values_mut().filter(|node| node.state != NodeState::Alive);
        away.for_each(|node| node.probation.is_away(now));
        self.balance(now);
        outputs.extend(self.ask_to_resign(now));
        outputs
    }

    fn stored(&mut self, record: Record, revision: u64) -> Vec<Output> {
        self.version = self.version.max(revision);
        match record {
            Record::Register { id } => self.register = id,
            Record::Slots { ranges } => self.slots = ranges,
            Record::Group(group) => drop(self.groups.insert(group.name.clone(), group)),
            Record::Tablet(route) => self.stored_tablet(route, revision),
            Record::Node(record) => self.stored_node(record, revision),
        }
        vec![Output::Announce]
    }

    /// What ran for an epoch ends with it.
    fn stored_tablet(&mut self, route: TabletRoute, revision: u64) {
        match self.tablets.get_mut(&route.id) {
            Some(tablet) if tablet.route.epoch == route.epoch => {
                (tablet.route, tablet.revision) = (route, revision);
            }
            Some(tablet) => {
                let rest_until = tablet.rest_until;
                *tablet = Tablet { rest_until, ..Tablet::new(route, revision) };
            }
            None => drop(self.tablets.insert(route.id.clone(), Tablet::new(route, revision))),
        }
    }

    /// A node of an earlier run counts as just seen: a new master must not upset a running cluster.
    fn stored_node(&mut self, record: NodeRecord, revision: u64) {
        if let Some(node) = self.nodes.get_mut(&record.name) {
            (node.record, node.revision) = (record, revision);
            return;
        }
        let known = record.store_uuid.is_some();
        let node = Node {
            state: if known { NodeState::Alive } else { NodeState::Starting },
            heard: None,
            alive_since: None,
            boot_id: None,
            problem: None,
            report: Report::default(),
            is_ahead: false,
            leaving: None,
            probation: Probation::default(),
            record,
            revision,
        };
        self.nodes.insert(node.record.name.clone(), node);
    }

    /// Revision of a record as the membership knows it; 0: not known.
    pub fn revision(&self, record: &Record) -> u64 {
        match record {
            Record::Node(node) => self.nodes.get(&node.name).map_or(0, |n| n.revision),
            Record::Tablet(route) => self.tablets.get(&route.id).map_or(0, |t| t.revision),
            Record::Register { .. } | Record::Slots { .. } | Record::Group(_) => 0,
        }
    }

    /// What all nodes are told.
    pub fn routes(&self) -> Routes {
        Routes {
            register: self.register.clone(),
            version: self.version,
            slots: self.slots.clone(),
            groups: self.groups.values().cloned().collect(),
            tablets: self.tablets.values().map(|t| t.route.clone()).collect(),
            nodes: self.nodes.values().map(Node::route).collect(),
        }
    }

    /// What people are told.
    pub fn status(&self, now: u64) -> ClusterStatus {
        ClusterStatus {
            master: self.master.clone(),
            uptime_ms: now.saturating_sub(self.started),
            version: self.version,
            nodes: self.nodes.values().map(|n| n.status(now)).collect(),
            tablets: self.tablets.values().map(|t| t.route.clone()).collect(),
            problems: self.problems(),
        }
    }
}

impl Output {
    /// Whether it follows from the tables, and changes something.
    fn decides(&self) -> bool {
        match self {
            Output::Cas(..) | Output::Seal(..) | Output::Resign(..) => true,
            Output::Serve(_, on) => !on,
            Output::Accept(_) | Output::Refuse(..) | Output::Announce | Output::Tell(_) => false,
            Output::Beat(_) | Output::Keep(..) | Output::Log(..) => false,
        }
    }
}

impl Node {
    /// Goes to a state; whether others must be told depends on whether it was another one.
    fn become_state(&mut self, name: &str, state: NodeState) -> Vec<Output> {
        let before = std::mem::replace(&mut self.state, state);
        if before == state {
            return Vec::new();
        }
        let level = if state == NodeState::Dead { Level::Warn } else { Level::Info };
        let line = format!("node {name} is {} (was {})", state.word(), before.word());
        vec![Output::Log(level, line), Output::Announce]
    }

    /// Since when it has been heard to serve, on the disk that is written down.
    pub(super) fn serves_since(&self) -> Option<u64> {
        self.alive_since.filter(|_| self.record.store_uuid.is_some())
    }

    /// Its group.
    pub(super) fn group(&self) -> &str {
        &self.record.group
    }

    /// Whether it is known to be away, rather than about to come.
    pub(super) fn is_away(&self) -> bool {
        matches!(self.state, NodeState::Dead | NodeState::Refused | NodeState::Shutdown)
    }

    /// What it said of a tablet last.
    pub(super) fn says_of(&self, tablet: &str) -> Option<&TabletReport> {
        self.report.tablets.iter().find(|t| t.id == tablet)
    }

    /// Whether it has found its copy of a tablet to be damaged.
    pub(super) fn has_damaged(&self, tablet: &str) -> bool {
        self.says_of(tablet).is_some_and(|t| t.role == Role::Damaged)
    }

    /// Whether it has found its copy of a tablet to be damaged, and still serves it.
    pub(super) fn has_flawed(&self, tablet: &str) -> bool {
        self.says_of(tablet).is_some_and(|t| t.flawed)
    }

    /// Whether its disk hangs, or is too full, at what a tablet needs to go on.
    pub(super) fn is_stuck(&self, tablet: &str) -> bool {
        self.says_of(tablet).is_some_and(|t| t.role == Role::Stuck)
    }

    fn route(&self) -> NodeRoute {
        NodeRoute {
            name: self.record.name.clone(),
            address: self.record.address.clone(),
            group: self.record.group.clone(),
            alive: self.state == NodeState::Alive,
            store_uuid: self.record.store_uuid.clone(),
        }
    }

    fn status(&self, now: u64) -> NodeStatus {
        NodeStatus {
            name: self.record.name.clone(),
            address: self.record.address.clone(),
            group: self.record.group.clone(),
            state: self.state,
            silent_ms: self.heard.map(|heard| now.saturating_sub(heard)),
            boot_id: self.boot_id.clone(),
            store_uuid: self.record.store_uuid.clone(),
            problem: self.problem.clone(),
            report: self.report.clone(),
        }
    }
}

#[cfg(test)]
#[path = "membership_tests.rs"]
mod tests;
