//! The primary's side: what each member has, when an entry is committed, and how long the lease runs.

use super::confirm::Reader;
use super::execute::DiskSpace;
use super::message::{Ack, Message, Nack, Node, Plea, Prepare, Time};
use super::read_back::Progress;
use super::replica::{Logged, Output, Replica};
use crate::protocol::entry::{Answer, Entry, Position};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Windows of entries that may be prepared and not committed: more is refused.
pub const PREPARED_WINDOWS: u64 = 8;

/// What a primary knows in its epoch. Forgotten with it.
pub struct Lead {
    /// First entry of this epoch: nothing is served before it is committed.
    pub barrier: u64,
    /// Nothing commits before: leases of the epoch before may still run.
    hold_until: Time,
    /// Until then leases of epochs before may run at members of the in-sync set. They stop when these members take
    /// part in this epoch, as every commit needs; but a member that is removed before may go on with its lease.
    owed_until: Time,
    /// A member that has caught up and is being added: commits and leases need it from now on.
    pending_add: Option<Node>,
    /// A member that the master would not add, and until when nobody asks again.
    refused: Option<(Node, Time)>,
    peers: BTreeMap<Node, Peer>,
    next_beat: Time,
    /// Number of the last round that began.
    round: u64,
    /// Since when not all have answered a beacon of the last time L.
    unreached_since: Option<Time>,
    /// Asked to resign: no new writes until everything is committed, or until then.
    resigning: Option<Time>,
    /// When the master is asked again which epoch it is, if somebody knows a newer one.
    next_tell: Time,
}

/// What the primary knows of a member.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    /// The next version to send.
    pub next: u64,
    /// What was sent after this version and is not answered yet is on its way.
    pub sent_after: u64,
    /// Equal to ours, and on its disk, up to here.
    pub matched: u64,
    /// What is read back for it.
    pub read_back: Progress,
    /// The highest version that it has acknowledged, and our clock at the newest beacon that it had heard by then.
    acked: (u64, Time),
    /// Whether it has left this epoch: nothing that needs it is committed in it any more.
    left: bool,
    /// Our clock, as it was when we sent the newest beacon that it has answered.
    echo: Time,
    /// The newest round that it has answered.
    round: u64,
    /// Its clock when it sent its last ack, and ours when that came.
    theirs: Option<(Time, Time)>,
    /// Our clock when it was last heard.
    heard: Time,
    /// Our clock when the master was last asked about it.
    pleaded: Time,
    /// Our clock when it was last sent something again.
    resent: Time,
    /// The room on its disk, as it said last.
    space: DiskSpace,
}

impl Lead {
    /// A primary that begins an epoch.
    pub fn new(replica: &Replica, now: Time, (hold_until, owed_until): (Time, Time)) -> Lead {
        let next = replica.end().version + 1;
        let peer = || Peer { next, sent_after: next - 1, heard: now, ..Peer::default() };
        let others = replica.configuration.members.iter().filter(|node| **node != replica.me);
        Lead {
            barrier: next,
            hold_until,
            owed_until,
            pending_add: None,
            refused: None,
            peers: others.map(|node| (node.clone(), peer())).collect(),
            next_beat: now,
            round: 1,
            unreached_since: None,
            resigning: None,
            next_tell: now,
        }
    }

    /// Whether a member may be added now.
    fn may_add(&self, node: &Node, now: Time) -> bool {
        let refused = self.refused.as_ref().filter(|(refused, _)| refused == node);
        self.pending_add.is_none() && refused.is_none_or(|(_, until)| now >= *until)
    }

    /// What the next epoch knows of members that the master would not add in this one.
    fn refused_add(&self, replica: &Replica, now: Time) -> Option<(Node, Time)> {
        let isr = &replica.configuration.isr;
        let refused = self.pending_add.clone().filter(|node| !isr.contains(node));
        let again = now + replica.timing.grace;
        refused.map(|node| (node, again)).or_else(|| self.refused.clone())
    }

    /// The member that is being added.
    pub fn pending_add(&self) -> Option<&Node> {
        self.pending_add.as_ref()
    }

