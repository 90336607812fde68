//! Links to other nodes: one connection and one thread for each, on which replicas' messages stream one way.
//!
//! Whatever is lost on the way, the protocol sends again. So a link never makes anyone wait: what it cannot take
//! is dropped, and after a break it goes on with what is said then.

use super::directory::Directory;
use super::node::Node;
use crate::error::{Error, Result};
use crate::net::Stream;
use crate::protocol::command::{Command, Peer, Request};
use crate::protocol::connection::Connection;
use crate::protocol::reply::Reply;
use crate::protocol::wire::{Incoming, read_request};
use crate::replication::{Message, wire};
use crossbeam::channel::{Receiver, Sender, bounded};
use std::collections::BTreeMap;
use std::io::{BufReader, BufWriter, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Messages that wait for one link. Their bytes are bounded by the replicas' windows.
const QUEUE_MAX: usize = 4096;
/// Pause before a node is dialled again.
const REDIAL: Duration = Duration::from_millis(100);
/// How long another node may take to let us in.
const CONNECT: Duration = Duration::from_millis(500);
/// How long a message may lie unread on the other side before the link is broken.
const STALL: Duration = Duration::from_secs(2);
/// Silence after which the listening side of a link closes it.
const IDLE: Duration = Duration::from_secs(60);

/// A message on its way.
struct Said {
    tablet: Arc<str>,
    message: Message,
}

/// Ways to the other nodes.
pub struct Links(BTreeMap<String, Sender<Said>>);

/// The end of a link from which its thread takes messages.
pub struct Line {
    to: String,
    said: Receiver<Said>,
}

impl Links {
    /// Links to nodes, and their lines, each to be run by a thread.
    pub fn new(nodes: impl IntoIterator<Item = String>) -> (Links, Vec<Line>) {
        let (mut links, mut lines) = (BTreeMap::new(), Vec::new());
        for to in nodes {
            let (sender, said) = bounded(QUEUE_MAX);
            links.insert(to.clone(), sender);
            lines.push(Line { to, said });
        }
        (Links(links), lines)
    }

    /// Sends a tablet's message to a node, if it can be sent.
    pub fn say(&self, to: &str, tablet: &Arc<str>, message: Message) {
        if let Some(link) = self.0.get(to) {
            let _ = link.try_send(Said { tablet: tablet.clone(), message });
        }
    }
}

/// Who speaks on a node's links.
pub struct Speaker {
    /// The node's name.
    pub node: String,
    /// Its disk.
    pub store_uuid: String,
    /// The cluster's secret.
    pub secret: String,
    /// Where others are.
    pub directory: Arc<Directory>,
}

/// The number of each node's newest link to this one.
#[derive(Default)]
pub struct Newest(Mutex<BTreeMap<String, u64>>);

impl Newest {
    /// The number of a new link, which is the newest from now on.
    fn take(&self, node: &str) -> u64 {
        let mut newest = self.0.lock().expect("a map is not left half-changed");
        let number = newest.entry(node.into()).or_default();
        *number += 1;
        *number
    }

    fn is(&self, node: &str, number: u64) -> bool {
        let newest = self.0.lock().expect("a map is not left half-changed");
        newest.get(node) == Some(&number)
    }
}

impl Line {
    /// Sends what is said, for as long as anyone may say something.
    pub fn run(&self, speaker: &Speaker) {
        while let Ok(first) = self.said.recv() {
            if let Err(error) = self.speak(speaker, first) {
                log::debug!("link to {}: {error}", self.to);
                std::thread::sleep(REDIAL);
                self.said.try_iter().for_each(drop);
            }
        }
    }

    /// One connection, until it breaks.
    fn speak(&self, speaker: &Speaker, first: Said) -> Result<()> {
        let stream = self.dial(speaker)?;
        let mut out = BufWriter::with_capacity(64 << 10, stream);
        let mut next = first;
        loop {
            let peer = wire::encode(&next.tablet, &next.message);
            out.write_all(&Request::new(Command::Peer(peer)).to_bytes())?;
            if self.said.is_empty() {
                out.flush()?;
            }
            match self.said.recv() {
                Ok(said) => next = said,
                Err(_) => return Ok(()),
            }
        }
    }

    /// Connects, and makes sure of the other's name and disk.
    fn dial(&self, speaker: &Speaker) -> Result<Stream> {
        let address = speaker.directory.address(&self.to)?;
        let deadline = Instant::now() + CONNECT;
        let mut connection = Connection::open(&address, &speaker.secret, deadline)?;
        let words = [&speaker.node, &speaker.store_uuid, &self.to];
        let words = words.map(|word| word.as_bytes().to_vec()).to_vec();
        let link = Request::new(Command::Peer(Peer::new("@LINK", words)));
        match connection.call(&link)? {
            Reply::Peer { words, .. } => {
                let store = words.first().map(|word| String::from_utf8_lossy(word).into_owned());
                if !speaker.directory.is_disk_of(&self.to, &store.unwrap_or_default()) {
                    return Err(Error::Denied(format!("{} has another disk", self.to)));
                }
            }
            Reply::Error(error) => return Err(error),
            _ => return Err(Error::corrupt("a strange answer to @LINK")),
        }
        let stream = connection.into_stream();
        stream.set_deadline(None);
        stream.set_stall(Some(STALL));
        stream.set_user_timeout(STALL)?;
        Ok(stream)
    }
}

impl Node {
    /// Takes a link of another node: answers it, and hears its messages until it breaks.
    pub fn take_link(
        self: &Arc<Node>,
        link: &Peer,
        from: &mut BufReader<Stream>,
        to: &mut impl Write,
    ) -> Result<()> {
        let (name, store, me) = (link.text(0)?, link.text(1)?, link.text(2)?);
        let refused = if me != self.name {
            Some(format!("this is {}, not {me}", self.name))
        } else if !self.directory.is_disk_of(name, store) {
            Some(format!("{name} has another disk"))
        } else {
            None
        };
        let mut answer = Vec::new();
        let words = vec![self.data.store_uuid().to_string().into_bytes()];
        match &refused {
            Some(why) => Reply::Error(Error::Denied(why.clone())).write(&mut answer),
            None => Reply::Peer { words, payload: Vec::new() }.write(&mut answer),
        }
        to.write_all(&answer)?;
        to.flush()?;
        if refused.is_some() {
            return Ok(());
        }
        from.get_ref().set_stall(Some(IDLE));
        let number = self.newest_links.take(name);
        self.listen(&name.into(), number, from)
    }

    /// Hears what comes over a link, until a newer one takes its place: what a process said before it died must not
    /// come after what it says now.
    fn listen(
        self: &Arc<Node>,
        name: &Arc<str>,
        number: u64,
        from: &mut BufReader<Stream>,
    ) -> Result<()> {
        loop {
            match read_request(from, self.config.store.cell_bytes, |_| Ok(()))? {
                Incoming::Request(Request { command: Command::Peer(peer), .. }) => {
                    if !self.newest_links.is(name, number) {
                        return Ok(());
                    }
                    self.hear(name, &peer)?;
                }
                Incoming::Closed => return Ok(()),
                Incoming::Refused(error) | Incoming::Lost(error) => return Err(error),
                _ => return Err(Error::bad("only messages between replicas go over a link")),
            }
        }
    }

    /// Passes a message on to its tablet. A node that is out of service hears nothing.
    fn hear(self: &Arc<Node>, from: &Arc<str>, peer: &Peer) -> Result<()> {
        let (id, heard) = wire::decode(peer)?;
        if self.check_service().is_err() {
            return Ok(());
        }
        let tablet = match (&heard, self.tablet(id)) {
            (_, Some(tablet)) => tablet,
            (wire::Heard::Message(Message::Prepare(prepare)), None) => {
                match self.open_as_member(id, &prepare.configuration) {
                    Some(tablet) => tablet,
                    None => return Ok(()),
                }
            }
            _ => return Ok(()),
        };
        match heard {
            wire::Heard::Message(message) => tablet.hear(from.clone(), message),
            wire::Heard::Offer(configuration, at) => {
                self.fetch(&tablet, from, configuration, at);
            }
        }
        Ok(())
    }
}
