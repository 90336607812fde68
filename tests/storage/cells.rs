//! The cells below a table: what was flushed is read back, whatever is merged, installed or opened again.

use super::*;
use penncloud::error::Error;
use penncloud::storage::Merge;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use std::collections::BTreeMap;

/// What a tablet's cells are to be.
type Model = BTreeMap<Key, Cell>;

#[derive(Clone, Debug)]
enum Step {
    /// Writes a cell of so many bytes.
    Put { key: u8, bytes: usize },
    /// Removes a cell.
    Delete { key: u8 },
    /// Flushes what was written since the last time.
    Flush,
    /// Writes or removes one cell after another, with a flush for each, and does the merges that are due.
    FlushOften { first: u8, times: u8 },
    /// Does the merge that is due.
    Merge,
    /// Merges everything; what was written is flushed meanwhile.
    MergeAll { and_flush: bool },
    /// Takes a whole table of every nth key.
    Install { every: u8 },
    /// Opens the tablet anew.
    Reopen,
    /// Reads a range.
    Range { low: (u8, u8), high: (u8, u8), reverse: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = prop::sample::select(vec![0, 1, 100, 5000, 16_383, 16_384, 70_000]);
    let key = || 0..60u8;
    let bound = || (0..3u8, 0..61u8);
    prop_oneof![
        12 => (key(), bytes).prop_map(|(key, bytes)| Step::Put { key, bytes }),
        5 => key().prop_map(|key| Step::Delete { key }),
        8 => Just(Step::Flush),
        4 => (key(), 1..16u8).prop_map(|(first, times)| Step::FlushOften { first, times }),
        2 => Just(Step::Merge),
        1 => any::<bool>().prop_map(|and_flush| Step::MergeAll { and_flush }),
        1 => (2..9u8).prop_map(|every| Step::Install { every }),
        1 => Just(Step::Reopen),
        4 => (bound(), bound(), any::<bool>())
            .prop_map(|(low, high, reverse)| Step::Range { low, high, reverse }),
    ]
}

/// Keys of several rows, some of which are long.
fn key(n: u8) -> Key {
    let row = [b"alice".as_slice(), b"bob/files", &[b'r'; 900]][n as usize % 3];
    Key::new(row, format!("{:03}", n / 3).as_bytes())
}

fn bound((kind, n): (u8, u8)) -> Bound<Key> {
    match kind {
        0 => Bound::Included(key(n)),
        1 => Bound::Excluded(key(n)),
        _ => Bound::Unbounded,
    }
}

fn within(low: &Bound<Key>, high: &Bound<Key>, key: &Key) -> bool {
    let above = match low {
        Bound::Included(low) => key >= low,
        Bound::Excluded(low) => key > low,
        Bound::Unbounded => true,
    };
    above
        && match high {
            Bound::Included(high) => key <= high,
            Bound::Excluded(high) => key < high,
            Bound::Unbounded => true,
        }
}

struct Tablet {
    dir: TempDir,
    log: Log,
    cells: Arc<Checkpointer>,
    version: u64,
    /// What was written since the last flush.
    changes: BTreeMap<Key, Option<Cell>>,
    /// What was flushed.
    flushed: Model,
    /// What somebody reads still, and what they are to find.
    readers: Vec<(Arc<Runs>, Model)>,
}

impl Tablet {
    fn new() -> Tablet {
        let dir = scratch();
        let Recovered { log, cells, .. } = open(dir.path());
        let (changes, flushed, readers) = Default::default();
        Tablet { dir, log, cells, version: 0, changes, flushed, readers }
    }

    fn write(&mut self, key: Key, bytes: Option<usize>) {
        self.version += 1;
        let value = |bytes| Value::Inline(vec![self.version as u8; bytes].into());
        let version = self.version;
        let cell = bytes.map(|bytes| Cell { version, expires: version % 3, value: value(bytes) });
        self.changes.insert(key, cell);
    }

    fn flush(&mut self) {
        let changes = std::mem::take(&mut self.changes);
        for (key, cell) in &changes {
            match cell {
                Some(cell) => drop(self.flushed.insert(key.clone(), cell.clone())),
                None => drop(self.flushed.remove(key)),
            }
        }
        flush(&self.cells, self.version, &self.flushed, changes).expect("flushed");
    }