    /// Nothing commits before.
    pub fn hold_until(&self) -> Time {
        self.hold_until
    }

    /// Until then leases of epochs before may run.
    pub fn owed_until(&self) -> Time {
        self.owed_until
    }

    /// From now on no write is taken, until everything is committed or this time has come.
    pub fn resign_before(&mut self, until: Time) {
        self.resigning.get_or_insert(until);
    }

    /// Why no write can be committed now: a definite refusal is better than a wait without an end.
    pub fn refusal(&self, replica: &Replica, now: Time) -> Option<String> {
        let (in_sync, least) = (replica.configuration.isr.len(), replica.configuration.min_insync);
        if in_sync < least {
            return Some(format!("only {in_sync} of {least} needed copies are in sync"));
        }
        if self.resigning.is_some() {
            return Some("the tablet is being moved to another node".into());
        }
        let prepared = replica.total_at(replica.end().version);
        let prepared = prepared - replica.total_at(replica.committed.version).min(prepared);
        let bound = PREPARED_WINDOWS * replica.timing.window_bytes;
        if prepared > bound && replica.rules.prepared_bounded {
            return Some("too much waits for the disks of the in-sync replicas".into());
        }
        let needed = |node: &Node| {
            replica.configuration.isr.contains(node) || self.pending_add.as_ref() == Some(node)
        };
        let mut needed = self.peers.iter().filter(|(node, _)| needed(node));
        needed.find_map(|(node, peer)| match peer.left {
            true => Some(format!("the in-sync replica {node} has left the epoch")),
            false if now > peer.heard + replica.timing.silence => {
                Some(format!("the in-sync replica {node} does not answer"))
            }
            false => None,
        })
    }

    /// The members on which a commit depends, this node apart.
    fn needed<'a>(
        &'a self,
        replica: &'a Replica,
        with_pending: bool,
    ) -> impl Iterator<Item = &'a Peer> {
        let rules = replica.rules;
        self.peers.iter().filter_map(move |(node, peer)| {
            let pending = with_pending && self.pending_add.as_ref() == Some(node);
            let asked_away = !rules.remove_after_answer && peer.pleaded > 0;
            let needed = (replica.configuration.isr.contains(node) && !asked_away) || pending;
            needed.then_some(peer)
        })
    }

    /// Number of the last round that began.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// The last round that all on whom a read depends have answered.
    pub fn confirmed(&self, replica: &Replica) -> u64 {
        let rounds = self.needed(replica, replica.rules.pending_add_leases).map(|peer| peer.round);
        let confirmed = if replica.rules.confirm_all { rounds.min() } else { rounds.max() };
        confirmed.unwrap_or(u64::MAX)
    }

    /// When a lease ends: L after the oldest of the newest beacons that each needed member has answered. A
    /// sole member needs no lease: nobody else can be promoted.
    pub fn reached_until(&self, replica: &Replica) -> Time {
        let echoes = self.needed(replica, replica.rules.pending_add_leases).map(|peer| peer.echo);
        match echoes.min() {
            None => Time::MAX,
            Some(0) => 0,
            Some(echo) => echo + replica.timing.lease,
        }
    }

    /// The room on the fullest disk of all on whom a commit depends.
    pub fn space(&self, replica: &Replica) -> DiskSpace {
        let others = self.needed(replica, replica.rules.pending_add_commits);
        others.map(|peer| peer.space).fold(replica.space, DiskSpace::max)
    }

    /// The version that all on whom a commit depends have on disk.
    fn committed(&self, replica: &Replica) -> u64 {
        let mut acked: Vec<u64> = self
            .needed(replica, replica.rules.pending_add_commits)
            .map(|peer| peer.matched)
            .collect();
        acked.push(replica.durable);
        acked.sort_unstable();
        if replica.rules.all_of_isr { acked[0] } else { acked[acked.len() / 2] }
    }
}

