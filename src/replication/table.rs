//! A tablet's table: everything that its log adds up to. Pure, and cheap to copy.
//!
//! The maps are persistent: a clone shares all its nodes, so that a snapshot for a checkpoint, for a
//! reader, or of the state after each prepared entry costs nothing until something changes. Of the cells only what was
//! written lately is in the maps; the others lie below ([`super::cells`]), and are read when they are needed.
//!
//! What is read below may be damaged. Who asks for a cell is told. An entry has to be applied whatever it overwrites: such
//! a table is *flawed* from then on, and its totals say nothing any more.

use super::cells::Cells;
use super::digest::{Digest, Part};
use crate::error::{Error, Result};
use crate::protocol::cell::{Bytes, Cell, Key, Value, ValueId};
use crate::protocol::command::{RequestId, Scan};
use crate::protocol::entry::{Answer, Effect, Entry, Item, Position, Retired, Session, Staged};
use crate::protocol::kept::{Changes, Held, Kept, Lower, Range, Totals};
use crate::protocol::word::display;
use imbl::{OrdMap, OrdSet};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Client sessions that a tablet remembers; one more evicts the one idle for longest.
pub const SESSIONS_MAX: usize = 4096;
/// Bytes that a cell, a sequence, a staged or a retired value takes beyond its names and value, for the tablet's
/// accounting.
const OVERHEAD_BYTES: u64 = 64;

/// Everything that a tablet's log adds up to.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Version of the last entry applied.
    pub version: u64,
    /// Epoch of the last entry applied.
    pub epoch: u64,
    cells: Cells,
    sequences: OrdMap<Key, u64>,
    staged: OrdMap<ValueId, Staged>,
    retired: OrdMap<ValueId, Retired>,
    timers: OrdSet<(u64, Timer)>,
    sessions: OrdMap<u128, Arc<Session>>,
    idle: OrdSet<(u64, u128)>,
    evicted: u128,
    count: u64,
    bytes: u64,
    digest: Digest,
    flaw: Option<Error>,
}

/// What happens at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A cell has outlived its time.
    Expire(Key),
    /// A staged value has not been committed in time.
    Abandon(ValueId),
    /// Nobody reads the chunks of a retired value any more.
    Drop(ValueId),
}

/// Whether a request is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// It was executed; this is its answer.
    Answered(Answer),
    /// It was not executed.
    New,
    /// The client said that it no longer waits for it.
    BelowLow,
    /// Its session may have been evicted: nobody knows.
    Evicted,
    /// The session has too many answers open.
    TooManyOpen,
}

/// Answers that one session may leave open.
const ANSWERS_MAX: usize = 256;

impl Table {
    /// The table of a checkpoint, or of another replica: all its cells lie below. What is no cell is put in with
    /// [`Table::load_others`].
    pub fn above(below: Arc<dyn Lower>, at: Position, totals: Totals) -> Table {
        Table {
            version: at.version,
            epoch: at.epoch,
            cells: Cells::above(below),
            count: totals.cells,
            bytes: totals.bytes,
            digest: Digest::from(totals.digest),
            ..Table::default()
        }
    }

