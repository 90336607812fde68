//! Heartbeats: one persistent connection and one thread for each backend, dialled by the master.

use super::membership::Input;
use super::owner::{Event, House, Order, tell_all};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::net::Stream;
use crate::protocol::auth;
use crate::protocol::cluster::{Hello, Report, Routes, TabletRoute};
use crate::protocol::command::{Command, Peer, Request};
use crate::protocol::reply::Reply;
use crate::protocol::wire::read_reply;
use crossbeam::channel::Receiver;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{BufReader, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pause before a backend is dialled again.
const REDIAL: Duration = Duration::from_millis(200);
/// Orders that are obeyed between two beats.
const ORDERS_AT_ONCE_MAX: usize = 64;
/// Longest store uuid or boot id that is believed.
const ID_BYTES_MAX: usize = 64;

/// Starts a thread for each node.
pub fn start(config: &Config, house: &Arc<House>, secret: &Arc<str>) -> Result<()> {
    for node in house.routes().nodes.clone() {
        let orders = house.orders_of(&node.name).expect("the house has orders for every node");
        let heart = Heart {
            master: config.master.name.clone(),
            address: config.via(&node.name, &node.address).into(),
            node: node.name.clone(),
            house: house.clone(),
            secret: secret.clone(),
            orders,
            interval: Duration::from_millis(config.master.heartbeat_interval_ms),
            timeout: Duration::from_millis(config.master.heartbeat_timeout_ms),
            order_time: config.request_time(),
        };
        std::thread::Builder::new()
            .name(format!("heart of {}", node.name))
            .spawn(move || heart.run())
            .map_err(|e| Error::config(format!("cannot start a heartbeat thread: {e}")))?;
    }
    Ok(())
}

/// The master's side of one backend's heartbeat.
struct Heart {
    master: String,
    node: String,
    /// Where the master reaches it.
    address: String,
    house: Arc<House>,
    secret: Arc<str>,
    orders: Receiver<Order>,
    interval: Duration,
    timeout: Duration,
    /// How long a node may take to open new tablets, to go out of service or to come back.
    order_time: Duration,
}

impl Heart {
    fn run(&self) {
        loop {
            let ended = self.connection();
            let Err(error) = ended else { return };
            let (node, why) = (self.node.clone(), error.to_string());
            if self.house.tell(Event::Happened(Input::Failed { node, why })).is_err() {
                return;
            }
            self.pause();
        }
    }

    /// Waits before the next try; whoever orders something meanwhile is told that nobody is there.
    fn pause(&self) {
        let until = Instant::now() + REDIAL;
        while let Ok(order) = self.orders.recv_deadline(until) {
            if let Order::Serve(_, waiting) = order {
                let why = format!("{} is not connected", self.node);
                tell_all(waiting, &Err(Error::Retry(why)));
            }
        }
    }

    /// One connection, from HELLO to its loss.
    fn connection(&self) -> Result<()> {
        let mut link = Link::dial(&self.address, self.timeout, &self.secret)?;
        self.hello(&mut link)?;
        for seq in 1u64.. {
            self.tell_routes(&mut link)?;
            self.beat(&mut link, seq)?;
            self.wait(&mut link)?;
        }
        Ok(())
    }

    fn hello(&self, link: &mut Link) -> Result<()> {
        let hello = Hello {
            node: self.node.clone(),
            heartbeat_timeout_ms: self.timeout.as_millis() as u64,
        };
        let (words, bytes) = link.ask("@HELLO", vec![self.master.clone()], &json(&hello))?;
        let words: Vec<String> =
            words.into_iter().filter_map(|w| String::from_utf8(w).ok()).collect();
        let [node, store_uuid, boot_id] = words.as_slice() else {
            return Err(Error::corrupt("the answer to @HELLO has not three words"));
        };
        if *node != self.node {
            let name = crate::protocol::word::display(node.as_bytes());
            return Err(Error::Denied(format!("{name} answers at {}", self.address)));
        }
        if !is_id(store_uuid) || !is_id(boot_id) {
            return Err(Error::corrupt("the answer to @HELLO has no store uuid or boot id"));
        }
        self.house.hello(node, store_uuid.clone(), boot_id.clone(), parse(&bytes)?)
    }

    /// Tells the routes if they are not those told last. A node that refuses them says in its report why.
    fn tell_routes(&self, link: &mut Link) -> Result<()> {
        let routes = self.house.routes();
        if link.told.as_ref().is_some_and(|told| Arc::ptr_eq(told, &routes)) {
            return Ok(());
        }
        link.stream.set_deadline(Some(Instant::now() + self.order_time));
        let told = link.exchange("@ROUTES", Vec::new(), &json(&*routes)).map(drop);
        link.told = Some(routes);
        unless_lost(told)
    }

    /// Waits for the next beat, and does at once what is ordered.
    fn wait(&self, link: &mut Link) -> Result<()> {
        let Ok(first) = self.orders.recv_timeout(self.interval) else { return Ok(()) };
        let rest = self.orders.try_iter().take(ORDERS_AT_ONCE_MAX - 1);
        std::iter::once(first).chain(rest).try_for_each(|order| self.obey(link, order))
    }

    fn obey(&self, link: &mut Link, order: Order) -> Result<()> {
        match order {
            Order::Beat => Ok(()),
            Order::Tell => {
                link.told = None;
                Ok(())
            }
            Order::Seal(route) => self.about(link, "@SEAL", &route),
            Order::Resign(route) => self.about(link, "@RESIGN", &route),
            Order::Serve(on, waiting) => {
                let done = self.serve(link, on);
                tell_all(waiting, &done);
                unless_lost(done)
            }
        }
    }

    /// Asks for something about a tablet. What comes of it the node says by itself.
    fn about(&self, link: &mut Link, verb: &str, route: &TabletRoute) -> Result<()> {
        log::debug!("{verb} {} of epoch {} to {}", route.id, route.epoch, self.node);
        let done = link.ask(verb, Vec::new(), &json(route)).map(drop);
        if let Err(error) = &done {
            log::warn!("{verb} {} to {}: {error}", route.id, self.node);
        }
        unless_lost(done)
    }

    fn serve(&self, link: &mut Link, on: bool) -> Result<()> {
        let verb = if on { "@WAKEUP" } else { "@SHUTDOWN" };
        log::info!("{verb} to {}", self.node);
        link.stream.set_deadline(Some(Instant::now() + self.order_time));
        link.exchange(verb, Vec::new(), &[]).map(drop)
    }

    fn beat(&self, link: &mut Link, seq: u64) -> Result<()> {
        let (words, bytes) = link.ask("@BEAT", vec![seq.to_string()], &[])?;
        if words != [seq.to_string().into_bytes()] {
            return Err(Error::corrupt("the answer to @BEAT is of another beat"));
        }
        let report: Report = parse(&bytes)?;
        self.house.tell(Event::Happened(Input::Beat { node: self.node.clone(), report }))
    }
}

/// An authenticated connection on which the master asks and a backend answers.
struct Link {
    stream: Stream,
    from: BufReader<Stream>,
    timeout: Duration,
    /// The routes that the node was told last.
    told: Option<Arc<Routes>>,
}

impl Link {
    fn dial(address: &str, timeout: Duration, secret: &str) -> Result<Link> {
        let stream = Stream::connect(address, timeout)?;
        stream.set_deadline(Some(Instant::now() + timeout));
        let from = BufReader::new(stream.clone());
        let mut link = Link { from, stream, timeout, told: None };
        auth::prove(&mut link.from, &mut link.stream, secret)?;
        Ok(link)
    }

    /// Sends a message and waits for its answer, within the time limit.
    fn ask(
        &mut self,
        verb: &str,
        words: Vec<String>,
        payload: &[u8],
    ) -> Result<(Vec<Vec<u8>>, Vec<u8>)> {
        self.stream.set_deadline(Some(Instant::now() + self.timeout));
        self.exchange(verb, words, payload)
    }

    fn exchange(
        &mut self,
        verb: &str,
        words: Vec<String>,
        payload: &[u8],
    ) -> Result<(Vec<Vec<u8>>, Vec<u8>)> {
        let words = words.into_iter().map(String::into_bytes).collect();
        let peer = Peer { verb: verb.into(), words, payload: payload.to_vec() };
        self.stream.write_all(&Request::new(Command::Peer(peer)).to_bytes())?;
        match read_reply(&mut self.from, false)? {
            Reply::Peer { words, payload } => Ok((words, payload)),
            Reply::Error(error) => Err(error),
            _ => Err(Error::corrupt(format!("{verb} was not answered by @DATA"))),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stream.close();
    }
}

/// A node's refusal leaves the connection as it is; anything else ends it.
fn unless_lost(done: Result<()>) -> Result<()> {
    done.or_else(|error| if error.is_definite() { Ok(()) } else { Err(error) })
}

/// Whether this can be a store uuid or a boot id.
fn is_id(word: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&word.len())
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn json(message: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(message).expect("messages are plain JSON")
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::corrupt(format!("a report: {e}")))
}
