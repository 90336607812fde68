//! The HTML of a message, in a frame of its own: no scripts, no forms, and no other host unless the reader wants its
//! pictures.

use super::message::{find, gone};
use crate::error::Result;
use crate::frontend::Visit;
use crate::frontend::headers::USER_BYTES_POLICY;
use crate::http::{Request, Response};
use crate::mail::html::{Harmless, Remote, harmless, picture_type};
use crate::mail::{Letter, Place};
use askama::Template;
use std::collections::{HashMap, HashSet};

/// The frame on the page of a message.
pub(super) struct Frame {
    /// Where its bytes are.
    pub src: String,
    /// Pictures on other hosts.
    pub remote: usize,
    /// Whether they are shown.
    pub shown: bool,
    /// Attachments that it shows itself, by their index.
    pub own: HashSet<usize>,
}

#[derive(Template)]
#[template(path = "mail/letter.html")]
struct LetterPage {
    html: String,
}

/// The frame of a letter that has HTML, unless its text is wanted.
pub(super) fn frame(place: Place, letter: &Letter<'_>, request: &Request) -> Option<Frame> {
    if wants_text(request) {
        return None;
    }
    let made = made(place, letter, wanted(request))?;
    let shown = wanted(request) == Remote::Shown;
    let by_id = letter.pictures();
    let own = made.own.iter().filter_map(|id| by_id.get(id).copied()).collect();
    let query = if shown { "?images=1" } else { "" };
    Some(Frame { src: format!("/mail/m/{place}/html{query}"), remote: made.remote, shown, own })
}

/// What is shown in the frame.
pub(super) fn show(visit: &Visit, request: &mut Request) -> Result<Response> {
    let Some(held) = find(visit, request)? else { return Ok(gone(visit, request)) };
    let whole = visit.mailboxes().read(visit.user(), &held.entry.guid)?;
    let letter = whole.as_ref().and_then(|whole| Letter::parse(&whole.bytes).ok());
    let made = letter.and_then(|letter| made(held.place, &letter, wanted(request)));
    let Some(Harmless { html, .. }) = made else { return Ok(gone(visit, request)) };
    let page = visit.page(200, &LetterPage { html })?;
    Ok(page.with_header("Content-Security-Policy", policy(wanted(request))))
}

/// What a letter may do: show pictures, and open its links in other windows. It is of our origin, so that its own
/// pictures come with the session and the page may read its height; without scripts it can make no use of that.
fn policy(remote: Remote) -> String {
    let pictures = match remote {
        Remote::Hidden => "'self' data:",
        Remote::Shown => "'self' data: http: https:",
    };
    format!(
        "sandbox allow-same-origin allow-popups allow-popups-to-escape-sandbox; default-src 'none'; \
         img-src {pictures}; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'self'"
    )
}

fn made(place: Place, letter: &Letter<'_>, remote: Remote) -> Option<Harmless> {
    let url = |index: usize| format!("/mail/m/{place}/inline/{index}");
    let own: HashMap<String, String> =
        letter.pictures().into_iter().map(|(id, index)| (id, url(index))).collect();
    harmless(&letter.html()?, remote, own)
}

/// Whether the text is wanted where there is HTML.
pub(super) fn wants_text(request: &Request) -> bool {
    request.query("text").is_some()
}

fn wanted(request: &Request) -> Remote {
    if request.query("images").is_some() { Remote::Shown } else { Remote::Hidden }
}

/// A picture within a letter. What is none is not shown: its way out is the download.
pub(super) fn inline(visit: &Visit, request: &mut Request) -> Result<Response> {
    let Some(held) = find(visit, request)? else { return Ok(gone(visit, request)) };
    let index = request.param("index").parse().unwrap_or(usize::MAX);
    let found = visit.mailboxes().file(visit.user(), &held.entry.guid, index)?;
    let Some((file, bytes)) = found else { return Ok(gone(visit, request)) };
    let Some(picture) = picture_type(&file.content_type) else { return Ok(gone(visit, request)) };
    Ok(Response::stream(picture, Some(file.size as u64), Box::new(bytes))
        .with_header("Content-Security-Policy", USER_BYTES_POLICY))
}
