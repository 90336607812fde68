//! The observer: what was prepared and committed, what clients were told, and whether all agree.

use super::cells::{cell, cells};
use super::ops::{Look, condition, is_mismatch};
use super::spec;
use penncloud::protocol::cell::{Head, Key, Value};
use penncloud::protocol::command::Op;
use penncloud::protocol::entry::{Answer, Entry};
use penncloud::replication::Table;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

/// The table before the first version.
static EMPTY: LazyLock<Table> = LazyLock::new(Table::default);

/// Names a request: client and number.
pub type Name = (u128, u64);

/// Everything that was ever committed in a tablet, in order, and when it first was.
#[derive(Default)]
pub struct Observer {
    entries: Vec<(u64, Arc<Entry>)>,
    tables: Vec<Table>,
    /// Every entry that was ever prepared, by epoch and version.
    prepared: BTreeMap<(u64, u64), Arc<Entry>>,
    /// For each epoch, of which epoch its primary's log was from which version on.
    reigns: BTreeMap<u64, Vec<(u64, u64)>>,
    /// Requests that were told that they had definitely not been executed.
    refused: BTreeSet<Name>,
    executed: BTreeMap<Name, u64>,
    /// What requests ask for.
    asked: BTreeMap<Name, Vec<Op>>,
    /// The last number that APPEND gave out in a row under a prefix.
    numbers: BTreeMap<Key, u64>,
}

impl Observer {
    /// A replica has prepared this entry. Equal names mean equal entries, and each names the one before.
    pub fn prepared(&mut self, entry: &Arc<Entry>) -> Result<(), String> {
        let name = (entry.epoch, entry.version);
        if !self.reigns.contains_key(&entry.epoch) {
            let mut before = self.reigns.get(&entry.prev_epoch).cloned().unwrap_or_default();
            before.retain(|(_, first)| *first < entry.version);
            before.push((entry.epoch, entry.version));
            self.reigns.insert(entry.epoch, before);
        }
        let known = self.prepared.entry(name).or_insert_with(|| entry.clone());
        if **known != **entry {
            return Err(format!("5: two entries have the name {name:?}: {known:?} and {entry:?}"));
        }
        Ok(())
    }

    /// The epoch of the entry with a version in the log of an epoch's primary.
    pub fn epoch_in(&self, reign: u64, version: u64) -> Option<u64> {
        let log = self.reigns.get(&reign)?;
        log.iter().rev().find(|(_, first)| *first <= version).map(|(epoch, _)| *epoch)
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
        let log = self.reigns.get(&epoch).and_then(|log| log.last());
        log.map_or(u64::MAX, |(_, first)| *first)
    }

    /// A replica has committed this entry. Whoever commits a version commits the same entry.
    pub fn committed(&mut self, now: u64, entry: &Arc<Entry>) -> Result<(), String> {
        let version = entry.version;
        if let Some((_, known)) = self.entries.get(version as usize - 1) {
            return match **known == **entry {
                true => Ok(()),
                false => {
                    Err(format!("8: two entries are version {version}: {known:?} and {entry:?}"))
                }
            };
        }
        if version > self.version() + 1 {
            return Err(format!("5: version {version} was committed after {}", self.version()));
        }
        let mut table = self.table().clone();
        table.apply(entry);
        let checked = self.check_request(entry, &table);
        self.tables.push(table);
        self.entries.push((now, entry.clone()));
        checked
    }

    /// 14, 15: what has a name is executed once, never after it was refused, and does what was asked.
    fn check_request(&mut self, entry: &Entry, after: &Table) -> Result<(), String> {
        let Some(name) = entry.request.as_ref().map(|r| (r.client, r.request)) else {
            return Ok(());
        };
        let version = entry.version;
        if entry.answer.version == 0 {
            return match entry.effects.is_empty() {
                true => Ok(()),
                false => Err(format!("14: version {version} is a refusal with effects")),
            };
        }
        if self.refused.contains(&name) {
            return Err(format!("14: request {name:?} was refused, and executed as {version}"));
        }
        if let Some(before) = self.executed.insert(name, version) {
            return Err(format!("14: request {name:?} was executed as {before} and {version}"));
        }
        let ops = self.asked.get(&name).ok_or("14: nobody asked for it")?;
        let before = self.tables.last().cloned().unwrap_or_default();
        spec::check(ops, &before, entry, after, &mut self.numbers)
    }

    /// A request will ask for this.
    pub fn asks(&mut self, name: Name, ops: Vec<Op>) {
        self.asked.insert(name, ops);
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
        self.tables.last().unwrap_or(&EMPTY)
    }

