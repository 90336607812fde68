//! Disks that lose their power, fail, fill up or hang, under real processes: the other nodes go on, and what was
//! acknowledged is there afterwards.

mod full;

use crate::harness::{Cluster, Disk, EndOnPanic, Text, Trace, eventually, long, noise, skipped};
use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Threads that write.
const WRITERS: usize = 4;
/// Rows that they write to: enough to meet every tablet.
const ROWS: usize = 12;
/// Acknowledged writes before a fault, and after it.
const BEFORE: usize = 150;
const AFTER: usize = 50;
/// Every so many values is a big one.
const BIG_EVERY: usize = 20;

/// A disk, unless the machine has none to give.
fn disk(test: &str, mib: u64) -> Option<Disk> {
    Disk::new(mib).map_err(|why| skipped(test, &why)).ok()
}

fn rounds() -> usize {
    if long() { 10 } else { 1 }
}

/// Three small-value tablets, so that every node has one.
fn three_tablets(configuration: &mut String) {
    *configuration = configuration.replace("small_tablets = 2", "small_tablets = 3");
}

/// People who write cells, each a new one, to whichever node answers.
struct Load<'a> {
    cluster: &'a Cluster,
    next: AtomicUsize,
    acknowledged: Mutex<Vec<usize>>,
    over: AtomicBool,
}

