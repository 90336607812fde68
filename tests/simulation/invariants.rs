//! The invariants of the protocol, checked where they may break. The numbers are those of the list in [`super`].

use super::world::*;
use penncloud::protocol::cluster::TabletRoute;
use penncloud::protocol::entry::Entry;
use penncloud::replication::{Ack, Message, Outcome, Output, Position, Replica};
use std::sync::Arc;

type Checked = Result<(), String>;

impl World {
    fn may_read(&self, i: usize, t: usize) -> bool {
        let clock = self.nodes[i].clock(self.now);
        self.nodes[i].replica(t).is_some_and(|replica| replica.may_read(clock))
    }

    /// 1: at most one node serves as primary.
    pub fn check_one_primary(&self, t: usize) -> Checked {
        let serves = |i: &usize| {
            self.nodes[*i].replica(t).is_some_and(Replica::leads) && self.may_read(*i, t)
        };
        let serving: Vec<usize> = (0..self.plan.nodes).filter(serves).collect();
        match serving[..] {
            [a, b, ..] => Err(format!("{} and {} both serve as primaries", name(a), name(b))),
            _ => Ok(()),
        }
    }

    /// 2, 7, 18: a change of the register.
    pub fn check_change(&self, t: usize, old: &TabletRoute, new: &TabletRoute) -> Checked {
        let added: Vec<&String> = new.isr.iter().filter(|n| !old.isr.contains(n)).collect();
        let primary = new.primary.as_ref().filter(|primary| old.isr.contains(primary));
        if new.epoch != old.epoch + 1 || added.len() > 1 || primary.is_none() {
            return Err(format!("a wrong change of the register: from {old:?} to {new:?}"));
        }
        if new.isr.len() < new.min_insync as usize {
            return Err(format!("too few in sync: {new:?}"));
        }
        match added[..] {
            [node] if self.nodes[number(node)].refused => {
                Err(format!("{node} is in sync with a disk that was refused"))
            }
            _ => self.check_durable(t, &new.isr),
        }
    }

    /// 3: epochs do not fall when a process starts.
    pub fn check_start(&self, i: usize, t: usize) -> Checked {
        let held = &self.nodes[i].tablets[t];
        let Some(replica) = &held.replica else { return Ok(()) };
        let now = (replica.configuration().epoch, replica.sealed_epoch());
        if now.0 < held.epochs.0 || now.1 < held.epochs.1 {
            return Err(format!("{} forgot epochs: {:?}, now {now:?}", name(i), held.epochs));
        }
        Ok(())
    }

