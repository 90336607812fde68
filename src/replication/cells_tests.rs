//! Tables over layers are as tables that are all in memory; what cannot be read below spoils nothing.

use super::digest::Part;
use super::execute::{Setting, Verdict, execute};
use super::replica::tests::TIMING;
use super::replica::{Output, Replica};
use super::rules::Rules;
use super::table::Table;
use crate::error::{Error, Result};
use crate::protocol::cell::{Cell, Key, Value};
use crate::protocol::command::{Op, Scan};
use crate::protocol::entry::{Answer, Effect, Entry, Item};
use crate::protocol::kept::{Held, Kept, Lower, Range};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// What lies below; what is damaged there cannot be read.
#[derive(Clone, Debug, Default)]
struct Below {
    cells: BTreeMap<Key, Kept>,
    damaged: Option<Key>,
}

impl Lower for Below {
    fn get(&self, key: &Key) -> Result<Option<Kept>> {
        match self.damaged.as_ref() == Some(key) {
            true => Err(Error::corrupt("a block")),
            false => Ok(self.cells.get(key).cloned()),
        }
    }

    fn range(&self, low: Bound<Key>, high: Bound<Key>, reverse: bool) -> Range<'_> {
        let seen = |(key, kept): (&Key, &Kept)| match self.damaged.as_ref() == Some(key) {
            true => Err(Error::corrupt("a block")),
            false => Ok((key.clone(), kept.clone())),
        };
        let cells = self.cells.range((low, high));
        if reverse { Box::new(cells.rev().map(seen)) } else { Box::new(cells.map(seen)) }
    }
}

const ROWS: [&[u8]; 2] = [b"r", b"s"];

fn key(name: u8) -> Key {
    Key::new(ROWS[usize::from(name % 2)], &[b'a' + name / 2])
}

/// One step: an effect on few names, or a part of a checkpoint.
#[derive(Clone, Debug)]
enum Step {
    Apply(Effect),
    Freeze,
    Settle,
    Rebase,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..10, 0..8u8).prop_map(|(kind, name)| match kind {
        0..4 => {
            let value = Value::Inline(vec![name; usize::from(name)].into());
            Step::Apply(Effect::Put { key: key(name), value, expires: u64::from(name % 3) })
        }
        4..6 => Step::Apply(Effect::Delete(key(name))),
        6 => Step::Apply(Effect::DeleteRow { slot: key(name).slot, row: key(name).row }),
        7 => Step::Freeze,
        8 => Step::Settle,
        _ => Step::Rebase,
    });
    prop::collection::vec(step, 0..60)
}

fn entry(version: u64, effect: Effect) -> Entry {
    Entry {
        epoch: 1,
        version,
        prev_epoch: 1,
        retire: 0,
        request: None,
        answer: Answer::default(),
        effects: vec![effect],
    }
}

fn scans() -> Vec<Scan> {
    let mut scans = Vec::new();
    for (row, reverse) in [(ROWS[0], false), (ROWS[1], true), (ROWS[0], true)] {
        for (prefix, after) in [(&b""[..], None), (b"", Some(b"b".to_vec())), (b"c", None)] {
            let prefix = prefix.to_vec();
            let (row, limit, values, local) = (row.to_vec(), 10, true, false);
            scans.push(Scan { row, prefix, after, limit, reverse, values, local });
        }
    }
    scans
}

fn cells(range: Range<'_>) -> Vec<(Key, Cell)> {
    range.map(|cell| cell.and_then(|(key, kept)| Ok((key, kept.load()?))).expect("whole")).collect()
}

/// Whether two tables show the same, whatever their layers.
fn check_equal(layered: &Table, flat: &Table) {
    let items = |table: &Table| table.items().collect::<Result<Vec<Item>>>().expect("whole");
    assert_eq!(items(layered), items(flat));
    assert_eq!((layered.totals(), layered.digest()), (flat.totals(), flat.digest()));
    for name in 0..8 {
        assert_eq!(layered.get(&key(name)), flat.get(&key(name)));
    }
    for scan in scans() {
        let slot = crate::protocol::cell::slot(&scan.row);
        assert_eq!(cells(layered.scan(slot, &scan)), cells(flat.scan(slot, &scan)), "{scan:?}");
    }
}

