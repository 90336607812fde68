//! Judging requests: what a write does to a table, or why it does nothing. Only the primary judges;
//! replicas apply the effects.

use super::table::{Table, Timer};
use crate::error::{Error, Result};
use crate::protocol::cell::{Bytes, Cell, Key, Value, ValueId, slot};
use crate::protocol::command::Op;
use crate::protocol::entry::{Effect, Staged};
use crate::protocol::kept::Kept;

/// Timers that one Expire handles.
const EXPIRE_MAX: usize = 256;
/// Chunks that one DropChunks removes.
const DROP_MAX: usize = 1024;
/// Chunks of all big values that one request makes visible: its log entry stays far below the largest.
const CHUNKS_MAX: usize = 1 << 20;
/// Largest number that APPEND gives out: 12 digits.
const SEQUENCE_MAX: u64 = 999_999_999_999;

/// Bytes by which a request may grow a table while the disk is low: sessions, counters, moves.
const LOW_GROWTH_MAX: u64 = 4096;

/// How much room a disk has left. What shrinks a table is taken always: deleting is the way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskSpace {
    /// More than the reserve.
    #[default]
    Enough,
    /// Less than the reserve: what grows a table by more than a little is refused.
    Low,
    /// Less than half the reserve: what does not shrink a table is refused.
    Exhausted,
}

impl DiskSpace {
    /// Where so many free bytes lie against the reserve.
    pub fn of(free_bytes: u64, reserve_bytes: u64) -> DiskSpace {
        match free_bytes {
            free if free >= reserve_bytes => DiskSpace::Enough,
            free if free >= reserve_bytes / 2 => DiskSpace::Low,
            _ => DiskSpace::Exhausted,
        }
    }

    /// The mark as a word.
    pub fn word(self) -> &'static str {
        match self {
            DiskSpace::Enough => "enough",
            DiskSpace::Low => "low",
            DiskSpace::Exhausted => "exhausted",
        }
    }

    /// Reads what [`DiskSpace::word`] says.
    pub fn parse(word: &str) -> Result<DiskSpace> {
        let all = [DiskSpace::Enough, DiskSpace::Low, DiskSpace::Exhausted];
        let named = all.into_iter().find(|space| space.word() == word);
        named.ok_or_else(|| Error::bad(format!("{word} says nothing of the room on a disk")))
    }

    /// Whether a request may be written that takes a table from so many bytes to so many.
    fn admits(self, ops: &[Op], before: u64, after: u64) -> bool {
        match self {
            DiskSpace::Enough => true,
            DiskSpace::Low => after <= before + LOW_GROWTH_MAX,
            DiskSpace::Exhausted => after < before || ops.iter().all(Op::frees),
        }
    }
}

/// What the primary's surroundings say when it judges.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The primary's clock, in milliseconds since 1970.
    pub now: u64,
    /// How long a staged value may wait for its COMMIT.
    pub stage_ms: u64,
    /// How long the chunks of an overwritten or deleted value stay.
    pub retire_ms: u64,
    /// Bytes that the tablet may hold.
    pub tablet_bytes_max: u64,
    /// The room on the primary's disk.
    pub disk_space: DiskSpace,
}

#[cfg(test)]
impl Setting {
    /// One in which nothing stands in the way.
    pub const ROOMY: Setting = Setting {
        now: 0,
        stage_ms: 1000,
        retire_ms: 1000,
        tablet_bytes_max: u64::MAX,
        disk_space: DiskSpace::Enough,
    };
}

/// What became of a request. All but `Done` have no effect.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// To be written; these words go into the answer.
    Done(Vec<Effect>, Vec<Bytes>),
    /// A condition does not hold.
    Mismatch {
        /// Version of the cell; 0: no such cell.
        version: u64,
        /// Which op.
        at: usize,
    },
    /// A DELETE of what is not there.
    NotFound,
    /// Refused.
    Refused(Error),
}

/// Judges ops in order, each on what those before it leave; `single` tells an op from a batch of one.
/// Returns the table after them, with the effects applied but not yet finished by an entry.
pub fn execute(table: &Table, ops: &[Op], single: bool, setting: &Setting) -> (Table, Verdict) {
    if ops.iter().map(chunks).sum::<usize>() > CHUNKS_MAX {
        let error = Error::TooBig(format!("big values of more than {CHUNKS_MAX} chunks together"));
        return (table.clone(), Verdict::Refused(error));
    }
    let mut judge = Judge { after: table.clone(), setting, effects: Vec::new(), words: Vec::new() };
    judge.after.replace_flaw(None);
    for (at, op) in ops.iter().enumerate() {
        match judge.op(op, single) {
            Ok(Step::Go) => {}
            Ok(Step::NotFound) => return (table.clone(), Verdict::NotFound),
            Ok(Step::Mismatch(version)) => {
                return (table.clone(), Verdict::Mismatch { version, at });
            }
            Err(error) => return (table.clone(), Verdict::Refused(error)),
        }
    }
    if let Some(flaw) = judge.after.replace_flaw(table.flaw().cloned()) {
        return (table.clone(), Verdict::Refused(flaw.of_this_copy()));
    }
    let (before, after) = (table.bytes(), judge.after.bytes());
    if !judge.effects.is_empty() && !setting.disk_space.admits(ops, before, after) {
        return (table.clone(), Verdict::Refused(Error::NoSpace));
    }
    if after > before && after > setting.tablet_bytes_max {
        return (table.clone(), Verdict::Refused(Error::TabletFull));
    }
    (judge.after, Verdict::Done(judge.effects, judge.words))
}

