//! Accounts: user names, passwords, sessions. What the web's handlers and the SMTP server call; it knows
//! neither HTTP nor SMTP.
//!
//! # What is kept
//!
//! ```text
//! ~address/<user>@<domain>   user                the user's name: who gets mail for this address
//! <user>                     password            argon2id, as a PHC string
//!                            profile             JSON: display name
//!                            usage               bytes of mail and files ([`crate::quota`])
//!                            address/<address>   written once the address is the user's for ever
//!                            session/<hash>      JSON, with a time to live ([`session`])
//! ~throttle/<bucket>         tries               JSON, with a time to live ([`throttle`])
//! ```
//!
//! # Signing up
//!
//! Three steps on two owners, each of which may be the last one before a crash:
//!
//! 1. claim the address: `user` with `if=0`, which is gone again after a minute;
//! 2. make the account: one BATCH on the user, with `password` if there is none, and the first cells of
//!    mailbox and drive. *This decides who has the name*;
//! 3. keep the address: the claim again, without an end, then `address/<address>` on the user.
//!
//! Whoever repeats step 1 finds a claim of the same user and goes on. Whoever repeats step 2 with the same
//! password finds the account made and goes on. Step 3 is made good at the next login if it is missing.
//!
//! # Invariants
//!
//! * A name belongs to whoever's `password` was written first; nothing overwrites it but its owner.
//! * The store never holds a password or a session token, only hashes of them.
//! * A session is made in the same BATCH that finds the password unchanged, so none outlives a change of
//!   password. That BATCH also removes every other session.
//! * An unknown name and a wrong password cost the same time and get the same answer.
//!
//! # Caveats
//!
//! Passwords are taken as they are typed: two ways to write the same letter (NFC and NFD) are two passwords.

pub mod name;
pub mod password;
pub mod session;
pub mod throttle;

use crate::client::{Client, Op, Written};
use crate::error::{Error, Result};
use crate::quota::count;
use password::Passwords;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

pub use session::Session;

/// How long a claimed address waits for its account, in seconds.
const CLAIM_TTL_S: u64 = 60;
/// Largest cell of an account that is read.
const CELL_BYTES_MAX: u64 = 64 << 10;
/// Longest display name, in characters.
pub const DISPLAY_NAME_CHARS_MAX: usize = 80;

/// The accounts of the cluster. Cheap to share.
pub struct Accounts {
    client: Client,
    passwords: Passwords,
    domain: String,
}

/// What a sign-up came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignUp {
    /// The account is there, and its password is the one given.
    Done,
    /// Someone else has the name.
    Taken,
}

/// What a login came to.
#[derive(Clone, Debug)]
pub enum LogIn<T = ()> {
    /// Name and password fit.
    Welcome(T),
    /// They do not; which of the two is not said.
    Wrong,
    /// Too many tries: the next one is heard after so many seconds.
    Wait(u64),
}

/// What a user says about themselves.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Profile {
    /// The name beside the address in mail; the user name unless told.
    #[serde(default)]
    pub display_name: String,
    /// When the account was made, in seconds since 1970.
    #[serde(default)]
    pub created: u64,
}

impl Accounts {
    /// The accounts behind a store, with addresses in a domain.
    pub fn new(client: Client, domain: &str) -> Accounts {
        Accounts { client, passwords: Passwords::new(), domain: domain.to_ascii_lowercase() }
    }

    /// The mail address of a user.
    pub fn address(&self, user: &str) -> String {
        format!("{user}@{}", self.domain)
    }

    /// Makes an account, with the first cells of what else belongs to a user. A repeat is harmless.
    /// `Bad` says what is wrong with the name or the password.
    pub fn sign_up(&self, user: &str, password: &str, first_cells: Vec<Op>) -> Result<SignUp> {
        name::check(user)?;
        password::check(user, password)?;
        let hash = self.passwords.hash(password)?;
        if !self.claim(user)? {
            return Ok(SignUp::Taken);
        }
        let made = self.client.batch(user, account_cells(user, &hash, first_cells))?;
        if !matches!(made, Written::Done { .. }) && !self.is_repeat(user, password)? {
            return Ok(SignUp::Taken);
        }
        self.keep_address(user)?;
        Ok(SignUp::Done)
    }

