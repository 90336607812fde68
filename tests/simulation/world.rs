//! The world: time, network, faults, clients and the master around the replicas.

use super::check::Observer;
use super::node::{Disk, Node};
use penncloud::master::election::Election;
use penncloud::protocol::cell::{Key, Value};
use penncloud::protocol::cluster::{Class, TabletRoute};
use penncloud::protocol::command::Op;
use penncloud::protocol::entry::Effect;
use penncloud::replication::{
    Configuration, DiskSpace, Input, Message, Outcome, Plea, Position, Reads, Rules, Setting,
    Table, Timing,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

pub(super) const MS: u64 = 1000;
pub(super) const SECOND: u64 = 1_000_000;
/// Faults happen until here, then there is peace.
pub(super) const FAULTS_UNTIL: u64 = 25 * SECOND;
/// Clients begin nothing after this.
pub(super) const CLIENTS_UNTIL: u64 = 36 * SECOND;
pub(super) const END: u64 = 43 * SECOND;
/// How long a client waits for an operation.
pub(super) const PATIENCE: u64 = 5 * SECOND;
pub(super) const CLIENTS: usize = 4;
/// The client that sends once and waits: retries would hide stale reads.
pub(super) const PATIENT: usize = CLIENTS - 1;
pub(super) const SILENT_MS: u64 = 1500;

pub(super) const TIMING: Timing = Timing {
    reads: Reads::Lease,
    lease: 2 * SECOND,
    grace: 2500 * MS,
    beacon: 400 * MS,
    silence: SECOND,
    keep: 30,
    keep_bytes: 0,
    catch_up_bytes: 20_000,
    batch: 16,
    batch_bytes: 2000,
    window_bytes: 8000,
};

/// What a seed's run is like.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub(super) nodes: usize,
    pub(super) min_insync: u32,
    pub(super) loss_percent: u64,
    pub(super) long_delays: bool,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Plan {
        let mut random = Random(seed ^ 0x9e37);
        Plan {
            nodes: [3, 3, 3, 2, 5][random.below(5) as usize],
            min_insync: 1 + random.below(2) as u32,
            loss_percent: random.below(9),
            long_delays: random.chance(50),
        }
    }
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub answered: u64,
    pub unknown: u64,
    pub reads: u64,
    pub epochs: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.answered += other.answered;
        self.unknown += other.unknown;
        self.reads += other.reads;
        self.epochs += other.epochs;
    }
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low)
    }
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Clone, Debug)]
pub(super) enum Event {
    Deliver { from: usize, to: usize, message: Message },
    Synced { node: usize, life: u64, n: usize },
    Installed { node: usize, life: u64 },
    Tick { node: usize, life: u64 },
    Beat { node: usize, life: u64 },
    MasterTick,
    Heartbeat { node: usize, life: u64, epoch: u64, sealed: u64 },
    Sealed { node: usize, epoch: u64, end: Position },
    Pleaded { node: usize, epoch: u64, plea: Plea },
    Configure { node: usize, route: TabletRoute },
    Seal { node: usize, route: TabletRoute },
    Client { client: usize },
    Again { client: usize, seq: u64 },
    Request { node: usize, client: usize, seq: u64, hops: u8, retry: bool },
    Check { node: usize, life: u64, client: usize, seq: u64, copied: Option<Vec<u8>> },
    Told { client: usize, seq: u64, told: Told },
    Start { node: usize },
    MasterStart,
    Fault,
    Heal { cuts: Vec<(usize, usize)> },
}

#[derive(Clone, Debug)]
pub(super) enum Told {
    Value(Option<Vec<u8>>),
    Outcome(Outcome),
    Retry,
}

#[derive(Clone, Debug)]
pub(super) enum Ask {
    Get,
    Write(Op),
}

pub(super) struct Doing {
    pub(super) seq: u64,
    pub(super) key: Key,
    pub(super) ask: Ask,
    pub(super) began: u64,
    pub(super) deadline: u64,
    /// Whether some try was not refused definitely.
    pub(super) open: bool,
    pub(super) sent: bool,
    pub(super) waits: bool,
}

pub(super) struct Client {
    pub(super) id: u128,
    pub(super) seq: u64,
    pub(super) doing: Option<Doing>,
}

pub(super) struct Master {
    pub(super) up: bool,
    pub(super) route: TabletRoute,
    pub(super) election: Option<Election>,
    pub(super) heard: BTreeMap<usize, (u64, u64)>,
}

