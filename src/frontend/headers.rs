//! Headers of every page and every download.

use crate::http::Response;

/// What a page may load: its own files and nothing else; nothing inline.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; media-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'; worker-src 'self'; manifest-src 'self'";
/// What the bytes of users may do: nothing.
pub(super) const USER_BYTES_POLICY: &str = "sandbox; default-src 'none'";

const COMMON: &[(&str, &str)] = &[
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), microphone=(), geolocation=()"),
    ("Cache-Control", "no-store"),
];

/// Adds what every response carries, where the handler has not said otherwise.
pub(super) fn add_common(mut response: Response) -> Response {
    for (name, value) in COMMON {
        response = add_missing(response, name, value);
    }
    if is_page(&response) {
        add_missing(response, "Content-Security-Policy", PAGE_POLICY)
    } else {
        response
    }
}

fn add_missing(response: Response, name: &str, value: &str) -> Response {
    if get(&response, name).is_some() { response } else { response.with_header(name, value) }
}

/// Whether a response is an HTML page.
pub(super) fn is_page(response: &Response) -> bool {
    get(response, "Content-Type").is_some_and(|t| t.starts_with("text/html"))
}

fn get<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_allow_nothing_inline() {
        let page = add_common(Response::html(200, "x".into()));
        let policy = get(&page, "content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
        assert!(policy.contains("frame-ancestors 'none'"));
        assert_eq!(get(&page, "Cache-Control"), Some("no-store"));
    }

    #[test]
    fn a_handler_has_the_last_word() {
        let response = Response::text(200, "x").with_header("Cache-Control", "max-age=1");
        let response = add_common(response);
        assert_eq!(get(&response, "Cache-Control"), Some("max-age=1"));
        assert_eq!(response.headers.iter().filter(|(n, _)| n == "Cache-Control").count(), 1);
    }
}
