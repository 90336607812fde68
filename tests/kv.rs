//! The store as a person with netcat sees it: every verb of the text protocol, over real sockets to real
//! processes.

use crate::harness::{Cluster, Text, eventually, noise};
use penncloud::client::Client;
use penncloud::net::auth::{Side, nonce, proof};
use penncloud::protocol::cell::{ValueId, slot};
use penncloud::protocol::command::{Command, Op, Peer};
use penncloud::protocol::entry::Encode;
use penncloud::protocol::reply::Reply;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An owner of a test's own: tests share a cluster.
fn owner(name: &str) -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    format!("kv-{name}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn connect(cluster: &Cluster) -> Text {
    Text::connect(&cluster.address("a1")).unwrap()
}

/// The version in `OK <version> …`.
fn version(answer: &str) -> u64 {
    let mut words = answer.split(' ');
    assert_eq!(words.next(), Some("OK"), "{answer}");
    words.next().unwrap().parse().unwrap()
}

#[test]
fn what_is_put_is_got_until_it_is_deleted() {
    let (cluster, alice) = (Cluster::shared(), owner("alice"));
    let mut store = connect(&cluster);
    assert_eq!(store.ask(format!("GET {alice} note")).unwrap(), "NOTFOUND");
    let v = version(&store.ask(format!("PUT {alice} note 5\nhello")).unwrap());
    assert_eq!(store.ask(format!("GET {alice} note")).unwrap(), format!("VALUE {v} 5 total=5"));
    assert_eq!(store.bytes(5).unwrap(), b"hello");
    let part = store.ask(format!("GET {alice} note offset=1 length=3")).unwrap();
    assert_eq!(part, format!("VALUE {v} 3 total=5"));
    assert_eq!(store.bytes(3).unwrap(), b"ell");
    assert!(version(&store.ask(format!("DELETE {alice} note")).unwrap()) > v);
    assert_eq!(store.ask(format!("GET {alice} note")).unwrap(), "NOTFOUND");
    assert_eq!(store.ask(format!("DELETE {alice} note")).unwrap(), "NOTFOUND");
}

#[test]
fn an_answer_does_not_wait_for_a_line_that_has_not_ended() {
    let cluster = Cluster::shared();
    for name in ["a1", "m1"] {
        let mut store = Text::connect(&cluster.address(name)).unwrap();
        store.send("   \nPING\n  \nPI").unwrap();
        assert_eq!(store.line().unwrap(), "PONG", "{name}");
        store.send("NG\n").unwrap();
        assert_eq!(store.line().unwrap(), "PONG", "{name}");
    }
}

#[test]
fn any_backend_answers_for_any_owner() {
    let (cluster, row) = (Cluster::shared(), owner("any"));
    let mut last = String::new();
    for (i, name) in cluster.backends().iter().enumerate() {
        let mut store = Text::connect(&cluster.address(name)).unwrap();
        let value = format!("value {i} by {name}");
        store.put(&row, "c", value.as_bytes()).unwrap();
        for other in cluster.backends() {
            let mut store = Text::connect(&cluster.address(&other)).unwrap();
            assert_eq!(store.get(&row, "c").unwrap().unwrap().1, value.as_bytes(), "{other}");
        }
        assert_ne!(value, last);
        last = value;
    }
}

#[test]
fn words_hold_any_byte_when_escaped_and_values_hold_any_byte_as_they_are() {
    let (cluster, owner) = (Cluster::shared(), owner("bytes"));
    let mut store = connect(&cluster);
    let value: Vec<u8> = (0..=255).collect();
    let column = "sp%20ace%25%3D%00%0A/ü";
    store.put(&owner, column, &value).unwrap();
    assert_eq!(store.get(&owner, column).unwrap().unwrap().1, value);
    assert_eq!(store.ask(format!("SCAN {owner}")).unwrap(), "COLUMNS 1 more=0");
    let line = store.line().unwrap();
    let name = line.split(' ').next().unwrap();
    assert_eq!(store.get(&owner, name).unwrap().unwrap().1, value, "a name that SCAN says, works");
    store.put(&owner, "empty", b"").unwrap();
    assert_eq!(store.get(&owner, "empty").unwrap().unwrap().1, b"");
}

