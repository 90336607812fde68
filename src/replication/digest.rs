//! A number that says whether two tables are equal, kept while they change.
//!
//! It is the sum of a hash for each part of a table, so that neither order nor history counts, and a change costs the
//! parts that it touches: what was there is subtracted, what is there now is added. The hash is XXH3 with 64 bits, over
//! a part's binary form; a value's bytes are hashed where they lie, with the hash of all before them as the seed.
//!
//! It finds what goes wrong by itself: a replica that applies an entry in another way, a file with a good checksum of
//! something else. What memory forgets of a cell is found when the cell is read from a disk again, for its hash is kept
//! beside it. It is no help against somebody who looks for two tables with the same digest.
//!
//! Replicas compare digests, so this is part of the protocol between them: among replicas that hash differently, each
//! but the primary takes its copy for damaged.

use crate::protocol::cell::{Cell, Key, Value, ValueId};
use crate::protocol::entry::{Answer, Encode, Position, Retired, Staged};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Bytes of a part without its value, as a rule.
const HEAD_BYTES: usize = 128;

/// A part of a table. What is in none follows from them: timers, the order of idle sessions, the count of bytes.
#[derive(Clone, Copy)]
pub enum Part<'a> {
    /// A cell.
    Cell(&'a Key, &'a Cell),
    /// The last number that APPEND gave out for a row and prefix.
    Sequence(&'a Key, u64),
    /// A value that is being written.
    Staged(ValueId, &'a Staged),
    /// A value whose chunks are to be removed.
    Retired(ValueId, &'a Retired),
    /// A client's session: the number below which all is answered, and the version of its last write.
    Session(u128, u64, u64),
    /// What a client's request was told.
    Answer(u128, u64, &'a Answer),
}

impl<'a> Part<'a> {
    /// What the part adds to the digest.
    pub fn hash(self) -> u64 {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        let value = self.encode(&mut head);
        xxh3_64_with_seed(value, xxh3_64(&head))
    }

    /// Appends the binary form of all but the bytes of a cell's value, and gives those: they may be many.
    fn encode(self, head: &mut Vec<u8>) -> &'a [u8] {
        match self {
            Part::Cell(key, cell) => return encode_cell(key, cell, head),
            Part::Sequence(key, last) => {
                head.push(1);
                key.encode(head);
                last.encode(head);
            }
            Part::Staged(id, staged) => {
                head.push(2);
                id.encode(head);
                staged.encode(head);
            }
            Part::Retired(id, retired) => {
                head.push(3);
                id.encode(head);
                retired.encode(head);
            }
            Part::Session(client, low, last) => {
                head.push(4);
                client.encode(head);
                [low, last].iter().for_each(|number| number.encode(head));
            }
            Part::Answer(client, request, answer) => {
                head.push(5);
                client.encode(head);
                request.encode(head);
                answer.encode(head);
            }
        }
        &[]
    }
}

fn encode_cell<'a>(key: &Key, cell: &'a Cell, head: &mut Vec<u8>) -> &'a [u8] {
    head.push(0);
    key.encode(head);
    [cell.version, cell.expires].iter().for_each(|number| number.encode(head));
    match &cell.value {
        Value::Inline(bytes) => {
            head.push(0);
            bytes
        }
        Value::Big(big) => {
            head.push(1);
            big.encode(head);
            &[]
        }
    }
}

/// The sum over all parts of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(u64);

impl From<u64> for Digest {
    fn from(sum: u64) -> Digest {
        Digest(sum)
    }
}

impl Digest {
    /// The sum.
    pub fn sum(self) -> u64 {
        self.0
    }

    /// A part with this hash is there now.
    pub fn add(&mut self, hash: u64) {
        self.0 = self.0.wrapping_add(hash);
    }

    /// A part that had this hash is there no more.
    pub fn remove(&mut self, hash: u64) {
        self.0 = self.0.wrapping_sub(hash);
    }

