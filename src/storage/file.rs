//! Durable files: what must be synced, and in which order.

use crate::error::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// New files are synced in steps of this size.
const SYNC_BYTES: u64 = 4 << 20;

/// Tells a test that looks on what was done to a file.
macro_rules! noted {
    ($($step:tt)*) => {
        #[cfg(test)]
        super::journal::note(|| super::journal::Step::$($step)*);
    };
}

/// Ending of unfinished files. Whoever opens the directory removes them.
pub(super) const TEMPORARY: &str = "tmp";

/// Adds the file's name to an I/O error.
pub(super) trait AtPath<T> {
    /// Says what was being done, and to which file.
    fn at(self, doing: &str, path: &Path) -> Result<T>;
}

impl<T> AtPath<T> for io::Result<T> {
    fn at(self, doing: &str, path: &Path) -> Result<T> {
        self.map_err(|e| Error::from(e).during(format_args!("{doing} {}", path.display())))
    }
}

/// Damage in a file, at a byte of it.
pub(super) fn corrupt(path: &Path, offset: u64, what: impl std::fmt::Display) -> Error {
    Error::Corrupt(format!("{} at byte {offset}: {what}", path.display()))
}

/// A new file in which bytes follow one another.
///
/// Everything that is written to the new files of a tablet goes through this and the functions below, so that a test can
/// see it, and put together what a crash would have left.
#[derive(Debug)]
pub(super) struct NewFile {
    file: File,
    path: PathBuf,
    len: u64,
    unsynced: u64,
}

impl NewFile {
    /// Makes a file, or begins it anew.
    pub fn create(path: &Path) -> Result<NewFile> {
        let file = File::create(path).at("create", path)?;
        noted!(Create(path.into()));
        Ok(NewFile { file, path: path.into(), len: 0, unsynced: 0 })
    }

    /// Takes room for it on the disk.
    pub fn take_room(&self, bytes: u64) -> Result<()> {
        take_room(&self.file, bytes).at("take room for", &self.path)
    }

    /// Bytes that were written.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Appends bytes. Every few MiB they are synced: one sync of all of it would hold up those of the log.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).at("write", &self.path)?;
        noted!(Write(self.path.clone(), self.len, bytes.into()));
        self.len += bytes.len() as u64;
        self.unsynced += bytes.len() as u64;
        if self.unsynced < SYNC_BYTES {
            return Ok(());
        }
        self.unsynced = 0;
        self.file.sync_data().at("sync", &self.path)?;
        noted!(Sync(self.path.clone()));
        Ok(())
    }

    /// Makes all of it durable; its name is after the next sync of the directory.
    pub fn finish(self) -> Result<u64> {
        self.file.sync_all().at("sync", &self.path)?;
        noted!(Sync(self.path.clone()));
        Ok(self.len)
    }
}

/// Files of a directory that nothing names yet: removed when this goes, unless they are to stay.
#[derive(Debug, Default)]
pub(super) struct NewFiles {
    paths: Vec<PathBuf>,
    stay: AtomicBool,
}

impl NewFiles {
    /// One more.
    pub fn add(&mut self, path: PathBuf) {
        self.paths.push(path);
    }

    /// Something may name them from now on.
    pub fn stay(&self) {
        self.stay.store(true, Ordering::Relaxed);
    }
}

impl Drop for NewFiles {
    fn drop(&mut self) {
        if self.stay.load(Ordering::Relaxed) {
            return;
        }
        for path in &self.paths {
            if let Err(error) = remove(path) {
                log::warn!("what was begun is left: {error}");
            }
        }
    }
}

/// Writes an unfinished file. After an error nothing is left of it, and one of a disk that is full is
/// [`Error::NoSpace`]: it may be tried again.
pub(super) fn write_temporary<T>(path: &Path, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    write(path).map_err(|error| {
        let _ = remove(path);
        or_no_space(error)
    })
}

/// Tells a disk that is full from one that fails, where nothing is left of what was begun.
pub(super) fn or_no_space(error: Error) -> Error {
    match error {
        Error::Io(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded, why) => {
            log::debug!("{why}");
            Error::NoSpace
        }
        other => other,
    }
}

/// Reads a part of a file. What the disk cannot read is damage, and so is a file that has become shorter.
pub(super) fn read_at(file: &File, path: &Path, bytes: &mut [u8], offset: u64) -> Result<()> {
    match file.read_exact_at(bytes, offset) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            Err(corrupt(path, offset, "the file ends early"))
        }
        read => readable(read, path, offset),
    }
}

/// Opens a file that something names: where it is missing, that is damage.
pub(super) fn open_named(path: &Path) -> Result<File> {
    match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(corrupt(path, 0, "the file is missing"))
        }
        opened => opened.at("open", path),
    }
}

/// Tells what the disk cannot read, which is damage, from other errors of reading.
pub(super) fn readable<T>(read: io::Result<T>, path: &Path, offset: u64) -> Result<T> {
    match read {
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
            Err(corrupt(path, offset, format_args!("it cannot be read: {e}")))
        }
        read => read.at("read", path),
    }
}

/// Has the kernel forget its copy of a file: what is read next is what the disk holds.
pub(super) fn forget(path: &Path) -> Result<()> {
    let file = File::open(path).at("open", path)?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)
        .map_err(io::Error::from)
        .at("read afresh", path)
}

