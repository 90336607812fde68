//! What the tests of this layer share.

use crate::protocol::entry::{Answer, Entry};

/// An entry of epoch 1 whose answer has one word of `bytes` bytes.
pub fn entry(version: u64, bytes: usize) -> Entry {
    let word = vec![version as u8; bytes];
    Entry {
        epoch: 1,
        version,
        prev_epoch: u64::from(version > 1),
        retire: 0,
        request: None,
        answer: Answer { version, words: vec![word.into()] },
        effects: vec![],
    }
}

use super::*;

/// Small segments: rolls are frequent.
const SMALL: Options = Options { segment_bytes: 16 << 10 };

fn versions(recovered: Recovered) -> Vec<u64> {
    recovered.entries.map(|entry| entry.expect("whole").version).collect()
}

#[test]
fn what_was_synced_comes_back_over_many_segments() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tablet = dir.path().join("a-s0");
    let mut log = open(&tablet, &SMALL).expect("opened").log;
    for first in (1..100).step_by(3) {
        let batch: Vec<_> = (first..first + 3).map(|v| entry(v, 500)).collect();
        log.append(&batch).expect("appended");
        log.sync().expect("synced");
    }
    drop(log);
    let recovered = open(&tablet, &SMALL).expect("opened");
    assert_eq!(recovered.log.end(), Position { epoch: 1, version: 99 });
    let entries: Vec<_> = recovered.entries.map(|e| e.expect("whole")).collect();
    assert!(entries == (1..100).map(|v| entry(v, 500)).collect::<Vec<_>>());
    assert!(file::numbered(&tablet, "log").expect("listed").len() > 3);
}

#[test]
fn a_checkpoint_lets_the_log_before_it_go() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut log = open(dir.path(), &SMALL).expect("opened").log;
    for version in 1..=90 {
        log.append(&[entry(version, 500)]).expect("appended");
        log.sync().expect("synced");
    }
    write_checkpoint(dir.path(), Position { epoch: 1, version: 80 }, []).expect("written");
    log.truncate_before(80).expect("truncated");
    assert!(log.start().version > 0);
    drop(log);
    let recovered = open(dir.path(), &SMALL).expect("opened");
    assert_eq!(recovered.checkpoint.as_ref().expect("there").summary.position.version, 80);
    assert_eq!(versions(recovered), (81..=90).collect::<Vec<_>>());
}
