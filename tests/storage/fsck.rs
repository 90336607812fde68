//! `penncloud fsck` tells a whole directory from a damaged one, and changes neither.

use super::*;
use penncloud::error::{Error, Result};
use penncloud::storage::{DataDir, TabletConfig};
use penncloud::tools::fsck;

/// A cluster of one node with two tablets.
fn cluster() -> TempDir {
    let dir = scratch();
    let node = DataDir::open_or_create(&dir.path().join("a1")).expect("created");
    for name in ["a-s0", "a-s1"] {
        let tablet = node.tablet(name);
        let config = TabletConfig { epoch: 1, primary: "a1".into(), ..TabletConfig::default() };
        config.store(&tablet).expect("stored");
        let Recovered { mut log, cells, .. } = open(&tablet);
        (1..=5).for_each(|version| append(&mut log, &[entry(version, 50)]));
        write_checkpoint(&cells, at(3), [cell(1, 10), cell(2, 20_000), Item::Evicted(1)])
            .expect("written");
    }
    dir
}

fn check(dir: &Path) -> (Result<()>, String) {
    let mut said = Vec::new();
    let result = fsck::run(dir, &mut said);
    (result, String::from_utf8(said).expect("text"))
}

#[test]
fn a_whole_cluster_passes() {
    let dir = cluster();
    let (result, said) = check(dir.path());
    assert_eq!(result, Ok(()), "{said}");
    assert!(
        said.contains(
            "a-s0: whole; epoch 1, checkpoint of version 3 (2 cells in 1 runs, 0 KiB, and 1 files of values, 19 KiB; \
             1 other items), log from 0 to 5"
        )
    );
    assert!(said.ends_with("2 tablets, all whole\n"), "{said}");
    assert_eq!(check(&dir.path().join("a1")).0, Ok(()));
}

#[test]
fn damage_of_any_file_is_named() {
    let files = [
        ("log-0000000000000001", HEADER + 50),
        ("checkpoint-0000000000000003", 20),
        ("run-0000000000000001", 20),
        ("values-0000000000000002", 20),
        ("epoch", 30),
    ];
    for (file, byte) in files {
        let dir = cluster();
        let path = dir.path().join("a1/tablets/a-s1").join(file);
        change(&path, |bytes| bytes[byte] ^= 1);
        let before = fs::read(&path).expect("read");
        let (result, said) = check(dir.path());
        assert_eq!(result, Err(Error::Corrupt("1 of 2 tablets are damaged".into())), "{said}");
        assert!(
            said.contains("a-s1: DAMAGED") && said.contains(&format!("{file} at byte")),
            "{said}"
        );
        assert!(fs::read(&path).expect("read") == before);
    }
}

#[test]
fn a_torn_tail_is_no_damage_and_stays_for_the_next_start_to_cut() {
    let dir = cluster();
    let tablet = dir.path().join("a1/tablets/a-s0");
    let mut log = open(&tablet).log;
    log.append(&[entry(6, 50), entry(7, 50)]).expect("appended");
    drop(log);
    let at = HEADER + (1..=5).map(|v| record_bytes(&entry(v, 50))).sum::<usize>();
    change(&segment(&tablet, 1), |bytes| bytes[at + 50] ^= 1);
    for _ in 0..2 {
        let (result, said) = check(dir.path());
        assert_eq!(result, Ok(()), "{said}");
        assert!(said.contains("a write that was never acknowledged"), "{said}");
    }
}

#[test]
fn a_damaged_tablet_that_was_set_aside_is_begun_anew() {
    let dir = cluster();
    let node = DataDir::open_or_create(&dir.path().join("a1")).expect("opened");
    let tablet = node.tablet("a-s0");
    let config = TabletConfig::load(&tablet);
    change(&segment(&tablet, 1), |bytes| bytes[HEADER + 50] ^= 1);
    let damaged = fs::read(segment(&tablet, 1)).expect("read");
    let copy = node.set_aside("a-s0").expect("set aside");
    assert_eq!(copy, dir.path().join("a1/tablets-damaged/a-s0-1"));
    assert!(fs::read(segment(&copy, 1)).expect("moved") == damaged);
    assert_eq!(TabletConfig::load(&tablet), config, "what was sealed stays sealed");
    assert_eq!(open(&tablet).log.end(), Position::default());
    assert_eq!(node.tablets().expect("listed"), ["a-s0", "a-s1"]);
    drop(node);
    let (result, said) = check(dir.path());
    assert_eq!(result, Ok(()), "{said}");
    assert!(said.contains("tablets-damaged/a-s0-1: set aside"), "{said}");
}

#[test]
fn of_the_tablets_set_aside_the_newest_three_stay() {
    let dir = cluster();
    let node = DataDir::open_or_create(&dir.path().join("a1")).expect("opened");
    node.set_aside("a-s1").expect("set aside");
    node.set_aside("a-s0").expect("set aside");
    for n in 2..=12 {
        append(&mut open(&node.tablet("a-s0")).log, &[entry(1, n)]);
        node.set_aside("a-s0").expect("set aside");
    }
    assert_eq!(node.damaged().expect("listed"), ["a-s0-10", "a-s0-11", "a-s0-12", "a-s1-1"]);
    let kept = dir.path().join("a1/tablets-damaged/a-s0-11");
    assert_eq!(entries(open(&kept)), [entry(1, 11)]);
}

#[test]
fn a_damaged_epoch_does_not_keep_a_tablet_from_being_set_aside() {
    let dir = cluster();
    let node = DataDir::open_or_create(&dir.path().join("a1")).expect("opened");
    change(&node.tablet("a-s0").join("epoch"), |bytes| bytes[30] ^= 1);
    node.set_aside("a-s0").expect("set aside");
    assert_eq!(TabletConfig::load(&node.tablet("a-s0")), Ok(None));
    assert!(node.set_aside("a-s9").is_err(), "there is no such tablet");
}

#[test]
fn a_running_node_and_a_foreign_directory_are_refused() {
    let dir = cluster();
    let held = DataDir::open_or_create(&dir.path().join("a1")).expect("opened");
    assert!(matches!(check(dir.path()).0, Err(Error::Config(why)) if why.contains("in use")));
    drop(held);
    let foreign = scratch();
    let (result, _) = check(foreign.path());
    assert!(matches!(result, Err(Error::Config(why)) if why.contains("no data directory")));
}
