//! Where the master's records are kept: a register of compare-and-swap, behind a trait of three methods.
//!
//! [`FileStore`] keeps them in a directory of its own:
//!
//! ```text
//! lock              held while a master runs on the directory
//! config.log        "PCCONF01", then records: len u32 | crc32c u32 | body (len bytes, covered by the crc)
//! config.snapshot   "PCSNAP01", then len u32 | crc32c u32 | body, where body is version u64 and records' bodies,
//!                   each after its len u32
//! body of a record  revision u64 | key_len u16 | key | value
//! ```
//!
//! Integers are little-endian. Revisions rise by one with every write, over all keys. A write is one append and
//! one `fdatasync`, and is answered after it. When the log has grown to [`LOG_BYTES_MAX`] all entries go
//! into a new snapshot (temporary file, sync, rename, sync of the directory), then the log is emptied;
//! records that a snapshot has already are skipped.
//!
//! A torn last record is cut. A bad record with a good one of a later revision after it is damage:
//! the master refuses to start. After a failed write or sync the store stops: it never tries again
//! on a disk that lied.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Size of the log at which a snapshot is made.
pub const LOG_BYTES_MAX: u64 = 1 << 20;
/// Longest key.
pub const KEY_BYTES_MAX: usize = 256;
/// Longest value.
pub const VALUE_BYTES_MAX: usize = 64 << 10;

const LOG_MAGIC: &[u8; 8] = b"PCCONF01";
const SNAPSHOT_MAGIC: &[u8; 8] = b"PCSNAP01";
/// `len` and `crc32c` before a body.
const FRAME_BYTES: usize = 8;
/// `revision` and `key_len` at the beginning of a record's body.
const RECORD_BYTES_MIN: usize = 10;

/// A value and the revision at which it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Version of the store after the write.
    pub revision: u64,
    /// The bytes.
    pub value: Vec<u8>,
}

/// All that a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Version of the store: the highest revision.
    pub version: u64,
    /// The entries by key.
    pub entries: BTreeMap<String, Entry>,
}

/// What became of a compare-and-swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swap {
    /// Written, and on disk, at this revision.
    Done(u64),
    /// The key has another revision; this is what it holds.
    Lost(Option<Entry>),
}

/// A durable register that several masters may share.
pub trait ConfigStore: Send + Sync {
    /// Everything that is kept.
    fn load(&self) -> Result<Contents>;
    /// Writes a value if its key still has this revision (0: no such key); durable before it returns.
    fn cas(&self, key: &str, revision: u64, value: &[u8]) -> Result<Swap>;
    /// Waits until the store's version is above this one, at most so long; its version then.
    fn wait_change(&self, version: u64, within: Duration) -> Result<u64>;
}

/// A [`ConfigStore`] in a directory.
pub struct FileStore {
    directory: PathBuf,
    inner: Mutex<Inner>,
    changed: Condvar,
    _lock: File,
}

struct Inner {
    contents: Contents,
    log: File,
    log_bytes: u64,
    /// Set by the first failed write or sync.
    stopped: bool,
}

impl FileStore {
    /// Opens the store of a directory, which is made if it is not there.
    pub fn open(directory: &Path) -> Result<FileStore> {
        let failed = |e: std::io::Error| {
            Error::from(e).during(format!("open the master's data in {}", directory.display()))
        };
        create_dir(directory).map_err(failed)?;
        let lock = lock(directory)?;
        let mut contents = read_snapshot(directory)?;
        let (log, log_bytes) = open_log(directory, &mut contents)?;
        let inner = Mutex::new(Inner { contents, log, log_bytes, stopped: false });
        let directory = directory.to_path_buf();
        Ok(FileStore { directory, inner, changed: Condvar::new(), _lock: lock })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no thread panics while it holds the store")
    }
}

impl ConfigStore for FileStore {
    fn load(&self) -> Result<Contents> {
        Ok(self.inner().contents.clone())
    }

