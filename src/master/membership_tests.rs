//! Golden scripts of the membership: what it is told, and what it wants done.

use super::{Input, Membership, Output, Plea};
use crate::config::{Backend, Config, Group};
use crate::master::layout;
use crate::master::record::Record;
use crate::protocol::cluster::{NodeState, Report, Role, TabletReport, TabletRoute};
use goldenscript::{Command, Context, Runner};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error;
use std::fmt::Write;

const TIMEOUT_MS: u64 = 1500;

/// A node, a tablet and an epoch.
type Said = (String, String, u64);

/// A master without threads: performs outputs on a store that is a map.
struct House {
    now: u64,
    membership: Membership,
    kept: BTreeMap<String, (u64, Record)>,
    version: u64,
    /// What nodes reported last.
    reports: BTreeMap<String, Report>,
    /// Who has sealed which epochs of which tablets, and who has resigned.
    sealed: BTreeSet<Said>,
    resigned: BTreeSet<Said>,
    /// A key whose swap fails once, as a crash in the middle would leave it.
    lose: Option<String>,
}

impl House {
    fn new() -> House {
        let membership = Membership::new("m1", TIMEOUT_MS, 0);
        House {
            now: 0,
            membership,
            kept: BTreeMap::new(),
            version: 0,
            reports: BTreeMap::new(),
            sealed: BTreeSet::new(),
            resigned: BTreeSet::new(),
            lose: None,
        }
    }

    fn keep(&mut self, record: Record) -> Input {
        self.version += 1;
        self.kept.insert(record.key(), (self.version, record.clone()));
        Input::Stored { record, revision: self.version }
    }

    fn cluster(&mut self, nodes: &str, (small, large): (u32, u32), min_insync: u32) {
        let backend = |name: &str| Backend { name: name.into(), address: format!("{name}:5000") };
        let mut config = Config::parse(include_str!("../../conf/local.toml")).unwrap();
        config.groups =
            vec![Group { name: "a".into(), backends: nodes.split(',').map(backend).collect() }];
        config.store.small_tablets = small;
        config.store.large_tablets = large;
        config.replication.min_insync = min_insync;
        for mut record in layout::missing(&config, &BTreeMap::new()).unwrap() {
            if let Record::Tablet(route) = &mut record {
                route.members = nodes.split(',').map(Into::into).collect();
            }
            let input = self.keep(record);
            self.membership.step(self.now, input);
        }
    }

    fn restart(&mut self) {
        self.membership = Membership::new("m1", TIMEOUT_MS, self.now);
        for (revision, record) in self.kept.values().cloned() {
            self.membership.step(self.now, Input::Stored { record, revision });
        }
    }

    /// Another master gives a tablet its next epoch.
    fn race(&mut self, id: &str) {
        let Some((_, Record::Tablet(mut tablet))) = self.kept.get(&format!("tablet/{id}")).cloned()
        else {
            panic!("no tablet {id}")
        };
        tablet.epoch += 1;
        self.keep(Record::Tablet(tablet));
    }

    /// Takes an input, and looks at the clock as the owner does after each.
    fn take(&mut self, input: Input) -> String {
        let text = self.perform(input);
        if self.lose.is_some() {
            return text;
        }
        text + &self.perform(Input::Tick)
    }

    /// Lets time pass in short steps.
    fn pass(&mut self, ms: u64, beats: &str) -> String {
        let (mut text, end) = (String::new(), self.now + ms);
        while self.now < end {
            self.now = end.min(self.now + 100);
            for node in beats.split(',').filter(|name| !name.is_empty()) {
                let report = self.reports.get(node).cloned().unwrap_or_default();
                text += &self.perform(Input::Beat { node: node.into(), report });
            }
            text += &self.perform(Input::Tick);
        }
        text
    }

