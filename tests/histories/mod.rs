//! Histories of real processes under faults: many clients write and read a few cells, and rows that are written
//! together, through all nodes while processes are killed and paused and connections are cut; afterwards there must
//! be one order of everything that explains every answer, and all copies must be equal.
//!
//! `SEED=<n>` replays the faults of a seed (not the threads' interleaving).

mod cells;
mod client;
mod nemesis;
mod rows;

use crate::harness::proxy::Fault;
use crate::harness::{Cluster, EndOnPanic, Text, eventually, long};
use crate::linearizability::{Operation, Outcome, Random, Register, Rows, Verdict, check};
use cells::Cell;
use client::Caller;
pub use client::Records;
use nemesis::Nemesis;
use penncloud::protocol::cluster::Routes;
use rows::Owner;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Threads that ask.
const CLIENTS: usize = 16;
/// Those of them who ask any node, also where some ask the node of the host that they live on.
const TRAVELLERS: usize = 10;
/// How long faults go on.
const SHORT: Duration = Duration::from_secs(22);
const LONG: Duration = Duration::from_secs(60);
/// Seeds of the long test.
const LONG_SEEDS: u64 = 5;

/// What a history is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// The single cell of this number.
    Cell(usize),
    /// The rows that an owner has in one generation.
    Rows { owner: usize, generation: usize },
}

/// The last instants at which somebody asked for a read, and for a write, that was answered.
#[derive(Default)]
pub struct Answered([AtomicU64; 2]);

/// What the clients of one run share.
pub struct Scene {
    /// The store that they ask.
    pub cluster: Cluster,
    began: Instant,
    cells: Vec<Cell>,
    owners: Vec<Owner>,
    /// Answers while there was a fault, and at all.
    answers: [AtomicUsize; 2],
    faulty: AtomicBool,
    over: AtomicBool,
}

