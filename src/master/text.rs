//! What the master says to people.

use crate::protocol::cluster::{ClusterStatus, NodeState, NodeStatus, TabletReport, TabletRoute};
use crate::protocol::word::display;
use std::fmt::Write;

/// Answer to HELP.
pub const HELP: &str = "\
WHERE <owner>      the group of an owner's rows, and its nodes: GROUP <name> <node> <address> ...
NODES              one line a node: name, address, group, state
STATUS             every node and tablet, for people
SUSPECT <node>     look after this node at once
SHUTDOWN <node>    take a node out of service in order
WAKEUP <node>      put it back
AUTH, PING, HELP, QUIT
Cells are kept by the backends: ask one of those that WHERE names.
";

/// Answer to NODES.
pub fn nodes(status: &ClusterStatus) -> String {
    let line =
        |n: &NodeStatus| format!("{} {} {} {}\n", n.name, n.address, n.group, n.state.word());
    status.nodes.iter().map(line).collect()
}

/// Answer to STATUS.
pub fn status(status: &ClusterStatus) -> String {
    let alive = status.nodes.iter().filter(|n| n.state == NodeState::Alive).count();
    let mut text = format!(
        "master {}: up {}, tables at version {}, {alive} of {} nodes alive\n",
        status.master,
        duration(status.uptime_ms),
        status.version,
        status.nodes.len()
    );
    status.nodes.iter().for_each(|node| write_node(&mut text, node));
    status.tablets.iter().for_each(|tablet| write_tablet(&mut text, tablet, status));
    text
}

fn write_node(text: &mut String, node: &NodeStatus) {
    let heard = match node.silent_ms {
        Some(ms) => format!("heard {}.{} s ago", ms / 1000, ms % 1000 / 100),
        None => "not heard yet".into(),
    };
    let boot: String = node.boot_id.as_deref().unwrap_or("-").chars().take(8).collect();
    let report = &node.report;
    let _ = write!(
        text,
        "node {} {} group {}: {}, {heard}, boot {boot}, up {}, {} tablets, {} connections, memory {} MiB, \
         free {} MiB",
        node.name,
        node.address,
        node.group,
        node.state.word(),
        duration(report.uptime_ms),
        report.tablets.len(),
        report.connections,
        report.rss_bytes >> 20,
        report.free_bytes >> 20
    );
    if let Some(problem) = &node.problem {
        let _ = write!(text, ": {}", one_line(problem));
    }
    text.push('\n');
}

fn write_tablet(text: &mut String, tablet: &TabletRoute, status: &ClusterStatus) {
    let primary = tablet.primary.as_deref().unwrap_or("none");
    let _ = write!(text, "tablet {}: epoch {}, primary {primary}", tablet.id, tablet.epoch);
    let led = report_of(tablet, primary, status);
    if let Some(report) = led {
        let _ = write!(
            text,
            " ({} at epoch {}, version {}, {} cells, {} bytes, {})",
            report.role.word(),
            report.epoch,
            report.version,
            report.cells,
            report.bytes,
            lease(report)
        );
    }
    let _ = write!(text, ", in sync: {}", tablet.isr.join(" "));
    for member in tablet.members.iter().filter(|member| !tablet.isr.contains(member)) {
        let behind = led.zip(report_of(tablet, member, status));
        let _ = match behind.map(|(led, own)| led.version.saturating_sub(own.version)) {
            Some(entries) => write!(text, ", {member} is behind by {entries} entries"),
            None => write!(text, ", {member} is behind"),
        };
    }
    for warning in warnings(tablet, status) {
        let _ = write!(text, ": {warning}");
    }
    text.push('\n');
}

/// What a node said last of a tablet.
fn report_of<'a>(
    tablet: &TabletRoute,
    node: &str,
    status: &'a ClusterStatus,
) -> Option<&'a TabletReport> {
    let node = status.nodes.iter().find(|n| n.name == node)?;
    node.report.tablets.iter().find(|t| t.id == tablet.id)
}