    fn cas(&self, key: &str, revision: u64, value: &[u8]) -> Result<Swap> {
        if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return Err(Error::TooBig(format!("configuration record {key:?}")));
        }
        let mut inner = self.inner();
        let current = inner.contents.entries.get(key);
        if current.map_or(0, |e| e.revision) != revision {
            return Ok(Swap::Lost(current.cloned()));
        }
        let written = inner.write(&self.directory, key, value)?;
        self.changed.notify_all();
        Ok(Swap::Done(written))
    }

    fn wait_change(&self, version: u64, within: Duration) -> Result<u64> {
        let end = Instant::now() + within;
        let mut inner = self.inner();
        while inner.contents.version <= version {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(inner, left);
            inner = waited.expect("no thread panics while it holds the store").0;
        }
        Ok(inner.contents.version)
    }
}

impl Inner {
    fn write(&mut self, directory: &Path, key: &str, value: &[u8]) -> Result<u64> {
        if self.stopped {
            return Err(Error::Io(
                std::io::ErrorKind::Other,
                "the configuration store has stopped after a failed write".into(),
            ));
        }
        self.stopped = true;
        let revision = self.contents.version + 1;
        let record = frame(&body(revision, key, value));
        self.log.write_all(&record)?;
        self.log.sync_data()?;
        self.log_bytes += record.len() as u64;
        self.contents.version = revision;
        self.contents.entries.insert(key.into(), Entry { revision, value: value.into() });
        if self.log_bytes > LOG_BYTES_MAX {
            write_snapshot(directory, &self.contents)?;
            self.log.set_len(LOG_MAGIC.len() as u64)?;
            self.log.sync_all()?;
            self.log_bytes = LOG_MAGIC.len() as u64;
        }
        self.stopped = false;
        Ok(revision)
    }
}

/// Makes a directory and its parents, durably.
fn create_dir(directory: &Path) -> std::io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    create_dir(parent)?;
    std::fs::create_dir_all(directory)?;
    File::open(parent)?.sync_all()
}

fn lock(directory: &Path) -> Result<File> {
    let path = directory.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
    file.try_lock().map_err(|e| {
        Error::config(format!("{}: {e}: does another master run on this data?", path.display()))
    })?;
    Ok(file)
}

/// Writes a file so that its name holds either what it held or all of this.
fn replace(directory: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let temporary = directory.join(format!("{name}.new"));
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, directory.join(name))?;
    Ok(File::open(directory)?.sync_all()?)
}

fn body(revision: u64, key: &str, value: &[u8]) -> Vec<u8> {
    let mut body = revision.to_le_bytes().to_vec();
    body.extend((key.len() as u16).to_le_bytes());
    body.extend(key.as_bytes());
    body.extend(value);
    body
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut framed = (body.len() as u32).to_le_bytes().to_vec();
    framed.extend(crc32c::crc32c(body).to_le_bytes());
    framed.extend(body);
    framed
}

/// The body framed at the beginning of these bytes, if it is whole and its checksum is right.
fn unframe(bytes: &[u8]) -> Option<&[u8]> {
    let len = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let crc = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?);
    let body = bytes.get(FRAME_BYTES..)?.get(..len)?;
    (crc32c::crc32c(body) == crc).then_some(body)
}

/// A record's revision, key and value.
fn parse(body: &[u8]) -> Option<(u64, String, Vec<u8>)> {
    let revision = u64::from_le_bytes(body.get(..8)?.try_into().ok()?);
    let key_len = u16::from_le_bytes(body.get(8..10)?.try_into().ok()?) as usize;
    let key = std::str::from_utf8(body.get(RECORD_BYTES_MIN..)?.get(..key_len)?).ok()?;
    Some((revision, key.into(), body[RECORD_BYTES_MIN + key_len..].into()))
}

/// Syncs a file, and has the kernel forget its copy: a record that a dead process wrote may be there and not on disk,
/// and where an earlier sync failed it may never get there.
fn settle(file: &File) -> std::io::Result<()> {
    file.sync_all()?;
    Ok(rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?)
}

