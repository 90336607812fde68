//! How a command ends when it is not done: what is said, and the exit code.

use crate::client::Written;
use crate::error::{Error, Result};
use crate::protocol::cell::Bytes;
use crate::protocol::reply::Reply;
use std::fmt::Display;
use std::io;

/// Why a command is not done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// There is no such cell or row.
    NotFound,
    /// The condition does not hold: the cell's version now; 0 is no such cell.
    Mismatch(u64),
    /// Nothing was asked of the store.
    Usage(String),
    /// Refused or failed.
    Failed(String),
    /// Nobody reads the output any more.
    Closed,
}

impl End {
    /// Something given to the command is wrong.
    pub(super) fn usage(why: impl Display) -> End {
        End::Usage(why.to_string())
    }

    /// A read was refused or failed.
    pub(super) fn read(error: Error) -> End {
        End::Failed(said(&error))
    }

    /// A write was refused or failed.
    pub(super) fn write(error: Error) -> End {
        let effect = match error.is_definite() {
            true => "it was not executed",
            false => "it may have been executed",
        };
        End::Failed(format!("{}; {effect}", said(&error)))
    }

    /// A value could not be brought to the store whole.
    pub(super) fn upload(error: Error) -> End {
        End::Failed(format!("{}; nothing was written", said(&error)))
    }

    /// Output could not be written.
    pub(super) fn output(error: io::Error) -> End {
        match error.kind() {
            io::ErrorKind::BrokenPipe => End::Closed,
            _ => End::Failed(format!("cannot write the output: {error}")),
        }
    }

    /// The exit code.
    pub(super) fn code(&self) -> i32 {
        match self {
            End::NotFound | End::Mismatch(_) => 1,
            End::Usage(_) => 2,
            End::Failed(_) | End::Closed => 3,
        }
    }

    /// What is said about it.
    pub(super) fn sentence(&self) -> Option<String> {
        match self {
            End::NotFound => Some("not found".into()),
            End::Mismatch(0) => Some("mismatch: there is no such cell (version 0)".into()),
            End::Mismatch(version) => Some(format!("mismatch: the cell has version {version}")),
            End::Usage(why) | End::Failed(why) => Some(why.clone()),
            End::Closed => None,
        }
    }
}

/// What a write made: its version and words, or why it did not happen.
pub(super) fn done(written: Result<Written>) -> Result<(u64, Vec<Bytes>), End> {
    match written.map_err(End::write)? {
        Written::Done { version, words } => Ok((version, words)),
        Written::Mismatch { version, .. } => Err(End::Mismatch(version)),
        Written::NotFound => Err(End::NotFound),
    }
}

/// An error with the protocol's word for it, where the store or the way to it is meant.
fn said(error: &Error) -> String {
    if matches!(error, Error::Io(..) | Error::Corrupt(_) | Error::Config(_)) {
        return error.to_string();
    }
    let mut line = Vec::new();
    Reply::Error(error.clone()).write(&mut line);
    let line = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
    match line.split_once(' ') {
        Some((word, why)) => format!("{word}: {why}"),
        None => format!("{line}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_says_whether_it_may_have_been_executed() {
        let sentence = |error| End::write(error).sentence().unwrap();
        assert_eq!(
            sentence(Error::retry("no primary now")),
            "RETRY: no primary now; it was not executed"
        );
        assert_eq!(sentence(Error::unknown("cut")), "UNKNOWN: cut; it may have been executed");
        assert_eq!(
            sentence(Error::TabletFull),
            "TABLETFULL: the tablet is full; it was not executed"
        );
        assert_eq!(
            sentence(Error::TooBig("at most 5".into())),
            "TOOBIG: at most 5; it was not executed"
        );
    }

    #[test]
    fn codes_tell_how_it_ended() {
        let ends = [
            (End::NotFound, 1),
            (End::Mismatch(7), 1),
            (End::usage("x"), 2),
            (End::read(Error::NoSpace), 3),
            (End::output(io::ErrorKind::BrokenPipe.into()), 3),
            (End::output(io::ErrorKind::StorageFull.into()), 3),
        ];
        ends.iter().for_each(|(end, code)| assert_eq!(end.code(), *code, "{end:?}"));
        assert_eq!(End::Closed.sentence(), None);
        assert!(End::Mismatch(7).sentence().unwrap().ends_with("version 7"));
    }
}
