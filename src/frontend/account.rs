//! Pages for guests: sign in, sign up, sign out.

use super::mail::Kept;
use super::page::Wait;
use super::visit::COOKIE;
use super::{Guest, Shell, Visit, flash, problem, visit};
use crate::account::session::{self, AGE_S};
use crate::account::{Device, LogIn, SignUp, name};
use crate::config;
use crate::error::{Error, Result};
use crate::http::target::is_local;
use crate::http::{Form, Method, Request, Response, Router};
use crate::{drive, mail};
use askama::Template;

/// Where someone who signed in goes unless told.
const HOME: &str = "/mail";
/// Longest path that is gone back to after signing in.
const NEXT_BYTES_MAX: usize = 2000;

/// The routes of guests.
pub(super) fn routes(router: Router<Guest>) -> Router<Guest> {
    router
        .get("/login", show_login)
        .post("/login", log_in)
        .get("/signup", show_sign_up)
        .post("/signup", sign_up)
        .post("/logout", log_out)
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    shell: Shell,
    username: &'a str,
    next: &'a str,
    fault: Option<String>,
    /// Until another try is heard.
    wait: Option<Wait>,
    /// What could not be taken without a session, and is carried along.
    letter: Option<Kept>,
    may_sign_up: bool,
}

#[derive(Template)]
#[template(path = "signup.html")]
struct SignUpPage<'a> {
    shell: Shell,
    username: &'a str,
    domain: &'a str,
    /// The code of an invitation, as it was typed.
    code: &'a str,
    fault: Option<String>,
    who: config::SignUp,
}

/// Sends a guest who asked for a private page to the login page, and back afterwards.
pub(super) fn to_login(request: &Request) -> Response {
    let worth_it = request.method == Method::Get && request.path != "/" && is_next(&request.target);
    if !worth_it {
        return Response::redirect("/login");
    }
    let next: String = form_urlencoded::byte_serialize(request.target.as_bytes()).collect();
    Response::redirect(&format!("/login?next={next}"))
}

/// Answers a guest who asked for something that only a session allows: with the login page in any case. What
/// was to be changed is not; a letter is given back.
pub(super) fn without_session(guest: &Guest, request: &mut Request) -> Result<Response> {
    if request.method.is_safe() {
        return Ok(to_login(request));
    }
    let fault = "You are signed out: nothing was sent, saved or changed. Sign in and try again.";
    if request.header("Accept") == Some("application/json") {
        return Ok(Response::json(403, &serde_json::json!({ "fault": fault })));
    }
    let letter = Kept::of_request(request);
    let next = if letter.is_some() { "/mail/compose".into() } else { page_before(request) };
    let door = Door { next: &next, fault: Some(fault.into()), letter, ..Door::default() };
    login_page(guest, 403, door)
}

/// The page whose form was sent, where the browser says which.
fn page_before(request: &Request) -> String {
    let from = request.header("Referer").and_then(|url| url.split_once("://"));
    let path = from.and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
    next_of(path).into()
}

fn is_next(path: &str) -> bool {
    path.len() <= NEXT_BYTES_MAX && is_local(path)
}

fn next_of(asked: Option<&str>) -> &str {
    asked.filter(|path| is_next(path)).unwrap_or(HOME)
}

fn show_login(guest: &Guest, request: &mut Request) -> Result<Response> {
    let next = next_of(request.query("next"));
    if visit::session_of(&guest.app, request)?.is_some() {
        return Ok(Response::redirect(next));
    }
    login_page(guest, 200, Door { next, ..Door::default() })
}

/// What is known of someone who is to sign in.
#[derive(Default)]
struct Door<'a> {
    username: &'a str,
    next: &'a str,
    fault: Option<String>,
    wait: Option<Wait>,
    letter: Option<Kept>,
}

fn login_page(guest: &Guest, status: u16, door: Door<'_>) -> Result<Response> {
    let shell = guest.shell("Sign in");
    let may_sign_up = guest.app.process.signup != config::SignUp::Closed;
    let Door { username, next, fault, wait, letter } = door;
    guest.page(status, &LoginPage { shell, username, next, fault, wait, letter, may_sign_up })
}

fn log_in(guest: &Guest, request: &mut Request) -> Result<Response> {
    if let Some(seconds) = guest.app.accounts.address_try(request.peer.ip())? {
        return Ok(problem::wait(&guest.shell("Too many tries"), request, seconds));
    }
    let form = request.form()?;
    let (user, password) = credentials(&form);
    let letter = Kept::of_form(&form);
    let door = Door { username: &user, next: next_of(form.get("next")), letter, ..Door::default() };
    match guest.app.accounts.log_in(&user, password, &device(request))? {
        LogIn::Welcome(new) => {
            end_former(guest, request);
            welcome(guest, &new, door)
        }
        LogIn::Wrong => {
            let fault = "The user name or the password is not right.".into();
            login_page(guest, 403, Door { fault: Some(fault), ..door })
        }
        LogIn::Wait(seconds) => {
            let fault = Some("Too many tries.".into());
            let page = login_page(guest, 429, Door { fault, wait: Some(Wait(seconds)), ..door })?;
            Ok(page.with_header("Retry-After", seconds.to_string()))
        }
    }
}