    /// 8: a table of this version is what the log adds up to.
    pub fn same_state(&self, table: &Table) -> Result<(), String> {
        let Some(at) = (table.version as usize).checked_sub(1) else { return Ok(()) };
        match self.tables.get(at) {
            None => Err(format!("8: a table of version {}, which is not committed", table.version)),
            Some(known) if known.epoch != table.epoch || !known.items().eq(table.items()) => {
                Err(format!("8: two tables of version {} differ", table.version))
            }
            _ => self.same_digest(table),
        }
    }

    /// 8: the same, at the price of a comparison: a table of this version has the digest of what the log adds up to.
    pub fn same_digest(&self, table: &Table) -> Result<(), String> {
        let known = (table.version as usize).checked_sub(1).and_then(|at| self.tables.get(at));
        match known.is_none_or(|known| known.digest() == table.digest()) {
            true => Ok(()),
            false => Err(format!("8: two digests of version {} differ", table.version)),
        }
    }

    /// The last version committed at or before an instant.
    fn version_at(&self, instant: u64) -> u64 {
        self.entries.partition_point(|(at, _)| *at <= instant) as u64
    }

    /// The tables that were the newest committed ones between two instants.
    fn tables_between(&self, began: u64, ended: u64) -> impl Iterator<Item = &Table> {
        let (first, last) = (self.version_at(began) as usize, self.version_at(ended) as usize);
        let empty = (first == 0).then(|| &*EMPTY);
        empty.into_iter().chain(self.tables[first.saturating_sub(1)..last].iter())
    }

    /// 13: a client has read this between two instants: it must have been the value at one of them between.
    pub fn read(
        &self,
        look: &Look,
        seen: &Option<Vec<u8>>,
        began: u64,
        ended: u64,
    ) -> Result<(), String> {
        if self.tables_between(began, ended).any(|table| look.at(table) == *seen) {
            return Ok(());
        }
        let show = |v: Option<Vec<u8>>| v.map(|v| String::from_utf8_lossy(&v).into_owned());
        let all: Vec<_> = self.tables_between(began, ended).map(|t| show(look.at(t))).collect();
        let (began, ended, seen) = (began / 1000, ended / 1000, show(seen.clone()));
        Err(format!(
            "13: a stale or dirty read of {look:?} between {began} and {ended} ms: {seen:?}; it was one of {all:?}"
        ))
    }

    /// 13: a client was told between two instants that the condition of an op does not hold for this version of its
    /// cell.
    pub fn mismatch(&self, op: &Op, told: u64, began: u64, ended: u64) -> Result<(), String> {
        let key = condition(op).ok_or_else(|| format!("13: {op:?} has no condition"))?;
        let holds = |table: &Table| {
            let cell = cell(table, &key);
            cell.as_ref().map_or(0, |cell| cell.version) == told && is_mismatch(op, cell.as_ref())
        };
        match self.tables_between(began, ended).any(holds) {
            true => Ok(()),
            false => Err(format!(
                "13: a phantom mismatch of {op:?} at {told}, until {} ms",
                ended / 1000
            )),
        }
    }

    /// A request was refused for good: it must never be executed.
    pub fn refused(&mut self, name: Name) -> Result<(), String> {
        self.refused.insert(name);
        match self.executed.get(&name) {
            Some(version) => {
                Err(format!("14: request {name:?} was executed as {version}, and refused"))
            }
            None => Ok(()),
        }
    }

    /// Whether a request that only removes was not executed: what it was to remove was not there.
    pub fn has_nothing_of(&self, name: Name, ops: &[Op]) -> bool {
        let removes = |op: &Op| matches!(op, Op::Delete { .. } | Op::DeleteRow { .. });
        ops.iter().all(removes) && !self.executed.contains_key(&name)
    }

    /// 14: a request was told that it was executed.
    pub fn done(&self, name: Name, told: &Answer) -> Result<(), String> {
        let executed = self.executed.get(&name).and_then(|version| self.entry(*version));
        match executed.is_some_and(|entry| entry.answer == *told) {
            true => Ok(()),
            false => Err(format!("14: {name:?} was told {told:?}, and executed as {executed:?}")),
        }
    }

    /// Heads of big values that are visible now.
    pub fn heads(&self) -> impl Iterator<Item = Arc<Head>> {
        cells(self.table().cells_from(std::ops::Bound::Unbounded)).filter_map(
            |(_, cell)| match cell.value {
                Value::Big(head) => Some(head),
                Value::Inline(_) => None,
            },
        )
    }
}
