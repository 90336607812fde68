//! What a tablet does around its replica.

use super::*;
use crate::backend::disk::Task;
use crate::backend::links::Links;
use crate::backend::master_line::MasterLine;
use crate::backend::memory::Memory;
use crate::backend::room::Room;
use crate::backend::surroundings::{Turn, timing};
use crate::config;
use crate::storage::Ballast;
use std::sync::atomic::AtomicU64;

fn surroundings(node: &str, dir: &Path) -> Surroundings {
    Surroundings {
        node: node.into(),
        limits: config::Store { segment_bytes: 1 << 20, ..config::Store::default() },
        timing: timing(&config::Replication::default(), 64 << 20),
        free_bytes: Arc::new(AtomicU64::new(u64::MAX)),
        memory: Arc::new(Memory::new(64 << 20)),
        freeing: Turn::default(),
        merging: Turn::default(),
        room: Arc::new(Room::new(Ballast::new(dir, 1 << 20))),
        links: Arc::new(Links::new(Vec::new(), 0)),
        master: MasterLine::new(node).0,
        snapshots: Arc::default(),
    }
}

fn alone(epoch: u64) -> Configuration {
    let alone = BTreeSet::from(["a1".into()]);
    let primary = Some("a1".into());
    Configuration {
        epoch,
        primary,
        isr: alone.clone(),
        members: alone,
        min_insync: 1,
        clean: false,
    }
}

fn bytes_in(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).expect("a tablet's directory");
    files.map(|file| file.and_then(|f| f.metadata()).map_or(0, |m| m.len())).sum()
}

#[test]
fn a_low_disk_gets_back_what_was_deleted() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let deadline = Instant::now() + Duration::from_secs(60);
    let around = surroundings("a1", dir.path());
    let reserve = around.limits.disk_reserve_bytes;
    let tablet = Tablet::open("a-s0", dir.path(), &around).expect("opened");
    tablet.tell(Event::Configure(alone(1)));
    while tablet.serving(deadline).is_err() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    let write = |op: Op| {
        let write = Write { ops: vec![op], single: true, options: Options::default() };
        assert!(matches!(tablet.propose(write, deadline), Outcome::Done(_)));
    };
    for n in 0..40 {
        let (row, column) = (b"r".to_vec(), format!("c{n}").into_bytes());
        let value = vec![7; 256 << 10];
        write(Op::Put { row, column, value, if_version: None, ttl: None });
    }
    write(Op::DeleteRow { row: b"r".to_vec() });
    assert!(bytes_in(dir.path()) > 10 << 20);
    around.free_bytes.store(reserve - 1, Ordering::Relaxed);
    while bytes_in(dir.path()) > 3 << 20 {
        assert!(Instant::now() < deadline, "{} bytes are kept", bytes_in(dir.path()));
        std::thread::yield_now();
    }
    assert!(tablet.close(Duration::from_secs(60)), "its files are let go");
}

/// The cells of a tablet that has none.
fn cells(dir: &Path) -> Arc<storage::Checkpointer> {
    let cache = Arc::new(storage::Cache::new(1 << 20));
    storage::open(dir, &storage::Options { segment_bytes: 1 << 20, cache }).expect("opened").cells
}

#[test]
fn a_primary_begins_until_an_entry_of_its_epoch_is_committed() {
    let view = |role, epoch| {
        let mut view = View { configuration: Arc::new(alone(2)), role, ..View::default() };
        view.table.epoch = epoch;
        view
    };
    assert!(view(Role::Primary, 1).begins());
    assert!(!view(Role::Primary, 2).begins());
    assert!(!view(Role::Replica, 1).begins());
}

#[test]
fn a_primary_serves_nothing_before_its_first_entry_is_on_disk() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let around = surroundings("a1", dir.path());
    let (to_log, tasks) = tray();
    let rules = (Rules::ALL, around.timing);
    let (adopted, table) = (Default::default(), Table::default());
    let replica = Replica::recover("a1".into(), rules, boot_time(), adopted, table, Vec::new());
    let shared = Shared::new("a-s0", cells(dir.path()));
    let mut shell = Shell::new("a-s0", &around, replica, to_log, Weak::new(), shared);
    for epoch in 1..=128 {
        shell.hear(Event::Configure(alone(epoch)));
    }
    let view = shell.view().read().expect("nobody panics").clone();
    assert_eq!(view.role, Role::Primary, "it is not sealed");
    assert_eq!(view.lease_until, 0, "and it serves nothing");
    let appended = |task: &Task| matches!(task, Task::Append(_));
    let entries = tasks.take(|_| 1, 1000).unwrap_or_default().into_iter().filter(appended).count();
    assert_eq!(entries, 128, "one for each epoch is on its way to the disk");
    shell.hear(Event::Persisted(Done { version: 128, adopted: 128, ..Done::default() }));
    let view = shell.view().read().expect("nobody panics").clone();
    assert_eq!(view.lease_until, Time::MAX, "alone it needs no lease");
}

#[test]
fn a_disk_that_hangs_is_reported() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut around = surroundings("a1", dir.path());
    around.timing.lease = 20_000;
    let tablet = Tablet::open("a-s0", dir.path(), &around).expect("opened");
    let before = tablet.report();
    assert_eq!(before.problem, None);
    let deadline = Instant::now() + Duration::from_secs(60);
    tablet.busy.during(|| {
        while tablet.report().role != Role::Stuck {
            assert!(Instant::now() < deadline, "nobody sees that it hangs");
        }
        assert_eq!(tablet.report().problem.as_deref(), Some(HANGS));
    });
    while tablet.report() != before {
        assert!(Instant::now() < deadline, "{:?}", tablet.report());
    }
    assert!(tablet.close(Duration::from_secs(60)), "its files are let go");
}

#[test]
fn nobody_hears_of_an_epoch_before_it_is_on_disk() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let around = surroundings("a1", dir.path());
    let rules = (Rules::ALL, around.timing);
    let (adopted, table) = (Default::default(), Table::default());
    let replica = Replica::recover("a1".into(), rules, boot_time(), adopted, table, Vec::new());
    let (to_log, _tasks) = tray();
    let shared = Shared::new("a-s0", cells(dir.path()));
    let mut shell = Shell::new("a-s0", &around, replica, to_log, Weak::new(), shared);
    shell.hear(Event::Configure(alone(1)));
    let mut put = || {
        let (answer, outcome) = slot();
        let (row, column, value) = (b"r".to_vec(), b"c".to_vec(), b"v".to_vec());
        let op = Op::Put { row, column, value, if_version: None, ttl: None };
        let write = Write { ops: vec![op], single: true, options: Options::default() };
        shell.write(write, answer);
        outcome
    };
    let (first, second) = (put(), put());
    let entries = Done { version: 3, ..Done::default() };
    shell.hear(Event::Persisted(entries));
    assert_eq!(first.wait_until(Instant::now()), Err(Nothing::Late), "the epoch is not on disk");
    shell.hear(Event::Persisted(Done { adopted: 1, ..entries }));
    let outcome = second.wait_until(Instant::now() + Duration::from_secs(10));
    assert!(matches!(outcome, Ok(Outcome::Done(_))), "{outcome:?}");
}
