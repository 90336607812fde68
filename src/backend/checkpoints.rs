//! When a tablet writes its next checkpoint. Pure: no clock, no files.

/// Bytes that a checkpoint must give back to a low disk to be worth writing.
const FREED_MIN: u64 = 1 << 20;

/// A tablet's checkpoints.
#[derive(Debug, Default)]
pub struct Checkpoints {
    /// Bytes that the log has grown by.
    grown: u64,
    running: Option<Mark>,
    /// The last one that was written.
    last: Mark,
}

/// What was there when a checkpoint began.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    log_bytes: u64,
    table_bytes: u64,
}

impl Checkpoints {
    /// Those of a tablet whose checkpoint holds so many bytes.
    pub fn new(table_bytes: u64) -> Checkpoints {
        let last = Mark { log_bytes: 0, table_bytes };
        Checkpoints { last, ..Checkpoints::default() }
    }

    /// The log has grown by so many bytes since it was opened.
    pub fn note_grown(&mut self, bytes: u64) {
        self.grown = bytes;
    }

    /// Whether the log has grown by the configured bytes, or by the last checkpoint's size if that is more (or the
    /// tablet's, if it has shrunk): so a checkpoint writes at most twice what was logged since the one before, and
    /// the log stays in proportion to the tablet.
    pub fn is_due(&self, table_bytes: u64, checkpoint_bytes: u64, free_bytes: u64) -> bool {
        let grown = self.grown - self.last.log_bytes
            >= checkpoint_bytes.max(self.last.table_bytes.min(table_bytes));
        self.running.is_none() && grown && fits(table_bytes, free_bytes)
    }

    /// Whether a checkpoint would give bytes back to a disk that is low, and has room on it first.
    pub fn would_free(&self, table_bytes: u64, free_bytes: u64) -> bool {
        let held = self.grown - self.last.log_bytes + self.last.table_bytes;
        self.running.is_none() && fits(table_bytes, free_bytes) && held >= table_bytes + FREED_MIN
    }

    /// Whether one is being written.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// One begins, of a table of so many bytes.
    pub fn begin(&mut self, table_bytes: u64) {
        self.running = Some(Mark { log_bytes: self.grown, table_bytes });
    }

    /// The one that runs has ended: it was written, or it failed.
    pub fn end(&mut self, written: bool) {
        self.last = self.running.take().filter(|_| written).unwrap_or(self.last);
    }
}

/// Whether a checkpoint leaves room on the disk while it is written beside the one before.
fn fits(table_bytes: u64, free_bytes: u64) -> bool {
    table_bytes <= free_bytes / 4 * 3
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// After 40 MiB were logged since a checkpoint of 20 MiB.
    fn grown() -> Checkpoints {
        let mut checkpoints = Checkpoints::new(20 * MIB);
        checkpoints.note_grown(40 * MIB);
        checkpoints
    }

    #[test]
    fn what_was_deleted_comes_back_by_a_checkpoint() {
        let mut checkpoints = grown();
        assert!(!checkpoints.would_free(60 * MIB, 1000 * MIB), "everything is still there");
        assert!(checkpoints.would_free(59 * MIB, 1000 * MIB));
        checkpoints.begin(59 * MIB);
        assert!(!checkpoints.would_free(0, 1000 * MIB), "one runs");
        checkpoints.end(true);
        assert!(!checkpoints.would_free(59 * MIB, 1000 * MIB), "that was all");
        assert!(checkpoints.would_free(0, 1000 * MIB), "the checkpoint itself holds bytes");
    }

    #[test]
    fn a_checkpoint_that_failed_has_freed_nothing_and_is_due_again() {
        let mut checkpoints = grown();
        checkpoints.begin(10 * MIB);
        checkpoints.end(false);
        assert!(checkpoints.would_free(10 * MIB, 1000 * MIB));
        assert!(checkpoints.is_due(10 * MIB, 40 * MIB, 1000 * MIB), "it is still to be written");
    }

    #[test]
    fn a_checkpoint_that_does_not_fit_is_not_begun() {
        assert!(!grown().would_free(10 * MIB, 12 * MIB));
        assert!(grown().would_free(9 * MIB, 12 * MIB));
    }

    #[test]
    fn a_log_that_outgrew_its_table_is_due() {
        assert!(!grown().is_due(MIB, 41 * MIB, 1000 * MIB));
        assert!(grown().is_due(40 * MIB, 40 * MIB, 1000 * MIB));
        assert!(!grown().is_due(40 * MIB, 40 * MIB, 50 * MIB), "it does not fit");
        let mut checkpoints = Checkpoints::new(50 * MIB);
        checkpoints.note_grown(40 * MIB);
        assert!(!checkpoints.is_due(90 * MIB, MIB, 1000 * MIB), "less than the last one");
        assert!(checkpoints.is_due(30 * MIB, MIB, 1000 * MIB), "the tablet has shrunk");
    }

    #[test]
    fn a_tablet_into_which_is_only_written_gets_its_next_checkpoint() {
        let (mut checkpoints, mut written) = (Checkpoints::default(), 0);
        for bytes in (MIB..=64 * MIB).step_by(MIB as usize) {
            checkpoints.note_grown(bytes);
            if checkpoints.is_due(bytes, MIB, 1000 * MIB) {
                checkpoints.begin(bytes);
                checkpoints.end(true);
                written += bytes;
            }
        }
        assert!((64 * MIB..=2 * 64 * MIB).contains(&written), "{written} bytes");
    }
}
