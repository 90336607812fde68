//! What clients did and were told: operations on one object (a cell, or some rows of one owner), each with the time
//! in which it must have happened.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// A value, or what stands for it: the hash of a big one. Every write's value is unique.
pub type Value = String;

/// A word of a history that many states share: of rows, the name of a cell (row and column, with a space between, as
/// requests have them) or its value.
pub type Word = Arc<str>;

/// What was asked. A condition `if_version` of 0 is "must not exist".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// GET of the cell.
    Get,
    /// PUT to the cell.
    Put { value: Value, if_version: Option<u64> },
    /// CPUT to the cell.
    Cput { expected: Value, value: Value },
    /// DELETE of the cell.
    Delete { if_version: Option<u64> },
    /// GET of a cell of rows.
    Read(Word),
    /// SCAN of a row, whole and with values.
    Scan(Word),
    /// A write to rows by itself.
    Change(Change),
    /// BATCH.
    Batch(Vec<Change>),
}

impl Action {
    /// Whether it only reads.
    pub fn reads(&self) -> bool {
        matches!(self, Action::Get | Action::Read(_) | Action::Scan(_))
    }
}

/// A write to rows, or an item of a BATCH. Values of PUT and APPEND are unique, and are no integers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// PUT.
    Put { cell: Word, value: Word, if_version: Option<u64> },
    /// ADD, refused above a bound.
    Add { cell: Word, delta: i64, max: Option<i64> },
    /// APPEND: the prefix follows its row as the column does in a cell's name.
    Append { prefix: Word, value: Word },
    /// DELETE.
    Delete { cell: Word },
    /// DELETEROW.
    DeleteRow { row: Word },
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Written, as this version.
    Ok(u64),
    /// Written, as this version: the sums and columns that ADD and APPEND made.
    Made(u64, Vec<String>),
    /// The cell's version is this (0: no such cell), and nothing was written.
    Mismatch(u64),
    /// The same of the cell of this item of a BATCH.
    MismatchAt(u64, usize),
    /// A counter is this, and would go over its bound; nothing was written.
    Over(i64),
    /// There is no such cell.
    NotFound,
    /// The cell's version and value.
    Value(u64, Value),
    /// Cells of a row in order, each with its version and value.
    Cells(Vec<(Word, u64, Word)>),
    /// It may happen at any time after it was asked, or never.
    Unknown,
    /// It did not happen and never will.
    Refused,
}

/// One operation. Times are nanoseconds of one clock.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Who asked.
    pub client: usize,
    /// When it was asked.
    pub began: u64,
    /// When it was answered; of no meaning where the outcome is unknown.
    pub ended: u64,
    /// What was asked.
    pub action: Action,
    /// What was answered.
    pub outcome: Outcome,
}

impl Operation {
    /// The value that it would write.
    pub fn written(&self) -> Option<&Value> {
        match &self.action {
            Action::Put { value, .. } | Action::Cput { value, .. } => Some(value),
            _ => None,
        }
    }

    /// The value that it wishes to find.
    pub fn expected(&self) -> Option<&Value> {
        match &self.action {
            Action::Cput { expected, .. } => Some(expected),
            _ => None,
        }
    }

    /// Whether it can be left out: it says nothing about the object.
    fn says_nothing(&self) -> bool {
        self.outcome == Outcome::Refused
            || (self.action.reads() && self.outcome == Outcome::Unknown)
    }

    /// The operation as it looks at an instant at which it may not have been answered yet.
    fn at(&self, instant: u64) -> Operation {
        let open = self.ended > instant;
        let outcome = if open { Outcome::Unknown } else { self.outcome.clone() };
        Operation { outcome, ..self.clone() }
    }
}

/// One line: times in milliseconds, the client, what was asked, what was answered.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: u64| time as f64 / 1e6;
        match self.outcome {
            Outcome::Unknown => write!(f, "{:>10.3} ..       open", ms(self.began))?,
            _ => write!(f, "{:>10.3} .. {:>10.3}", ms(self.began), ms(self.ended))?,
        }
        write!(f, "  c{:<3} {:?} -> {:?}", self.client, self.action, self.outcome)
    }
}

/// The part of a history that says something, in the order in which it was asked.
pub fn meaningful(history: &[Operation]) -> Vec<Operation> {
    let mut kept: Vec<_> = history.iter().filter(|op| !op.says_nothing()).cloned().collect();
    kept.sort_by_key(|op| (op.began, op.ended));
    kept
}

/// The history as somebody saw it at an instant.
pub fn until(history: &[Operation], instant: u64) -> Vec<Operation> {
    let begun = history.iter().filter(|op| op.began <= instant);
    begun.map(|op| op.at(instant)).filter(|op| !op.says_nothing()).collect()
}

/// The version of each value of which one was heard; or what contradicts itself: a value with two versions, or a
/// version with two values.
pub fn versions(history: &[Operation]) -> Result<HashMap<&Value, u64>, String> {
    let (mut by_value, mut by_version) = (HashMap::new(), HashMap::new());
    for op in history {
        let (value, version) = match (&op.outcome, op.written()) {
            (Outcome::Value(version, value), _) => (value, *version),
            (Outcome::Ok(version), Some(value)) => (value, *version),
            _ => continue,
        };
        if *by_value.entry(value).or_insert(version) != version
            || *by_version.entry(version).or_insert(value) != value
        {
            return Err(format!("version {version} and value {value:?} have others too: {op}"));
        }
    }
    Ok(by_value)
}
