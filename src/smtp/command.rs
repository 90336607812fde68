//! One line of a client.

use super::auth::Mechanism;
use super::parameters::{self, MailParameters, RcptParameters};
use super::reply::Reply;
use crate::error::Error;
use crate::mail::Address;

/// Digits of the length of a chunk (RFC 3030, 4.2).
const CHUNK_DIGITS_MAX: usize = 20;

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `HELO` with the client's name.
    Helo(String),
    /// `EHLO` with the client's name.
    Ehlo(String),
    /// `STARTTLS`.
    StartTls,
    /// `AUTH`, with the response that may stand in it.
    Auth(Mechanism, Option<String>),
    /// `MAIL FROM`.
    Mail(Sender),
    /// `RCPT TO`.
    Rcpt(Recipient),
    /// `DATA`.
    Data,
    /// `BDAT`.
    Bdat(Chunk),
    /// `BDAT` without a length that can be read: where the next command begins is not known.
    BadBdat,
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
    /// What stands behind the path.
    pub parameters: MailParameters,
}

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// None is `<postmaster>` without a domain (RFC 5321, 4.1.1.3).
    pub address: Option<Address>,
    /// What stands behind the path.
    pub parameters: RcptParameters,
}

/// Octets of a message that follow the line of a `BDAT` (RFC 3030, 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// How many; more than 64 bits hold count as the most they hold.
    pub octets: u64,
    /// Whether the message ends with them.
    pub last: bool,
}

/// Parses a line without its CR LF; a refusal is the reply itself.
pub fn parse(line: &[u8]) -> Result<Command, Reply> {
    if is_http(line) {
        return Ok(Command::Http);
    }
    let not_text = |_| Reply::new(500, "5.5.2", "This is neither ASCII nor UTF-8");
    let line = std::str::from_utf8(line).map_err(not_text)?;
    let line = line.trim_end_matches([' ', '\t']);
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    // RFC 5321, 2.4: verbs in any case.
    match verb.to_ascii_uppercase().as_str() {
        "HELO" => Ok(Command::Helo(name(rest)?)),
        "EHLO" => Ok(Command::Ehlo(name(rest)?)),
        "MAIL" => mail(rest),
        "RCPT" => rcpt(rest),
        "DATA" => bare(rest, Command::Data),
        "BDAT" => Ok(chunk(rest).map_or(Command::BadBdat, Command::Bdat)),
        "AUTH" => auth(rest),
        // RFC 3207, 4: 501 where something stands behind it.
        "STARTTLS" => bare(rest, Command::StartTls),
        "RSET" => bare(rest, Command::Rset),
        "QUIT" => bare(rest, Command::Quit),
        "NOOP" => Ok(Command::Noop),
        "HELP" => Ok(Command::Help),
        "VRFY" if rest.is_empty() => Err(Reply::new(501, "5.5.4", "VRFY wants a name")),
        "VRFY" => Ok(Command::Vrfy),
        verb @ ("EXPN" | "ETRN" | "TURN" | "SEND" | "SOML" | "SAML") => Err(not_offered(verb)),
        _ => Err(Reply::new(500, "5.5.1", "Unknown command; HELP lists those that are known")),
    }
}

/// RFC 5321, 4.2.4: known, but not here.
pub(super) fn not_offered(verb: &str) -> Reply {
    Reply::new(502, "5.5.1", format!("{verb} is not offered here"))
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
    let (path, words) = path(rest, "FROM:")?;
    let address = match path {
        "" => None,
        path => Some(address(path).map_err(|why| bad_address("5.1.7", &why))?),
    };
    Ok(Command::Mail(Sender { address, parameters: parameters::mail(words)? }))
}

fn rcpt(rest: &str) -> Result<Command, Reply> {
    let (path, words) = path(rest, "TO:")?;
    let parameters = parameters::rcpt(words)?;
    if path.eq_ignore_ascii_case("postmaster") {
        return Ok(Command::Rcpt(Recipient { address: None, parameters }));
    }
    let address = Some(address(path).map_err(|why| bad_address("5.1.3", &why))?);
    Ok(Command::Rcpt(Recipient { address, parameters }))
}

/// RFC 3030, 2: a length, and perhaps `LAST`.
fn chunk(rest: &str) -> Option<Chunk> {
    let (digits, last) = match rest.split_once(' ') {
        None => (rest, false),
        Some((digits, word)) if word.eq_ignore_ascii_case("LAST") => (digits, true),
        Some(_) => return None,
    };
    let fine = (1..=CHUNK_DIGITS_MAX).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit());
    fine.then(|| Chunk { octets: digits.parse().unwrap_or(u64::MAX), last })
}

/// RFC 4954, 4.
fn auth(rest: &str) -> Result<Command, Reply> {
    let (name, initial) = match rest.split_once(' ') {
        Some((name, initial)) => (name, Some(initial.to_string())),
        None => (rest, None),
    };
    match Mechanism::named(name) {
        Some(mechanism) => Ok(Command::Auth(mechanism, initial)),
        None if name.is_empty() => Err(Reply::new(501, "5.5.4", "AUTH wants a mechanism")),
        None => Err(Reply::new(504, "5.5.4", "The mechanisms are PLAIN and LOGIN")),
    }
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
fn address(path: &str) -> Result<Address, Error> {
    let mailbox = match path.starts_with('@') {
        true => path.split_once(':').map_or("", |(_route, mailbox)| mailbox),
        false => path,
    };
    Address::parse_utf8(mailbox)
}

fn bad_address(enhanced: &'static str, error: &Error) -> Reply {
    let why = match error {
        Error::Bad(why) => why.clone(),
        other => other.to_string(),
    };
    Reply::new(501, enhanced, format!("Not an address: {why}"))
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
            Ok(Command::Rcpt(Recipient { address: Some(address), .. })) => address.to_string(),
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
        assert_eq!(code("RCPT TO:<a@b.org> X=1"), 555);
        assert_eq!(parse(b"RCPT TO:<\xe4@b.org>").unwrap_err().code, 500);
    }

    #[test]
    fn a_chunk_has_a_length() {
        let read = |line: &str| match parse(line.as_bytes()) {
            Ok(Command::Bdat(chunk)) => Ok((chunk.octets, chunk.last)),
            other => Err(format!("{other:?}")),
        };
        assert_eq!(read("bdat 12"), Ok((12, false)));
        assert_eq!(read("BDAT 0 last"), Ok((0, true)));
        assert_eq!(read("BDAT 18446744073709551616"), Ok((u64::MAX, false)));
        for bad in [
            "BDAT",
            "BDAT LAST",
            "BDAT -1",
            "BDAT 1 FIRST",
            "BDAT 1  LAST",
            "BDAT 999999999999999999999",
        ] {
            assert_eq!(parse(bad.as_bytes()), Ok(Command::BadBdat), "{bad}");
        }
    }

    #[test]
    fn mechanisms_are_known_in_any_case() {
        let auth = |mechanism, initial: &str| Ok(Command::Auth(mechanism, Some(initial.into())));
        assert_eq!(parse(b"AUTH plain AGE="), auth(Mechanism::Plain, "AGE="));
        assert_eq!(parse(b"auth LOGIN ="), auth(Mechanism::Login, "="));
        assert_eq!((code("AUTH"), code("AUTH CRAM-MD5")), (501, 504));
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