    /// Step 1. A claim that is there already for the same user may be ours from an earlier try.
    fn claim(&self, user: &str) -> Result<bool> {
        let row = address_row(&self.address(user));
        let claim = Op::put_if(row.clone(), "user", user, 0).with_ttl(CLAIM_TTL_S);
        match self.client.write(claim)? {
            Written::Done { .. } => Ok(true),
            _ => Ok(self
                .client
                .get(&row, "user", CELL_BYTES_MAX)?
                .is_none_or(|f| f.value == user.as_bytes())),
        }
    }

    /// Whether the account that is there already was made by this same sign-up.
    fn is_repeat(&self, user: &str, password: &str) -> Result<bool> {
        Ok(matches!(self.check(user, password)?, LogIn::Welcome(())))
    }

    /// Step 3, made good at the next login if a crash left it out.
    fn keep_address(&self, user: &str) -> Result<()> {
        let address = self.address(user);
        let kept = format!("address/{address}");
        if self.client.get(user, &kept, CELL_BYTES_MAX)?.is_some() {
            return Ok(());
        }
        let row = address_row(&address);
        let (version, holder) = match self.client.get(&row, "user", CELL_BYTES_MAX)? {
            Some(found) => (found.version, found.value),
            None => (0, user.as_bytes().to_vec()),
        };
        if holder != user.as_bytes() {
            return Err(Error::bad(format!("{address} belongs to someone else")));
        }
        match self.client.write(Op::put_if(row, "user", user, version))? {
            Written::Done { .. } => self.client.write(Op::put(user, kept, "")).map(drop),
            _ => Err(Error::retry("the address changed hands meanwhile")),
        }
    }

    /// Whether a user exists.
    pub fn exists(&self, user: &str) -> Result<bool> {
        Ok(name::check(user).is_ok() && self.stored_hash(user)?.is_some())
    }

    /// Checks a name and a password without making a session (SMTP's AUTH). Tries are counted.
    pub fn check(&self, user: &str, password: &str) -> Result<LogIn> {
        Ok(match self.verify(user, password)? {
            LogIn::Welcome(_) => LogIn::Welcome(()),
            LogIn::Wrong => LogIn::Wrong,
            LogIn::Wait(seconds) => LogIn::Wait(seconds),
        })
    }

    /// Checks a name and a password; Welcome carries the hash that fitted.
    fn verify(&self, user: &str, password: &str) -> Result<LogIn<String>> {
        if let Some(seconds) = throttle::account_try(&self.client, user)? {
            return Ok(LogIn::Wait(seconds));
        }
        let stored = if name::check(user).is_ok() { self.stored_hash(user)? } else { None };
        if !self.passwords.verify(password, stored.as_deref())? {
            return Ok(LogIn::Wrong);
        }
        throttle::account_welcome(&self.client, user)?;
        Ok(LogIn::Welcome(stored.expect("only a stored hash can fit")))
    }

    fn stored_hash(&self, user: &str) -> Result<Option<String>> {
        let found = self.client.get(user, "password", CELL_BYTES_MAX)?;
        found
            .map(|f| String::from_utf8(f.value))
            .transpose()
            .map_err(|_| Error::corrupt("a password hash that is not text"))
    }

    /// Counts a try from an address; the seconds to wait if there were too many. Loopback is exempt.
    pub fn address_try(&self, from: IpAddr) -> Result<Option<u64>> {
        throttle::address_try(&self.client, from)
    }

    /// Logs in: a new session, whose cookie is returned with it.
    pub fn log_in(&self, user: &str, password: &str, agent: &str) -> Result<LogIn<session::New>> {
        let hash = match self.verify(user, password)? {
            LogIn::Welcome(hash) => hash,
            LogIn::Wrong => return Ok(LogIn::Wrong),
            LogIn::Wait(seconds) => return Ok(LogIn::Wait(seconds)),
        };
        if let Err(error) = self.keep_address(user) {
            log::warn!("{user}: the address could not be kept: {error}");
        }
        let new = session::New::make(user, agent);
        let mut items = vec![unchanged_password(user, &hash), new.put()];
        items.extend(session::surplus(&self.client, user)?);
        Ok(match self.client.batch(user, items)? {
            Written::Done { .. } => LogIn::Welcome(new),
            _ => LogIn::Wrong,
        })
    }