    /// The last entry applied.
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, version: self.version }
    }

    /// What it adds up to.
    pub fn totals(&self) -> Totals {
        Totals { cells: self.count, bytes: self.bytes, digest: self.digest.sum() }
    }

    /// Bytes of names and values, and of what is staged, retired and numbered, for the tablet's size limit.
    /// What deletes, abandons or expires makes them fewer.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// About how many bytes of memory its cells take.
    pub fn memory_bytes(&self) -> u64 {
        self.cells.memory_bytes()
    }

    /// About how many bytes a checkpoint of all cells in memory writes.
    pub fn write_out_bytes(&self) -> u64 {
        self.cells.write_out_bytes()
    }

    /// A number that equal tables share, and others as good as never: kept at the price of what changes.
    pub fn digest(&self) -> u64 {
        self.digest.of_table(self.position(), self.evicted)
    }

    /// What could not be read below when an entry was applied: the totals and the digest are not right any more.
    pub fn flaw(&self) -> Option<&Error> {
        self.flaw.as_ref()
    }

    /// Puts another flaw, or none, in the place of the one that the table has; gives that.
    pub(super) fn replace_flaw(&mut self, flaw: Option<Error>) -> Option<Error> {
        std::mem::replace(&mut self.flaw, flaw)
    }

    /// Number of cells.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether there are no cells.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// A cell, with its value.
    ///
    /// # Errors
    /// [`Error::Corrupt`]: what lies below is damaged there.
    pub fn get(&self, key: &Key) -> Result<Option<Cell>> {
        self.kept(key)?.map(|kept| kept.load()).transpose()
    }

    /// A cell; its value may lie on the disk. Errors are those of [`Table::get`].
    pub fn kept(&self, key: &Key) -> Result<Option<Kept>> {
        self.cells.get(key)
    }

    /// The last number that APPEND gave out for a row and prefix.
    pub fn sequence(&self, key: &Key) -> u64 {
        self.sequences.get(key).copied().unwrap_or(0)
    }

    /// A value that is being written.
    pub fn staged(&self, id: ValueId) -> Option<&Staged> {
        self.staged.get(&id)
    }

    /// A value whose chunks are to be removed.
    pub fn retired(&self, id: ValueId) -> Option<&Retired> {
        self.retired.get(&id)
    }

    /// What is due at a time, oldest first.
    pub fn due(&self, now: u64) -> impl Iterator<Item = &Timer> {
        self.timers.iter().take_while(move |(at, _)| *at <= now).map(|(_, timer)| timer)
    }

    /// Cells of a row from a column on, in order. What lies below is read while they are taken.
    pub fn row(&self, slot: u16, row: &Bytes, from: Bound<Bytes>) -> Range<'_> {
        let key = |column: Bytes| Key { slot, row: row.clone(), column };
        let start = match from {
            Bound::Included(column) => Bound::Included(key(column)),
            Bound::Excluded(column) => Bound::Excluded(key(column)),
            Bound::Unbounded => Bound::Included(key(Bytes::from(&[][..]))),
        };
        self.cells.range(start, row_end(slot, row), false)
    }

    /// The cells that a SCAN asks for, in its order, without its limits.
    pub fn scan(&self, slot: u16, scan: &Scan) -> Range<'_> {
        let key =
            |column: &[u8]| Key { slot, row: scan.row.as_slice().into(), column: column.into() };
        let first = Bound::Included(key(&scan.prefix));
        let last = prefix_end(&scan.prefix)
            .map_or_else(|| row_end(slot, &scan.row), |end| Bound::Excluded(key(&end)));
        let after = scan.after.as_deref().filter(|a| !a.is_empty());
        let (low, high) = match (after, scan.reverse) {
            (None, _) => (first, last),
            (Some(after), false) if after < scan.prefix.as_slice() => (first, last),
            (Some(after), false) => (Bound::Excluded(key(after)), last),
            (Some(after), true) if beyond_prefix(after, &scan.prefix) => (first, last),
            (Some(after), true) => (first, Bound::Excluded(key(after))),
        };
        if is_empty_range(&low, &high) {
            return Box::new(std::iter::empty());
        }
        self.cells.range(low, high, scan.reverse)
    }

    /// The first row of a slot from a name on, or beyond it.
    pub fn next_row(&self, slot: u16, from: Bound<&[u8]>) -> Result<Option<Bytes>> {
        let none = || Bytes::from(&[][..]);
        let start = match from {
            Bound::Included(row) => Bound::Included(Key { slot, row: row.into(), column: none() }),
            Bound::Excluded(row) => match row_end(slot, row) {
                Bound::Excluded(next) => Bound::Included(next),
                other => other,
            },
            Bound::Unbounded => Bound::Included(Key { slot, row: none(), column: none() }),
        };
        let end = Key { slot: slot + 1, row: none(), column: none() };
        let next = self.cells.range(start, Bound::Excluded(end), false).next().transpose()?;
        Ok(next.map(|(key, _)| key.row))
    }

    /// All cells from a key on, in order.
    pub fn cells_from(&self, from: Bound<Key>) -> Range<'_> {
        self.cells.range(from, Bound::Unbounded, false)
    }

    /// Whether a checkpoint of it is being written.
    pub fn is_frozen(&self) -> bool {
        self.cells.is_frozen()
    }

    /// Begins a checkpoint: all cells in memory are to be written out, and are so in every table that is made of this
    /// one. It must not be frozen.
    pub fn freeze(&mut self) {
        self.cells.freeze();
    }

    /// What is to be written out: the cells that changed since the last checkpoint, in order. One that is not what it was
    /// when it was written, in memory, is an error.
    pub fn changes(&self) -> Changes<'_> {
        Box::new(self.cells.frozen().map(|change| {
            let (key, kept) = change?;
            kept.as_ref().map_or(Ok(()), |kept| check_hash(&key, kept))?;
            Ok((key, kept))
        }))
    }

    /// Reads all cells, and compares each with its hash, and their number with the totals. A value that lies on the disk
    /// apart from its cell is not read: who checks the files does that. `pace` is told how many bytes were read each time, and may wait.
    ///
    /// # Errors
    /// [`Error::Corrupt`]: a cell is not what was written, or there are more or fewer.
    pub fn check(&self, mut pace: impl FnMut(u64)) -> Result<()> {
        let mut cells = 0;
        for cell in self.cells_from(Bound::Unbounded) {
            let (key, kept) = cell?;
            check_hash(&key, &kept)?;
            cells += 1;
            pace((key.row.len() + key.column.len()) as u64 + OVERHEAD_BYTES);
        }
        match cells == self.count {
            true => Ok(()),
            false => Err(Error::corrupt(format!("there are {cells} cells, not {}", self.count))),
        }
    }

    /// What was to be written out lies below now: it goes from memory.
    pub fn settle(&mut self, below: Arc<dyn Lower>) {
        self.cells.settle(below);
    }

    /// What lies below is read from other files, which hold the same.
    pub fn rebase(&mut self, below: Arc<dyn Lower>) {
        self.cells.rebase(below);
    }

    /// Whether a request is known.
    pub fn lookup(&self, request: &RequestId, retry: bool) -> Known {
        let Some(session) = self.sessions.get(&request.client) else {
            let maybe_evicted = request.client <= self.evicted;
            return if maybe_evicted && retry { Known::Evicted } else { Known::New };
        };
        match session.answers.get(&request.request) {
            Some(answer) => Known::Answered(answer.clone()),
            None if request.request < session.low => Known::BelowLow,
            None if session.answers.range(request.low..).count() >= ANSWERS_MAX => {
                Known::TooManyOpen
            }
            None => Known::New,
        }
    }

    /// Applies one entry, the next by version.
    pub fn apply(&mut self, entry: &Entry) {
        assert_eq!(entry.version, self.version + 1, "entries are applied in order");
        for effect in &entry.effects {
            self.apply_effect(entry.version, entry.retire, effect);
        }
        self.finish(entry);
    }

    /// Takes the entry's version and remembers its answer, once its effects are applied.
    pub(super) fn finish(&mut self, entry: &Entry) {
        self.version = entry.version;
        self.epoch = entry.epoch;
        if let Some(request) = &entry.request {
            self.remember(request, &entry.answer);
        }
    }

    /// Applies one effect of the entry with this version.
    pub(super) fn apply_effect(&mut self, version: u64, retire: u64, effect: &Effect) {
        match effect {
            Effect::Put { key, value, expires } => {
                if let Value::Big(head) = value {
                    self.unstage(head.id);
                }
                self.insert(
                    key.clone(),
                    Cell { version, expires: *expires, value: value.clone() },
                    retire,
                );
            }
            Effect::Delete(key) => self.remove(key, retire),
            Effect::DeleteRow { slot, row } => self.remove_row(*slot, row, retire),
            Effect::Sequence(key, last) => self.number(key.clone(), *last),
            Effect::Stage(id, staged) => self.stage(*id, staged.clone()),
            Effect::Abandon(id) => {
                if let Some(staged) = self.unstage(*id) {
                    self.retire(
                        *id,
                        Retired { slot: crate::protocol::cell::slot(&staged.row), due: retire },
                    );
                }
            }
            Effect::Forget(id) => self.forget(*id),
        }
    }

    fn insert(&mut self, key: Key, cell: Cell, retire: u64) {
        self.take_out(&key, retire);
        let kept = self.take_in(&key, cell);
        self.cells.insert(key, kept);
    }

    /// Counts a cell that is new, and is to lie below: whoever takes the table of another replica cell by cell writes
    /// out what this answers.
    pub fn take_in(&mut self, key: &Key, cell: Cell) -> Kept {
        if cell.expires > 0 {
            self.timers.insert((cell.expires, Timer::Expire(key.clone())));
        }
        self.count += 1;
        self.bytes += weight(key, cell.value.weight());
        let hash = Part::Cell(key, &cell).hash();
        self.digest.add(hash);
        let Cell { version, expires, value } = cell;
        Kept { version, expires, hash, value: Held::Here(value) }
    }

    fn remove(&mut self, key: &Key, retire: u64) {
        if self.take_out(key, retire) {
            self.cells.remove(key);
        }
    }

    fn remove_row(&mut self, slot: u16, row: &Bytes, retire: u64) {
        let (mut keys, mut flaw) = (Vec::new(), None);
        for cell in self.row(slot, row, Bound::Unbounded) {
            match cell {
                Ok((key, _)) => keys.push(key),
                Err(error) => flaw = Some(error),
            }
        }
        keys.iter().for_each(|key| self.remove(key, retire));
        self.flaw = flaw.or(self.flaw.take());
    }

    /// Takes a cell out of all that is kept about it; whether there is one, or may be.
    fn take_out(&mut self, key: &Key, retire: u64) -> bool {
        let kept = match self.cells.get(key) {
            Ok(Some(kept)) => kept,
            Ok(None) => return false,
            Err(error) => {
                self.flaw = Some(error);
                return true;
            }
        };
        self.count -= 1;
        self.bytes -= weight(key, kept.value.weight());
        self.digest.remove(kept.hash);
        if kept.expires > 0 {
            self.timers.remove(&(kept.expires, Timer::Expire(key.clone())));
        }
        if let Held::Here(Value::Big(head)) = &kept.value {
            self.retire(head.id, Retired { slot: key.slot, due: retire });
        }
        true
    }

    fn number(&mut self, key: Key, last: u64) {
        self.digest.add(Part::Sequence(&key, last).hash());
        match self.sequences.insert(key.clone(), last) {
            Some(before) => self.digest.remove(Part::Sequence(&key, before).hash()),
            None => self.bytes += (key.row.len() + key.column.len()) as u64 + OVERHEAD_BYTES,
        }
    }

    fn stage(&mut self, id: ValueId, staged: Staged) {
        self.unstage(id);
        self.bytes += staged.row.len() as u64 + OVERHEAD_BYTES;
        self.digest.add(Part::Staged(id, &staged).hash());
        self.timers.insert((staged.deadline, Timer::Abandon(id)));
        self.staged.insert(id, staged);
    }

    fn unstage(&mut self, id: ValueId) -> Option<Staged> {
        let staged = self.staged.remove(&id)?;
        self.bytes -= staged.row.len() as u64 + OVERHEAD_BYTES;
        self.digest.remove(Part::Staged(id, &staged).hash());
        self.timers.remove(&(staged.deadline, Timer::Abandon(id)));
        Some(staged)
    }

    fn retire(&mut self, id: ValueId, retired: Retired) {
        self.forget(id);
        self.bytes += OVERHEAD_BYTES;
        self.digest.add(Part::Retired(id, &retired).hash());
        self.timers.insert((retired.due, Timer::Drop(id)));
        self.retired.insert(id, retired);
    }

    fn forget(&mut self, id: ValueId) {
        let Some(retired) = self.retired.remove(&id) else { return };
        self.bytes -= OVERHEAD_BYTES;
        self.digest.remove(Part::Retired(id, &retired).hash());
        self.timers.remove(&(retired.due, Timer::Drop(id)));
    }

    fn remember(&mut self, request: &RequestId, answer: &Answer) {
        let client = request.client;
        let mut session = self.sessions.get(&client).map(|s| Session::clone(s)).unwrap_or_default();
        if self.idle.remove(&(session.last, client)).is_some() {
            self.digest.remove(Part::Session(client, session.low, session.last).hash());
        }
        session.low = session.low.max(request.low);
        let open = session.answers.split_off(&session.low);
        self.forget_answers(client, &std::mem::replace(&mut session.answers, open));
        if let Some(before) = session.answers.insert(request.request, answer.clone()) {
            self.digest.remove(Part::Answer(client, request.request, &before).hash());
        }
        self.digest.add(Part::Answer(client, request.request, answer).hash());
        session.last = self.version;
        self.digest.add(Part::Session(client, session.low, session.last).hash());
        self.idle.insert((session.last, client));
        self.sessions.insert(client, Arc::new(session));
        if self.sessions.len() > SESSIONS_MAX {
            self.evict();
        }
    }

    fn forget_answers(&mut self, client: u128, answers: &BTreeMap<u64, Answer>) {
        for (request, answer) in answers {
            self.digest.remove(Part::Answer(client, *request, answer).hash());
        }
    }

    fn evict(&mut self) {
        let Some((last, client)) = self.idle.get_min().copied() else { return };
        self.idle.remove(&(last, client));
        if let Some(session) = self.sessions.remove(&client) {
            self.digest.remove(Part::Session(client, session.low, session.last).hash());
            self.forget_answers(client, &session.answers);
        }
        self.evicted = self.evicted.max(client);
    }

    /// Everything, as items: cells first, in order, each with its value.
    pub fn items(&self) -> impl Iterator<Item = Result<Item>> + '_ {
        self.items_after(None, 0)
    }

    /// The rest of the items after those up to a cell, and after some of those that are no cells.
    pub fn items_after(
        &self,
        last: Option<Key>,
        others: usize,
    ) -> impl Iterator<Item = Result<Item>> + '_ {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let item = |(key, kept): (Key, Kept)| Ok(Item::Cell(key, kept.load()?));
        let cells = self.cells_from(from).map(move |cell| cell.and_then(item));
        cells.chain(self.others().skip(others).map(Ok))
    }

    /// The items that are no cells.
    pub fn others(&self) -> impl Iterator<Item = Item> + '_ {
        let sequences = self.sequences.iter().map(|(k, n)| Item::Sequence(k.clone(), *n));
        let staged = self.staged.iter().map(|(id, s)| Item::Staged(*id, s.clone()));
        let retired = self.retired.iter().map(|(id, r)| Item::Retired(*id, r.clone()));
        let sessions =
            self.sessions.iter().map(|(client, s)| Item::Session(*client, Session::clone(s)));
        let evicted = std::iter::once(Item::Evicted(self.evicted));
        let expires = self.timers.iter().filter_map(|(at, timer)| match timer {
            Timer::Expire(key) => Some(Item::Expires(*at, key.clone())),
            Timer::Abandon(_) | Timer::Drop(_) => None,
        });
        let flawed = self.flaw.iter().map(|flaw| Item::Flawed(flaw.to_string().as_bytes().into()));
        let items = sequences.chain(staged).chain(retired).chain(sessions).chain(evicted);
        items.chain(expires).chain(flawed)
    }

    /// Takes one item into the table.
    pub fn load(&mut self, item: Item) {
        match item {
            Item::Cell(key, cell) => self.insert(key, cell, 0),
            Item::Sequence(key, last) => self.number(key, last),
            Item::Staged(id, staged) => self.stage(id, staged),
            Item::Retired(id, retired) => self.retire(id, retired),
            Item::Session(client, session) => self.take_session(client, session),
            Item::Evicted(client) => self.evicted = client,
            Item::Flawed(why) => self.flaw = Some(Error::corrupt(String::from_utf8_lossy(&why))),
            Item::Expires(at, key) => {
                self.timers.insert((at, Timer::Expire(key)));
            }
        }
    }

    /// Takes items that are no cells into a table whose totals count them already.
    pub fn load_others(&mut self, items: impl IntoIterator<Item = Item>) {
        let Totals { cells, bytes, digest } = self.totals();
        items.into_iter().for_each(|item| self.load(item));
        (self.count, self.bytes, self.digest) = (cells, bytes, Digest::from(digest));
    }

    fn take_session(&mut self, client: u128, session: Session) {
        self.digest.add(Part::Session(client, session.low, session.last).hash());
        for (request, answer) in &session.answers {
            self.digest.add(Part::Answer(client, *request, answer).hash());
        }
        self.idle.insert((session.last, client));
        self.sessions.insert(client, Arc::new(session));
    }
}

