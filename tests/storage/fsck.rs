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
        let mut log = open(&tablet).log;
        (1..=5).for_each(|version| append(&mut log, &[entry(version, 50)]));
        storage::write_checkpoint(&tablet, at(3), [cell(1, 10)]).expect("written");
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
        said.contains("a-s0: whole; epoch 1, checkpoint of version 3 (1 items), log from 0 to 5")
    );
    assert!(said.ends_with("2 tablets, all whole\n"), "{said}");
    assert_eq!(check(&dir.path().join("a1")).0, Ok(()));
}

#[test]
fn damage_of_any_file_is_named() {
    let files = ["log-0000000000000001", "checkpoint-0000000000000003", "epoch"];
    for (file, byte) in files.into_iter().zip([HEADER + 50, 20, 30]) {
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
fn a_running_node_and_a_foreign_directory_are_refused() {
    let dir = cluster();
    let held = DataDir::open_or_create(&dir.path().join("a1")).expect("opened");
    assert!(matches!(check(dir.path()).0, Err(Error::Config(why)) if why.contains("in use")));
    drop(held);
    let foreign = scratch();
    let (result, _) = check(foreign.path());
    assert!(matches!(result, Err(Error::Config(why)) if why.contains("no data directory")));
}
