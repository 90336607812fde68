//! A disk loses or changes what was synced: it is said, and nothing is cut.

use super::*;
use penncloud::error::Error;

/// Groups of a small log that was synced after each, and where its records end.
fn synced_log() -> (TempDir, Vec<Vec<Entry>>, usize) {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    let group = |versions: std::ops::RangeInclusive<u64>| versions.map(|v| entry(v, 30)).collect();
    let groups: Vec<Vec<Entry>> = vec![group(1..=2), group(3..=3), group(4..=6)];
    groups.iter().for_each(|group| append(&mut log, group));
    let end = HEADER + groups.iter().flatten().map(record_bytes).sum::<usize>();
    (dir, groups, end)
}

fn flipped(dir: &Path, byte: usize) -> TempDir {
    let copy = snapshot(dir);
    change(&segment(copy.path(), 1), |bytes| bytes[byte] ^= 0x10);
    copy
}

/// The entries, or `None` if the tablet says that it is damaged. Nothing is changed by saying so.
fn opened(dir: &Path) -> Option<Vec<Entry>> {
    let before = fs::read(segment(dir, 1)).expect("read");
    match storage::open(dir, &SMALL) {
        Ok(recovered) => Some(entries(recovered)),
        Err(Error::Corrupt(why)) => {
            assert!(why.contains("log-0000000000000001 at byte"), "{why}");
            assert!(fs::read(segment(dir, 1)).expect("read") == before, "damage is never cut");
            None
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_changed_byte_in_a_synced_record_is_never_taken_for_a_torn_tail() {
    let (dir, groups, end) = synced_log();
    let all = groups.concat();
    let mut noticed = 0;
    for byte in HEADER..end + 64 {
        match opened(flipped(dir.path(), byte).path()) {
            None => noticed += 1,
            Some(found) => assert!(found == all, "byte {byte}: padding changes nothing"),
        }
    }
    assert!(noticed >= end - HEADER - 7 * all.len(), "{noticed} noticed");
}

#[test]
fn without_the_mark_only_the_last_group_can_be_taken_for_a_torn_tail() {
    let (dir, groups, end) = synced_log();
    let all = groups.concat();
    let last = end - groups[2].iter().map(record_bytes).sum::<usize>();
    fs::remove_file(dir.path().join("durable")).expect("removed");
    for byte in HEADER..end {
        match opened(flipped(dir.path(), byte).path()) {
            None => assert!(byte < last, "byte {byte}: nothing said that it had been synced"),
            Some(found) => {
                assert!(all.starts_with(&found), "byte {byte}");
                assert!(found.len() >= 3, "byte {byte}: {} come back", found.len());
                assert!(byte >= last || found == all, "byte {byte}: padding changes nothing");
            }
        }
    }
}

#[test]
fn a_changed_byte_of_a_segment_header_is_damage() {
    let (dir, ..) = synced_log();
    for byte in 0..44 {
        assert_eq!(opened(flipped(dir.path(), byte).path()), None, "byte {byte}");
    }
}

#[test]
fn a_lost_tail_is_damage() {
    let (dir, _, end) = synced_log();
    for byte in (HEADER..end - 8).step_by(5) {
        let copy = snapshot(dir.path());
        change(&segment(copy.path(), 1), |bytes| bytes[byte..].fill(0xee));
        assert_eq!(opened(copy.path()), None, "from byte {byte} on");
    }
}

#[test]
fn a_lost_segment_is_damage() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    (1..=100).for_each(|version| append(&mut log, &[entry(version, 500)]));
    let segments = names(dir.path(), "log");
    assert!(segments.len() > 3);
    for lost in &segments {
        let copy = snapshot(dir.path());
        fs::remove_file(copy.path().join(lost)).expect("removed");
        let opened = storage::open(copy.path(), &SMALL);
        assert!(matches!(opened, Err(Error::Corrupt(_))), "without {lost}");
    }
    for lost in &segments {
        fs::remove_file(dir.path().join(lost)).expect("removed");
    }
    assert!(matches!(storage::open(dir.path(), &SMALL), Err(Error::Corrupt(_))), "without any");
}

#[test]
fn damage_in_the_middle_of_many_segments_is_found() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    (1..=100).for_each(|version| append(&mut log, &[entry(version, 500)]));
    fs::remove_file(dir.path().join("durable")).expect("removed");
    for name in names(dir.path(), "log") {
        let copy = snapshot(dir.path());
        change(&copy.path().join(&name), |bytes| bytes[HEADER + 100] ^= 1);
        let Err(Error::Corrupt(why)) = storage::open(copy.path(), &SMALL) else {
            panic!("damage in {name} went unnoticed")
        };
        assert!(why.contains(&format!("{name} at byte 4096")), "{why}");
    }
}

#[test]
fn damage_at_the_end_of_a_segment_is_found_there() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    (1..=30).for_each(|version| append(&mut log, &[entry(version, 1000)]));
    let last = names(dir.path(), "log").len() as u64;
    for number in 1..last {
        let copy = snapshot(dir.path());
        change(&segment(copy.path(), number), |bytes| {
            let end = bytes.iter().rposition(|byte| *byte != 0).expect("it has records");
            bytes[end - 100] ^= 1;
        });
        let Err(Error::Corrupt(why)) = storage::open(copy.path(), &SMALL) else {
            panic!("damage in segment {number} went unnoticed")
        };
        assert!(why.contains(&format!("log-{number:016x} at byte 15")), "{why}");
    }
}

#[test]
fn a_lost_segment_is_damage_though_the_mark_is_older_than_its_entries() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    let mut version = 0;
    while names(dir.path(), "log").len() < 2 {
        version += 1;
        log.append(&[entry(version, 1000)]).expect("appended");
    }
    let older = fs::read(dir.path().join("durable")).expect("read");
    log.sync().expect("synced");
    drop(log);
    fs::write(dir.path().join("durable"), older).expect("written");
    assert_eq!(versions(snapshot(dir.path()).path()).len() as u64, version);
    fs::remove_file(segment(dir.path(), 2)).expect("removed");
    let Err(Error::Corrupt(why)) = storage::open(dir.path(), &SMALL) else {
        panic!("the loss of a synced entry went unnoticed")
    };
    assert!(why.contains("log segment 0000000000000002 is missing"), "{why}");
}

#[test]
fn a_value_that_looks_like_a_record_is_not_taken_for_one() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, &[entry(1, 10)]);
    let stolen = fs::read(segment(dir.path(), 1)).expect("read")[HEADER..].to_vec();
    append(&mut log, &[entry(2, 10)]);
    drop(log);
    let other = scratch();
    let mut log = open(other.path()).log;
    let mut hostile = entry(1, 0);
    hostile.answer.words = vec![stolen[..record_bytes(&entry(1, 10))].into()];
    log.append(&[hostile]).expect("appended");
    let crashed = snapshot(other.path());
    change(&segment(crashed.path(), 1), |bytes| bytes[HEADER] ^= 1);
    assert_eq!(versions(crashed.path()), [0; 0], "a torn tail, no damage and no entry");
}
