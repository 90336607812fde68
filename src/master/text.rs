//! What the master says to people.

use crate::protocol::cluster::{ClusterStatus, NodeState, NodeStatus, TabletRoute};
use crate::protocol::say::{configuration, duration, seconds};
use crate::protocol::word::display;
use std::fmt::Write;

/// Answer to HELP.
pub const HELP: &str = "\
WHERE <owner>      the group of an owner's rows, and its nodes: GROUP <name> <node> <address> ...
NODES              one line a node: name, address, group, state
STATUS             every node and tablet, for people
SUSPECT <node>     look after this node at once
SHUTDOWN <node> [force=1]   take a node out of service in order; force: though tablets need it
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
        Some(ms) => format!("heard {} ago", seconds(ms)),
        None => "not heard yet".into(),
    };
    let boot: String = node.boot_id.as_deref().unwrap_or("-").chars().take(8).collect();
    let _ = write!(
        text,
        "node {} {} group {}: {}, {heard}, boot {boot}, {}",
        node.name,
        node.address,
        node.group,
        node.state.word(),
        node.report.line()
    );
    if let Some(problem) = &node.problem {
        let _ = write!(text, ": {}", one_line(problem));
    }
    text.push('\n');
}

/// Everything of a tablet in one line: as a backend says it, and every replica after it.
fn write_tablet(text: &mut String, tablet: &TabletRoute, status: &ClusterStatus) {
    let TabletRoute { id, epoch, primary, isr, members, .. } = tablet;
    let _ = write!(text, "tablet {id}: {}", configuration(*epoch, primary.as_deref(), isr));
    if let Some(led) = status.primary_report(tablet) {
        let _ = write!(text, ", {}", led.contents());
    }
    for member in members {
        let _ = write!(text, "; {member} {}", replica(tablet, member, status));
    }
    for warning in warnings(tablet, status) {
        let _ = write!(text, ": {warning}");
    }
    text.push('\n');
}

/// What a member is for a tablet, as it said last; how it is, if it is not alive.
fn replica(tablet: &TabletRoute, member: &str, status: &ClusterStatus) -> String {
    let state = status.state_of(member).unwrap_or_default();
    let Some(report) = status.report_of(tablet, member) else {
        return format!("{}, has no copy yet", state.word());
    };
    let lag = status.lag(tablet, report);
    match state {
        NodeState::Alive if report.epoch == tablet.epoch => report.place(lag),
        NodeState::Alive => format!("{} at epoch {}", report.place(lag), report.epoch),
        state => format!("{}, lag {lag}", state.word()),
    }
}

/// What somebody should look after.
fn warnings(tablet: &TabletRoute, status: &ClusterStatus) -> Vec<String> {
    let (alive, needed) = (status.in_sync_alive(tablet), tablet.min_insync as usize);
    let mut warnings = Vec::new();
    if let Some(problem) = status.problems.get(&tablet.id) {
        warnings.push(format!("NO PRIMARY: {problem}"));
    } else if alive < needed {
        warnings.push(format!("WRITES WAIT: {alive} in sync and alive, {needed} needed"));
    }
    if tablet.epoch > 0 && tablet.isr.len() == 1 && tablet.members.len() > 1 {
        warnings.push("ONE COPY LEFT".into());
    }
    warnings
}

/// Others' words may hold line ends; an answer's lines may not.
fn one_line(text: &str) -> String {
    text.split(' ').map(|word| display(word.as_bytes())).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::cluster::{Class, Report, Role, TabletReport};

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
        let node = |name: &str, role, version, lease_ms| {
            let report = TabletReport {
                id: "a-s0".into(),
                epoch: 3,
                version,
                lease_ms,
                role,
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
        let nodes = vec![
            node("a1", Role::Primary, 40, Some(1750)),
            node("a2", Role::Replica, 28, Some(1650)),
        ];
        ClusterStatus { nodes, tablets: vec![tablet], ..ClusterStatus::default() }
    }

    fn line(status: &ClusterStatus) -> String {
        let mut text = String::new();
        write_tablet(&mut text, &status.tablets[0], status);
        text
    }

    #[test]
    fn a_tablet_says_who_is_in_sync_and_how_far_each_is_behind() {
        let whole = "tablet a-s0: epoch 3, primary a1, in sync a1 a2, version 40, 0 cells, 0 bytes; \
                     a1 primary, lag 0, lease 1.7 s; a2 replica, lag 12, lease 1.6 s\n";
        assert_eq!(line(&cluster(&["a1", "a2"])), whole);
    }

    #[test]
    fn a_lost_replica_is_named_with_what_it_means() {
        let mut status = cluster(&["a1", "a2"]);
        status.nodes[1].state = NodeState::Dead;
        let said = line(&status);
        let end = "; a2 dead, lag 12: WRITES WAIT: 1 in sync and alive, 2 needed\n";
        assert!(said.ends_with(end), "{said}");
        status.tablets[0].isr.pop();
        status.tablets[0].min_insync = 1;
        let said = line(&status);
        assert!(said.ends_with("; a2 dead, lag 12: ONE COPY LEFT\n"), "{said}");
    }

    #[test]
    fn a_replica_that_has_not_heard_of_the_epoch_says_its_own() {
        let mut status = cluster(&["a1", "a2"]);
        status.nodes[1].report.tablets[0].epoch = 2;
        assert!(line(&status).ends_with("; a2 replica, lag 12, lease 1.6 s at epoch 2\n"));
        status.nodes[1].report.tablets.clear();
        assert!(line(&status).ends_with("; a2 alive, has no copy yet\n"));
    }

    #[test]
    fn a_tablet_without_a_primary_says_why() {
        let mut status = cluster(&["a1", "a2"]);
        status.problems.insert("a-s0".into(), "one is being elected".into());
        assert!(line(&status).ends_with(": NO PRIMARY: one is being elected\n"));
    }

    #[test]
    fn foreign_words_cannot_end_the_answer() {
        assert_eq!(one_line("a\n\nb c"), "a%0A%0Ab c");
    }
}