    /// Performs as the owner does: what follows from an output comes before the next.
    fn perform(&mut self, input: Input) -> String {
        let (mut text, mut changed) = (String::new(), false);
        self.note(&input);
        let mut todo: VecDeque<Output> = self.membership.step(self.now, input).into();
        while let Some(output) = todo.pop_front() {
            match output {
                Output::Cas(record, revision) => {
                    let (key, words) = (record.key(), said(&record));
                    let held = self.kept.get(&key).cloned();
                    if self.lose.as_ref() == Some(&key) {
                        let _ = writeln!(text, "cas {words} -> crash");
                        return text;
                    }
                    let won = held.as_ref().map_or(0, |h| h.0) == revision;
                    let _ = writeln!(text, "cas {words} -> {}", if won { "done" } else { "lost" });
                    let follows = if won {
                        self.check(held.as_ref().map(|(_, old)| old), &record);
                        self.keep(record)
                    } else {
                        todo.clear();
                        let (revision, record) = held.expect("another has written it");
                        Input::Stored { record, revision }
                    };
                    let outputs = self.membership.step(self.now, follows);
                    outputs.into_iter().rev().for_each(|o| todo.push_front(o));
                }
                Output::Accept(node) => _ = writeln!(text, "accept {node}"),
                Output::Refuse(node, why) => _ = writeln!(text, "refuse {node}: {why}"),
                Output::Announce => changed = true,
                Output::Tell(node) => _ = writeln!(text, "tell {node}"),
                Output::Beat(node) => _ = writeln!(text, "beat to {node}"),
                Output::Seal(node, t) => _ = writeln!(text, "seal {} {} to {node}", t.id, t.epoch),
                Output::Resign(node, t) => {
                    _ = writeln!(text, "resign {} {} to {node}", t.id, t.epoch);
                }
                Output::Serve(node, on) => _ = writeln!(text, "serve {node} {on}"),
                Output::Keep(node, why) => _ = writeln!(text, "keep {node}: {why}"),
                Output::Log(level, line) => _ = writeln!(text, "{level}: {line}"),
            }
        }
        if changed {
            text.push_str("announce\n");
        }
        text
    }

    /// Notes what nodes say.
    fn note(&mut self, input: &Input) {
        match input.clone() {
            Input::Hello { node, report, .. } | Input::Beat { node, report } => {
                let sealed = report.tablets.iter().filter(|t| t.sealed > 0);
                self.sealed.extend(sealed.map(|t| (node.clone(), t.id.clone(), t.sealed)));
                self.reports.insert(node, report);
            }
            Input::Sealed { node, tablet, epoch, .. } => {
                self.sealed.insert((node, tablet, epoch));
            }
            Input::Resigned { node, tablet, epoch } => {
                self.resigned.insert((node, tablet, epoch));
            }
            _ => {}
        }
    }

    /// What must hold of every change of a tablet that somebody has served.
    fn check(&self, old: Option<&Record>, new: &Record) {
        let (Some(Record::Tablet(old)), Record::Tablet(new)) = (old, new) else { return };
        assert_eq!(new.epoch, old.epoch + 1, "epochs rise by one");
        assert_eq!((&new.members, new.min_insync), (&old.members, old.min_insync));
        let primary = new.primary.as_ref().expect("somebody leads");
        assert!(new.isr.contains(primary), "the primary is in sync");
        if old.epoch == 0 {
            return;
        }
        let said = |set: &BTreeSet<Said>, node: &String| {
            set.contains(&(node.clone(), old.id.clone(), old.epoch))
        };
        let added = new.isr.iter().filter(|node| !old.isr.contains(node)).count();
        assert!(added <= 1, "at most one is added: {old:?} {new:?}");
        assert!(old.isr.contains(primary), "only who was in sync leads: {old:?} {new:?}");
        let least = old.isr.len().min(old.min_insync as usize);
        assert!(new.isr.len() >= least, "the in-sync set stays large enough: {old:?} {new:?}");
        let moved = old.primary != new.primary;
        let left = old.isr.iter().filter(|node| !new.isr.contains(node));
        let mut left = left.chain(old.primary.iter().filter(|_| moved));
        assert!(!new.clean || left.all(|node| said(&self.resigned, node)), "{old:?} {new:?}");
        let sealed = said(&self.sealed, primary);
        assert!(!moved || new.clean || sealed, "the new primary has sealed: {old:?} {new:?}");
    }

