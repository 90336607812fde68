//! A tablet and a model of it, under random steps and power cuts that keep any sectors of what was not synced.

use super::*;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use std::collections::BTreeMap;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Step {
    /// Appends entries of so many bytes.
    Append {
        entries: u64,
        bytes: usize,
    },
    Sync,
    /// Writes a checkpoint this far before what is durable.
    Checkpoint {
        before: u64,
    },
    /// Lets the log before the checkpoint go.
    Release,
    /// Cuts off so many entries.
    Cut {
        entries: u64,
    },
    /// Installs a table of any epoch, so many versions before or after the end.
    Install {
        distance: i64,
        epoch: u64,
    },
    /// The power fails: of each sector written since the last sync, chance decides.
    PowerCut {
        seed: u64,
    },
    /// The process dies; the kernel lives.
    Die,
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = prop::sample::select(vec![0, 300, 300, 1500, 4000, 20_000]);
    prop_oneof![
        6 => (1u64..6, bytes).prop_map(|(entries, bytes)| Step::Append { entries, bytes }),
        5 => Just(Step::Sync),
        1 => (0u64..20).prop_map(|before| Step::Checkpoint { before }),
        1 => Just(Step::Release),
        1 => (0u64..12).prop_map(|entries| Step::Cut { entries }),
        1 => (-30i64..30, 1u64..4).prop_map(|(distance, epoch)| Step::Install { distance, epoch }),
        2 => any::<u64>().prop_map(|seed| Step::PowerCut { seed }),
        1 => Just(Step::Die),
    ]
}

struct Model {
    dir: TempDir,
    log: Option<Log>,
    cells: Arc<Checkpointer>,
    /// Everything appended, by version from 1 on; empty entries stand for those before an installed table.
    entries: Vec<Entry>,
    durable: usize,
    checkpoint: u64,
    /// The items of the checkpoint.
    table: Vec<Item>,
    /// Epoch of the entries that are appended.
    epoch: u64,
    /// Tells entries apart that have the same version in two histories.
    life: u8,
    /// The segments at the last sync.
    synced: BTreeMap<String, Vec<u8>>,
    /// What the durable mark was since it was last synced.
    marks: Vec<Vec<u8>>,
}

impl Model {
    fn new() -> Model {
        let dir = scratch();
        let Recovered { log, cells, .. } = open(dir.path());
        let mut model = Model {
            dir,
            log: Some(log),
            cells,
            entries: Vec::new(),
            durable: 0,
            checkpoint: 0,
            table: Vec::new(),
            epoch: 1,
            life: 0,
            synced: BTreeMap::new(),
            marks: Vec::new(),
        };
        model.all_synced();
        model
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().expect("the log is open")
    }

    /// The next entry of the history.
    fn push(&mut self, bytes: usize) -> Entry {
        let version = self.entries.len() as u64 + 1;
        let prev_epoch = self.position(version - 1).epoch;
        let epoch = self.epoch;
        let entry = Entry { epoch, prev_epoch, ..entry_of(self.life, version, bytes) };
        self.entries.push(entry.clone());
        entry
    }

    fn position(&self, version: u64) -> Position {
        let entry = (version as usize).checked_sub(1).map(|at| &self.entries[at]);
        entry.map(Position::of).unwrap_or_default()
    }

    fn all_synced(&mut self) {
        self.durable = self.entries.len();
        self.synced = self.segments();
        self.see_mark();
    }

    fn see_mark(&mut self) {
        self.marks.push(fs::read(self.dir.path().join("durable")).expect("read"));
    }

    fn segments(&self) -> BTreeMap<String, Vec<u8>> {
        let read =
            |name: String| (name.clone(), fs::read(self.dir.path().join(name)).expect("read"));
        names(self.dir.path(), "log").into_iter().map(read).collect()
    }

    /// The version after which the active segment goes on.
    fn active_after(&self) -> u64 {
        let (_, active) = self.segments().pop_last().expect("there is an active segment");
        number(&active, 24)
    }

    /// The highest version that either slot of the durable mark names.
    fn marked(&self) -> u64 {
        let mark = fs::read(self.dir.path().join("durable")).expect("read");
        number(&mark, 16).max(number(&mark, SECTOR + 16))
    }

