//! Single cells of many owners: what is asked of them, with values small and big.

use super::client::Request;
use super::{Answered, Object};
use crate::harness::noise;
use crate::linearizability::{Action, Operation, Outcome, Random};
use sha2::{Digest, Sha256};
use std::sync::Mutex;

/// Cells that all clients use.
const CELLS: usize = 34;
/// Those of them whose values may be big.
const BIG_CELLS: usize = 6;
/// Bytes of a big value: three cells.
const BIG_BYTES: usize = 3 * 4096 - 100;
/// Values longer than this are known by their hash.
const SHOWN_BYTES: usize = 100;

/// A cell.
pub struct Cell {
    /// Its row and its column, as words of a request.
    pub name: String,
    /// When its requests were answered.
    pub answered: Answered,
    big: bool,
    /// What somebody read or wrote last: conditions that sometimes hold.
    seen: Mutex<(u64, String)>,
}

/// Cells of many owners, and so of all tablets.
pub fn cells() -> Vec<Cell> {
    let cell = |i| Cell {
        name: format!("owner{i} c{i}"),
        answered: Answered::default(),
        big: i < BIG_CELLS,
        seen: Mutex::default(),
    };
    (0..CELLS).map(cell).collect()
}

impl Cell {
    /// The row alone.
    pub fn row(&self) -> &str {
        self.name.split(' ').next().expect("a row and a column")
    }

    /// Something to ask; who writes has a value that nobody else writes.
    pub fn choose(
        &self,
        object: Object,
        unique: &str,
        only_reads: bool,
        random: &mut Random,
    ) -> Request {
        let big = self.big && random.chance(40);
        let value = if big { big_value(unique) } else { unique.as_bytes().to_vec() };
        let dice = if only_reads { 0 } else { random.below(100) };
        self.request(object, self.action(dice, name_of(&value), big), &value)
    }

    /// A read.
    pub fn read(&self, object: Object) -> Request {
        self.request(object, Action::Get, &[])
    }

    fn action(&self, dice: u64, value: String, big: bool) -> Action {
        let (version, expected) = self.seen.lock().unwrap().clone();
        let is_shown = expected.len() <= SHOWN_BYTES && !expected.starts_with("sha256:");
        match dice {
            45..70 => Action::Put { value, if_version: None },
            70..75 => Action::Put { value, if_version: Some(version) },
            75..88 if !big && is_shown => Action::Cput { expected, value },
            88..92 => Action::Delete { if_version: Some(version) },
            92..96 => Action::Delete { if_version: None },
            _ => Action::Get,
        }
    }

    fn request(&self, object: Object, action: Action, value: &[u8]) -> Request {
        let (name, len) = (&self.name, value.len());
        let (line, bytes) = match &action {
            Action::Put { if_version, .. } => {
                (format!("PUT {name} {len}{}", condition(*if_version)), value.to_vec())
            }
            Action::Cput { expected, .. } => (
                format!("CPUT {name} {} {len}", expected.len()),
                [expected.as_bytes(), value].concat(),
            ),
            Action::Delete { if_version } => {
                (format!("DELETE {name}{}", condition(*if_version)), Vec::new())
            }
            _ => (format!("GET {name}"), Vec::new()),
        };
        Request { object, action, line, bytes }
    }

    /// Lets all clients know what is there now.
    pub fn note(&self, op: &Operation) {
        let is = match (&op.outcome, op.written()) {
            (Outcome::Value(version, value), _) => (*version, value.clone()),
            (Outcome::Ok(version), Some(value)) => (*version, value.clone()),
            (Outcome::Ok(_) | Outcome::NotFound, None) => (0, String::new()),
            _ => return,
        };
        *self.seen.lock().unwrap() = is;
    }
}

/// The option of a request that has a condition.
pub fn condition(if_version: Option<u64>) -> String {
    if_version.map(|version| format!(" if={version}")).unwrap_or_default()
}

/// A value of three cells that nobody else writes.
fn big_value(unique: &str) -> Vec<u8> {
    let mut bytes = unique.as_bytes().to_vec();
    bytes.extend(noise(bytes.len() as u64, BIG_BYTES));
    bytes
}

/// What stands for a value in a history.
pub fn name_of(bytes: &[u8]) -> String {
    match bytes.len() <= SHOWN_BYTES {
        true => String::from_utf8_lossy(bytes).into_owned(),
        false => {
            let hash = Sha256::digest(bytes);
            let hex: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            format!("sha256:{hex}")
        }
    }
}
