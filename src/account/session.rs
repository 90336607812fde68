//! Sessions: who is logged in, kept in the store so that every frontend serves every user.
//!
//! The cookie is `<user>.<token>`, the token 256 random bits in base64url. The store keeps only the token's
//! SHA-256, in the column `session/<hash>` of the user's row, so that nobody who can read the store can take
//! a session over. A session ends after [`IDLE_S`] without a request and after [`AGE_S`] in any case; the
//! cell's time to live does both. It is marked as seen by CPUT: a session that was ended meanwhile stays so.

use super::{json, name, now_s};
use crate::client::{Client, LIMIT_MAX, Op, Scan};
use crate::error::{Error, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::net::IpAddr;

/// A session ends after so many seconds without a request: 7 days.
pub const IDLE_S: u64 = 7 * 24 * 3600;
/// A session ends after so many seconds in any case: 30 days.
pub const AGE_S: u64 = 30 * 24 * 3600;
/// A session is marked as seen at most this often, in seconds.
const SEEN_EVERY_S: u64 = 300;
/// Sessions of one user; the one seen longest ago makes room for a new one.
const SESSIONS_MAX: usize = 100;
/// Longest browser name that is kept, in characters.
const AGENT_CHARS_MAX: usize = 200;
/// Largest session cell that is read.
const CELL_BYTES_MAX: u64 = 4096;
/// Longest cookie that is looked at.
const COOKIE_BYTES_MAX: usize = 128;
/// What the columns of sessions begin with.
const PREFIX: &str = "session/";

/// A session, as the store keeps it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Session {
    /// Whose it is. In the store the row says so.
    #[serde(skip)]
    pub user: String,
    /// Hash of its token: its name.
    #[serde(skip)]
    pub id: String,
    /// When it began, in seconds since 1970.
    pub created: u64,
    /// When it was last marked as seen.
    pub last_seen: u64,
    /// When it ends in any case.
    pub expires: u64,
    /// What every form of this session must carry.
    pub csrf: String,
    /// What the browser calls itself.
    pub agent: String,
    /// From which address it was last marked as seen.
    #[serde(default)]
    pub address: String,
}

/// Where somebody signs in from.
#[derive(Clone, Debug)]
pub struct Device {
    /// What the browser calls itself.
    pub agent: String,
    /// Its address.
    pub address: String,
}

impl Session {
    /// The change that ends it.
    pub fn delete(&self) -> Op {
        Op::delete(self.user.as_str(), column(&self.id))
    }

    /// Whether a token from a form is this session's, compared in constant time.
    pub fn accepts(&self, token: &str) -> bool {
        use subtle::ConstantTimeEq;
        self.csrf.as_bytes().ct_eq(token.as_bytes()).into()
    }

    /// Where it is used.
    pub fn device(&self) -> Device {
        Device { agent: self.agent.clone(), address: self.address.clone() }
    }

    fn is_alive(&self, now: u64) -> bool {
        now < self.expires && now < self.last_seen.saturating_add(IDLE_S)
    }

    /// Seconds that its cell has to live when it is written now.
    fn ttl(&self, now: u64) -> u64 {
        self.expires.saturating_sub(now).clamp(1, IDLE_S)
    }

    fn parse(user: &str, id: &str, value: &[u8]) -> Result<Session> {
        let session: Session = serde_json::from_slice(value).map_err(Error::corrupt)?;
        Ok(Session { user: user.into(), id: id.into(), ..session })
    }
}

/// A session that begins, with its cookie, which exists nowhere else.
#[derive(Clone, Debug)]
pub struct New {
    /// The session.
    pub session: Session,
    /// `<user>.<token>`.
    pub cookie: String,
}

impl New {
    pub(super) fn make(user: &str, device: &Device) -> New {
        let (token, now) = (random_token(), now_s());
        let session = Session {
            user: user.into(),
            id: hash(&token),
            created: now,
            last_seen: now,
            expires: now + AGE_S,
            csrf: random_token(),
            agent: device.agent.chars().filter(|c| !c.is_control()).take(AGENT_CHARS_MAX).collect(),
            address: device.address.clone(),
        };
        New { cookie: format!("{user}.{token}"), session }
    }

    pub(super) fn put(&self) -> Op {
        let session = &self.session;
        Op::put(session.user.as_str(), column(&session.id), json(session))
            .with_ttl(session.ttl(session.created))
    }
}

/// The session of a cookie, if it is alive; marks it as seen now and then.
pub(super) fn find(client: &Client, cookie: &str, from: IpAddr) -> Result<Option<Session>> {
    let Some((user, token)) = split_cookie(cookie) else { return Ok(None) };
    let id = hash(token);
    let Some(found) = client.get(user, column(&id), CELL_BYTES_MAX)? else { return Ok(None) };
    let session = Session::parse(user, &id, &found.value)?;
    let now = now_s();
    if !session.is_alive(now) {
        return Ok(None);
    }
    if now >= session.last_seen + SEEN_EVERY_S {
        let address = from.to_canonical().to_string();
        let seen = Session { last_seen: now, address, ..session.clone() };
        mark_seen(client, &seen, found.value);
    }
    Ok(Some(session))
}

