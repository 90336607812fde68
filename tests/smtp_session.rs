//! SMTP conversations, without a socket: scripts of what a client says and what it hears.
//!
//! The mailbox owners are alice, bob, dave, who has room for 1000 octets, and postmaster; looking up carol fails for now.
//! Alice has the address ally too, and the password `secret`. `fail` makes the next delivery fail.

use penncloud::account::LogIn;
use penncloud::error::Error;
use penncloud::mail::{Address, message};
use penncloud::smtp::auth::Credentials;
use penncloud::smtp::data::{Decoded, Decoder, Fault};
use penncloud::smtp::session::{
    Action, Envelope, LineFault, Outcome, Service, Session, Settings, Target,
};
use proptest::prelude::*;
use std::fmt::Write;

#[derive(goldenscript::Command)]
enum Step {
    /// A new session: `submission` for our users; `tls` with a certificate, `secure` under TLS already; `clear` takes
    /// passwords in the clear; `alone` sends nothing to other hosts. Slashes between.
    Connect(Option<String>),
    /// Lines of the client, each ended by CR LF.
    Say(Vec<String>),
    /// So many times the same line.
    Repeat(usize, String),
    /// A line that the reader cannot cut.
    Garble(String),
    /// A message: lines that get CR LF, stuffed dots and a final dot. After DATA.
    Message(Vec<String>),
    /// Octets after DATA as they are, `\r` and `\n` written so.
    Raw(String),
    /// A chunk: BDAT with the length of these octets, and them; `last` ends the message.
    Chunk(String, Option<String>),
    /// A message of so many lines `Received:`.
    Hops(usize),
    /// A message of so many octets in one line.
    Bulk(usize),
    /// The next delivery fails: retry, quota or space.
    Fail(String),
}

struct Runner {
    session: Session,
    envelope: Option<Envelope>,
    decoder: Decoder,
    message: Vec<u8>,
    failure: Option<Error>,
}

impl Runner {
    fn new(words: &str) -> Runner {
        let has = |word: &str| words.split('/').any(|w| w == word);
        let service = if has("submission") { Service::Submission } else { Service::Exchange };
        let settings = Settings {
            service,
            domain: "penn.test".into(),
            has_tls: has("tls") || has("secure"),
            auth_in_clear: has("clear"),
            relays: !has("alone"),
            message_bytes_max: 2000,
            recipients_max: 3,
        };
        Runner {
            session: Session::new(settings, has("secure")),
            envelope: None,
            decoder: Decoder::default(),
            message: Vec::new(),
            failure: None,
        }
    }

    fn show(&mut self, action: Action, out: &mut String) {
        let more = match action {
            Action::Reply(reply) => return write!(out, "{reply}").expect("a string takes all"),
            Action::Close(reply) => {
                return writeln!(out, "{reply}closed").expect("a string takes all");
            }
            Action::Swallow(octets, reply) => {
                return write!(out, "({octets} octets read away)\n{reply}")
                    .expect("a string takes all");
            }
            Action::Receive(reply, envelope) => {
                self.envelope = Some(envelope);
                (self.decoder, self.message) = (Decoder::default(), Vec::new());
                return write!(out, "{reply}").expect("a string takes all");
            }
            Action::Chunk(_, envelope) => {
                self.envelope = Some(envelope);
                return;
            }
            Action::StartTls(reply) => {
                self.session.secured();
                return writeln!(out, "{reply}(TLS)").expect("a string takes all");
            }
            Action::Authenticate(said) => self.session.authenticated(fits(&said)),
            Action::Owner(address) => self.session.sender(look_up(&address, 0)),
            Action::LookUp(address, size) => self.session.recipient(look_up(&address, size)),
        };
        self.show(more, out);
    }