    /// The digest of a whole table: of its parts, where it stands, and the newest client session that was evicted.
    pub fn of_table(self, at: Position, evicted: u128) -> u64 {
        let mut whole = Vec::with_capacity(HEAD_BYTES);
        [self.0, at.epoch, at.version].iter().for_each(|number| number.encode(&mut whole));
        evicted.encode(&mut whole);
        xxh3_64(&whole)
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::{SESSIONS_MAX, Table};
    use super::*;
    use crate::error::Result;
    use crate::protocol::cell::{Chunk, Head};
    use crate::protocol::command::RequestId;
    use crate::protocol::entry::{Effect, Entry, Item};
    use proptest::prelude::*;

    fn key(name: u8) -> Key {
        Key::new(&[b'r', name % 2], &[name])
    }

    fn value(name: u8) -> Value {
        match name {
            0 => Value::Inline([].into()),
            1 => Value::Big(Head::new(ValueId(1), vec![Chunk { length: 1, crc: 0 }]).into()),
            _ => Value::Inline(vec![name; 1 << name].into()),
        }
    }

    /// Any effect, on so few names that most of them meet what others left.
    fn effects() -> impl Strategy<Value = Effect> {
        (0..7, 0..5u8, 0..5u8).prop_map(|(kind, name, other)| match kind {
            0 => Effect::Put { key: key(name), value: value(other), expires: u64::from(other % 2) },
            1 => Effect::Delete(key(name)),
            2 => Effect::DeleteRow { slot: key(name).slot, row: key(name).row },
            3 => Effect::Sequence(key(name), other.into()),
            4 => Effect::Stage(
                ValueId(name.into()),
                Staged { row: key(other).row, deadline: other.into() },
            ),
            5 => Effect::Abandon(ValueId(name.into())),
            _ => Effect::Forget(ValueId(name.into())),
        })
    }

    fn requests() -> impl Strategy<Value = RequestId> {
        (0..3u128, 0..8u64, 0..8u64).prop_map(|(client, request, low)| RequestId {
            client,
            request,
            low,
        })
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let entry = (prop::collection::vec(effects(), 0..4), prop::option::of(requests()), 0..3u64);
        prop::collection::vec(entry, 0..40).prop_map(|all| {
            let versions = 1..;
            let entry = |(version, (effects, request, retire))| Entry {
                epoch: 1,
                version,
                prev_epoch: 1,
                retire,
                request,
                answer: Answer { version, words: vec![[retire as u8].into()] },
                effects,
            };
            versions.zip(all).map(entry).collect()
        })
    }

    fn table(entries: &[Entry]) -> Table {
        entries.iter().fold(Table::default(), |mut table, entry| {
            table.apply(entry);
            table
        })
    }

    /// The table as it is put together anew, from the last item to the first.
    fn reloaded(table: &Table) -> Table {
        let mut copy = Table::default();
        (copy.version, copy.epoch) = (table.version, table.epoch);
        let items: Vec<Item> = table.items().collect::<Result<_>>().expect("in memory");
        items.into_iter().rev().for_each(|item| copy.load(item));
        copy
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_a_checkpoint_has(entries in entries()) {
            let table = table(&entries);
            prop_assert_eq!(reloaded(&table).digest(), table.digest());
        }

        #[test]
        fn other_tables_have_other_digests(entries in entries(), mut effect in effects(), at in 0..40usize) {
            let (before, mut others) = (table(&entries), entries.clone());
            if let Some(entry) = others.get_mut(at).and_then(|entry| entry.effects.first_mut()) {
                std::mem::swap(entry, &mut effect);
            }
            let after = table(&others);
            let equal = before.items().eq(after.items());
            prop_assert_eq!(before.digest() == after.digest(), equal);
        }
    }

    #[test]
    fn evicted_sessions_leave_the_digest() {
        let of_client = |client: u64| Entry {
            epoch: 1,
            version: client,
            prev_epoch: 1,
            retire: 0,
            request: Some(RequestId { client: client.into(), request: 1, low: 1 }),
            answer: Answer::default(),
            effects: Vec::new(),
        };
        let entries: Vec<Entry> = (1..SESSIONS_MAX as u64 + 10).map(of_client).collect();
        let table = table(&entries);
        assert_eq!(table.items().count(), SESSIONS_MAX + 1);
        assert_eq!(reloaded(&table).digest(), table.digest());
    }

    #[test]
    fn one_bit_of_a_large_value_counts() {
        let with = |bytes: Vec<u8>| {
            let mut table = Table::default();
            let value = Value::Inline(bytes.into());
            table.load(Item::Cell(key(1), Cell { version: 1, expires: 0, value }));
            table.digest()
        };
        let whole = vec![7; 1 << 20];
        let mut other = whole.clone();
        other[1 << 19] ^= 1;
        assert_eq!(with(whole.clone()), with(whole.clone()));
        assert_ne!(with(whole), with(other));
    }

    #[test]
    fn the_digest_is_part_of_the_protocol() {
        let (row, words) = (key(1).row, vec![b"w".as_slice().into()]);
        let answers = [(3, Answer { version: 2, words })].into();
        let items = [
            Item::Cell(key(1), Cell { version: 1, expires: 0, value: value(3) }),
            Item::Cell(key(2), Cell { version: 2, expires: 9, value: value(1) }),
            Item::Sequence(key(1), 5),
            Item::Staged(ValueId(2), Staged { row, deadline: 6 }),
            Item::Retired(ValueId(3), Retired { slot: 4, due: 7 }),
            Item::Session(8, crate::protocol::entry::Session { low: 3, last: 2, answers }),
            Item::Evicted(1),
        ];
        let mut table = Table::default();
        (table.version, table.epoch) = (2, 1);
        items.into_iter().for_each(|item| table.load(item));
        assert_eq!(format!("{:016x}", table.digest()), "400374310b28936e");
    }
}
