//! Composing: the page, and what its buttons do.

use super::Side;
use super::fields::{Fields, Kind};
use super::message::{gone, own_address};
use crate::error::{Error, Result};
use crate::frontend::problem::Problem;
use crate::frontend::text::size;
use crate::frontend::{Shell, Visit};
use crate::http::{Multipart, Request, Response, status_of};
use crate::mail::send::{FILES_BYTES_MAX, new_guid};
use crate::mail::{Address, Delivered, DraftWriter, Folder, Held, Letter, Place, Unreachable};
use askama::Template;
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of a form whose files are too large that are read away, so that its sender gets an answer.
const DRAIN_BYTES_MAX: u64 = 256 << 20;

#[derive(Template)]
#[template(path = "mail/compose.html")]
struct ComposePage {
    shell: Shell,
    side: Side,
    heading: &'static str,
    fields: Fields,
    /// Files that lie in the store already.
    files: Vec<KeptFile>,
    faults: Vec<String>,
    /// Where the draft lies, if it was saved.
    draft: Option<Place>,
    from: String,
    /// How large files may be.
    files_max: String,
}

/// A file that is attached already.
struct KeptFile {
    index: usize,
    name: String,
    size: String,
    keep: bool,
}

/// What a submit came to before anything is sent.
struct Saved {
    held: Held,
    /// What could not be done as asked; then nothing is sent.
    faults: Vec<String>,
    /// Status of the page that says so.
    status: u16,
}

/// Shows a compose page: empty, an answer, a forward, or a draft.
pub(super) fn show(visit: &Visit, request: &mut Request) -> Result<Response> {
    let asked = [
        ("reply", "Reply", Some(Kind::Reply)),
        ("reply_all", "Reply to all", Some(Kind::ReplyAll)),
        ("forward", "Forward", Some(Kind::Forward)),
        ("draft", "Draft", None),
    ];
    let found = asked.into_iter().find_map(|(name, heading, kind)| {
        request.query(name).map(|place| (Place::parse(place), heading, kind))
    });
    let Some((place, heading, kind)) = found else {
        let to = request.query("to").unwrap_or_default();
        return page(visit, 200, "New message", Fields::empty(to), Vec::new());
    };
    let opened = place.map_or(Ok(None), |place| open(visit, place, kind))?;
    match opened {
        Some(fields) => page(visit, 200, heading, fields, Vec::new()),
        None => Ok(gone(visit, request)),
    }
}

/// The fields that a stored message gives.
fn open(visit: &Visit, place: Place, kind: Option<Kind>) -> Result<Option<Fields>> {
    let (mailboxes, user) = (visit.mailboxes(), visit.user());
    let Some(held) = mailboxes.entry(user, place)? else { return Ok(None) };
    let Some(whole) = mailboxes.read(user, &held.entry.guid)? else { return Ok(None) };
    let letter = Letter::parse(&whole.bytes)?;
    Ok(Some(match kind {
        Some(kind) => Fields::answering(visit, kind, &held, &letter)?,
        None => Fields::of_draft(&held, &letter, mailboxes.typed(user, &held.entry.guid)?),
    }))
}

pub(super) fn page(
    visit: &Visit,
    status: u16,
    heading: &'static str,
    fields: Fields,
    faults: Vec<String>,
) -> Result<Response> {
    let draft =
        visit.mailboxes_briefly().find_draft(visit.user(), &fields.guid).unwrap_or_default();
    let folder = draft.as_ref().map(|_| Folder::Drafts);
    let files = kept_files(visit, &fields).unwrap_or_default();
    let page = ComposePage {
        shell: visit.mail_shell(heading),
        side: Side::load(visit, folder),
        heading,
        files,
        faults,
        draft: draft.map(|held| held.place),
        from: visit.address(),
        files_max: files_max(),
        fields,
    };
    visit.page(status, &page)
}

