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
//!                            apppass/<id>        JSON: a password for a program ([`programs`])
//! ~throttle/<bucket>         tries               JSON, with a time to live ([`throttle`])
//! ~invite/<hash>             for                 JSON, with a time to live ([`invite`])
//! ~deletion                  <user>              accounts whose deletion is to be finished ([`deletion`])
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
//! Where strangers are not let in, an invitation is taken between the first two ([`invite`]).
//!
//! # Invariants
//!
//! * A name belongs to whoever's `password` was written first; nothing overwrites it but its owner.
//! * The store never holds a password or a session token, only hashes of them.
//! * A session is made in the BATCH that finds the password unchanged and writes it again. A new password is
//!   written over the version that was there before the sessions were listed, in the BATCH that ends them all:
//!   so no session outlives it, not even one that began at the same moment. Nor does a password for a program.
//! * An unknown name and a wrong password cost the same time and get the same answer.
//! * An account that is gone leaves no cell behind ([`deletion`]).
//!
//! # Caveats
//!
//! Where the addresses of visitors are those of a proxy, they share its tries: name it in
//! `accounts.throttle_exempt`.

mod common;
pub mod deletion;
pub mod invite;
pub mod name;
pub mod password;
pub mod programs;
pub mod session;
mod signup;
pub mod throttle;

use crate::client::{Client, Op, Written};
use crate::config;
use crate::error::{Error, Result};
use password::Passwords;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

pub use programs::{Made, Program};
pub use session::{Device, Session};
pub use signup::SignUp;

/// How often a new password is written again over what a login changed meanwhile.
const RACES: usize = 8;
/// Largest cell of an account that is read.
const CELL_BYTES_MAX: u64 = 64 << 10;
/// Longest display name, in characters.
pub const DISPLAY_NAME_CHARS_MAX: usize = 80;

/// The accounts of the cluster. Cheap to share.
pub struct Accounts {
    client: Client,
    passwords: Passwords,
    domain: String,
    /// Addresses whose tries are not counted.
    throttle_exempt: Vec<IpAddr>,
    /// How long the address of a deleted account is nobody's.
    address_rest_s: u64,
}

/// A stored password hash, and the version of its cell.
#[derive(Clone, Debug)]
struct PasswordCell {
    hash: String,
    version: u64,
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

impl<T> LogIn<T> {
    /// What comes of a password that fits; one that does not stays what it is.
    fn and_then<U>(self, next: impl FnOnce(T) -> Result<LogIn<U>>) -> Result<LogIn<U>> {
        match self {
            LogIn::Welcome(fitted) => next(fitted),
            LogIn::Wrong => Ok(LogIn::Wrong),
            LogIn::Wait(seconds) => Ok(LogIn::Wait(seconds)),
        }
    }
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
    /// The accounts of the configured cluster.
    pub fn new(client: Client, cluster: &config::Cluster, settings: &config::Accounts) -> Accounts {
        Accounts {
            client,
            passwords: Passwords::new(),
            domain: cluster.mail_domain.to_ascii_lowercase(),
            throttle_exempt: settings.throttle_exempt.clone(),
            address_rest_s: settings.address_rest_s,
        }
    }

    /// The mail address of a user.
    pub fn address(&self, user: &str) -> String {
        format!("{user}@{}", self.domain)
    }

    /// Whether a user exists.
    pub fn exists(&self, user: &str) -> Result<bool> {
        Ok(self.known_password(user)?.is_some())
    }

    /// Checks a name and a password; Welcome carries what it fitted.
    fn verify(&self, user: &str, password: &str) -> Result<LogIn<PasswordCell>> {
        if let Some(seconds) = throttle::account_try(&self.client, user)? {
            return Ok(LogIn::Wait(seconds));
        }
        let known = self.known_password(user)?;
        if !self.passwords.verify(password, known.as_ref().map(|cell| cell.hash.as_str()))? {
            return Ok(LogIn::Wrong);
        }
        throttle::account_welcome(&self.client, user)?;
        Ok(LogIn::Welcome(known.expect("only a stored hash can fit")))
    }

    /// The password of a user who can sign in.
    fn known_password(&self, user: &str) -> Result<Option<PasswordCell>> {
        let cell = if name::check(user).is_ok() { self.password_cell(user)? } else { None };
        Ok(cell.filter(|cell| cell.hash != deletion::DELETED))
    }

    fn password_cell(&self, user: &str) -> Result<Option<PasswordCell>> {
        let Some(found) = self.client.get(user, "password", CELL_BYTES_MAX)? else {
            return Ok(None);
        };
        let hash = String::from_utf8(found.value);
        let hash = hash.map_err(|_| Error::corrupt("a password hash that is not text"))?;
        Ok(Some(PasswordCell { hash, version: found.version }))
    }

    /// Counts a try from an address; the seconds to wait if there were too many.
    pub fn address_try(&self, from: IpAddr) -> Result<Option<u64>> {
        let from = from.to_canonical();
        if self.throttle_exempt.contains(&from) {
            return Ok(None);
        }
        throttle::address_try(&self.client, from)
    }

