//! Writes at the primary: judged, given a version, and answered when what they depend on is committed.

use super::confirm::Reader;
use super::execute::{Verdict, execute};
use super::message::Time;
use super::replica::{Outcome, Output, Proposal, Replica, Token};
use super::table::{Known, Table};
use crate::error::Error;
use crate::protocol::command::RequestId;
use crate::protocol::entry::{Answer, Effect, Entry};
use crate::protocol::reply::Reply;
use std::sync::Arc;

impl Replica {
    pub(super) fn propose(&mut self, now: Time, proposal: Proposal, out: &mut Vec<Output>) {
        let Proposal { token, request, retry, ops, single, mut setting } = proposal;
        if !self.leads() {
            let refused = Outcome::Refused(Error::retry("this node is not the tablet's primary"));
            return out.push(Output::Answer(token, refused));
        }
        if let Some(outcome) = request.and_then(|request| self.recall(&request, retry)) {
            let judged = Judged { token, outcome, basis: Basis::Entry };
            return self.answer_when_committed(now, judged, out);
        }
        if let Some(why) = self.lead.as_ref().and_then(|lead| lead.refusal(self, now)) {
            return out.push(Output::Answer(token, Outcome::Refused(Error::retry(why))));
        }
        let fullest = self.lead.as_ref().map(|lead| lead.space(self)).unwrap_or_default();
        setting.disk_space = setting.disk_space.max(fullest);
        let (after, verdict) = execute(self.last(), &ops, single, &setting);
        let named_repeat = retry && request.is_some() && self.rules.refusals_logged;
        let (effects, outcome) = match verdict {
            Verdict::Done(effects, words) => {
                let logged = u64::from(!effects.is_empty() || named_repeat);
                let answer = Answer { version: self.last().version + logged, words };
                (effects, Outcome::Done(answer))
            }
            Verdict::Mismatch { version, at } => (Vec::new(), Outcome::Mismatch { version, at }),
            Verdict::NotFound => (Vec::new(), Outcome::NotFound),
            Verdict::Refused(error) => (Vec::new(), Outcome::Refused(error)),
        };
        if effects.is_empty() && !named_repeat {
            let judged = Judged { token, outcome, basis: Basis::Look };
            return self.answer_when_committed(now, judged, out);
        }
        let answer = remembered(&outcome);
        let version = self.last().version + 1;
        let judged = Judged { token, outcome, basis: Basis::Entry };
        self.waiting.entry(version).or_default().push(judged);
        let retire = setting.now + setting.retire_ms;
        self.append(now, after, effects, request, answer, retire, out);
    }

    /// The outcome of a request that was seen before, or must not be executed now.
    fn recall(&self, request: &RequestId, retry: bool) -> Option<Outcome> {
        if !self.rules.dedup {
            return None;
        }
        Some(match self.last().lookup(request, retry) {
            Known::New => return None,
            Known::Answered(answer) => recalled(answer),
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

    /// Makes the next entry of the log, and sends it on its way.
    #[allow(clippy::too_many_arguments, reason = "the parts of an entry")]
    pub(super) fn append(
        &mut self,
        now: Time,
        mut after: Table,
        effects: Vec<Effect>,
        request: Option<RequestId>,
        answer: Answer,
        retire: u64,
        out: &mut Vec<Output>,
    ) {
        let end = self.end();
        let (version, prev_epoch) = (end.version + 1, end.epoch);
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
        self.log_entry(entry.clone(), Some(after));
        self.matched = version;
        out.push(Output::Append(entry));
        self.send_new(now, out);
    }

    /// What it rests on may not be committed yet: the answer waits until it is.
    fn answer_when_committed(&mut self, now: Time, judged: Judged, out: &mut Vec<Output>) {
        let seen = match &judged.outcome {
            Outcome::Done(answer) => answer.version,
            _ => self.last().version,
        };
        let barrier = self.lead.as_ref().map_or(0, |lead| lead.barrier);
        let seen = if self.rules.failed_condition_waits { seen.max(barrier) } else { 0 };
        if seen > self.committed.version {
            return self.waiting.entry(seen).or_default().push(judged);
        }
        self.answer(now, judged, out);
    }

    /// Answers what does not depend on prepared entries any more. What rests on a look alone is a read: without a
    /// lease, or the word of all, it may be of the past.
    pub(super) fn answer(&mut self, now: Time, judged: Judged, out: &mut Vec<Output>) {
        let Judged { token, outcome, basis } = judged;
        let outcome = match basis {
            Basis::Entry => outcome,
            Basis::Look if self.may_read(now) || !self.rules.looks_are_reads => outcome,
            Basis::Look if self.timing.has_leases() => {
                Outcome::Refused(Error::retry("the primary has no lease now"))
            }
            Basis::Look => return self.confirm(now, Reader::Looked(token, outcome), out),
        };
        out.push(Output::Answer(token, outcome));
    }
}

/// A proposal whose outcome is found.
pub(super) struct Judged {
    pub token: Token,
    pub outcome: Outcome,
    pub basis: Basis,
}

/// What an outcome rests on.
pub(super) enum Basis {
    /// An entry of the log: once that is committed it stands, whoever leads.
    Entry,
    /// What the table showed: a condition that does not hold, or that there is nothing to do.
    Look,
}

/// What the table remembers of an outcome. A repeat that is refused is remembered too: its first try may be held up
/// somewhere, and must not be executed after its client was told that it never will be.
fn remembered(outcome: &Outcome) -> Answer {
    match outcome.clone() {
        Outcome::Done(answer) => answer,
        Outcome::Mismatch { version, at } => {
            Answer::refused(&Reply::Mismatch { version, at: Some(at) })
        }
        Outcome::NotFound => Answer::refused(&Reply::NotFound),
        Outcome::Refused(error) => Answer::refused(&Reply::Error(error)),
    }
}

/// The outcome that a remembered answer stands for.
fn recalled(answer: Answer) -> Outcome {
    match answer.refusal() {
        None => Outcome::Done(answer),
        Some(Reply::Mismatch { version, at }) => Outcome::Mismatch { version, at: at.unwrap_or(0) },
        Some(Reply::NotFound) => Outcome::NotFound,
        Some(Reply::Error(error)) => Outcome::Refused(error),
        Some(_) => Outcome::Refused(Error::unknown("a refusal of another kind is remembered")),
    }
}
