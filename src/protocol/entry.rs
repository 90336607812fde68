//! Log entries and checkpoint items: what tablets write to disk and send to one another.
//!
//! All integers are little-endian. A byte string is `len u32` and its bytes; a list is `count u32` and
//! its members; an option is `0`, or `1` and the value. Every enum begins with a tag byte, and tags
//! are never used again for something else.
//!
//! An [`Entry`] holds *effects*, not requests: what a request did was decided once, by the primary, so
//! every replica that applies the same entries holds the same table, whatever its clock says.

use super::cell::{Bytes, Cell, Chunk, Head, Key, Value, ValueId};
use super::command::{Op, RequestId};
use crate::error::{Error, Result};
use std::sync::Arc;

/// One entry of a tablet's log: one version.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Epoch in which the primary made it.
    pub epoch: u64,
    /// The tablet's version after it: one more than that of the entry before.
    pub version: u64,
    /// Epoch of the entry before: together with the version it names the history.
    pub prev_epoch: u64,
    /// When the chunks of big values that this entry overwrites, deletes or abandons may be removed, in
    /// milliseconds since 1970: decided by the primary, so that every replica retires them alike.
    pub retire: u64,
    /// The request that it answers, where the client gave it a name.
    pub request: Option<RequestId>,
    /// What the request was told; kept to answer a retry.
    pub answer: Answer,
    /// What changes. None: a barrier, with which a primary begins its epoch.
    pub effects: Vec<Effect>,
}

impl Entry {
    /// About how many bytes it takes in memory and on the wire.
    pub fn weight(&self) -> u64 {
        ENTRY_BYTES + self.effects.iter().map(Effect::weight).sum::<u64>()
    }

    /// The cells that it writes or removes one by one.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.effects.iter().filter_map(|effect| match effect {
            Effect::Put { key, .. } | Effect::Delete(key) => Some(key),
            _ => None,
        })
    }

    /// Whether it changes this cell.
    pub fn touches(&self, cell: &Key) -> bool {
        self.effects.iter().any(|effect| match effect {
            Effect::Put { key, .. } | Effect::Delete(key) => key == cell,
            Effect::DeleteRow { slot, row } => *slot == cell.slot && *row == cell.row,
            _ => false,
        })
    }

    /// Whether it changes any cell of this row.
    pub fn touches_row(&self, of: u16, name: &[u8]) -> bool {
        self.effects.iter().any(|effect| match effect {
            Effect::Put { key, .. } | Effect::Delete(key) => key.slot == of && key.row[..] == *name,
            Effect::DeleteRow { slot, row } => *slot == of && row[..] == *name,
            _ => false,
        })
    }
}

/// Names one entry of a tablet, and with it everything before. The default is "before the first".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Epoch of the entry.
    pub epoch: u64,
    /// Version of the entry.
    pub version: u64,
}

impl Position {
    /// The position of an entry.
    pub fn of(entry: &Entry) -> Position {
        Position { epoch: entry.epoch, version: entry.version }
    }
}

/// What an entry takes beside its keys and values.
const ENTRY_BYTES: u64 = 256;

/// What a write was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The tablet's version at which it happened; 0: nothing happened, and the one word is the line of the refusal.
    pub version: u64,
    /// The sums that ADD made and the columns that APPEND made, in order, as words.
    pub words: Vec<Bytes>,
}

/// One change to a tablet's table.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Write a cell; its version is the entry's.
    Put {
        /// Where.
        key: Key,
        /// What.
        value: Value,
        /// When it is removed, in milliseconds since 1970; 0 is never.
        expires: u64,
    },
    /// Remove a cell.
    Delete(Key),
    /// Remove all cells of a row.
    DeleteRow {
        /// Slot of the row's owner.
        slot: u16,
        /// The row.
        row: Bytes,
    },
    /// Set the last number that APPEND gave out for a row and prefix.
    Sequence(Key, u64),
    /// Log a value id, or renew it.
    Stage(ValueId, Staged),
    /// Give a staged value up: it goes on the retire list.
    Abandon(ValueId),
    /// Take a value off the retire list: its chunks are gone.
    Forget(ValueId),
}