proptest! {
    #[test]
    fn layers_change_nothing(steps in steps()) {
        let (mut layered, mut flat, mut below) = (Table::default(), Table::default(), Below::default());
        let mut snapshots = Vec::new();
        for step in steps {
            match step {
                Step::Apply(effect) => {
                    let entry = entry(flat.version + 1, effect);
                    layered.apply(&entry);
                    flat.apply(&entry);
                }
                Step::Freeze if !layered.is_frozen() => {
                    layered.freeze();
                    for change in layered.changes() {
                        match change.expect("in memory") {
                            (key, Some(kept)) => drop(below.cells.insert(key, kept)),
                            (key, None) => drop(below.cells.remove(&key)),
                        }
                    }
                }
                Step::Settle if layered.is_frozen() => layered.settle(Arc::new(below.clone())),
                Step::Rebase if !layered.is_frozen() => layered.rebase(Arc::new(below.clone())),
                Step::Freeze | Step::Settle | Step::Rebase => {}
            }
            check_equal(&layered, &flat);
            snapshots.push((layered.clone(), flat.clone()));
        }
        snapshots.iter().for_each(|(layered, flat)| check_equal(layered, flat));
    }
}

/// A table of which one cell cannot be read.
fn damaged() -> Table {
    let (mut below, mut table) = (Below::default(), Table::default());
    for name in 0..4 {
        let cell = Cell { version: 1, expires: 0, value: Value::Inline([name].into()) };
        let hash = Part::Cell(&key(name), &cell).hash();
        let value = Held::Here(cell.value.clone());
        below.cells.insert(key(name), Kept { version: 1, expires: 0, hash, value });
        table.load(Item::Cell(key(name), cell));
    }
    below.damaged = Some(key(2));
    Table::above(Arc::new(below), table.position(), table.totals())
}

#[test]
fn a_replica_that_could_not_read_what_it_overwrites_is_read_by_nobody() {
    let value = Value::Inline(b"new"[..].into());
    let log = vec![entry(1, Effect::Put { key: key(2), value, expires: 0 })];
    let rules = (Rules::ALL, TIMING);
    let mut replica = Replica::recover("n1".into(), rules, 0, Default::default(), damaged(), log);
    let mut out = Vec::new();
    replica.commit_to(0, 1, &mut out);
    assert!(matches!(out[..], [Output::Differs(1)]), "{out:?}");
}

#[test]
fn what_rests_on_an_unreadable_cell_is_refused_and_does_nothing() {
    let (table, key) = (damaged(), key(2));
    let (row, column) = (key.row.to_vec(), key.column.to_vec());
    assert!(matches!(table.get(&key), Err(Error::Corrupt(_))));
    let ops = [
        Op::put(row.clone(), column.clone(), b"new".to_vec()),
        Op::delete(row.clone(), column.clone()),
        Op::DeleteRow { row: row.clone() },
        Op::Add { row: row.clone(), column: column.clone(), delta: 1, max: None },
        Op::Cput { row, column, old: vec![2], new: vec![3], ttl: None },
    ];
    for op in ops {
        let (after, verdict) = execute(&table, std::slice::from_ref(&op), true, &Setting::ROOMY);
        assert!(matches!(verdict, Verdict::Refused(Error::Retry(_))), "{op:?}: {verdict:?}");
        assert_eq!((after.totals(), after.flaw()), (table.totals(), None), "{op:?}");
    }
    let other = Op::put(b"s".to_vec(), b"a".to_vec(), b"new".to_vec());
    let (_, verdict) = execute(&table, &[other], true, &Setting::ROOMY);
    assert!(matches!(verdict, Verdict::Done(..)));
}

#[test]
fn an_entry_that_overwrites_an_unreadable_cell_is_applied_and_says_so() {
    let mut table = damaged();
    let value = Value::Inline(b"new"[..].into());
    table.apply(&entry(1, Effect::Put { key: key(2), value: value.clone(), expires: 0 }));
    assert!(table.flaw().is_some());
    assert_eq!(table.get(&key(2)).expect("it is in memory").map(|cell| cell.value), Some(value));
}
