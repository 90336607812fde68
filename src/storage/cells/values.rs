//! Files of large values, apart from their cells: written once, and not again by each merge.

use super::damage::Damage;
use super::{Shared, VALUES};
use crate::error::{Error, Result};
use crate::protocol::cell::Bytes;
use crate::protocol::kept::{Away, Held, Kept, Values};
use crate::storage::file::{self, AtPath, NewFile, corrupt};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"PENNVAL1";

/// Inline values of this size or more lie in a file of values.
pub const AWAY_MIN: usize = 16 << 10;

/// A file of values is closed when it has this many bytes: what has become garbage is given up file by file.
const FILE_BYTES: u64 = 256 << 20;

/// A tablet's files of values by number.
pub type ValueFiles = BTreeMap<u64, Arc<ValueFile>>;

/// A file of values that is open for reading. It stays readable for whoever holds it, though its name be gone.
#[derive(Debug)]
pub struct ValueFile {
    /// Its number.
    pub sequence: u64,
    /// Its length.
    pub bytes: u64,
    file: File,
    path: PathBuf,
    damage: Arc<Damage>,
}

impl ValueFile {
    /// Opens a file of values of this length.
    pub fn open(dir: &Path, sequence: u64, bytes: u64, shared: &Shared) -> Result<Arc<ValueFile>> {
        let path = path(dir, sequence);
        let file = file::open_named(&path)?;
        let found = file.metadata().at("open", &path)?.len();
        if found != bytes {
            return Err(corrupt(&path, found, format_args!("{bytes} bytes were written")));
        }
        let mut magic = [0; MAGIC.len()];
        file::read_at(&file, &path, &mut magic, 0)?;
        if &magic != MAGIC {
            return Err(corrupt(&path, 0, "this is no file of values"));
        }
        Ok(Arc::new(ValueFile { sequence, bytes, file, path, damage: shared.damage.clone() }))
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn read_checked(&self, offset: u64, length: u32, crc: u32) -> Result<Bytes> {
        let damaged = |what: &str| corrupt(&self.path, offset, format_args!("the value {what}"));
        if offset.checked_add(length.into()).is_none_or(|end| end > self.bytes) {
            return Err(damaged("lies beyond the file's end"));
        }
        let mut bytes: Bytes = std::iter::repeat_n(0, length as usize).collect();
        let buffer = Arc::get_mut(&mut bytes).expect("nobody else has it yet");
        file::read_at(&self.file, &self.path, buffer, offset)?;
        match crc32c::crc32c(&bytes) == crc {
            true => Ok(bytes),
            false => Err(damaged("is damaged")),
        }
    }
}

impl Values for ValueFile {
    fn read(&self, offset: u64, length: u32, crc: u32) -> Result<Bytes> {
        self.damage.noted(self.read_checked(offset, length, crc))
    }
}

/// Path of a file of values.
pub fn path(dir: &Path, sequence: u64) -> PathBuf {
    file::numbered_path(dir, VALUES, sequence)
}

/// A file of values that is being written.
#[derive(Debug)]
pub struct Writer {
    /// Its number.
    pub sequence: u64,
    out: NewFile,
    placeholder: Arc<dyn Values>,
}

impl Writer {
    /// Makes a file.
    pub fn create(path: &Path, sequence: u64) -> Result<Writer> {
        let mut out = NewFile::create(path)?;
        out.write(MAGIC)?;
        Ok(Writer { sequence, out, placeholder: Arc::new(Unfinished) })
    }

    /// Whether it has its size.
    pub fn is_full(&self) -> bool {
        self.out.len() >= FILE_BYTES
    }

    /// Puts a value into it: the cell with the value's place, which can be read once the file is finished and opened.
    pub fn add(&mut self, cell: &Kept, value: &[u8]) -> Result<Kept> {
        let away = Away {
            file: self.sequence,
            offset: self.out.len(),
            length: value.len() as u32,
            crc: crc32c::crc32c(value),
            from: self.placeholder.clone(),
        };
        self.out.write(value)?;
        Ok(Kept { value: Held::Away(away), ..*cell })
    }

    /// Makes it durable; its length.
    pub fn finish(self) -> Result<u64> {
        self.out.finish()
    }
}

/// A file that is not readable yet.
#[derive(Debug)]
struct Unfinished;

impl Values for Unfinished {
    fn read(&self, _: u64, _: u32, _: u32) -> Result<Bytes> {
        Err(Error::bad("the file of the value is still being written"))
    }
}
