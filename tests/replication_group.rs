//! Several replicas of one tablet as scripts: who says what to whom, and what comes of it.
//!
//! Nothing happens by itself: `settle` delivers and syncs until all is quiet, `cut` loses what is sent to and from a
//! node, `pass` lets time pass.
//!
//! # Rules, and the script that shows each
//!
//! The rules of REPLICATION.md, section 10, in its order. Scripts are here, in `tests/replication_group`, where no folder is
//! named; a rule of what is around a replica that no script can show is taken away in `tests/simulation`, which takes
//! away every other one too.
//!
//! | rule | script |
//! |---|---|
//! | pending add counted for commit | `pending_member_counts_before_it_is_added` |
//! | pending add counted for lease | `pending_member_counts_for_the_lease` |
//! | remove hold (R5) | `removed_replica_is_waited_for` |
//! | promise wait before SEALED (R3) | `sealed_node_answers_when_its_promise_has_run_out` |
//! | barrier before serving | `new_primary_serves_nothing_before_its_barrier` |
//! | read-then-check (R6) | none: simulation, `read_then_check` |
//! | checkpoint only committed | none: simulation, `checkpoint_committed` |
//! | ack after fsync | `acknowledged_only_when_on_disk` |
//! | failed CPUT waits for what it saw | `failed_cput_waits_for_what_it_saw` |
//! | drift bound | none: simulation, `drift_bound` |
//! | dedup | `repeat_at_another_primary_meets_its_first_try`; `tests/replication/retry` |
//! | ack = match, not log end | `acks_cover_only_what_matches` |
//! | dirty check at replicas | `dirty_reads_ask` shows the question; who must ask: simulation, `dirty_check` |
//! | serving prepared values as read | `readers_see_what_is_committed` |
//! | restarted primary is sealed | `restarted_primary_is_sealed` |
//! | read lease counted from own ack | `late_grant_gives_no_longer_lease` |
//! | all-of-isr commit | `a_write_is_committed_when_all_have_it` |
//! | truncation by lineage | `logs_are_cut_by_lineage`, `tail_of_a_log_is_kept` |
//! | clock that counts suspend | none: simulation, `suspend_counts` |
//! | promote only from isr | `src/master/testscripts/failover` |
//! | REMOVE effective only after the master's answer | `removal_counts_once_the_master_has_answered` |
//! | epoch fence on PREPARE | `stale_epoch_is_fenced` |
//! | promise at process start (R4) | `process_starts_with_a_promise` |
//! | lease check at all | `nobody_answers_reads_without_a_lease` |
//! | durable isr at master | `src/master/testscripts/restarted_primary`; `tests/master.rs`: a killed master |
//! | UNKNOWN, not FAILED, on timeout | `what_has_a_version_is_unknown_not_refused` |
//! | `confirm`: every isr member acks | `confirmed_reads_ask_all` |
//! | SEAL/commit gate cover own grants (R3, R5) | `sealed_primary_waits_for_the_leases_it_gave`, `removed_replica_is_waited_for` |
//! | commit gate when a sealed primary's own REMOVE wins (R5) | `sealed_primary_named_again_waits_for_its_promise` |
//!
//! Rules that came later: `who_resigns_has_sealed`, `resign_drains_first`, `primary_that_goes_on_carries_its_hold_over`,
//! `removal_after_a_hand_over_waits`, `refusal_of_a_repeat_meets_its_first_try`, `prepared_writes_have_a_bound`,
//! `batch_with_nothing_to_do_is_a_read`, `sealed_replica_ends_the_writes`, `lost_entries_are_missed`; that
//! entries follow the log's own is in `logs_are_cut_by_lineage`.

use crate::replication::{parse, show_entry, show_outcome, text};
use penncloud::protocol::cell::Value;
use penncloud::protocol::entry::{Effect, Entry};
use penncloud::replication::{
    Configuration, DiskSpace, Input, Message, Nack, Output, Plea, Position, Prepare, Proposal,
    Reads, Replica, Rules, Setting, Table, Timing,
};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write;
use std::sync::Arc;

