//! One tablet's replica as a state machine: `step(input) -> outputs`.

use super::execute::{Setting, Verdict, execute};
use super::table::{Known, Table};
use crate::error::Error;
use crate::protocol::command::{Op, RequestId};
use crate::protocol::entry::{Answer, Entry};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Names a proposal until it is answered; the shell's own.
pub type Token = u64;

/// Who serves a tablet: what the master's register holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Rises by one with every change.
    pub epoch: u64,
    /// The node that orders the writes.
    pub primary: String,
    /// Nodes that hold every acknowledged write.
    pub isr: Vec<String>,
}

/// What happens to a replica.
#[derive(Debug)]
pub enum Input {
    /// The master has a newer configuration.
    Configure(Configuration),
    /// A client asks for a write.
    Propose(Proposal),
    /// The log is on disk up to this version.
    Persisted(u64),
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
    /// Make the configuration durable before anything that follows.
    Adopt(Configuration),
    /// Append to the log and sync.
    Append(Arc<Entry>),
    /// Let readers see this table from now on; none: this node may not serve reads.
    Publish(Option<Table>),
    /// Answer a proposal.
    Answer(Token, Outcome),
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
    name: String,
    configuration: Configuration,
    /// Whether this node orders the writes of the configuration's epoch.
    leads: bool,
    /// First entry of this epoch: nothing is served before it is committed.
    barrier: u64,
    committed: Table,
    prepared: VecDeque<Prepared>,
    /// Version up to which the log is on disk.
    durable: u64,
    /// Answers that depend on entries not yet committed.
    waiting: BTreeMap<u64, Vec<(Token, Outcome)>>,
}

/// An entry that is not yet committed, and the table after it: kept where that is cheap. A table keeps every
/// node of its maps that the next one changed, some kilobytes; a recovered log may hold millions of entries,
/// so of those the last alone has its table.
struct Prepared {
    entry: Arc<Entry>,
    after: Option<Table>,
}

impl Replica {
    /// A replica as it was found on disk: a checkpoint's table, and the entries logged after it. It serves
    /// nothing until it is configured with a newer epoch: a restarted primary never resumes its own.
    pub fn recover(
        name: &str,
        configuration: Configuration,
        checkpoint: Table,
        log: Vec<Entry>,
    ) -> Replica {
        let mut replica = Replica {
            name: name.into(),
            configuration,
            leads: false,
            barrier: u64::MAX,
            durable: checkpoint.version + log.len() as u64,
            committed: checkpoint,
            prepared: VecDeque::new(),
            waiting: BTreeMap::new(),
        };
        let mut last = replica.committed.clone();
        for entry in log {
            last.apply(&entry);
            replica.prepared.push_back(Prepared { entry: Arc::new(entry), after: None });
        }
        if let Some(prepared) = replica.prepared.back_mut() {
            prepared.after = Some(last);
        }
        replica
    }

    /// The configuration that was adopted last.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Whether this node serves reads and writes of the tablet now.
    pub fn serves(&self) -> bool {
        self.leads && self.committed.version >= self.barrier
    }

    /// Takes an input and says what is to be done.
    pub fn step(&mut self, input: Input) -> Vec<Output> {
        match input {
            Input::Configure(configuration) => self.configure(configuration),
            Input::Propose(proposal) => self.propose(proposal),
            Input::Persisted(version) => self.persisted(version),
        }
    }

    /// The table after all prepared entries.
    fn last(&self) -> &Table {
        self.prepared.back().map_or(&self.committed, |prepared| {
            prepared.after.as_ref().expect("the last prepared entry has its table")
        })
    }

    fn configure(&mut self, configuration: Configuration) -> Vec<Output> {
        if configuration.epoch <= self.configuration.epoch {
            return Vec::new();
        }
        self.leads = configuration.primary == self.name;
        self.configuration = configuration.clone();
        let mut outputs = vec![Output::Adopt(configuration)];
        if self.leads {
            self.barrier = self.last().version + 1;
            outputs.push(self.append(self.last().clone(), Vec::new(), None, Answer::default(), 0));
        } else {
            outputs.push(Output::Publish(None));
            outputs.extend(self.refuse_waiting());
        }
        outputs
    }

    /// Entries already given a version may still be committed by the next primary: their outcome is unknown.
    fn refuse_waiting(&mut self) -> Vec<Output> {
        let unknown = || Outcome::Refused(Error::unknown("the tablet has a new primary"));
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_values().flatten().map(|(token, _)| Output::Answer(token, unknown())).collect()
    }

    fn propose(&mut self, proposal: Proposal) -> Vec<Output> {
        let Proposal { token, request, retry, ops, single, setting } = proposal;
        if !self.leads {
            return vec![Output::Answer(token, not_primary())];
        }
        if let Some(outcome) = request.and_then(|request| self.recall(&request, retry)) {
            return self.answer_when_committed(token, outcome);
        }
        let (after, verdict) = execute(self.last(), &ops, single, &setting);
        match verdict {
            Verdict::Done(effects, words) if effects.is_empty() => {
                let version = self.last().version;
                self.answer_when_committed(token, Outcome::Done(Answer { version, words }))
            }
            Verdict::Done(effects, words) => {
                let answer = Answer { version: self.last().version + 1, words };
                let append = self.append(
                    after,
                    effects,
                    request,
                    answer.clone(),
                    setting.now + setting.retire_ms,
                );
                self.waiting
                    .entry(answer.version)
                    .or_default()
                    .push((token, Outcome::Done(answer)));
                vec![append]
            }
            Verdict::Mismatch { version, at } => {
                self.answer_when_committed(token, Outcome::Mismatch { version, at })
            }
            Verdict::NotFound => self.answer_when_committed(token, Outcome::NotFound),
            Verdict::Refused(error) => self.answer_when_committed(token, Outcome::Refused(error)),
        }
    }

