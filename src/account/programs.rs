//! Passwords for programs: each opens the mail of one account to one program, and can be taken away alone.
//!
//! A password for a program is made by us: 20 letters and digits that are not mistaken for one another, in five groups.
//! The first group is its id, the other 80 bits are chance. It is kept as a hash in `apppass/<id>` of the user's row, with
//! a label and when it was last used, and shown once. It signs in at SMTP, never at the web.
//!
//! Who makes one must know the account's password: whoever finds a browser that is signed in gets no password that
//! outlives the session. It is made in the BATCH that finds the password unchanged and writes it again, as a session is;
//! a new password ends all of them, and so does the account's end. Signing out everywhere leaves them: they stand on the
//! same page, each with its own button.
//!
//! Whatever is typed, one hash is made: of what has the form of one and names an id that exists, for that one, else for
//! the account's password. So names that exist take as long as those that do not.

use super::{Accounts, LogIn, cput, json, name, now_s, throttle};
use crate::client::{Op, Scan, Written};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Passwords for programs of one user.
pub const PROGRAMS_MAX: usize = 20;
/// Longest label, in characters.
pub const LABEL_CHARS_MAX: usize = 60;
/// When it was last used is noted at most this often, in seconds.
const USED_EVERY_S: u64 = 300;
/// Digits and letters without those that look like others: 32, so each carries 5 bits.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const LETTERS: usize = 20;
const ID_LETTERS: usize = 4;
const CELL_BYTES_MAX: u64 = 4096;
const PREFIX: &str = "apppass/";

/// A password for a program, as the store keeps it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Program {
    /// Its id: the first letters of the password.
    #[serde(skip)]
    pub id: String,
    /// What its owner calls it.
    pub label: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// When it was last used; 0 is never.
    #[serde(default)]
    pub last_used: u64,
    /// From which address.
    #[serde(default)]
    pub address: String,
    hash: String,
}

impl Program {
    fn parse(id: &str, value: &[u8]) -> Result<Program> {
        let program: Program = serde_json::from_slice(value).map_err(Error::corrupt)?;
        Ok(Program { id: id.into(), ..program })
    }
}

/// What making one came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// The password, which exists nowhere else.
    Password(String),
    /// There are [`PROGRAMS_MAX`] already.
    TooMany,
}

impl Accounts {
    /// Checks the name and password of a program that comes from an address: the account's password, or one made for
    /// programs. Tries are counted as at the web, but those that succeed are not held against the address: a program
    /// signs in for each message.
    pub fn log_in_program(
        &self,
        user: &str,
        password: &str,
        from: IpAddr,
    ) -> Result<LogIn<String>> {
        if let Some(seconds) = self.address_try(from)? {
            return Ok(LogIn::Wait(seconds));
        }
        if let Some(seconds) = throttle::account_try(&self.client, user)? {
            return Ok(LogIn::Wait(seconds));
        }
        let known = self.known_password(user)?;
        let program = self.program_of(user, password)?.filter(|_| known.is_some());
        let typed = program.as_ref().map_or_else(|| password.to_string(), |_| normal(password));
        let own = known.as_ref().map(|cell| cell.hash.as_str());
        let stored = program.as_ref().map(|(program, _)| program.hash.as_str()).or(own);
        if !self.passwords.verify(&typed, stored)? {
            return Ok(LogIn::Wrong);
        }
        throttle::account_welcome(&self.client, user)?;
        self.address_welcome(from);
        if let Some((program, old)) = program {
            self.note_use(user, program, old, from);
        }
        Ok(LogIn::Welcome(user.to_string()))
    }

    /// Makes a password for a program, if the account's password fits. `Bad` says what is wrong with the label.
    pub fn make_program(&self, user: &str, password: &str, label: &str) -> Result<LogIn<Made>> {
        let label = check_label(label)?;
        self.verify(user, password)?.and_then(|fitted| {
            if self.programs(user)?.len() >= PROGRAMS_MAX {
                return Ok(LogIn::Welcome(Made::TooMany));
            }
            let made = random_password();
            let id = made[..ID_LETTERS].to_string();
            let hash = self.passwords.hash(&made)?;
            let (created, last_used, address) = (now_s(), 0, String::new());
            let program = Program { id, label: label.into(), created, last_used, address, hash };
            let items = vec![
                cput(user, "password", &fitted.hash, &fitted.hash),
                Op::put_if(user, column(&program.id), json(&program), 0),
            ];
            match self.client.batch(user, items)? {
                Written::Done { .. } => Ok(LogIn::Welcome(Made::Password(grouped(&made)))),
                Written::Mismatch { at: 0, .. } => Ok(LogIn::Wrong),
                _ => Err(Error::retry("chance gave the same id twice")),
            }
        })
    }

