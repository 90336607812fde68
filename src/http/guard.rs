//! What keeps other sites out of an application: headers of every answer, and where an unsafe request comes
//! from. Another site must not be able to act for a visitor whose browser sends our cookie along; and every
//! port of a host is the *same site*, so only the same origin will do.

use crate::config::Scheme;
use crate::error::{Error, Result};
use crate::http::{Request, Response};

const HEADERS: &[(&str, &str)] = &[
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), microphone=(), geolocation=()"),
    ("Cache-Control", "no-store"),
];

/// Adds what every answer carries, where the handler has not said otherwise; to a page also the policy of
/// what it may load.
pub fn add_headers(response: Response, page_policy: &'static str) -> Response {
    let policy = response.is_page().then_some(("Content-Security-Policy", page_policy));
    let add = |response: Response, (name, value): (&'static str, &'static str)| match response
        .header(name)
    {
        Some(_) => response,
        None => response.with_header(name, value),
    };
    HEADERS.iter().copied().chain(policy).fold(response, add)
}

/// Refuses an unsafe request that another origin made a browser send. A client that says nothing of where it
/// comes from is no browser; the token of the form is asked of it like of everyone.
pub fn check_origin(request: &Request<'_>) -> Result<()> {
    let host = request.header("Host").unwrap_or_default();
    let from = From {
        site: request.header("Sec-Fetch-Site"),
        origin: request.header("Origin"),
        referer: request.header("Referer"),
    };
    if request.method.is_safe() || from.is_same(request.scheme, host) {
        return Ok(());
    }
    Err(Error::Denied("the request was made by another site".into()))
}

/// What a request says of where it comes from.
struct From<'a> {
    site: Option<&'a str>,
    origin: Option<&'a str>,
    referer: Option<&'a str>,
}

impl From<'_> {
    fn is_same(&self, scheme: Scheme, host: &str) -> bool {
        match (self.site, self.origin, self.referer) {
            (Some(site), ..) => matches!(site, "same-origin" | "none"),
            (None, Some(origin), _) => host_of(origin, scheme) == Some((host, "")),
            (None, None, Some(referer)) => host_of(referer, scheme).is_some_and(|(h, _)| h == host),
            (None, None, None) => true,
        }
    }
}

/// Host (with port) of a URL, and what follows it. What came to us in the clear may have left its browser under TLS.
fn host_of(url: &str, scheme: Scheme) -> Option<(&str, &str)> {
    let in_the_clear = || url.strip_prefix("http://").filter(|_| scheme == Scheme::Http);
    let rest = url.strip_prefix("https://").or_else(in_the_clear)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    (end > 0).then(|| rest.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(site: Option<&str>, origin: Option<&str>, referer: Option<&str>) -> bool {
        From { site, origin, referer }.is_same(Scheme::Http, "127.0.0.1:8001")
    }

    #[test]
    fn browsers_say_that_it_is_the_same_origin() {
        assert!(same(Some("same-origin"), None, None));
        assert!(same(Some("none"), None, None));
    }

    #[test]
    fn other_sites_and_other_ports_are_refused() {
        assert!(!same(Some("cross-site"), None, None));
        assert!(!same(Some("same-site"), Some("http://127.0.0.1:8001"), None));
        assert!(!same(None, Some("http://127.0.0.1:9999"), None));
        assert!(!same(None, Some("null"), None));
        assert!(!same(None, Some("http://127.0.0.1:8001.evil.test"), None));
        assert!(!same(None, None, Some("http://evil.test/127.0.0.1:8001")));
        assert!(!same(None, Some(""), None));
    }

    #[test]
    fn older_browsers_say_it_by_origin_or_referer() {
        assert!(same(None, Some("http://127.0.0.1:8001"), None));
        assert!(same(None, None, Some("http://127.0.0.1:8001/files?x=1")));
        assert!(same(None, None, None), "no browser at all");
    }

    #[test]
    fn under_tls_nothing_in_the_clear_is_the_same_origin() {
        let same = |origin| {
            From { site: None, origin: Some(origin), referer: None }.is_same(Scheme::Https, "h:1")
        };
        assert!(same("https://h:1"));
        assert!(!same("http://h:1"));
    }

    #[test]
    fn a_page_has_a_policy_and_the_handler_the_last_word() {
        let page = add_headers(Response::html(200, "x".into()), "default-src 'none'");
        assert_eq!(page.header("content-security-policy"), Some("default-src 'none'"));
        assert_eq!(page.header("cache-control"), Some("no-store"));
        let kept = Response::text(200, "x").with_header("Cache-Control", "max-age=1");
        let kept = add_headers(kept, "default-src 'none'");
        assert_eq!(kept.header("content-security-policy"), None);
        assert_eq!(kept.fields().filter(|(n, _)| *n == "Cache-Control").count(), 1);
    }
}