    /// The outcome of a request that was seen before, or must not be executed now.
    fn recall(&self, request: &RequestId, retry: bool) -> Option<Outcome> {
        Some(match self.last().lookup(request, retry) {
            Known::New => return None,
            Known::Answered(answer) => Outcome::Done(answer),
            Known::BelowLow => Outcome::Refused(Error::unknown(
                "the request is below its session's lowest open one",
            )),
            Known::Evicted => {
                Outcome::Refused(Error::unknown("the request's session was forgotten"))
            }
            Known::TooManyOpen => {
                Outcome::Refused(Error::retry("the session has too many open requests"))
            }
        })
    }

    /// Makes the next entry of the log, with the table after its effects.
    fn append(
        &mut self,
        mut after: Table,
        effects: Vec<crate::protocol::entry::Effect>,
        request: Option<RequestId>,
        answer: Answer,
        retire: u64,
    ) -> Output {
        let last = self.last();
        let (version, prev_epoch) = (last.version + 1, last.epoch);
        let entry = Entry {
            epoch: self.configuration.epoch,
            version,
            prev_epoch,
            retire,
            request,
            answer,
            effects,
        };
        after.finish(&entry);
        let entry = Arc::new(entry);
        self.prepared.push_back(Prepared { entry: entry.clone(), after: Some(after) });
        Output::Append(entry)
    }

    /// What was looked at may not be committed yet: the answer waits until it is.
    fn answer_when_committed(&mut self, token: Token, outcome: Outcome) -> Vec<Output> {
        let seen = match &outcome {
            Outcome::Done(answer) => answer.version,
            _ => self.last().version,
        };
        if seen <= self.committed.version && self.serves() {
            return vec![Output::Answer(token, outcome)];
        }
        self.waiting.entry(seen.max(self.barrier)).or_default().push((token, outcome));
        Vec::new()
    }

    fn persisted(&mut self, version: u64) -> Vec<Output> {
        assert!(version <= self.last().version, "nothing is persisted that was not appended");
        self.durable = self.durable.max(version);
        self.commit()
    }

    /// Commits what every in-sync replica has on disk; here, what this one has.
    fn commit(&mut self) -> Vec<Output> {
        let before = self.committed.version;
        if !self.leads || self.durable < self.barrier {
            return Vec::new();
        }
        self.advance();
        if self.committed.version == before {
            return Vec::new();
        }
        let mut outputs = vec![Output::Publish(Some(self.committed.clone()))];
        let later = self.waiting.split_off(&(self.committed.version + 1));
        let ready = std::mem::replace(&mut self.waiting, later);
        outputs.extend(
            ready.into_values().flatten().map(|(token, outcome)| Output::Answer(token, outcome)),
        );
        outputs
    }

    /// Takes the committed table on to what is durable.
    fn advance(&mut self) {
        let n = self.prepared.partition_point(|prepared| prepared.entry.version <= self.durable);
        let mut behind = Vec::new();
        for Prepared { entry, after } in self.prepared.drain(..n) {
            match after {
                Some(after) => {
                    self.committed = after;
                    behind.clear();
                }
                None => behind.push(entry),
            }
        }
        behind.iter().for_each(|entry| self.committed.apply(entry));
    }
}

fn not_primary() -> Outcome {
    Outcome::Refused(Error::retry("this node is not the tablet's primary"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(version: u64) -> Entry {
        let answer = Answer { version, words: Vec::new() };
        Entry {
            epoch: 1,
            version,
            prev_epoch: u64::from(version > 1),
            retire: 0,
            request: Some(RequestId { client: 7, request: version, low: version }),
            answer,
            effects: Vec::new(),
        }
    }

    fn recovered(entries: u64) -> Replica {
        let log = (1..=entries).map(entry).collect();
        Replica::recover("n1", Configuration::default(), Table::default(), log)
    }

    #[test]
    fn a_recovered_log_costs_one_table_however_long_it_is() {
        let replica = recovered(1000);
        assert_eq!(replica.prepared.iter().filter(|p| p.after.is_some()).count(), 1);
        assert_eq!((replica.last().version, replica.committed.version), (1000, 0));
    }

    #[test]
    fn a_recovered_log_can_be_committed_up_to_any_entry() {
        for durable in 0..=10 {
            let mut replica = recovered(10);
            replica.durable = durable;
            replica.advance();
            assert_eq!(replica.committed.version, durable);
            assert_eq!(replica.prepared.len() as u64, 10 - durable);
            let known = replica.committed.lookup(&entry(durable).request.expect("named"), true);
            assert_eq!(matches!(known, Known::Answered(_)), durable > 0);
        }
    }
}
