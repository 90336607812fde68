//! The dashboard: one headline, the nodes, the tablets, the web processes.

use super::app::Visit;
use super::gather::{Gathered, Process, gather};
use super::orders::Action;
use super::page::{Shell, duration, render, size};
use crate::error::{Error, Result};
use crate::http::{Request, Response};
use crate::protocol::cluster::{ClusterStatus, NodeState, NodeStatus, Role, TabletRoute};
use askama::Template;

#[derive(Template)]
#[template(path = "console/dashboard.html")]
struct Page {
    shell: Shell,
    headline: Headline,
    master: String,
    cluster: Result<Panel>,
    /// Shown while the master is silent.
    backends: Vec<Answering>,
    processes: Vec<Answering>,
}

/// The one word, and why.
#[derive(Debug, PartialEq, Eq)]
struct Headline {
    /// `healthy`, `degraded` or `down`.
    state: &'static str,
    why: Vec<String>,
}

/// What the master says.
struct Panel {
    said: String,
    groups: Vec<Group>,
}

struct Group {
    name: String,
    nodes: Vec<Node>,
    tablets: Vec<Tablet>,
}

struct Node {
    name: String,
    address: String,
    state: &'static str,
    /// Whether it can be told to wake up, rather than to shut down.
    sleeps: bool,
    /// Label and value.
    facts: Vec<(&'static str, String)>,
    problem: Option<String>,
}

struct Tablet {
    id: String,
    epoch: u64,
    served: bool,
    /// One for each node of the group.
    replicas: Vec<Option<Replica>>,
}

struct Replica {
    word: &'static str,
    version: u64,
    size: String,
}

/// A process that was asked itself.
struct Answering {
    name: String,
    role: &'static str,
    address: String,
    up: bool,
    said: String,
}

/// The page.
pub(super) fn show(visit: &Visit, request: &mut Request<'_>) -> Result<Response> {
    let gathered = gather(&visit.app);
    let mut shell = visit.shell("Dashboard", "dashboard");
    shell.refresh = Some("/?auto=1");
    shell.done = done(visit, request);
    let headline = headline(&gathered);
    let (backends, processes) =
        gathered.processes.into_iter().map(answering).partition(|p| p.role == "backend");
    let page = Page {
        shell,
        headline,
        backends,
        processes,
        master: visit.app.config.master.address.clone(),
        cluster: gathered.cluster.map(panel),
    };
    render(200, &page)
}

fn done(visit: &Visit, request: &Request<'_>) -> Option<String> {
    let node = request.query("node")?;
    let known = visit.app.config.backends().any(|b| b.name == node);
    let done = Action::done(request.query("done")?, node).filter(|_| known)?;
    Some(match request.query("unaudited") {
        Some(_) => format!("{done} The audit row did not take the line; the log has it."),
        None => done,
    })
}

/// Down: something that was asked for cannot be done. Degraded: all can be, but not all processes are well.
fn headline(gathered: &Gathered) -> Headline {
    let (mut down, mut degraded) = (Vec::new(), Vec::new());
    let mut asked = vec!["frontend", "smtp", "balancer"];
    match &gathered.cluster {
        Ok(status) => judge_cluster(status, &mut down, &mut degraded),
        Err(_) => {
            asked.push("backend");
            degraded.push(
                "the master does not answer: what works goes on, but nothing can change".into(),
            );
        }
    }
    for role in asked {
        judge_role(role, &gathered.processes, &mut down, &mut degraded);
    }
    let adrift = gathered
        .processes
        .iter()
        .filter(|p| p.answer.as_ref().is_ok_and(|a| a.contains("kv=down")));
    degraded.extend(adrift.map(|p| format!("{} does not reach the store", p.name)));
    let state = match (down.is_empty(), degraded.is_empty()) {
        (false, _) => "down",
        (true, false) => "degraded",
        (true, true) => "healthy",
    };
    down.extend(degraded);
    Headline { state, why: down }
}

fn judge_cluster(status: &ClusterStatus, down: &mut Vec<String>, degraded: &mut Vec<String>) {
    let lost: Vec<&str> =
        status.tablets.iter().filter(|t| !is_served(t, status)).map(|t| t.id.as_str()).collect();
    if !lost.is_empty() {
        down.push(format!("nobody serves tablet {}", lost.join(", ")));
    }
    for node in &status.nodes {
        if node.state != NodeState::Alive {
            degraded.push(format!("{} is {}", node.name, node.state.word()));
        } else if let Some(problem) = &node.problem {
            degraded.push(format!("{}: {problem}", node.name));
        }
    }
}

/// One of several that does not answer is a loss that the others make good; a backend is the only one that
/// has its data.
fn judge_role(
    role: &str,
    processes: &[Process],
    down: &mut Vec<String>,
    degraded: &mut Vec<String>,
) {
    let of_role = || processes.iter().filter(|p| p.role == role);
    let gone: Vec<&str> =
        of_role().filter(|p| p.answer.is_err()).map(|p| p.name.as_str()).collect();
    let missed = role == "backend" || gone.len() == of_role().count();
    let list = if missed { down } else { degraded };
    list.extend((!gone.is_empty()).then(|| format!("{role} {} does not answer", gone.join(", "))));
}

/// Whether a tablet's primary is alive and says that it serves the tablet's epoch.
fn is_served(tablet: &TabletRoute, status: &ClusterStatus) -> bool {
    let primary = status.nodes.iter().find(|n| Some(&n.name) == tablet.primary.as_ref());
    primary.is_some_and(|node| {
        node.state == NodeState::Alive
            && node
                .report
                .tablets
                .iter()
                .any(|t| t.id == tablet.id && t.role == Role::Primary && t.epoch == tablet.epoch)
    })
}

fn panel(status: ClusterStatus) -> Panel {
    let mut names: Vec<String> = status.nodes.iter().map(|n| n.group.clone()).collect();
    names.dedup();
    let said = format!(
        "{}, up {}, tables at version {}",
        status.master,
        duration(status.uptime_ms),
        status.version
    );
    Panel { said, groups: names.into_iter().map(|name| group(name, &status)).collect() }
}

/// What a frontend answers to `/ping`, as words; anything else as it came.
fn in_words(said: &str) -> String {
    let field = |name: &str| {
        said.split_ascii_whitespace().find_map(|w| w.strip_prefix(name)?.strip_prefix('='))
    };
    let connections = field("conns").map(|n| match n {
        "1" => "1 connection".into(),
        n => format!("{n} connections"),
    });
    let ending = field("draining").filter(|d| *d == "1").map(|_| "about to end".into());
    let store = field("kv").map(|kv| match kv {
        "ok" => "the storage answers".into(),
        _ => "the storage does not answer".into(),
    });
    let words: Vec<String> = [connections, ending, store].into_iter().flatten().collect();
    if words.is_empty() { said.into() } else { words.join(", ") }
}

fn group(name: String, status: &ClusterStatus) -> Group {
    let nodes: Vec<&NodeStatus> = status.nodes.iter().filter(|n| n.group == name).collect();
    let of_group = status.tablets.iter().filter(|t| t.group == name);
    Group {
        tablets: of_group.map(|t| tablet(t, &nodes, is_served(t, status))).collect(),
        nodes: nodes.iter().map(|n| node(n)).collect(),
        name,
    }
}

fn node(status: &NodeStatus) -> Node {
    let report = &status.report;
    let heard = match status.silent_ms {
        Some(ms) => format!("{}.{} s ago", ms / 1000, ms % 1000 / 100),
        None => "not yet".into(),
    };
    let facts = vec![
        ("Heartbeat", heard),
        ("Up", duration(report.uptime_ms)),
        ("Memory", size(report.rss_bytes)),
        ("Disk free", size(report.free_bytes)),
        ("Connections", report.connections.to_string()),
        ("Tablets", report.tablets.len().to_string()),
    ];
    Node {
        name: status.name.clone(),
        address: status.address.clone(),
        state: status.state.word(),
        sleeps: status.state == NodeState::Shutdown,
        facts,
        problem: status.problem.clone(),
    }
}

fn tablet(tablet: &TabletRoute, nodes: &[&NodeStatus], served: bool) -> Tablet {
    let replica = |node: &&NodeStatus| {
        let report = node.report.tablets.iter().find(|t| t.id == tablet.id)?;
        let word = if node.state == NodeState::Alive { report.role.word() } else { "unknown" };
        Some(Replica { word, version: report.version, size: size(report.bytes) })
    };
    Tablet {
        id: tablet.id.clone(),
        epoch: tablet.epoch,
        served,
        replicas: nodes.iter().map(replica).collect(),
    }
}

fn answering(process: Process) -> Answering {
    let Process { name, role, address, answer } = process;
    let up = answer.is_ok();
    let said = match answer {
        Ok(said) => in_words(&said),
        Err(Error::Io(_, why)) => why,
        Err(error) => error.to_string(),
    };
    Answering { name, role, address, up, said }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::cluster::{Class, Report, TabletReport};

    fn cluster() -> ClusterStatus {
        let report = TabletReport {
            id: "a-s0".into(),
            epoch: 3,
            version: 9,
            committed: 9,
            role: Role::Primary,
            cells: 1,
            bytes: 10,
            ..TabletReport::default()
        };
        let node = NodeStatus {
            name: "a1".into(),
            address: "127.0.0.1:1".into(),
            group: "a".into(),
            state: NodeState::Alive,
            silent_ms: Some(100),
            boot_id: None,
            store_uuid: None,
            problem: None,
            report: Report { tablets: vec![report], ..Report::default() },
        };
        let tablet = TabletRoute {
            id: "a-s0".into(),
            group: "a".into(),
            class: Class::Small,
            index: 0,
            epoch: 3,
            primary: Some("a1".into()),
            isr: vec!["a1".into()],
            members: vec!["a1".into()],
            min_insync: 1,
            clean: false,
        };
        ClusterStatus { nodes: vec![node], tablets: vec![tablet], ..ClusterStatus::default() }
    }

    fn frontend(name: &str, up: bool) -> Process {
        let answer = if up { Ok("ok".into()) } else { Err(Error::retry("gone")) };
        Process { name: name.into(), role: "frontend", address: "127.0.0.1:2".into(), answer }
    }

    fn judged(cluster: Result<ClusterStatus>, processes: Vec<Process>) -> (&'static str, String) {
        let headline = headline(&Gathered { cluster, processes });
        (headline.state, headline.why.join("; "))
    }

    #[test]
    fn a_ping_is_said_in_words() {
        let up = "ok conns=1 draining=0 kv=ok";
        assert_eq!(in_words(up), "1 connection, the storage answers");
        let ending = "ok conns=12 draining=1 kv=down";
        assert_eq!(in_words(ending), "12 connections, about to end, the storage does not answer");
        assert_eq!(in_words("220 penn.test"), "220 penn.test");
    }

    #[test]
    fn a_cluster_without_faults_is_healthy() {
        assert_eq!(judged(Ok(cluster()), vec![frontend("f1", true)]), ("healthy", String::new()));
    }

    #[test]
    fn a_tablet_that_nobody_serves_is_down() {
        let mut dead = cluster();
        dead.nodes[0].state = NodeState::Dead;
        let why = "nobody serves tablet a-s0; a1 is dead".to_string();
        assert_eq!(judged(Ok(dead), vec![]), ("down", why));
        let mut old = cluster();
        old.nodes[0].report.tablets[0].epoch = 2;
        assert_eq!(judged(Ok(old), vec![]).0, "down", "its primary is an epoch behind");
    }

    #[test]
    fn one_of_two_frontends_is_degraded_and_none_is_down() {
        let one = vec![frontend("f1", true), frontend("f2", false)];
        let why = "frontend f2 does not answer".to_string();
        assert_eq!(judged(Ok(cluster()), one), ("degraded", why));
        let none = vec![frontend("f1", false), frontend("f2", false)];
        assert_eq!(judged(Ok(cluster()), none).0, "down");
    }

    #[test]
    fn a_silent_master_is_degraded() {
        assert_eq!(judged(Err(Error::retry("gone")), vec![]).0, "degraded");
    }

    #[test]
    fn backends_are_asked_themselves_while_the_master_is_silent() {
        let gone = || Process { role: "backend", ..frontend("a1", false) };
        assert_eq!(judged(Err(Error::retry("gone")), vec![gone()]).0, "down");
        assert_eq!(judged(Ok(cluster()), vec![gone()]).0, "healthy", "the master knows better");
    }
}
