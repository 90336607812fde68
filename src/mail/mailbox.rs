//! A mailbox as its owner sees it: folders, pages of entries, messages, flags, moves.

use super::address::Address;
use super::budget::{BUDGET, FileReader, Share};
use super::entry::{
    Entry, Folder, FolderCell, Held, Place, Tally, body_column, count_column, now, prefix, row,
    typed_column,
};
use super::message::{Attachment, Letter};
use super::queue::Schedule;
use crate::client::{BATCH_ITEMS_MAX, Client, Column, Op, Scan, ValueReader, Written};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::quota::{Quota, count};
use std::collections::BTreeMap;
use std::time::Duration;

/// Entries of one page.
pub const PAGE: usize = 50;
/// Messages changed at once: three ops each, three counters of two folders and the user's usage fit one BATCH.
pub const BULK_MAX: usize = (BATCH_ITEMS_MAX - 7) / 3;
/// Bytes of a message that is read whole; of a larger one a page shows the beginning only.
pub const READ_BYTES_MAX: u64 = 64 << 20;
/// Cells that are kept whole in a BATCH: the rest of its 4 MiB is for names and entries.
const INLINE_BYTES_MAX: u64 = 2 << 20;
/// Bytes of an entry, of a user's name.
const SMALL_BYTES_MAX: u64 = 64 << 10;
/// How often a change is tried again on what somebody else changed meanwhile.
const TRIES: usize = 16;

/// The mailboxes of all users. Cheap to clone; safe to share.
#[derive(Clone)]
pub struct Mailboxes {
    pub(super) client: Client,
    pub(super) cell_bytes: usize,
    domain: String,
    /// The user behind our postmaster's address; may be empty.
    postmaster: String,
    pub(super) quota: Quota,
    /// How what leaves for other hosts is tried; none where nothing leaves.
    pub(super) outside: Option<Schedule>,
}

/// Which page of a folder; newest messages come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum From {
    /// The newest messages.
    #[default]
    Newest,
    /// Those just older than a number.
    Before(u64),
    /// Those just newer than a number.
    After(u64),
}

/// A page of a folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Its messages, newest first.
    pub messages: Vec<Held>,
    /// Whether newer ones exist.
    pub newer: bool,
    /// Whether older ones exist.
    pub older: bool,
}

/// A message in memory. There is room for so many bytes of them in a process.
pub struct Whole {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether these are only its beginning.
    pub cut: bool,
    _share: Share<'static>,
}

impl Mailboxes {
    /// The mailboxes of the configured cluster.
    pub fn new(client: Client, config: &Config) -> Mailboxes {
        let cell_bytes = config.store.cell_bytes.min(INLINE_BYTES_MAX) as usize;
        let domain = config.cluster.mail_domain.to_ascii_lowercase();
        let postmaster = config.cluster.postmaster.to_ascii_lowercase();
        let (quota, outside) = (Quota::new(config), schedule(config));
        Mailboxes { client, cell_bytes, domain, postmaster, quota, outside }
    }

    /// The same mailboxes with another time limit for each request.
    pub fn with_time_limit(&self, limit: Duration) -> Mailboxes {
        Mailboxes { client: self.client.with_time_limit(limit), ..self.clone() }
    }

    /// The domain of all our users.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Whether an address is for us to deliver.
    pub fn is_local(&self, address: &Address) -> bool {
        address.domain() == self.domain
    }

    /// The user behind one of our addresses; nobody behind one of another domain, or of an account that was
    /// deleted. Postmaster is who the configuration says, if there is such a user.
    pub fn resolve(&self, address: &Address) -> Result<Option<String>> {
        if !self.is_local(address) {
            return Ok(None);
        }
        let key = match address.is_postmaster() {
            true => format!("{}@{}", self.postmaster, self.domain),
            false => address.key(),
        };
        let found = self.client.get(format!("~address/{key}"), "user", SMALL_BYTES_MAX)?;
        let found = found.filter(|found| !found.value.is_empty());
        let user = found.map(|found| String::from_utf8(found.value));
        user.transpose().map_err(|_| Error::corrupt(format!("the user of {key} is not text")))
    }

    /// Whether a user may get a message of so many bytes (0: not known); `Quota` says that there is no room for it.
    pub fn admit(&self, user: &str, bytes: u64) -> Result<()> {
        self.quota.admit(&self.client, user, bytes.max(1))
    }

