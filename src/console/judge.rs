//! How the cluster is, in a word, and why.
//!
//! *Down*: something that was asked for cannot be done: a tablet takes no writes, or every process of a kind is gone.
//! *Degraded*: all can be done, but less may break than should: a tablet has fewer copies than members, or a process
//! is not well.

use super::gather::{Gathered, Process};
use crate::protocol::cluster::{ClusterStatus, NodeState, Role, TabletRoute};
use std::collections::BTreeMap;

/// The one word, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Headline {
    /// `healthy`, `degraded` or `down`.
    pub(super) state: &'static str,
    pub(super) why: Vec<String>,
}

/// What is wrong with a tablet, the worst first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// Nobody leads it, and why.
    NoPrimary(String),
    /// Writes wait: so many in-sync replicas are there, and so many are needed.
    NoWrites(usize, usize),
    /// This node has been made its primary, and has not begun to serve.
    Begins(String),
    /// So many replicas are in sync, of so many.
    Copies(usize, usize),
    /// This node's copy is not well, and why.
    Copy(String, String),
}

impl Fault {
    /// Whether the tablet takes no writes.
    pub(super) fn is_down(&self) -> bool {
        matches!(self, Fault::NoPrimary(_) | Fault::NoWrites(..))
    }

    /// The fault in words for people.
    pub(super) fn words(&self) -> String {
        match self {
            Fault::NoPrimary(why) => format!("no primary: {why}"),
            Fault::NoWrites(there, needed) => {
                format!("writes wait: {there} in sync and alive, {needed} needed")
            }
            Fault::Begins(node) => format!("{node} takes over"),
            Fault::Copies(1, _) => "one copy left".into(),
            Fault::Copies(in_sync, members) => format!("{in_sync} of {members} copies in sync"),
            Fault::Copy(node, why) => format!("{node}: {why}"),
        }
    }
}

/// What is wrong with a tablet.
pub(super) fn faults(tablet: &TabletRoute, status: &ClusterStatus) -> Vec<Fault> {
    let (in_sync, members) = (tablet.isr.len(), tablet.members.len());
    let missing = tablet.epoch > 0 && in_sync < members;
    let copies = missing.then_some(Fault::Copies(in_sync, members));
    let own = tablet.members.iter().filter_map(|member| copy_fault(tablet, member, status));
    service_fault(tablet, status).into_iter().chain(copies).chain(own).collect()
}

/// What a living member said last is wrong with its copy.
fn copy_fault(tablet: &TabletRoute, member: &str, status: &ClusterStatus) -> Option<Fault> {
    let alive = status.state_of(member) == Some(NodeState::Alive);
    let report = status.report_of(tablet, member).filter(|_| alive)?;
    Some(Fault::Copy(member.into(), report.problem.clone()?))
}

/// Why a tablet is not served, or not yet.
fn service_fault(tablet: &TabletRoute, status: &ClusterStatus) -> Option<Fault> {
    if let Some(why) = status.problems.get(&tablet.id) {
        return Some(Fault::NoPrimary(why.clone()));
    }
    let primary = tablet.primary.as_deref().unwrap_or("nobody");
    let state = status.state_of(primary).unwrap_or_default();
    if state != NodeState::Alive {
        return Some(Fault::NoPrimary(format!("{primary} is {}", state.word())));
    }
    let (there, needed) = (status.in_sync_alive(tablet), tablet.min_insync as usize);
    if there < needed {
        return Some(Fault::NoWrites(there, needed));
    }
    match status.primary_report(tablet) {
        Some(said) if said.epoch == tablet.epoch && said.role == Role::Sealed => {
            Some(Fault::NoPrimary(format!("{primary} has ended its epoch")))
        }
        Some(said) if said.epoch == tablet.epoch && said.role == Role::Primary && !said.begins => {
            None
        }
        _ => Some(Fault::Begins(primary.into())),
    }
}