fn open_log(directory: &Path, contents: &mut Contents) -> Result<(File, u64)> {
    let path = directory.join("config.log");
    if !path.try_exists()? {
        replace(directory, "config.log", LOG_MAGIC)?;
    }
    let mut file = OpenOptions::new().read(true).append(true).open(&path)?;
    settle(&file)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let good = replay(&bytes, contents)
        .map_err(|why| Error::corrupt(format!("{}: {why}", path.display())))?;
    if good < bytes.len() {
        log::warn!("{}: a torn tail of {} bytes is cut", path.display(), bytes.len() - good);
        file.set_len(good as u64)?;
        file.sync_all()?;
    }
    Ok((file, good as u64))
}

/// Applies a log's records; how many of its bytes are good.
fn replay(bytes: &[u8], contents: &mut Contents) -> Result<usize, String> {
    if !bytes.starts_with(LOG_MAGIC) {
        return Err("this is no log of configuration records of a known version".into());
    }
    let mut at = LOG_MAGIC.len();
    while let Some((record, next)) = record_at(bytes, at) {
        let (revision, key, value) = record;
        if revision > contents.version + 1 {
            return Err(format!("the records before revision {revision} are missing"));
        }
        if revision == contents.version + 1 {
            contents.version = revision;
            contents.entries.insert(key, Entry { revision, value });
        }
        at = next;
    }
    let later = (at..bytes.len()).find_map(|from| {
        record_at(bytes, from).map(|(r, _)| r.0).filter(|&r| r > contents.version)
    });
    match later {
        Some(revision) => Err(format!("damaged at byte {at}, before revision {revision}")),
        None => Ok(at),
    }
}

type Parsed = (u64, String, Vec<u8>);

fn record_at(bytes: &[u8], at: usize) -> Option<(Parsed, usize)> {
    let body = unframe(&bytes[at..])?;
    Some((parse(body)?, at + FRAME_BYTES + body.len()))
}

fn write_snapshot(directory: &Path, contents: &Contents) -> Result<()> {
    let mut all = contents.version.to_le_bytes().to_vec();
    for (key, entry) in &contents.entries {
        let record = body(entry.revision, key, &entry.value);
        all.extend((record.len() as u32).to_le_bytes());
        all.extend(record);
    }
    replace(directory, "config.snapshot", &[SNAPSHOT_MAGIC, frame(&all).as_slice()].concat())
}

fn read_snapshot(directory: &Path) -> Result<Contents> {
    let path = directory.join("config.snapshot");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Contents::default()),
        Err(e) => return Err(Error::from(e).during(path.display())),
    };
    let body = bytes.strip_prefix(SNAPSHOT_MAGIC).and_then(unframe);
    body.and_then(parse_snapshot)
        .ok_or_else(|| Error::corrupt(format!("{}: damaged", path.display())))
}