    /// What each folder holds.
    pub fn folders(&self, user: &str) -> Result<BTreeMap<Folder, Tally>> {
        let (cells, _) = self.scan(user, "count/", None, 1000, false)?;
        let mut tallies: BTreeMap<_, _> =
            Folder::ALL.into_iter().map(|folder| (folder, Tally::default())).collect();
        for cell in cells {
            note_count(&mut tallies, &cell)?;
        }
        Ok(tallies)
    }

    /// An item of a BATCH that refuses it when the mailbox is gone: what arrives names the folder that it finds.
    pub(super) fn unchanged_folder(&self, user: &str, folder: Folder) -> Result<Op> {
        let (row, column) = (row(user), folder_column(folder));
        let found = self.client.get(&row, &column, SMALL_BYTES_MAX)?;
        let cell = found.ok_or_else(mailbox_is_gone)?.value;
        let (row, column) = (row.into(), column.into());
        Ok(Op::Cput { row, column, old: cell.clone(), new: cell, ttl: None })
    }

    /// A page of a folder, in one SCAN.
    pub fn list(&self, user: &str, folder: Folder, from: From) -> Result<Page> {
        let after = |number| Some(Place { folder, number }.column());
        let (cursor, reverse) = match from {
            From::Newest => (None, true),
            From::Before(number) => (after(number), true),
            From::After(number) => (after(number), false),
        };
        let (cells, more) = self.scan(user, &prefix(folder), cursor, PAGE, reverse)?;
        let mut messages =
            cells.iter().map(|cell| held(folder, cell)).collect::<Result<Vec<_>>>()?;
        if reverse {
            return Ok(Page { messages, newer: from != From::Newest, older: more });
        }
        if messages.len() < PAGE {
            return self.list(user, folder, From::Newest);
        }
        messages.reverse();
        Ok(Page { messages, newer: more, older: true })
    }

    /// An entry; none where there is none any more.
    pub fn entry(&self, user: &str, place: Place) -> Result<Option<Held>> {
        let found = self.client.get(row(user), place.column(), SMALL_BYTES_MAX)?;
        Ok(found.map(|found| Held {
            place,
            version: found.version,
            entry: Entry::from_json(&found.value),
        }))
    }

    /// The bytes of a message, as a stream.
    pub fn open(&self, user: &str, guid: &str) -> Result<Option<ValueReader>> {
        self.client.open(row(user), body_column(guid), 0, None)
    }

    /// The bytes of a message; of one over [`READ_BYTES_MAX`] the beginning.
    pub fn read(&self, user: &str, guid: &str) -> Result<Option<Whole>> {
        let column = body_column(guid);
        let Some(mut body) = self.client.open(row(user), column, 0, Some(READ_BYTES_MAX))? else {
            return Ok(None);
        };
        let share = BUDGET.take(body.len)?;
        let mut bytes = Vec::with_capacity(body.len as usize);
        std::io::Read::read_to_end(&mut body, &mut bytes)?;
        Ok(Some(Whole { bytes, cut: body.total > READ_BYTES_MAX, _share: share }))
    }

    /// A file that came with a message, by its place among them.
    pub fn file(
        &self,
        user: &str,
        guid: &str,
        index: usize,
    ) -> Result<Option<(Attachment, FileReader)>> {
        let Some(whole) = self.read(user, guid)? else { return Ok(None) };
        let letter = Letter::parse(&whole.bytes)?;
        let Some((file, bytes)) = letter.attachment(index) else { return Ok(None) };
        FileReader::new(bytes).map(|reader| Some((file, reader)))
    }

    /// Changes the flags of messages; those that are gone are left out. Gives how many there were.
    pub fn change(
        &self,
        user: &str,
        places: &[Place],
        change: impl Fn(&mut super::Flags),
    ) -> Result<usize> {
        self.update(user, places, |plan, held| {
            let mut entry = held.entry.clone();
            change(&mut entry.flags);
            if entry != held.entry {
                plan.replace(held, &entry);
            }
        })
    }

    /// Moves messages to another folder, where they get new numbers.
    pub fn move_to(&self, user: &str, places: &[Place], to: Folder) -> Result<usize> {
        self.update(user, places, |plan, held| {
            if held.place.folder != to {
                plan.leave(held);
                plan.arrive(to, &held.entry);
            }
        })
    }

    /// Deletes messages for ever.
    pub fn expunge(&self, user: &str, places: &[Place]) -> Result<usize> {
        self.update(user, places, |plan, held| {
            plan.leave(held);
            plan.remove_body(&held.entry.guid);
        })
    }

