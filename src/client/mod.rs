//! The store's client.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::protocol::cell::{Bytes, ValueId};
pub use crate::protocol::command::{Op, Scan};
use crate::protocol::reply::{Column, Row};
use std::io::Read;
use std::time::{Duration, Instant};

/// The store, as frontends, SMTP servers and tools see it. Cheap to clone; safe to share.
#[derive(Clone)]
pub struct Client {}

/// A cell that was read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Version of the cell.
    pub version: u64,
    /// The value.
    pub value: Vec<u8>,
}

/// What a write came to. Refusals and failures are errors; a condition that does not hold is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// Done.
    Done {
        /// The tablet's version at which it happened: the version of the cells written.
        version: u64,
        /// Sums made by ADD and columns made by APPEND, in the order of the items.
        words: Vec<Bytes>,
    },
    /// The condition of an item does not hold; nothing was written.
    Mismatch {
        /// The cell's version now; 0: no such cell.
        version: u64,
        /// Which item of a BATCH; 0 for a single op.
        at: usize,
    },
    /// A DELETE of what is not there.
    NotFound,
}

/// A value that was taken whole and waits for the write that makes it visible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uploaded {
    /// It fits into a cell: nothing was sent yet.
    Inline(Vec<u8>),
    /// It was staged in chunks.
    Staged {
        /// Its id.
        id: ValueId,
        /// Its length in bytes.
        length: u64,
    },
}

impl Uploaded {
    /// Length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Uploaded::Inline(bytes) => bytes.len() as u64,
            Uploaded::Staged { length, .. } => *length,
        }
    }

    /// The op that makes the value visible in a cell of the row for which it was uploaded: a PUT or a
    /// COMMIT; also as an item of a BATCH.
    pub fn into_op(
        self,
        row: impl Into<Vec<u8>>,
        column: impl Into<Vec<u8>>,
        if_version: Option<u64>,
    ) -> Op {
        match self {
            Uploaded::Inline(value) => {
                Op::Put { row: row.into(), column: column.into(), value, if_version, ttl: None }
            }
            Uploaded::Staged { id, length } => Op::commit(row, column, id, length, if_version),
        }
    }
}

/// A value that is read as a stream. Reads fail with an error rather than end early.
pub struct ValueReader {
    /// Version of the cell.
    pub version: u64,
    /// Bytes of the whole value.
    pub total: u64,
    /// Bytes that this reader gives.
    pub len: u64,
}

impl Read for ValueReader {
    fn read(&mut self, _buffer: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

impl Client {
    /// A client of the configured cluster. Connects when it is first used.
    pub fn new(_config: &Config) -> Result<Client> {
        Ok(Client {})
    }

    /// The same client with another time limit for each request (the configured one unless told).
    pub fn with_time_limit(&self, _limit: Duration) -> Client {
        self.clone()
    }

    /// Reads a cell whole; for values known to be small: larger than `max` is `TooBig`.
    pub fn get(
        &self,
        _row: impl AsRef<[u8]>,
        _column: impl AsRef<[u8]>,
        _max: u64,
    ) -> Result<Option<Found>> {
        Err(Error::retry("not connected"))
    }

    /// Opens a cell for reading `length` bytes from `offset` on as a stream (all that is left, unless
    /// told); a value of any size. An offset at or past the end gives an empty stream.
    pub fn open(
        &self,
        _row: impl AsRef<[u8]>,
        _column: impl AsRef<[u8]>,
        _offset: u64,
        _length: Option<u64>,
    ) -> Result<Option<ValueReader>> {
        Err(Error::retry("not connected"))
    }

    /// Makes one change.
    pub fn write(&self, _op: Op) -> Result<Written> {
        Err(Error::retry("not connected"))
    }

    /// Makes several changes to rows of one owner: all or none.
    pub fn batch(&self, _owner: impl AsRef<[u8]>, _items: Vec<Op>) -> Result<Written> {
        Err(Error::retry("not connected"))
    }

    /// One page of a row's columns, and whether more follow.
    pub fn scan(&self, _scan: Scan) -> Result<(Vec<Column>, bool)> {
        Err(Error::retry("not connected"))
    }

    /// One page of the rows that one backend holds itself.
    pub fn rows_of(
        &self,
        _address: &str,
        _prefix: &[u8],
        _after: Option<&[u8]>,
        _limit: usize,
    ) -> Result<(Vec<Row>, bool)> {
        Err(Error::retry("not connected"))
    }

    /// Begins a big value for a row.
    pub fn stage(&self, _row: impl AsRef<[u8]>) -> Result<ValueId> {
        Err(Error::retry("not connected"))
    }

    /// Writes the chunk of a staged value that begins at `offset`. A repeat is harmless.
    pub fn chunk(
        &self,
        _row: impl AsRef<[u8]>,
        _id: ValueId,
        _offset: u64,
        _bytes: Vec<u8>,
    ) -> Result<()> {
        Err(Error::retry("not connected"))
    }

    /// How many bytes of a staged value are there without a gap.
    pub fn staged(&self, _row: impl AsRef<[u8]>, _id: ValueId) -> Result<u64> {
        Err(Error::retry("not connected"))
    }

    /// Gives a staged value up: its chunks are removed.
    pub fn abandon(&self, _row: impl AsRef<[u8]>, _id: ValueId) -> Result<()> {
        Err(Error::retry("not connected"))
    }

    /// Takes everything that a reader gives, for a row; at most `max` bytes, else `TooBig`. Streams: memory
    /// is a few chunks. On an error what was staged is abandoned.
    pub fn upload(
        &self,
        _row: impl AsRef<[u8]>,
        _from: &mut dyn Read,
        _max: u64,
    ) -> Result<Uploaded> {
        Err(Error::retry("not connected"))
    }

    /// Asks one process (`host:port` of a backend or the master) for its STATUS, for people.
    pub fn status_of(&self, _address: &str, _deadline: Instant) -> Result<String> {
        Err(Error::retry("not connected"))
    }
}
