//! What the master answers to clients, nodes and people: the text protocol at `master.address`.

use super::handover::LEAVE_PATIENCE_MS;
use super::membership::{Input, Plea};
use super::owner::{Event, House, Order, Service};
use super::text;
use crate::config::{Auth, Config};
use crate::error::{Error, Result};
use crate::net::{Crew, Limits, Stream, listen};
use crate::protocol::auth::{Gate, HANDSHAKE, RESERVED};
use crate::protocol::cell::slot_of_owner;
use crate::protocol::cluster::{NodeRoute, Routes};
use crate::protocol::command::{Command, Peer};
use crate::protocol::reply::Reply;
use crate::protocol::wire::{Incoming, read_request};
use serde::Serialize;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Silence after which a connection is closed.
const IDLE: Duration = Duration::from_secs(600);
/// Longest time from a request's first byte to its last.
const REQUEST: Duration = Duration::from_secs(30);
/// Longest time to send an answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Largest value that a request may carry: the master takes none, but reads it away.
const VALUE_BYTES_MAX: u64 = 64 << 10;

/// Serves on a listener, on threads of its own.
pub fn start(config: &Config, house: Arc<House>, secret: Arc<str>, listener: TcpListener) {
    let always = config.cluster.auth == Auth::Always;
    let order_time = config.request_time() + Duration::from_millis(LEAVE_PATIENCE_MS);
    let server = Arc::new(Server { house, secret, always, order_time });
    let reserved = server.clone();
    let crews = [
        Crew::new(Limits::of(config.store.connections_max), move |stream, peer| {
            server.talk(server.gate(peer), stream, peer);
        }),
        Crew::new(Limits::of(RESERVED), move |stream, peer| {
            reserved.talk(Gate::reserved(reserved.secret.clone()), stream, peer);
        }),
    ];
    listen::spawn_crews(listener, crews.into(), |stream| stream.close());
}

struct Server {
    house: Arc<House>,
    secret: Arc<str>,
    /// Whether connections from loopback must prove the secret too.
    always: bool,
    /// How long a node may take to go out of service in order, or back.
    order_time: Duration,
}

impl Server {
    fn gate(&self, peer: SocketAddr) -> Gate {
        Gate::new(Some(self.secret.clone()), self.always || !peer.ip().is_loopback())
    }

    /// Serves a connection until it ends.
    fn talk(&self, gate: Gate, stream: Stream, peer: SocketAddr) {
        if let Err(e) = self.connection(gate, &stream) {
            log::debug!("connection of {peer}: {e}");
        }
    }

    fn connection(&self, mut gate: Gate, stream: &Stream) -> Result<()> {
        let (mut from, mut to) = (BufReader::new(stream.clone()), stream.clone());
        let handshake = Instant::now() + HANDSHAKE;
        loop {
            let within = |time, gate: &Gate| match gate.is_open() {
                true => Instant::now() + time,
                false => handshake,
            };
            stream.set_deadline(Some(within(IDLE, &gate)));
            if from.fill_buf()?.is_empty() {
                return Ok(());
            }
            stream.set_deadline(Some(within(REQUEST, &gate)));
            let incoming = read_request(&mut from, VALUE_BYTES_MAX, |command| gate.check(command))?;
            let (reply, goes_on) = match incoming {
                Incoming::Request(request) if request.command == Command::Quit => return Ok(()),
                Incoming::Request(request) => self.answer(request.command, &mut gate),
                Incoming::Refused(error) => (Reply::Error(error), true),
                Incoming::BigPut(..) => (Reply::Error(no_cells()), false),
                Incoming::Lost(error) => (Reply::Error(error), false),
                Incoming::Closed => return Ok(()),
            };
            stream.set_deadline(Some(Instant::now() + ANSWER));
            let mut out = Vec::new();
            reply.write(&mut out);
            to.write_all(&out)?;
            if !goes_on {
                return Ok(());
            }
        }
    }

    /// The answer to a command, and whether the connection goes on after it.
    fn answer(&self, command: Command, gate: &mut Gate) -> (Reply, bool) {
        match command {
            Command::Auth(words) => {
                let reply = gate.answer(&words);
                let goes_on = !matches!(reply, Reply::Error(_));
                (reply, goes_on)
            }
            command => (self.execute(command).unwrap_or_else(Reply::Error), true),
        }
    }