    fn take(&mut self, step: &Step) -> TestCaseResult {
        match *step {
            Step::Put { key: n, bytes } => self.write(key(n), Some(bytes)),
            Step::Delete { key: n } => self.write(key(n), None),
            Step::Flush => {
                self.flush();
                self.readers.push((self.cells.runs(), self.flushed.clone()));
                if self.readers.len() > 5 {
                    self.readers.remove(2);
                }
            }
            Step::FlushOften { first, times } => {
                for n in 0..times {
                    self.write(key((first + n * 7) % 60), (n % 2 == 0).then_some(n.into()));
                    self.flush();
                    self.take(&Step::Merge)?;
                }
            }
            Step::Merge => {
                if let Some(merge) = self.cells.merge_due(u64::MAX) {
                    self.cells.merge(merge, |_| {}).expect("merged").expect("nobody interferes");
                }
                prop_assert!(self.cells.merge_due(u64::MAX).is_none_or(|merge| merge.bytes() > 0));
            }
            Step::MergeAll { and_flush } => self.merge_all(and_flush)?,
            Step::Install { every } => self.install(every),
            Step::Reopen => self.reopen()?,
            Step::Range { low, high, reverse } => {
                let (low, high) = (bound(low), bound(high));
                let within = |(key, _): &(&Key, &Cell)| within(&low, &high, key);
                let mut expected: Vec<_> = self.flushed.iter().filter(within).collect();
                if reverse {
                    expected.reverse();
                }
                let runs = self.cells.runs();
                let mut found = Vec::new();
                for cell in runs.range(low.clone(), high.clone(), reverse) {
                    let (key, kept) = cell.expect("whole");
                    found.push((key, kept.load().expect("whole")));
                }
                prop_assert!(found.iter().map(|(k, c)| (k, c)).eq(expected), "{step:?}");
            }
        }
        Ok(())
    }

    fn merge_all(&mut self, and_flush: bool) -> TestCaseResult {
        let Some(merge) = self.cells.merge_all() else { return Ok(()) };
        let (cells, mut flushes) = (self.cells.clone(), usize::from(and_flush));
        let merged = cells.merge(merge, |_| {
            if flushes > 0 {
                flushes -= 1;
                self.flush();
            }
        });
        let runs = merged.expect("merged").expect("a flush does not interfere");
        prop_assert!(runs.count() <= 1 + usize::from(and_flush));
        Ok(())
    }

    fn install(&mut self, every: u8) {
        self.version += 5;
        let version = self.version;
        let value = Value::Inline(vec![every; 17_000].into());
        let cell = Cell { version, expires: 0, value };
        self.flushed = (0..60).step_by(every.into()).map(|n| (key(n), cell.clone())).collect();
        self.changes.clear();
        let items = self.flushed.iter().map(|(k, c)| Item::Cell(k.clone(), c.clone()));
        install(&mut self.log, &self.cells, at(version), items).expect("installed");
    }

    fn reopen(&mut self) -> TestCaseResult {
        let Recovered { log, cells, .. } = open(self.dir.path());
        (self.log, self.cells) = (log, cells);
        self.changes.clear();
        let found = self.cells.runs();
        let files = [names(self.dir.path(), "run-"), names(self.dir.path(), "values-")].concat();
        let len = |name: &String| fs::metadata(self.dir.path().join(name)).expect("there").len();
        prop_assert_eq!(files.iter().map(len).sum::<u64>(), found.bytes(), "nothing else is there");
        let inspection = storage::inspect(self.dir.path()).expect("inspected");
        prop_assert!(inspection.damage().is_empty(), "{:?}", inspection.damage());
        Ok(())
    }

    /// Whoever reads sees what there was when they began.
    fn check(&mut self) -> TestCaseResult {
        self.readers.push((self.cells.runs(), self.flushed.clone()));
        self.readers.dedup_by(|a, b| Arc::ptr_eq(&a.0, &b.0));
        for (runs, model) in &self.readers {
            let found: Model = all_cells(runs).expect("whole").into_iter().collect();
            prop_assert!(found == *model);
            for n in 0..60 {
                let cell =
                    runs.get(&key(n)).expect("whole").map(|kept| kept.load().expect("whole"));
                prop_assert!(cell.as_ref() == model.get(&key(n)), "cell {n}");
            }
        }
        prop_assert_eq!(self.cells.damage().take(), None);
        Ok(())
    }
}

/// Flushes changes that make this table.
fn flush(
    cells: &Checkpointer,
    version: u64,
    table: &Model,
    changes: BTreeMap<Key, Option<Cell>>,
) -> Result<Arc<Runs>> {
    let totals = Totals { cells: table.len() as u64, ..Totals::default() };
    let changes = changes.into_iter().map(|(key, cell)| Ok((key, cell.map(kept))));
    cells.flush(at(version), totals, changes, [Item::Evicted(version.into())].into_iter())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if crate::harness::long() { 5000 } else { 40 },
        ..ProptestConfig::default()
    })]

    #[test]
    fn cells_are_their_model_whatever_happens(steps in prop::collection::vec(step(), 1..120)) {
        let mut tablet = Tablet::new();
        for step in &steps {
            tablet.take(step)?;
        }
        tablet.check()?;
        tablet.reopen()?;
        tablet.check()?;
    }
}

