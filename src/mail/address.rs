//! Mail addresses: those of SMTP (RFC 5321, 4.1.2) and those that people type into a To field.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Octets of a local part (RFC 5321, 4.5.3.1.1).
pub const LOCAL_BYTES_MAX: usize = 64;
/// Octets of a domain (RFC 5321, 4.5.3.1.2).
pub const DOMAIN_BYTES_MAX: usize = 255;
/// Octets of an address: those of a path without its brackets (RFC 5321, 4.5.3.1.3).
pub const ADDRESS_BYTES_MAX: usize = 254;
/// Octets of a list that a person typed.
pub const LIST_BYTES_MAX: usize = 32 << 10;
/// Addresses of a list that a person typed.
pub const LIST_MAX: usize = 100;
/// Characters of a display name; the rest is cut.
const NAME_CHARS_MAX: usize = 128;

/// `local@domain`. The local part is kept without its quotes, the domain in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    local: String,
    domain: String,
}

impl Address {
    /// Reads `local@domain`, with a quoted local part and an address literal where RFC 5321 allows them.
    pub fn parse(text: &str) -> Result<Address> {
        if !text.is_ascii() {
            return Err(Error::bad("an address has ASCII letters only"));
        }
        Address::parse_utf8(text)
    }

    /// The same with letters of every script (RFC 6531, 3.3): only for who has said that it can deal with them.
    pub fn parse_utf8(text: &str) -> Result<Address> {
        if text.len() > ADDRESS_BYTES_MAX {
            return Err(Error::bad(format!("an address has at most {ADDRESS_BYTES_MAX} octets")));
        }
        let (local, rest) = match text.strip_prefix('"') {
            Some(quoted) => parse_quoted(quoted)?,
            None => parse_dots(text)?,
        };
        let domain = rest.strip_prefix('@').ok_or_else(|| Error::bad("an address needs an @"))?;
        if local.is_empty() || local.len() > LOCAL_BYTES_MAX {
            return Err(Error::bad(format!(
                "what stands before the @ has 1 to {LOCAL_BYTES_MAX} octets"
            )));
        }
        check_domain(domain)?;
        Ok(Address { local, domain: domain.to_ascii_lowercase() })
    }

    /// The address of a local user.
    pub fn of_user(user: &str, domain: &str) -> Result<Address> {
        Address::parse(&format!("{user}@{domain}"))
    }

    /// The address of a domain's postmaster.
    pub fn postmaster(domain: &str) -> Address {
        Address { local: "postmaster".into(), domain: domain.to_ascii_lowercase() }
    }

    /// Whether it is a postmaster's, in any case of letters (RFC 5321, 4.5.1).
    pub fn is_postmaster(&self) -> bool {
        self.local.eq_ignore_ascii_case("postmaster")
    }

    /// Whether programs that know nothing of RFC 6531 can deal with it.
    pub fn is_ascii(&self) -> bool {
        self.local.is_ascii() && self.domain.is_ascii()
    }

    /// What stands before the `@`, without quotes, in the sender's own case.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// What stands after the `@`, in lower case.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The name under which our own addresses are stored: all in lower case.
    pub fn key(&self) -> String {
        self.to_string().to_ascii_lowercase()
    }
}

impl TryFrom<String> for Address {
    type Error = Error;

    fn try_from(text: String) -> Result<Address> {
        Address::parse_utf8(&text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.local) {
            return write!(f, "{}@{}", self.local, self.domain);
        }
        write!(f, "{}@{}", quote(&self.local), self.domain)
    }
}

/// A quoted string (RFC 5321, `Quoted-string`), without its first quote; and what follows it.
fn parse_quoted(text: &str) -> Result<(String, &str)> {
    let mut local = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        let c = match c {
            '"' => return Ok((local, &text[at + 1..])),
            '\\' => chars.next().map_or('\0', |(_, escaped)| escaped),
            other => other,
        };
        if !matches!(c, ' '..='~') && !is_foreign(c) {
            return Err(Error::bad("a quoted name before the @ holds printable letters only"));
        }
        local.push(c);
    }
    Err(Error::bad("a quote in an address is not closed"))
}

fn parse_dots(text: &str) -> Result<(String, &str)> {
    let (local, _) = text.split_once('@').ok_or_else(|| Error::bad("an address needs an @"))?;
    if !is_dot_string(local) {
        return Err(Error::bad("before the @ stands a character that an address cannot have"));
    }
    Ok((local.to_string(), &text[local.len()..]))
}

