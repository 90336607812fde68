//! The tablets' registers: first epochs, elections, and what nodes ask for. PURE.

use super::election::{self, Election};
use super::handover::Move;
use super::layout;
use super::membership::{Membership, Node, Nodes, Output, Plea};
use super::record::Record;
use crate::protocol::cluster::{NodeState, TabletRoute};
use log::Level;
use std::collections::{BTreeMap, BTreeSet};

/// A tablet's register, and what the master is doing about it.
pub(super) struct Tablet {
    pub route: TabletRoute,
    /// The store's version at which it was written.
    pub revision: u64,
    /// Set while the epoch is being ended.
    pub election: Option<Election>,
    /// Set while a node is asked to leave its place in order.
    pub moving: Option<Move>,
    /// The member that its primary wants out, until that has answered a heartbeat.
    pub removal: Option<String>,
    /// Since when all is well with it, and with its group.
    pub settled_since: Option<u64>,
    /// When its primary may be moved again.
    pub rest_until: u64,
    /// Why nobody can be its primary, as logged last.
    pub stuck: Option<String>,
}

impl Tablet {
    /// A tablet with which nothing is being done.
    pub fn new(route: TabletRoute, revision: u64) -> Tablet {
        Tablet {
            route,
            revision,
            election: None,
            moving: None,
            removal: None,
            settled_since: None,
            rest_until: 0,
            stuck: None,
        }
    }

    /// The next configuration; written if the register has not changed meanwhile.
    pub fn cas(&self, next: TabletRoute) -> Output {
        Output::Cas(Record::Tablet(next), self.revision)
    }

    /// Whether acknowledged writes lie on a node's disk.
    pub fn needs_disk_of(&self, node: &str) -> bool {
        self.route.epoch > 0 && self.has_in_sync(node)
    }

    pub fn has_in_sync(&self, node: &str) -> bool {
        self.route.isr.iter().any(|member| member == node)
    }

    pub fn is_led_by(&self, node: &str) -> bool {
        self.route.primary.as_deref() == Some(node)
    }

    /// The members of the in-sync set that may be given something to do.
    pub fn live<'a>(&'a self, nodes: &'a Nodes) -> impl Iterator<Item = &'a String> {
        self.route.isr.iter().filter(|name| takes_part(nodes, name, &self.route.id))
    }

    fn is_led_well(&self, nodes: &Nodes) -> bool {
        self.route.primary.as_ref().is_some_and(|name| serves(nodes, name, &self.route.id))
    }

    /// Why the epoch must end, if it must.
    fn reason_to_elect(&self, nodes: &Nodes) -> Option<String> {
        if !self.is_led_well(nodes) {
            let primary = self.route.primary.as_deref().unwrap_or("nobody");
            return Some(format!("its primary, {}", how(nodes, primary, &self.route.id)));
        }
        let resigns = |name: &str| self.moving.as_ref().is_some_and(|m| m.from == name);
        let sealed =
            |name: &&String| has_sealed(nodes, name, &self.route) && !resigns(name.as_str());
        if let Some(name) = self.route.isr.iter().find(sealed) {
            return Some(format!("{name} has sealed it"));
        }
        let damaged = |name: &&String| has_damaged(nodes, name, &self.route.id);
        let (bad, good): (Vec<_>, Vec<_>) = self.route.isr.iter().partition(damaged);
        let enough = good.len() >= self.route.min_insync as usize;
        let flawed = || self.live(nodes).find(|name| has_flawed(nodes, name, &self.route.id));
        let bad = bad.first().copied().filter(|_| enough);
        bad.or_else(|| flawed().filter(|_| self.may_do_without_flawed(nodes)))
            .map(|name| format!("{name} has found damage in it"))
    }

    /// Whether enough members live whose copies are whole.
    fn may_do_without_flawed(&self, nodes: &Nodes) -> bool {
        let whole = self.live(nodes).filter(|name| !has_flawed(nodes, name, &self.route.id));
        whole.count() >= self.route.min_insync.max(1) as usize
    }

    /// Of the living members of the in-sync set, those that the next epoch should have: whoever has a flawed copy only
    /// where the others are too few.
    fn candidates(&self, nodes: &Nodes) -> BTreeSet<String> {
        let without = self.may_do_without_flawed(nodes);
        let is_one = |name: &&String| !without || !has_flawed(nodes, name, &self.route.id);
        self.live(nodes).filter(is_one).cloned().collect()
    }

