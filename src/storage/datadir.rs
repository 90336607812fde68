//! The data directory of a node.

use super::TabletConfig;
use super::ballast::Ballast;
use super::file::{self, AtPath};
use crate::error::{Error, Result};
use crate::protocol::cluster::Routes;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Version of all formats in a data directory. Another one is refused.
pub const FORMAT_VERSION: u32 = 2;

/// Name of the file that holds what the master said of the cluster.
const ROUTES: &str = "routes";

/// Damaged copies of one tablet that are kept; the oldest goes for one more.
const SET_ASIDE_MAX: usize = 3;

/// The data directory of a node, locked for as long as this lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    store_uuid: Uuid,
    /// Held while this lives.
    lock: File,
}

/// The file `format`.
#[derive(Serialize, Deserialize)]
struct Format {
    penncloud_format: u32,
    store_uuid: String,
}

impl DataDir {
    /// Opens a data directory, made if it is not there. Refuses one that another process uses, one of an
    /// unknown format, and one that cannot be written, each with a sentence.
    pub fn open_or_create(path: &Path) -> Result<DataDir> {
        let made = file::create_dir(path).and_then(|()| {
            OpenOptions::new().create(true).append(true).open(path.join("LOCK")).at("open", path)
        });
        let lock = made.map_err(|e| {
            Error::config(format!("cannot write the data directory {}: {e}", path.display()))
        })?;
        let lock = take(lock, path)?;
        let format = path.join("format");
        if !format.exists() {
            create(path, &format)?;
        }
        Ok(DataDir { path: path.to_path_buf(), store_uuid: read_format(&format)?, lock })
    }

    /// Opens a data directory that is there, and changes nothing in it.
    pub fn open_existing(path: &Path) -> Result<DataDir> {
        let store_uuid = read_format(&path.join("format"))?;
        let lock = File::open(path.join("LOCK")).at("open", &path.join("LOCK"))?;
        Ok(DataDir { path: path.to_path_buf(), store_uuid, lock: take(lock, path)? })
    }

    /// Made with the directory: a wiped disk is another store.
    pub fn store_uuid(&self) -> Uuid {
        self.store_uuid
    }

    /// Whether it is still there: what is written to files that were removed is on no disk.
    pub fn is_there(&self) -> bool {
        self.lock.metadata().is_ok_and(|lock| lock.nlink() > 0)
    }

    /// Bytes that may still be written to its disk.
    pub fn free_bytes(&self) -> Result<u64> {
        let disk = rustix::fs::statvfs(&self.path).map_err(std::io::Error::from);
        disk.at("ask for the free space of", &self.path).map(|d| d.f_bavail * d.f_frsize)
    }

    /// Its ballast, of so many bytes when it is held.
    pub fn ballast(&self, bytes: u64) -> Ballast {
        Ballast::new(&self.path, bytes)
    }

    /// Directory of a tablet, for [`open`](super::open); its name has letters, digits and `-` only.
    pub fn tablet(&self, name: &str) -> PathBuf {
        assert!(is_tablet_name(name), "{name:?} is no name of a tablet");
        self.path.join("tablets").join(name)
    }

    /// Names of the tablets that are there, sorted.
    pub fn tablets(&self) -> Result<Vec<String>> {
        let tablets = self.path.join("tablets");
        if !tablets.is_dir() {
            return Ok(Vec::new());
        }
        Ok(file::names(&tablets)?.into_iter().filter(|n| is_tablet_name(n)).collect())
    }

    /// Keeps what the master said of the cluster, durably.
    pub fn keep_routes(&self, routes: &Routes) -> Result<()> {
        file::store_json(&self.path.join(ROUTES), routes)
    }

    /// What was kept of the cluster; none if nothing was.
    pub fn kept_routes(&self) -> Result<Option<Routes>> {
        file::load_json(&self.path.join(ROUTES))
    }

    /// Moves a damaged tablet's directory to `tablets-damaged/<tablet>-<n>`, which is answered, and puts an empty
    /// one in its place, in one step: the node can take the tablet anew from another. What it had adopted and
    /// sealed goes on to hold, if the file `epoch` can be read. Nothing may have the tablet open.
    ///
    /// The caller first has the master take the node out of the tablet's in-sync set, or the empty one would count.
    pub fn set_aside(&self, name: &str) -> Result<PathBuf> {
        let (tablet, damaged) = (self.tablet(name), self.path.join("tablets-damaged"));
        if !tablet.is_dir() {
            return Err(Error::bad(format_args!("there is no {}", tablet.display())));
        }
        file::create_dir(&damaged)?;
        let kept = self.copies(name)?;
        let n = kept.last().map_or(1, |(n, _)| n + 1);
        let copy = damaged.join(format!("{name}-{n}"));
        file::create_dir(&copy)?;
        if let Ok(Some(config)) = TabletConfig::load(&tablet) {
            config.store(&copy)?;
        }
        exchange(&tablet, &copy)?;
        let surplus = (kept.len() + 1).saturating_sub(SET_ASIDE_MAX);
        for (_, old) in &kept[..surplus] {
            std::fs::remove_dir_all(old).at("remove", old)?;
        }
        Ok(copy)
    }

