//! One message in a worker's hands, from the lease to the next due time or the end.

use super::mx::NoHost;
use super::{GROUP_MAX, Relay, SESSIONS_MAX, random, route};
use crate::error::{Error, Result};
use crate::mail::Address;
use crate::mail::queue::{Answer, Found, State, Taken, now_ms};
use crate::smtp::client::{Ended, Order, Outcome, Secrecy, Session, Target};
use std::cell::RefCell;
use std::io::Read;

/// How long a message waits for its turn at a domain that is busy.
const TURN_MS: u64 = 5000;
/// How long a message waits after our own store has failed.
const MEND_MS: u64 = 60_000;

impl Relay {
    /// Works on a message that is due, unless somebody else is quicker.
    pub(super) fn work(&self, found: Found) {
        let guid = found.entry.guid.clone();
        let taken = match self.queue.take(found, &self.node, self.lease_ms) {
            Ok(Some(taken)) => taken,
            Ok(None) => return,
            Err(error) => return log::warn!("message {guid} cannot be taken: {error}"),
        };
        let taken = RefCell::new(taken);
        let tried = self.try_all(&taken);
        let taken = taken.into_inner();
        let ended = match tried {
            Ok(()) => self.put_back(taken),
            Err(error @ Error::Denied(_)) => Err(error),
            Err(error @ (Error::Corrupt(_) | Error::TooBig(_))) => taken.hold(error.to_string()),
            Err(error) => {
                log::warn!("message {guid} waits, since the store fails: {error}");
                taken.reschedule(now_ms() + MEND_MS)
            }
        };
        if let Err(error) = ended {
            log::warn!("message {guid} is left as it is: {error}");
        }
    }

    fn try_all(&self, taken: &RefCell<Taken>) -> Result<()> {
        self.report_failures(&mut taken.borrow_mut())?;
        let now = now_ms();
        self.deliver_here(taken, now)?;
        let due = self.due_elsewhere(&taken.borrow(), now);
        let due: Vec<(usize, &Address)> = due.iter().map(|(n, address)| (*n, address)).collect();
        let tried = !due.is_empty();
        for (domain, members) in route::by_domain(&due, &self.router.route) {
            for group in members.chunks(GROUP_MAX) {
                self.try_group(taken, &domain, group)?;
            }
        }
        let mut taken = taken.borrow_mut();
        taken.entry.tries += u32::from(tried);
        if expire(&mut taken, now_ms()) {
            taken.write()?;
        }
        self.report_failures(&mut taken)?;
        self.report_delay(&mut taken)
    }

    fn due_elsewhere(&self, taken: &Taken, now: u64) -> Vec<(usize, Address)> {
        let recipients = taken.entry.recipients.iter().enumerate();
        let due = recipients.filter(|(_, r)| r.is_due(now) && !self.is_here(&r.address));
        due.map(|(n, recipient)| (n, recipient.address.clone())).collect()
    }

    /// One transaction, and what it came to made durable.
    fn try_group(&self, taken: &RefCell<Taken>, domain: &str, group: &[usize]) -> Result<()> {
        let Some(_visit) = self.enter(domain) else {
            postpone(taken, group, now_ms() + TURN_MS);
            return Ok(());
        };
        if self.drain.is_ending() {
            postpone(taken, group, now_ms());
            return Ok(());
        }
        let outcomes = match self.router.targets(domain, random()) {
            Ok(targets) => self.ask(taken, &targets, group)?,
            Err(NoHost::NotNow(answer)) => vec![Outcome::Deferred(answer); group.len()],
            Err(NoHost::Never(answer)) => vec![Outcome::Failed(answer); group.len()],
        };
        let mut taken = taken.borrow_mut();
        for (n, outcome) in group.iter().zip(outcomes) {
            self.note(&mut taken, *n, outcome);
        }
        taken.write()?;
        self.show(&taken);
        Ok(())
    }

