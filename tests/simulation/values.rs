//! Big values over two tablets: those who write them and die in between, those who read them, and the sweepers.
//!
//! What a node asks another one by the way (is this id staged? which chunks are there?) is answered at once by the
//! primary, if it can be reached and has a lease; everything that is written goes the way of all requests.

use super::cells::{cell, cells};
use super::clients::{Asked, Told, Who};
use super::ops::{Look, ROW};
use super::world::*;
use penncloud::protocol::cell::{Chunk, Head, Key, Value, ValueId, parse_hex128, slot};
use penncloud::protocol::command::Op;
use penncloud::protocol::entry::{Effect, Entry};
use penncloud::replication::table::Timer;
use penncloud::replication::{Outcome, Table};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// How long a staged value may wait for its COMMIT, in milliseconds.
pub const STAGE_MS: u64 = 4000;
/// How long the chunks of an overwritten or deleted value stay, in milliseconds.
pub const RETIRE_MS: u64 = 9000;
/// How long a reader may count on the chunks of the head that it has seen: the grace counts from when the
/// overwriting was asked for, and its commit may take a while.
const READERS_TIME: u64 = 4 * SECOND;
/// How long chunks may stay beyond the grace, and a staged value beyond its time, once everything has come back.
const SWEEPERS_TIME: u64 = 5 * SECOND;
/// Writers begin nothing after this.
const WRITERS_UNTIL: u64 = 14 * SECOND;
const WRITERS: usize = 3;
const READERS: usize = 2;
/// Values whose chunks a sweeper drops in one round.
const DROPS_PER_ROUND: usize = 8;
const CHUNK_BYTES: usize = 8;

/// Who does a part of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Writer(usize),
    Reader(usize),
    /// At a node.
    Sweeper(usize),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Stage,
    Chunk(usize),
    Commit,
}

#[derive(Default)]
struct Writer {
    /// Rises with every step that is sent: answers to earlier ones are late.
    seq: u64,
    id: u128,
    step: Step,
    chunks: usize,
}

#[derive(Default)]
struct Reader {
    seq: u64,
    began: u64,
    /// The value that it reads.
    pinned: Option<u128>,
}

/// Who writes and reads big values.
#[derive(Default)]
pub struct Values {
    writers: Vec<Writer>,
    readers: Vec<Reader>,
    last_id: u128,
    /// Values that are neither visible nor staged and have chunks, and since when.
    orphans: BTreeMap<u128, u64>,
}

fn chunk(id: u128, k: usize) -> Vec<u8> {
    format!("{:08}", id * 10 + k as u128).into_bytes()
}

/// The cell of a visible value.
fn place(n: u64) -> Look {
    Look::Cell(Key::new(ROW, format!("v{n}").as_bytes()))
}

fn chunk_key(id: u128, k: usize) -> Key {
    Key::chunk(slot(ROW), ValueId(id), (k * CHUNK_BYTES) as u64)
}

impl World {
    pub fn begin_values(&mut self) {
        if self.plan.tablets == 1 {
            return;
        }
        self.values.writers.resize_with(WRITERS, Writer::default);
        self.values.readers.resize_with(READERS, Reader::default);
        (0..WRITERS).for_each(|writer| self.at(SECOND, Event::Write { writer, seq: 0 }));
        (0..READERS).for_each(|reader| self.at(SECOND, Event::Read { reader }));
        self.at(SECOND, Event::Leaks);
    }

    /// The table of a tablet's primary, as a node gets to see it now.
    fn table_at_primary(&self, i: usize, t: usize) -> Option<&Table> {
        let primary = self.primary_of(i, t)?;
        let node = &self.nodes[primary];
        let away = node.paused_until > self.now
            || self.cuts.contains_key(&(i, primary))
            || self.cuts.contains_key(&(primary, i));
        let replica = node.replica(t).filter(|r| !away && r.leads())?;
        self.can_read(primary, t).then(|| replica.committed())
    }