    fn execute(&self, command: Command) -> Result<Reply> {
        Ok(match command {
            Command::Where { owner } => group_of(&self.house.routes(), &owner)?,
            Command::Nodes => Reply::Text(text::nodes(&self.house.status()?)),
            Command::Status => Reply::Text(text::status(&self.house.status()?)),
            Command::Suspect { node } => {
                self.house.order(&node, Order::Beat)?;
                Reply::Ok(Vec::new())
            }
            Command::Shutdown { node, force: false } => self.serve(&node, Service::Out)?,
            Command::Shutdown { node, force: true } => self.serve(&node, Service::OutByForce)?,
            Command::Wakeup { node } => self.serve(&node, Service::In)?,
            Command::Ping => Reply::Pong,
            Command::Help => Reply::Text(text::HELP.into()),
            Command::Peer(peer) => self.peer(&peer)?,
            _ => return Err(no_cells()),
        })
    }

    /// Takes a node out of service, or back into it; answers when it has happened.
    fn serve(&self, node: &str, service: Service) -> Result<Reply> {
        self.house.serve(node, service, self.order_time)?;
        Ok(Reply::Ok(Vec::new()))
    }

    fn peer(&self, message: &Peer) -> Result<Reply> {
        match message.verb.as_str() {
            "@GETROUTES" => Ok(json(&*self.house.routes())),
            "@GETSTATUS" => Ok(json(&self.house.status()?)),
            "@SEALED" | "@RESIGNED" | "@PLEA" => {
                self.house.tell(Event::Happened(said(message)?))?;
                Ok(Reply::Peer { words: Vec::new(), payload: Vec::new() })
            }
            verb => Err(Error::bad(format!(
                "unknown message {} to a master",
                crate::protocol::word::display(verb.as_bytes())
            ))),
        }
    }
}

/// What a node says by itself: `<tablet> <epoch> <node>` and what belongs to the verb.
fn said(message: &Peer) -> Result<Input> {
    let words: Vec<&str> = message
        .words
        .iter()
        .map(|word| std::str::from_utf8(word).map_err(|_| Error::bad("a word is not UTF-8")))
        .collect::<Result<_>>()?;
    let number = |word: &str| word.parse().map_err(|_| Error::bad("a word is not a number"));
    let [tablet, epoch, node, rest @ ..] = &words[..] else {
        return Err(Error::bad(format!("{} <tablet> <epoch> <node> ...", message.verb)));
    };
    let (tablet, epoch, node) = (tablet.to_string(), number(epoch)?, node.to_string());
    Ok(match (message.verb.as_str(), rest) {
        ("@SEALED", [last, version]) => {
            Input::Sealed { node, tablet, epoch, end: (number(last)?, number(version)?) }
        }
        ("@RESIGNED", []) => Input::Resigned { node, tablet, epoch },
        ("@PLEA", plea) => Input::Pleaded { node, tablet, epoch, plea: parse_plea(plea)? },
        (verb, _) => return Err(Error::bad(format!("{verb} has too few words or too many"))),
    })
}

fn parse_plea(words: &[&str]) -> Result<Plea> {
    match words {
        ["REMOVE", member] => Ok(Plea::Remove(member.to_string())),
        ["ADD", member] => Ok(Plea::Add(member.to_string())),
        ["NOLEASE"] => Ok(Plea::NoLease),
        ["TELL"] => Ok(Plea::Tell),
        _ => Err(Error::bad("a plea is REMOVE <member>, ADD <member>, NOLEASE or TELL")),
    }
}

fn no_cells() -> Error {
    Error::bad("the master keeps no cells: ask a backend (WHERE <owner> names one)")
}

fn json(message: &impl Serialize) -> Reply {
    let payload = serde_json::to_vec(message).expect("messages are plain JSON");
    Reply::Peer { words: Vec::new(), payload }
}

/// The group of an owner: the primary of its tablet first, if it is alive, then the others that are, then
/// those that are not.
fn group_of(routes: &Routes, owner: &[u8]) -> Result<Reply> {
    let slot = slot_of_owner(owner);
    let group = routes.group_of_slot(slot)?.name.clone();
    let primary = &routes.tablet_of_slot(slot)?.primary;
    let mut nodes: Vec<&NodeRoute> = routes.nodes.iter().filter(|n| n.group == group).collect();
    nodes.sort_by_key(|n| (!n.alive, Some(&n.name) != primary.as_ref()));
    let nodes = nodes.into_iter().map(|n| (n.name.clone(), n.address.clone())).collect();
    Ok(Reply::Group { name: group, nodes })
}