    /// Reads entries, plans, writes in one BATCH; again from the start where another was quicker.
    fn update(
        &self,
        user: &str,
        places: &[Place],
        step: impl Fn(&mut Plan, &Held),
    ) -> Result<usize> {
        if places.len() > BULK_MAX {
            return Err(Error::TooBig(format!("at most {BULK_MAX} messages are changed at once")));
        }
        for _ in 0..TRIES {
            let held = self.entries(user, places)?;
            let mut plan = Plan::new(user);
            held.iter().for_each(|held| step(&mut plan, held));
            let ops = plan.into_ops();
            if ops.is_empty() {
                return Ok(held.len());
            }
            match self.client.batch(user, ops)? {
                Written::Done { .. } => return Ok(held.len()),
                Written::Mismatch { .. } | Written::NotFound => {}
            }
        }
        Err(Error::retry("these messages are being changed by somebody else"))
    }

    fn entries(&self, user: &str, places: &[Place]) -> Result<Vec<Held>> {
        let places: std::collections::BTreeSet<Place> = places.iter().copied().collect();
        places.into_iter().filter_map(|place| self.entry(user, place).transpose()).collect()
    }

    pub(super) fn scan(
        &self,
        user: &str,
        prefix: &str,
        after: Option<String>,
        limit: usize,
        reverse: bool,
    ) -> Result<(Vec<Column>, bool)> {
        self.client.scan(Scan {
            row: row(user).into_bytes(),
            prefix: prefix.as_bytes().to_vec(),
            after: after.map(String::into_bytes),
            limit,
            reverse,
            values: true,
            local: false,
        })
    }
}

/// The schedule of those that send to other hosts, if there are any.
fn schedule(config: &Config) -> Option<Schedule> {
    let mut senders = config.smtps.iter().map(|smtp| &smtp.relay).filter(|relay| relay.sends());
    senders.next().map(|relay| Schedule { minute_ms: relay.minute_ms })
}

/// Definite: whoever sends mail asks again who has the address, and hears that nobody has.
pub(super) fn mailbox_is_gone() -> Error {
    Error::retry("this mailbox is gone")
}

fn folder_column(folder: Folder) -> String {
    format!("folder/{}", folder.id())
}

/// The cells of a new mailbox: its folders, where they are not there yet.
pub fn first_cells(user: &str) -> Vec<Op> {
    let cell = |folder: Folder| {
        let cell = FolderCell {
            name: folder.title().into(),
            special: folder.id().into(),
            uidvalidity: now(),
        };
        let json = serde_json::to_vec(&cell).expect("a folder has only strings and numbers");
        Op::put_if(row(user), folder_column(folder), json, 0)
    };
    Folder::ALL.into_iter().map(cell).collect()
}

pub(super) fn held(folder: Folder, cell: &Column) -> Result<Held> {
    Ok(Held {
        place: Place::of_column(folder, &cell.name)?,
        version: cell.version,
        entry: Entry::from_json(cell.value.as_deref().unwrap_or_default()),
    })
}

fn note_count(tallies: &mut BTreeMap<Folder, Tally>, cell: &Column) -> Result<()> {
    let damaged = || Error::corrupt("a mailbox's counter is damaged");
    let name = std::str::from_utf8(&cell.name).map_err(|_| damaged())?;
    let value = std::str::from_utf8(cell.value.as_deref().unwrap_or_default());
    let value = value.ok().and_then(|text| text.parse().ok()).ok_or_else(damaged)?;
    let mut words = name.split('/').skip(1);
    let (folder, counter) = (words.next().and_then(Folder::parse), words.next());
    let Some(tally) = folder.and_then(|folder| tallies.get_mut(&folder)) else { return Ok(()) };
    match counter {
        Some("total") => tally.total = value,
        Some("unread") => tally.unread = value,
        Some("bytes") => tally.bytes = value,
        _ => {}
    }
    Ok(())
}

/// One BATCH in the making: changes of entries, and what they do to the counters.
pub(super) struct Plan {
    user: String,
    row: String,
    ops: Vec<Op>,
    tallies: BTreeMap<Folder, Tally>,
    quota: Quota,
}

impl Plan {
    pub fn new(user: &str) -> Plan {
        Plan {
            user: user.into(),
            row: row(user),
            ops: Vec::new(),
            tallies: BTreeMap::new(),
            quota: Quota::default(),
        }
    }

    /// The same, refused where it would take the user over a quota.
    pub fn within(self, quota: Quota) -> Plan {
        Plan { quota, ..self }
    }

