//! Composing: drafts, and mail from one of our users to others of them and to other hosts.
//!
//! A message that is composed has a guid from the first time its page is shown; its Message-ID is
//! `<guid@domain>`. Under this guid its draft is found, and each recipient and the Sent folder get it once.
//! A page that still has the guid of what was sent, but says something else, is another message: it gets a
//! guid of its own.
//! Every try to send saves the draft first: whatever fails afterwards, nothing that was typed is lost.
//!
//! ```text
//! draft saved ──▶ recipients checked ──▶ delivered to each of ours (done/…) ──▶ queued for the others (done/…)
//!             ──▶ draft becomes the copy in Sent (done/…)
//! ```
//!
//! No page waits for another host: what is for others is in the [`queue`] when the page is answered, and
//! the copy in Sent shows what came of it.

use super::Mailboxes;
use super::address::{Address, Contact};
use super::compose::{Composer, Outline, Sink};
use super::delivery::{Delivered, DeliveryId};
use super::entry::{Entry, Folder, Held, Place, now, prefix, row, typed_column};
use super::mailbox::{Plan, held};
use super::message::{Summary, id_hash, received};
use super::queue::{self, Envelope, Identity, Origin, Queue};
use super::staging::{Body, Staging};
use crate::client::{Bytes, LIMIT_MAX, Op, ValueReader, Written};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::io::Read;

/// Bytes of all files of a composed message: 25 MB.
pub const FILES_BYTES_MAX: u64 = 25_000_000;
/// Bytes of a composed message: its files in base64, and a text.
pub const MESSAGE_BYTES_MAX: u64 = 36 << 20;
/// Trace lines that delivery puts above a message.
const TRACE_BYTES_MAX: u64 = 4 << 10;
/// Bytes of what was typed into the address fields.
const TYPED_BYTES_MAX: u64 = 256 << 10;
/// How often a draft is saved again over what another page saved.
const TRIES: usize = 8;

/// A guid for a message that will be composed.
pub fn new_guid() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

/// Whether a word can be such a guid.
pub fn is_guid(word: &str) -> bool {
    word.len() == 32 && word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A draft that is being saved: attachments are streamed into it.
pub struct DraftWriter {
    composer: Composer<Staging>,
    mailboxes: Mailboxes,
    user: String,
    guid: String,
    typed: Typed,
    /// Bytes of files that may still come.
    room: u64,
}

/// What the author typed into the address fields, right or wrong. Kept beside the message: blind recipients
/// are never in it, and what is no address yet cannot be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Typed {
    /// The field To.
    pub to: String,
    /// The field Cc.
    pub cc: String,
    /// The field Bcc.
    pub bcc: String,
    /// The message that is answered or forwarded, as the compose page names it.
    pub origin: String,
    /// SHA-256 of subject and text: tells a page that is sent twice from one that was changed.
    pub words: String,
}

impl Sink for Staging {
    fn add(&mut self, bytes: &[u8]) -> Result<()> {
        Staging::add(self, bytes)
    }
}

/// Somebody who can get mail from our users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The address as it was typed.
    pub address: Address,
    /// The user behind it.
    pub user: String,
}

/// Who is behind the addresses of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audience {
    /// Our users, each once.
    pub reached: Vec<Recipient>,
    /// Addresses of other hosts, each once.
    pub outside: Vec<Address>,
    /// Addresses that reach nobody.
    pub lost: Vec<(String, Unreachable)>,
}

/// Why an address gets no mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// It is of another host, and this cluster sends nothing to others.
    OtherHost,
    /// Nobody here has it.
    Nobody,
    /// The mailbox behind it has no room for the message.
    Full,
}

impl Mailboxes {
    /// The Message-ID of what is composed under a guid.
    pub fn message_id(&self, guid: &str) -> String {
        format!("{guid}@{}", self.domain())
    }

    /// Begins to save what is composed under a guid.
    pub fn write_draft(
        &self,
        user: &str,
        guid: &str,
        outline: Outline,
        typed: Typed,
    ) -> DraftWriter {
        let staging = Staging::new(self, vec![user.to_string()], MESSAGE_BYTES_MAX);
        DraftWriter {
            composer: Composer::new(outline, staging),
            mailboxes: self.clone(),
            user: user.into(),
            guid: guid.into(),
            typed,
            room: FILES_BYTES_MAX,
        }
    }

    /// The draft of a guid, among the newest drafts.
    pub fn find_draft(&self, user: &str, guid: &str) -> Result<Option<Held>> {
        let mid = id_hash(&self.message_id(guid));
        let (cells, _) = self.scan(user, &prefix(Folder::Drafts), None, LIMIT_MAX, true)?;
        let mut drafts = cells.iter().map(|cell| held(Folder::Drafts, cell));
        drafts.find(|draft| draft.as_ref().map_or(true, |d| d.entry.summary.mid == mid)).transpose()
    }