fn split_cookie(cookie: &str) -> Option<(&str, &str)> {
    let (user, token) = cookie.rsplit_once('.')?;
    let fits = cookie.len() <= COOKIE_BYTES_MAX && !token.is_empty() && name::check(user).is_ok();
    fits.then_some((user, token))
}

/// A lost race or a failure only means that it is marked by a later request.
fn mark_seen(client: &Client, seen: &Session, old: Vec<u8>) {
    let write = client.write(Op::Cput {
        row: seen.user.clone().into(),
        column: column(&seen.id).into(),
        old,
        new: json(seen),
        ttl: Some(seen.ttl(seen.last_seen)),
    });
    if let Err(error) = write {
        log::debug!("{}: a session was not marked as seen: {error}", seen.user);
    }
}

/// All live sessions of a user, the one seen last first.
pub(super) fn all(client: &Client, user: &str) -> Result<Vec<Session>> {
    let (columns, _) = client.scan(Scan { values: true, ..scan(user) })?;
    let now = now_s();
    let mut sessions = Vec::new();
    for column in &columns {
        let id = String::from_utf8_lossy(&column.name[PREFIX.len()..]).into_owned();
        let value = column.value.as_deref().unwrap_or_default();
        sessions.extend(Session::parse(user, &id, value).ok().filter(|s| s.is_alive(now)));
    }
    sessions.sort_by_key(|s| std::cmp::Reverse(s.last_seen));
    Ok(sessions)
}

fn scan(user: &str) -> Scan {
    Scan { row: user.into(), prefix: PREFIX.into(), limit: LIMIT_MAX, ..Scan::default() }
}

/// The changes that end all sessions of a user.
pub(super) fn end_all(client: &Client, user: &str) -> Result<Vec<Op>> {
    let (columns, _) = client.scan(scan(user))?;
    Ok(columns.into_iter().map(|c| Op::delete(user, c.name)).collect())
}

/// The changes that end all sessions of the user but this one.
pub(super) fn others(client: &Client, session: &Session) -> Result<Vec<Op>> {
    let sessions = all(client, &session.user)?;
    Ok(sessions.iter().filter(|s| s.id != session.id).map(Session::delete).collect())
}

/// The changes that make room for one session more.
pub(super) fn surplus(client: &Client, user: &str) -> Result<Vec<Op>> {
    Ok(all(client, user)?.iter().skip(SESSIONS_MAX - 1).map(Session::delete).collect())
}

fn column(id: &str) -> String {
    format!("{PREFIX}{id}")
}

/// What the store knows of a token: its SHA-256, as base64url.
pub(crate) fn hash(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(token.as_bytes()))
}

/// 256 bits from the operating system, as base64url.
pub(crate) fn random_token() -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(user: &str, agent: &str) -> New {
        New::make(user, &Device { agent: agent.into(), address: "192.0.2.1".into() })
    }

    #[test]
    fn the_store_never_sees_the_token() {
        let made = new("alice", "Browser/1.0");
        let token = made.cookie.strip_prefix("alice.").unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(token).unwrap().len(), 32);
        let Op::Put { column, value, ttl, .. } = made.put() else { panic!("not a PUT") };
        assert_eq!(ttl, Some(IDLE_S));
        for cell in [column, value] {
            assert!(!String::from_utf8(cell).unwrap().contains(token));
        }
    }

    #[test]
    fn tokens_differ() {
        assert_ne!(new("alice", "").cookie, new("alice", "").cookie);
    }

    #[test]
    fn a_cookie_splits_at_its_last_dot() {
        assert_eq!(split_cookie("anna.maria.tok"), Some(("anna.maria", "tok")));
        for bad in ["", "alice", "alice.", ".tok", "al/ice.tok", "~address.tok", &"a.".repeat(200)]
        {
            assert_eq!(split_cookie(bad), None, "{bad}");
        }
    }

    #[test]
    fn sessions_end_when_idle_and_when_old() {
        let session = new("alice", "").session;
        let (began, month) = (session.created, session.expires);
        assert!(session.is_alive(began + IDLE_S - 1));
        assert!(!session.is_alive(began + IDLE_S));
        let busy = Session { last_seen: month - 10, ..session };
        assert!(busy.is_alive(month - 1));
        assert!(!busy.is_alive(month));
        assert_eq!(busy.ttl(month - 10), 10, "marking as seen does not make it older than a month");
    }

    #[test]
    fn the_form_token_is_compared_whole() {
        let session = new("alice", "").session;
        assert!(session.accepts(&session.csrf));
        assert!(!session.accepts(""));
        assert!(!session.accepts(&session.csrf[..20]));
    }

    #[test]
    fn a_stored_session_comes_back() {
        let session = new("alice", "A\u{7}gent").session;
        assert_eq!(session.agent, "Agent");
        assert_eq!(Session::parse("alice", &session.id, &json(&session)).unwrap(), session);
    }
}
