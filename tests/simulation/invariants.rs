//! The invariants of the protocol, checked where they may break. The numbers are those of the list in [`super`].

use super::world::*;
use penncloud::master::record::NodeRecord;
use penncloud::protocol::cluster::TabletRoute;
use penncloud::protocol::entry::Entry;
use penncloud::replication::lead::PREPARED_WINDOWS;
use penncloud::replication::{Configuration, Position, Replica, Time};
use std::sync::Arc;

pub type Checked = Result<(), String>;

/// What may be prepared beyond the windows: the request that was still taken, and first entries of epochs.
const BEYOND_WINDOWS_BYTES: u64 = 20_000;

impl World {
    pub fn may_read(&self, i: usize, t: usize) -> bool {
        let clock = self.nodes[i].clock(self.now);
        self.nodes[i].replica(t).is_some_and(|replica| replica.may_read(clock))
    }

    /// 1, 12: after every step of a replica.
    pub fn check_step(&self, i: usize, t: usize) -> Checked {
        self.check_one_primary(t).and_then(|()| self.check_lease(i, t))
    }

    /// 11, 17: what need not be looked at so often.
    pub fn check_tick(&self, i: usize, t: usize) -> Checked {
        self.check_left_behind(i, t).and_then(|()| self.check_memory(i, t))
    }

    /// 1: at most one node serves as primary.
    fn check_one_primary(&self, t: usize) -> Checked {
        let serves = |i: &usize| {
            self.nodes[*i].replica(t).is_some_and(Replica::leads) && self.may_read(*i, t)
        };
        let serving: Vec<usize> = (0..self.plan.nodes).filter(serves).collect();
        match serving[..] {
            [a, b, ..] => Err(format!("1: {} and {} both serve as primaries", name(a), name(b))),
            _ => Ok(()),
        }
    }

    /// 2, 7, 18: a change of the register. A disk that was replaced a moment ago, and has not been heard of, is added in
    /// the name of the old one: it is refused when it is heard of, and counts for nothing till then.
    pub fn check_change(&self, t: usize, old: &TabletRoute, new: &TabletRoute) -> Checked {
        let added: Vec<&String> = new.isr.iter().filter(|n| !old.isr.contains(n)).collect();
        let primary = new.primary.as_ref().filter(|primary| old.isr.contains(primary));
        if new.epoch != old.epoch + 1 || added.len() > 1 || primary.is_none() {
            return Err(format!("2: a wrong change of the register: from {old:?} to {new:?}"));
        }
        if new.isr.len() < new.min_insync as usize {
            return Err(format!("2: too few in sync: {new:?}"));
        }
        match added[..] {
            [node] if self.nodes[number(node)].refused => {
                Err(format!("18: {node} is in sync with a disk that is not accepted"))
            }
            _ => self.check_durable(t, &new.isr),
        }
    }

    /// 18: a disk is accepted in the place of another only while its node is in no in-sync set.
    pub fn check_disk(&self, new: &NodeRecord) -> Checked {
        let counted = |t: &usize| self.route(*t).isr.contains(&new.name);
        let replaced = self.disk_of(&new.name) != new.store_uuid.as_ref();
        match (0..self.plan.tablets).find(counted).filter(|_| replaced) {
            Some(t) => Err(format!("18: {new:?} is accepted, and in sync in {}", self.ids[t])),
            None => Ok(()),
        }
    }

    /// 2: what the master tells is on its disk.
    pub fn check_told(&self, route: &TabletRoute) -> Checked {
        let written = self.registers[self.tablet(&route.id)].get(&route.epoch);
        match written == Some(route) || !self.switches.durable_register {
            true => Ok(()),
            false => Err(format!("2: the master tells {route:?}, and has written {written:?}")),
        }
    }

    /// 2: what a node adopts was on the master's disk.
    pub fn check_adopted(&self, i: usize, t: usize, adopted: &Configuration) -> Checked {
        let written = self.registers[t].get(&adopted.epoch).map(Configuration::of);
        let written = written.map(|written| Configuration { clean: adopted.clean, ..written });
        match written.as_ref() == Some(adopted) || !self.switches.durable_register {
            true => Ok(()),
            false => Err(format!("2: {} adopts {adopted:?}, the master has {written:?}", name(i))),
        }
    }

    /// 3, 8: a process starts with the epochs that it had, and with nothing that is not committed for granted.
    pub fn check_start(&self, i: usize, t: usize) -> Checked {
        let held = &self.nodes[i].tablets[t];
        let Some(replica) = &held.replica else { return Ok(()) };
        let now = (replica.configuration().epoch, replica.sealed_epoch());
        if now.0 < held.epochs.0 || now.1 < held.epochs.1 {
            return Err(format!("3: {} forgot epochs: {:?}, now {now:?}", name(i), held.epochs));
        }
        self.check_state(i, t)
    }

