//! The search for an order: Wing and Gong's algorithm with Lowe's memory of what was tried.
//!
//! An operation can come next if it was asked before any of those still to be ordered was answered. The search
//! takes one that the register allows, and goes back when none is left; a set of ordered operations that led to
//! the same state before is not tried again. Operations whose outcome is unknown come last among the candidates,
//! and need not be ordered at all.

use super::history::{Operation, Outcome, meaningful, until};
use super::register::{Register, State};
use std::collections::HashSet;
use std::fmt::Write;

/// Sets of ordered operations that are remembered; past it the search gives up.
const TRIED_MAX: usize = 2_000_000;
/// Operations that a violation shows.
const SHOWN: usize = 60;

/// What came of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order.
    Linearizable,
    /// There is none; the text shows the shortest beginning of the history for which there is none.
    Violation(String),
    /// The search was given up: this proves nothing.
    Undecided,
}

/// Whether the history of one cell, which at first is not there, is linearizable.
pub fn check(history: &[Operation]) -> Verdict {
    let history = meaningful(history);
    match search(&history) {
        Ok(true) => Verdict::Linearizable,
        Ok(false) => Verdict::Violation(explain(&history)),
        Err(Undecided) => Verdict::Undecided,
    }
}

struct Undecided;

fn search(history: &[Operation]) -> Result<bool, Undecided> {
    match Register::new(history) {
        Ok(register) => Search::new(history, &register).run(),
        Err(_) => Ok(false),
    }
}

/// The shortest beginning of a history for which there is no order: its last operations, and why.
fn explain(history: &[Operation]) -> String {
    let answered = history.iter().filter(|op| op.outcome != Outcome::Unknown);
    let mut instants: Vec<u64> = answered.map(|op| op.ended).collect();
    instants.sort_unstable();
    let fits = |at: &u64| search(&until(history, *at)).unwrap_or(true);
    let first = instants.partition_point(fits);
    let (mut shown, mut text) = (history.to_vec(), String::new());
    if let Some(at) = instants.get(first) {
        shown = until(history, *at);
        let _ = writeln!(text, "no order explains what was answered at {:.3} ms", *at as f64 / 1e6);
    }
    if let Err(why) = Register::new(&shown) {
        let _ = writeln!(text, "{why}");
    }
    let from = shown.len().saturating_sub(SHOWN);
    let _ = writeln!(text, "{from} earlier operations are not shown");
    for op in &shown[from..] {
        let _ = writeln!(text, "{op}");
    }
    text
}

/// The end of a list, and its beginning.
const END: usize = usize::MAX;

/// Operations still to be ordered, as two linked lists: the calls and returns of the answered ones by time, and
/// the calls of the open ones by time. Call i of the history is node 2i, its return 2i + 1.
struct Search<'a> {
    register: &'a Register,
    times: Vec<u64>,
    next: Vec<usize>,
    previous: Vec<usize>,
    /// First nodes of the two lists.
    heads: [usize; 2],
    /// A random number for each operation: those of a set, added up, stand for the set.
    marks: Vec<u128>,
    /// Answered operations still to be ordered.
    left: usize,
    /// Which operations are ordered.
    taken: Vec<bool>,
}

/// What was ordered, and the state before.
struct Taken {
    operation: usize,
    before: State,
}

impl<'a> Search<'a> {
    fn new(history: &[Operation], register: &'a Register) -> Search<'a> {
        let times = history.iter().flat_map(|op| [op.began, op.ended]).collect::<Vec<_>>();
        let mut marks = super::Random::new(history.len() as u64);
        let mut search = Search {
            register,
            next: vec![END; times.len()],
            previous: vec![END; times.len()],
            heads: [END; 2],
            marks: history.iter().map(|_| marks.wide()).collect(),
            taken: vec![false; history.len()],
            left: register.steps.iter().filter(|step| !step.open).count(),
            times,
        };
        let answered = |i: &usize| !register.steps[*i].open;
        let all = 0..history.len();
        let mut events: Vec<usize> =
            all.clone().filter(answered).flat_map(|i| [2 * i, 2 * i + 1]).collect();
        // At one instant calls come first: then the two operations overlap.
        events.sort_by_key(|node| (search.times[*node], node % 2));
        search.link(0, &events);
        let open: Vec<usize> = all.filter(|i| !answered(i)).map(|i| 2 * i).collect();
        search.link(1, &open);
        search
    }

    fn link(&mut self, list: usize, nodes: &[usize]) {
        for pair in nodes.windows(2) {
            self.next[pair[0]] = pair[1];
            self.previous[pair[1]] = pair[0];
        }
        self.heads[list] = nodes.first().copied().unwrap_or(END);
    }

    fn run(mut self) -> Result<bool, Undecided> {
        let (mut state, mut set) = (State::default(), 0u128);
        let (mut path, mut tried) = (Vec::<Taken>::new(), HashSet::new());
        let mut after = None;
        while self.left > 0 {
            let Some(operation) = self.candidate(after) else {
                let Some(last) = path.pop() else { return Ok(false) };
                self.put_back(last.operation);
                set = set.wrapping_sub(self.marks[last.operation]);
                (state, after) = (last.before, Some(last.operation));
                continue;
            };
            after = Some(operation);
            if self.register.steps[operation].twin.is_some_and(|twin| !self.taken[twin]) {
                continue;
            }
            let Some(next) = self.register.after(state, operation) else { continue };
            let with = set.wrapping_add(self.marks[operation]);
            if !tried.insert((with, next)) {
                continue;
            }
            if tried.len() > TRIED_MAX {
                return Err(Undecided);
            }
            path.push(Taken { operation, before: state });
            self.take(operation);
            (state, set, after) = (next, with, None);
        }
        Ok(true)
    }

    /// The next operation that can come now, after another candidate or the first.
    fn candidate(&self, after: Option<usize>) -> Option<usize> {
        let open = after.is_some_and(|i| self.register.steps[i].open);
        if !open {
            let node = after.map_or(self.heads[0], |i| self.next[2 * i]);
            if node != END && node.is_multiple_of(2) {
                return Some(node / 2);
            }
        }
        let node = match after {
            Some(i) if open => self.next[2 * i],
            _ => self.heads[1],
        };
        (node != END && self.times[node] <= self.first_return()).then_some(node / 2)
    }

    /// When the first of the operations still to be ordered was answered.
    fn first_return(&self) -> u64 {
        let mut node = self.heads[0];
        while node.is_multiple_of(2) {
            node = self.next[node];
        }
        self.times[node]
    }

    fn take(&mut self, operation: usize) {
        self.taken[operation] = true;
        let open = self.register.steps[operation].open;
        self.unlink(2 * operation, usize::from(open));
        if !open {
            self.unlink(2 * operation + 1, 0);
            self.left -= 1;
        }
    }

    fn put_back(&mut self, operation: usize) {
        self.taken[operation] = false;
        let open = self.register.steps[operation].open;
        if !open {
            self.relink(2 * operation + 1, 0);
            self.left += 1;
        }
        self.relink(2 * operation, usize::from(open));
    }

    fn unlink(&mut self, node: usize, list: usize) {
        let (previous, next) = (self.previous[node], self.next[node]);
        match previous {
            END => self.heads[list] = next,
            _ => self.next[previous] = next,
        }
        if next != END {
            self.previous[next] = previous;
        }
    }

    fn relink(&mut self, node: usize, list: usize) {
        let (previous, next) = (self.previous[node], self.next[node]);
        match previous {
            END => self.heads[list] = node,
            _ => self.next[previous] = node,
        }
        if next != END {
            self.previous[next] = node;
        }
    }
}
