//! Whole tables for replicas that are too far behind for the log.
//!
//! The primary *offers* a table; who needs it *fetches* it page by page, as fast as it can take it, and goes on where
//! it was after a broken connection. Tables are persistent maps, so what is kept for a fetch shares all that has
//! not changed with the primary's own. Writes go on all the time; what is written meanwhile comes by the log.
//!
//! ```text
//! primary: @INSTALL …                                     ->   I have the table of version V
//!                                        <-  @TABLE <tablet> <V> <others> <len> + last key
//! @DATA more <len> + items               ->
//! ```
//!
//! `last key` is that of the last cell received, empty at first; `others` is how many items that are no cells were.

use super::node::Node;
use super::tablet::{Event, Tablet, spawn};
use super::trouble::With;
use crate::error::{Error, Result};
use crate::protocol::cell::Key;
use crate::protocol::command::{Command, Peer, Request};
use crate::protocol::entry::{Decoder, Encode, Item};
use crate::protocol::reply::Reply;
use crate::replication::{Configuration, DiskSpace, Position, Table};
use crate::storage::{Received, Receiver};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Bytes of items in one page; one item goes out in any case.
const PAGE_BYTES: usize = 1 << 20;
/// How long a table that somebody fetches is kept after the last page was asked for.
const KEPT: Duration = Duration::from_secs(30);
/// Tables that are being fetched at the same time from one node.
const FETCHES_MAX: usize = 32;
/// How long one page may take.
const PAGE_TIME: Duration = Duration::from_secs(10);
/// Tries for one page, and the pause between two.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(200);
/// Pause after a table was fetched for which there is no room.
const ROOM_PAUSE: Duration = Duration::from_secs(10);
/// What is wrong while a table cannot be taken.
const NO_ROOM: &str = "the disk is too full to take the primary's table";

/// Tables that others may fetch.
#[derive(Default)]
pub struct Snapshots(Mutex<Vec<Snapshot>>);

struct Snapshot {
    tablet: Arc<str>,
    table: Table,
    used: Instant,
    fetched: bool,
}

impl Snapshots {
    /// Keeps a table that is offered. An older offer of the tablet that nobody fetches goes.
    pub fn keep(&self, tablet: &Arc<str>, table: &Table) {
        let mut kept = self.0.lock().expect("a list is not left half-changed");
        let of_tablet = |s: &Snapshot| s.tablet == *tablet;
        kept.retain(|s| s.fetched || !of_tablet(s));
        let known = kept.iter().any(|s| of_tablet(s) && s.table.version == table.version);
        if !known && kept.len() < FETCHES_MAX {
            let (tablet, table) = (tablet.clone(), table.clone());
            kept.push(Snapshot { tablet, table, used: Instant::now(), fetched: false });
        }
    }

    /// Version of the oldest table of a tablet that is being fetched: who has it needs the log from there on.
    pub fn oldest(&self, tablet: &str) -> Option<u64> {
        let kept = self.0.lock().expect("a list is not left half-changed");
        let fetched = kept.iter().filter(|s| s.fetched && *s.tablet == *tablet);
        fetched.map(|s| s.table.version).min()
    }

    /// Lets go of what nobody has asked for lately.
    pub fn purge(&self) {
        let mut kept = self.0.lock().expect("a list is not left half-changed");
        kept.retain(|snapshot| snapshot.used.elapsed() < KEPT);
    }

    fn take(&self, tablet: &str, version: u64) -> Result<Table> {
        let mut kept = self.0.lock().expect("a list is not left half-changed");
        let snapshot = kept.iter_mut().find(|s| *s.tablet == *tablet && s.table.version == version);
        let snapshot = snapshot.ok_or_else(|| {
            Error::bad(format!("the table of {tablet} at version {version} is not kept any more"))
        })?;
        (snapshot.used, snapshot.fetched) = (Instant::now(), true);
        Ok(snapshot.table.clone())
    }

    /// Answers `@TABLE`.
    pub fn page(&self, peer: &Peer) -> Result<Reply> {
        let table = self.take(peer.text(0)?, peer.number(1)?)?;
        let others: usize = peer.number(2)?;
        let after = match peer.payload.is_empty() {
            true => None,
            false => Some(Key::from_bytes(&peer.payload)?),
        };
        let (mut payload, mut items) = (Vec::new(), table.items_after(after, others));
        while payload.len() < PAGE_BYTES
            && let Some(item) = items.next()
        {
            item.map_err(Error::of_this_copy)?.encode(&mut payload);
        }
        let word = if items.next().is_some() { "more" } else { "end" };
        Ok(Reply::Peer { words: vec![word.into()], payload })
    }
}

