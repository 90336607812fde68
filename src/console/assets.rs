//! Styles and icons, in the binary.

use super::app::Guest;
use crate::error::Result;
use crate::http::{Request, Response, conditional};

/// Name, content type and bytes of every file.
const FILES: &[(&str, &str, &[u8])] = &[
    ("app.css", "text/css; charset=utf-8", include_bytes!("../../html/static/app.css")),
    ("console.css", "text/css; charset=utf-8", include_bytes!("../../html/static/console.css")),
    ("favicon.svg", "image/svg+xml", include_bytes!("../../html/static/favicon.svg")),
    ("icons.svg", "image/svg+xml", include_bytes!("../../html/static/icons.svg")),
];

/// A static file; a browser that has it asks only whether it changed.
pub(super) fn serve(_guest: &Guest, request: &mut Request<'_>) -> Result<Response> {
    let wanted = request.param("path");
    let Some((_, kind, bytes)) = FILES.iter().find(|(name, ..)| *name == wanted) else {
        return Ok(Response::text(404, "There is no such file.\n"));
    };
    let etag = format!("\"{:08x}\"", crc32c::crc32c(bytes));
    let answer = conditional::answer_bytes(request, etag, kind, bytes)?;
    Ok(answer.with_header("Cache-Control", "no-cache"))
}
