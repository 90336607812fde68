//! Rows of a few owners, written together: counters, texts and numbered cells.
//!
//! An owner has two rows at a time. After a number of requests it begins two new ones, so that no history becomes
//! long.

use super::cells::condition;
use super::client::Request;
use super::{Answered, Object};
use crate::linearizability::{Action, Change, Operation, Outcome, Random, Word};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Owners of rows: of all tablets for small values.
const OWNERS: usize = 4;
/// Requests to an owner's rows before it begins new ones.
const GENERATION: usize = 200;
/// Rows of an owner at a time.
const ROWS: usize = 2;
/// Counters, and texts, of a row.
const COLUMNS: u64 = 2;
/// The most that is added at once: two sums of unanswered ADDs are rarely the same.
const DELTA_MAX: u64 = 1 << 40;
/// A bound of counters, which some grow to.
const SUM_MAX: i64 = 3 << 40;
/// Cells of a SCAN: more than a row ever has.
const LIMIT: usize = 1000;

/// An owner of rows.
pub struct Owner {
    name: String,
    /// When its requests were answered.
    pub answered: Answered,
    asked: AtomicUsize,
    /// Versions of cells that somebody saw: conditions that sometimes hold, and cells to delete.
    seen: Mutex<BTreeMap<Word, u64>>,
}

/// The owners of a run.
pub fn owners() -> Vec<Owner> {
    let owner = |i| Owner {
        name: format!("book{i}"),
        answered: Answered::default(),
        asked: AtomicUsize::new(0),
        seen: Mutex::default(),
    };
    (0..OWNERS).map(owner).collect()
}

impl Owner {
    /// Generations that were asked for something.
    pub fn generations(&self) -> usize {
        self.asked.load(Ordering::Relaxed).div_ceil(GENERATION)
    }

    /// Rows of a generation.
    pub fn rows(&self, generation: usize) -> [Word; ROWS] {
        ["a", "b"].map(|row| format!("{}/{generation}{row}", self.name).into())
    }

    /// Something to ask of the owner of a number; who writes has values that nobody else writes.
    pub fn choose(
        &self,
        owner: usize,
        unique: &str,
        only_reads: bool,
        random: &mut Random,
    ) -> Request {
        let generation = self.asked.fetch_add(1, Ordering::Relaxed) / GENERATION;
        let (rows, seen) = (self.rows(generation), self.seen.lock().unwrap().clone());
        let mut chooser = Chooser { rows, seen, unique, random, items: 0 };
        let dice = chooser.random.below(if only_reads { 52 } else { 100 });
        let action = match dice {
            0..40 => Action::Scan(chooser.row()),
            40..52 => Action::Read(chooser.cell()),
            52..62 => Action::Change(chooser.add()),
            62..72 => Action::Change(chooser.append()),
            72..76 => Action::Change(chooser.put()),
            76..80 => Action::Change(chooser.delete()),
            80 => Action::Change(Change::DeleteRow { row: chooser.row() }),
            _ => Action::Batch(chooser.batch()),
        };
        self.request(Object::Rows { owner, generation }, action)
    }

    /// Reads of all rows that the owner of a number ever had.
    pub fn scans(&self, owner: usize) -> Vec<Request> {
        let generations = 0..self.generations();
        let rows = generations.flat_map(|g| self.rows(g).map(|row| (g, row)));
        rows.map(|(generation, row)| {
            self.request(Object::Rows { owner, generation }, Action::Scan(row))
        })
        .collect()
    }

    fn request(&self, object: Object, action: Action) -> Request {
        let (line, bytes) = match &action {
            Action::Read(cell) => (format!("GET {cell}"), Vec::new()),
            Action::Scan(row) => (format!("SCAN {row} values=1 limit={LIMIT}"), Vec::new()),
            Action::Change(change) => wire(change),
            Action::Batch(changes) => {
                let items = changes.iter().map(wire);
                let bytes = items
                    .flat_map(|(line, bytes)| [line.as_bytes(), b"\n", &bytes, b"\n"].concat());
                (format!("BATCH {} {}", self.name, changes.len()), bytes.collect())
            }
            other => unreachable!("{other:?} is asked of single cells"),
        };
        Request { object, action, line, bytes }
    }