    /// Begins an election if the epoch must end and somebody can lead the next.
    fn begin_election(&mut self, nodes: &Nodes) -> Option<Output> {
        if self.route.epoch == 0 || self.election.is_some() || self.live(nodes).next().is_none() {
            return None;
        }
        let why = self.reason_to_elect(nodes)?;
        Some(self.end_epoch(&why))
    }

    /// A new epoch for a member outside the in-sync set that has found damage: nobody may count any more on what it
    /// acknowledged in this one. Then it sets its files aside.
    fn renew(&self, nodes: &Nodes) -> Option<Output> {
        let said = |name: &String| nodes.get(name).and_then(|node| node.says_of(&self.route.id));
        let waits = |name: &&String| {
            let known = said(name).map_or(0, |said| said.epoch);
            has_damaged(nodes, name, &self.route.id) && known >= self.route.epoch
        };
        let outside = self.route.members.iter().filter(|name| !self.has_in_sync(name));
        let idle = self.route.epoch > 0 && self.election.is_none();
        (idle && outside.into_iter().any(|name| waits(&name)))
            .then(|| self.cas(next_epoch(&self.route)))
    }

    /// Whether another epoch can be better than this one, whose primary is there and does not reach all: it may do
    /// without somebody, or somebody else may reach all. Of two that need one another either leads as badly.
    fn may_gain(&self, nodes: &Nodes) -> bool {
        let (needed, live) = (self.route.isr.len(), self.live(nodes).count());
        let may_shrink = live > 0 && needed > self.route.min_insync as usize;
        may_shrink || (live == needed && needed > 2)
    }

    /// The primary whose fault it is that the epoch must end, if it is a node's. One that was shut down did not fail.
    fn failed_primary(&self, nodes: &Nodes) -> Option<String> {
        let primary = self.route.primary.as_ref()?;
        let in_order = nodes.get(primary).is_some_and(|n| n.state == NodeState::Shutdown);
        let failed = !self.is_led_well(nodes) || has_sealed(nodes, primary, &self.route);
        (failed && !in_order).then(|| primary.clone())
    }

    fn end_epoch(&mut self, why: &str) -> Output {
        self.election = Some(Election::new(self.route.epoch));
        self.moving = None;
        let (id, epoch) = (&self.route.id, self.route.epoch);
        Output::Log(Level::Warn, format!("tablet {id}: epoch {epoch} ends: {why}"))
    }

    /// Goes on with an election: asks who has not sealed yet, or decides.
    fn go_on(&mut self, now: u64, nodes: &Nodes, spread: &mut Spread) -> Vec<Output> {
        let live = self.candidates(nodes);
        let Some(election) = &mut self.election else { return Vec::new() };
        self.route.isr.iter().filter(|n| !live.contains(*n)).for_each(|n| election.forget(n));
        if let [only] = &self.route.isr[..]
            && live.contains(only)
            && has_sealed(nodes, only, &self.route)
        {
            let version = nodes[only].says_of(&self.route.id).map_or(0, |said| said.version);
            election.sealed(now, only, self.route.epoch, (0, version));
        }
        let asked = election.ask(now, &self.route);
        let mut by_use = self.route.clone();
        by_use.isr.sort_by_key(|name| !keeps_its_copy(nodes, name, &self.route.id));
        let Some(mut next) = election.decide(now, &by_use, &live) else {
            let asked = asked.into_iter().filter(|name| live.contains(name));
            return asked.map(|name| Output::Seal(name, self.route.clone())).collect();
        };
        let longest = next.primary.clone().unwrap_or_default();
        let equal = election.equals(&longest).filter(|name| live.contains(*name));
        next.primary = spread.choose(&self.route, equal);
        vec![self.cas(next)]
    }

