//! Reads a run, block by block.

use super::block::{self, Block, KeyRef};
use super::filter;
use super::footer::{self, Entry, Footer, TAIL_BYTES};
use super::values::ValueFiles;
use super::write::MAGIC;
use super::{RUN, Shared};
use crate::error::{Error, Result};
use crate::protocol::cell::Key;
use crate::protocol::entry::Encode;
use crate::protocol::kept::{Held, Kept};
use crate::storage::file::{self, AtPath, corrupt};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A run that is open. It stays readable for whoever holds it, though its name be gone.
pub struct Run {
    /// What it holds.
    pub footer: Footer,
    /// Checksum of the footer, and so of all of it.
    pub crc: u32,
    /// Length of the file.
    pub bytes: u64,
    /// Its number in the cache.
    id: u64,
    file: File,
    path: PathBuf,
    index: Vec<Entry>,
    filters: Vec<u8>,
    filter_offsets: Vec<usize>,
    values: ValueFiles,
    shared: Shared,
}

/// What becomes of a block that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// It is kept in the cache.
    Keep,
    /// It is used once.
    Pass,
}

impl Run {
    /// Opens a run, and checks its footer, index and filters. Its values are in some of these files.
    pub fn open(dir: &Path, sequence: u64, values: &ValueFiles, shared: &Shared) -> Result<Run> {
        let path = path(dir, sequence);
        let file = file::open_named(&path)?;
        let bytes = file.metadata().at("open", &path)?.len();
        let (footer, crc, blocks_end) = read_footer(&file, &path, bytes)?;
        let damaged = |what| corrupt(&path, footer.index_offset, format_args!("the {what}"));
        if footer.sequence != sequence || blocks_end != Some(footer.index_offset) {
            return Err(damaged("footer does not fit the file"));
        }
        let mut magic = [0; MAGIC.len()];
        file::read_at(&file, &path, &mut magic, 0)?;
        if &magic != MAGIC {
            return Err(corrupt(&path, 0, "this is no run"));
        }
        let index = read(&file, &path, footer.index_offset, footer.index_len)?;
        let filters =
            read(&file, &path, footer.index_offset + footer.index_len, footer.filter_len)?;
        if crc32c::crc32c(&index) != footer.index_crc {
            return Err(damaged("index is damaged"));
        }
        if crc32c::crc32c(&filters) != footer.filter_crc {
            return Err(damaged("filter is damaged"));
        }
        let index = footer::read_index(&index, MAGIC.len() as u64)
            .map_err(|_| damaged("index has a gap"))?;
        let filter_offsets = footer::filter_offsets(&index);
        if !fits(&footer, &index) || filter_offsets.last() != Some(&filters.len()) {
            return Err(damaged("index does not fit the file"));
        }
        let values = of_run(&footer, values).ok_or_else(|| damaged("values are missing"))?;
        let (id, shared) = (shared.cache.register(), shared.clone());
        Ok(Run {
            footer,
            crc,
            bytes,
            id,
            file,
            path,
            index,
            filters,
            filter_offsets,
            values,
            shared,
        })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.index.len()
    }

    /// A cell by its key and the hash of that; the inner none is one that was removed. One block is read, if the filter lets
    /// the key pass.
    pub fn get(&self, key: &Key, hash: u64) -> Result<Option<Option<Kept>>> {
        let Some(number) = self.block_of(|first| first <= key) else { return Ok(None) };
        if !filter::may_contain(self.filter(number), hash) {
            return Ok(None);
        }
        let block = self.block(number, Fill::Keep)?;
        let find = || match block.find(KeyRef::from(key))? {
            Some(cell) => block::decode_cell(cell, &self.values).map(|(_, kept)| Some(kept)),
            None => Ok(None),
        };
        self.noted(number, find())
    }

    /// The last block whose first key is such.
    pub fn block_of(&self, is_before: impl Fn(&Key) -> bool) -> Option<usize> {
        self.index.partition_point(|block| is_before(&block.first)).checked_sub(1)
    }

    /// A block, from memory or from the disk.
    pub fn block(&self, number: usize, fill: Fill) -> Result<Arc<Block>> {
        let (cache, place) = (&self.shared.cache, number as u32);
        let cached = match fill {
            Fill::Keep => cache.get(self.id, place),
            Fill::Pass => cache.peek(self.id, place),
        };
        if let Some(block) = cached {
            return Ok(block);
        }
        let block = Arc::new(self.shared.damage.noted(self.read_block(number))?);
        if fill == Fill::Keep {
            cache.insert(self.id, place, &block);
        }
        Ok(block)
    }

    /// A cell of a block.
    pub fn cell(&self, number: usize, block: &Block, n: usize) -> Result<(Key, Option<Kept>)> {
        self.noted(number, block.cell(n).and_then(|cell| block::decode_cell(cell, &self.values)))
    }

    /// Says where damage is that was met in a block, and notes it.
    pub fn noted<T>(&self, number: usize, found: Result<T>) -> Result<T> {
        let found = found.map_err(|error| match error {
            Error::Corrupt(why) => corrupt(&self.path, self.index[number].offset, why),
            other => other,
        });
        self.shared.damage.noted(found)
    }