/// Everything.
pub struct World {
    pub(super) random: Random,
    pub(super) rules: Rules,
    pub(super) plan: Plan,
    pub(super) now: u64,
    pub(super) order: u64,
    pub(super) events: BinaryHeap<Reverse<(u64, u64)>>,
    pub(super) what: BTreeMap<u64, Event>,
    pub(super) nodes: Vec<Node>,
    pub(super) seen: Vec<u64>,
    pub(super) tokens: Vec<BTreeMap<u64, (usize, u64)>>,
    pub(super) next_token: u64,
    pub(super) master: Master,
    pub(super) clients: Vec<Client>,
    pub(super) cuts: BTreeMap<(usize, usize), u32>,
    pub(super) observer: Observer,
    pub(super) failure: Option<String>,
    pub(super) tally: Tally,
}

/// Place of a node, by its name.
pub(super) fn number(name: &str) -> usize {
    name[1..].parse::<usize>().expect("nodes have numbers") - 1
}

pub(super) fn name(i: usize) -> String {
    format!("n{}", i + 1)
}

impl World {
    pub fn new(seed: u64, rules: Rules, plan: Plan) -> World {
        let mut random = Random(seed.wrapping_mul(0x1234_5678_9abc_def1));
        let members: Vec<String> = (0..plan.nodes).map(name).collect();
        let route = TabletRoute {
            id: "a-s0".into(),
            group: "a".into(),
            class: Class::Small,
            index: 0,
            epoch: 1,
            primary: Some(name(0)),
            isr: members.clone(),
            members,
            min_insync: plan.min_insync,
            clean: false,
        };
        let node = |random: &mut Random, i: usize| Node {
            name: name(i).into(),
            disk: Disk::default(),
            replica: None,
            life: 0,
            paused_until: 0,
            stalled_until: 0,
            syncing: false,
            offset: random.below(1000) * SECOND + SECOND,
            rate: random.between(900, 1101),
        };
        let nodes = (0..plan.nodes).map(|i| node(&mut random, i)).collect();
        let clients =
            (0..CLIENTS).map(|i| Client { id: i as u128 + 1, seq: 0, doing: None }).collect();
        let mut world = World {
            random,
            rules,
            plan,
            now: 0,
            order: 0,
            events: BinaryHeap::new(),
            what: BTreeMap::new(),
            nodes,
            seen: vec![0; plan.nodes],
            tokens: vec![BTreeMap::new(); plan.nodes],
            next_token: 0,
            master: Master { up: true, route, election: None, heard: BTreeMap::new() },
            clients,
            cuts: BTreeMap::new(),
            observer: Observer::default(),
            failure: None,
            tally: Tally::default(),
        };
        for i in 0..plan.nodes {
            world.start(i);
            world.master.heard.insert(i, (0, 1));
        }
        world.at(0, Event::MasterTick);
        (0..CLIENTS).for_each(|client| world.at(1000 * MS, Event::Client { client }));
        world.at(2 * SECOND, Event::Fault);
        world
    }

    pub fn run(mut self) -> Result<Tally, String> {
        while let Some(Reverse((at, order))) = self.events.pop() {
            if at > END {
                break;
            }
            self.now = at;
            let event = self.what.remove(&order).expect("every queued event is kept");
            self.handle(event);
            if let Some(why) = self.failure.take() {
                return Err(format!("at {} ms: {why}", self.now / MS));
            }
        }
        self.finish()
    }

    pub(super) fn fail(&mut self, checked: Result<(), String>) {
        if let (Err(why), None) = (checked, &self.failure) {
            self.failure = Some(why);
        }
    }

    pub(super) fn at(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.events.push(Reverse((at.max(self.now), self.order)));
        self.what.insert(self.order, event);
    }

    pub(super) fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    /// The master's place in the network.
    pub(super) fn master_place(&self) -> usize {
        self.plan.nodes
    }

    /// Sends over the network: late, twice, or not at all.
    pub(super) fn send(&mut self, from: usize, to: usize, event: Event) {
        let peace = self.now >= FAULTS_UNTIL;
        if self.cuts.contains_key(&(from, to))
            || (!peace && self.random.chance(self.plan.loss_percent))
        {
            return;
        }
        let copies = if !peace && self.random.chance(1) { 2 } else { 1 };
        for _ in 0..copies {
            let delay = if !peace && self.plan.long_delays && self.random.below(300) == 0 {
                self.random.between(10 * MS, 4 * SECOND)
            } else {
                self.random.between(200, 3 * MS)
            };
            self.after(delay, event.clone());
        }
    }

    /// The node that an event happens on.
    pub(super) fn place(event: &Event) -> Option<usize> {
        match event {
            Event::Deliver { to, .. } => Some(*to),
            Event::Tick { node, .. }
            | Event::Beat { node, .. }
            | Event::Configure { node, .. }
            | Event::Seal { node, .. }
            | Event::Request { node, .. }
            | Event::Check { node, .. } => Some(*node),
            _ => None,
        }
    }