fn kept_files(visit: &Visit, fields: &Fields) -> Result<Vec<KeptFile>> {
    if fields.source.is_empty() {
        return Ok(Vec::new());
    }
    let found = visit.mailboxes_briefly().read(visit.user(), &fields.source)?;
    let Some(whole) = found else { return Ok(Vec::new()) };
    let files = Letter::parse(&whole.bytes)?.attachments().into_iter().enumerate();
    Ok(files
        .map(|(index, file)| KeptFile {
            index,
            name: file.name,
            size: size(file.size as u64),
            keep: fields.keep.contains(&index),
        })
        .collect())
}

/// Takes the form: saves the draft, then does what the button says.
pub(super) fn submit(visit: &Visit, request: &mut Request) -> Result<Response> {
    let mut fields = Fields::empty("");
    let (mut parts, is_own) = visit.multipart_of_any(request)?;
    if !is_own {
        fields.take_all(&mut parts)?;
        return of_other_session(visit, fields);
    }
    match take(visit, parts, &mut fields) {
        Ok(None) => Ok(visit.done("/mail", "sent", 1)),
        Ok(Some(saved)) => perform(visit, fields, saved),
        Err(Error::Quota { .. }) if fields.action == "discard" => discard_saved(visit, &fields),
        Err(error) => again(visit, fields, &error),
    }
}

/// The page with all its input, which another session began: it has this session's token now.
fn of_other_session(visit: &Visit, fields: Fields) -> Result<Response> {
    let said = format!(
        "This page was from another session; you are {} now. Nothing was sent. What you wrote is still \
         here: look it over and send it again. Files must be chosen again.",
        visit.address()
    );
    page(visit, 403, "New message", fields, vec![said])
}

/// The page with its input, after the store has failed, or where a field was refused.
fn again(visit: &Visit, fields: Fields, error: &Error) -> Result<Response> {
    if let Some(said) = fields.fault_of_text() {
        return page(visit, 413, "New message", fields, vec![said]);
    }
    let problem = Problem::of(error);
    let said = match error {
        Error::TooBig(why) => format!(
            "This is too long to be taken: {why}. Nothing was sent or saved, and the field is empty here: \
             go back in your browser to what you wrote, and make it shorter."
        ),
        Error::Quota { .. } => format!(
            "{} Nothing was sent or saved: what you send is kept in Sent. What you wrote is still here: delete \
             files, or messages in Trash, in another window, then try again. Files must be chosen again.",
            problem.what
        ),
        _ => format!(
            "{} Nothing was sent. What you wrote is still here: please try again. Files must be chosen \
             again.",
            problem.what
        ),
    };
    page(visit, problem.status, "New message", fields, vec![said])
}

/// There is no room to save once more what is discarded: the draft as it was saved before goes to Trash.
fn discard_saved(visit: &Visit, fields: &Fields) -> Result<Response> {
    if let Some(draft) = visit.mailboxes().find_draft(visit.user(), &fields.guid)? {
        visit.mailboxes().move_to(visit.user(), &[draft.place], Folder::Trash)?;
    }
    Ok(visit.done("/mail", "mail-deleted", 1))
}

fn perform(visit: &Visit, fields: Fields, saved: Saved) -> Result<Response> {
    let fields = Fields { source: saved.held.entry.guid.clone(), keep: all_files(), ..fields };
    if !saved.faults.is_empty() {
        return page(visit, saved.status, "Draft", fields, saved.faults);
    }
    match fields.action.as_str() {
        "discard" => {
            visit.mailboxes().move_to(visit.user(), &[saved.held.place], Folder::Trash)?;
            Ok(visit.done("/mail", "mail-deleted", 1))
        }
        "send" => send(visit, fields, &saved.held),
        _ => {
            let to = format!("/mail/compose?draft={}", saved.held.place);
            Ok(visit.done(&to, "draft", 1))
        }
    }
}

/// All files of a draft that was just saved are kept.
fn all_files() -> Vec<usize> {
    (0..crate::mail::message::ATTACHMENTS_MAX).collect()
}

