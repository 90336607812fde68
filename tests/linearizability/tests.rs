//! The checker itself: it finds what is planted, and accepts what a real register answers.

use super::*;
use crate::harness::long;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Histories of a real register in one run.
const RUNS: u64 = 30;

fn op(began: u64, ended: u64, action: Action, outcome: Outcome) -> Operation {
    Operation { client: began as usize, began, ended, action, outcome }
}

fn put(value: &str) -> Action {
    Action::Put { value: value.into(), if_version: None }
}

fn put_if(value: &str, version: u64) -> Action {
    Action::Put { value: value.into(), if_version: Some(version) }
}

fn cput(expected: &str, value: &str) -> Action {
    Action::Cput { expected: expected.into(), value: value.into() }
}

fn is(version: u64, value: &str) -> Outcome {
    Outcome::Value(version, value.into())
}

use Action::Get;
use Outcome::{Mismatch, NotFound, Ok as Done, Refused, Unknown};
const DELETE: Action = Action::Delete { if_version: None };

fn violates(history: &[Operation]) {
    let verdict = check::<Register>(history);
    assert!(matches!(verdict, Verdict::Violation(_)), "{verdict:?}: {history:#?}");
}

fn fits(history: &[Operation]) {
    assert_eq!(check::<Register>(history), Verdict::Linearizable, "{history:#?}");
}

#[test]
fn a_stale_read_is_found() {
    let writes = [op(0, 1, put("a"), Done(1)), op(2, 3, put("b"), Done(2))];
    fits(&[&writes[..], &[op(4, 5, Get, is(2, "b"))]].concat());
    violates(&[&writes[..], &[op(4, 5, Get, is(1, "a"))]].concat());
    violates(&[&writes[..], &[op(4, 5, Get, NotFound)]].concat());
    fits(&[&writes[..1], &[op(2, 6, put("b"), Done(2)), op(3, 4, Get, is(1, "a"))]].concat());
    let torn = [op(2, 9, put("b"), Done(2)), op(3, 4, Get, is(2, "b")), op(5, 6, Get, is(1, "a"))];
    violates(&[&writes[..1], &torn].concat());
}

#[test]
fn a_lost_write_is_found() {
    violates(&[op(0, 1, put("a"), Done(1)), op(2, 3, Get, NotFound)]);
    violates(&[
        op(0, 1, put("a"), Done(1)),
        op(2, 3, put("b"), Done(2)),
        op(4, 5, cput("a", "c"), Done(3)),
    ]);
    violates(&[op(0, 1, put("a"), Done(1)), op(2, 3, DELETE, NotFound)]);
    violates(&[op(0, 1, put("a"), Done(1)), op(2, 3, DELETE, Done(2)), op(4, 5, DELETE, Done(3))]);
}

#[test]
fn two_winners_of_one_cput_are_found() {
    let a = op(0, 1, put("a"), Done(1));
    let (b, c) = (op(2, 9, cput("a", "b"), Done(2)), op(2, 9, cput("a", "c"), Done(3)));
    fits(&[a.clone(), b.clone(), op(2, 9, cput("a", "c"), Mismatch(2))]);
    violates(&[a.clone(), b, c]);
    violates(&[a, op(2, 9, put_if("b", 1), Done(2)), op(2, 9, put_if("c", 1), Done(3))]);
    violates(&[op(0, 9, put_if("a", 0), Done(1)), op(0, 9, put_if("b", 0), Done(2))]);
}

#[test]
fn a_write_that_failed_and_is_seen_is_found() {
    violates(&[op(0, 1, put("a"), Refused), op(2, 3, Get, is(1, "a"))]);
    fits(&[op(0, 1, put("a"), Unknown), op(2, 3, Get, is(1, "a"))]);
    let a = op(0, 1, put("a"), Done(1));
    violates(&[a.clone(), op(2, 3, cput("x", "b"), Mismatch(1)), op(4, 5, Get, is(2, "b"))]);
    violates(&[a.clone(), op(2, 3, cput("a", "b"), Mismatch(1)), op(4, 5, Get, is(1, "a"))]);
    violates(&[a, op(2, 3, put_if("b", 1), Mismatch(1))]);
}

#[test]
fn a_value_that_nobody_wrote_is_found() {
    violates(&[op(0, 1, Get, is(1, "a"))]);
    violates(&[op(0, 1, Get, is(1, "a")), op(2, 3, put("a"), Done(1))]);
    violates(&[op(0, 1, Get, is(1, "a")), op(2, 3, put("a"), Unknown)]);
}

#[test]
fn versions_that_do_not_grow_are_found() {
    violates(&[op(0, 1, put("a"), Done(2)), op(2, 3, put("b"), Done(1))]);
    violates(&[op(0, 1, put("a"), Done(1)), op(2, 3, put("b"), Done(1))]);
    violates(&[op(0, 1, put("a"), Done(1)), op(2, 3, Get, is(2, "a"))]);
    violates(&[op(0, 1, put("a"), Unknown), op(2, 3, Get, is(1, "a")), op(4, 5, Get, is(2, "a"))]);
    violates(&[op(0, 1, put("a"), Done(1)), op(2, 3, cput("x", "b"), Mismatch(7))]);
    violates(&[op(0, 1, put("a"), Done(5)), op(2, 3, DELETE, Done(4))]);
}