/// Compares a cell in memory with its hash.
fn check_hash(key: &Key, kept: &Kept) -> Result<()> {
    let Held::Here(value) = &kept.value else { return Ok(()) };
    let cell = Cell { version: kept.version, expires: kept.expires, value: value.clone() };
    match Part::Cell(key, &cell).hash() == kept.hash {
        true => Ok(()),
        false => Err(Error::corrupt(format!(
            "column {} of row {} is not what was written",
            display(&key.column),
            display(&key.row)
        ))),
    }
}

fn weight(key: &Key, value_bytes: u64) -> u64 {
    (key.row.len() + key.column.len()) as u64 + value_bytes + OVERHEAD_BYTES
}

/// The first name after all that begin with a prefix; none if the prefix is empty or all 0xff.
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let keep = prefix.iter().rposition(|&b| b != 0xff)?;
    let mut end = prefix[..=keep].to_vec();
    end[keep] += 1;
    Some(end)
}

/// Whether a name lies after all that begin with a prefix.
fn beyond_prefix(name: &[u8], prefix: &[u8]) -> bool {
    prefix_end(prefix).is_some_and(|end| name >= end.as_slice())
}

/// The end of a row: the first key of the row that would follow it.
fn row_end(slot: u16, row: &[u8]) -> Bound<Key> {
    let next = [row, &[0]].concat();
    Bound::Excluded(Key { slot, row: next.as_slice().into(), column: Bytes::from(&[][..]) })
}