    /// The passwords for programs of a user, the newest first.
    pub fn programs(&self, user: &str) -> Result<Vec<Program>> {
        let (columns, _) = self.client.scan(Scan { values: true, ..scan(user) })?;
        let parse = |column: &crate::client::Column| {
            let id = String::from_utf8_lossy(&column.name[PREFIX.len()..]).into_owned();
            Program::parse(&id, column.value.as_deref().unwrap_or_default()).ok()
        };
        let mut programs: Vec<Program> = columns.iter().filter_map(parse).collect();
        programs.sort_by_key(|program| std::cmp::Reverse(program.created));
        Ok(programs)
    }

    /// Takes a password for a program away. One that is not there is none.
    pub fn end_program(&self, user: &str, id: &str) -> Result<()> {
        match is_id(id) {
            true => self.client.write(Op::delete(user, column(id))).map(drop),
            false => Ok(()),
        }
    }

    /// The changes that take all of them away.
    pub(super) fn end_programs(&self, user: &str) -> Result<Vec<Op>> {
        let (columns, _) = self.client.scan(scan(user))?;
        Ok(columns.into_iter().map(|c| Op::delete(user, c.name)).collect())
    }

    /// The one that what was typed may be, with its cell as it is. It is looked for whoever the name is, for the same time.
    fn program_of(&self, user: &str, typed: &str) -> Result<Option<(Program, Vec<u8>)>> {
        let Some(id) = id_of(typed).filter(|_| name::check(user).is_ok()) else { return Ok(None) };
        let found = self.client.get(user, column(&id), CELL_BYTES_MAX)?;
        found.map(|found| Ok((Program::parse(&id, &found.value)?, found.value))).transpose()
    }

    /// Over the cell that was read: one that was taken away meanwhile stays so.
    fn note_use(&self, user: &str, program: Program, old: Vec<u8>, from: IpAddr) {
        let now = now_s();
        if now < program.last_used + USED_EVERY_S {
            return;
        }
        let column = column(&program.id).into();
        let address = from.to_canonical().to_string();
        let new = json(&Program { last_used: now, address, ..program });
        let write = Op::Cput { row: user.into(), column, old, new, ttl: None };
        if let Err(error) = self.client.write(write) {
            log::debug!("{user}: the use of a password for programs was not noted: {error}");
        }
    }
}

fn scan(user: &str) -> Scan {
    Scan { row: user.into(), prefix: PREFIX.into(), limit: 10 * PROGRAMS_MAX, ..Scan::default() }
}

fn column(id: &str) -> String {
    format!("{PREFIX}{id}")
}

fn check_label(typed: &str) -> Result<&str> {
    let label = typed.trim();
    let fine = (1..=LABEL_CHARS_MAX).contains(&label.chars().count());
    match fine && !label.chars().any(char::is_control) {
        true => Ok(label),
        false => Err(Error::bad(format!("a label has 1 to {LABEL_CHARS_MAX} characters"))),
    }
}

/// Without blanks and hyphens, in lower case.
fn normal(typed: &str) -> String {
    let kept = typed.chars().filter(|c| !matches!(c, ' ' | '-'));
    kept.map(|c| c.to_ascii_lowercase()).collect()
}

/// The id in what was typed, if it has the form of a password for programs.
fn id_of(typed: &str) -> Option<String> {
    let letters = normal(typed);
    let fits = letters.len() == LETTERS && is_of_alphabet(&letters);
    fits.then(|| letters[..ID_LETTERS].to_string())
}

fn is_id(id: &str) -> bool {
    id.len() == ID_LETTERS && is_of_alphabet(id)
}

fn is_of_alphabet(text: &str) -> bool {
    text.bytes().all(|b| ALPHABET.contains(&b))
}

fn random_password() -> String {
    let mut bytes = [0; LETTERS];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes.iter().map(|b| char::from(ALPHABET[usize::from(b % 32)])).collect()
}

/// As it is shown: `abcd-efgh-…`.
fn grouped(letters: &str) -> String {
    let groups = letters.as_bytes().chunks(ID_LETTERS).map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_read_again_however_it_is_typed() {
        let made = random_password();
        assert_ne!(made, random_password());
        let shown = grouped(&made);
        assert_eq!((shown.len(), shown.matches('-').count()), (24, 4));
        for typed in [shown.clone(), shown.to_uppercase(), shown.replace('-', " "), made.clone()] {
            assert_eq!((normal(&typed), id_of(&typed)), (made.clone(), Some(made[..4].into())));
        }
    }

    #[test]
    fn the_password_of_an_account_is_not_taken_for_one() {
        for typed in ["", "correct horse", "il0u il0u il0u il0u il0u", "äääääääääää", "0123456789"]
        {
            assert_eq!(id_of(typed), None, "{typed}");
        }
    }

    #[test]
    fn labels_are_one_line() {
        assert_eq!(check_label(" My phone "), Ok("My phone"));
        for bad in ["", "  ", "a\nb", &"x".repeat(61)] {
            assert!(check_label(bad).is_err(), "{bad:?}");
        }
    }
}
