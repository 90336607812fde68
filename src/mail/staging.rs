//! A message on its way into one or several mailboxes: written once, staged in each, in constant memory.

use super::Mailboxes;
use super::entry::{body_column, row};
use super::message::HEAD_BYTES_MAX;
use crate::client::{Op, ValueId};
use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The bytes of a message for one mailbox.
#[derive(Clone, Debug)]
pub enum Body {
    /// All of them; for messages that fit into a cell.
    Bytes(Arc<[u8]>),
    /// Staged in the row of the mailbox.
    Staged {
        /// Its id.
        id: ValueId,
        /// Its length in bytes.
        length: u64,
    },
}

impl Body {
    /// Bytes of the message.
    pub fn len(&self) -> u64 {
        match self {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Staged { length, .. } => *length,
        }
    }

    /// Whether there is not a single byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The write that makes it the body of a guid.
    pub(super) fn op(&self, row: &str, guid: &str) -> Op {
        match self {
            Body::Bytes(bytes) => Op::put(row, body_column(guid), bytes.to_vec()),
            Body::Staged { id, length } => Op::commit(row, body_column(guid), *id, *length, None),
        }
    }
}

/// A message as it was staged in the mailbox of one user.
pub(super) struct Staged {
    pub user: String,
    pub body: Result<Body>,
}

/// What was found out about a message while it was written.
pub(super) struct Written {
    /// Its beginning, of [`HEAD_BYTES_MAX`] at most.
    pub head: Vec<u8>,
    /// SHA-256 of what was written with [`Staging::add`].
    pub hash: [u8; 32],
    /// A place for each user. What one of them refuses is no failure of the others.
    pub staged: Vec<Staged>,
}

/// Takes a message piece by piece. Dropped before [`Staging::finish`] it leaves nothing behind.
pub(super) struct Staging {
    mailboxes: Mailboxes,
    lanes: Vec<Lane>,
    buffer: Vec<u8>,
    flushed: u64,
    head: Vec<u8>,
    hash: Sha256,
    bytes_max: u64,
}

/// One row that the message goes to.
struct Lane {
    user: String,
    row: String,
    staged: Option<ValueId>,
    failed: Option<Error>,
}

impl Staging {
    /// For the mailboxes of these users.
    pub fn new(mailboxes: &Mailboxes, users: Vec<String>, bytes_max: u64) -> Staging {
        let lane = |user: String| Lane { row: row(&user), user, staged: None, failed: None };
        Staging::for_lanes(mailboxes, users.into_iter().map(lane).collect(), bytes_max)
    }

    /// For one row that is no mailbox.
    pub fn for_row(mailboxes: &Mailboxes, row: String, bytes_max: u64) -> Staging {
        let lane = Lane { user: String::new(), row, staged: None, failed: None };
        Staging::for_lanes(mailboxes, vec![lane], bytes_max)
    }

    fn for_lanes(mailboxes: &Mailboxes, lanes: Vec<Lane>, bytes_max: u64) -> Staging {
        Staging {
            mailboxes: mailboxes.clone(),
            lanes,
            buffer: Vec::new(),
            flushed: 0,
            head: Vec::new(),
            hash: Sha256::new(),
            bytes_max,
        }
    }

    /// Adds bytes of the message. More than the limit is `TooBig`, then and for all that follows.
    pub fn add(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.add_unhashed(bytes)
    }

    /// Adds bytes that do not make it another message: trace lines.
    pub fn add_unhashed(&mut self, bytes: &[u8]) -> Result<()> {
        if self.len() + bytes.len() as u64 > self.bytes_max {
            let bytes_max = std::mem::take(&mut self.bytes_max);
            return Err(Error::TooBig(format!("a message has at most {bytes_max} bytes")));
        }
        let room = HEAD_BYTES_MAX - self.head.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let mut rest = bytes;
        while self.buffer.len() + rest.len() > self.mailboxes.cell_bytes {
            let (now, later) = rest.split_at(self.mailboxes.cell_bytes - self.buffer.len());
            self.buffer.extend_from_slice(now);
            self.flush()?;
            rest = later;
        }
        self.buffer.extend_from_slice(rest);
        Ok(())
    }

    /// The mailboxes that it was made with.
    pub fn mailboxes(&self) -> &Mailboxes {
        &self.mailboxes
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    /// Ends the message.
    pub fn finish(mut self) -> Result<Written> {
        let bodies = if self.flushed == 0 { self.inline() } else { self.staged()? };
        Ok(Written {
            head: std::mem::take(&mut self.head),
            hash: std::mem::take(&mut self.hash).finalize().into(),
            staged: bodies,
        })
    }

    fn inline(&mut self) -> Vec<Staged> {
        let bytes: Arc<[u8]> = std::mem::take(&mut self.buffer).into();
        let body = |lane: Lane| Staged { user: lane.user, body: Ok(Body::Bytes(bytes.clone())) };
        self.lanes.drain(..).map(body).collect()
    }

    fn staged(&mut self) -> Result<Vec<Staged>> {
        self.flush()?;
        let length = self.flushed;
        let body = |lane: Lane| {
            let id = lane.staged.ok_or_else(|| Error::corrupt("a message without an id"));
            let id = lane.failed.map_or(id, Err);
            Staged { user: lane.user, body: id.map(|id| Body::Staged { id, length }) }
        };
        Ok(self.lanes.drain(..).map(body).collect())
    }

    /// Sends the buffer to every mailbox. Fails when none takes it any more.
    fn flush(&mut self) -> Result<()> {
        let bytes = std::mem::take(&mut self.buffer);
        for lane in self.lanes.iter_mut().filter(|lane| lane.failed.is_none()) {
            if let Err(error) = lane.send(&self.mailboxes, self.flushed, bytes.clone()) {
                lane.failed = Some(error);
            }
        }
        self.flushed += bytes.len() as u64;
        if self.lanes.iter().any(|lane| lane.failed.is_none()) {
            return Ok(());
        }
        let why = self.lanes.iter().find_map(|lane| lane.failed.clone());
        Err(why.unwrap_or_else(|| Error::bad("a message without a mailbox")))
    }
}

impl Lane {
    fn send(&mut self, mailboxes: &Mailboxes, offset: u64, bytes: Vec<u8>) -> Result<()> {
        let id = match self.staged {
            Some(id) => id,
            None => *self.staged.insert(mailboxes.client.stage(&self.row)?),
        };
        if bytes.is_empty() {
            return Ok(());
        }
        mailboxes.client.chunk(&self.row, id, offset, bytes)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        for lane in &self.lanes {
            if let Some(id) = lane.staged {
                self.mailboxes.abandon_id(&lane.row, id);
            }
        }
    }
}

impl Mailboxes {
    /// Gives up a body that is not needed.
    pub(super) fn abandon(&self, user: &str, body: &Body) {
        self.abandon_in(&row(user), body);
    }

    /// Gives up a body that is staged in a row and not needed.
    pub(super) fn abandon_in(&self, row: &str, body: &Body) {
        if let Body::Staged { id, .. } = body {
            self.abandon_id(row, *id);
        }
    }

    /// What fails here is removed when its deadline is over.
    fn abandon_id(&self, row: &str, id: ValueId) {
        if let Err(error) = self.client.abandon(row, id) {
            log::debug!("a staged message in {row} waits for its deadline: {error}");
        }
    }
}
