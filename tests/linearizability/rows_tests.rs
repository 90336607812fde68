//! The checker of rows: it finds what is planted, and accepts what real rows answer.

use super::*;
use crate::harness::long;
use Outcome::{Cells, Made, Mismatch, MismatchAt, NotFound, Ok as Done, Over, Unknown};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Histories of real rows in one run.
const RUNS: u64 = 30;
/// Threads that make one.
const THREADS: usize = 5;
/// Of so many operations one never happens, and another does, and nobody is told.
const LOST_OF: u64 = 120;

fn op(began: u64, ended: u64, action: Action, outcome: Outcome) -> Operation {
    Operation { client: began as usize, began, ended, action, outcome }
}

fn add(cell: &str, delta: i64) -> Change {
    Change::Add { cell: cell.into(), delta, max: None }
}

fn add_within(cell: &str, delta: i64, max: i64) -> Change {
    Change::Add { cell: cell.into(), delta, max: Some(max) }
}

fn put(cell: &str, value: &str) -> Change {
    Change::Put { cell: cell.into(), value: value.into(), if_version: None }
}

fn put_if(cell: &str, value: &str, version: u64) -> Change {
    Change::Put { cell: cell.into(), value: value.into(), if_version: Some(version) }
}

fn append(value: &str) -> Change {
    Change::Append { prefix: "r m/".into(), value: value.into() }
}

fn delete(cell: &str) -> Change {
    Change::Delete { cell: cell.into() }
}

/// A write by itself that began and ended then.
fn one(began: u64, ended: u64, change: Change, outcome: Outcome) -> Operation {
    op(began, ended, Action::Change(change), outcome)
}

fn batch(began: u64, ended: u64, changes: &[Change], outcome: Outcome) -> Operation {
    op(began, ended, Action::Batch(changes.to_vec()), outcome)
}

fn scan(began: u64, ended: u64, cells: &[(&str, u64, &str)]) -> Operation {
    let cells =
        cells.iter().map(|(name, version, value)| ((*name).into(), *version, (*value).into()));
    op(began, ended, Action::Scan("r".into()), Cells(cells.collect()))
}

fn read(began: u64, ended: u64, cell: &str, outcome: Outcome) -> Operation {
    op(began, ended, Action::Read(cell.into()), outcome)
}

fn made(version: u64, words: &[&str]) -> Outcome {
    Made(version, words.iter().map(|word| word.to_string()).collect())
}

fn is(version: u64, value: &str) -> Outcome {
    Outcome::Value(version, value.into())
}

const FIRST: &str = "r m/000000000001";
const SECOND: &str = "r m/000000000002";

/// The column that APPEND makes of a number.
fn column(number: u64) -> String {
    format!("m/{number:012}")
}

fn appended(version: u64, number: u64) -> Outcome {
    Made(version, vec![column(number)])
}

fn violates(history: &[Operation]) {
    let verdict = check::<Rows>(history);
    assert!(matches!(verdict, Verdict::Violation(_)), "{verdict:?}: {history:#?}");
}

fn fits(history: &[Operation]) {
    assert_eq!(check::<Rows>(history), Verdict::Linearizable, "{history:#?}");
}

#[test]
fn an_add_that_was_executed_twice_is_found() {
    let first = one(0, 1, add("r n", 5), made(1, &["5"]));
    fits(&[first.clone(), one(2, 3, add("r n", 7), made(2, &["12"]))]);
    violates(&[first.clone(), one(2, 3, add("r n", 7), made(3, &["17"]))]);
    violates(&[first.clone(), read(2, 3, "r n", is(2, "10"))]);
    violates(&[first.clone(), scan(2, 3, &[("r n", 2, "10")])]);
    let lost = one(2, 3, add("r n", 7), Unknown);
    fits(&[first.clone(), lost.clone(), read(4, 5, "r n", is(2, "12"))]);
    violates(&[first.clone(), lost.clone(), read(4, 5, "r n", is(3, "19"))]);
    violates(&[first, lost, one(4, 5, add("r n", 1), made(4, &["20"]))]);
}

