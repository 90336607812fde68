//! SMTP conversations, without a socket: scripts of what a client says and what it hears.
//!
//! The mailbox owners are alice, bob, dave, who has room for 1000 octets, and postmaster; looking up carol fails for now. `fail` makes the next
//! delivery fail.

use penncloud::error::Error;
use penncloud::mail::Address;
use penncloud::smtp::data::{Decoded, Decoder};
use penncloud::smtp::session::{Action, Envelope, LineFault, Outcome, Session, Settings};
use std::fmt::Write;

#[derive(goldenscript::Command)]
enum Step {
    /// A new session.
    Connect,
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
    failure: Option<Error>,
}

impl Runner {
    fn new() -> Runner {
        let settings =
            Settings { domain: "penn.test".into(), message_bytes_max: 2000, recipients_max: 3 };
        Runner { session: Session::new(settings), envelope: None, failure: None }
    }

    fn show(&mut self, action: Action, out: &mut String) {
        match action {
            Action::Reply(reply) => write!(out, "{reply}").expect("a string takes all"),
            Action::Close(reply) => {
                writeln!(out, "{reply}closed").expect("a string takes all");
            }
            Action::LookUp(address, size) => {
                let action = self.session.recipient(look_up(&address, size));
                self.show(action, out);
            }
            Action::Receive(reply, envelope) => {
                self.envelope = Some(envelope);
                write!(out, "{reply}").expect("a string takes all");
            }
        }
    }

    fn receive(&mut self, octets: &[u8], out: &mut String) -> Result<(), &'static str> {
        let envelope = self.envelope.take().ok_or("DATA was not taken")?;
        let (mut decoder, mut message) = (Decoder::default(), Vec::new());
        let outcome = match (decoder.decode(octets, &mut message), decoder.fault()) {
            (Decoded::More, _) => return Err("the message has no end"),
            (Decoded::BareNewline, _) => Outcome::BareNewline,
            (Decoded::Ended(_), _) if decoder.bytes() > 2000 => Outcome::TooBig,
            (Decoded::Ended(_), Some(fault)) => Outcome::Faulty(fault),
            (Decoded::Ended(_), None) => match self.failure.take() {
                Some(error) => Outcome::Failed(error),
                None => {
                    let sender = envelope.sender.map_or(String::new(), |a| a.to_string());
                    writeln!(out, "from <{sender}> for {}:", envelope.users.join(", "))
                        .expect("a string takes all");
                    for line in String::from_utf8_lossy(&message).lines() {
                        writeln!(out, "    {line}").expect("a string takes all");
                    }
                    Outcome::Stored("ID".into())
                }
            },
        };
        let action = self.session.message(outcome);
        self.show(action, out);
        Ok(())
    }
}

fn look_up(address: &Address, size: u64) -> Result<Option<String>, Error> {
    assert_eq!(address.domain(), "penn.test", "only our own addresses are looked up");
    match address.local().to_lowercase().as_str() {
        name @ ("alice" | "bob" | "postmaster") => Ok(Some(name.into())),
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
            Step::Connect => {
                *self = Runner::new();
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
        goldenscript::run(&mut Runner::new(), script.unwrap().path()).unwrap();
    }
}
