//! What a sender is told: reports of RFC 3464, as text (pure).

use crate::mail::Address;
use crate::mail::message::received;
use crate::mail::queue::{Entry, Recipient, State};

/// Octets of a message that come back with a report: all of it where it is smaller, else its header, which is cut here.
pub const RETURNED_BYTES_MAX: usize = 256 << 10;

/// What a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Some will never have it.
    Failure,
    /// Some do not have it yet.
    Delay,
}

/// A report in the making.
pub struct Report<'a> {
    /// What about.
    pub kind: Kind,
    /// Our domain.
    pub domain: &'a str,
    /// Names the report; its Message-ID and its boundary follow from it.
    pub id: &'a str,
    /// Seconds since 1970.
    pub now: u64,
    /// The message.
    pub entry: &'a Entry,
    /// Whom it is about.
    pub about: Vec<&'a Recipient>,
    /// The message's beginning.
    pub head: &'a [u8],
}

impl Report<'_> {
    /// The whole report. `to` is who sent the message.
    pub fn text(&self, to: &Address) -> Vec<u8> {
        let boundary = format!("=_{}", self.id);
        let mut text = self.header(to, &boundary);
        text += &format!(
            "--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{}",
            self.words()
        );
        text += &format!(
            "\r\n--{boundary}\r\nContent-Type: message/delivery-status\r\n\r\n{}",
            self.status()
        );
        let whole = self.is_whole();
        let kind = if whole { "message/rfc822" } else { "text/rfc822-headers" };
        text += &format!("\r\n--{boundary}\r\nContent-Type: {kind}\r\n\r\n");
        let mut octets = text.into_bytes();
        octets.extend_from_slice(if whole { self.head } else { header_of(self.head) });
        octets.extend(format!("\r\n--{boundary}--\r\n").bytes());
        octets
    }

    fn header(&self, to: &Address, boundary: &str) -> String {
        let (domain, id) = (self.domain, self.id);
        let trace = received("the queue", domain, "local", id, self.now);
        let date = mail_parser::DateTime::from_timestamp(self.now as i64).to_rfc822();
        let subject = match self.kind {
            Kind::Failure => "Your message could not be delivered",
            Kind::Delay => "Your message has not been delivered yet",
        };
        format!(
            "{trace}From: Mail delivery <mailer-daemon@{domain}>\r\nTo: <{to}>\r\nSubject: {subject}\r\n\
             Date: {date}\r\nMessage-ID: <{id}@{domain}>\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=delivery-status;\r\n boundary=\"{boundary}\"\r\n\r\n"
        )
    }

    /// For people.
    fn words(&self) -> String {
        let intro = match self.kind {
            Kind::Failure => {
                "Your message could not be delivered to these recipients, and is not tried any more:"
            }
            Kind::Delay => {
                "Your message has not been delivered to these recipients yet. It is tried again for \
                 some days; there is nothing that you need to do:"
            }
        };
        let line = |recipient: &&Recipient| {
            let why = recipient.answer.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("\r\n  {}\r\n    {why}\r\n", recipient.address)
        };
        format!("{intro}\r\n{}", self.about.iter().map(line).collect::<String>())
    }

    /// For programs (RFC 3464, 2.2 and 2.3).
    fn status(&self) -> String {
        let mut text = format!("Reporting-MTA: dns; {}\r\n", self.domain);
        if let Some(id) = &self.entry.options.envelope_id {
            text += &format!("Original-Envelope-Id: {id}\r\n");
        }
        let date = mail_parser::DateTime::from_timestamp(self.entry.queued as i64 / 1000);
        text += &format!("Arrival-Date: {}\r\n", date.to_rfc822());
        text + &self.about.iter().map(|recipient| self.of_one(recipient)).collect::<String>()
    }

    fn of_one(&self, recipient: &Recipient) -> String {
        let answer = recipient.answer.clone().unwrap_or_default();
        let mut text = String::from("\r\n");
        if let Some(original) = &recipient.original {
            text += &format!("Original-Recipient: {original}\r\n");
        }
        let action = if self.kind == Kind::Failure { "failed" } else { "delayed" };
        text += &format!("Final-Recipient: rfc822; {}\r\nAction: {action}\r\n", recipient.address);
        text += &format!("Status: {}\r\n", answer.status);
        if answer.code > 0 {
            text += &format!("Remote-MTA: dns; {}\r\n", answer.host);
            let (code, status, said) = (answer.code, &answer.status, &answer.text);
            text += &format!("Diagnostic-Code: smtp; {code} {status} {said}\r\n");
        }
        text
    }

    fn is_whole(&self) -> bool {
        let asked = self.entry.options.return_ == crate::mail::queue::Return::Full;
        asked && self.kind == Kind::Failure && self.head.len() as u64 == self.entry.size
    }
}

