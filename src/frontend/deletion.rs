//! The page on which somebody deletes their account.

use super::page::Wait;
use super::{Section, Shell, Visit, account, problem, text};
use crate::account::LogIn;
use crate::error::Result;
use crate::http::{Request, Response, Router};
use askama::Template;

/// The routes of the page.
pub(super) fn routes(router: Router<Visit>) -> Router<Visit> {
    router.get("/settings/delete", show).post("/settings/delete", delete)
}

#[derive(Template)]
#[template(path = "account_delete.html")]
struct DeletionPage {
    shell: Shell,
    used: String,
    rest_days: u64,
    fault: Option<String>,
    wait: Option<Wait>,
}

fn show(visit: &Visit, _request: &mut Request) -> Result<Response> {
    page(visit, 200, None, None)
}

fn page(visit: &Visit, status: u16, fault: Option<&str>, wait: Option<Wait>) -> Result<Response> {
    let page = DeletionPage {
        shell: visit.shell("Delete account", Section::Settings),
        used: text::size(visit.app.quota.space(&visit.app.client, visit.user())?.used),
        rest_days: visit.app.config.accounts.address_rest_s.div_ceil(24 * 3600),
        fault: fault.map(problem::sentence),
        wait,
    };
    visit.page(status, &page)
}

fn delete(visit: &Visit, request: &mut Request) -> Result<Response> {
    let form = visit.form(request)?;
    match visit.app.accounts.delete(&visit.session, form.get("password").unwrap_or_default())? {
        LogIn::Welcome(()) => Ok(account::signed_out("account-deleted")),
        LogIn::Wrong => page(visit, 403, Some("the password is not right"), None),
        LogIn::Wait(seconds) => Ok(page(visit, 429, Some("too many tries"), Some(Wait(seconds)))?
            .with_header("Retry-After", seconds.to_string())),
    }
}
