//! One line of a client.

use super::reply::Reply;
use crate::error::Error;
use crate::mail::Address;

/// Digits of a SIZE (RFC 1870, 3).
const SIZE_DIGITS_MAX: usize = 20;

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `HELO` with the client's name.
    Helo(String),
    /// `EHLO` with the client's name.
    Ehlo(String),
    /// `MAIL FROM`.
    Mail(Sender),
    /// `RCPT TO`.
    Rcpt(Recipient),
    /// `DATA`.
    Data,
    /// `RSET`.
    Rset,
    /// `NOOP`.
    Noop,
    /// `VRFY`.
    Vrfy,
    /// `HELP`.
    Help,
    /// `QUIT`.
    Quit,
    /// A request of a web browser or the like.
    Http,
}

/// Who sends, and what is known of the message before it comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// None is the null path `<>` of a bounce.
    pub address: Option<Address>,
    /// Octets that the client announces (RFC 1870); more than 64 bits hold count as the most they hold.
    pub size: Option<u64>,
}

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// `<postmaster>` without a domain (RFC 5321, 4.1.1.3).
    Postmaster,
    /// Anyone else.
    Address(Address),
}

/// Parses a line without its CR LF; a refusal is the reply itself.
pub fn parse(line: &[u8]) -> Result<Command, Reply> {
    if is_http(line) {
        return Ok(Command::Http);
    }
    let line = std::str::from_utf8(line).map_err(|_| not_ascii())?;
    let line = line.trim_end_matches([' ', '\t']);
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    // RFC 5321, 2.4: verbs in any case.
    match verb.to_ascii_uppercase().as_str() {
        "HELO" => Ok(Command::Helo(name(rest)?)),
        "EHLO" => Ok(Command::Ehlo(name(rest)?)),
        "MAIL" => mail(rest),
        "RCPT" => rcpt(rest),
        "DATA" => bare(rest, Command::Data),
        "RSET" => bare(rest, Command::Rset),
        "QUIT" => bare(rest, Command::Quit),
        "NOOP" => Ok(Command::Noop),
        "HELP" => Ok(Command::Help),
        "VRFY" if rest.is_empty() => Err(Reply::new(501, "5.5.4", "VRFY wants a name")),
        "VRFY" => Ok(Command::Vrfy),
        "EXPN" | "AUTH" | "STARTTLS" | "BDAT" | "ETRN" | "TURN" | "SEND" | "SOML" | "SAML" => {
            Err(Reply::new(502, "5.5.1", format!("{verb} is not offered here")))
        }
        _ => Err(Reply::new(500, "5.5.1", "Unknown command; HELP lists those that are known")),
    }
}

/// A page must not send mail through a visitor's browser.
fn is_http(line: &[u8]) -> bool {
    let verb = line.split(|b| *b == b' ').next().unwrap_or_default().to_ascii_uppercase();
    let verbs: [&[u8]; 9] =
        [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"CONNECT", b"HOST:"];
    verbs.contains(&verb.as_slice()) || line.windows(7).any(|w| w == b" HTTP/1")
}

/// The domain or address literal of EHLO. RFC 5321, 4.1.4: a server must not refuse mail for its value,
/// so all that is asked is one printable word.
fn name(rest: &str) -> Result<String, Reply> {
    let fine = |c: char| ('!'..='~').contains(&c);
    if rest.is_empty() || rest.len() > 255 || !rest.chars().all(fine) {
        return Err(Reply::new(501, "5.5.4", "Say your name: EHLO <domain>"));
    }
    Ok(rest.to_string())
}

fn bare(rest: &str, command: Command) -> Result<Command, Reply> {
    match rest {
        "" => Ok(command),
        _ => Err(Reply::new(501, "5.5.4", "This command takes no argument")),
    }
}

fn mail(rest: &str) -> Result<Command, Reply> {
    let (path, parameters) = path(rest, "FROM:")?;
    let address = match path {
        "" => None,
        path => Some(address(path).map_err(|why| bad_address("5.1.7", why))?),
    };
    let mut sender = Sender { address, size: None };
    let mut body = false;
    for parameter in parameters.split_ascii_whitespace() {
        let (keyword, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match keyword.to_ascii_uppercase().as_str() {
            "SIZE" if sender.size.is_none() => sender.size = Some(size(value)?),
            "BODY" if !body => body = is_body(value)?,
            "SIZE" | "BODY" => return Err(bad_parameter("The same parameter twice")),
            _ => return Err(unknown_parameter(keyword)),
        }
    }
    Ok(Command::Mail(sender))
}

fn rcpt(rest: &str) -> Result<Command, Reply> {
    let (path, parameters) = path(rest, "TO:")?;
    if let Some(parameter) = parameters.split_ascii_whitespace().next() {
        return Err(unknown_parameter(parameter.split('=').next().unwrap_or_default()));
    }
    if path.eq_ignore_ascii_case("postmaster") {
        return Ok(Command::Rcpt(Recipient::Postmaster));
    }
    let address = address(path).map_err(|why| bad_address("5.1.3", why))?;
    Ok(Command::Rcpt(Recipient::Address(address)))
}

/// The path between angle brackets, and the parameters after it (RFC 5321, 4.1.2).
fn path<'a>(rest: &'a str, keyword: &str) -> Result<(&'a str, &'a str), Reply> {
    let wrong = || Reply::new(501, "5.5.4", format!("Write it so: {keyword}<address>"));
    let head = rest.get(..keyword.len()).filter(|head| head.eq_ignore_ascii_case(keyword));
    head.ok_or_else(wrong)?;
    // A space before the path is no part of the grammar, but many clients send one.
    let rest = rest[keyword.len()..].trim_start_matches(' ');
    let rest = rest.strip_prefix('<').ok_or_else(wrong)?;
    let end = end_of_path(rest).ok_or_else(wrong)?;
    let (path, parameters) = (&rest[..end], &rest[end + 1..]);
    if !parameters.is_empty() && !parameters.starts_with(' ') {
        return Err(wrong());
    }
    Ok((path, parameters))
}