impl Scene {
    /// Before the first request.
    pub fn new(cluster: Cluster) -> Scene {
        Scene {
            cluster,
            began: Instant::now(),
            cells: cells::cells(),
            owners: rows::owners(),
            answers: Default::default(),
            faulty: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    /// Nanoseconds since the beginning.
    pub fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Whether the run is over, because it was long enough or because somebody has failed.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Says whether there are faults now.
    pub fn set_faulty(&self, is_faulty: bool) {
        self.faulty.store(is_faulty, Ordering::Relaxed);
    }

    /// Waits until every cell, and rows of every owner, were read and written by somebody who asked after an instant.
    pub fn wait_for_answers(&self, since: u64, when: &str) {
        eventually(&format!("all is read and written: {when}"), || {
            let cells = self.cells.iter().map(|cell| &cell.answered);
            let all = cells.chain(self.owners.iter().map(|owner| &owner.answered));
            let mut last = all.flat_map(|Answered(at)| at).map(|at| at.load(Ordering::Relaxed));
            (self.is_over() || last.all(|at| at > since)).then_some(())
        });
    }

    /// Counts an answer.
    fn count(&self, object: Object, op: &Operation) {
        let Answered(at) = match object {
            Object::Cell(cell) => &self.cells[cell].answered,
            Object::Rows { owner, .. } => &self.owners[owner].answered,
        };
        at[usize::from(!op.action.reads())].fetch_max(op.began, Ordering::Relaxed);
        self.answers[1].fetch_add(1, Ordering::Relaxed);
        let faulty = usize::from(self.faulty.load(Ordering::Relaxed));
        self.answers[0].fetch_add(faulty, Ordering::Relaxed);
    }

    /// Lets all clients know what somebody saw.
    fn note(&self, object: Object, op: &Operation) {
        match object {
            Object::Cell(cell) => self.cells[cell].note(op),
            Object::Rows { owner, .. } => self.owners[owner].note(op),
        }
    }

    /// All rows that may have been written.
    fn rows(&self) -> Vec<String> {
        let cells = self.cells.iter().map(|cell| cell.row().to_string());
        let rows = self.owners.iter().flat_map(|owner| {
            (0..owner.generations()).flat_map(|g| owner.rows(g)).map(|row| row.to_string())
        });
        cells.chain(rows).collect()
    }

    /// Lets the clients ask for as long as something goes on, and then reads everything.
    pub fn record(&self, seed: u64, rage: impl FnOnce()) -> Records {
        let mut records = std::thread::scope(|scope| {
            let _end = EndOnPanic(&self.over);
            let client = |number| {
                let random = Random::new(seed * 1000 + number as u64);
                let mut caller = Caller::new(self, number, home_of(self, number), random);
                scope.spawn(move || {
                    let _end = EndOnPanic(&self.over);
                    caller.go_home();
                    caller.work()
                })
            };
            let clients: Vec<_> = (0..CLIENTS).map(client).collect();
            rage();
            self.over.store(true, Ordering::Relaxed);
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect::<Records>()
        });
        records.extend(read_everything(self));
        records
    }

    /// There is one order that explains every answer, and all copies are equal.
    pub fn verify(&self, seed: u64, records: &Records, faults: &[String]) {
        report(self, seed, records, faults);
        check_history(self, seed, records, faults);
        let routes = self.cluster.routes();
        let epochs: Vec<u64> = routes.tablets.iter().map(|tablet| tablet.epoch).collect();
        let copies = check_copies(self, &routes);
        println!("{copies} copies of each row are equal; epochs of the tablets: {epochs:?}");
        let during_faults = self.answers[0].load(Ordering::Relaxed);
        assert!(during_faults > 0, "nothing worked while there were faults");
    }
}

/// Where the nodes have hosts of their own, some clients live there and ask that node alone: where a client lives.
pub fn home_of(scene: &Scene, client: usize) -> Option<String> {
    scene.cluster.hosts()?;
    let nodes = scene.cluster.backends();
    let at = client.checked_sub(TRAVELLERS)?;
    (client < CLIENTS).then(|| nodes[at % nodes.len()].clone())
}

/// The seeds of a run: the one that is asked for, or so many.
pub fn seeds(count: u64) -> std::ops::Range<u64> {
    match std::env::var("SEED").ok().map(|seed| seed.parse().expect("a number")) {
        Some(seed) => seed..seed + 1,
        None => 1..count + 1,
    }
}

#[test]
fn histories_under_faults_are_linearizable() {
    seeds(if long() { LONG_SEEDS } else { 1 }).for_each(|seed| {
        let scene = Scene::new(Cluster::start_store(|_| {}));
        let mut nemesis = Nemesis::new(&scene, seed);
        let records = scene.record(seed, || nemesis.rage(if long() { LONG } else { SHORT }));
        scene.verify(seed, &records, nemesis.faults());
    });
}

/// A first try that is held up on its way is not executed once its repeat was told that the condition does not
/// hold, though it holds by then.
#[test]
fn a_repeat_that_was_told_mismatch_is_never_executed() {
    let cluster = Cluster::start_store(|_| {});
    let text = |name: &str| Text::connect(&cluster.address(name)).unwrap();
    let group = text("m1").ask("WHERE alice").unwrap();
    let primary = group.split(' ').nth(2).unwrap().to_string();
    let other = cluster.backends().into_iter().find(|name| *name != primary).unwrap();
    let version = text(&primary).put("alice", "c", b"a").unwrap();
    let session = uuid::Uuid::now_v7().simple();
    let request = format!("CPUT alice c 1 1 client={session} req=1 low=1");
    let mut first = text(&other);
    assert_eq!(first.get("alice", "c").unwrap().unwrap().0, version);
    cluster.network().set(&other, &primary, Fault::Stall);
    first.send(format!("{request}\nbx\n")).unwrap();
    let passed_on = || cluster.network().holds(&other, &primary).then_some(());
    eventually("the first try is on its way", passed_on);
    let repeat = text(&primary).ask(format!("{request} retry=1\nbx")).unwrap();
    assert_eq!(repeat, format!("MISMATCH {version}"));
    text(&primary).put("alice", "c", b"b").unwrap();
    cluster.network().heal();
    let late = first.line().unwrap();
    assert_eq!(late, repeat);
    assert_eq!(text(&primary).get("alice", "c").unwrap().unwrap().1, b"b");
}

/// In peace, everything is read from every node.
fn read_everything(scene: &Scene) -> Records {
    let mut caller = Caller::new(scene, CLIENTS, None, Random::new(0));
    let cells = (0..).zip(&scene.cells).map(|(i, cell)| cell.read(Object::Cell(i)));
    let owners = (0..).zip(&scene.owners).flat_map(|(i, owner)| owner.scans(i));
    let requests: Vec<_> = cells.chain(owners).collect();
    let nodes = scene.cluster.backends();
    let all = nodes.iter().flat_map(|node| requests.iter().map(move |request| (node, request)));
    all.map(|(node, request)| (request.object, caller.read_at(node, request))).collect()
}

fn report(scene: &Scene, seed: u64, records: &Records, faults: &[String]) {
    let count = |outcome: Outcome| records.iter().filter(|(_, op)| op.outcome == outcome).count();
    println!(
        "seed {seed}: {} operations, {} answered ({} of them during faults), {} unknown, {} refused, {} faults",
        records.len(),
        scene.answers[1].load(Ordering::Relaxed),
        scene.answers[0].load(Ordering::Relaxed),
        count(Outcome::Unknown),
        count(Outcome::Refused),
        faults.len(),
    );
}

fn check_history(scene: &Scene, seed: u64, records: &Records, faults: &[String]) {
    let mut by_object: BTreeMap<Object, Vec<Operation>> = BTreeMap::new();
    for (object, op) in records {
        by_object.entry(*object).or_default().push(op.clone());
    }
    let longest = by_object.values().map(Vec::len).max().unwrap_or(0);
    println!("{} histories, the longest of {longest} operations", by_object.len());
    for (object, history) in by_object {
        let (name, verdict) = match object {
            Object::Cell(cell) => (scene.cells[cell].name.clone(), check::<Register>(&history)),
            Object::Rows { owner, generation } => {
                (scene.owners[owner].rows(generation).join(" and "), check::<Rows>(&history))
            }
        };
        let why = match verdict {
            Verdict::Linearizable => continue,
            Verdict::Undecided => "the checker gave up: this proves nothing".to_string(),
            Verdict::Violation(why) => why,
        };
        panic!("seed {seed}, {name}: {why}\nfaults:\n{}", faults.join("\n"));
    }
}

/// Every node's own copy of every row is the same, once they have caught up, and there are as many as the row's
/// tablet has members; how many that are at least.
fn check_copies(scene: &Scene, routes: &Routes) -> usize {
    let rows = scene.rows();
    let copies = rows.iter().map(|row| {
        let members =
            routes.tablet_of_row(row.as_bytes()).expect("a tablet of each row").members.len();
        eventually(&format!("the {members} copies of {row} are equal"), || {
            let copies = copies_of(scene, row).ok()?;
            (copies.len() == members && copies.windows(2).all(|two| two[0] == two[1]))
                .then_some(members)
        })
    });
    copies.min().expect("there are rows")
}

/// Of every node that holds a row: its columns with their versions and values.
fn copies_of(scene: &Scene, row: &str) -> std::io::Result<Vec<Vec<String>>> {
    let nodes = scene.cluster.backends();
    let copies = nodes.iter().map(|name| scene.cluster.copy_at(name, row).transpose());
    copies.flatten().collect()
}