/// RFC 5321 `Dot-string`: atoms with single dots between.
fn is_dot_string(local: &str) -> bool {
    let is_atom = |atom: &str| !atom.is_empty() && atom.chars().all(is_atext);
    local.split('.').all(is_atom)
}

fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || is_foreign(c)
}

/// A character beyond ASCII that shows, and turns nothing around.
fn is_foreign(c: char) -> bool {
    let turns = matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    !c.is_ascii() && !c.is_control() && !c.is_whitespace() && !turns && c != '\u{fffd}'
}

fn check_domain(domain: &str) -> Result<()> {
    let fine = match domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(literal) => is_literal(literal),
        None => domain.split('.').all(is_label),
    };
    if fine && domain.len() <= DOMAIN_BYTES_MAX {
        Ok(())
    } else {
        Err(Error::bad("what stands after the @ is not a domain"))
    }
}

/// Letters, digits and inner hyphens (RFC 5321, `sub-domain`; RFC 1035, 63 octets).
fn is_label(label: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || is_foreign(c);
    (1..=63).contains(&label.len())
        && label.chars().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// RFC 5321, 4.1.3: `[192.0.2.1]` and `[IPv6:2001:db8::1]`.
fn is_literal(literal: &str) -> bool {
    match literal.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => literal[5..].parse::<Ipv6Addr>().is_ok(),
        _ => literal.parse::<Ipv4Addr>().is_ok(),
    }
}

fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

/// An address with the name that people see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Display name; may be empty. Never holds a control character.
    pub name: String,
    /// The address.
    pub address: Address,
}

impl Contact {
    /// A contact; control characters in the name become blanks.
    pub fn new(name: &str, address: Address) -> Contact {
        let name: String = name
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(NAME_CHARS_MAX)
            .collect();
        Contact { name: name.trim().to_string(), address }
    }
}

impl fmt::Display for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            return write!(f, "{}", self.address);
        }
        let plain = |c: char| c.is_alphanumeric() || " -_'".contains(c);
        if self.name.chars().all(plain) {
            write!(f, "{} <{}>", self.name, self.address)
        } else {
            write!(f, "{} <{}>", quote(&self.name), self.address)
        }
    }
}

/// Reads a list as people type it: `a@b, Bob <b@c>; "Doe, Jane" <j@d>`. An error names the item.
pub fn parse_list(text: &str) -> Result<Vec<Contact>> {
    if text.len() > LIST_BYTES_MAX {
        return Err(Error::TooBig("the list of recipients is too long".into()));
    }
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err(Error::bad("a list of recipients is one line"));
    }
    let items = split_list(text);
    let contacts: Vec<Contact> =
        items.into_iter().map(parse_contact).collect::<Result<Vec<_>>>()?;
    if contacts.len() > LIST_MAX {
        return Err(Error::TooBig(format!("a message has at most {LIST_MAX} recipients")));
    }
    Ok(contacts)
}

/// A list as it is typed.
pub fn format_list(contacts: &[Contact]) -> String {
    contacts.iter().map(Contact::to_string).collect::<Vec<_>>().join(", ")
}

