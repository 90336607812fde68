//! Checkpoints: what they hold, and every state in which a crash can leave one half made.

use super::*;
use penncloud::error::Error;
use penncloud::protocol::cell::ValueId;
use penncloud::protocol::entry::{Retired, Session};
use penncloud::storage::inspect;

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
fn tablet() -> (TempDir, Log, Arc<Checkpointer>) {
    let dir = scratch();
    let Recovered { mut log, cells, .. } = open(dir.path());
    (1..=40).for_each(|version| append(&mut log, &[entry(version, 1000)]));
    (dir, log, cells)
}

#[test]
fn a_checkpoint_gives_every_item_back() {
    let (dir, log, cells) = tablet();
    let runs = write_checkpoint(&cells, at(40), table()).expect("written");
    drop(log);
    let recovered = open(dir.path());
    let found = recovered.cells.runs();
    assert_eq!((found.count(), found.bytes()), (1, runs.bytes()));
    let files = [names(dir.path(), "run-"), names(dir.path(), "values-")].concat();
    let len = |name: &String| fs::metadata(dir.path().join(name)).expect("there").len();
    assert_eq!(found.bytes(), files.iter().map(len).sum::<u64>());
    assert!(items(&recovered) == table());
    assert_eq!(entries(recovered), []);
}

#[test]
fn one_cell_is_found_without_reading_the_rest() {
    let (dir, log, cells) = tablet();
    write_checkpoint(&cells, at(40), table()).expect("written");
    drop(log);
    let reader = open(dir.path()).cells.runs();
    for item in table() {
        let Item::Cell(key, cell) = item else { continue };
        let found = reader.get(&key).expect("whole").expect("there");
        assert_eq!((found.hash, found.load()), (cell.version * 3, Ok(cell)));
    }
    for missing in ["", "0", "000001x", "2", "zzz"] {
        assert_eq!(reader.get(&Key::new(b"alice", missing.as_bytes())), Ok(None), "{missing}");
    }
    assert_eq!(reader.get(&Key { slot: 0, row: (*b"a").into(), column: (*b"c").into() }), Ok(None));
}

#[test]
fn an_empty_table_has_a_checkpoint_too() {
    let (dir, log, cells) = tablet();
    write_checkpoint(&cells, at(40), []).expect("written");
    drop(log);
    let recovered = open(dir.path());
    assert_eq!(items(&recovered), []);
    assert_eq!(recovered.cells.runs().get(&Key::new(b"a", b"b")), Ok(None));
    assert_eq!(names(dir.path(), "run").len(), 0, "there is nothing to be written");
}

#[test]
fn a_crash_between_any_two_steps_of_a_checkpoint_loses_nothing() {
    let (dir, mut log, cells) = tablet();
    let old: Vec<_> = (0..10).map(|n| cell(n, 10)).collect();
    let new: Vec<_> = (0..20).map(|n| cell(n, 10)).collect();
    write_checkpoint(&cells, at(10), old.clone()).expect("written");
    let before = snapshot(dir.path());
    let half = snapshot(dir.path());
    fs::write(checkpoint(half.path(), 30).with_extension("tmp"), b"PENNCKP1 half")
        .expect("written");
    for (state, crashed) in [("before", before.path()), ("a temporary file", half.path())] {
        let recovered = open(crashed);
        assert!(items(&recovered) == old, "{state}");
        assert!(entries(recovered).iter().map(|e| e.version).eq(11..=40), "{state}");
    }
    let (both, unnamed) = (snapshot(dir.path()), snapshot(dir.path()));
    write_checkpoint(&cells, at(30), new.clone()).expect("written");
    for name in names(dir.path(), "run") {
        fs::copy(dir.path().join(&name), unnamed.path().join(&name)).expect("copied");
        fs::copy(dir.path().join(&name), both.path().join(&name)).expect("copied");
    }
    fs::copy(checkpoint(dir.path(), 30), checkpoint(both.path(), 30)).expect("copied");
    let recovered = open(unnamed.path());
    assert!(items(&recovered) == old, "a run that nothing names");
    assert_eq!(names(unnamed.path(), "run").len(), 1, "it is removed");
    let old_segments = snapshot(dir.path());
    let segments = names(dir.path(), "log");
    let some_segments = snapshot(dir.path());
    fs::remove_file(some_segments.path().join(&segments[1])).expect("removed");
    log.truncate_before(30, 0).expect("truncated");
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
        assert_eq!(names(crashed.path(), "run").len(), 1, "{state}");
    }
}

