//! How nodes and tablets are said to people: one wording for STATUS of a backend and of the master, and the console.

use super::cluster::{
    ClusterStatus, NodeState, Report, Role, StorageReport, TabletReport, TabletRoute,
};

/// A time in its two largest units: `3 min 12 s`.
pub fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {} min", s / 3600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86_400, s / 3600 % 24),
    }
}

/// A time in seconds with one decimal: `1.7 s`.
pub fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

impl Report {
    /// What a node says of itself: `up 2 s, 9 tablets, 4 connections, memory 7 MiB, free 812 MiB`.
    pub fn line(&self) -> String {
        format!(
            "up {}, {} tablets, {} connections, memory {} MiB, free {} MiB",
            duration(self.uptime_ms),
            self.tablets.len(),
            self.connections,
            self.rss_bytes >> 20,
            self.free_bytes >> 20
        )
    }
}

impl StorageReport {
    /// `storage: 30 MiB in memory, 12 MiB of blocks, 640 MiB in 24 runs; written: 900 MiB of logs, …`.
    pub fn line(&self) -> String {
        let [memory, cache, disk, logged, flushed, merged] =
            [self.memory, self.cache, self.disk, self.logged, self.flushed, self.merged]
                .map(|bytes| bytes >> 20);
        format!(
            "storage: {memory} MiB in memory, {cache} MiB of blocks, {disk} MiB in {} runs; written: {logged} MiB of logs, \
             {flushed} MiB by checkpoints, {merged} MiB by merges",
            self.runs
        )
    }
}

impl TabletReport {
    /// How much longer the node may answer reads by itself: `lease 1.7 s`; of a primary that does not serve yet that it
    /// `takes over`.
    pub fn lease(&self) -> String {
        match self.lease_ms {
            _ if self.begins => "takes over".into(),
            Some(0) => "no lease".into(),
            Some(ms) => format!("lease {}", seconds(ms)),
            None => "needs no lease".into(),
        }
    }

    /// What the node is for the tablet, so many entries behind, and what is wrong: `replica, lag 3, lease 1.7 s`.
    pub fn place(&self, lag: u64) -> String {
        let place = match self.role {
            Role::Damaged => "damaged, serves nothing".into(),
            role => format!("{}, lag {lag}, {}", role.word(), self.lease()),
        };
        match &self.problem {
            Some(problem) => format!("{place} ({problem})"),
            None => place,
        }
    }

    /// How much it holds: `version 40, 3 cells, 812 bytes`.
    pub fn contents(&self) -> String {
        format!("version {}, {} cells, {} bytes", self.version, self.cells, self.bytes)
    }
}

/// Who leads a tablet, and who has all of it: `epoch 3, primary a1, in sync a1 a2`.
pub fn configuration<S: AsRef<str>>(
    epoch: u64,
    primary: Option<&str>,
    isr: impl IntoIterator<Item = S>,
) -> String {
    let names: String = isr.into_iter().map(|name| format!(" {}", name.as_ref())).collect();
    format!("epoch {epoch}, primary {}, in sync{names}", primary.unwrap_or("none"))
}

impl ClusterStatus {
    /// How a node is; none that is unknown.
    pub fn state_of(&self, node: &str) -> Option<NodeState> {
        self.nodes.iter().find(|n| n.name == node).map(|n| n.state)
    }

    /// What a node said last of a tablet.
    pub fn report_of(&self, tablet: &TabletRoute, node: &str) -> Option<&TabletReport> {
        let node = self.nodes.iter().find(|n| n.name == node)?;
        node.report.tablets.iter().find(|t| t.id == tablet.id)
    }

    /// What a tablet's primary said last of it.
    pub fn primary_report(&self, tablet: &TabletRoute) -> Option<&TabletReport> {
        self.report_of(tablet, tablet.primary.as_deref()?)
    }

    /// Entries by which a replica is behind the primary, by what both said last.
    pub fn lag(&self, tablet: &TabletRoute, replica: &TabletReport) -> u64 {
        let end = self.primary_report(tablet).map_or(0, |led| led.version);
        end.saturating_sub(replica.version)
    }

    /// How many of a tablet's in-sync replicas can take writes now.
    pub fn in_sync_alive(&self, tablet: &TabletRoute) -> usize {
        let takes = |name: &&String| {
            let stands = |t: &TabletReport| matches!(t.role, Role::Damaged | Role::Stuck);
            let stands = self.report_of(tablet, name).is_some_and(stands);
            self.state_of(name) == Some(NodeState::Alive) && !stands
        };
        tablet.isr.iter().filter(takes).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_two_units() {
        let said = [999, 72_000, 7_260_000, 180_000_000].map(duration);
        assert_eq!(said, ["0 s", "1 min 12 s", "2 h 1 min", "2 d 2 h"]);
        assert_eq!(seconds(1750), "1.7 s");
    }

    #[test]
    fn a_replica_says_what_it_is() {
        let replica = |role, lease_ms| TabletReport { role, lease_ms, ..TabletReport::default() };
        assert_eq!(replica(Role::Replica, Some(1750)).place(3), "replica, lag 3, lease 1.7 s");
        assert_eq!(replica(Role::Learner, Some(0)).place(9), "learner, lag 9, no lease");
        assert_eq!(replica(Role::Primary, None).place(0), "primary, lag 0, needs no lease");
        assert_eq!(replica(Role::Damaged, None).place(0), "damaged, serves nothing");
        let begins = TabletReport { begins: true, ..replica(Role::Primary, Some(0)) };
        assert_eq!(begins.place(0), "primary, lag 0, takes over");
        let full =
            TabletReport { problem: Some("no room".into()), ..replica(Role::Replica, Some(0)) };
        assert_eq!(full.place(0), "replica, lag 0, no lease (no room)");
    }

    #[test]
    fn a_configuration_names_who_has_everything() {
        assert_eq!(
            configuration(3, Some("a1"), ["a1", "a2"]),
            "epoch 3, primary a1, in sync a1 a2"
        );
        assert_eq!(configuration(0, None, [""; 0]), "epoch 0, primary none, in sync");
    }
}
