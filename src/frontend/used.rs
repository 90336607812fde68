//! How much of the quota is used, as pages show it: in words, and by a meter where there is a limit.

use super::text;
use crate::quota::Space;
use askama::Template;

/// What a user has of the quota.
#[derive(Template)]
#[template(path = "used.html")]
pub(super) struct Used {
    space: Space,
    said: String,
}

/// Its template escapes, and has only numbers to show.
impl askama::filters::HtmlSafe for Used {}

impl Used {
    pub(super) fn new(space: Space) -> Used {
        Used { said: said(space), space }
    }

    /// Bytes that there is still room for; none: any number.
    pub(super) fn left(&self) -> Option<u64> {
        self.space.limit.map(|limit| limit.saturating_sub(self.space.used))
    }

    /// From here on the meter warns: nine tenths.
    fn high(&self) -> u64 {
        self.space.limit.map_or(0, |limit| limit - limit / 10)
    }
}

fn said(space: Space) -> String {
    let used = text::size(space.used);
    match space.limit {
        Some(limit) => format!("{used} of {} in use", text::size(limit)),
        None => format!("{used} in use"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_said_and_has_a_meter() {
        let used = Used::new(Space { used: 2_500_000_000, limit: Some(10_000_000_000) });
        let page = used.render().unwrap();
        assert!(page.contains("<span>2.5 GB of 10 GB in use</span>"), "{page}");
        assert!(
            page.contains(r#"max="10000000000" high="9000000000" value="2500000000""#),
            "{page}"
        );
        assert_eq!(used.left(), Some(7_500_000_000));
    }

    #[test]
    fn without_a_limit_there_is_no_meter() {
        let page = Used::new(Space { used: 0, limit: None }).render().unwrap();
        assert_eq!(page.trim_end(), "<span>0 bytes in use</span>");
    }

    #[test]
    fn who_is_over_has_nothing_left() {
        assert_eq!(Used::new(Space { used: 12, limit: Some(10) }).left(), Some(0));
    }
}
