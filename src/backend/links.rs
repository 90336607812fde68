//! Links to other nodes: one connection for each, on which replicas' messages stream one way.
//!
//! Whatever is lost on the way, the protocol sends again. So a link never makes anyone wait: what it cannot take
//! is dropped, and after a break it goes on with what is said then.
//!
//! What is said waits in a queue, where messages that say the same become one. Whoever said something sends the
//! queue, others' messages with it, as far as the socket takes it at once; who finds somebody at it leaves it to them.
//! So an idle link costs no switch to another thread, and a busy one sends many messages at a time. The link's own
//! thread dials, and waits for the socket where the other side is slow.

use super::directory::Directory;
use super::node::Node;
use super::tablet::Event;
use super::terms::Terms;
use crate::error::{Error, Result};
use crate::net::Stream;
use crate::protocol::command::{Command, Peer, Request};
use crate::protocol::connection::Connection;
use crate::protocol::reply::Reply;
use crate::protocol::wire::{Incoming, read_request};
use crate::replication::{Message, wire};
use crossbeam::channel::{Receiver, Sender, bounded};
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufReader, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Messages that wait for one link. Their bytes are bounded by the replicas' windows.
const QUEUE_MAX: usize = 4096;
/// Messages at the end of the queue among which one is looked for that the next may become one with.
const JOIN_MAX: usize = 32;
/// Bytes of messages that are made ready for the socket at a time; one message in any case.
const SEND_BYTES: usize = 256 << 10;
/// How often whoever said something sends what has gathered meanwhile.
const ROUNDS_MAX: usize = 4;
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
pub struct Links {
    links: BTreeMap<String, Arc<Link>>,
    /// Largest sum of the entries of messages that become one, in bytes.
    batch_bytes: u64,
}

/// The way to one node.
pub struct Link {
    to: String,
    said: Mutex<VecDeque<Said>>,
    /// Whether somebody waits for what is in the queue.
    is_urgent: AtomicBool,
    /// Whoever holds it sends.
    line: Mutex<Line>,
    wake: Sender<()>,
    woken: Receiver<()>,
}

/// The connection, and what of the messages taken from the queue the socket has not taken yet.
#[derive(Default)]
struct Line {
    stream: Option<Stream>,
    unsent: Vec<u8>,
}

impl Links {
    /// Links to nodes. Each needs a thread that [runs](Link::run) it.
    pub fn new(nodes: impl IntoIterator<Item = String>, batch_bytes: u64) -> Links {
        let link = |to: String| (to.clone(), Arc::new(Link::new(to)));
        Links { links: nodes.into_iter().map(link).collect(), batch_bytes }
    }

    /// All links.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.links.values()
    }

    /// Has a tablet's message sent to a node with the next [`Links::flush`].
    pub fn say(&self, to: &str, tablet: &Arc<str>, message: Message) {
        if let Some(link) = self.links.get(to) {
            link.say(Said { tablet: tablet.clone(), message }, self.batch_bytes);
            link.is_urgent.store(true, Ordering::Release);
        }
    }

    /// Has a tablet's message sent to a node with the next one that is [said](Links::say) to it, or by the next
    /// [`Links::flush_all`].
    pub fn mention(&self, to: &str, tablet: &Arc<str>, message: Message) {
        if let Some(link) = self.links.get(to) {
            link.say(Said { tablet: tablet.clone(), message }, self.batch_bytes);
        }
    }

    /// Sends what was said, and what was mentioned to the same nodes. It never waits.
    pub fn flush(&self) {
        let urgent = |link: &&Arc<Link>| link.is_urgent.swap(false, Ordering::Acquire);
        self.links.values().filter(urgent).for_each(|link| link.flush());
    }

    /// Sends everything that is said and mentioned. It never waits.
    pub fn flush_all(&self) {
        self.links.values().for_each(|link| link.flush());
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
    /// How it serves reads.
    pub terms: Terms,
    /// Where others are.
    pub directory: Arc<Directory>,
}