    /// 7: every committed entry is on the disk of every member of the in-sync set. A disk that was replaced holds
    /// nothing, and counts for nothing.
    fn check_durable(&self, t: usize, isr: &[String]) -> Checked {
        let version = self.observers[t].version();
        let Some(entry) = self.observers[t].entry(version) else { return Ok(()) };
        let at = Position { epoch: entry.epoch, version };
        let lacks = |node: &&String| {
            let i = number(node);
            self.is_known(i) && !self.nodes[i].tablets[t].disk.holds(at)
        };
        match isr.iter().find(lacks) {
            Some(node) => Err(format!("{node} of the in-sync set has not version {version}")),
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

    /// 7, 11: an entry is committed for the first time, by this node.
    pub fn check_commit(&self, i: usize, t: usize, entry: &Arc<Entry>) -> Checked {
        self.check_durable(t, &self.route(t).isr)?;
        let Some(replica) = self.nodes[i].replica(t) else { return Ok(()) };
        let configuration = replica.configuration();
        let served_elsewhere = |j: &usize| {
            let other = &self.nodes[*j];
            let older = |r: &Replica| r.configuration().epoch < configuration.epoch;
            other.replica(t).is_some_and(older)
                && !configuration.isr.contains(&other.name)
                && self.may_read(*j, t)
        };
        if let Some(j) = (0..self.plan.nodes).find(served_elsewhere) {
            let (version, epoch) = (entry.version, configuration.epoch);
            let j = name(j);
            return Err(format!(
                "version {version} is committed in epoch {epoch}; {j} still reads"
            ));
        }
        if t == 0 { self.check_heads(entry) } else { self.check_chunks(entry) }
    }

    /// 3, 4, 5, 8, 9, 10, 17: what a replica wants done.
    pub fn check_output(
        &mut self,
        i: usize,
        t: usize,
        committed_before: u64,
        output: &Output,
    ) -> Checked {
        let held = &self.nodes[i].tablets[t];
        let replica = held.replica.as_ref().ok_or("a dead node speaks")?;
        match output {
            Output::Adopt(configuration, sealed)
                if configuration.epoch < held.epochs.0 || *sealed < held.epochs.1 =>
            {
                return Err(format!("an epoch of {} fell", name(i)));
            }
            Output::Append(entry) => {
                let before = replica.entries().find(|e| e.version + 1 == entry.version);
                if before.is_some_and(|e| e.epoch != entry.prev_epoch || e.epoch > entry.epoch) {
                    return Err(format!("{entry:?} follows {before:?}"));
                }
                return self.observers[t].prepared(entry);
            }
            Output::Truncate(version) if *version < committed_before => {
                return Err(format!("{} cuts its log off at {version}", name(i)));
            }
            Output::Send(_, Message::Ack(ack)) => return self.check_ack(i, t, ack),
            Output::Send(_, Message::Committed { .. }) | Output::Confirm(_, Ok(())) => {
                return self.check_serving(i, t);
            }
            Output::Answer(_, Outcome::Refused(_)) => {}
            Output::Answer(_, outcome) => {
                if let Outcome::Done(answer) = outcome
                    && answer.version > replica.committed().version
                {
                    return Err(format!("{} answers before it applies", name(i)));
                }
                return self.check_serving(i, t);
            }
            _ => {}
        }
        Ok(())
    }

    /// 10: a primary serves nothing before its first entry is committed.
    pub fn check_serving(&self, i: usize, t: usize) -> Checked {
        let Some(replica) = self.nodes[i].replica(t).filter(|r| r.leads()) else { return Ok(()) };
        let epoch = replica.configuration().epoch;
        if replica.committed().version < self.observers[t].barrier(epoch) {
            return Err(format!("{} serves in epoch {epoch} before its barrier", name(i)));
        }
        Ok(())
    }

    /// 4, 9, 17: an acknowledgement.
    fn check_ack(&self, i: usize, t: usize, ack: &Ack) -> Checked {
        let held = &self.nodes[i].tablets[t];
        let replica = held.replica.as_ref().ok_or("a dead node acknowledges")?;
        if ack.epoch <= replica.sealed_epoch() || ack.epoch < replica.configuration().epoch {
            return Err(format!("{} acknowledges in epoch {}, which it left", name(i), ack.epoch));
        }
        if ack.version > held.disk.end().version || ack.version > replica.end().version {
            return Err(format!("{} acknowledges {} and has less", name(i), ack.version));
        }
        let leads = |r: &&Replica| r.leads() && r.configuration().epoch == ack.epoch;
        let primary = self.nodes.iter().filter_map(|node| node.replica(t)).find(leads);
        let theirs = primary.and_then(|r| r.entries().find(|e| e.version == ack.version));
        let mine = held.disk.epoch_at(ack.version);
        if theirs.is_some_and(|entry| mine.is_some_and(|epoch| epoch != entry.epoch)) {
            return Err(format!("{} acknowledges {}, and has another", name(i), ack.version));
        }
        Ok(())
    }

    /// 12: in real time, a lease ends before the promises of those on whom it depends.
    pub fn check_leases(&mut self, i: usize) {
        for t in 0..self.plan.tablets {
            let checked = self.check_lease(i, t);
            self.fail(checked);
        }
    }

    fn check_lease(&self, i: usize, t: usize) -> Checked {
        let Some(replica) = self.nodes[i].replica(t) else { return Ok(()) };
        let Some(lease) = self.left(i, replica.lease_until()).filter(|left| *left > 0) else {
            return Ok(());
        };
        let configuration = replica.configuration();
        let others =
            configuration.isr.iter().filter(|n| configuration.primary.as_ref() != Some(*n));
        for j in others.map(|node| number(node)) {
            let Some(other) = self.nodes[j].replica(t) else { continue };
            if self.left(j, other.promise_until()).is_some_and(|promise| promise < lease) {
                return Err(format!(
                    "the lease of {} outlasts the promise of {}",
                    name(i),
                    name(j)
                ));
            }
        }
        Ok(())
    }

    /// How long it is until a node's clock shows a time; none: for ever.
    fn left(&self, i: usize, until: u64) -> Option<u64> {
        let node = &self.nodes[i];
        let left = until.saturating_sub(node.clock(self.now));
        (until < u64::MAX && node.rate > 0).then(|| left * 1000 / node.rate)
    }

    /// 8: what a node has committed is what the log adds up to.
    pub fn check_state(&self, i: usize, t: usize) -> Checked {
        match self.nodes[i].replica(t) {
            Some(replica) => self.observers[t].same_state(replica.committed()),
            None => Ok(()),
        }
    }
}
