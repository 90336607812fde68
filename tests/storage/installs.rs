//! Another replica's table takes the place of all that a tablet held, whenever a crash comes.

use super::*;
use penncloud::error::Error;
use std::collections::{BTreeMap, BTreeSet};

/// Files by name, with their bytes.
type Files = BTreeMap<String, Vec<u8>>;

/// What lies in a tablet's directory.
fn files(dir: &Path) -> Files {
    let read = |name: String| (name.clone(), fs::read(dir.join(name)).expect("read"));
    names(dir, "").into_iter().map(read).collect()
}

/// The runs and value files.
fn cell_files(dir: &Path) -> Files {
    let mut all = files(dir);
    all.retain(|name, _| name.starts_with("run-") || name.starts_with("values-"));
    all
}

fn put(files: &Files) -> TempDir {
    let dir = scratch();
    files.iter().for_each(|(name, bytes)| fs::write(dir.path().join(name), bytes).expect("put"));
    dir
}

fn old_table() -> Vec<Item> {
    (0..10).map(|n| cell(n, 10)).chain([cell(10, 20_000), Item::Evicted(1)]).collect()
}

fn new_table() -> Vec<Item> {
    (5..25).map(|n| cell(n, 300)).chain([cell(25, 30_000), Item::Evicted(2)]).collect()
}

/// A tablet of 20 entries in two segments, with a checkpoint. No thread makes a spare any more.
fn tablet() -> (TempDir, Log, Arc<Checkpointer>) {
    let dir = scratch();
    let Recovered { mut log, cells, .. } = open(dir.path());
    (1..=20).for_each(|version| append(&mut log, &[entry(version, 1000)]));
    drop(log);
    write_checkpoint(&cells, at(15), old_table()).expect("written");
    let Recovered { log, cells, .. } = open(dir.path());
    (dir, log, cells)
}

/// Positions before, at and after everything in the tablet, in its own epoch and in others.
fn positions() -> impl Iterator<Item = Position> {
    let versions = [1, 10, 15, 18, 20, 21, 1000];
    versions.into_iter().flat_map(|v| [1, 2, 7].map(|epoch| Position { epoch, version: v }))
}

/// The entry that goes on from a position.
fn next(position: Position) -> Entry {
    let Position { epoch, version } = position;
    Entry { epoch: epoch + 1, prev_epoch: epoch, ..entry_of(0x80, version + 1, 20) }
}

/// The table is there and nothing else, and the log goes on from its position.
fn assert_installed(dir: &Path, position: Position, state: &str) {
    let recovered = storage::open(dir, &SMALL).unwrap_or_else(|e| panic!("{state}: {e}"));
    let found = recovered.checkpoint.as_ref().expect("a checkpoint").position;
    assert_eq!(found, position, "{state}");
    assert!(items(&recovered) == new_table(), "{state}");
    assert_eq!(recovered.entries.count(), 0, "{state}");
    let mut log = recovered.log;
    assert_eq!((log.end(), log.durable_version()), (position, position.version), "{state}");
    append(&mut log, &[next(position)]);
    drop(log);
    assert_eq!(entries(open(dir)), [next(position)], "{state}");
    assert_eq!(names(dir, "checkpoint").len(), 1, "{state}");
    assert_eq!(names(dir, "install").len(), 0, "{state}");
}

#[test]
fn an_installed_table_is_all_that_is_left() {
    for position in positions() {
        let (dir, mut log, cells) = tablet();
        let before = log.grown_bytes();
        let runs = install(&mut log, &cells, position, new_table()).expect("installed");
        assert!(Arc::ptr_eq(&runs, &cells.runs()));
        assert_eq!((log.start(), log.end()), (position, position));
        assert_eq!(log.position_of(position.version), Ok(position));
        assert!(log.grown_bytes() >= before);
        assert_installed(snapshot(dir.path()).path(), position, "right after");
        append(&mut log, &[next(position)]);
        assert!(log.entries_after(position.version).expect("there").eq([Ok(next(position))]));
        drop(log);
        assert_eq!(entries(open(dir.path())), [next(position)]);
    }
}

#[test]
fn what_was_appended_and_not_synced_goes_too() {
    for position in positions() {
        let (dir, mut log, cells) = tablet();
        log.append([entry(21, 1000), entry(22, 20_000)]).expect("appended");
        install(&mut log, &cells, position, new_table()).expect("installed");
        drop(log);
        assert_installed(dir.path(), position, "at once");
    }
}

/// What a crash finds before the table has its name: whole, half, or not written at all.
#[test]
fn before_a_table_has_its_name_a_crash_leaves_the_old_state() {
    for position in positions() {
        let (dir, mut log, cells) = tablet();
        let mut states = vec![snapshot(dir.path())];
        let watched = new_table().into_iter().enumerate().map(|(n, item)| {
            if n % 7 == 0 {
                states.push(snapshot(dir.path()));
            }
            item
        });
        install(&mut log, &cells, position, watched).expect("installed");
        let mut whole = files(states[0].path());
        whole.extend(cell_files(dir.path()));
        states.push(put(&whole));
        let installed = names(dir.path(), "checkpoint").remove(0);
        let table = fs::read(dir.path().join(&installed)).expect("read");
        whole.insert(installed.replace("checkpoint", "install") + ".tmp", table);
        states.push(put(&whole));
        assert_eq!(states.len(), 7);
        for state in &states {
            let recovered = open(state.path());
            assert!(items(&recovered) == old_table());
            assert_eq!(recovered.log.end(), at(20));
            assert!(entries(recovered).iter().map(|e| e.version).eq(16..=20));
            assert_eq!(names(state.path(), "install").len(), 0);
            assert_eq!(cell_files(state.path()).len(), 2, "what nothing names is removed");
        }
    }
}

