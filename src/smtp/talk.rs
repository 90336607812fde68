//! One session over its connection: what the pure [`Session`] wants done, in its order.

use super::SESSION_TIME_MAX;
use super::command::Chunk;
use super::data::{Decoded, Decoder};
use super::drain::Receiving;
use super::input::Input;
use super::receipt::Receipt;
use super::reply::Reply;
use super::server::{Desk, Handshake, House, REFUSAL_TIME};
use super::session::{Action, Envelope, Outcome, Session};
use crate::net::{Channel, Stream};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Most time for a TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// One session.
pub(super) struct Talk<'a> {
    desk: &'a Desk,
    peer: SocketAddr,
    /// When it is over, whatever goes on.
    end: Instant,
    session: Session,
    input: Input<Channel>,
    /// Replies that wait to be sent together (RFC 2920, 3.2).
    output: Vec<u8>,
    /// A message of which chunks have come, and which keeps the process alive.
    chunked: Option<(Receipt<'a>, Receiving)>,
}

impl<'a> Talk<'a> {
    /// Shakes hands first where that is the listener's way.
    pub fn begin(desk: &'a Desk, stream: Stream, peer: SocketAddr) -> io::Result<Talk<'a>> {
        let end = Instant::now() + SESSION_TIME_MAX;
        stream.set_stall(Some(desk.house.idle));
        let secure = desk.handshake == Handshake::First;
        let channel = match secure {
            true => shake_hands(&desk.house, stream)?,
            false => Channel::Plain(stream),
        };
        let session = Session::new(desk.settings.clone(), secure);
        let input = Input::new(channel);
        Ok(Talk { desk, peer, end, session, input, output: Vec::new(), chunked: None })
    }

    /// Talks to the end.
    pub fn run(&mut self) {
        if let Err(error) = self.converse() {
            log::debug!("session with {} ended: {error}", self.peer);
            self.say_late(&error);
        }
    }

    fn converse(&mut self) -> io::Result<()> {
        self.reply(&self.session.greeting());
        loop {
            if !self.input.has_line() {
                self.flush()?;
            }
            // Silence is not all that can be slow: a line has its time, and so has the session.
            self.set_deadline(self.end.min(Instant::now() + self.desk.house.idle));
            let Some(line) = self.input.line(self.session.line_bytes_max())? else { return Ok(()) };
            self.set_deadline(self.end);
            let mut action = match line {
                _ if self.desk.house.drain.is_ending() => Action::Close(self.session.ending()),
                Ok(line) => self.session.line(&line),
                Err(fault) => self.session.bad_line(fault),
            };
            loop {
                action = match action {
                    Action::Reply(reply) => {
                        self.reply(&reply);
                        break;
                    }
                    Action::Close(reply) => {
                        self.reply(&reply);
                        return self.close();
                    }
                    other => self.perform(other)?,
                };
            }
            if !self.session.is_in_chunks() {
                self.chunked = None;
            }
        }
    }

    /// Does what the session wants to know or to have done, and says what it wants next.
    fn perform(&mut self, action: Action) -> io::Result<Action> {
        let house = &self.desk.house;
        Ok(match action {
            Action::Reply(_) | Action::Close(_) => action,
            Action::StartTls(reply) => self.start_tls(reply)?,
            Action::Authenticate(said) => {
                let found = house.authenticate(&said.name, &said.password, self.peer.ip());
                self.session.authenticated(found)
            }
            Action::Owner(address) => self.session.sender(house.mailboxes.resolve(&address)),
            Action::LookUp(address, size) => self.session.recipient(house.look_up(&address, size)),
            Action::Receive(reply, envelope) => {
                self.reply(&reply);
                self.flush()?;
                let outcome = self.receive(envelope)?;
                self.session.message(outcome)
            }
            Action::Chunk(chunk, envelope) => self.receive_chunk(chunk, envelope)?,
            Action::Swallow(octets, reply) => {
                self.flush()?;
                self.octets(octets, |_| {})?;
                Action::Reply(reply)
            }
        })
    }

    /// RFC 3207, 4.2: what the client sent behind the command is forgotten with all that was said.
    fn start_tls(&mut self, reply: Reply) -> io::Result<Action> {
        self.reply(&reply);
        self.flush()?;
        let stream = self.input.channel().stream().clone();
        self.input = Input::new(shake_hands(&self.desk.house, stream)?);
        self.session.secured();
        self.next_line()
    }

    /// After a handshake the client speaks first.
    fn next_line(&mut self) -> io::Result<Action> {
        self.set_deadline(self.end.min(Instant::now() + self.desk.house.idle));
        let line = self.input.line(self.session.line_bytes_max())?;
        self.set_deadline(self.end);
        Ok(match line {
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(Ok(line)) => self.session.line(&line),
            Some(Err(fault)) => self.session.bad_line(fault),
        })
    }

    /// Reads a message up to its dot and delivers it. An error is one of the connection: the client hears nothing and
    /// keeps the message.
    fn receive(&mut self, envelope: Envelope) -> io::Result<Outcome> {
        let _receiving = self.desk.house.drain.receiving();
        let mut receipt = self.receipt(envelope, Decoder::default());
        loop {
            let input = self.input.piece()?;
            if input.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let len = input.len();
            match receipt.take(input) {
                Decoded::More if receipt.is_far_too_big() => return Ok(Outcome::FarTooBig),
                Decoded::More => self.input.consume(len),
                Decoded::BareNewline => return Ok(Outcome::BareNewline),
                Decoded::Ended(used) => {
                    self.input.consume(used);
                    return Ok(receipt.deliver());
                }
            }
        }
    }

    /// RFC 3030, 2.
    fn receive_chunk(&mut self, chunk: Chunk, envelope: Envelope) -> io::Result<Action> {
        let taken = self.chunked.take();
        let (mut receipt, receiving) = taken.unwrap_or_else(|| {
            (self.receipt(envelope, Decoder::chunked()), self.desk.house.drain.receiving())
        });
        self.flush()?;
        let mut decoded = Decoded::More;
        self.octets(chunk.octets, |piece| {
            if decoded == Decoded::More {
                decoded = receipt.take(piece);
            }
        })?;
        Ok(match decoded {
            Decoded::BareNewline => self.session.message(Outcome::BareNewline),
            _ if chunk.last => self.session.message(receipt.deliver()),
            _ => {
                self.chunked = Some((receipt, receiving));
                self.session.chunk(chunk)
            }
        })
    }

    fn receipt(&self, envelope: Envelope, decoder: Decoder) -> Receipt<'a> {
        let from = format!("{} ([{}])", self.session.client_name(), self.peer.ip().to_canonical());
        Receipt::new(self.desk, envelope, from, self.session.protocol(), decoder)
    }

