//! Telling the sender: each report made once, into his inbox or through the queue.

use super::Relay;
use super::bounce::{Kind, RETURNED_BYTES_MAX, Report, delays, failures};
use crate::error::Result;
use crate::mail::queue::{Envelope, Identity, Recipient, Taken, now_ms};
use crate::mail::{Address, DeliveryId};
use std::io::Read;

/// Bytes of a report apart from what comes back with it: a thousand recipients with what was heard of them.
const REPORT_BYTES_MAX: u64 = 4 << 20;

impl Relay {
    /// Tells of failures that nobody was told of.
    pub(super) fn report_failures(&self, taken: &mut Taken) -> Result<()> {
        if !taken.entry.recipients.iter().any(Recipient::is_unreported) {
            return Ok(());
        }
        let about: Vec<Recipient> = failures(&taken.entry).into_iter().cloned().collect();
        self.report(taken, Kind::Failure, &about)?;
        let failed = taken.entry.recipients.iter_mut().filter(|r| r.is_unreported());
        failed.for_each(|recipient| recipient.reported = true);
        taken.write()?;
        self.show(taken);
        Ok(())
    }

    /// Tells once that a message is late.
    pub(super) fn report_delay(&self, taken: &mut Taken) -> Result<()> {
        let since = taken.entry.queued + self.schedule.notice_ms();
        if taken.entry.late || now_ms() < since {
            return Ok(());
        }
        let about: Vec<Recipient> = delays(&taken.entry).into_iter().cloned().collect();
        self.report(taken, Kind::Delay, &about)?;
        taken.entry.late = true;
        taken.write()
    }

    /// A report about a report is never made.
    fn report(&self, taken: &mut Taken, kind: Kind, about: &[Recipient]) -> Result<()> {
        let Some(sender) = taken.entry.sender.clone().filter(|_| !about.is_empty()) else {
            return Ok(());
        };
        taken.renew_in_time()?;
        let mut head = Vec::new();
        taken.open_body()?.take(RETURNED_BYTES_MAX as u64).read_to_end(&mut head)?;
        let word = if kind == Kind::Failure { "failure" } else { "delay" };
        let addresses = about.iter().map(|recipient| recipient.address.to_string());
        let id = DeliveryId::of_report(&taken.entry.guid, word, addresses);
        let report = Report {
            kind,
            domain: self.queue.mailboxes().domain(),
            id: id.as_str(),
            now: now_ms() / 1000,
            entry: &taken.entry,
            about: about.iter().collect(),
            head: &head,
        };
        let text = report.text(&sender);
        self.send_report(&sender, id, &text)
    }

    fn send_report(&self, sender: &Address, id: DeliveryId, text: &[u8]) -> Result<()> {
        let max = REPORT_BYTES_MAX + RETURNED_BYTES_MAX as u64;
        if !self.is_here(sender) {
            let recipients = vec![Recipient::new(sender.clone())];
            let envelope = Envelope { recipients, ..Envelope::default() };
            let mut incoming = self.queue.incoming(envelope, Identity::Known(id), max)?;
            incoming.add(text)?;
            return incoming.enqueue(now_ms(), self.schedule.life_ms()).map(drop);
        }
        let mailboxes = self.queue.mailboxes();
        let Some(user) = mailboxes.resolve(sender)? else {
            log::warn!("nobody is {sender} any more: a report goes to nobody");
            return Ok(());
        };
        let mut incoming = mailboxes.incoming(None, [user], max)?;
        incoming.add(text)?;
        let made = incoming.deliver_as(id)?;
        made.into_iter().try_for_each(|(_, outcome)| outcome.map(drop))
    }
}
