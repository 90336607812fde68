//! Requests: what a client, a node or a person may ask, and how each is written on the wire.

use super::cell::{Head, Key, ValueId, owner};
pub use super::parse::{parse, parse_item};
use crate::error::{Error, Result};

/// Items of one BATCH.
pub const BATCH_ITEMS_MAX: usize = 256;
/// Bytes of one BATCH: names and values together.
pub const BATCH_BYTES_MAX: u64 = 4 << 20;
/// Answers of one SCAN or ROWS unless told.
pub const LIMIT_DEFAULT: usize = 100;
/// Answers of one SCAN or ROWS at most.
pub const LIMIT_MAX: usize = 1000;
/// Bytes of one page of a SCAN.
pub const PAGE_BYTES_MAX: u64 = 4 << 20;

/// A request: a command and the options that any command may carry.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What is asked.
    pub command: Command,
    /// Who asks, and until when.
    pub options: Options,
}

/// Options of any request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The client's session and the request's place in it; without one a retry is a new request.
    pub session: Option<RequestId>,
    /// Whether this request may have been sent before.
    pub retry: bool,
    /// Milliseconds left to answer.
    pub deadline_ms: Option<u64>,
}

/// Names a request for ever, so that it executes once however often it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId {
    /// The client session.
    pub client: u128,
    /// Number of the request in its session.
    pub request: u64,
    /// Lowest number that the client still waits for: answers below it are forgotten.
    pub low: u64,
}

/// One change to cells, or an item of a BATCH.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Write a cell.
    Put {
        /// Row.
        row: Vec<u8>,
        /// Column.
        column: Vec<u8>,
        /// The value.
        value: Vec<u8>,
        /// Only over this version; 0 is "no such cell".
        if_version: Option<u64>,
        /// Seconds to live.
        ttl: Option<u64>,
    },
    /// Write `new` if the value is `old` now.
    Cput {
        /// Row.
        row: Vec<u8>,
        /// Column.
        column: Vec<u8>,
        /// The value expected.
        old: Vec<u8>,
        /// The value to write.
        new: Vec<u8>,
        /// Seconds to live.
        ttl: Option<u64>,
    },
    /// Remove a cell.
    Delete {
        /// Row.
        row: Vec<u8>,
        /// Column.
        column: Vec<u8>,
        /// Only at this version.
        if_version: Option<u64>,
    },
    /// Remove all cells of a row.
    DeleteRow {
        /// Row.
        row: Vec<u8>,
    },
    /// Add to an integer cell; a missing one counts as 0.
    Add {
        /// Row.
        row: Vec<u8>,
        /// Column.
        column: Vec<u8>,
        /// What to add.
        delta: i64,
        /// A sum above it is refused, unless nothing is added: what only shrinks is always done.
        max: Option<i64>,
    },
    /// Write under the next number of a prefix.
    Append {
        /// Row.
        row: Vec<u8>,
        /// Start of the column's name; 12 digits follow.
        prefix: Vec<u8>,
        /// The value.
        value: Vec<u8>,
    },
    /// Make a staged value visible.
    Commit {
        /// Row.
        row: Vec<u8>,
        /// Column.
        column: Vec<u8>,
        /// The staged value.
        id: ValueId,
        /// Its whole length.
        length: u64,
        /// Only over this version; 0 is "no such cell".
        if_version: Option<u64>,
        /// Seconds to live.
        ttl: Option<u64>,
        /// The chunks, filled in by the node that was asked after it has seen them all.
        head: Option<Head>,
    },
    /// Log a value id with a deadline, or renew it.
    Stage {
        /// Row whose tablet keeps the id.
        row: Vec<u8>,
        /// The id.
        id: ValueId,
        /// Whether the id must be known already.
        renew: bool,
    },
    /// Give a staged value up.
    Abandon {
        /// Row whose tablet keeps the id.
        row: Vec<u8>,
        /// The id.
        id: ValueId,
    },
    /// Store a chunk in its large-value tablet (between nodes).
    Chunk {
        /// Slot of the row for which the value was staged.
        slot: u16,
        /// The value.
        id: ValueId,
        /// Where the chunk begins in the value.
        offset: u64,
        /// Its bytes.
        value: Vec<u8>,
    },
    /// Remove the chunks of a value from a large-value tablet (between nodes).
    DropChunks {
        /// Slot of the row for which the value was staged.
        slot: u16,
        /// The value.
        id: ValueId,
    },
    /// Take a value off the retire list: its chunks are gone (between nodes).
    Forget {
        /// The value.
        id: ValueId,
    },
    /// Remove what has outlived its time: cells, and staged ids past their deadline (the primary's own).
    Expire,
}