/// Where the `>` stands that no quotes enclose.
fn end_of_path(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '>' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// The address of a path. RFC 5321, 4.1.1.3: a source route is taken and has no effect.
fn address(path: &str) -> Result<Address, AddressFault> {
    if !path.is_ascii() {
        return Err(AddressFault::NotAscii);
    }
    let mailbox = match path.starts_with('@') {
        true => path.split_once(':').map_or("", |(_route, mailbox)| mailbox),
        false => path,
    };
    Address::parse(mailbox).map_err(|error| match error {
        Error::Bad(why) => AddressFault::Syntax(why),
        other => AddressFault::Syntax(other.to_string()),
    })
}

enum AddressFault {
    NotAscii,
    Syntax(String),
}

fn bad_address(enhanced: &'static str, fault: AddressFault) -> Reply {
    match fault {
        AddressFault::NotAscii => not_ascii(),
        AddressFault::Syntax(why) => Reply::new(501, enhanced, format!("Not an address: {why}")),
    }
}

/// RFC 6531, 3.5: such an address needs an extension that is not offered.
fn not_ascii() -> Reply {
    Reply::new(553, "5.6.7", "Only ASCII: SMTPUTF8 is not offered")
}

fn size(value: &str) -> Result<u64, Reply> {
    let digits =
        (1..=SIZE_DIGITS_MAX).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit());
    if !digits {
        return Err(bad_parameter("SIZE wants a number"));
    }
    Ok(value.parse().unwrap_or(u64::MAX))
}

/// RFC 6152, 2.
fn is_body(value: &str) -> Result<bool, Reply> {
    match value.to_ascii_uppercase().as_str() {
        "7BIT" | "8BITMIME" => Ok(true),
        _ => Err(bad_parameter("BODY is 7BIT or 8BITMIME")),
    }
}

fn bad_parameter(why: &str) -> Reply {
    Reply::new(501, "5.5.4", why)
}

/// RFC 5321, 4.1.1.11.
fn unknown_parameter(keyword: &str) -> Reply {
    let keyword: String = keyword.chars().filter(char::is_ascii_graphic).take(40).collect();
    Reply::new(555, "5.5.4", format!("Unknown parameter {keyword}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn code(line: &str) -> u16 {
        parse(line.as_bytes()).err().map_or(0, |reply| reply.code)
    }

    fn recipient(line: &str) -> String {
        match parse(line.as_bytes()) {
            Ok(Command::Rcpt(Recipient::Address(address))) => address.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_source_route_is_cut_off() {
        assert_eq!(recipient("RCPT TO:<@a.org,@b.org:x@y.org>"), "x@y.org");
        assert_eq!(recipient("rcpt to:<alice@penn.test>"), "alice@penn.test");
    }

    #[test]
    fn a_quoted_bracket_does_not_end_the_path() {
        assert_eq!(recipient(r#"RCPT TO:<"a>b"@penn.test>"#), r#""a>b"@penn.test"#);
    }

    #[test]
    fn a_size_of_more_than_64_bits_does_not_overflow() {
        let size = |n: &str| match parse(format!("MAIL FROM:<> SIZE={n}").as_bytes()) {
            Ok(Command::Mail(sender)) => sender.size,
            other => panic!("{other:?}"),
        };
        assert_eq!(size("18446744073709551616"), Some(u64::MAX));
        assert_eq!(size("12"), Some(12));
        for junk in ["", "-1", "1x", "999999999999999999999"] {
            assert_eq!(code(&format!("MAIL FROM:<> SIZE={junk}")), 501, "{junk}");
        }
    }

    #[test]
    fn paths_are_strict() {
        for line in [
            "MAIL FROM:a@b.org",
            "MAIL FROM:<a@b.org",
            "MAIL FROM:<a@b.org>SIZE=1",
            "MAIL TO:<a@b.org>",
            "MAIL",
            "RCPT TO:<>",
            "RCPT TO:<alice>",
            "RCPT TO:<@a.org>",
            "MAIL FROM:<a@b.org> SIZE=1 SIZE=1",
        ] {
            assert_eq!(code(line), 501, "{line}");
        }
        assert_eq!(code("RCPT TO:<a@b.org> NOTIFY=NEVER"), 555);
        assert_eq!(code("RCPT TO:<ä@b.org>"), 553);
    }

    proptest! {
        #[test]
        fn no_line_is_a_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&line);
        }

        #[test]
        fn no_path_is_a_panic(path in "(MAIL FROM:|RCPT TO:)<?[a@:,\"\\\\<>. ä%!]{0,20}>?[ A-Z=0-9]{0,20}") {
            let _ = parse(path.as_bytes());
        }
    }
}
