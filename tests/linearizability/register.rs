//! The model: a cell with a version, as one process that does one thing at a time would keep it.

use super::check::Model;
use super::history::{Action, Operation, Outcome, versions};
use std::collections::{HashMap, HashSet};

/// Stands for all values of which nothing was ever heard.
const UNHEARD: u32 = u32::MAX;

/// The cell at some point of an order. Values are numbers by their names.
///
/// The version that an unanswered write got may be unknown; then `version` is the least that it can be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    value: Option<u32>,
    version: u64,
    inexact: bool,
    /// An unanswered write made this, and nothing has depended on it since.
    unseen: bool,
}

/// An operation with its values as numbers.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// Whether it need not happen.
    open: bool,
    what: What,
    /// The version that it is known to have got, if it writes.
    version: Option<u64>,
    /// An earlier unanswered operation that does the same: this one need not be tried before that.
    twin: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// Sees this cell, and writes nothing.
    Sees(Seen),
    /// Writes if the condition holds.
    Puts { value: u32, condition: Condition },
    /// Deletes a cell that is there, if the condition holds.
    Deletes { condition: Condition },
}

#[derive(Clone, Copy, Debug)]
enum Seen {
    Nothing,
    Value(u64, u32),
    /// A cell of this version, which is not the one wished for.
    Version {
        is: u64,
        wished: Option<u64>,
    },
    /// A cell of this version with another value than this.
    Other(u64, u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Condition {
    None,
    Version(u64),
    Value(u32),
}

/// What there is to order: the operations, and what is known of versions.
pub struct Register {
    /// The operations, in the order given.
    steps: Vec<Step>,
    /// Versions of known values: no other write has got one of them.
    taken: HashSet<u64>,
}

impl Model for Register {
    type State = State;

    /// Translates a history.
    fn new(history: &[Operation]) -> Result<Register, String> {
        let known = versions(history)?;
        let mut numbers = HashMap::new();
        let mut number = |value: &str| {
            let next = numbers.len() as u32;
            *numbers.entry(value.to_string()).or_insert(next)
        };
        let mut steps = history
            .iter()
            .map(|op| step_of(op, &mut number, op.written().and_then(|v| known.get(v)).copied()))
            .collect::<Result<Vec<_>, _>>()?;
        let heard: HashSet<u32> = known
            .keys()
            .copied()
            .chain(history.iter().filter_map(Operation::expected))
            .map(|value| number(value))
            .collect();
        find_twins(&mut steps, &heard);
        Ok(Register { steps, taken: known.into_values().collect() })
    }

    fn is_open(&self, i: usize) -> bool {
        self.steps[i].open
    }

    fn waits_for(&self, i: usize) -> Option<usize> {
        self.steps[i].twin
    }

    fn after(&self, state: &State, i: usize) -> Option<State> {
        let (state, step) = (*state, &self.steps[i]);
        let blind = match step.what {
            What::Sees(seen) => return self.sees(state, seen),
            What::Puts { condition, .. } => matches!(condition, Condition::None),
            What::Deletes { condition } => step.open && matches!(condition, Condition::None),
        };
        // Had the unseen write never happened, what follows would be the same: no need to try both.
        if blind && state.unseen {
            return None;
        }
        let (condition, value) = match step.what {
            What::Puts { value, condition } => (condition, Some(value)),
            What::Deletes { condition } if state.value.is_some() => (condition, None),
            _ => return None,
        };
        let state = self.holds(state, condition)?;
        let least = state.version + 1;
        if step.version.is_some_and(|version| version < least) {
            return None;
        }
        let version = step.version.unwrap_or(least);
        let inexact = step.version.is_none() && value.is_some();
        Some(State { value, version, inexact, unseen: step.open })
    }
}

impl Register {
    fn holds(&self, state: State, condition: Condition) -> Option<State> {
        match condition {
            Condition::None => Some(state),
            Condition::Version(0) => state.value.is_none().then_some(state),
            Condition::Version(version) => self.has_version(state, version),
            Condition::Value(value) => (state.value == Some(value)).then_some(state),
        }
    }

    fn sees(&self, state: State, seen: Seen) -> Option<State> {
        let state = match seen {
            Seen::Nothing => state.value.is_none().then_some(state)?,
            Seen::Value(version, value) if state.value == Some(value) => exactly(state, version)?,
            Seen::Version { is, wished } if wished != Some(is) => self.has_version(state, is)?,
            Seen::Other(version, value) if state.value != Some(value) => {
                self.has_version(state, version)?
            }
            _ => return None,
        };
        Some(State { unseen: false, ..state })
    }

    /// The cell is there and has this version. A version that belongs to a known value is no other's.
    fn has_version(&self, state: State, version: u64) -> Option<State> {
        state.value?;
        if state.inexact && self.taken.contains(&version) {
            return None;
        }
        exactly(state, version)
    }
}

fn exactly(state: State, version: u64) -> Option<State> {
    let can_be = if state.inexact { state.version <= version } else { state.version == version };
    can_be.then_some(State { version, inexact: false, ..state })
}

fn step_of(
    op: &Operation,
    number: &mut impl FnMut(&str) -> u32,
    known: Option<u64>,
) -> Result<Step, String> {
    let open = op.outcome == Outcome::Unknown;
    let mut version = known;
    let what = match (&op.action, &op.outcome) {
        (Action::Get, Outcome::Value(version, value)) => {
            What::Sees(Seen::Value(*version, number(value)))
        }
        (Action::Get | Action::Delete { .. }, Outcome::NotFound) => What::Sees(Seen::Nothing),
        (_, Outcome::Mismatch(0)) if wishes_a_cell(&op.action) => What::Sees(Seen::Nothing),
        (
            Action::Put { if_version: Some(wished), .. }
            | Action::Delete { if_version: Some(wished) },
            Outcome::Mismatch(is),
        ) => What::Sees(Seen::Version { is: *is, wished: Some(*wished) }),
        (Action::Cput { expected, .. }, Outcome::Mismatch(is)) => {
            What::Sees(Seen::Other(*is, number(expected)))
        }
        (Action::Put { value, if_version }, Outcome::Ok(_) | Outcome::Unknown) => {
            let condition = if_version.map_or(Condition::None, Condition::Version);
            What::Puts { value: number(value), condition }
        }
        (Action::Cput { expected, value }, Outcome::Ok(_) | Outcome::Unknown) => {
            What::Puts { value: number(value), condition: Condition::Value(number(expected)) }
        }
        (Action::Delete { if_version }, Outcome::Ok(_) | Outcome::Unknown) => {
            if let Outcome::Ok(at) = op.outcome {
                version = Some(at);
            }
            What::Deletes { condition: if_version.map_or(Condition::None, Condition::Version) }
        }
        _ => return Err(format!("nobody may answer this so: {op}")),
    };
    Ok(Step { open, what, version, twin: None })
}

/// Unanswered deletes under the same condition do the same, and so do writes of values of which nothing was
/// ever heard: those become one value.
fn find_twins(steps: &mut [Step], heard: &HashSet<u32>) {
    let mut last = HashMap::new();
    for (i, step) in steps.iter_mut().enumerate().filter(|(_, step)| step.open) {
        let alike = match &mut step.what {
            What::Puts { value, condition } if !heard.contains(value) => {
                *value = UNHEARD;
                (true, *condition)
            }
            What::Deletes { condition } => (false, *condition),
            _ => continue,
        };
        step.twin = last.insert(alike, i);
    }
}

/// Whether a MISMATCH that says "no such cell" can be the answer.
fn wishes_a_cell(action: &Action) -> bool {
    match action {
        Action::Cput { .. } => true,
        Action::Put { if_version, .. } | Action::Delete { if_version } => {
            if_version.is_some_and(|wished| wished != 0)
        }
        _ => false,
    }
}
