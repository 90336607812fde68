//! One tablet's replica as a state machine: `step(now, input) -> outputs`.

use super::confirm::Reader;
use super::execute::{DiskSpace, Setting};
use super::lead::Lead;
use super::message::{Configuration, Message, Node, Plea, Time};
use super::propose::Judged;
use super::rules::Rules;
use super::table::Table;
use crate::error::Error;
use crate::protocol::command::{Op, RequestId};
use crate::protocol::entry::{Answer, Entry, Position};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Readers that wait for the primary's word, or, at the primary, for that of all.
pub(super) const ASKING_MAX: usize = 4096;

/// What readers hear when too many wait.
pub(super) const TOO_MANY: &str = "too many readers wait for the other replicas";

/// What readers of a copy hear that is not the primary's.
pub(super) const DIFFERS: &str = "this copy differs from the primary's";

/// Names a proposal or a question until it is answered; the shell's own.
pub type Token = u64;

/// How a primary knows that what it reads is current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// It holds a lease, and grants leases to replicas: reads cost nothing, and clocks must agree.
    Lease,
    /// It asks all members once they were asked for: a round trip for each batch of reads, and no clock matters.
    Confirm,
}

/// How reads are served, times of the protocol in microseconds, and sizes.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How reads are served: the same at all replicas.
    pub reads: Reads,
    /// L: how long a lease runs.
    pub lease: u64,
    /// G: how long a promise runs; more than a lease by the most that two clocks differ.
    pub grace: u64,
    /// Pause between two beacons.
    pub beacon: u64,
    /// Silence after which a member is asked to be removed.
    pub silence: u64,
    /// Entries that are always kept for replicas that lag.
    pub keep: usize,
    /// Bytes of committed entries that are kept for replicas that lag.
    pub keep_bytes: u64,
    /// Entries of one message.
    pub batch: usize,
    /// Bytes of one message's entries; one entry goes out in any case.
    pub batch_bytes: u64,
    /// Bytes of entries that are on their way to one member.
    pub window_bytes: u64,
}

impl Timing {
    /// What a lease that was handed out elsewhere may run on after ours has ended.
    pub fn margin(&self) -> u64 {
        self.grace - self.lease
    }

    /// Whether leases run, and ends of epochs wait for them.
    pub(super) fn has_leases(&self) -> bool {
        self.reads == Reads::Lease
    }
}

/// What happens to a replica.
#[derive(Debug)]
pub enum Input {
    /// The master has a newer configuration.
    Configure(Configuration),
    /// The master ends an epoch: nothing of it is served or acknowledged any more.
    Seal(Configuration),
    /// The master asks this node to leave an epoch in order: as its primary, or as a replica.
    Resign(u64),
    /// The disk hangs, or has come to itself again.
    Stuck(bool),
    /// The room on the disk has changed to this.
    Space(DiskSpace),
    /// A client asks for a write.
    Propose(Proposal),
    /// A reader asks which entries are committed.
    Query(Token),
    /// The log is on disk up to this version.
    Persisted(u64),
    /// The log on disk holds every entry after this version.
    LogStart(u64),
    /// Entries were read back for a member, those after this position; none: they are not there any more.
    ReadBack(Node, Position, Vec<Arc<Entry>>),
    /// Another replica says something.
    Message(Node, Message),
    /// Time has passed.
    Tick,
}

/// A write that a client asks for.
#[derive(Debug)]
pub struct Proposal {
    /// Names the proposal in the answer.
    pub token: Token,
    /// The client's name for the request.
    pub request: Option<RequestId>,
    /// Whether it may have been sent before.
    pub retry: bool,
    /// What to do.
    pub ops: Vec<Op>,
    /// Whether it is a single op, which says NOTFOUND when it deletes what is not there, or a batch.
    pub single: bool,
    /// The surroundings.
    pub setting: Setting,
}

