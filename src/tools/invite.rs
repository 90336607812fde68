//! `penncloud invite`: codes with which people sign up where strangers may not.

use crate::account::Accounts;
use crate::client::Client;
use crate::config::Config;
use crate::error::{Error, Result};
use std::io::Write;

/// Longest time that an invitation is good, in days.
const DAYS_MAX: u64 = 365;
/// Most invitations that are made at once.
const COUNT_MAX: u32 = 1000;

/// Makes invitations in a running cluster that are good for so many days, and prints a code a line.
pub fn run(config: &Config, count: u32, days: u64, out: &mut dyn Write) -> Result<()> {
    if !(1..=DAYS_MAX).contains(&days) || !(1..=COUNT_MAX).contains(&count) {
        return Err(Error::config(format!(
            "1 to {COUNT_MAX} invitations for 1 to {DAYS_MAX} days"
        )));
    }
    let accounts = Accounts::new(Client::new(config)?, &config.cluster, &config.accounts);
    for _ in 0..count {
        writeln!(out, "{}", accounts.invite(days * 24 * 3600)?)?;
    }
    Ok(())
}
