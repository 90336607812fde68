//! What lies in a mailbox's row: folders, entries, flags, and the names of their columns.

use super::message::Summary;
use crate::error::{Error, Result};
use mail_parser::DateTime;
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

/// A folder that every mailbox has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Folder {
    /// Where mail arrives.
    Inbox,
    /// Copies of what was sent.
    Sent,
    /// Messages that are being written.
    Drafts,
    /// Kept out of sight.
    Archive,
    /// Unwanted mail.
    Spam,
    /// What was deleted; deleting it here is for ever.
    Trash,
}

impl Folder {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Folder; 6] =
        [Folder::Inbox, Folder::Sent, Folder::Drafts, Folder::Archive, Folder::Spam, Folder::Trash];

    /// The name in columns and paths.
    pub fn id(self) -> &'static str {
        match self {
            Folder::Inbox => "inbox",
            Folder::Sent => "sent",
            Folder::Drafts => "drafts",
            Folder::Archive => "archive",
            Folder::Spam => "spam",
            Folder::Trash => "trash",
        }
    }

    /// The name for people.
    pub fn title(self) -> &'static str {
        match self {
            Folder::Inbox => "Inbox",
            Folder::Sent => "Sent",
            Folder::Drafts => "Drafts",
            Folder::Archive => "Archive",
            Folder::Spam => "Spam",
            Folder::Trash => "Trash",
        }
    }

    /// The folder of an id.
    pub fn parse(id: &str) -> Option<Folder> {
        Folder::ALL.into_iter().find(|folder| folder.id() == id)
    }
}

/// The cell `folder/<id>`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FolderCell {
    /// Name for people.
    pub name: String,
    /// What it is for: its id among [`Folder::ALL`].
    pub special: String,
    /// Says whether numbers still mean the same messages (RFC 9051, 2.3.1.1).
    pub uidvalidity: u64,
}

/// Where a message is: its number in its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The folder.
    pub folder: Folder,
    /// Given by APPEND: only grows, never used again.
    pub number: u64,
}

impl Place {
    /// Reads `<folder>/<number>`.
    pub fn parse(text: &str) -> Option<Place> {
        let (folder, number) = text.split_once('/')?;
        let digits = number.len() <= 12 && number.bytes().all(|b| b.is_ascii_digit());
        Some(Place {
            folder: Folder::parse(folder)?,
            number: number.parse().ok().filter(|_| digits)?,
        })
    }

    pub(super) fn column(self) -> String {
        format!("{}{:012}", prefix(self.folder), self.number)
    }

    pub(super) fn of_column(folder: Folder, column: &[u8]) -> Result<Place> {
        let digits = column.strip_prefix(prefix(folder).as_bytes());
        digits
            .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
            .map(|number| Place { folder, number })
            .ok_or_else(|| Error::corrupt("an entry's column is not a number"))
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.folder.id(), self.number)
    }
}

/// Marks of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Flags {
    /// It was opened.
    #[serde(skip_serializing_if = "is_false")]
    pub seen: bool,
    /// It has a star.
    #[serde(skip_serializing_if = "is_false")]
    pub starred: bool,
    /// It was answered.
    #[serde(skip_serializing_if = "is_false")]
    pub answered: bool,
    /// It was forwarded.
    #[serde(skip_serializing_if = "is_false")]
    pub forwarded: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// What a list shows of a message: the small cell `m/<folder>/<number>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Names the cell `body/<guid>`.
    pub guid: String,
    /// Bytes of the message.
    pub size: u64,
    /// When it came here, in seconds since 1970.
    pub received: u64,
    /// What a list shows of it.
    #[serde(flatten)]
    pub summary: Summary,
    /// Its marks.
    #[serde(default)]
    pub flags: Flags,
}

impl Entry {
    /// The entry of a message that arrives now.
    pub fn new(guid: &str, size: u64, summary: Summary) -> Entry {
        Entry { guid: guid.into(), size, received: now(), summary, flags: Flags::default() }
    }

    /// The same entry, seen.
    pub fn seen(mut self) -> Entry {
        self.flags.seen = true;
        self
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an entry has only strings, numbers and flags")
    }

    /// An entry that cannot be read is shown as such: it must not hide the others.
    pub(super) fn from_json(json: &[u8]) -> Entry {
        serde_json::from_slice(json).unwrap_or_else(|error| {
            log::error!("an entry of a mailbox is damaged: {error}");
            let subject = "(the entry of this message is damaged)".to_string();
            Entry { summary: Summary { subject, ..Summary::default() }, ..Entry::default() }
        })
    }
}