impl Op {
    /// The row that is changed; none for what nodes do among themselves.
    pub fn row(&self) -> Option<&[u8]> {
        match self {
            Op::Put { row, .. }
            | Op::Cput { row, .. }
            | Op::Delete { row, .. }
            | Op::DeleteRow { row }
            | Op::Add { row, .. }
            | Op::Append { row, .. }
            | Op::Commit { row, .. }
            | Op::Stage { row, .. }
            | Op::Abandon { row, .. } => Some(row),
            Op::Chunk { .. } | Op::DropChunks { .. } | Op::Forget { .. } | Op::Expire => None,
        }
    }

    /// Whether it does nothing but remove, or lead to what is removed.
    pub fn frees(&self) -> bool {
        match self {
            Op::Delete { .. } | Op::DeleteRow { .. } | Op::Abandon { .. } => true,
            Op::DropChunks { .. } | Op::Forget { .. } | Op::Expire => true,
            Op::Put { .. } | Op::Cput { .. } | Op::Add { .. } | Op::Append { .. } => false,
            Op::Commit { .. } | Op::Stage { .. } | Op::Chunk { .. } => false,
        }
    }

    /// The cell that it is about, if it is about one.
    pub fn key(&self) -> Option<Key> {
        match self {
            Op::Put { row, column, .. }
            | Op::Cput { row, column, .. }
            | Op::Delete { row, column, .. }
            | Op::Add { row, column, .. }
            | Op::Commit { row, column, .. } => Some(Key::new(row, column)),
            Op::Chunk { slot, id, offset, .. } => Some(Key::chunk(*slot, *id, *offset)),
            _ => None,
        }
    }

    /// Bytes of the values that follow the op's line.
    pub fn payload_bytes(&self) -> u64 {
        match self {
            Op::Put { value, .. } | Op::Append { value, .. } | Op::Chunk { value, .. } => {
                value.len() as u64
            }
            Op::Cput { old, new, .. } => (old.len() + new.len()) as u64,
            _ => 0,
        }
    }
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Read a cell, or a byte range of it.
    Get {
        /// Row.
        row: Vec<u8>,
        /// Column.
        column: Vec<u8>,
        /// First byte wanted.
        offset: u64,
        /// Bytes wanted; all unless told.
        length: Option<u64>,
        /// Only at this version.
        if_version: Option<u64>,
        /// From the asked node's own copy.
        local: bool,
    },
    /// One change.
    Write(Op),
    /// Several changes to rows of one owner: all or none.
    Batch {
        /// The owner of all rows.
        owner: Vec<u8>,
        /// The changes, in order.
        items: Vec<Op>,
    },
    /// Begin a big value; the id is new unless given.
    Stage {
        /// The row that it is for.
        row: Vec<u8>,
        /// An id to renew.
        id: Option<ValueId>,
    },
    /// One chunk of a staged value.
    Chunk {
        /// The row that it is for.
        row: Vec<u8>,
        /// The value.
        id: ValueId,
        /// Where the chunk begins.
        offset: u64,
        /// Its bytes.
        value: Vec<u8>,
    },
    /// How much of a staged value is there.
    Staged {
        /// The row that it is for.
        row: Vec<u8>,
        /// The value.
        id: ValueId,
    },
    /// Columns of a row, in order.
    Scan(Scan),
    /// Rows that the asked node holds.
    Rows {
        /// Only rows that begin so.
        prefix: Vec<u8>,
        /// Only rows after this one.
        after: Option<Vec<u8>>,
        /// How many.
        limit: usize,
    },
    /// Master: the group of an owner.
    Where {
        /// The owner.
        owner: Vec<u8>,
    },
    /// Master: all nodes.
    Nodes,
    /// Master: check this node now.
    Suspect {
        /// Name of the node.
        node: String,
    },
    /// Master: take a node out of service in order.
    Shutdown {
        /// Name of the node.
        node: String,
        /// Whether to do it though some of its tablets are out of service then.
        force: bool,
    },
    /// Master: put a node back into service.
    Wakeup {
        /// Name of the node.
        node: String,
    },
    /// First or second step of the handshake.
    Auth(Vec<Vec<u8>>),
    /// The state of the asked process, for people.
    Status,
    /// Answered by PONG.
    Ping,
    /// What can be asked, for people.
    Help,
    /// Close the connection.
    Quit,
    /// A message between PennCloud's own processes: its verb (with the `@`), its words, and its bytes.
    Peer(Peer),
}

