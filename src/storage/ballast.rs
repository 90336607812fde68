//! Room on a disk that is given up when there is no other left.

use super::file::{self, AtPath};
use crate::error::Result;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Name of the file in the data directory.
const NAME: &str = "ballast";

/// A file that takes room on the disk and holds nothing. Giving it up makes room for what frees more: a checkpoint, or the
/// log of deletes.
#[derive(Debug)]
pub struct Ballast {
    path: PathBuf,
    bytes: u64,
}

impl Ballast {
    /// The ballast of a data directory, of so many bytes; whether it is there, [`Ballast::held`] says.
    pub fn new(dir: &Path, bytes: u64) -> Ballast {
        Ballast { path: dir.join(NAME), bytes }
    }

    /// Bytes that it takes when it is held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that giving it up would free.
    pub fn held(&self) -> u64 {
        self.path.metadata().map_or(0, |held| held.len())
    }

    /// Takes the room, unless it is held.
    ///
    /// # Errors
    /// [`Error::NoSpace`](crate::error::Error::NoSpace): the disk has not so much.
    pub fn hold(&self) -> Result<()> {
        if self.held() == self.bytes {
            return Ok(());
        }
        let temporary = file::temporary(&self.path);
        file::write_temporary(&temporary, |path| {
            let file = File::create(path).at("create", path)?;
            file::take_room(&file, self.bytes).at("take room for", path)?;
            file.sync_all().at("sync", path)
        })?;
        file::publish(&temporary, &self.path)
    }

    /// Gives the room up; whether it was held.
    pub fn release(&self) -> Result<bool> {
        let held = self.held() > 0;
        file::remove(&self.path)?;
        if held {
            file::sync_dir(file::dir_of(&self.path))?;
        }
        Ok(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_room_until_it_is_given_up() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let ballast = Ballast::new(dir.path(), 1 << 20);
        let blocks = || {
            use std::os::unix::fs::MetadataExt;
            dir.path().join(NAME).metadata().map_or(0, |held| held.blocks() * 512)
        };
        assert_eq!((ballast.held(), ballast.release()), (0, Ok(false)));
        ballast.hold().expect("there is room");
        ballast.hold().expect("it is held");
        assert_eq!(ballast.held(), 1 << 20);
        assert!(blocks() >= 1 << 20, "it takes {} bytes", blocks());
        assert_eq!((ballast.release(), ballast.held()), (Ok(true), 0));
        ballast.hold().expect("there is room again");
        assert_eq!(ballast.held(), 1 << 20);
    }

    #[test]
    fn another_size_takes_its_place() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Ballast::new(dir.path(), 4096).hold().expect("there is room");
        let larger = Ballast::new(dir.path(), 8192);
        assert_eq!(larger.held(), 4096);
        larger.hold().expect("there is room");
        assert_eq!(larger.held(), 8192);
    }
}
