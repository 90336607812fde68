//! How a value is shown: as text or as hexadecimal digits, its first [`BYTES_MAX`] bytes; secrets not at all.

/// Bytes of a value that are shown.
pub(super) const BYTES_MAX: usize = 64 << 10;
/// Characters of a value in a list.
const PREVIEW_CHARS: usize = 120;
/// Bytes on a line of digits.
const LINE_BYTES: usize = 16;

/// How it is to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// As text if it is text, else in digits.
    Auto,
    /// As text, with marks for what is none.
    Text,
    /// In digits.
    Hex,
}

impl Shape {
    /// From the word in an address.
    pub(super) fn parse(word: Option<&str>) -> Shape {
        match word {
            Some("text") => Shape::Text,
            Some("hex") => Shape::Hex,
            _ => Shape::Auto,
        }
    }
}

/// A value as it is shown.
pub(super) struct Shown {
    /// What stands on the page.
    pub(super) text: String,
    /// Whether these are digits.
    pub(super) hex: bool,
    /// Whether the value goes on.
    pub(super) cut: bool,
}

/// Whether a cell holds what must not be shown: password hashes and sessions.
pub(super) fn is_private(row: &[u8], column: &[u8]) -> bool {
    column == b"password"
        || column.starts_with(b"session/")
        || column.starts_with(b"apppass/")
        || row.starts_with(b"~console/session")
}

/// Shows the first bytes of a value of a length.
pub(super) fn show(bytes: &[u8], length: u64, shape: Shape) -> Shown {
    let bytes = &bytes[..bytes.len().min(BYTES_MAX)];
    let cut = (bytes.len() as u64) < length;
    let hex = match shape {
        Shape::Auto => !is_text(bytes, cut),
        Shape::Text => false,
        Shape::Hex => true,
    };
    let text = if hex { digits(bytes) } else { String::from_utf8_lossy(bytes).into_owned() };
    Shown { text, hex, cut }
}

/// The beginning of a value on one line.
pub(super) fn preview(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(PREVIEW_CHARS * 4)];
    if !is_text(start, start.len() < bytes.len()) {
        let shown = start.iter().take(PREVIEW_CHARS / 4).map(|b| format!("{b:02x} "));
        return shown.collect::<String>().trim_end().into();
    }
    let text = String::from_utf8_lossy(start);
    let line = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(PREVIEW_CHARS).map(line).collect()
}

/// Whether bytes are text for people. A character may be cut in two at the end.
fn is_text(bytes: &[u8], cut: bool) -> bool {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) if cut && e.error_len().is_none() => {
            std::str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
}

/// Offset, digits and characters, a line for 16 bytes.
fn digits(bytes: &[u8]) -> String {
    let line = |(n, line): (usize, &[u8])| {
        let digits: String = line.iter().map(|b| format!("{b:02x} ")).collect();
        let graphic =
            |b: &u8| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '.' };
        let characters: String = line.iter().map(graphic).collect();
        format!("{:08x}  {digits:48} {characters}\n", n * LINE_BYTES)
    };
    bytes.chunks(LINE_BYTES).enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_private() {
        assert!(is_private(b"alice", b"password") && is_private(b"~console/admin", b"password"));
        assert!(is_private(b"alice", b"session/x") && is_private(b"alice", b"apppass/1"));
        assert!(is_private(b"~console/session", b"anything"));
        assert!(!is_private(b"alice/mail", b"m/inbox/000000000001"));
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_in_digits() {
        let shown = show(b"\x00A\xff", 3, Shape::Auto);
        assert!(shown.hex && !shown.cut);
        assert_eq!(shown.text, format!("00000000  {:48} .A.\n", "00 41 ff "));
        assert!(!show(b"\x00A\xff", 3, Shape::Text).hex);
        assert!(show(b"text", 4, Shape::Hex).hex);
    }

    #[test]
    fn a_character_cut_in_two_is_still_text() {
        let long = format!("a{}", "ü".repeat(BYTES_MAX));
        let shown = show(long.as_bytes(), long.len() as u64, Shape::Auto);
        assert!(!shown.hex && shown.cut);
    }

    #[test]
    fn a_preview_is_one_line() {
        assert_eq!(preview(b"two\nlines"), "two lines");
        assert_eq!(preview(b"\x01\x02"), "01 02");
        assert_eq!(preview("ü".repeat(1000).as_bytes()).chars().count(), PREVIEW_CHARS);
    }
}