impl Link {
    fn new(to: String) -> Link {
        let (wake, woken) = bounded(1);
        let (said, line, is_urgent) = Default::default();
        Link { to, said, is_urgent, line, wake, woken }
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Said>> {
        self.said.lock().expect("a queue is not left half-changed")
    }

    fn say(&self, said: Said, batch_bytes: u64) {
        let mut queue = self.queue();
        let mut latest = queue.iter_mut().rev().take(JOIN_MAX);
        let left = match latest.find(|before| before.tablet == said.tablet) {
            Some(before) => before.message.join(said.message, batch_bytes),
            None => Some(said.message),
        };
        if let Some(message) = left
            && queue.len() < QUEUE_MAX
        {
            queue.push_back(Said { tablet: said.tablet, message });
        }
    }

    /// Sends the queue, unless somebody is at it: they look again after they have let go of the line. Who sends for
    /// others for long leaves the rest to the link's thread.
    fn flush(&self) {
        for _ in 0..ROUNDS_MAX {
            if self.queue().is_empty() {
                return;
            }
            let Ok(mut line) = self.line.try_lock() else { return };
            if !self.send_now(&mut line) {
                break;
            }
        }
        let _ = self.wake.try_send(());
    }

    /// Sends what the socket takes at once; false if something is left that has to wait for the socket.
    fn send_now(&self, line: &mut Line) -> bool {
        let Line { stream: Some(stream), unsent } = line else { return false };
        if !unsent.is_empty() {
            return false;
        }
        self.make_ready(unsent);
        match stream.write_now(unsent) {
            Ok(sent) => drop(unsent.drain(..sent)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => {
                *line = Line::default();
                return false;
            }
        }
        unsent.is_empty()
    }

    /// Takes messages from the queue, as bytes.
    fn make_ready(&self, bytes: &mut Vec<u8>) {
        bytes.shrink_to(2 * SEND_BYTES);
        while bytes.len() < SEND_BYTES {
            let Some(said) = self.queue().pop_front() else { return };
            let peer = wire::encode(&said.tablet, &said.message);
            bytes.extend(Request::new(Command::Peer(peer)).to_bytes());
        }
    }

    /// Dials, and sends what could not be sent at once, for as long as anyone may say something.
    pub fn run(&self, speaker: &Speaker) {
        let mut refused = None;
        while self.woken.recv().is_ok() {
            if let Err(error) = self.send(speaker) {
                match matches!(error, Error::Denied(_)) && refused.as_ref() != Some(&error) {
                    true => log::error!("{} takes no link: {error}", self.to),
                    false => log::debug!("link to {}: {error}", self.to),
                }
                refused = Some(error);
                std::thread::sleep(REDIAL);
                self.queue().clear();
            }
            self.flush();
        }
    }

    /// Sends what there is, and waits for the socket.
    fn send(&self, speaker: &Speaker) -> Result<()> {
        let mut line = self.line.lock().expect("a line is not left half-changed");
        let Line { stream, unsent } = &mut *line;
        let sent = (|| {
            let stream = match stream {
                Some(stream) => stream,
                None => stream.insert(self.dial(speaker)?),
            };
            loop {
                self.make_ready(unsent);
                if unsent.is_empty() {
                    return Ok(());
                }
                stream.write_all(unsent)?;
                unsent.clear();
            }
        })();
        if sent.is_err() {
            *line = Line::default();
        }
        sent
    }

    /// Connects, and makes sure of the other's name and disk.
    fn dial(&self, speaker: &Speaker) -> Result<Stream> {
        let address = speaker.directory.address(&self.to)?;
        let deadline = Instant::now() + CONNECT;
        let mut connection = Connection::open(&address, &speaker.secret, deadline)?;
        let [reads, lease, grace] = speaker.terms.words();
        let words = [&speaker.node, &speaker.store_uuid, &self.to, &reads, &lease, &grace];
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
            let ours = Terms::of(&self.config.replication);
            ours.refusal(&Terms::parse(link, 3)?)
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
                    if !from.buffer().contains(&b'\n') {
                        self.around.links.flush();
                    }
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
            wire::Heard::Message(message) => {
                tablet.hear(Event::Message(from.clone(), Box::new(message)));
            }
            wire::Heard::Offer(configuration, at) => {
                self.fetch(&tablet, from, configuration, at);
            }
        }
        Ok(())
    }
}