fn chunks(op: &Op) -> usize {
    match op {
        Op::Commit { head: Some(head), .. } => head.chunks.len(),
        _ => 0,
    }
}

enum Step {
    Go,
    NotFound,
    Mismatch(u64),
}

struct Judge<'a> {
    after: Table,
    setting: &'a Setting,
    effects: Vec<Effect>,
    words: Vec<Bytes>,
}

impl Judge<'_> {
    fn op(&mut self, op: &Op, single: bool) -> Result<Step> {
        match op {
            Op::Put { row, column, value, if_version, ttl } => {
                let key = Key::new(row, column);
                if let Some(version) = self.mismatch(&key, *if_version)? {
                    return Ok(Step::Mismatch(version));
                }
                self.put(key, Value::Inline(value.as_slice().into()), self.expires(*ttl));
            }
            Op::Cput { row, column, old, new, ttl } => {
                let key = Key::new(row, column);
                match self.cell(&key)? {
                    Some(Cell { value: Value::Inline(value), .. }) if value[..] == old[..] => {}
                    other => return Ok(Step::Mismatch(other.map_or(0, |cell| cell.version))),
                }
                self.put(key, Value::Inline(new.as_slice().into()), self.expires(*ttl));
            }
            Op::Delete { row, column, if_version } => {
                return self.delete(row, column, *if_version, single);
            }
            Op::DeleteRow { row } => return self.delete_row(row, single),
            Op::Add { row, column, delta, max } => {
                self.add(Key::new(row, column), *delta, *max)?;
            }
            Op::Append { row, prefix, value } => self.append(row, prefix, value)?,
            Op::Commit { row, column, id, length, if_version, ttl, head } => {
                let key = Key::new(row, column);
                if let Some(version) = self.mismatch(&key, *if_version)? {
                    return Ok(Step::Mismatch(version));
                }
                self.check_staged(*id, row)?;
                let head = head.as_ref().filter(|head| head.id == *id && head.length == *length);
                let head =
                    head.ok_or_else(|| Error::bad("COMMIT without the chunks of its value"))?;
                self.put(key, Value::Big(head.clone().into()), self.expires(*ttl));
            }
            Op::Stage { row, id, renew } => self.stage(row, *id, *renew)?,
            Op::Abandon { row, id } => {
                self.check_staged(*id, row)?;
                self.effect(Effect::Abandon(*id));
            }
            Op::Chunk { slot, id, offset, value } => {
                self.chunk(Key::chunk(*slot, *id, *offset), value)?
            }
            Op::DropChunks { slot, id } => self.drop_chunks(*slot, *id)?,
            Op::Forget { id } => {
                if self.after.retired(*id).is_some() {
                    self.effect(Effect::Forget(*id));
                }
            }
            Op::Expire => self.expire(),
        }
        Ok(Step::Go)
    }

    /// The version that an entry made of this would have.
    fn version(&self) -> u64 {
        self.after.version + 1
    }

    fn effect(&mut self, effect: Effect) {
        let retire = self.setting.now + self.setting.retire_ms;
        self.after.apply_effect(self.version(), retire, &effect);
        self.effects.push(effect);
    }

    fn put(&mut self, key: Key, value: Value, expires: u64) {
        self.effect(Effect::Put { key, value, expires });
    }

    fn expires(&self, ttl: Option<u64>) -> u64 {
        ttl.map_or(0, |seconds| self.setting.now.saturating_add(seconds.saturating_mul(1000)))
    }

    /// What is known of a cell. Where that cannot be read nothing was done.
    fn kept(&self, key: &Key) -> Result<Option<Kept>> {
        self.after.kept(key).map_err(Error::of_this_copy)
    }

    fn cell(&self, key: &Key) -> Result<Option<Cell>> {
        self.after.get(key).map_err(Error::of_this_copy)
    }

    /// The version that stands in the way of a condition, if one does.
    fn mismatch(&self, key: &Key, if_version: Option<u64>) -> Result<Option<u64>> {
        let Some(wanted) = if_version else { return Ok(None) };
        let version = self.kept(key)?.map_or(0, |kept| kept.version);
        Ok((version != wanted).then_some(version))
    }

    fn delete(
        &mut self,
        row: &[u8],
        column: &[u8],
        if_version: Option<u64>,
        single: bool,
    ) -> Result<Step> {
        let key = Key::new(row, column);
        if let Some(version) = self.mismatch(&key, if_version)? {
            return Ok(Step::Mismatch(version));
        }
        if self.kept(&key)?.is_some() {
            self.effect(Effect::Delete(key));
            return Ok(Step::Go);
        }
        Ok(if single { Step::NotFound } else { Step::Go })
    }

    fn delete_row(&mut self, row: &[u8], single: bool) -> Result<Step> {
        let (slot, row): (u16, Bytes) = (slot(row), row.into());
        let first = self.after.row(slot, &row, std::ops::Bound::Unbounded).next().transpose();
        if first.map_err(Error::of_this_copy)?.is_some() {
            self.effect(Effect::DeleteRow { slot, row });
            return Ok(Step::Go);
        }
        Ok(if single { Step::NotFound } else { Step::Go })
    }

    /// A bound refuses what grows over it. What adds nothing is done even above: it is the way back.
    fn add(&mut self, key: Key, delta: i64, max: Option<i64>) -> Result<()> {
        let (before, expires) = match self.cell(&key)? {
            None => (0, 0),
            Some(Cell { value: Value::Inline(value), expires, .. }) => {
                let sum = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
                (sum.ok_or_else(|| Error::bad("ADD to a cell that is not an integer"))?, expires)
            }
            Some(_) => return Err(Error::bad("ADD to a cell that is not an integer")),
        };
        let sum = i64::checked_add(before, delta);
        if let Some(limit) = max
            && delta > 0
            && sum.is_none_or(|sum| sum > limit)
        {
            return Err(Error::Quota { used: before, limit });
        }
        let sum = sum.ok_or_else(|| Error::bad("ADD leaves the range of 64 bits"))?;
        let digits: Bytes = sum.to_string().as_bytes().into();
        self.words.push(digits.clone());
        self.put(key, Value::Inline(digits), expires);
        Ok(())
    }

    fn append(&mut self, row: &[u8], prefix: &[u8], value: &[u8]) -> Result<()> {
        let sequence = Key::new(row, prefix);
        let column = |n: u64| [prefix, format!("{n:012}").as_bytes()].concat();
        let mut n = self.after.sequence(&sequence) + 1;
        while n <= SEQUENCE_MAX && self.kept(&Key::new(row, &column(n)))?.is_some() {
            n += 1;
        }
        if n > SEQUENCE_MAX {
            return Err(Error::bad("APPEND has given out all numbers of this prefix"));
        }
        let key = Key::new(row, &column(n));
        self.words.push(key.column.clone());
        self.effect(Effect::Sequence(sequence, n));
        self.put(key, Value::Inline(value.into()), 0);
        Ok(())
    }

    fn check_staged(&self, id: ValueId, row: &[u8]) -> Result<()> {
        match self.after.staged(id) {
            Some(staged) if staged.row[..] == *row => Ok(()),
            _ => {
                Err(Error::bad(format!("value {id} is not staged for this row, or was abandoned")))
            }
        }
    }

    /// The answer's word is the id: a repeat brings a new one, and must be told the one that is staged.
    fn stage(&mut self, row: &[u8], id: ValueId, renew: bool) -> Result<()> {
        if renew {
            self.check_staged(id, row)?;
        } else if self.after.staged(id).is_some() || self.after.retired(id).is_some() {
            return Err(Error::bad(format!("value {id} was staged before")));
        }
        self.words.push(id.to_string().as_bytes().into());
        let deadline = self.setting.now.saturating_add(self.setting.stage_ms);
        self.effect(Effect::Stage(id, Staged { row: row.into(), deadline }));
        Ok(())
    }

    /// Chunks are immutable: a repeat is harmless, anything else under the same offset is refused.
    fn chunk(&mut self, key: Key, value: &[u8]) -> Result<()> {
        match self.cell(&key)? {
            Some(Cell { value: Value::Inline(there), .. }) if there[..] == *value => Ok(()),
            Some(_) => Err(Error::bad("another chunk is there already")),
            None => {
                self.put(key, Value::Inline(value.into()), 0);
                Ok(())
            }
        }
    }

    /// Removes chunks; the answer's word says how many were removed, [`DROP_MAX`] at a time.
    fn drop_chunks(&mut self, slot: u16, id: ValueId) -> Result<()> {
        let row = Key::chunk(slot, id, 0).row;
        let cells = self.after.row(slot, &row, std::ops::Bound::Unbounded).take(DROP_MAX);
        let keys = cells.map(|cell| cell.map(|(key, _)| key)).collect::<Result<Vec<Key>>>();
        let keys = keys.map_err(Error::of_this_copy)?;
        self.words.push(keys.len().to_string().as_bytes().into());
        keys.into_iter().for_each(|key| self.effect(Effect::Delete(key)));
        Ok(())
    }

    fn expire(&mut self) {
        let due = self.after.due(self.setting.now).filter(|timer| !matches!(timer, Timer::Drop(_)));
        for timer in due.take(EXPIRE_MAX).cloned().collect::<Vec<_>>() {
            match timer {
                Timer::Expire(key) => self.effect(Effect::Delete(key)),
                Timer::Abandon(id) => self.effect(Effect::Abandon(id)),
                Timer::Drop(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::cell::{Chunk, Head};

    #[test]
    fn the_reserve_and_its_half_are_the_marks() {
        let spaces = [100, 99, 50, 49, 0].map(|free| DiskSpace::of(free, 100));
        let (low, exhausted) = (DiskSpace::Low, DiskSpace::Exhausted);
        assert_eq!(spaces, [DiskSpace::Enough, low, low, exhausted, exhausted]);
    }

    #[test]
    fn a_low_disk_takes_what_grows_a_table_by_little() {
        let setting = Setting { disk_space: DiskSpace::Low, ..Setting::ROOMY };
        let put = |bytes: usize| Op::Put {
            row: b"r".to_vec(),
            column: b"c".to_vec(),
            value: vec![7; bytes],
            if_version: None,
            ttl: None,
        };
        let (small, verdict) = execute(&Table::default(), &[put(4000)], true, &setting);
        assert!(matches!(verdict, Verdict::Done(..)));
        let (_, verdict) = execute(&Table::default(), &[put(5000)], true, &setting);
        assert_eq!(verdict, Verdict::Refused(Error::NoSpace));
        let (_, verdict) = execute(&small, &[put(4000)], true, &setting);
        assert!(matches!(verdict, Verdict::Done(..)));
    }

    fn sum(table: &Table, ops: &[Op]) -> (Table, Verdict) {
        execute(table, ops, ops.len() == 1, &Setting::ROOMY)
    }

    #[test]
    fn a_bound_refuses_what_grows_over_it_and_nothing_else() {
        let add = |delta| Op::add_within("alice", "usage", delta, 10);
        let over = |used| Verdict::Refused(Error::Quota { used, limit: 10 });
        let (full, verdict) = sum(&Table::default(), &[add(7), add(3)]);
        assert!(matches!(verdict, Verdict::Done(..)));
        assert_eq!(sum(&full, &[add(1)]).1, over(10));
        assert_eq!(sum(&full, &[add(i64::MAX)]).1, over(10), "a sum beyond 64 bits is over it");
        let (above, _) = sum(&full, &[Op::add("alice", "usage", 90)]);
        let (less, verdict) = sum(&above, &[add(0), add(-1)]);
        assert!(matches!(verdict, Verdict::Done(..)), "above the bound it shrinks");
        assert_eq!(sum(&less, &[add(1)]).1, over(99));
    }

    #[test]
    fn a_bound_refuses_the_whole_batch() {
        let put = Op::put("alice/files", "a", "b");
        let before = Table::default();
        let (after, verdict) = sum(&before, &[put, Op::add_within("alice", "usage", 2, 1)]);
        assert_eq!(verdict, Verdict::Refused(Error::Quota { used: 0, limit: 1 }));
        assert_eq!(after.bytes(), before.bytes());
    }

    #[test]
    fn heads_of_too_many_chunks_are_refused_before_they_reach_the_log() {
        let setting = Setting::ROOMY;
        let commit = |id: u128, chunks: usize| {
            let id = ValueId(id);
            let head =
                Head { id, length: 1, crc: 0, chunks: vec![Chunk { length: 1, crc: 0 }; chunks] };
            let Op::Commit { row, column, length, if_version, ttl, .. } =
                Op::commit("r", "c", id, 1, None)
            else {
                unreachable!("it is a commit")
            };
            Op::Commit { row, column, id, length, if_version, ttl, head: Some(head) }
        };
        let stage = |id: u128| Op::Stage { row: b"r".to_vec(), id: ValueId(id), renew: false };
        let (staged, _) = execute(&Table::default(), &[stage(1), stage(2)], false, &setting);
        let half = CHUNKS_MAX / 2;
        let (_, most) = execute(&staged, &[commit(1, half), commit(2, half)], false, &setting);
        assert!(matches!(most, Verdict::Done(..)));
        let (_, more) = execute(&staged, &[commit(1, half), commit(2, half + 1)], false, &setting);
        assert!(matches!(more, Verdict::Refused(Error::TooBig(_))));
    }
}
