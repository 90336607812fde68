//! The world: time, network, faults, clients and the master around the nodes.

use super::check::Observer;
use super::clients::{Asked, Client, Told};
use super::master::Master;
use super::node::Node;
use super::plan::{Plan, Random, Switches};
use super::values::Values;
use penncloud::master::membership;
use penncloud::protocol::cluster::{Report, TabletRoute};
use penncloud::replication::{Configuration, DiskSpace, Input, Message, Reads, Timing};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

pub const MS: u64 = 1000;
pub const SECOND: u64 = 1_000_000;
/// Faults happen until here, then there is peace.
pub const FAULTS_UNTIL: u64 = 20 * SECOND;
/// By then everything has come back.
pub const WHOLE_AT: u64 = FAULTS_UNTIL + 10 * SECOND;
/// Clients begin nothing after this: all have been answered, or have given up, when everything has come back.
pub const CLIENTS_UNTIL: u64 = 25 * SECOND;
const END: u64 = 33 * SECOND;
/// With big values it takes longer until the last chunks are gone.
const END_OF_VALUES: u64 = 45 * SECOND;
pub const CLIENTS: usize = 4;

const TIMING: Timing = Timing {
    reads: Reads::Lease,
    lease: 2 * SECOND,
    grace: 2500 * MS,
    beacon: 400 * MS,
    silence: SECOND,
    keep: 30,
    keep_bytes: 0,
    batch: 16,
    batch_bytes: 2000,
    window_bytes: 8000,
};

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub answered: u64,
    pub unknown: u64,
    pub reads: u64,
    pub epochs: u64,
    pub clean: u64,
    pub values: u64,
    pub no_space: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.answered += other.answered;
        self.unknown += other.unknown;
        self.reads += other.reads;
        self.epochs += other.epochs;
        self.clean += other.clean;
        self.values += other.values;
        self.no_space += other.no_space;
    }
}

#[derive(Clone, Debug)]
pub enum Event {
    Deliver {
        from: usize,
        stores: (u64, u64),
        to: usize,
        t: usize,
        message: Message,
    },
    /// From the master, on a connection to a process with this disk.
    Order {
        node: usize,
        store: u64,
        event: Box<Event>,
    },
    /// Entries are read back from the log on disk, for a member.
    ReadBack {
        node: usize,
        life: u64,
        t: usize,
        member: penncloud::replication::Node,
        after: u64,
        last: u64,
    },
    /// The log thread has done what it was at.
    Worked {
        node: usize,
        life: u64,
        t: usize,
    },
    Hung {
        node: usize,
        life: u64,
        t: usize,
    },
    /// The end of a round: what a replica has to say is said.
    Speak {
        node: usize,
        life: u64,
        t: usize,
    },
    Tick {
        node: usize,
        life: u64,
    },
    /// The master asks how a node is.
    Report {
        node: usize,
    },
    Beat {
        node: usize,
        life: u64,
    },
    Sweep {
        node: usize,
        life: u64,
    },
    MasterTick {
        life: u64,
    },
    MasterSynced {
        life: u64,
    },
    Heartbeat {
        node: usize,
        life: u64,
        store: u64,
        report: Report,
    },
    Said(membership::Input),
    Configure {
        node: usize,
        route: TabletRoute,
    },
    Seal {
        node: usize,
        route: TabletRoute,
    },
    Resign {
        node: usize,
        t: usize,
        epoch: u64,
    },
    Serve {
        node: usize,
        serves: bool,
    },
    WakeUp {
        node: usize,
    },
    Client {
        client: usize,
    },
    Again {
        client: usize,
        seq: u64,
    },
    Request {
        node: usize,
        asked: Arc<Asked>,
        hops: u8,
    },
    Check {
        node: usize,
        life: u64,
        asked: Arc<Asked>,
        copied: Told,
        lease_until: u64,
    },
    Told {
        asked: Arc<Asked>,
        told: Told,
    },
    Write {
        writer: usize,
        seq: u64,
    },
    Read {
        reader: usize,
    },
    Start {
        node: usize,
    },
    Replace {
        node: usize,
    },
    MasterStart,
    Fault,
    Heal {
        cuts: Vec<(usize, usize)>,
    },
    Isolate {
        node: usize,
    },
    /// A node, or its links, goes and comes again and again.
    Flap {
        node: usize,
        dies: bool,
        left: u32,
    },
    /// The room on a node's disk is this now.
    Space {
        node: usize,
        space: DiskSpace,
    },
    /// Chunks that nothing shows must be on their way out.
    Leaks,
    /// Everything must have come back.
    Whole,
    Clock {
        node: usize,
    },
}

