//! Who asks: a guest, or someone who is signed in.

use super::flash::Flash;
use super::page::{self, Section, Shell};
use super::used::Used;
use super::{App, flash};
use crate::account::Session;
use crate::drive::Drive;
use crate::error::{Error, Result};
use crate::http::{Form, Multipart, Request, Response};
use askama::Template;
use std::sync::Arc;
use std::time::Instant;

/// Name of the session's cookie.
pub const COOKIE: &str = "pc_session";
/// Name of the form field that carries the session's token.
pub const TOKEN_FIELD: &str = "csrf";
/// Name of the header that may carry it instead: scripts send it.
const TOKEN_HEADER: &str = "X-CSRF-Token";
/// Longest token that is read.
pub(super) const TOKEN_BYTES_MAX: usize = 128;

/// A request of anyone.
pub struct Guest {
    /// What all handlers share.
    pub app: Arc<App>,
    began: Instant,
    flash: Option<Flash>,
}

impl Guest {
    pub(super) fn new(app: &Arc<App>, request: &Request) -> Guest {
        Guest { flash: flash::read(request), ..Guest::anyone(app) }
    }

    /// A guest of whom nothing is known.
    pub(super) fn anyone(app: &Arc<App>) -> Guest {
        Guest { app: app.clone(), began: Instant::now(), flash: None }
    }

    /// What surrounds a page for guests.
    pub fn shell(&self, title: &str) -> Shell {
        Shell::new(&self.app.process.name, self.began, title).with_flash(self.flash)
    }

    /// A page from its template.
    pub fn page(&self, status: u16, template: &impl Template) -> Result<Response> {
        page::render(status, template)
    }
}

/// A request of someone who is signed in.
pub struct Visit {
    /// What all handlers share.
    pub app: Arc<App>,
    /// The session.
    pub session: Session,
    began: Instant,
    flash: Option<Flash>,
}

impl Visit {
    pub(super) fn new(guest: Guest, session: Session) -> Visit {
        Visit { app: guest.app, session, began: guest.began, flash: guest.flash }
    }

    /// The first visit of a session that a guest has just begun.
    pub(super) fn begin(guest: &Guest, session: Session) -> Visit {
        Visit { app: guest.app.clone(), session, began: guest.began, flash: guest.flash }
    }

    /// The name of the user.
    pub fn user(&self) -> &str {
        &self.session.user
    }

    /// The mail address of the user.
    pub fn address(&self) -> String {
        self.app.accounts.address(self.user())
    }

    /// The drive of the user.
    pub fn drive(&self) -> Drive {
        Drive::new(&self.app.client, self.user(), self.app.quota)
    }

    /// How much of the quota is used.
    pub(super) fn used(&self) -> Result<Used> {
        self.app.quota.space(&self.app.client, self.user()).map(Used::new)
    }

    /// What surrounds a page for this user.
    pub fn shell(&self, title: &str, section: Section) -> Shell {
        Shell::new(&self.app.process.name, self.began, title).with_flash(self.flash).with_user(
            &self.session,
            self.address(),
            section,
        )
    }

    /// A page from its template.
    pub fn page(&self, status: u16, template: &impl Template) -> Result<Response> {
        page::render(status, template)
    }

    /// 303 to a page that shows once what was done: a code of [`flash`], and a number where it has one.
    pub fn done(&self, to: &str, code: &str, n: usize) -> Response {
        flash::set(Response::redirect(to), code, n)
    }

    /// The form in the body; `Denied` without the session's token.
    pub fn form(&self, request: &mut Request) -> Result<Form> {
        let by_header = self.has_token_header(request);
        let form = request.form()?;
        if by_header || self.session.accepts(form.get(TOKEN_FIELD).unwrap_or_default()) {
            Ok(form)
        } else {
            Err(no_token())
        }
    }

    /// The parts of a multipart body; `Denied` unless the session's token is in the header or the first part.
    pub fn multipart<'r>(&self, request: &'r mut Request<'_>) -> Result<Multipart<'r>> {
        let (parts, is_own) = self.multipart_of_any(request)?;
        if is_own { Ok(parts) } else { Err(no_token()) }
    }

    /// The parts of a multipart body, and whether it has the session's token. Where it has not, the handler
    /// may show them again, and nothing else.
    pub fn multipart_of_any<'r>(
        &self,
        request: &'r mut Request<'_>,
    ) -> Result<(Multipart<'r>, bool)> {
        let by_header = self.has_token_header(request);
        let mut parts = request.multipart()?;
        let is_own = by_header || self.token_is_next(&mut parts)?;
        Ok((parts, is_own))
    }

    fn has_token_header(&self, request: &Request) -> bool {
        request.header(TOKEN_HEADER).is_some_and(|token| self.session.accepts(token))
    }

    fn token_is_next(&self, parts: &mut Multipart<'_>) -> Result<bool> {
        let Some(mut first) = parts.next_part()? else { return Ok(false) };
        Ok(first.name == TOKEN_FIELD && self.session.accepts(&first.text(TOKEN_BYTES_MAX)?))
    }
}

/// The session of a request's cookie, if it is alive.
pub(super) fn session_of(app: &App, request: &Request) -> Result<Option<Session>> {
    match request.cookie(COOKIE) {
        Some(cookie) => app.accounts.session(cookie, request.peer.ip()),
        None => Ok(None),
    }
}

pub(super) fn no_token() -> Error {
    Error::Denied("the form is from another session, or did not come from this site".into())
}