/// What a replica wants done, in this order.
#[derive(Debug)]
pub enum Output {
    /// Make the configuration and the sealed epoch durable before anything that follows.
    Adopt(Configuration, u64),
    /// Cut the log off after this version, before anything that follows.
    Truncate(u64),
    /// Append to the log and sync.
    Append(Arc<Entry>),
    /// Replace everything by this table, durably, and say `Persisted` of its version.
    Install(Table),
    /// Send to another replica.
    Send(Node, Message),
    /// Read back entries after this version, none after the second, from the log on disk, some at a time, and say
    /// `ReadBack`: this member needs them.
    ReadBack(Node, u64, u64),
    /// Send to another replica together with whatever goes there next: nobody waits for it.
    Mention(Node, Message),
    /// Ask the master for something, in the epoch in which it was found to be needed: in a later one it may do harm.
    Plead(u64, Plea),
    /// Tell the master that this epoch is sealed, and where the log ends.
    Sealed(u64, Position),
    /// Tell the master that this node has left this epoch, and holds no lease of it.
    Resigned(u64),
    /// Take this copy for damaged: its committed table of this version is not the primary's.
    Differs(u64),
    /// Warn: this replica's log ends at the second version, and it had acknowledged up to the first.
    Lost(Node, u64, u64),
    /// Answer a proposal.
    Answer(Token, Outcome),
    /// Answer a question: what is committed now may be served, or why not.
    Confirm(Token, Result<(), Error>),
}

impl Output {
    /// The same, but nobody waits for it, if it is word of what is committed alone.
    pub(super) fn into_mention(self) -> Output {
        match self {
            Output::Send(to, Message::Prepare(prepare)) if prepare.entries.is_empty() => {
                Output::Mention(to, Message::Prepare(prepare))
            }
            output => output,
        }
    }
}

/// How a proposal ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Executed and durable.
    Done(Answer),
    /// A condition does not hold; nothing was written.
    Mismatch {
        /// Version of the cell; 0: no such cell.
        version: u64,
        /// Which op.
        at: usize,
    },
    /// A DELETE of what is not there.
    NotFound,
    /// Refused.
    Refused(Error),
}

/// One tablet's replica.
pub struct Replica {
    pub(super) me: Node,
    pub(super) rules: Rules,
    pub(super) timing: Timing,
    pub(super) configuration: Configuration,
    /// Highest epoch that was sealed here.
    pub(super) sealed: u64,
    pub(super) committed: Table,
    /// The position before the first entry of `log`.
    pub(super) base: Position,
    pub(super) log: VecDeque<Logged>,
    /// The log on disk holds every entry after this version.
    pub(super) log_start: u64,
    /// Version up to which the log is on disk.
    pub(super) durable: u64,
    /// Version up to which the log is known to be equal to the primary's in this epoch.
    pub(super) matched: u64,
    pub(super) promise_until: Time,
    pub(super) read_until: Time,
    /// Latest end of a lease that this process ever gave itself or others.
    pub(super) max_lease: Time,
    /// When this process began.
    pub(super) started: Time,
    pub(super) lead: Option<Lead>,
    /// A seal that waits until no lease can run any more.
    pub(super) sealing: Option<(u64, Time)>,
    /// The last epoch that was left in order.
    pub(super) resigned: Option<u64>,
    /// Whether the disk hangs: nothing is promised meanwhile.
    pub(super) stuck: bool,
    /// The room on the disk.
    pub(super) space: DiskSpace,
    /// Whether the table was found to differ from a primary's: nobody reads it, or compares with it, any more.
    pub(super) differs: bool,
    /// The last beacon: its number, and when the primary sent it.
    pub(super) heard: (u64, Time),
    /// Answers that depend on entries not yet committed.
    pub(super) waiting: BTreeMap<u64, Vec<Judged>>,
    /// Readers that wait for the primary's word.
    pub(super) asking: Vec<Token>,
    /// Who waits until all have answered a round, and which.
    pub(super) confirming: VecDeque<(u64, Reader)>,
}

/// An entry of the log, and the table after it: kept while it is prepared, where that is cheap. A table keeps
/// every node of its maps that the next one changed, some kilobytes; a recovered log may hold millions of
/// entries, so of those the last alone has its table.
pub(super) struct Logged {
    pub entry: Arc<Entry>,
    pub after: Option<Table>,
    /// Bytes of all entries up to this one since the process began.
    pub total: u64,
}