/// The header of a message, without the blank line.
fn header_of(message: &[u8]) -> &[u8] {
    let end = message.windows(4).position(|four| four == b"\r\n\r\n");
    &message[..end.map_or(message.len(), |end| end + 2)]
}

/// Of whom the sender is to hear now: those who failed, and want to be told of.
pub fn failures(entry: &Entry) -> Vec<&Recipient> {
    entry.recipients.iter().filter(|r| r.is_unreported() && r.notify.failure).collect()
}

/// Of whom the sender is to hear that it is late.
pub fn delays(entry: &Entry) -> Vec<&Recipient> {
    let waits = |r: &&Recipient| matches!(r.state, State::Deferred(_)) && r.notify.delay;
    entry.recipients.iter().filter(waits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Letter;
    use crate::mail::queue::{Answer, Notify, Options, Return};

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn entry(return_: Return, size: u64) -> Entry {
        let failed = |to: &str| Recipient {
            state: State::Failed,
            answer: Some(Answer {
                host: "mx.x.org".into(),
                code: 550,
                status: "5.1.1".into(),
                text: "no such user".into(),
            }),
            ..Recipient::new(address(to))
        };
        let mut never = failed("never@x.org");
        never.notify = Notify { success: false, failure: false, delay: false };
        let json = format!(
            r#"{{"guid":"g","sender":"a@penn.test","recipients":[],"size":{size},"queued":5000,"expires":3}}"#
        );
        let mut entry: Entry = serde_json::from_str(&json).unwrap();
        entry.recipients = vec![failed("b@x.org"), never, Recipient::new(address("c@x.org"))];
        entry.options = Options { return_, envelope_id: Some("id1".into()), smtputf8: false };
        entry
    }

    fn report(return_: Return) -> String {
        let head = b"Subject: hello\r\nFrom: a@penn.test\r\n\r\nthe text\r\n";
        let entry = entry(return_, head.len() as u64);
        let about = failures(&entry);
        assert_eq!(about.len(), 1, "NOTIFY=NEVER is obeyed, and who is not decided is no failure");
        let report = Report {
            kind: Kind::Failure,
            domain: "penn.test",
            id: "r1",
            now: 9,
            entry: &entry,
            about,
            head,
        };
        String::from_utf8(report.text(&address("a@penn.test"))).unwrap()
    }

    #[test]
    fn a_report_is_one_of_rfc_3464() {
        let text = report(Return::Headers);
        for line in [
            "Auto-Submitted: auto-replied",
            "Reporting-MTA: dns; penn.test",
            "Original-Envelope-Id: id1",
            "Final-Recipient: rfc822; b@x.org",
            "Action: failed",
            "Status: 5.1.1",
            "Remote-MTA: dns; mx.x.org",
            "Diagnostic-Code: smtp; 550 5.1.1 no such user",
            "Content-Type: text/rfc822-headers",
            "Subject: hello",
        ] {
            assert!(text.contains(&format!("{line}\r\n")), "{line} is not in\n{text}");
        }
        assert!(!text.contains("the text"));
        let letter = Letter::parse(text.as_bytes()).unwrap();
        assert!(letter.text().0.contains("b@x.org"));
    }

    #[test]
    fn the_whole_message_comes_back_where_it_was_asked_for() {
        let text = report(Return::Full);
        assert!(text.contains("Content-Type: message/rfc822\r\n") && text.contains("the text"));
    }
}
