//! Histories of real processes on hosts of their own (network namespaces), whose packets are lost on the way, in one
//! direction or both, or answered by resets, and whose cables are pulled: what was never delivered is repeated by
//! TCP itself, and nobody is told that a connection is dead.
//!
//! Three of the hosts are the backends', and some clients live there: they still reach their node when nobody else
//! does. `SEED=<n>` replays the faults of a seed of the long test.

use crate::harness::configuration::STORE;
use crate::harness::{Cluster, Hosts, Loss, eventually, long, skipped};
use crate::histories::{Records, Scene, home_of, seeds};
use crate::linearizability::{Outcome, Random};
use penncloud::protocol::cluster::TabletRoute;
use std::sync::Arc;
use std::time::{Duration, Instant};

const MASTER: &str = STORE[0];
/// The host of the clients who live nowhere else.
const PEOPLE: &str = "people";
/// A fault goes on for so long after the others have gone on.
const SETTLED: Duration = Duration::from_millis(500);
/// What lasts so long outlives heartbeats, leases and promises.
const OUTLIVED: Duration = Duration::from_millis(4500);
/// How long random faults go on in the long test, after one of each kind.
const STORM: Duration = Duration::from_secs(120);
/// Seeds of the long test.
const LONG_SEEDS: u64 = 2;
/// The most packets that are lost by chance, in a hundred.
const PERCENT_MAX: u64 = 30;

/// Something that goes wrong with the network around a backend, and maybe one other.
struct Fault {
    name: &'static str,
    strike: fn(&Hosts, &str, &str),
    kind: Kind,
}

#[derive(PartialEq)]
enum Kind {
    /// Nothing that the node asks of others is answered.
    Silences,
    /// Nobody reaches the master.
    Unmastered,
    /// Some cannot reach some others.
    Hinders,
}

const DEAF: Fault = Fault {
    name: "hears nothing, and is heard",
    strike: |hosts, node, _| others(hosts, node).for_each(|o| hosts.lose(o, node, Loss::All)),
    kind: Kind::Silences,
};

const FAULTS: [Fault; 9] = [
    Fault {
        name: "is cut off from all others",
        strike: |hosts, node, _| lose_to_and_from(hosts, node, Loss::All),
        kind: Kind::Silences,
    },
    Fault {
        name: "and another cannot reach one another, both reach the master",
        strike: |hosts, node, other| hosts.lose_between(node, other, Loss::All),
        kind: Kind::Hinders,
    },
    Fault {
        name: "is not heard, and hears all",
        strike: |hosts, node, _| others(hosts, node).for_each(|o| hosts.lose(node, o, Loss::All)),
        kind: Kind::Silences,
    },
    DEAF,
    Fault {
        name: "and another are reset whatever they send to one another",
        strike: |hosts, node, other| hosts.lose_between(node, other, Loss::Reset),
        kind: Kind::Hinders,
    },
    Fault {
        name: "goes on, as all others, and the master is cut off from everybody",
        strike: |hosts, _, _| lose_to_and_from(hosts, MASTER, Loss::All),
        kind: Kind::Unmastered,
    },
    Fault {
        name: "has its cable pulled",
        strike: |hosts, node, _| hosts.unplug(node),
        kind: Kind::Silences,
    },
    Fault {
        name: "has its interface taken down",
        strike: |hosts, node, _| hosts.take_down(node),
        kind: Kind::Silences,
    },
    Fault {
        name: "gets no acknowledgements from another",
        strike: |hosts, node, other| hosts.lose(other, node, Loss::With("@ACK")),
        kind: Kind::Hinders,
    },
];

fn others<'a>(hosts: &'a Hosts, node: &str) -> impl Iterator<Item = &'a str> {
    hosts.names().filter(move |name| *name != node)
}

fn lose_to_and_from(hosts: &Hosts, node: &str, loss: Loss) {
    others(hosts, node).for_each(|other| hosts.lose_between(node, other, loss));
}

/// Somebody who makes faults, one after the other.
struct Nemesis<'a> {
    scene: &'a Scene,
    hosts: &'a Hosts,
    random: Random,
    /// What was done, and when.
    notes: Vec<String>,
    silences: Vec<Silence>,
}

/// From when until when nothing was answered that a node asked of others.
struct Silence {
    node: String,
    from: u64,
    until: u64,
}

