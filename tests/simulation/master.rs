//! The production master over a simulated store: a restart loses everything but what was written.

use super::plan::Plan;
use super::world::*;
use penncloud::master::membership::{self, Input, Membership, Output};
use penncloud::master::record::{NodeRecord, Record};
use penncloud::protocol::cluster::{Class, GroupRoute, NodeState, Report, SlotRange, TabletRoute};
use penncloud::replication::Plea;

/// Silence after which the master takes a node for dead, in milliseconds.
const SILENT_MS: u64 = 1500;

impl World {
    /// The tables of a cluster in which everything is well.
    pub fn new_master(plan: Plan) -> Master {
        let members: Vec<String> = (0..plan.nodes).map(name).collect();
        let tablet = |(class, id): (Class, &str)| {
            Record::Tablet(TabletRoute {
                id: id.into(),
                group: "a".into(),
                class,
                index: 0,
                epoch: 1,
                primary: Some(name(0)),
                isr: members.clone(),
                members: members.clone(),
                min_insync: plan.min_insync,
                clean: false,
            })
        };
        let node = |i| {
            let store_uuid = Some(store_uuid(i as u64 + 1));
            let (name, address, group) = (name(i), format!("host-{i}:1"), "a".into());
            Record::Node(NodeRecord { name, address, group, store_uuid })
        };
        let tablets = [(Class::Small, "a-s0"), (Class::Large, "a-l0")];
        let large_tablets = plan.tablets as u32 - 1;
        let group = GroupRoute { name: "a".into(), small_tablets: 1, large_tablets };
        let mut records = vec![Record::Group(group)];
        records.extend((0..plan.nodes).map(node));
        records.extend(tablets.into_iter().take(plan.tablets).map(tablet));
        records.push(Record::Slots {
            ranges: vec![SlotRange { from: 0, to: 1023, group: "a".into() }],
        });
        let store = records.into_iter().map(|record| (record.key(), (record, 1))).collect();
        Master { membership: None, life: 0, store, revision: 1, greeted: Default::default() }
    }

    fn now_ms(&self) -> u64 {
        self.now / MS
    }

    pub fn stop_master(&mut self) {
        self.master.membership = None;
        let back = self.random.between(100 * MS, 5 * SECOND);
        self.after(self.until_peace(back), Event::MasterStart);
    }

    /// Starts from what is in the store.
    pub fn start_master(&mut self) {
        if self.master.membership.is_some() {
            return;
        }
        if !self.switches.durable_register && self.master.life > 0 {
            self.forget_register();
        }
        let now = self.now_ms();
        let mut membership = Membership::new("m1", SILENT_MS, now);
        for (record, revision) in self.master.store.values().cloned() {
            membership.step(now, Input::Stored { record, revision });
        }
        self.master.membership = Some(membership);
        self.master.life += 1;
        self.master.greeted.clear();
        let life = self.master.life;
        self.after(0, Event::MasterTick { life });
    }

    /// The rule off: the in-sync set is what it was in the beginning.
    fn forget_register(&mut self) {
        for (record, _) in self.master.store.values_mut() {
            if let Record::Tablet(route) = record {
                route.isr = route.members.clone();
            }
        }
    }

    pub fn master_tick(&mut self, life: u64) {
        if self.master.membership.is_none() || self.master.life != life {
            return;
        }
        self.after(100 * MS, Event::MasterTick { life });
        self.tell_master(Input::Tick);
    }

    /// A tablet's register, as it is written down.
    pub fn route(&self, t: usize) -> &TabletRoute {
        match &self.master.store[&format!("tablet/{}", self.ids[t])].0 {
            Record::Tablet(route) => route,
            other => unreachable!("{other:?} is no tablet"),
        }
    }

    /// Whether a node's disk is the one that is written down.
    pub fn is_known(&self, i: usize) -> bool {
        let record = &self.master.store[&format!("node/{}", name(i))].0;
        let own = store_uuid(self.nodes[i].store);
        matches!(record, Record::Node(node) if node.store_uuid.as_ref() == Some(&own))
    }

    pub fn tell_master(&mut self, input: Input) {
        let now = self.now_ms();
        let Some(membership) = &mut self.master.membership else { return };
        for output in membership.step(now, input) {
            if !self.perform_for_master(output) {
                break;
            }
        }
    }

