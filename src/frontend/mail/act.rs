//! What the buttons of lists and messages do.

use super::folder_url;
use crate::error::{Error, Result};
use crate::frontend::Visit;
use crate::http::{Form, Request, Response};
use crate::mail::{Flags, Folder, Place};

/// Does what a button says with the messages that are chosen, and goes back to the list.
pub(super) fn act(visit: &Visit, request: &mut Request) -> Result<Response> {
    let form = visit.form(request)?;
    let back = back(form.get("back").unwrap_or_default());
    for (name, starred) in [("star", true), ("unstar", false)] {
        if let Some(place) = form.get(name).and_then(Place::parse) {
            visit.mailboxes().change(visit.user(), &[place], |flags| flags.starred = starred)?;
            return Ok(Response::redirect(&back));
        }
    }
    let places = chosen(&form)?;
    if places.is_empty() {
        return Ok(visit.done(&back, "mail-none", 1));
    }
    let (code, n) = perform(visit, form.get("action").unwrap_or_default(), &places)?;
    Ok(visit.done(&back, code, n))
}

fn chosen(form: &Form) -> Result<Vec<Place>> {
    let parse = |place: &str| Place::parse(place).ok_or_else(|| Error::bad("no such message"));
    form.all("place").into_iter().map(parse).collect()
}

/// What is then said, and of how many messages.
fn perform(visit: &Visit, action: &str, places: &[Place]) -> Result<(&'static str, usize)> {
    let (mailboxes, user) = (visit.mailboxes(), visit.user());
    let mark = |change: fn(&mut Flags)| mailboxes.change(user, places, change);
    match action {
        "delete" => {
            let (gone, kept): (Vec<_>, Vec<_>) =
                places.iter().copied().partition(|place| place.folder == Folder::Trash);
            let n =
                mailboxes.expunge(user, &gone)? + mailboxes.move_to(user, &kept, Folder::Trash)?;
            Ok(("mail-deleted", n))
        }
        "read" => Ok(("mail-marked", mark(|flags| flags.seen = true)?)),
        "unread" => Ok(("mail-marked", mark(|flags| flags.seen = false)?)),
        other => {
            let to = other.strip_prefix("move-").and_then(Folder::parse);
            let to = to.ok_or_else(|| Error::bad("this button does nothing"))?;
            Ok(("mail-moved", mailboxes.move_to(user, places, to)?))
        }
    }
}

/// A page of webmail; anything else becomes the inbox.
fn back(path: &str) -> String {
    let known =
        path == "/mail" || ["/mail?", "/mail/f/", "/mail/m/"].iter().any(|p| path.starts_with(p));
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/?=&".contains(&b);
    if known && path.bytes().all(plain) { path.into() } else { folder_url(Folder::Inbox) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buttons_lead_back_to_webmail_only() {
        for fine in
            ["/mail", "/mail?before=3&at=51", "/mail/f/spam?after=7&at=1", "/mail/m/inbox/3"]
        {
            assert_eq!(back(fine), fine);
        }
        for bad in [
            "",
            "//evil.org",
            "/mailx",
            "/mail/f/..%2f",
            "/mail\\",
            "/mail/f/x\r\nX: y",
            "http://x",
        ] {
            assert_eq!(back(bad), "/mail", "{bad:?}");
        }
    }
}
