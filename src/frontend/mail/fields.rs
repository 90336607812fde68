//! The fields of a compose page: how they begin, come back from the browser, and become a message.

use super::message::own_address;
use crate::error::{Error, Result};
use crate::frontend::Visit;
use crate::frontend::text::size;
use crate::http::{Multipart, Part};
use crate::mail::address::{Contact, LIST_MAX, parse_list};
use crate::mail::message::{bound_references, check_id};
use crate::mail::reply::{Prefill, forward, reply, reply_all};
use crate::mail::send::{is_guid, new_guid};
use crate::mail::{Held, Letter, Outline, Place, Typed};
use sha2::{Digest, Sha256};

/// Bytes of the text field of a message.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// Bytes of a text that is read, so that its author gets it back where it is too long for a message.
const TEXT_BYTES_READ_MAX: usize = 8 << 20;
/// Bytes of any other field.
const FIELD_BYTES_MAX: usize = 64 << 10;

/// What stands in the fields of a compose page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    /// Names what is composed, from the first time its page is shown.
    pub guid: String,
    /// Recipients, as they were typed.
    pub to: String,
    /// Further recipients.
    pub cc: String,
    /// Blind recipients.
    pub bcc: String,
    /// The subject.
    pub subject: String,
    /// The text.
    pub text: String,
    /// The message that is answered.
    pub in_reply_to: String,
    /// The messages before it, separated by blanks.
    pub references: String,
    /// `reply:<place>` or `forward:<place>`: what will be marked as answered or forwarded.
    pub origin: String,
    /// Guid of the body whose files are kept.
    pub source: String,
    /// Which of its files.
    pub keep: Vec<usize>,
    /// The button.
    pub action: String,
}

/// How a page begins that answers or forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An answer to the author.
    Reply,
    /// An answer to everybody.
    ReplyAll,
    /// For somebody else.
    Forward,
}

impl Fields {
    /// An empty page; perhaps with a recipient.
    pub fn empty(to: &str) -> Fields {
        Fields { guid: new_guid(), to: one_line(to), ..Fields::default() }
    }

    /// A page that answers or forwards a message.
    pub fn answering(
        visit: &Visit,
        kind: Kind,
        held: &Held,
        letter: &Letter<'_>,
    ) -> Result<Fields> {
        let me = own_address(visit)?;
        let (prefill, origin) = match kind {
            Kind::Reply => (reply(letter, &me), "reply"),
            Kind::ReplyAll => (reply_all(letter, &me), "reply"),
            Kind::Forward => (forward(letter), "forward"),
        };
        let origin = format!("{origin}:{}", held.place);
        let fields = Fields { origin, ..Fields::prefilled(prefill) };
        if kind != Kind::Forward {
            return Ok(fields);
        }
        let keep = (0..letter.attachments().len()).collect();
        Ok(Fields { source: held.entry.guid.clone(), keep, ..fields })
    }

    fn prefilled(prefill: Prefill) -> Fields {
        Fields {
            guid: new_guid(),
            to: prefill.to,
            cc: prefill.cc,
            subject: prefill.subject,
            text: prefill.text,
            in_reply_to: prefill.in_reply_to.unwrap_or_default(),
            references: prefill.references.join(" "),
            ..Fields::default()
        }
    }

    /// A page that goes on with a draft.
    pub fn of_draft(held: &Held, letter: &Letter<'_>, typed: Option<Typed>) -> Fields {
        let list = |people: Vec<crate::mail::message::Person>| {
            people.into_iter().map(|person| person.address).collect::<Vec<_>>().join(", ")
        };
        let typed = typed.unwrap_or_else(|| Typed {
            to: list(letter.to()),
            cc: list(letter.cc()),
            ..Typed::default()
        });
        let id = letter.message_id().unwrap_or_default();
        let guid = id.split('@').next().filter(|guid| is_guid(guid)).map(str::to_string);
        Fields {
            guid: guid.unwrap_or_else(new_guid),
            to: typed.to,
            cc: typed.cc,
            bcc: typed.bcc,
            origin: typed.origin,
            subject: letter.subject(),
            text: letter.text().0.trim_end().to_string(),
            in_reply_to: letter.in_reply_to().into_iter().next().unwrap_or_default(),
            references: letter.references().join(" "),
            source: held.entry.guid.clone(),
            keep: (0..letter.attachments().len()).collect(),
            action: String::new(),
        }
    }

    /// Takes a field that the browser sends. Lines in what is one line become blanks.
    pub fn take(&mut self, part: &mut Part<'_>) -> Result<()> {
        let name = part.name.clone();
        let max = if name == "text" { TEXT_BYTES_READ_MAX } else { FIELD_BYTES_MAX };
        self.set(&name, &part.text(max)?);
        Ok(())
    }

    /// What is said of a text that no message can have.
    pub fn fault_of_text(&self) -> Option<String> {
        (self.text.len() > TEXT_BYTES_MAX).then(|| {
            format!(
                "The text is too long: it has {}, and a message has at most {} of text. Nothing was sent \
                 or saved. What you wrote is still here: make it shorter, or attach it as a file.",
                size(self.text.len() as u64),
                size(TEXT_BYTES_MAX as u64),
            )
        })
    }