    /// Whether the outputs that follow are to be performed.
    fn perform_for_master(&mut self, output: Output) -> bool {
        match output {
            Output::Cas(record, revision) => return self.compare_and_swap(record, revision),
            Output::Announce => (0..self.plan.nodes).for_each(|i| self.announce(i)),
            Output::Beat(node) => self.tell(&node, |node| Event::Report { node }),
            Output::Seal(node, route) => self.tell(&node, |node| Event::Seal { node, route }),
            Output::Resign(node, route) => {
                let (t, epoch) = (self.tablet(&route.id), route.epoch);
                self.tell(&node, |node| Event::Resign { node, t, epoch });
            }
            Output::Serve(node, serves) => self.tell(&node, |node| Event::Serve { node, serves }),
            Output::Refuse(node, _) => {
                self.master.greeted.remove(&number(&node));
                self.nodes[number(&node)].refused = true;
            }
            Output::Accept(node) => self.nodes[number(&node)].refused = false,
            Output::Log(..) => {}
        }
        true
    }

    fn compare_and_swap(&mut self, mut record: Record, revision: u64) -> bool {
        let known = self.master.store.get(&record.key());
        if known.map_or(0, |(_, revision)| *revision) != revision {
            return false;
        }
        if let Record::Tablet(new) = &mut record {
            if !self.switches.promote_from_isr {
                self.promote_anyone(new);
            }
            let t = self.tablet(&new.id);
            let old = self.route(t).clone();
            let checked = self.check_change(t, &old, new);
            self.fail(checked);
            self.tally.epochs += 1;
            self.tally.clean += u64::from(new.clean);
        }
        self.master.revision += 1;
        let revision = self.master.revision;
        self.master.store.insert(record.key(), (record.clone(), revision));
        self.check_all_durable();
        self.tell_master(Input::Stored { record, revision });
        true
    }

    /// The rule off: a new primary may come from outside the in-sync set.
    fn promote_anyone(&mut self, new: &mut TabletRoute) {
        let t = self.tablet(&new.id);
        let outside = |name: &&String| !self.route(t).isr.contains(name);
        let any = new.members.iter().find(outside).cloned();
        if let Some(any) = any.filter(|_| new.primary != self.route(t).primary) {
            new.isr.push(any.clone());
            new.isr.sort();
            new.primary = Some(any);
        }
    }

    /// Tells a node the routes, unless it is not who it should be.
    fn announce(&mut self, i: usize) {
        if !self.is_known(i) {
            return;
        }
        for t in 0..self.plan.tablets {
            let route = self.route(t).clone();
            self.tell(&name(i), |node| Event::Configure { node, route });
        }
    }

    fn tell(&mut self, to: &str, event: impl FnOnce(usize) -> Event) {
        let node = number(to);
        let (store, event) = (self.nodes[node].store, Box::new(event(node)));
        self.send(self.master_place(), node, Event::Order { node, store, event });
    }

    /// A node tells the master how it is.
    pub fn report(&mut self, i: usize) {
        let (life, store) = (self.nodes[i].life, self.nodes[i].store);
        let report = self.nodes[i].report(&self.ids);
        self.send(i, self.master_place(), Event::Heartbeat { node: i, life, store, report });
    }

    pub fn beat(&mut self, i: usize, life: u64) {
        self.report(i);
        self.after(300 * MS, Event::Beat { node: i, life });
    }

    /// The first heartbeat of a node's life, or of the master's, says HELLO.
    pub fn heartbeat(&mut self, i: usize, life: u64, store: u64, report: Report) {
        if self.master.membership.is_none() || life < self.nodes[i].life {
            return;
        }
        let behind = |t: usize| report.tablets.get(t).map_or(0, |r| r.epoch) < self.route(t).epoch;
        let behind = report.state == NodeState::Alive && (0..self.plan.tablets).any(behind);
        let node = name(i);
        let input = match self.master.greeted.insert(i, life) == Some(life) {
            true => Input::Beat { node, report },
            false => {
                let boot_id = format!("{i}-{life}");
                Input::Hello { node, store_uuid: store_uuid(store), boot_id, report }
            }
        };
        self.tell_master(input);
        if behind {
            self.announce(i);
        }
    }

    /// What a replica asks of the master, on its way there.
    pub fn plead(&mut self, i: usize, t: usize, plea: Plea) {
        let epoch = self.epoch(i, t);
        let plea = match plea {
            Plea::Remove(node) => membership::Plea::Remove(node.to_string()),
            Plea::Add(node) => membership::Plea::Add(node.to_string()),
            Plea::NoLease => membership::Plea::NoLease,
            Plea::Tell => membership::Plea::Tell,
        };
        let (node, tablet) = (name(i), self.ids[t].clone());
        self.say(i, Input::Pleaded { node, tablet, epoch, plea });
    }

    /// A node tells the master something, if its disk is the one that is written down.
    pub fn say(&mut self, i: usize, input: Input) {
        if self.is_known(i) {
            self.send(i, self.master_place(), Event::Said(input));
        }
    }
}

fn store_uuid(store: u64) -> String {
    format!("store-{store}")
}
