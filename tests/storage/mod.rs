//! Storage as its users see it, and as a crash or a bad disk leaves it.

mod cells;
mod checkpoints;
mod codec;
mod crashes;
mod damage;
mod fsck;
mod full;
mod installs;
mod model;
mod scripts;
mod scrub;

use penncloud::error::Result;
use penncloud::protocol::cell::{Cell, Key, Value};
use penncloud::protocol::entry::{Answer, Effect, Encode, Entry, Item};
use penncloud::protocol::kept::{Held, Kept, Lower, Totals};
use penncloud::storage::{
    self, Cache, Checkpointer, Log, Options, Position, Received, Recovered, Runs,
};
use std::fs;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use tempfile::TempDir;

/// Small segments: rolls are frequent.
static SMALL: LazyLock<Options> = LazyLock::new(|| options(16 << 10));

fn options(segment_bytes: u64) -> Options {
    Options { segment_bytes, cache: Arc::new(Cache::new(1 << 20)) }
}

/// Bytes before the first record of a segment.
const HEADER: usize = 4096;

/// A directory in memory where there is one: these tests sync thousands of times.
fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory")
}

/// The entry of a version that writes one cell of so many bytes; `life` tells apart what is written twice.
fn entry_of(life: u8, version: u64, bytes: usize) -> Entry {
    let value = Value::Inline(vec![version as u8 ^ life; bytes].into());
    let key = Key::new(b"alice", version.to_string().as_bytes());
    Entry {
        epoch: 1,
        version,
        prev_epoch: u64::from(version > 1),
        retire: 0,
        request: None,
        answer: Answer { version, words: vec![] },
        effects: vec![Effect::Put { key, value, expires: 0 }],
    }
}

fn entry(version: u64, bytes: usize) -> Entry {
    entry_of(0, version, bytes)
}

fn cell(number: u64, bytes: usize) -> Item {
    let key = Key::new(b"alice", format!("{number:06}").as_bytes());
    let value = Value::Inline(vec![number as u8; bytes].into());
    Item::Cell(key, Cell { version: number, expires: 0, value })
}

/// Bytes of an entry's record in a segment, as the format says.
fn record_bytes(entry: &Entry) -> usize {
    (32 + entry.to_bytes().len()).next_multiple_of(8)
}

fn at(version: u64) -> Position {
    Position { epoch: 1, version }
}

fn open(dir: &Path) -> Recovered {
    storage::open(dir, &SMALL).expect("the tablet opens")
}

fn append(log: &mut Log, entries: &[Entry]) {
    log.append(entries).expect("appended");
    log.sync().expect("synced");
}

fn entries(recovered: Recovered) -> Vec<Entry> {
    recovered.entries.map(|entry| entry.expect("whole")).collect()
}

fn versions(dir: &Path) -> Vec<u64> {
    entries(open(dir)).iter().map(|entry| entry.version).collect()
}

/// The items of the checkpoint, cells first.
fn items(recovered: &Recovered) -> Vec<Item> {
    let checkpoint = recovered.checkpoint.as_ref().expect("there is a checkpoint");
    let cells = all_cells(&recovered.cells.runs()).expect("whole");
    assert_eq!(checkpoint.totals.cells, cells.len() as u64);
    let cells = cells.into_iter().map(|(key, cell)| Item::Cell(key, cell));
    cells.chain(checkpoint.items.iter().cloned()).collect()
}

fn all_cells(runs: &Runs) -> Result<Vec<(Key, Cell)>> {
    let range = runs.range(Bound::Unbounded, Bound::Unbounded, false);
    range.map(|cell| cell.and_then(|(key, kept)| Ok((key, kept.load()?)))).collect()
}

/// A cell as it is given to be kept.
fn kept(cell: Cell) -> Kept {
    let Cell { version, expires, value } = cell;
    Kept { version, expires, hash: version * 3, value: Held::Here(value) }
}

/// The cells of a table, received, and its other items.
fn receive(
    cells: &Checkpointer,
    items: impl IntoIterator<Item = Item>,
) -> Result<(Received, Totals, Vec<Item>)> {
    let (mut receiver, mut totals, mut others) = (cells.receive(), Totals::default(), Vec::new());
    for item in items {
        match item {
            Item::Cell(key, cell) => {
                receiver.add(key, kept(cell))?;
                totals.cells += 1;
            }
            other => others.push(other),
        }
    }
    Ok((receiver.finish()?, totals, others))
}

/// Publishes a checkpoint of a whole table.
fn write_checkpoint(
    cells: &Checkpointer,
    position: Position,
    items: impl IntoIterator<Item = Item>,
) -> Result<Arc<Runs>> {
    let (received, totals, others) = receive(cells, items)?;
    cells.replace(position, totals, &received, others.into_iter())
}

/// Installs a whole table.
fn install(
    log: &mut Log,
    cells: &Checkpointer,
    position: Position,
    items: impl IntoIterator<Item = Item>,
) -> Result<Arc<Runs>> {
    let (received, totals, others) = receive(cells, items)?;
    log.install(cells, position, totals, &received, others.into_iter())
}

fn checkpoint(dir: &Path, version: u64) -> PathBuf {
    dir.join(format!("checkpoint-{version:016x}"))
}

/// The only segment, or the one of this number.
fn segment(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("log-{number:016x}"))
}

/// Names of the files that begin like this, sorted.
fn names(dir: &Path, start: &str) -> Vec<String> {
    let name = |e: fs::DirEntry| e.file_name().into_string().expect("ASCII");
    let all = fs::read_dir(dir).expect("listed").map(|e| name(e.expect("listed")));
    let mut names: Vec<_> = all.filter(|name| name.starts_with(start)).collect();
    names.sort();
    names
}

/// Every file of a directory, as a crash at this moment leaves it. A spare may be renamed meanwhile by the thread
/// that makes it: then the moment is taken again.
fn snapshot(dir: &Path) -> TempDir {
    for _ in 0..100 {
        let copy = scratch();
        let copied = |name: &String| fs::copy(dir.join(name), copy.path().join(name)).map(drop);
        match names(dir, "").iter().try_for_each(copied) {
            Ok(()) => return copy,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => panic!("{}: {e}", dir.display()),
        }
    }
    panic!("{} does not come to rest", dir.display())
}

/// Changes a file in place.
fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("read");
    change(&mut bytes);
    fs::write(path, bytes).expect("written");
}
