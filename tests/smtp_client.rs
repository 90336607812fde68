//! The SMTP client without a socket: scripts of what a host replies, and what we say and conclude.

use penncloud::mail::Address;
use penncloud::mail::queue::{Notify, Options, Recipient, Return};
use penncloud::smtp::client::answer::Reader;
use penncloud::smtp::client::{Action, Login, Machine, Order, Outcome, Secrecy, Wait};
use std::fmt::Write;

#[derive(goldenscript::Command)]
enum Step {
    /// A new session: how many recipients at x.org, and words that change it: clear, demanded, login, utf8, dsn, big,
    /// null.
    Open(Vec<String>),
    /// What the host sends, each with CR LF.
    Hear(Vec<String>),
    /// The handshake ended so: ok, or why not.
    Tls(String),
    /// The connection broke.
    Lost(String),
}

struct Runner {
    machine: Option<Machine>,
    reader: Reader,
}

fn order(recipients: usize, words: &[String]) -> Order {
    let has = |word: &str| words.iter().any(|w| w == word);
    let recipient =
        |n: usize| Recipient::new(Address::parse(&format!("r{}@x.org", n + 1)).unwrap());
    let mut order = Order {
        name: "penn.test".into(),
        sender: (!has("null")).then(|| Address::parse("alice@penn.test").unwrap()),
        recipients: (0..recipients).map(recipient).collect(),
        size: if has("big") { 5000 } else { 100 },
        options: Options { smtputf8: has("utf8"), ..Options::default() },
    };
    if has("dsn") {
        order.options.return_ = Return::Full;
        order.options.envelope_id = Some("id+2B1".into());
        order.recipients[0].original = Some("rfc822;first@y.org".into());
        order.recipients[0].notify = Notify { success: false, failure: false, delay: false };
    }
    order
}

impl Runner {
    fn open(&mut self, recipients: usize, words: &[String]) -> Action {
        let has = |word: &str| words.iter().any(|w| w == word);
        let secrecy = match (has("clear"), has("demanded")) {
            (true, _) => Secrecy::Clear,
            (_, true) => Secrecy::Demanded,
            _ => Secrecy::Offered,
        };
        let login = has("login").then(|| Login { user: "us".into(), password: "secret".into() });
        let machine = Machine::new(order(recipients, words), "mx", secrecy, login);
        let action = machine.begin();
        (self.machine, self.reader) = (Some(machine), Reader::default());
        action
    }

    fn show(&mut self, action: Action, out: &mut String) {
        let wait = |wait: Wait| match wait {
            Wait::Command => "",
            Wait::Data => "(waits for DATA)\n",
            Wait::Dot => "(waits for the dot)\n",
            Wait::Quit => "(waits a moment)\n",
        };
        match action {
            Action::Wait(w) => out.push_str(wait(w)),
            Action::Send(octets, w) => {
                let text = String::from_utf8(octets).unwrap();
                text.lines().for_each(|line| writeln!(out, "> {line}").unwrap());
                out.push_str(wait(w));
            }
            Action::Shake => out.push_str("handshake\n"),
            Action::Body(w) => {
                out.push_str("> (the message)\n");
                out.push_str(wait(w));
            }
            Action::Close => self.close(out),
        }
    }

    fn close(&mut self, out: &mut String) {
        let machine = self.machine.take().expect("closed once");
        let again = if machine.wants_clear() { "; once more in the clear" } else { "" };
        let next = if machine.is_untouched() { "; another host may be asked" } else { "" };
        writeln!(out, "closed{again}{next}").unwrap();
        for (n, outcome) in machine.results().iter().enumerate() {
            let (word, answer) = match outcome {
                Outcome::Sent(answer) => ("sent", answer),
                Outcome::Deferred(answer) => ("deferred", answer),
                Outcome::Failed(answer) => ("failed", answer),
            };
            writeln!(out, "r{}: {word}: {answer}", n + 1).unwrap();
        }
    }

    fn hear(&mut self, line: &str, out: &mut String) {
        self.reader.feed(format!("{line}\r\n").as_bytes());
        loop {
            let Some(machine) = &mut self.machine else { return };
            let action = match self.reader.next_reply() {
                Ok(None) => return,
                Ok(Some(reply)) => machine.reply(&reply),
                Err(why) => machine.lost(why),
            };
            self.show(action, out);
        }
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
            Step::Open(words) => {
                let action = self.open(words[0].parse()?, words);
                self.show(action, &mut out);
            }
            Step::Hear(lines) => lines.iter().for_each(|line| self.hear(line, &mut out)),
            Step::Tls(how) => {
                let machine = self.machine.as_mut().ok_or("no session")?;
                let action = match how.as_str() {
                    "ok" => machine.secured(Ok(())),
                    why => machine.secured(Err(why.into())),
                };
                self.show(action, &mut out);
            }
            Step::Lost(why) => {
                let action = self.machine.as_mut().ok_or("no session")?.lost(why);
                self.show(action, &mut out);
            }
        }
        Ok(out)
    }
}

#[test]
fn what_is_said_to_other_hosts() {
    let scripts = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/smtp_client");
    for script in std::fs::read_dir(scripts).unwrap() {
        let mut runner = Runner { machine: None, reader: Reader::default() };
        goldenscript::run(&mut runner, script.unwrap().path()).unwrap();
    }
}