#[test]
fn an_unknown_write_happens_late_or_never_and_once() {
    let late = [
        op(0, 1, put("a"), Unknown),
        op(2, 3, put("b"), Done(1)),
        op(4, 5, Get, is(1, "b")),
        op(6, 7, Get, is(2, "a")),
    ];
    fits(&late[..3]);
    fits(&late);
    violates(&[&late[..], &[op(8, 9, put("c"), Done(3)), op(10, 11, Get, is(2, "a"))]].concat());
    let unseen = op(0, 1, put("a"), Unknown);
    fits(&[unseen.clone(), op(2, 3, DELETE, Done(2))]);
    fits(&[unseen.clone(), op(2, 3, cput("x", "y"), Mismatch(7)), op(4, 5, DELETE, Done(8))]);
    violates(&[unseen.clone(), op(2, 3, DELETE, Done(2)), op(4, 5, Get, is(1, "a"))]);
    fits(&[op(0, 1, put("a"), Done(1)), op(2, 3, DELETE, Unknown), op(4, 5, Get, NotFound)]);
    fits(&[
        op(0, 1, put("a"), Done(1)),
        op(2, 3, cput("a", "b"), Unknown),
        op(4, 5, Get, is(4, "b")),
    ]);
    violates(&[
        op(0, 1, put("a"), Done(1)),
        op(2, 3, cput("z", "b"), Unknown),
        op(4, 5, Get, is(4, "b")),
    ]);
}

#[test]
fn a_violation_is_shown_from_where_it_begins() {
    let mut history: Vec<_> =
        (0..200).map(|i| op(2 * i, 2 * i + 1, put(&format!("v{i}")), Done(i + 1))).collect();
    history.push(op(301, 303, Get, is(1, "v0")));
    let Verdict::Violation(text) = check::<Register>(&history) else {
        panic!("there is a stale read")
    };
    assert!(text.contains("Get -> Value(1, \"v0\")"), "{text}");
    assert!(text.lines().count() <= 63 && !text.contains("\"v170\""), "{text}");
}

#[test]
fn random_numbers_of_neighbours_differ() {
    let numbers = |seed: u64| {
        let mut random = Random::new(seed);
        (0..100).map(|_| random.any()).collect::<Vec<_>>()
    };
    let mut all: Vec<u64> = (0..20).flat_map(numbers).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 2000);
}

/// A register behind a lock, and the history of threads that use it.
struct Real {
    cell: Mutex<(u64, Option<(u64, String)>)>,
    began: Instant,
}

impl Real {
    fn execute(&self, action: &Action) -> Outcome {
        let mut guard = self.cell.lock().unwrap();
        let (last, cell) = &mut *guard;
        let version = cell.as_ref().map_or(0, |(version, _)| *version);
        let written = match action {
            Get => return cell.clone().map_or(NotFound, |(version, value)| is(version, &value)),
            Action::Put { if_version: Some(wished), .. }
            | Action::Delete { if_version: Some(wished) }
                if *wished != version =>
            {
                return Mismatch(version);
            }
            Action::Cput { expected, .. }
                if cell.as_ref().is_none_or(|(_, value)| value != expected) =>
            {
                return Mismatch(version);
            }
            Action::Delete { .. } if cell.is_none() => return NotFound,
            Action::Delete { .. } => None,
            Action::Put { value, .. } | Action::Cput { value, .. } => Some(value.clone()),
            other => unreachable!("{other:?} is asked of rows"),
        };
        *last += 1 + u64::from(last.is_multiple_of(3));
        *cell = written.map(|value| (*last, value));
        Done(*last)
    }

    fn client(&self, client: usize, seed: u64, operations: u64) -> Vec<Operation> {
        let (mut random, mut seen) = (Random::new(seed), (0, String::new()));
        let mut history = Vec::new();
        for i in 0..operations {
            let (value, guess) = (format!("{client}-{i}"), seen.clone());
            let action = match random.below(9) {
                0..4 => Get,
                4 => put(&value),
                5 => put_if(&value, guess.0),
                6 => cput(&guess.1, &value),
                7 => Action::Delete { if_version: Some(guess.0) },
                _ => DELETE,
            };
            let began = self.began.elapsed().as_nanos() as u64;
            let lost = random.below(20);
            let mut outcome = if lost == 0 { Unknown } else { self.execute(&action) };
            if lost == 1 {
                outcome = Unknown;
            }
            let ended = self.began.elapsed().as_nanos() as u64;
            if let Outcome::Value(version, value) = &outcome {
                seen = (*version, value.clone());
            }
            history.push(Operation { client, began, ended, action, outcome });
            if random.chance(10) {
                std::thread::sleep(Duration::from_micros(random.below(200)));
            }
        }
        history
    }
}

fn real_history(seed: u64, operations: u64) -> Vec<Operation> {
    let real = Real { cell: Mutex::default(), began: Instant::now() };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..5)
            .map(|c| {
                scope.spawn({
                    let real = &real;
                    move || real.client(c, seed * 100 + c as u64, operations)
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn what_a_real_register_answers_is_linearizable() {
    for seed in 0..if long() { 20 * RUNS } else { RUNS } {
        let history = real_history(seed, 20 + 20 * (seed % 10));
        assert_eq!(check::<Register>(&history), Verdict::Linearizable, "seed {seed}: {history:#?}");
    }
}

/// An answer that was changed is found, wherever it stands: a read of another value that was written.
#[test]
fn one_wrong_read_in_a_long_history_is_found() {
    for seed in 0..RUNS {
        let mut history = real_history(seed, 100);
        let ended: u64 = history.iter().map(|op| op.ended).max().unwrap();
        let values = history.iter().filter_map(|op| match (&op.outcome, op.written()) {
            (Done(version), Some(value)) => Some((op.ended, *version, value.clone())),
            _ => None,
        });
        let (_, version, value) = values.min().expect("something was written");
        let later = history.iter().any(
            |op| matches!((&op.outcome, op.written()), (Done(other), Some(_)) if *other > version),
        );
        assert!(later, "seed {seed}: the first value was overwritten");
        history.push(op(ended + 1, ended + 2, Get, is(version, &value)));
        violates(&history);
    }
}
