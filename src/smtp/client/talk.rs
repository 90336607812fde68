//! The shell around the machine: a connection, its time limits, the body.

use super::answer::Reader;
use super::command::{Login, Order};
use super::machine::{Action, Machine, Outcome, Secrecy, Wait};
use super::stuff::Stuffer;
use crate::error::{Error, Result};
use crate::mail::queue::Answer;
use crate::net::{Channel, Stream};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Octets of the body in memory at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Where a host is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name, for people and certificates.
    pub host: String,
    /// Where it listens.
    pub address: SocketAddr,
}

/// All waits of RFC 5321, 4.5.3.2, as parts of the one for most commands, which is five minutes there.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For most commands.
    pub command: Duration,
    /// How long the shell does not look after the lease.
    pub slice: Duration,
}

impl Patience {
    fn of(self, wait: Wait) -> Duration {
        match wait {
            Wait::Command => self.command,
            Wait::Data => self.command * 2 / 5,
            Wait::Dot => self.command * 2,
            Wait::Quit => self.command / 60,
        }
    }

    /// One block of the body: three minutes.
    fn block(self) -> Duration {
        self.command * 3 / 5
    }

    /// A connection, and a handshake: half a minute.
    fn connect(self) -> Duration {
        self.command / 10
    }
}

/// One try of one message at one host.
pub struct Session<'a> {
    /// Who and what.
    pub order: Order,
    /// The host.
    pub target: &'a Target,
    /// Whether TLS is wanted.
    pub secrecy: Secrecy,
    /// Who we are there.
    pub login: Option<Login>,
    /// How long to wait.
    pub patience: Patience,
    /// Opens the body, from its first octet.
    pub open: &'a mut dyn FnMut() -> Result<Box<dyn Read>>,
    /// Called every few seconds; an error drops the connection: the lease is lost.
    pub tick: &'a mut dyn FnMut() -> Result<()>,
}

/// What a session came to.
pub struct Ended {
    /// What came of each recipient, in order.
    pub outcomes: Vec<Outcome>,
    /// Whether another host may be asked at once.
    pub untouched: bool,
    /// Whether there was a connection.
    pub connected: bool,
}

impl Session<'_> {
    /// Sends the message. Errors are those of our own store and lease; whatever the host does is an outcome.
    pub fn run(mut self) -> Result<Ended> {
        let machine = self.talk(self.secrecy)?;
        let machine = if machine.wants_clear() { self.talk(Secrecy::Clear)? } else { machine };
        let (untouched, connected) = (machine.is_untouched(), machine.was_greeted());
        Ok(Ended { untouched, connected, outcomes: machine.results() })
    }

    fn talk(&mut self, secrecy: Secrecy) -> Result<Machine> {
        let target = self.target;
        let mut machine =
            Machine::new(self.order.clone(), &target.host, secrecy, self.login.clone());
        (self.tick)()?;
        let stream = match Stream::connect(&target.address.to_string(), self.patience.connect()) {
            Ok(stream) => stream,
            Err(error) => {
                machine.lost(&format!("no connection: {error}"));
                return Ok(machine);
            }
        };
        let mut wire = Wire {
            channel: Some(Channel::Plain(stream)),
            reader: Reader::default(),
            slice: self.patience.slice,
        };
        let mut action = machine.begin();
        loop {
            action = match action {
                Action::Close => return Ok(machine),
                Action::Shake => {
                    (self.tick)()?;
                    let shaken = wire.shake(&target.host, self.login.is_some(), self.patience);
                    machine.secured(shaken)
                }
                other => match self.perform(&mut wire, other, &mut machine) {
                    Ok(next) => next,
                    Err(Broken::Ours(error)) => return Err(error),
                    Err(Broken::Theirs(why)) => machine.lost(&why),
                },
            };
        }
    }

    /// Sends what is to be sent, and gives the machine the reply.
    fn perform(
        &mut self,
        wire: &mut Wire,
        action: Action,
        machine: &mut Machine,
    ) -> std::result::Result<Action, Broken> {
        let wait = match action {
            Action::Send(octets, wait) => {
                wire.send(&octets, self.patience.of(Wait::Command), self.tick)?;
                wait
            }
            Action::Body(wait) => {
                self.send_body(wire)?;
                wait
            }
            Action::Wait(wait) => wait,
            Action::Shake | Action::Close => return Ok(action),
        };
        let deadline = Instant::now() + self.patience.of(wait);
        loop {
            if let Some(reply) = wire.reader.next_reply().map_err(Broken::theirs)? {
                return Ok(machine.reply(&reply));
            }
            wire.receive(deadline, self.tick)?;
        }
    }

    fn send_body(&mut self, wire: &mut Wire) -> std::result::Result<(), Broken> {
        let mut body = (self.open)().map_err(Broken::Ours)?;
        let (mut stuffer, mut out) = (Stuffer::default(), Vec::new());
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let n = body.read(&mut piece).map_err(|e| Broken::Ours(e.into()))?;
            if n == 0 {
                break;
            }
            stuffer.push(&piece[..n], &mut out);
            wire.send(&out, self.patience.block(), self.tick)?;
            out.clear();
        }
        stuffer.end(&mut out);
        wire.send(&out, self.patience.block(), self.tick)
    }
}