    /// Lets all clients know what is there now.
    pub fn note(&self, op: &Operation) {
        let mut seen = self.seen.lock().unwrap();
        match (&op.action, &op.outcome) {
            (Action::Scan(row), Outcome::Cells(cells)) => {
                seen.retain(|cell, _| cell.split(' ').next() != Some(row));
                seen.extend(cells.iter().map(|(cell, version, _)| (cell.clone(), *version)));
            }
            (Action::Batch(changes), Outcome::Ok(version) | Outcome::Made(version, _)) => {
                let puts = changes.iter().filter_map(|change| match change {
                    Change::Put { cell, .. } => Some((cell.clone(), *version)),
                    _ => None,
                });
                seen.extend(puts);
            }
            _ => {}
        }
    }
}

/// A change as a line of a request, with the bytes after it.
fn wire(change: &Change) -> (String, Vec<u8>) {
    match change {
        Change::Put { cell, value, if_version } => (
            format!("PUT {cell} {}{}", value.len(), condition(*if_version)),
            value.as_bytes().to_vec(),
        ),
        Change::Add { cell, delta, max } => {
            let bound = max.map_or_else(String::new, |max| format!(" max={max}"));
            (format!("ADD {cell} {delta}{bound}"), Vec::new())
        }
        Change::Append { prefix, value } => {
            (format!("APPEND {prefix} {}", value.len()), value.as_bytes().to_vec())
        }
        Change::Delete { cell } => (format!("DELETE {cell}"), Vec::new()),
        Change::DeleteRow { row } => (format!("DELETEROW {row}"), Vec::new()),
    }
}

/// Makes one request.
struct Chooser<'a> {
    rows: [Word; ROWS],
    seen: BTreeMap<Word, u64>,
    unique: &'a str,
    random: &'a mut Random,
    /// Values that were made for it.
    items: usize,
}

impl Chooser<'_> {
    fn row(&mut self) -> Word {
        self.random.one_of(&self.rows).clone()
    }

    fn column(&mut self, kind: &str) -> Word {
        format!("{} {kind}{}", self.row(), self.random.below(COLUMNS)).into()
    }

    /// A counter, a text, or a cell that somebody saw.
    fn cell(&mut self) -> Word {
        match self.random.below(3) {
            0 => self.column("counter"),
            1 => self.column("text"),
            _ => self.seen_cell(),
        }
    }

    fn seen_cell(&mut self) -> Word {
        let is_now = |cell: &&Word| self.rows.iter().any(|row| cell.split(' ').next() == Some(row));
        let cells: Vec<Word> = self.seen.keys().filter(is_now).cloned().collect();
        if cells.is_empty() { self.column("text") } else { self.random.one_of(&cells).clone() }
    }

    fn value(&mut self) -> Word {
        self.items += 1;
        format!("{}.{}", self.unique, self.items).into()
    }

    fn add(&mut self) -> Change {
        let delta = self.random.below(DELTA_MAX) as i64 - (DELTA_MAX / 4) as i64;
        let max = self.random.chance(25).then_some(SUM_MAX);
        Change::Add { cell: self.column("counter"), delta, max }
    }

    fn append(&mut self) -> Change {
        Change::Append { prefix: format!("{} m/", self.row()).into(), value: self.value() }
    }

    fn put(&mut self) -> Change {
        Change::Put { cell: self.column("text"), value: self.value(), if_version: None }
    }

    /// A write under a condition that sometimes holds.
    fn put_if(&mut self) -> Change {
        let cell = self.column("text");
        let version = self.seen.get(&cell).copied().unwrap_or(0);
        Change::Put { cell, value: self.value(), if_version: Some(version) }
    }

    fn delete(&mut self) -> Change {
        Change::Delete { cell: self.seen_cell() }
    }

    /// Two items or more. The condition is about a cell that no item before it writes.
    fn batch(&mut self) -> Vec<Change> {
        let mut items = vec![self.add()];
        items.push(if self.random.chance(50) { self.put_if() } else { self.put() });
        for _ in 0..self.random.below(4) {
            items.push(match self.random.below(4) {
                0 => self.add(),
                1 => self.put(),
                2 => self.delete(),
                _ => self.append(),
            });
        }
        items
    }
}
