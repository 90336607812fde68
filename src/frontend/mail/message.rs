//! A message, its files, and its original.

use super::letter::{self, Frame};
use super::text::{Block, blocks};
use super::{Moment, Side, folder_url};
use crate::error::{Error, Result};
use crate::frontend::download::{attachment, harmless_type};
use crate::frontend::headers::USER_BYTES_POLICY;
use crate::frontend::text::size;
use crate::frontend::{Shell, Visit, problem};
use crate::http::{Request, Response};
use crate::mail::message::Person;
use crate::mail::queue::{Shown, State};
use crate::mail::{Address, Folder, Held, Letter, Place};
use askama::Template;

/// Bytes that are shown of a message that cannot be parsed.
const RAW_BYTES_MAX: usize = 100_000;

#[derive(Template)]
#[template(path = "mail/message.html")]
struct MessagePage<'a> {
    shell: Shell,
    side: Side,
    place: Place,
    held: &'a Held,
    /// The list that it is in.
    list: String,
    subject: String,
    from: Vec<Person>,
    /// Names of the recipients.
    to: String,
    /// Names and addresses of a field each, by its name; fields without any are left out.
    people: Vec<(&'static str, String)>,
    /// Recipients at other hosts, and how far they are.
    outcomes: Vec<(String, String)>,
    date: Moment,
    /// Its HTML, where it has some and its text is not wanted.
    frame: Option<Frame>,
    /// Whether its HTML can be had instead.
    has_html: bool,
    blocks: Vec<Block<'a>>,
    /// Whether the text is longer than what is shown.
    cut: bool,
    files: Vec<File>,
    targets: Vec<Folder>,
}

/// A file that came with the message.
struct File {
    index: usize,
    name: String,
    size: String,
    icon: &'static str,
}

impl MessagePage<'_> {
    fn is(&self, folder: &str) -> bool {
        self.place.folder.id() == folder
    }

    /// The page with the frame; what is shown within it is not listed as a file.
    fn framed(mut self, frame: Option<Frame>, has_html: bool) -> Self {
        if let Some(frame) = &frame {
            self.files.retain(|file| !frame.own.contains(&file.index));
        }
        (self.frame, self.has_html) = (frame, has_html);
        self
    }

    fn initial(&self) -> char {
        let label = self.from.first().map(Person::label).unwrap_or_default();
        let letter = label.chars().find(|c| c.is_alphanumeric());
        letter.and_then(|c| c.to_uppercase().next()).unwrap_or('?')
    }
}

/// Shows a message, and marks it as read.
pub(super) fn show(visit: &Visit, request: &mut Request) -> Result<Response> {
    let Some(held) = find(visit, request)? else { return Ok(gone(visit, request)) };
    if held.place.folder == Folder::Drafts {
        return Ok(Response::redirect(&format!("/mail/compose?draft={}", held.place)));
    }
    mark_as_read(visit, &held);
    let Some(whole) = visit.mailboxes().read(visit.user(), &held.entry.guid)? else {
        return Err(Error::corrupt(format!("the message {} has no body", held.place)));
    };
    let raw =
        String::from_utf8_lossy(&whole.bytes[..whole.bytes.len().min(RAW_BYTES_MAX)]).into_owned();
    let (text, cut, page) = match Letter::parse(&whole.bytes) {
        Ok(letter) => {
            let (text, cut) = letter.text();
            let frame = letter::frame(held.place, &letter, request);
            let page = read(visit, &held, Some(&letter))?;
            let has_html = letter::wants_text(request) && letter.html().is_some();
            (text, cut || whole.cut, page.framed(frame, has_html))
        }
        Err(_) => (raw, true, read(visit, &held, None)?),
    };
    visit.page(200, &MessagePage { blocks: blocks(&text), cut, ..page })
}

/// All that the page shows but the text.
fn read<'a>(visit: &Visit, held: &'a Held, letter: Option<&Letter<'_>>) -> Result<MessagePage<'a>> {
    let folder = held.place.folder;
    let subject = letter.map(Letter::subject).unwrap_or_default();
    let subject = if subject.is_empty() { "(no subject)".to_string() } else { subject };
    let date = letter.and_then(Letter::date).unwrap_or(held.entry.received as i64);
    let is_target =
        |to: &Folder| *to != folder && !matches!(to, Folder::Drafts | Folder::Sent | Folder::Trash);
    Ok(MessagePage {
        shell: visit.mail_shell(&subject),
        side: Side::load(visit, Some(folder)),
        place: held.place,
        held,
        list: folder_url(folder),
        subject,
        from: letter.map(Letter::from).unwrap_or_default(),
        to: letter.map_or_else(String::new, recipients),
        people: people(visit, held, letter)?,
        outcomes: outcomes(visit, held),
        date: Moment::of(date),
        frame: None,
        has_html: false,
        blocks: Vec::new(),
        cut: false,
        files: letter.map(files).unwrap_or_default(),
        targets: Folder::ALL.into_iter().filter(is_target).collect(),
    })
}

/// How far the recipients of a message in Sent are, in words. A page without them is better than none.
fn outcomes(visit: &Visit, held: &Held) -> Vec<(String, String)> {
    if held.place.folder != Folder::Sent {
        return Vec::new();
    }
    let shown = visit.mailboxes_briefly().outcomes(visit.user(), &held.entry.guid);
    let words = |shown: Shown| {
        let said = match shown.state {
            State::Queued => "waits to be sent".into(),
            State::Sent => format!("taken by {}", shown.answer),
            State::Deferred(_) => format!("not yet, it is tried again: {}", shown.answer),
            State::Failed => format!("failed: {}", shown.answer),
        };
        (shown.address, said)
    };
    shown.unwrap_or_default().into_iter().map(words).collect()
}