    /// The octets of a message after DATA, all of them.
    fn receive(&mut self, octets: &[u8], out: &mut String) -> Result<(), &'static str> {
        let envelope = self.envelope.take().ok_or("DATA was not taken")?;
        let outcome = match self.decoder.decode(octets, &mut self.message) {
            Decoded::More => return Err("the message has no end"),
            Decoded::BareNewline => Outcome::BareNewline,
            Decoded::Ended(_) => self.outcome(&envelope, out),
        };
        let action = self.session.message(outcome);
        self.show(action, out);
        Ok(())
    }

    fn chunk(&mut self, octets: &[u8], last: bool, out: &mut String) {
        if !self.session.is_in_chunks() {
            (self.decoder, self.message) = (Decoder::chunked(), Vec::new());
        }
        let end = if last { " LAST" } else { "" };
        let action = self.session.line(format!("BDAT {}{end}", octets.len()).as_bytes());
        let Action::Chunk(chunk, _) = &action else { return self.show(action, out) };
        let chunk = *chunk;
        self.show(action, out);
        let decoded = self.decoder.decode(octets, &mut self.message);
        let action = match decoded {
            Decoded::BareNewline => self.session.message(Outcome::BareNewline),
            _ if last => {
                self.decoder.end(&mut self.message);
                let envelope = self.envelope.take().expect("a chunk has one");
                let outcome = self.outcome(&envelope, out);
                self.session.message(outcome)
            }
            _ => self.session.chunk(chunk),
        };
        self.show(action, out);
    }

    fn outcome(&mut self, envelope: &Envelope, out: &mut String) -> Outcome {
        if self.decoder.bytes() > 2000 {
            return Outcome::TooBig;
        }
        if let Some(fault) = self.decoder.fault() {
            return Outcome::Faulty(fault);
        }
        if envelope.submitter.as_ref().is_some_and(|user| !is_author(&self.decoder, user)) {
            return Outcome::Faulty(Fault::Author);
        }
        if let Some(error) = self.failure.take() {
            return Outcome::Failed(error);
        }
        let sender = envelope.sender.as_ref().map_or(String::new(), Address::to_string);
        let to: Vec<String> = envelope.recipients.iter().map(target).collect();
        let by = self.session.protocol();
        writeln!(out, "from <{sender}> by {by} for {}:", to.join(", ")).expect("all is taken");
        if envelope.parameters.wants_dsn() {
            let parameters = &envelope.parameters;
            writeln!(out, "    ({:?} {:?})", parameters.ret, parameters.envid)
                .expect("all is taken");
        }
        for line in String::from_utf8_lossy(&self.message).lines() {
            writeln!(out, "    {line}").expect("a string takes all");
        }
        Outcome::Stored("ID".into())
    }
}

/// A recipient: our user, or the address elsewhere; and what was said of it.
fn target(target: &Target) -> String {
    let who = target.user.clone().unwrap_or_else(|| target.address.to_string());
    let parameters = &target.parameters;
    match parameters.wants_dsn() {
        true => format!("{who} ({:?} {:?})", parameters.notify, parameters.orcpt),
        false => who,
    }
}

fn is_author(decoder: &Decoder, user: &str) -> bool {
    let [from] = decoder.header().authors.as_slice() else { return false };
    let owner = |address: &Address| match address.domain() {
        "penn.test" => look_up(address, 0).ok().flatten(),
        _ => None,
    };
    let authors = message::authors(from).unwrap_or_default();
    !authors.is_empty() && authors.iter().all(|author| owner(author).as_deref() == Some(user))
}

fn fits(said: &Credentials) -> Result<LogIn<String>, Error> {
    match (said.name.as_str(), said.password.as_str()) {
        ("alice", "secret") => Ok(LogIn::Welcome("alice".into())),
        ("often", _) => Ok(LogIn::Wait(7)),
        ("carol", _) => Err(Error::retry("no backend answers")),
        _ => Ok(LogIn::Wrong),
    }
}

fn look_up(address: &Address, size: u64) -> Result<Option<String>, Error> {
    if address.domain() != "penn.test" {
        return Ok(None);
    }
    match address.local().to_lowercase().as_str() {
        name @ ("alice" | "bob" | "postmaster") => Ok(Some(name.into())),
        "ally" => Ok(Some("alice".into())),
        "dave" if size <= 1000 => Ok(Some("dave".into())),
        "dave" => Err(Error::Quota { used: 1000, limit: 2000 }),
        "carol" => Err(Error::retry("no backend answers")),
        _ => Ok(None),
    }
}

fn failure(word: &str) -> Result<Error, String> {
    match word {
        "retry" => Ok(Error::retry("no backend answers")),
        "quota" => Ok(Error::Quota { used: 2, limit: 1 }),
        "space" => Ok(Error::NoSpace),
        _ => Err(format!("unknown failure {word}")),
    }
}

impl goldenscript::Runner for Runner {
    type Command = Step;