fn is_empty_range(low: &Bound<Key>, high: &Bound<Key>) -> bool {
    match (low, high) {
        (Bound::Included(a), Bound::Excluded(b)) | (Bound::Excluded(a), Bound::Excluded(b)) => {
            a >= b
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::cell::{Chunk, Head};

    fn head(id: u128) -> Value {
        Value::Big(Head::new(ValueId(id), vec![Chunk { length: 1, crc: 0 }]).into())
    }

    fn reloaded(table: &Table) -> Table {
        let mut copy = Table::default();
        table.items().for_each(|item| copy.load(item.expect("in memory")));
        copy
    }

    #[test]
    fn all_that_is_kept_counts_and_giving_up_makes_it_less() {
        let (mut table, key) = (Table::default(), Key::new(b"r", b"c"));
        let staged = Staged { row: b"r".as_slice().into(), deadline: 1 };
        let put = |value| Effect::Put { key: key.clone(), value, expires: 0 };
        let grows = [
            (Effect::Sequence(key.clone(), 1), true),
            (Effect::Sequence(key.clone(), 2), false),
            (Effect::Stage(ValueId(1), staged.clone()), true),
            (Effect::Stage(ValueId(1), staged.clone()), false),
            (put(head(1)), true),
            (Effect::Delete(key.clone()), false),
            (Effect::Stage(ValueId(2), staged), true),
            (Effect::Abandon(ValueId(2)), false),
            (Effect::Forget(ValueId(1)), false),
            (Effect::Forget(ValueId(2)), false),
        ];
        for (version, (effect, grows)) in (1..).zip(grows) {
            let before = table.bytes();
            table.apply_effect(version, 5, &effect);
            assert_eq!(table.bytes() > before, grows, "{effect:?}");
            assert_eq!(reloaded(&table).bytes(), table.bytes(), "{effect:?}");
        }
        assert!(table.retired.is_empty() && table.timers.is_empty());
        assert_eq!(table.bytes(), 2 + OVERHEAD_BYTES, "the numbers of APPEND survive");
    }
}