#[derive(goldenscript::Command)]
enum Step {
    /// The master's configuration: epoch and primary; the in-sync set as `"n1,n2"`; `to`: those who hear of it.
    Configure {
        epoch: u64,
        primary: String,
        #[arg(key, optional)]
        isr: Option<String>,
        #[arg(key, optional)]
        clean: Option<bool>,
        #[arg(key, optional)]
        to: Option<String>,
    },
    /// How reads are served, from the beginning on: lease or confirm.
    Reads(String),
    /// How many bytes of entries may be on their way to one member, from the beginning on.
    Window(u64),
    /// How many committed entries stay in memory, from the beginning on.
    Keep(usize),
    /// The log on a node's disk holds every entry after a version.
    Reaches(String, u64),
    /// A node has read back two entries after a version, for a member; or finds them no more.
    ReadBack {
        #[arg(pos)]
        node: String,
        #[arg(pos)]
        member: String,
        #[arg(pos)]
        after: u64,
        #[arg(key, optional)]
        gone: Option<bool>,
    },
    /// A request at a node: its line, and its bytes.
    Propose(String, String, Option<String>),
    /// A BATCH of one request at a node.
    Batch(String, String),
    /// A reader at a node asks what is committed.
    Query(String),
    /// Everything that a node has appended is on disk.
    Persist(String),
    /// Messages are delivered, and appended entries synced, until nothing is left.
    Settle,
    /// Messages are delivered, and nothing is synced; or those for one node alone, and the others are late.
    Deliver(Option<String>),
    /// What is sent to and from a node is lost.
    Cut(String),
    /// It is lost no more.
    Heal(String),
    /// So many milliseconds pass, and every node looks at its clock.
    Pass(u64),
    /// The master ends the epoch of a node.
    Seal(String),
    /// The master asks a node to leave its epoch in order.
    Resign(String),
    /// A node dies and comes back with what was on disk.
    Restart(String),
    /// A node's disk loses its last entry.
    Lose(String),
    /// A value of the last entry on a node's disk becomes another one.
    Spoil(String),
    /// The room on a node's disk: enough, low or exhausted.
    Space(String, String),
    /// What a node has committed, and how long its lease runs on.
    Show(String),
    /// What a reader sees at a node that has a lease.
    Read(String),
}

struct Node {
    replica: Replica,
    disk: Vec<Entry>,
    appended: Vec<Arc<Entry>>,
    adopted: (Configuration, u64),
    token: u64,
}

struct Runner {
    rules: Rules,
    nodes: BTreeMap<String, Node>,
    sent: Vec<(String, String, Message)>,
    cut: BTreeSet<String>,
    now: u64,
    confirms: bool,
    window_bytes: u64,
    keep: usize,
}

const MEMBERS: [&str; 3] = ["n1", "n2", "n3"];

fn names(list: &str) -> BTreeSet<Arc<str>> {
    list.split(',').map(Arc::from).collect()
}

impl Runner {
    fn new(rules: Rules) -> Runner {
        Runner {
            rules,
            nodes: BTreeMap::new(),
            sent: Vec::new(),
            cut: BTreeSet::new(),
            now: 0,
            confirms: false,
            window_bytes: 1 << 20,
            keep: 100,
        }
    }

    fn recover(&self, name: &str, adopted: &(Configuration, u64), log: &[Entry]) -> Replica {
        let timing = Timing {
            reads: if self.confirms { Reads::Confirm } else { Reads::Lease },
            lease: 2_000_000,
            grace: 2_500_000,
            beacon: 400_000,
            silence: 1_000_000,
            keep: self.keep,
            keep_bytes: 0,
            batch: 16,
            batch_bytes: 1 << 20,
            window_bytes: self.window_bytes,
        };
        let rules = (self.rules, timing);
        Replica::recover(
            name.into(),
            rules,
            self.clock(),
            adopted.clone(),
            Table::default(),
            log.into(),
        )
    }

    /// Microseconds of all clocks.
    fn clock(&self) -> u64 {
        10_000_000 + self.now * 1000
    }