    /// Reads so many octets, whatever they are.
    fn octets(&mut self, mut octets: u64, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        while octets > 0 {
            let piece = self.input.piece()?;
            if piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let now = octets.min(piece.len() as u64) as usize;
            take(&piece[..now]);
            self.input.consume(now);
            octets -= now as u64;
        }
        Ok(())
    }

    fn reply(&mut self, reply: &Reply) {
        self.output.extend(reply.to_string().bytes());
    }

    fn flush(&mut self) -> io::Result<()> {
        let sent = self.input.channel().write_all(&self.output);
        self.output.clear();
        sent
    }

    fn set_deadline(&mut self, at: Instant) {
        self.input.channel().stream().set_deadline(Some(at));
    }

    /// Sends the last reply. What the client still sends is read away for a moment: closing a socket with
    /// unread bytes would take the reply from it.
    fn close(&mut self) -> io::Result<()> {
        self.flush()?;
        self.input.channel().close_write();
        self.set_deadline(Instant::now() + Duration::from_secs(1));
        loop {
            let read = self.input.piece()?.len();
            if read == 0 {
                return Ok(());
            }
            self.input.consume(read);
        }
    }

    /// RFC 5321, 4.5.3.2.7: a client that is silent for too long hears 421.
    fn say_late(&mut self, error: &io::Error) {
        if error.kind() == io::ErrorKind::TimedOut {
            self.set_deadline(Instant::now() + REFUSAL_TIME);
            self.reply(&self.session.time_is_over());
            let _ = self.flush();
        }
    }
}

fn shake_hands(house: &House, stream: Stream) -> io::Result<Channel> {
    let tls = house.tls.as_ref().ok_or(io::ErrorKind::Unsupported)?;
    stream.set_deadline(Some(Instant::now() + HANDSHAKE_TIME));
    tls.accept(stream)
}
