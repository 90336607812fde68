//! AUTH: what a client says to prove who it is (RFC 4954), by PLAIN (RFC 4616) or LOGIN.

use super::reply::Reply;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt;

/// Octets of a name and of a password.
const WORD_BYTES_MAX: usize = 1024;
/// `Username:` and `Password:`, as LOGIN asks for them.
const ASK_USER: &str = "VXNlcm5hbWU6";
const ASK_PASSWORD: &str = "UGFzc3dvcmQ6";

/// A way to prove who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// Name and password in one message (RFC 4616).
    Plain,
    /// Name and password, each asked for. No RFC has it, but many programs know nothing else.
    Login,
}

impl Mechanism {
    /// The one of this name, in any case of letters.
    pub fn named(name: &str) -> Option<Mechanism> {
        match name.to_ascii_uppercase().as_str() {
            "PLAIN" => Some(Mechanism::Plain),
            "LOGIN" => Some(Mechanism::Login),
            _ => None,
        }
    }
}

/// Who a client says that it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// As whom it wants to act; the same as `name` where it says nothing.
    pub identity: String,
    /// Whose password this is.
    pub name: String,
    /// The password.
    pub password: String,
}

/// Without the password: logs show it to others.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({:?} as {:?})", self.name, self.identity)
    }
}

/// What the server waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialog {
    /// The one message of PLAIN.
    Plain,
    /// The name that LOGIN asks for.
    LoginName,
    /// The password that LOGIN asks for, of this name.
    LoginPassword(String),
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A question of the server, and what it then waits for.
    Ask(Reply, Dialog),
    /// All is said.
    Done(Credentials),
    /// It cannot be read, or the client gave up.
    Refuse(Reply),
}

impl Dialog {
    /// Begins, with the response that stood in the command itself, where one did.
    pub fn begin(mechanism: Mechanism, initial: Option<&str>) -> Next {
        let first = match mechanism {
            Mechanism::Plain => Dialog::Plain,
            Mechanism::Login => Dialog::LoginName,
        };
        match initial {
            None => first.ask(),
            // RFC 4954, 4: an empty response is written as one `=`.
            Some("=") => first.response(Vec::new()),
            Some(initial) => first.answer(initial.as_bytes()),
        }
    }

    /// Takes a line of the client.
    pub fn answer(self, line: &[u8]) -> Next {
        // RFC 4954, 4: `*` cancels; what is no base64 is refused by 501.
        if line == b"*" {
            return Next::Refuse(Reply::new(501, "5.7.0", "Cancelled"));
        }
        match STANDARD.decode(line) {
            Ok(response) => self.response(response),
            Err(_) => Next::Refuse(Reply::new(501, "5.5.2", "This is not base64")),
        }
    }

    fn ask(self) -> Next {
        let question = match &self {
            Dialog::Plain => "",
            Dialog::LoginName => ASK_USER,
            Dialog::LoginPassword(_) => ASK_PASSWORD,
        };
        Next::Ask(Reply::plain(334, [question]), self)
    }

    fn response(self, response: Vec<u8>) -> Next {
        let Ok(text) = String::from_utf8(response) else { return not_understood() };
        match self {
            Dialog::Plain => plain(&text),
            Dialog::LoginName if is_word(&text) => Dialog::LoginPassword(text).ask(),
            Dialog::LoginPassword(name) if is_word(&text) => {
                Next::Done(Credentials { identity: name.clone(), name, password: text })
            }
            _ => not_understood(),
        }
    }
}

/// RFC 4616, 2: `[authzid] NUL authcid NUL passwd`.
fn plain(text: &str) -> Next {
    let words: Vec<&str> = text.split('\0').collect();
    let [identity, name, password] = words[..] else { return not_understood() };
    if !is_word(name) || !is_word(password) || identity.len() > WORD_BYTES_MAX {
        return not_understood();
    }
    let identity = if identity.is_empty() { name } else { identity };
    let [identity, name, password] = [identity, name, password].map(String::from);
    Next::Done(Credentials { identity, name, password })
}

fn is_word(text: &str) -> bool {
    (1..=WORD_BYTES_MAX).contains(&text.len()) && !text.contains('\0')
}

fn not_understood() -> Next {
    Next::Refuse(Reply::new(501, "5.5.2", "No name and password could be read"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain_of(text: &str) -> Next {
        Dialog::begin(Mechanism::Plain, Some(&STANDARD.encode(text)))
    }

    #[test]
    fn plain_has_three_words_and_the_first_may_be_empty() {
        let read = |text| match plain_of(text) {
            Next::Done(all) => format!("{} {} {}", all.identity, all.name, all.password),
            other => panic!("{other:?}"),
        };
        assert_eq!(read("\0alice\0secret"), "alice alice secret");
        assert_eq!(read("bob\0alice\0secret"), "bob alice secret");
        for bad in ["", "alice\0secret", "\0alice\0", "\0\0secret", "\0a\0b\0c"] {
            assert!(matches!(plain_of(bad), Next::Refuse(reply) if reply.code == 501), "{bad:?}");
        }
    }

    #[test]
    fn a_password_is_in_no_log() {
        let Next::Done(all) = plain_of("\0alice\0secret") else { panic!("not read") };
        assert_eq!(format!("{all:?}"), "Credentials(\"alice\" as \"alice\")");
    }

    proptest! {
        #[test]
        fn no_response_is_a_panic(
            initial in proptest::option::of("[A-Za-z0-9+/=* ]{0,40}"),
            lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..3),
            login in any::<bool>(),
        ) {
            let mechanism = if login { Mechanism::Login } else { Mechanism::Plain };
            let mut next = Dialog::begin(mechanism, initial.as_deref());
            for line in lines {
                let Next::Ask(_, dialog) = next else { break };
                next = dialog.answer(&line);
            }
        }

        #[test]
        fn whatever_is_encoded_is_read_again(name in "[^\0]{1,40}", password in "[^\0]{1,40}") {
            let Next::Ask(_, dialog) = Dialog::begin(Mechanism::Login, Some(&STANDARD.encode(&name)))
            else { panic!("LOGIN asks for a password") };
            let Next::Done(by_login) = dialog.answer(STANDARD.encode(&password).as_bytes())
            else { panic!("both are given") };
            prop_assert_eq!((&by_login.name, &by_login.password), (&name, &password));
            prop_assert_eq!(plain_of(&format!("\0{name}\0{password}")), Next::Done(by_login));
        }
    }
}
