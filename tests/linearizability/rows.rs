//! The model of what is written together: the cells of some rows of one owner, and the numbers that APPEND has given
//! out, as one process that does one thing at a time would keep them.
//!
//! Writes of which a version is known are ordered by it: one tablet gives versions out, each once, and they grow. A
//! write that was not answered has a known version where one of its unique values was seen. Other versions that
//! somebody saw of a cell are gaps in that order: the next unanswered write that makes just that cell fills the next
//! gap. What fills none has a version that nobody saw.
//!
//! *Caveats*: an answered BATCH must write something, since one that does not says the version of another; its
//! conditions must be about cells that no item before them writes; and no counter comes to the same sum twice. Two
//! unanswered writes of one cell whose values nobody saw are told apart by chance.

use super::check::Model;
use super::history::{Action, Change, Operation, Outcome, Word};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::slice;

/// The cells at some point of an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    cells: BTreeMap<Word, Cell>,
    /// The last number that each prefix has given out.
    numbers: BTreeMap<Word, u64>,
    /// The last version that is known.
    version: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Cell {
    value: Word,
    /// None: a version that nobody saw.
    version: Option<u64>,
}

/// What there is to order: the operations, and what is known of versions.
pub struct Rows {
    history: Vec<Operation>,
    /// For each operation the version that it is known to have got, if it writes.
    versions: Vec<Option<u64>>,
    /// For each of them that of the next lower version.
    before: Vec<Option<usize>>,
    /// Versions that were seen of cells, and belong to none of the operations as far as is known.
    gaps: BTreeMap<u64, Gap>,
}

/// A cell that was seen, and its value where that was seen too.
type Gap = (Word, Option<Word>);

impl Model for Rows {
    type State = State;

    fn new(history: &[Operation]) -> Result<Rows, String> {
        let heard = heard(history);
        let versions: Vec<_> = history.iter().map(|op| version_of(op, &heard)).collect();
        let mut order: Vec<usize> = (0..history.len()).filter(|i| versions[*i].is_some()).collect();
        order.sort_by_key(|i| versions[*i]);
        let mut before = vec![None; history.len()];
        order.windows(2).for_each(|two| before[two[1]] = Some(two[0]));
        let known: HashSet<u64> = versions.iter().flatten().copied().collect();
        let gaps = gaps_of(history, &known);
        Ok(Rows { history: history.to_vec(), versions, before, gaps })
    }

    fn is_open(&self, i: usize) -> bool {
        self.history[i].outcome == Outcome::Unknown
    }

    fn waits_for(&self, i: usize) -> Option<usize> {
        self.before[i]
    }

    fn after(&self, state: &State, i: usize) -> Option<State> {
        let Operation { action, outcome, .. } = &self.history[i];
        match (action, outcome) {
            (Action::Read(cell), Outcome::NotFound) => state.lacks(cell).then(|| state.clone()),
            (Action::Read(cell), Outcome::Value(version, value)) => {
                state.holds(cell, *version, value).then(|| state.clone())
            }
            (Action::Scan(row), Outcome::Cells(cells)) => {
                let is_whole = state.row(row).eq(cells.iter().map(|(cell, ..)| &**cell));
                let is_so =
                    cells.iter().all(|(cell, version, value)| state.holds(cell, *version, value));
                (is_whole && is_so).then(|| state.clone())
            }
            (Action::Change(change), Outcome::NotFound) => {
                state.lacks_what_goes(change).then(|| state.clone())
            }
            (Action::Change(change), _) if state.lacks_what_goes(change) => None,
            (Action::Change(change), _) => self.write(state, i, slice::from_ref(change)),
            (Action::Batch(changes), _) => self.write(state, i, changes),
            _ => None,
        }
    }
}

impl Rows {
    /// The state after a write; none if it cannot be answered so.
    fn write(&self, state: &State, i: usize, changes: &[Change]) -> Option<State> {
        match &self.history[i].outcome {
            Outcome::Mismatch(version) => mismatch(state, changes, *version, 0),
            Outcome::MismatchAt(version, at) => mismatch(state, changes, *version, *at),
            Outcome::Over(sum) => over(state, changes, *sum),
            Outcome::Ok(_) => self.make(state, i, changes, Some(&[])),
            Outcome::Made(_, told) => self.make(state, i, changes, Some(told)),
            Outcome::Unknown => self.make(state, i, changes, None),
            _ => None,
        }
    }