    /// The session of a cookie, if it is alive. Marks it as seen now and then.
    pub fn session(&self, cookie: &str) -> Result<Option<Session>> {
        session::find(&self.client, cookie)
    }

    /// Ends a session.
    pub fn log_out(&self, session: &Session) -> Result<()> {
        self.client.write(session.delete()).map(drop)
    }

    /// All live sessions of a user, the one seen last first.
    pub fn sessions(&self, user: &str) -> Result<Vec<Session>> {
        session::all(&self.client, user)
    }

    /// Ends all sessions of a user but one.
    pub fn log_out_others(&self, session: &Session) -> Result<usize> {
        let items = session::others(&self.client, session)?;
        let n = items.len();
        if n > 0 {
            self.client.batch(&session.user, items)?;
        }
        Ok(n)
    }

    /// Changes the password if the old one fits: all sessions end, and a new one begins.
    pub fn change_password(
        &self,
        session: &Session,
        old: &str,
        new: &str,
    ) -> Result<LogIn<session::New>> {
        let user = session.user.as_str();
        password::check(user, new)?;
        let stored = match self.verify(user, old)? {
            LogIn::Welcome(hash) => hash,
            LogIn::Wrong => return Ok(LogIn::Wrong),
            LogIn::Wait(seconds) => return Ok(LogIn::Wait(seconds)),
        };
        let fresh = session::New::make(user, &session.agent);
        let mut items = vec![cput(user, "password", &stored, &self.passwords.hash(new)?)];
        items.extend(session::others(&self.client, session)?);
        items.extend([session.delete(), fresh.put()]);
        Ok(match self.client.batch(user, items)? {
            Written::Done { .. } => LogIn::Welcome(fresh),
            _ => LogIn::Wrong,
        })
    }

    /// What a user says about themselves.
    pub fn profile(&self, user: &str) -> Result<Profile> {
        match self.client.get(user, "profile", CELL_BYTES_MAX)? {
            Some(found) => serde_json::from_slice(&found.value).map_err(Error::corrupt),
            None => Ok(Profile::default()),
        }
    }

    /// Changes the display name. `Bad` says what is wrong with it.
    pub fn set_display_name(&self, user: &str, display_name: &str) -> Result<()> {
        let display_name = name::check_display(display_name)?;
        let profile = Profile { display_name: display_name.into(), ..self.profile(user)? };
        self.client.write(Op::put(user, "profile", json(&profile))).map(drop)
    }
}

fn account_cells(user: &str, hash: &str, first_cells: Vec<Op>) -> Vec<Op> {
    let profile = Profile { display_name: String::new(), created: now_s() };
    let mut items = vec![
        Op::put_if(user, "password", hash, 0),
        Op::put(user, "profile", json(&profile)),
        count(user, 0),
    ];
    items.extend(first_cells);
    items
}

/// An item of a BATCH that refuses it when the password has changed.
fn unchanged_password(user: &str, hash: &str) -> Op {
    cput(user, "password", hash, hash)
}

fn cput(row: &str, column: &str, old: &str, new: &str) -> Op {
    Op::Cput { row: row.into(), column: column.into(), old: old.into(), new: new.into(), ttl: None }
}

/// The row that says who gets mail for an address.
pub fn address_row(address: &str) -> String {
    format!("~address/{address}")
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain structures have a JSON form")
}

/// Seconds since 1970.
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_made_only_where_there_is_none() {
        let items = account_cells("alice", "hash", vec![Op::put("alice/files", "x", "y")]);
        assert_eq!(items[0], Op::put_if("alice", "password", "hash", 0));
        assert!(items.iter().all(|op| crate::protocol::cell::owner(op.row().unwrap()) == b"alice"));
        assert_eq!(items.len(), 4);
    }
}