/// Tablets that nobody could write to without a node, and those of which one copy would be left.
pub(super) fn without(node: &str, status: &ClusterStatus) -> (Vec<String>, Vec<String>) {
    let (mut lost, mut alone) = (Vec::new(), Vec::new());
    for tablet in status.tablets.iter().filter(|t| t.isr.iter().any(|n| n == node)) {
        let mut rest = tablet.clone();
        rest.isr.retain(|name| name != node);
        match status.in_sync_alive(&rest) {
            left if left < tablet.min_insync.max(1) as usize => lost.push(tablet.id.clone()),
            1 => alone.push(tablet.id.clone()),
            _ => {}
        }
    }
    (lost, alone)
}

/// Judges everything that was said.
pub(super) fn headline(gathered: &Gathered) -> Headline {
    let (mut down, mut degraded) = (Vec::new(), Vec::new());
    match &gathered.cluster {
        Ok(status) => judge_cluster(status, &mut down, &mut degraded),
        Err(_) => {
            degraded.push(
                "the master does not answer: what works goes on, but nothing can change".into(),
            );
            judge_backends(&gathered.processes, &mut down, &mut degraded);
        }
    }
    for role in ["frontend", "smtp", "balancer"] {
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
    let mut by_fault: BTreeMap<Fault, Vec<&TabletRoute>> = BTreeMap::new();
    for tablet in &status.tablets {
        for fault in faults(tablet, status) {
            by_fault.entry(fault).or_default().push(tablet);
        }
    }
    for (fault, tablets) in by_fault {
        let list = if fault.is_down() { &mut *down } else { &mut *degraded };
        list.push(format!("{} ({})", fault.words(), names(&tablets, status)));
    }
    for node in &status.nodes {
        if node.state != NodeState::Alive {
            degraded.push(format!("{} is {}", node.name, node.state.word()));
        } else if let Some(problem) = &node.problem {
            degraded.push(format!("{}: {problem}", node.name));
        }
    }
}

/// Tablets by their names, whole groups in a word.
fn names(tablets: &[&TabletRoute], status: &ClusterStatus) -> String {
    let mut by_group: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for tablet in tablets {
        by_group.entry(&tablet.group).or_default().push(&tablet.id);
    }
    let all_of = |group: &str| status.tablets.iter().filter(|t| t.group == group).count();
    let said = |(group, ids): (&str, Vec<&str>)| match ids.len() {
        1 => ids[0].to_string(),
        n if n == all_of(group) => format!("all tablets of group {group}"),
        _ => ids.join(", "),
    };
    by_group.into_iter().map(said).collect::<Vec<_>>().join(", ")
}

/// One of several that does not answer is a loss that the others make good.
fn judge_role(
    role: &str,
    processes: &[Process],
    down: &mut Vec<String>,
    degraded: &mut Vec<String>,
) {
    let of_role: Vec<&Process> = processes.iter().filter(|p| p.role == role).collect();
    let gone = silent(&of_role);
    let list = if gone.len() == of_role.len() { down } else { degraded };
    list.extend((!gone.is_empty()).then(|| format!("{role} {} does not answer", gone.join(", "))));
}

/// Backends while the master is silent: a group of which nobody answers is down. Of one that has lost a node, only
/// the master knows whether others have taken over.
fn judge_backends(processes: &[Process], down: &mut Vec<String>, degraded: &mut Vec<String>) {
    let mut groups: BTreeMap<&str, Vec<&Process>> = BTreeMap::new();
    for process in processes {
        if let Some(group) = &process.group {
            groups.entry(group).or_default().push(process);
        }
    }
    for (group, backends) in groups {
        let gone = silent(&backends);
        if gone.len() == backends.len() {
            down.push(format!("nobody of group {group} answers"));
        } else if !gone.is_empty() {
            let gone = gone.join(", ");
            degraded
                .push(format!("backend {gone} does not answer: what it led waits for the master"));
        }
    }
}

fn silent<'a>(processes: &[&'a Process]) -> Vec<&'a str> {
    processes.iter().filter(|p| p.answer.is_err()).map(|p| p.name.as_str()).collect()
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
