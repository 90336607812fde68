//! The other replicas' side: what they take from the primary, and what they promise it.

use super::message::{Ack, Configuration, Message, Nack, Node, Prepare, Time};
use super::replica::{DIFFERS, Output, Replica};
use super::table::Table;
use crate::error::Error;
use crate::protocol::entry::Position;

impl Replica {
    /// Takes entries and a beacon from the primary. A new beacon is acknowledged at once, and so are entries that are
    /// here already. New entries are when they are on disk, and word of what is committed needs no answer.
    pub(super) fn prepare(
        &mut self,
        now: Time,
        from: Node,
        prepare: Prepare,
        out: &mut Vec<Output>,
    ) {
        if !self.follows(now, &from, &prepare.configuration, prepare.sent, out) {
            return;
        }
        self.promise_until = self.promise_until.max(now + self.timing.grace);
        let is_beacon = prepare.round > self.heard.0;
        self.heard = self.heard.max((prepare.round, prepare.sent));
        let prev = prepare.prev;
        let fits =
            prev.version < self.base.version || self.epoch_at(prev.version) == Some(prev.epoch);
        if !fits && self.rules.prev_matches {
            let (hint, epoch) = (self.hint(prev), self.configuration.epoch);
            let nack = Nack { epoch, hint, end: self.end().version, sent: prepare.sent };
            out.push(Output::Send(from, Message::Nack(nack)));
            return self.acknowledge(now, out);
        }
        let end = self.end();
        self.take_entries(&prepare, out);
        self.matched = self.matched.max(prev.version + prepare.entries.len() as u64);
        self.commit_to(now, prepare.committed.min(self.matched), out);
        self.compare(&prepare, out);
        self.take_lease(now, &prepare);
        let is_repeat = !prepare.entries.is_empty() && self.end() == end;
        if is_beacon || is_repeat {
            self.acknowledge(now, out);
        }
    }

    /// Compares the committed table with the primary's, where both are of one version. The log is equal up to there, so
    /// one of the two is not what its log adds up to, and the primary's counts. What was acknowledged is in this log all
    /// the same: the replica goes on to acknowledge, until the in-sync set does without it. But nobody reads it.
    fn compare(&mut self, prepare: &Prepare, out: &mut Vec<Output>) {
        let version = self.committed.version;
        let comparable = version == prepare.committed && !self.differs;
        let Some(theirs) = prepare.digest.filter(|_| comparable) else { return };
        if theirs != self.committed.digest() {
            self.begin_to_differ(out);
        }
    }

    /// From now on nobody reads this copy.
    pub(super) fn begin_to_differ(&mut self, out: &mut Vec<Output>) {
        self.differs = true;
        out.push(Output::Differs(self.committed.version));
        let refused = |token| Output::Confirm(token, Err(Error::retry(DIFFERS)));
        out.extend(self.asking.drain(..).map(refused));
    }

    /// Takes a lease from the primary, counted from an acknowledgement of this very process, and only with all that
    /// is committed in the log.
    fn take_lease(&mut self, now: Time, prepare: &Prepare) {
        let own = prepare.echo > 0 && (self.started..=now).contains(&prepare.echo);
        if own && self.timing.has_leases() && self.matched >= prepare.committed {
            let from = if self.rules.lease_from_own_ack { prepare.echo } else { now };
            self.read_until = self.read_until.max(from + prepare.left);
        }
    }

    /// From where the primary should send again: after the end, where something is missing; after what is committed,
    /// which is equal in all logs, where something differs.
    fn hint(&self, prev: Position) -> u64 {
        let end = self.end().version;
        if prev.version > end {
            end
        } else {
            self.committed.version.min(prev.version.saturating_sub(1))
        }
    }

