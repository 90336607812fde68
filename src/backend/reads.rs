//! Reads: GET, SCAN and ROWS, here or at the tablet's primary.

use super::node::{Node, Place};
use super::tablet::View;
use crate::error::{Error, Result};
use crate::protocol::cell::{Bytes, Cell, Chunk, Head, Key, SLOTS, Value, ValueId, slot};
use crate::protocol::command::{Command, PAGE_BYTES_MAX, Peer, Request, Scan};
use crate::protocol::entry::{Decoder, Encode};
use crate::protocol::kept::Held;
use crate::protocol::reply::{Column, Reply, Row};
use crate::replication::Table;
use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The part of a value that a GET asks for.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// First byte.
    pub offset: u64,
    /// How many; all that is left, unless told.
    pub length: Option<u64>,
}

/// How long the primary may take to answer a read that was passed on to it.
const FORWARDED_READ: Duration = Duration::from_secs(2);

impl Node {
    /// The cell of a row, from wherever it is served, or from this node's own committed copy.
    pub fn find(
        &self,
        row: &[u8],
        column: &[u8],
        local: bool,
        deadline: Instant,
    ) -> Result<Option<Cell>> {
        let key = Key::new(row, column);
        if local {
            let routes = self.routes();
            let tablet = self.here(&routes.tablet_of_row(row)?.id)?;
            return tablet.view().table.get(&key).map_err(Error::of_this_copy);
        }
        let here = |table: &Table| table.get(&key);
        let there = |address: &str, id: &str| self.find_at(address, id, &key, deadline);
        self.read(row, deadline, |view| view.is_dirty(&key), here, there)
    }

    /// Reads from this node's copy of a row's tablet where that is current and whole, else asks the primary.
    fn read<T>(
        &self,
        row: &[u8],
        deadline: Instant,
        dirty: impl Fn(&View) -> bool,
        here: impl Fn(&Table) -> Result<T>,
        there: impl Fn(&str, &str) -> Result<T>,
    ) -> Result<T> {
        self.patiently(deadline, || {
            self.check_service()?;
            let routes = self.routes();
            let route = routes.tablet_of_row(row)?;
            let refused = match self.tablet(&route.id).map(|t| t.current(&dirty, deadline)) {
                Some(Ok(view)) => match here(&view.table) {
                    Ok(found) => return Ok(found),
                    Err(error) => error.of_this_copy(),
                },
                Some(Err(error)) => error,
                None => Error::retry(format!("this node has no tablet {}", route.id)),
            };
            match self.place(route)? {
                Place::Here(_) => Err(refused),
                Place::At(address) => there(&address, &route.id),
            }
        })
    }

    fn find_at(
        &self,
        address: &str,
        tablet: &str,
        key: &Key,
        deadline: Instant,
    ) -> Result<Option<Cell>> {
        let words =
            vec![tablet.into(), key.slot.to_string().into(), key.row.to_vec(), key.column.to_vec()];
        let deadline = deadline.min(Instant::now() + FORWARDED_READ);
        let answer = self.ask_peer(address, "@GET", words, Vec::new(), deadline);
        Option::<Cell>::from_bytes(&answer.map_err(again)?.1)
    }

    /// Writes the answer to a GET: an error of the result is one of the connection. Each chunk has a time
    /// limit of its own: how long the whole takes is up to who reads it.
    pub fn write_value(
        &self,
        out: &mut impl Write,
        row: &[u8],
        cell: &Cell,
        range: Range,
    ) -> Result<()> {
        let total = cell.value.len();
        let offset = range.offset.min(total);
        let len = range.length.unwrap_or(u64::MAX).min(total - offset);
        let mut line = Vec::new();
        Reply::Value { version: cell.version, len, total }.write(&mut line);
        match &cell.value {
            Value::Inline(bytes) => {
                line.extend_from_slice(&bytes[offset as usize..(offset + len) as usize]);
                line.push(b'\n');
                Ok(out.write_all(&line)?)
            }
            Value::Big(head) => {
                out.write_all(&line)?;
                self.write_chunks(out, slot(row), head, offset, offset + len)?;
                Ok(out.write_all(b"\n")?)
            }
        }
    }

