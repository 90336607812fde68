//! A disk that is full: nothing is harmed, what was there is whole, and everything goes on when there is room.

use super::*;
use crate::harness::{Disk, skipped};
use penncloud::error::Error;
use penncloud::storage::{Ballast, DataDir, TabletConfig};

/// Segments that fill up soon.
static OPTIONS: LazyLock<Options> = LazyLock::new(|| options(1 << 20));
/// Bytes of an entry's cell.
const BYTES: usize = 10_000;

/// A disk of 32 MiB with a directory on it, unless the machine has none to give.
fn disk(test: &str) -> Option<(Disk, PathBuf)> {
    let disk = Disk::new(32).map_err(|why| skipped(test, &why)).ok()?;
    disk.clear();
    let dir = disk.data();
    Some((disk, dir))
}

fn opened(dir: &Path) -> Recovered {
    storage::open(dir, &OPTIONS).expect("the tablet opens")
}

/// A log of some entries, synced; no thread makes a spare any more.
fn log_of(dir: &Path, versions: u64) -> Log {
    let mut log = opened(dir).log;
    (1..=versions).for_each(|version| append(&mut log, &[entry(version, BYTES)]));
    drop(log);
    opened(dir).log
}

/// Appends until the disk has no room for the next segment; the last version that was taken.
fn fill(log: &mut Log) -> u64 {
    for version in log.end().version + 1..10_000 {
        match log.append([entry(version, BYTES)]) {
            Ok(()) => log.sync().expect("what was taken is synced"),
            Err(why) => {
                assert_eq!(why, Error::NoSpace);
                return log.end().version;
            }
        }
    }
    panic!("the log does not come to its end");
}

#[test]
fn a_log_that_finds_no_room_for_a_segment_goes_on_when_there_is_some() {
    let Some((disk, dir)) = disk("a log on a full disk") else { return };
    let mut log = log_of(&dir, 3);
    disk.fill_up();
    let last = fill(&mut log);
    assert!(last > 3, "what has its segment needs no room");
    for _ in 0..3 {
        assert_eq!(log.append([entry(last + 1, BYTES)]), Err(Error::NoSpace));
        log.sync().expect("the log is whole");
    }
    assert!(versions_on(&dir).eq(1..=last));
    disk.relieve();
    append(&mut log, &[entry(last + 1, BYTES)]);
    drop(log);
    assert!(versions_on(&dir).eq(1..=last + 1));
}

/// Versions of the entries in a copy of a directory: its log goes on.
fn versions_on(dir: &Path) -> impl Iterator<Item = u64> {
    entries(opened(snapshot(dir).path())).into_iter().map(|entry| entry.version)
}

#[test]
fn where_a_whole_segment_has_no_room_a_smaller_one_does() {
    let Some((disk, dir)) = disk("a small segment on a full disk") else { return };
    let options = options(8 << 20);
    let mut log = storage::open(&dir, &options).expect("opened").log;
    log.append([entry(1, 1_500_000)]).expect("appended");
    log.sync().expect("synced");
    drop(log);
    let mut log = storage::open(&dir, &options).expect("opened").log;
    disk.fill(2);
    log.append([entry(2, 1_000_000)]).expect("there is room for a small segment");
    log.sync().expect("synced");
}

#[test]
fn a_cut_that_finds_no_room_is_made_when_there_is_some() {
    let Some((disk, dir)) = disk("a cut on a full disk") else { return };
    let mut log = log_of(&dir, 9);
    log.trim_spares().expect("trimmed");
    disk.fill_up();
    while log.truncate_after(5) == Ok(()) {
        append(&mut log, &(6..=9).map(|version| entry(version, BYTES)).collect::<Vec<_>>());
    }
    assert_eq!(log.truncate_after(5), Err(Error::NoSpace));
    disk.relieve();
    log.truncate_after(5).expect("cut");
    append(&mut log, &[entry_of(9, 6, BYTES)]);
    drop(log);
    let found = entries(opened(&dir));
    assert_eq!(found.len(), 6);
    assert_eq!(found[5], entry_of(9, 6, BYTES));
}

#[test]
fn a_checkpoint_and_a_table_that_find_no_room_leave_all_as_it_was() {
    let Some((disk, dir)) = disk("a table on a full disk") else { return };
    let table = || (0..100).map(|n| cell(n, BYTES));
    drop(log_of(&dir, 9));
    let Recovered { mut log, cells, .. } = opened(&dir);
    write_checkpoint(&cells, at(5), table()).expect("written");
    let before = all_cells(&cells.runs()).expect("whole");
    disk.fill_up();
    assert_eq!(write_checkpoint(&cells, at(9), table()).err(), Some(Error::NoSpace));
    let changes = before.iter().map(|(key, cell)| Ok((key.clone(), Some(kept(cell.clone())))));
    let flushed = cells.flush(at(9), Totals::default(), changes, std::iter::empty());
    assert_eq!(flushed.err(), Some(Error::NoSpace));
    let position = Position { epoch: 2, version: 20 };
    assert_eq!(install(&mut log, &cells, position, table()).err(), Some(Error::NoSpace));
    assert!(all_cells(&cells.runs()) == Ok(before));
    assert!(names(&dir, "").iter().all(|name| !name.ends_with("tmp")), "nothing is left of them");
    assert!(versions_on(&dir).eq(6..=9));
    append(&mut log, &[entry(10, 10)]);
    disk.relieve();
    install(&mut log, &cells, position, table()).expect("installed");
    drop((log, cells));
    assert_eq!(opened(&dir).checkpoint.expect("the table").position, position);
}

#[test]
fn a_tablet_opens_on_a_full_disk_and_goes_on_in_its_segment() {
    let Some((disk, dir)) = disk("a start on a full disk") else { return };
    drop(log_of(&dir, 9));
    disk.fill_up();
    let recovered = opened(&dir);
    let mut log = recovered.log;
    assert_eq!(recovered.entries.count(), 9);
    append(&mut log, &[entry(10, 10)]);
    drop(log);
    assert!(versions_on(&dir).eq(1..=10));
    assert!(matches!(storage::open(&dir.join("new"), &OPTIONS), Err(Error::NoSpace)));
    disk.relieve();
    storage::open(&dir.join("new"), &OPTIONS).expect("there is room");
}

#[test]
fn a_full_disk_keeps_the_configuration_and_the_ballast_makes_room_for_the_next() {
    let Some((disk, dir)) = disk("a ballast on a full disk") else { return };
    let data = DataDir::open_or_create(&dir).expect("made");
    let tablet = data.tablet("a-s0");
    let config = |epoch| TabletConfig { epoch, ..TabletConfig::default() };
    config(1).store(&tablet).expect("there is room");
    let ballast: Ballast = data.ballast(1 << 20);
    ballast.hold().expect("there is room");
    disk.fill_up();
    assert_eq!(config(2).store(&tablet), Err(Error::NoSpace));
    assert_eq!(TabletConfig::load(&tablet), Ok(Some(config(1))));
    assert_eq!(ballast.release(), Ok(true));
    config(2).store(&tablet).expect("in the room of the ballast");
    assert_eq!(TabletConfig::load(&tablet), Ok(Some(config(2))));
    disk.fill_up();
    assert_eq!(ballast.hold(), Err(Error::NoSpace));
    assert_eq!(ballast.held(), 0);
}
