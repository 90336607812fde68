//! Webmail: lists, messages, composing. What the pages do is in `mail`; here is only how it is shown.
//!
//! | path | |
//! |---|---|
//! | `/mail`, `/mail/f/<folder>` | a page of a folder; `?before=<number>` and `?after=<number>` are other pages |
//! | `/mail/m/<folder>/<number>` | a message; below it `original`, `eml` and `file/<n>` are downloads, `html` is what its frame shows, `inline/<n>` a picture in there |
//! | `/mail/compose` | empty, or `?draft=`, `?reply=`, `?reply_all=`, `?forward=` with a place |
//! | `/mail/act` | POST: what the buttons of lists and messages do |
//!
//! Everything is a link or a form; `mail.js` only makes it smoother.
//!
//! A compose page is one multipart form whose files come last: they are streamed into the draft. Every
//! submit saves the draft first, so that whatever fails, the page can be shown again with all its input,
//! and files that were sent once are kept by reference (`source` and `keep`).

mod act;
mod compose;
mod fields;
mod kept;
mod letter;
mod list;
mod message;
mod text;

pub(super) use kept::Kept;

use super::{Section, Shell, Visit};
use crate::http::Router;
use crate::mail::{Folder, Mailboxes, Tally};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a page waits for what it can do without.
const BRIEFLY: Duration = Duration::from_secs(3);

/// The routes of webmail.
pub(super) fn routes(router: Router<Visit>) -> Router<Visit> {
    router
        .get("/mail", list::show)
        .get("/mail/f/:folder", list::show)
        .get("/mail/m/:folder/:number", message::show)
        .get("/mail/m/:folder/:number/original", message::original)
        .get("/mail/m/:folder/:number/eml", message::eml)
        .get("/mail/m/:folder/:number/file/:index", message::file)
        .get("/mail/m/:folder/:number/html", letter::show)
        .get("/mail/m/:folder/:number/inline/:index", letter::inline)
        .post("/mail/act", act::act)
        .get("/mail/compose", compose::show)
        .post("/mail/compose", compose::submit)
}

impl Visit {
    /// The mailboxes.
    fn mailboxes(&self) -> Mailboxes {
        Mailboxes::new(self.app.client.clone(), &self.app.config)
    }

    /// The mailboxes, for what a page can do without.
    fn mailboxes_briefly(&self) -> Mailboxes {
        self.mailboxes().with_time_limit(BRIEFLY)
    }

    /// What surrounds a page of webmail.
    fn mail_shell(&self, title: &str) -> Shell {
        self.shell(title, Section::Mail)
    }
}

/// The folders at the side of every page.
struct Side {
    folders: Vec<SideFolder>,
    tallies: BTreeMap<Folder, Tally>,
}

/// A folder at the side.
struct SideFolder {
    href: String,
    icon: &'static str,
    title: &'static str,
    /// What is to be done there; 0 is not shown.
    count: i64,
    /// What is counted.
    counted: &'static str,
    current: bool,
}

impl Side {
    /// The folders of a visit. Counters that cannot be read are left out: the page is still of use.
    fn load(visit: &Visit, current: Option<Folder>) -> Side {
        let tallies = visit.mailboxes_briefly().folders(visit.user()).unwrap_or_else(|error| {
            log::warn!("the counters of {}: {error}", visit.user());
            BTreeMap::new()
        });
        let folders = Folder::ALL.into_iter().map(|folder| {
            let tally = tallies.get(&folder).copied().unwrap_or_default();
            side_folder(folder, tally, current == Some(folder))
        });
        Side { folders: folders.collect(), tallies }
    }

    fn tally(&self, folder: Folder) -> Tally {
        self.tallies.get(&folder).copied().unwrap_or_default()
    }
}

fn side_folder(folder: Folder, tally: Tally, current: bool) -> SideFolder {
    let (icon, count, counted) = match folder {
        Folder::Inbox => ("inbox", tally.unread, "unread"),
        Folder::Sent => ("send", 0, ""),
        Folder::Drafts => ("draft", tally.total, "drafts"),
        Folder::Archive => ("archive", 0, ""),
        Folder::Spam => ("spam", tally.unread, "unread"),
        Folder::Trash => ("trash", 0, ""),
    };
    SideFolder { href: folder_url(folder), icon, title: folder.title(), count, counted, current }
}

/// The first page of a folder.
fn folder_url(folder: Folder) -> String {
    match folder {
        Folder::Inbox => "/mail".into(),
        other => format!("/mail/f/{}", other.id()),
    }
}

/// A moment for a page: what is shown, what a script makes local, and the whole of it.
struct Moment {
    short: String,
    iso: String,
    full: String,
}

impl Moment {
    fn of(seconds: i64) -> Moment {
        let ms = u64::try_from(seconds).unwrap_or(0).saturating_mul(1000);
        let now = std::time::SystemTime::now();
        let now = now.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        Moment {
            short: crate::mail::entry::short_date(seconds, now),
            iso: super::text::iso(ms),
            full: format!("{} UTC", super::text::moment(ms)),
        }
    }
}
