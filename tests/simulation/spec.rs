//! What a request must come to, by the plainest reading of its ops: the measure of what was committed.

use super::cells::{cell, cells};
use super::ops::{is_mismatch, value};
use penncloud::protocol::cell::{Bytes, Key, slot};
use penncloud::protocol::command::Op;
use penncloud::protocol::entry::{Effect, Entry};
use penncloud::replication::Table;
use std::collections::BTreeMap;
use std::ops::Bound;

/// What ops come to on the table before them.
struct Spec<'a> {
    before: &'a Table,
    /// Cells that change; none: removed.
    cells: BTreeMap<Key, Option<Vec<u8>>>,
    words: Vec<Vec<u8>>,
    /// The last number that was ever given out in a row under a prefix.
    numbers: &'a mut BTreeMap<Key, u64>,
}

/// An entry with this request's name does what its ops say, once, and says so.
pub fn check(
    ops: &[Op],
    before: &Table,
    entry: &Entry,
    after: &Table,
    numbers: &mut BTreeMap<Key, u64>,
) -> Result<(), String> {
    let version = entry.version;
    let mut spec = Spec { before, cells: BTreeMap::new(), words: Vec::new(), numbers };
    for op in ops {
        spec.execute(op).map_err(|why| format!("15: version {version} executes {op:?}: {why}"))?;
    }
    let told: Vec<Vec<u8>> = entry.answer.words.iter().map(|word| word.to_vec()).collect();
    if told != spec.words || entry.answer.version != version {
        return Err(format!("15: version {version} of {ops:?} is answered {:?}", entry.answer));
    }
    let wrong = spec.cells.iter().find(|(key, cell)| value(after, key) != **cell);
    let other = entry.effects.iter().find(|effect| !spec.expects(effect));
    match (wrong, other) {
        (None, None) => Ok(()),
        _ => Err(format!("15: version {version} of {ops:?} did {:?}", entry.effects)),
    }
}

impl Spec<'_> {
    fn get(&self, key: &Key) -> Option<Vec<u8>> {
        self.cells.get(key).cloned().unwrap_or_else(|| value(self.before, key))
    }

    fn execute(&mut self, op: &Op) -> Result<(), String> {
        match op {
            Op::Put { row, column, value, .. } | Op::Cput { row, column, new: value, .. } => {
                let key = Key::new(row, column);
                let before = cell(self.before, &key);
                if is_mismatch(op, before.as_ref()) {
                    return Err(format!("it was {before:?}"));
                }
                self.cells.insert(key, Some(value.clone()));
            }
            Op::Delete { row, column, .. } => drop(self.cells.insert(Key::new(row, column), None)),
            Op::DeleteRow { row } => {
                let (of, row) = (slot(row), Bytes::from(row.as_slice()));
                let row = self.before.row(of, &row, Bound::Unbounded);
                self.cells.extend(cells(row).map(|(key, _)| (key, None)));
            }
            Op::Add { row, column, delta, .. } => {
                let key = Key::new(row, column);
                let text = self.get(&key).unwrap_or_else(|| b"0".to_vec());
                let before: i64 =
                    String::from_utf8_lossy(&text).parse().map_err(|_| "no number")?;
                let sum = (before + delta).to_string().into_bytes();
                self.words.push(sum.clone());
                self.cells.insert(key, Some(sum));
            }
            Op::Append { row, prefix, value } => {
                let number = self.numbers.entry(Key::new(row, prefix)).or_default();
                *number += 1;
                let column = [&prefix[..], format!("{number:012}").as_bytes()].concat();
                self.words.push(column.clone());
                self.cells.insert(Key::new(row, &column), Some(value.clone()));
            }
            other => return Err(format!("clients do not ask for {other:?}")),
        }
        Ok(())
    }

    fn expects(&self, effect: &Effect) -> bool {
        match effect {
            Effect::Put { key, .. } | Effect::Delete(key) => self.cells.contains_key(key),
            Effect::DeleteRow { .. } => self.cells.values().all(Option::is_none),
            Effect::Sequence(key, number) => self.numbers.get(key) == Some(number),
            Effect::Stage(..) | Effect::Abandon(_) | Effect::Forget(_) => false,
        }
    }
}
