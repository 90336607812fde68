//! The production master over a simulated store: a restart loses everything but what was written. While a record is
//! being synced the master does nothing else; if it dies meanwhile, the record is there afterwards, or it is not.

use super::plan::Plan;
use super::world::*;
use penncloud::master::membership::{self, Input, Membership, Output};
use penncloud::master::record::{NodeRecord, Record};
use penncloud::protocol::cluster::{Class, GroupRoute, NodeState, Report, SlotRange, TabletRoute};
use penncloud::replication::Plea;
use std::collections::{BTreeMap, VecDeque};

/// Silence after which the master takes a node for dead, in milliseconds.
const SILENT_MS: u64 = 1500;

/// The master.
pub struct Master {
    /// None: it is dead.
    pub membership: Option<Membership>,
    pub life: u64,
    /// What the configuration store holds: each record, and the revision at which it was written.
    pub store: BTreeMap<String, (Record, u64)>,
    revision: u64,
    /// Records that are written and not synced: one at most.
    unsynced: VecDeque<Record>,
    /// What is done when they are on disk.
    todo: VecDeque<Output>,
    /// What is heard meanwhile.
    heard: VecDeque<Input>,
    /// Nothing happens to it before (SIGSTOP).
    pub paused_until: u64,
    /// The life of each node that has said HELLO to this master.
    greeted: BTreeMap<usize, u64>,
}