    /// Names of the damaged copies in `tablets-damaged`, sorted.
    pub fn damaged(&self) -> Result<Vec<String>> {
        let damaged = self.path.join("tablets-damaged");
        if damaged.is_dir() { file::names(&damaged) } else { Ok(Vec::new()) }
    }

    /// Damaged copies of a tablet by number.
    fn copies(&self, name: &str) -> Result<Vec<(u64, PathBuf)>> {
        let number = |copy: &str| copy.strip_prefix(name)?.strip_prefix('-')?.parse::<u64>().ok();
        let numbered = |copy: String| {
            let n = number(&copy)?;
            Some((n, self.path.join("tablets-damaged").join(copy)))
        };
        let mut copies: Vec<_> = self.damaged()?.into_iter().filter_map(numbered).collect();
        copies.sort();
        Ok(copies)
    }
}

/// Whether a tablet may have this name: letters, digits and `-`, 64 at most.
pub fn is_tablet_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Lets two directories change places, durably: a crash finds both where they were, or both moved.
fn exchange(one: &Path, other: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let exchanged = renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE);
    exchanged.map_err(std::io::Error::from).at("move aside", one)?;
    file::sync_dir(file::dir_of(one))?;
    file::sync_dir(file::dir_of(other))
}

fn take(lock: File, path: &Path) -> Result<File> {
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Error::config(format!(
            "the data directory {} is in use by another process",
            path.display()
        ))),
        Err(TryLockError::Error(e)) => Err(e).at("lock", path),
    }
}

fn create(path: &Path, format: &Path) -> Result<()> {
    if path.join("tablets").exists() {
        return Err(Error::config(format!(
            "{} has tablets but no file `format`: it is damaged, or no data directory of a node. A replica \
             whose directory is removed fills it again from the others",
            path.display()
        )));
    }
    let store_uuid = Uuid::new_v4().to_string();
    file::store_json(format, &Format { penncloud_format: FORMAT_VERSION, store_uuid })
}

fn read_format(path: &Path) -> Result<Uuid> {
    let format: Format = file::load_json(path)?.ok_or_else(|| {
        Error::config(format!("{} is missing: this is no data directory of a node", path.display()))
    })?;
    if format.penncloud_format != FORMAT_VERSION {
        return Err(Error::config(format!(
            "{} says format {}; this program knows format {FORMAT_VERSION} only",
            path.display(),
            format.penncloud_format
        )));
    }
    Uuid::parse_str(&format.store_uuid).map_err(|e| file::corrupt(path, 0, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(result: Result<DataDir>) -> String {
        match result {
            Err(Error::Config(why)) => why,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    #[test]
    fn the_store_uuid_is_made_once() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("data/a1");
        let first = DataDir::open_or_create(&path).expect("created").store_uuid();
        assert_eq!(DataDir::open_or_create(&path).expect("opened").store_uuid(), first);
        let other = DataDir::open_or_create(&dir.path().join("data/a2")).expect("created");
        assert_ne!(other.store_uuid(), first);
        assert!(other.free_bytes().expect("asked") > 0);
    }

    #[test]
    fn a_directory_in_use_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let held = DataDir::open_or_create(dir.path()).expect("created");
        assert!(sentence(DataDir::open_or_create(dir.path())).contains("in use"));
        assert!(sentence(DataDir::open_existing(dir.path())).contains("in use"));
        drop(held);
        DataDir::open_existing(dir.path()).expect("free again");
    }

    #[test]
    fn an_unknown_format_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let format = Format { penncloud_format: 1, store_uuid: Uuid::new_v4().to_string() };
        file::store_json(&dir.path().join("format"), &format).expect("stored");
        assert!(sentence(DataDir::open_or_create(dir.path())).contains("says format 1"));
    }

    #[test]
    fn tablets_without_a_format_are_not_taken_over() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("tablets")).expect("made");
        assert!(sentence(DataDir::open_or_create(dir.path())).contains("no file `format`"));
    }

    #[test]
    fn a_path_that_cannot_be_written_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("file");
        File::create(&file).expect("created");
        assert!(sentence(DataDir::open_or_create(&file.join("a1"))).contains("cannot write"));
    }

    #[test]
    fn routes_are_kept_and_damaged_ones_are_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data = DataDir::open_or_create(dir.path()).expect("created");
        assert_eq!(data.kept_routes(), Ok(None));
        let routes = Routes { version: 7, ..Routes::default() };
        data.keep_routes(&routes).expect("kept");
        assert_eq!(data.kept_routes(), Ok(Some(routes)));
        std::fs::write(dir.path().join(ROUTES), "{}").expect("written");
        assert!(matches!(data.kept_routes(), Err(Error::Corrupt(_))));
    }

    #[test]
    fn tablets_are_listed_by_name() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data = DataDir::open_or_create(dir.path()).expect("created");
        assert_eq!(data.tablets(), Ok(vec![]));
        for name in ["b-l0", "a-s1", ".hidden"] {
            file::create_dir(&dir.path().join("tablets").join(name)).expect("made");
        }
        assert_eq!(data.tablets(), Ok(vec!["a-s1".into(), "b-l0".into()]));
    }
}
