//! The master: heartbeats, elections, and changes of the register.

use super::world::*;
use penncloud::master::election::{self, Election};
use penncloud::protocol::cluster::TabletRoute;
use penncloud::replication::{Plea, Position};
use std::collections::BTreeSet;

impl World {
    pub(super) fn now_ms(&self) -> u64 {
        self.now / MS
    }

    pub(super) fn start_master(&mut self) {
        self.master.up = true;
        self.master.election = None;
        let now = self.now_ms();
        self.master.heard.values_mut().for_each(|(at, _)| *at = now);
        self.after(0, Event::MasterTick);
    }

    pub(super) fn alive(&self) -> BTreeSet<String> {
        let now = self.now_ms();
        let heard = self.master.heard.iter().filter(|(_, (at, _))| now - at <= SILENT_MS);
        heard.map(|(i, _)| name(*i)).collect()
    }

    pub(super) fn elect(&mut self) {
        let epoch = self.master.route.epoch;
        if self.master.election.as_ref().is_none_or(|election| election.epoch != epoch) {
            self.master.election = Some(Election::new(epoch));
        }
    }

    pub(super) fn master_tick(&mut self) {
        if !self.master.up {
            return;
        }
        self.after(100 * MS, Event::MasterTick);
        let (alive, now) = (self.alive(), self.now_ms());
        if self.master.route.primary.as_ref().is_none_or(|primary| !alive.contains(primary)) {
            self.elect();
        }
        let route = self.master.route.clone();
        let Some(election) = self.master.election.as_mut().filter(|e| e.epoch == route.epoch)
        else {
            return;
        };
        let ask = election.ask(now, &route);
        let decided = election.decide(now, &route, &alive);
        for to in ask {
            self.tell(&to, |node| Event::Seal { node, route: route.clone() });
        }
        if let Some(new) = decided {
            self.change(new);
        }
    }

    pub(super) fn tell(&mut self, to: &str, event: impl Fn(usize) -> Event) {
        let node = number(to);
        self.send(self.master_place(), node, event(node));
    }

    pub(super) fn change(&mut self, new: TabletRoute) {
        let old = &self.master.route;
        assert_eq!(new.epoch, old.epoch + 1, "epochs rise by one");
        assert!(new.isr.len() as u32 >= new.min_insync, "the in-sync set is large enough");
        self.master.route = new.clone();
        self.master.election = None;
        self.tally.epochs += 1;
        for node in &new.members {
            self.tell(node, |node| Event::Configure { node, route: new.clone() });
        }
    }

    pub(super) fn heartbeat(&mut self, i: usize, life: u64, epoch: u64, sealed: u64) {
        if !self.master.up {
            return;
        }
        let now = self.now_ms();
        let before = self.master.heard.insert(i, (now, life));
        let route = self.master.route.clone();
        let restarted =
            before.is_some_and(|(_, known)| known != life) && route.primary == Some(name(i));
        if restarted || (sealed >= route.epoch && route.isr.contains(&name(i))) {
            self.elect();
        }
        if epoch < route.epoch {
            self.tell(&name(i), |node| Event::Configure { node, route: route.clone() });
        }
    }

    pub(super) fn sealed(&mut self, i: usize, epoch: u64, end: Position) {
        let now = self.now_ms();
        if let Some(election) = self.master.election.as_mut().filter(|_| self.master.up) {
            election.sealed(now, &name(i), epoch, (end.epoch, end.version));
        }
    }

    pub(super) fn pleaded(&mut self, i: usize, epoch: u64, plea: Plea) {
        if !self.master.up {
            return;
        }
        let route = self.master.route.clone();
        let new = match plea {
            Plea::Remove(node) => election::remove(&route, &name(i), epoch, &node),
            Plea::Add(node) => election::add(&route, &name(i), epoch, &node),
            Plea::NoLease if epoch == route.epoch => {
                self.elect();
                None
            }
            Plea::NoLease | Plea::Tell => None,
        };
        match new {
            Some(new) => self.change(new),
            None if epoch < route.epoch => {
                self.tell(&name(i), |node| Event::Configure { node, route: route.clone() });
            }
            None => {}
        }
    }
}
