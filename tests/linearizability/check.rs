//! The search for an order: Wing and Gong's algorithm with Lowe's memory of what was tried.
//!
//! An operation can come next if it was asked before any of those still to be ordered was answered. The search
//! takes one that the model allows, and goes back when none is left; a set of ordered operations that led to
//! the same state before is not tried again. Operations whose outcome is unknown come last among the candidates,
//! and need not be ordered at all. An answered one that fits and changes nothing comes first, and nothing else is
//! tried in its place: an order in which it comes later is one in which it comes now, too.

use super::history::{Operation, Outcome, meaningful, until};
use std::collections::HashSet;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};

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

/// What one process that does one thing at a time would answer to the operations of a history.
pub trait Model: Sized {
    /// What it keeps; at first it is empty.
    type State: Clone + Default + PartialEq + Hash;

    /// Of a history; an error says what no order can explain.
    fn new(history: &[Operation]) -> Result<Self, String>;

    /// Whether an operation need not happen.
    fn is_open(&self, i: usize) -> bool;

    /// Another operation, before which this one need not be tried.
    fn waits_for(&self, i: usize) -> Option<usize>;

    /// The state after an operation; none if it cannot happen now as it was answered.
    fn after(&self, state: &Self::State, i: usize) -> Option<Self::State>;
}

/// Whether the history of one object, which at first is empty, is linearizable.
pub fn check<M: Model>(history: &[Operation]) -> Verdict {
    let history = meaningful(history);
    match search::<M>(&history) {
        Ok(true) => Verdict::Linearizable,
        Ok(false) => Verdict::Violation(explain::<M>(&history)),
        Err(Undecided) => Verdict::Undecided,
    }
}

struct Undecided;

fn search<M: Model>(history: &[Operation]) -> Result<bool, Undecided> {
    match M::new(history) {
        Ok(model) => Search::new(history, &model).run(),
        Err(_) => Ok(false),
    }
}

/// The shortest beginning of a history for which there is no order: its last operations, and why.
fn explain<M: Model>(history: &[Operation]) -> String {
    let answered = history.iter().filter(|op| op.outcome != Outcome::Unknown);
    let mut instants: Vec<u64> = answered.map(|op| op.ended).collect();
    instants.sort_unstable();
    let fits = |at: &u64| search::<M>(&until(history, *at)).unwrap_or(true);
    let first = instants.partition_point(fits);
    let (mut shown, mut text) = (history.to_vec(), String::new());
    if let Some(at) = instants.get(first) {
        shown = until(history, *at);
        let _ = writeln!(text, "no order explains what was answered at {:.3} ms", *at as f64 / 1e6);
    }
    if let Err(why) = M::new(&shown) {
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
struct Search<'a, M> {
    model: &'a M,
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
struct Taken<S> {
    operation: usize,
    before: S,
    /// Nothing else need be tried in its place.
    is_sure: bool,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(history: &[Operation], model: &'a M) -> Search<'a, M> {
        let times = history.iter().flat_map(|op| [op.began, op.ended]).collect::<Vec<_>>();
        let mut marks = super::Random::new(history.len() as u64);
        let mut search = Search {
            model,
            next: vec![END; times.len()],
            previous: vec![END; times.len()],
            heads: [END; 2],
            marks: history.iter().map(|_| marks.wide()).collect(),
            taken: vec![false; history.len()],
            left: (0..history.len()).filter(|i| !model.is_open(*i)).count(),
            times,
        };
        let answered = |i: &usize| !model.is_open(*i);
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
        let (mut state, mut set) = (M::State::default(), 0u128);
        let (mut path, mut tried) = (Vec::new(), HashSet::new());
        let mut after = None;
        while self.left > 0 {
            let step = self.step(&state, after);
            let is_sure = step.as_ref().is_some_and(|(i, next)| self.is_sure(*i, &state, next));
            match step {
                Some((i, next)) if tried.insert((self.with(set, i), fingerprint(&next))) => {
                    (set, after) = (self.with(set, i), None);
                    self.take(i);
                    let before = std::mem::replace(&mut state, next);
                    path.push(Taken { operation: i, before, is_sure });
                }
                Some((i, _)) if !is_sure => after = Some(i),
                _ => {
                    let Some(last) = self.go_back(&mut path, &mut set) else { return Ok(false) };
                    (state, after) = (last.before, Some(last.operation));
                }
            }
            if tried.len() > TRIED_MAX {
                return Err(Undecided);
            }
        }
        Ok(true)
    }

    /// What stands for a set of operations and one more.
    fn with(&self, set: u128, operation: usize) -> u128 {
        set.wrapping_add(self.marks[operation])
    }

    /// Whether nothing else need be tried in place of an operation.
    fn is_sure(&self, operation: usize, before: &M::State, after: &M::State) -> bool {
        before == after && !self.model.is_open(operation)
    }

    /// What comes now, after another candidate or the first, and the state after it.
    fn step(&self, state: &M::State, after: Option<usize>) -> Option<(usize, M::State)> {
        let sure = if after.is_none() { self.unchanging(state) } else { None };
        sure.or_else(|| self.steps(after).find_map(|i| Some((i, self.allowed(state, i)?))))
    }

    /// An answered candidate that changes nothing.
    fn unchanging(&self, state: &M::State) -> Option<(usize, M::State)> {
        let mut steps = self.steps(None).filter_map(|i| Some((i, self.allowed(state, i)?)));
        steps.find(|(i, next)| self.is_sure(*i, state, next))
    }

    fn allowed(&self, state: &M::State, operation: usize) -> Option<M::State> {
        let waits = self.model.waits_for(operation).is_some_and(|other| !self.taken[other]);
        if waits { None } else { self.model.after(state, operation) }
    }

    /// Takes back what was ordered last and might have been something else.
    fn go_back(
        &mut self,
        path: &mut Vec<Taken<M::State>>,
        set: &mut u128,
    ) -> Option<Taken<M::State>> {
        loop {
            let last = path.pop()?;
            self.put_back(last.operation);
            *set = set.wrapping_sub(self.marks[last.operation]);
            if !last.is_sure {
                return Some(last);
            }
        }
    }

    /// The candidates after another or the first.
    fn steps(&self, after: Option<usize>) -> impl Iterator<Item = usize> {
        std::iter::successors(self.candidate(after), |i| self.candidate(Some(*i)))
    }

    /// The next operation that can come now, after another candidate or the first.
    fn candidate(&self, after: Option<usize>) -> Option<usize> {
        let open = after.is_some_and(|i| self.model.is_open(i));
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
        let open = self.model.is_open(operation);
        self.unlink(2 * operation, usize::from(open));
        if !open {
            self.unlink(2 * operation + 1, 0);
            self.left -= 1;
        }
    }

    fn put_back(&mut self, operation: usize) {
        self.taken[operation] = false;
        let open = self.model.is_open(operation);
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

/// Stands for a state beside a set of operations: two that differ after the same set are rarely taken for one.
fn fingerprint(state: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}