fn people(
    visit: &Visit,
    held: &Held,
    letter: Option<&Letter<'_>>,
) -> Result<Vec<(&'static str, String)>> {
    let typed = match held.place.folder {
        Folder::Sent => visit.mailboxes().typed(visit.user(), &held.entry.guid)?,
        _ => None,
    };
    let list = |people: Vec<Person>| people.iter().map(written).collect::<Vec<_>>().join(", ");
    let field =
        |read: fn(&Letter<'_>) -> Vec<Person>| letter.map(read).map_or_else(String::new, list);
    let mut fields = vec![
        ("From", field(|letter| letter.from())),
        ("To", field(|letter| letter.to())),
        ("Cc", field(|letter| letter.cc())),
        ("Bcc", typed.unwrap_or_default().bcc),
        ("Replies go to", field(differing_reply_to)),
    ];
    fields.retain(|(_, people)| !people.is_empty());
    Ok(fields)
}

/// "bob, carol", in short.
fn recipients(letter: &Letter<'_>) -> String {
    let people: Vec<Person> = letter.to().into_iter().chain(letter.cc()).collect();
    let labels: Vec<&str> = people.iter().map(Person::label).take(20).collect();
    if labels.is_empty() { "undisclosed recipients".into() } else { labels.join(", ") }
}

fn differing_reply_to(letter: &Letter<'_>) -> Vec<Person> {
    let (asked, from) = (letter.reply_to(), letter.from());
    if asked == from { Vec::new() } else { asked }
}

fn written(person: &Person) -> String {
    if person.name.is_empty() {
        return person.address.clone();
    }
    format!("{} <{}>", person.name, person.address)
}

fn files(letter: &Letter<'_>) -> Vec<File> {
    let file = |(index, file): (usize, crate::mail::message::Attachment)| File {
        index,
        size: size(file.size as u64),
        icon: icon(&file.name),
        name: file.name,
    };
    letter.attachments().into_iter().enumerate().map(file).collect()
}

fn icon(name: &str) -> &'static str {
    match mime_guess::from_path(name).first_or_octet_stream().type_().as_str() {
        "image" => "image",
        "audio" => "audio",
        "video" => "video",
        "text" => "document",
        _ => "file",
    }
}

/// Reading works even where marking does not.
fn mark_as_read(visit: &Visit, held: &Held) {
    if held.entry.flags.seen {
        return;
    }
    let marked = visit.mailboxes().change(visit.user(), &[held.place], |flags| flags.seen = true);
    if let Err(error) = marked {
        log::warn!("a message of {} cannot be marked as read: {error}", visit.user());
    }
}

/// The message as it came, as plain text.
pub(super) fn original(visit: &Visit, request: &mut Request) -> Result<Response> {
    whole(visit, request, "text/plain; charset=utf-8", |_| "inline".into())
}

/// The message as it came, as a file.
pub(super) fn eml(visit: &Visit, request: &mut Request) -> Result<Response> {
    whole(visit, request, "message/rfc822", |held| {
        attachment(&crate::mail::message::file_name_of_subject(&held.entry.summary.subject))
    })
}

fn whole(
    visit: &Visit,
    request: &mut Request,
    content_type: &'static str,
    disposition: fn(&Held) -> String,
) -> Result<Response> {
    let Some(held) = find(visit, request)? else { return Ok(gone(visit, request)) };
    let Some(body) = visit.mailboxes().open(visit.user(), &held.entry.guid)? else {
        return Ok(gone(visit, request));
    };
    Ok(Response::stream(content_type, Some(body.len), Box::new(body))
        .with_header("Content-Disposition", disposition(&held))
        .with_header("Content-Security-Policy", USER_BYTES_POLICY))
}

/// A file that came with the message. Never shown in the browser: it is always a download.
pub(super) fn file(visit: &Visit, request: &mut Request) -> Result<Response> {
    let Some(held) = find(visit, request)? else { return Ok(gone(visit, request)) };
    let index = request.param("index").parse().unwrap_or(usize::MAX);
    let found = visit.mailboxes().file(visit.user(), &held.entry.guid, index)?;
    let Some((file, bytes)) = found else { return Ok(gone(visit, request)) };
    let length = file.size as u64;
    Ok(Response::stream(harmless_type(&file.name), Some(length), Box::new(bytes))
        .with_header("Content-Disposition", attachment(&file.name))
        .with_header("Content-Security-Policy", USER_BYTES_POLICY))
}

/// The message that a path names.
pub(super) fn find(visit: &Visit, request: &Request) -> Result<Option<Held>> {
    let place = Place::parse(&format!("{}/{}", request.param("folder"), request.param("number")));
    place.map_or(Ok(None), |place| visit.mailboxes().entry(visit.user(), place))
}

/// The page for a message that is not there.
pub(super) fn gone(visit: &Visit, request: &Request) -> Response {
    problem::not_found(&visit.mail_shell("Not here"), request)
}

/// The address of the user.
pub(super) fn own_address(visit: &Visit) -> Result<Address> {
    Address::of_user(visit.user(), visit.mailboxes().domain())
}