    /// Any other op.
    pub fn push(&mut self, op: Op) {
        self.ops.push(op);
    }

    /// An entry gets a new number in a folder.
    pub fn arrive(&mut self, folder: Folder, entry: &Entry) {
        self.ops.push(Op::append(self.row.as_str(), prefix(folder), entry.to_json()));
        self.tally(folder, Tally::of(entry, 1));
    }

    /// An entry is no longer where it was.
    pub fn leave(&mut self, held: &Held) {
        self.ops.push(Op::delete_if(self.row.as_str(), held.place.column(), held.version));
        self.tally(held.place.folder, Tally::of(&held.entry, -1));
    }

    /// An entry becomes another in the same place.
    pub fn replace(&mut self, held: &Held, entry: &Entry) {
        let column = held.place.column();
        self.ops.push(Op::put_if(self.row.as_str(), column, entry.to_json(), held.version));
        self.tally(held.place.folder, Tally::of(&held.entry, -1));
        self.tally(held.place.folder, Tally::of(entry, 1));
    }

    /// A message's bytes go.
    pub fn remove_body(&mut self, guid: &str) {
        self.ops.push(Op::delete(self.row.as_str(), body_column(guid)));
        self.ops.push(Op::delete(self.row.as_str(), typed_column(guid)));
    }

    fn tally(&mut self, folder: Folder, change: Tally) {
        self.tallies.entry(folder).or_default().add(change);
    }

    /// All ops: the changes in the order they were made, then the counters that change.
    pub fn into_ops(self) -> Vec<Op> {
        let Plan { user, row, mut ops, tallies, quota } = self;
        match tallies.values().map(|tally| tally.bytes).sum::<i64>() {
            0 => {}
            bytes @ 1.. => ops.push(quota.take(&user, bytes.unsigned_abs())),
            bytes => ops.push(count(&user, bytes)),
        }
        for (folder, tally) in tallies {
            let changed = tally.named().into_iter().filter(|(_, delta)| *delta != 0);
            ops.extend(changed.map(|(counter, delta)| {
                Op::add(row.as_str(), count_column(folder, counter), delta)
            }));
        }
        ops
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Summary;

    fn held(folder: Folder, number: u64, seen: bool) -> Held {
        let entry = Entry::new("g", 10, Summary::default());
        let entry = if seen { entry.seen() } else { entry };
        Held { place: Place { folder, number }, version: 7, entry }
    }

    fn adds(plan: Plan) -> Vec<(String, i64)> {
        let add = |op| match op {
            Op::Add { column, delta, .. } => Some((String::from_utf8(column).unwrap(), delta)),
            _ => None,
        };
        plan.into_ops().into_iter().filter_map(add).collect()
    }

    #[test]
    fn a_move_counts_in_both_folders_and_costs_nothing() {
        let held = held(Folder::Inbox, 1, false);
        let mut plan = Plan::new("bob");
        plan.leave(&held);
        plan.arrive(Folder::Trash, &held.entry);
        let both = [("inbox", -1), ("trash", 1)];
        let want = both.into_iter().flat_map(|(folder, sign)| {
            [("total", sign), ("unread", sign), ("bytes", 10 * sign)]
                .map(|(counter, delta)| (format!("count/{folder}/{counter}"), delta))
        });
        assert_eq!(adds(plan), want.collect::<Vec<_>>());
    }

    #[test]
    fn reading_changes_one_counter_and_a_star_none() {
        let held = held(Folder::Inbox, 1, false);
        let mut plan = Plan::new("bob");
        plan.replace(&held, &held.entry.clone().seen());
        assert_eq!(adds(plan), [("count/inbox/unread".to_string(), -1)]);
        let mut plan = Plan::new("bob");
        let mut starred = held.entry.clone();
        starred.flags.starred = true;
        plan.replace(&held, &starred);
        assert_eq!(adds(plan), []);
    }

    #[test]
    fn the_most_that_is_changed_at_once_fits_a_batch() {
        for step in [Plan::leave as fn(&mut Plan, &Held), |plan, held| {
            plan.leave(held);
            plan.arrive(Folder::Trash, &held.entry);
        }] {
            let mut plan = Plan::new("bob");
            for number in 0..BULK_MAX as u64 {
                step(&mut plan, &held(Folder::Inbox, number, false));
                plan.push(Op::delete("bob/mail", "another"));
            }
            assert!(plan.into_ops().len() <= BATCH_ITEMS_MAX);
        }
    }
}