    /// Why nobody can lead it, if nobody can.
    fn why_stuck(&self, nodes: &Nodes) -> Option<String> {
        let route = &self.route;
        if route.epoch == 0 || self.is_led_well(nodes) || self.live(nodes).next().is_some() {
            return None;
        }
        if let [only] = &route.isr[..] {
            if has_damaged(nodes, only, &route.id) {
                return Some(format!(
                    "the last in-sync copy of {} is damaged, on {only}",
                    route.id
                ));
            }
            if nodes.get(only).is_some_and(|node| node.state == NodeState::Refused) {
                return Some(format!("its only copy is on the old disk of {only}"));
            }
        }
        let each: Vec<String> = route.isr.iter().map(|name| how(nodes, name, &route.id)).collect();
        Some(format!("no in-sync replica is alive: {}", each.join(", ")))
    }

    fn problem(&self, nodes: &Nodes) -> Option<String> {
        if self.route.epoch == 0 {
            let first = self.route.primary.as_deref().unwrap_or("a node");
            return Some(format!("it waits for {first} to come for the first time"));
        }
        let electing = || (!self.is_led_well(nodes)).then(|| "one is being elected".to_string());
        self.why_stuck(nodes).or_else(electing)
    }
}

/// How many tablets each node leads, so that the next goes where there are fewest.
pub(super) struct Spread<'a> {
    small_tablets: BTreeMap<&'a str, u32>,
    led: BTreeMap<String, usize>,
    on_probation: BTreeSet<&'a str>,
}

impl Spread<'_> {
    /// One of these nodes for a tablet's primary: the one that is to be it when all is well, or else the one that
    /// leads fewest; one on probation only if all are.
    pub fn choose<'a>(
        &mut self,
        route: &TabletRoute,
        from: impl Iterator<Item = &'a str>,
    ) -> Option<String> {
        let small_tablets = self.small_tablets.get(route.group.as_str()).copied().unwrap_or(0);
        let preferred = layout::preferred(route, small_tablets);
        let leads = |name: &&str| self.led.get(*name).copied().unwrap_or(0);
        let chosen = from
            .min_by_key(|name| {
                (self.on_probation.contains(name), Some(*name) != preferred, leads(name))
            })?
            .to_string();
        *self.led.entry(chosen.clone()).or_default() += 1;
        Some(chosen)
    }
}

impl Membership {
    /// The spread of the primaries now; beside it the tablets and nodes, to be changed by it.
    pub(super) fn spread(
        &mut self,
        now: u64,
    ) -> (Spread<'_>, &mut BTreeMap<String, Tablet>, &Nodes) {
        let mut led = BTreeMap::new();
        for primary in self.tablets.values().filter_map(|t| t.route.primary.clone()) {
            *led.entry(primary).or_default() += 1;
        }
        let groups = self.groups.values();
        let small_tablets = groups.map(|g| (g.name.as_str(), g.small_tablets)).collect();
        let on_probation = self.nodes.iter().filter(|(_, node)| node.probation.lasts(now));
        let on_probation = on_probation.map(|(name, _)| name.as_str()).collect();
        (Spread { small_tablets, led, on_probation }, &mut self.tablets, &self.nodes)
    }

    /// Gives tablets that nobody was ever given to their first primary; if that does not come while another member
    /// is there for so long, to the other.
    pub(super) fn begin(&mut self, now: u64, patience: u64) -> Vec<Output> {
        let (mut spread, tablets, nodes) = self.spread(now);
        let ready = |name: &str, time: u64| {
            let node = nodes.get(name).filter(|node| node.leaving.is_none());
            node.and_then(Node::serves_since).is_some_and(|since| now >= since + time)
        };
        let mut outputs = Vec::new();
        for tablet in tablets.values().filter(|t| t.route.epoch == 0) {
            let route = &tablet.route;
            let first = route.primary.as_deref().filter(|name| ready(name, 0));
            let absent = |name: &String| nodes.get(name).is_none_or(Node::is_away);
            let others = route.members.iter().map(String::as_str);
            let primary = match first {
                Some(first) => Some(first.to_string()),
                None if route.primary.as_ref().is_none_or(absent) => {
                    spread.choose(route, others.filter(|name| ready(name, patience + 1)))
                }
                None => None,
            };
            if let Some(primary) = primary {
                let isr = vec![primary.clone()];
                let primary = Some(primary);
                let next = TabletRoute { epoch: 1, primary, isr, clean: true, ..route.clone() };
                outputs.push(tablet.cas(next));
            }
        }
        outputs
    }

