//! Who is alive, and who serves what: PURE. `step(now, input) -> outputs`; no clock, file or socket.
//!
//! The shell performs the outputs in order. It answers a [`Output::Cas`] with [`Input::Stored`] before
//! it goes on, so nothing is told to a node that is not on disk. If another master won the race, the
//! rest of the outputs is dropped: they were judged by tables that are no more.

use super::record::{NodeRecord, Record, TabletRecord};
use crate::protocol::cluster::{
    ClusterStatus, GroupRoute, NodeRoute, NodeState, NodeStatus, Report, Role, Routes, SlotRange,
    TabletReport, TabletRoute,
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
    /// A line for the log.
    Log(Level, String),
}

/// All tables, and what is known of each node.
pub struct Membership {
    master: String,
    timeout_ms: u64,
    started: u64,
    /// Version of the newest record.
    version: u64,
    slots: Vec<SlotRange>,
    groups: BTreeMap<String, GroupRoute>,
    tablets: BTreeMap<String, Kept<TabletRecord>>,
    nodes: BTreeMap<String, Node>,
}

/// A record and the revision at which it was written.
struct Kept<T> {
    record: T,
    revision: u64,
}

struct Node {
    kept: Kept<NodeRecord>,
    state: NodeState,
    /// When it was last heard; none: not since the master started.
    heard: Option<u64>,
    boot_id: Option<String>,
    problem: Option<String>,
    report: Report,
}

impl Membership {
    /// A master that has just started, at `now`, with empty tables: [`Input::Stored`] fills them.
    pub fn new(master: &str, timeout_ms: u64, now: u64) -> Membership {
        Membership {
            master: master.into(),
            timeout_ms,
            started: now,
            version: 0,
            slots: Vec::new(),
            groups: BTreeMap::new(),
            tablets: BTreeMap::new(),
            nodes: BTreeMap::new(),
        }
    }

