//! Changes of one tablet's configuration: PURE. What a plea of the primary, or an election, makes of the
//! register; the caller writes it by compare-and-swap.
//!
//! Every change raises the epoch by one. A new primary is a member of the in-sync set that has *sealed* the
//! epoch before: it has stopped acknowledging in it, and waited until no lease of it can run any more.

use crate::protocol::cluster::TabletRoute;
use std::collections::{BTreeMap, BTreeSet};

/// Pause before a seal is asked for again, in milliseconds.
pub const SEAL_AGAIN_MS: u64 = 300;
/// How long live members that have not sealed are waited for once one has, in milliseconds.
pub const SEAL_PATIENCE_MS: u64 = 4000;

/// Takes a member out of the in-sync set. Only the primary of this very epoch may ask.
pub fn remove(route: &TabletRoute, from: &str, epoch: u64, node: &str) -> Option<TabletRoute> {
    let asked = route.epoch == epoch && route.primary.as_deref() == Some(from) && node != from;
    let enough = route.isr.len() > route.min_insync as usize;
    if !asked || !enough || !route.isr.iter().any(|member| member == node) {
        return None;
    }
    let isr = route.isr.iter().filter(|member| *member != node).cloned().collect();
    Some(TabletRoute { epoch: epoch + 1, isr, clean: false, ..route.clone() })
}

/// Takes a member that has caught up into the in-sync set. Only the primary of this very epoch may ask.
pub fn add(route: &TabletRoute, from: &str, epoch: u64, node: &str) -> Option<TabletRoute> {
    let asked = route.epoch == epoch && route.primary.as_deref() == Some(from);
    let known = |list: &[String]| list.iter().any(|member| member == node);
    if !asked || known(&route.isr) || !known(&route.members) {
        return None;
    }
    let mut isr = route.isr.clone();
    isr.push(node.into());
    isr.sort();
    Some(TabletRoute { epoch: epoch + 1, isr, clean: false, ..route.clone() })
}

/// An election for the epoch after one that is being sealed.
#[derive(Clone, Debug)]
pub struct Election {
    /// The epoch that is being sealed.
    pub epoch: u64,
    first_ms: Option<u64>,
    asked_ms: Option<u64>,
    /// Who has sealed, and where its log ends: epoch and version.
    sealed: BTreeMap<String, (u64, u64)>,
}

impl Election {
    /// An election in which nobody has sealed yet.
    pub fn new(epoch: u64) -> Election {
        Election { epoch, first_ms: None, asked_ms: None, sealed: BTreeMap::new() }
    }

    /// Whom to ask to seal now.
    pub fn ask(&mut self, now_ms: u64, route: &TabletRoute) -> Vec<String> {
        if self.asked_ms.is_some_and(|at| now_ms < at + SEAL_AGAIN_MS) {
            return Vec::new();
        }
        self.asked_ms = Some(now_ms);
        route.isr.iter().filter(|node| !self.sealed.contains_key(*node)).cloned().collect()
    }

    /// A member has sealed the epoch.
    pub fn sealed(&mut self, now_ms: u64, node: &str, epoch: u64, end: (u64, u64)) {
        if epoch == self.epoch {
            self.first_ms.get_or_insert(now_ms);
            self.sealed.insert(node.into(), end);
        }
    }

    /// A member that had sealed has gone: it is asked again when it comes back.
    pub fn forget(&mut self, node: &str) {
        self.sealed.remove(node);
    }

    /// Who has sealed with a log that ends where this member's does: each may be the primary in its stead.
    pub fn equals<'a>(&'a self, node: &str) -> impl Iterator<Item = &'a str> {
        let end = self.sealed.get(node);
        self.sealed.iter().filter(move |(_, other)| Some(*other) == end).map(|(n, _)| n.as_str())
    }

    /// The configuration that the election comes to, once it is decided: when every live member of the in-sync
    /// set has sealed, or one has and the others take too long. The primary is the one with the longest log;
    /// only members of the in-sync set are counted.
    pub fn decide(
        &self,
        now_ms: u64,
        route: &TabletRoute,
        alive: &BTreeSet<String>,
    ) -> Option<TabletRoute> {
        let of_isr = |node: &&String| route.isr.contains(node);
        let sealed: Vec<&String> = self.sealed.keys().filter(of_isr).collect();
        let waited = self.first_ms.is_some_and(|at| now_ms >= at + SEAL_PATIENCE_MS);
        let all = route
            .isr
            .iter()
            .filter(|node| alive.contains(*node))
            .all(|node| sealed.contains(&node));
        let primary = *sealed.iter().max_by_key(|node| self.sealed[**node])?;
        if !all && !waited {
            return None;
        }
        let mut isr: Vec<String> = sealed.iter().map(|node| (*node).clone()).collect();
        let padding = route.isr.iter().filter(|node| !sealed.contains(node)).cloned();
        isr.extend(padding.take((route.min_insync as usize).saturating_sub(sealed.len())));
        isr.sort();
        Some(TabletRoute {
            epoch: route.epoch + 1,
            primary: Some(primary.clone()),
            isr,
            clean: false,
            ..route.clone()
        })
    }
}