    /// Begins the elections that are due, and goes on with those that run.
    pub(super) fn elect(&mut self, now: u64) -> Vec<Output> {
        let (mut spread, tablets, nodes) = self.spread(now);
        let (mut outputs, mut failed) = (Vec::new(), BTreeSet::new());
        for tablet in tablets.values_mut() {
            let begun = tablet.begin_election(nodes);
            failed.extend(begun.as_ref().and_then(|_| tablet.failed_primary(nodes)));
            outputs.extend(begun);
            outputs.extend(tablet.renew(nodes));
            outputs.extend(tablet.go_on(now, nodes, &mut spread));
            let stuck = tablet.why_stuck(nodes);
            if let Some(why) = stuck.as_ref().filter(|_| stuck != tablet.stuck) {
                let line = format!("tablet {} has no primary: {why}", tablet.route.id);
                outputs.push(Output::Log(Level::Error, line));
            }
            tablet.stuck = stuck;
        }
        failed.iter().for_each(|name| self.note_failure(now, name));
        outputs
    }

    /// An epoch ends because its primary does not lead.
    fn note_failure(&mut self, now: u64, primary: &str) {
        if let Some(node) = self.nodes.get_mut(primary) {
            node.probation.fail(now);
        }
    }

    /// A node has sealed an epoch.
    pub(super) fn sealed(
        &mut self,
        now: u64,
        node: &str,
        id: &str,
        epoch: u64,
        end: (u64, u64),
    ) -> Vec<Output> {
        if let Some(tablet) = self.heard_of(node, id)
            && let Some(election) = &mut tablet.election
        {
            election.sealed(now, node, epoch, end);
        }
        Vec::new()
    }

    /// A node asks for a change, or for the routes. One that asks in an epoch that is over is told them again.
    pub(super) fn pleaded(
        &mut self,
        now: u64,
        node: &str,
        id: &str,
        epoch: u64,
        plea: &Plea,
    ) -> Vec<Output> {
        let added =
            |name: &String| takes_part(&self.nodes, name, id) && !has_flawed(&self.nodes, name, id);
        let may_add = matches!(plea, Plea::Add(name) if added(name));
        let Some(tablet) = self.heard_of(node, id) else { return Vec::new() };
        if epoch < tablet.route.epoch || *plea == Plea::Tell {
            return vec![Output::Tell(node.into())];
        }
        let next = match plea {
            Plea::Remove(name) if election::remove(&tablet.route, node, epoch, name).is_some() => {
                tablet.removal = Some(name.clone());
                return vec![Output::Beat(node.into())];
            }
            Plea::Add(name) => {
                let added = election::add(&tablet.route, node, epoch, name);
                if may_add { added } else { added.map(|_| next_epoch(&tablet.route)) }
            }
            Plea::NoLease => return self.lost_lease(now, node, id, epoch),
            Plea::Remove(_) | Plea::Tell => None,
        };
        next.map(|next| tablet.cas(next)).into_iter().collect()
    }

    /// A primary has had no lease for long: the epoch ends, if another may be better.
    fn lost_lease(&mut self, now: u64, node: &str, id: &str, epoch: u64) -> Vec<Output> {
        let Some(tablet) = self.tablets.get_mut(id) else { return Vec::new() };
        let leads = epoch == tablet.route.epoch && tablet.is_led_by(node);
        if !leads || tablet.election.is_some() || !tablet.may_gain(&self.nodes) {
            return Vec::new();
        }
        let ends = tablet.end_epoch(&format!("its primary, {node}, has no lease"));
        self.note_failure(now, node);
        vec![ends]
    }

    /// A node has answered a heartbeat: whom it asked to take out of the tablets that it leads is taken out.
    ///
    /// One that hears nobody asks as well, and is still heard itself. Had it its way it would be left as the last of
    /// the in-sync set, and nobody could take its place.
    pub(super) fn remove_silent(&mut self, node: &str) -> Vec<Output> {
        let next = |tablet: &mut Tablet| {
            let (member, epoch) = (tablet.removal.take()?, tablet.route.epoch);
            Some(tablet.cas(election::remove(&tablet.route, node, epoch, &member)?))
        };
        let nodes = &self.nodes;
        let asks =
            |tablet: &&mut Tablet| tablet.is_led_by(node) && serves(nodes, node, &tablet.route.id);
        self.tablets.values_mut().filter(asks).filter_map(next).collect()
    }

