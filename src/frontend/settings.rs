//! The user's own settings: display name, password, passwords for programs, sessions.

use super::page::Wait;
use super::used::Used;
use super::{Section, Shell, Visit, account, flash, problem, programs, text};
use crate::account::{LogIn, Profile, Session};
use crate::error::{Error, Result};
use crate::http::{Request, Response, Router};
use askama::Template;

/// The routes of the settings.
pub(super) fn routes(router: Router<Visit>) -> Router<Visit> {
    programs::routes(router)
        .get("/settings", show)
        .post("/settings/profile", save_profile)
        .post("/settings/password", change_password)
        .post("/settings/sessions/end", end_session)
        .post("/settings/sessions/end-others", end_others)
        .post("/settings/sessions/end-all", end_all)
}

#[derive(Template)]
#[template(path = "settings.html")]
struct SettingsPage {
    shell: Shell,
    profile: Profile,
    used: Used,
    sessions: Vec<Row>,
    programs: Vec<programs::Row>,
    profile_fault: Option<String>,
    password_fault: Option<String>,
    program_fault: Option<String>,
    wait: Option<Wait>,
    /// A password for a program that was made just now.
    made: Option<String>,
}

/// A session as it is listed.
struct Row {
    id: String,
    icon: &'static str,
    browser: String,
    address: String,
    seen: String,
    seen_iso: String,
    began: String,
    began_iso: String,
    is_this: bool,
}

impl Row {
    fn new(session: &Session, own: &Session) -> Row {
        Row {
            id: session.id.clone(),
            icon: if is_phone(&session.agent) { "phone" } else { "monitor" },
            browser: browser(&session.agent),
            address: session.address.clone(),
            seen: text::moment(session.last_seen * 1000),
            seen_iso: text::iso(session.last_seen * 1000),
            began: text::moment(session.created * 1000),
            began_iso: text::iso(session.created * 1000),
            is_this: session.id == own.id,
        }
    }
}

/// What stands wrong on the page, if anything; and what was just made.
#[derive(Default)]
pub(super) struct Faults {
    pub profile: Option<String>,
    pub password: Option<String>,
    pub program: Option<String>,
    pub wait: Option<Wait>,
    pub made: Option<String>,
}

fn show(visit: &Visit, _request: &mut Request) -> Result<Response> {
    settings_page(visit, 200, Faults::default())
}

pub(super) fn settings_page(visit: &Visit, status: u16, faults: Faults) -> Result<Response> {
    let (accounts, user) = (&visit.app.accounts, visit.user());
    let sessions = accounts.sessions(user)?;
    let page = SettingsPage {
        shell: visit.shell("Settings", Section::Settings),
        profile: accounts.profile(user)?,
        used: visit.used()?,
        sessions: sessions.iter().map(|s| Row::new(s, &visit.session)).collect(),
        programs: accounts.programs(user)?.into_iter().map(programs::Row::new).collect(),
        profile_fault: faults.profile,
        password_fault: faults.password,
        program_fault: faults.program,
        wait: faults.wait,
        made: faults.made,
    };
    visit.page(status, &page)
}

fn save_profile(visit: &Visit, request: &mut Request) -> Result<Response> {
    let form = visit.form(request)?;
    let display_name = form.get("display_name").unwrap_or_default();
    match visit.app.accounts.set_display_name(visit.user(), display_name) {
        Ok(()) => Ok(visit.done("/settings", "profile", 1)),
        Err(Error::Bad(why)) => {
            let faults = Faults { profile: Some(problem::sentence(&why)), ..Faults::default() };
            settings_page(visit, 400, faults)
        }
        Err(error) => Err(error),
    }
}

fn change_password(visit: &Visit, request: &mut Request) -> Result<Response> {
    let form = visit.form(request)?;
    let (old, new) = (form.get("old").unwrap_or_default(), form.get("new").unwrap_or_default());
    match visit.app.accounts.change_password(&visit.session, old, new) {
        Ok(LogIn::Welcome(fresh)) => {
            let response = flash::set(Response::redirect("/settings"), "password", 1);
            Ok(account::sign_in(response, &fresh))
        }
        Ok(LogIn::Wrong) => password_fault(visit, 403, "The present password is not right.".into()),
        Ok(LogIn::Wait(seconds)) => {
            let (password, wait) = (Some("Too many tries.".into()), Some(Wait(seconds)));
            let page = settings_page(visit, 429, Faults { password, wait, ..Faults::default() })?;
            Ok(page.with_header("Retry-After", seconds.to_string()))
        }
        Err(Error::Bad(why)) => password_fault(visit, 400, problem::sentence(&why)),
        Err(error) => Err(error),
    }
}

fn password_fault(visit: &Visit, status: u16, why: String) -> Result<Response> {
    settings_page(visit, status, Faults { password: Some(why), ..Faults::default() })
}

fn end_session(visit: &Visit, request: &mut Request) -> Result<Response> {
    let form = visit.form(request)?;
    let id = form.get("id").unwrap_or_default();
    let sessions = visit.app.accounts.sessions(visit.user())?;
    if let Some(session) = sessions.iter().find(|s| s.id == id) {
        visit.app.accounts.log_out(session)?;
    }
    Ok(visit.done("/settings", "session", 1))
}

fn end_others(visit: &Visit, request: &mut Request) -> Result<Response> {
    visit.form(request)?;
    let n = visit.app.accounts.log_out_others(&visit.session)?;
    Ok(visit.done("/settings", "sessions", n))
}

/// Ends every session, this one too.
fn end_all(visit: &Visit, request: &mut Request) -> Result<Response> {
    visit.form(request)?;
    visit.app.accounts.log_out_everywhere(visit.user())?;
    Ok(account::signed_out("everywhere"))
}

fn is_phone(agent: &str) -> bool {
    ["Mobile", "Android", "iPhone"].iter().any(|word| agent.contains(word))
}

/// Browser and system of a User-Agent, as far as they are known; else what it says itself.
fn browser(agent: &str) -> String {
    const BROWSERS: [(&str, &str); 6] = [
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
        ("curl/", "curl"),
    ];
    const SYSTEMS: [(&str, &str); 6] = [
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ];
    let find = |known: &[(&str, &'static str)]| {
        known.iter().find(|(k, _)| agent.contains(k)).map(|(_, n)| *n)
    };
    match (find(&BROWSERS), find(&SYSTEMS)) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(browser), None) => browser.into(),
        _ if agent.is_empty() => "Unknown browser".into(),
        _ => agent.chars().take(60).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_get_their_names() {
        let firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
        assert_eq!(browser(firefox), "Firefox on Linux");
        let chrome = "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140.0 Safari/537.36";
        assert_eq!(browser(chrome), "Chrome on Windows");
        assert_eq!(browser(""), "Unknown browser");
        assert_eq!(browser("tool/1"), "tool/1");
    }
}