    /// What changes make of the cells, if their conditions hold and they answer what was told.
    fn make(
        &self,
        state: &State,
        i: usize,
        changes: &[Change],
        told: Option<&[String]>,
    ) -> Option<State> {
        if !conditions_hold(state, changes) {
            return None;
        }
        let (mut next, mut words) = (state.clone(), Vec::new());
        for change in changes {
            words.extend(next.make(change)?);
        }
        if told.is_some_and(|told| *told != words) {
            return None;
        }
        self.settle(state.version, next, self.versions[i])
    }

    /// Gives what a write has made its version: the known one, or that of the gap which it fills.
    fn settle(&self, last: u64, mut made: State, known: Option<u64>) -> Option<State> {
        let gap = self.gaps.range(last + 1..).next();
        let fills = gap.filter(|(_, seen)| made.has_new(seen)).map(|(version, _)| *version);
        let version = known.or(fills);
        // Who passes a gap leaves a version behind that somebody saw.
        let passes = |version| gap.is_some_and(|(gap, _)| *gap < version);
        if version.is_some_and(|version| version <= last || passes(version)) {
            return None;
        }
        made.settle(version);
        Some(made)
    }
}

/// The version, within an operation, of cells that it has written: no tablet gives it out.
const NEW: u64 = u64::MAX;

/// Whether all conditions hold: they are about what is there before the first change.
fn conditions_hold(state: &State, changes: &[Change]) -> bool {
    changes.iter().all(|change| match change {
        Change::Put { cell, if_version: Some(version), .. } => state.has_version(cell, *version),
        _ => true,
    })
}

/// The condition of one change does not hold, since its cell has this version; those before it hold.
fn mismatch(state: &State, changes: &[Change], version: u64, at: usize) -> Option<State> {
    match changes.get(at)? {
        Change::Put { cell, if_version: Some(wished), .. } if *wished != version => {
            let is_so = state.has_version(cell, version) && conditions_hold(state, &changes[..at]);
            let mut next = state.clone();
            let are_made = changes[..at].iter().all(|change| next.make(change).is_some());
            (is_so && are_made).then(|| state.clone())
        }
        _ => None,
    }
}

/// A counter is this when the changes before one that would take it over its bound are made.
fn over(state: &State, changes: &[Change], sum: i64) -> Option<State> {
    let mut next = state.clone();
    for (at, change) in changes.iter().enumerate() {
        if next.goes_over(change) == Some(sum) {
            return conditions_hold(state, &changes[..at]).then(|| state.clone());
        }
        next.make(change)?;
    }
    None
}

impl State {
    fn lacks(&self, cell: &str) -> bool {
        !self.cells.contains_key(cell)
    }

    /// Whether a cell is this.
    fn holds(&self, cell: &str, version: u64, value: &str) -> bool {
        self.has_version(cell, version)
            && self.cells.get(cell).is_some_and(|is| *is.value == *value)
    }

    /// Whether a cell has this version; 0: there is no such cell.
    fn has_version(&self, cell: &str, version: u64) -> bool {
        self.cells.get(cell).map_or(version == 0, |is| is.version == Some(version))
    }

    /// Names of the cells of a row, in order.
    fn row<'a>(&'a self, row: &'a str) -> impl Iterator<Item = &'a str> {
        let names = self.cells.keys().map(|name| &**name);
        names.filter(move |name| name.strip_prefix(row).is_some_and(|rest| rest.starts_with(' ')))
    }

    /// Whether a change would remove what is not there.
    fn lacks_what_goes(&self, change: &Change) -> bool {
        match change {
            Change::Delete { cell } => self.lacks(cell),
            Change::DeleteRow { row } => self.row(row).next().is_none(),
            _ => false,
        }
    }

    /// Makes one change, without its condition: the word that it answers, if any; none at all if it is refused.
    fn make(&mut self, change: &Change) -> Option<Option<String>> {
        match change {
            Change::Put { cell, value, .. } => self.put(cell.clone(), value.clone()),
            Change::Delete { cell } => {
                self.cells.remove(cell);
            }
            Change::DeleteRow { row } => {
                let gone: HashSet<Word> = self.row(row).map(Word::from).collect();
                self.cells.retain(|name, _| !gone.contains(name));
            }
            Change::Add { .. } if self.goes_over(change).is_some() => return None,
            Change::Add { cell, delta, .. } => {
                let sum = (self.sum(cell)? + delta).to_string();
                self.put(cell.clone(), sum.as_str().into());
                return Some(Some(sum));
            }
            Change::Append { prefix, value } => {
                let name = self.next_name(prefix);
                self.put(name.as_str().into(), value.clone());
                return Some(name.split_once(' ').map(|(_, column)| column.into()));
            }
        }
        Some(None)
    }

