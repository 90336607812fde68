//! The shell around the session: sockets, time limits, mailboxes.

use super::data::{Decoded, Decoder};
use super::drain::Drain;
use super::input::Input;
use super::relay;
use super::reply::Reply;
use super::session::{Action, EXCESS_FACTOR, Envelope, Outcome, Session, Settings};
use super::{SESSION_TIME_MAX, SESSIONS_PER_ADDRESS};
use crate::client::Client;
use crate::config::{Config, Smtp};
use crate::error::{Error, Result};
use crate::mail::{Address, Incoming, Mailboxes, message};
use crate::net::{self, Limits, Stream};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Time for the refusal of a session over the cap.
const REFUSAL_TIME: Duration = Duration::from_millis(100);

/// Runs the SMTP server named `name` for as long as the process lives.
pub fn run(config: &Config, name: &str) -> Result<()> {
    let own = config.smtps.iter().find(|smtp| smtp.name == name);
    let own = own.ok_or_else(|| Error::config(format!("no smtp {name:?} is configured")))?;
    let listener = net::bind(&own.exchange)?;
    let exchange = Exchange::new(config, own)?;
    relay::start(config, own, &exchange.mailboxes, &exchange.drain)?;
    log::info!("smtp {name} takes mail for {} on {}", exchange.settings.domain, own.exchange);
    let limits = Limits { connections: own.sessions_max, per_address: SESSIONS_PER_ADDRESS };
    net::serve(listener, limits, move |stream, peer| exchange.talk(stream, peer), refuse);
    Ok(())
}

/// What all sessions share.
struct Exchange {
    mailboxes: Mailboxes,
    settings: Settings,
    idle: Duration,
    drain: Drain,
}

/// RFC 5321, 3.8: a server that cannot serve says so before it closes.
fn refuse(mut stream: Stream) {
    stream.set_deadline(Some(Instant::now() + REFUSAL_TIME));
    let reply = Reply::new(421, "4.3.2", "Too many sessions; try again later");
    let _ = stream.write_all(reply.to_string().as_bytes());
}

impl Exchange {
    fn new(config: &Config, own: &Smtp) -> Result<Exchange> {
        let mailboxes = Mailboxes::new(Client::new(config)?, config);
        let settings = Settings {
            domain: mailboxes.domain().to_string(),
            message_bytes_max: own.message_bytes_max,
            recipients_max: own.recipients_max,
        };
        let idle = Duration::from_millis(own.idle_ms);
        Ok(Exchange { mailboxes, settings, idle, drain: Drain::on_signal()? })
    }

    /// Rule 6: the quota is judged here, not after the message.
    fn look_up(&self, address: &Address, size: u64) -> Result<Option<String>> {
        let Some(user) = self.mailboxes.resolve(address)? else { return Ok(None) };
        self.mailboxes.admit(&user, size).map(|()| Some(user))
    }

    fn talk(&self, stream: Stream, peer: SocketAddr) {
        stream.set_stall(Some(self.idle));
        stream.set_deadline(Some(Instant::now() + SESSION_TIME_MAX));
        let mut talk = Talk {
            exchange: self,
            peer,
            session: Session::new(self.settings.clone()),
            input: Input::new(stream.clone()),
            output: Vec::new(),
            stream,
        };
        if let Err(error) = talk.run() {
            talk.end(&error);
        }
    }
}

/// One session.
struct Talk<'a> {
    exchange: &'a Exchange,
    peer: SocketAddr,
    session: Session,
    input: Input<Stream>,
    /// Replies that wait to be sent together (RFC 2920, 3.2).
    output: Vec<u8>,
    stream: Stream,
}

