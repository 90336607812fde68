//! Golden scripts of the membership: what it is told, and what it wants done.

use super::{Input, Membership, Output};
use crate::config::{Backend, Config, Group};
use crate::master::layout;
use crate::master::record::Record;
use crate::protocol::cluster::{NodeState, Report, Role, TabletReport};
use goldenscript::{Command, Context, Runner};
use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::fmt::Write;

const TIMEOUT_MS: u64 = 1500;

/// A master without threads: performs outputs on a store that is a map.
struct House {
    now: u64,
    membership: Membership,
    kept: BTreeMap<String, (u64, Record)>,
    version: u64,
    /// A key whose swap fails once, as a crash in the middle would leave it.
    lose: Option<String>,
}

impl House {
    fn new() -> House {
        let membership = Membership::new("m1", TIMEOUT_MS, 0);
        House { now: 0, membership, kept: BTreeMap::new(), version: 0, lose: None }
    }

    fn keep(&mut self, record: Record) -> Input {
        self.version += 1;
        self.kept.insert(record.key(), (self.version, record.clone()));
        Input::Stored { record, revision: self.version }
    }

    fn cluster(&mut self, nodes: &str, small: u32, large: u32) {
        let backend = |name: &str| Backend { name: name.into(), address: format!("{name}:5000") };
        let mut config = Config::parse(include_str!("../../conf/local.toml")).unwrap();
        config.groups =
            vec![Group { name: "a".into(), backends: nodes.split(',').map(backend).collect() }];
        config.store.small_tablets = small;
        config.store.large_tablets = large;
        for record in layout::missing(&config, &BTreeMap::new()).unwrap() {
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
        tablet.route.epoch += 1;
        self.keep(Record::Tablet(tablet));
    }

    /// Performs as the owner does: what follows from an output comes before the next.
    fn perform(&mut self, input: Input) -> String {
        let mut text = String::new();
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
                Output::Announce => text.push_str("announce\n"),
                Output::Log(level, line) => _ = writeln!(text, "{level}: {line}"),
            }
        }
        text
    }

    fn routes(&self) -> String {
        let routes = self.membership.routes();
        let mut text = format!("version {}\n", routes.version);
        for node in routes.nodes {
            let _ = writeln!(text, "{} {} alive={}", node.name, node.address, node.alive);
        }
        for t in routes.tablets {
            let primary = t.primary.unwrap_or_default();
            let _ = writeln!(text, "{} epoch={} primary={primary} isr={:?}", t.id, t.epoch, t.isr);
        }
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
        status.nodes.into_iter().map(line).collect()
    }
}

/// A record in a few words.
fn said(record: &Record) -> String {
    match record {
        Record::Tablet(t) => {
            let instance = t.instance.as_deref().unwrap_or("-");
            format!("{} epoch={} instance={instance}", t.route.id, t.route.epoch)
        }
        Record::Node(n) => format!("{} store={}", n.name, n.store_uuid.as_deref().unwrap_or("-")),
        other => other.key(),
    }
}

/// A report in a few words: a state (alive unless told), and tablets as `id:epoch:role,...`.
fn report(state: Option<&String>, tablets: Option<&String>) -> Result<Report, Box<dyn Error>> {
    let state: NodeState = serde_json::from_value(state.map_or("alive", |s| s).into())?;
    let mut report = Report { state, ..Report::default() };
    let tablets = tablets.map_or("", |t| t);
    for words in tablets.split(',').filter(|t| !t.is_empty()) {
        let [id, epoch, role] = words.split(':').collect::<Vec<_>>()[..] else {
            return Err("a tablet is id:epoch:role".into());
        };
        let (epoch, role): (u64, Role) = (epoch.parse()?, serde_json::from_value(role.into())?);
        let id = id.to_string();
        report.tablets.push(TabletReport { id, epoch, role, ..TabletReport::default() });
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
    /// A node's connection fails.
    Fail { node: String, why: String },
    /// Milliseconds pass.
    Tick(u64),
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
            Line::Cluster { nodes, small, large } => self.cluster(nodes, *small, *large),
            Line::Hello { node, store, boot, state, tablets, lose } => {
                let (node, store_uuid, boot_id) = (node.clone(), store.clone(), boot.clone());
                let report = report(state.as_ref(), tablets.as_ref())?;
                self.lose = lose.clone();
                text = self.perform(Input::Hello { node, store_uuid, boot_id, report });
                if self.lose.take().is_some() {
                    self.restart();
                }
            }
            Line::Beat { node, state, tablets } => {
                let (node, report) = (node.clone(), report(state.as_ref(), tablets.as_ref())?);
                text = self.perform(Input::Beat { node, report });
            }
            Line::Fail { node, why } => {
                text = self.perform(Input::Failed { node: node.clone(), why: why.clone() });
            }
            Line::Tick(ms) => {
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
    for script in ["first_start", "restarted_primary", "silent_node", "replaced_disk", "lost_race"]
    {
        let path = format!("src/master/testscripts/{script}");
        goldenscript::run(&mut House::new(), &path).unwrap_or_else(|e| panic!("{script}: {e}"));
    }
}
