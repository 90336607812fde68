//! A checkpoint's file: the files of its cells, and all items that are no cells.

use crate::error::Result;
use crate::protocol::entry::{Decoder, Encode, Item, Position};
use crate::protocol::kept::Totals;
use crate::storage::cells::{self, Run, Runs};
use crate::storage::file::{self, AtPath, NewFile, corrupt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"PENNCKP2";

/// Bytes of the checksum at the end.
const CRC_BYTES: usize = 4;

/// The file is written in pieces of this size.
const PIECE_BYTES: usize = 64 << 10;

/// A run, as a checkpoint names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunEntry {
    /// Its number.
    pub sequence: u64,
    /// Its length.
    pub bytes: u64,
    /// Checksum of its footer.
    pub crc: u32,
}

/// A value file, as a checkpoint names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValuesEntry {
    /// Its number.
    pub sequence: u64,
    /// Its length.
    pub bytes: u64,
}

/// What a checkpoint says before its items.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The last entry that it contains.
    pub position: Position,
    /// What the table adds up to.
    pub totals: Totals,
    /// Oldest first.
    pub runs: Vec<RunEntry>,
    /// By number.
    pub values: Vec<ValuesEntry>,
}

/// The items of a checkpoint that is written.
pub enum Items<'a> {
    /// One by one.
    New(&'a mut dyn Iterator<Item = Item>),
    /// In binary form, from another checkpoint.
    Copied(&'a [u8]),
}

impl Manifest {
    /// Names these runs and their values.
    pub fn of(position: Position, totals: Totals, runs: &Runs) -> Manifest {
        let run = |run: &Arc<Run>| RunEntry {
            sequence: run.footer.sequence,
            bytes: run.bytes,
            crc: run.crc,
        };
        let values = runs.values.values();
        let values =
            values.map(|file| ValuesEntry { sequence: file.sequence, bytes: file.bytes }).collect();
        Manifest { position, totals, runs: runs.list.iter().map(run).collect(), values }
    }

    /// The files that it names, in its directory.
    pub fn paths(&self, dir: &Path) -> impl Iterator<Item = PathBuf> {
        let runs = self.runs.iter().map(|run| file::numbered_path(dir, cells::RUN, run.sequence));
        let path = |file: &ValuesEntry| file::numbered_path(dir, cells::VALUES, file.sequence);
        runs.chain(self.values.iter().map(path))
    }

    /// Writes the file of a checkpoint and syncs it; it has yet to be given its name.
    ///
    /// # Errors
    /// [`Error::NoSpace`](crate::error::Error::NoSpace): nothing is left of it.
    ///
    /// # Panics
    /// If an item is a cell: those are in the runs.
    pub fn write_temporary(&self, path: &Path, items: Items) -> Result<PathBuf> {
        let temporary = file::temporary(path);
        file::write_temporary(&temporary, |path| self.write(path, items))?;
        Ok(temporary)
    }

    fn write(&self, path: &Path, items: Items) -> Result<()> {
        let mut body = Body { out: NewFile::create(path)?, piece: Vec::new(), crc: 0 };
        body.out.write(MAGIC)?;
        self.encode(&mut body.piece);
        match items {
            Items::Copied(bytes) => body.piece.extend_from_slice(bytes),
            Items::New(items) => {
                for item in items {
                    assert!(!matches!(item, Item::Cell(..)), "cells are in the runs");
                    item.encode(&mut body.piece);
                    body.write_if_full()?;
                }
            }
        }
        body.finish()
    }
}

/// The body of a file that is being written.
struct Body {
    out: NewFile,
    piece: Vec<u8>,
    crc: u32,
}

impl Body {
    fn write_if_full(&mut self) -> Result<()> {
        if self.piece.len() >= PIECE_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        self.crc = crc32c::crc32c_append(self.crc, &self.piece);
        self.out.write(&self.piece)?;
        self.piece.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        self.write()?;
        self.out.write(&self.crc.to_le_bytes())?;
        self.out.finish().map(drop)
    }
}

impl Encode for Manifest {
    fn encode(&self, out: &mut Vec<u8>) {
        let (Position { version, epoch }, totals) = (self.position, self.totals);
        for number in [version, epoch, totals.cells, totals.bytes, totals.digest] {
            number.encode(out);
        }
        (self.runs.len() as u32).encode(out);
        for RunEntry { sequence, bytes, crc } in &self.runs {
            [sequence, bytes].iter().for_each(|number| number.encode(out));
            crc.encode(out);
        }
        (self.values.len() as u32).encode(out);
        for ValuesEntry { sequence, bytes } in &self.values {
            [sequence, bytes].iter().for_each(|number| number.encode(out));
        }
    }

    fn decode(from: &mut Decoder) -> Result<Manifest> {
        let position = Position { version: from.read()?, epoch: from.read()? };
        let totals = Totals { cells: from.read()?, bytes: from.read()?, digest: from.read()? };
        let count: u32 = from.read()?;
        let mut run = || {
            let (sequence, bytes) = (from.read()?, from.read()?);
            Ok(RunEntry { sequence, bytes, crc: from.read()? })
        };
        let runs = (0..count).map(|_| run()).collect::<Result<_>>()?;
        let count: u32 = from.read()?;
        let mut file = || Ok(ValuesEntry { sequence: from.read()?, bytes: from.read()? });
        let values = (0..count).map(|_| file()).collect::<Result<_>>()?;
        Ok(Manifest { position, totals, runs, values })
    }
}

/// A checkpoint's file in memory.
#[derive(Debug)]
pub struct Loaded {
    /// What it says before its items.
    pub manifest: Manifest,
    /// Length of the file.
    pub bytes: u64,
    /// Its items in binary form.
    pub items: Vec<u8>,
    path: PathBuf,
}

impl Loaded {
    /// Reads the checkpoint of a version.
    pub fn load(path: &Path, version: u64) -> Result<Loaded> {
        let bytes = file::readable(std::fs::read(path), path, 0)?;
        Loaded::from_bytes(path, version, &bytes)
    }

    /// Takes the bytes of a checkpoint's file.
    pub fn from_bytes(path: &Path, version: u64, bytes: &[u8]) -> Result<Loaded> {
        let damaged = |what: &str| corrupt(path, 0, format_args!("the checkpoint {what}"));
        let body =
            bytes.strip_prefix(MAGIC).ok_or_else(|| corrupt(path, 0, "this is no checkpoint"))?;
        let (body, crc) =
            body.split_last_chunk::<CRC_BYTES>().ok_or_else(|| damaged("is cut short"))?;
        if crc32c::crc32c(body).to_le_bytes() != *crc {
            return Err(damaged("is damaged"));
        }
        let mut from = Decoder(body);
        let manifest: Manifest = from.read()?;
        if manifest.position.version != version {
            return Err(damaged("is of another version"));
        }
        let (bytes, items) = (bytes.len() as u64, from.0.to_vec());
        Ok(Loaded { manifest, bytes, items, path: path.into() })
    }

    /// Its items.
    pub fn items(&self) -> Result<Vec<Item>> {
        let (mut from, mut items) = (Decoder(&self.items), Vec::new());
        while !from.is_empty() {
            let item: Item = from.read()?;
            if matches!(item, Item::Cell(..)) {
                return Err(corrupt(&self.path, 0, "a cell is among the items"));
            }
            items.push(item);
        }
        Ok(items)
    }

    /// Whether the file says the same still.
    pub fn is_current(&self) -> bool {
        let now = std::fs::read(&self.path).at("read", &self.path);
        let version = self.manifest.position.version;
        let now = now.and_then(|bytes| Loaded::from_bytes(&self.path, version, &bytes));
        now.is_ok_and(|now| now.manifest == self.manifest)
    }
}
