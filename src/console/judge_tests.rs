//! How clusters are judged.

use super::*;
use crate::error::{Error, Result};
use crate::protocol::cluster::{Class, NodeStatus, Report, TabletReport};

/// A group `a` of three nodes that has two tablets, in epoch 3, all in sync; a1 leads both.
fn cluster() -> ClusterStatus {
    let tablets: Vec<TabletRoute> = (0..2).map(tablet).collect();
    let nodes = ["a1", "a2", "a3"].map(|name| node(name, &tablets)).into();
    ClusterStatus { nodes, tablets, ..ClusterStatus::default() }
}

fn tablet(index: u32) -> TabletRoute {
    let all = || ["a1", "a2", "a3"].map(String::from).to_vec();
    TabletRoute {
        id: format!("a-s{index}"),
        group: "a".into(),
        class: Class::Small,
        index,
        epoch: 3,
        primary: Some("a1".into()),
        isr: all(),
        members: all(),
        min_insync: 1,
        clean: false,
    }
}

fn node(name: &str, tablets: &[TabletRoute]) -> NodeStatus {
    let role = if name == "a1" { Role::Primary } else { Role::Replica };
    let report = |t: &TabletRoute| TabletReport {
        id: t.id.clone(),
        epoch: t.epoch,
        role,
        ..TabletReport::default()
    };
    NodeStatus {
        name: name.into(),
        address: "127.0.0.1:1".into(),
        group: "a".into(),
        state: NodeState::Alive,
        silent_ms: Some(100),
        boot_id: None,
        store_uuid: None,
        problem: None,
        report: Report { tablets: tablets.iter().map(report).collect(), ..Report::default() },
    }
}

fn process(name: &str, role: &'static str, up: bool) -> Process {
    let answer = if up { Ok("ok".into()) } else { Err(Error::retry("gone")) };
    let group = (role == "backend").then(|| name[..1].into());
    Process { name: name.into(), role, group, address: "127.0.0.1:2".into(), answer }
}

fn frontend(name: &str, up: bool) -> Process {
    process(name, "frontend", up)
}

fn judged(cluster: Result<ClusterStatus>, processes: Vec<Process>) -> (&'static str, String) {
    let headline = headline(&Gathered { cluster, processes });
    (headline.state, headline.why.join("; "))
}

fn said(state: &'static str, why: &str) -> (&'static str, String) {
    (state, why.into())
}

#[test]
fn a_cluster_without_faults_is_healthy() {
    assert_eq!(judged(Ok(cluster()), vec![frontend("f1", true)]), said("healthy", ""));
}

#[test]
fn a_node_away_is_degraded_while_others_serve_its_tablets() {
    let mut cluster = cluster();
    cluster.nodes[2].state = NodeState::Dead;
    assert_eq!(judged(Ok(cluster.clone()), vec![]), said("degraded", "a3 is dead"));
    cluster.tablets.iter_mut().for_each(|t| drop(t.isr.pop()));
    let why = "2 of 3 copies in sync (all tablets of group a); a3 is dead";
    assert_eq!(judged(Ok(cluster.clone()), vec![]), said("degraded", why));
    cluster.tablets[1].isr.pop();
    let why = "one copy left (a-s1); 2 of 3 copies in sync (a-s0); a3 is dead";
    assert_eq!(judged(Ok(cluster), vec![]), said("degraded", why));
}

#[test]
fn a_copy_that_is_not_well_is_named_with_its_node() {
    let mut cluster = cluster();
    cluster.nodes[1].report.tablets[0].problem = Some("damage on the disk".into());
    let why = "a2: damage on the disk (a-s0)";
    assert_eq!(judged(Ok(cluster.clone()), vec![]), said("degraded", why));
    cluster.nodes[1].state = NodeState::Dead;
    assert_eq!(judged(Ok(cluster), vec![]), said("degraded", "a2 is dead"));
}