    /// What the author of a message of one's own typed into the address fields.
    pub fn typed(&self, user: &str, guid: &str) -> Result<Option<Typed>> {
        let found = self.client.get(row(user), typed_column(guid), TYPED_BYTES_MAX)?;
        Ok(found.and_then(|found| serde_json::from_slice(&found.value).ok()))
    }

    /// Whether what was composed under a guid has been sent.
    pub fn was_sent(&self, user: &str, guid: &str) -> Result<bool> {
        let column = DeliveryId::of_sent_copy(user, guid).column();
        Ok(self.client.get(row(user), column, 1 << 10)?.is_some())
    }

    /// Whether something else than this was sent under a guid.
    pub fn was_sent_otherwise(&self, user: &str, guid: &str, typed: &Typed) -> Result<bool> {
        let column = DeliveryId::of_sent_copy(user, guid).column();
        let Some(sent) = self.client.get(row(user), column, 1 << 10)? else { return Ok(false) };
        let sent = self.typed(user, &String::from_utf8_lossy(&sent.value))?;
        Ok(sent.as_ref() != Some(typed))
    }

    /// Who is behind the addresses of what is composed under a guid, and has room for it or has it already.
    pub fn audience(
        &self,
        contacts: &[Contact],
        author: &str,
        guid: &str,
        draft: &Held,
    ) -> Result<Audience> {
        let delivery = DeliveryId::of_compose(author, guid);
        let mut audience = Audience::default();
        for address in contacts.iter().map(|contact| contact.address.clone()) {
            let lost = |why| (address.to_string(), why);
            match self.resolve(&address)? {
                Some(user) if audience.reached.iter().any(|known| known.user == user) => {}
                Some(user) if self.has_room(&user, &delivery, draft.entry.size)? => {
                    audience.reached.push(Recipient { address, user });
                }
                Some(_) => audience.lost.push(lost(Unreachable::Full)),
                None if self.is_local(&address) => audience.lost.push(lost(Unreachable::Nobody)),
                None if self.outside.is_none() => audience.lost.push(lost(Unreachable::OtherHost)),
                None if audience.outside.contains(&address) => {}
                None => audience.outside.push(address),
            }
        }
        Ok(audience)
    }

    /// Whether a user can get a delivery of so many bytes: one that was made before needs no room.
    fn has_room(&self, user: &str, delivery: &DeliveryId, bytes: u64) -> Result<bool> {
        match self.admit(user, bytes) {
            Ok(()) => Ok(true),
            Err(Error::Quota { .. }) => {
                Ok(self.client.get(row(user), delivery.column(), 1 << 10)?.is_some())
            }
            Err(error) => Err(error),
        }
    }

    /// Sends a saved draft, and says for each of our users what came of it. When all have it, it is queued for
    /// other hosts, and the draft becomes the copy in Sent. Sent again under the same guid, nobody gets it twice.
    pub fn send(
        &self,
        from: &Address,
        user: &str,
        guid: &str,
        draft: &Held,
        audience: &Audience,
    ) -> Result<Vec<(Address, Result<Delivered>)>> {
        let made = self.send_here(from, user, guid, draft, &audience.reached)?;
        if made.iter().all(|(_, outcome)| outcome.is_ok()) {
            self.send_outside(from, user, guid, draft, &audience.outside)?;
            self.file_sent_copy(user, guid, draft)?;
        }
        Ok(made)
    }

    fn send_here(
        &self,
        from: &Address,
        user: &str,
        guid: &str,
        draft: &Held,
        recipients: &[Recipient],
    ) -> Result<Vec<(Address, Result<Delivered>)>> {
        if recipients.is_empty() {
            return Ok(Vec::new());
        }
        let users = recipients.iter().map(|recipient| recipient.user.clone());
        let bytes_max = draft.entry.size + TRACE_BYTES_MAX;
        let mut incoming = self.incoming(Some(from.clone()), users, bytes_max)?;
        incoming.trace(&received(user, self.domain(), "HTTP", guid, now()))?;
        copy(&mut self.open_draft(user, draft)?, |bytes| incoming.add(bytes))?;
        let made = incoming.deliver_as(DeliveryId::of_compose(user, guid))?;
        let address_of = |user: &str| recipients.iter().find(|r| r.user == user);
        Ok(made
            .into_iter()
            .filter_map(|(user, outcome)| Some((address_of(&user)?.address.clone(), outcome)))
            .collect())
    }

