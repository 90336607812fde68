//! A message that is being received: into mailboxes, or into the queue of what leaves.

use super::HEADER_BYTES_MAX;
use super::data::{Decoded, Decoder, Fault};
use super::parameters::Ret;
use super::server::Desk;
use super::session::{EXCESS_FACTOR, Envelope, Outcome, Target};
use crate::error::Result;
use crate::mail::message::{self, Received};
use crate::mail::queue::{self, Identity, Schedule, now_ms};
use crate::mail::{self, Address};

/// A message on its way in. Memory is one cell of it, and the header of one that our users submit.
pub(super) struct Receipt<'a> {
    desk: &'a Desk,
    id: String,
    /// What the peer says of itself, and its address.
    from: String,
    submitter: Option<String>,
    recipients: usize,
    decoder: Decoder,
    piece: Vec<u8>,
    /// What a submitter sent before the header's end: what it lacks is to stand above it.
    held: Option<Vec<u8>>,
    target: Result<Destination>,
}

impl<'a> Receipt<'a> {
    /// Begins a message that comes from a peer by a protocol.
    pub fn new(
        desk: &'a Desk,
        envelope: Envelope,
        from: String,
        protocol: &str,
        decoder: Decoder,
    ) -> Receipt<'a> {
        let id = uuid::Uuid::now_v7().simple().to_string();
        let trace = trace(desk, &envelope.recipients, &from, protocol, &id);
        let (submitter, recipients) = (envelope.submitter.clone(), envelope.recipients.len());
        // Our own lines do not count against the sender.
        let max = desk.settings.message_bytes_max + trace.len() as u64 + 1024;
        let target = Destination::of(desk, envelope, max).and_then(|mut target| {
            target.trace(&trace)?;
            Ok(target)
        });
        let held = submitter.is_some().then(Vec::new);
        let piece = Vec::new();
        Receipt { desk, id, from, submitter, recipients, decoder, piece, held, target }
    }

    /// Takes octets as they came.
    pub fn take(&mut self, octets: &[u8]) -> Decoded {
        let mut piece = std::mem::take(&mut self.piece);
        let decoded = self.decoder.decode(octets, &mut piece);
        self.add(&piece);
        piece.clear();
        self.piece = piece;
        decoded
    }

    /// Whether its end is not worth waiting for.
    pub fn is_far_too_big(&self) -> bool {
        let max = self.desk.settings.message_bytes_max;
        self.decoder.bytes() > max.saturating_mul(EXCESS_FACTOR)
    }

    /// Ends the message. Rule 1: stored for all, or not acknowledged.
    pub fn deliver(mut self) -> Outcome {
        let mut rest = Vec::new();
        if self.decoder.end(&mut rest) == Decoded::BareNewline {
            return Outcome::BareNewline;
        }
        self.add(&rest);
        self.complete_header();
        let refused = self.judge();
        let Receipt { desk, id, from, recipients, decoder, target, .. } = self;
        let bytes = decoder.bytes();
        let outcome = refused.unwrap_or_else(|| {
            let stored = target.and_then(|target| target.store(&id, desk.house.schedule));
            stored.map_or_else(Outcome::Failed, |()| Outcome::Stored(id))
        });
        match &outcome {
            Outcome::Stored(id) => log::info!("{id} from {from}: {bytes} bytes for {recipients}"),
            other => log::warn!("a message from {from} was not stored: {other:?}"),
        }
        outcome
    }

    /// Why it is refused, if it is.
    fn judge(&self) -> Option<Outcome> {
        if self.decoder.bytes() > self.desk.settings.message_bytes_max {
            return Some(Outcome::TooBig);
        }
        if let Some(fault) = self.decoder.fault() {
            return Some(Outcome::Faulty(fault));
        }
        let user = self.submitter.as_deref()?;
        if self.held.is_some() {
            return Some(Outcome::Faulty(Fault::TooLong));
        }
        match self.is_own_author(user) {
            Ok(true) => None,
            Ok(false) => Some(Outcome::Faulty(Fault::Author)),
            Err(error) => Some(Outcome::Failed(error)),
        }
    }

    /// RFC 6409, 6.1: the From field of a submitter's message holds addresses of that user.
    fn is_own_author(&self, user: &str) -> Result<bool> {
        let header = self.decoder.header();
        let authors: Option<Vec<Address>> = match header.authors.as_slice() {
            [one] if !header.authors_cut => message::authors(one),
            _ => None,
        };
        authors.map_or(Ok(false), |authors| self.desk.house.has_all(user, &authors))
    }

    fn add(&mut self, piece: &[u8]) {
        if self.decoder.bytes() > self.desk.settings.message_bytes_max {
            return;
        }
        match &mut self.held {
            None => self.write(|target| target.add(piece)),
            Some(held) if held.len() > HEADER_BYTES_MAX => {}
            Some(held) => {
                held.extend_from_slice(piece);
                if self.decoder.header().is_over {
                    self.complete_header();
                }
            }
        }
    }

    /// Writes what was held back, below what it lacks (RFC 6409, 8.1 and 8.2). One that is too long stays where it is.
    fn complete_header(&mut self) {
        let Some(held) = self.held.take_if(|held| held.len() <= HEADER_BYTES_MAX) else { return };
        let (header, mut lacking) = (self.decoder.header(), String::new());
        if !header.has_date {
            lacking.push_str(&format!("Date: {}\r\n", message::date(now_ms() / 1000)));
        }
        if !header.has_message_id {
            let domain = &self.desk.settings.domain;
            lacking.push_str(&format!("Message-ID: <{}@{domain}>\r\n", self.id));
        }
        self.write(|target| {
            target.trace(&lacking)?;
            target.add(&held)
        });
    }

    /// After a failure nothing more is written.
    fn write(&mut self, write: impl FnOnce(&mut Destination) -> Result<()>) {
        if let Err(error) = self.target.as_mut().map_or(Ok(()), write) {
            self.target = Err(error);
        }
    }
}

