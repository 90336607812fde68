//! Status codes: which one an error gets, and what it is called.

use crate::error::Error;

/// The one place that turns an error into an HTTP status.
pub fn status_of(error: &Error) -> u16 {
    match error {
        Error::Bad(_) => 400,
        Error::Denied(_) => 403,
        Error::TooBig(_) => 413,
        Error::Retry(_) | Error::Unknown(_) | Error::Io(..) => 503,
        Error::NoSpace | Error::TabletFull | Error::Quota { .. } => 507,
        Error::Corrupt(_) | Error::Config(_) => 500,
    }
}

/// The phrase of a status (RFC 9110, section 15).
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        423 => "Locked",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "Unnamed",
    }
}

/// Why a request is not served: they broke a rule, and this is the status to say it with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Status to answer with, 4xx or 5xx.
    pub status: u16,
    /// The rule that was broken, for a person.
    pub why: &'static str,
}

impl Refusal {
    /// A request that breaks the grammar or the framing rules.
    pub const fn bad(why: &'static str) -> Refusal {
        Refusal { status: 400, why }
    }

    /// A refusal with a status of its own.
    pub const fn new(status: u16, why: &'static str) -> Refusal {
        Refusal { status, why }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        match refusal.status {
            413 => Error::TooBig(refusal.why.into()),
            408 => Error::Io(std::io::ErrorKind::TimedOut, refusal.why.into()),
            _ => Error::bad(refusal.why),
        }
    }
}