/// The cells of a table by number, all of so many bytes.
fn table(numbers: impl Iterator<Item = u64>, bytes: usize) -> Model {
    let cell = |n| match cell(n, bytes) {
        Item::Cell(key, cell) => (key, cell),
        _ => unreachable!("it is a cell"),
    };
    numbers.map(cell).collect()
}

fn all_new(table: &Model) -> BTreeMap<Key, Option<Cell>> {
    table.iter().map(|(key, cell)| (key.clone(), Some(cell.clone()))).collect()
}

/// A tablet of three runs: numbers 0 to 30, 10 to 20 anew, and 15 to 25 removed.
fn three_runs(bytes: usize) -> (TempDir, Recovered, Model) {
    let dir = scratch();
    let recovered = open(dir.path());
    let mut whole = table(0..30, bytes);
    let cells = &recovered.cells;
    flush(cells, 1, &whole, all_new(&whole)).expect("flushed");
    let changed = table(10..20, bytes + 1);
    whole.extend(changed.clone());
    flush(cells, 2, &whole, all_new(&changed)).expect("flushed");
    let removed = table(15..25, 0).into_keys().map(|key| (key, None)).collect();
    whole.retain(|key, _| !table(15..25, 0).contains_key(key));
    flush(cells, 3, &whole, removed).expect("flushed");
    assert_eq!(cells.runs().count(), 3);
    (dir, recovered, whole)
}

fn merge_all(cells: &Checkpointer) -> Arc<Runs> {
    let merge = cells.merge_all().expect("there are runs");
    cells.merge(merge, |_| {}).expect("merged").expect("nobody interferes")
}

#[test]
fn a_merge_of_all_leaves_what_is_alive_and_nothing_else() {
    for bytes in [100, 20_000] {
        let (dir, recovered, whole) = three_runs(bytes);
        let before = recovered.cells.runs();
        let after = merge_all(&recovered.cells);
        let found = all_cells(&after).expect("whole");
        assert!(found == whole.into_iter().collect::<Vec<_>>());
        assert_eq!(after.count(), 1);
        assert_eq!(before.count(), 3, "whoever reads it has it still");
        assert!(all_cells(&before).expect("readable") == found);
        let names = [names(dir.path(), "run-"), names(dir.path(), "values-")].concat();
        assert_eq!(names.len(), 1 + usize::from(bytes > 16_384), "{names:?}");
        assert!(after.bytes() < 20 * (bytes as u64 + 200), "{} bytes are left", after.bytes());
    }
}

#[test]
fn values_are_not_rewritten_while_half_of_their_file_is_alive() {
    let dir = scratch();
    let cells = open(dir.path()).cells;
    let mut whole = table(0..10, 20_000);
    flush(&cells, 1, &whole, all_new(&whole)).expect("flushed");
    let remove = |whole: &mut Model, n: u64, version| {
        let key = table(n..n + 1, 0).into_keys().next().expect("one");
        whole.remove(&key);
        flush(&cells, version, whole, [(key, None)].into()).expect("flushed");
    };
    (0..4).for_each(|n| remove(&mut whole, n, n + 2));
    merge_all(&cells);
    assert_eq!(cells.written().values, 8 + 10 * 20_000, "written once");
    (4..6).for_each(|n| remove(&mut whole, n, n + 2));
    let after = merge_all(&cells);
    assert_eq!(cells.written().values, 8 + 10 * 20_000 + 8 + 4 * 20_000);
    assert_eq!(after.value_bytes(), 8 + 4 * 20_000);
    assert!(all_cells(&after).expect("whole") == whole.into_iter().collect::<Vec<_>>());
}