/// Opening or reading says that it is damaged; or the log has it all.
#[test]
fn a_changed_byte_of_a_checkpoint_or_of_its_files_is_never_read() {
    let (dir, log, cells) = tablet();
    let table: Vec<_> =
        (0..4).map(|n| cell(n, 20)).chain([cell(4, 17_000), Item::Evicted(9)]).collect();
    write_checkpoint(&cells, at(40), table.clone()).expect("written");
    drop((log, cells));
    let files = ["checkpoint-", "run-", "values-"].map(|start| names(dir.path(), start));
    for name in files.concat() {
        let bytes = fs::read(dir.path().join(&name)).expect("read");
        let step = if name.starts_with("values") { 101 } else { 1 };
        for byte in (0..bytes.len()).step_by(step) {
            let damaged = snapshot(dir.path());
            change(&damaged.path().join(&name), |bytes| bytes[byte] ^= 0x20);
            let Ok(recovered) = storage::open(damaged.path(), &SMALL) else { continue };
            if recovered.checkpoint.is_none() {
                assert_eq!(
                    recovered.log.start().version,
                    0,
                    "{name} byte {byte}: the log has it all"
                );
                continue;
            }
            let read = all_cells(&recovered.cells.runs());
            assert!(matches!(read, Err(Error::Corrupt(_))), "{name} byte {byte}");
            assert_eq!(recovered.cells.damage().take(), read.err(), "{name} byte {byte}");
        }
    }
    assert!(items(&open(dir.path())) == table);
}

#[test]
fn a_damaged_checkpoint_is_passed_over_only_if_the_log_reaches_back() {
    let (dir, mut log, cells) = tablet();
    write_checkpoint(&cells, at(30), [cell(1, 1)]).expect("written");
    change(&checkpoint(dir.path(), 30), |bytes| *bytes.last_mut().expect("bytes") ^= 1);
    let copy = snapshot(dir.path());
    let recovered = open(copy.path());
    assert!(recovered.checkpoint.is_none());
    assert!(entries(recovered).iter().map(|e| e.version).eq(1..=40));
    log.truncate_before(30, 0).expect("truncated");
    let Err(Error::Corrupt(why)) = storage::open(snapshot(dir.path()).path(), &SMALL) else {
        panic!("entries 1 to 30 are lost, and nobody says so")
    };
    assert!(why.contains("checkpoint-000000000000001e"), "{why}");
}

#[test]
fn a_lost_checkpoint_is_damage() {
    let (dir, mut log, cells) = tablet();
    write_checkpoint(&cells, at(30), [cell(1, 1)]).expect("written");
    log.truncate_before(30, 0).expect("truncated");
    fs::remove_file(checkpoint(dir.path(), 30)).expect("removed");
    drop(log);
    assert!(matches!(storage::open(dir.path(), &SMALL), Err(Error::Corrupt(_))));
}

#[test]
fn a_log_that_ends_before_its_checkpoint_goes_on_after_it() {
    let dir = scratch();
    let cells = open(dir.path()).cells;
    write_checkpoint(&cells, at(30), [cell(1, 1)]).expect("written");
    let mut log = open(dir.path()).log;
    assert_eq!(log.end(), at(30));
    append(&mut log, &[entry(31, 10)]);
    drop(log);
    assert_eq!(versions(dir.path()), [31]);
}

#[test]
#[should_panic(expected = "cells come in order")]
fn changes_out_of_order_are_a_programming_error() {
    let dir = scratch();
    let changes = [2, 1].map(|n| Ok((Key::new(b"r", &[n]), Some(kept(some_cell())))));
    let cells = open(dir.path()).cells;
    let _ = cells.flush(at(1), Totals::default(), changes.into_iter(), std::iter::empty());
}

#[test]
fn cells_from_elsewhere_that_are_out_of_order_are_refused() {
    let dir = scratch();
    let cells = open(dir.path()).cells;
    for items in [[cell(2, 1), cell(1, 1)], [cell(1, 1), cell(1, 1)]] {
        assert!(matches!(write_checkpoint(&cells, at(1), items), Err(Error::Corrupt(_))));
    }
    assert_eq!(names(dir.path(), "run").len(), 0, "nothing is left of them");
}

#[test]
#[should_panic(expected = "cells are in the runs")]
fn cells_among_the_other_items_are_a_programming_error() {
    let dir = scratch();
    let others = [cell(1, 1)].into_iter();
    let _ = open(dir.path()).cells.flush(at(1), Totals::default(), std::iter::empty(), others);
}

fn some_cell() -> Cell {
    Cell { version: 1, expires: 0, value: Value::Inline(b"v".as_slice().into()) }
}

#[test]
fn damage_in_what_a_log_keeps_is_named_and_loses_nothing() {
    let (dir, mut log, cells) = tablet();
    write_checkpoint(&cells, at(40), table()).expect("written");
    log.truncate_before(40, 1 << 20).expect("nothing is let go");
    drop((log, cells));
    let found = inspect(dir.path()).expect("inspected");
    let kept = found.log.as_ref().expect("whole").kept;
    assert!(kept > 1 && found.damage().is_empty(), "{found:?}");
    let first = dir.path().join(&names(dir.path(), "log")[0]);
    let mut bytes = fs::read(&first).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&first, bytes).expect("written");
    let found = inspect(dir.path()).expect("inspected");
    assert!(found.log.is_ok() && found.kept.is_err(), "{found:?}");
    assert_eq!(found.damage().len(), 1);
    assert!(items(&open(dir.path())) == table());
}