/// Sends a saved draft; or shows its page again and says what is wrong.
fn send(visit: &Visit, fields: Fields, held: &Held) -> Result<Response> {
    let contacts = match fields.contacts() {
        Ok(contacts) => contacts,
        Err(faults) => return unsent(visit, fields, faults),
    };
    let audience = match visit.mailboxes().audience(&contacts, visit.user(), &fields.guid, held) {
        Ok(audience) => audience,
        Err(error) => return again_saved(visit, fields, &error),
    };
    if !audience.lost.is_empty() {
        let domain = visit.mailboxes().domain().to_string();
        let faults = audience.lost.iter().map(|(to, why)| unreachable(to, *why, &domain)).collect();
        return unsent(visit, fields, faults);
    }
    let from = own_address(visit)?;
    let made = visit.mailboxes().send(&from, visit.user(), &fields.guid, held, &audience);
    match made {
        Ok(made) if made.iter().all(|(_, outcome)| outcome.is_ok()) => {
            mark_origin(visit, &fields);
            Ok(visit.done("/mail", "sent", 1))
        }
        Ok(made) => page(visit, 503, "Draft", fields, partly(&made)),
        Err(error) => again_saved(visit, fields, &error),
    }
}

fn unreachable(to: &str, why: Unreachable, domain: &str) -> String {
    match why {
        Unreachable::Nobody => format!("{to}: nobody here has this address."),
        Unreachable::Full => {
            format!(
                "{to}: this mailbox is full. It takes mail again when its owner has deleted some."
            )
        }
        Unreachable::OtherHost => {
            format!("{to} is not at {domain}: this cluster sends no mail to other hosts.")
        }
    }
}

/// Nothing was sent because of what was typed.
fn unsent(visit: &Visit, fields: Fields, mut faults: Vec<String>) -> Result<Response> {
    faults.push("Nothing was sent. The message is saved in Drafts.".into());
    page(visit, 422, "Draft", fields, faults)
}

/// The store failed after the draft was saved.
fn again_saved(visit: &Visit, fields: Fields, error: &Error) -> Result<Response> {
    let said = format!(
        "{} The message is saved in Drafts. Please send it again: nobody gets it twice.",
        Problem::of(error).what
    );
    page(visit, status_of(error), "Draft", fields, vec![said])
}

fn partly(made: &[(Address, Result<Delivered>)]) -> Vec<String> {
    let mut said: Vec<String> = made
        .iter()
        .filter_map(|(to, outcome)| Some((to, outcome.as_ref().err()?)))
        .map(|(to, error)| format!("Not delivered to {to}. {}", Problem::of(error).what))
        .collect();
    let there: Vec<String> =
        made.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(to, _)| to.to_string()).collect();
    if !there.is_empty() {
        said.push(format!("Delivered to {}.", there.join(", ")));
    }
    said.push("The message is saved in Drafts. Send it again: nobody gets it twice.".into());
    said
}

/// The message that was answered or forwarded says so. Not worth a failure.
fn mark_origin(visit: &Visit, fields: &Fields) {
    let Some((place, answered)) = fields.origin() else { return };
    let marked = visit.mailboxes().change(visit.user(), &[place], |flags| {
        flags.answered |= answered;
        flags.forwarded |= !answered;
    });
    if let Err(error) = marked {
        log::warn!("a message of {} cannot be marked as answered: {error}", visit.user());
    }
}

/// A draft that is being written, and what could not be done as asked.
type Begun = (DraftWriter, Vec<String>);