/// A browser has one session: the one that it came with ends where another begins.
fn end_former(guest: &Guest, request: &Request) {
    let former = visit::session_of(&guest.app, request);
    let ended = former.and_then(|former| former.map_or(Ok(()), |s| guest.app.accounts.log_out(&s)));
    if let Err(error) = ended {
        log::info!("a session lives on until it is idle: {error}");
    }
}

/// Someone who signed in goes on: with the letter that was carried along, or to the page that was asked for.
fn welcome(guest: &Guest, new: &session::New, door: Door<'_>) -> Result<Response> {
    let page = match door.letter {
        Some(letter) => letter.go_on(&Visit::begin(guest, new.session.clone()))?,
        None => Response::redirect(door.next),
    };
    Ok(sign_in(page, new))
}

/// The name as it is kept, without the house's domain where someone typed the whole address.
fn credentials(form: &Form) -> (String, &str) {
    let typed = name::normal(form.get("username").unwrap_or_default());
    let user = typed.split_once('@').map_or(typed.as_str(), |(user, _)| user).to_string();
    (user, form.get("password").unwrap_or_default())
}

fn device(request: &Request) -> Device {
    Device {
        agent: request.header("User-Agent").unwrap_or_default().into(),
        address: request.peer.ip().to_canonical().to_string(),
    }
}

/// Gives the browser its session.
pub(super) fn sign_in(response: Response, new: &session::New) -> Response {
    let cookie =
        format!("{COOKIE}={}; Path=/; HttpOnly; SameSite=Lax; Max-Age={AGE_S}", new.cookie);
    response.with_header("Set-Cookie", cookie)
}

/// What a newcomer has typed.
struct Newcomer<'a> {
    username: &'a str,
    code: &'a str,
}

fn show_sign_up(guest: &Guest, request: &mut Request) -> Result<Response> {
    let code = request.query("code").unwrap_or_default();
    sign_up_page(guest, 200, &Newcomer { username: "", code }, None)
}

fn sign_up_page(
    guest: &Guest,
    status: u16,
    newcomer: &Newcomer<'_>,
    fault: Option<String>,
) -> Result<Response> {
    let (shell, who) = (guest.shell("Create account"), guest.app.process.signup);
    let domain = &guest.app.config.cluster.mail_domain;
    let &Newcomer { username, code } = newcomer;
    guest.page(status, &SignUpPage { shell, username, domain, code, fault, who })
}

fn sign_up(guest: &Guest, request: &mut Request) -> Result<Response> {
    let who = guest.app.process.signup;
    if who == config::SignUp::Closed {
        return sign_up_page(guest, 403, &Newcomer { username: "", code: "" }, None);
    }
    if let Some(seconds) = guest.app.accounts.address_try(request.peer.ip())? {
        return Ok(problem::wait(&guest.shell("Too many tries"), request, seconds));
    }
    let form = request.form()?;
    let field = |name| form.get(name).unwrap_or_default();
    let (user, password, code) =
        (name::normal(field("username")), field("password"), field("code"));
    let invitation = (who == config::SignUp::Invite).then_some(code);
    let mut first_cells = drive::first_cells(&user);
    first_cells.extend(mail::mailbox::first_cells(&user));
    let (status, fault) = match guest.app.accounts.sign_up(&user, password, invitation, first_cells)
    {
        Ok(SignUp::Done) => return enter(guest, request, &user, password),
        Ok(SignUp::Taken) => (409, "This user name is taken. Please choose another one.".into()),
        Ok(SignUp::NotInvited) => (403, "This invitation is not valid, or it was used.".into()),
        Err(Error::Bad(why)) => (400, problem::sentence(&why)),
        Err(error) => return Err(error),
    };
    sign_up_page(guest, status, &Newcomer { username: &user, code }, Some(fault))
}

/// Signs the new user in.
fn enter(guest: &Guest, request: &Request, user: &str, password: &str) -> Result<Response> {
    match guest.app.accounts.log_in(user, password, &device(request))? {
        LogIn::Welcome(new) => {
            end_former(guest, request);
            Ok(sign_in(flash::set(Response::redirect(HOME), "welcome", 1), &new))
        }
        _ => Ok(Response::redirect("/login")),
    }
}

/// Ends the session. It asks for the form's token only where there is a session to end.
fn log_out(guest: &Guest, request: &mut Request) -> Result<Response> {
    if let Some(session) = visit::session_of(&guest.app, request)? {
        if !session.accepts(request.form()?.get(visit::TOKEN_FIELD).unwrap_or_default()) {
            return Err(visit::no_token());
        }
        guest.app.accounts.log_out(&session)?;
    }
    Ok(signed_out("signed-out"))
}

/// The browser forgets its session and what it kept of our pages; the login page says once why.
pub(super) fn signed_out(code: &str) -> Response {
    let gone = format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0");
    flash::set(Response::redirect("/login"), code, 1)
        .with_header("Set-Cookie", gone)
        .with_header("Clear-Site-Data", "\"cache\", \"storage\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_in_leads_nowhere_else() {
        assert_eq!(next_of(Some("/files/x?after=y")), "/files/x?after=y");
        for bad in
            [None, Some(""), Some("//evil.test"), Some("https://evil.test"), Some("/\\evil.test")]
        {
            assert_eq!(next_of(bad), HOME);
        }
    }
}