/// Words heard that wait for the disk; one more is lost, as in the production master's queue.
const HEARD_MAX: usize = 1024;

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
        Master {
            membership: None,
            life: 0,
            store,
            revision: 1,
            unsynced: VecDeque::new(),
            todo: VecDeque::new(),
            heard: VecDeque::new(),
            paused_until: 0,
            greeted: BTreeMap::new(),
        }
    }

    fn now_ms(&self) -> u64 {
        self.now / MS
    }

    pub fn stop_master(&mut self) {
        if self.master.membership.take().is_none() {
            return;
        }
        let unsynced = std::mem::take(&mut self.master.unsynced);
        let written = self.random.below(unsynced.len() as u64 + 1) as usize;
        unsynced.into_iter().take(written).for_each(|record| self.write_down(record));
        self.master.todo.clear();
        self.master.heard.clear();
        self.master.paused_until = 0;
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

    /// Takes down for the observer what a tablet's register holds.
    pub fn note_register(&mut self, t: usize) {
        let route = self.route(t).clone();
        self.registers[t].insert(route.epoch, route);
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
        self.disk_of(&name(i)) == Some(&store_uuid(self.nodes[i].store))
    }

    /// The disk that is written down for a node.
    pub fn disk_of(&self, node: &str) -> Option<&String> {
        match &self.master.store[&format!("node/{node}")].0 {
            Record::Node(node) => node.store_uuid.as_ref(),
            other => unreachable!("{other:?} is no node"),
        }
    }

    /// Tells the master, now or when its disk has done its work.
    pub fn tell_master(&mut self, input: Input) {
        if self.master.membership.is_some() && self.master.heard.len() < HEARD_MAX {
            self.master.heard.push_back(input);
            self.go_on_as_master();
        }
    }

    /// Performs outputs in order, what follows from one before the next, until there is something to wait for.
    fn go_on_as_master(&mut self) {
        while self.master.unsynced.is_empty() || !self.switches.register_synced {
            if let Some(output) = self.master.todo.pop_front() {
                self.perform_for_master(output);
                continue;
            }
            let Some(input) = self.master.heard.pop_front() else { return };
            let outputs = self.think_as_master(input);
            self.master.todo.extend(outputs);
        }
    }

    fn think_as_master(&mut self, input: Input) -> Vec<Output> {
        let now = self.now_ms();
        self.master.membership.as_mut().map_or(Vec::new(), |m| m.step(now, input))
    }

    fn perform_for_master(&mut self, output: Output) {
        match output {
            Output::Cas(record, revision) => self.compare_and_swap(record, revision),
            Output::Announce => (0..self.plan.nodes).for_each(|i| self.announce(i)),
            Output::Tell(node) => self.announce(number(&node)),
            Output::Beat(node) => self.tell(&node, |node| Event::Report { node }),
            Output::Seal(node, route) => {
                let checked = self.check_told(&route);
                self.fail(checked);
                self.tell(&node, |node| Event::Seal { node, route });
            }
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
            Output::Log(..) | Output::Keep(..) => {}
        }
    }

    /// Begins to write a record; drops what was judged by tables that are no more.
    fn compare_and_swap(&mut self, mut record: Record, revision: u64) {
        if self.revision_of(&record.key()) != revision {
            return self.master.todo.clear();
        }
        if let (Record::Tablet(new), false) = (&mut record, self.switches.promote_from_isr) {
            self.promote_anyone(new);
        }
        let slow = !self.is_peace() && self.random.chance(2);
        let delay = self.random.between(100, if slow { SECOND } else { 4 * MS });
        self.after(delay, Event::MasterSynced { life: self.master.life });
        self.master.unsynced.push_back(record.clone());
        if !self.switches.register_synced {
            self.take_as_written(record);
        }
    }

    fn revision_of(&self, key: &str) -> u64 {
        let unsynced = self.master.unsynced.iter().rposition(|record| record.key() == key);
        let synced = self.master.store.get(key).map_or(0, |(_, revision)| *revision);
        unsynced.map_or(synced, |at| self.master.revision + at as u64 + 1)
    }

    /// A record is on disk: now it may be told.
    pub fn master_synced(&mut self, life: u64) {
        if self.master.life != life {
            return;
        }
        let Some(record) = self.master.unsynced.pop_front() else { return };
        self.write_down(record.clone());
        if self.switches.register_synced {
            self.take_as_written(record);
        }
        self.go_on_as_master();
    }

    /// What follows from a record comes before what was to be done after it.
    fn take_as_written(&mut self, record: Record) {
        let revision = self.master.revision + self.master.unsynced.len() as u64;
        let outputs = self.think_as_master(Input::Stored { record, revision });
        outputs.into_iter().rev().for_each(|output| self.master.todo.push_front(output));
    }

    fn write_down(&mut self, record: Record) {
        let checked = match &record {
            Record::Tablet(new) => {
                let t = self.tablet(&new.id);
                let checked = self.check_change(t, self.route(t), new);
                self.tally.epochs += 1;
                self.tally.clean += u64::from(new.clean);
                self.registers[t].insert(new.epoch, new.clone());
                checked
            }
            Record::Node(node) => self.check_disk(node),
            Record::Register { .. } | Record::Group(_) | Record::Slots { .. } => Ok(()),
        };
        self.fail(checked);
        self.master.revision += 1;
        self.master.store.insert(record.key(), (record, self.master.revision));
        self.check_all_durable();
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
        let Some(membership) = self.master.membership.as_ref().filter(|_| self.is_known(i)) else {
            return;
        };
        for route in membership.routes().tablets {
            let checked = self.check_told(&route);
            self.fail(checked);
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
        if !self.switches.disks_told_apart && !self.is_known(i) {
            self.take_any_disk(i);
        }
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

    /// The rule off: whatever disk a node has is written down as the one that it had.
    fn take_any_disk(&mut self, i: usize) {
        let (record, _) = &self.master.store[&format!("node/{}", name(i))];
        if let Record::Node(known) = record.clone() {
            let store_uuid = Some(store_uuid(self.nodes[i].store));
            self.write_down(Record::Node(NodeRecord { store_uuid, ..known }));
        }
    }

    /// What a replica asks of the master, on its way there.
    pub fn plead(&mut self, i: usize, t: usize, epoch: u64, plea: Plea) {
        let plea = match plea {
            Plea::Remove(node) => membership::Plea::Remove(node.to_string()),
            Plea::Add(_) if !self.switches.adds => return,
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