impl<'a> Nemesis<'a> {
    fn new(scene: &'a Scene, seed: u64) -> Nemesis<'a> {
        let hosts = scene.cluster.hosts().expect("the nodes have hosts");
        let (notes, silences) = (Vec::new(), Vec::new());
        Nemesis { scene, hosts, random: Random::new(seed), notes, silences }
    }

    fn note(&mut self, what: String) {
        self.notes.push(format!("{:>10.3} {what}", self.scene.now() as f64 / 1e6));
    }

    /// A primary's host and that of another in-sync replica.
    fn primary_and_replica(&mut self) -> (String, String) {
        eventually("a primary has an in-sync replica", || {
            let routes = self.scene.cluster.routes();
            let tablet = self.random.one_of(&routes.tablets);
            let primary = tablet.primary.clone()?;
            let others: Vec<_> = tablet.isr.iter().filter(|n| **n != primary).cloned().collect();
            (!others.is_empty()).then(|| (primary, self.random.one_of(&others).clone()))
        })
    }

    /// One fault, when all is well.
    fn prove(&mut self, fault: &Fault) {
        self.scene.cluster.wait_in_sync();
        self.prove_now(fault);
    }

    /// One fault when two replicas are left: the primary must not be left as the last that may lead.
    fn prove_with_two_left(&mut self, fault: &Fault) {
        self.scene.cluster.wait_in_sync();
        let (_, away) = self.primary_and_replica();
        self.note(format!("{away} is away"));
        self.hosts.unplug(&away);
        eventually(&format!("the others go on without {away}"), || {
            let routes = self.scene.cluster.routes();
            let is_out = |tablet: &TabletRoute| !tablet.isr.contains(&away);
            routes.tablets.iter().all(is_out).then_some(())
        });
        self.prove_now(fault);
    }

    /// One fault, in which all others go on; and its end, after which everybody does.
    fn prove_now(&mut self, fault: &Fault) {
        let (node, other) = self.primary_and_replica();
        self.strike(fault, &node, &other);
        let from = self.scene.now();
        if fault.kind == Kind::Unmastered {
            std::thread::sleep(OUTLIVED);
        }
        self.scene.wait_for_answers(self.scene.now(), fault.name);
        std::thread::sleep(SETTLED);
        let until = self.scene.now();
        if fault.kind == Kind::Silences {
            self.silences.push(Silence { node, from, until });
        }
        self.heal();
        self.scene.cluster.wait_in_service();
    }

    /// Random faults for a while, one or two at a time.
    fn rage(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end && !self.scene.is_over() {
            for _ in 0..self.random.between(1, 3) {
                self.strike_at_random();
            }
            match self.random.chance(40) {
                true => self.rest(OUTLIVED, OUTLIVED + Duration::from_secs(2)),
                false => self.rest(Duration::from_millis(200), Duration::from_millis(2500)),
            }
            self.heal();
            self.rest(Duration::from_millis(100), Duration::from_secs(2));
        }
        self.scene.cluster.wait_in_service();
    }

    fn strike_at_random(&mut self) {
        let backends = self.scene.cluster.backends();
        let node = self.random.one_of(&backends).clone();
        let rest: Vec<_> = backends.into_iter().filter(|name| *name != node).collect();
        let other = self.random.one_of(&rest).clone();
        if self.random.chance(10) {
            let percent = self.random.between(1, PERCENT_MAX) as u8;
            self.note(format!("{percent} in 100 packets to and from {node} are lost"));
            self.scene.set_faulty(true);
            lose_to_and_from(self.hosts, &node, Loss::Percent(percent));
        } else {
            let fault = self.random.one_of(&FAULTS);
            self.strike(fault, &node, &other);
        }
    }

    fn strike(&mut self, fault: &Fault, node: &str, other: &str) {
        self.note(format!("{node} {} ({other})", fault.name));
        self.scene.set_faulty(true);
        (fault.strike)(self.hosts, node, other);
    }

    fn heal(&mut self) {
        self.note("all is mended".into());
        self.scene.set_faulty(false);
        self.hosts.heal();
    }

    fn rest(&mut self, low: Duration, high: Duration) {
        let (low, high) = (low.as_micros() as u64, high.as_micros() as u64);
        std::thread::sleep(Duration::from_micros(self.random.between(low, high)));
    }

    /// A node that nobody answers has acknowledged no write, and once its leases had run out it answered nothing at
    /// all: how often those who live there asked it in vain. Until then a primary may say what it reads, also to
    /// those who ask for a write whose condition does not hold.
    fn verify_silences(&self, records: &Records) -> usize {
        let lease = self.scene.cluster.config().replication.lease_ms * 1_000_000;
        let mut asked_in_vain = 0;
        for Silence { node, from, until } in &self.silences {
            let there = records.iter().map(|(_, op)| op).filter(|op| {
                let lives_there = home_of(self.scene, op.client).as_ref() == Some(node);
                lives_there && op.began > *from && op.began < *until
            });
            for op in there {
                let is_late = op.began > from + lease;
                let is_wrong = match op.outcome {
                    Outcome::Ok(_) | Outcome::Made(..) => true,
                    Outcome::Unknown | Outcome::Refused => false,
                    _ => is_late,
                };
                let faults = self.notes.join("\n");
                assert!(!(is_wrong && op.ended < *until), "{node}: {op}\nfaults:\n{faults}");
                asked_in_vain += usize::from(is_late || !op.action.reads());
            }
        }
        asked_in_vain
    }
}

/// Runs something on the clients' host, with a store on hosts of its own.
fn on_hosts(test: &str, run: impl FnOnce(&Scene) + Send) {
    let names: Vec<&str> = STORE.into_iter().chain([PEOPLE]).collect();
    match Hosts::new(&names).map(Arc::new) {
        Ok(hosts) => {
            hosts.within(PEOPLE, || run(&Scene::new(Cluster::start_store_at(hosts.clone()))))
        }
        Err(why) => skipped(test, &why),
    }
}

#[test]
fn histories_over_faulty_networks_are_linearizable() {
    for seed in seeds(if long() { LONG_SEEDS } else { 1 }) {
        on_hosts("histories over the networks of hosts", |scene| {
            let mut nemesis = Nemesis::new(scene, seed);
            let records = scene.record(seed, || {
                FAULTS.iter().for_each(|fault| nemesis.prove(fault));
                nemesis.prove_with_two_left(&DEAF);
                if long() {
                    nemesis.rage(STORM);
                }
            });
            scene.verify(seed, &records, &nemesis.notes);
            let asked_in_vain = nemesis.verify_silences(&records);
            println!("{asked_in_vain} times a silenced node was asked in vain");
            assert!(asked_in_vain > 0, "nobody asked a node that was silenced");
        });
    }
}
