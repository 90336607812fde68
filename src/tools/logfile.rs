//! A log file of bounded size: when it is full it becomes `<name>.1`, and the `.1` before it goes.

use crate::error::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Size at which a log file is put aside; a process's logs take twice this at most.
pub const LOG_BYTES_MAX: u64 = 8 << 20;

/// A file that is appended to and put aside when it is full.
pub struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    max: u64,
}

impl LogFile {
    /// Opens a log for appending; it is put aside at `max` bytes.
    pub fn open(path: &Path, max: u64) -> Result<LogFile> {
        let open = || -> io::Result<LogFile> {
            let file = append(path)?;
            Ok(LogFile { path: path.into(), bytes: file.metadata()?.len(), file, max })
        };
        open().map_err(|e| Error::config(format!("cannot open the log {}: {e}", path.display())))
    }

    fn put_aside(&mut self) -> io::Result<()> {
        let mut aside = self.path.clone().into_os_string();
        aside.push(".1");
        std::fs::rename(&self.path, aside)?;
        self.file = append(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.bytes += n as u64;
        if self.bytes >= self.max && bytes.ends_with(b"\n") {
            self.put_aside()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_is_put_aside_at_the_end_of_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let mut log = LogFile::open(&path, 10).unwrap();
        for line in ["one ", "and two\n", "three\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(dir.path().join("a.log.1")).unwrap(), "one and two\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
    }

    #[test]
    fn a_log_goes_on_where_it_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        for _ in 0..3 {
            LogFile::open(&path, 100).unwrap().write_all(b"line\n").unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "line\nline\nline\n");
    }
}