impl Effect {
    fn weight(&self) -> u64 {
        let bytes = match self {
            Effect::Put { key, value, .. } => {
                let inline = match value {
                    Value::Inline(bytes) => bytes.len(),
                    Value::Big(head) => head.chunks.len() * size_of::<Chunk>(),
                };
                key.row.len() + key.column.len() + inline
            }
            Effect::Delete(key) | Effect::Sequence(key, _) => key.row.len() + key.column.len(),
            Effect::DeleteRow { row, .. } => row.len(),
            Effect::Stage(_, staged) => staged.row.len(),
            Effect::Abandon(_) | Effect::Forget(_) => 0,
        };
        bytes as u64 + 32
    }
}

/// A value that is being written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// Row for which it is written.
    pub row: Bytes,
    /// When it is abandoned, in milliseconds since 1970.
    pub deadline: u64,
}

/// A value whose chunks are to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retired {
    /// Slot of the row for which it was written.
    pub slot: u16,
    /// When nobody reads it any more, in milliseconds since 1970.
    pub due: u64,
}

/// What one client session did in a tablet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Numbers below are answered and forgotten.
    pub low: u64,
    /// Version of its last write: the session idle for longest is evicted first.
    pub last: u64,
    /// Answers of the requests from `low` on.
    pub answers: std::collections::BTreeMap<u64, Answer>,
}

/// One item of a checkpoint. Together, in order, they are a tablet's whole table.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A cell.
    Cell(Key, Cell),
    /// The last number that APPEND gave out for a row and prefix.
    Sequence(Key, u64),
    /// A value that is being written.
    Staged(ValueId, Staged),
    /// A value whose chunks are to be removed.
    Retired(ValueId, Retired),
    /// What a client session did.
    Session(u128, Session),
    /// The newest client session that was ever evicted.
    Evicted(u128),
    /// A cell is removed at a time, in milliseconds since 1970.
    Expires(u64, Key),
    /// Something could not be read when this copy of the table was changed, and why: what it adds up to is not right.
    Flawed(Bytes),
}

/// Reads what [`Encode`] wrote, from the front of a slice.
pub struct Decoder<'a>(pub &'a [u8]);

impl<'a> Decoder<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        if self.0.len() < n {
            return Err(Error::corrupt("an encoded item ends early"));
        }
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("take returned N bytes"))
    }

    fn tag(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// Reads one item.
    pub fn read<T: Encode>(&mut self) -> Result<T> {
        T::decode(self)
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What has a binary form.
pub trait Encode: Sized {
    /// Appends the binary form.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads it back.
    fn decode(from: &mut Decoder) -> Result<Self>;

    /// The binary form alone.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    /// Reads exactly one item.
    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut decoder = Decoder(bytes);
        let item = Self::decode(&mut decoder)?;
        if decoder.is_empty() {
            Ok(item)
        } else {
            Err(Error::corrupt("bytes follow an encoded item"))
        }
    }
}

macro_rules! encode_integers {
    ($($t:ty),*) => {$(
        impl Encode for $t {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn decode(from: &mut Decoder) -> Result<$t> {
                from.array().map(<$t>::from_le_bytes)
            }
        }
    )*};
}
encode_integers!(u16, u32, u64, u128, i64);

/// Gives a struct the concatenation of its fields as binary form.
macro_rules! encode_struct {
    ($name:ident { $($field:ident),* }) => {
        impl Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                $(self.$field.encode(out);)*
            }
            fn decode(from: &mut Decoder) -> Result<$name> {
                $(let $field = from.read()?;)*
                Ok($name { $($field),* })
            }
        }
    };
}

/// Gives an enum a tag byte and the concatenation of the variant's fields as binary form.
macro_rules! encode_enum {
    ($name:ident { $($tag:literal = $variant:ident $( ( $($tuple:ident),* ) )? $( { $($field:ident),* } )?),* $(,)? }) => {
        impl Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                match self {
                    $($name::$variant $( ( $($tuple),* ) )? $( { $($field),* } )? => {
                        out.push($tag);
                        $($($tuple.encode(out);)*)?
                        $($($field.encode(out);)*)?
                    })*
                }
            }
            fn decode(from: &mut Decoder) -> Result<$name> {
                Ok(match from.tag()? {
                    $($tag => {
                        $($(let $tuple = from.read()?;)*)?
                        $($(let $field = from.read()?;)*)?
                        $name::$variant $( ( $($tuple),* ) )? $( { $($field),* } )?
                    })*
                    tag => return Err(Error::corrupt(format!("unknown tag {tag} of {}", stringify!($name)))),
                })
            }
        }
    };
}

impl Encode for Vec<u8> {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.len() as u32).encode(out);
        out.extend_from_slice(self);
    }
    fn decode(from: &mut Decoder) -> Result<Vec<u8>> {
        let n: u32 = from.read()?;
        Ok(from.take(n as usize)?.to_vec())
    }
}