    /// A chunk is taken only while its value is staged. That is remembered for at most half the grace, for others
    /// may have committed or abandoned it meanwhile.
    pub fn is_for_now(&mut self, i: usize, asked: &Asked) -> bool {
        let Some(Op::Chunk { id, .. }) = asked.ops.first() else { return true };
        if asked.seq == 0 || self.nodes[i].staged.get(&id.0).is_some_and(|until| *until > self.now)
        {
            return true;
        }
        let table = self.table_at_primary(i, 0);
        let Some(deadline) = table.and_then(|table| Some(table.staged(*id)?.deadline)) else {
            return false;
        };
        let until = (deadline * MS).min(self.now + RETIRE_MS * MS / 2);
        self.nodes[i].staged.insert(id.0, until);
        until > self.now
    }

    /// A writer goes on with its step, or dies, or gives its value up.
    pub fn write_on(&mut self, w: usize, seq: u64) {
        if self.values.writers[w].seq != seq {
            return;
        }
        if self.now >= WRITERS_UNTIL && self.values.writers[w].step == Step::Stage {
            return;
        }
        let fate = self.random.below(100);
        if self.now >= WRITERS_UNTIL + 2 * SECOND || fate < 8 {
            return self.rest(w);
        }
        let step = self.values.writers[w].step;
        let writer = &mut self.values.writers[w];
        writer.seq += 1;
        if step == Step::Stage {
            self.values.last_id += 1;
            (writer.id, writer.chunks) = (self.values.last_id, 2);
        }
        let (id, seq) = (writer.id, writer.seq);
        let (row, node) = (ROW.to_vec(), self.random.below(self.plan.nodes as u64) as usize);
        let n = self.random.below(2);
        let (t, op) = match step {
            Step::Stage if fate < 25 => (0, Op::put(row, format!("v{n}"), b"small".to_vec())),
            Step::Stage => (0, Op::Stage { row, id: ValueId(id), renew: false }),
            _ if fate < 15 => (0, Op::Abandon { row, id: ValueId(id) }),
            Step::Chunk(k) => {
                let (slot, offset) = (slot(ROW), (k * CHUNK_BYTES) as u64);
                (1, Op::Chunk { slot, id: ValueId(id), offset, value: chunk(id, k) })
            }
            Step::Commit => match self.head(w, node) {
                Some(head) => (0, commit(n, head)),
                None => return self.after(300 * MS, Event::Write { writer: w, seq }),
            },
        };
        let who = Who::Part(Part::Writer(w));
        let asked =
            Arc::new(Asked { who, seq, t, look: place(n), ops: vec![op], retry: false, nth: 1 });
        self.after(MS, Event::Request { node, asked, hops: 0 });
        let wait = self.random.between(SECOND, 2 * SECOND);
        self.after(wait, Event::Write { writer: w, seq });
    }

    /// The head of a value whose chunks are all there. With the rule off nobody looks.
    fn head(&self, w: usize, node: usize) -> Option<Head> {
        let writer = &self.values.writers[w];
        let whole = |k: usize| {
            let bytes = chunk(writer.id, k);
            Chunk { length: bytes.len() as u32, crc: crc32c::crc32c(&bytes) }
        };
        let chunks = (0..writer.chunks).map(whole).collect();
        if self.switches.head_last {
            self.nodes[node].replica(1)?;
            let table = self.table_at_primary(node, 1)?;
            let there = |k: usize| cell(table, &chunk_key(writer.id, k)).is_some();
            if !(0..writer.chunks).all(there) {
                return None;
            }
        }
        Some(Head::new(ValueId(writer.id), chunks))
    }

    /// A writer begins anew a little later.
    fn rest(&mut self, w: usize) {
        let writer = &mut self.values.writers[w];
        (writer.step, writer.seq) = (Step::Stage, writer.seq + 1);
        let seq = writer.seq;
        let pause = self.random.between(10 * MS, 500 * MS);
        self.after(pause, Event::Write { writer: w, seq });
    }

