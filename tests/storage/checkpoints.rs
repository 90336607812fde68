//! Checkpoints: what they hold, and every state in which a crash can leave one half made.

use super::*;
use penncloud::error::Error;
use penncloud::protocol::cell::ValueId;
use penncloud::protocol::entry::{Retired, Session};

/// A table of every kind of item: many blocks of cells, and others.
fn table() -> Vec<Item> {
    let mut items: Vec<_> = (0..3000).map(|n| cell(n, (n as usize * 7) % 300)).collect();
    items.push(cell(3000, 200_000));
    items.push(cell(3001, 1));
    items.push(Item::Sequence(Key::new(b"alice/mail", b"m/"), 17));
    items.push(Item::Retired(ValueId(5), Retired { slot: 3, due: 99 }));
    items.extend((0..2000).map(|n| Item::Session(n, Session { low: 3, ..Session::default() })));
    items.push(Item::Evicted(4));
    items
}

/// A tablet of 40 entries over several segments.
fn tablet() -> (TempDir, Log) {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    (1..=40).for_each(|version| append(&mut log, &[entry(version, 1000)]));
    (dir, log)
}

#[test]
fn a_checkpoint_gives_every_item_back() {
    let (dir, log) = tablet();
    let summary = storage::write_checkpoint(dir.path(), at(40), table()).expect("written");
    drop(log);
    let recovered = open(dir.path());
    assert_eq!(recovered.checkpoint.as_ref().expect("there").summary, summary);
    assert_eq!(summary.bytes, fs::metadata(checkpoint(dir.path(), 40)).expect("there").len());
    assert_eq!(summary.items, table().len() as u64);
    assert!(items(&recovered) == table());
    assert_eq!(entries(recovered), []);
}

#[test]
fn one_cell_is_found_without_reading_the_rest() {
    let (dir, log) = tablet();
    storage::write_checkpoint(dir.path(), at(40), table()).expect("written");
    drop(log);
    let reader = open(dir.path()).checkpoint.expect("there");
    for item in table() {
        let Item::Cell(key, cell) = item else { continue };
        assert_eq!(reader.get(&key), Ok(Some(cell)));
    }
    for missing in ["", "0", "000001x", "2", "zzz"] {
        assert_eq!(reader.get(&Key::new(b"alice", missing.as_bytes())), Ok(None), "{missing}");
    }
    assert_eq!(reader.get(&Key { slot: 0, row: (*b"a").into(), column: (*b"c").into() }), Ok(None));
}

#[test]
fn an_empty_table_has_a_checkpoint_too() {
    let (dir, log) = tablet();
    storage::write_checkpoint(dir.path(), at(40), []).expect("written");
    drop(log);
    let recovered = open(dir.path());
    assert_eq!(items(&recovered), []);
    assert_eq!(recovered.checkpoint.expect("there").get(&Key::new(b"a", b"b")), Ok(None));
}

#[test]
fn a_crash_between_any_two_steps_of_a_checkpoint_loses_nothing() {
    let (dir, mut log) = tablet();
    let old: Vec<_> = (0..10).map(|n| cell(n, 10)).collect();
    let new: Vec<_> = (0..20).map(|n| cell(n, 10)).collect();
    storage::write_checkpoint(dir.path(), at(10), old.clone()).expect("written");
    let before = snapshot(dir.path());
    let half = snapshot(dir.path());
    fs::write(checkpoint(half.path(), 30).with_extension("tmp"), b"PENNCKP1 half")
        .expect("written");
    for (state, crashed) in [("before", before.path()), ("a temporary file", half.path())] {
        let recovered = open(crashed);
        assert!(items(&recovered) == old, "{state}");
        assert!(entries(recovered).iter().map(|e| e.version).eq(11..=40), "{state}");
    }
    let both = snapshot(dir.path());
    storage::write_checkpoint(dir.path(), at(30), new.clone()).expect("written");
    fs::copy(checkpoint(dir.path(), 30), checkpoint(both.path(), 30)).expect("copied");
    let old_segments = snapshot(dir.path());
    let segments = names(dir.path(), "log");
    let some_segments = snapshot(dir.path());
    fs::remove_file(some_segments.path().join(&segments[1])).expect("removed");
    log.truncate_before(30).expect("truncated");
    assert!(names(dir.path(), "log").len() < segments.len());
    let after = snapshot(dir.path());
    for (state, crashed) in [
        ("both checkpoints", both),
        ("old segments", old_segments),
        ("some old segments", some_segments),
        ("after", after),
    ] {
        let recovered = open(crashed.path());
        assert!(items(&recovered) == new, "{state}");
        assert!(entries(recovered).iter().map(|e| e.version).eq(31..=40), "{state}");
        assert_eq!(names(crashed.path(), "checkpoint").len(), 1, "{state}");
    }
}

