//! When a tablet writes its next checkpoint. Pure: no clock, no files.

/// Bytes that a checkpoint must give back to a low disk to be worth writing.
const FREED_MIN: u64 = 1 << 20;

/// A tablet's checkpoints.
#[derive(Debug, Default)]
pub struct Checkpoints {
    /// Bytes that the log has grown by.
    grown: u64,
    /// The same when the checkpoint that is being written began.
    running: Option<u64>,
    /// The same when the last one that was written began.
    covered: u64,
}

impl Checkpoints {
    /// The log has grown by so many bytes since it was opened.
    pub fn note_grown(&mut self, bytes: u64) {
        self.grown = bytes;
    }

    /// Bytes of the log that the next checkpoint lets go.
    pub fn uncovered(&self) -> u64 {
        self.grown - self.covered
    }

    /// Whether the log has grown by so many bytes since the last checkpoint: a process that starts reads so much.
    pub fn is_due(&self, checkpoint_bytes: u64) -> bool {
        self.running.is_none() && self.uncovered() >= checkpoint_bytes
    }

    /// Whether one that writes so many bytes would give more back to a disk that is low, and has room on it first: the log
    /// before it, and what lies on the disk and is garbage once the deletes in memory are written out.
    pub fn would_free(&self, bytes: u64, garbage_bytes: u64, free_bytes: u64) -> bool {
        let freed = self.uncovered() + if bytes > 0 { garbage_bytes } else { 0 };
        self.running.is_none() && fits(bytes, free_bytes) && freed >= bytes + FREED_MIN
    }

    /// Whether one is being written.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// One begins.
    pub fn begin(&mut self) {
        self.running = Some(self.grown);
    }

    /// The one that runs has ended: it was written, or it failed.
    pub fn end(&mut self, written: bool) {
        self.covered = self.running.take().filter(|_| written).unwrap_or(self.covered);
    }
}

/// Whether a disk has room for so many bytes, and for more beside them.
pub fn fits(bytes: u64, free_bytes: u64) -> bool {
    bytes <= free_bytes / 4 * 3
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// After 40 MiB were logged.
    fn grown() -> Checkpoints {
        let mut checkpoints = Checkpoints::default();
        checkpoints.note_grown(40 * MIB);
        checkpoints
    }

    #[test]
    fn one_is_due_when_the_log_has_grown_enough_since_the_last() {
        let mut checkpoints = grown();
        assert!(checkpoints.is_due(40 * MIB) && !checkpoints.is_due(41 * MIB));
        checkpoints.begin();
        assert!(!checkpoints.is_due(40 * MIB), "one runs");
        checkpoints.note_grown(60 * MIB);
        checkpoints.end(true);
        assert!(checkpoints.is_due(20 * MIB) && !checkpoints.is_due(21 * MIB));
    }

    #[test]
    fn one_that_failed_has_freed_nothing_and_is_due_again() {
        let mut checkpoints = grown();
        checkpoints.begin();
        checkpoints.end(false);
        assert!(checkpoints.would_free(10 * MIB, 0, 1000 * MIB));
        assert!(checkpoints.is_due(40 * MIB));
    }

    #[test]
    fn a_low_disk_gets_one_that_fits_and_lets_more_go_than_it_takes() {
        let checkpoints = grown();
        assert!(checkpoints.would_free(39 * MIB, 0, 1000 * MIB));
        assert!(!checkpoints.would_free(40 * MIB, 0, 1000 * MIB));
        assert!(!checkpoints.would_free(10 * MIB, 0, 12 * MIB), "it does not fit");
        assert!(checkpoints.would_free(9 * MIB, 0, 12 * MIB));
        assert!(checkpoints.would_free(40 * MIB, MIB, 1000 * MIB), "deletes wait in memory");
        assert!(!Checkpoints::default().would_free(0, 1000 * MIB, 1000 * MIB), "none do");
    }
}
