//! Names of requests: a bounded pool of client sessions, each with one request at a time.

use crate::protocol::command::RequestId;
use crossbeam::channel::{Receiver, Sender, bounded};
use std::time::Instant;

/// Client sessions of one process, and so the writes that it has in flight at once.
const SESSIONS_MAX: usize = 256;

/// A pool of sessions.
pub struct Sessions {
    give_back: Sender<Session>,
    take: Receiver<Session>,
}

struct Session {
    /// Made when it is first used: ids that are made later are larger, which lets a tablet tell a session
    /// that it has forgotten from one that it has never seen.
    client: Option<u128>,
    next: u64,
}

/// A request's name, as long as it is being tried. Its session is free again when this is dropped.
pub struct Ticket<'a> {
    sessions: &'a Sessions,
    session: Option<Session>,
    /// The name.
    pub id: RequestId,
}

impl Sessions {
    /// A full pool.
    pub fn new() -> Sessions {
        let (give_back, take) = bounded(SESSIONS_MAX);
        for _ in 0..SESSIONS_MAX {
            give_back.send(Session { client: None, next: 0 }).expect("the pool has room for all");
        }
        Sessions { give_back, take }
    }

    /// Takes a session for one request; none if all are in use until the deadline.
    pub fn ticket(&self, deadline: Instant) -> Option<Ticket<'_>> {
        let mut session = self.take.recv_deadline(deadline).ok()?;
        session.next += 1;
        let client = *session.client.get_or_insert_with(|| uuid::Uuid::now_v7().as_u128());
        let id = RequestId { client, request: session.next, low: session.next };
        Some(Ticket { sessions: self, session: Some(session), id })
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let _ = self.sessions.give_back.try_send(session);
        }
    }
}
