//! What of a resource a client wants: what it has already it need not get again, and it may ask for a part
//! (RFC 9110, sections 13 and 14). Resources are known by their strong `ETag` alone.

use crate::error::Result;
use crate::http::headers::Headers;
use crate::http::method::Method;
use crate::http::request::Request;
use crate::http::response::Response;
use std::borrow::Cow;
use std::ops::Range;

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The client has it already: 304.
    Nothing,
    /// All of it: 200.
    Whole,
    /// These bytes: 206.
    Part(Range<u64>),
    /// Bytes that are not there: 416.
    Missing,
    /// Another version of it: 412.
    Other,
}

/// Answers with what a request wants of a resource of `length` bytes; `etag` is quoted, as it is sent. `open` gives a
/// 200 with the bytes of a range, or `None` when the resource is gone after all.
pub fn answer(
    request: &Request<'_>,
    etag: impl Into<Cow<'static, str>>,
    length: u64,
    open: impl FnOnce(Range<u64>) -> Result<Option<Response>>,
) -> Result<Option<Response>> {
    let etag = etag.into();
    let response = match wanted(request.method, &request.headers, &etag, length) {
        Wanted::Nothing => Some(Response::empty(304)),
        Wanted::Whole => open(0..length)?,
        Wanted::Part(part) => open(part.clone())?.map(|mut response| {
            response.status = 206;
            response.with_header("Content-Range", content_range(&part, length))
        }),
        Wanted::Missing => Some(
            Response::text(416, "There are no such bytes.\n")
                .with_header("Content-Range", format!("bytes */{length}")),
        ),
        Wanted::Other => Some(Response::text(412, "It is another version by now.\n")),
    };
    let describe = |r: Response| r.with_header("ETag", etag).with_header("Accept-Ranges", "bytes");
    Ok(response.map(describe))
}

/// Answers with what a request wants of bytes that are at hand and never gone.
pub fn answer_bytes(
    request: &Request<'_>,
    etag: impl Into<Cow<'static, str>>,
    content_type: &'static str,
    bytes: &'static [u8],
) -> Result<Response> {
    let open = |range: Range<u64>| {
        let part = &bytes[range.start as usize..range.end as usize];
        Ok(Some(Response::bytes(200, content_type, part)))
    };
    let answer = answer(request, etag, bytes.len() as u64, open)?;
    Ok(answer.expect("what is at hand is never gone"))
}

/// What a request's fields say, in the order in which they count (RFC 9110, section 13.2.2).
pub fn wanted(method: Method, headers: &Headers, etag: &str, length: u64) -> Wanted {
    if headers.get("if-match").is_some() && !names(headers, "if-match", |tag| tag == etag) {
        return Wanted::Other;
    }
    if names(headers, "if-none-match", |tag| tag.strip_prefix("W/").unwrap_or(tag) == etag) {
        return Wanted::Nothing;
    }
    let applies = method == Method::Get && headers.get("if-range").is_none_or(|tag| tag == etag);
    match headers.get("range").filter(|_| applies) {
        Some(field) => range(field, length),
        None => Wanted::Whole,
    }
}

/// Whether a field's list of tags is `*` or has one that is ours.
fn names(headers: &Headers, field: &str, is_ours: impl Fn(&str) -> bool) -> bool {
    let mut tags = headers.all(field).flat_map(|v| v.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || is_ours(tag))
}

/// `Content-Range` of a 206.
fn content_range(part: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", part.start, part.end.saturating_sub(1))
}

/// What a `Range` field asks for. Anything but one range of bytes is ignored, as the RFC allows.
fn range(field: &str, length: u64) -> Wanted {
    let (unit, spec) = field.split_once('=').unwrap_or_default();
    let Some((first, last)) = spec.split_once('-').filter(|_| unit.eq_ignore_ascii_case("bytes"))
    else {
        return Wanted::Whole;
    };
    let (first, last) = (first.trim(), last.trim());
    let part = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(length),
        (Some(first), None) if last.is_empty() => first..length,
        (None, Some(tail)) if first.is_empty() => length.saturating_sub(tail)..length,
        _ => return Wanted::Whole,
    };
    if part.is_empty() { Wanted::Missing } else { Wanted::Part(part) }
}

fn number(digits: &str) -> Option<u64> {
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[(&str, &str)], length: u64) -> Wanted {
        let mut headers = Headers::default();
        fields.iter().for_each(|(name, value)| headers.add(name, value.as_bytes()));
        wanted(Method::Get, &headers, "\"a\"", length)
    }

    #[test]
    fn a_range_is_cut_to_what_is_there() {
        for (field, expected) in [
            ("bytes=0-0", 0..1),
            ("bytes=5-", 5..10),
            ("Bytes=5-", 5..10),
            ("bytes=-3", 7..10),
            ("bytes=-30", 0..10),
            ("bytes=2-99", 2..10),
            ("bytes=0-18446744073709551615", 0..10),
        ] {
            assert_eq!(of(&[("Range", field)], 10), Wanted::Part(expected), "{field}");
        }
        assert_eq!(content_range(&(2..10), 20), "bytes 2-9/20");
    }

    #[test]
    fn bytes_that_are_not_there_are_missing() {
        for field in ["bytes=10-", "bytes=10-12", "bytes=-0", "bytes=18446744073709551615-"] {
            assert_eq!(of(&[("Range", field)], 10), Wanted::Missing, "{field}");
        }
        assert_eq!(of(&[("Range", "bytes=0-")], 0), Wanted::Missing);
    }

    #[test]
    fn what_is_no_single_range_gets_everything() {
        for field in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-4",
            "bytes=+1-2",
            "bytes=a-b",
            "bytes=0-1,3-4",
            "bytes=99999999999999999999-",
            "lines=0-1",
        ] {
            assert_eq!(of(&[("Range", field)], 10), Wanted::Whole, "{field}");
        }
        assert_eq!(of(&[], 10), Wanted::Whole);
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        for (tags, has) in
            [("\"a\"", true), ("\"x\", W/\"a\"", true), ("*", true), ("\"b\"", false), ("a", false)]
        {
            let expected = if has { Wanted::Nothing } else { Wanted::Whole };
            assert_eq!(of(&[("If-None-Match", tags)], 10), expected, "{tags}");
        }
    }

    #[test]
    fn another_version_than_the_client_wants_is_refused() {
        for (tags, ours) in
            [("\"x\", \"a\"", true), ("*", true), ("\"b\"", false), ("W/\"a\"", false)]
        {
            let expected = if ours { Wanted::Whole } else { Wanted::Other };
            assert_eq!(of(&[("If-Match", tags)], 10), expected, "{tags}");
        }
    }

    #[test]
    fn a_part_is_for_get_alone() {
        let mut headers = Headers::default();
        headers.add("Range", b"bytes=0-0");
        assert_eq!(wanted(Method::Head, &headers, "\"a\"", 10), Wanted::Whole);
    }

    #[test]
    fn a_part_of_another_version_becomes_the_whole() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (tag, part) in [("\"a\"", true), ("\"b\"", false), ("W/\"a\"", false), (date, false)] {
            let expected = if part { Wanted::Part(0..1) } else { Wanted::Whole };
            assert_eq!(of(&[("If-Range", tag), ("Range", "bytes=0-0")], 10), expected, "{tag}");
        }
    }
}
