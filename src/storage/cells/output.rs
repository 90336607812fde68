//! New files of cells: a run, and the values that lie apart from it.

use super::run;
use super::values::{self, AWAY_MIN};
use super::write::Writer;
use super::{Run, Runs, Shared, ValueFile};
use crate::error::Result;
use crate::protocol::cell::{Key, Value};
use crate::protocol::kept::{Held, Kept};
use crate::storage::file::{self, NewFiles};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Gives out the numbers of a tablet's runs and value files. None is given out twice while a file has it.
#[derive(Debug)]
pub struct Sequences(AtomicU64);

impl Sequences {
    /// Numbers after this one.
    pub fn after(last: u64) -> Sequences {
        Sequences(AtomicU64::new(last + 1))
    }

    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// Writes cells in the order of their keys into new files, which go again if they are not published.
#[derive(Debug)]
pub struct Output {
    dir: PathBuf,
    sequences: Arc<Sequences>,
    merges: u32,
    run: Option<(u64, Writer)>,
    values: Option<values::Writer>,
    /// Value files that are finished, and their lengths.
    finished: Vec<(u64, u64)>,
    files: NewFiles,
}

/// Files that are written and synced, but named by nothing yet.
#[derive(Debug)]
pub struct Finished {
    /// The run, unless there were no cells.
    pub run: Option<Arc<Run>>,
    /// The files of its values.
    pub values: Vec<Arc<ValueFile>>,
    /// All of them.
    pub files: NewFiles,
}

impl Finished {
    /// Bytes of the run.
    pub fn run_bytes(&self) -> u64 {
        self.run.as_ref().map_or(0, |run| run.bytes)
    }

    /// Bytes of the values.
    pub fn value_bytes(&self) -> u64 {
        self.values.iter().map(|file| file.bytes).sum()
    }

    /// Nothing but what was written.
    pub fn runs(&self) -> Runs {
        let values = self.values.iter().map(|file| (file.sequence, file.clone()));
        Runs::new(self.run.iter().cloned().collect(), values.collect())
    }
}

impl Output {
    /// Begins files in a tablet's directory; the run's cells have been merged so often.
    pub fn new(dir: &Path, sequences: &Arc<Sequences>, merges: u32) -> Output {
        Output {
            dir: dir.into(),
            sequences: sequences.clone(),
            merges,
            run: None,
            values: None,
            finished: Vec::new(),
            files: NewFiles::default(),
        }
    }

    /// Appends a cell, or that it was removed. A large value in memory goes into a value file; one that lies in a file
    /// stays there.
    ///
    /// # Errors
    /// [`Error::NoSpace`](crate::error::Error::NoSpace): nothing is left of it once it is dropped.
    ///
    /// # Panics
    /// If the cells are out of order.
    pub fn add(&mut self, key: &Key, cell: Option<&Kept>) -> Result<()> {
        self.try_add(key, cell).map_err(file::or_no_space)
    }

    fn try_add(&mut self, key: &Key, cell: Option<&Kept>) -> Result<()> {
        match cell {
            Some(kept) => match &kept.value {
                Held::Here(Value::Inline(bytes)) if bytes.len() >= AWAY_MIN => {
                    let kept = self.put_apart(kept, bytes)?;
                    self.run()?.add(key, Some(&kept))
                }
                _ => self.run()?.add(key, cell),
            },
            None => self.run()?.add(key, None),
        }
    }

    fn put_apart(&mut self, kept: &Kept, value: &[u8]) -> Result<Kept> {
        if self.values.as_ref().is_some_and(values::Writer::is_full) {
            self.finish_values()?;
        }
        let writer = match &mut self.values {
            Some(writer) => writer,
            none => {
                let sequence = self.sequences.next();
                let path = values::path(&self.dir, sequence);
                self.files.add(path.clone());
                none.insert(values::Writer::create(&path, sequence)?)
            }
        };
        writer.add(kept, value)
    }

    fn finish_values(&mut self) -> Result<()> {
        if let Some(writer) = self.values.take() {
            let sequence = writer.sequence;
            self.finished.push((sequence, writer.finish()?));
        }
        Ok(())
    }

    fn run(&mut self) -> Result<&mut Writer> {
        if self.run.is_none() {
            let sequence = self.sequences.next();
            let path = run::path(&self.dir, sequence);
            self.files.add(path.clone());
            self.run = Some((sequence, Writer::create(&path, sequence, self.merges)?));
        }
        Ok(&mut self.run.as_mut().expect("it was just made").1)
    }

    /// Makes everything durable, names included, and opens it. Cells may also refer to these other values.
    pub fn finish(self, shared: &Shared, others: &Runs) -> Result<Finished> {
        self.try_finish(shared, others).map_err(file::or_no_space)
    }

    fn try_finish(mut self, shared: &Shared, others: &Runs) -> Result<Finished> {
        self.finish_values()?;
        let open =
            |&(sequence, bytes): &(u64, u64)| ValueFile::open(&self.dir, sequence, bytes, shared);
        let values = self.finished.iter().map(open).collect::<Result<Vec<_>>>()?;
        let mut all = others.values.clone();
        all.extend(values.iter().map(|file| (file.sequence, file.clone())));
        let mut run = None;
        if let Some((sequence, writer)) = self.run.take() {
            writer.finish()?;
            run = Some(Arc::new(Run::open(&self.dir, sequence, &all, shared)?));
        }
        file::sync_dir(&self.dir)?;
        Ok(Finished { run, values, files: self.files })
    }
}
