//! Signing up: three steps on two owners, as the design of [`super`] tells.

use super::{
    Accounts, CELL_BYTES_MAX, LogIn, Profile, address_row, cput, invite, json, name, now_s,
    password,
};
use crate::client::{Op, Written};
use crate::error::{Error, Result};
use crate::quota::count;

/// How long a claimed address waits for its account, in seconds.
const CLAIM_TTL_S: u64 = 60;

/// What a sign-up came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignUp {
    /// The account is there, and its password is the one given.
    Done,
    /// Someone else has the name, or had it not long ago.
    Taken,
    /// There is no such invitation, or it was used.
    NotInvited,
}

impl Accounts {
    /// Makes an account, with the first cells of what else belongs to a user; with an invitation where one is
    /// asked for. A repeat is harmless. `Bad` says what is wrong with the name or the password.
    pub fn sign_up(
        &self,
        user: &str,
        password: &str,
        invitation: Option<&str>,
        first_cells: Vec<Op>,
    ) -> Result<SignUp> {
        name::check(user)?;
        password::check(user, password)?;
        if !self.may_come(invitation, user, invite::is_good)? {
            return Ok(SignUp::NotInvited);
        }
        let hash = self.passwords.hash(password)?;
        if !self.claim(user)? {
            return Ok(SignUp::Taken);
        }
        let is_new = self.password_cell(user)?.is_none();
        if is_new && !self.may_come(invitation, user, invite::take)? {
            return Ok(SignUp::NotInvited);
        }
        let cells = || account_cells(user, &hash, first_cells);
        let made = is_new && matches!(self.client.batch(user, cells())?, Written::Done { .. });
        let hash = match made {
            true => hash,
            false => match self.verify(user, password)? {
                LogIn::Welcome(cell) => cell.hash,
                _ => return Ok(SignUp::Taken),
            },
        };
        self.keep_address(user, &hash)?;
        Ok(SignUp::Done)
    }

    /// Does something with an invitation; true where none is asked for.
    fn may_come(
        &self,
        invitation: Option<&str>,
        user: &str,
        step: fn(&crate::client::Client, &str, &str) -> Result<bool>,
    ) -> Result<bool> {
        invitation.map_or(Ok(true), |code| step(&self.client, code, user))
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

    /// Step 3, made good at the next login if a crash left it out. `hash` is the account's: one that is gone
    /// keeps nothing.
    pub(super) fn keep_address(&self, user: &str, hash: &str) -> Result<()> {
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
        let changed = || Error::retry("the address changed hands meanwhile");
        let Written::Done { .. } = self.client.write(Op::put_if(row, "user", user, version))?
        else {
            return Err(changed());
        };
        let items = vec![cput(user, "password", hash, hash), Op::put(user, kept, "")];
        match self.client.batch(user, items)? {
            Written::Done { .. } => Ok(()),
            _ => Err(changed()),
        }
    }
}

/// Step 2.
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