    fn told_writer(&mut self, w: usize, asked: &Asked, told: Told) {
        let head_last = self.switches.head_last;
        let writer = &mut self.values.writers[w];
        if writer.seq != asked.seq {
            return;
        }
        let Told::Outcome(Outcome::Done(_)) = told else { return };
        let op = asked.ops.first();
        let next = match (op, writer.step) {
            (Some(Op::Stage { .. }), _) if !head_last => Some(Step::Commit),
            (Some(Op::Stage { .. }), _) => Some(Step::Chunk(0)),
            (Some(Op::Chunk { .. }), Step::Chunk(k)) if k + 1 < writer.chunks => {
                Some(Step::Chunk(k + 1))
            }
            (Some(Op::Chunk { .. }), _) if head_last => Some(Step::Commit),
            (Some(Op::Commit { .. }), _) if !head_last => Some(Step::Chunk(0)),
            _ => None,
        };
        self.tally.values += u64::from(matches!(op, Some(Op::Commit { .. })));
        let Some(next) = next else { return self.rest(w) };
        writer.step = next;
        writer.seq += 1;
        let seq = writer.seq;
        let slow = self.random.chance(15);
        let pause = self.random.between(MS, if slow { 3 * SECOND } else { 200 * MS });
        self.after(pause, Event::Write { writer: w, seq });
    }

    /// A reader asks for a head, and then reads its chunks for a while.
    pub fn read_on(&mut self, r: usize) {
        if self.now >= CLIENTS_UNTIL {
            return;
        }
        let reader = &mut self.values.readers[r];
        (reader.seq, reader.began, reader.pinned) = (reader.seq + 1, self.now, None);
        let (who, seq) = (Who::Part(Part::Reader(r)), reader.seq);
        let look = place(self.random.below(2));
        let node = self.random.below(self.plan.nodes as u64) as usize;
        let asked = Arc::new(Asked { who, seq, t: 0, look, ops: Vec::new(), retry: false, nth: 1 });
        self.after(MS, Event::Request { node, asked, hops: 0 });
        self.after(READERS_TIME, Event::Read { reader: r });
    }

    fn told_reader(&mut self, r: usize, asked: &Asked, told: Told) {
        let reader = &mut self.values.readers[r];
        if let (Told::Value(Some(value)), true) = (&told, reader.seq == asked.seq) {
            reader.pinned = parse_hex128(value);
        }
    }

    pub fn told_part(&mut self, part: Part, asked: &Asked, told: Told) {
        match part {
            Part::Writer(w) => self.told_writer(w, asked, told),
            Part::Reader(r) => self.told_reader(r, asked, told),
            Part::Sweeper(i) => self.told_sweeper(i, asked, told),
        }
    }

    /// What a node does by itself for the tablets that it leads.
    pub fn sweep(&mut self, i: usize, life: u64) {
        self.after(500 * MS, Event::Sweep { node: i, life });
        if !self.replica(i, 0).leads() || !self.can_read(i, 0) || !self.switches.sweeps {
            return;
        }
        let due: Vec<Timer> = self.replica(i, 0).committed().due(self.now / MS).cloned().collect();
        let (mut expires, mut drops) = (false, Vec::new());
        for timer in due {
            match timer {
                Timer::Drop(id) => drops.push(id),
                Timer::Abandon(id) if !self.switches.abandon_first => drops.push(id),
                Timer::Abandon(_) | Timer::Expire(_) => expires = true,
            }
        }
        if expires {
            self.sweep_by(i, 0, Op::Expire);
        }
        drops.into_iter().take(DROPS_PER_ROUND).for_each(|id| self.drop_chunks(i, id));
    }

    fn drop_chunks(&mut self, i: usize, id: ValueId) {
        self.sweep_by(i, 1, Op::DropChunks { slot: slot(ROW), id });
    }

    fn sweep_by(&mut self, i: usize, t: usize, op: Op) {
        let who = Who::Part(Part::Sweeper(i));
        let asked =
            Arc::new(Asked { who, seq: 1, t, look: place(0), ops: vec![op], retry: false, nth: 1 });
        self.after(0, Event::Request { node: i, asked, hops: 0 });
    }

    /// The entry of the retire list goes when no chunk is left.
    fn told_sweeper(&mut self, i: usize, asked: &Asked, told: Told) {
        let (Some(Op::DropChunks { id, .. }), Told::Outcome(Outcome::Done(answer))) =
            (asked.ops.first(), told)
        else {
            return;
        };
        match answer.words.first() {
            Some(removed) if removed[..] != *b"0" => self.drop_chunks(i, *id),
            _ if self.replica_is_up(i) && self.replica(i, 0).committed().staged(*id).is_some() => {
                self.sweep_by(i, 0, Op::Expire)
            }
            _ => self.sweep_by(i, 0, Op::Forget { id: *id }),
        }
    }