/// Our line above the message (RFC 5321, 4.4).
fn trace(desk: &Desk, recipients: &[Target], from: &str, with: &str, id: &str) -> String {
    let to = match recipients {
        [only] => Some(&only.address),
        _ => None,
    };
    let (by, seconds) = (desk.settings.domain.as_str(), now_ms() / 1000);
    Received { from, by, with, id, to, seconds }.to_string()
}

/// Where a message goes.
enum Destination {
    /// Into mailboxes, at once.
    Mailboxes(Box<mail::Incoming>),
    /// Into the queue: some recipients are elsewhere, or its sender wants to hear that it arrived.
    Queue(Box<queue::Incoming>),
}

impl Destination {
    fn of(desk: &Desk, envelope: Envelope, bytes_max: u64) -> Result<Destination> {
        let is_quiet = |one: &Target| one.parameters.notify.is_none_or(|notify| !notify.success);
        let is_ours = |one: &Target| one.user.is_some() && is_quiet(one);
        if !envelope.recipients.iter().all(is_ours) {
            let queue = &desk.house.queue;
            let incoming = queue.incoming(queued(envelope), Identity::OfMessage, bytes_max)?;
            return Ok(Destination::Queue(Box::new(incoming)));
        }
        let users = envelope.recipients.into_iter().filter_map(|one| one.user);
        let incoming = desk.house.mailboxes.incoming(envelope.sender, users, bytes_max)?;
        Ok(Destination::Mailboxes(Box::new(incoming)))
    }

    fn trace(&mut self, lines: &str) -> Result<()> {
        match self {
            Destination::Mailboxes(incoming) => incoming.trace(lines),
            Destination::Queue(incoming) => incoming.trace(lines),
        }
    }

    fn add(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Destination::Mailboxes(incoming) => incoming.add(bytes),
            Destination::Queue(incoming) => incoming.add(bytes),
        }
    }

    /// After `Ok` it is durable for every recipient, and a repeat finds it.
    fn store(self, id: &str, schedule: Schedule) -> Result<()> {
        match self {
            Destination::Mailboxes(incoming) => {
                incoming.deliver()?.into_iter().try_for_each(|(user, delivered)| {
                    delivered.map(drop).inspect_err(|e| log::warn!("{id} for {user}: {e}"))
                })
            }
            Destination::Queue(incoming) => {
                let enqueued = incoming.enqueue(now_ms(), schedule.life_ms())?;
                log::info!("{id} is in the queue: {enqueued:?}");
                Ok(())
            }
        }
    }
}

/// The envelope as the queue has it.
fn queued(envelope: Envelope) -> queue::Envelope {
    let parameters = envelope.parameters;
    let options = queue::Options {
        return_: match parameters.ret {
            Some(Ret::Full) => queue::Return::Full,
            Some(Ret::Headers) | None => queue::Return::Headers,
        },
        envelope_id: parameters.envid,
        smtputf8: parameters.utf8,
    };
    let recipients = envelope.recipients.into_iter().map(|one| queue::Recipient {
        notify: one.parameters.notify.map_or_else(queue::Notify::default, |notify| queue::Notify {
            success: notify.success,
            failure: notify.failure,
            delay: notify.delay,
        }),
        original: one.parameters.orcpt,
        ..queue::Recipient::new(one.address)
    });
    let recipients = recipients.collect();
    queue::Envelope { sender: envelope.sender, recipients, options, origin: None }
}