impl Talk<'_> {
    fn run(&mut self) -> io::Result<()> {
        self.reply(&self.session.greeting());
        loop {
            if !self.input.has_line() {
                self.flush()?;
            }
            let Some(line) = self.input.line()? else { return Ok(()) };
            let mut action = match line {
                _ if self.exchange.drain.is_ending() => Action::Close(self.session.ending()),
                Ok(line) => self.session.line(&line),
                Err(fault) => self.session.bad_line(fault),
            };
            if let Action::LookUp(address, size) = action {
                let found = self.exchange.look_up(&address, size);
                action = self.session.recipient(found);
            }
            if let Action::Receive(reply, envelope) = action {
                self.reply(&reply);
                self.flush()?;
                let outcome = self.receive(envelope)?;
                action = self.session.message(outcome);
            }
            match action {
                Action::Reply(reply) => self.reply(&reply),
                Action::Close(reply) => {
                    self.reply(&reply);
                    return self.close();
                }
                Action::LookUp(..) | Action::Receive(..) => unreachable!("both are done above"),
            }
        }
    }

    /// Reads a message and delivers it. An error is one of the connection: the client hears nothing and
    /// keeps the message.
    fn receive(&mut self, envelope: Envelope) -> io::Result<Outcome> {
        let _receiving = self.exchange.drain.receiving();
        let id = uuid::Uuid::now_v7().simple().to_string();
        let recipients = envelope.users.len();
        let mut message = self.begin(envelope, &id);
        let (mut decoder, mut piece) = (Decoder::default(), Vec::new());
        let max = self.exchange.settings.message_bytes_max;
        loop {
            let input = self.input.piece()?;
            if input.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let len = input.len();
            let decoded = decoder.decode(input, &mut piece);
            if decoder.bytes() <= max {
                message = message.and_then(|mut m| m.add(&piece).map(|()| m));
            }
            piece.clear();
            match decoded {
                Decoded::More if decoder.bytes() > max.saturating_mul(EXCESS_FACTOR) => {
                    return Ok(Outcome::FarTooBig);
                }
                Decoded::More => self.input.consume(len),
                Decoded::BareNewline => return Ok(Outcome::BareNewline),
                Decoded::Ended(used) => {
                    self.input.consume(used);
                    break;
                }
            }
        }
        if decoder.bytes() > max {
            return Ok(Outcome::TooBig);
        }
        if let Some(fault) = decoder.fault() {
            return Ok(Outcome::Faulty(fault));
        }
        let outcome = deliver(message, id);
        self.note(&outcome, decoder.bytes(), recipients);
        Ok(outcome)
    }

    fn begin(&self, envelope: Envelope, id: &str) -> Result<Incoming> {
        let (exchange, settings) = (self.exchange, &self.exchange.settings);
        let trace = self.received_line(id);
        // Our own trace lines do not count against the sender.
        let max = settings.message_bytes_max + trace.len() as u64 + 1024;
        let mut message = exchange.mailboxes.incoming(envelope.sender, envelope.users, max)?;
        message.trace(&trace)?;
        Ok(message)
    }

    /// RFC 5321, 4.4.
    fn received_line(&self, id: &str) -> String {
        let from = format!("{} ([{}])", self.session.client_name(), self.peer.ip().to_canonical());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (by, with) = (&self.exchange.settings.domain, self.session.protocol());
        message::received(&from, by, with, id, now)
    }

    fn note(&self, outcome: &Outcome, bytes: u64, recipients: usize) {
        let peer = self.peer;
        match outcome {
            Outcome::Stored(id) => {
                log::info!("{id} from {peer}: {bytes} bytes for {recipients} recipients");
            }
            other => log::warn!("a message from {peer} was not stored: {other:?}"),
        }
    }

    fn reply(&mut self, reply: &Reply) {
        self.output.extend(reply.to_string().bytes());
    }

    fn flush(&mut self) -> io::Result<()> {
        let sent = self.stream.write_all(&self.output);
        self.output.clear();
        sent
    }

    /// Sends the last reply. What the client still sends is read away for a moment: closing a socket with
    /// unread bytes would take the reply from it.
    fn close(&mut self) -> io::Result<()> {
        self.flush()?;
        self.stream.close_write();
        self.stream.set_deadline(Some(Instant::now() + Duration::from_secs(1)));
        loop {
            let read = self.input.piece()?.len();
            if read == 0 {
                return Ok(());
            }
            self.input.consume(read);
        }
    }

    /// RFC 5321, 4.5.3.2.7: a client that is silent for too long hears 421.
    fn end(&mut self, error: &io::Error) {
        log::debug!("session with {} ended: {error}", self.peer);
        if error.kind() == io::ErrorKind::TimedOut {
            self.stream.set_deadline(Some(Instant::now() + REFUSAL_TIME));
            self.reply(&self.session.time_is_over());
            let _ = self.flush();
        }
    }
}

/// Rule 1: stored for all, or not acknowledged.
fn deliver(message: Result<Incoming>, id: String) -> Outcome {
    let delivered = message.and_then(|message| {
        message.deliver()?.into_iter().try_for_each(|(user, delivered)| {
            delivered.map(drop).inspect_err(|e| log::warn!("{id} for {user}: {e}"))
        })
    });
    match delivered {
        Ok(()) => Outcome::Stored(id),
        Err(error) => Outcome::Failed(error),
    }
}