/// A message between PennCloud's own processes.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// The verb, which begins with `@`.
    pub verb: String,
    /// The words between the verb and the length.
    pub words: Vec<Vec<u8>>,
    /// The bytes.
    pub payload: Vec<u8>,
}

impl Peer {
    /// A message of words alone.
    pub fn new(verb: &str, words: Vec<Vec<u8>>) -> Peer {
        Peer { verb: verb.into(), words, payload: Vec::new() }
    }

    /// A word, by its place.
    pub fn word(&self, at: usize) -> Result<&[u8]> {
        self.words.get(at).map(Vec::as_slice).ok_or_else(|| Error::bad("a word is missing"))
    }

    /// A word that is text.
    pub fn text(&self, at: usize) -> Result<&str> {
        std::str::from_utf8(self.word(at)?).map_err(|_| Error::bad("a word is not UTF-8"))
    }

    /// A word that is a number.
    pub fn number<T: std::str::FromStr>(&self, at: usize) -> Result<T> {
        self.text(at)?.parse().map_err(|_| Error::bad("a word is not a number in range"))
    }
}

/// Columns of a row, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Row.
    pub row: Vec<u8>,
    /// Only columns that begin so.
    pub prefix: Vec<u8>,
    /// Only columns after this one, in the direction asked.
    pub after: Option<Vec<u8>>,
    /// How many.
    pub limit: usize,
    /// From the last column to the first.
    pub reverse: bool,
    /// With the values of inline cells.
    pub values: bool,
    /// From the asked node's own copy.
    pub local: bool,
}

/// Bytes that follow a command's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing.
    None,
    /// One value of so many bytes.
    One(u64),
    /// Two values with nothing between.
    Two(u64, u64),
    /// So many items, each a line with its own payload.
    Items(usize),
}

impl Payload {
    /// Whether each value has at most so many bytes.
    pub fn fits(self, limit: u64) -> bool {
        match self {
            Payload::None | Payload::Items(_) => true,
            Payload::One(n) => n <= limit,
            Payload::Two(a, b) => a <= limit && b <= limit,
        }
    }

    /// Bytes to read, where the line says so.
    pub fn bytes(self) -> u64 {
        match self {
            Payload::None | Payload::Items(_) => 0,
            Payload::One(n) => n,
            Payload::Two(a, b) => a.saturating_add(b),
        }
    }
}

impl Op {
    /// Gives the op the bytes that followed its line.
    pub fn fill(&mut self, bytes: Vec<u8>, payload: Payload) {
        match self {
            Op::Put { value, .. } | Op::Append { value, .. } => *value = bytes,
            Op::Cput { old, new, .. } => {
                let Payload::Two(n, _) = payload else { return };
                *new = bytes[n as usize..].to_vec();
                *old = bytes;
                old.truncate(n as usize);
            }
            _ => {}
        }
    }
}