    fn run(
        &mut self,
        step: &Step,
        _: &goldenscript::Context,
    ) -> Result<String, Box<dyn std::error::Error>> {
        let mut out = String::new();
        match step {
            Step::Connect(words) => {
                *self = Runner::new(words.as_deref().unwrap_or_default());
                write!(out, "{}", self.session.greeting())?;
            }
            Step::Say(lines) => {
                for line in lines {
                    let action = self.session.line(line.as_bytes());
                    self.show(action, &mut out);
                }
            }
            Step::Repeat(n, line) => {
                for i in 0..*n {
                    let action = self.session.line(line.as_bytes());
                    if i + 1 == *n {
                        self.show(action, &mut out);
                    }
                }
            }
            Step::Garble(how) => {
                let fault = match how.as_str() {
                    "long" => LineFault::TooLong,
                    _ => LineFault::BareNewline,
                };
                let action = self.session.bad_line(fault);
                self.show(action, &mut out);
            }
            Step::Message(lines) => {
                let stuff = |line: &String| match line.starts_with('.') {
                    true => format!(".{line}\r\n"),
                    false => format!("{line}\r\n"),
                };
                let octets: String = lines.iter().map(stuff).collect();
                self.receive((octets + ".\r\n").as_bytes(), &mut out)?;
            }
            Step::Raw(octets) => {
                let octets = octets.replace("\\r", "\r").replace("\\n", "\n");
                self.receive(octets.as_bytes(), &mut out)?;
            }
            Step::Chunk(octets, last) => {
                let octets = octets.replace("\\r", "\r").replace("\\n", "\n");
                self.chunk(octets.as_bytes(), last.is_some(), &mut out);
            }
            Step::Hops(n) => {
                let octets = "Received:\r\n".repeat(*n) + ".\r\n";
                self.receive(octets.as_bytes(), &mut out)?;
            }
            Step::Bulk(n) => {
                self.receive(("x".repeat(n - 2) + "\r\n.\r\n").as_bytes(), &mut out)?;
            }
            Step::Fail(how) => self.failure = Some(failure(how)?),
        }
        Ok(out.replace('\r', ""))
    }
}

#[test]
fn conversations() {
    let scripts = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/smtp_session");
    for script in std::fs::read_dir(scripts).unwrap() {
        goldenscript::run(&mut Runner::new(""), script.unwrap().path()).unwrap();
    }
}

/// Whether the class of each enhanced code is that of its code (RFC 2034, 4).
fn is_consistent(transcript: &str) -> bool {
    transcript.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).all(|line| {
        let enhanced = line.get(4..).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
        enhanced.split('.').count() != 3 || enhanced[..1] == line[..1]
    })
}

proptest! {
    #[test]
    fn whatever_is_said_in_whatever_order_is_answered(
        kind in "(submission/)?(tls|secure|clear|)",
        steps in prop::collection::vec((0..17usize, "[ -~ü]{0,12}"), 1..40),
    ) {
        let (mut runner, mut out) = (Runner::new(&kind), String::new());
        for (at, junk) in steps {
            let line = match at {
                0 => "EHLO a",
                1 => "HELO a",
                2 => "STARTTLS",
                3 => "AUTH PLAIN AGFsaWNlAHNlY3JldA==",
                4 => "AUTH LOGIN",
                5 => "YWxpY2U=",
                6 => "MAIL FROM:<alice@penn.test> SMTPUTF8",
                7 => "MAIL FROM:<>",
                8 => "RCPT TO:<alice@penn.test>",
                9 => "RCPT TO:<x@other.org> NOTIFY=NEVER",
                10 => "RSET",
                11 | 12 => {
                    runner.chunk(b"From: alice@penn.test\r\n", at == 12, &mut out);
                    continue;
                }
                13 => {
                    let action = runner.session.line(b"DATA");
                    runner.show(action, &mut out);
                    if out.ends_with("ends it\r\n") {
                        runner.receive(b"From: alice@penn.test\r\n.\r\n", &mut out).unwrap();
                    }
                    continue;
                }
                14 => {
                    let action = runner.session.bad_line(LineFault::TooLong);
                    runner.show(action, &mut out);
                    continue;
                }
                15 => "MAIL FROM:<carol@penn.test>",
                _ => &junk,
            };
            let action = runner.session.line(line.as_bytes());
            runner.show(action, &mut out);
            if out.ends_with("closed\n") {
                break;
            }
        }
        prop_assert!(is_consistent(&out), "{out}");
    }
}
