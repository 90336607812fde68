//! What keeps other sites out: headers of every answer, and where an unsafe request comes from.

use crate::error::{Error, Result};
use crate::http::{Method, Request, Response};

/// What a page may load: its own files and nothing else; nothing inline, no scripts.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; \
    base-uri 'none'; frame-ancestors 'none'";

const COMMON: &[(&str, &str)] = &[
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), microphone=(), geolocation=()"),
    ("Cache-Control", "no-store"),
];

/// Adds what every answer carries, where the handler has not said otherwise.
pub(super) fn add_headers(response: Response) -> Response {
    let missing = |response: Response, (name, value): &(&str, &str)| match response.header(name) {
        Some(_) => response,
        None => response.with_header(name, value),
    };
    COMMON.iter().fold(response, missing)
}

/// Refuses an unsafe request that another origin made a browser send: every port of this host is the same
/// *site*, so only the same origin will do. A client that says nothing of where it comes from is no browser;
/// the form's token is asked of it like of everyone.
pub(super) fn check_origin(request: &Request<'_>) -> Result<()> {
    if matches!(request.method, Method::Get | Method::Head | Method::Options) {
        return Ok(());
    }
    let host = request.header("Host").unwrap_or_default();
    let (site, origin) = (request.header("Sec-Fetch-Site"), request.header("Origin"));
    match is_own(host, site, origin.or(request.header("Referer"))) {
        true => Ok(()),
        false => Err(Error::Denied("the request was made by another site".into())),
    }
}

fn is_own(host: &str, site: Option<&str>, from: Option<&str>) -> bool {
    match (site, from) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(from)) => host_of(from) == Some(host),
        (None, None) => true,
    }
}

/// Host and port of a URL.
fn host_of(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))?;
    rest.split(['/', '?', '#']).next().filter(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_origin_may_act() {
        let own = |site, from| is_own("127.0.0.1:8080", site, from);
        assert!(own(Some("same-origin"), None));
        assert!(own(None, Some("http://127.0.0.1:8080")));
        assert!(own(None, Some("http://127.0.0.1:8080/nodes/a1/shutdown")));
        assert!(own(None, None), "no browser at all");
        assert!(!own(Some("same-site"), Some("http://127.0.0.1:8080")), "another port");
        assert!(!own(Some("cross-site"), None));
        assert!(!own(None, Some("http://127.0.0.1:8001")));
        assert!(!own(None, Some("null")));
        assert!(!own(None, Some("http://127.0.0.1:8080.evil.test")));
    }

    #[test]
    fn a_page_runs_no_script() {
        let page = add_headers(Response::html(200, "x".into()));
        assert!(!page.header("content-security-policy").unwrap().contains("script-src"));
        assert_eq!(page.header("cache-control"), Some("no-store"));
        let kept = add_headers(Response::text(200, "x").with_header("Cache-Control", "no-cache"));
        assert_eq!(kept.headers.iter().filter(|(n, _)| n == "Cache-Control").count(), 1);
    }
}