    /// What a counter has counted.
    fn sum(&self, cell: &str) -> Option<i64> {
        self.cells.get(cell).map_or(Ok(0), |cell| cell.value.parse()).ok()
    }

    /// The sum from which a change would go over its bound.
    fn goes_over(&self, change: &Change) -> Option<i64> {
        match change {
            Change::Add { cell, delta: delta @ 1.., max: Some(max) } => {
                self.sum(cell).filter(|sum| sum + delta > *max)
            }
            _ => None,
        }
    }

    fn put(&mut self, cell: Word, value: Word) {
        self.cells.insert(cell, Cell { value, version: Some(NEW) });
    }

    /// The cell that APPEND writes next: the next number after the last that was ever given out.
    fn next_name(&mut self, prefix: &Word) -> String {
        let number = self.numbers.entry(prefix.clone()).or_default();
        *number += 1;
        format!("{prefix}{number:012}")
    }

    /// Whether a write has just made a cell that was seen.
    fn has_new(&self, (cell, value): &Gap) -> bool {
        self.cells.get(cell).is_some_and(|is| {
            is.version == Some(NEW) && value.as_ref().is_none_or(|value| *value == is.value)
        })
    }

    /// Gives what a write has made its version, if that is known.
    fn settle(&mut self, version: Option<u64>) {
        self.version = version.unwrap_or(self.version);
        let new = self.cells.values_mut().filter(|cell| cell.version == Some(NEW));
        new.for_each(|cell| cell.version = version);
    }
}

/// What an operation saw of cells: versions, and values unless it was told of a condition.
fn seen_in(op: &Operation) -> Vec<(Word, u64, Option<Word>)> {
    let condition = |changes: &[Change], at: usize, version: u64| match changes.get(at) {
        Some(Change::Put { cell, .. }) => vec![(cell.clone(), version, None)],
        _ => Vec::new(),
    };
    match (&op.action, &op.outcome) {
        (Action::Read(cell), Outcome::Value(version, value)) => {
            vec![(cell.clone(), *version, Some(value.as_str().into()))]
        }
        (_, Outcome::Cells(cells)) => {
            cells.iter().map(|(cell, v, value)| (cell.clone(), *v, Some(value.clone()))).collect()
        }
        (Action::Change(change), Outcome::Mismatch(v)) => condition(slice::from_ref(change), 0, *v),
        (Action::Batch(changes), Outcome::MismatchAt(v, at)) => condition(changes, *at, *v),
        _ => Vec::new(),
    }
}

/// Versions that were seen, but for known ones.
fn gaps_of(history: &[Operation], known: &HashSet<u64>) -> BTreeMap<u64, Gap> {
    let mut gaps = BTreeMap::new();
    for (cell, version, value) in history.iter().flat_map(seen_in) {
        if version > 0 && !known.contains(&version) {
            let (_, found): &mut Gap = gaps.entry(version).or_insert((cell, None));
            *found = found.take().or(value);
        }
    }
    gaps
}

/// The version of each value that was seen.
fn heard(history: &[Operation]) -> HashMap<Word, u64> {
    let seen = history.iter().flat_map(seen_in);
    seen.filter_map(|(_, version, value)| Some((value?, version))).collect()
}

/// The version that a write is known to have got: it was told, or one of its unique values was seen.
fn version_of(op: &Operation, heard: &HashMap<Word, u64>) -> Option<u64> {
    let changes = match &op.action {
        Action::Change(change) => slice::from_ref(change),
        Action::Batch(changes) => changes,
        _ => return None,
    };
    match op.outcome {
        Outcome::Ok(version) | Outcome::Made(version, _) => Some(version),
        Outcome::Unknown => changes.iter().find_map(|change| match change {
            Change::Put { value, .. } | Change::Append { value, .. } => heard.get(value).copied(),
            _ => None,
        }),
        _ => None,
    }
}