impl Replica {
    /// Begins to order the writes of the adopted epoch.
    pub(super) fn take_lead(
        &mut self,
        now: Time,
        (hold_until, owed_until): (Time, Time),
        before: Option<Lead>,
        out: &mut Vec<Output>,
    ) {
        let mut lead = Lead::new(self, now, (hold_until, owed_until));
        if let Some(before) = &before {
            lead.round = before.round + 1;
            lead.refused = before.refused_add(self, now);
        }
        for (node, old) in before.into_iter().flat_map(|before| before.peers) {
            if let Some(peer) = lead.peers.get_mut(&node) {
                (peer.next, peer.heard) = (old.next.min(peer.next), old.heard);
                peer.space = old.space;
                peer.sent_after = peer.next - 1;
            }
        }
        self.lead = Some(lead);
        let after = self.last().clone();
        self.append(now, after, Vec::new(), None, Answer::default(), 0, out);
    }

    /// What a member is sent: entries from its next one on, and a beacon. Where memory does not reach back so far, the
    /// log on disk may.
    fn message_for(&mut self, now: Time, node: &Node, out: &mut Vec<Output>) {
        let Some(peer) = self.lead.as_ref().map(|lead| &lead.peers[node]) else { return };
        let version = peer.next - 1;
        let Some(epoch) = self.epoch_at(version) else { return self.read_back(now, node, out) };
        let entries = self.entries_for(peer);
        self.send_prepare(now, node, Position { epoch, version }, entries, out);
    }

    /// Sends a member entries, and with them a beacon.
    pub(super) fn send_prepare(
        &mut self,
        now: Time,
        node: &Node,
        prev: Position,
        entries: Vec<Arc<Entry>>,
        out: &mut Vec<Output>,
    ) {
        let Some(lead) = &self.lead else { return };
        let has_leases = self.timing.has_leases();
        let lease_until = if has_leases { lead.reached_until(self) } else { 0 };
        let (round, peer) = (lead.round, &lead.peers[node]);
        let (echo, received) = peer.theirs.unwrap_or((0, now));
        let in_sync = self.configuration.isr.contains(node);
        let left = if in_sync { lease_until.saturating_sub(received) } else { 0 };
        let next = prev.version + 1 + entries.len() as u64;
        let prepare = Prepare {
            configuration: self.configuration.clone(),
            prev,
            entries,
            committed: self.committed.version,
            digest: (!self.differs).then(|| self.committed.digest()),
            sent: now,
            round,
            echo,
            left,
        };
        out.push(Output::Send(node.clone(), Message::Prepare(prepare)));
        self.peer(node, |peer| peer.next = next);
        if lease_until != Time::MAX {
            self.max_lease = self.max_lease.max(lease_until);
        }
    }

    /// What a member is sent next: none while enough is on its way to it.
    fn entries_for(&self, peer: &Peer) -> Vec<Arc<Entry>> {
        let (timing, sent) = (&self.timing, self.total_at(peer.next - 1));
        let on_its_way = sent - self.total_at(peer.sent_after.max(peer.matched)).min(sent);
        if on_its_way >= timing.window_bytes {
            return Vec::new();
        }
        let skip = (peer.next - 1 - self.base.version) as usize;
        let fits =
            |(i, logged): &(usize, &Logged)| *i == 0 || logged.total - sent <= timing.batch_bytes;
        let batch = self.log.range(skip..).take(timing.batch).enumerate().take_while(fits);
        batch.map(|(_, logged)| logged.entry.clone()).collect()
    }

    pub(super) fn send_table(&mut self, now: Time, node: &Node, out: &mut Vec<Output>) {
        let (table, beacon) = (self.committed.clone(), self.timing.beacon);
        let next = table.version + 1;
        let mut due = false;
        self.peer(node, |peer| {
            due = now >= peer.resent + beacon;
            if due {
                (peer.resent, peer.next, peer.sent_after) = (now, next, next - 1);
            }
        });
        if due {
            let (configuration, table) = (self.configuration.clone(), table.into());
            out.push(Output::Send(node.clone(), Message::Install { configuration, table }));
        }
    }

    pub(super) fn peer(&mut self, node: &Node, change: impl FnOnce(&mut Peer)) {
        if let Some(peer) = self.lead.as_mut().and_then(|lead| lead.peers.get_mut(node)) {
            change(peer);
        }
    }