impl Replica {
    /// A replica as it was found on disk: what it had adopted and sealed, a checkpoint's table, and the
    /// entries logged after it. A primary never resumes its epoch after a restart: it has forgotten whom it
    /// had given leases and whom it was about to add.
    pub fn recover(
        me: Node,
        (rules, timing): (Rules, Timing),
        now: Time,
        (configuration, sealed): (Configuration, u64),
        checkpoint: Table,
        log: Vec<Entry>,
    ) -> Replica {
        let was_primary = configuration.is_primary(&me) && rules.restart_seals;
        let sealed = if was_primary { sealed.max(configuration.epoch) } else { sealed };
        let base = checkpoint.position();
        let mut replica = Replica {
            me,
            rules,
            timing,
            sealed,
            base,
            log_start: base.version,
            durable: checkpoint.version + log.len() as u64,
            matched: checkpoint.version,
            committed: checkpoint,
            log: VecDeque::new(),
            promise_until: if rules.promise_at_start { now + timing.grace } else { now },
            read_until: 0,
            max_lease: 0,
            started: now,
            lead: None,
            sealing: None,
            resigned: None,
            stuck: false,
            space: DiskSpace::Enough,
            differs: false,
            heard: (0, 0),
            waiting: BTreeMap::new(),
            asking: Vec::new(),
            confirming: VecDeque::new(),
            configuration,
        };
        log.into_iter().for_each(|entry| replica.log_entry(Arc::new(entry), None));
        replica.restore_last();
        if !rules.restart_seals && replica.configuration.is_primary(&replica.me.clone()) {
            replica.lead = Some(Lead::new(&replica, 0, (0, 0)));
        }
        replica
    }

