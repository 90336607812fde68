//! Cookies (RFC 6265). Under TLS each of ours is `__Host-` and `Secure`: no other host and no connection in the
//! clear can set or see it. Handlers say the plain name and `Path=/`; the rest is done here, for all of them.

use crate::config::Scheme;
use crate::http::headers::Headers;
use std::borrow::Cow;

/// What a name begins with that browsers take from this very host alone, under TLS.
const HOST_PREFIX: &str = "__Host-";

/// The first cookie of a name that the client sent.
pub fn find<'h>(headers: &'h Headers, scheme: Scheme, name: &str) -> Option<&'h str> {
    let ours = |sent: &str| match scheme {
        Scheme::Http => sent == name,
        Scheme::Https => sent.strip_prefix(HOST_PREFIX) == Some(name),
    };
    let cookies = headers.all("cookie").flat_map(|v| v.split(';'));
    cookies.filter_map(|c| c.trim().split_once('=')).find(|(n, _)| ours(n)).map(|(_, v)| v)
}

/// The value of `Set-Cookie` as it is sent.
pub fn set(value: &str, scheme: Scheme) -> Cow<'_, str> {
    match scheme {
        Scheme::Http => value.into(),
        Scheme::Https => format!("{HOST_PREFIX}{value}; Secure").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(fields: &[&str], scheme: Scheme) -> Option<String> {
        let mut headers = Headers::default();
        fields.iter().for_each(|value| headers.add("Cookie", value.as_bytes()));
        find(&headers, scheme, "a").map(String::from)
    }

    #[test]
    fn the_first_of_a_name_counts() {
        assert_eq!(found(&["b=1; a=2;a=3", "a=4"], Scheme::Http).as_deref(), Some("2"));
        assert_eq!(found(&["aa=1;A=2; a", " a = 3"], Scheme::Http), None);
        assert_eq!(found(&["a=b=c"], Scheme::Http).as_deref(), Some("b=c"));
    }

    #[test]
    fn under_tls_a_cookie_that_others_can_set_is_none() {
        assert_eq!(found(&["a=forged; __Host-a=ours"], Scheme::Https).as_deref(), Some("ours"));
        assert_eq!(found(&["a=forged"], Scheme::Https), None);
        assert_eq!(set("a=1; Path=/", Scheme::Https), "__Host-a=1; Path=/; Secure");
        assert_eq!(set("a=1; Path=/", Scheme::Http), "a=1; Path=/");
    }
}
