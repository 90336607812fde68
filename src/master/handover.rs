//! Moves in order: a node leaves its place in a tablet's epoch by itself, so that nobody has to wait for leases. PURE.
//!
//! ```text
//! master                                node X                        (the tablet is in epoch e)
//!   Resign(X, e), every RESIGN_AGAIN_MS  ->   ends what it began, seals e, drops its leases
//!                                        <-   Resigned(X, e)
//!   CAS e+1 {clean, another primary, or X out of the in-sync set}
//! ```
//!
//! A node that is asked in vain is left in its place; if it has sealed nevertheless, an election follows.

use super::layout;
use super::membership::{Membership, Node, Nodes, Output};
use super::tablets::{Tablet, takes_part};
use crate::protocol::cluster::{NodeState, TabletRoute};
use log::Level;
use std::collections::BTreeSet;

/// Pause before a node is asked again to leave its place, in milliseconds.
const RESIGN_AGAIN_MS: u64 = 300;
/// How long a node is asked to leave one place, in milliseconds.
const RESIGN_PATIENCE_MS: u64 = 3000;
/// How long a node is given to leave all its places before it is shut down in them, in milliseconds.
pub const LEAVE_PATIENCE_MS: u64 = 3000;
/// How long after a shutdown was asked for the node may take to say that it is, in milliseconds.
const SHUTDOWN_PATIENCE_MS: u64 = 10_000;
/// How long all must have been well with a tablet before its primary is moved to where it should be, in milliseconds.
const SETTLED_MS: u64 = 3000;
/// Pause after a move that came to nothing, in milliseconds.
const REST_MS: u64 = 30_000;

/// A node that is asked to leave its place in a tablet's epoch.
pub(super) struct Move {
    /// The node.
    pub from: String,
    /// Who is to be the primary then; none: whoever leads fewest.
    to: Option<String>,
    since: u64,
    asked: Option<u64>,
}

impl Move {
    fn new(now: u64, from: &str, to: Option<&str>) -> Move {
        Move { from: from.into(), to: to.map(Into::into), since: now, asked: None }
    }
}

/// A node that is being taken out of service.
pub(super) struct Leaving {
    since: u64,
    /// Whether it has been told to shut down.
    told: bool,
}

impl Tablet {
    /// Whether a node has a place in the epoch that others can take.
    fn can_do_without(&self, node: &str, nodes: &Nodes) -> bool {
        let others = self.live(nodes).any(|name| name != node);
        let spare = self.route.isr.len() > self.route.min_insync as usize;
        self.needs_disk_of(node) && others && (spare || self.is_led_by(node))
    }

    /// Whether nobody could write without this node.
    fn is_lost_without(&self, node: &str, nodes: &Nodes) -> bool {
        let others = self.live(nodes).filter(|name| *name != node).count();
        self.needs_disk_of(node) && others < self.route.min_insync.max(1) as usize
    }

    /// Whether every member is in sync and serves.
    fn is_whole(&self, nodes: &Nodes) -> bool {
        let members = &self.route.members;
        self.route.isr.len() == members.len()
            && members.iter().all(|m| self.has_in_sync(m))
            && self.live(nodes).count() == members.len()
    }

    /// The configuration after a node has resigned; none if nobody can take its place.
    fn without(&self, node: &str, primary: Option<String>, leaves: bool) -> Option<TabletRoute> {
        let primary = if self.is_led_by(node) { primary? } else { self.route.primary.clone()? };
        let mut isr = self.route.isr.clone();
        if leaves && isr.len() > self.route.min_insync as usize {
            isr.retain(|member| member != node);
        }
        let (epoch, primary) = (self.route.epoch + 1, Some(primary));
        Some(TabletRoute { epoch, primary, isr, clean: true, ..self.route.clone() })
    }
}

impl Membership {
    /// A node is to go out of service: first it leaves its places, then it is told. One that tablets need stays, unless
    /// it is said that it shall go nevertheless.
    pub(super) fn shut_down(&mut self, now: u64, name: &str, force: bool) -> Vec<Output> {
        let lost = self.tablets.values().filter(|t| t.is_lost_without(name, &self.nodes));
        let lost: Vec<&str> = lost.map(|tablet| &*tablet.route.id).collect();
        let Some(node) = self.nodes.get_mut(name) else { return Vec::new() };
        let stays = node.leaving.is_none() && node.state == NodeState::Alive;
        if stays && !lost.is_empty() && !force {
            let why = format!("too few others have {} in sync", lost.join(", "));
            return vec![Output::Keep(name.into(), why)];
        }
        node.leaving = Some(Leaving { since: now, told: false });
        vec![Output::Log(Level::Info, format!("node {name} is being shut down"))]
    }

    /// A node is to serve again; places that it has left by now it gets back as any other that caught up.
    pub(super) fn wake_up(&mut self, name: &str) -> Vec<Output> {
        let Some(node) = self.nodes.get_mut(name) else { return Vec::new() };
        node.leaving = None;
        for tablet in self.tablets.values_mut() {
            tablet.moving.take_if(|moving| moving.from == name);
        }
        vec![Output::Serve(name.into(), true)]
    }

