//! Reads a checkpoint, block by block.

use super::{Block, CheckpointSummary, FOOTER_BYTES, Footer, MAGIC};
use crate::error::Result;
use crate::protocol::cell::{Cell, Key};
use crate::protocol::entry::{Decoder, Item};
use crate::storage::file::{self, AtPath, corrupt};
use std::fs::File;
use std::path::{Path, PathBuf};

/// An open checkpoint. Reading does not disturb a newer one being written, nor its own removal.
#[derive(Debug)]
pub struct CheckpointReader {
    /// What it holds.
    pub summary: CheckpointSummary,
    file: File,
    path: PathBuf,
    index: Vec<Block>,
}

impl CheckpointReader {
    /// Opens a checkpoint and checks its index and footer.
    pub(crate) fn open(path: &Path, version: u64) -> Result<CheckpointReader> {
        let file = File::open(path).at("open", path)?;
        let bytes = file.metadata().at("open", path)?.len();
        let footer_at = bytes
            .checked_sub((FOOTER_BYTES + MAGIC.len()) as u64)
            .ok_or_else(|| corrupt(path, bytes, "the checkpoint is cut short"))?
            + MAGIC.len() as u64;
        let mut footer = [0; FOOTER_BYTES];
        file::read_at(&file, path, &mut footer, footer_at)?;
        let footer = Footer::decode(&footer)
            .filter(|f| f.position.version == version)
            .filter(|f| f.index_offset.checked_add(f.index_len) == Some(footer_at))
            .ok_or_else(|| corrupt(path, footer_at, "the footer is damaged"))?;
        let summary = CheckpointSummary { position: footer.position, items: footer.items, bytes };
        let mut reader =
            CheckpointReader { summary, file, path: path.to_path_buf(), index: Vec::new() };
        reader.load_index(&footer)?;
        Ok(reader)
    }

    /// Opens a checkpoint as it lies on the disk, whatever the kernel remembers of it.
    pub(in crate::storage) fn open_afresh(path: &Path, version: u64) -> Result<CheckpointReader> {
        file::forget(path)?;
        CheckpointReader::open(path, version)
    }

    /// Checks all blocks; `pace` is told how many bytes were read each time.
    pub(in crate::storage) fn check(&self, mut pace: impl FnMut(u64)) -> Result<()> {
        self.index.iter().try_for_each(|block| {
            self.checked(block)?;
            pace(block.len.into());
            Ok(())
        })
    }

    /// All items, in the order in which they were written, checked block by block.
    pub fn items(&self) -> Items<'_> {
        Items { reader: self, blocks: self.index.iter(), items: Vec::new().into_iter() }
    }

    /// One cell, by the index and one block.
    pub fn get(&self, key: &Key) -> Result<Option<Cell>> {
        let after =
            self.index.partition_point(|block| block.first.as_ref().is_some_and(|k| k <= key));
        let Some(block) = after.checked_sub(1).map(|at| &self.index[at]) else { return Ok(None) };
        let cell = self.block(block)?.into_iter().find_map(|item| match item {
            Item::Cell(found, cell) if found == *key => Some(cell),
            _ => None,
        });
        Ok(cell)
    }

    fn load_index(&mut self, footer: &Footer) -> Result<()> {
        let damaged =
            |what: &str| corrupt(&self.path, footer.index_offset, format_args!("the index {what}"));
        let mut magic = [0; MAGIC.len()];
        file::read_at(&self.file, &self.path, &mut magic, 0)?;
        let bytes = self.read(footer.index_offset, footer.index_len)?;
        if &magic != MAGIC {
            return Err(corrupt(&self.path, 0, "this is no checkpoint"));
        }
        if crc32c::crc32c(&bytes) != footer.index_crc {
            return Err(damaged("is damaged"));
        }
        let mut from = Decoder(&bytes);
        let (mut index, mut end, mut items) = (Vec::new(), MAGIC.len() as u64, 0);
        while !from.is_empty() {
            let block: Block = from.read()?;
            if block.offset != end {
                return Err(damaged("has a gap"));
            }
            end += u64::from(block.len);
            items += u64::from(block.items);
            index.push(block);
        }
        if end != footer.index_offset || items != footer.items {
            return Err(damaged("does not fit the file"));
        }
        self.index = index;
        Ok(())
    }

    fn block(&self, block: &Block) -> Result<Vec<Item>> {
        let bytes = self.checked(block)?;
        let mut from = Decoder(&bytes);
        let items = (0..block.items).map(|_| from.read()).collect::<Result<_>>()?;
        match from.is_empty() {
            true => Ok(items),
            false => Err(corrupt(&self.path, block.offset, "bytes follow the block's items")),
        }
    }

    /// The bytes of a block, as they were written.
    fn checked(&self, block: &Block) -> Result<Vec<u8>> {
        let bytes = self.read(block.offset, block.len.into())?;
        if crc32c::crc32c(&bytes) != block.crc {
            return Err(corrupt(&self.path, block.offset, "the block is damaged"));
        }
        Ok(bytes)
    }

    fn read(&self, offset: u64, len: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len as usize];
        file::read_at(&self.file, &self.path, &mut bytes, offset)?;
        Ok(bytes)
    }
}

/// Iterates over a checkpoint's items. Ends after the first error.
pub struct Items<'a> {
    reader: &'a CheckpointReader,
    blocks: std::slice::Iter<'a, Block>,
    items: std::vec::IntoIter<Item>,
}

impl Iterator for Items<'_> {
    type Item = Result<Item>;

    fn next(&mut self) -> Option<Result<Item>> {
        loop {
            if let Some(item) = self.items.next() {
                return Some(Ok(item));
            }
            match self.reader.block(self.blocks.next()?) {
                Ok(items) => self.items = items.into_iter(),
                Err(error) => {
                    self.blocks = [].iter();
                    return Some(Err(error));
                }
            }
        }
    }
}
