//! Passwords for programs, on the settings page: made, shown once, taken away.

use super::page::Wait;
use super::settings::{Faults, settings_page};
use super::{Visit, problem, text};
use crate::account::{LogIn, Made, Program};
use crate::error::{Error, Result};
use crate::http::{Request, Response, Router};

/// Their routes.
pub(super) fn routes(router: Router<Visit>) -> Router<Visit> {
    router.post("/settings/programs/make", make).post("/settings/programs/end", end)
}

/// One as it is listed.
pub(super) struct Row {
    pub id: String,
    pub label: String,
    /// When it was used last and from where; empty if it was not.
    pub used: String,
    pub made: String,
}

impl Row {
    pub fn new(program: Program) -> Row {
        let used = match program.last_used {
            0 => String::new(),
            at => format!("{} UTC from {}", text::moment(at * 1000), program.address),
        };
        let made = text::moment(program.created * 1000);
        Row { id: program.id, label: program.label, used, made }
    }
}

fn make(visit: &Visit, request: &mut Request) -> Result<Response> {
    let form = visit.form(request)?;
    let field = |name| form.get(name).unwrap_or_default();
    let made = visit.app.accounts.make_program(visit.user(), field("password"), field("label"));
    match made {
        // Shown in this answer alone: what another page could show would have to be kept.
        Ok(LogIn::Welcome(Made::Password(password))) => {
            settings_page(visit, 200, Faults { made: Some(password), ..Faults::default() })
        }
        Ok(LogIn::Welcome(Made::TooMany)) => {
            fault(visit, 409, "There are too many. Remove one that is not used.".into())
        }
        Ok(LogIn::Wrong) => fault(visit, 403, "The present password is not right.".into()),
        Ok(LogIn::Wait(seconds)) => {
            let (program, wait) = (Some("Too many tries.".into()), Some(Wait(seconds)));
            let page = settings_page(visit, 429, Faults { program, wait, ..Faults::default() })?;
            Ok(page.with_header("Retry-After", seconds.to_string()))
        }
        Err(Error::Bad(why)) => fault(visit, 400, problem::sentence(&why)),
        Err(error) => Err(error),
    }
}

fn fault(visit: &Visit, status: u16, why: String) -> Result<Response> {
    settings_page(visit, status, Faults { program: Some(why), ..Faults::default() })
}

fn end(visit: &Visit, request: &mut Request) -> Result<Response> {
    let form = visit.form(request)?;
    visit.app.accounts.end_program(visit.user(), form.get("id").unwrap_or_default())?;
    Ok(visit.done("/settings", "program", 1))
}