    /// Has the nodes that are being shut down leave their places, and tells them when nothing needs them any more.
    pub(super) fn leave(&mut self, now: u64) -> Vec<Output> {
        let mut outputs = Vec::new();
        let leaving =
            |node: &Node| node.leaving.as_ref().map(|leaving| (leaving.told, leaving.since));
        let leaving = self.nodes.iter().filter_map(|(name, n)| Some((name.clone(), leaving(n)?)));
        for (name, (told, since)) in leaving.collect::<Vec<_>>() {
            let waited = now - since;
            let needed = !told && waited < LEAVE_PATIENCE_MS && self.ask_to_leave(now, &name);
            let Some(node) = self.nodes.get_mut(&name) else { continue };
            let stays = needed && node.state == NodeState::Alive;
            if told && waited >= SHUTDOWN_PATIENCE_MS {
                node.leaving = None;
            } else if !told && !stays {
                node.leaving = Some(Leaving { since, told: true });
                outputs.push(Output::Serve(name, false));
            }
        }
        outputs
    }

    /// Begins to move a node out of its places; whether it has any left that others can take.
    fn ask_to_leave(&mut self, now: u64, name: &str) -> bool {
        let (tablets, nodes) = (&mut self.tablets, &self.nodes);
        let mut needed = false;
        for tablet in tablets.values_mut().filter(|t| t.can_do_without(name, nodes)) {
            needed = true;
            if tablet.election.is_none() && tablet.moving.is_none() {
                tablet.moving = Some(Move::new(now, name, None));
            }
        }
        needed
    }

    /// Moves primaries to where they should be: one tablet a group at a time, when all is well.
    pub(super) fn balance(&mut self, now: u64) {
        let busy = self.busy_groups();
        let mut moved = BTreeSet::new();
        let (tablets, nodes, groups) = (&mut self.tablets, &self.nodes, &self.groups);
        for tablet in tablets.values_mut() {
            let Some(group) = groups.get(&tablet.route.group) else { continue };
            if busy.contains(&group.name) || !tablet.is_whole(nodes) {
                tablet.settled_since = None;
                continue;
            }
            let since = *tablet.settled_since.get_or_insert(now);
            let due = now >= (since + SETTLED_MS).max(tablet.rest_until);
            let to = layout::preferred(&tablet.route, group.small_tablets);
            let trusted = |to| nodes.get(to).is_some_and(|node: &Node| !node.probation.lasts(now));
            let misplaced = to.is_some_and(|to| !tablet.is_led_by(to) && trusted(to));
            if due && misplaced && moved.insert(group.name.clone()) {
                let from = tablet.route.primary.clone().unwrap_or_default();
                tablet.moving = Some(Move::new(now, &from, to));
            }
        }
    }

    /// The groups in which something is being changed.
    fn busy_groups(&self) -> BTreeSet<String> {
        let tablets = self.tablets.values();
        let changing = tablets.filter(|t| t.election.is_some() || t.moving.is_some());
        let leaving = self.nodes.values().filter(|node| node.leaving.is_some());
        let groups = changing.map(|t| t.route.group.clone());
        groups.chain(leaving.map(|node| node.group().to_string())).collect()
    }

    /// Asks those who are to leave a place, again and again, for a while.
    pub(super) fn ask_to_resign(&mut self, now: u64) -> Vec<Output> {
        let mut outputs = Vec::new();
        for tablet in self.tablets.values_mut() {
            let Some(moving) = &mut tablet.moving else { continue };
            let alive = self.nodes.get(&moving.from).is_some_and(|n| n.state == NodeState::Alive);
            if !alive || now >= moving.since + RESIGN_PATIENCE_MS {
                tablet.moving = None;
                tablet.rest_until = now + REST_MS;
            } else if moving.asked.is_none_or(|at| now >= at + RESIGN_AGAIN_MS) {
                moving.asked = Some(now);
                outputs.push(Output::Resign(moving.from.clone(), tablet.route.clone()));
            }
        }
        outputs
    }

    /// A node has left its place in an epoch: another takes it. While an election runs, that decides.
    pub(super) fn resigned(&mut self, now: u64, name: &str, id: &str, epoch: u64) -> Vec<Output> {
        let Some(route) = self.heard_of(name, id).map(|tablet| tablet.route.clone()) else {
            return Vec::new();
        };
        if epoch < route.epoch {
            return vec![Output::Tell(name.into())];
        }
        let (mut spread, tablets, nodes) = self.spread(now);
        let tablet = &tablets[id];
        if epoch > route.epoch || !tablet.has_in_sync(name) || tablet.election.is_some() {
            return Vec::new();
        }
        let others = || tablet.live(nodes).map(String::as_str).filter(|other| *other != name);
        let wanted = tablet.moving.as_ref().filter(|m| m.from == name).and_then(|m| m.to.clone());
        let wanted = wanted.filter(|to| others().any(|other| other == to));
        let primary = wanted.or_else(|| spread.choose(&route, others()));
        let leaves = !takes_part(nodes, name, id);
        tablet.without(name, primary, leaves).map(|next| tablet.cas(next)).into_iter().collect()
    }
}