    /// Writes the bytes from `begin` to `end` of a big value, chunk by chunk, each checked.
    fn write_chunks(
        &self,
        out: &mut impl Write,
        slot: u16,
        head: &Head,
        begin: u64,
        end: u64,
    ) -> Result<()> {
        let mut at = 0;
        for chunk in &head.chunks {
            let next = at + u64::from(chunk.length);
            if next > begin && at < end {
                let bytes = self.chunk(slot, head.id, at, chunk)?;
                let from = begin.saturating_sub(at) as usize;
                let to = (end.min(next) - at) as usize;
                out.write_all(&bytes[from..to])?;
            }
            at = next;
        }
        Ok(())
    }

    fn chunk(&self, slot: u16, id: ValueId, offset: u64, chunk: &Chunk) -> Result<Bytes> {
        let deadline = Instant::now() + self.config.request_time();
        let key = Key::chunk(slot, id, offset);
        let found = self.patiently(deadline, || {
            let routes = self.routes();
            let route = routes.tablet_of_chunk(slot, id, offset)?;
            let copy = self.tablet(&route.id).map(|tablet| tablet.view().table.get(&key));
            if let Some(Ok(Some(cell))) = copy
                && let Some(bytes) = whole(cell, chunk)
            {
                return Ok(Some(bytes));
            }
            let cell = match self.place(route)? {
                Place::Here(tablet) => {
                    tablet.serving(deadline)?.get(&key).map_err(Error::of_this_copy)?
                }
                Place::At(address) => self.find_at(&address, &route.id, &key, deadline)?,
            };
            Ok(cell.and_then(|cell| whole(cell, chunk)))
        })?;
        found.ok_or_else(|| {
            Error::corrupt(format!(
                "chunk {offset} of value {id} is missing, or fails its checksum"
            ))
        })
    }

    /// Answers a SCAN, here or at the primary.
    pub fn scan(&self, scan: Scan, deadline: Instant) -> Result<Reply> {
        if scan.local {
            let routes = self.routes();
            let tablet = self.here(&routes.tablet_of_row(&scan.row)?.id)?;
            return scan_table(&tablet.view().table, &scan).map_err(Error::of_this_copy);
        }
        let of = slot(&scan.row);
        let dirty = |view: &View| view.is_row_dirty(of, &scan.row);
        let there = |address: &str, id: &str| {
            let payload = Request::new(Command::Scan(scan.clone())).to_bytes();
            let peer = Peer { verb: "@SCAN".into(), words: vec![id.into()], payload };
            let deadline = deadline.min(Instant::now() + FORWARDED_READ);
            self.ask(address, &Request::new(Command::Peer(peer)), deadline).map_err(again)
        };
        self.read(&scan.row, deadline, dirty, |table| scan_table(table, &scan), there)
    }