    /// The filter of a block.
    fn filter(&self, number: usize) -> &[u8] {
        &self.filters[self.filter_offsets[number]..self.filter_offsets[number + 1]]
    }

    /// Reads a block from the disk.
    fn read_block(&self, number: usize) -> Result<Block> {
        let Entry { offset, len, crc, cells, .. } = self.index[number];
        let bytes = read(&self.file, &self.path, offset, len.into())?;
        if crc32c::crc32c(&bytes) != crc {
            return Err(corrupt(&self.path, offset, "the block is damaged"));
        }
        Block::new(bytes, cells)
    }

    /// Reads all blocks and all values from the disk, and compares everything with everything. `pace` is told how many
    /// bytes were read each time.
    pub fn check(&self, mut pace: impl FnMut(u64)) -> Result<()> {
        let mut found = Footer { merges: self.footer.merges, ..Footer::default() };
        let mut last = None;
        for (number, entry) in self.index.iter().enumerate() {
            let block = self.read_block(number)?;
            pace(entry.len.into());
            self.noted(number, self.check_block(number, &block, &mut last, &mut found, &mut pace))?;
        }
        let Footer { cells, gone, ref referred, .. } = self.footer;
        if (found.cells, found.gone, &found.referred) != (cells, gone, referred) {
            let what = "the footer counts other cells than there are";
            return Err(corrupt(&self.path, self.footer.index_offset, what));
        }
        Ok(())
    }

    fn check_block(
        &self,
        number: usize,
        block: &Block,
        last: &mut Option<Key>,
        found: &mut Footer,
        pace: &mut impl FnMut(u64),
    ) -> Result<()> {
        for n in 0..block.len() {
            let (key, kept) = block::decode_cell(block.cell(n)?, &self.values)?;
            let is_first = n > 0 || key == self.index[number].first;
            if !is_first || last.as_ref().is_some_and(|last| *last >= key) {
                return Err(Error::corrupt("a cell is out of order"));
            }
            if !filter::may_contain(self.filter(number), filter::hash(&key.to_bytes())) {
                return Err(Error::corrupt("the filter does not know a cell"));
            }
            *if kept.is_some() { &mut found.cells } else { &mut found.gone } += 1;
            if let Some(Kept { value: Held::Away(away), .. }) = &kept {
                *found.referred.entry(away.file).or_default() += u64::from(away.length);
                away.from.read(away.offset, away.length, away.crc)?;
                pace(away.length.into());
            }
            *last = Some(key);
        }
        Ok(())
    }
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Run { path, bytes, footer, .. } = self;
        let mut out = f.debug_struct("Run");
        out.field("path", path)
            .field("bytes", bytes)
            .field("footer", footer)
            .finish_non_exhaustive()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.shared.cache.forget(self.id, self.index.len() as u32);
    }
}

/// Path of a run.
pub fn path(dir: &Path, sequence: u64) -> PathBuf {
    file::numbered_path(dir, RUN, sequence)
}

/// The footer of a file of so many bytes, its checksum, and where the blocks must end.
fn read_footer(file: &File, path: &Path, bytes: u64) -> Result<(Footer, u32, Option<u64>)> {
    let cut_short = || corrupt(path, bytes, "the run is cut short");
    let tail_at = bytes.checked_sub(TAIL_BYTES as u64).ok_or_else(cut_short)?;
    let mut tail = [0; TAIL_BYTES];
    file::read_at(file, path, &mut tail, tail_at)?;
    let damaged = || corrupt(path, tail_at, "the footer is damaged");
    let footer_at = tail_at.checked_sub(Footer::length(&tail)).ok_or_else(damaged)?;
    let footer = read(file, path, footer_at, bytes - footer_at)?;
    let (footer, crc) = Footer::decode(&footer).ok_or_else(damaged)?;
    let index_end = footer_at.checked_sub(footer.filter_len);
    let blocks_end = index_end.and_then(|end| end.checked_sub(footer.index_len));
    Ok((footer, crc, blocks_end))
}

fn fits(footer: &Footer, index: &[Entry]) -> bool {
    let end = index.last().map_or(MAGIC.len() as u64, |last| last.offset + u64::from(last.len));
    let cells: u64 = index.iter().map(|block| u64::from(block.cells)).sum();
    end == footer.index_offset && Some(cells) == footer.cells.checked_add(footer.gone)
}

/// The files in which a run's values are; none if one is missing.
fn of_run(footer: &Footer, values: &ValueFiles) -> Option<ValueFiles> {
    let file = |sequence: &u64| Some((*sequence, values.get(sequence)?.clone()));
    footer.referred.keys().map(file).collect::<Option<BTreeMap<_, _>>>()
}

fn read(file: &File, path: &Path, offset: u64, len: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len as usize];
    file::read_at(file, path, &mut bytes, offset)?;
    Ok(bytes)
}