    fn start(&mut self) {
        for name in MEMBERS {
            let replica = self.recover(name, &Default::default(), &[]);
            let (disk, appended) = (Vec::new(), Vec::new());
            let node = Node { replica, disk, appended, adopted: Default::default(), token: 0 };
            self.nodes.entry(name.into()).or_insert(node);
        }
    }

    fn step(&mut self, name: &str, input: Input) -> String {
        let (mut said, clock) = (String::new(), self.clock());
        let node = self.nodes.get_mut(name).expect("nodes are n1 to n3");
        let before = node.replica.committed().version;
        let outputs = node.replica.step(clock, input);
        let committed = node.replica.committed().version;
        if committed > before {
            let _ = writeln!(said, "{name} commits {committed}");
        }
        for output in outputs {
            let line = match &output {
                Output::Adopt(configuration, sealed) => {
                    node.adopted = (configuration.clone(), *sealed);
                    format!("adopts epoch {}, sealed {sealed}", configuration.epoch)
                }
                Output::Append(entry) => {
                    node.appended.push(entry.clone());
                    format!("appends {}", show_entry(entry))
                }
                Output::Truncate(version) => {
                    node.appended.retain(|entry| entry.version <= *version);
                    node.disk.retain(|entry| entry.version <= *version);
                    format!("cuts its log off after {version}")
                }
                Output::Send(to, message) | Output::Mention(to, message) => {
                    self.sent.push((name.into(), to.to_string(), message.clone()));
                    format!("-> {to} {}", show_message(message))
                }
                Output::Answer(token, outcome) => {
                    format!("answers #{token} {}", show_outcome(outcome))
                }
                Output::Confirm(token, Ok(())) => format!("confirms #{token}"),
                Output::Confirm(token, Err(error)) => format!("does not confirm #{token}: {error}"),
                Output::Sealed(epoch, end) => {
                    format!("-> master sealed {epoch}, log ends at {}/{}", end.epoch, end.version)
                }
                Output::Resigned(epoch) => format!("-> master resigned {epoch}"),
                Output::Differs(version) => format!("differs from its primary at {version}"),
                Output::Lost(node, acked, end) => {
                    format!("says that {node} had {acked}, and has {end}")
                }
                Output::ReadBack(member, after, last) => {
                    format!("reads back what {member} lacks after {after}, up to {last}")
                }
                Output::Plead(_, plea) => format!("-> master {}", show_plea(plea)),
                Output::Install(table) => format!("installs a table of version {}", table.version),
            };
            let _ = writeln!(said, "{name} {line}");
        }
        said
    }

    /// Entries on a node's disk after a version, `n` at most, and where they go on from.
    fn on_disk(&self, name: &str, after: u64, n: usize) -> (Position, Vec<Arc<Entry>>) {
        let log = self.nodes[name].disk.iter().skip_while(|entry| entry.version <= after).take(n);
        let entries: Vec<_> = log.map(|entry| Arc::new(entry.clone())).collect();
        let epoch = entries.first().map_or(0, |first| first.prev_epoch);
        (Position { epoch, version: after }, entries)
    }

    /// Delivers what was sent by now: all of it, or what is for one node.
    fn deliver(&mut self, only: Option<&str>) -> String {
        let mut said = String::new();
        let sent = std::mem::take(&mut self.sent).into_iter();
        let (due, late) = sent.partition(|(_, to, _)| only.is_none_or(|only| only == to));
        self.sent = late;
        let due: Vec<_> = due;
        for (from, to, message) in due {
            if !self.cut.contains(&from) && !self.cut.contains(&to) {
                said += &self.step(&to, Input::Message(from.as_str().into(), message));
            }
        }
        said
    }

    fn persist(&mut self, name: &str) -> String {
        let node = self.nodes.get_mut(name).expect("nodes are n1 to n3");
        let Some(last) = node.appended.last().map(|entry| entry.version) else {
            return String::new();
        };
        node.disk.extend(node.appended.drain(..).map(|entry| Entry::clone(&entry)));
        self.step(name, Input::Persisted(last))
    }

