//! Pages of a folder.

use super::{Moment, Side, folder_url};
use crate::error::Result;
use crate::frontend::{Shell, Visit, problem};
use crate::http::{Request, Response};
use crate::mail::mailbox::{From, PAGE, Page};
use crate::mail::{Entry, Folder, Held};
use askama::Template;

#[derive(Template)]
#[template(path = "mail/list.html")]
struct ListPage {
    shell: Shell,
    side: Side,
    folder: Folder,
    rows: Vec<Row>,
    /// "1–50 of 812".
    range: String,
    newer: Option<String>,
    older: Option<String>,
    /// This page: where its buttons lead back to.
    here: String,
    /// Folders to which messages can be moved.
    targets: Vec<Folder>,
    address: String,
}

/// A message of the list.
struct Row {
    place: String,
    href: String,
    who: String,
    subject: String,
    snippet: String,
    date: Moment,
    entry: Entry,
}

impl ListPage {
    fn is(&self, folder: &str) -> bool {
        self.folder.id() == folder
    }
}

/// Shows a page of a folder.
pub(super) fn show(visit: &Visit, request: &mut Request) -> Result<Response> {
    let folder = match request.param("folder") {
        "" => Some(Folder::Inbox),
        id => Folder::parse(id),
    };
    let Some(folder) = folder else {
        return Ok(problem::not_found(&visit.mail_shell("Not here"), request));
    };
    let number = |name: &str| request.query(name).and_then(|text| text.parse::<u64>().ok());
    let (before, after) = (number("before"), number("after"));
    let from = before.map(From::Before).or(after.map(From::After)).unwrap_or_default();
    let page = visit.mailboxes().list(visit.user(), folder, from)?;
    let first = if page.newer { number("at").unwrap_or(1).max(1) } else { 1 };
    visit.page(200, &list_page(visit, folder, page, first))
}

fn list_page(visit: &Visit, folder: Folder, page: Page, first: u64) -> ListPage {
    let side = Side::load(visit, Some(folder));
    let (total, unread) = (side.tally(folder).total.max(0) as u64, side.tally(folder).unread);
    let last = first + (page.messages.len() as u64).saturating_sub(1);
    let title = match (folder, unread) {
        (Folder::Inbox, 1..) => format!("({unread}) Inbox"),
        _ => folder.title().to_string(),
    };
    let base = folder_url(folder);
    let link = |name: &str, held: Option<&Held>, at: u64| {
        held.map(|held| format!("{base}?{name}={}&at={at}", held.place.number))
    };
    let newest = page.messages.first();
    let newer = link("after", newest, first.saturating_sub(PAGE as u64).max(1));
    let older = link("before", page.messages.last(), last + 1);
    let here = newest.filter(|_| page.newer).map(|held| page_url(&base, held, first));
    ListPage {
        shell: visit.mail_shell(&title),
        side,
        folder,
        range: range(first, last, total, page.messages.len()),
        newer: newer.filter(|_| page.newer),
        older: older.filter(|_| page.older),
        here: here.unwrap_or(base),
        targets: Folder::ALL.into_iter().filter(|to| is_target(folder, *to)).collect(),
        address: visit.address(),
        rows: page.messages.into_iter().map(|held| row(folder, held)).collect(),
    }
}

/// The address of a page that is not the first one, by its newest message.
fn page_url(base: &str, newest: &Held, first: u64) -> String {
    format!("{base}?before={}&at={first}", newest.place.number + 1)
}

fn range(first: u64, last: u64, total: u64, shown: usize) -> String {
    match shown {
        0 => String::new(),
        _ if total <= PAGE as u64 && first == 1 => String::new(),
        _ => format!("{first}–{last} of {}", total.max(last)),
    }
}

/// Nothing is moved to where it is, nor to where only we put messages; the trash has its own button.
fn is_target(from: Folder, to: Folder) -> bool {
    to != from && !matches!(to, Folder::Drafts | Folder::Sent | Folder::Trash)
}

fn row(folder: Folder, held: Held) -> Row {
    let place = held.place.to_string();
    let summary = &held.entry.summary;
    let or =
        |text: &str, other: &str| if text.is_empty() { other.into() } else { text.to_string() };
    let (who, href) = match folder {
        Folder::Drafts => (or(&summary.to, "No recipient"), format!("/mail/compose?draft={place}")),
        Folder::Sent => (or(&summary.to, "Hidden recipients"), format!("/mail/m/{place}")),
        _ => (or(&summary.from, "Nobody"), format!("/mail/m/{place}")),
    };
    Row {
        who,
        href,
        subject: or(&summary.subject, "(no subject)"),
        snippet: summary.snippet.clone(),
        date: Moment::of(held.entry.received as i64),
        place,
        entry: held.entry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_shown_where_there_is_more_than_a_page() {
        assert_eq!(range(1, 20, 20, 20), "");
        assert_eq!(range(1, 50, 812, 50), "1–50 of 812");
        assert_eq!(range(801, 812, 812, 12), "801–812 of 812");
        assert_eq!(range(51, 60, 40, 10), "51–60 of 60", "a counter that lags");
        assert_eq!(range(1, 0, 0, 0), "");
    }
}
