//! Deleting an account with all its data.
//!
//! ```text
//! ~deletion   <user>     since when, in seconds: what is to be finished by whoever comes by
//! ```
//!
//! Four steps, each of which may be the last one before a crash:
//!
//! 1. note the intention in `~deletion`, and after step 2 once more: it may have been taken for an old one meanwhile;
//! 2. one BATCH on the user: the password becomes [`DELETED`], which fits nothing, and all sessions and passwords for
//!    programs end. *This decides*: from here on nobody can sign in, and nobody can sign up under the name;
//! 3. the addresses are put to rest: nobody gets mail for them, and nobody can claim them, for
//!    `accounts.address_rest_s`. A stranger who takes the name then does not get its old owner's letters;
//! 4. the cells of the user's rows go page by page, at last the rows themselves, in one BATCH that finds the
//!    password still [`DELETED`]: an account that was made anew meanwhile is never touched.
//!
//! Each frontend looks at `~deletion` every few seconds and goes on with what is there; a repeat is harmless.
//!
//! Mail that comes after step 3 is refused like mail to any unknown address. What was accepted just before, and
//! every other change that was on its way, names a cell that it finds (a folder, the root of the drive, the
//! password): once the rows are gone it is refused, so no cell is left behind without an account.

use super::{Accounts, LogIn, Session, address_row, now_s};
use crate::client::{Column, Op, Scan, Written};
use crate::error::{Error, Result};
use std::time::{Duration, Instant};

/// The password of an account that is being deleted: no hash, so nothing fits it.
pub(super) const DELETED: &str = "deleted";
/// What belongs to a user beside the row of the name itself.
const PARTS: [&str; 2] = ["mail", "files"];
/// Deletions that are to be finished.
const ROW: &str = "~deletion";
/// How long whoever asks for it waits for step 4; the rest follows.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// An intention that was not decided after so many seconds never will be.
const UNDECIDED_S: u64 = 600;
/// Cells removed in one BATCH.
const PAGE_CELLS: usize = 200;
/// Deletions looked at in one round.
const ROUND: usize = 100;

impl Accounts {
    /// Deletes the account of a session, if the password fits. When it returns, the account is gone for everybody;
    /// what is left of its data follows by itself.
    pub fn delete(&self, session: &Session, password: &str) -> Result<LogIn> {
        let user = session.user.as_str();
        self.verify(user, password)?.and_then(|fitted| {
            self.note_deletion(user)?;
            if !self.replace_password(user, fitted, DELETED, &[])? {
                return Ok(LogIn::Wrong);
            }
            self.note_deletion(user)?;
            log::info!("{user}: the account is being deleted");
            if let Err(error) = self.finish_deletion(user, Instant::now() + WAIT_MAX) {
                log::info!("{user}: the deletion is still to be finished: {error}");
            }
            Ok(LogIn::Welcome(()))
        })
    }

    /// Goes on with every deletion that is not finished. One that cannot go on now holds up no other.
    pub fn finish_deletions(&self, deadline: Instant) -> Result<()> {
        let mut scan = Scan { row: ROW.into(), limit: ROUND, values: true, ..Scan::default() };
        loop {
            let (notes, more) = self.client.scan(scan.clone())?;
            for note in &notes {
                let user = String::from_utf8_lossy(&note.name);
                if let Err(error) = self.finish_or_forget(&user, note, deadline) {
                    log::info!("{user}: the deletion is still to be finished: {error}");
                }
            }
            match notes.last() {
                Some(last) if more && Instant::now() < deadline => {
                    scan.after = Some(last.name.clone())
                }
                _ => return Ok(()),
            }
        }
    }

    fn finish_or_forget(&self, user: &str, note: &Column, deadline: Instant) -> Result<()> {
        let since = note.value.as_deref().map(String::from_utf8_lossy);
        let since: u64 = since.and_then(|text| text.parse().ok()).unwrap_or(0);
        match self.password_cell(user)? {
            Some(cell) if cell.hash == DELETED => self.finish_deletion(user, deadline),
            Some(_) if now_s() < since.saturating_add(UNDECIDED_S) => Ok(()),
            _ => {
                let (row, column, if_version) = (ROW.into(), user.into(), Some(note.version));
                self.client.write(Op::Delete { row, column, if_version }).map(drop)
            }
        }
    }

    /// Steps 3 and 4.
    fn finish_deletion(&self, user: &str, deadline: Instant) -> Result<()> {
        self.rest_addresses(user)?;
        for part in PARTS {
            if !self.remove_cells(user, &format!("{user}/{part}"), deadline)? {
                return Ok(());
            }
        }
        let mut items = vec![still_deleted(user)];
        items.extend(PARTS.map(|part| Op::delete_row(format!("{user}/{part}"))));
        items.push(Op::delete_row(user));
        self.client.batch(user, items)?;
        self.forget_deletion(user)
    }

    fn note_deletion(&self, user: &str) -> Result<()> {
        self.client.write(Op::put(ROW, user, now_s().to_string())).map(drop)
    }

    fn forget_deletion(&self, user: &str) -> Result<()> {
        self.client.write(Op::delete(ROW, user)).map(drop)
    }

    /// Nobody has the user's addresses from now on, and nobody can claim them for a while.
    fn rest_addresses(&self, user: &str) -> Result<()> {
        let scan =
            Scan { row: user.into(), prefix: "address/".into(), limit: 100, ..Scan::default() };
        let kept = self.client.scan(scan)?.0;
        let mut kept =
            kept.iter().filter_map(|c| std::str::from_utf8(&c.name["address/".len()..]).ok());
        kept.try_for_each(|address| self.rest(user, address))?;
        self.rest(user, &self.address(user))
    }

    fn rest(&self, user: &str, address: &str) -> Result<()> {
        let row = address_row(address);
        let found = self.client.get(&row, "user", super::CELL_BYTES_MAX)?;
        if found.as_ref().is_some_and(|f| f.value != user.as_bytes()) {
            return Ok(());
        }
        let version = found.map_or(0, |f| f.version);
        let rest = Op::put_if(row, "user", "", version).with_ttl(self.address_rest_s);
        match self.client.write(rest)? {
            Written::Done { .. } => Ok(()),
            _ => Err(Error::retry(format!("{address} changes hands at this moment"))),
        }
    }

    /// Removes the cells of a row page by page; false when the time is over or the account is no longer deleted.
    fn remove_cells(&self, user: &str, row: &str, deadline: Instant) -> Result<bool> {
        loop {
            let scan = Scan { row: row.into(), limit: PAGE_CELLS, ..Scan::default() };
            let (columns, _) = self.client.scan(scan)?;
            if columns.is_empty() {
                return Ok(true);
            }
            let mut items = vec![still_deleted(user)];
            items.extend(columns.into_iter().map(|c| Op::delete(row, c.name)));
            let done = matches!(self.client.batch(user, items)?, Written::Done { .. });
            if !done || Instant::now() >= deadline {
                return Ok(false);
            }
        }
    }
}

/// An item of a BATCH that refuses it unless the account is being deleted.
fn still_deleted(user: &str) -> Op {
    super::cput(user, "password", DELETED, DELETED)
}