    fn settle(&mut self) -> String {
        let mut said = String::new();
        while !self.sent.is_empty() || self.nodes.values().any(|node| !node.appended.is_empty()) {
            for name in MEMBERS {
                said += &self.persist(name);
            }
            said += &self.deliver(None);
        }
        said
    }

    fn propose(
        &mut self,
        name: &str,
        line: &str,
        bytes: &str,
        single: bool,
    ) -> Result<String, Box<dyn Error>> {
        let (op, options) = parse(line, bytes)?;
        let setting = Setting {
            now: self.now,
            stage_ms: 60_000,
            retire_ms: 60_000,
            tablet_bytes_max: 1 << 20,
            disk_space: DiskSpace::Enough,
        };
        let (token, request, retry) = (self.token(name), options.session, options.retry);
        let proposal = Proposal { token, request, retry, ops: vec![op], single, setting };
        Ok(self.step(name, Input::Propose(proposal)))
    }

    fn token(&mut self, name: &str) -> u64 {
        let node = self.nodes.get_mut(name).expect("nodes are n1 to n3");
        node.token += 1;
        node.token
    }

    fn adopted(&self, name: &str) -> Configuration {
        self.nodes[name].replica.configuration().clone()
    }

    fn show(&self, name: &str) -> String {
        let replica = &self.nodes[name].replica;
        let left = replica.lease_until().saturating_sub(self.clock()) / 1000;
        let (version, cells) = (replica.committed().version, columns(replica.committed()));
        format!("{name} has committed {version}: {cells:?}; its lease runs for {left} ms\n")
    }

    fn read(&self, name: &str) -> String {
        let replica = &self.nodes[name].replica;
        match replica.may_read(self.clock()) {
            true => format!("{name} shows {:?}\n", columns(replica.committed())),
            false => format!("{name} has no lease\n"),
        }
    }
}

fn columns(table: &Table) -> Vec<String> {
    let cells = table.cells_from(std::ops::Bound::Unbounded);
    cells.map(|cell| text(&cell.expect("it is in memory").0.column)).collect()
}

impl goldenscript::Runner for Runner {
    type Command = Step;

    fn run(&mut self, step: &Step, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        if !matches!(step, Step::Reads(_) | Step::Window(_) | Step::Keep(_)) {
            self.start();
        }
        let said = match step {
            Step::Configure { epoch, primary, isr, clean, to } => {
                let configuration = Configuration {
                    epoch: *epoch,
                    primary: Some(primary.as_str().into()),
                    isr: names(isr.as_deref().unwrap_or("n1,n2,n3")),
                    members: MEMBERS.map(Arc::from).into(),
                    min_insync: 1,
                    clean: clean.unwrap_or(false),
                };
                let to = names(to.as_deref().unwrap_or("n1,n2,n3"));
                to.iter().map(|n| self.step(n, Input::Configure(configuration.clone()))).collect()
            }
            Step::Reads(how) => {
                self.confirms = how == "confirm";
                return Ok(String::new());
            }
            Step::Window(bytes) => {
                self.window_bytes = *bytes;
                return Ok(String::new());
            }
            Step::Keep(entries) => {
                self.keep = *entries;
                return Ok(String::new());
            }
            Step::Reaches(name, version) => self.step(name, Input::LogStart(*version)),
            Step::ReadBack { node, member, after, gone } => {
                let found = self.on_disk(node, *after, if gone.is_some() { 0 } else { 2 });
                self.step(node, Input::ReadBack(member.as_str().into(), found.0, found.1))
            }
            Step::Propose(name, line, bytes) => {
                self.propose(name, line, bytes.as_deref().unwrap_or(""), true)?
            }
            Step::Batch(name, line) => self.propose(name, line, "", false)?,
            Step::Query(name) => {
                let token = self.token(name);
                self.step(name, Input::Query(token))
            }
            Step::Persist(name) => self.persist(name),
            Step::Settle => self.settle(),
            Step::Deliver(only) => self.deliver(only.as_deref()),
            Step::Cut(name) => {
                self.cut.insert(name.clone());
                return Ok(String::new());
            }
            Step::Heal(name) => {
                self.cut.remove(name);
                return Ok(String::new());
            }
            Step::Pass(ms) => {
                self.now += ms;
                MEMBERS.iter().map(|name| self.step(name, Input::Tick)).collect()
            }
            Step::Seal(name) => self.step(name, Input::Seal(self.adopted(name))),
            Step::Resign(name) => self.step(name, Input::Resign(self.adopted(name).epoch)),
            Step::Restart(name) => {
                let node = &self.nodes[name];
                let replica = self.recover(name, &node.adopted, &node.disk);
                let node = self.nodes.get_mut(name).expect("it was just there");
                node.appended.clear();
                node.replica = replica;
                return Ok(String::new());
            }
            Step::Lose(name) => {
                let node = self.nodes.get_mut(name).expect("nodes are n1 to n3");
                node.disk.pop();
                return Ok(String::new());
            }
            Step::Spoil(name) => {
                let node = self.nodes.get_mut(name).expect("nodes are n1 to n3");
                spoil(node.disk.last_mut().ok_or("nothing is on the disk")?);
                return Ok(String::new());
            }
            Step::Space(name, space) => self.step(name, Input::Space(DiskSpace::parse(space)?)),
            Step::Show(name) => self.show(name),
            Step::Read(name) => self.read(name),
        };
        Ok(if said.is_empty() { "nothing\n".into() } else { said })
    }
}

