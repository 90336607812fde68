//! Who is logged in: in memory, so that the console works while the store does not, and in the store, so that
//! a restart of the console logs nobody out.
//!
//! The cookie is 256 random bits in base64url; memory and store know only its SHA-256. A session ends after
//! [`IDLE_S`] without a request of the admin's own (a dashboard that looks again by itself does not count),
//! and after [`AGE_S`] in any case. One that was ended here is not taken from the store again, even if
//! the store could not be told.

use crate::account::now_s;
use crate::account::session::{hash, random_token};
use crate::client::{Client, Op};
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use subtle::ConstantTimeEq;

/// A session ends after so many seconds without a request.
pub(super) const IDLE_S: u64 = 15 * 60;
/// A session ends after so many seconds in any case.
pub(super) const AGE_S: u64 = 8 * 3600;
/// The store is told at most this often, in seconds, that a session was seen.
const SEEN_EVERY_S: u64 = 60;
/// Sessions kept in memory; the one seen longest ago makes room.
const SESSIONS_MAX: usize = 100;
/// Ended sessions that are remembered; the list is cut when it is longer.
const ENDED_MAX: usize = 1000;
/// Largest session cell that is read.
const CELL_BYTES_MAX: u64 = 4096;
const ROW: &str = "~console/session";

/// A session.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Session {
    /// SHA-256 of the cookie.
    #[serde(skip)]
    pub(super) id: String,
    /// When it began, in seconds since 1970.
    pub(super) created: u64,
    /// When it was last seen.
    pub(super) seen: u64,
    /// What every form of it must carry.
    pub(super) csrf: String,
}

impl Session {
    fn is_alive(&self, now: u64) -> bool {
        now < self.created.saturating_add(AGE_S) && now < self.seen.saturating_add(IDLE_S)
    }

    /// Whether a token from a form is this session's.
    pub(super) fn accepts(&self, token: &str) -> bool {
        self.csrf.as_bytes().ct_eq(token.as_bytes()).into()
    }

    fn put(&self, now: u64) -> Op {
        let left = (self.created + AGE_S).saturating_sub(now);
        let value = serde_json::to_vec(self).expect("a session is plain JSON");
        Op::put(ROW, self.id.as_str(), value).with_ttl(left.clamp(1, IDLE_S))
    }
}

/// All sessions.
pub(super) struct Sessions {
    client: Client,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    alive: BTreeMap<String, Session>,
    ended: BTreeSet<String>,
}

impl Sessions {
    pub(super) fn new(client: Client) -> Sessions {
        Sessions { client, kept: Mutex::default() }
    }

    /// Begins a session; its cookie, which exists nowhere else.
    pub(super) fn begin(&self) -> String {
        let (cookie, now) = (random_token(), now_s());
        let session = Session { id: hash(&cookie), created: now, seen: now, csrf: random_token() };
        self.tell_store(session.put(now));
        self.keep(session);
        cookie
    }

    /// The session of a cookie. `seen`: the request is the admin's own.
    pub(super) fn find(&self, cookie: &str, seen: bool) -> Option<Session> {
        let (id, now) = (hash(cookie), now_s());
        let kept = self.lock().alive.get(&id).cloned();
        let mut session = match kept {
            Some(session) => session,
            None => self.load(&id).unwrap_or_default()?,
        };
        if !session.is_alive(now) {
            return None;
        }
        let before = session.seen;
        session.seen = if seen { now } else { before };
        self.keep(session.clone());
        if session.seen >= before + SEEN_EVERY_S {
            self.tell_store(session.put(now));
        }
        Some(session)
    }

    /// Ends a session, here at once and in the store if it answers.
    pub(super) fn end(&self, session: &Session) {
        let mut kept = self.lock();
        kept.alive.remove(&session.id);
        if kept.ended.len() >= ENDED_MAX {
            kept.ended.pop_first();
        }
        kept.ended.insert(session.id.clone());
        drop(kept);
        self.tell_store(Op::delete(ROW, session.id.as_str()));
    }

    fn load(&self, id: &str) -> Result<Option<Session>> {
        if self.lock().ended.contains(id) {
            return Ok(None);
        }
        let found = self.client.get(ROW, id, CELL_BYTES_MAX)?;
        let parse = |value: Vec<u8>| serde_json::from_slice::<Session>(&value).ok();
        Ok(found.and_then(|f| parse(f.value)).map(|s| Session { id: id.into(), ..s }))
    }

    fn keep(&self, session: Session) {
        let mut kept = self.lock();
        if kept.ended.contains(&session.id) {
            return;
        }
        kept.alive.insert(session.id.clone(), session);
        if kept.alive.len() > SESSIONS_MAX {
            let oldest = kept.alive.values().min_by_key(|s| s.seen).map(|s| s.id.clone());
            oldest.and_then(|id| kept.alive.remove(&id));
        }
    }

    fn tell_store(&self, op: Op) {
        if let Err(error) = self.client.write(op) {
            log::warn!("a session is known to this process alone: {error}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no thread panics while it holds the sessions")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session { id: hash("cookie"), created: 1000, seen: 1000, csrf: random_token() }
    }

    #[test]
    fn a_session_ends_when_idle_and_when_old() {
        assert!(session().is_alive(1000 + IDLE_S - 1));
        assert!(!session().is_alive(1000 + IDLE_S));
        let busy = Session { seen: 1000 + AGE_S - 1, ..session() };
        assert!(busy.is_alive(1000 + AGE_S - 1));
        assert!(!busy.is_alive(1000 + AGE_S));
    }

    #[test]
    fn the_store_never_sees_the_cookie() {
        let Op::Put { column, value, ttl, .. } = session().put(1000) else { panic!("not a PUT") };
        assert_eq!(ttl, Some(IDLE_S));
        for cell in [column, value] {
            assert!(!String::from_utf8(cell).unwrap().contains("cookie"));
        }
    }

    #[test]
    fn a_form_must_carry_the_whole_token() {
        let session = session();
        assert!(session.accepts(&session.csrf));
        assert!(!session.accepts(&session.csrf[..20]) && !session.accepts(""));
    }
}
