//! The observer: what was committed, what clients were told, and whether both agree.

use penncloud::protocol::cell::{Key, Value};
use penncloud::protocol::entry::Entry;
use penncloud::replication::Table;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything that was ever committed, in order, and when it first was.
#[derive(Default)]
pub struct Observer {
    entries: Vec<(u64, Arc<Entry>)>,
    tables: Vec<Table>,
    /// Requests that were told that they had definitely not been executed.
    refused: Vec<(u128, u64)>,
    executed: BTreeMap<(u128, u64), u64>,
}

impl Observer {
    /// A replica has committed this entry. Whoever commits a version commits the same entry.
    pub fn committed(&mut self, now: u64, entry: &Arc<Entry>) -> Result<(), String> {
        let at = entry.version as usize - 1;
        if let Some((_, known)) = self.entries.get(at) {
            return if **known == **entry {
                Ok(())
            } else {
                Err(format!(
                    "two entries were committed as version {}: {known:?} and {entry:?}",
                    entry.version
                ))
            };
        }
        if at > self.entries.len() {
            return Err(format!(
                "version {} was committed before version {}",
                at + 1,
                self.entries.len() + 1
            ));
        }
        let mut table = self.tables.last().cloned().unwrap_or_default();
        table.apply(entry);
        self.tables.push(table);
        self.entries.push((now, entry.clone()));
        let Some(request) = &entry.request else { return Ok(()) };
        let name = (request.client, request.request);
        match self.executed.insert(name, entry.version) {
            Some(before) => Err(format!(
                "request {name:?} was executed as version {before} and {}",
                entry.version
            )),
            None => Ok(()),
        }
    }

    /// How much is committed.
    pub fn version(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The entry of a version.
    pub fn entry(&self, version: u64) -> Option<&Arc<Entry>> {
        self.entries.get(version as usize - 1).map(|(_, entry)| entry)
    }

    /// The last version committed at or before an instant.
    fn version_at(&self, instant: u64) -> u64 {
        self.entries.partition_point(|(at, _)| *at <= instant) as u64
    }

    /// The value of a key after a version.
    fn value(&self, key: &Key, version: u64) -> Option<Vec<u8>> {
        let table = self.tables.get((version as usize).checked_sub(1)?)?;
        match &table.get(key)?.value {
            Value::Inline(bytes) => Some(bytes.to_vec()),
            Value::Big(_) => None,
        }
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
        let of =
            |version| self.value(key, version).map(|v| String::from_utf8_lossy(&v).into_owned());
        Err(format!(
            "stale or dirty read of {:?} between {began} and {ended}: {:?}; it was {:?} at version {first} and {:?} at {last}",
            String::from_utf8_lossy(&key.column),
            value.as_ref().map(|v| String::from_utf8_lossy(v).into_owned()),
            of(first),
            of(last)
        ))
    }

    /// A client was told that its condition did not hold, at a version that it names.
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
        Err(format!(
            "phantom mismatch of {:?} between {began} and {ended}",
            String::from_utf8_lossy(&key.column)
        ))
    }

    /// A request was refused for good: it must never be executed.
    pub fn refused(&mut self, client: u128, request: u64) {
        self.refused.push((client, request));
    }

    /// At the end: nothing refused was executed.
    pub fn finish(&self) -> Result<(), String> {
        match self.refused.iter().find(|name| self.executed.contains_key(name)) {
            Some(name) => Err(format!("request {name:?} was refused, and executed")),
            None => Ok(()),
        }
    }

    /// When a request was executed, as which version.
    pub fn executed(&self, client: u128, request: u64) -> Option<u64> {
        self.executed.get(&(client, request)).copied()
    }
}
