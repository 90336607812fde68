//! One answer of the server.

use crate::error::Error;
use std::fmt;

/// A reply code, an enhanced code where RFC 2034 wants one, and text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Three digits; the first says what the client should do (RFC 5321, 4.2.1).
    pub code: u16,
    /// As RFC 3463; its class is that of the code. None on 220, 354 and answers to EHLO.
    pub enhanced: Option<&'static str>,
    /// At least one line, without its end.
    pub lines: Vec<String>,
}

impl Reply {
    /// A reply of one line.
    pub fn new(code: u16, enhanced: &'static str, text: impl Into<String>) -> Reply {
        Reply { code, enhanced: Some(enhanced), lines: vec![text.into()] }
    }

    /// A reply without an enhanced code.
    pub fn plain<T: Into<String>>(code: u16, lines: impl IntoIterator<Item = T>) -> Reply {
        Reply { code, enhanced: None, lines: lines.into_iter().map(Into::into).collect() }
    }

    /// What a failing store means to the client: the one place where an [`Error`] becomes a code.
    pub fn of_error(error: &Error) -> Reply {
        match error {
            Error::TooBig(_) => Reply::new(552, "5.3.4", "The message is too big"),
            Error::Quota { .. } => Reply::new(452, "4.2.2", "The mailbox is full"),
            Error::NoSpace | Error::TabletFull => {
                Reply::new(452, "4.3.1", "No space is left for mail; try again later")
            }
            _ => Reply::new(451, "4.3.0", "The mail store is out of reach; try again later"),
        }
    }

    /// Whether it says that something went wrong.
    pub fn is_failure(&self) -> bool {
        self.code >= 400
    }
}

/// As it goes over the wire, the last line with its end.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, line) in self.lines.iter().enumerate() {
            let mark = if i + 1 < self.lines.len() { '-' } else { ' ' };
            write!(f, "{}{mark}", self.code)?;
            if let Some(enhanced) = self.enhanced {
                write!(f, "{enhanced} ")?;
            }
            write!(f, "{line}\r\n")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_but_the_last_has_a_hyphen() {
        assert_eq!(Reply::plain(250, ["a", "b"]).to_string(), "250-a\r\n250 b\r\n");
        assert_eq!(Reply::new(550, "5.1.1", "no").to_string(), "550 5.1.1 no\r\n");
    }

    #[test]
    fn a_store_that_fails_for_now_never_refuses_for_ever() {
        for error in [
            Error::retry("x"),
            Error::unknown("x"),
            Error::NoSpace,
            Error::TabletFull,
            Error::Quota { used: 2, limit: 1 },
            Error::corrupt("x"),
            Error::bad("x"),
            Error::Io(std::io::ErrorKind::TimedOut, "x".into()),
        ] {
            assert_eq!(Reply::of_error(&error).code / 100, 4, "{error}");
        }
    }
}
