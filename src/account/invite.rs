//! Invitations: codes that let one person each sign up where strangers may not.
//!
//! ```text
//! ~invite/<hash of code>   for   JSON: when it ends, and whose account was made with it; with a time to live
//! ```
//!
//! A code has 80 random bits, written so that a person can type it; the store knows only its hash. It is taken
//! for a name before the account of that name is made: whoever repeats a sign-up that died in between finds it
//! taken for the same name and goes on, and nobody else can use it. It is never given back, or two who sign up under one
//! name at once could both keep it: the one of them who comes second has lost the code.

use super::{CELL_BYTES_MAX, json, now_s, session};
use crate::client::{Client, Op, Written};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Letters and digits that nobody takes for another: Crockford's base 32.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters of a code, without the hyphens.
const CODE_CHARS: usize = 16;
const COLUMN: &str = "for";

/// What the store keeps of an invitation.
#[derive(Debug, Deserialize, Serialize)]
struct Invitation {
    /// When it ends, in seconds since 1970.
    expires: u64,
    /// For whose account it was taken; empty before.
    user: String,
}

impl Invitation {
    fn is_for(&self, user: &str) -> bool {
        self.user.is_empty() || self.user == user
    }

    fn ttl(&self) -> u64 {
        self.expires.saturating_sub(now_s()).max(1)
    }
}

/// Makes an invitation that ends after so many seconds; its code: four times four characters.
pub(super) fn make(client: &Client, seconds: u64) -> Result<String> {
    let code = new_code();
    let invitation = Invitation { expires: now_s() + seconds, user: String::new() };
    client.write(Op::put_if(row(&code), COLUMN, json(&invitation), 0).with_ttl(seconds))?;
    Ok(code)
}

/// Whether a code lets this user sign up now.
pub(super) fn is_good(client: &Client, code: &str, user: &str) -> Result<bool> {
    Ok(find(client, code)?.is_some_and(|(invitation, _)| invitation.is_for(user)))
}

/// Takes an invitation for a user; false when it is not there or somebody else's.
pub(super) fn take(client: &Client, code: &str, user: &str) -> Result<bool> {
    let Some((invitation, version)) = find(client, code)? else { return Ok(false) };
    if !invitation.is_for(user) {
        return Ok(false);
    }
    let taken = Invitation { user: user.into(), ..invitation };
    let write = Op::put_if(row(code), COLUMN, json(&taken), version).with_ttl(taken.ttl());
    match client.write(write)? {
        Written::Done { .. } => Ok(true),
        _ => Err(Error::retry("this invitation is being used at this moment")),
    }
}

fn find(client: &Client, code: &str) -> Result<Option<(Invitation, u64)>> {
    let Some(found) = client.get(row(code), COLUMN, CELL_BYTES_MAX)? else { return Ok(None) };
    let invitation = serde_json::from_slice(&found.value).map_err(Error::corrupt)?;
    Ok(Some((invitation, found.version)))
}

fn row(code: &str) -> String {
    format!("~invite/{}", session::hash(&normal(code)))
}

fn new_code() -> String {
    let mut bytes = [0; CODE_CHARS];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    let letters = bytes.map(|b| char::from(ALPHABET[usize::from(b % 32)]));
    let groups = letters.chunks(4).map(|group| group.iter().collect::<String>());
    groups.collect::<Vec<_>>().join("-")
}

/// A code as it was meant: in any case, with or without hyphens, with the letters that look like digits.
fn normal(typed: &str) -> String {
    let letter = |c: char| match c.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    typed.chars().filter(char::is_ascii_alphanumeric).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_typed_as_people_type() {
        let code = new_code();
        assert_eq!(code.len(), CODE_CHARS + 3);
        assert_ne!(code, new_code());
        let typed = format!(" {} ", code.to_lowercase().replace('-', " ").replace('0', "o"));
        assert_eq!(row(&typed), row(&code));
        assert!(!row(&code).contains(&code), "the store knows only its hash");
    }

    #[test]
    fn an_invitation_is_for_one() {
        let free = Invitation { expires: 0, user: String::new() };
        let taken = Invitation { user: "alice".into(), ..free };
        assert!(taken.is_for("alice") && !taken.is_for("bob"));
    }
}
