//! A process dies, or the power fails: what was synced is there, what was not is gone or whole.

use super::*;

/// A log of one segment: groups of entries, and how it looked after each sync.
struct History {
    entries: Vec<Entry>,
    /// After each sync: where the records end, and the durable mark.
    synced: Vec<(usize, Vec<u8>)>,
    segment: Vec<u8>,
}

impl History {
    fn write() -> History {
        let dir = scratch();
        let mut log = open(dir.path()).log;
        let (mut all, mut end, mut synced) = (Vec::new(), HEADER, Vec::new());
        synced.push((end, fs::read(dir.path().join("durable")).expect("read")));
        for group in [1..=3, 4..=4, 5..=9, 10..=11] {
            let group: Vec<_> = group.map(|v| entry(v, 3 + 10 * v as usize % 37)).collect();
            append(&mut log, &group);
            end += group.iter().map(record_bytes).sum::<usize>();
            all.extend(group);
            synced.push((end, fs::read(dir.path().join("durable")).expect("read")));
        }
        History { entries: all, synced, segment: fs::read(segment(dir.path(), 1)).expect("read") }
    }

    /// How many entries, from the first on, these bytes still hold whole.
    fn whole_in(&self, bytes: &[u8]) -> usize {
        let mut start = HEADER;
        let is_whole = |entry: &&Entry| {
            let record = start..start + 32 + entry.to_bytes().len();
            start += record_bytes(entry);
            bytes.get(record.clone()) == self.segment.get(record)
        };
        self.entries.iter().take_while(is_whole).count()
    }

    /// The tablet as a crash leaves it, when the segment's bytes from this one on never reached the disk.
    fn crashed_at(&self, byte: usize, lost: impl FnOnce(&mut Vec<u8>)) -> TempDir {
        let dir = scratch();
        let mut bytes = self.segment.clone();
        lost(&mut bytes);
        fs::write(segment(dir.path(), 1), bytes).expect("written");
        let (_, mark) = self.synced.iter().rfind(|(end, _)| *end <= byte).expect("the first is 0");
        fs::write(dir.path().join("durable"), mark).expect("written");
        dir
    }

    /// What comes back is a prefix; the log goes on after it, and nothing else ever comes back.
    fn check(&self, byte: usize, dir: &Path) {
        let whole = self.whole_in(&fs::read(segment(dir, 1)).expect("read"));
        let mut expected = self.entries[..whole].to_vec();
        let recovered = open(dir);
        assert_eq!(recovered.log.durable_version(), expected.len() as u64);
        let mut log = recovered.log;
        let found: Vec<_> = recovered.entries.map(|e| e.expect("whole")).collect();
        assert!(found.starts_with(&expected), "byte {byte}: {} come back", found.len());
        assert_eq!(found.len(), expected.len(), "byte {byte}");
        let next = entry_of(0x80, log.end().version + 1, 20);
        append(&mut log, std::slice::from_ref(&next));
        expected.push(next);
        drop(log);
        assert!(entries(open(dir)) == expected, "byte {byte}: after going on");
    }
}

#[test]
fn a_log_cut_at_any_byte_gives_back_what_was_synced_before() {
    let history = History::write();
    let (end, _) = history.synced.last().expect("there");
    for byte in HEADER..=end + 8 {
        let dir = history.crashed_at(byte, |bytes| bytes.truncate(byte));
        history.check(byte, dir.path());
        let dir = history.crashed_at(byte, |bytes| bytes[byte..].fill(0));
        history.check(byte, dir.path());
    }
}

#[test]
fn a_segment_without_its_header_is_damage() {
    let history = History::write();
    for byte in [0, 1, 40, 43] {
        let dir = history.crashed_at(HEADER, |bytes| bytes.truncate(byte));
        assert!(storage::open(dir.path(), &SMALL).is_err(), "cut at {byte}");
    }
}

#[test]
fn a_hole_in_a_group_that_was_never_synced_is_a_torn_tail() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, &[entry(1, 10), entry(2, 10)]);
    log.append(&[entry(3, 50), entry(4, 50), entry(5, 50)]).expect("appended");
    let crashed = snapshot(dir.path());
    let hole = HEADER + 2 * record_bytes(&entry(1, 10));
    change(&segment(crashed.path(), 1), |bytes| bytes[hole..hole + 60].fill(0));
    let mut recovered = open(crashed.path());
    assert_eq!(recovered.log.end(), at(2));
    append(&mut recovered.log, &[entry_of(0x80, 3, 50)]);
    drop(recovered);
    let found = entries(open(crashed.path()));
    assert!(found[2] == entry_of(0x80, 3, 50));
    assert_eq!(found.len(), 3, "entries 4 and 5 of the lost write do not follow the new 3");
}