#[test]
fn a_changed_byte_of_a_checkpoint_is_never_read() {
    let (dir, log) = tablet();
    let table: Vec<_> = (0..4).map(|n| cell(n, 20)).collect();
    storage::write_checkpoint(dir.path(), at(40), table.clone()).expect("written");
    drop(log);
    let path = checkpoint(dir.path(), 40);
    for byte in 0..fs::metadata(&path).expect("there").len() as usize {
        change(&path, |bytes| bytes[byte] ^= 0x20);
        if let Ok(recovered) = storage::open(dir.path(), &SMALL) {
            let Some(reader) = recovered.checkpoint else {
                assert_eq!(recovered.log.start().version, 0, "byte {byte}: the log has it all");
                change(&path, |bytes| bytes[byte] ^= 0x20);
                continue;
            };
            let read: Result<Vec<_>, _> = reader.items().collect();
            assert!(matches!(read, Err(Error::Corrupt(_))), "byte {byte}");
        }
        change(&path, |bytes| bytes[byte] ^= 0x20);
    }
    assert!(items(&open(dir.path())) == table);
}

#[test]
fn a_damaged_checkpoint_is_passed_over_only_if_the_log_reaches_back() {
    let (dir, mut log) = tablet();
    storage::write_checkpoint(dir.path(), at(30), [cell(1, 1)]).expect("written");
    change(&checkpoint(dir.path(), 30), |bytes| *bytes.last_mut().expect("bytes") ^= 1);
    let copy = snapshot(dir.path());
    let recovered = open(copy.path());
    assert!(recovered.checkpoint.is_none());
    assert!(entries(recovered).iter().map(|e| e.version).eq(1..=40));
    log.truncate_before(30).expect("truncated");
    let Err(Error::Corrupt(why)) = storage::open(snapshot(dir.path()).path(), &SMALL) else {
        panic!("entries 1 to 30 are lost, and nobody says so")
    };
    assert!(why.contains("checkpoint-000000000000001e"), "{why}");
}

#[test]
fn a_lost_checkpoint_is_damage() {
    let (dir, mut log) = tablet();
    storage::write_checkpoint(dir.path(), at(30), [cell(1, 1)]).expect("written");
    log.truncate_before(30).expect("truncated");
    fs::remove_file(checkpoint(dir.path(), 30)).expect("removed");
    drop(log);
    assert!(matches!(storage::open(dir.path(), &SMALL), Err(Error::Corrupt(_))));
}

#[test]
fn a_log_that_ends_before_its_checkpoint_goes_on_after_it() {
    let dir = scratch();
    storage::write_checkpoint(dir.path(), at(30), [cell(1, 1)]).expect("written");
    let mut log = open(dir.path()).log;
    assert_eq!(log.end(), at(30));
    append(&mut log, &[entry(31, 10)]);
    drop(log);
    assert_eq!(versions(dir.path()), [31]);
}

#[test]
#[should_panic(expected = "cells come in order")]
fn cells_out_of_order_are_a_programming_error() {
    let dir = scratch();
    let _ = storage::write_checkpoint(dir.path(), at(1), [cell(2, 1), cell(1, 1)]);
}

#[test]
#[should_panic(expected = "cells come before other items")]
fn cells_after_other_items_are_a_programming_error() {
    let dir = scratch();
    let _ = storage::write_checkpoint(dir.path(), at(1), [Item::Evicted(1), cell(1, 1)]);
}