impl<'a> Load<'a> {
    fn new(cluster: &'a Cluster) -> Load<'a> {
        let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        Load { cluster, next, acknowledged: Mutex::default(), over }
    }

    /// Lets people write while something goes wrong.
    fn during(&self, fault: impl FnOnce()) {
        self.over.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            let _end = EndOnPanic(&self.over);
            (0..WRITERS).for_each(|_| drop(scope.spawn(|| self.write_on())));
            fault();
            self.over.store(true, Ordering::Relaxed);
        });
    }

    fn write_on(&self) {
        while !self.over.load(Ordering::Relaxed) {
            let i = self.next.fetch_add(1, Ordering::Relaxed);
            match self.write(i) {
                Ok(_) => self.acknowledged.lock().unwrap().push(i),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn write(&self, i: usize) -> std::io::Result<u64> {
        let (row, column) = cell(i);
        self.connect(i / ROWS)?.put(&row, &column, &value(i))
    }

    /// Connects to one node or the other.
    fn connect(&self, i: usize) -> std::io::Result<Text> {
        let nodes = self.cluster.backends();
        Text::connect(&self.cluster.address(&nodes[i % nodes.len()]))
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// Waits until so many more writes were acknowledged, some of them in each row.
    fn wait_for(&self, more: usize, when: &str) {
        let before = self.count();
        eventually(&format!("{more} writes in all rows after {when}"), || {
            let acknowledged = self.acknowledged.lock().unwrap();
            let new = &acknowledged[before..];
            let rows: BTreeSet<usize> = new.iter().map(|i| i % ROWS).collect();
            (new.len() >= more && rows.len() == ROWS).then_some(())
        });
    }

    /// Writes that were acknowledged and are not there.
    fn missing(&self) -> Vec<usize> {
        let mut connections: Vec<_> = (0..ROWS).map(|i| self.connect(i).unwrap()).collect();
        let acknowledged = self.acknowledged.lock().unwrap().clone();
        let mut is_missing = |i: &usize| {
            let (row, column) = cell(*i);
            let found = connections[i % ROWS].get(&row, &column).expect("an answer");
            let found = found.map(|(_, found)| found);
            assert!(found.is_none() || found == Some(value(*i)), "{row} {column} has changed");
            found.is_none()
        };
        acknowledged.into_iter().filter(|i| is_missing(i)).collect()
    }

    fn assert_whole(&self) {
        self.cluster.wait_in_service();
        let missing = self.missing();
        assert!(missing.is_empty(), "of {} writes {missing:?} are lost", self.count());
    }
}

/// Row and column of a write.
fn cell(i: usize) -> (String, String) {
    (format!("row{}", i % ROWS), format!("c{i}"))
}

/// What it writes: some bytes, now and then several cells of them.
fn value(i: usize) -> Vec<u8> {
    noise(i as u64, if i.is_multiple_of(BIG_EVERY) { 9_000 } else { 100 })
}

/// The sum of the versions of the tablets in which a node has one of these roles.
fn versions(cluster: &Cluster, name: &str, roles: &[&str]) -> u64 {
    let mut store = Text::connect(&cluster.address(name)).unwrap();
    let lines = store.lines("STATUS").unwrap();
    let version = |line: &String| {
        let (tablet, place) = line.strip_prefix("tablet ")?.split_once("; ")?;
        let role = place.split([' ', ',']).nth(1)?;
        let version = tablet.split(", ").find_map(|said| said.strip_prefix("version "))?;
        roles.contains(&role).then(|| version.parse::<u64>().expect("a number"))
    };
    lines.iter().filter_map(version).sum()
}

/// A fault where there is nothing shows nothing.
fn assert_holds_some(cluster: &Cluster, name: &str) {
    assert!(versions(cluster, name, &["primary", "replica"]) > 20, "{name} holds nothing");
}

#[test]
fn a_node_whose_power_is_cut_has_all_that_was_acknowledged() {
    let Some(disk) = disk("power cut of a node", 256) else { return };
    let cluster = Cluster::start_store_on(&[("a1", &disk)], three_tablets);
    let load = Load::new(&cluster);
    for _ in 0..rounds() {
        load.during(|| {
            load.wait_for(BEFORE, "the start");
            assert_holds_some(&cluster, "a1");
            disk.cut_power();
            assert_eq!(cluster.wait_end("a1"), Some(3), "its disk has failed");
            load.wait_for(AFTER, "the power cut of a node");
            disk.restore_power();
            cluster.start_again("a1");
            cluster.wait_in_service();
            load.wait_for(AFTER, "the power came back");
        });
        load.assert_whole();
    }
}

/// The store, each process of it on a disk of its own.
const STORE: [&str; 4] = ["m1", "a1", "a2", "a3"];

fn disks(test: &str) -> Option<[Disk; 4]> {
    let [m1, a1, a2, a3] = STORE.map(|_| disk(test, 128));
    Some([m1?, a1?, a2?, a3?])
}

fn start_on(disks: &[Disk; 4]) -> Cluster {
    let all: Vec<_> = STORE.into_iter().zip(disks).collect();
    Cluster::start_store_on(&all, three_tablets)
}

fn cut_power_of_all(cluster: &Cluster, disks: &[Disk; 4]) {
    disks.iter().for_each(Disk::cut_power);
    STORE.iter().for_each(|name| cluster.kill(name));
}

fn restore_power_of_all(cluster: &Cluster, disks: &[Disk; 4]) {
    disks.iter().for_each(Disk::restore_power);
    STORE.iter().for_each(|name| cluster.start_again(name));
}

#[test]
fn a_store_whose_power_is_cut_has_all_that_was_acknowledged() {
    let Some(disks) = disks("power cut of all nodes") else { return };
    let cluster = start_on(&disks);
    let load = Load::new(&cluster);
    for _ in 0..rounds() {
        load.during(|| {
            load.wait_for(BEFORE, "the start");
            cut_power_of_all(&cluster, &disks);
        });
        restore_power_of_all(&cluster, &disks);
        load.assert_whole();
    }
}

/// A sync that does nothing: if this store lost nothing either, the test above would prove nothing.
#[test]
fn a_store_that_does_not_sync_loses_what_was_acknowledged_before_a_power_cut() {
    let name = "power cut of a store that does not sync";
    let Some(disks) = disks(name) else { return };
    if !has_eatmydata() {
        return skipped(name, "there is no libeatmydata.so (Debian package eatmydata)");
    }
    let cluster = start_on(&disks);
    let load = Load::new(&cluster);
    load.during(|| load.wait_for(BEFORE, "the start"));
    let synced = load.acknowledged.lock().unwrap().clone();
    for name in STORE {
        cluster.kill(name);
        cluster.set_variable(name, "LD_PRELOAD", "libeatmydata.so");
        cluster.start_again(name);
    }
    cluster.wait_in_service();
    load.during(|| {
        load.wait_for(BEFORE, "the second start");
        cut_power_of_all(&cluster, &disks);
    });
    STORE.iter().for_each(|name| cluster.set_variable(name, "LD_PRELOAD", ""));
    restore_power_of_all(&cluster, &disks);
    cluster.wait_in_service();
    let missing = load.missing();
    assert!(!missing.is_empty(), "nothing is lost: the power cuts of these tests are none");
    assert!(missing.iter().all(|i| !synced.contains(i)), "what had been synced is lost too");
}

/// Whether the loader finds the library: where it does not it complains, and goes on without.
fn has_eatmydata() -> bool {
    let output = Command::new("true").env("LD_PRELOAD", "libeatmydata.so").output();
    output.expect("there is a command true").stderr.is_empty()
}

#[test]
fn a_node_whose_disk_fails_a_sync_ends_and_has_all_that_was_acknowledged() {
    let cluster = Cluster::start_store(three_tablets);
    let load = Load::new(&cluster);
    for _ in 0..rounds() {
        load.during(|| {
            load.wait_for(BEFORE, "the start");
            assert_holds_some(&cluster, "a1");
            match Trace::fail_syncs(cluster.pid("a1")) {
                Ok(_trace) => assert_eq!(cluster.wait_end("a1"), Some(3)),
                Err(why) => return skipped("a sync that fails", &why),
            }
            load.wait_for(AFTER, "a failed sync");
            cluster.start_again("a1");
            cluster.wait_in_service();
            load.wait_for(AFTER, "the node is back");
        });
        load.assert_whole();
    }
}

/// Each sync of a disk that hangs takes longer than any test waits.
const HANG: Duration = Duration::from_secs(300);

#[test]
fn a_node_whose_disk_hangs_answers_reads_and_goes_on_when_it_works_again() {
    let cluster = Cluster::start_store(three_tablets);
    let load = Load::new(&cluster);
    let row = row_on(&cluster, "a1");
    load.during(|| {
        load.wait_for(BEFORE, "the start");
        let trace = match Trace::delay_syncs(cluster.pid("a1"), HANG) {
            Ok(trace) => trace,
            Err(why) => return skipped("a disk that hangs", &why),
        };
        load.wait_for(AFTER, "a disk hangs");
        let mut store = Text::connect(&cluster.address("a1")).unwrap();
        eventually("a node whose disk hangs answers reads", || store.get(&row, "probe").ok());
        drop(trace);
        cluster.wait_in_service();
        load.wait_for(AFTER, "the disk works again");
    });
    load.assert_whole();
}

/// A primary that must write a new epoch down before it goes on, and cannot: it can tell nobody, but its node can.
#[test]
fn a_primary_whose_disk_hangs_at_a_new_epoch_is_replaced() {
    let cluster = Cluster::start_store(three_tablets);
    let load = Load::new(&cluster);
    load.during(|| {
        load.wait_for(BEFORE, "the start");
        let trace = match Trace::delay_syncs_of_metadata(cluster.pid("a1"), HANG) {
            Ok(trace) => trace,
            Err(why) => return skipped("a disk that hangs at a new epoch", &why),
        };
        load.wait_for(AFTER, "the log alone works");
        assert_holds_some(&cluster, "a1");
        cluster.kill("a2");
        load.wait_for(AFTER, "a new epoch that cannot be written down");
        eventually("it says why", || {
            let lines = Text::connect(&cluster.address("a1")).ok()?.lines("STATUS").ok()?;
            lines.iter().any(|line| line.ends_with("(the disk hangs)")).then_some(())
        });
        drop(trace);
        cluster.start_again("a2");
        cluster.wait_in_service();
        load.wait_for(AFTER, "the disk works again");
    });
    load.assert_whole();
}

/// A row whose tablet a node is primary of, with a cell `probe`.
fn row_on(cluster: &Cluster, name: &str) -> String {
    let mut store = Text::connect(&cluster.address(name)).unwrap();
    for row in (0..ROWS).map(|i| format!("row{i}")) {
        let before = versions(cluster, name, &["primary"]);
        store.put(&row, "probe", b"x").unwrap();
        if versions(cluster, name, &["primary"]) > before {
            return row;
        }
    }
    panic!("{name} is primary of no small-value tablet")
}
