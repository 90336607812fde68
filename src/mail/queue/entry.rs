//! What lies in the queue: a message with the state of each of its recipients.

use crate::error::{Error, Result};
use crate::mail::Address;
use serde::{Deserialize, Serialize};

/// Characters of a reply that are kept; the rest is cut.
const TEXT_CHARS_MAX: usize = 512;

/// A message on its way out: the cell `<due>-<guid>`. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Names the cell `body/<guid>`.
    pub guid: String,
    /// Who sends it; `None` is the null path of bounces.
    pub sender: Option<Address>,
    /// Everybody who is to get it.
    pub recipients: Vec<Recipient>,
    /// Octets of the body.
    pub size: u64,
    /// When it came.
    pub queued: u64,
    /// When it is given up.
    pub expires: u64,
    /// Tries that left somebody waiting.
    #[serde(default)]
    pub tries: u32,
    /// Leases that ended without a word since the last try that came to its end.
    #[serde(default)]
    pub lapses: u32,
    /// Why nobody tries it until an operator says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// Whether its sender was told that it is late.
    #[serde(default)]
    pub late: bool,
    /// What its sender asked for.
    #[serde(default)]
    pub options: Options,
    /// Who works on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// What it is the outgoing copy of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// One recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// The address.
    pub address: Address,
    /// How far it is.
    #[serde(default)]
    pub state: State,
    /// When the sender wants to hear (RFC 3461, 4.1).
    #[serde(default)]
    pub notify: Notify,
    /// The original recipient, `type;address` as it came (RFC 3461, 4.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<String>,
    /// Tries so far.
    #[serde(default)]
    pub tries: u32,
    /// What was heard last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// Whether the sender was told of the failure, or did not want to be.
    #[serde(default)]
    pub reported: bool,
}

/// How far a recipient is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not tried yet.
    #[default]
    Queued,
    /// Another host, or a mailbox of ours, has taken the message.
    Sent,
    /// Tried, and to be tried again at this time.
    Deferred(u64),
    /// Given up.
    Failed,
}

/// What a try heard: a reply of a host, or what kept it from one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The host, if one was reached.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// The reply code; 0 where no host replied.
    #[serde(default)]
    pub code: u16,
    /// The enhanced code (RFC 3463).
    pub status: String,
    /// Words for people.
    pub text: String,
}

/// When the sender wants to hear (RFC 3461, 4.1). Without a word: of failures and delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    /// When it has arrived.
    pub success: bool,
    /// When it never will.
    pub failure: bool,
    /// When it is late.
    pub delay: bool,
}

impl Default for Notify {
    fn default() -> Notify {
        Notify { success: false, failure: true, delay: true }
    }
}

/// How much of a message comes back with a bounce (RFC 3461, 4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Return {
    /// Its header.
    #[default]
    Headers,
    /// All of it, where it is not too large.
    Full,
}

/// What a sender asked for, of the message as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// RET of RFC 3461.
    #[serde(rename = "return")]
    pub return_: Return,
    /// ENVID of RFC 3461, as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envelope_id: Option<String>,
    /// SMTPUTF8 of RFC 6531: a host that does not offer it cannot have the message.
    pub smtputf8: bool,
}

/// Who works on a message, and until when nobody else may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The process.
    pub node: String,
    /// When it ends, unless it is renewed.
    pub until: u64,
}

/// The message in Sent of which this is the outgoing copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its author.
    pub user: String,
    /// The guid under which it was composed.
    pub guid: String,
}

impl Recipient {
    /// A recipient who was not tried yet.
    pub fn new(address: Address) -> Recipient {
        Recipient {
            address,
            state: State::Queued,
            notify: Notify::default(),
            original: None,
            tries: 0,
            answer: None,
            reported: false,
        }
    }

    /// Whether it is still to be sent.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Queued | State::Deferred(_))
    }

    /// Whether it is to be tried now.
    pub fn is_due(&self, now: u64) -> bool {
        match self.state {
            State::Queued => true,
            State::Deferred(until) => until <= now,
            State::Sent | State::Failed => false,
        }
    }

    /// Whether a failure is to be told.
    pub fn is_unreported(&self) -> bool {
        self.state == State::Failed && !self.reported
    }
}

