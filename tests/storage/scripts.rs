//! Runs `tests/scripts/storage`: what is done to a tablet, and what comes back, side by side.

use super::*;
use goldenscript::{Command, Context, Runner};
use std::error::Error;

type Output = Result<String, Box<dyn Error>>;

#[derive(Command)]
enum Step {
    /// Opens the tablet and says what came back.
    Open,
    /// Appends entries from one version to another.
    Append {
        first: u64,
        last: Option<u64>,
        #[arg(key)]
        bytes: Option<usize>,
    },
    /// Syncs the log.
    Sync,
    /// Lets the process die.
    Crash,
    /// Puts zeroes in the place of a record, as if it had never reached the disk.
    Lose { version: u64 },
    /// Changes one byte of a record.
    Flip { version: u64 },
    /// Writes a checkpoint of no items.
    Checkpoint { version: u64 },
    /// Lets go what is in the checkpoint.
    TruncateBefore { version: u64 },
    /// Cuts off what comes after.
    TruncateAfter { version: u64 },
    /// Installs a table of no items.
    Install { version: u64 },
    /// Removes files by the start of their name.
    Remove { start: String },
    /// Lists segments and checkpoints.
    Files,
}

struct Tablet {
    dir: TempDir,
    log: Option<(Log, Arc<Checkpointer>)>,
}

impl Runner for Tablet {
    type Command = Step;

    fn run(&mut self, step: &Step, _: &Context) -> Output {
        match step {
            Step::Open => return Ok(self.open()),
            Step::Append { first, last, bytes } => {
                let versions = *first..=last.unwrap_or(*first);
                let all: Vec<_> = versions.map(|v| entry(v, bytes.unwrap_or(100))).collect();
                self.log()?.append(&all)?;
            }
            Step::Sync => self.log()?.sync()?,
            Step::Crash => self.log = None,
            Step::Lose { version } => self.record(*version, |record| record.fill(0))?,
            Step::Flip { version } => self.record(*version, |record| record[60] ^= 1)?,
            Step::Checkpoint { version } => {
                write_checkpoint(&self.open_one()?.1, at(*version), [])?;
            }
            Step::TruncateBefore { version } => self.log()?.truncate_before(*version, 0)?,
            Step::TruncateAfter { version } => self.log()?.truncate_after(*version)?,
            Step::Install { version } => {
                let (log, cells) = self.open_one()?;
                install(log, cells, at(*version), [])?;
            }
            Step::Remove { start } => {
                let found = names(self.dir.path(), start);
                found.iter().try_for_each(|name| fs::remove_file(self.dir.path().join(name)))?;
            }
            Step::Files => return Ok(self.files()),
        }
        Ok(String::new())
    }
}

impl Tablet {
    fn log(&mut self) -> Result<&mut Log, Box<dyn Error>> {
        Ok(&mut self.open_one()?.0)
    }

    fn open_one(&mut self) -> Result<&mut (Log, Arc<Checkpointer>), Box<dyn Error>> {
        self.log.as_mut().ok_or_else(|| "the tablet is not open".into())
    }

    fn open(&mut self) -> String {
        self.log = None;
        match storage::open(self.dir.path(), &SMALL) {
            Err(error) => error.to_string().replace(&format!("{}", self.dir.path().display()), "…"),
            Ok(recovered) => {
                let version = recovered.checkpoint.as_ref().map(|c| c.position.version);
                let found: Vec<_> =
                    recovered.entries.map(|entry| entry.expect("whole").version).collect();
                let said = format!("checkpoint {version:?}, entries {}", ranges(&found));
                self.log = Some((recovered.log, recovered.cells));
                said
            }
        }
    }

    fn files(&self) -> String {
        let logs = names(self.dir.path(), "log");
        [logs, names(self.dir.path(), "checkpoint")].concat().join("\n")
    }

    /// Changes the newest record of a version.
    fn record(&self, version: u64, how: impl Fn(&mut [u8])) -> Result<(), Box<dyn Error>> {
        for name in names(self.dir.path(), "log").iter().rev() {
            let mut bytes = fs::read(self.dir.path().join(name))?;
            let of = version.to_le_bytes();
            let record = (HEADER..bytes.len() - 48)
                .step_by(8)
                .find(|at| bytes[at + 16..at + 24] == of && bytes[at + 40..at + 48] == of);
            if let Some(at) = record {
                let len = u32::from_le_bytes(bytes[at..at + 4].try_into()?) as usize;
                how(&mut bytes[at..at + 32 + len]);
                return Ok(fs::write(self.dir.path().join(name), bytes)?);
            }
        }
        Err(format!("no record of version {version}").into())
    }
}

/// Consecutive numbers as ranges.
fn ranges(numbers: &[u64]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b);
    let run = |run: &[u64]| format!("{}..{}", run[0], run[run.len() - 1]);
    let text = runs.map(run).collect::<Vec<_>>().join(" ");
    if text.is_empty() { "none".into() } else { text }
}

fn play(name: &str) {
    let mut tablet = Tablet { dir: scratch(), log: None };
    let path = format!("tests/scripts/storage/{name}");
    goldenscript::run(&mut tablet, path).expect("the script runs");
}

#[test]
fn torn_tails() {
    play("torn_tails");
}

#[test]
fn damage() {
    play("damage");
}

#[test]
fn cuts() {
    play("cuts");
}

#[test]
fn installs() {
    play("installs");
}

#[test]
fn checkpoints() {
    play("checkpoints");
}