#[test]
fn a_lost_add_is_found() {
    let writes =
        [one(0, 1, add("r n", 5), made(1, &["5"])), one(2, 3, add("r n", 7), made(2, &["12"]))];
    violates(&[&writes[..], &[one(4, 5, add("r n", 1), made(3, &["6"]))]].concat());
    violates(&[&writes[..], &[read(4, 5, "r n", is(1, "5"))]].concat());
    violates(&[&writes[..], &[scan(4, 5, &[("r n", 1, "5")])]].concat());
    violates(&[&writes[..], &[scan(4, 5, &[])]].concat());
    let both = |sum: &str| {
        [one(0, 9, add("r n", 5), made(1, &["5"])), one(0, 9, add("r n", 7), made(2, &[sum]))]
    };
    fits(&both("12"));
    violates(&both("7"));
}

#[test]
fn an_unknown_add_happens_late_or_never_and_once() {
    let lost = one(0, 1, add("r n", 7), Unknown);
    let five = one(2, 3, add("r n", 5), made(1, &["5"]));
    let seen = |at: u64, version: u64, sum: &str| read(at, at + 1, "r n", is(version, sum));
    fits(&[lost.clone(), five.clone(), seen(4, 1, "5")]);
    fits(&[lost.clone(), five.clone(), seen(4, 1, "5"), seen(6, 2, "12")]);
    violates(&[lost.clone(), five.clone(), seen(4, 2, "12"), seen(6, 1, "5")]);
    violates(&[lost.clone(), five.clone(), seen(4, 2, "12"), seen(6, 3, "12")]);
    violates(&[lost.clone(), five.clone(), seen(4, 1, "12")]);
    let later = one(8, 9, add("r n", 1), made(4, &["13"]));
    fits(&[lost.clone(), five.clone(), seen(4, 3, "12"), later.clone()]);
    violates(&[lost, five, seen(4, 4, "12"), later]);
}

#[test]
fn a_number_that_append_gives_out_twice_is_found() {
    let first = one(0, 1, append("a"), appended(1, 1));
    fits(&[first.clone(), one(2, 3, append("b"), appended(2, 2))]);
    violates(&[first.clone(), one(2, 3, append("b"), appended(2, 1))]);
    let gone = one(2, 3, delete(FIRST), Done(2));
    violates(&[first.clone(), gone.clone(), one(4, 5, append("b"), appended(3, 1))]);
    fits(&[first.clone(), gone, one(4, 5, append("b"), appended(3, 2))]);
    let cleared = one(2, 3, Change::DeleteRow { row: "r".into() }, Done(2));
    violates(&[first.clone(), cleared.clone(), one(4, 5, append("b"), appended(3, 1))]);
    fits(&[first, cleared, one(4, 5, append("b"), appended(3, 2))]);
}

#[test]
fn an_acknowledged_append_that_a_scan_lacks_is_found() {
    let both = [one(0, 1, append("a"), appended(1, 1)), one(0, 9, append("b"), appended(2, 2))];
    fits(&[&both[..], &[scan(2, 3, &[(FIRST, 1, "a")])]].concat());
    violates(&[&both[..], &[scan(2, 3, &[])]].concat());
    violates(&[&both[..], &[scan(10, 11, &[(FIRST, 1, "a")])]].concat());
    violates(&[&both[..], &[scan(10, 11, &[(SECOND, 2, "b")])]].concat());
    fits(&[&both[..], &[scan(10, 11, &[(FIRST, 1, "a"), (SECOND, 2, "b")])]].concat());
}

#[test]
fn an_unknown_append_is_there_at_most_once() {
    let lost = one(0, 1, append("a"), Unknown);
    fits(&[lost.clone(), scan(2, 3, &[])]);
    fits(&[lost.clone(), scan(2, 3, &[(FIRST, 1, "a")])]);
    violates(&[lost.clone(), scan(2, 3, &[(FIRST, 1, "a"), (SECOND, 2, "a")])]);
    fits(&[lost.clone(), one(2, 3, append("b"), appended(2, 2))]);
    violates(&[lost.clone(), scan(2, 3, &[(FIRST, 1, "a")]), scan(4, 5, &[])]);
    violates(&[lost, one(2, 3, append("b"), appended(2, 2)), scan(4, 5, &[(SECOND, 2, "b")])]);
}