/// Cuts at commas and semicolons outside of quotes and angle brackets; empty items vanish.
fn split_list(text: &str) -> Vec<&str> {
    let (mut items, mut start) = (Vec::new(), 0);
    let (mut quoted, mut escaped, mut angle) = (false, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '<' if !quoted => angle = true,
            '>' if !quoted => angle = false,
            ',' | ';' if !quoted && !angle => {
                items.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items.push(&text[start..]);
    items.into_iter().map(str::trim).filter(|item| !item.is_empty()).collect()
}

fn parse_contact(item: &str) -> Result<Contact> {
    let (name, address) = match item.strip_suffix('>').and_then(|rest| rest.rsplit_once('<')) {
        Some((name, address)) => (unquote(name.trim()), address.trim()),
        None => (String::new(), item),
    };
    let address = Address::parse(address).map_err(|error| match error {
        Error::Bad(why) => Error::Bad(format!("“{item}” is not an address: {why}")),
        other => other,
    })?;
    Ok(Contact::new(&name, address))
}

fn unquote(name: &str) -> String {
    let Some(inner) = name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return name.to_string();
    };
    let mut plain = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<String> {
        Address::parse(text).ok().map(|a| a.to_string())
    }

    #[test]
    fn addresses_of_rfc_5321_are_read() {
        for (text, want) in [
            ("alice@penn.test", "alice@penn.test"),
            ("Alice.B+tag@PENN.Test", "Alice.B+tag@penn.test"),
            ("o'neil!#$%&*/=?^_`{|}~-@x", "o'neil!#$%&*/=?^_`{|}~-@x"),
            ("\"two words\"@x.org", "\"two words\"@x.org"),
            ("\"a@b\\\"c\"@x.org", "\"a@b\\\"c\"@x.org"),
            ("\"plain\"@x.org", "plain@x.org"),
            ("a@[192.0.2.1]", "a@[192.0.2.1]"),
            ("a@[IPv6:2001:db8::1]", "a@[ipv6:2001:db8::1]"),
        ] {
            assert_eq!(parse(text).as_deref(), Some(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("{}@x.org", "a".repeat(65));
        let label = format!("a@{}.org", "b".repeat(64));
        for text in [
            "",
            "a",
            "@",
            "a@",
            "@x",
            "a b@x",
            ".a@x",
            "a.@x",
            "a..b@x",
            "a@x..y",
            "a@-x",
            "a@x-",
            "a@x_y",
            "a@[1.2.3]",
            "a@[x]",
            "\"a@x",
            "\"\"@x",
            "\"a\nb\"@x",
            "a@x\r\nRCPT TO:<b@y>",
            "a@x@y",
            "é@x",
            "a@é",
            "\"é\"@x",
            "a@x ",
            " a@x",
            "a@x,b@y",
            &long,
            &label,
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn letters_of_every_script_are_read_where_they_are_asked_for() {
        let read = |text: &str| Address::parse_utf8(text).map(|a| (a.to_string(), a.is_ascii()));
        assert_eq!(read("jürg@exämple.org"), Ok(("jürg@exämple.org".into(), false)));
        assert_eq!(read("\"ü ü\"@例え.jp"), Ok(("\"ü ü\"@例え.jp".into(), false)));
        assert_eq!(read("A@B.org"), Ok(("A@b.org".into(), true)));
        for bad in ["a\u{202e}b@x", "a@x\u{a0}y", "\u{85}@x", "a\u{fffd}@x"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn local_users_are_found_in_any_case() {
        let key = |text: &str| Address::parse(text).unwrap().key();
        assert_eq!(key("ALICE@Penn.Test"), "alice@penn.test");
        assert_eq!(key("\"alice\"@penn.test"), "alice@penn.test");
    }

    #[test]
    fn lists_are_read_as_people_type_them() {
        let list = parse_list(
            " a@x.org,, Bob B <b@x.org>; \"Doe, Jane <jd>\" <j@x.org>,<c@x.org>,\"q,r\"@x.org, ",
        )
        .unwrap();
        let names: Vec<_> = list.iter().map(|c| c.name.as_str()).collect();
        let addresses: Vec<_> = list.iter().map(|c| c.address.to_string()).collect();
        assert_eq!(names, ["", "Bob B", "Doe, Jane <jd>", "", ""]);
        assert_eq!(addresses, ["a@x.org", "b@x.org", "j@x.org", "c@x.org", "\"q,r\"@x.org"]);
        assert_eq!(parse_list(&format_list(&list)).unwrap(), list);
    }

    #[test]
    fn a_list_cannot_smuggle_lines_or_crowds() {
        assert!(parse_list("a@x.org\r\nBcc: b@x.org").is_err());
        assert!(parse_list("Bob\nX: y <a@x.org>").is_err());
        assert!(matches!(parse_list(&"a@x.org,".repeat(101)), Err(Error::TooBig(_))));
        assert!(matches!(parse_list(&" ".repeat(LIST_BYTES_MAX + 1)), Err(Error::TooBig(_))));
        let Err(Error::Bad(why)) = parse_list("a@x.org, bob") else { panic!("bob is no address") };
        assert!(why.contains("“bob”"), "{why}");
    }

    proptest::proptest! {
        #[test]
        fn what_is_read_is_written_the_same(local in "[ -~]{1,20}", domain in "[a-z0-9-]{1,8}(\\.[a-z]{2,5})?") {
            let text = format!("{}@{domain}", quote(&local));
            if let Ok(address) = Address::parse(&text) {
                proptest::prop_assert_eq!(address.local(), local);
                proptest::prop_assert_eq!(Address::parse(&address.to_string()), Ok(address));
            }
        }

        #[test]
        fn nothing_typed_panics(text in ".{0,200}") {
            let _ = Address::parse(&text);
            if let Ok(list) = parse_list(&text) {
                proptest::prop_assert_eq!(parse_list(&format_list(&list)), Ok(list));
            }
        }
    }
}