    /// Queues it for other hosts. The same recipients are queued once.
    fn send_outside(
        &self,
        from: &Address,
        user: &str,
        guid: &str,
        draft: &Held,
        outside: &[Address],
    ) -> Result<()> {
        let Some(schedule) = self.outside.filter(|_| !outside.is_empty()) else { return Ok(()) };
        let origin = Origin { user: user.into(), guid: draft.entry.guid.clone() };
        let recipients: Vec<_> = outside.iter().cloned().map(queue::Recipient::new).collect();
        self.show_outcomes(&origin, &recipients)?;
        let envelope = Envelope {
            sender: Some(from.clone()),
            recipients,
            origin: Some(origin),
            ..Envelope::default()
        };
        let id = Identity::Known(DeliveryId::of_compose_outside(user, guid, outside));
        let bytes_max = draft.entry.size + TRACE_BYTES_MAX;
        let mut incoming = Queue::new(self.clone()).incoming(envelope, id, bytes_max)?;
        incoming.trace(&received(user, self.domain(), "HTTP", guid, now()))?;
        copy(&mut self.open_draft(user, draft)?, |bytes| incoming.add(bytes))?;
        incoming.enqueue(queue::now_ms(), schedule.life_ms()).map(drop)
    }

    fn open_draft(&self, user: &str, draft: &Held) -> Result<ValueReader> {
        let body = self.open(user, &draft.entry.guid)?;
        body.ok_or_else(|| Error::retry("this draft was changed in another window"))
    }

    /// The draft becomes the copy in Sent. Where there is one already, the draft goes.
    fn file_sent_copy(&self, user: &str, guid: &str, draft: &Held) -> Result<()> {
        let entry = Entry { received: now(), ..draft.entry.clone() };
        let mut plan = Plan::new(user);
        plan.push(DeliveryId::of_sent_copy(user, guid).op(&row(user), &entry.guid));
        plan.leave(draft);
        plan.arrive(Folder::Sent, &entry.seen());
        match self.client.batch(user, plan.into_ops())? {
            Written::Mismatch { at: 0, .. } => self.expunge(user, &[draft.place]).map(drop),
            Written::Done { .. } => Ok(()),
            _ => Err(Error::retry("this draft was changed in another window")),
        }
    }

    /// Puts a composed message among the drafts, in the place of the one saved before.
    fn save_draft(
        &self,
        user: &str,
        guid: &str,
        entry: &Entry,
        body: &Body,
        typed: &Typed,
    ) -> Result<Held> {
        let json = serde_json::to_vec(typed).expect("strings are always JSON");
        for _ in 0..TRIES {
            let before = self.find_draft(user, guid)?;
            let mut plan = Plan::new(user).within(self.quota);
            plan.push(self.unchanged_folder(user, Folder::Drafts)?);
            plan.push(body.op(&row(user), &entry.guid));
            plan.push(Op::put(row(user), typed_column(&entry.guid), json.as_slice()));
            match &before {
                Some(before) => {
                    plan.replace(before, entry);
                    plan.remove_body(&before.entry.guid);
                }
                None => plan.arrive(Folder::Drafts, entry),
            }
            if let Written::Done { version, words } = self.client.batch(user, plan.into_ops())? {
                let place = before.map_or_else(|| appended(&words), |before| Ok(before.place))?;
                return Ok(Held { place, version, entry: entry.clone() });
            }
        }
        Err(Error::retry("this draft is being saved by another window"))
    }
}

/// The place that an APPEND of a draft made.
fn appended(words: &[Bytes]) -> Result<Place> {
    let column = words.first().ok_or_else(|| Error::corrupt("an APPEND without a column"))?;
    Place::of_column(Folder::Drafts, column)
}

fn copy(from: &mut dyn Read, mut to: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            n => to(&buffer[..n])?,
        }
    }
}

impl DraftWriter {
    /// Begins an attachment.
    pub fn attach(&mut self, name: &str, content_type: &str) -> Result<()> {
        self.composer.attach(name, content_type)
    }

    /// Adds bytes to the attachment that was begun last. `TooBig` when the files get too large.
    pub fn add(&mut self, bytes: &[u8]) -> Result<()> {
        let room = self.room.checked_sub(bytes.len() as u64);
        self.room = room.ok_or_else(|| {
            Error::TooBig(format!("files have at most {FILES_BYTES_MAX} bytes together"))
        })?;
        self.composer.add(bytes)
    }

    /// Attaches everything that a reader gives.
    pub fn attach_from(
        &mut self,
        name: &str,
        content_type: &str,
        from: &mut dyn Read,
    ) -> Result<()> {
        self.attach(name, content_type)?;
        copy(from, |bytes| self.add(bytes))
    }

    /// Saves the draft and says where it is.
    pub fn save(self) -> Result<Held> {
        let staging = self.composer.finish()?;
        let size = staging.len();
        let mut written = staging.finish()?;
        let staged = written.staged.pop().ok_or_else(|| Error::corrupt("a draft of nobody"))?;
        let body = staged.body?;
        let entry = Entry::new(&new_guid(), size, Summary::of(&written.head)).seen();
        self.mailboxes.save_draft(&self.user, &self.guid, &entry, &body, &self.typed).inspect_err(
            |error| {
                if error.is_definite() {
                    self.mailboxes.abandon(&self.user, &body);
                }
            },
        )
    }
}
