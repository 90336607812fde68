//! What the master and the nodes tell one another, as JSON in `@` messages.
//!
//! ```text
//! master                                   backend
//! @HELLO <master> <len> + Hello        ->
//!                                      <-  @DATA <node> <store_uuid> <boot_id> <len> + Report
//! @ROUTES <len> + Routes               ->                          (after HELLO, and on every change)
//!                                      <-  @DATA <len>
//! @BEAT <seq> <len>                    ->                          (every heartbeat_interval_ms)
//!                                      <-  @DATA <seq> <len> + Report
//! @SEAL <len> + TabletRoute            ->                          (the tablet's epoch ends)
//! @RESIGN <len> + TabletRoute          ->                          (this node is to leave it in order)
//! @SHUTDOWN 0, @WAKEUP 0               ->
//!                                      <-  @DATA <len>
//! ```
//!
//! What a node has to say by itself goes over a connection that it dials:
//!
//! ```text
//! backend                                                  master
//! @SEALED <tablet> <epoch> <node> <log's end: epoch> <version> 0   ->
//! @RESIGNED <tablet> <epoch> <node> 0                              ->
//! @PLEA <tablet> <epoch> <node> REMOVE|ADD <member> 0              ->
//! @PLEA <tablet> <epoch> <node> NOLEASE|TELL 0                     ->
//!                                                          <-  @DATA <len>
//! ```
//!
//! The master answers `@GETROUTES 0` with `@DATA <len>` + [`Routes`], and `@GETSTATUS 0` with `@DATA <len>`
//! + [`ClusterStatus`].
//!
//! A message may gain fields: what a reader does not know it ignores, what is absent is the default.

use super::cell::{SLOTS, ValueId, slot};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name of a tablet: its group, `s` or `l` for its class, and its index: `a-s0`, `b-l2`.
pub type TabletId = String;

/// The id of a tablet.
pub fn tablet_id(group: &str, class: Class, index: u32) -> TabletId {
    let class = if class == Class::Small { 's' } else { 'l' };
    format!("{group}-{class}{index}")
}

/// Which values a tablet holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Cells of rows.
    Small,
    /// Chunks of big values.
    Large,
}

/// How a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It reads its disk and does not serve yet.
    #[default]
    Starting,
    /// It serves.
    Alive,
    /// It was taken out of service and waits for WAKEUP.
    Shutdown,
    /// It has been silent for longer than the time limit (the master's view alone).
    Dead,
    /// It is not who it should be: another disk, or another process (the master's view alone).
    Refused,
}

impl NodeState {
    /// The state as a word for people.
    pub fn word(self) -> &'static str {
        match self {
            NodeState::Starting => "starting",
            NodeState::Alive => "alive",
            NodeState::Shutdown => "shutdown",
            NodeState::Dead => "dead",
            NodeState::Refused => "refused",
        }
    }
}

/// What a node is for a tablet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Gives versions and commits.
    Primary,
    /// In the in-sync set.
    Replica,
    /// Catching up.
    #[default]
    Learner,
    /// Has sealed the epoch that it knows, and waits for the next.
    Sealed,
    /// Found damage on its disk; serves nothing.
    Damaged,
    /// Its disk hangs, or is too full, at what it needs to go on.
    Stuck,
}

impl Role {
    /// The role as a word for people.
    pub fn word(self) -> &'static str {
        match self {
            Role::Primary => "primary",
            Role::Replica => "replica",
            Role::Learner => "learner",
            Role::Sealed => "sealed",
            Role::Damaged => "damaged",
            Role::Stuck => "stuck",
        }
    }
}

/// Begins a heartbeat connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hello {
    /// The node that the master expects at this address; any other must refuse.
    pub node: String,
    /// Silence after which the master takes the node for dead.
    pub heartbeat_timeout_ms: u64,
}

