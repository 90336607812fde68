//! What all pages share: the frame, and how sizes are said.

use crate::error::{Error, Result};
use crate::http::{RequestId, Response};
use askama::Template;

/// The frame of a page.
pub(super) struct Shell {
    /// Title of the page.
    pub(super) title: &'static str,
    /// Which part of the console it is.
    pub(super) section: &'static str,
    /// Token of the session's forms; none: nobody is logged in.
    pub(super) csrf: Option<String>,
    /// Name of this process.
    pub(super) process: String,
    /// Path that the page loads by itself after [`REFRESH_S`].
    pub(super) refresh: Option<&'static str>,
    /// What was just done.
    pub(super) done: Option<String>,
}

/// Seconds until a page that refreshes itself is loaded again.
pub(super) const REFRESH_S: u32 = 5;

impl Shell {
    /// `aria-current` of a link to a section.
    pub(super) fn current(&self, section: &str) -> &'static str {
        if self.section == section { "page" } else { "false" }
    }

    /// The session's token, as forms carry it.
    pub(super) fn csrf(&self) -> &str {
        self.csrf.as_deref().unwrap_or_default()
    }
}

#[derive(Template)]
#[template(path = "console/problem.html")]
struct Problem<'a> {
    shell: Shell,
    status: u16,
    title: &'a str,
    why: &'a str,
    id: RequestId,
}

/// A page that says what went wrong.
pub(super) fn problem(shell: Shell, status: u16, why: &str, id: RequestId) -> Response {
    let title = match status {
        400 => "This request is not understood",
        403 => "This is not allowed",
        404 => "There is no such page",
        405 => "This cannot be done here",
        413 => "This is too large",
        503 => "The cluster does not answer",
        507 => "The cluster is full",
        _ => "Something went wrong",
    };
    let page = Problem { shell, status, title, why, id };
    render(status, &page).unwrap_or_else(|_| Response::text(status, format!("{title}\n")))
}

/// A page from its template.
pub(super) fn render(status: u16, template: &impl Template) -> Result<Response> {
    let page = template.render().map_err(|e| Error::corrupt(format!("a template: {e}")))?;
    Ok(Response::html(status, page))
}

/// A size in three digits: `812 B`, `1.4 MiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ if value < 10.0 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let said = [0, 999, 1000, 1024, 10_240, 1_468_006, 73_000_000_000].map(size);
        assert_eq!(said, ["0 B", "999 B", "1.0 KiB", "1.0 KiB", "10 KiB", "1.4 MiB", "68 GiB"]);
    }
}