impl Encode for Bytes {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.len() as u32).encode(out);
        out.extend_from_slice(self);
    }
    fn decode(from: &mut Decoder) -> Result<Bytes> {
        let n: u32 = from.read()?;
        Ok(from.take(n as usize)?.into())
    }
}

/// A list; kept apart from `Vec<u8>`, which is a byte string.
fn encode_list<T: Encode>(list: &[T], out: &mut Vec<u8>) {
    (list.len() as u32).encode(out);
    list.iter().for_each(|item| item.encode(out));
}

fn decode_list<T: Encode>(from: &mut Decoder) -> Result<Vec<T>> {
    let n: u32 = from.read()?;
    (0..n).map(|_| from.read()).collect()
}

macro_rules! encode_lists {
    ($($t:ty),*) => {$(
        impl Encode for Vec<$t> {
            fn encode(&self, out: &mut Vec<u8>) {
                encode_list(self, out);
            }
            fn decode(from: &mut Decoder) -> Result<Vec<$t>> {
                decode_list(from)
            }
        }
    )*};
}
encode_lists!(Bytes, Chunk, Effect, Op);

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(value) = self {
            value.encode(out);
        }
    }
    fn decode(from: &mut Decoder) -> Result<Option<T>> {
        match from.tag()? {
            0 => Ok(None),
            1 => from.read().map(Some),
            tag => Err(Error::corrupt(format!("unknown tag {tag} of an option"))),
        }
    }
}

impl<T: Encode> Encode for Arc<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        T::encode(self, out);
    }
    fn decode(from: &mut Decoder) -> Result<Arc<T>> {
        from.read().map(Arc::new)
    }
}

impl Encode for ValueId {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
    fn decode(from: &mut Decoder) -> Result<ValueId> {
        from.read().map(ValueId)
    }
}

impl Encode for Session {
    fn encode(&self, out: &mut Vec<u8>) {
        self.low.encode(out);
        self.last.encode(out);
        (self.answers.len() as u32).encode(out);
        for (request, answer) in &self.answers {
            request.encode(out);
            answer.encode(out);
        }
    }
    fn decode(from: &mut Decoder) -> Result<Session> {
        let (low, last) = (from.read()?, from.read()?);
        let n: u32 = from.read()?;
        let answers = (0..n).map(|_| Ok((from.read()?, from.read()?))).collect::<Result<_>>()?;
        Ok(Session { low, last, answers })
    }
}

encode_struct!(Key { slot, row, column });
encode_struct!(Chunk { length, crc });
encode_struct!(Head { id, length, crc, chunks });
encode_struct!(Cell { version, expires, value });
encode_struct!(RequestId { client, request, low });
encode_struct!(Answer { version, words });
encode_struct!(Staged { row, deadline });
encode_struct!(Retired { slot, due });
encode_struct!(Entry { epoch, version, prev_epoch, retire, request, answer, effects });

encode_enum!(Value { 0 = Inline(bytes), 1 = Big(head) });
encode_enum!(Effect {
    0 = Put { key, value, expires },
    1 = Delete(key),
    2 = DeleteRow { slot, row },
    3 = Sequence(key, last),
    4 = Stage(id, staged),
    5 = Abandon(id),
    6 = Forget(id),
});
encode_enum!(Item {
    0 = Cell(key, cell),
    1 = Sequence(key, last),
    2 = Staged(id, staged),
    3 = Retired(id, retired),
    4 = Session(client, session),
    5 = Evicted(client),
    6 = Expires(at, key),
    7 = Flawed(why),
});
encode_enum!(Op {
    0 = Put { row, column, value, if_version, ttl },
    1 = Cput { row, column, old, new, ttl },
    2 = Delete { row, column, if_version },
    3 = DeleteRow { row },
    5 = Append { row, prefix, value },
    6 = Commit { row, column, id, length, if_version, ttl, head },
    7 = Stage { row, id, renew },
    8 = Abandon { row, id },
    9 = Chunk { slot, id, offset, value },
    10 = DropChunks { slot, id },
    11 = Forget { id },
    12 = Expire,
    13 = Add { row, column, delta, max },
});

impl Encode for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn decode(from: &mut Decoder) -> Result<bool> {
        match from.tag()? {
            0 => Ok(false),
            1 => Ok(true),
            tag => Err(Error::corrupt(format!("unknown tag {tag} of a bool"))),
        }
    }
}