#[test]
fn a_tablet_that_nobody_leads_is_down() {
    let mut electing = cluster();
    electing.problems.insert("a-s0".into(), "one is being elected".into());
    let why = "no primary: one is being elected (a-s0)";
    assert_eq!(judged(Ok(electing), vec![]), said("down", why));
    let mut dead = cluster();
    dead.nodes[0].state = NodeState::Dead;
    let why = "no primary: a1 is dead (all tablets of group a); a1 is dead";
    assert_eq!(judged(Ok(dead), vec![]), said("down", why));
    let mut sealed = cluster();
    sealed.nodes[0].report.tablets[0].role = Role::Sealed;
    let why = "no primary: a1 has ended its epoch (a-s0)";
    assert_eq!(judged(Ok(sealed), vec![]), said("down", why));
}

#[test]
fn a_primary_that_has_not_heard_of_its_epoch_is_about_to_begin() {
    let mut moved = cluster();
    moved.tablets[0].primary = Some("a2".into());
    moved.tablets[0].epoch = 4;
    assert_eq!(judged(Ok(moved), vec![]), said("degraded", "a2 takes over (a-s0)"));
}

#[test]
fn a_primary_that_serves_nothing_yet_takes_over() {
    let mut cluster = cluster();
    cluster.nodes[0].report.tablets[1].begins = true;
    assert_eq!(judged(Ok(cluster), vec![]), said("degraded", "a1 takes over (a-s1)"));
}

#[test]
fn a_tablet_that_lacks_replicas_for_a_write_is_down() {
    let mut cluster = cluster();
    for tablet in &mut cluster.tablets {
        tablet.isr.pop();
        tablet.min_insync = 2;
    }
    cluster.nodes[1].state = NodeState::Dead;
    let (state, why) = judged(Ok(cluster), vec![]);
    assert_eq!(state, "down");
    let begin = "writes wait: 1 in sync and alive, 2 needed (all tablets of group a); ";
    assert!(why.starts_with(begin), "{why}");
}

#[test]
fn what_a_node_takes_with_it_is_known_before() {
    let mut cluster = cluster();
    assert_eq!(without("a1", &cluster), (vec![], vec![]));
    cluster.nodes[2].state = NodeState::Dead;
    cluster.tablets[1].isr = vec!["a1".into()];
    let known = (vec!["a-s1".to_string()], vec!["a-s0".to_string()]);
    assert_eq!(without("a1", &cluster), known);
    assert_eq!(without("a2", &cluster), (vec![], vec!["a-s0".into()]));
    cluster.tablets[0].min_insync = 2;
    assert_eq!(without("a2", &cluster), (vec!["a-s0".into()], vec![]));
}

#[test]
fn one_of_two_frontends_is_degraded_and_none_is_down() {
    let one = vec![frontend("f1", true), frontend("f2", false)];
    let why = "frontend f2 does not answer";
    assert_eq!(judged(Ok(cluster()), one), said("degraded", why));
    let none = vec![frontend("f1", false), frontend("f2", false)];
    assert_eq!(judged(Ok(cluster()), none).0, "down");
}

#[test]
fn backends_are_asked_themselves_while_the_master_is_silent() {
    let silent = || Err(Error::retry("gone"));
    let backends = |a1, a2| vec![process("a1", "backend", a1), process("a2", "backend", a2)];
    assert_eq!(judged(silent(), backends(true, true)).0, "degraded");
    let (state, why) = judged(silent(), backends(false, true));
    assert_eq!(state, "degraded");
    assert!(why.ends_with("backend a1 does not answer: what it led waits for the master"), "{why}");
    let (state, why) = judged(silent(), backends(false, false));
    assert_eq!(state, "down");
    assert!(why.starts_with("nobody of group a answers; "), "{why}");
    let known = judged(Ok(cluster()), backends(false, false));
    assert_eq!(known, said("healthy", ""), "the master knows better");
}

#[test]
fn a_frontend_that_has_lost_the_store_is_degraded() {
    let answer = Ok("ok conns=1 draining=0 kv=down".into());
    let adrift = vec![Process { answer, ..frontend("f1", true) }];
    assert_eq!(judged(Ok(cluster()), adrift), said("degraded", "f1 does not reach the store"));
}
