//! Downloads: streamed from the store, whole or a range. The bytes of users never run in our origin: they are
//! always an attachment, in a sandbox, of the type that their name says.

use super::headers::USER_BYTES_POLICY;
use super::{Visit, files};
use crate::drive::Node;
use crate::error::Result;
use crate::http::{Body, Request, Response};

/// Sends a file.
pub(super) fn download(visit: &Visit, request: &mut Request) -> Result<Response> {
    let file = match files::find(visit, request)? {
        Ok(node) if node.folder => return Ok(Response::redirect(&files::url(node.id))),
        Ok(node) => node,
        Err(gone) => return Ok(gone),
    };
    let etag = format!("\"{}\"", file.data.simple());
    let response = match wanted(request, &etag, file.size) {
        Wanted::Nothing => Response { status: 304, headers: Vec::new(), body: Body::Empty },
        Wanted::Refused => Response::text(416, "There are no such bytes in this file.\n")
            .with_header("Content-Range", &format!("bytes */{}", file.size)),
        Wanted::Bytes { range, status } => {
            let length = range.end - range.start;
            match visit.drive().open(&file, range.start, Some(length))? {
                Some(reader) => part(&file, status, range, Box::new(reader)),
                None => return Ok(files::gone(visit, request)),
            }
        }
    };
    Ok(response
        .with_header("ETag", &etag)
        .with_header("Accept-Ranges", "bytes")
        .with_header("Cache-Control", "private, no-cache"))
}

fn part(
    file: &Node,
    status: u16,
    range: std::ops::Range<u64>,
    reader: Box<dyn std::io::Read + Send>,
) -> Response {
    let whole = Response::stream(&file.content_type, Some(range.end - range.start), reader)
        .with_header("Content-Disposition", &attachment(&file.name))
        .with_header("Content-Security-Policy", USER_BYTES_POLICY);
    if status == 200 {
        return whole;
    }
    let said = format!("bytes {}-{}/{}", range.start, range.end - 1, file.size);
    Response { status, ..whole }.with_header("Content-Range", &said)
}

/// What a request wants of a file.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// It has it already.
    Nothing,
    /// Bytes that are not there.
    Refused,
    /// Bytes, with the status that says whether they are all.
    Bytes { range: std::ops::Range<u64>, status: u16 },
}

fn wanted(request: &Request, etag: &str, size: u64) -> Wanted {
    let known = request.header("If-None-Match").unwrap_or_default();
    if known.split(',').any(|tag| tag.trim() == etag || tag.trim() == "*") {
        return Wanted::Nothing;
    }
    let fresh = request.header("If-Range").is_none_or(|tag| tag == etag);
    match request.header("Range").filter(|_| fresh) {
        Some(range) => wanted_range(range, size),
        None => Wanted::Bytes { range: 0..size, status: 200 },
    }
}

/// One range of bytes (RFC 9110, section 14.2). Several, or what is none at all, get the whole file.
fn wanted_range(header: &str, size: u64) -> Wanted {
    let whole = Wanted::Bytes { range: 0..size, status: 200 };
    let Some((from, to)) = header.strip_prefix("bytes=").and_then(|r| r.trim().split_once('-'))
    else {
        return whole;
    };
    let range = match (number(from), number(to)) {
        (Some(from), Some(to)) if from <= to => from..to.saturating_add(1).min(size),
        (Some(from), None) if to.is_empty() => from..size,
        (None, Some(last)) if from.is_empty() => size.saturating_sub(last)..size,
        _ => return whole,
    };
    if range.is_empty() { Wanted::Refused } else { Wanted::Bytes { range, status: 206 } }
}

fn number(digits: &str) -> Option<u64> {
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// `Content-Disposition` of a download (RFC 6266): a name for every client, and the true one.
pub(super) fn attachment(name: &str) -> String {
    let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let exact = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}")
}

fn is_plain(c: char) -> bool {
    (c.is_ascii_graphic() || c == ' ') && !matches!(c, '"' | '\\' | '%' | '/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(range: std::ops::Range<u64>) -> Wanted {
        Wanted::Bytes { range, status: 206 }
    }

    #[test]
    fn a_range_is_cut_to_the_file() {
        assert_eq!(wanted_range("bytes=0-0", 10), bytes(0..1));
        assert_eq!(wanted_range("bytes=2-5", 10), bytes(2..6));
        assert_eq!(wanted_range("bytes=5-", 10), bytes(5..10));
        assert_eq!(wanted_range("bytes=-3", 10), bytes(7..10));
        assert_eq!(wanted_range("bytes=-30", 10), bytes(0..10));
        assert_eq!(wanted_range("bytes=5-99999999999999999", 10), bytes(5..10));
    }

    #[test]
    fn bytes_that_are_not_there_are_refused() {
        for range in ["bytes=10-", "bytes=10-12", "bytes=-0", "bytes=18446744073709551615-"] {
            assert_eq!(wanted_range(range, 10), Wanted::Refused, "{range}");
        }
        assert_eq!(wanted_range("bytes=0-", 0), Wanted::Refused);
    }

    #[test]
    fn what_is_no_single_range_gets_everything() {
        let whole = Wanted::Bytes { range: 0..10, status: 200 };
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-2",
            "bytes=a-b",
            "bytes=1-2,4-5",
            "lines=1-2",
            "bytes=+1-2",
        ] {
            assert_eq!(wanted_range(range, 10), whole, "{range}");
        }
    }

    #[test]
    fn a_file_name_cannot_leave_its_header() {
        assert_eq!(attachment("a.txt"), "attachment; filename=\"a.txt\"; filename*=UTF-8''a%2Etxt");
        let evil = attachment("\"; x=\"\r\nSet-Cookie: a=b\\ü");
        assert!(evil.is_ascii() && !evil.contains(['\r', '\n', '\\']));
        assert_eq!(evil.matches('"').count(), 2, "{evil}");
    }
}