    /// Takes the fields of a form up to its first file.
    pub fn take_all(&mut self, parts: &mut Multipart<'_>) -> Result<()> {
        while let Some(mut part) = parts.next_part()? {
            match part.filename.as_deref() {
                None => self.take(&mut part)?,
                Some("") => {}
                Some(_) => break,
            }
        }
        Ok(())
    }

    /// Whether nothing was typed.
    pub fn is_blank(&self) -> bool {
        [&self.to, &self.cc, &self.bcc, &self.subject, &self.text].iter().all(|f| f.is_empty())
    }

    /// Sets a field to what was typed.
    pub fn set(&mut self, name: &str, typed: &str) {
        if name == "text" {
            self.text = typed.replace("\r\n", "\n");
            return;
        }
        let value = one_line(typed);
        match name {
            "guid" if is_guid(&value) => self.guid = value,
            "to" => self.to = value,
            "cc" => self.cc = value,
            "bcc" => self.bcc = value,
            "subject" => self.subject = value,
            "in_reply_to" => self.in_reply_to = value,
            "references" => self.references = value,
            "origin" => self.origin = value,
            "source" if is_guid(&value) => self.source = value,
            "keep" => self.keep.extend(value.parse::<usize>().ok()),
            "action" => self.action = value,
            _ => {}
        }
    }

    /// Everybody to whom it goes; or what is wrong with what was typed.
    pub fn contacts(&self) -> std::result::Result<Vec<Contact>, Vec<String>> {
        let (mut contacts, mut faults) = (Vec::new(), Vec::new());
        for (name, typed) in [("To", &self.to), ("Cc", &self.cc), ("Bcc", &self.bcc)] {
            match parse_list(typed) {
                Ok(list) => contacts.extend(list),
                Err(Error::Bad(why) | Error::TooBig(why)) => faults.push(format!("{name}: {why}.")),
                Err(other) => faults.push(format!("{name}: {other}.")),
            }
        }
        if faults.is_empty() && contacts.is_empty() {
            faults.push("To: write at least one address.".into());
        }
        if contacts.len() > LIST_MAX {
            faults.push(format!("A message has at most {LIST_MAX} recipients."));
        }
        if faults.is_empty() { Ok(contacts) } else { Err(faults) }
    }

    /// What the message says. An address that is none is left out: [`Fields::typed`] keeps it.
    pub fn outline(&self, visit: &Visit, date: i64) -> Result<Outline> {
        let name = visit.app.accounts.profile(visit.user())?.display_name;
        let references = self.references.split_ascii_whitespace().filter_map(check_id).collect();
        Ok(Outline {
            from: Contact::new(&name, own_address(visit)?),
            to: parse_list(&self.to).unwrap_or_default(),
            cc: parse_list(&self.cc).unwrap_or_default(),
            subject: self.subject.clone(),
            text: self.text.clone(),
            message_id: visit.mailboxes().message_id(&self.guid),
            in_reply_to: check_id(&self.in_reply_to),
            references: bound_references(references),
            date,
        })
    }

    /// What is kept beside the message.
    pub fn typed(&self) -> Typed {
        Typed {
            to: self.to.clone(),
            cc: self.cc.clone(),
            bcc: self.bcc.clone(),
            origin: self.origin.clone(),
            words: self.words(),
        }
    }

    fn words(&self) -> String {
        let hash =
            Sha256::new_with_prefix(&self.subject).chain_update("\n").chain_update(&self.text);
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The message that is answered (`true`) or forwarded.
    pub fn origin(&self) -> Option<(Place, bool)> {
        let (kind, place) = self.origin.split_once(':')?;
        Some((Place::parse(place)?, kind == "reply"))
    }
}

fn one_line(value: &str) -> String {
    let line: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_name_their_field() {
        let fields = Fields { to: "bob".into(), cc: "a@x.org".into(), ..Fields::default() };
        let faults = fields.contacts().unwrap_err();
        assert!(faults[0].starts_with("To: “bob” is not an address"), "{faults:?}");
        assert!(Fields::empty("").contacts().unwrap_err()[0].contains("at least one"));
        let crowd = "a@x.org,".repeat(LIST_MAX);
        let fields = Fields { to: crowd.clone(), bcc: crowd, ..Fields::default() };
        assert!(fields.contacts().unwrap_err()[0].contains("at most"));
    }

    #[test]
    fn an_origin_is_a_place() {
        let origin = |text: &str| Fields { origin: text.into(), ..Fields::default() }.origin();
        let place = Place::parse("inbox/3").unwrap();
        assert_eq!(origin("reply:inbox/3"), Some((place, true)));
        assert_eq!(origin("forward:inbox/3"), Some((place, false)));
        assert_eq!(origin("reply:elsewhere/3"), None);
        assert_eq!(origin(""), None);
    }

    #[test]
    fn fields_are_one_line() {
        assert_eq!(Fields::empty("a@x.org\r\nBcc: b@x.org").to, "a@x.org  Bcc: b@x.org");
    }
}