#[test]
fn a_torn_batch_that_a_scan_sees_is_found() {
    let items = [put("r a", "x"), add("r n", 5), append("y")];
    let whole = [(FIRST, 1, "y"), ("r n", 1, "5")];
    let cells = [&[("r a", 1, "x")][..], &whole].concat();
    for outcome in [made(1, &["5", &column(1)]), Unknown] {
        let write = batch(0, 9, &items, outcome);
        fits(&[write.clone(), scan(2, 3, &[])]);
        fits(&[write.clone(), scan(2, 3, &cells)]);
        violates(&[write.clone(), scan(2, 3, &whole)]);
        violates(&[write.clone(), scan(2, 3, &cells[..1])]);
        violates(&[write.clone(), scan(2, 3, &cells), scan(4, 5, &[])]);
        violates(&[write.clone(), read(2, 3, "r a", is(1, "x")), read(4, 5, "r n", NotFound)]);
    }
    violates(&[batch(0, 1, &items, made(1, &["5", &column(2)]))]);
    violates(&[batch(0, 1, &items, made(1, &["6", &column(1)]))]);
    violates(&[batch(0, 1, &items, Done(1))]);
}

#[test]
fn a_batch_of_two_rows_is_torn_where_one_row_is_old() {
    let write = batch(0, 9, &[put("r a", "x"), put("s a", "y")], Done(1));
    let other = |began: u64, outcome: Outcome| read(began, began + 1, "s a", outcome);
    fits(&[write.clone(), scan(2, 3, &[("r a", 1, "x")]), other(4, is(1, "y"))]);
    violates(&[write.clone(), scan(2, 3, &[("r a", 1, "x")]), other(4, NotFound)]);
    fits(&[write, scan(2, 3, &[]), other(4, NotFound)]);
}

#[test]
fn a_stale_scan_is_found() {
    let writes = [
        one(0, 1, put("r a", "x"), Done(1)),
        batch(2, 3, &[put("r a", "y"), put("r b", "z")], Done(2)),
    ];
    let old = [("r a", 1, "x")];
    let new = [("r a", 2, "y"), ("r b", 2, "z")];
    fits(&[&writes[..], &[scan(4, 5, &new)]].concat());
    violates(&[&writes[..], &[scan(4, 5, &old)]].concat());
    violates(&[&writes[..], &[scan(4, 5, &[])]].concat());
    let slow = batch(2, 9, &[put("r a", "y"), put("r b", "z")], Done(2));
    fits(&[writes[0].clone(), slow.clone(), scan(4, 5, &old), scan(6, 7, &new)]);
    violates(&[writes[0].clone(), slow.clone(), scan(4, 5, &new), scan(6, 7, &old)]);
    let gone = one(10, 11, delete("r b"), Done(3));
    violates(&[writes[0].clone(), slow, gone, scan(12, 13, &new)]);
}

#[test]
fn a_batch_whose_condition_fails_leaves_nothing() {
    let first = one(0, 1, put("r a", "x"), Done(1));
    let items = [add("r n", 5), put_if("r a", "y", 7)];
    let refused = batch(2, 3, &items, MismatchAt(1, 1));
    fits(&[first.clone(), refused.clone(), scan(4, 5, &[("r a", 1, "x")])]);
    violates(&[first.clone(), refused, scan(4, 5, &[("r a", 1, "x"), ("r n", 2, "5")])]);
    violates(&[first.clone(), batch(2, 3, &items, MismatchAt(7, 1))]);
    violates(&[first.clone(), batch(2, 3, &items, MismatchAt(2, 1))]);
    violates(&[first.clone(), batch(2, 3, &items, MismatchAt(1, 0))]);
    violates(&[first.clone(), batch(2, 3, &items, made(2, &["5"]))]);
    let holds = [add("r n", 5), put_if("r a", "y", 1)];
    fits(&[first.clone(), batch(2, 3, &holds, made(2, &["5"]))]);
    violates(&[first.clone(), batch(2, 3, &holds, MismatchAt(1, 1))]);
    violates(&[first, one(2, 3, put_if("r a", "y", 1), Mismatch(1))]);
}