    fn routes(&self) -> String {
        let routes = self.membership.routes();
        let mut text = format!("version {}\n", routes.version);
        for node in routes.nodes {
            let _ = writeln!(text, "{} {} alive={}", node.name, node.address, node.alive);
        }
        routes.tablets.iter().for_each(|route| _ = writeln!(text, "{}", words(route)));
        text
    }

    fn status(&self) -> String {
        let status = self.membership.status(self.now);
        let line = |n: crate::protocol::cluster::NodeStatus| {
            let (heard, store) = (n.silent_ms, n.store_uuid.unwrap_or_default());
            format!("{} {} heard={heard:?} store={store} {}\n", n.name, n.state.word(), {
                n.problem.unwrap_or_default()
            })
        };
        let problem = |(id, why): (String, String)| format!("{id} has no primary: {why}\n");
        let nodes = status.nodes.into_iter().map(line);
        nodes.chain(status.problems.into_iter().map(problem)).collect()
    }
}

/// A tablet's register in a few words.
fn words(t: &TabletRoute) -> String {
    let (primary, isr) = (t.primary.as_deref().unwrap_or("-"), t.isr.join(","));
    let clean = if t.clean { " clean" } else { "" };
    format!("{} epoch={} primary={primary} isr={isr}{clean}", t.id, t.epoch)
}

/// A record in a few words.
fn said(record: &Record) -> String {
    match record {
        Record::Tablet(route) => words(route),
        Record::Node(n) => format!("{} store={}", n.name, n.store_uuid.as_deref().unwrap_or("-")),
        other => other.key(),
    }
}

/// A report in a few words: a state (alive unless told), and tablets as `id:epoch:role,...`. One that is
/// sealed has sealed that epoch. A role with `!` is of a flawed copy.
fn report(state: Option<&String>, tablets: Option<&String>) -> Result<Report, Box<dyn Error>> {
    let state: NodeState = serde_json::from_value(state.map_or("alive", |s| s).into())?;
    let mut report = Report { state, ..Report::default() };
    let tablets = tablets.map_or("", |t| t);
    for words in tablets.split(',').filter(|t| !t.is_empty()) {
        let [id, epoch, role] = words.split(':').collect::<Vec<_>>()[..] else {
            return Err("a tablet is id:epoch:role".into());
        };
        let (epoch, whole) = (epoch.parse()?, role.trim_end_matches('!'));
        let (role, flawed): (Role, bool) =
            (serde_json::from_value(whole.into())?, whole.len() < role.len());
        let id = id.to_string();
        let sealed = if role == Role::Sealed { epoch } else { 0 };
        let said = TabletReport { id, epoch, role, sealed, flawed, ..TabletReport::default() };
        report.tablets.push(said);
    }
    Ok(report)
}