/// Reads the form and saves the draft, files and all. `None`: this was sent before.
fn take(visit: &Visit, mut parts: Multipart<'_>, fields: &mut Fields) -> Result<Option<Saved>> {
    let mut draft: Option<Begun> = None;
    loop {
        match take_next(visit, &mut parts, fields, &mut draft) {
            Ok(true) => {}
            Ok(false) => break,
            Err(Error::TooBig(_)) if draft.is_some() => {
                return without_files(visit, parts, fields).map(Some);
            }
            Err(error) => return Err(error),
        }
    }
    let (writer, faults) = match draft {
        Some(begun) => begun,
        None => begin(visit, fields)?,
    };
    if fields.action == "send" && visit.mailboxes().was_sent(visit.user(), &fields.guid)? {
        return Ok(None);
    }
    Ok(Some(Saved { held: writer.save()?, faults, status: 422 }))
}

/// Takes a field or a file, if there is one more; with the first file the draft begins. A file without a
/// name is none.
fn take_next(
    visit: &Visit,
    parts: &mut Multipart<'_>,
    fields: &mut Fields,
    draft: &mut Option<Begun>,
) -> Result<bool> {
    let Some(mut part) = parts.next_part()? else { return Ok(false) };
    let Some(name) = part.filename.clone() else { return fields.take(&mut part).map(|()| true) };
    if name.is_empty() {
        return Ok(true);
    }
    let (writer, _) = match draft {
        Some(begun) => begun,
        None => draft.insert(begin(visit, fields)?),
    };
    let content_type = part.content_type.clone().unwrap_or_default();
    writer.attach_from(&name, &content_type, &mut part).map(|()| true)
}

/// Begins the draft with the files that lie in the store already, and says which of them are gone. Where the
/// page was sent before and says something else now, the draft is a new one.
fn begin(visit: &Visit, fields: &mut Fields) -> Result<Begun> {
    if fields.fault_of_text().is_some() {
        return Err(Error::TooBig("the text".into()));
    }
    if visit.mailboxes().was_sent_otherwise(visit.user(), &fields.guid, &fields.typed())? {
        fields.guid = new_guid();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    let outline = fields.outline(visit, now)?;
    let mailboxes = visit.mailboxes();
    let mut writer = mailboxes.write_draft(visit.user(), &fields.guid, outline, fields.typed());
    let mut faults = Vec::new();
    if fields.source.is_empty() || fields.keep.is_empty() {
        return Ok((writer, faults));
    }
    match mailboxes.read(visit.user(), &fields.source)? {
        Some(whole) => keep_files(&mut writer, &Letter::parse(&whole.bytes)?, &fields.keep)?,
        None => faults.push(
            "This message was changed in another window, and the files that it had are gone from here. \
             Nothing was sent: attach them again."
                .into(),
        ),
    }
    Ok((writer, faults))
}

fn keep_files(writer: &mut DraftWriter, letter: &Letter<'_>, keep: &[usize]) -> Result<()> {
    for (file, mut contents) in keep.iter().filter_map(|&index| letter.attachment(index)) {
        writer.attach_from(&file.name, &file.content_type, &mut contents)?;
    }
    Ok(())
}

/// How large files may be, for people.
fn files_max() -> String {
    format!("{} together", size(FILES_BYTES_MAX))
}

/// Saves the draft without the new files, which are too large, after reading the rest of the form.
fn without_files(visit: &Visit, mut parts: Multipart<'_>, fields: &mut Fields) -> Result<Saved> {
    let mut left = DRAIN_BYTES_MAX;
    while let Some(mut part) = parts.next_part()? {
        if part.filename.is_none() {
            fields.take(&mut part)?;
            continue;
        }
        left -= std::io::copy(&mut std::io::Read::take(&mut part, left), &mut std::io::sink())?;
        if left == 0 {
            return Err(Error::TooBig(format!("these files are larger than {}", files_max())));
        }
    }
    let (writer, mut faults) = begin(visit, fields)?;
    faults.push(format!(
        "The files are larger than {}, so the new ones were not attached.",
        files_max()
    ));
    faults.push("Nothing was sent. The message is saved in Drafts, without them.".into());
    Ok(Saved { held: writer.save()?, faults, status: 413 })
}
