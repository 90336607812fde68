//! Writes a checkpoint.

use super::{BLOCK_BYTES, Block, CheckpointSummary, FOOTER_BYTES, Footer, MAGIC, remove_older};
use crate::error::Result;
use crate::protocol::cell::Key;
use crate::protocol::entry::{Encode, Item};
use crate::storage::Position;
use crate::storage::file::{self, AtPath};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The file is synced in steps of this size: one sync of all of it would hold up those of the log.
const SYNC_BYTES: usize = 4 << 20;

/// Writes the checkpoint of a tablet's directory: temporary file, sync, rename, sync of the directory; then
/// older checkpoints are removed. The items are a tablet's whole table at `position`, which is committed: the
/// cells first, in the order of their keys.
///
/// # Errors
/// After one of a disk that is full ([`Error::NoSpace`](crate::error::Error::NoSpace)) all is as it was.
///
/// # Panics
/// If the items are out of order: no reader would find them.
pub fn write_checkpoint(
    dir: &Path,
    position: Position,
    items: impl IntoIterator<Item = Item>,
) -> Result<CheckpointSummary> {
    let path = super::path(dir, position.version);
    let (temporary, summary) = write_temporary(&path, position, items)?;
    file::publish(&temporary, &path)?;
    remove_older(dir, position.version)?;
    Ok(summary)
}

/// Writes a checkpoint and syncs it; it has yet to be given its name.
pub(in crate::storage) fn write_temporary(
    path: &Path,
    position: Position,
    items: impl IntoIterator<Item = Item>,
) -> Result<(PathBuf, CheckpointSummary)> {
    let temporary = file::temporary(path);
    let summary = file::write_temporary(&temporary, |path| write_file(path, position, items))?;
    Ok((temporary, summary))
}

fn write_file(
    path: &Path,
    position: Position,
    items: impl IntoIterator<Item = Item>,
) -> Result<CheckpointSummary> {
    let mut writer = Writer::create(path)?;
    items.into_iter().try_for_each(|item| writer.add(&item))?;
    writer.finish(position)
}

struct Writer {
    file: File,
    path: PathBuf,
    offset: u64,
    unsynced: usize,
    items: u64,
    index: Vec<u8>,
    /// The block being filled.
    block: Vec<u8>,
    block_items: u32,
    block_first: Option<Key>,
    /// The last cell written.
    last: Option<Key>,
}

impl Writer {
    fn create(path: &Path) -> Result<Writer> {
        let mut writer = Writer {
            file: File::create(path).at("create", path)?,
            path: path.to_path_buf(),
            offset: 0,
            unsynced: 0,
            items: 0,
            index: Vec::new(),
            block: Vec::new(),
            block_items: 0,
            block_first: None,
            last: None,
        };
        writer.write(MAGIC)?;
        Ok(writer)
    }

    fn add(&mut self, item: &Item) -> Result<()> {
        let key = if let Item::Cell(key, _) = item { Some(key) } else { None };
        let full = self.block.len() >= BLOCK_BYTES;
        if full || (self.block_items > 0 && self.block_first.is_some() != key.is_some()) {
            self.end_block()?;
        }
        if let Some(key) = key {
            self.check_order(key);
            self.last = Some(key.clone());
        }
        if self.block_items == 0 {
            self.block_first = key.cloned();
        }
        item.encode(&mut self.block);
        self.block_items += 1;
        self.items += 1;
        Ok(())
    }

    fn check_order(&self, key: &Key) {
        let after_cells = self.items == 0 || self.last.is_some();
        let cells_only = self.block_items == 0 || self.block_first.is_some();
        assert!(after_cells && cells_only, "cells come before other items");
        assert!(self.last.as_ref().is_none_or(|last| last < key), "cells come in order");
    }

    fn end_block(&mut self) -> Result<()> {
        if self.block_items == 0 {
            return Ok(());
        }
        let block = std::mem::take(&mut self.block);
        let entry = Block {
            offset: self.offset,
            len: block.len() as u32,
            crc: crc32c::crc32c(&block),
            items: std::mem::take(&mut self.block_items),
            first: self.block_first.take(),
        };
        entry.encode(&mut self.index);
        self.write(&block)?;
        self.block = block;
        self.block.clear();
        Ok(())
    }

    fn finish(mut self, position: Position) -> Result<CheckpointSummary> {
        self.end_block()?;
        let index = std::mem::take(&mut self.index);
        let footer = Footer {
            position,
            items: self.items,
            index_offset: self.offset,
            index_len: index.len() as u64,
            index_crc: crc32c::crc32c(&index),
        };
        self.write(&index)?;
        self.write(&footer.to_bytes())?;
        self.file.sync_all().at("sync", &self.path)?;
        let bytes = footer.index_offset + footer.index_len + FOOTER_BYTES as u64;
        Ok(CheckpointSummary { position, items: self.items, bytes })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.offset += bytes.len() as u64;
        self.unsynced += bytes.len();
        self.file.write_all(bytes).at("write", &self.path)?;
        if self.unsynced < SYNC_BYTES {
            return Ok(());
        }
        self.unsynced = 0;
        self.file.sync_data().at("sync", &self.path)
    }
}
