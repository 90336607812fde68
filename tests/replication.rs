//! The replica as a pure machine: scripts of inputs, and what it wants done.
//!
//! A script's `propose` takes a line of the text protocol, and the bytes that follow it on the wire.

use penncloud::protocol::cell::{Cell, Value};
use penncloud::protocol::command::{self, Command, Op, Options, Payload};
use penncloud::protocol::entry::{Effect, Entry, Item};
use penncloud::replication::{
    Configuration, DiskSpace, Input, Outcome, Output, Proposal, Reads, Replica, Rules, Setting,
    Table, Timing,
};
use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write;
use std::sync::Arc;

#[derive(goldenscript::Command)]
enum Step {
    /// The master's configuration: epoch and primary.
    Configure(u64, String),
    /// A request: its line, and its bytes.
    Propose(String, Option<String>),
    /// A batch: line, bytes, line, bytes, ...
    Batch(Vec<String>),
    /// Everything appended is on disk; or a part of it.
    Persist(Option<u64>),
    /// Dies and comes back with what was on disk.
    Restart,
    /// Sets the clock, in seconds.
    Clock(u64),
    /// Sets the most bytes that the tablet may hold, and the room on the disk.
    Limit {
        #[arg(key, optional)]
        bytes: Option<u64>,
        #[arg(key, optional)]
        disk: Option<String>,
    },
    /// Shows the committed table.
    Table,
}

struct Runner {
    replica: Replica,
    disk: Vec<Entry>,
    appended: Vec<Arc<Entry>>,
    adopted: (Configuration, u64),
    setting: Setting,
    token: u64,
}

/// A replica as it comes back with what was on disk.
fn recover(adopted: (Configuration, u64), log: Vec<Entry>) -> Replica {
    let timing = Timing {
        reads: Reads::Lease,
        lease: 2_000_000,
        grace: 2_500_000,
        beacon: 400_000,
        silence: 1_000_000,
        keep: 4,
        keep_bytes: 0,
        batch: 16,
        batch_bytes: 1 << 20,
        window_bytes: 1 << 20,
    };
    Replica::recover("n1".into(), (Rules::ALL, timing), 0, adopted, Table::default(), log)
}

impl Runner {
    fn new() -> Runner {
        let setting = Setting {
            now: 0,
            stage_ms: 60_000,
            retire_ms: 3_600_000,
            tablet_bytes_max: 1 << 20,
            disk_space: DiskSpace::Enough,
        };
        Runner {
            replica: recover(Default::default(), Vec::new()),
            disk: Vec::new(),
            appended: Vec::new(),
            adopted: Default::default(),
            setting,
            token: 0,
        }
    }

    fn step(&mut self, input: Input) -> String {
        let (mut text, before) = (String::new(), self.replica.committed().version);
        let outputs = self.replica.step(self.setting.now * 1000, input);
        let committed = self.replica.committed().version;
        if committed > before {
            let _ = writeln!(text, "commit version={committed}");
        }
        for output in outputs {
            let _ = match output {
                Output::Adopt(c, sealed) => {
                    self.adopted = (c.clone(), sealed);
                    writeln!(
                        text,
                        "adopt epoch={} primary={}",
                        c.epoch,
                        c.primary.unwrap_or_default()
                    )
                }
                Output::Append(entry) => {
                    self.appended.push(entry.clone());
                    writeln!(text, "append {}", show_entry(&entry))
                }
                Output::Answer(token, outcome) => {
                    writeln!(text, "answer #{token} {}", show_outcome(&outcome))
                }
                other => writeln!(text, "{other:?}"),
            };
        }
        if text.is_empty() { "nothing\n".into() } else { text }
    }

    fn propose(&mut self, ops: Vec<Op>, single: bool, options: Options) -> String {
        self.token += 1;
        let token = self.token;
        let (request, retry, setting) = (options.session, options.retry, self.setting);
        self.step(Input::Propose(Proposal { token, request, retry, ops, single, setting }))
    }
}

impl goldenscript::Runner for Runner {
    type Command = Step;