/// The scripts' commands.
#[derive(Command)]
enum Line {
    /// Makes the tables of one group.
    Cluster {
        #[arg(key)]
        nodes: String,
        #[arg(key)]
        small: u32,
        #[arg(key)]
        large: u32,
        #[arg(key)]
        min: Option<u32>,
    },
    /// A node says who it is; with `lose` the master crashes at the swap of that key.
    Hello {
        node: String,
        #[arg(key)]
        store: String,
        #[arg(key)]
        boot: String,
        #[arg(key)]
        state: Option<String>,
        #[arg(key)]
        tablets: Option<String>,
        #[arg(key)]
        lose: Option<String>,
    },
    /// A node answers a heartbeat.
    Beat {
        node: String,
        #[arg(key)]
        state: Option<String>,
        #[arg(key)]
        tablets: Option<String>,
    },
    /// A node says that it has sealed an epoch, and where its log ends.
    Sealed { node: String, tablet: String, epoch: u64, last_epoch: u64, version: u64 },
    /// A node says that it has resigned.
    Resigned { node: String, tablet: String, epoch: u64 },
    /// A node asks for something: remove, add, nolease or tell.
    Plea { node: String, tablet: String, epoch: u64, what: String, member: Option<String> },
    /// A node is to go out of service; `force`: though tablets need it.
    Shutdown {
        node: String,
        #[arg(key, optional)]
        force: Option<bool>,
    },
    /// A node is to be put back.
    Wakeup(String),
    /// A node's connection fails.
    Fail { node: String, why: String },
    /// Milliseconds pass, in which these nodes say what they said last.
    Tick {
        ms: u64,
        #[arg(key)]
        beats: Option<String>,
    },
    /// The master itself stands still for so long.
    Pause(u64),
    /// Another master gives a tablet its next epoch.
    Race(String),
    /// The master starts anew.
    Restart,
    /// Prints the routes.
    Routes,
    /// Prints the status.
    Status,
}

impl Runner for House {
    type Command = Line;

    fn run(&mut self, line: &Line, _context: &Context) -> Result<String, Box<dyn Error>> {
        let mut text = String::new();
        match line {
            Line::Cluster { nodes, small, large, min } => {
                self.cluster(nodes, (*small, *large), min.unwrap_or(1));
            }
            Line::Hello { node, store, boot, state, tablets, lose } => {
                let (node, store_uuid, boot_id) = (node.clone(), store.clone(), boot.clone());
                let report = report(state.as_ref(), tablets.as_ref())?;
                self.lose = lose.clone();
                text = self.take(Input::Hello { node, store_uuid, boot_id, report });
                if self.lose.take().is_some() {
                    self.restart();
                }
            }
            Line::Beat { node, state, tablets } => {
                let (node, report) = (node.clone(), report(state.as_ref(), tablets.as_ref())?);
                text = self.take(Input::Beat { node, report });
            }
            Line::Sealed { node, tablet, epoch, last_epoch, version } => {
                let (node, tablet, end) = (node.clone(), tablet.clone(), (*last_epoch, *version));
                text = self.take(Input::Sealed { node, tablet, epoch: *epoch, end });
            }
            Line::Resigned { node, tablet, epoch } => {
                let (node, tablet) = (node.clone(), tablet.clone());
                text = self.take(Input::Resigned { node, tablet, epoch: *epoch });
            }
            Line::Plea { node, tablet, epoch, what, member } => {
                let member = || member.clone().expect("a member");
                let plea = match what.as_str() {
                    "remove" => Plea::Remove(member()),
                    "add" => Plea::Add(member()),
                    "nolease" => Plea::NoLease,
                    _ => Plea::Tell,
                };
                let (node, tablet) = (node.clone(), tablet.clone());
                text = self.take(Input::Pleaded { node, tablet, epoch: *epoch, plea });
            }
            Line::Shutdown { node, force } => {
                let force = force.unwrap_or(false);
                text = self.take(Input::Shutdown { node: node.clone(), force });
            }
            Line::Wakeup(node) => text = self.take(Input::Wakeup { node: node.clone() }),
            Line::Fail { node, why } => {
                text = self.take(Input::Failed { node: node.clone(), why: why.clone() });
            }
            Line::Tick { ms, beats } => text = self.pass(*ms, beats.as_ref().map_or("", |b| b)),
            Line::Pause(ms) => {
                self.now += ms;
                text = self.perform(Input::Tick);
            }
            Line::Race(id) => self.race(id),
            Line::Restart => self.restart(),
            Line::Routes => text = self.routes(),
            Line::Status => text = self.status(),
        }
        Ok(text)
    }
}

