//! Several runs as one sequence of cells, in order or backwards, read while it is taken.

use super::block::{Block, KeyRef};
use super::run::{Fill, Run};
use crate::error::Result;
use crate::protocol::cell::Key;
use crate::protocol::kept::Kept;
use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

/// Blocks of each run that a range brings into the cache.
const KEPT_BLOCKS: usize = 2;

/// The keys of a range, and its direction.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The lowest key.
    pub low: Bound<Key>,
    /// The highest key.
    pub high: Bound<Key>,
    /// Whether the highest comes first.
    pub reverse: bool,
}

impl Wanted {
    /// Everything, in order.
    pub const ALL: Wanted =
        Wanted { low: Bound::Unbounded, high: Bound::Unbounded, reverse: false };

    fn is_below(&self, key: KeyRef) -> bool {
        match &self.low {
            Bound::Included(low) => key < low.into(),
            Bound::Excluded(low) => key <= low.into(),
            Bound::Unbounded => false,
        }
    }

    fn is_above(&self, key: KeyRef) -> bool {
        match &self.high {
            Bound::Included(high) => key > high.into(),
            Bound::Excluded(high) => key >= high.into(),
            Bound::Unbounded => false,
        }
    }

    /// Whether a key lies beyond the end, in the direction that is wanted.
    fn is_beyond(&self, key: KeyRef) -> bool {
        if self.reverse { self.is_below(key) } else { self.is_above(key) }
    }
}

/// A place in a run.
#[derive(Debug)]
struct Cursor {
    run: Arc<Run>,
    /// The block, its number, and the cell in it; none at the end.
    at: Option<(Arc<Block>, usize, usize)>,
    /// Blocks that it may still bring into the cache.
    keeps: usize,
}

impl Cursor {
    /// Goes to the first cell that is wanted.
    fn seek(&mut self, wanted: &Wanted) -> Result<()> {
        let found = match wanted.reverse {
            false => self.run.block_of(|first| wanted.is_below(first.into())).unwrap_or(0),
            true => match self.run.block_of(|first| !wanted.is_above(first.into())) {
                Some(number) => number,
                None => return Ok(()),
            },
        };
        let Some(block) = self.load(found)? else { return Ok(()) };
        let cell = match wanted.reverse {
            false => block.partition(|key| wanted.is_below(key)),
            true => block.partition(|key| !wanted.is_above(key)),
        };
        let cell = self.run.noted(found, cell)?;
        self.at = Some((block, found, cell));
        match wanted.reverse {
            false => self.settle()?,
            true => self.back()?,
        }
        self.stop(wanted)
    }

    /// Goes to the next cell that is wanted.
    fn advance(&mut self, wanted: &Wanted) -> Result<()> {
        match wanted.reverse {
            false => {
                self.at.iter_mut().for_each(|(_, _, cell)| *cell += 1);
                self.settle()?;
            }
            true => self.back()?,
        }
        self.stop(wanted)
    }

    /// From behind a block's last cell to the first of the next.
    fn settle(&mut self) -> Result<()> {
        if let Some((block, number, cell)) = &self.at
            && *cell >= block.len()
        {
            let next = number + 1;
            self.at = self.load(next)?.map(|block| (block, next, 0));
        }
        Ok(())
    }

    /// One cell back.
    fn back(&mut self) -> Result<()> {
        match &mut self.at {
            Some((_, _, cell)) if *cell > 0 => *cell -= 1,
            Some((_, number, _)) => {
                let before = number.checked_sub(1);
                self.at = None;
                if let Some(before) = before
                    && let Some(block) = self.load(before)?
                {
                    let last = block.len() - 1;
                    self.at = Some((block, before, last));
                }
            }
            None => {}
        }
        Ok(())
    }

    /// Ends where nothing more is wanted.
    fn stop(&mut self, wanted: &Wanted) -> Result<()> {
        if self.key()?.is_some_and(|key| wanted.is_beyond(key)) {
            self.at = None;
        }
        Ok(())
    }

    fn load(&mut self, number: usize) -> Result<Option<Arc<Block>>> {
        if number >= self.run.blocks() {
            return Ok(None);
        }
        let fill = if self.keeps > 0 { Fill::Keep } else { Fill::Pass };
        self.keeps = self.keeps.saturating_sub(1);
        self.run.block(number, fill).map(Some)
    }

    fn key(&self) -> Result<Option<KeyRef<'_>>> {
        let Some((block, number, cell)) = &self.at else { return Ok(None) };
        self.run.noted(*number, block.key(*cell)).map(Some)
    }

    fn cell(&self) -> Result<Option<(Key, Option<Kept>)>> {
        let Some((block, number, cell)) = &self.at else { return Ok(None) };
        self.run.cell(*number, block, *cell).map(Some)
    }
}

/// The cells of several runs: of each key what the newest run says, and that may be that it was removed. Ends after the
/// first error.
#[derive(Debug)]
pub struct Merged {
    wanted: Wanted,
    /// Of each run, newest first; none before the first cell was asked for.
    cursors: Vec<Cursor>,
    begun: bool,
}

impl Merged {
    /// Of these runs, newest first. Nothing is read yet. The first blocks are kept in the cache.
    pub fn new(runs: impl Iterator<Item = Arc<Run>>, wanted: Wanted) -> Merged {
        Merged::keeping(runs, wanted, KEPT_BLOCKS)
    }

    /// All cells of these runs, newest first, past the cache.
    pub fn all(runs: impl Iterator<Item = Arc<Run>>) -> Merged {
        Merged::keeping(runs, Wanted::ALL, 0)
    }

    fn keeping(runs: impl Iterator<Item = Arc<Run>>, wanted: Wanted, keeps: usize) -> Merged {
        let cursors = runs.map(|run| Cursor { run, at: None, keeps }).collect();
        Merged { wanted, cursors, begun: false }
    }

    fn read(&mut self) -> Result<Option<(Key, Option<Kept>)>> {
        if !std::mem::replace(&mut self.begun, true) {
            self.cursors.iter_mut().try_for_each(|cursor| cursor.seek(&self.wanted))?;
        }
        let Some(next) = self.next_cursor()? else { return Ok(None) };
        let cell = self.cursors[next].cell()?;
        if let Some((key, _)) = &cell {
            for cursor in &mut self.cursors[next..] {
                if cursor.key()? == Some(key.into()) {
                    cursor.advance(&self.wanted)?;
                }
            }
        }
        Ok(cell)
    }

    /// The newest of those that stand at the next key.
    fn next_cursor(&self) -> Result<Option<usize>> {
        let first = if self.wanted.reverse { Ordering::Greater } else { Ordering::Less };
        let mut found: Option<(usize, KeyRef)> = None;
        for (n, cursor) in self.cursors.iter().enumerate() {
            if let Some(key) = cursor.key()?
                && found.is_none_or(|(_, other)| key.cmp(&other) == first)
            {
                found = Some((n, key));
            }
        }
        Ok(found.map(|(n, _)| n))
    }
}

impl Iterator for Merged {
    type Item = Result<(Key, Option<Kept>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read();
        if read.is_err() {
            self.cursors.clear();
        }
        read.transpose()
    }
}