    fn run(&mut self, step: &Step, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        Ok(match step {
            Step::Configure(epoch, primary) => self.step(Input::Configure(Configuration {
                epoch: *epoch,
                primary: Some(primary.as_str().into()),
                isr: BTreeSet::from([primary.as_str().into()]),
                members: BTreeSet::from([primary.as_str().into()]),
                min_insync: 1,
                clean: false,
            })),
            Step::Propose(line, bytes) => {
                let (op, options) = parse(line, bytes.as_deref().unwrap_or(""))?;
                self.propose(vec![op], true, options)
            }
            Step::Batch(parts) => {
                let pairs =
                    parts.chunks(2).map(|pair| parse(&pair[0], pair.get(1).map_or("", |b| b)));
                let parsed = pairs.collect::<Result<Vec<_>, _>>()?;
                let options = parsed[0].1;
                self.propose(parsed.into_iter().map(|(op, _)| op).collect(), false, options)
            }
            Step::Persist(version) => {
                let version = version
                    .or(self.appended.last().map(|e| e.version))
                    .ok_or("nothing was appended")?;
                self.disk.extend(
                    self.appended.iter().filter(|e| e.version <= version).map(|e| Entry::clone(e)),
                );
                self.appended.retain(|e| e.version > version);
                self.step(Input::Persisted(version))
            }
            Step::Restart => {
                self.appended.clear();
                self.replica = recover(self.adopted.clone(), self.disk.clone());
                format!("recovered {} entries\n", self.disk.len())
            }
            Step::Clock(seconds) => {
                self.setting.now = seconds * 1000;
                String::new()
            }
            Step::Limit { bytes, disk } => {
                self.setting.tablet_bytes_max = bytes.unwrap_or(self.setting.tablet_bytes_max);
                self.setting.disk_space = match disk.as_deref() {
                    None => DiskSpace::Enough,
                    Some("low") => DiskSpace::Low,
                    Some("exhausted") => DiskSpace::Exhausted,
                    Some(other) => return Err(format!("{other} is no room on a disk").into()),
                };
                String::new()
            }
            Step::Table => {
                let items = self.replica.committed().items().collect::<Result<Vec<_>, _>>()?;
                items.iter().filter_map(show_item).collect()
            }
        })
    }
}

/// Parses a line of the protocol; EXPIRE, DROP, FORGET and STAGE are what nodes do among themselves.
pub(crate) fn parse(line: &str, bytes: &str) -> Result<(Op, Options), Box<dyn Error>> {
    if line == "EXPIRE" {
        return Ok((Op::Expire, Options::default()));
    }
    let (mut request, payload) = command::parse(line.as_bytes())?;
    if payload.bytes() != bytes.len() as u64 && payload != Payload::None {
        return Err(
            format!("{} bytes are announced, {} follow", payload.bytes(), bytes.len()).into()
        );
    }
    request.fill(bytes.into(), payload);
    let op = match request.command {
        Command::Write(Op::Commit { row, column, id, length, if_version, ttl, .. }) => {
            let chunk = penncloud::protocol::cell::Chunk { length: length as u32, crc: 7 };
            let head = Some(penncloud::protocol::cell::Head::new(id, vec![chunk]));
            Op::Commit { row, column, id, length, if_version, ttl, head }
        }
        Command::Write(op) => op,
        Command::Stage { row, id } => {
            Op::Stage { row, id: id.ok_or("STAGE needs id= here")?, renew: false }
        }
        Command::Staged { row, id } => Op::Stage { row, id, renew: true },
        Command::Chunk { row, id, offset, value } => {
            Op::Chunk { slot: penncloud::protocol::cell::slot(&row), id, offset, value }
        }
        other => return Err(format!("{other:?} is no write").into()),
    };
    Ok((op, request.options))
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn show_entry(entry: &Entry) -> String {
    let effects: Vec<String> = entry.effects.iter().map(show_effect).collect();
    let what = match (&entry.request, effects.is_empty()) {
        (_, false) => effects.join(", "),
        (Some(_), true) => "refusal".into(),
        (None, true) => "barrier".into(),
    };
    format!("{}/{} after epoch {}: {what}", entry.epoch, entry.version, entry.prev_epoch)
}

fn show_effect(effect: &Effect) -> String {
    match effect {
        Effect::Put { key, value, expires } => {
            let expires = if *expires > 0 { format!(" until {expires}") } else { String::new() };
            format!("put {} {}={}{expires}", text(&key.row), text(&key.column), show_value(value))
        }
        Effect::Delete(key) => format!("delete {} {}", text(&key.row), text(&key.column)),
        Effect::DeleteRow { row, .. } => format!("delete row {}", text(row)),
        Effect::Sequence(key, last) => {
            format!("sequence {} {}={last}", text(&key.row), text(&key.column))
        }
        Effect::Stage(id, staged) => format!("stage {} until {}", id.0, staged.deadline),
        Effect::Abandon(id) => format!("abandon {}", id.0),
        Effect::Forget(id) => format!("forget {}", id.0),
    }
}

fn show_value(value: &Value) -> String {
    match value {
        Value::Inline(bytes) => text(bytes),
        Value::Big(head) => format!("<value {} of {} bytes>", head.id.0, head.length),
    }
}

pub(crate) fn show_outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done(answer) => {
            let words: String = answer.words.iter().map(|w| format!(" {}", text(w))).collect();
            format!("ok {}{words}", answer.version)
        }
        Outcome::Mismatch { version, at } => format!("mismatch {version} at item {at}"),
        Outcome::NotFound => "not found".into(),
        Outcome::Refused(error) => format!("refused: {error}"),
    }
}