impl Request {
    /// A request without options.
    pub fn new(command: Command) -> Request {
        Request { command, options: Options::default() }
    }

    /// Gives the command the bytes that followed its line.
    pub fn fill(&mut self, bytes: Vec<u8>, payload: Payload) {
        match &mut self.command {
            Command::Write(op) => op.fill(bytes, payload),
            Command::Chunk { value, .. } => *value = bytes,
            Command::Peer(peer) => peer.payload = bytes,
            _ => {}
        }
    }
}

/// Checks a BATCH: its size, and that all rows have its owner.
pub fn check_batch(batch_owner: &[u8], items: &[Op]) -> Result<()> {
    if items.is_empty() || items.len() > BATCH_ITEMS_MAX {
        return Err(Error::bad(format!("a BATCH has 1 to {BATCH_ITEMS_MAX} items")));
    }
    for item in items {
        let row = item.row().ok_or_else(|| Error::bad("an item without a row"))?;
        if owner(row) != batch_owner {
            return Err(Error::bad(format!(
                "row {} is not of the batch's owner",
                super::word::display(row)
            )));
        }
    }
    Ok(())
}

/// Ops as callers build them.
impl Op {
    /// Write a cell, whatever was there.
    pub fn put(
        row: impl Into<Vec<u8>>,
        column: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
    ) -> Op {
        Op::Put {
            row: row.into(),
            column: column.into(),
            value: value.into(),
            if_version: None,
            ttl: None,
        }
    }

    /// Write a cell over a version that was read; 0: only where there is none.
    pub fn put_if(
        row: impl Into<Vec<u8>>,
        column: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
        version: u64,
    ) -> Op {
        Op::Put {
            row: row.into(),
            column: column.into(),
            value: value.into(),
            if_version: Some(version),
            ttl: None,
        }
    }

    /// Gives a PUT, CPUT or COMMIT a time to live.
    pub fn with_ttl(mut self, seconds: u64) -> Op {
        if let Op::Put { ttl, .. } | Op::Cput { ttl, .. } | Op::Commit { ttl, .. } = &mut self {
            *ttl = Some(seconds);
        }
        self
    }

    /// Remove a cell.
    pub fn delete(row: impl Into<Vec<u8>>, column: impl Into<Vec<u8>>) -> Op {
        Op::Delete { row: row.into(), column: column.into(), if_version: None }
    }

    /// Remove a cell at a version that was read. In a BATCH a missing cell is then a mismatch.
    pub fn delete_if(row: impl Into<Vec<u8>>, column: impl Into<Vec<u8>>, version: u64) -> Op {
        Op::Delete { row: row.into(), column: column.into(), if_version: Some(version) }
    }

    /// Remove a row.
    pub fn delete_row(row: impl Into<Vec<u8>>) -> Op {
        Op::DeleteRow { row: row.into() }
    }

    /// Add to an integer cell.
    pub fn add(row: impl Into<Vec<u8>>, column: impl Into<Vec<u8>>, delta: i64) -> Op {
        Op::Add { row: row.into(), column: column.into(), delta, max: None }
    }

    /// Add to an integer cell, but not beyond a bound.
    pub fn add_within(
        row: impl Into<Vec<u8>>,
        column: impl Into<Vec<u8>>,
        delta: i64,
        max: i64,
    ) -> Op {
        Op::Add { row: row.into(), column: column.into(), delta, max: Some(max) }
    }

    /// Write under the next number of a prefix.
    pub fn append(
        row: impl Into<Vec<u8>>,
        prefix: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
    ) -> Op {
        Op::Append { row: row.into(), prefix: prefix.into(), value: value.into() }
    }

    /// Make a staged value visible.
    pub fn commit(
        row: impl Into<Vec<u8>>,
        column: impl Into<Vec<u8>>,
        id: ValueId,
        length: u64,
        if_version: Option<u64>,
    ) -> Op {
        Op::Commit {
            row: row.into(),
            column: column.into(),
            id,
            length,
            if_version,
            ttl: None,
            head: None,
        }
    }
}