#[test]
fn membership_does_what_its_scripts_say() {
    let scripts = [
        "first_start",
        "first_primary_absent",
        "restarted_primary",
        "silent_node",
        "replaced_disk",
        "lost_race",
        "failover",
        "epoch_must_end",
        "deaf_primary",
        "damaged_copy",
        "flawed_copy",
        "min_insync",
        "nothing_to_gain",
        "old_tables",
        "shutdown",
        "last_copy",
        "balance",
        "probation",
    ];
    for script in scripts {
        let path = format!("src/master/testscripts/{script}");
        goldenscript::run(&mut House::new(), &path).unwrap_or_else(|e| panic!("{script}: {e}"));
    }
}

/// One of a few.
fn pick<'a>(from: &[&'a str], n: u8) -> &'a str {
    from[usize::from(n) % from.len()]
}

/// An input that may come at any time from a node, in its right mind or not.
fn any_input(house: &House, [what, node, tablet, a, b]: [u8; 5]) -> Input {
    let nodes = ["a1", "a2", "a3"];
    let (node, id) = (pick(&nodes, node).to_string(), pick(&["a-s0", "a-l0"], tablet));
    let Some((_, Record::Tablet(route))) = house.kept.get(&format!("tablet/{id}")) else {
        panic!("no tablet {id}")
    };
    let epoch = if a % 8 == 7 { route.epoch.saturating_sub(1) } else { route.epoch };
    let (tablet, member) = (id.to_string(), pick(&nodes, b).to_string());
    let role =
        pick(&["primary", "replica", "learner", "sealed", "damaged", "replica!", "stuck"], a);
    let state = pick(&["alive", "alive", "alive", "starting", "shutdown"], b);
    let tablets = format!("{id}:{epoch}:{role}");
    let report = report(Some(&state.into()), Some(&tablets)).unwrap();
    match what % 12 {
        0 => {
            let store_uuid = format!("disk{node}{}", u8::from(b % 8 == 0));
            Input::Hello { node, store_uuid, boot_id: format!("run{a}"), report }
        }
        1 => Input::Beat { node, report },
        2 | 3 => {
            Input::Beat { node, report: Report { state: NodeState::Alive, ..Report::default() } }
        }
        4 | 5 => Input::Sealed { node, tablet, epoch, end: (epoch, u64::from(b)) },
        6 => Input::Resigned { node, tablet, epoch },
        7 | 8 => Input::Pleaded { node, tablet, epoch, plea: Plea::Add(member) },
        9 if a % 2 == 0 => Input::Pleaded { node, tablet, epoch, plea: Plea::Remove(member) },
        9 => Input::Pleaded { node, tablet, epoch, plea: Plea::NoLease },
        10 if a % 2 == 0 => Input::Shutdown { node, force: b % 2 == 0 },
        10 => Input::Wakeup { node },
        _ => Input::Tick,
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(400))]

    /// [`House::check`] looks at every change.
    #[test]
    fn whatever_nodes_say_no_change_breaks_the_rules(
        min_insync in 1u32..=2,
        inputs in proptest::collection::vec(proptest::prelude::any::<[u8; 5]>(), 1..300),
    ) {
        let mut house = House::new();
        house.cluster("a1,a2,a3", (1, 1), min_insync);
        for node in ["a1", "a2", "a3"] {
            let (store_uuid, boot_id) = (format!("disk{node}0"), "run".to_string());
            let report = Report { state: NodeState::Alive, ..Report::default() };
            house.take(Input::Hello { node: node.into(), store_uuid, boot_id, report });
        }
        for words in inputs {
            match any_input(&house, words) {
                Input::Tick if words[4] < 8 => house.restart(),
                Input::Tick => _ = house.pass(u64::from(words[3]) * 20, "a1,a2,a3"),
                input => _ = house.take(input),
            }
        }
    }
}
