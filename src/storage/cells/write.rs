//! Writes a run.

use super::block::Builder;
use super::filter;
use super::footer::{Entry, Footer};
use crate::error::Result;
use crate::protocol::cell::Key;
use crate::protocol::entry::Encode;
use crate::protocol::kept::{Held, Kept};
use crate::storage::file::NewFile;
use std::path::Path;

/// The first bytes of a run.
pub const MAGIC: &[u8; 8] = b"PENNRUN1";

/// A run that is being written. What it holds in memory is a block, and of all blocks index and filter.
#[derive(Debug)]
pub struct Writer {
    out: NewFile,
    footer: Footer,
    index: Vec<u8>,
    filters: Vec<u8>,
    block: Builder,
    /// Key of the block's first cell.
    first: Option<Key>,
    /// Hashes of the block's keys.
    hashes: Vec<u64>,
    /// Key of the last cell.
    last: Option<Key>,
    /// A key's binary form.
    key: Vec<u8>,
}

impl Writer {
    /// Makes the file of a run.
    pub fn create(path: &Path, sequence: u64, merges: u32) -> Result<Writer> {
        let mut out = NewFile::create(path)?;
        out.write(MAGIC)?;
        Ok(Writer {
            out,
            footer: Footer { sequence, merges, ..Footer::default() },
            index: Vec::new(),
            filters: Vec::new(),
            block: Builder::default(),
            first: None,
            hashes: Vec::new(),
            last: None,
            key: Vec::new(),
        })
    }

    /// Appends a cell, or that it was removed.
    ///
    /// # Panics
    /// If it is out of order: no reader would find it.
    pub fn add(&mut self, key: &Key, cell: Option<&Kept>) -> Result<()> {
        assert!(self.last.as_ref().is_none_or(|last| last < key), "cells come in order");
        if self.block.is_full() {
            self.end_block()?;
        }
        self.count(cell);
        self.block.add(key, cell);
        self.key.clear();
        key.encode(&mut self.key);
        self.hashes.push(filter::hash(&self.key));
        self.first.get_or_insert_with(|| key.clone());
        self.last = Some(key.clone());
        Ok(())
    }

    fn count(&mut self, cell: Option<&Kept>) {
        match cell {
            Some(_) => self.footer.cells += 1,
            None => self.footer.gone += 1,
        }
        if let Some(Kept { value: Held::Away(away), .. }) = cell {
            *self.footer.referred.entry(away.file).or_default() += u64::from(away.length);
        }
    }

    fn end_block(&mut self) -> Result<()> {
        let Some(first) = self.first.take() else { return Ok(()) };
        let (cells, bytes) = (self.block.cells(), self.block.finish());
        let (offset, len, crc) = (self.out.len(), bytes.len() as u32, crc32c::crc32c(&bytes));
        Entry { offset, len, crc, cells, first }.encode(&mut self.index);
        filter::build(&self.hashes, &mut self.filters);
        self.hashes.clear();
        self.out.write(&bytes)
    }

    /// Makes the run durable; its length, and the checksum of its footer.
    pub fn finish(mut self) -> Result<(u64, u32)> {
        self.end_block()?;
        self.footer.index_offset = self.out.len();
        self.footer.index_len = self.index.len() as u64;
        self.footer.index_crc = crc32c::crc32c(&self.index);
        self.footer.filter_len = self.filters.len() as u64;
        self.footer.filter_crc = crc32c::crc32c(&self.filters);
        let (footer, crc) = self.footer.to_bytes();
        self.out.write(&self.index)?;
        self.out.write(&self.filters)?;
        self.out.write(&footer)?;
        Ok((self.out.finish()?, crc))
    }
}