#[test]
fn garbage_makes_a_merge_due() {
    let dir = scratch();
    let cells = open(dir.path()).cells;
    let whole = table(0..100, 30_000);
    let live = 100 * 30_000;
    for version in 1..=2 {
        flush(&cells, version, &whole, all_new(&whole)).expect("flushed");
        assert!(cells.merge_due(live).is_none());
    }
    (3..=4).for_each(|version| {
        flush(&cells, version, &whole, all_new(&whole)).expect("flushed");
    });
    let merge = cells.merge_due(live).expect("more than twice of it is garbage");
    let runs = cells.merge(merge, |_| {}).expect("merged").expect("nobody interferes");
    assert!(runs.bytes() < live + 100 * 1000, "{} bytes are left", runs.bytes());
    assert!(cells.merge_due(live).is_none());
}

#[test]
fn a_merge_that_ends_after_an_installation_is_discarded() {
    let (dir, mut recovered, _) = three_runs(20_000);
    let (cells, log) = (recovered.cells.clone(), &mut recovered.log);
    let merge: Merge = cells.merge_all().expect("there are runs");
    let mut installed = false;
    let merged = cells.merge(merge, |_| {
        if !std::mem::replace(&mut installed, true) {
            install(log, &cells, at(9), [cell(7, 10)]).expect("installed");
        }
    });
    assert!(matches!(merged, Ok(None)));
    drop(recovered);
    assert_eq!(items(&open(dir.path())), [cell(7, 10)]);
    assert_eq!(names(dir.path(), "run-").len(), 1, "nothing is left of the merge");
    assert_eq!(names(dir.path(), "values-").len(), 0);
}

#[test]
fn a_flush_that_ends_after_an_installation_is_discarded() {
    let (dir, mut recovered, whole) = three_runs(20_000);
    let (cells, log) = (recovered.cells.clone(), &mut recovered.log);
    let (mut position, mut changes) = (Some(at(9)), all_new(&whole).into_iter());
    let changes = std::iter::from_fn(|| {
        if let Some(position) = position.take() {
            install(log, &cells, position, [cell(7, 10)]).expect("installed");
        }
        changes.next().map(|(key, cell)| Ok((key, cell.map(kept))))
    });
    let flushed = cells.flush(at(10), Totals::default(), changes, std::iter::empty());
    assert!(matches!(flushed, Err(Error::Retry(_))));
    let late = flush(&cells, 8, &whole, all_new(&whole));
    assert!(matches!(late, Err(Error::Retry(_))), "it is of a table that is gone");
    drop(recovered);
    assert_eq!(items(&open(dir.path())), [cell(7, 10)]);
    assert_eq!(names(dir.path(), "run-").len(), 1, "nothing is left of the flush");
}

#[test]
fn what_was_received_and_not_installed_goes() {
    let (dir, recovered, whole) = three_runs(20_000);
    let before = names(dir.path(), "");
    let (received, ..) =
        receive(&recovered.cells, (0..50).map(|n| cell(n, 20_000))).expect("taken");
    assert_eq!(all_cells(&received.runs).expect("readable").len(), 50);
    merge_all(&recovered.cells);
    assert_eq!(all_cells(&received.runs).expect("a merge leaves it alone").len(), 50);
    drop(received);
    assert!(names(dir.path(), "").len() < before.len());
    let mut receiver = recovered.cells.receive();
    receiver
        .add(Key::new(b"r", b"c"), kept(Cell::clone(whole.values().next().unwrap())))
        .expect("added");
    drop(receiver);
    assert_eq!(names(dir.path(), "run-").len(), 1);
    assert_eq!(storage::inspect(dir.path()).expect("inspected").leftovers, 0);
}

#[test]
fn the_cache_is_bounded_and_a_long_range_leaves_it_alone() {
    let dir = scratch();
    let cache = Arc::new(Cache::new(300 << 10));
    let options = Options { segment_bytes: 16 << 10, cache: cache.clone() };
    let cells = storage::open(dir.path(), &options).expect("opened").cells;
    let whole = table(0..3000, 1000);
    let runs = flush(&cells, 1, &whole, all_new(&whole)).expect("flushed");
    assert_eq!(cache.used(), 0);
    assert_eq!(all_cells(&runs).expect("whole").len(), 3000);
    let used = cache.used();
    assert!((1..100 << 10).contains(&used), "{used} bytes of a range");
    for key in whole.keys() {
        assert!(runs.get(key).expect("whole").is_some());
    }
    assert!((200 << 10..=300 << 10).contains(&cache.used()), "{} bytes", cache.used());
    flush(&cells, 2, &Model::new(), whole.keys().map(|key| (key.clone(), None)).collect())
        .expect("flushed");
    drop(runs);
    merge_all(&cells);
    assert_eq!(cache.used(), 0, "blocks of a run that is gone are not kept");
}

