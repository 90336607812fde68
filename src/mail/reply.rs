//! What a compose page begins with when somebody answers or forwards.

use super::address::{Address, Contact};
use super::entry::date_line;
use super::message::{Letter, Person};
use std::collections::BTreeSet;

/// Bytes of a text that are quoted.
const QUOTE_BYTES_MAX: usize = 64 << 10;

/// The fields of a compose page before anybody typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefill {
    /// Recipients, as they are typed.
    pub to: String,
    /// Further recipients.
    pub cc: String,
    /// The subject.
    pub subject: String,
    /// The text, with what it quotes.
    pub text: String,
    /// The message that is answered.
    pub in_reply_to: Option<String>,
    /// The messages before it.
    pub references: Vec<String>,
}

/// An answer to the author alone. To the recipients, where the author is `me`.
pub fn reply(letter: &Letter<'_>, me: &Address) -> Prefill {
    let mut told = BTreeSet::new();
    Prefill { to: typed(&answered(letter, me), &mut told), ..quoting(letter) }
}

/// An answer to everybody but `me`.
pub fn reply_all(letter: &Letter<'_>, me: &Address) -> Prefill {
    let mut told = BTreeSet::new();
    let to = typed(&answered(letter, me), &mut told);
    told.insert(me.key());
    let others: Vec<Person> = letter.to().into_iter().chain(letter.cc()).collect();
    Prefill { to, cc: typed(&others, &mut told), ..quoting(letter) }
}

/// The message for somebody else; its files go with it.
pub fn forward(letter: &Letter<'_>) -> Prefill {
    let list = |people: Vec<Person>| typed(&people, &mut BTreeSet::new());
    let mut head =
        format!("---------- Forwarded message ----------\nFrom: {}\n", list(letter.from()));
    if let Some(date) = letter.date() {
        head += &format!("Date: {}\n", date_line(date));
    }
    head += &format!("Subject: {}\nTo: {}\n", letter.subject(), list(letter.to()));
    Prefill {
        subject: prefixed("Fwd:", &letter.subject()),
        text: format!("\n\n{head}\n{}\n", bounded(&letter.text().0)),
        references: letter.thread(),
        ..Prefill::default()
    }
}

fn answered(letter: &Letter<'_>, me: &Address) -> Vec<Person> {
    let is_me =
        |person: &Person| Address::parse(&person.address).is_ok_and(|a| a.key() == me.key());
    let authors = letter.reply_to();
    if authors.iter().all(is_me) && !letter.to().is_empty() { letter.to() } else { authors }
}

fn quoting(letter: &Letter<'_>) -> Prefill {
    let author = letter.from().first().map_or_else(String::new, |p| p.label().to_string());
    let when = letter.date().map_or_else(String::new, |date| format!("On {}, ", date_line(date)));
    let text = letter.text().0;
    let quoted: String = bounded(&text).lines().map(quoted_line).collect();
    Prefill {
        subject: prefixed("Re:", &letter.subject()),
        text: format!("\n\n{when}{author} wrote:\n{quoted}"),
        in_reply_to: letter.message_id(),
        references: letter.thread(),
        ..Prefill::default()
    }
}

fn quoted_line(line: &str) -> String {
    if line.starts_with('>') || line.is_empty() {
        format!(">{line}\n")
    } else {
        format!("> {line}\n")
    }
}

fn bounded(text: &str) -> &str {
    text[..text.floor_char_boundary(QUOTE_BYTES_MAX)].trim_end()
}

/// One `Re:` however often it went to and fro.
fn prefixed(prefix: &str, subject: &str) -> String {
    let mut rest = subject.trim();
    while let Some(start) = rest.get(..prefix.len())
        && start.eq_ignore_ascii_case(prefix)
    {
        rest = rest[prefix.len()..].trim_start();
    }
    format!("{prefix} {rest}").trim_end().to_string()
}

/// People as they are typed into a field, each once.
fn typed(people: &[Person], told: &mut BTreeSet<String>) -> String {
    let mut items = Vec::new();
    for person in people {
        match Address::parse(&person.address) {
            Ok(address) if told.insert(address.key()) => {
                items.push(Contact::new(&person.name, address).to_string());
            }
            Ok(_) => {}
            Err(_) => items.push(person.address.replace([',', ';'], " ")),
        }
    }
    items.retain(|item| !item.trim().is_empty());
    items.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: &str = "From: Bob <bob@penn.test>\r\nTo: Alice <alice@penn.test>, carol@x.org\r\n\
        Cc: BOB@penn.test, \"D, d\" <dan@x.org>\r\nSubject: Re: RE: lunch\r\nMessage-ID: <2@x>\r\n\
        References: <1@x>\r\nDate: Mon, 3 Nov 2025 14:02:00 +0000\r\n\r\nAt one?\r\n\r\n> earlier\r\n";

    fn me() -> Address {
        Address::parse("alice@penn.test").unwrap()
    }

    #[test]
    fn an_answer_goes_to_the_author_and_quotes() {
        let answer = reply(&Letter::parse(ASKED.as_bytes()).unwrap(), &me());
        assert_eq!(answer.to, "Bob <bob@penn.test>");
        assert_eq!(answer.cc, "");
        assert_eq!(answer.subject, "Re: lunch");
        assert_eq!(answer.in_reply_to.as_deref(), Some("2@x"));
        assert_eq!(answer.references, ["1@x", "2@x"]);
        let quoted = "\n\nOn 3 Nov 2025 at 14:02 UTC, Bob wrote:\n> At one?\n>\n>> earlier\n";
        assert_eq!(answer.text, quoted);
    }

    #[test]
    fn an_answer_to_all_leaves_nobody_out_but_me() {
        let answer = reply_all(&Letter::parse(ASKED.as_bytes()).unwrap(), &me());
        assert_eq!(answer.to, "Bob <bob@penn.test>");
        assert_eq!(answer.cc, "carol@x.org, \"D, d\" <dan@x.org>");
    }

    #[test]
    fn an_answer_to_my_own_message_goes_to_its_recipients() {
        let own = "From: alice@penn.test\r\nTo: bob@penn.test\r\n\r\nx";
        let own = Letter::parse(own.as_bytes()).unwrap();
        assert_eq!(reply(&own, &me()).to, "bob@penn.test");
        assert_eq!(reply_all(&own, &me()).cc, "");
    }

    #[test]
    fn reply_to_is_obeyed() {
        let asked = "From: a@x.org\r\nReply-To: list@x.org\r\n\r\nx";
        assert_eq!(reply(&Letter::parse(asked.as_bytes()).unwrap(), &me()).to, "list@x.org");
    }

    #[test]
    fn a_forward_says_what_it_forwards() {
        let forward = forward(&Letter::parse(ASKED.as_bytes()).unwrap());
        assert_eq!((forward.to.as_str(), forward.in_reply_to), ("", None));
        assert_eq!(forward.subject, "Fwd: Re: RE: lunch");
        assert!(
            forward.text.contains("From: Bob <bob@penn.test>\nDate: 3 Nov 2025 at 14:02 UTC\n")
        );
        assert!(forward.text.ends_with("At one?\n\n> earlier\n"), "{}", forward.text);
    }
}