/// What a node says of itself with every heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Its state.
    pub state: NodeState,
    /// Free bytes on its disk.
    pub free_bytes: u64,
    /// The tablets that it holds.
    pub tablets: Vec<TabletReport>,
    /// How long the process has been running.
    pub uptime_ms: u64,
    /// Memory that the process uses.
    pub rss_bytes: u64,
    /// Open client connections.
    pub connections: u64,
    /// What its tablets hold and have written.
    pub storage: StorageReport,
    /// What is wrong with the node, in words.
    pub problem: Option<String>,
    /// The newest of the master's tables that it was ever told.
    #[serde(default)]
    pub knows: Tables,
}

/// What a node's tablets have in memory and on the disk, and what they have written since the process began, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageReport {
    /// Cells that are not on the disk yet but in the log.
    pub memory: u64,
    /// Blocks that were read lately.
    pub cache: u64,
    /// Runs and their values.
    pub disk: u64,
    /// Number of the runs.
    pub runs: u64,
    /// Written into logs.
    pub logged: u64,
    /// Written by checkpoints.
    pub flushed: u64,
    /// Written again by merges.
    pub merged: u64,
}

/// Which of the master's tables: of which register, and how new.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tables {
    /// Random name of the register; empty: not known.
    pub register: String,
    /// Their version.
    pub version: u64,
    /// Sum of the epochs of all tablets: whatever else is written, it rises only with them.
    pub epochs: u64,
}

impl Tables {
    /// Tables of a register, at a version, with these tablets.
    pub fn new<'a>(
        register: &str,
        version: u64,
        tablets: impl IntoIterator<Item = &'a TabletRoute>,
    ) -> Tables {
        let epochs = tablets.into_iter().map(|tablet| tablet.epoch).sum();
        Tables { register: register.into(), version, epochs }
    }

    /// Why others cannot follow these, if they cannot: what was decided after them is not in them.
    pub fn forgotten_by(&self, others: &Tables) -> Option<String> {
        if self.register.is_empty() || others.register.is_empty() {
            None
        } else if self.register != others.register {
            Some("the master's tables are not those of this cluster".into())
        } else if self.version > others.version || self.epochs > others.epochs {
            let show = |t: &Tables| format!("version {}, epochs {}", t.version, t.epochs);
            let (old, told) = (show(others), show(self));
            Some(format!("the master's tables are old: {old}; told before were {told}"))
        } else {
            None
        }
    }
}

/// A tablet as a node holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TabletReport {
    /// Which tablet.
    pub id: TabletId,
    /// Epoch last adopted.
    pub epoch: u64,
    /// Highest epoch that was sealed here.
    pub sealed: u64,
    /// Version of its last entry.
    pub version: u64,
    /// Version up to which it knows its entries to be committed.
    pub committed: u64,
    /// What the node is for it.
    pub role: Role,
    /// Whether it is a primary that has not committed the first entry of its epoch: it serves nothing yet.
    pub begins: bool,
    /// How much longer it may answer reads by itself, in milliseconds; none: for ever, as the sole replica.
    pub lease_ms: Option<u64>,
    /// Cells in it.
    pub cells: u64,
    /// Bytes of its keys and values.
    pub bytes: u64,
    /// Whether the node's copy was found damaged while it was served: it still is, others should take over.
    pub flawed: bool,
    /// What is wrong with the node's copy, in words.
    pub problem: Option<String>,
}

/// Where everything is: what the master tells all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routes {
    /// Random name of the register that holds the durable tables; empty: not known.
    #[serde(default)]
    pub register: String,
    /// Version of the durable tables in it: it only rises. Whether nodes are alive may change within one.
    pub version: u64,
    /// Which group has which slots; every slot is in one range.
    pub slots: Vec<SlotRange>,
    /// The replica groups.
    pub groups: Vec<GroupRoute>,
    /// All tablets of all groups.
    pub tablets: Vec<TabletRoute>,
    /// All nodes.
    pub nodes: Vec<NodeRoute>,
}

/// Slots of one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRange {
    /// First slot.
    pub from: u16,
    /// Last slot.
    pub to: u16,
    /// The group.
    pub group: String,
}

/// A replica group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRoute {
    /// Its name.
    pub name: String,
    /// How many small-value tablets it has.
    pub small_tablets: u32,
    /// How many large-value tablets it has.
    pub large_tablets: u32,
}

