//! A replica's log in memory, and what a checkpoint takes of it.

use super::super::table::Known;
use super::*;
use crate::protocol::command::RequestId;
use crate::protocol::entry::Answer;

pub const TIMING: Timing = Timing {
    reads: Reads::Lease,
    lease: 2,
    grace: 3,
    beacon: 1,
    silence: 1,
    keep: 4,
    keep_bytes: 0,
    batch: 4,
    batch_bytes: 1000,
    window_bytes: 1000,
};

fn entry(version: u64) -> Entry {
    Entry {
        epoch: 1,
        version,
        prev_epoch: u64::from(version > 1),
        retire: 0,
        request: Some(RequestId { client: 7, request: version, low: version }),
        answer: Answer { version, words: Vec::new() },
        effects: Vec::new(),
    }
}

fn recovered(entries: u64) -> Replica {
    let log = (1..=entries).map(entry).collect();
    Replica::recover(
        "n1".into(),
        (Rules::ALL, TIMING),
        0,
        Default::default(),
        Table::default(),
        log,
    )
}

#[test]
fn a_recovered_log_costs_one_table_however_long_it_is() {
    let replica = recovered(1000);
    assert_eq!(replica.log.iter().filter(|logged| logged.after.is_some()).count(), 1);
    assert_eq!((replica.last().version, replica.committed.version), (1000, 0));
}

#[test]
fn a_checkpoint_begins_of_what_is_committed_and_takes_nothing_from_what_is_prepared() {
    let mut replica = recovered(10);
    replica.commit_to(0, 4, &mut Vec::new());
    let frozen = replica.freeze().expect("none is being written");
    assert_eq!((frozen.version, replica.last().version), (4, 10));
    assert!(replica.freeze().is_none() && replica.last().is_frozen());
    assert_eq!(replica.last().digest(), recovered(10).last().digest());
}

#[test]
fn a_recovered_log_can_be_committed_up_to_any_entry() {
    for version in 0..=10 {
        let mut replica = recovered(10);
        replica.commit_to(0, version, &mut Vec::new());
        assert_eq!((replica.committed.version, replica.last().version), (version, 10));
        let known = replica.committed.lookup(&entry(version).request.expect("named"), true);
        assert_eq!(matches!(known, Known::Answered(_)), version > 0);
    }
}
