//! Downloads: streamed from the store, whole or a range. The bytes of users never run in our origin: they are
//! always an attachment, in a sandbox, and of a harmless type.

use super::headers::USER_BYTES_POLICY;
use super::{Visit, files};
use crate::drive::Node;
use crate::error::Result;
use crate::http::{Request, Response, conditional};
use std::ops::Range;

/// Sends a file.
pub(super) fn download(visit: &Visit, request: &mut Request) -> Result<Response> {
    let file = match files::find(visit, request)? {
        Ok(node) if node.folder => return Ok(Response::redirect(&files::url(node.id))),
        Ok(node) => node,
        Err(gone) => return Ok(gone),
    };
    let etag = format!("\"{}\"", file.data.simple());
    let response =
        conditional::answer(request, etag, file.size, |bytes| open(visit, &file, bytes))?;
    let Some(response) = response else { return Ok(files::gone(visit, request)) };
    Ok(response.with_header("Cache-Control", "private, no-cache"))
}

/// Bytes of a file, streamed from the store; `None` when they are gone.
fn open(visit: &Visit, file: &Node, bytes: Range<u64>) -> Result<Option<Response>> {
    let length = bytes.end - bytes.start;
    let Some(reader) = visit.drive().open(file, bytes.start, Some(length))? else {
        return Ok(None);
    };
    let response = Response::stream(harmless_type(&file.name), Some(length), Box::new(reader))
        .with_header("Content-Disposition", attachment(&file.name))
        .with_header("Content-Security-Policy", USER_BYTES_POLICY);
    Ok(Some(response))
}

/// `Content-Disposition` of a download (RFC 6266): a name for every client, and the true one.
pub(super) fn attachment(name: &str) -> String {
    let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let exact = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}")
}

/// The type of a download: one that is harmless wherever it is opened, by the file's name and never by what
/// its sender says.
pub(super) fn harmless_type(name: &str) -> &'static str {
    const KNOWN: &[&str] = &[
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "image/avif",
        "application/pdf",
        "video/mp4",
        "video/webm",
        "audio/mpeg",
        "audio/ogg",
        "text/plain",
        "application/zip",
    ];
    let guessed = mime_guess::from_path(name).first_or_octet_stream();
    let known = KNOWN.iter().find(|known| **known == guessed.essence_str());
    known.unwrap_or(&"application/octet-stream")
}

fn is_plain(c: char) -> bool {
    (c.is_ascii_graphic() || c == ' ') && !matches!(c, '"' | '\\' | '%' | '/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_never_pages() {
        for active in ["x.html", "x.svg", "x.xml", "x.js", "x.xhtml", "x", "x.htm", "x.css"] {
            assert_eq!(harmless_type(active), "application/octet-stream", "{active}");
        }
        assert_eq!(harmless_type("Photo.JPG"), "image/jpeg");
        assert_eq!(harmless_type("notes.txt"), "text/plain");
    }

    #[test]
    fn a_file_name_cannot_leave_its_header() {
        assert_eq!(attachment("a.txt"), "attachment; filename=\"a.txt\"; filename*=UTF-8''a%2Etxt");
        let evil = attachment("\"; x=\"\r\nSet-Cookie: a=b\\ü");
        assert!(evil.is_ascii() && !evil.contains(['\r', '\n', '\\']));
        assert_eq!(evil.matches('"').count(), 2, "{evil}");
    }
}