    /// Takes a try from an address back: it succeeded. A failure only leaves it counted.
    fn address_welcome(&self, from: IpAddr) {
        let from = from.to_canonical();
        if !self.throttle_exempt.contains(&from)
            && let Err(error) = throttle::address_welcome(&self.client, from)
        {
            log::debug!("a try from {from} stays counted: {error}");
        }
    }

    /// Logs in: a new session, whose cookie is returned with it.
    pub fn log_in(
        &self,
        user: &str,
        password: &str,
        device: &Device,
    ) -> Result<LogIn<session::New>> {
        self.verify(user, password)?.and_then(|PasswordCell { hash, .. }| {
            if let Err(error) = self.keep_address(user, &hash) {
                log::warn!("{user}: the address could not be kept: {error}");
            }
            let new = session::New::make(user, device);
            let kept = if password::is_outdated(&hash) {
                self.passwords.hash(password)?
            } else {
                hash.clone()
            };
            let mut items = vec![cput(user, "password", &hash, &kept), new.put()];
            items.extend(session::surplus(&self.client, user)?);
            Ok(match self.client.batch(user, items)? {
                Written::Done { .. } => LogIn::Welcome(new),
                _ => LogIn::Wrong,
            })
        })
    }

    /// The session of a cookie, if it is alive. Marks it as seen, from this address, now and then.
    pub fn session(&self, cookie: &str, from: IpAddr) -> Result<Option<Session>> {
        session::find(&self.client, cookie, from)
    }

    /// Ends a session.
    pub fn log_out(&self, session: &Session) -> Result<()> {
        self.client.write(session.delete()).map(drop)
    }

    /// All live sessions of a user, the one seen last first.
    pub fn sessions(&self, user: &str) -> Result<Vec<Session>> {
        session::all(&self.client, user)
    }

    /// Ends all sessions of a user.
    pub fn log_out_everywhere(&self, user: &str) -> Result<()> {
        let items = session::end_all(&self.client, user)?;
        if items.is_empty() { Ok(()) } else { self.client.batch(user, items).map(drop) }
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

    /// Changes the password if the old one fits: all sessions end, and so do all passwords for programs; a new session
    /// begins.
    pub fn change_password(
        &self,
        session: &Session,
        old: &str,
        new: &str,
    ) -> Result<LogIn<session::New>> {
        let user = session.user.as_str();
        password::check(user, new)?;
        self.verify(user, old)?.and_then(|fitted| {
            let fresh = session::New::make(user, &session.device());
            let hash = self.passwords.hash(new)?;
            let changed = self.replace_password(user, fitted, &hash, &[fresh.put()])?;
            Ok(if changed { LogIn::Welcome(fresh) } else { LogIn::Wrong })
        })
    }

    /// Writes over the password that fitted and ends all sessions and passwords for programs, in one BATCH with what
    /// is to be made. False when the password is another one now. A login that came in between has changed the version of the
    /// password's cell: then the sessions are listed again.
    fn replace_password(
        &self,
        user: &str,
        fitted: PasswordCell,
        new: &str,
        made: &[Op],
    ) -> Result<bool> {
        let mut version = fitted.version;
        for _ in 0..RACES {
            let mut items = vec![Op::put_if(user, "password", new, version)];
            items.extend(session::end_all(&self.client, user)?);
            items.extend(self.end_programs(user)?);
            items.extend_from_slice(made);
            if let Written::Done { .. } = self.client.batch(user, items)? {
                return Ok(true);
            }
            match self.password_cell(user)? {
                Some(now) if now.hash == fitted.hash => version = now.version,
                _ => return Ok(false),
            }
        }
        Err(Error::retry("this account signs in again and again"))
    }

    /// What a user says about themselves.
    pub fn profile(&self, user: &str) -> Result<Profile> {
        match self.client.get(user, "profile", CELL_BYTES_MAX)? {
            Some(found) => serde_json::from_slice(&found.value).map_err(Error::corrupt),
            None => Ok(Profile::default()),
        }
    }

    /// Changes the display name. `Bad` says what is wrong with it. Over the profile that is there: an account
    /// that is gone does not get a new one.
    pub fn set_display_name(&self, user: &str, display_name: &str) -> Result<()> {
        let display_name = name::check_display(display_name)?;
        let found = self.client.get(user, "profile", CELL_BYTES_MAX)?;
        let found = found.ok_or_else(|| Error::Denied("this account is gone".into()))?;
        let profile: Profile = serde_json::from_slice(&found.value).map_err(Error::corrupt)?;
        let profile = Profile { display_name: display_name.into(), ..profile };
        match self.client.write(Op::put_if(user, "profile", json(&profile), found.version))? {
            Written::Done { .. } => Ok(()),
            _ => Err(Error::retry("this profile is being changed at this moment")),
        }
    }

    /// Makes an invitation that is good for so many seconds; its code.
    pub fn invite(&self, seconds: u64) -> Result<String> {
        invite::make(&self.client, seconds)
    }
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
