//! What we say to other hosts, and what they offer (pure).

use super::answer::Reply;
use crate::mail::Address;
use crate::mail::queue::{Answer, Notify, Options, Recipient, Return};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A message that is to be sent, without its body.
#[derive(Clone, Debug)]
pub struct Order {
    /// Our own name.
    pub name: String,
    /// The sender; `None` is the null path.
    pub sender: Option<Address>,
    /// Who is to get it from this host.
    pub recipients: Vec<Recipient>,
    /// Octets of the message.
    pub size: u64,
    /// What its sender asked for.
    pub options: Options,
}

/// Who we are at a host that asks for it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

/// A password is in no log.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({})", self.user)
    }
}

impl Login {
    /// RFC 4616, in one line (RFC 4954, 4).
    pub(super) fn plain(&self) -> Vec<u8> {
        let word = STANDARD.encode(format!("\0{}\0{}", self.user, self.password));
        format!("AUTH PLAIN {word}\r\n").into_bytes()
    }

    pub(super) fn name_line(&self) -> Vec<u8> {
        format!("{}\r\n", STANDARD.encode(&self.user)).into_bytes()
    }

    pub(super) fn password_line(&self) -> Vec<u8> {
        format!("{}\r\n", STANDARD.encode(&self.password)).into_bytes()
    }
}

/// What a host said to EHLO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    pub(super) starttls: bool,
    pub(super) pipelining: bool,
    pub(super) auth_plain: bool,
    eight_bit: bool,
    utf8: bool,
    dsn: bool,
    /// The largest message, where it says one; 0: it says only that it knows the parameter.
    size: Option<u64>,
}

impl Offer {
    /// Its keywords, in any case (RFC 5321, 4.1.1.1).
    pub(super) fn of(reply: &Reply) -> Offer {
        let mut offer = Offer::default();
        for line in reply.lines.iter().skip(1).map(|line| line.to_ascii_uppercase()) {
            let mut words = line.split([' ', '=']);
            match words.next().unwrap_or_default() {
                "STARTTLS" => offer.starttls = true,
                "PIPELINING" => offer.pipelining = true,
                "8BITMIME" => offer.eight_bit = true,
                "SMTPUTF8" => offer.utf8 = true,
                "DSN" => offer.dsn = true,
                "SIZE" => offer.size = Some(words.next().and_then(|n| n.parse().ok()).unwrap_or(0)),
                "AUTH" => offer.auth_plain |= words.any(|word| word == "PLAIN"),
                _ => {}
            }
        }
        offer
    }

    /// Why this host can never have a message, though it was not asked.
    pub(super) fn refusal(&self, order: &Order) -> Option<Answer> {
        if order.options.smtputf8 && !self.utf8 {
            return Some(Answer::of_ours("5.6.7", "the host takes no addresses beyond ASCII"));
        }
        let max = self.size.filter(|max| *max > 0 && order.size > *max)?;
        let why = format!("the message has {} octets, the host takes {max} at most", order.size);
        Some(Answer::of_ours("5.3.4", why))
    }
}

pub(super) fn ehlo(name: &str) -> Vec<u8> {
    format!("EHLO {name}\r\n").into_bytes()
}

pub(super) fn helo(name: &str) -> Vec<u8> {
    format!("HELO {name}\r\n").into_bytes()
}

pub(super) fn starttls() -> Vec<u8> {
    b"STARTTLS\r\n".to_vec()
}

pub(super) fn auth_login() -> Vec<u8> {
    b"AUTH LOGIN\r\n".to_vec()
}

pub(super) fn data() -> Vec<u8> {
    b"DATA\r\n".to_vec()
}

pub(super) fn quit() -> Vec<u8> {
    b"QUIT\r\n".to_vec()
}

/// MAIL with the parameters that the host knows.
pub(super) fn mail(order: &Order, offer: &Offer) -> Vec<u8> {
    let sender = order.sender.as_ref().map_or_else(String::new, Address::to_string);
    let mut line = format!("MAIL FROM:<{sender}>");
    if offer.size.is_some() {
        line += &format!(" SIZE={}", order.size);
    }
    if offer.eight_bit {
        line += " BODY=8BITMIME";
    }
    if order.options.smtputf8 {
        line += " SMTPUTF8";
    }
    if offer.dsn {
        let whole = order.options.return_ == Return::Full;
        line += if whole { " RET=FULL" } else { " RET=HDRS" };
        if let Some(id) = order.options.envelope_id.as_deref().filter(|id| is_parameter(id)) {
            line += &format!(" ENVID={id}");
        }
    }
    (line + "\r\n").into_bytes()
}

/// RCPT, with what the sender wants to hear where the host can say it.
pub(super) fn rcpt(recipient: &Recipient, offer: &Offer) -> Vec<u8> {
    let mut line = format!("RCPT TO:<{}>", recipient.address);
    if offer.dsn {
        if recipient.notify != Notify::default() {
            line += &format!(" NOTIFY={}", notify(recipient.notify));
        }
        if let Some(original) = recipient.original.as_deref().filter(|o| is_parameter(o)) {
            line += &format!(" ORCPT={original}");
        }
    }
    (line + "\r\n").into_bytes()
}

fn notify(wanted: Notify) -> String {
    let words = [(wanted.success, "SUCCESS"), (wanted.failure, "FAILURE"), (wanted.delay, "DELAY")];
    let words: Vec<&str> = words.iter().filter(|(on, _)| *on).map(|(_, word)| *word).collect();
    if words.is_empty() { "NEVER".into() } else { words.join(",") }
}

/// What came from a client goes into a line of ours only as one word.
fn is_parameter(word: &str) -> bool {
    (1..=500).contains(&word.len()) && word.bytes().all(|b| (b'!'..=b'~').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_can_smuggle_no_line() {
        for bad in ["", "a b", "a\r\nRCPT TO:<x@y>", "é", &"x".repeat(501)] {
            assert!(!is_parameter(bad), "{bad:?}");
        }
        assert!(is_parameter("rfc822;a+2Bb@x.org"));
    }

    #[test]
    fn a_password_is_in_no_log() {
        let login = Login { user: "u".into(), password: "secret".into() };
        assert!(!format!("{login:?}").contains("secret"));
        assert_eq!(login.plain(), b"AUTH PLAIN AHUAc2VjcmV0\r\n");
    }
}