impl Answer {
    /// What was found out without a host.
    pub fn of_ours(status: &str, text: impl Into<String>) -> Answer {
        Answer { host: String::new(), code: 0, status: status.into(), text: text.into() }.bounded()
    }

    /// The same with as much text as is kept, without control characters.
    pub fn bounded(mut self) -> Answer {
        let plain = self.text.chars().map(|c| if c.is_control() { ' ' } else { c });
        self.text = plain.take(TEXT_CHARS_MAX).collect();
        self
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.host.is_empty() {
            write!(f, "{}: ", self.host)?;
        }
        if self.code > 0 {
            write!(f, "{} ", self.code)?;
        }
        write!(f, "{} {}", self.status, self.text)
    }
}

impl Entry {
    /// Whether nobody is left to be sent to and no failure to be told.
    pub fn is_over(&self) -> bool {
        self.recipients.iter().all(|r| !r.is_open() && !r.is_unreported())
    }

    /// When there is something to do next.
    pub fn next_due(&self, now: u64) -> u64 {
        let due = |recipient: &Recipient| match recipient.state {
            State::Deferred(until) => Some(until),
            State::Queued => Some(now),
            State::Failed if !recipient.reported => Some(now),
            State::Sent | State::Failed => None,
        };
        self.recipients.iter().filter_map(due).min().unwrap_or(now)
    }

    /// Whether somebody has it now.
    pub fn is_leased(&self, now: u64) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.until > now)
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an entry has only strings, numbers and flags")
    }

    pub(super) fn from_json(json: &[u8]) -> Result<Entry> {
        serde_json::from_slice(json)
            .map_err(|e| Error::corrupt(format!("an entry of the queue is damaged: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(states: &[State]) -> Entry {
        let recipient = |(n, state): (usize, &State)| Recipient {
            state: *state,
            ..Recipient::new(Address::parse(&format!("r{n}@x.org")).unwrap())
        };
        Entry {
            guid: "0123456789abcdef0123456789abcdef".into(),
            sender: None,
            recipients: states.iter().enumerate().map(recipient).collect(),
            size: 10,
            queued: 1000,
            expires: 9000,
            tries: 0,
            lapses: 0,
            held: None,
            late: false,
            options: Options::default(),
            lease: None,
            origin: None,
        }
    }

    #[test]
    fn an_entry_survives_json_and_may_lack_what_has_a_default() {
        let mut full = entry(&[State::Queued, State::Sent, State::Deferred(7), State::Failed]);
        full.recipients[2].answer = Some(Answer::of_ours("4.4.3", "x\r\ny"));
        full.lease = Some(Lease { node: "s1".into(), until: 5 });
        assert_eq!(Entry::from_json(&full.to_json()), Ok(full));
        let least = r#"{"guid":"g","sender":"a@x.org","recipients":[{"address":"b@x.org"}],
            "size":1,"queued":2,"expires":3}"#;
        let least = Entry::from_json(least.as_bytes()).unwrap();
        assert!(least.recipients[0].is_due(0) && least.recipients[0].notify.failure);
        assert!(Entry::from_json(b"{}").is_err());
    }

    #[test]
    fn what_is_next_follows_from_the_states() {
        assert_eq!(entry(&[State::Deferred(8), State::Deferred(6)]).next_due(3), 6);
        assert_eq!(entry(&[State::Deferred(8), State::Queued]).next_due(3), 3);
        assert!(entry(&[State::Sent, State::Sent]).is_over());
        assert!(!entry(&[State::Sent, State::Failed]).is_over(), "nobody was told");
        assert!(!entry(&[State::Sent, State::Deferred(1)]).is_over());
    }

    #[test]
    fn an_answer_is_one_line_of_bounded_length() {
        let answer = Answer {
            host: "mx.x.org".into(),
            code: 550,
            status: "5.1.1".into(),
            text: "no\r\nX: y".into(),
        };
        assert_eq!(answer.bounded().to_string(), "mx.x.org: 550 5.1.1 no  X: y");
        assert_eq!(Answer::of_ours("5.0.0", "é".repeat(9999)).text.chars().count(), 512);
    }
}