    /// Adopts a newer epoch that a primary speaks of; whether this node follows it now. Who speaks of an epoch in which
    /// it takes part no more is told the least in which it would. An epoch has one primary: another that says the same
    /// number is of a master that has forgotten this one.
    fn follows(
        &mut self,
        now: Time,
        from: &Node,
        theirs: &Configuration,
        sent: Time,
        out: &mut Vec<Output>,
    ) -> bool {
        let least = self.configuration.epoch.max(self.sealed + 1);
        if theirs.epoch < least && self.rules.epoch_fence {
            let end = self.end().version;
            let nack = Nack { epoch: least, hint: end, end, sent };
            out.push(Output::Send(from.clone(), Message::Nack(nack)));
            return false;
        }
        let another = theirs.epoch == self.configuration.epoch
            && theirs.primary != self.configuration.primary;
        if another && self.rules.epoch_fence {
            return false;
        }
        if theirs.epoch > self.configuration.epoch {
            self.lead = None;
            self.sealing = None;
            self.adopt(now, theirs.clone(), out);
            self.fail_waiting(out);
            if !self.rules.truncate_by_lineage {
                self.cut_after(self.committed.version, out);
            }
        }
        self.lead.is_none()
    }

    /// Appends what is new. Where the log differs from the primary's it is cut, never below what is committed.
    fn take_entries(&mut self, prepare: &Prepare, out: &mut Vec<Output>) {
        for entry in &prepare.entries {
            if entry.version <= self.base.version {
                continue;
            }
            match self.epoch_at(entry.version) {
                Some(epoch) if epoch == entry.epoch => continue,
                Some(_) => self.cut_after(entry.version - 1, out),
                None => {}
            }
            self.push(entry.clone());
            out.push(Output::Append(entry.clone()));
        }
    }

    fn cut_after(&mut self, version: u64, out: &mut Vec<Output>) {
        assert!(version >= self.committed.version, "a committed entry is never cut off");
        if version < self.end().version {
            self.log.truncate((version - self.base.version) as usize);
            self.durable = self.durable.min(version);
            self.matched = self.matched.min(version);
            self.restore_last();
            out.push(Output::Truncate(version));
        }
    }

    /// Takes the whole table of a primary whose log does not reach back to ours.
    pub(super) fn install(
        &mut self,
        now: Time,
        from: Node,
        configuration: Configuration,
        table: Table,
        out: &mut Vec<Output>,
    ) {
        if !self.follows(now, &from, &configuration, 0, out)
            || table.version <= self.committed.version
        {
            return;
        }
        self.matched = self.matched.max(table.version);
        if self.epoch_at(table.version) == Some(table.epoch) {
            return self.commit_to(now, table.version, out);
        }
        self.durable = self.durable.min(self.committed.version);
        self.base = table.position();
        self.matched = table.version;
        self.log.clear();
        self.differs = false;
        self.committed = table.clone();
        out.push(Output::Install(table));
    }

    /// Tells the primary how far this log is equal to its own and on disk.
    pub(super) fn acknowledge(&mut self, now: Time, out: &mut Vec<Output>) {
        let primary = self.configuration.primary.clone().filter(|p| *p != self.me);
        let (Some(primary), true) = (primary, self.heard.0 > 0 && !self.stuck) else { return };
        if self.sealed >= self.configuration.epoch && self.rules.epoch_fence {
            return;
        }
        let matched = if self.rules.ack_match { self.matched } else { self.end().version };
        let durable = if self.rules.ack_after_sync { self.durable } else { self.end().version };
        let version = matched.min(durable);
        let (round, sent) = self.heard;
        let (epoch, space) = (self.configuration.epoch, self.space);
        let ack = Ack { epoch, version, sent, round, at: now, space };
        out.push(Output::Send(primary, Message::Ack(ack)));
    }

    /// The primary says what is committed: those who asked before may be served.
    pub(super) fn told(
        &mut self,
        now: Time,
        epoch: u64,
        id: u64,
        version: u64,
        out: &mut Vec<Output>,
    ) {
        let current =
            epoch == self.configuration.epoch && self.sealed < epoch && self.lead.is_none();
        if !current || self.matched < version {
            return;
        }
        self.commit_to(now, version, out);
        let (answered, asking) = self.asking.drain(..).partition(|token| *token <= id);
        self.asking = asking;
        let answered: Vec<u64> = answered;
        out.extend(answered.into_iter().map(|token| Output::Confirm(token, Ok(()))));
    }
}