/// An entry as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Where it is.
    pub place: Place,
    /// Version of its cell.
    pub version: u64,
    /// The entry.
    pub entry: Entry,
}

/// What a folder holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages.
    pub total: i64,
    /// Of these, not opened yet.
    pub unread: i64,
    /// Bytes of all messages.
    pub bytes: i64,
}

impl Tally {
    /// The tally of one message, `sign` times.
    pub(super) fn of(entry: &Entry, sign: i64) -> Tally {
        let unread = if entry.flags.seen { 0 } else { sign };
        Tally { total: sign, unread, bytes: sign * entry.size as i64 }
    }

    pub(super) fn add(&mut self, other: Tally) {
        self.total += other.total;
        self.unread += other.unread;
        self.bytes += other.bytes;
    }

    /// Each counter by its name.
    pub(super) fn named(self) -> [(&'static str, i64); 3] {
        [("total", self.total), ("unread", self.unread), ("bytes", self.bytes)]
    }
}

/// A date for people: `3 Nov 2025 at 14:02 UTC`.
pub fn date_line(seconds: i64) -> String {
    let date = DateTime::from_timestamp(seconds);
    let month = MONTHS[usize::from(date.month.clamp(1, 12)) - 1];
    format!("{} {month} {} at {:02}:{:02} UTC", date.day, date.year, date.hour, date.minute)
}

/// A date for a list: the time today, `Yesterday`, the day this year, else with its year.
pub fn short_date(seconds: i64, now: i64) -> String {
    let (date, today) = (DateTime::from_timestamp(seconds), DateTime::from_timestamp(now));
    let month = MONTHS[usize::from(date.month.clamp(1, 12)) - 1];
    match now.div_euclid(DAY) - seconds.div_euclid(DAY) {
        0 => format!("{:02}:{:02}", date.hour, date.minute),
        1 => "Yesterday".into(),
        _ if date.year == today.year => format!("{} {month}", date.day),
        _ => format!("{} {month} {}", date.day, date.year),
    }
}

const DAY: i64 = 24 * 60 * 60;
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

pub(super) fn row(user: &str) -> String {
    format!("{user}/mail")
}

pub(super) fn prefix(folder: Folder) -> String {
    format!("m/{}/", folder.id())
}

pub(super) fn body_column(guid: &str) -> String {
    format!("body/{guid}")
}

pub(super) fn typed_column(guid: &str) -> String {
    format!("typed/{guid}")
}

pub(super) fn count_column(folder: Folder, counter: &str) -> String {
    format!("count/{}/{counter}", folder.id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_short() {
        let now = 1_762_174_920;
        assert_eq!(date_line(now), "3 Nov 2025 at 13:02 UTC");
        assert_eq!(short_date(now - 3600, now), "12:02");
        assert_eq!(short_date(now - 14 * 3600, now), "Yesterday");
        assert_eq!(short_date(now - 3 * DAY, now), "31 Oct");
        assert_eq!(short_date(now - 400 * DAY, now), "29 Sep 2024");
        assert_eq!(short_date(now + 2 * DAY, now), "5 Nov");
        assert_eq!(short_date(0, now), "1 Jan 1970");
    }

    #[test]
    fn places_are_read_strictly() {
        let place = Place { folder: Folder::Inbox, number: 7 };
        assert_eq!(Place::parse("inbox/7"), Some(place));
        assert_eq!(place.column(), "m/inbox/000000000007");
        assert_eq!(Place::of_column(Folder::Inbox, b"m/inbox/000000000007"), Ok(place));
        for bad in ["", "inbox", "inbox/", "inbox/+7", "inbox/-1", "x/7", "inbox/1234567890123"] {
            assert_eq!(Place::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_entry_is_small_and_survives_json() {
        let summary =
            Summary { subject: "s \"x\"".into(), attachments: true, ..Summary::default() };
        let mut entry = Entry::new("guid", 12, summary).seen();
        entry.flags.answered = true;
        let json = entry.to_json();
        assert_eq!(Entry::from_json(&json), entry);
        assert!(json.len() < 200, "{}", String::from_utf8_lossy(&json));
        assert!(Entry::from_json(b"{").summary.subject.contains("damaged"));
    }
}