/// Takes room on the disk for a new file, at once or not at all, where the file system can.
pub(super) fn take_room(file: &File, bytes: u64) -> io::Result<()> {
    let mode = rustix::fs::FallocateFlags::empty();
    match rustix::fs::fallocate(file, mode, 0, bytes) {
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        taken => Ok(taken?),
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).at("sync the directory", dir)?;
    noted!(SyncDir);
    Ok(())
}

/// Makes a directory and its parents, durably.
pub(super) fn create_dir(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_dir(parent)?;
    match fs::create_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.at("make the directory", dir).map_err(or_no_space)?,
    }
    sync_dir(parent)
}

/// The directory that a file lies in.
pub(super) fn dir_of(path: &Path) -> &Path {
    path.parent().expect("files of a tablet lie in a directory")
}

/// Where a file is written before it gets its name.
pub(super) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(TEMPORARY);
    name.into()
}

/// Gives a synced file its name, durably; what had the name before is gone.
pub(super) fn publish(temporary: &Path, path: &Path) -> Result<()> {
    rename(temporary, path)?;
    sync_dir(dir_of(path))
}

/// Gives a file another name; durable after the next sync of the directory.
pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).at("rename to", to)?;
    noted!(Rename(from.into(), to.into()));
    Ok(())
}

/// Writes a part of a file that is there.
pub(super) fn write_at(file: &File, path: &Path, bytes: &[u8], offset: u64) -> Result<()> {
    file.write_all_at(bytes, offset).at("write", path)?;
    noted!(Write(path.into(), offset, bytes.into()));
    Ok(())
}

/// Makes what a file holds durable, and its length.
pub(super) fn sync(file: &File, path: &Path) -> Result<()> {
    file.sync_data().at("sync", path)?;
    noted!(Sync(path.into()));
    Ok(())
}

/// Removes a file; one that is not there is as good as removed.
pub(super) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => {
            removed.at("remove", path)?;
            noted!(Remove(path.into()));
            Ok(())
        }
    }
}

/// Removes what a crash left unfinished.
pub(super) fn remove_temporary(dir: &Path) -> Result<()> {
    for name in names(dir)? {
        if name.ends_with(TEMPORARY) {
            remove(&dir.join(name))?;
        }
    }
    Ok(())
}

/// Names in a directory, sorted; those that are not UTF-8 are none of ours.
pub(super) fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).at("list", dir)? {
        names.extend(entry.at("list", dir)?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// Files named `<prefix>-<16 hexadecimal digits>`, by number.
pub(super) fn numbered(dir: &Path, prefix: &str) -> Result<Vec<(u64, PathBuf)>> {
    let number = |name: &str| {
        let digits = name.strip_prefix(prefix)?.strip_prefix('-')?;
        let number = u64::from_str_radix(digits, 16).ok()?;
        (digits == format!("{number:016x}")).then_some(number)
    };
    let names = names(dir)?;
    Ok(names.iter().filter_map(|name| Some((number(name)?, dir.join(name)))).collect())
}

/// Path of a numbered file.
pub(super) fn numbered_path(dir: &Path, prefix: &str, number: u64) -> PathBuf {
    dir.join(format!("{prefix}-{number:016x}"))
}

/// Stores a value as JSON with a checksum below it: temporary file, sync, rename, sync of the directory. On a disk that
/// is full ([`Error::NoSpace`]) what was there stays.
pub(super) fn store_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).expect("our structs are JSON");
    text.push('\n');
    let crc = crc32c::crc32c(text.as_bytes());
    text.push_str(&format!("crc32c={crc:08x}\n"));
    let temporary = temporary(path);
    write_temporary(&temporary, |path| {
        let mut file = File::create(path).at("create", path)?;
        file.write_all(text.as_bytes()).at("write", path)?;
        file.sync_all().at("sync", path)
    })?;
    publish(&temporary, path)
}

/// Reads what [`store_json`] stored; `None` if there is no such file.
pub(super) fn load_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.at("read", path)?,
    };
    let body = checked_body(&text).ok_or_else(|| corrupt(path, 0, "the checksum is wrong"))?;
    serde_json::from_slice(body).map(Some).map_err(|e| corrupt(path, 0, e))
}

fn checked_body(text: &[u8]) -> Option<&[u8]> {
    const LINE_BYTES: usize = "crc32c=01234567\n".len();
    let (body, line) = text.split_at_checked(text.len().checked_sub(LINE_BYTES)?)?;
    (line == format!("crc32c={:08x}\n", crc32c::crc32c(body)).as_bytes()).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_of_a_small_file_is_noticed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("file");
        store_json(&path, &vec!["a", "b"]).expect("stored");
        let whole = fs::read(&path).expect("read");
        for at in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[at / 8] ^= 1 << (at % 8);
            fs::write(&path, bytes).expect("written");
            let read = load_json::<Vec<String>>(&path);
            assert!(matches!(read, Err(Error::Corrupt(_))), "bit {at}: {read:?}");
        }
    }

    #[test]
    fn only_exact_names_are_numbered_files() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for name in ["log-0000000000000002", "log-2", "log-000000000000000A", "log-", "logs", "lo"]
        {
            File::create(dir.path().join(name)).expect("created");
        }
        let found = numbered(dir.path(), "log").expect("listed");
        assert_eq!(found, [(2, dir.path().join("log-0000000000000002"))]);
    }
}