/// A table that is being fetched: its cells are written out as they come.
struct Fetch {
    at: Position,
    table: Table,
    cells: Receiver,
    last: Vec<u8>,
    others: usize,
}

impl Fetch {
    /// Takes a page; whether it was the last one.
    fn take(&mut self, reply: Reply) -> Result<bool> {
        let Reply::Peer { words, payload } = reply else {
            return Err(Error::corrupt("a strange answer to @TABLE"));
        };
        let mut from = Decoder(&payload);
        while !from.is_empty() {
            let item = from.read::<Item>()?;
            match item {
                Item::Cell(key, cell) => {
                    self.last = key.to_bytes();
                    let kept = self.table.take_in(&key, cell);
                    self.cells.add(key, kept)?;
                }
                other => {
                    self.others += 1;
                    if !matches!(other, Item::Flawed(_)) {
                        self.table.load(other);
                    }
                }
            }
        }
        Ok(words.first().is_some_and(|word| word == b"end"))
    }

    fn request(&self, tablet: &str) -> Request {
        let words = [tablet.to_string(), self.at.version.to_string(), self.others.to_string()];
        let words = words.map(String::into_bytes).to_vec();
        let payload = self.last.clone();
        Request::new(Command::Peer(Peer { verb: "@TABLE".into(), words, payload }))
    }
}

impl Node {
    /// Fetches a table that was offered, on a thread of its own, unless one is being fetched already.
    pub fn fetch(
        self: &Arc<Node>,
        tablet: &Arc<Tablet>,
        from: &Arc<str>,
        configuration: Configuration,
        at: Position,
    ) {
        if tablet.view().table.version >= at.version {
            return;
        }
        if self.around.disk_space() != DiskSpace::Enough {
            return tablet.troubles.note(With::Table, NO_ROOM);
        }
        if !tablet.begin_fetch() {
            return;
        }
        let (node, tablet, from) = (self.clone(), tablet.clone(), from.clone());
        let files = tablet.hold_files();
        spawn(format!("{} fetch", tablet.id), move || {
            match node.fetch_table(&tablet, &from, at) {
                Ok((table, received)) => {
                    let known = tablet.view().configuration.clone();
                    let newer = known.epoch > configuration.epoch;
                    let configuration = if newer { (*known).clone() } else { configuration };
                    tablet.troubles.end(With::Table);
                    let (table, received) = (table.into(), received.into());
                    tablet.tell(Event::Fetched(from, configuration, table, received));
                }
                Err(Error::NoSpace) => {
                    tablet.troubles.note(With::Table, NO_ROOM);
                    std::thread::sleep(ROOM_PAUSE);
                }
                Err(error) => log::warn!("tablet {}: no table of {from}: {error}", tablet.id),
            }
            tablet.fetching.store(false, Ordering::Relaxed);
            drop(files);
        });
    }

    fn fetch_table(&self, tablet: &Tablet, from: &str, at: Position) -> Result<(Table, Received)> {
        log::info!("tablet {}: fetches the table of version {} of {from}", tablet.id, at.version);
        let (table, cells) = (Table::default(), tablet.cells.receive());
        let mut fetch = Fetch { at, table, cells, last: Vec::new(), others: 0 };
        while !self.fetch_page(&tablet.id, from, &mut fetch)? {
            if self.around.disk_space() != DiskSpace::Enough {
                return Err(Error::NoSpace);
            }
        }
        let (mut table, received) = (fetch.table, fetch.cells.finish()?);
        (table.epoch, table.version) = (at.epoch, at.version);
        table.rebase(received.runs.clone());
        Ok((table, received))
    }

    /// One page, tried again while the connection fails; whether it was the last one.
    fn fetch_page(&self, tablet: &str, from: &str, fetch: &mut Fetch) -> Result<bool> {
        let request = fetch.request(tablet);
        for _ in 0..TRIES {
            let address = self.directory.address(from)?;
            match self.pool.call(&address, &request, Instant::now() + PAGE_TIME) {
                Ok(Reply::Error(error)) => return Err(error),
                Ok(reply) => return fetch.take(reply),
                Err(error) => log::debug!("a page of {from}: {error}"),
            }
            std::thread::sleep(PAUSE);
        }
        Err(Error::retry(format!("{from} does not answer")))
    }
}
