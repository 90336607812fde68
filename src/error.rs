//! The one error of PennCloud. Its variants say what the caller should do, not where it came from;
//! one function at each edge turns it into a protocol word, an HTTP status or an SMTP code.

use std::fmt;
use std::io;

/// `Result` with PennCloud's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by what the caller should do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The request itself is wrong: repeating it will not help.
    Bad(String),
    /// Not allowed for this caller.
    Denied(String),
    /// Larger than a limit allows.
    TooBig(String),
    /// Definitely not executed; the same request may succeed a little later or at another node.
    Retry(String),
    /// May or may not have been executed: a lost connection or a deadline after sending.
    Unknown(String),
    /// A disk is full, or below its low-water mark: nothing was written, and it may be tried again when there is room.
    NoSpace,
    /// The tablet has reached its size limit: nothing was written.
    TabletFull,
    /// A counter would grow over its bound, which is how a user's quota is kept: nothing was written.
    Quota {
        /// What is counted now.
        used: i64,
        /// The bound.
        limit: i64,
    },
    /// Stored or received bytes fail their checksum or their format.
    Corrupt(String),
    /// The operating system refused; the kind is kept.
    Io(io::ErrorKind, String),
    /// The configuration or the environment does not allow a start; the sentence is for the operator.
    Config(String),
}

impl Error {
    /// [`Error::Bad`] from anything printable.
    pub fn bad(why: impl fmt::Display) -> Error {
        Error::Bad(why.to_string())
    }

    /// [`Error::Retry`] from anything printable.
    pub fn retry(why: impl fmt::Display) -> Error {
        Error::Retry(why.to_string())
    }

    /// [`Error::Unknown`] from anything printable.
    pub fn unknown(why: impl fmt::Display) -> Error {
        Error::Unknown(why.to_string())
    }

    /// [`Error::Corrupt`] from anything printable.
    pub fn corrupt(why: impl fmt::Display) -> Error {
        Error::Corrupt(why.to_string())
    }

    /// [`Error::Config`] from anything printable.
    pub fn config(why: impl fmt::Display) -> Error {
        Error::Config(why.to_string())
    }

    /// What cannot be read in one copy may be whole in another: the same may be asked again.
    pub fn of_this_copy(self) -> Error {
        match self {
            Error::Corrupt(why) | Error::Io(_, why) => {
                Error::retry(format!("this copy is damaged: {why}"))
            }
            other => other,
        }
    }

    /// Adds what was being done to an I/O error; other errors stay as they are.
    pub fn during(self, what: impl fmt::Display) -> Error {
        match self {
            Error::Io(kind, why) => Error::Io(kind, format!("{what}: {why}")),
            other => other,
        }
    }

    /// Whether the request definitely had no effect.
    pub fn is_definite(&self) -> bool {
        !matches!(self, Error::Unknown(_) | Error::Io(..) | Error::Corrupt(_))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Bad(why) => write!(f, "bad request: {why}"),
            Error::Denied(why) => write!(f, "denied: {why}"),
            Error::TooBig(why) => write!(f, "too big: {why}"),
            Error::Retry(why) => write!(f, "not executed, try again: {why}"),
            Error::Unknown(why) => write!(f, "outcome unknown: {why}"),
            Error::NoSpace => f.write_str("no space left on a storage disk"),
            Error::TabletFull => f.write_str("the tablet is full"),
            Error::Quota { used, limit } => write!(f, "over the quota: {used} of {limit} are used"),
            Error::Corrupt(why) => write!(f, "corrupt: {why}"),
            Error::Io(_, why) => write!(f, "input/output: {why}"),
            Error::Config(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    /// An error of ours that passed through a reader comes back as it was.
    fn from(e: io::Error) -> Error {
        e.downcast::<Error>().unwrap_or_else(|e| Error::Io(e.kind(), e.to_string()))
    }
}

impl From<Error> for io::Error {
    fn from(e: Error) -> io::Error {
        match e {
            Error::Io(kind, why) => io::Error::new(kind, why),
            other => io::Error::other(other),
        }
    }
}
