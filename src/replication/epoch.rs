//! Epochs at a node: adopted, left in order, sealed.

use super::lead::Lead;
use super::message::{Configuration, Plea, Time};
use super::replica::{Outcome, Output, Replica};
use crate::error::Error;

impl Replica {
    /// Takes a configuration, durably, and with it the promise of a newcomer.
    pub(super) fn adopt(&mut self, now: Time, configuration: Configuration, out: &mut Vec<Output>) {
        self.configuration = configuration.clone();
        self.promise_until = self.promise_until.max(now + self.timing.grace);
        self.read_until = 0;
        self.matched = self.committed.version;
        self.heard = (0, 0);
        out.push(Output::Adopt(configuration, self.sealed));
    }

    pub(super) fn configure(&mut self, now: Time, new: Configuration, out: &mut Vec<Output>) {
        if new.epoch <= self.configuration.epoch {
            return;
        }
        let old = std::mem::take(&mut self.configuration);
        let promised = self.promise_until;
        let follows = new.epoch == old.epoch + 1 && self.sealed < old.epoch;
        let goes_on = self.lead.is_some() && follows && new.is_primary(&self.me);
        let handed_over = new.clean && follows;
        let nobody_left = old.isr.is_subset(&new.isr) || handed_over;
        let before = self.lead.take();
        self.adopt(now, new, out);
        self.sealing = None;
        if !self.configuration.is_primary(&self.me) || self.configuration.epoch <= self.sealed {
            self.fail_waiting(out);
            return;
        }
        let mut owed =
            if self.rules.own_grants { self.max_lease + self.timing.margin() } else { 0 };
        if goes_on && self.rules.hand_over_owes {
            owed = owed.max(before.as_ref().map_or(0, Lead::owed_until));
        } else if !goes_on && (self.rules.sealed_promise || self.sealed < old.epoch) {
            owed = owed.max(promised);
        }
        let always_alone = old.members.iter().all(|member| *member == self.me);
        let needless = (goes_on && nobody_left) || handed_over;
        if always_alone || !self.timing.has_leases() {
            owed = 0;
        }
        let mut hold = if needless || !self.rules.remove_hold { 0 } else { owed };
        if goes_on && self.rules.hold_carried_over {
            hold = hold.max(before.as_ref().map_or(0, Lead::hold_until));
        }
        self.fail_asking(out);
        self.take_lead(now, (hold, owed), before.filter(|_| goes_on), out);
    }

    /// Entries already given a version may still be committed by another primary: their outcome is unknown.
    pub(super) fn fail_waiting(&mut self, out: &mut Vec<Output>) {
        let why = "the tablet has a new primary";
        let unknown = self.rules.unknown_not_refused;
        let error = || if unknown { Error::unknown(why) } else { Error::retry(why) };
        let waiting = std::mem::take(&mut self.waiting).into_values().flatten();
        out.extend(waiting.map(|judged| Output::Answer(judged.token, Outcome::Refused(error()))));
        self.fail_asking(out);
    }

    fn fail_asking(&mut self, out: &mut Vec<Output>) {
        let retry = || Err(Error::retry("the tablet is being given to another primary"));
        out.extend(self.asking.drain(..).map(|token| Output::Confirm(token, retry())));
        self.fail_confirming(out);
    }

    /// Leaves an epoch in order. A primary first commits what it has; a replica goes at once. Both hold no lease
    /// when they say so, and never come back to this epoch: nobody needs to wait for them.
    pub(super) fn resign(&mut self, now: Time, epoch: u64, out: &mut Vec<Output>) {
        if epoch != self.configuration.epoch || !self.configuration.isr.contains(&self.me) {
            return;
        }
        if self.resigned == Some(epoch) {
            return out.push(Output::Resigned(epoch));
        }
        if self.sealed >= epoch {
            return;
        }
        let until = now + self.timing.silence;
        match &mut self.lead {
            Some(lead) => {
                lead.resign_before(until);
                self.resign_if_drained(now, out);
            }
            None => self.leave(out),
        }
    }

    /// Seals the epoch without a wait: it is left by a node that gave its own leases up.
    pub(super) fn leave(&mut self, out: &mut Vec<Output>) {
        let epoch = self.configuration.epoch;
        self.resigned = Some(epoch);
        if self.rules.resign_seals {
            self.sealed = epoch;
            out.push(Output::Adopt(self.configuration.clone(), epoch));
            self.stand_down(out);
        }
        out.push(Output::Resigned(epoch));
    }

    /// Serves nothing of this epoch any more.
    fn stand_down(&mut self, out: &mut Vec<Output>) {
        self.lead = None;
        self.read_until = 0;
        self.fail_waiting(out);
    }

    /// A primary whose disk hangs stands down, as if it had died; a replica acknowledges nothing until its disk
    /// has come to itself. Nor does either say that it has sealed: it would be elected.
    pub(super) fn note_stuck(&mut self, now: Time, stuck: bool, out: &mut Vec<Output>) {
        self.stuck = stuck;
        self.stand_down_if_stuck(out);
        if self.lead.is_none() {
            self.acknowledge(now, out);
        }
    }

    pub(super) fn stand_down_if_stuck(&mut self, out: &mut Vec<Output>) {
        let alone = self.configuration.isr.len() == 1;
        if self.stuck && self.leads() && !alone {
            self.sealed = self.configuration.epoch;
            self.stand_down(out);
            out.push(Output::Plead(self.configuration.epoch, Plea::NoLease));
        }
    }

    pub(super) fn seal(&mut self, now: Time, configuration: Configuration, out: &mut Vec<Output>) {
        let epoch = configuration.epoch;
        if epoch < self.configuration.epoch {
            return;
        }
        if epoch > self.configuration.epoch {
            self.adopt(now, configuration, out);
        }
        if self.sealed < epoch {
            self.sealed = epoch;
            out.push(Output::Adopt(self.configuration.clone(), epoch));
        }
        self.stand_down(out);
        let own = if self.rules.own_grants { self.max_lease + self.timing.margin() } else { 0 };
        let waits = self.rules.promise_wait && self.timing.has_leases();
        let until = if waits { self.promise_until.max(own) } else { now };
        self.sealing = Some((epoch, until));
        self.answer_seal(now, out);
    }

    pub(super) fn answer_seal(&mut self, now: Time, out: &mut Vec<Output>) {
        if let Some((epoch, until)) = self.sealing
            && now >= until
            && !self.stuck
        {
            self.sealing = None;
            out.push(Output::Sealed(epoch, self.end()));
        }
    }
}