/// How long a primary may answer reads without hearing from others.
fn lease(report: &TabletReport) -> String {
    match report.lease_ms {
        Some(0) => "no lease".into(),
        Some(ms) => format!("lease for {}.{} s", ms / 1000, ms % 1000 / 100),
        None => "needs no lease".into(),
    }
}

/// What somebody should look after.
fn warnings(tablet: &TabletRoute, status: &ClusterStatus) -> Vec<String> {
    let (in_sync, needed) = (tablet.isr.len(), tablet.min_insync as usize);
    let mut warnings = Vec::new();
    if let Some(problem) = status.problems.get(&tablet.id) {
        warnings.push(format!("NO PRIMARY: {problem}"));
    }
    if in_sync < needed {
        warnings.push(format!("WRITES WAIT: {in_sync} in sync, {needed} needed"));
    }
    if tablet.epoch > 0 && in_sync == 1 && tablet.members.len() > 1 {
        warnings.push("ONE COPY LEFT".into());
    }
    warnings
}

/// Others' words may hold line ends; an answer's lines may not.
fn one_line(text: &str) -> String {
    text.split(' ').map(|word| display(word.as_bytes())).collect::<Vec<_>>().join(" ")
}

fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::cluster::{Class, Report, Role};

    fn cluster(isr: &[&str]) -> ClusterStatus {
        let named = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        let tablet = TabletRoute {
            id: "a-s0".into(),
            group: "a".into(),
            class: Class::Small,
            index: 0,
            epoch: 3,
            primary: Some("a1".into()),
            isr: named(isr),
            members: named(&["a1", "a2"]),
            min_insync: 2,
            clean: false,
        };
        let node = |name: &str, version, lease_ms| {
            let report = TabletReport {
                id: "a-s0".into(),
                epoch: 3,
                version,
                lease_ms,
                role: Role::Primary,
                ..TabletReport::default()
            };
            NodeStatus {
                name: name.into(),
                address: String::new(),
                group: "a".into(),
                state: NodeState::Alive,
                silent_ms: None,
                boot_id: None,
                store_uuid: None,
                problem: None,
                report: Report { tablets: vec![report], ..Report::default() },
            }
        };
        let nodes = vec![node("a1", 40, Some(1750)), node("a2", 28, Some(0))];
        ClusterStatus { nodes, tablets: vec![tablet], ..ClusterStatus::default() }
    }

    fn line(status: &ClusterStatus) -> String {
        let mut text = String::new();
        write_tablet(&mut text, &status.tablets[0], status);
        text
    }

    #[test]
    fn a_tablet_says_who_is_in_sync_and_how_far_others_are_behind() {
        let whole = line(&cluster(&["a1", "a2"]));
        assert!(whole.ends_with("0 bytes, lease for 1.7 s), in sync: a1 a2\n"), "{whole}");
        let alone = line(&cluster(&["a1"]));
        let end = "in sync: a1, a2 is behind by 12 entries: WRITES WAIT: 1 in sync, 2 needed: \
                   ONE COPY LEFT\n";
        assert!(alone.ends_with(end), "{alone}");
    }

    #[test]
    fn a_tablet_without_a_primary_says_why() {
        let mut status = cluster(&["a1", "a2"]);
        status.problems.insert("a-s0".into(), "one is being elected".into());
        assert!(line(&status).ends_with(": NO PRIMARY: one is being elected\n"));
    }

    #[test]
    fn times_are_said_in_two_units() {
        let said = [999, 61_000, 7_260_000, 180_000_000].map(duration);
        assert_eq!(said, ["0 s", "1 min 1 s", "2 h 1 min", "2 d 2 h"]);
    }

    #[test]
    fn foreign_words_cannot_end_the_answer() {
        assert_eq!(one_line("a\n\nb c"), "a%0A%0Ab c");
    }
}