fn parse_snapshot(body: &[u8]) -> Option<Contents> {
    let (version, mut rest) = body.split_at_checked(8)?;
    let version = u64::from_le_bytes(version.try_into().ok()?);
    let mut contents = Contents { version, entries: BTreeMap::new() };
    while !rest.is_empty() {
        let (len, after) = rest.split_at_checked(4)?;
        let len = u32::from_le_bytes(len.try_into().ok()?) as usize;
        let (record, after) = after.split_at_checked(len)?;
        let (revision, key, value) = parse(record)?;
        contents.entries.insert(key, Entry { revision, value });
        rest = after;
    }
    Some(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(directory: &Path) -> Vec<Contents> {
        let store = FileStore::open(directory).unwrap();
        let mut states = vec![store.load().unwrap()];
        for (key, revision, value) in [("a", 0, "one"), ("b", 0, ""), ("a", 1, "three")] {
            let n = states.len() as u64;
            assert_eq!(store.cas(key, revision, value.as_bytes()), Ok(Swap::Done(n)));
            states.push(store.load().unwrap());
        }
        states
    }

    fn reopened(directory: &Path) -> Result<Contents> {
        FileStore::open(directory)?.load()
    }

    #[test]
    fn what_was_swapped_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let states = filled(directory.path());
        assert_eq!(reopened(directory.path()).as_ref(), Ok(&states[3]));
    }

    #[test]
    fn a_swap_against_another_revision_is_lost() {
        let directory = tempfile::tempdir().unwrap();
        filled(directory.path());
        let store = FileStore::open(directory.path()).unwrap();
        let held = Entry { revision: 3, value: b"three".to_vec() };
        assert_eq!(store.cas("a", 1, b"x"), Ok(Swap::Lost(Some(held))));
        assert_eq!(store.cas("c", 1, b"x"), Ok(Swap::Lost(None)));
        assert_eq!(store.load().unwrap().version, 3);
    }

    #[test]
    fn a_torn_tail_is_cut_at_every_byte() {
        let directory = tempfile::tempdir().unwrap();
        let states = filled(directory.path());
        let path = directory.path().join("config.log");
        let whole = std::fs::read(&path).unwrap();
        let mut seen = 0;
        for cut in LOG_MAGIC.len()..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let contents = reopened(directory.path()).unwrap();
            assert_eq!(contents, states[contents.version as usize]);
            assert!(contents.version >= seen, "a longer log holds no less");
            seen = contents.version;
        }
        assert_eq!(seen, 3);
    }

    #[test]
    fn after_a_cut_the_store_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        filled(directory.path());
        let path = directory.path().join("config.log");
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let store = FileStore::open(directory.path()).unwrap();
        assert_eq!(store.cas("c", 0, b"new"), Ok(Swap::Done(3)));
        let now = store.load().unwrap();
        drop(store);
        assert_eq!(reopened(directory.path()), Ok(now));
    }

    #[test]
    fn damage_in_the_middle_is_refused_at_every_byte() {
        let directory = tempfile::tempdir().unwrap();
        filled(directory.path());
        let path = directory.path().join("config.log");
        let whole = std::fs::read(&path).unwrap();
        let last = whole.len() - FRAME_BYTES - RECORD_BYTES_MIN - "a".len() - "three".len();
        for at in 0..last {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x40;
            std::fs::write(&path, damaged).unwrap();
            assert!(matches!(reopened(directory.path()), Err(Error::Corrupt(_))), "byte {at}");
        }
    }

    #[test]
    fn a_snapshot_replaces_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::open(directory.path()).unwrap();
        let value = vec![7; VALUE_BYTES_MAX];
        let mut revision = 0;
        for _ in 0..40 {
            let Ok(Swap::Done(n)) = store.cas("k", revision, &value) else { panic!("it is ours") };
            revision = n;
        }
        let now = store.load().unwrap();
        drop(store);
        let log = std::fs::metadata(directory.path().join("config.log")).unwrap().len();
        assert!(log < LOG_BYTES_MAX + (VALUE_BYTES_MAX as u64) * 2);
        assert!(directory.path().join("config.snapshot").exists());
        assert_eq!(reopened(directory.path()), Ok(now));
    }

    #[test]
    fn a_log_that_a_snapshot_already_holds_is_skipped() {
        let directory = tempfile::tempdir().unwrap();
        let states = filled(directory.path());
        write_snapshot(directory.path(), &states[2]).unwrap();
        assert_eq!(reopened(directory.path()).as_ref(), Ok(&states[3]));
        write_snapshot(directory.path(), &states[3]).unwrap();
        assert_eq!(reopened(directory.path()).as_ref(), Ok(&states[3]));
    }

    #[test]
    fn a_damaged_snapshot_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let states = filled(directory.path());
        write_snapshot(directory.path(), &states[3]).unwrap();
        let path = directory.path().join("config.snapshot");
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            assert!(matches!(reopened(directory.path()), Err(Error::Corrupt(_))), "byte {at}");
        }
    }

    #[test]
    fn two_masters_cannot_share_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let first = FileStore::open(directory.path()).unwrap();
        assert!(matches!(FileStore::open(directory.path()), Err(Error::Config(_))));
        drop(first);
        assert!(FileStore::open(directory.path()).is_ok());
    }

    #[test]
    fn a_change_wakes_who_waits_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::open(directory.path()).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| store.wait_change(0, Duration::from_secs(30)));
            store.cas("a", 0, b"x").unwrap();
            assert_eq!(waiting.join().unwrap(), Ok(1));
        });
        assert_eq!(store.wait_change(1, Duration::from_millis(1)), Ok(1));
    }
}