    /// Takes an input and says what is to be done.
    pub fn step(&mut self, now: Time, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Configure(configuration) => self.configure(now, configuration, &mut out),
            Input::Seal(configuration) => self.seal(now, configuration, &mut out),
            Input::Resign(epoch) => self.resign(now, epoch, &mut out),
            Input::Stuck(stuck) => self.note_stuck(now, stuck, &mut out),
            Input::Space(space) => self.note_space(now, space, &mut out),
            Input::Propose(proposal) => self.propose(now, proposal, &mut out),
            Input::Query(token) => self.query(now, token, &mut out),
            Input::Persisted(version) => self.persisted(now, version, &mut out),
            Input::LogStart(version) => self.note_log_start(version),
            Input::ReadBack(node, prev, entries) => {
                self.take_read_back(now, &node, (prev, entries), &mut out)
            }
            Input::Message(from, message) => self.hear(now, from, message, &mut out),
            Input::Tick => self.tick(now, &mut out),
        }
        out
    }

    /// The configuration that was adopted last.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Highest epoch that was sealed here.
    pub fn sealed_epoch(&self) -> u64 {
        self.sealed
    }

    /// The committed table.
    pub fn committed(&self) -> &Table {
        &self.committed
    }

    /// The table after all entries of the log.
    pub fn last(&self) -> &Table {
        match self.log.back() {
            Some(logged) if logged.entry.version > self.committed.version => {
                logged.after.as_ref().expect("the last prepared entry has its table")
            }
            _ => &self.committed,
        }
    }

    /// Version up to which the log is on disk.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// Where the log ends.
    pub fn end(&self) -> Position {
        self.log.back().map_or(self.base, |logged| Position::of(&logged.entry))
    }

    /// The entries after the base, in order.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.log.iter().map(|logged| &logged.entry)
    }

    /// Entries that are not committed yet, in order.
    pub fn prepared(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.log.range(self.known(self.committed.version)..).map(|logged| &logged.entry)
    }

    /// Whether this node orders the writes of its epoch now.
    pub fn leads(&self) -> bool {
        self.lead.is_some() && self.sealed < self.configuration.epoch
    }

    /// The member that this primary is adding: commits and leases need it.
    pub fn pending_add(&self) -> Option<&Node> {
        self.lead.as_ref()?.pending_add()
    }

    pub(super) fn push(&mut self, entry: Arc<Entry>) {
        let mut after = self.last().clone();
        after.apply(&entry);
        self.log_entry(entry, Some(after));
    }

    pub(super) fn log_entry(&mut self, entry: Arc<Entry>, after: Option<Table>) {
        let total = self.total_at(self.end().version) + entry.weight();
        self.log.push_back(Logged { entry, after, total });
    }

    /// How many entries of the log are of this version or before: versions have no gaps.
    pub(super) fn known(&self, version: u64) -> usize {
        (version.saturating_sub(self.base.version) as usize).min(self.log.len())
    }

    /// Bytes of all entries up to a version; of what is not in the log any more nothing is counted.
    pub(super) fn total_at(&self, version: u64) -> u64 {
        match self.known(version).checked_sub(1) {
            Some(last) => self.log[last].total,
            None => self.log.front().map_or(0, |first| first.total - first.entry.weight()),
        }
    }

    /// Gives the last prepared entry its table, if it has none: after a start, and after a cut.
    pub(super) fn restore_last(&mut self) {
        let end = self.end().version;
        if end > self.committed.version
            && self.log.back().is_some_and(|logged| logged.after.is_none())
        {
            let table = self.table_at(end);
            self.log.back_mut().expect("just seen").after = Some(table);
        }
    }

    /// The table after a prepared entry: from the nearest one before that is kept.
    fn table_at(&self, version: u64) -> Table {
        let (from, upto) = (self.known(self.committed.version), self.known(version));
        let known = (from..upto).rev().find(|at| self.log[*at].after.is_some());
        let table = known
            .and_then(|at| self.log[at].after.clone())
            .unwrap_or_else(|| self.committed.clone());
        let rest = self.log.range(known.map_or(from, |at| at + 1)..upto);
        rest.fold(table, |mut table, logged| {
            table.apply(&logged.entry);
            table
        })
    }

    /// The epoch of the entry with this version, if it is still known.
    pub(super) fn epoch_at(&self, version: u64) -> Option<u64> {
        if version == self.base.version {
            return Some(self.base.epoch);
        }
        let at = version.checked_sub(self.base.version + 1)?;
        self.log.get(at as usize).map(|logged| logged.entry.epoch)
    }

    /// Whether a read of the committed table that ended now is current.
    pub fn may_read(&self, now: Time) -> bool {
        !self.rules.lease_check || now < self.lease_until()
    }

    /// Until when this node may answer reads from its committed table. Without leases only a sole member may, which
    /// nobody can replace.
    pub fn lease_until(&self) -> Time {
        let sealed = self.sealed >= self.configuration.epoch;
        match &self.lead {
            Some(lead) if !sealed && self.is_past_barrier() => match lead.reached_until(self) {
                until if self.timing.has_leases() || until == Time::MAX => until,
                _ => 0,
            },
            None if !sealed && self.configuration.isr.contains(&self.me) && !self.differs => {
                self.read_until
            }
            _ => 0,
        }
    }

    /// Until when this node lets no other primary begin.
    pub fn promise_until(&self) -> Time {
        self.promise_until
    }

    pub(super) fn is_past_barrier(&self) -> bool {
        !self.rules.barrier
            || self.lead.as_ref().is_some_and(|lead| self.committed.version >= lead.barrier)
    }

    fn persisted(&mut self, now: Time, version: u64, out: &mut Vec<Output>) {
        self.durable = self.durable.max(version.min(self.end().version));
        if self.lead.is_some() {
            self.commit(now, out);
        } else {
            self.acknowledge(now, out);
        }
    }

    /// A primary that hears of it at once takes no more than there is room for.
    fn note_space(&mut self, now: Time, space: DiskSpace, out: &mut Vec<Output>) {
        self.space = space;
        self.acknowledge(now, out);
    }

    fn hear(&mut self, now: Time, from: Node, message: Message, out: &mut Vec<Output>) {
        match message {
            Message::Prepare(prepare) => self.prepare(now, from, prepare, out),
            Message::Install { configuration, table } => {
                self.install(now, from, configuration, *table, out)
            }
            Message::Ack(ack) => self.acked(now, from, ack, out),
            Message::Nack(nack) => self.nacked(now, from, nack, out),
            Message::Query { epoch, id } => self.queried(now, from, epoch, id, out),
            Message::Committed { epoch, id, version } => self.told(now, epoch, id, version, out),
        }
    }

    fn tick(&mut self, now: Time, out: &mut Vec<Output>) {
        self.stand_down_if_stuck(out);
        self.answer_seal(now, out);
        self.ask_again(out);
        if self.lead.is_some() {
            self.commit(now, out);
            self.resign_if_drained(now, out);
            self.beat(now, out);
            self.answer_confirmed(now, out);
        }
    }

    /// Takes everything up to a version as committed, and answers what waited for it.
    pub(super) fn commit_to(&mut self, now: Time, version: u64, out: &mut Vec<Output>) {
        if version <= self.committed.version {
            return;
        }
        let newly = self.known(self.committed.version)..self.known(version);
        self.committed = self.table_at(version);
        self.log.range_mut(newly).for_each(|logged| logged.after = None);
        self.note_flaw(out);
        let later = self.waiting.split_off(&(version + 1));
        let ready = std::mem::replace(&mut self.waiting, later);
        let ready = ready.into_values().flatten().collect::<Vec<_>>();
        ready.into_iter().for_each(|judged| self.answer(now, judged, out));
        self.trim_log();
    }

    /// A table of which something could not be read is as one that differs.
    fn note_flaw(&mut self, out: &mut Vec<Output>) {
        if self.committed.flaw().is_some() && !self.differs {
            self.begin_to_differ(out);
        }
    }

    /// Lets go of committed entries that no replica is likely to need.
    fn trim_log(&mut self) {
        let (timing, bytes) = (&self.timing, self.timing.keep_bytes);
        let total = self.total_at(self.committed.version);
        while self.log.len() > timing.keep
            && let Some(first) = self.log.front()
            && first.entry.version <= self.committed.version
            && total - first.total >= bytes
        {
            self.base = Position::of(&first.entry);
            self.log.pop_front();
        }
    }
}

