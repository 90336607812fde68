//! The observer: what was prepared and committed, what clients were told, and whether all agree.

use super::values::value;
use penncloud::protocol::cell::{Key, Value};
use penncloud::protocol::entry::Entry;
use penncloud::replication::Table;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Names a request: client and number.
pub type Name = (u128, u64);

/// Everything that was ever committed in a tablet, in order, and when it first was.
#[derive(Default)]
pub struct Observer {
    entries: Vec<(u64, Arc<Entry>)>,
    tables: Vec<Table>,
    /// Every entry that was ever prepared, by epoch and version.
    prepared: BTreeMap<(u64, u64), Arc<Entry>>,
    /// The first entry of each epoch.
    barriers: BTreeMap<u64, u64>,
    /// Requests that were told that they had definitely not been executed.
    refused: BTreeSet<Name>,
    executed: BTreeMap<Name, u64>,
    /// What compare-and-swap requests expect.
    expected: BTreeMap<Name, (Key, Vec<u8>)>,
}

impl Observer {
    /// A replica has prepared this entry. Equal names mean equal entries, and each names the one before.
    pub fn prepared(&mut self, entry: &Arc<Entry>) -> Result<(), String> {
        let name = (entry.epoch, entry.version);
        if entry.request.is_none() && entry.effects.is_empty() {
            self.barriers.entry(entry.epoch).or_insert(entry.version);
        }
        let known = self.prepared.entry(name).or_insert_with(|| entry.clone());
        if **known != **entry {
            return Err(format!("two entries have the name {name:?}: {known:?} and {entry:?}"));
        }
        Ok(())
    }

    /// The entries that lead to a table from a version on, in order, if all of them were prepared.
    pub fn lineage(&self, to: &Table, from: u64) -> Option<Vec<Arc<Entry>>> {
        let (mut entries, mut epoch) = (Vec::new(), to.epoch);
        for version in (from + 1..=to.version).rev() {
            let entry = self.prepared.get(&(epoch, version))?;
            epoch = entry.prev_epoch;
            entries.push(entry.clone());
        }
        entries.reverse();
        Some(entries)
    }

    /// The entry with which an epoch began.
    pub fn barrier(&self, epoch: u64) -> u64 {
        self.barriers.get(&epoch).copied().unwrap_or(u64::MAX)
    }

    /// A replica has committed this entry. Whoever commits a version commits the same entry.
    pub fn committed(&mut self, now: u64, entry: &Arc<Entry>) -> Result<(), String> {
        let version = entry.version;
        if let Some((_, known)) = self.entries.get(version as usize - 1) {
            return match **known == **entry {
                true => Ok(()),
                false => Err(format!("two entries are version {version}: {known:?} and {entry:?}")),
            };
        }
        if version > self.version() + 1 {
            return Err(format!("version {version} was committed after {}", self.version()));
        }
        let mut table = self.table().clone();
        self.check_condition(entry, &table)?;
        table.apply(entry);
        self.tables.push(table);
        self.entries.push((now, entry.clone()));
        let Some(request) = entry.request.as_ref().filter(|_| entry.answer.version > 0) else {
            return Ok(());
        };
        let name = (request.client, request.request);
        if self.refused.contains(&name) {
            return Err(format!("request {name:?} was refused, and executed as {version}"));
        }
        match self.executed.insert(name, version) {
            Some(before) => Err(format!("request {name:?} was executed as {before} and {version}")),
            None => Ok(()),
        }
    }

    /// A compare-and-swap finds what it expects.
    fn check_condition(&self, entry: &Entry, table: &Table) -> Result<(), String> {
        let Some(request) = entry.request.as_ref().filter(|_| !entry.effects.is_empty()) else {
            return Ok(());
        };
        match self.expected.get(&(request.client, request.request)) {
            Some((key, old)) if value(table, key).as_ref() != Some(old) => {
                Err(format!("version {} replaces a value that it did not expect", entry.version))
            }
            _ => Ok(()),
        }
    }

    /// A request will replace this value only.
    pub fn expects(&mut self, name: Name, key: Key, old: Vec<u8>) {
        self.expected.insert(name, (key, old));
    }

    /// How much is committed.
    pub fn version(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The entry of a version.
    pub fn entry(&self, version: u64) -> Option<&Arc<Entry>> {
        self.entries.get((version as usize).checked_sub(1)?).map(|(_, entry)| entry)
    }

    /// The newest committed table.
    pub fn table(&self) -> &Table {
        static EMPTY: std::sync::LazyLock<Table> = std::sync::LazyLock::new(Table::default);
        self.tables.last().unwrap_or(&EMPTY)
    }

    /// A table of this version is what the log adds up to.
    pub fn same_state(&self, table: &Table) -> Result<(), String> {
        let known = (table.version as usize).checked_sub(1).and_then(|at| self.tables.get(at));
        match known {
            Some(known) if !known.items().eq(table.items()) => {
                Err(format!("two tables of version {} differ", table.version))
            }
            _ => Ok(()),
        }
    }

    /// The last version committed at or before an instant.
    fn version_at(&self, instant: u64) -> u64 {
        self.entries.partition_point(|(at, _)| *at <= instant) as u64
    }

    /// The value of a key after a version.
    fn value(&self, key: &Key, version: u64) -> Option<Vec<u8>> {
        value(self.tables.get((version as usize).checked_sub(1)?)?, key)
    }

    /// A client has read this between two instants: it must have been the value at one of them between.
    pub fn read(
        &self,
        key: &Key,
        value: &Option<Vec<u8>>,
        began: u64,
        ended: u64,
    ) -> Result<(), String> {
        let (first, last) = (self.version_at(began), self.version_at(ended));
        if (first..=last).any(|version| self.value(key, version) == *value) {
            return Ok(());
        }
        let show = |v: Option<Vec<u8>>| v.map(|v| String::from_utf8_lossy(&v).into_owned());
        let (column, value) = (String::from_utf8_lossy(&key.column), show(value.clone()));
        let (before, after) = (show(self.value(key, first)), show(self.value(key, last)));
        Err(format!(
            "stale or dirty read of {column} between {began} and {ended}: {value:?}; it was {before:?} at \
             version {first} and {after:?} at {last}"
        ))
    }

    /// A client was told that its condition did not hold.
    pub fn mismatch(
        &self,
        key: &Key,
        expected: &[u8],
        began: u64,
        ended: u64,
    ) -> Result<(), String> {
        let (first, last) = (self.version_at(began), self.version_at(ended));
        if (first..=last).any(|version| self.value(key, version).as_deref() != Some(expected)) {
            return Ok(());
        }
        let column = String::from_utf8_lossy(&key.column);
        Err(format!("phantom mismatch of {column} between {began} and {ended}"))
    }

    /// A request was refused for good: it must never be executed.
    pub fn refused(&mut self, name: Name) -> Result<(), String> {
        self.refused.insert(name);
        match self.executed.get(&name) {
            Some(version) => {
                Err(format!("request {name:?} was executed as {version}, and refused"))
            }
            None => Ok(()),
        }
    }

    /// As which version a request was executed.
    pub fn executed(&self, name: Name) -> Option<u64> {
        self.executed.get(&name).copied()
    }

    /// Heads of big values that are visible now.
    pub fn heads(&self) -> impl Iterator<Item = &Arc<penncloud::protocol::cell::Head>> {
        self.table().cells_from(std::ops::Bound::Unbounded).filter_map(|(_, cell)| {
            match &cell.value {
                Value::Big(head) => Some(head),
                Value::Inline(_) => None,
            }
        })
    }
}