    /// Takes one input at `now` (milliseconds of a clock that only rises).
    pub fn step(&mut self, now: u64, input: Input) -> Vec<Output> {
        match input {
            Input::Hello { node, store_uuid, boot_id, report } => {
                self.hello(now, &node, store_uuid, boot_id, report)
            }
            Input::Beat { node, report } => self.beat(now, &node, report),
            Input::Failed { node, why } => self.failed(&node, why),
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
        let Some(node) = self.nodes.get_mut(name) else {
            return vec![Output::Refuse(name.into(), format!("no node {name} is configured"))];
        };
        let known = node.kept.record.store_uuid.as_ref();
        if known.is_some_and(|known| *known != store_uuid) && holds_anything(&self.tablets, name) {
            return self.refuse(now, name, &store_uuid);
        }
        let mut outputs = Vec::new();
        if known != Some(&store_uuid) {
            let record = NodeRecord { store_uuid: Some(store_uuid), ..node.kept.record.clone() };
            outputs.push(Output::Cas(Record::Node(record), node.kept.revision));
        }
        node.boot_id = Some(boot_id.clone());
        let restarted = self.led_by(name).filter(|t| t.record.instance.as_ref() != Some(&boot_id));
        outputs.extend(restarted.map(|tablet| next_epoch(tablet, &boot_id)));
        outputs.extend(self.heard(now, name, report));
        outputs.push(Output::Accept(name.into()));
        outputs
    }

    /// Another disk under a known name is another replica: what the tablets held is not on it.
    fn refuse(&mut self, now: u64, name: &str, store_uuid: &str) -> Vec<Output> {
        let node = self.nodes.get_mut(name).expect("the caller has found it");
        let known = node.kept.record.store_uuid.clone().unwrap_or_default();
        let why = format!(
            "disk replaced: its tablets' data is missing (store {store_uuid} instead of {known})"
        );
        node.heard = Some(now);
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
        let Some(node) = self.nodes.get(name) else { return Vec::new() };
        let Some(boot_id) = node.boot_id.clone() else { return Vec::new() };
        let sealed = |t: &&Kept<TabletRecord>| is_sealed(&t.record.route, &report.tablets);
        let waiting: Vec<Output> = match report.state {
            NodeState::Alive => {
                self.led_by(name).filter(sealed).map(|t| next_epoch(t, &boot_id)).collect()
            }
            _ => Vec::new(),
        };
        let mut outputs = self.heard(now, name, report);
        outputs.extend(waiting);
        outputs
    }

    /// Takes down a node's report; the state changes with it.
    fn heard(&mut self, now: u64, name: &str, report: Report) -> Vec<Output> {
        let problem = self.problem_with(&report);
        let node = self.nodes.get_mut(name).expect("the caller has found it");
        let mut outputs = Vec::new();
        if problem.is_some() && node.problem != problem {
            let why = problem.clone().unwrap_or_default();
            outputs.push(Output::Log(Level::Error, format!("node {name}: {why}")));
        }
        node.heard = Some(now);
        node.problem = problem;
        outputs.extend(node.become_state(name, report.state));
        node.report = report;
        outputs
    }

    /// A node that knows a newer epoch than the master: the master's own tables are old.
    fn problem_with(&self, report: &Report) -> Option<String> {
        let newer = |t: &&TabletReport| {
            self.tablets.get(&t.id).is_some_and(|known| t.epoch > known.record.route.epoch)
        };
        let ahead = report.tablets.iter().find(newer)?;
        Some(format!(
            "it knows tablet {} at epoch {}, newer than the master's {}: the master's tables are old",
            ahead.id, ahead.epoch, self.tablets[&ahead.id].record.route.epoch
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

    fn tick(&mut self, now: u64) -> Vec<Output> {
        let (timeout, started) = (self.timeout_ms, self.started);
        let silent = |n: &Node| now.saturating_sub(n.heard.unwrap_or(started)) > timeout;
        self.nodes
            .iter_mut()
            .filter(|(_, node)| silent(node))
            .flat_map(|(name, node)| node.become_state(name, NodeState::Dead))
            .collect()
    }

    fn stored(&mut self, record: Record, revision: u64) -> Vec<Output> {
        self.version = self.version.max(revision);
        match record {
            Record::Slots { ranges } => self.slots = ranges,
            Record::Group(group) => drop(self.groups.insert(group.name.clone(), group)),
            Record::Tablet(record) => {
                let id = record.route.id.clone();
                self.tablets.insert(id, Kept { record, revision });
            }
            Record::Node(record) => self.stored_node(Kept { record, revision }),
        }
        vec![Output::Announce]
    }

    /// A node of an earlier run counts as just seen: a new master must not upset a running cluster.
    fn stored_node(&mut self, kept: Kept<NodeRecord>) {
        if let Some(node) = self.nodes.get_mut(&kept.record.name) {
            node.kept = kept;
            return;
        }
        let known = kept.record.store_uuid.is_some();
        let node = Node {
            state: if known { NodeState::Alive } else { NodeState::Starting },
            heard: None,
            boot_id: None,
            problem: None,
            report: Report::default(),
            kept,
        };
        self.nodes.insert(node.kept.record.name.clone(), node);
    }

    /// Tablets of which a node is the primary and the whole in-sync set.
    fn led_by<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Kept<TabletRecord>> {
        let alone = move |t: &TabletRoute| t.primary.as_deref() == Some(name) && t.isr == [name];
        self.tablets.values().filter(move |t| alone(&t.record.route))
    }

    /// Revision of a record as the membership knows it; 0: not known.
    pub fn revision(&self, record: &Record) -> u64 {
        match record {
            Record::Node(node) => self.nodes.get(&node.name).map_or(0, |n| n.kept.revision),
            Record::Tablet(t) => self.tablets.get(&t.route.id).map_or(0, |t| t.revision),
            Record::Slots { .. } | Record::Group(_) => 0,
        }
    }

    /// What all nodes are told.
    pub fn routes(&self) -> Routes {
        Routes {
            version: self.version,
            slots: self.slots.clone(),
            groups: self.groups.values().cloned().collect(),
            tablets: self.tablets.values().map(|t| t.record.route.clone()).collect(),
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
            tablets: self.tablets.values().map(|t| t.record.route.clone()).collect(),
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

    fn route(&self) -> NodeRoute {
        NodeRoute {
            name: self.kept.record.name.clone(),
            address: self.kept.record.address.clone(),
            group: self.kept.record.group.clone(),
            alive: self.state == NodeState::Alive,
            store_uuid: self.kept.record.store_uuid.clone(),
        }
    }

    fn status(&self, now: u64) -> NodeStatus {
        NodeStatus {
            name: self.kept.record.name.clone(),
            address: self.kept.record.address.clone(),
            group: self.kept.record.group.clone(),
            state: self.state,
            silent_ms: self.heard.map(|heard| now.saturating_sub(heard)),
            boot_id: self.boot_id.clone(),
            store_uuid: self.kept.record.store_uuid.clone(),
            problem: self.problem.clone(),
            report: self.report.clone(),
        }
    }
}

/// Whether a node is a replica of a tablet that was ever served: then its disk matters.
fn holds_anything(tablets: &BTreeMap<String, Kept<TabletRecord>>, name: &str) -> bool {
    let served = |t: &&Kept<TabletRecord>| t.record.route.epoch > 0;
    tablets.values().filter(served).any(|t| t.record.route.members.iter().any(|m| m == name))
}

/// The primary's tablet in its next epoch. With `isr = {primary}` the seal is trivial: the instance that
/// is named is the only one that may serve, and it forgot every lease when it started.
fn next_epoch(tablet: &Kept<TabletRecord>, instance: &str) -> Output {
    let mut record = tablet.record.clone();
    record.route.epoch += 1;
    record.instance = Some(instance.into());
    Output::Cas(Record::Tablet(record), tablet.revision)
}

/// Whether a node says that it serves a tablet no more in the epoch that is still the tablet's.
fn is_sealed(tablet: &TabletRoute, reports: &[TabletReport]) -> bool {
    let sealed = |r: &TabletReport| r.role == Role::Sealed && r.epoch == tablet.epoch;
    reports.iter().any(|r| r.id == tablet.id && sealed(r))
}

#[cfg(test)]
#[path = "membership_tests.rs"]
mod tests;
