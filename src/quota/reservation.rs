//! Room that an upload has reserved, so that uploads which go on together do not go over together.
//!
//! ```text
//! GET usage ──▶ SCAN reserve/ ──▶ is there room beside both? ──no──▶ Quota
//!    ▲                               │ yes
//!    └────────── mismatch ◀── BATCH: usage as it was, if=<its version>; PUT reserve/<id> ttl=
//! ```
//!
//! Each reservation writes `usage` over the version that was read, with the value that it has: so whatever is reserved or
//! counted in between is seen by the next try, and reservations of one user follow one another. The cell expires:
//! that of a frontend that died is gone after [`TTL_SECONDS`]. It is renewed while bytes come, and goes in the BATCH that
//! counts them, or when it is dropped.

use super::{Quota, counted, number, signed};
use crate::client::{Client, LIMIT_MAX, Op, Scan, Written};
use crate::error::{Error, Result};
use std::io::{self, Read};
use std::time::{Duration, Instant};

/// What is reserved for no longer than this after bytes came last, in seconds: more than a connection may be silent.
const TTL_SECONDS: u64 = 120;
/// After this time the cell is written again.
const RENEW_AFTER: Duration = Duration::from_secs(TTL_SECONDS / 3);
/// As much is not reserved, but judged when it is counted: a small upload costs no requests more.
pub const SMALL_BYTES: u64 = 64 << 10;
/// Reserved at once for an upload of unknown length, where there is room.
const STEP_BYTES: u64 = 8 << 20;
/// How often a reservation is tried again on what was written meanwhile.
const TRIES: usize = 16;

/// Room for bytes that are being uploaded. Dropped, it is free again.
pub struct Reservation {
    client: Client,
    user: String,
    quota: Quota,
    column: String,
    /// 0: there is no cell.
    bytes: u64,
    written: Instant,
}

impl Quota {
    /// Reserves room for an upload of at least and at most so many bytes: as much of it as there is, if it is enough.
    pub fn reserve(
        self,
        client: &Client,
        user: &str,
        least: u64,
        most: u64,
    ) -> Result<Reservation> {
        let mut reservation = Reservation {
            client: client.clone(),
            user: user.into(),
            quota: self,
            column: format!("reserve/{}", uuid::Uuid::now_v7()),
            bytes: 0,
            written: Instant::now(),
        };
        if self.limit.is_some() && most > SMALL_BYTES {
            reservation.write(least, most)?;
        }
        Ok(reservation)
    }
}

impl Reservation {
    /// A reader that reserves what is read from another before it gives it on, and ends with [`Error::Quota`] where there
    /// is no room.
    pub fn covering<'r>(&'r mut self, from: &'r mut dyn Read) -> Covered<'r> {
        Covered { reservation: self, from, bytes: 0 }
    }

    /// The items of a BATCH that count bytes which become visible in it, and keep no more reserved than what is left.
    /// When the BATCH is done, [`Reservation::spent`] says so.
    pub fn spend(&self, bytes: u64) -> Vec<Op> {
        let mut items = vec![self.quota.take(&self.user, bytes)];
        if self.bytes > 0 {
            items.push(self.cell(self.left_after(bytes)));
        }
        items
    }

    /// These bytes are counted now.
    pub fn spent(&mut self, bytes: u64) {
        self.bytes = self.left_after(bytes);
    }

    /// What is left of a form around its last file is not worth a cell.
    fn left_after(&self, bytes: u64) -> u64 {
        Some(self.bytes.saturating_sub(bytes)).filter(|left| *left > SMALL_BYTES).unwrap_or(0)
    }

    /// Sees to it that so many bytes are reserved, and stay so.
    fn cover(&mut self, bytes: u64) -> Result<()> {
        if self.quota.limit.is_none() {
            Ok(())
        } else if bytes > self.bytes.max(SMALL_BYTES) {
            self.write(bytes, bytes.saturating_add(STEP_BYTES))
        } else if self.bytes > 0 && self.written.elapsed() > RENEW_AFTER {
            self.write(bytes.min(self.bytes), self.bytes)
        } else {
            Ok(())
        }
    }

    /// Writes the cell, of at least and at most so many bytes, if there is room beside what else is counted and reserved.
    fn write(&mut self, least: u64, most: u64) -> Result<()> {
        let limit = signed(self.quota.limit.unwrap_or(u64::MAX));
        for _ in 0..TRIES {
            let (found, used) = counted(&self.client, &self.user)?;
            let taken = used.saturating_add(self.others()?);
            let left = limit.saturating_sub(taken).max(0) as u64;
            if left < least {
                return Err(Error::Quota { used: taken, limit });
            }
            let Some(counter) = found else {
                return Err(Error::Denied("this account is gone".into()));
            };
            let bytes = most.min(left);
            let items = vec![
                Op::put_if(self.user.as_str(), super::USAGE, counter.value, counter.version),
                self.cell(bytes),
            ];
            if let Written::Done { .. } = self.client.batch(&self.user, items)? {
                (self.bytes, self.written) = (bytes, Instant::now());
                return Ok(());
            }
        }
        Err(Error::retry("too many uploads began at this moment"))
    }

    /// What all others have reserved.
    fn others(&self) -> Result<i64> {
        let (cells, more) = self.client.scan(Scan {
            row: self.user.clone().into(),
            prefix: b"reserve/".to_vec(),
            limit: LIMIT_MAX,
            values: true,
            ..Scan::default()
        })?;
        if more {
            return Err(Error::retry("too many uploads go on at this moment"));
        }
        let mut others = cells.iter().filter(|cell| cell.name != self.column.as_bytes());
        others.try_fold(0, |sum: i64, cell| {
            Ok(sum.saturating_add(number(cell.value.as_deref().unwrap_or_default())?))
        })
    }

    fn cell(&self, bytes: u64) -> Op {
        let (row, column) = (self.user.as_str(), self.column.as_str());
        match bytes {
            0 => Op::delete(row, column),
            bytes => Op::put(row, column, bytes.to_string()).with_ttl(TTL_SECONDS),
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0
            && let Err(error) = self.client.write(self.cell(0))
        {
            log::debug!("{}: a reservation is left to its time to live: {error}", self.user);
        }
    }
}

/// A reader whose bytes are reserved.
pub struct Covered<'r> {
    reservation: &'r mut Reservation,
    from: &'r mut dyn Read,
    /// Bytes that it gave.
    bytes: u64,
}

impl Read for Covered<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(out)?;
        self.bytes += n as u64;
        self.reservation.cover(self.bytes)?;
        Ok(n)
    }
}