#[test]
fn a_condition_that_does_not_hold_writes_nothing() {
    let (cluster, row) = (Cluster::shared(), owner("condition"));
    let mut store = connect(&cluster);
    let mismatch = |line: &str| line.starts_with("MISMATCH ");
    assert_eq!(store.ask(format!("CPUT {row} c 1 1\nab")).unwrap(), "MISMATCH 0");
    let first = version(&store.ask(format!("PUT {row} c 1 if=0\na")).unwrap());
    assert_eq!(store.ask(format!("PUT {row} c 1 if=0\nx")).unwrap(), format!("MISMATCH {first}"));
    assert!(mismatch(&store.ask(format!("CPUT {row} c 1 1\nxb")).unwrap()));
    let second = version(&store.ask(format!("CPUT {row} c 1 1\nab")).unwrap());
    assert!(mismatch(&store.ask(format!("PUT {row} c 1 if={first}\nx")).unwrap()));
    assert!(mismatch(&store.ask(format!("DELETE {row} c if={first}")).unwrap()));
    assert_eq!(store.get(&row, "c").unwrap(), Some((second, b"b".to_vec())));
    version(&store.ask(format!("DELETE {row} c if={second}")).unwrap());
}

#[test]
fn add_counts_and_append_numbers() {
    let (cluster, row) = (Cluster::shared(), owner("numbers"));
    let mut store = connect(&cluster);
    let sum = |answer: String| answer.split(' ').nth(2).unwrap().to_string();
    assert_eq!(sum(store.ask(format!("ADD {row} n 5")).unwrap()), "5");
    assert_eq!(sum(store.ask(format!("ADD {row} n -7")).unwrap()), "-2");
    assert_eq!(store.get(&row, "n").unwrap().unwrap().1, b"-2");
    store.put(&row, "word", b"word").unwrap();
    assert!(store.ask(format!("ADD {row} word 1")).unwrap().starts_with("BAD "));
    assert_eq!(sum(store.ask(format!("APPEND {row} m/ 3\none")).unwrap()), "m/000000000001");
    assert_eq!(sum(store.ask(format!("APPEND {row} m/ 3\ntwo")).unwrap()), "m/000000000002");
    version(&store.ask(format!("DELETEROW {row}")).unwrap());
    let third = sum(store.ask(format!("APPEND {row} m/ 5\nthree")).unwrap());
    assert_eq!(third, "m/000000000003", "numbers survive DELETEROW");
    assert_eq!(store.ask(format!("GET {row} n")).unwrap(), "NOTFOUND");
}