    fn take(&mut self, step: &Step) -> TestCaseResult {
        match *step {
            Step::Append { entries, bytes } => {
                let new: Vec<_> = (0..entries).map(|_| self.push(bytes)).collect();
                self.log().append(&new).expect("appended");
                self.see_mark();
                let left = self.log().durable_version();
                prop_assert!(
                    self.active_after() <= left,
                    "a segment was left before it was synced"
                );
            }
            Step::Sync => {
                self.log().sync().expect("synced");
                self.all_synced();
            }
            Step::Checkpoint { before } => {
                let version = (self.durable as u64).saturating_sub(before);
                if version > self.checkpoint {
                    let position = self.position(version);
                    write_checkpoint(&self.cells, position, []).expect("written");
                    (self.checkpoint, self.table) = (version, Vec::new());
                }
            }
            Step::Release => {
                let version = self.checkpoint;
                self.log().truncate_before(version, 0).expect("truncated");
            }
            Step::Cut { entries } => {
                let start = self.log().start().version.max(self.checkpoint);
                let version = (self.entries.len() as u64).saturating_sub(entries).max(start);
                self.log().truncate_after(version).expect("cut");
                self.entries.truncate(version as usize);
                self.life = self.life.wrapping_add(0x20);
                prop_assert!(self.marked() <= version, "an older mark would make this a loss");
                self.marks.clear();
                self.all_synced();
            }
            Step::Install { distance, epoch } => self.install(distance, epoch)?,
            Step::PowerCut { seed } => {
                self.log = None;
                self.lose_sectors(seed);
                self.recover()?;
            }
            Step::Die => {
                self.log = None;
                self.durable = self.entries.len();
                self.recover()?;
            }
        }
        Ok(())
    }

    fn install(&mut self, distance: i64, epoch: u64) -> TestCaseResult {
        let version = (self.entries.len() as u64).saturating_add_signed(distance).max(1);
        (self.life, self.epoch) = (self.life.wrapping_add(0x20), epoch);
        self.entries.clear();
        (0..version).for_each(|_| drop(self.push(0)));
        (self.checkpoint, self.table) = (version, vec![cell(u64::from(self.life), 100)]);
        let (position, table) = (self.position(version), self.table.clone());
        let cells = self.cells.clone();
        install(self.log(), &cells, position, table).expect("installed");
        prop_assert_eq!(self.log().end(), position);
        prop_assert!(self.marked() <= version, "an older mark would make this a loss");
        self.marks.clear();
        self.all_synced();
        Ok(())
    }

    /// Puts back any sectors of the active segment as they were, and any mark.
    fn lose_sectors(&mut self, seed: u64) {
        let mut chance = Chance(seed | 1);
        let Some((name, mut now)) = self.segments().pop_last() else { return };
        let before = self.synced.get(&name).cloned().unwrap_or_else(|| {
            let mut header = now[..HEADER].to_vec();
            header.resize(now.len(), 0);
            header
        });
        for (now, before) in now.chunks_mut(SECTOR).zip(before.chunks(SECTOR)) {
            if now != before && chance.flip() {
                now.copy_from_slice(before);
            }
        }
        fs::write(self.dir.path().join(name), now).expect("written");
        let mark = chance.below(self.marks.len());
        fs::write(self.dir.path().join("durable"), &self.marks[mark]).expect("written");
    }

    /// What comes back is what was appended, at least as far as it was durable.
    fn recover(&mut self) -> TestCaseResult {
        let recovered = storage::open(self.dir.path(), &SMALL);
        let recovered = recovered.map_err(|e| TestCaseError::fail(e.to_string()))?;
        let end = recovered.log.end().version as usize;
        prop_assert!(end >= self.durable, "{end} came back, {} were durable", self.durable);
        prop_assert!(end <= self.entries.len());
        self.entries.truncate(end);
        let from = recovered.checkpoint.as_ref().map(|c| c.position).unwrap_or_default();
        prop_assert_eq!(from, self.position(self.checkpoint));
        let table = if self.checkpoint == 0 { Vec::new() } else { items(&recovered) };
        prop_assert!(table == self.table, "another table came back");
        let found: Vec<_> = recovered.entries.map(|e| e.expect("whole")).collect();
        prop_assert!(found == self.entries[from.version as usize..], "other entries came back");
        (self.log, self.cells) = (Some(recovered.log), recovered.cells);
        self.life = self.life.wrapping_add(0x20);
        self.all_synced();
        Ok(())
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

fn cases() -> u32 {
    if crate::harness::long() { 20_000 } else { 100 }
}

/// A small random number generator: the same seed, the same numbers.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 16
    }

    fn flip(&mut self) -> bool {
        self.next().is_multiple_of(2)
    }

    fn below(&mut self, n: usize) -> usize {
        self.next() as usize % n
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn a_tablet_is_its_model_whatever_happens(steps in prop::collection::vec(step(), 1..60)) {
        let mut model = Model::new();
        for step in &steps {
            model.take(step)?;
        }
        model.take(&Step::Die)?;
    }
}
