//! User names: valid as the local part of a mail address, as a row's owner, and to the eye.

use super::DISPLAY_NAME_CHARS_MAX;
use crate::error::{Error, Result};

/// Shortest and longest user name, in characters.
pub const LENGTH: std::ops::RangeInclusive<usize> = 3..=32;

/// Names that no stranger may have: roles that mail must reach (RFC 2142, RFC 5321 section 4.5.1), and
/// names that would be taken for the house's own.
const RESERVED: &[&str] = &[
    "abuse",
    "admin",
    "administrator",
    "console",
    "daemon",
    "help",
    "hostmaster",
    "info",
    "mailer-daemon",
    "master",
    "no-reply",
    "nobody",
    "noc",
    "noreply",
    "penncloud",
    "postmaster",
    "root",
    "security",
    "support",
    "system",
    "webmaster",
];

/// The name as it is kept: without spaces around it, in lower case.
pub fn normal(typed: &str) -> String {
    typed.trim().to_ascii_lowercase()
}

/// Says what is wrong with a (normal) user name.
pub fn check(user: &str) -> Result<()> {
    match fault(user) {
        Some(why) => Err(Error::bad(why)),
        None => Ok(()),
    }
}

fn fault(user: &str) -> Option<&'static str> {
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !LENGTH.contains(&user.chars().count()) {
        return Some("a user name has 3 to 32 characters");
    }
    if !user.chars().all(|c| ends(c) || "._-".contains(c)) {
        return Some(
            "a user name has only the letters a to z, digits, dots, hyphens and underscores",
        );
    }
    if !user.starts_with(ends) {
        return Some("a user name begins with a letter or a digit");
    }
    if user.ends_with('.') || user.contains("..") {
        return Some("a user name has no two dots in a row and does not end in one");
    }
    RESERVED.contains(&user).then_some("this name is reserved")
}

/// A display name without spaces around it, or what is wrong with it. Empty is none.
pub fn check_display(typed: &str) -> Result<&str> {
    let name = typed.trim();
    if name.chars().count() > DISPLAY_NAME_CHARS_MAX {
        return Err(Error::bad(format!(
            "a display name has at most {DISPLAY_NAME_CHARS_MAX} characters"
        )));
    }
    if name.chars().any(char::is_control) {
        return Err(Error::bad("a display name has no control characters"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_pass() {
        for user in
            ["alice", "b0b", "anna.maria", "x_y-z", "007", "a23456789012345678901234567890b2"]
        {
            assert_eq!(fault(user), None, "{user}");
        }
    }

    #[test]
    fn names_that_are_no_local_part_are_refused() {
        for user in [
            "",
            "al",
            ".alice",
            "alice.",
            "a..b",
            "-alice",
            "_alice",
            "Alice",
            "al ice",
            "al/ice",
            "al~x",
            "alicé",
            "alice@x",
            "a\0bc",
            "al=ice",
            "al%ice",
            "a2345678901234567890123456789012b",
        ] {
            assert!(fault(user).is_some(), "{user:?}");
        }
    }

    #[test]
    fn roles_are_reserved() {
        for user in ["postmaster", "abuse", "root", "admin", "mailer-daemon"] {
            assert!(check(user).is_err(), "{user}");
        }
    }

    #[test]
    fn typed_names_lose_case_and_spaces() {
        assert_eq!(normal("  Alice "), "alice");
    }

    #[test]
    fn display_names_are_bounded() {
        assert_eq!(check_display("  Alice Ünal ").unwrap(), "Alice Ünal");
        assert!(check_display("a\nb").is_err());
        assert!(check_display(&"x".repeat(81)).is_err());
    }
}
