//! What the tests of this layer share.

use crate::protocol::entry::{Answer, Entry};

/// An entry of epoch 1 whose answer has one word of `bytes` bytes.
pub fn entry(version: u64, bytes: usize) -> Entry {
    let word = vec![version as u8; bytes];
    Entry {
        epoch: 1,
        version,
        prev_epoch: u64::from(version > 1),
        retire: 0,
        request: None,
        answer: Answer { version, words: vec![word.into()] },
        effects: vec![],
    }
}

use super::*;
use std::sync::LazyLock;

/// Small segments: rolls are frequent.
static SMALL: LazyLock<Options> = LazyLock::new(|| options(16 << 10));

/// Options with a small cache.
pub fn options(segment_bytes: u64) -> Options {
    Options { segment_bytes, cache: Arc::new(Cache::new(1 << 20)) }
}

/// A log with one synced entry.
fn log_of_one(dir: &Path) -> Log {
    let mut log = open(dir, &SMALL).expect("opened").log;
    log.append(&[entry(1, 10)]).expect("appended");
    log.sync().expect("synced");
    log
}

/// Every call is refused, and what had been synced is there.
fn assert_stopped(mut log: Log, dir: &Path) {
    for refused in
        [log.append(&[entry(2, 10)]), log.sync(), log.truncate_before(1, 0), log.truncate_after(1)]
    {
        let Err(Error::Io(_, why)) = refused else { panic!("the log goes on: {refused:?}") };
        assert!(why.starts_with("the log stopped earlier"), "{why}");
    }
    drop(log);
    let found: Vec<_> = open(dir, &SMALL).expect("opened").entries.collect();
    assert_eq!(found, [Ok(entry(1, 10))]);
}

#[test]
fn spares_are_given_back_to_the_disk_all_but_the_next() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = options(1 << 20);
    let mut log = open(dir.path(), &options).expect("opened").log;
    for version in 1..=10 {
        log.append(&[entry(version, 600 << 10)]).expect("appended");
    }
    log.sync().expect("synced");
    log.truncate_before(10, 0).expect("truncated");
    let spares = || file::numbered(dir.path(), "spare").expect("listed").len();
    assert!(spares() > 1);
    log.trim_spares().expect("trimmed");
    assert!(spares() <= 1);
    log.append(&[entry(11, 600 << 10)]).expect("the log goes on");
    log.sync().expect("synced");
}

#[test]
fn what_replicas_that_lag_may_need_stays_in_the_log() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = options(256 << 10);
    let mut log = open(dir.path(), &options).expect("opened").log;
    let versions = |log: &Log, after| {
        let entries = log.entries_after(after).expect("the log reaches back so far");
        entries.map(|entry| entry.expect("whole").version).collect::<Vec<_>>()
    };
    for version in 1..=20 {
        log.append(&[entry(version, 100 << 10)]).expect("appended");
    }
    log.sync().expect("synced");
    let (at, totals) = (Position { epoch: 1, version: 19 }, Default::default());
    let cells = open(&dir.path().join("other"), &options).expect("opened").cells;
    log.truncate_before(19, 1 << 20).expect("truncated");
    let start = log.start().version;
    assert!((8..=12).contains(&start), "the log begins after {start}");
    assert_eq!(versions(&log, start), (start + 1..=20).collect::<Vec<_>>());
    assert_eq!(versions(&log, 15), [16, 17, 18, 19, 20]);
    drop((log, cells));
    let recovered = open(dir.path(), &options);
    assert!(recovered.is_err(), "without a checkpoint the log has a gap");
    let cells = open(&dir.path().join("third"), &options).expect("opened").cells;
    cells.flush(at, totals, [].into_iter(), [].into_iter()).expect("written");
    let name = "checkpoint-0000000000000013";
    std::fs::copy(dir.path().join("third").join(name), dir.path().join(name)).expect("copied");
    let recovered = open(dir.path(), &options).expect("opened");
    assert_eq!(recovered.entries.map(|e| e.expect("whole").version).collect::<Vec<_>>(), [20]);
    assert_eq!(versions(&recovered.log, start), (start + 1..=20).collect::<Vec<_>>());
    drop(recovered.log);
    let first = file::numbered(dir.path(), "log").expect("listed").remove(0).1;
    let mut bytes = std::fs::read(&first).expect("read");
    bytes[9] ^= 1;
    std::fs::write(&first, bytes).expect("written");
    let recovered = open(dir.path(), &options).expect("opened without what is not needed");
    assert!(recovered.log.start().version > start && !first.exists());
}

#[test]
fn after_a_failed_write_the_log_stops() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut log = log_of_one(dir.path());
    let writable = log.swap_file(File::open("/dev/full").expect("opened for reading only"));
    log.append(&[entry(2, 10)]).expect_err("the file cannot be written");
    log.swap_file(writable);
    assert_stopped(log, dir.path());
}

#[test]
fn after_a_failed_sync_the_log_stops_and_asks_the_disk_no_more() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut log = log_of_one(dir.path());
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null").expect("opened");
    let syncable = log.swap_file(null);
    log.append(&[entry(2, 10)]).expect("/dev/null takes it");
    log.sync().expect_err("/dev/null cannot be synced");
    assert_eq!(log.durable_version(), 1);
    log.swap_file(syncable);
    assert_stopped(log, dir.path());
}

#[test]
#[should_panic(expected = "does not follow")]
fn an_entry_that_does_not_follow_is_a_programming_error() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let _ = log_of_one(dir.path()).append(&[entry(3, 10)]);
}