    fn others(&self) -> Vec<Node> {
        self.lead.iter().flat_map(|lead| lead.peers.keys().cloned()).collect()
    }

    /// Sends what members have not been sent yet.
    pub(super) fn send_new(&mut self, now: Time, out: &mut Vec<Output>) {
        let end = self.end().version;
        for node in self.others() {
            if self.lead.as_ref().is_some_and(|lead| lead.peers[&node].next <= end) {
                self.message_for(now, &node, out);
            }
        }
    }

    /// Sends beacons when they are due, and asks the master for what members need.
    pub(super) fn beat(&mut self, now: Time, out: &mut Vec<Output>) {
        let timing = self.timing;
        let Some(lead) = self.lead.as_mut().filter(|lead| now >= lead.next_beat) else { return };
        lead.next_beat = now + timing.beacon;
        self.begin_round(now, out);
        self.plead_for_members(now, out);
    }

    /// Sends a beacon with a new number to all.
    pub(super) fn begin_round(&mut self, now: Time, out: &mut Vec<Output>) {
        let Some(lead) = &mut self.lead else { return };
        lead.round += 1;
        for node in self.others() {
            self.message_for(now, &node, out);
        }
    }

    fn plead_for_members(&mut self, now: Time, out: &mut Vec<Output>) {
        let (timing, isr) = (self.timing, self.configuration.isr.clone());
        let epoch = self.configuration.epoch;
        let until = self.lead.as_ref().map_or(0, |lead| lead.reached_until(self));
        let Some(lead) = &mut self.lead else { return };
        for (node, peer) in &mut lead.peers {
            let silent = isr.contains(node) && now > peer.heard + timing.silence;
            if silent && now > peer.pleaded + timing.silence / 2 {
                peer.pleaded = now;
                out.push(Output::Plead(epoch, Plea::Remove(node.clone())));
            }
        }
        if let Some(node) = &lead.pending_add {
            out.push(Output::Plead(epoch, Plea::Add(node.clone())));
        }
        let since = *lead.unreached_since.get_or_insert(now);
        if until > now {
            lead.unreached_since = None;
        } else if now > since + timing.grace + timing.silence {
            out.push(Output::Plead(epoch, Plea::NoLease));
        }
    }

    /// Commits what all on whom it depends have on disk.
    pub(super) fn commit(&mut self, now: Time, out: &mut Vec<Output>) {
        let Some(lead) = &self.lead else { return };
        if now < lead.hold_until || self.sealed >= self.configuration.epoch {
            return;
        }
        let (before, version) = (self.committed.version, lead.committed(self));
        if version < lead.barrier && self.rules.barrier {
            return;
        }
        self.commit_to(now, version, out);
        if self.committed.version > before && self.committed.version == self.end().version {
            let mut mentions = Vec::new();
            for node in self.others() {
                self.message_for(now, &node, &mut mentions);
            }
            out.extend(mentions.into_iter().map(Output::into_mention));
        }
        self.resign_if_drained(now, out);
    }

    /// A primary that was asked to resign does so once everything is committed; if that takes too long, it
    /// stays.
    pub(super) fn resign_if_drained(&mut self, now: Time, out: &mut Vec<Output>) {
        let (drained, past) =
            (self.committed.version == self.end().version, self.is_past_barrier());
        let Some(lead) = &mut self.lead else { return };
        match lead.resigning {
            Some(_) if !self.rules.resign_drains => self.leave(out),
            Some(_) if drained && past && now >= lead.hold_until => self.leave(out),
            Some(until) if now >= until => lead.resigning = None,
            _ => {}
        }
    }