#[test]
fn add_stops_at_its_bound_whoever_adds_at_once() {
    let (cluster, row) = (Cluster::shared(), owner("bound"));
    let add = format!("BATCH {row} 2\nAPPEND {row}/x m/ 1\nxADD {row} n 3 max=20");
    let answers = std::thread::scope(|scope| {
        let ask = || connect(&cluster).ask(&add).unwrap();
        let asking: Vec<_> = (0..10).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    let (refused, done): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer == "QUOTA 18 max=20");
    assert_eq!((done.len(), refused.len()), (6, 4), "{done:?}");
    let mut store = connect(&cluster);
    assert_eq!(store.get(&row, "n").unwrap().unwrap().1, b"18");
    let appended = store.ask(format!("SCAN {row}/x")).unwrap();
    assert_eq!(appended, "COLUMNS 6 more=0", "what was refused has done nothing");
}

#[test]
fn a_batch_is_all_or_none() {
    let (cluster, owner) = (Cluster::shared(), owner("batch"));
    let mut store = connect(&cluster);
    let made = store.ask(format!(
        "BATCH {owner} 4\nPUT {owner} a 1\n1\nPUT {owner}/x b 1 if=0\n2\nADD {owner} n 3\nAPPEND {owner}/x m/ 1\n4"
    ));
    let made = made.unwrap();
    assert_eq!(made.split(' ').skip(2).collect::<Vec<_>>(), ["3", "m/000000000001"], "{made}");
    let refused =
        store.ask(format!("BATCH {owner} 2\nDELETE {owner} a\nPUT {owner}/x b 1 if=0\nx")).unwrap();
    assert!(refused.starts_with("MISMATCH ") && refused.ends_with(" at=1"), "{refused}");
    assert!(store.get(&owner, "a").unwrap().is_some());
    let seen =
        store.ask(format!("BATCH {owner} 2\nPUT {owner} new 1 if=0\nx\nCPUT {owner} new 1 1\nxy"));
    version(&seen.unwrap());
    assert_eq!(store.get(&owner, "new").unwrap().unwrap().1, b"y", "items see those before them");
    let foreign = store.ask(format!("BATCH {owner} 1\nPUT somebody-else a 1\nx")).unwrap();
    assert!(foreign.starts_with("BAD "), "{foreign}");
}

#[test]
fn scan_pages_through_a_row_both_ways() {
    let (cluster, row) = (Cluster::shared(), owner("scan"));
    let mut store = connect(&cluster);
    for column in ["a", "p/1", "p/2", "p/3", "q"] {
        store.put(&row, column, column.as_bytes()).unwrap();
    }
    let mut scan = |options: &str| {
        let head = store.ask(format!("SCAN {row} {options}")).unwrap();
        let (n, more) = head.strip_prefix("COLUMNS ").unwrap().split_once(" more=").unwrap();
        let n = n.parse::<usize>().unwrap();
        let names = (0..n).map(|_| store.line().unwrap().split(' ').next().unwrap().to_string());
        (names.collect::<Vec<_>>().join(" "), more == "1")
    };
    assert_eq!(scan(""), ("a p/1 p/2 p/3 q".into(), false));
    assert_eq!(scan("prefix=p/"), ("p/1 p/2 p/3".into(), false));
    assert_eq!(scan("prefix=p/ limit=2"), ("p/1 p/2".into(), true));
    assert_eq!(scan("prefix=p/ limit=2 after=p/2"), ("p/3".into(), false));
    assert_eq!(scan("reverse=1 limit=2"), ("q p/3".into(), true));
    assert_eq!(scan("reverse=1 after=p/2"), ("p/1 a".into(), false));
    assert_eq!(store.ask(format!("SCAN {row} prefix=q values=1")).unwrap(), "COLUMNS 1 more=0");
    assert!(store.line().unwrap().starts_with("q "));
    assert_eq!(store.bytes(1).unwrap(), b"q");
}

#[test]
fn rows_shows_what_a_node_holds_itself() {
    let (cluster, owner) = (Cluster::shared(), owner("rows"));
    let mut store = connect(&cluster);
    for row in ["", "/files", "/mail"] {
        store.put(&format!("{owner}{row}"), "c", b"12345").unwrap();
    }
    let mut master = Text::connect(&cluster.address("m1")).unwrap();
    let group = master.ask(format!("WHERE {owner}")).unwrap();
    for name in cluster.backends() {
        let mut store = Text::connect(&cluster.address(&name)).unwrap();
        if !group.contains(&format!(" {name} ")) {
            assert_eq!(store.ask(format!("ROWS prefix={owner}")).unwrap(), "ROWS 0 more=0");
            continue;
        }
        let lines = eventually("the replica has heard what is committed", || {
            let head = store.ask(format!("ROWS prefix={owner}")).unwrap();
            let n = head.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
            let lines: Vec<_> = (0..n).map(|_| store.line().unwrap()).collect();
            (n == 3).then_some(lines)
        });
        let expected = ["", "/files", "/mail"].map(|row| format!("{owner}{row} 1 5"));
        assert_eq!(lines, expected);
        assert_eq!(store.ask(format!("ROWS prefix={owner} limit=1")).unwrap(), "ROWS 1 more=1");
        store.line().unwrap();
    }
}

#[test]
fn a_big_value_by_put_comes_back_bit_for_bit_in_any_part() {
    let (cluster, row) = (Cluster::shared(), owner("big"));
    let mut store = connect(&cluster);
    let value = noise(1, 1_000_003);
    let v = store.put(&row, "big", &value).unwrap();
    for name in cluster.backends() {
        let mut store = Text::connect(&cluster.address(&name)).unwrap();
        assert_eq!(store.get(&row, "big").unwrap(), Some((v, value.clone())), "{name}");
    }
    let cell = cluster.config().store.cell_bytes as usize;
    for (offset, length) in
        [(0, 1), (cell - 1, 2), (cell, cell), (999_999, 4), (3 * cell + 7, 99_999)]
    {
        let head = store.ask(format!("GET {row} big offset={offset} length={length}")).unwrap();
        let part = &value[offset..(offset + length).min(value.len())];
        assert_eq!(head, format!("VALUE {v} {} total=1000003", part.len()));
        assert_eq!(store.bytes(part.len()).unwrap(), part);
    }
    assert_eq!(store.ask(format!("SCAN {row} values=1")).unwrap(), "COLUMNS 1 more=0");
    assert_eq!(store.line().unwrap(), format!("big {v} 1000003 big=1"));
    store.put(&row, "big", b"small now").unwrap();
    assert_eq!(store.get(&row, "big").unwrap().unwrap().1, b"small now");
}

/// A value of so many chunks lies in both large-value tablets of its group.
const CHUNKS: usize = 24;

#[test]
fn a_range_of_a_big_value_needs_no_chunk_outside_it() {
    let (cluster, row) = (Cluster::shared(), owner("range"));
    let cell = cluster.config().store.cell_bytes as usize;
    let value = noise(7, CHUNKS * cell);
    let mut store = connect(&cluster);
    let id = store.ask(format!("STAGE {row}")).unwrap().strip_prefix("OK ").unwrap().to_string();
    for (i, chunk) in value.chunks(cell).enumerate() {
        let line = format!("CHUNK {row} {id} {} {}", i * cell, chunk.len());
        assert!(store.ask_with(&line, chunk).unwrap().starts_with("OK "));
    }
    version(&store.ask(format!("COMMIT {row} v {id} {}", value.len())).unwrap());
    let lost = lose_chunks(&cluster, &row, ValueId::parse(id.as_bytes()).unwrap());
    let is_lost = |i: usize| lost[i];
    assert!((0..CHUNKS).any(is_lost) && !(0..CHUNKS).all(is_lost), "{lost:?}");
    // Each pair of neighbours, from the middle of one to the middle of the next, and each one alone.
    for first in 0..CHUNKS {
        for (offset, last) in [(first * cell, first), (first * cell + cell / 2, first + 1)] {
            let Some(whole) = value.get(offset..offset + cell) else { continue };
            let got = eventually("replicas have lost the chunks too", || {
                let got = part(&cluster, &row, offset, cell);
                (got.is_some() != (is_lost(first) || is_lost(last))).then_some(got)
            });
            assert!(got.is_none_or(|got| got == whole), "{offset}");
        }
    }
}

/// Removes the chunks of a value that lie in one large-value tablet; says of each whether it is gone.
fn lose_chunks(cluster: &Cluster, row: &str, id: ValueId) -> Vec<bool> {
    let (routes, slot) = (cluster.routes(), slot(row.as_bytes()));
    let cell = cluster.config().store.cell_bytes;
    let tablet_of = |i: usize| routes.tablet_of_chunk(slot, id, i as u64 * cell).unwrap();
    let victim = tablet_of(0);
    let client = Client::new(cluster.config()).unwrap();
    let drop = Peer {
        verb: "@WRITE".into(),
        words: vec![victim.id.clone().into(), "single".into()],
        payload: vec![Op::DropChunks { slot, id }].to_bytes(),
    };
    let primary = cluster.address(victim.primary.as_ref().expect("it has one"));
    let dropped = client.call_at(&primary, Command::Peer(drop));
    assert!(matches!(dropped, Ok(Reply::Ok(_))), "{dropped:?}");
    (0..CHUNKS).map(|i| tablet_of(i).id == victim.id).collect()
}

/// A part of a value, unless the connection is closed before it is whole.
fn part(cluster: &Cluster, row: &str, offset: usize, length: usize) -> Option<Vec<u8>> {
    let mut store = connect(cluster);
    store.ask(format!("GET {row} v offset={offset} length={length}")).unwrap();
    store.bytes(length).ok()
}

/// Larger than what sockets keep for a reader who takes his time.
const SLOWLY_READ_BYTES: usize = 24 << 20;

#[test]
fn reading_a_big_value_may_take_longer_than_a_request() {
    let cluster = Cluster::start_with(|text| {
        text.truncate(text.find("[[frontend]]").unwrap());
        *text = text.replace("[store]", "[store]\nrequest_ms = 2000");
    });
    let (mut store, value) = (connect(&cluster), noise(5, SLOWLY_READ_BYTES));
    let v = store.put("slow", "big", &value).unwrap();
    let head = store.ask("GET slow big").unwrap();
    assert_eq!(head, format!("VALUE {v} {0} total={0}", value.len()));
    std::thread::sleep(2 * cluster.config().request_time());
    assert!(store.bytes(value.len()).unwrap() == value, "the value comes whole");
}

#[test]
fn a_staged_value_is_resumed_on_another_node_and_appears_at_commit() {
    let (cluster, row) = (Cluster::shared(), owner("staged"));
    let mut stores: Vec<_> =
        cluster.backends().iter().map(|n| Text::connect(&cluster.address(n)).unwrap()).collect();
    let cell = cluster.config().store.cell_bytes as usize;
    let value = noise(2, 2 * cell + 1000);
    let id =
        stores[0].ask(format!("STAGE {row}")).unwrap().strip_prefix("OK ").unwrap().to_string();
    assert_eq!(stores[0].ask(format!("STAGE {row} id={id}")).unwrap(), format!("OK {id}"));
    for (i, chunk) in value.chunks(cell).enumerate() {
        let at = i * cell;
        let store = &mut stores[i % 4];
        assert_eq!(store.ask(format!("STAGED {row} {id}")).unwrap(), format!("OK {at}"));
        for _ in ["once", "a repeat is harmless"] {
            let line = format!("CHUNK {row} {id} {at} {}", chunk.len());
            let answer = store.ask_with(&line, chunk).unwrap();
            assert_eq!(answer, format!("OK {}", at + chunk.len()));
        }
        assert_eq!(store.ask(format!("GET {row} v")).unwrap(), "NOTFOUND");
    }
    let store = &mut stores[3];
    let early = store.ask(format!("COMMIT {row} v {id} {}", value.len() + 1)).unwrap();
    assert!(!early.starts_with("OK"), "{early}");
    version(&store.ask(format!("COMMIT {row} v {id} {} if=0", value.len())).unwrap());
    assert_eq!(stores[1].get(&row, "v").unwrap().unwrap().1, value);
}

#[test]
fn a_chunk_lies_within_the_longest_value() {
    let (cluster, row) = (Cluster::shared(), owner("far"));
    let mut store = connect(&cluster);
    let id = store.ask(format!("STAGE {row}")).unwrap().strip_prefix("OK ").unwrap().to_string();
    let max = cluster.config().store.value_bytes_max;
    for offset in [u64::MAX, u64::MAX - 2, max - 2, max] {
        let answer = store.ask(format!("CHUNK {row} {id} {offset} 3\nabc")).unwrap();
        assert!(answer.starts_with("TOOBIG "), "{offset}: {answer}");
    }
    let last = store.ask(format!("CHUNK {row} {id} {} 3\nabc", max - 3)).unwrap();
    assert_eq!(last, format!("OK {max}"));
}

#[test]
fn an_abandoned_value_takes_no_chunks_once_its_own_may_be_gone() {
    let cluster = Cluster::start_with(|text| {
        text.truncate(text.find("[[frontend]]").unwrap());
        *text = text.replace("[store]", "[store]\nretire_ms = 2000");
    });
    let [mut one, mut other] =
        ["a1", "a2"].map(|name| Text::connect(&cluster.address(name)).unwrap());
    let id = one.ask("STAGE row").unwrap().strip_prefix("OK ").unwrap().to_string();
    assert_eq!(one.ask(format!("CHUNK row {id} 0 3\nabc")).unwrap(), "OK 3");
    version(&other.ask(format!("ABANDON row {id}")).unwrap());
    let mut offset = 3;
    crate::harness::eventually("late chunks are refused", || {
        let answer = one.ask(format!("CHUNK row {id} {offset} 3\nabc")).unwrap();
        offset += 3;
        answer.starts_with("BAD ").then_some(())
    });
}

#[test]
fn a_slow_put_is_not_given_up_halfway() {
    let cluster = Cluster::start_with(|text| {
        text.truncate(text.find("[[frontend]]").unwrap());
        *text = text.replace("[store]", "[store]\nstage_ms = 2000");
    });
    let mut store = connect(&cluster);
    let value = noise(6, 8 * cluster.config().store.cell_bytes as usize);
    store.send(format!("PUT slow big {}\n", value.len())).unwrap();
    for part in value.chunks(value.len() / 8) {
        store.send(part).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    version(&store.line().unwrap());
    assert!(store.get("slow", "big").unwrap().unwrap().1 == value);
}

#[test]
fn an_abandoned_value_cannot_be_committed() {
    let (cluster, row) = (Cluster::shared(), owner("abandoned"));
    let mut store = connect(&cluster);
    let id = store.ask(format!("STAGE {row}")).unwrap().strip_prefix("OK ").unwrap().to_string();
    store.ask_with(&format!("CHUNK {row} {id} 0 3"), b"abc").unwrap();
    version(&store.ask(format!("ABANDON {row} {id}")).unwrap());
    let late = store.ask(format!("COMMIT {row} v {id} 3")).unwrap();
    assert!(late.starts_with("BAD "), "{late}");
    let unknown = store.ask(format!("COMMIT {row} v {} 3", "0".repeat(id.len()))).unwrap();
    assert!(unknown.starts_with("BAD "), "{unknown}");
    assert_eq!(store.ask(format!("GET {row} v")).unwrap(), "NOTFOUND");
}

#[test]
fn a_retry_executes_once_on_whatever_node_it_comes_to() {
    let (cluster, row) = (Cluster::shared(), owner("retry"));
    let client = penncloud::mail::send::new_guid();
    let mut answers = Vec::new();
    for (i, name) in cluster.backends().iter().enumerate() {
        let mut store = Text::connect(&cluster.address(name)).unwrap();
        let retry = if i == 0 { "" } else { " retry=1" };
        answers
            .push(store.ask(format!("ADD {row} n 1 client={client} req=1 low=1{retry}")).unwrap());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    let mut store = connect(&cluster);
    assert_eq!(store.get(&row, "n").unwrap().unwrap().1, b"1");
    let next = store.ask(format!("ADD {row} n 1 client={client} req=2 low=2")).unwrap();
    assert!(next.ends_with(" 2"), "{next}");
    let strange = penncloud::mail::send::new_guid();
    let unknown = store.ask(format!("ADD {row} n 1 client={strange} req=9 low=1 retry=1")).unwrap();
    assert!(!unknown.starts_with("BAD"), "{unknown}");
}

#[test]
fn a_repeated_stage_is_told_the_id_that_is_staged() {
    let (cluster, row) = (Cluster::shared(), owner("restage"));
    let client = penncloud::mail::send::new_guid();
    let mut store = connect(&cluster);
    let first = store.ask(format!("STAGE {row} client={client} req=1 low=1")).unwrap();
    let mut other = Text::connect(&cluster.address("b2")).unwrap();
    let again = other.ask(format!("STAGE {row} client={client} req=1 low=1 retry=1")).unwrap();
    assert_eq!(again, first);
    let id = again.strip_prefix("OK ").unwrap();
    assert_eq!(other.ask(format!("CHUNK {row} {id} 0 3\nabc")).unwrap(), "OK 3");
}

#[test]
fn what_has_a_time_to_live_is_gone_after_it() {
    let (cluster, row) = (Cluster::shared(), owner("ttl"));
    let mut store = connect(&cluster);
    version(&store.ask(format!("PUT {row} short 1 ttl=1\nx")).unwrap());
    version(&store.ask(format!("PUT {row} long 1 ttl=1000\nx")).unwrap());
    crate::harness::eventually("the cell expires", || {
        store.get(&row, "short").unwrap().is_none().then_some(())
    });
    assert!(store.get(&row, "long").unwrap().is_some());
}

#[test]
fn requests_are_answered_in_order_however_they_are_packed() {
    let (cluster, row) = (Cluster::shared(), owner("pipeline"));
    let mut store = connect(&cluster);
    let requests: String =
        (0..200).map(|i| format!("PUT {row} c{i} 3\n{i:03}\r\nGET {row} c{i}\r\n\n")).collect();
    store.send(requests).unwrap();
    for i in 0..200 {
        version(&store.line().unwrap());
        assert!(store.line().unwrap().starts_with("VALUE "));
        assert_eq!(store.bytes(3).unwrap(), format!("{i:03}").as_bytes());
    }
    for byte in format!("GET {row} c7\nPING\n").bytes() {
        store.send([byte]).unwrap();
    }
    assert!(store.line().unwrap().starts_with("VALUE "));
    assert_eq!(store.bytes(3).unwrap(), b"007");
    assert_eq!(store.line().unwrap(), "PONG");
}

#[test]
fn bad_requests_are_told_what_is_wrong_and_the_connection_goes_on() {
    let cluster = Cluster::shared();
    for address in [cluster.address("a1"), cluster.address("m1")] {
        let mut store = Text::connect(&address).unwrap();
        for request in [
            "NONSENSE",
            "GET",
            "GET r",
            "GET r c d",
            "GET r c offset=-1",
            "GET r c color=red",
            "GET r%2 c",
            "GET r c=d",
            "DELETE r",
            "ADD r c one",
            "ADD r c 99999999999999999999",
            "SCAN",
            "SCAN r limit=100000",
            "STAGED r zz",
            "WHERE",
            "GET \u{1} c",
            "\0\0\0",
        ] {
            let answer = store.ask(request).unwrap_or_else(|e| panic!("{request:?}: {e}"));
            assert!(answer.starts_with("BAD ") && answer.len() > 5, "{request:?}: {answer:?}");
        }
        assert_eq!(store.ask("PING").unwrap(), "PONG");
    }
}

#[test]
fn where_the_next_request_begins_is_known_or_the_connection_ends() {
    let (cluster, row) = (Cluster::shared(), owner("lost"));
    let mut store = connect(&cluster);
    let answer = store.ask(format!("GET {} c", "r".repeat(20_000))).unwrap();
    assert!(answer.starts_with("BAD "), "{answer}");
    assert!(store.is_closed());
    let mut store = connect(&cluster);
    let answer = store.ask(format!("BATCH {row} 2\nNONSENSE")).unwrap();
    assert!(answer.starts_with("BAD "), "{answer}");
    assert!(store.is_closed());
    for request in ["PUT r c", "PUT r c many", "PUT r c -1", "APPEND r p 1x", "CHUNK r id 0 x"] {
        let mut store = connect(&cluster);
        let answer = store.ask(request).unwrap();
        assert!(answer.starts_with("BAD ") && store.is_closed(), "{request:?}: {answer:?}");
    }
    // A value over the limit is read away while that is short: the connection goes on.
    let mut store = connect(&cluster);
    let answer = store.ask_with(&format!("APPEND {row} p 100000"), &noise(3, 100_000)).unwrap();
    assert!(answer.starts_with("TOOBIG"), "{answer}");
    assert_eq!(store.ask("PING").unwrap(), "PONG");
    // A length that nobody can mean costs no memory.
    let answer = store.ask(format!("APPEND {row} p 18446744073709551615")).unwrap();
    assert!(answer.starts_with("TOOBIG") || answer.starts_with("BAD"), "{answer}");
    assert!(store.is_closed());
}

#[test]
fn a_browser_is_sent_away_without_an_answer() {
    let cluster = Cluster::shared();
    for name in ["a1", "m1"] {
        for line in ["GET / HTTP/1.1", "POST / HTTP/1.1", "OPTIONS * HTTP/1.0", "Host: x"] {
            let mut store = Text::connect(&cluster.address(name)).unwrap();
            store.send(format!("{line}\r\nPUT a b 1\r\nx\r\n")).unwrap();
            assert!(store.is_closed(), "{name}: {line}");
        }
    }
}

#[test]
fn people_are_told_what_there_is() {
    let cluster = Cluster::shared();
    for (name, verb) in [("a1", "APPEND"), ("m1", "WHERE")] {
        let mut store = Text::connect(&cluster.address(name)).unwrap();
        let help = store.lines("HELP").unwrap().join("\n");
        assert!(help.contains(verb), "{help}");
        assert!(store.lines("STATUS").unwrap().join("\n").contains(name));
        assert_eq!(store.ask("PING").unwrap(), "PONG");
        store.send("QUIT\n").unwrap();
        assert!(store.is_closed());
    }
}

#[test]
fn the_master_says_where_an_owner_is_and_who_is_alive() {
    let (cluster, owner) = (Cluster::shared(), owner("where"));
    let mut master = Text::connect(&cluster.address("m1")).unwrap();
    let answer = master.ask(format!("WHERE {owner}")).unwrap();
    let words: Vec<_> = answer.split(' ').collect();
    assert_eq!((words[0], words.len()), ("GROUP", 6), "{answer}");
    let mut store = Text::connect(words[3]).unwrap();
    store.put(&owner, "c", b"x").unwrap();
    assert!(words[2].starts_with(words[1]), "node {} is of group {}", words[2], words[1]);
    let nodes = master.lines("NODES").unwrap().join("\n");
    for name in cluster.backends() {
        assert!(nodes.contains(&name) && nodes.contains(&cluster.address(&name)), "{nodes}");
    }
    assert!(master.ask("SUSPECT nobody").unwrap().starts_with("BAD "));
}

#[test]
fn where_auth_is_required_nothing_else_comes_first() {
    let cluster = Cluster::start_with(|text| {
        text.truncate(text.find("[[frontend]]").unwrap());
        *text = text.replace("[cluster]", "[cluster]\nauth = \"always\"");
    });
    let secret = cluster.config().secrets().unwrap().cluster;
    for name in ["a1", "m1"] {
        let mut store = Text::connect(&cluster.address(name)).unwrap();
        let request = if name == "m1" { "WHERE alice" } else { "GET a b" };
        let mut silent = Text::connect(&cluster.address(name)).unwrap();
        assert!(store.ask(request).unwrap().starts_with("DENIED"));
        let mut stranger = Text::connect(&cluster.address(name)).unwrap();
        let mine = nonce();
        let answer = stranger.ask(format!("AUTH {mine}")).unwrap();
        let words: Vec<_> = answer.split(' ').collect();
        let expected = proof(&secret, Side::Server, mine.as_bytes(), words[1].as_bytes());
        assert_eq!(words[2], expected, "the server proves itself too");
        for (key, welcome) in [("0".repeat(64), false), (secret.clone(), true)] {
            let mut store = Text::connect(&cluster.address(name)).unwrap();
            let answer = store.prove(&key).unwrap();
            assert_eq!(answer.starts_with("OK"), welcome, "{answer}");
            assert_eq!(answer.starts_with("DENIED"), !welcome, "{answer}");
            if welcome {
                assert!(!store.ask(request).unwrap().starts_with("DENIED"));
            }
        }
        assert!(silent.is_closed(), "who proves nothing does not keep a connection");
    }
}

#[test]
fn messages_between_nodes_are_not_for_strangers() {
    let cluster = Cluster::shared();
    for name in ["a1", "m1"] {
        let mut store = Text::connect(&cluster.address(name)).unwrap();
        let answer = store.ask("@GETROUTES 67108864").unwrap();
        assert!(answer.starts_with("DENIED"), "{name}: {answer}");
        assert!(store.is_closed(), "{name} does not wait for the bytes");
    }
}
