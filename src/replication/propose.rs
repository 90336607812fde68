//! Writes at the primary: judged, given a version, and answered when what they depend on is committed.

use super::execute::{Verdict, execute};
use super::message::Time;
use super::replica::{Outcome, Output, Proposal, Replica, Token};
use super::table::{Known, Table};
use crate::error::Error;
use crate::protocol::command::RequestId;
use crate::protocol::entry::{Answer, Effect, Entry};
use std::sync::Arc;

impl Replica {
    pub(super) fn propose(&mut self, now: Time, proposal: Proposal, out: &mut Vec<Output>) {
        let Proposal { token, request, retry, ops, single, setting } = proposal;
        if !self.leads() {
            let refused = Outcome::Refused(Error::retry("this node is not the tablet's primary"));
            return out.push(Output::Answer(token, refused));
        }
        if let Some(outcome) = request.and_then(|request| self.recall(&request, retry)) {
            return self.answer_when_committed(now, token, outcome, out);
        }
        if let Some(why) = self.lead.as_ref().and_then(|lead| lead.refusal(self, now)) {
            return out.push(Output::Answer(token, Outcome::Refused(Error::retry(why))));
        }
        let (after, verdict) = execute(self.last(), &ops, single, &setting);
        let outcome = match verdict {
            Verdict::Done(effects, words) if effects.is_empty() => {
                Outcome::Done(Answer { version: self.last().version, words })
            }
            Verdict::Done(effects, words) => {
                let answer = Answer { version: self.last().version + 1, words };
                self.waiting
                    .entry(answer.version)
                    .or_default()
                    .push((token, Outcome::Done(answer.clone())));
                let retire = setting.now + setting.retire_ms;
                return self.append(now, after, effects, request, answer, retire, out);
            }
            Verdict::Mismatch { version, at } => Outcome::Mismatch { version, at },
            Verdict::NotFound => Outcome::NotFound,
            Verdict::Refused(error) => Outcome::Refused(error),
        };
        self.answer_when_committed(now, token, outcome, out);
    }

    /// The outcome of a request that was seen before, or must not be executed now.
    fn recall(&self, request: &RequestId, retry: bool) -> Option<Outcome> {
        if !self.rules.dedup {
            return None;
        }
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

    /// What was looked at may not be committed yet: the answer waits until it is, and then needs a lease, for
    /// it is a read.
    fn answer_when_committed(
        &mut self,
        now: Time,
        token: Token,
        outcome: Outcome,
        out: &mut Vec<Output>,
    ) {
        let seen = match &outcome {
            Outcome::Done(answer) => answer.version,
            _ => self.last().version,
        };
        let barrier = self.lead.as_ref().map_or(0, |lead| lead.barrier);
        let seen = if self.rules.failed_condition_waits { seen.max(barrier) } else { 0 };
        if seen > self.committed.version {
            return self.waiting.entry(seen).or_default().push((token, outcome));
        }
        out.push(Output::Answer(token, self.under_lease(now, outcome)));
    }

    /// A refusal by condition is a read: without a lease it may be of the past.
    pub(super) fn under_lease(&self, now: Time, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Done(_) => outcome,
            _ if self.may_read(now) => outcome,
            _ => Outcome::Refused(Error::retry("the primary has no lease now")),
        }
    }
}