/// Everything.
pub struct World {
    pub random: Random,
    pub switches: Switches,
    pub plan: Plan,
    pub now: u64,
    order: u64,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    what: BTreeMap<u64, Event>,
    pub ids: Vec<String>,
    pub nodes: Vec<Node>,
    pub tokens: BTreeMap<(usize, u64), Arc<Asked>>,
    pub next_token: u64,
    pub master: Master,
    pub clients: Vec<Client>,
    pub values: Values,
    pub cuts: BTreeMap<(usize, usize), u32>,
    pub observers: Vec<Observer>,
    /// Every configuration that was ever on the master's disk, by tablet and epoch.
    pub registers: Vec<BTreeMap<u64, TabletRoute>>,
    failure: Option<String>,
    pub tally: Tally,
}

/// Place of a node, by its name.
pub fn number(name: &str) -> usize {
    name[1..].parse::<usize>().expect("nodes have numbers") - 1
}

pub fn name(i: usize) -> String {
    format!("n{}", i + 1)
}

impl World {
    pub fn new(seed: u64, switches: Switches, plan: Plan) -> World {
        let mut random = Random(seed.wrapping_mul(0x1234_5678_9abc_def1));
        let nodes = (0..plan.nodes).map(|i| Node::new(&mut random, i, &switches, plan)).collect();
        let mut world = World {
            random,
            switches,
            plan,
            now: 0,
            order: 0,
            events: BinaryHeap::new(),
            what: BTreeMap::new(),
            ids: ["a-s0", "a-l0"][..plan.tablets].iter().map(|id| id.to_string()).collect(),
            nodes,
            tokens: BTreeMap::new(),
            next_token: 0,
            master: World::new_master(plan),
            clients: (0..CLIENTS).map(Client::new).collect(),
            values: Values::default(),
            cuts: BTreeMap::new(),
            observers: (0..plan.tablets).map(|_| Observer::default()).collect(),
            registers: vec![BTreeMap::new(); plan.tablets],
            failure: None,
            tally: Tally::default(),
        };
        (0..plan.tablets).for_each(|t| world.note_register(t));
        (0..plan.nodes).for_each(|i| world.start(i));
        world.start_master();
        (0..CLIENTS).for_each(|client| world.at(500 * MS, Event::Client { client }));
        world.begin_values();
        world.at(1500 * MS, Event::Fault);
        world.at(WHOLE_AT, Event::Whole);
        world
    }

    pub fn timing(&self) -> Timing {
        Timing { reads: self.plan.reads, ..TIMING }
    }

    pub fn end(&self) -> u64 {
        if self.plan.tablets > 1 { END_OF_VALUES } else { END }
    }

    pub fn run(mut self) -> Result<Tally, String> {
        while let Some(Reverse((at, order))) = self.events.pop() {
            if at > self.end() && (self.is_finished().is_ok() || at > self.end() + SECOND) {
                break;
            }
            self.now = at;
            let event = self.what.remove(&order).expect("every queued event is kept");
            self.handle(event);
            if let Some(why) = self.failure.take() {
                return Err(format!("at {} ms: {why}", self.now / MS));
            }
        }
        self.is_finished()?;
        self.check_values_at_end()?;
        Ok(self.tally)
    }

    pub fn fail(&mut self, checked: Result<(), String>) {
        if let (Err(why), None) = (checked, &self.failure) {
            self.failure = Some(why);
        }
    }

    pub fn at(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.events.push(Reverse((at.max(self.now), self.order)));
        self.what.insert(self.order, event);
    }

    pub fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    pub fn is_peace(&self) -> bool {
        self.now >= FAULTS_UNTIL
    }

    /// A length of time that ends with the faults, at the latest.
    pub fn until_peace(&self, length: u64) -> u64 {
        length.min(FAULTS_UNTIL.saturating_sub(self.now))
    }

    /// The master's place in the network.
    pub fn master_place(&self) -> usize {
        self.plan.nodes
    }

    /// Sends over the network: late, twice, or not at all.
    pub fn send(&mut self, from: usize, to: usize, event: Event) {
        let peace = self.is_peace();
        let lost = !peace && self.random.chance(self.plan.loss_percent);
        if self.cuts.contains_key(&(from, to)) || lost {
            return;
        }
        let longest = if self.plan.tablets > 1 { SECOND } else { 4 * SECOND };
        let twice = !peace && !matches!(event, Event::Request { .. }) && self.random.chance(1);
        let copies = if twice { 2 } else { 1 };
        for _ in 0..copies {
            let delay = if !peace && self.plan.long_delays && self.random.below(300) == 0 {
                self.random.between(10 * MS, longest)
            } else {
                self.random.between(200, 3 * MS)
            };
            self.after(delay, event.clone());
        }
    }