#[test]
fn a_bound_refuses_what_goes_over_it_and_nothing_else() {
    let first = one(0, 1, add_within("r n", 7, 10), made(1, &["7"]));
    fits(&[first.clone(), one(2, 3, add_within("r n", 4, 10), Over(7))]);
    fits(&[first.clone(), one(2, 3, add_within("r n", 3, 10), made(2, &["10"]))]);
    fits(&[first.clone(), one(2, 3, add_within("r n", -1, 5), made(2, &["6"]))]);
    violates(&[first.clone(), one(2, 3, add_within("r n", 3, 10), Over(7))]);
    violates(&[first.clone(), one(2, 3, add_within("r n", 4, 10), Over(6))]);
    violates(&[first.clone(), one(2, 3, add_within("r n", 4, 10), made(2, &["11"]))]);
    violates(&[first.clone(), one(2, 3, add_within("r n", -1, 5), Over(7))]);
    let open = one(2, 9, add_within("r n", 3, 10), Unknown);
    fits(&[first.clone(), open.clone(), one(4, 5, add_within("r n", 2, 10), Over(10))]);
    fits(&[first.clone(), open, one(4, 5, add_within("r n", 2, 10), made(2, &["9"]))]);
    let items = [put("r a", "x"), add("r n", 2), add_within("r n", 2, 10)];
    fits(&[first.clone(), batch(2, 3, &items, Over(9)), scan(4, 5, &[("r n", 1, "7")])]);
    violates(&[first.clone(), batch(2, 3, &items, made(2, &["9", "11"]))]);
    let items = [add_within("r n", 4, 10), put_if("r a", "x", 5)];
    fits(&[first.clone(), batch(2, 3, &items, Over(7))]);
    violates(&[first, batch(2, 3, &items, MismatchAt(0, 1))]);
}

#[test]
fn versions_that_contradict_the_order_are_found() {
    violates(&[one(0, 1, put("r a", "x"), Done(2)), one(2, 3, put("r b", "y"), Done(1))]);
    violates(&[one(0, 1, put("r a", "x"), Done(1)), one(0, 1, put("r b", "y"), Done(1))]);
    violates(&[one(0, 1, put("r a", "x"), Done(1)), scan(2, 3, &[("r a", 2, "x")])]);
    violates(&[one(0, 1, delete("r a"), Done(1))]);
    violates(&[one(0, 1, put("r a", "x"), Done(1)), one(2, 3, delete("r a"), NotFound)]);
}

/// Rows behind a lock.
#[derive(Default)]
struct Real {
    cells: BTreeMap<String, (u64, String)>,
    number: u64,
    version: u64,
}

impl Real {
    fn execute(&mut self, action: &Action) -> Outcome {
        match action {
            Action::Read(cell) => match self.cells.get(&**cell) {
                Some((version, value)) => is(*version, value),
                None => NotFound,
            },
            Action::Change(Change::Delete { cell }) if !self.cells.contains_key(&**cell) => {
                NotFound
            }
            Action::Change(change) => self.write(std::slice::from_ref(change)),
            Action::Batch(changes) => self.write(changes),
            Action::Scan(row) => Cells(self.scan(row)),
            other => unreachable!("{other:?} is asked of cells"),
        }
    }

    fn scan(&self, row: &str) -> Vec<(Word, u64, Word)> {
        let row = self.cells.iter().filter(|(name, _)| name.split(' ').next() == Some(row));
        row.map(|(name, (version, value))| (name.as_str().into(), *version, value.as_str().into()))
            .collect()
    }

    fn write(&mut self, changes: &[Change]) -> Outcome {
        for (at, change) in changes.iter().enumerate() {
            if let Change::Put { cell, if_version: Some(wished), .. } = change {
                let is = self.cells.get(&**cell).map_or(0, |(version, _)| *version);
                match changes.len() {
                    _ if is == *wished => {}
                    1 => return Mismatch(is),
                    _ => return MismatchAt(is, at),
                }
            }
        }
        self.version += 1 + self.version % 3;
        let words: Vec<String> = changes.iter().filter_map(|change| self.make(change)).collect();
        if words.is_empty() { Done(self.version) } else { Made(self.version, words) }
    }

    fn make(&mut self, change: &Change) -> Option<String> {
        let (cell, value, word) = match change {
            Change::Put { cell, value, .. } => (cell.to_string(), value.to_string(), None),
            Change::Add { cell, delta, .. } => {
                let old = self.cells.get(&**cell).map_or(0, |(_, sum)| sum.parse().unwrap());
                let sum = (old + delta).to_string();
                (cell.to_string(), sum.clone(), Some(sum))
            }
            Change::Append { value, .. } => {
                self.number += 1;
                let column = column(self.number);
                (format!("r {column}"), value.to_string(), Some(column))
            }
            Change::Delete { cell } => {
                self.cells.remove(&**cell);
                return None;
            }
            Change::DeleteRow { .. } => unreachable!("nobody asks for it"),
        };
        self.cells.insert(cell, (self.version, value));
        word
    }
}

