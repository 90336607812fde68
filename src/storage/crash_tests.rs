//! A crash at every step on the disk of a flush, a merge and an installation.

use super::journal::{CRASHES, Disk, Step, watch};
use super::tests::{entry, options};
use super::*;
use crate::protocol::cell::{Cell, Key, Value};
use crate::protocol::kept::{Held, Kept, Lower};
use std::collections::BTreeMap;
use std::ops::Bound;

type Model = BTreeMap<Key, Cell>;

/// The last entry of the log.
const END: u64 = 20;

fn cell(n: u64, bytes: usize) -> (Key, Cell) {
    let value = Value::Inline(vec![n as u8; bytes].into());
    (Key::new(b"alice", n.to_string().as_bytes()), Cell { version: n, expires: 0, value })
}

fn kept(cell: Cell) -> Kept {
    let Cell { version, expires, value } = cell;
    Kept { version, expires, hash: 0, value: Held::Here(value) }
}

fn at(version: u64) -> Position {
    Position { epoch: 1, version }
}

fn totals(table: &Model) -> Totals {
    Totals { cells: table.len() as u64, ..Totals::default() }
}

fn others(version: u64) -> impl Iterator<Item = Item> {
    [Item::Evicted(version.into())].into_iter()
}

fn flush(cells: &Checkpointer, version: u64, table: &Model, changes: Vec<(Key, Option<Cell>)>) {
    let changes: BTreeMap<_, _> = changes.into_iter().collect();
    let changes = changes.into_iter().map(|(key, cell)| Ok((key, cell.map(kept))));
    cells.flush(at(version), totals(table), changes, others(version)).expect("flushed");
}

/// A tablet with a log of 20 entries, and a checkpoint of version 15 that has three runs and values.
fn tablet() -> (tempfile::TempDir, Recovered, Model) {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let dir = dir.expect("a temporary directory");
    let Recovered { mut log, cells, .. } = opened(dir.path());
    log.append((1..=END).map(|version| entry(version, 1000))).expect("appended");
    log.sync().expect("synced");
    let mut table: Model =
        (0..40).map(|n| cell(n, if n % 7 == 0 { 20_000 } else { 900 })).collect();
    let new = |table: &Model| table.iter().map(|(k, c)| (k.clone(), Some(c.clone()))).collect();
    flush(&cells, 5, &table, new(&table));
    let changed: Model = (0..9).map(|n| cell(n, 17_000)).collect();
    table.extend(changed.clone());
    flush(&cells, 10, &table, new(&changed));
    let gone: Vec<_> = table.keys().take(36).cloned().collect();
    gone.iter().for_each(|key| drop(table.remove(key)));
    flush(&cells, 15, &table, gone.into_iter().map(|key| (key, None)).collect());
    drop((log, cells));
    let recovered = opened(dir.path());
    assert_eq!(recovered.cells.runs().count(), 3);
    (dir, recovered, table)
}

fn opened(dir: &Path) -> Recovered {
    open(dir, &options(16 << 10)).expect("opened")
}

/// What a tablet holds: position, cells, and versions of the entries after it.
fn contents(dir: &Path) -> (u64, Model, Vec<u64>) {
    let recovered = open(dir, &options(16 << 10)).unwrap_or_else(|e| panic!("{e}"));
    let checkpoint = recovered.checkpoint.expect("there is a checkpoint");
    let version = checkpoint.position.version;
    assert_eq!(checkpoint.items, [Item::Evicted(version.into())]);
    let runs = recovered.cells.runs();
    let cells = runs.range(Bound::Unbounded, Bound::Unbounded, false).map(|cell| {
        let (key, kept) = cell.expect("whole");
        (key, kept.load().expect("whole"))
    });
    let entries = recovered.entries.map(|entry| entry.expect("whole").version).collect();
    (version, cells.collect(), entries)
}

/// Whatever a crash leaves is the one state or the other, and after the last step the new one.
fn assert_old_or_new(
    mut disk: Disk,
    steps: &[Step],
    old: &(u64, Model, Vec<u64>),
    new: &(u64, Model, Vec<u64>),
) {
    let mut news = 0;
    for done in 0..=steps.len() {
        if let Some(step) = done.checked_sub(1).map(|last| &steps[last]) {
            disk.take(step);
        }
        for crash in CRASHES {
            let dir = disk.crash(crash);
            let state = format!("{done} of {} steps, {crash:?}", steps.len());
            let inspection = inspect(dir.path()).expect("inspected");
            assert!(inspection.damage().is_empty(), "{state}: {:?}", inspection.damage());
            let found = contents(dir.path());
            assert!(found == *old || found == *new, "{state}");
            assert!(done < steps.len() || found == *new, "{state}: what was done is lost");
            news += usize::from(found == *new);
            let inspection = inspect(dir.path()).expect("inspected");
            assert_eq!((inspection.leftovers, inspection.unfinished), (0, 0), "{state}");
            assert!(inspection.damage().is_empty(), "{state}: {:?}", inspection.damage());
            assert!(contents(dir.path()) == found, "{state}: opened again");
        }
    }
    assert!(news >= CRASHES.len());
}

#[test]
fn a_crash_at_any_step_of_a_flush_leaves_the_old_checkpoint_or_the_new_one() {
    let (dir, recovered, mut table) = tablet();
    let (disk, old) = (Disk::of(dir.path()), (15, table.clone(), (16..=END).collect()));
    let changes: Model =
        (100..160).map(|n| cell(n, if n % 3 == 0 { 18_000 } else { 900 })).collect();
    table.extend(changes.clone());
    let changes = changes.into_iter().map(|(key, cell)| (key, Some(cell))).collect();
    let ((), steps) = watch(|| flush(&recovered.cells, END, &table, changes));
    assert!(steps.len() > 20, "{} steps", steps.len());
    assert_old_or_new(disk, &steps, &old, &(END, table, vec![]));
}

#[test]
fn a_crash_at_any_step_of_a_merge_changes_nothing_that_is_read() {
    let (dir, recovered, table) = tablet();
    let (disk, old) = (Disk::of(dir.path()), (15, table, (16..=END).collect()));
    let merge = recovered.cells.merge_all().expect("there are runs");
    let (merged, steps) = watch(|| recovered.cells.merge(merge, |_| {}));
    assert_eq!(merged.expect("merged").expect("nobody interferes").count(), 1);
    let removed = steps.iter().filter(|step| matches!(step, Step::Remove(_))).count();
    assert_eq!(removed, 5, "three runs, and two files of values");
    assert_old_or_new(disk, &steps, &old, &old);
}

#[test]
fn a_crash_at_any_step_of_an_installation_leaves_the_old_table_or_the_new_one() {
    for version in [12, 30] {
        let (dir, mut recovered, table) = tablet();
        let (disk, old) = (Disk::of(dir.path()), (15, table, (16..=END).collect()));
        let table: Model =
            (100..150).map(|n| cell(n, if n % 3 == 0 { 18_000 } else { 900 })).collect();
        let ((), steps) = watch(|| {
            let mut receiver = recovered.cells.receive();
            for (key, cell) in table.clone() {
                receiver.add(key, kept(cell)).expect("received");
            }
            let received = receiver.finish().expect("received");
            let (cells, log) = (&recovered.cells, &mut recovered.log);
            let others = others(version);
            log.install(cells, at(version), totals(&table), &received, others).expect("installed");
        });
        assert_old_or_new(disk, &steps, &old, &(version, table, vec![]));
    }
}