    /// The node that an event happens on.
    fn place(event: &Event) -> Option<usize> {
        match event {
            Event::Deliver { to, .. } => Some(*to),
            Event::Order { node, .. }
            | Event::Tick { node, .. }
            | Event::Beat { node, .. }
            | Event::Report { node }
            | Event::Sweep { node, .. }
            | Event::Hung { node, .. }
            | Event::Speak { node, .. }
            | Event::Worked { node, .. }
            | Event::ReadBack { node, .. }
            | Event::Configure { node, .. }
            | Event::Seal { node, .. }
            | Event::Resign { node, .. }
            | Event::Request { node, .. }
            | Event::Check { node, .. } => Some(*node),
            _ => None,
        }
    }

    fn handle(&mut self, event: Event) {
        let is_for_master = matches!(
            event,
            Event::MasterTick { .. }
                | Event::MasterSynced { .. }
                | Event::Heartbeat { .. }
                | Event::Said(_)
        );
        if is_for_master && self.master.paused_until > self.now {
            let at = self.master.paused_until + self.random.below(MS);
            return self.at(at, event);
        }
        if let Some(i) = World::place(&event) {
            let node = &self.nodes[i];
            if node.paused_until > self.now {
                let reader = matches!(event, Event::Check { .. });
                let at = node.paused_until + if reader { 0 } else { self.random.below(MS) };
                return self.at(at, event);
            }
            let says_so = node.shut_down && matches!(event, Event::Beat { .. });
            let serves_again = matches!(event, Event::Order { .. });
            if !node.is_up() && !says_so && !serves_again {
                return;
            }
        }
        self.dispatch(event);
    }

    fn dispatch(&mut self, event: Event) {
        let lives = |world: &World, node: usize, life: u64| world.nodes[node].life == life;
        match event {
            Event::Deliver { from, stores, to, t, message } => {
                self.deliver(from, stores, to, t, message)
            }
            Event::Order { node, store, event } => {
                if self.nodes[node].store == store {
                    self.handle(*event);
                }
            }
            Event::Tick { node, life } if lives(self, node, life) => self.tick(node, life),
            Event::Worked { node, life, t } if lives(self, node, life) => self.worked(node, t),
            Event::ReadBack { node, life, t, member, after, last } if lives(self, node, life) => {
                self.read_back(node, t, (member, after, last))
            }
            Event::Speak { node, life, t } if lives(self, node, life) => self.speak(node, t),
            Event::Hung { node, life, t } if lives(self, node, life) => self.hung(node, t),
            Event::Report { node } => self.report(node),
            Event::Beat { node, life } if lives(self, node, life) => self.beat(node, life),
            Event::Sweep { node, life } if lives(self, node, life) => self.sweep(node, life),
            Event::Check { node, life, asked, copied, lease_until } if lives(self, node, life) => {
                self.check(node, asked, copied, lease_until)
            }
            Event::Tick { .. } | Event::Worked { .. } | Event::Hung { .. } => {}
            Event::Beat { .. } | Event::Sweep { .. } => {}
            Event::Check { .. } | Event::Speak { .. } | Event::ReadBack { .. } => {}
            Event::MasterTick { life } => self.master_tick(life),
            Event::MasterSynced { life } => self.master_synced(life),
            Event::Heartbeat { node, life, store, report } => {
                self.heartbeat(node, life, store, report)
            }
            Event::Said(input) => self.tell_master(input),
            Event::Configure { node, route } => {
                let t = self.tablet(&route.id);
                self.step(node, t, Input::Configure(Configuration::of(&route)))
            }
            Event::Seal { node, route } => {
                let t = self.tablet(&route.id);
                self.step(node, t, Input::Seal(Configuration::of(&route)))
            }
            Event::Resign { node, t, epoch } => self.step(node, t, Input::Resign(epoch)),
            Event::Serve { node, serves } => self.serve(node, serves),
            Event::WakeUp { node } => self.wake_up(node),
            Event::Client { client } => self.begin(client),
            Event::Again { client, seq } => self.again(client, seq),
            Event::Request { node, asked, hops } => self.request(node, asked, hops),
            Event::Told { asked, told } => self.told(&asked, told),
            Event::Write { writer, seq } => self.write_on(writer, seq),
            Event::Read { reader } => self.read_on(reader),
            Event::Start { node } => self.start(node),
            Event::Replace { node } => self.replace_disk(node),
            Event::MasterStart => self.start_master(),
            Event::Fault => self.fault(),
            Event::Heal { cuts } => self.heal(&cuts),
            Event::Isolate { node } => self.isolate(node, true, true),
            Event::Flap { node, dies, left } => self.flap(node, dies, left),
            Event::Space { node, space } => self.nodes[node].space = space,
            Event::Leaks => self.look_for_leaks(),
            Event::Whole => self.check_peace(),
            Event::Clock { node } => {
                let rate = self.nodes[node].usual_rate;
                self.nodes[node].set_rate(self.now, rate);
            }
        }
    }

    /// The place of a tablet.
    pub fn tablet(&self, id: &str) -> usize {
        self.ids.iter().position(|known| known == id).expect("tablets are known")
    }
}
