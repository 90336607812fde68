//! The target of a request: its path, its query, and the authority of an absolute one (RFC 9112, section 3.2).

use crate::http::status::Refusal;
use std::borrow::Cow;

/// A checked target in origin form, or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `path?query` as sent; an absolute target without its scheme and authority.
    pub raw: String,
    /// The path, percent-decoded once; begins with `/`, except in `*`.
    pub path: String,
    /// The authority of an absolute target: it counts instead of `Host`.
    pub authority: Option<String>,
}

impl Target {
    /// Checks and decodes a target.
    pub fn parse(sent: &str) -> Result<Target, Refusal> {
        if let Some(byte) = sent.bytes().find(|b| !b.is_ascii_graphic() || *b == b'#') {
            return Err(match byte {
                b'#' => Refusal::bad("a target has no fragment"),
                _ => Refusal::bad("a target is printable ASCII; the rest is written %XX"),
            });
        }
        let (authority, raw) = match sent.starts_with('/') {
            true => (None, sent.to_string()),
            false => absolute(sent)?,
        };
        let path = decode(path_of(&raw))?.into_owned();
        if path.split('/').any(|segment| segment == "." || segment == "..") {
            return Err(Refusal::bad("a path has no . and .. segments"));
        }
        Ok(Target { raw, path, authority })
    }

    /// The target of `OPTIONS *`: the server as a whole.
    pub fn server() -> Target {
        Target { raw: "*".into(), path: "*".into(), authority: None }
    }
}

/// The path of a raw target, not decoded.
pub fn path_of(raw: &str) -> &str {
    raw.split_once('?').map_or(raw, |(path, _)| path)
}

/// The query of a raw target, not decoded.
pub fn query_of(raw: &str) -> &str {
    raw.split_once('?').map_or("", |(_, query)| query)
}

/// Percent-decodes a path, or one segment of it, once.
pub fn decode(text: &str) -> Result<Cow<'_, str>, Refusal> {
    if text.bytes().all(|b| b != b'%' && !b.is_ascii_control()) {
        return Ok(text.into());
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let byte = if byte == b'%' { take_octet(&mut rest)? } else { byte };
        if byte.is_ascii_control() {
            return Err(Refusal::bad("a path has no control characters"));
        }
        decoded.push(byte);
    }
    String::from_utf8(decoded).map(Cow::from).map_err(|_| Refusal::bad("a path is UTF-8"))
}

fn take_octet(rest: &mut &[u8]) -> Result<u8, Refusal> {
    let [high, low, after @ ..] = *rest else { return Err(ODD_PERCENT) };
    *rest = after;
    let digit = |b: &u8| char::from(*b).to_digit(16).map(|d| d as u8).ok_or(ODD_PERCENT);
    Ok(digit(high)? << 4 | digit(low)?)
}

const ODD_PERCENT: Refusal = Refusal::bad("% is followed by two hexadecimal digits");

/// Splits `http://authority/path?query`.
fn absolute(sent: &str) -> Result<(Option<String>, String), Refusal> {
    const NEITHER: Refusal = Refusal::bad("a target begins with / or http://");
    let (scheme, rest) = sent.split_once("://").ok_or(NEITHER)?;
    if !["http", "https"].iter().any(|s| scheme.eq_ignore_ascii_case(s)) {
        return Err(NEITHER);
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, raw) = rest.split_at(end);
    check_authority(authority)?;
    let slash = if raw.starts_with('/') { "" } else { "/" };
    Ok((Some(authority.to_string()), format!("{slash}{raw}")))
}

/// `host` or `host:port`: a name, an IPv4 address or a bracketed IPv6 address; no user information.
pub fn check_authority(authority: &str) -> Result<(), Refusal> {
    let bracket = authority.find(']').map_or(0, |at| at + 1);
    let (host, port) = match authority[bracket..].find(':') {
        Some(colon) => authority.split_at(bracket + colon),
        None => (authority, ""),
    };
    let port_ok = port.bytes().skip(1).all(|b| b.is_ascii_digit()) && port.len() <= 6;
    let host_ok = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(inside) => inside.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(is_name_byte),
    };
    if port_ok && host_ok {
        Ok(())
    } else {
        Err(Refusal::bad("Host is one name or address, and a port"))
    }
}

/// Bytes of a registered name (RFC 3986, section 3.2.2), without the comma, which would make a list.
fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%".contains(&b)
}

/// Whether a target may stand in a redirect of ours: exactly one `/` at its start, no backslash, and
/// printable ASCII alone. `//host` and `/\host` lead a browser to another host.
pub fn is_local(target: &str) -> bool {
    let bytes = target.as_bytes();
    bytes.first() == Some(&b'/')
        && bytes.get(1) != Some(&b'/')
        && bytes.iter().all(|b| b.is_ascii_graphic() && *b != b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_once() {
        let target = Target::parse("/gr%C3%BCn%2520/a%2Fb?x=%41").expect("a good target");
        assert_eq!(target.path, "/grün%20/a/b");
        assert_eq!(target.raw, "/gr%C3%BCn%2520/a%2Fb?x=%41");
    }

    #[test]
    fn an_absolute_target_brings_its_authority() {
        let target = Target::parse("HTTP://example.org:80?a=b").expect("a good target");
        assert_eq!(target.authority.as_deref(), Some("example.org:80"));
        assert_eq!((target.raw.as_str(), target.path.as_str()), ("/?a=b", "/"));
    }

    #[test]
    fn odd_targets_are_refused() {
        for sent in [
            "",
            "*",
            "a",
            "/a#b",
            "/%",
            "/%4",
            "/%zz",
            "/%00",
            "/%0a",
            "/%ff",
            "/a b",
            "/ü",
            "/../a",
            "/a/%2e%2E/b",
            "/a%2f..%2fb",
            "/.",
            "ftp://host/",
            "http://",
            "http://user@host/",
            "http://a,b/",
            "http://[::1/",
            "http://[x]/",
            "http://h:1x/",
            "http://h:123456/",
        ] {
            assert!(Target::parse(sent).is_err(), "{sent:?}");
        }
    }

    #[test]
    fn only_local_targets_may_be_redirected_to() {
        assert!(is_local("/") && is_local("/a/b?c=//d"));
        for odd in
            ["", "a", "//evil.example", "/\\evil.example", "/a\\b", "/a\r\nb", "/a b", "http://x/"]
        {
            assert!(!is_local(odd), "{odd:?}");
        }
    }
}
