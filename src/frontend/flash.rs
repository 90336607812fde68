//! What was just done, said once on the next page: "File deleted." A cookie carries a code and a number, never
//! text, so whoever can set our cookies cannot put words on our pages.

use crate::http::{Request, Response};

const COOKIE: &str = "pc_flash";
/// How long the next page may take to come, in seconds.
const MAX_AGE_S: u64 = 30;

/// Codes and what they say; `#` is the number, and a text with one has a singular before it.
const TEXTS: &[(&str, &str, &str)] = &[
    ("welcome", "Welcome to PennCloud.", ""),
    ("signed-out", "You are signed out.", ""),
    ("everywhere", "You are signed out everywhere.", ""),
    ("account-deleted", "Your account is deleted.", ""),
    (
        "password",
        "Password changed. All other sessions were signed out, and passwords for programs removed.",
        "",
    ),
    ("program", "The password for that program was removed.", ""),
    ("profile", "Saved.", ""),
    ("sessions", "One other session was signed out.", "# other sessions were signed out."),
    ("session", "The session was signed out.", ""),
    ("folder", "Folder created.", ""),
    ("uploaded", "File uploaded.", "# files uploaded."),
    ("nothing", "No file was chosen.", ""),
    ("renamed", "Renamed.", ""),
    ("moved", "Moved.", ""),
    ("deleted", "Deleted.", ""),
    ("sent", "Message sent.", ""),
    ("draft", "Draft saved.", ""),
    ("mail-deleted", "Message deleted.", "# messages deleted."),
    ("mail-moved", "Message moved.", "# messages moved."),
    ("mail-marked", "Message marked.", "# messages marked."),
    ("mail-none", "No message was chosen.", ""),
];

/// What the next page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flash {
    one: &'static str,
    many: &'static str,
    n: usize,
}

impl Flash {
    /// The sentence.
    pub fn sentence(&self) -> String {
        if self.n > 1 && !self.many.is_empty() {
            self.many.replace('#', &self.n.to_string())
        } else {
            self.one.into()
        }
    }
}

/// Whether a request carries one.
pub(super) fn is_set(request: &Request) -> bool {
    request.cookie(COOKIE).is_some()
}

/// What a request carries.
pub(super) fn read(request: &Request) -> Option<Flash> {
    request.cookie(COOKIE).and_then(parse)
}

fn parse(cookie: &str) -> Option<Flash> {
    let (code, n) = cookie.split_once('.')?;
    let &(_, one, many) = TEXTS.iter().find(|(known, ..)| *known == code)?;
    Some(Flash { one, many, n: n.parse().ok()? })
}

/// Has the next page say something.
pub(super) fn set(response: Response, code: &str, n: usize) -> Response {
    debug_assert!(TEXTS.iter().any(|(known, ..)| *known == code), "{code:?} has no text");
    response.with_header("Set-Cookie", cookie(&format!("{code}.{n}"), MAX_AGE_S))
}

/// It was said.
pub(super) fn clear(response: Response) -> Response {
    response.with_header("Set-Cookie", cookie("", 0))
}

fn cookie(value: &str, age_s: u64) -> String {
    format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={age_s}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_codes_speak() {
        assert_eq!(parse("uploaded.1").unwrap().sentence(), "File uploaded.");
        assert_eq!(parse("uploaded.3").unwrap().sentence(), "3 files uploaded.");
        assert_eq!(parse("renamed.9").unwrap().sentence(), "Renamed.");
        for bad in ["", "x", "hacked.1", "uploaded.x", "uploaded.-1"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