/// Why a session cannot go on.
enum Broken {
    /// The store failed, or the lease is lost.
    Ours(Error),
    /// The host.
    Theirs(String),
}

impl Broken {
    fn theirs(why: impl std::fmt::Display) -> Broken {
        Broken::Theirs(why.to_string())
    }
}

/// A connection with what was received on it.
struct Wire {
    channel: Option<Channel>,
    reader: Reader,
    /// Longest read or write before the lease is looked after.
    slice: Duration,
}

/// Looks after the lease now and then.
type Tick<'a> = &'a mut dyn FnMut() -> Result<()>;

impl Wire {
    fn channel(&mut self) -> std::result::Result<&mut Channel, Broken> {
        self.channel.as_mut().ok_or_else(|| Broken::theirs("the connection is lost"))
    }

    fn send(
        &mut self,
        octets: &[u8],
        within: Duration,
        tick: Tick<'_>,
    ) -> std::result::Result<(), Broken> {
        let (deadline, mut rest) = (Instant::now() + within, octets);
        while !rest.is_empty() {
            let slice = Instant::now() + self.slice;
            let channel = self.channel()?;
            channel.stream().set_deadline(Some(deadline.min(slice)));
            match channel.write(rest) {
                Ok(0) => return Err(Broken::theirs("the connection was closed")),
                Ok(n) => rest = &rest[n..],
                Err(error) => judge(&error, deadline, "takes nothing more")?,
            }
            tick().map_err(Broken::Ours)?;
        }
        Ok(())
    }

    fn receive(&mut self, deadline: Instant, tick: Tick<'_>) -> std::result::Result<(), Broken> {
        let mut octets = [0; 4096];
        let slice = Instant::now() + self.slice;
        let channel = self.channel()?;
        channel.stream().set_deadline(Some(deadline.min(slice)));
        match channel.read(&mut octets) {
            Ok(0) => return Err(Broken::theirs("the host closed the connection")),
            Ok(n) => self.reader.feed(&octets[..n]),
            Err(error) => judge(&error, deadline, "does not reply")?,
        }
        tick().map_err(Broken::Ours)?;
        if Instant::now() >= deadline {
            return Err(Broken::theirs("the host does not reply in time"));
        }
        Ok(())
    }

    /// What came in the clear and was not asked for is forgotten. With a name to sign in the certificate must be good.
    fn shake(
        &mut self,
        host: &str,
        strict: bool,
        patience: Patience,
    ) -> std::result::Result<(), String> {
        self.reader.clear();
        let Some(Channel::Plain(stream)) = self.channel.take() else {
            return Err("there is no connection in the clear".into());
        };
        stream.set_deadline(Some(Instant::now() + patience.connect()));
        let shaken = match strict {
            true => Channel::connect_tls_to(host, stream),
            false => Channel::connect_tls(stream),
        };
        self.channel = Some(shaken.map_err(|error| error.to_string())?);
        Ok(())
    }
}

/// A slice of time that is over is no failure before the deadline is.
fn judge(error: &io::Error, deadline: Instant, what: &str) -> std::result::Result<(), Broken> {
    match error.kind() {
        ErrorKind::TimedOut if Instant::now() < deadline => Ok(()),
        ErrorKind::TimedOut => Err(Broken::Theirs(format!("the host {what} in time"))),
        _ => Err(Broken::Theirs(format!("the connection broke: {error}"))),
    }
}

/// What is heard of a host that could not be asked.
impl Ended {
    /// All recipients wait, for this reason.
    pub fn deferred(recipients: usize, answer: &Answer) -> Ended {
        let outcomes = vec![Outcome::Deferred(answer.clone()); recipients];
        Ended { outcomes, untouched: true, connected: false }
    }
}
