//! The text protocol over bytes: what a server makes of what arrives, and what a client makes of answers.

use penncloud::error::Error;
use penncloud::protocol::command::{Command, Op, Request, Scan};
use penncloud::protocol::reply::{Column, Reply, Row};
use penncloud::protocol::wire::{self, Incoming};
use proptest::prelude::*;
use std::io::{BufReader, Read};

/// Cell size in these tests.
const CELL: u64 = 100;

#[derive(goldenscript::Command)]
enum Step {
    /// Bytes that arrive; shows what a server makes of them.
    Receive(String),
    /// Bytes of which the last one repeats so many times.
    ReceiveLong(String, usize),
}

struct Server;

impl goldenscript::Runner for Server {
    type Command = Step;

    fn run(
        &mut self,
        step: &Step,
        _: &goldenscript::Context,
    ) -> Result<String, Box<dyn std::error::Error>> {
        let bytes = match step {
            Step::Receive(bytes) => bytes.clone().into_bytes(),
            Step::ReceiveLong(bytes, n) => [bytes.as_bytes(), &vec![b'x'; *n], b"\n"].concat(),
        };
        Ok(receive(&bytes).join("\n") + "\n")
    }
}

/// Everything that a server makes of a stream.
fn receive(bytes: &[u8]) -> Vec<String> {
    let (mut from, mut seen) = (bytes, Vec::new());
    loop {
        match wire::read_request(&mut from, CELL, |_| Ok(())) {
            Ok(Incoming::Request(request)) => seen.push(show(&request)),
            Ok(Incoming::BigPut(request, len)) => {
                seen.push(format!("big {} of {len} bytes", show(&request)));
                let mut value = Vec::new();
                let _ = (&mut from).take(len).read_to_end(&mut value);
            }
            Ok(Incoming::Refused(error)) => {
                seen.push(format!("refused, goes on: {}", first_line(&error)))
            }
            Ok(Incoming::Lost(error)) => {
                seen.push(format!("refused, closed: {}", first_line(&error)));
                return seen;
            }
            Ok(Incoming::Closed) => {
                seen.push(format!("closed, {} bytes unread", from.len()));
                return seen;
            }
            Err(error) => {
                seen.push(format!("broken: {error}"));
                return seen;
            }
        }
    }
}

fn show(request: &Request) -> String {
    let mut text = format!("{:?}", request.command);
    text = text.replace("[]", "\"\"");
    let command = String::from_utf8_lossy(&request.to_bytes()).trim_end().replace('\n', "\\n");
    let text = if matches!(request.command, Command::Peer(_)) { text } else { command };
    if text.len() > 400 { format!("{}… ({} bytes)", &text[..40], text.len()) } else { text }
}

fn first_line(error: &Error) -> String {
    let mut out = Vec::new();
    Reply::Error(error.clone()).write(&mut out);
    String::from_utf8_lossy(&out).trim_end().into()
}

fn run(script: &str) {
    let path = format!("{}/tests/protocol/{script}", env!("CARGO_MANIFEST_DIR"));
    goldenscript::run(&mut Server, path).expect("the script can be read");
}

#[test]
fn what_a_person_types_is_understood() {
    run("typed");
}

#[test]
fn bad_input_is_refused_and_framing_is_kept_where_it_is_known() {
    run("bad_input");
}

#[test]
fn a_web_page_cannot_talk_to_the_store() {
    run("http");
}