/// A tablet and its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TabletRoute {
    /// Its id.
    pub id: TabletId,
    /// Its group.
    pub group: String,
    /// Which values it holds.
    pub class: Class,
    /// Its place among the group's tablets of its class.
    pub index: u32,
    /// Number of this configuration; 0: no node has been given it yet, and none may serve it.
    pub epoch: u64,
    /// The node that gives versions and commits.
    pub primary: Option<String>,
    /// The in-sync set: every acknowledged write is on the disk of each.
    pub isr: Vec<String>,
    /// All replicas, those that catch up too.
    pub members: Vec<String>,
    /// Fewest in-sync replicas with which writes go on.
    pub min_insync: u32,
    /// Whether all who left the primary's place or the in-sync set in this change resigned themselves: they had
    /// sealed the epoch before, and held no lease any more.
    #[serde(default)]
    pub clean: bool,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRoute {
    /// Its name.
    pub name: String,
    /// `host:port` where it listens.
    pub address: String,
    /// Its group.
    pub group: String,
    /// Whether it serves, as far as the master knows.
    pub alive: bool,
    /// Its disk, once seen: no other under this name is a replica of anything.
    #[serde(default)]
    pub store_uuid: Option<String>,
}

impl Routes {
    /// Which tables they tell.
    pub fn tables(&self) -> Tables {
        Tables::new(&self.register, self.version, &self.tablets)
    }

    /// The group of a slot.
    pub fn group_of_slot(&self, slot: u16) -> Result<&GroupRoute> {
        let range = self.slots.iter().find(|r| (r.from..=r.to).contains(&slot));
        range
            .and_then(|r| self.groups.iter().find(|g| g.name == r.group))
            .ok_or_else(|| Error::retry(format!("no group is known for slot {slot}")))
    }

    /// The small-value tablet of a row.
    pub fn tablet_of_row(&self, row: &[u8]) -> Result<&TabletRoute> {
        self.tablet_of_slot(slot(row))
    }

    /// The small-value tablet of a slot.
    pub fn tablet_of_slot(&self, slot: u16) -> Result<&TabletRoute> {
        let group = self.group_of_slot(slot)?;
        let index = u32::from(slot) % group.small_tablets.max(1);
        self.tablet(&tablet_id(&group.name, Class::Small, index))
    }

    /// The large-value tablet of a chunk: by hash of value id and offset, in the group of its slot.
    pub fn tablet_of_chunk(&self, slot: u16, id: ValueId, offset: u64) -> Result<&TabletRoute> {
        let group = self.group_of_slot(slot)?;
        let hash =
            crc32c::crc32c_append(crc32c::crc32c(&id.0.to_le_bytes()), &offset.to_le_bytes());
        self.tablet(&tablet_id(&group.name, Class::Large, hash % group.large_tablets.max(1)))
    }

    /// All large-value tablets that may hold chunks of values staged for a slot.
    pub fn large_tablets_of(&self, slot: u16) -> Result<impl Iterator<Item = &TabletRoute>> {
        let group = &self.group_of_slot(slot)?.name;
        Ok(self.tablets.iter().filter(move |t| t.class == Class::Large && t.group == *group))
    }

    /// A tablet by its id.
    pub fn tablet(&self, id: &str) -> Result<&TabletRoute> {
        self.tablets
            .iter()
            .find(|t| t.id == id)
            .ok_or_else(|| Error::retry(format!("no tablet {id} is known")))
    }

    /// A node by its name.
    pub fn node(&self, name: &str) -> Option<&NodeRoute> {
        self.nodes.iter().find(|n| n.name == name)
    }
}

/// Spreads all slots evenly over groups, in ranges.
pub fn spread_slots(groups: &[String]) -> Vec<SlotRange> {
    let (n, slots) = (groups.len(), usize::from(SLOTS));
    let range = |(i, group): (usize, &String)| SlotRange {
        from: (i * slots / n) as u16,
        to: ((i + 1) * slots / n - 1) as u16,
        group: group.clone(),
    };
    groups.iter().enumerate().map(range).collect()
}

