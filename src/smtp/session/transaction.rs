//! A mail transaction: from MAIL to the end of the message.

use super::super::command::{Chunk, Recipient, Sender};
use super::super::data::Fault;
use super::super::parameters;
use super::super::reply::Reply;
use super::{Action, EXCESS_FACTOR, Envelope, Outcome, Service, Session, Target, out_of_order};
use crate::error::Error;
use crate::mail::Address;

/// From MAIL to the end of the message.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    pub envelope: Envelope,
    /// Whether the sender's address is still to be found to be the submitter's.
    unproved: bool,
    /// Whom the address that is being looked up would be taken as.
    looked_up: Option<Target>,
    /// Whether a recipient was named, taken or not.
    asked: bool,
    /// Octets that came by BDAT; none before the first.
    pub octets: Option<u64>,
}

impl Session {
    /// Takes the answer to [`Action::Owner`]: the user who has the address, if one of ours has it.
    pub fn sender(&mut self, found: Result<Option<String>, Error>) -> Action {
        let action = match found {
            // RFC 6409, 6.1: nobody submits as somebody else.
            Ok(owner) if owner.is_none() || owner != self.user => {
                self.transaction = None;
                Action::Reply(Reply::new(553, "5.7.1", "This is not your address"))
            }
            Ok(_) => {
                self.transaction.iter_mut().for_each(|transaction| transaction.unproved = false);
                sender_taken()
            }
            Err(error) => {
                self.transaction = None;
                Action::Reply(Reply::of_error(&error))
            }
        };
        self.count(action)
    }

    /// Takes the answer to [`Action::LookUp`]: the user who has the address, if anybody has it; `Quota` if that user has
    /// no room.
    pub fn recipient(&mut self, found: Result<Option<String>, Error>) -> Action {
        let transaction = self.transaction.as_mut().expect("only RCPT looks an address up");
        let target = transaction.looked_up.take().expect("RCPT says whom it looks up");
        let action = match found {
            Ok(Some(user)) => {
                transaction.envelope.recipients.push(Target { user: Some(user), ..target });
                recipient_taken()
            }
            // RFC 5321, 4.5.1 wants this mail taken: its sender tries until somebody reads it.
            Ok(None) if target.address.is_postmaster() => {
                Action::Reply(Reply::new(450, "4.3.0", "No postmaster has been named yet"))
            }
            Ok(None) => Action::Reply(Reply::new(550, "5.1.1", "Nobody here has this address")),
            Err(error) => Action::Reply(Reply::of_error(&error)),
        };
        self.count(action)
    }

    /// Takes the end of a chunk that is not the last one.
    pub fn chunk(&mut self, chunk: Chunk) -> Action {
        Action::Reply(Reply::new(250, "2.0.0", format!("{} octets taken", chunk.octets)))
    }

    /// Takes the answer to [`Action::Receive`], or to the last [`Action::Chunk`]. The transaction is over, whatever it is.
    pub fn message(&mut self, outcome: Outcome) -> Action {
        self.transaction = None;
        let action = match outcome {
            Outcome::Stored(id) => {
                self.errors = 0;
                Action::Reply(Reply::new(250, "2.0.0", format!("Stored as {id}")))
            }
            Outcome::TooBig => Action::Reply(self.too_big()),
            Outcome::FarTooBig => Action::Close(self.too_big()),
            Outcome::Faulty(fault) => Action::Reply(of_fault(fault)),
            Outcome::BareNewline => {
                Action::Close(Reply::new(550, "5.5.2", "A CR or LF alone in a message is refused"))
            }
            Outcome::Failed(error) => Action::Reply(Reply::of_error(&error)),
        };
        self.count(action)
    }

    pub(super) fn mail(&mut self, sender: Sender) -> Action {
        if self.name.is_none() {
            return out_of_order("Say EHLO first");
        }
        if self.transaction.is_some() {
            return out_of_order("There is a transaction already; RSET forgets it");
        }
        if let Some(refusal) = self.refuse_sender(&sender) {
            return Action::Reply(refusal);
        }
        let envelope = Envelope {
            submitter: self.user.clone(),
            sender: sender.address.clone(),
            parameters: sender.parameters,
            recipients: Vec::new(),
        };
        let mut transaction = Transaction { envelope, ..Transaction::default() };
        // The null path is that of a notice of its reader's program (RFC 8098, 2.1).
        let to_prove = sender.address.filter(|_| self.user.is_some());
        transaction.unproved = to_prove.is_some();
        self.transaction = Some(transaction);
        to_prove.map_or_else(sender_taken, Action::Owner)
    }

    fn refuse_sender(&self, sender: &Sender) -> Option<Reply> {
        let Sender { address, parameters } = sender;
        // RFC 6409, 4.3, and RFC 3207, 4.
        if self.settings.service == Service::Submission && self.user.is_none() {
            let why = if self.takes_passwords() { "Say AUTH first" } else { "Say STARTTLS first" };
            return Some(Reply::new(530, "5.7.0", why));
        }
        if parameters.wants_dsn() && !self.offers_dsn() {
            let keyword = if parameters.ret.is_some() { "RET" } else { "ENVID" };
            return Some(parameters::unknown(keyword));
        }
        if address.as_ref().is_some_and(|address| !address.is_ascii()) && !parameters.utf8 {
            return Some(not_ascii());
        }
        parameters.size.is_some_and(|n| n > self.settings.message_bytes_max).then(|| self.too_big())
    }

