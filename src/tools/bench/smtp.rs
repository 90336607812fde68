//! Mail: messages into a mailbox by SMTP, several in one session.

use super::{Against, Bench};
use crate::error::{Error, Result};
use crate::net::Stream;
use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

/// Sessions at once.
const SESSIONS: [usize; 2] = [1, 16];

/// Bytes of a message's body.
const BODY_BYTES: usize = 4 << 10;

/// Time for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the cases.
pub(super) fn run(bench: &mut Bench, user: &str) {
    let Some(server) = bench.config.smtps.first() else { return };
    let (host, domain) = (server.exchange.clone(), bench.config.cluster.mail_domain.clone());
    let recipient = format!("{user}@{domain}");
    for sessions in SESSIONS {
        let sender = |_| {
            let (mut session, recipient) = (Session::open(&host)?, &recipient);
            Ok(move || session.send(recipient, &message(recipient)))
        };
        bench.case("SMTP message of 4 KiB", (sessions, 0), Against::Syncs, sender);
    }
}

/// Sends so many messages.
pub(super) fn deliver(host: &str, recipient: &str, messages: usize) -> Result<()> {
    let mut session = Session::open(host)?;
    (0..messages).try_for_each(|_| session.send(recipient, &message(recipient)).map(drop))
}

/// A message like no other: the same one again would be delivered once.
fn message(recipient: &str) -> String {
    let line = "a line of sixty-two characters and the two that end every line\r\n";
    let (id, lines) = (uuid::Uuid::new_v4().simple(), line.repeat(BODY_BYTES / line.len()));
    format!(
        "From: bench@example.test\r\nTo: {recipient}\r\nSubject: bench\r\n\
         Message-ID: <{id}@example.test>\r\n\r\n{lines}"
    )
}

struct Session {
    stream: BufReader<Stream>,
}

impl Session {
    fn open(host: &str) -> Result<Session> {
        let stream = Stream::connect(host, PATIENCE)?;
        stream.set_stall(Some(PATIENCE));
        let mut session = Session { stream: BufReader::new(stream) };
        session.expect("220")?;
        session.say("EHLO bench.example.test", "250")?;
        Ok(session)
    }

    /// Sends one message; answers its bytes.
    fn send(&mut self, recipient: &str, message: &str) -> Result<u64> {
        self.say("MAIL FROM:<bench@example.test>", "250")?;
        self.say(&format!("RCPT TO:<{recipient}>"), "250")?;
        self.say("DATA", "354")?;
        self.stream.get_mut().write_all(message.as_bytes())?;
        self.say(".", "250")?;
        Ok(message.len() as u64)
    }

    fn say(&mut self, line: &str, answer: &str) -> Result<()> {
        self.stream.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
        self.expect(answer)
    }

    /// Reads an answer, of one line or several.
    fn expect(&mut self, code: &str) -> Result<()> {
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            if !line.starts_with(code) {
                return Err(Error::bad(format_args!("the server said {:?}", line.trim_end())));
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(());
            }
        }
    }
}
