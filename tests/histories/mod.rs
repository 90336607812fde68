//! Histories of real processes under faults: many clients write and read a few cells through all nodes while
//! processes are killed and paused and connections are cut; afterwards there must be one order of everything
//! that explains every answer, and all copies must be equal.
//!
//! `SEED=<n>` replays the faults of a seed (not the threads' interleaving).

mod client;
mod nemesis;

use crate::harness::proxy::Fault;
use crate::harness::{Cluster, EndOnPanic, Text, eventually, long};
use crate::linearizability::{Operation, Outcome, Random, Verdict, check};
use client::{CELLS, Caller, Cell, Records, cells};
use nemesis::Nemesis;
use penncloud::protocol::cluster::Routes;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Threads that ask.
const CLIENTS: usize = 16;
/// How long faults go on.
const SHORT: Duration = Duration::from_secs(22);
const LONG: Duration = Duration::from_secs(60);
/// Seeds of the long test.
const LONG_SEEDS: u64 = 5;

/// What the clients of one run share.
struct Scene {
    cluster: Cluster,
    began: Instant,
    cells: Vec<Cell>,
    /// For each cell what somebody read or wrote last: conditions that sometimes hold.
    seen: Vec<Mutex<(u64, String)>>,
    /// Answers while there was a fault, and at all.
    during_faults: AtomicUsize,
    answered: AtomicUsize,
    faulty: AtomicBool,
    over: AtomicBool,
}

impl Scene {
    fn start() -> Scene {
        Scene {
            cluster: Cluster::start_store(|_| {}),
            began: Instant::now(),
            cells: cells(),
            seen: (0..CELLS).map(|_| Mutex::default()).collect(),
            during_faults: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            faulty: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    /// Nanoseconds since the beginning.
    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }
}

#[test]
fn histories_under_faults_are_linearizable() {
    let one = std::env::var("SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seeds = match one {
        Some(seed) => seed..seed + 1,
        None if long() => 1..LONG_SEEDS + 1,
        None => 1..2,
    };
    seeds.for_each(run);
}

fn run(seed: u64) {
    let scene = Scene::start();
    let mut nemesis = Nemesis::new(&scene, seed);
    let mut records = std::thread::scope(|scope| {
        let _end = EndOnPanic(&scene.over);
        let client = |number| {
            let mut caller = Caller::new(&scene, number, Random::new(seed * 1000 + number as u64));
            scope.spawn(move || {
                let _end = EndOnPanic(&caller.scene().over);
                caller.work()
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(client).collect();
        nemesis.rage(if long() { LONG } else { SHORT });
        scene.over.store(true, Ordering::Relaxed);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect::<Records>()
    });
    records.extend(read_everything(&scene));
    report(&scene, seed, &records, nemesis.faults());
    check_history(&scene, seed, &records, nemesis.faults());
    let routes = scene.cluster.routes();
    let epochs: Vec<u64> = routes.tablets.iter().map(|tablet| tablet.epoch).collect();
    let copies = check_copies(&scene, &routes);
    println!("{copies} copies of each row are equal; epochs of the tablets: {epochs:?}");
    assert!(
        scene.during_faults.load(Ordering::Relaxed) > 0,
        "nothing worked while there were faults"
    );
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

/// In peace, every cell is read from every node.
fn read_everything(scene: &Scene) -> Records {
    let mut caller = Caller::new(scene, CLIENTS, Random::new(0));
    let nodes = scene.cluster.backends();
    let all = nodes.iter().flat_map(|node| (0..CELLS).map(move |cell| (node, cell)));
    all.map(|(node, cell)| (cell, caller.read_at(node, cell))).collect()
}

fn report(scene: &Scene, seed: u64, records: &Records, faults: &[String]) {
    let count = |outcome: Outcome| records.iter().filter(|(_, op)| op.outcome == outcome).count();
    println!(
        "seed {seed}: {} operations, {} answered ({} of them during faults), {} unknown, {} refused, {} faults",
        records.len(),
        scene.answered.load(Ordering::Relaxed),
        scene.during_faults.load(Ordering::Relaxed),
        count(Outcome::Unknown),
        count(Outcome::Refused),
        faults.len(),
    );
}

fn check_history(scene: &Scene, seed: u64, records: &Records, faults: &[String]) {
    let mut by_cell: BTreeMap<usize, Vec<Operation>> = BTreeMap::new();
    for (cell, op) in records {
        by_cell.entry(*cell).or_default().push(op.clone());
    }
    for (cell, history) in by_cell {
        let why = match check(&history) {
            Verdict::Linearizable => continue,
            Verdict::Undecided => "the checker gave up: this proves nothing".to_string(),
            Verdict::Violation(why) => why,
        };
        let Cell { row, column, .. } = &scene.cells[cell];
        panic!("seed {seed}, {row} {column}: {why}\nfaults:\n{}", faults.join("\n"));
    }
}

/// Every node's own copy of every row is the same, once they have caught up, and there are as many as the row's
/// tablet has members; how many that are at least.
fn check_copies(scene: &Scene, routes: &Routes) -> usize {
    let copies = scene.cells.iter().map(|Cell { row, .. }| {
        let members =
            routes.tablet_of_row(row.as_bytes()).expect("a tablet of each row").members.len();
        eventually(&format!("the {members} copies of {row} are equal"), || {
            let copies = copies_of(scene, row).ok()?;
            (copies.len() == members && copies.windows(2).all(|two| two[0] == two[1]))
                .then_some(members)
        })
    });
    copies.min().expect("there are cells")
}

/// Of every node that holds a row: its columns with their versions and values.
fn copies_of(scene: &Scene, row: &str) -> std::io::Result<Vec<Vec<String>>> {
    let nodes = scene.cluster.backends();
    let copies = nodes.iter().map(|name| scene.cluster.copy_at(name, row).transpose());
    copies.flatten().collect()
}