/// What a thread asks, by a random number; versions of conditions and numbers to delete are guessed.
fn some_action(random: &mut Random, unique: &str, version: u64) -> Action {
    let cell = *random.one_of(&["r a", "r b", "s a"]);
    let (counter, text) = (*random.one_of(&["r n", "s n"]), *random.one_of(&["r a", "s a"]));
    let delta = random.below(1 << 30) as i64;
    match random.below(10) {
        0..4 => Action::Scan((*random.one_of(&["r", "s"])).into()),
        4 => Action::Read(counter.into()),
        5 => Action::Change(add(counter, delta)),
        6 => Action::Change(append(unique)),
        7 => Action::Change(put_if(cell, unique, version)),
        8 => Action::Change(delete(&format!("r {}", column(1 + random.below(20))))),
        _ => Action::Batch(vec![
            add(counter, delta),
            put(cell, unique),
            append(&format!("{unique}'")),
            delete(text),
        ]),
    }
}

fn real_history(seed: u64, operations: u64) -> Vec<Operation> {
    let (real, began) = (Mutex::new(Real::default()), Instant::now());
    let now = || began.elapsed().as_nanos() as u64;
    let client = |client: usize| {
        let mut random = Random::new(seed * 100 + client as u64);
        let asked = (0..operations).map(|i| {
            let version = real.lock().unwrap().version;
            let action = some_action(&mut random, &format!("{client}-{i}"), version);
            let (began, lost) = (now(), random.below(LOST_OF));
            let mut outcome =
                if lost == 0 { Unknown } else { real.lock().unwrap().execute(&action) };
            if lost == 1 {
                outcome = Unknown;
            }
            let op = Operation { client, began, ended: now(), action, outcome };
            if random.chance(10) {
                std::thread::sleep(Duration::from_micros(random.below(200)));
            }
            op
        });
        asked.collect::<Vec<_>>()
    };
    let mut history: Vec<Operation> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|c| scope.spawn(move || client(c))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let cells = Cells(real.lock().unwrap().scan("r"));
    history.push(op(now(), now(), Action::Scan("r".into()), cells));
    history
}

#[test]
fn what_real_rows_answer_is_linearizable() {
    for seed in 0..if long() { 20 * RUNS } else { RUNS } {
        let history = real_history(seed, 10 + 10 * (seed % 6));
        assert_eq!(check::<Rows>(&history), Verdict::Linearizable, "seed {seed}: {history:#?}");
    }
}

/// A SCAN that lacks one cell, or has another version of it, is found after all others.
#[test]
fn one_wrong_scan_in_a_long_history_is_found() {
    for seed in 0..RUNS {
        let mut history = real_history(seed, 40);
        let certain = certain_cells(&history);
        let Some(Cells(cells)) = history.last_mut().map(|op| &mut op.outcome) else {
            unreachable!("the last is a SCAN")
        };
        let name = Random::new(seed).one_of(&certain).clone();
        let cell = cells.iter().position(|(cell, ..)| *cell == name).expect("it was there");
        match seed % 2 {
            0 => cells[cell].1 -= 1,
            _ => drop(cells.remove(cell)),
        }
        violates(&history);
    }
}

/// Cells of the last SCAN whose writes were answered, and which no unanswered DELETE may have removed.
fn certain_cells(history: &[Operation]) -> Vec<Word> {
    let Some(Cells(cells)) = history.last().map(|op| &op.outcome) else { return Vec::new() };
    let is_answered = |version: u64| {
        history.iter().any(|op| matches!(op.outcome, Done(v) | Made(v, _) if v == version))
    };
    let may_be_gone = |cell: &str| {
        let lost = history.iter().filter(|op| op.outcome == Unknown);
        lost.map(|op| &op.action).any(|action| *action == Action::Change(delete(cell)))
    };
    let certain = cells.iter().filter(|(cell, v, _)| is_answered(*v) && !may_be_gone(cell));
    certain.map(|(cell, ..)| cell.clone()).collect()
}