    pub(super) fn rcpt(&mut self, recipient: Recipient) -> Action {
        let offers_dsn = self.offers_dsn();
        let Some(transaction) = self.transaction.as_mut().filter(|t| !t.unproved) else {
            return out_of_order("MAIL comes first");
        };
        if transaction.octets.is_some() {
            return out_of_order("The message has begun");
        }
        transaction.asked = true;
        // RFC 5321, 4.5.3.1.10: this transaction goes on, and the client sends to the others again.
        if transaction.envelope.recipients.len() >= self.settings.recipients_max {
            return Action::Reply(Reply::new(452, "4.5.3", "Too many recipients in one message"));
        }
        let Recipient { address, parameters } = recipient;
        if parameters.wants_dsn() && !offers_dsn {
            let keyword = if parameters.notify.is_some() { "NOTIFY" } else { "ORCPT" };
            return Action::Reply(parameters::unknown(keyword));
        }
        let address = address.unwrap_or_else(|| Address::postmaster(&self.settings.domain));
        if !address.is_ascii() && !transaction.envelope.parameters.utf8 {
            return Action::Reply(not_ascii());
        }
        let target = Target { address: address.clone(), user: None, parameters };
        if address.domain() == self.settings.domain {
            transaction.looked_up = Some(target);
            return Action::LookUp(address, transaction.envelope.parameters.size.unwrap_or(0));
        }
        if self.user.is_none() || !self.settings.relays {
            let why = "Mail for other domains is not relayed";
            return Action::Reply(Reply::new(550, "5.7.1", why));
        }
        transaction.envelope.recipients.push(target);
        recipient_taken()
    }

    pub(super) fn data(&mut self) -> Action {
        if let Some(refusal) = self.refuse_message() {
            return Action::Reply(refusal);
        }
        let transaction = self.transaction.as_ref().expect("else it is refused");
        if transaction.octets.is_some() {
            // RFC 3030, 3.
            return out_of_order("The message comes by BDAT");
        }
        let go_on = Reply::plain(354, ["Send the message; a dot alone on a line ends it"]);
        Action::Receive(go_on, transaction.envelope.clone())
    }

    /// RFC 3030, 2: the octets are taken away even when they are refused; so many that this would take hours end the
    /// session.
    pub(super) fn bdat(&mut self, chunk: Chunk) -> Action {
        let max = self.settings.message_bytes_max;
        let before = self.transaction.as_ref().and_then(|t| t.octets).unwrap_or(0);
        let octets = before.saturating_add(chunk.octets);
        if octets > max.saturating_mul(EXCESS_FACTOR) {
            return Action::Close(self.too_big());
        }
        if let Some(refusal) = self.refuse_message() {
            return Action::Swallow(chunk.octets, refusal);
        }
        if octets > max {
            self.transaction = None;
            return Action::Swallow(chunk.octets, self.too_big());
        }
        let transaction = self.transaction.as_mut().expect("else it is refused");
        transaction.octets = Some(octets);
        Action::Chunk(chunk, transaction.envelope.clone())
    }

    /// Why no message can come now.
    fn refuse_message(&self) -> Option<Reply> {
        let out_of_order = |why| Some(Reply::new(503, "5.5.1", why));
        match &self.transaction {
            None => out_of_order("MAIL and RCPT come first"),
            Some(transaction) if !transaction.envelope.recipients.is_empty() => None,
            // RFC 2920, 3.1: a client that pipelines sends DATA though every RCPT was refused.
            Some(transaction) if transaction.asked => {
                Some(Reply::new(554, "5.5.1", "No recipient was taken"))
            }
            Some(_) => out_of_order("RCPT comes first"),
        }
    }

    fn too_big(&self) -> Reply {
        let max = self.settings.message_bytes_max;
        Reply::new(552, "5.3.4", format!("A message has at most {max} octets"))
    }
}

fn sender_taken() -> Action {
    Action::Reply(Reply::new(250, "2.1.0", "Sender taken"))
}

fn recipient_taken() -> Action {
    Action::Reply(Reply::new(250, "2.1.5", "Recipient taken"))
}

/// RFC 6531, 3.5.
fn not_ascii() -> Reply {
    Reply::new(553, "5.6.7", "An address beyond ASCII needs MAIL with SMTPUTF8")
}

fn of_fault(fault: Fault) -> Reply {
    match fault {
        // RFC 5321, 6.3.
        Fault::Loop => Reply::new(554, "5.4.6", "Too many hops: this message is in a loop"),
        Fault::Senders => Reply::new(550, "5.6.0", "A message has one From field only"),
        Fault::TooLong => Reply::new(552, "5.3.4", "The header is too long"),
        Fault::Author => {
            Reply::new(550, "5.7.1", "The From field must hold an address of yours, and no other")
        }
    }
}