fn spoil(entry: &mut Entry) {
    for effect in &mut entry.effects {
        if let Effect::Put { value, .. } = effect {
            *value = Value::Inline(b"spoilt".as_slice().into());
        }
    }
}

fn show_message(message: &Message) -> String {
    match message {
        Message::Prepare(prepare) => show_prepare(prepare),
        Message::Ack(ack) => {
            let low = ack.space != DiskSpace::Enough;
            let disk = if low { format!(", disk {}", ack.space.word()) } else { String::new() };
            format!("ack {} up to {}{disk}", ack.epoch, ack.version)
        }
        Message::Nack(Nack { epoch, hint, .. }) => format!("nack {epoch}, try after {hint}"),
        Message::Query { epoch, id } => format!("query {epoch} #{id}"),
        Message::Committed { epoch, id, version } => format!("committed {epoch} #{id} {version}"),
        Message::Install { table, .. } => format!("install a table of version {}", table.version),
    }
}

fn show_prepare(prepare: &Prepare) -> String {
    let (epoch, prev) = (prepare.configuration.epoch, prepare.prev);
    let entries: Vec<String> =
        prepare.entries.iter().map(|e| format!("{}/{}", e.epoch, e.version)).collect();
    let entries = if entries.is_empty() { "nothing".into() } else { entries.join(" ") };
    let (after, committed) = (format!("{}/{}", prev.epoch, prev.version), prepare.committed);
    format!("prepare {epoch} after {after}: {entries}; committed {committed}")
}

fn show_plea(plea: &Plea) -> String {
    match plea {
        Plea::Remove(node) => format!("remove {node}"),
        Plea::Add(node) => format!("add {node}"),
        Plea::NoLease => "no lease".into(),
        Plea::Tell => "tell".into(),
    }
}

fn path(script: &str) -> String {
    format!("{}/tests/replication_group/{script}", env!("CARGO_MANIFEST_DIR"))
}

fn run(script: &str) {
    goldenscript::run(&mut Runner::new(Rules::ALL), path(script)).expect("the script can be read");
}

/// The first line that comes out otherwise without a rule: as it is, and as it would be. A replica that stops, for
/// what must not be, says nothing more.
fn difference(script: &str, off: fn(&mut Rules)) -> Option<(String, String)> {
    let golden = std::fs::read_to_string(path(script)).expect("the script is there");
    let mut rules = Rules::ALL;
    off(&mut rules);
    let without = || goldenscript::generate(&mut Runner::new(rules), &golden);
    let Ok(output) = std::panic::catch_unwind(without) else {
        return Some((String::new(), "a replica stops".into()));
    };
    let output = output.expect("the script can be read");
    let mut lines = golden.lines().zip(output.lines());
    let (is, would) = lines.find(|(is, would)| is != would)?;
    Some((is.into(), would.into()))
}