#[test]
fn sizes_are_bounded() {
    run("sizes");
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 1..20)
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..CELL as usize)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (name(), name(), value(), any::<Option<u64>>(), any::<Option<u64>>()).prop_map(
            |(row, column, value, if_version, ttl)| Op::Put { row, column, value, if_version, ttl }
        ),
        (name(), name(), value(), value(), any::<Option<u64>>())
            .prop_map(|(row, column, old, new, ttl)| Op::Cput { row, column, old, new, ttl }),
        (name(), name(), any::<Option<u64>>()).prop_map(|(row, column, if_version)| Op::Delete {
            row,
            column,
            if_version
        }),
        name().prop_map(Op::delete_row),
        (name(), name(), any::<i64>(), any::<Option<i64>>())
            .prop_map(|(row, column, delta, max)| Op::Add { row, column, delta, max }),
        (name(), name(), value()).prop_map(|(row, prefix, value)| Op::Append {
            row,
            prefix,
            value
        }),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    let column = (name(), any::<u64>(), value()).prop_map(|(name, version, value)| Column {
        name,
        version,
        len: value.len() as u64,
        big: false,
        value: Some(value.into()),
    });
    let row = (name(), any::<u64>(), any::<u64>()).prop_map(|(name, cells, bytes)| Row {
        name,
        cells,
        bytes,
    });
    prop_oneof![
        proptest::collection::vec(name(), 0..4).prop_map(Reply::Ok),
        (any::<u64>(), any::<Option<usize>>())
            .prop_map(|(version, at)| Reply::Mismatch { version, at }),
        (proptest::collection::vec(column, 0..4), any::<bool>())
            .prop_map(|(columns, more)| Reply::Columns { columns, more }),
        (proptest::collection::vec(row, 0..4), any::<bool>())
            .prop_map(|(rows, more)| Reply::Rows { rows, more }),
        (proptest::collection::vec(name(), 0..3), value())
            .prop_map(|(words, payload)| Reply::Peer { words, payload }),
        Just(Reply::NotFound),
        Just(Reply::Pong),
        Just(Reply::Error(Error::NoSpace)),
        (any::<i64>(), any::<i64>())
            .prop_map(|(used, limit)| Reply::Error(Error::Quota { used, limit })),
        Just(Reply::Error(Error::retry("later"))),
    ]
}

proptest! {
    #[test]
    fn a_request_survives_the_wire(op in op(), number in any::<u64>()) {
        let mut request = Request::new(Command::Write(op));
        request.options.deadline_ms = Some(number);
        let bytes = request.to_bytes();
        let mut from = &bytes[..];
        match wire::read_request(&mut from, CELL, |_| Ok(())) {
            Ok(Incoming::Request(read)) => prop_assert_eq!(read, request),
            other => prop_assert!(false, "{:?}", other),
        }
        prop_assert!(from.iter().all(|b| *b == b'\n'), "the next request begins after it");
    }

    #[test]
    fn a_batch_survives_the_wire(mut items in proptest::collection::vec(op(), 1..6)) {
        for item in &mut items {
            if let Op::Put { row, .. } | Op::Cput { row, .. } | Op::Delete { row, .. } | Op::DeleteRow { row }
            | Op::Add { row, .. } | Op::Append { row, .. } = item {
                *row = b"alice/mail".to_vec();
            }
        }
        let request = Request::new(Command::Batch { owner: b"alice".to_vec(), items });
        match wire::read_request(&mut &request.to_bytes()[..], CELL, |_| Ok(())) {
            Ok(Incoming::Request(read)) => prop_assert_eq!(read, request),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn a_scan_survives_the_wire(row in name(), prefix in name(), after in proptest::option::of(name()),
                                limit in 1usize..1000, reverse: bool, values: bool, local: bool) {
        let request = Request::new(Command::Scan(Scan { row, prefix, after, limit, reverse, values, local }));
        match wire::read_request(&mut &request.to_bytes()[..], CELL, |_| Ok(())) {
            Ok(Incoming::Request(read)) => prop_assert_eq!(read, request),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn an_answer_survives_the_wire(reply in reply()) {
        let mut bytes = Vec::new();
        reply.write(&mut bytes);
        prop_assert_eq!(wire::read_reply(&mut BufReader::new(&bytes[..]), true), Ok(reply));
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        receive(&bytes);
        let _ = wire::read_reply(&mut &bytes[..], true);
    }

    #[test]
    fn any_words_are_refused_without_a_panic(text in "(GET|PUT|CPUT|BATCH|APPEND|CHUNK|SCAN|@X|COMMIT)( [a-z0-9=%-]{0,9}){0,5}\n{0,2}[a-z\n]{0,9}") {
        receive(text.as_bytes());
    }
}

#[test]
fn nothing_is_read_of_what_is_not_admitted() {
    let denied = |_: &Command| Err(Error::Denied("no".into()));
    for line in ["PUT r c 5", "CHUNK r 00000000000000000000000000000001 0 5", "@ROUTES 5"] {
        let bytes = format!("{line}\nhello");
        let mut from = bytes.as_bytes();
        let incoming = wire::read_request(&mut from, CELL, denied);
        assert!(matches!(incoming, Ok(Incoming::Lost(Error::Denied(_)))), "{line}");
        assert_eq!(from, b"hello", "{line}");
    }
}
