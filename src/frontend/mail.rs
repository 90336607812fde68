//! Pages of webmail.

use super::{Section, Shell, Visit};
use crate::error::Result;
use crate::http::{Request, Response, Router};
use askama::Template;

/// The routes of webmail.
pub(super) fn routes(router: Router<Visit>) -> Router<Visit> {
    router.get("/mail", inbox)
}

#[derive(Template)]
#[template(path = "mail.html")]
struct InboxPage {
    shell: Shell,
    address: String,
}

fn inbox(visit: &Visit, _request: &mut Request) -> Result<Response> {
    let shell = visit.shell("Inbox", Section::Mail);
    visit.page(200, &InboxPage { shell, address: visit.address() })
}