/// What is read says that it is damaged, or is right.
fn assert_right_or_damaged(runs: &Runs, whole: &Model, what: &str) {
    let is_right = |read: Result<Option<Cell>>, key: &Key| match read {
        Ok(found) => assert!(found.as_ref() == whole.get(key), "{what}: {key:?}"),
        Err(error) => assert!(matches!(error, Error::Corrupt(_)), "{what}: {error}"),
    };
    for key in table(0..31, 0).keys() {
        let read = runs.get(key).and_then(|kept| kept.map(|kept| kept.load()).transpose());
        is_right(read, key);
    }
    for reverse in [false, true] {
        let mut found: Vec<_> = Vec::new();
        for cell in runs.range(Bound::Unbounded, Bound::Unbounded, reverse) {
            match cell.and_then(|(key, kept)| Ok((key, kept.load()?))) {
                Ok((key, cell)) => found.push((key, cell)),
                Err(error) => {
                    return assert!(matches!(error, Error::Corrupt(_)), "{what}: {error}");
                }
            }
        }
        if reverse {
            found.reverse();
        }
        assert!(found.iter().map(|(k, c)| (k, c)).eq(whole), "{what}: another table");
    }
}

#[test]
fn a_changed_byte_of_any_run_is_never_read() {
    let (dir, recovered, whole) = three_runs(1500);
    drop(recovered);
    let files = [names(dir.path(), "checkpoint-"), names(dir.path(), "run-")].concat();
    let (mut opened, mut damaged) = (0, 0);
    let (sparse, dense, enough) = if crate::harness::long() { (19, 1, 300) } else { (97, 5, 60) };
    for name in &files {
        let path = dir.path().join(name);
        let len = fs::metadata(&path).expect("there").len() as usize;
        let end = len.saturating_sub(1500);
        for byte in (0..end).step_by(sparse).chain((end..len).step_by(dense)) {
            let files =
                files.iter().map(|name| (name, fs::read(dir.path().join(name)).expect("read")));
            let copy = scratch();
            files.for_each(|(name, bytes)| fs::write(copy.path().join(name), bytes).expect("put"));
            change(&copy.path().join(name), |bytes| bytes[byte] ^= 0x20);
            match storage::open(copy.path(), &SMALL) {
                Ok(found) if found.checkpoint.is_none() => damaged += 1,
                Ok(found) => {
                    opened += 1;
                    let what = format!("{name} byte {byte}");
                    assert_right_or_damaged(&found.cells.runs(), &whole, &what);
                }
                Err(Error::Corrupt(_)) => damaged += 1,
                Err(other) => panic!("{name} byte {byte}: {other}"),
            }
        }
    }
    assert!(opened > enough && damaged > enough, "{opened} opened, {damaged} damaged");
}

#[test]
fn a_changed_byte_of_any_value_is_never_read() {
    let dir = scratch();
    let cells = open(dir.path()).cells;
    let whole = table(0..2, 16_384);
    let runs = flush(&cells, 1, &whole, all_new(&whole)).expect("flushed");
    let path = dir.path().join(&names(dir.path(), "values-")[0]);
    let file = fs::File::options().read(true).write(true).open(&path).expect("opened");
    let mut damaged = 0;
    let step = if crate::harness::long() { 1 } else { 5 };
    for byte in (8..file.metadata().expect("there").len()).step_by(step) {
        use std::os::unix::fs::FileExt;
        let mut before = [0];
        file.read_exact_at(&mut before, byte).expect("read");
        file.write_all_at(&[before[0] ^ 4], byte).expect("written");
        for (key, cell) in &whole {
            match runs.get(key).expect("whole").expect("there").load() {
                Ok(found) => assert!(found == *cell, "byte {byte}"),
                Err(error) => {
                    damaged += 1;
                    assert_eq!(cells.damage().take(), Some(error));
                }
            }
        }
        file.write_all_at(&before, byte).expect("written");
    }
    assert_eq!(damaged, (2 * 16_384usize).div_ceil(step), "each byte is of one value");
}