    /// 7: every committed entry is on the disk of every one of these. A disk that was replaced holds nothing, and
    /// counts for nothing.
    fn check_durable<'a>(&self, t: usize, isr: impl IntoIterator<Item = &'a String>) -> Checked {
        let version = self.observers[t].version();
        let Some(entry) = self.observers[t].entry(version) else { return Ok(()) };
        let at = Position::of(entry);
        let lacks = |node: &&String| {
            let i = number(node);
            self.is_known(i) && !self.nodes[i].tablets[t].disk.holds(at)
        };
        match isr.into_iter().find(lacks) {
            Some(node) => Err(format!("7: {node} of the in-sync set has not version {version}")),
            None => Ok(()),
        }
    }

    /// 7, for all tablets, after something was lost or changed.
    pub fn check_all_durable(&mut self) {
        for t in 0..self.plan.tablets {
            let checked = self.check_durable(t, &self.route(t).isr);
            self.fail(checked);
        }
    }

    /// 6, 7, 11, 16: an entry is committed for the first time, by this node.
    pub fn check_commit(&self, i: usize, t: usize, entry: &Arc<Entry>) -> Checked {
        let Some(replica) = self.nodes[i].replica(t) else { return Ok(()) };
        let (version, configuration) = (entry.version, replica.configuration());
        if !configuration.is_primary(&self.nodes[i].name) {
            return Err(format!(
                "6: {} is the first to commit {version}: {configuration:?}",
                name(i)
            ));
        }
        let needed = configuration.isr.iter().chain(replica.pending_add());
        let lacks = |j: &usize| {
            self.is_known(*j) && !self.nodes[*j].tablets[t].disk.holds(Position::of(entry))
        };
        if let Some(j) = needed.map(|node| number(node)).find(lacks) {
            return Err(format!("6: {} commits {version}, {} does not have it", name(i), name(j)));
        }
        self.check_durable(t, &self.route(t).isr)?;
        let reads_on =
            |j: &usize| self.is_left_behind(*j, t, configuration) && self.may_read(*j, t);
        if let Some(j) = (0..self.plan.nodes).find(reads_on) {
            let epoch = configuration.epoch;
            let j = name(j);
            return Err(format!(
                "11: version {version} is committed in epoch {epoch}; {j} still reads"
            ));
        }
        if t == 0 { self.check_heads(entry) } else { self.check_chunks(entry) }
    }

    /// Whether a node is in an older epoch than this one, which does without it.
    fn is_left_behind(&self, i: usize, t: usize, of: &Configuration) -> bool {
        let node = &self.nodes[i];
        let older = |r: &Replica| r.configuration().epoch < of.epoch;
        node.replica(t).is_some_and(older) && !of.isr.contains(&node.name)
    }

    /// 11: who is left behind does not read once something was committed without it.
    fn check_left_behind(&self, i: usize, t: usize) -> Checked {
        let epoch = self.observers[t].table().epoch;
        let Some(newest) = self.registers[t].get(&epoch).map(Configuration::of) else {
            return Ok(());
        };
        match self.is_left_behind(i, t, &newest) && self.may_read(i, t) {
            true => Err(format!("11: {} reads; epoch {epoch} commits without it", name(i))),
            false => Ok(()),
        }
    }

    /// 12: in real time, a lease ends before the promises of those on whom it depends.
    fn check_lease(&self, i: usize, t: usize) -> Checked {
        let Some(replica) = self.nodes[i].replica(t) else { return Ok(()) };
        let Some(lease) = self.left(i, replica.lease_until()).filter(|left| *left > 0) else {
            return Ok(());
        };
        let configuration = replica.configuration();
        let needed = configuration.isr.iter().chain(replica.pending_add());
        for j in needed.filter(|n| !configuration.is_primary(n)).map(|n| number(n)) {
            let Some(other) = self.nodes[j].replica(t) else { continue };
            if self.left(j, other.promise_until()).is_some_and(|promise| promise <= lease) {
                let (i, j) = (name(i), name(j));
                return Err(format!("12: the lease of {i} outlasts the promise of {j}"));
            }
        }
        Ok(())
    }

    /// How long it is until a node's clock shows a time; none: for ever.
    fn left(&self, i: usize, until: Time) -> Option<u64> {
        let node = &self.nodes[i];
        let left = until.saturating_sub(node.clock(self.now));
        (until < Time::MAX && node.rate > 0).then(|| left * 1000 / node.rate)
    }

    /// 17: of entries that are not committed a replica holds no more than a primary takes, and of those that are no more
    /// than it keeps for others.
    fn check_memory(&self, i: usize, t: usize) -> Checked {
        let Some(replica) = self.nodes[i].replica(t) else { return Ok(()) };
        let (timing, committed) = (self.timing(), self.observers[t].version());
        let weight = |entry: &Arc<Entry>| entry.weight();
        let prepared = replica.prepared().filter(|entry| entry.version > committed);
        let prepared: u64 = prepared.map(weight).sum();
        if prepared > PREPARED_WINDOWS * timing.window_bytes + BEYOND_WINDOWS_BYTES {
            return Err(format!("17: {} holds {prepared} bytes of prepared entries", name(i)));
        }
        let known = replica.committed().version;
        let kept = replica.entries().filter(|entry| entry.version <= known);
        let kept: Vec<u64> = kept.map(weight).collect();
        let after_first: u64 = kept.iter().skip(1).sum();
        if kept.len() > timing.keep && after_first >= timing.keep_bytes {
            return Err(format!("17: {} keeps {after_first} bytes of committed entries", name(i)));
        }
        Ok(())
    }

    /// 8: what a node has committed is what the log adds up to.
    pub fn check_state(&self, i: usize, t: usize) -> Checked {
        match self.nodes[i].replica(t) {
            Some(replica) => self.observers[t].same_state(replica.committed()),
            None => Ok(()),
        }
    }

    /// 8: the same, as far as a digest says it.
    pub fn check_digest(&self, i: usize, t: usize) -> Checked {
        let replica = self.nodes[i].replica(t);
        replica.map_or(Ok(()), |replica| self.observers[t].same_digest(replica.committed()))
    }
}
