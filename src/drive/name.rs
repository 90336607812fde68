//! Names of folders and files: data, never paths.

use crate::error::{Error, Result};

/// Longest name, in bytes of UTF-8: what the usual file systems take when it is downloaded.
pub const NAME_BYTES_MAX: usize = 255;

/// Says what is wrong with a name.
pub fn check(name: &str) -> Result<()> {
    match fault(name) {
        Some(why) => Err(Error::bad(why)),
        None => Ok(()),
    }
}

fn fault(name: &str) -> Option<&'static str> {
    if name.trim().is_empty() {
        return Some("a name is needed");
    }
    if name.chars().all(is_invisible) {
        return Some("a name needs a character that can be seen");
    }
    if name.len() > NAME_BYTES_MAX {
        return Some("a name has at most 255 bytes");
    }
    if name == "." || name == ".." {
        return Some("a name of dots alone means something else elsewhere");
    }
    if name.contains('/') {
        return Some("a name has no slash");
    }
    if name.chars().any(char::is_control) {
        return Some("a name has no control characters");
    }
    name.chars()
        .any(turns_text)
        .then_some("a name has no characters that turn the direction of text")
}

/// Characters that override the direction of text: `photo\u{202E}gpj.exe` would be shown as an image.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// Characters that leave no mark by themselves.
fn is_invisible(c: char) -> bool {
    let blank =
        matches!(c, '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}' | '\u{1160}' | '\u{2800}');
    let filler = matches!(c, '\u{3164}' | '\u{FEFF}' | '\u{FFA0}' | '\u{180B}'..='\u{180F}');
    let mark =
        matches!(c, '\u{200B}'..='\u{200F}' | '\u{2060}'..='\u{206F}' | '\u{FE00}'..='\u{FE0F}');
    let tag = matches!(c, '\u{E0000}'..='\u{E0FFF}');
    c.is_whitespace() || blank || filler || mark || tag
}

/// What a browser sends as the name of an uploaded file, without the folders that some put before it.
pub fn of_upload(sent: &str) -> &str {
    sent.rsplit(['/', '\\']).next().unwrap_or(sent)
}

/// The `n`th name to try where `name` is taken: `photo (2).jpg`. Never longer than a name may be.
pub fn numbered(name: &str, n: usize) -> String {
    let (stem, extension) = split(name);
    let suffix = format!(" ({n}){extension}");
    format!("{}{suffix}", cut(stem, NAME_BYTES_MAX - suffix.len()))
}

/// Stem and extension with its dot; an extension is short, and a leading dot begins none.
fn split(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(at) if at > 0 && name.len() - at <= 16 => name.split_at(at),
        _ => (name, ""),
    }
}

/// The longest start of a text that has at most so many bytes and cuts no character.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_language_and_punctuation_passes() {
        for name in [
            "a",
            "report.pdf",
            "ünï çödé.txt",
            "東京 🗼.jpg",
            "\"><img src=x onerror=alert(1)>",
            "it's \"quoted\"",
            "a\\b",
            "...",
            ".hidden",
            "%2e%2e",
            "con",
            "a:b*c?",
            " spaces around ",
            &"x".repeat(255),
        ] {
            assert_eq!(fault(name), None, "{name:?}");
        }
    }

    #[test]
    fn names_that_mislead_are_refused() {
        for name in [
            "",
            "   ",
            "\u{200B}",
            " \u{FEFF}\u{2060}",
            ".",
            "..",
            "a/b",
            "/",
            "../x",
            "a\0b",
            "a\nb",
            "\u{7f}x",
            "x\u{85}y",
            "photo\u{202E}gpj.exe",
            &"x".repeat(256),
            &"ü".repeat(128),
        ] {
            assert!(check(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn an_uploaded_name_loses_its_folders() {
        assert_eq!(of_upload("C:\\fakepath\\a.txt"), "a.txt");
        assert_eq!(of_upload("../../etc/passwd"), "passwd");
        assert_eq!(of_upload("a.txt"), "a.txt");
    }

    #[test]
    fn taken_names_are_numbered_before_the_extension() {
        assert_eq!(numbered("photo.jpg", 2), "photo (2).jpg");
        assert_eq!(numbered("README", 3), "README (3)");
        assert_eq!(numbered(".profile", 2), ".profile (2)");
        assert_eq!(numbered("a.tar.gz", 2), "a.tar (2).gz");
        let long = numbered(&format!("{}.txt", "ü".repeat(125)), 12);
        assert!(long.len() <= NAME_BYTES_MAX && long.ends_with(" (12).txt"), "{long}");
    }
}