    /// A tablet that a node speaks of, unless the node is not who it should be.
    pub(super) fn heard_of(&mut self, node: &str, id: &str) -> Option<&mut Tablet> {
        let known = self.nodes.get(node).is_some_and(|node| node.state != NodeState::Refused);
        self.tablets.get_mut(id).filter(|tablet| known && tablet.route.epoch > 0)
    }

    /// Ends the epochs in which a primary may count on what was on a disk that is gone.
    pub(super) fn forget_disk_of(&self, node: &str) -> Vec<Output> {
        let counted = |t: &&Tablet| t.route.epoch > 0 && t.route.members.iter().any(|m| m == node);
        let next = |t: &Tablet| t.cas(next_epoch(&t.route));
        self.tablets.values().filter(counted).map(next).collect()
    }

    /// Names the tablets of which a node has the only copy, as the end of a sentence.
    pub(super) fn only_copies_of(&self, node: &str) -> String {
        let only = |t: &&Tablet| t.needs_disk_of(node) && t.route.isr.len() == 1;
        let ids: Vec<&str> =
            self.tablets.values().filter(only).map(|t| t.route.id.as_str()).collect();
        match &ids[..] {
            [] => String::new(),
            ids => format!(": the only copy of {} is on the old disk", ids.join(", ")),
        }
    }

    /// Why tablets have no primary now.
    pub(super) fn problems(&self) -> BTreeMap<String, String> {
        let problem = |t: &Tablet| Some((t.route.id.clone(), t.problem(&self.nodes)?));
        self.tablets.values().filter_map(problem).collect()
    }
}

/// The same configuration once more: what the primary counted on in the epoch before is void.
fn next_epoch(route: &TabletRoute) -> TabletRoute {
    TabletRoute { epoch: route.epoch + 1, clean: false, ..route.clone() }
}

/// Whether a node serves a tablet, as far as the master knows.
fn serves(nodes: &Nodes, name: &str, tablet: &str) -> bool {
    let goes_on = |node: &Node| node.state == NodeState::Alive && !node.is_stuck(tablet);
    nodes.get(name).is_some_and(goes_on) && !has_damaged(nodes, name, tablet)
}

/// Whether a node may be chosen or added: it serves, and is not about to leave.
pub(super) fn takes_part(nodes: &Nodes, name: &str, tablet: &str) -> bool {
    serves(nodes, name, tablet) && nodes[name].leaving.is_none()
}

fn has_damaged(nodes: &Nodes, name: &str, tablet: &str) -> bool {
    nodes.get(name).is_some_and(|node| node.has_damaged(tablet))
}

fn has_flawed(nodes: &Nodes, name: &str, tablet: &str) -> bool {
    nodes.get(name).is_some_and(|node| node.has_flawed(tablet))
}

/// Whether a node may come back with what it had of a tablet.
fn keeps_its_copy(nodes: &Nodes, name: &str, tablet: &str) -> bool {
    let refused = nodes.get(name).is_some_and(|node| node.state == NodeState::Refused);
    !refused && !has_damaged(nodes, name, tablet) && !has_flawed(nodes, name, tablet)
}

/// Whether a living node says that it takes no part any more in the epoch that is still the tablet's.
fn has_sealed(nodes: &Nodes, name: &str, route: &TabletRoute) -> bool {
    let alive = nodes.get(name).filter(|node| node.state == NodeState::Alive);
    alive.and_then(|node| node.says_of(&route.id)).is_some_and(|said| said.sealed >= route.epoch)
}

/// A node and how it is, in words.
fn how(nodes: &Nodes, name: &str, tablet: &str) -> String {
    match nodes.get(name) {
        None => format!("{name} is unknown"),
        Some(node) if node.state != NodeState::Alive => format!("{name} is {}", node.state.word()),
        Some(node) if node.has_damaged(tablet) => format!("{name} has a damaged copy"),
        Some(node) if node.is_stuck(tablet) => format!("the disk of {name} hangs, or is full"),
        Some(node) if node.leaving.is_some() => format!("{name} is being shut down"),
        Some(_) => format!("{name} is alive"),
    }
}