    /// A member answers.
    pub(super) fn acked(&mut self, now: Time, from: Node, ack: Ack, out: &mut Vec<Output>) {
        if !self.leads() || ack.epoch != self.configuration.epoch {
            return;
        }
        self.peer(&from, |peer| {
            peer.matched = peer.matched.max(ack.version);
            if ack.version > peer.acked.0 {
                peer.acked = (ack.version, ack.sent);
            }
            peer.next = peer.next.max(peer.matched + 1);
            peer.echo = peer.echo.max(ack.sent);
            peer.round = peer.round.max(ack.round);
            peer.theirs = Some((ack.at, now));
            peer.heard = now;
            peer.space = ack.space;
        });
        self.commit(now, out);
        self.answer_confirmed(now, out);
        self.add_if_caught_up(now, &from, out);
        if self
            .lead
            .as_ref()
            .is_some_and(|lead| lead.peers.get(&from).is_some_and(|p| p.next <= self.end().version))
        {
            self.message_for(now, &from, out);
        }
    }

    /// A member that has everything is added: first here, so that commits and leases need it, then at the
    /// master. There is no way back before the epoch has moved. One whose disk has less room than those of all others
    /// is not: writes would be refused that are taken without it.
    fn add_if_caught_up(&mut self, now: Time, node: &Node, out: &mut Vec<Output>) {
        let (committed, end) = (self.committed.version, self.end().version);
        if self.configuration.isr.contains(node) || !self.configuration.members.contains(node) {
            return;
        }
        let space = self.lead.as_ref().map(|lead| lead.space(self)).unwrap_or_default();
        let Some(lead) = self.lead.as_mut().filter(|lead| lead.may_add(node, now)) else {
            return;
        };
        let Some(peer) = lead.peers.get(node).filter(|peer| peer.space <= space) else { return };
        let has_all = peer.matched == end;
        let has_committed = committed >= lead.barrier && peer.matched >= committed;
        if has_all || (has_committed && end - peer.matched <= 8) {
            lead.pending_add = Some(node.clone());
            out.push(Output::Plead(self.configuration.epoch, Plea::Add(node.clone())));
        }
    }

    /// A member refuses: it has seen a newer epoch, or its log does not fit there.
    pub(super) fn nacked(&mut self, now: Time, from: Node, nack: Nack, out: &mut Vec<Output>) {
        let Nack { epoch, hint, end, sent } = nack;
        if !self.leads() || epoch < self.configuration.epoch {
            return;
        }
        if epoch > self.configuration.epoch {
            return self.refused_by(now, &from, out);
        }
        let (pause, mut again) = (self.timing.beacon / 8, false);
        let in_sync = self.configuration.isr.contains(&from);
        self.peer(&from, |peer| {
            let (acked, at) = peer.acked;
            if in_sync && end < acked && sent > at {
                peer.acked = (end, sent);
                out.push(Output::Lost(from.clone(), acked, end));
            }
            peer.heard = now;
            peer.matched = peer.matched.min(hint);
            peer.next = peer.next.min(hint + 1).max(1);
            peer.sent_after = peer.sent_after.min(peer.next - 1);
            again = now >= peer.resent + pause;
            if again {
                peer.resent = now;
            }
        });
        if again {
            self.message_for(now, &from, out);
        }
    }

    /// A member has sealed this epoch, or left it, and will never take part in it again. It is there, so it is not asked
    /// to be removed: that would undo the election for which it may have sealed.
    fn refused_by(&mut self, now: Time, from: &Node, out: &mut Vec<Output>) {
        self.peer(from, |peer| (peer.heard, peer.left) = (now, true));
        let (epoch, pause) = (self.configuration.epoch, self.timing.beacon);
        let Some(lead) = self.lead.as_mut().filter(|lead| now >= lead.next_tell) else { return };
        lead.next_tell = now + pause;
        out.push(Output::Plead(epoch, Plea::Tell));
    }

    /// A replica asks what is committed.
    pub(super) fn queried(
        &mut self,
        now: Time,
        from: Node,
        epoch: u64,
        id: u64,
        out: &mut Vec<Output>,
    ) {
        if !self.leads() || epoch != self.configuration.epoch {
            return;
        }
        if self.may_read(now) {
            let version = self.committed.version;
            out.push(Output::Send(from, Message::Committed { epoch, id, version }));
        } else if !self.timing.has_leases() {
            self.confirm(now, Reader::At(from, id), out);
        }
    }
}
