//! The writes that need no stream: `cput`, `delete`, `delete-row`, `add`, `append`.

use super::arguments::{Add, Command};
use super::end::{End, done};
use super::name::shown;
use crate::client::{Client, Op};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

/// Makes one change; prints the sum or the column that it made, else its version.
pub(super) fn run(store: &Client, command: &Command, out: &mut dyn Write) -> Result<(), End> {
    let op = op(command).ok_or_else(|| End::usage("this is no write"))?;
    let (version, words) = done(store.write(op))?;
    let made = words.first().map_or_else(|| version.to_string(), |word| shown(word));
    writeln!(out, "{made}").map_err(End::output)
}

/// The op of a command, if it is a write.
fn op(command: &Command) -> Option<Op> {
    Some(match command {
        Command::Cput(cput) => Op::Cput {
            row: cput.row.0.clone(),
            column: cput.column.0.clone(),
            old: cput.old.as_bytes().to_vec(),
            new: cput.new.as_bytes().to_vec(),
            ttl: None,
        },
        Command::Delete(delete) => Op::Delete {
            row: delete.row.0.clone(),
            column: delete.column.0.clone(),
            if_version: delete.if_version,
        },
        Command::DeleteRow { row } => Op::delete_row(row.0.clone()),
        Command::Add(Add { row, column, delta, max }) => {
            Op::Add { row: row.0.clone(), column: column.0.clone(), delta: *delta, max: *max }
        }
        Command::Append(append) => {
            Op::append(append.row.0.clone(), append.prefix.0.clone(), append.value.as_bytes())
        }
        _ => return None,
    })
}