fn show_item(item: &Item) -> Option<String> {
    Some(match item {
        Item::Cell(key, Cell { version, value, .. }) => {
            format!("{} {}={} @{version}\n", text(&key.row), text(&key.column), show_value(value))
        }
        Item::Sequence(key, last) => {
            format!("sequence {} {}={last}\n", text(&key.row), text(&key.column))
        }
        Item::Staged(id, staged) => format!("staged {} until {}\n", id.0, staged.deadline),
        Item::Retired(id, retired) => format!("retired {} until {}\n", id.0, retired.due),
        Item::Session(client, session) => {
            format!("session {client} low={} {:?}\n", session.low, session.answers.keys())
        }
        Item::Evicted(_) | Item::Expires(..) | Item::Flawed(_) => return None,
    })
}

fn run(script: &str) {
    let path = format!("{}/tests/replication/{script}", env!("CARGO_MANIFEST_DIR"));
    goldenscript::run(&mut Runner::new(), path).expect("the script can be read");
}

#[test]
fn nothing_is_served_before_the_barrier_is_durable() {
    run("barrier");
}

#[test]
fn conditions_see_what_is_prepared_and_answers_wait_for_it() {
    run("conditions");
}

#[test]
fn a_batch_is_all_or_none() {
    run("batch");
}

#[test]
fn a_retry_executes_once() {
    run("retry");
}

#[test]
fn a_restart_keeps_what_was_acknowledged_and_needs_a_new_epoch() {
    run("restart");
}

#[test]
fn numbers_of_append_are_never_used_again() {
    run("append");
}

#[test]
fn big_values_are_staged_committed_and_retired() {
    run("big_values");
}

#[test]
fn what_expires_is_removed_by_a_logged_delete() {
    run("expiry");
}

#[test]
fn full_is_a_clear_no_and_deleting_works() {
    run("full");
}

#[test]
fn sessions_are_bounded_and_an_evicted_one_is_unknown() {
    use penncloud::protocol::command::RequestId;
    use penncloud::protocol::entry::Answer;
    use penncloud::replication::table::{Known, SESSIONS_MAX};
    let mut table = Table::default();
    let request = |client: u64| RequestId { client: u128::from(client), request: 1, low: 1 };
    for version in 1..=SESSIONS_MAX as u64 + 1 {
        table.apply(&Entry {
            epoch: 1,
            version,
            prev_epoch: 1,
            retire: 0,
            request: Some(request(version)),
            answer: Answer { version, words: Vec::new() },
            effects: Vec::new(),
        });
    }
    assert_eq!(table.lookup(&request(1), true), Known::Evicted, "the oldest was evicted");
    assert_eq!(table.lookup(&request(1), false), Known::New);
    assert!(matches!(table.lookup(&request(2), true), Known::Answered(_)));
    let newer = request(SESSIONS_MAX as u64 + 2);
    assert_eq!(
        table.lookup(&newer, true),
        Known::New,
        "an id above all evicted ones was never evicted"
    );
}