impl Replica {
    /// A reader asks what is committed: the primary knows; a replica asks it.
    fn query(&mut self, now: Time, token: Token, out: &mut Vec<Output>) {
        if self.leads() {
            if self.may_read(now) {
                return out.push(Output::Confirm(token, Ok(())));
            }
            if !self.timing.has_leases() {
                return self.confirm(now, Reader::Here(token), out);
            }
            let why = Error::retry("the primary has no lease now");
            return out.push(Output::Confirm(token, Err(why)));
        }
        if self.differs {
            return out.push(Output::Confirm(token, Err(Error::retry(DIFFERS))));
        }
        let serves = |primary: &Node| *primary != self.me && self.sealed < self.configuration.epoch;
        let Some(primary) = self.configuration.primary.clone().filter(serves) else {
            return out
                .push(Output::Confirm(token, Err(Error::retry("the tablet has no primary now"))));
        };
        if self.asking.len() >= ASKING_MAX {
            return out.push(Output::Confirm(token, Err(Error::retry(TOO_MANY))));
        }
        self.asking.push(token);
        let epoch = self.configuration.epoch;
        out.push(Output::Send(primary, Message::Query { epoch, id: token }));
    }

    /// A question may have been lost: the newest one is asked again, for all.
    fn ask_again(&mut self, out: &mut Vec<Output>) {
        let primary = self.configuration.primary.clone().filter(|p| *p != self.me);
        if let (Some(&id), Some(primary)) = (self.asking.last(), primary) {
            let epoch = self.configuration.epoch;
            out.push(Output::Send(primary, Message::Query { epoch, id }));
        }
    }
}

#[cfg(test)]
#[path = "replica_tests.rs"]
pub(super) mod tests;