    fn replica_is_up(&self, i: usize) -> bool {
        self.nodes[i].replica(0).is_some()
    }

    /// 16: a head becomes visible when all its chunks are there.
    pub fn check_heads(&self, entry: &Entry) -> Result<(), String> {
        for effect in &entry.effects {
            if let Effect::Put { value: Value::Big(head), .. } = effect {
                self.check_whole(head)?;
            }
        }
        Ok(())
    }

    fn check_whole(&self, head: &Head) -> Result<(), String> {
        let table = self.observers[1].table();
        for (k, chunk) in head.chunks.iter().enumerate() {
            let there = cell(table, &chunk_key(head.id.0, k)).map(|cell| cell.value);
            let right = matches!(there, Some(Value::Inline(bytes))
                if crc32c::crc32c(&bytes) == chunk.crc && bytes.len() as u32 == chunk.length);
            if !right {
                return Err(format!("16: value {} is visible without its chunk {k}", head.id));
            }
        }
        Ok(())
    }

    /// 16: chunks go when no head shows them, and nobody reads them.
    pub fn check_chunks(&self, entry: &Entry) -> Result<(), String> {
        for effect in &entry.effects {
            let Effect::Delete(key) = effect else { continue };
            let Some(id) = parse_hex128(&key.row) else { continue };
            if self.observers[0].heads().any(|head| head.id.0 == id) {
                return Err(format!("16: value {id} is visible and loses a chunk"));
            }
            let reads = |r: &&Reader| r.pinned == Some(id) && self.now < r.began + READERS_TIME;
            if let Some(reader) = self.values.readers.iter().find(reads) {
                return Err(format!(
                    "16: value {id} loses a chunk, read since {}",
                    reader.began / MS
                ));
            }
        }
        Ok(())
    }

    /// 16: in peace, chunks that nothing shows are gone in bounded time.
    pub fn look_for_leaks(&mut self) {
        self.after(SECOND, Event::Leaks);
        let (heads, chunks) = (self.observers[0].table(), self.observers[1].table());
        let visible: BTreeSet<u128> = self.observers[0].heads().map(|head| head.id.0).collect();
        let held = cells(chunks.cells_from(Bound::Unbounded));
        let held: BTreeSet<u128> = held.filter_map(|(key, _)| parse_hex128(&key.row)).collect();
        let stays = |id: &u128| heads.staged(ValueId(*id)).is_some() || visible.contains(id);
        let known = &self.values.orphans;
        let since = |id: u128| (id, known.get(&id).copied().unwrap_or(self.now));
        let orphans = held.into_iter().filter(|id| !stays(id)).map(since).collect();
        let late = |since: u64, time: u64| self.now > since.max(WHOLE_AT) + time + SWEEPERS_TIME;
        let expired = |id: &u128| {
            heads.staged(ValueId(*id)).is_some_and(|staged| late(staged.deadline * MS, 0))
        };
        let staged = (1..=self.values.last_id).find(expired);
        let left = |(_, since): &(&u128, &u64)| late(**since, RETIRE_MS * MS);
        let orphan = known.iter().find(left).map(|(id, _)| *id);
        let checked = match staged.or(orphan) {
            Some(id) => Err(format!("16: value {id} is not visible, and stays")),
            None => Ok(()),
        };
        self.values.orphans = orphans;
        self.fail(checked);
    }

    /// 16: at the end there are no chunks but those of visible values, and these are whole.
    pub fn check_values_at_end(&self) -> Result<(), String> {
        if self.plan.tablets == 1 {
            return Ok(());
        }
        self.observers[0].heads().try_for_each(|head| self.check_whole(&head))?;
        for (key, _) in cells(self.observers[1].table().cells_from(Bound::Unbounded)) {
            let Some(id) = parse_hex128(&key.row) else { continue };
            if !self.observers[0].heads().any(|head| head.id.0 == id) {
                return Err(format!("16: chunks of value {id} are left, and nothing shows them"));
            }
        }
        Ok(())
    }
}

fn commit(place: u64, head: Head) -> Op {
    let (row, column) = (ROW.to_vec(), format!("v{place}").into_bytes());
    let (id, length) = (head.id, head.length);
    Op::Commit { row, column, id, length, if_version: None, ttl: None, head: Some(head) }
}
