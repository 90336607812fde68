//! What clients ask for, and what they are shown.

use super::cells::{cell, cells};
use super::plan::Random;
use penncloud::protocol::cell::{Bytes, Cell, Key, Value, slot};
use penncloud::protocol::command::Op;
use penncloud::protocol::entry::Entry;
use penncloud::replication::Table;
use std::ops::Bound;

/// The row of cells that are written one by one.
pub const ROW: &[u8] = b"alice";
/// The row of cells that APPEND makes.
const BOX: &[u8] = b"alice/box";
/// A cell that ADD counts in.
const COUNTER: &[u8] = b"n";
/// Bytes of a value that fills a message, and more than a low disk takes.
const LARGE: usize = 5000;

/// What a read looks at.
#[derive(Clone, Debug)]
pub enum Look {
    /// GET.
    Cell(Key),
    /// SCAN.
    Row(&'static [u8]),
}

impl Look {
    /// What is seen in a table; none: nothing is there.
    pub fn at(&self, table: &Table) -> Option<Vec<u8>> {
        match self {
            Look::Cell(key) => value(table, key),
            Look::Row(row) => {
                let (of, row) = (slot(row), Bytes::from(*row));
                let shown = |(key, cell): (Key, Cell)| [&key.column, &shown(&cell)[..]].join(&b'=');
                let columns: Vec<Vec<u8>> =
                    cells(table.row(of, &row, Bound::Unbounded)).map(shown).collect();
                (!columns.is_empty()).then(|| columns.join(&b' '))
            }
        }
    }

    /// Whether an entry may change what is seen.
    pub fn is_touched_by(&self, entry: &Entry) -> bool {
        match self {
            Look::Cell(key) => entry.touches(key),
            Look::Row(row) => entry.touches_row(slot(row), row),
        }
    }
}

/// The value of a key: its bytes, or the name of a big one.
pub fn value(table: &Table, key: &Key) -> Option<Vec<u8>> {
    cell(table, key).map(|cell| shown(&cell))
}

fn shown(cell: &Cell) -> Vec<u8> {
    match &cell.value {
        Value::Inline(bytes) => bytes.to_vec(),
        Value::Big(head) => format!("{}", head.id).into_bytes(),
    }
}

/// What a client asks for: a read, or ops that are judged together.
#[derive(Clone, Debug)]
pub struct Ask {
    pub look: Look,
    pub ops: Vec<Op>,
}

/// Something to ask for, of what is known to be there. Values have names of their own, so that a read tells which write
/// it saw.
pub fn choose(random: &mut Random, name: &str, known: &Table) -> Ask {
    let column = vec![b'x' + random.below(3) as u8];
    let key = Key::new(ROW, &column);
    let (row, cell) = (ROW.to_vec(), Look::Cell(key.clone()));
    let ask = |look: &Look, ops: Vec<Op>| Ask { look: look.clone(), ops };
    let new = new_value(random, name);
    match random.below(100) {
        0..30 => ask(&cell, Vec::new()),
        30..34 => ask(&Look::Cell(Key::new(ROW, COUNTER)), Vec::new()),
        34..40 => ask(&Look::Row([ROW, BOX][random.below(2) as usize]), Vec::new()),
        40..56 => ask(&cell, vec![Op::put(row, column, new)]),
        56..60 => ask(&cell, vec![put_over(known, &key, new)]),
        60..68 => ask(&cell, vec![Op::delete(row, column)]),
        68..82 => {
            let old = value(known, &key).unwrap_or_default();
            ask(&cell, vec![Op::Cput { row, column, old, new, ttl: None }])
        }
        82..88 => ask(&cell, vec![add(random)]),
        88..93 => ask(&cell, vec![append(name)]),
        93..95 => ask(&Look::Row(BOX), vec![Op::DeleteRow { row: BOX.to_vec() }]),
        95..98 => ask(&cell, vec![Op::delete(&row[..], &column[..]), Op::delete(row, column)]),
        _ => ask(&cell, vec![put_over(known, &key, new), add(random), append(name)]),
    }
}

fn new_value(random: &mut Random, name: &str) -> Vec<u8> {
    let mut value = name.as_bytes().to_vec();
    if random.chance(3) {
        value.resize(LARGE, b'.');
    }
    value
}

/// A write over the version that is known to be there.
fn put_over(known: &Table, key: &Key, value: Vec<u8>) -> Op {
    let if_version = Some(cell(known, key).map_or(0, |cell| cell.version));
    let (row, column) = (key.row.to_vec(), key.column.to_vec());
    Op::Put { row, column, value, if_version, ttl: None }
}

fn add(random: &mut Random) -> Op {
    let delta = random.below(9) as i64 - 3;
    Op::add(ROW, COUNTER, delta)
}

fn append(name: &str) -> Op {
    Op::Append { row: BOX.to_vec(), prefix: b"m".to_vec(), value: name.as_bytes().to_vec() }
}

/// Whether a condition of an op does not hold for the cell that it is about, when this is the cell.
pub fn is_mismatch(op: &Op, cell: Option<&Cell>) -> bool {
    match op {
        Op::Put { if_version: Some(wanted), .. } => cell.map_or(0, |cell| cell.version) != *wanted,
        Op::Cput { old, .. } => {
            !matches!(cell.map(|cell| &cell.value), Some(Value::Inline(value)) if value[..] == old[..])
        }
        _ => false,
    }
}

/// The cell that an op's condition is about.
pub fn condition(op: &Op) -> Option<Key> {
    match op {
        Op::Put { row, column, .. } | Op::Cput { row, column, .. } => Some(Key::new(row, column)),
        _ => None,
    }
}