/// A rule by its name, and how it is switched off.
type Switch = (&'static str, fn(&mut Rules));

/// The scripts, and the rules without which each comes out otherwise.
macro_rules! scripts {
    ($($script:ident: [$($rule:ident),*],)+) => {
        $(
            #[test]
            fn $script() {
                run(stringify!($script));
            }
        )+

        const NEEDED: &[(&str, &[Switch])] = &[
            $((stringify!($script), &[$((stringify!($rule), |rules| rules.$rule = false)),*]),)+
        ];
    };
}

scripts!(
    a_primary_that_differed_as_a_replica_is_compared_with_by_nobody: [],
    a_replica_that_differs_says_so: [],
    a_write_is_committed_when_all_have_it: [all_of_isr],
    acks_cover_only_what_matches: [ack_match],
    acknowledged_only_when_on_disk: [ack_after_sync],
    batch_with_nothing_to_do_is_a_read: [looks_are_reads],
    confirmed_reads_ask_all: [confirm_all],
    dirty_reads_ask: [],
    failed_cput_waits_for_what_it_saw: [failed_condition_waits],
    far_behind_gets_the_log_from_disk: [],
    full_disk_of_a_replica_refuses_before_a_version_is_given: [],
    late_grant_gives_no_longer_lease: [lease_from_own_ack],
    logs_are_cut_by_lineage: [prev_matches, truncate_by_lineage],
    low_disk_of_a_learner_keeps_it_out: [],
    lost_entries_are_missed: [],
    nobody_answers_reads_without_a_lease: [lease_check],
    new_primary_serves_nothing_before_its_barrier: [barrier],
    pending_member_counts_before_it_is_added: [pending_add_commits],
    pending_member_counts_for_the_lease: [pending_add_leases],
    prepared_writes_have_a_bound: [prepared_bounded],
    primary_that_goes_on_carries_its_hold_over: [hold_carried_over],
    process_starts_with_a_promise: [promise_at_start],
    readers_are_told_when_their_primary_leaves: [],
    readers_see_what_is_committed: [],
    refusal_of_a_repeat_meets_its_first_try: [refusals_logged],
    removal_after_a_hand_over_waits: [hand_over_owes],
    removal_counts_once_the_master_has_answered: [remove_after_answer],
    removed_replica_is_waited_for: [remove_hold, own_grants],
    repeat_at_another_primary_meets_its_first_try: [dedup],
    resign_drains_first: [resign_drains],
    restarted_primary_is_sealed: [restart_seals],
    sealed_node_answers_when_its_promise_has_run_out: [promise_wait],
    sealed_primary_named_again_waits_for_its_promise: [sealed_promise],
    sealed_primary_waits_for_the_leases_it_gave: [own_grants],
    sealed_replica_ends_the_writes: [],
    stale_epoch_is_fenced: [epoch_fence],
    tail_of_a_log_is_kept: [truncate_by_lineage],
    what_has_a_version_is_unknown_not_refused: [unknown_not_refused],
    who_resigns_has_sealed: [resign_seals],
);

#[test]
fn each_script_needs_its_rules() {
    let mut idle = Vec::new();
    let pairs = NEEDED.iter().flat_map(|(script, rules)| rules.iter().map(move |r| (script, r)));
    for (script, (rule, off)) in pairs {
        match difference(script, *off) {
            Some((is, would)) => println!("{script} without {rule}: {is:?} becomes {would:?}"),
            None => idle.push(format!("{script} without {rule}")),
        }
    }
    assert!(idle.is_empty(), "the same scripts come out: {idle:?}");
}

/// A rule that is new gets a script.
#[test]
fn each_rule_has_a_script() {
    let mut rules = Rules::ALL;
    NEEDED.iter().flat_map(|(_, needed)| needed.iter()).for_each(|(_, off)| off(&mut rules));
    let left = format!("{rules:?}");
    assert!(!left.contains("true"), "rules without a script: {left}");
}
