//! Reading in the background: damage of what lies on disk is found, and nothing else is taken for it.

use super::*;
use penncloud::error::Error;
use penncloud::storage::scrub;
use std::sync::atomic::{AtomicBool, Ordering};

/// Entries in several closed segments and an active one, after a checkpoint.
fn tablet() -> TempDir {
    let dir = scratch();
    let Recovered { mut log, cells, .. } = open(dir.path());
    (1..=60).for_each(|version| append(&mut log, &[entry(version, 1000)]));
    let items = (0..300).map(|n| cell(n, 700)).chain([cell(300, 50_000)]);
    write_checkpoint(&cells, at(20), items).expect("written");
    log.truncate_before(20, 0).expect("truncated");
    dir
}

fn damage_at(path: &Path, byte: usize) {
    change(path, |bytes| bytes[byte] ^= 0x20);
}

fn found(dir: &Path) -> Result<(), Error> {
    scrub(dir, |_| {})
}

/// The closed segments, oldest first; the active one.
fn segments(dir: &Path) -> (Vec<PathBuf>, PathBuf) {
    let mut all: Vec<_> = names(dir, "log-").into_iter().map(|name| dir.join(name)).collect();
    let active = all.pop().expect("a log has an active segment");
    (all, active)
}

#[test]
fn whole_files_are_read_whole() {
    let dir = tablet();
    let mut bytes = 0;
    scrub(dir.path(), |n| bytes += n).expect("whole");
    let len = |name: &String| fs::metadata(dir.path().join(name)).expect("there").len();
    let files = ["checkpoint-", "run-", "values-"].map(|start| names(dir.path(), start)).concat();
    assert_eq!(files.len(), 3);
    let checkpoint: u64 = files.iter().map(len).sum();
    let (closed, _) = segments(dir.path());
    assert!(closed.len() > 2);
    let closed: u64 = closed.iter().map(|path| fs::metadata(path).expect("there").len()).sum();
    let rest = checkpoint + closed - bytes;
    assert!(rest < 4096, "index, filter and footer of the run aside, but {rest} bytes");
}

#[test]
fn damage_anywhere_in_a_checkpoint_is_found() {
    let dir = tablet();
    for name in ["checkpoint-0000000000000014", "run-0000000000000001", "values-0000000000000002"] {
        let path = dir.path().join(name);
        let len = fs::metadata(&path).expect("there").len() as usize;
        for byte in (0..len).step_by(997).chain([len - 1]) {
            damage_at(&path, byte);
            let why = found(dir.path()).expect_err("damaged").to_string();
            assert!(why.contains(name), "byte {byte}: {why}");
            damage_at(&path, byte);
        }
        let aside = path.with_extension("aside");
        fs::rename(&path, &aside).expect("moved");
        assert!(found(dir.path()).is_err() || name.starts_with("checkpoint"), "{name} is missing");
        fs::rename(&aside, &path).expect("moved");
    }
    found(dir.path()).expect("whole again");
}

#[test]
fn damage_of_a_record_in_a_closed_segment_is_found() {
    let dir = tablet();
    let (closed, _) = segments(dir.path());
    for path in &closed {
        for byte in [0, 20, HEADER, HEADER + 40, HEADER + record_bytes(&entry(1, 1000)) + 100] {
            damage_at(path, byte);
            assert!(matches!(found(dir.path()), Err(Error::Corrupt(_))), "{path:?} byte {byte}");
            damage_at(path, byte);
        }
    }
    found(dir.path()).expect("whole again");
}

#[test]
fn what_is_not_needed_and_what_is_still_written_is_not_looked_at() {
    let dir = tablet();
    let (_, active) = segments(dir.path());
    damage_at(&active, HEADER + 40);
    found(dir.path()).expect("the active segment is the opening's");
    damage_at(&active, HEADER + 40);
    write_checkpoint(&open(dir.path()).cells, at(60), [cell(1, 10)]).expect("written");
    segments(dir.path()).0.iter().for_each(|path| damage_at(path, HEADER + 40));
    found(dir.path()).expect("the checkpoint covers them");
}

#[test]
fn what_a_cut_has_made_void_is_no_damage() {
    let dir = tablet();
    let mut log = open(dir.path()).log;
    log.truncate_after(40).expect("cut");
    (41..=60).for_each(|version| append(&mut log, &[entry_of(7, version, 1000)]));
    found(dir.path()).expect("whole");
}

#[test]
fn files_that_go_while_they_are_read_are_no_damage() {
    let dir = scratch();
    let Recovered { mut log, cells, .. } = open(dir.path());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let scrubs = scope.spawn(|| {
            let mut scrubs = 0;
            while !over.load(Ordering::Relaxed) {
                found(dir.path()).expect("all is whole all the time");
                scrubs += 1;
            }
            scrubs
        });
        for version in 1..=3000 {
            append(&mut log, &[entry(version, 1000)]);
            if version % 50 == 0 {
                let items = (0..50).map(|n| cell(n, 700));
                write_checkpoint(&cells, at(version), items).expect("written");
                log.truncate_before(version, 0).expect("truncated");
            }
        }
        over.store(true, Ordering::Relaxed);
        assert!(scrubs.join().expect("it is no damage") > 10);
    });
}