    /// The rows that this node itself holds, in order of their names.
    pub fn rows(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Reply> {
        let (routes, tablets) = (self.routes(), self.tablets());
        let tables = (0..SLOTS).filter_map(|slot| {
            let id = &routes.tablet_of_slot(slot).ok()?.id;
            let tablet = tablets.iter().find(|tablet| tablet.id == *id)?;
            Some((slot, tablet.view()))
        });
        rows_of(tables, prefix, after, limit).map_err(Error::of_this_copy)
    }
}

/// A read that got no answer may be asked again.
pub fn again(error: Error) -> Error {
    match error {
        Error::Unknown(why) => Error::Retry(why),
        other => other,
    }
}

/// The bytes of a chunk, if they are what the value's head says. A chunk never changes, so any copy of it will do.
fn whole(cell: Cell, chunk: &Chunk) -> Option<Bytes> {
    match cell.value {
        Value::Inline(bytes) if crc32c::crc32c(&bytes) == chunk.crc => Some(bytes),
        _ => None,
    }
}

/// One page of a SCAN. At least one column is in it, however large.
pub fn scan_table(table: &Table, scan: &Scan) -> Result<Reply> {
    let (mut columns, mut bytes, mut more) = (Vec::new(), 0, false);
    for cell in table.scan(slot(&scan.row), scan) {
        let (key, kept) = cell?;
        if columns.len() == scan.limit || bytes > PAGE_BYTES_MAX {
            more = true;
            break;
        }
        let big = matches!(kept.value, Held::Here(Value::Big(_)));
        let inline = match scan.values && !big {
            true => kept.load()?.value.into_inline(),
            false => None,
        };
        bytes += key.column.len() as u64 + inline.as_ref().map_or(0, |value| value.len() as u64);
        let (name, len) = (key.column.to_vec(), kept.value.len());
        columns.push(Column { name, version: kept.version, len, big, value: inline });
    }
    Ok(Reply::Columns { columns, more })
}

/// One page of rows in the order of their names. Slots hold them in order too: the next row is the first of all slots'
/// next ones, and only the rows of the page are read.
fn rows_of(
    slots: impl Iterator<Item = (u16, Arc<View>)>,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Reply> {
    let from = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    let is_wanted = |row: &Bytes| row.starts_with(prefix);
    let mut next = BTreeMap::new();
    for (slot, view) in slots {
        if let Some(row) = view.table.next_row(slot, from)?.filter(is_wanted) {
            next.insert(row, (slot, view));
        }
    }
    let mut rows = Vec::new();
    while rows.len() < limit
        && let Some((row, (slot, view))) = next.pop_first()
    {
        rows.push(count_row(&view.table, slot, &row)?);
        if let Some(row) = view.table.next_row(slot, Bound::Excluded(&row))?.filter(is_wanted) {
            next.insert(row, (slot, view));
        }
    }
    Ok(Reply::Rows { rows, more: !next.is_empty() })
}

fn count_row(table: &Table, slot: u16, name: &Bytes) -> Result<Row> {
    let mut row = Row { name: name.to_vec(), cells: 0, bytes: 0 };
    for cell in table.row(slot, name, Bound::Unbounded) {
        row.cells += 1;
        row.bytes += cell?.1.value.len();
    }
    Ok(row)
}

/// Chunks of one value in one large-value tablet: offset, length and checksum of each, in order. Those that are on
/// disk are not read for that.
pub fn chunks_of(table: &Table, slot: u16, id: ValueId) -> Result<Vec<(u64, Chunk)>> {
    let row = Key::chunk(slot, id, 0).row;
    let offset =
        |key: &Key| u64::from_str_radix(&String::from_utf8_lossy(&key.column), 16).unwrap_or(0);
    let chunk = |value: &Held| match value {
        Held::Here(Value::Inline(bytes)) => {
            Some(Chunk { length: bytes.len() as u32, crc: crc32c::crc32c(bytes) })
        }
        Held::Here(Value::Big(_)) => None,
        Held::Away(away) => Some(Chunk { length: away.length, crc: away.crc }),
    };
    let mut chunks = Vec::new();
    for cell in table.row(slot, &row, Bound::Unbounded) {
        let (key, kept) = cell?;
        chunks.extend(chunk(&kept.value).map(|chunk| (offset(&key), chunk)));
    }
    Ok(chunks)
}

/// The answer to `@CHUNKS` as bytes.
pub fn encode_chunks(chunks: &[(u64, Chunk)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(chunks.len() * 16);
    for (offset, chunk) in chunks {
        offset.encode(&mut out);
        chunk.encode(&mut out);
    }
    out
}

/// Reads what [`encode_chunks`] wrote.
pub fn decode_chunks(bytes: &[u8]) -> Result<Vec<(u64, Chunk)>> {
    let (mut from, mut chunks) = (Decoder(bytes), Vec::new());
    while !from.is_empty() {
        chunks.push((from.read()?, from.read()?));
    }
    Ok(chunks)
}
