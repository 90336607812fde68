//! In and out.

use super::admin::{NAME, Verdict};
use super::app::{COOKIE, Guest, Visit};
use super::page::{Shell, render};
use super::session::AGE_S;
use crate::account::session::random_token;
use crate::error::Result;
use crate::http::{Request, Response};
use askama::Template;
use subtle::ConstantTimeEq;

/// Name of the cookie that a login form's token must match: there is no session yet to hold it.
const FORM_COOKIE: &str = "pc_console_form";
/// Seconds for which a login form may be filled in.
const FORM_S: u32 = 3600;

#[derive(Template)]
#[template(path = "console/login.html")]
struct Login {
    shell: Shell,
    name: &'static str,
    token: String,
    fault: Option<String>,
}

/// The login page.
pub(super) fn show(guest: &Guest, request: &mut Request<'_>) -> Result<Response> {
    let cookie = request.cookie(COOKIE).unwrap_or_default();
    if !cookie.is_empty() && guest.app.sessions.find(cookie, true).is_some() {
        return Ok(Response::redirect("/"));
    }
    page(guest, 200, None)
}

fn page(guest: &Guest, status: u16, fault: Option<String>) -> Result<Response> {
    let token = random_token();
    let cookie =
        format!("{FORM_COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={FORM_S}");
    let login = Login { shell: guest.shell("Sign in"), name: NAME, token, fault };
    Ok(render(status, &login)?.with_header("Set-Cookie", cookie))
}

/// Judges a login.
pub(super) fn log_in(guest: &Guest, request: &mut Request<'_>) -> Result<Response> {
    let token = request.cookie(FORM_COOKIE).unwrap_or_default().to_string();
    let form = request.form()?;
    let field = |name| form.get(name).unwrap_or_default();
    if token.is_empty() || !bool::from(token.as_bytes().ct_eq(field("csrf").as_bytes())) {
        return page(guest, 403, Some("This page was open for too long. Try again.".into()));
    }
    match guest.app.admin.log_in(field("username"), field("password"))? {
        Verdict::Welcome => {
            let cookie = guest.app.sessions.begin();
            let cookie =
                format!("{COOKIE}={cookie}; Path=/; HttpOnly; SameSite=Strict; Max-Age={AGE_S}");
            let _ = super::audit::write(&guest.app.client, request.peer, "sign in");
            Ok(Response::redirect("/").with_header("Set-Cookie", cookie))
        }
        Verdict::Wrong => {
            let _ = super::audit::write(&guest.app.client, request.peer, "wrong name or password");
            log::warn!("a wrong password for the console from {}", request.peer.ip());
            page(guest, 403, Some("Name or password is wrong.".into()))
        }
        Verdict::Wait(seconds) => {
            let why = format!("Too many wrong passwords. Try again in {seconds} s.");
            Ok(page(guest, 429, Some(why))?.with_header("Retry-After", seconds.to_string()))
        }
    }
}

/// Ends the session.
pub(super) fn log_out(visit: &Visit, request: &mut Request<'_>) -> Result<Response> {
    visit.check_form(&request.form()?)?;
    visit.app.sessions.end(&visit.session);
    let cookie = format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    Ok(Response::redirect("/login")
        .with_header("Set-Cookie", cookie)
        .with_header("Clear-Site-Data", "\"cache\", \"storage\""))
}