/// From then on the table counts alone. Whichever of the steps after it the disk has seen, in whichever order,
/// each other file is as it was, or as it is at the end, or gone.
#[test]
fn after_a_table_has_its_name_a_crash_leaves_the_new_state() {
    for position in [10, 18, 20, 1000].map(|version| Position { epoch: 2, version }) {
        let (dir, mut log, cells) = tablet();
        let before = files(dir.path());
        install(&mut log, &cells, position, new_table()).expect("installed");
        drop(log);
        let mut after = files(dir.path());
        let name = format!("{:016x}", position.version);
        let table = after.remove(&format!("checkpoint-{name}")).expect("there");
        let new = cell_files(dir.path());
        after.retain(|name, _| !new.contains_key(name));
        let changed: BTreeSet<_> =
            before.keys().chain(after.keys()).filter(|n| before.get(*n) != after.get(*n)).collect();
        assert!(changed.len() >= 6, "{changed:?}");
        let fates = |name: &String| {
            let fates = BTreeSet::from([before.get(name), after.get(name), None]);
            fates.into_iter().collect::<Vec<_>>()
        };
        let changed: Vec<_> = changed.into_iter().map(|name| (name, fates(name))).collect();
        for choice in 0..changed.iter().map(|(_, fates)| fates.len()).product() {
            let mut state = before.clone();
            state.insert(format!("install-{name}"), table.clone());
            state.extend(new.clone());
            let mut left: usize = choice;
            for (name, fates) in &changed {
                match fates[left % fates.len()] {
                    Some(bytes) => state.insert((*name).clone(), bytes.clone()),
                    None => state.remove(*name),
                };
                left /= fates.len();
            }
            assert_installed(put(&state).path(), position, &format!("{position:?} {choice}"));
        }
    }
}

/// The last step of an opening that goes on with an installation: nothing but the table is left.
#[test]
fn a_table_that_an_opening_has_just_installed_is_enough() {
    let position = Position { epoch: 2, version: 20 };
    let (dir, mut log, cells) = tablet();
    install(&mut log, &cells, position, new_table()).expect("installed");
    drop(log);
    let mut state = files(dir.path());
    state.retain(|name, _| !name.starts_with("log") && name != "durable");
    assert_installed(put(&state).path(), position, "the table alone");
}

#[test]
fn a_table_that_cannot_be_written_changes_nothing() {
    let (dir, mut log, cells) = tablet();
    let before = files(dir.path());
    fs::create_dir(dir.path().join("install-0000000000000032.tmp")).expect("made");
    install(&mut log, &cells, at(50), new_table()).expect_err("a directory is in the way");
    fs::remove_dir(dir.path().join("install-0000000000000032.tmp")).expect("removed");
    assert!(files(dir.path()) == before);
    append(&mut log, &[entry(21, 10)]);
    install(&mut log, &cells, at(50), new_table()).expect("installed");
    drop(log);
    assert_installed(dir.path(), at(50), "later");
}

#[test]
fn a_damaged_table_is_said_and_nothing_is_removed() {
    let (dir, mut log, cells) = tablet();
    let mut state = files(dir.path());
    install(&mut log, &cells, at(12), new_table()).expect("installed");
    let table = fs::read(checkpoint(dir.path(), 12)).expect("read");
    state.extend(cell_files(dir.path()));
    state.insert("install-000000000000000c".into(), table);
    state
        .entry("install-000000000000000c".into())
        .and_modify(|bytes| *bytes.last_mut().unwrap() ^= 1);
    let state_dir = put(&state);
    let opened = storage::open(state_dir.path(), &SMALL);
    assert!(matches!(opened, Err(Error::Corrupt(why)) if why.contains("install-000000000000000c")));
    assert!(files(state_dir.path()) == state);
}

#[test]
fn an_inspection_sees_the_table_that_is_being_installed_alone() {
    let (dir, mut log, cells) = tablet();
    let mut state = files(dir.path());
    install(&mut log, &cells, at(12), new_table()).expect("installed");
    let table = fs::read(checkpoint(dir.path(), 12)).expect("read");
    state.extend(cell_files(dir.path()));
    state.insert("install-000000000000000c".into(), table);
    let dir = put(&state);
    let found = storage::inspect(dir.path()).expect("inspected");
    assert!(found.damage().is_empty() && found.installing);
    assert_eq!(found.checkpoint().expect("there").position, at(12));
    assert_eq!(found.log.expect("whole").end, at(12));
    assert!(files(dir.path()) == state);
}
