//! The store's client against backends that follow a script.

use crate::harness::Scripted;
use crate::harness::scripted::Act::{self, Answer, Close, Hang, Sends};
use penncloud::client::{Client, Op};
use penncloud::error::Error;
use penncloud::protocol::command::{Command, Request};
use penncloud::protocol::reply::Reply;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A client of two backends that follow a script, and the requests that they have seen.
fn client(script: Vec<Act>) -> (Client, Arc<Mutex<Vec<Request>>>) {
    let scripted = Scripted::start(script);
    let client = Client::new(&scripted.config).unwrap();
    (client.with_time_limit(Duration::from_millis(500)), scripted.seen.clone())
}

#[test]
fn a_request_keeps_its_name_and_says_that_it_is_a_repeat_once_it_may_be_one() {
    let refused = Answer(Reply::Error(Error::retry("not yet")));
    let (client, seen) = client(vec![refused.clone(), Close, refused, Answer(Reply::ok(7))]);
    client.write(Op::put("alice", "c", "v")).unwrap();
    let seen = seen.lock().unwrap();
    let retries: Vec<bool> = seen.iter().map(|request| request.options.retry).collect();
    assert_eq!(retries, [false, false, true, true]);
    assert!(seen.iter().all(|request| request.options.session == seen[0].options.session));
}

/// As often as a tablet refuses while it gets a new primary, which takes seconds.
const REFUSALS: usize = 30;

#[test]
fn a_tablet_without_a_primary_for_seconds_is_waited_for() {
    let refused = Answer(Reply::Error(Error::retry("the tablet has no primary now")));
    let script = [vec![refused; REFUSALS], vec![Answer(Reply::ok(7))]].concat();
    let (client, seen) = client(script);
    client.with_time_limit(Duration::from_secs(60)).write(Op::put("alice", "c", "v")).unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), REFUSALS + 1);
    assert!(seen.iter().all(|request| request.options.session == seen[0].options.session));
    assert!(seen.iter().all(|request| !request.options.retry), "no try may have been executed");
}

#[test]
fn a_refusal_is_definite_unless_an_earlier_try_may_still_be_on_its_way() {
    let full = Answer(Reply::Error(Error::TabletFull));
    let (first, _) = client(vec![full.clone()]);
    assert_eq!(first.write(Op::put("alice", "c", "v")), Err(Error::TabletFull));
    let (second, _) = client(vec![Close, full]);
    let outcome = second.write(Op::put("alice", "c", "v"));
    assert!(matches!(outcome, Err(Error::Unknown(_))), "{outcome:?}");
}

#[test]
fn a_backend_that_hangs_leaves_time_to_ask_another() {
    let (client, seen) = client(vec![Hang, Answer(Reply::ok(7))]);
    let client = client.with_time_limit(Duration::from_secs(4));
    client.write(Op::put("alice", "c", "v")).unwrap();
    assert_eq!(seen.lock().unwrap().len(), 2);
}

#[test]
fn each_backend_has_little_time_in_the_first_round_and_more_in_the_next() {
    let refused = Answer(Reply::Error(Error::retry("not yet")));
    let script = [vec![refused; 2], vec![Answer(Reply::ok(7))]].concat();
    let (client, seen) = client(script);
    client.with_time_limit(Duration::from_secs(1000)).write(Op::put("alice", "c", "v")).unwrap();
    let deadlines: Vec<u64> =
        seen.lock().unwrap().iter().map(|request| request.options.deadline_ms.unwrap()).collect();
    assert!(deadlines[..2].iter().all(|ms| *ms <= 125_000), "{deadlines:?}");
    assert!((250_001..=500_000).contains(&deadlines[2]), "{deadlines:?}");
    let (short, seen) = self::client(vec![Answer(Reply::ok(7))]);
    short.with_time_limit(Duration::from_secs(4)).write(Op::put("alice", "c", "v")).unwrap();
    let least = seen.lock().unwrap()[0].options.deadline_ms.unwrap();
    assert!((501..=1000).contains(&least), "{least} ms");
}

/// An answer of `len` bytes of ten, of which some come; then the connection breaks unless all have come.
fn sends(version: u64, len: u64, bytes: &[u8]) -> Act {
    Sends(Reply::Value { version, len, total: 10 }, bytes.to_vec())
}

/// What a reader gives, and whether it ends without an error.
fn read(client: &Client, offset: u64, length: Option<u64>) -> (Vec<u8>, Result<usize, Error>) {
    let mut value = client.open("alice", "c", offset, length).unwrap().unwrap();
    let mut bytes = Vec::new();
    let end = value.read_to_end(&mut bytes).map_err(Error::from);
    (bytes, end)
}

#[test]
fn a_value_that_breaks_off_goes_on_at_its_version_and_the_next_byte() {
    let script = vec![sends(7, 10, b"0123"), Close, sends(7, 6, b"45"), sends(7, 4, b"6789")];
    let (client, seen) = client(script);
    assert_eq!(read(&client, 0, None), (b"0123456789".to_vec(), Ok(10)));
    let part = |request: &Request| match request.command {
        Command::Get { offset, length, if_version, .. } => (offset, length, if_version),
        _ => panic!("{request:?}"),
    };
    let parts: Vec<_> = seen.lock().unwrap().iter().map(part).collect();
    let rest = [(4, Some(6), Some(7)), (4, Some(6), Some(7)), (6, Some(4), Some(7))];
    assert_eq!(parts, [&[(0, None, None)], &rest[..]].concat());
}

#[test]
fn a_part_that_breaks_off_goes_on_within_the_part() {
    let (client, seen) = client(vec![sends(7, 5, b"345"), sends(7, 2, b"67")]);
    assert_eq!(read(&client, 3, Some(5)), (b"34567".to_vec(), Ok(5)));
    let second = seen.lock().unwrap()[1].command.clone();
    assert!(matches!(second, Command::Get { offset: 6, length: Some(2), .. }), "{second:?}");
}

#[test]
fn a_value_that_was_changed_meanwhile_is_not_mixed_with_the_new_one() {
    let changed = Answer(Reply::Mismatch { version: 8, at: None });
    for then in [changed, sends(8, 6, b"456789"), sends(7, 5, b"45678")] {
        let (client, _) = client(vec![sends(7, 10, b"0123"), then]);
        let (bytes, end) = read(&client, 0, None);
        assert_eq!(bytes, b"0123");
        assert!(end.is_err());
    }
}

#[test]
fn a_value_that_never_goes_on_is_an_error() {
    let nothing = vec![sends(7, 10, b""); 20];
    let (client, seen) = client(nothing);
    let (bytes, end) = read(&client, 0, None);
    assert!(bytes.is_empty() && end.is_err());
    assert_eq!(seen.lock().unwrap().len(), 5, "once, and four times again");
}

#[test]
fn a_client_of_one_node_asks_no_other() {
    let scripted = Scripted::start(vec![Close, Close, Answer(Reply::ok(7))]);
    let client = Client::new(&scripted.config).unwrap().with_time_limit(Duration::from_secs(4));
    let nobody = client.with_time_limit(Duration::from_millis(300)).through("127.0.0.1:1");
    assert!(matches!(nobody.write(Op::put("alice", "c", "v")), Err(Error::Retry(_))));
    assert!(scripted.seen.lock().unwrap().is_empty());
    let address = scripted.config.backends().next().unwrap().address.clone();
    client.through(&address).write(Op::put("alice", "c", "v")).unwrap();
    assert_eq!(scripted.seen.lock().unwrap().len(), 3);
}