#[test]
fn entries_of_a_dead_process_count_if_they_are_whole() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    log.append(&[entry(1, 10), entry(2, 10)]).expect("appended");
    let crashed = snapshot(dir.path());
    assert_eq!(versions(crashed.path()), [1, 2]);
}

#[test]
fn a_clean_tail_goes_on_in_its_segment() {
    let dir = scratch();
    for version in 1..=5 {
        append(&mut open(dir.path()).log, &[entry(version, 10)]);
    }
    assert_eq!(versions(dir.path()), [1, 2, 3, 4, 5]);
    assert_eq!(names(dir.path(), "log").len(), 1);
}

#[test]
fn records_of_a_recycled_segment_never_resurface() {
    let dir = scratch();
    let Recovered { mut log, cells, .. } = open(dir.path());
    let mut version = 0;
    let mut reused = 0;
    for round in 0..8 {
        for _ in 0..60 {
            version += 1;
            append(&mut log, &[entry(version, 500 + round)]);
        }
        write_checkpoint(&cells, at(version - 10), []).expect("written");
        log.truncate_before(version - 10, 0).expect("truncated");
        reused +=
            names(dir.path(), "spare").iter().filter(|name| has_records(dir.path(), name)).count();
        let crashed = snapshot(dir.path());
        let expected: Vec<_> = (version - 9..=version).collect();
        assert_eq!(versions(crashed.path()), expected);
    }
    assert!(reused > 10, "spares hold old records: only so does this test say anything");
}

fn has_records(dir: &Path, name: &str) -> bool {
    fs::read(dir.join(name)).expect("read")[HEADER..].iter().any(|byte| *byte != 0)
}

#[test]
fn a_record_larger_than_a_segment_gets_one_of_its_own() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    let all = [entry(1, 10), entry(2, 100_000), entry(3, 10), entry(4, 1 << 20), entry(5, 10)];
    append(&mut log, &all);
    drop(log);
    assert!(entries(open(dir.path())) == all);
    assert!(names(dir.path(), "log").len() >= 3);
}

#[test]
fn what_is_cut_off_is_gone_for_ever() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    for version in 1..=100 {
        append(&mut log, &[entry(version, 500)]);
    }
    log.truncate_after(40).expect("cut");
    assert_eq!(log.end(), at(40));
    assert_eq!(versions(snapshot(dir.path()).path()), (1..=40).collect::<Vec<_>>());
    append(&mut log, &[entry_of(0x80, 41, 500), entry_of(0x80, 42, 500)]);
    log.truncate_after(41).expect("cut");
    log.truncate_after(5).expect("cut");
    append(&mut log, &[entry_of(0x40, 6, 500)]);
    let found = entries(open(snapshot(dir.path()).path()));
    assert!(found[5] == entry_of(0x40, 6, 500));
    assert_eq!(found.len(), 6);
    assert!(log.truncate_after(7).is_err(), "there is no version 7");
}

#[test]
fn a_log_can_be_read_while_it_is_written() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    for version in 1..=100 {
        append(&mut log, &[entry(version, 500)]);
    }
    let read =
        |after| log.entries_after(after).expect("reaches back").map(|e| e.expect("whole").version);
    assert!(read(0).eq(1..=100));
    assert!(read(77).eq(78..=100));
    assert_eq!(log.position_of(50), Ok(at(50)));
    assert_eq!(read(100).next(), None);
}

#[test]
fn a_spare_is_made_ahead_of_its_use() {
    let dir = scratch();
    let mut log = open(dir.path()).log;
    append(&mut log, &[entry(1, 2000)]);
    assert_eq!(names(dir.path(), "spare").len(), 0);
    append(&mut log, &[entry(2, 6000)]);
    drop(log);
    assert_eq!(names(dir.path(), "spare").len(), 1);
    let mut log = open(dir.path()).log;
    append(&mut log, &[entry(3, 8000)]);
    assert_eq!(names(dir.path(), "log").len(), 2, "the spare was used");
}

#[test]
fn unfinished_files_are_removed() {
    let dir = scratch();
    append(&mut open(dir.path()).log, &[entry(1, 10)]);
    for name in ["checkpoint-0000000000000009.tmp", "spare-0000000000000007.tmp", "epoch.tmp"] {
        fs::write(dir.path().join(name), b"half").expect("written");
    }
    assert_eq!(versions(dir.path()), [1]);
    assert!(names(dir.path(), "").iter().all(|name| !name.ends_with("tmp")));
}
