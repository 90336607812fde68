//! The dashboard: one headline, the nodes, the tablets, the web processes.

use super::app::Visit;
use super::gather::{Process, gather};
use super::judge::{Fault, Headline, faults, headline};
use super::orders::Action;
use super::page::{Shell, render, size};
use crate::error::{Error, Result};
use crate::http::{Request, Response};
use crate::protocol::cluster::{ClusterStatus, NodeState, NodeStatus, TabletRoute};
use crate::protocol::say::{duration, seconds};
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
    version: String,
    primary: String,
    /// Names of the in-sync set.
    in_sync: String,
    /// Whether nobody can write to it.
    lost: bool,
    faults: Vec<Fault>,
    /// One for each node of the group.
    replicas: Vec<Option<Replica>>,
}

struct Replica {
    /// Its role; of a node that is not alive, how the node is.
    word: &'static str,
    lag: u64,
    /// Whether it is missing where writes go on, and catches up or not.
    behind: bool,
    /// Its lease, and its size.
    said: String,
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
        tablets: of_group.map(|t| tablet(t, &nodes, status)).collect(),
        nodes: nodes.iter().map(|n| node(n)).collect(),
        name,
    }
}

fn node(status: &NodeStatus) -> Node {
    let report = &status.report;
    let heard = match status.silent_ms {
        Some(ms) => format!("{} ago", seconds(ms)),
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

fn tablet(tablet: &TabletRoute, nodes: &[&NodeStatus], status: &ClusterStatus) -> Tablet {
    let faults = faults(tablet, status);
    let version = status.primary_report(tablet).map(|led| led.version.to_string());
    Tablet {
        id: tablet.id.clone(),
        epoch: tablet.epoch,
        version: version.unwrap_or_else(|| "–".into()),
        primary: tablet.primary.clone().unwrap_or_else(|| "none".into()),
        in_sync: tablet.isr.join(" "),
        lost: faults.iter().any(Fault::is_down),
        faults,
        replicas: nodes.iter().map(|node| replica(tablet, node, status)).collect(),
    }
}

fn replica(tablet: &TabletRoute, node: &NodeStatus, status: &ClusterStatus) -> Option<Replica> {
    let report = status.report_of(tablet, &node.name)?;
    let lag = status.lag(tablet, report);
    let behind = lag > 0 && !tablet.isr.contains(&node.name);
    let size = size(report.bytes);
    Some(match node.state {
        NodeState::Alive => {
            let said = format!("{} · {size}", report.lease());
            Replica { word: report.role.word(), lag, behind, said }
        }
        state => Replica { word: state.word(), lag, behind, said: size },
    })
}

fn answering(process: Process) -> Answering {
    let Process { name, role, address, answer, .. } = process;
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
    #[test]
    fn a_ping_is_said_in_words() {
        let up = "ok conns=1 draining=0 kv=ok";
        assert_eq!(in_words(up), "1 connection, the storage answers");
        let ending = "ok conns=12 draining=1 kv=down";
        assert_eq!(in_words(ending), "12 connections, about to end, the storage does not answer");
        assert_eq!(in_words("220 penn.test"), "220 penn.test");
    }
}
