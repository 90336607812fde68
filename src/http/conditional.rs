//! Conditions on what the client has already, and ranges of it (RFC 9110, sections 13 and 14).

use crate::http::date;
use crate::http::headers::Headers;
use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

/// What of a resource is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranged {
    /// All of it: 200.
    Whole,
    /// These bytes: 206.
    Part(Range<u64>),
    /// Bytes that are not there: 416.
    Unsatisfiable,
}

/// What of `length` bytes a `Range` field asks for. Anything but one range of bytes is ignored, as the
/// RFC allows.
pub fn parse_range(field: Option<&str>, length: u64) -> Ranged {
    let spec = field.and_then(|f| f.strip_prefix("bytes=")).and_then(|s| s.split_once('-'));
    let Some((first, last)) = spec.map(|(f, l)| (f.trim(), l.trim())) else { return Ranged::Whole };
    let (first, last) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last),
        (Some(first), None) if last.is_empty() => (first, u64::MAX),
        (None, Some(0)) if first.is_empty() => return Ranged::Unsatisfiable,
        (None, Some(tail)) if first.is_empty() => (length.saturating_sub(tail), u64::MAX),
        _ => return Ranged::Whole,
    };
    match first < length {
        true => Ranged::Part(first..last.saturating_add(1).min(length)),
        false => Ranged::Unsatisfiable,
    }
}

fn number(digits: &str) -> Option<u64> {
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

/// The `Content-Range` of a 206.
pub fn content_range(part: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", part.start, part.end.saturating_sub(1))
}

/// Whether the client has this already: 304. `etag` is quoted, as it is sent.
pub fn is_fresh(headers: &Headers, etag: &str, modified: Option<SystemTime>) -> bool {
    if headers.get("if-none-match").is_some() {
        let mut tags = headers.all("if-none-match").flat_map(|v| v.split(',')).map(str::trim);
        return tags.any(|tag| tag == "*" || weakly_equal(tag, etag));
    }
    let since = headers.get("if-modified-since").and_then(date::parse);
    matches!((since, modified), (Some(since), Some(modified)) if seconds(modified) <= seconds(since))
}

/// Whether a `Range` field counts: with `If-Range` only for what the client has a part of.
pub fn range_applies(headers: &Headers, etag: &str, modified: Option<SystemTime>) -> bool {
    match headers.get("if-range") {
        None => true,
        Some(tag) if tag.starts_with('"') => tag == etag,
        Some(tag) if tag.starts_with("W/") => false,
        Some(date) => {
            let then = date::parse(date).map(seconds);
            then.is_some() && then == modified.map(seconds)
        }
    }
}

fn weakly_equal(a: &str, b: &str) -> bool {
    a.strip_prefix("W/").unwrap_or(a) == b.strip_prefix("W/").unwrap_or(b)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        for (field, expected) in [
            ("bytes=0-0", Ranged::Part(0..1)),
            ("bytes=5-", Ranged::Part(5..10)),
            ("bytes=-3", Ranged::Part(7..10)),
            ("bytes=-30", Ranged::Part(0..10)),
            ("bytes=2-99", Ranged::Part(2..10)),
            ("bytes=0-18446744073709551615", Ranged::Part(0..10)),
            ("bytes=10-", Ranged::Unsatisfiable),
            ("bytes=-0", Ranged::Unsatisfiable),
            ("bytes=5-4", Ranged::Whole),
            ("bytes=-", Ranged::Whole),
            ("bytes=+1-2", Ranged::Whole),
            ("bytes=0-1,3-4", Ranged::Whole),
            ("bytes=99999999999999999999-", Ranged::Whole),
            ("lines=0-1", Ranged::Whole),
            ("", Ranged::Whole),
        ] {
            assert_eq!(parse_range(Some(field), 10), expected, "{field}");
        }
        assert_eq!(parse_range(None, 10), Ranged::Whole);
        assert_eq!(parse_range(Some("bytes=0-"), 0), Ranged::Unsatisfiable);
        assert_eq!(content_range(&(2..10), 20), "bytes 2-9/20");
    }

    fn headers(name: &str, value: &str) -> Headers {
        let mut headers = Headers::default();
        headers.add(name, value.as_bytes());
        headers
    }

    #[test]
    fn what_the_client_has_is_fresh() {
        let modified = date::parse("Sun, 06 Nov 1994 08:49:37 GMT");
        for (name, value, fresh) in [
            ("if-none-match", "\"a\"", true),
            ("if-none-match", "\"x\", W/\"a\"", true),
            ("if-none-match", "*", true),
            ("if-none-match", "\"b\"", false),
            ("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT", true),
            ("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT", false),
            ("if-modified-since", "yesterday", false),
        ] {
            assert_eq!(
                is_fresh(&headers(name, value), "\"a\"", modified),
                fresh,
                "{name}: {value}"
            );
        }
    }

    #[test]
    fn a_range_of_another_version_does_not_apply() {
        let modified = date::parse("Sun, 06 Nov 1994 08:49:37 GMT");
        for (value, applies) in [
            ("\"a\"", true),
            ("\"b\"", false),
            ("W/\"a\"", false),
            ("Sun, 06 Nov 1994 08:49:37 GMT", true),
            ("Sun, 06 Nov 1994 08:49:38 GMT", false),
            ("nonsense", false),
        ] {
            assert_eq!(
                range_applies(&headers("if-range", value), "\"a\"", modified),
                applies,
                "{value}"
            );
        }
    }
}