    /// Asks one address after the other, until one has heard of the message.
    fn ask(
        &self,
        taken: &RefCell<Taken>,
        targets: &[Target],
        group: &[usize],
    ) -> Result<Vec<Outcome>> {
        let none = Answer::of_ours("4.4.1", "no host could be asked");
        let mut ended = Ended::deferred(group.len(), &none);
        let mut sessions = 0;
        for target in targets {
            if sessions == SESSIONS_MAX {
                break;
            }
            ended = self.session(taken, target, group)?;
            sessions += usize::from(ended.connected);
            if !ended.untouched {
                break;
            }
        }
        Ok(ended.outcomes)
    }

    fn session(&self, taken: &RefCell<Taken>, target: &Target, group: &[usize]) -> Result<Ended> {
        let order = self.order(&taken.borrow(), group);
        let secrecy = match self.login {
            Some(_) => Secrecy::Demanded,
            None => Secrecy::Offered,
        };
        Session {
            order,
            target,
            secrecy,
            login: self.login.clone(),
            patience: self.patience,
            open: &mut || taken.borrow().open_body().map(|body| Box::new(body) as Box<dyn Read>),
            tick: &mut || taken.borrow_mut().renew_in_time(),
        }
        .run()
    }

    fn order(&self, taken: &Taken, group: &[usize]) -> Order {
        let entry = &taken.entry;
        Order {
            name: self.queue.mailboxes().domain().to_string(),
            sender: entry.sender.clone(),
            recipients: group.iter().map(|n| entry.recipients[*n].clone()).collect(),
            size: entry.size,
            options: entry.options.clone(),
        }
    }

    /// What was heard of a recipient.
    pub(super) fn note(&self, taken: &mut Taken, n: usize, outcome: Outcome) {
        let (guid, schedule) = (taken.entry.guid.clone(), self.schedule);
        let recipient = &mut taken.entry.recipients[n];
        recipient.tries += 1;
        let answer = match outcome {
            Outcome::Sent(answer) => {
                recipient.state = State::Sent;
                answer
            }
            Outcome::Failed(answer) => {
                recipient.state = State::Failed;
                answer
            }
            Outcome::Deferred(answer) => {
                let pause = schedule.pause_ms(recipient.tries, random());
                recipient.state = State::Deferred(now_ms() + pause);
                answer
            }
        };
        log::info!("{guid} to {}: {:?}: {answer}", recipient.address, recipient.state);
        recipient.answer = Some(answer);
    }

    /// Shows the author of a composed message how far its recipients are, if that can be.
    pub(super) fn show(&self, taken: &Taken) {
        let Some(origin) = &taken.entry.origin else { return };
        let shown = self.queue.mailboxes().show_outcomes(origin, &taken.entry.recipients);
        if let Err(error) = shown {
            log::warn!("what became of {} cannot be shown: {error}", taken.entry.guid);
        }
    }

    /// To its next time, or out of the queue.
    fn put_back(&self, taken: Taken) -> Result<()> {
        if taken.entry.is_over() {
            return taken.finish();
        }
        let now = now_ms();
        let entry = &taken.entry;
        let mut due = entry.next_due(now).min(entry.expires.max(now));
        if !entry.late {
            due = due.min((entry.queued + self.schedule.notice_ms()).max(now));
        }
        taken.reschedule(due)
    }
}

/// Recipients who were not asked, through no fault of theirs.
fn postpone(taken: &RefCell<Taken>, group: &[usize], until: u64) {
    let mut taken = taken.borrow_mut();
    for n in group {
        taken.entry.recipients[*n].state = State::Deferred(until);
    }
}

/// Who waits after the last day waits no longer; what was heard last says why. Whether there was anybody.
fn expire(taken: &mut Taken, now: u64) -> bool {
    if now < taken.entry.expires {
        return false;
    }
    let mut any = false;
    for recipient in taken.entry.recipients.iter_mut().filter(|r| r.is_open()) {
        any = true;
        let last = recipient.answer.as_ref().map_or_else(String::new, |a| format!(": {a}"));
        recipient.state = State::Failed;
        recipient.answer =
            Some(Answer::of_ours("4.4.7", format!("it could not be delivered in time{last}")));
    }
    any
}