    pub(super) fn handle(&mut self, event: Event) {
        if let Some(i) = World::place(&event) {
            let node = &self.nodes[i];
            if node.paused_until > self.now {
                let reader = matches!(event, Event::Check { .. });
                let at = node.paused_until + if reader { 0 } else { self.random.below(MS) };
                return self.at(at, event);
            }
            if node.replica.is_none() {
                return;
            }
        }
        match event {
            Event::Deliver { from, to, message } => {
                let from = self.nodes[from].name.clone();
                self.step(to, Input::Message(from, message));
            }
            Event::Synced { node, life, n } => self.synced(node, life, n),
            Event::Installed { node, life } => self.installed(node, life),
            Event::Tick { node, life } if self.nodes[node].life == life => {
                self.step(node, Input::Tick);
                self.after(50 * MS, Event::Tick { node, life });
            }
            Event::Beat { node, life } if self.nodes[node].life == life => self.beat(node, life),
            Event::MasterTick => self.master_tick(),
            Event::Heartbeat { node, life, epoch, sealed } => {
                self.heartbeat(node, life, epoch, sealed)
            }
            Event::Sealed { node, epoch, end } => self.sealed(node, epoch, end),
            Event::Pleaded { node, epoch, plea } => self.pleaded(node, epoch, plea),
            Event::Configure { node, route } => {
                self.step(node, Input::Configure(Configuration::of(&route)))
            }
            Event::Seal { node, route } => self.step(node, Input::Seal(Configuration::of(&route))),
            Event::Client { client } => self.begin(client),
            Event::Again { client, seq } => self.again(client, seq),
            Event::Request { node, client, seq, hops, retry } => {
                self.request(node, client, seq, hops, retry)
            }
            Event::Check { node, life, client, seq, copied } => {
                self.check(node, life, client, seq, copied)
            }
            Event::Told { client, seq, told } => self.told(client, seq, told),
            Event::Start { node } => self.start(node),
            Event::MasterStart => self.start_master(),
            Event::Fault => self.fault(),
            Event::Heal { cuts } => self.heal(&cuts),
            Event::Tick { .. } | Event::Beat { .. } => {}
        }
    }

    /// In peace everything comes back: one primary, all members in sync, all logs equal, all clients answered.
    pub(super) fn finish(self) -> Result<Tally, String> {
        self.observer.finish()?;
        let route = &self.master.route;
        if route.isr != route.members {
            let state: Vec<String> = self.nodes.iter().map(describe).collect();
            return Err(format!(
                "in peace the in-sync set is {:?} of {:?}: {state:?}",
                route.isr, route.members
            ));
        }
        for i in 0..self.plan.nodes {
            let Some(replica) = &self.nodes[i].replica else {
                return Err(format!("{} is still dead", name(i)));
            };
            if replica.committed().version != self.observer.version() {
                return Err(format!(
                    "{} has not everything: {}",
                    name(i),
                    describe(&self.nodes[i])
                ));
            }
        }
        if let Some(client) = self.clients.iter().find(|c| c.doing.is_some()) {
            return Err(format!("client {} still waits", client.id));
        }
        Ok(self.tally)
    }
}

pub(super) fn describe(node: &Node) -> String {
    match &node.replica {
        None => format!("{} dead", node.name),
        Some(r) => format!(
            "{} epoch {} sealed {} end {:?} committed {} leads {}",
            node.name,
            r.configuration().epoch,
            r.sealed_epoch(),
            r.end(),
            r.committed().version,
            r.leads()
        ),
    }
}

pub(super) fn setting(now: u64) -> Setting {
    Setting {
        now: now / MS,
        stage_ms: 1000,
        retire_ms: 1000,
        tablet_bytes_max: 1 << 30,
        disk_space: DiskSpace::Enough,
    }
}

pub(super) fn value(table: &Table, key: &Key) -> Option<Vec<u8>> {
    match &table.get(key)?.value {
        Value::Inline(bytes) => Some(bytes.to_vec()),
        Value::Big(_) => None,
    }
}

pub(super) fn value_of(table: &Table, column: &[u8]) -> Option<Vec<u8>> {
    value(table, &Key::new(b"alice", column))
}

/// Whether effects touch a key.
pub(super) fn touches(effects: &[Effect], key: &Key) -> bool {
    effects.iter().any(|effect| match effect {
        Effect::Put { key: k, .. } | Effect::Delete(k) => k == key,
        Effect::DeleteRow { row, .. } => *row == key.row,
        _ => false,
    })
}
