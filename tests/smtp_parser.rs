//! Our command parser beside another one, that of Stalwart, on lines that people and attackers write.
//!
//! Both must read the same path, and take or refuse the same lines, but for differences that we choose:
//!
//! | what | we | they |
//! |---|---|---|
//! | an address | judge it by RFC 5321 and 6531 | take nearly any text with an `@`, or without |
//! | `RCPT TO:<>` | refuse it: only a sender may be nobody | take it |
//! | a source route | cut it off (RFC 5321, appendix F.2) | refuse or keep parts of it |
//! | an argument where none belongs (`DATA x`) | refuse it | refuse some |
//! | parameters of extensions that we do not offer (`BY`, `HOLDFOR`, `MT-PRIORITY`, …) | 555 | take them |
//! | the same parameter twice | refuse it | keep the last one |
//! | SIZE and BDAT beyond 64 bits | the most that fits | an error, or another number |

use penncloud::smtp::command::{Command, parse};
use proptest::prelude::*;
use smtp_proto::{MAIL_BODY_8BITMIME, MAIL_SMTPUTF8, Request};

/// What both can say of a line.
#[derive(Debug, PartialEq)]
enum Read {
    Mail { from: String, size: u64, eight_bit: bool, utf8: bool },
    Rcpt { to: String },
    Bdat { octets: u64, last: bool },
    Other(&'static str),
    Refused,
}

fn ours(line: &str) -> Read {
    let text = |address: Option<&penncloud::mail::Address>| address.map(ToString::to_string);
    match parse(line.as_bytes()) {
        Ok(Command::Mail(sender)) => Read::Mail {
            from: text(sender.address.as_ref()).unwrap_or_default(),
            size: sender.parameters.size.unwrap_or(0),
            eight_bit: sender.parameters.eight_bit,
            utf8: sender.parameters.utf8,
        },
        Ok(Command::Rcpt(to)) => {
            Read::Rcpt { to: text(to.address.as_ref()).unwrap_or("postmaster".into()) }
        }
        Ok(Command::Bdat(chunk)) => Read::Bdat { octets: chunk.octets, last: chunk.last },
        Ok(Command::Ehlo(_)) => Read::Other("EHLO"),
        Ok(Command::Helo(_)) => Read::Other("HELO"),
        Ok(Command::Data) => Read::Other("DATA"),
        Ok(Command::Rset) => Read::Other("RSET"),
        Ok(Command::Quit) => Read::Other("QUIT"),
        Ok(Command::Noop) => Read::Other("NOOP"),
        Ok(Command::Help) => Read::Other("HELP"),
        Ok(Command::Vrfy) => Read::Other("VRFY"),
        Ok(Command::StartTls) => Read::Other("STARTTLS"),
        Ok(Command::Auth(..)) => Read::Other("AUTH"),
        Ok(Command::Http | Command::BadBdat) | Err(_) => Read::Refused,
    }
}

fn theirs(line: &str) -> Read {
    let bytes = format!("{line}\r\n").into_bytes();
    match Request::parse(&mut bytes.iter()) {
        Ok(Request::Mail { from }) => Read::Mail {
            from: lower_domain(&from.address),
            size: from.size as u64,
            eight_bit: from.flags & MAIL_BODY_8BITMIME != 0,
            utf8: from.flags & MAIL_SMTPUTF8 != 0,
        },
        Ok(Request::Rcpt { to }) => Read::Rcpt { to: lower_domain(&to.address) },
        Ok(Request::Bdat { chunk_size, is_last }) => {
            Read::Bdat { octets: chunk_size as u64, last: is_last }
        }
        Ok(other) => Read::Other(other.name()),
        Err(_) => Read::Refused,
    }
}

fn lower_domain(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((local, domain)) => format!("{local}@{}", domain.to_ascii_lowercase()),
        None => address.to_string(),
    }
}

#[test]
fn lines_of_the_standards_are_read_alike() {
    for line in [
        "EHLO client.example",
        "ehlo [127.0.0.1]",
        "HELO a",
        "DATA",
        "RSET",
        "QUIT",
        "NOOP",
        "NOOP x",
        "HELP",
        "VRFY alice",
        "STARTTLS",
        "AUTH PLAIN",
        "AUTH PLAIN AGEAYg==",
        "AUTH LOGIN",
        "MAIL FROM:<>",
        "MAIL FROM:<a@b.org>",
        "mail from:<A.b+c@B.ORG> size=12 body=8bitmime smtputf8",
        "MAIL FROM:<a@b.org> SIZE=1 RET=HDRS ENVID=x",
        "RCPT TO:<a@b.org>",
        "rcpt to:<Bob@B.org> notify=success,failure orcpt=rfc822;bob@b.org",
        "RCPT TO:<a@b.org> NOTIFY=NEVER",
        "BDAT 12",
        "bdat 0 last",
        "MAIL",
        "MAIL FROM",
        "RCPT TO:a@b.org",
        "MAIL FROM:<a@b.org> X-UNKNOWN=1",
        "MAIL FROM:<a@b.org> BODY=9BIT",
        "RCPT TO:<a@b.org> NOTIFY=SOMETIMES",
        "BDAT",
        "BDAT x",
        "NONSENSE",
        "",
    ] {
        assert_eq!(ours(line), theirs(line), "{line:?}");
    }
}

proptest! {
    #[test]
    fn what_both_take_is_the_same(
        verb in "(MAIL FROM:|mail from:|RCPT TO:|Rcpt To:)",
        local in "[a-zA-Z0-9.+_-]{1,12}",
        domain in "[a-zA-Z0-9]{1,6}(\\.[a-z]{1,4}){0,2}",
        parameters in prop::collection::vec("(SIZE=[0-9]{1,9}|BODY=(7BIT|8BITMIME)|SMTPUTF8|NOTIFY=(NEVER|DELAY))", 0..3),
        junk in proptest::option::of("[ <>@,;:\"\\\\=]{1,3}"),
    ) {
        let junk = junk.unwrap_or_default();
        let line = format!("{verb}<{local}@{domain}{junk}> {}", parameters.join(" "));
        let (own, other) = (ours(&line), theirs(&line));
        // What we take, they take, and read alike; they take more, as the table says.
        if own != Read::Refused {
            prop_assert_eq!(own, other, "{}", line);
        }
    }
}