/// How the cluster is, as the master sees it: answer to `@GETSTATUS 0`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterStatus {
    /// Name of the master.
    pub master: String,
    /// How long the master has been running.
    pub uptime_ms: u64,
    /// Version of the tables.
    pub version: u64,
    /// All nodes.
    pub nodes: Vec<NodeStatus>,
    /// All tablets.
    pub tablets: Vec<TabletRoute>,
    /// Why tablets have no primary now, by their ids, each in a sentence.
    pub problems: BTreeMap<TabletId, String>,
}

/// How a node is, as the master sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// `host:port` where it listens.
    pub address: String,
    /// Its group.
    pub group: String,
    /// Its state.
    pub state: NodeState,
    /// Milliseconds since it was last heard; none: not since the master started.
    pub silent_ms: Option<u64>,
    /// Its running instance.
    pub boot_id: Option<String>,
    /// Its disk, as first seen.
    pub store_uuid: Option<String>,
    /// What is wrong, in a sentence.
    pub problem: Option<String>,
    /// What it said of itself last.
    pub report: Report,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Routes {
        let names = ["a".to_string(), "b".to_string()];
        let group = |n: &String| GroupRoute { name: n.clone(), small_tablets: 6, large_tablets: 3 };
        let tablet = |group: &str, class, index| TabletRoute {
            id: tablet_id(group, class, index),
            group: group.into(),
            class,
            index,
            epoch: 1,
            primary: Some(format!("{group}1")),
            isr: vec![],
            members: vec![],
            min_insync: 1,
            clean: false,
        };
        let of_group = |g: &String| {
            let small = (0..6).map(|i| tablet(g, Class::Small, i));
            small.chain((0..3).map(|i| tablet(g, Class::Large, i))).collect::<Vec<_>>()
        };
        let node = |g: &String| NodeRoute {
            name: format!("{g}1"),
            address: format!("{g}1:5101"),
            group: g.clone(),
            alive: true,
            store_uuid: None,
        };
        Routes {
            register: String::new(),
            version: 7,
            slots: spread_slots(&names),
            groups: names.iter().map(group).collect(),
            tablets: names.iter().flat_map(of_group).collect(),
            nodes: names.iter().map(node).collect(),
        }
    }

    #[test]
    fn every_slot_is_in_one_range() {
        for n in [1, 2, 3, 7, 1024] {
            let names: Vec<String> = (0..n).map(|i| format!("g{i}")).collect();
            let ranges = spread_slots(&names);
            assert_eq!(ranges[0].from, 0);
            assert_eq!(ranges[n - 1].to, SLOTS - 1);
            assert!(ranges.windows(2).all(|w| w[0].to + 1 == w[1].from));
        }
    }

    #[test]
    fn rows_of_one_owner_share_a_tablet() {
        let routes = routes();
        let tablet = routes.tablet_of_row(b"alice").unwrap();
        assert_eq!(tablet, routes.tablet_of_row(b"alice/mail").unwrap());
        assert_eq!(tablet.class, Class::Small);
        assert_eq!(tablet.index, u32::from(slot(b"alice")) % 6);
    }

    #[test]
    fn chunks_of_one_value_spread_over_the_large_tablets_of_their_group() {
        let routes = routes();
        let (slot, id) = (slot(b"alice"), ValueId(42));
        let group = &routes.group_of_slot(slot).unwrap().name;
        let tablets: std::collections::BTreeSet<_> = (0..64u64)
            .map(|n| routes.tablet_of_chunk(slot, id, n << 20).unwrap())
            .inspect(|t| assert!(t.class == Class::Large && t.group == *group))
            .map(|t| t.id.clone())
            .collect();
        assert_eq!(tablets.len(), 3);
    }

    #[test]
    fn without_routes_a_row_is_a_retry() {
        assert!(matches!(Routes::default().tablet_of_row(b"alice"), Err(Error::Retry(_))));
    }

    #[test]
    fn routes_survive_json() {
        let text = serde_json::to_string(&routes()).unwrap();
        assert_eq!(serde_json::from_str::<Routes>(&text).unwrap(), routes());
        let report: Report = serde_json::from_str(r#"{"state":"alive","new":1}"#).unwrap();
        assert_eq!(report.state, NodeState::Alive);
    }
}
