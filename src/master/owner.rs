//! The thread that owns the tables: takes events, performs what the membership puts out, publishes.

use super::layout;
use super::membership::{Input, Membership, Output};
use super::record::Record;
use super::store::{ConfigStore, Contents, Swap};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::protocol::cluster::{ClusterStatus, Report, Routes, TabletRoute};
use crossbeam::channel::{Receiver, Sender, bounded};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, RwLock};
use std::time::Duration;

/// Events that may wait for the owner; who sends one more waits.
const EVENTS_MAX: usize = 1024;
/// Orders that may wait for a heartbeat thread; one more is refused.
const ORDERS_MAX: usize = 64;
/// Of these, orders that will be given again.
const HINTS_MAX: usize = 48;
/// Longest time between two looks at the clock.
const TICK: Duration = Duration::from_millis(100);
/// How long a watch of the store waits before it asks again.
const WATCH: Duration = Duration::from_secs(60);
/// Clients that may wait for one node to go out of service or back.
const WAITING_MAX: usize = 16;
/// How long the owner may take to answer a question.
const ANSWER: Duration = Duration::from_secs(5);

/// Where somebody waits for what came of it.
pub type Done = Sender<Result<()>>;

/// What the other threads tell the owner, or ask it.
pub enum Event {
    /// A node has said who it is; the verdict goes to its heartbeat thread.
    Hello {
        /// Its name.
        node: String,
        /// Its disk.
        store_uuid: String,
        /// Its running instance.
        boot_id: String,
        /// What it says of itself.
        report: Report,
        /// Whether it may be told the routes; else why not.
        verdict: Sender<Result<(), String>>,
    },
    /// What needs no answer: a heartbeat, or what a node says by itself.
    Happened(Input),
    /// A node is to go out of service, or back into it; what came of it is told.
    Serve(String, Service, Done),
    /// The store has changed, maybe by another master.
    Changed,
    /// How is the cluster?
    Status(Sender<ClusterStatus>),
}

/// Whether a node is to be in service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// It serves.
    In,
    /// It does not, if its tablets can do without it.
    Out,
    /// It does not, whatever its tablets need.
    OutByForce,
}

/// What a heartbeat thread is told.
pub enum Order {
    /// Beat now.
    Beat,
    /// Tell the node the routes, whether it has heard them or not.
    Tell,
    /// Ask the node to seal a tablet's epoch.
    Seal(TabletRoute),
    /// Ask the node to leave its place in a tablet's epoch.
    Resign(TabletRoute),
    /// Take the node out of service now, or back into it, and tell what came of it.
    Serve(bool, Vec<Done>),
}

/// What all threads of the master share.
pub struct House {
    events: Sender<Event>,
    routes: RwLock<Arc<Routes>>,
    orders: BTreeMap<String, (Sender<Order>, Receiver<Order>)>,
}

impl House {
    /// The routes as they are on disk now.
    pub fn routes(&self) -> Arc<Routes> {
        self.routes.read().expect("no thread panics while it swaps a pointer").clone()
    }

    /// Tells the owner.
    pub fn tell(&self, event: Event) -> Result<()> {
        self.events.send(event).map_err(|_| Error::retry("the master is ending"))
    }

    /// How the cluster is.
    pub fn status(&self) -> Result<ClusterStatus> {
        let (to, answer) = bounded(1);
        self.tell(Event::Status(to))?;
        answer.recv_timeout(ANSWER).map_err(|_| Error::retry("the master is busy"))
    }

    /// Whether a node may be told the routes; else why not.
    pub fn hello(
        &self,
        node: &str,
        store_uuid: String,
        boot_id: String,
        report: Report,
    ) -> Result<()> {
        let (verdict, answer) = bounded(1);
        self.tell(Event::Hello { node: node.into(), store_uuid, boot_id, report, verdict })?;
        match answer.recv_timeout(ANSWER) {
            Ok(verdict) => verdict.map_err(Error::Denied),
            Err(_) => Err(Error::retry("the master is busy")),
        }
    }

    /// Takes a node out of service in order, or back into it; returns when it has happened.
    ///
    /// # Errors
    /// [`Error::Retry`]: tablets need it.
    pub fn serve(&self, node: &str, service: Service, within: Duration) -> Result<()> {
        let (to, done) = bounded(1);
        self.tell(Event::Serve(node.into(), service, to))?;
        let late = |_| Err(Error::unknown(format!("{node} has not answered yet")));
        done.recv_timeout(within).unwrap_or_else(late)
    }

    /// Gives an order to a node's heartbeat thread.
    pub fn order(&self, node: &str, order: Order) -> Result<()> {
        let (to, _) = self.orders.get(node).ok_or_else(|| no_node(node))?;
        to.try_send(order).map_err(|_| Error::retry(format!("too many orders wait for {node}")))
    }

    /// Gives an order that is dropped if too many wait: it is given again.
    fn hint(&self, node: &str, order: Order) {
        if let Some((to, _)) = self.orders.get(node).filter(|(to, _)| to.len() < HINTS_MAX) {
            let _ = to.try_send(order);
        }
    }

    /// Where a node's heartbeat thread takes its orders.
    pub fn orders_of(&self, node: &str) -> Option<Receiver<Order>> {
        self.orders.get(node).map(|(_, orders)| orders.clone())
    }
}

/// The owner of the tables.
pub struct Owner {
    membership: Membership,
    store: Arc<dyn ConfigStore>,
    house: Arc<House>,
    events: Receiver<Event>,
    /// Who waits for a node to go out of service or back: which of the two, and whom to tell.
    serving: BTreeMap<String, (bool, Vec<Done>)>,
}

impl Owner {
    /// Loads the tables, makes what is missing, and publishes the routes.
    pub fn start(config: &Config, store: Arc<dyn ConfigStore>) -> Result<(Owner, Arc<House>)> {
        let records = load_or_make(config, &*store)?;
        let timeout = config.master.heartbeat_timeout_ms;
        let mut membership = Membership::new(&config.master.name, timeout, now_ms());
        for input in records {
            membership.step(now_ms(), input);
        }
        let routes = membership.routes();
        let (to, events) = bounded(EVENTS_MAX);
        let orders = routes.nodes.iter().map(|n| (n.name.clone(), bounded(ORDERS_MAX))).collect();
        let house = House { events: to, routes: RwLock::new(Arc::new(routes)), orders };
        let house = Arc::new(house);
        let owner =
            Owner { membership, store, house: house.clone(), events, serving: BTreeMap::new() };
        Ok((owner, house))
    }

    /// Takes events for ever; returns only when the store fails.
    pub fn run(&mut self) -> Result<()> {
        self.watch();
        loop {
            if let Ok(event) = self.events.recv_timeout(TICK) {
                self.take(event)?;
            }
            let outputs = self.membership.step(now_ms(), Input::Tick);
            self.perform(outputs)?;
        }
    }

    /// Tells of changes that the store sees, whoever made them.
    fn watch(&self) {
        let (store, house) = (self.store.clone(), self.house.clone());
        let mut version = house.routes().version;
        std::thread::spawn(move || {
            while let Ok(now) = store.wait_change(version, WATCH) {
                if now > version && house.tell(Event::Changed).is_err() {
                    break;
                }
                version = now;
            }
        });
    }

    fn take(&mut self, event: Event) -> Result<()> {
        let input = match event {
            Event::Hello { node, store_uuid, boot_id, report, verdict } => {
                let input = Input::Hello { node, store_uuid, boot_id, report };
                let outputs = self.membership.step(now_ms(), input);
                let judged = self.perform(outputs)?;
                let _ = verdict.send(judged.unwrap_or_else(|| Err("ask again".into())));
                return Ok(());
            }
            Event::Status(to) => {
                let _ = to.send(self.membership.status(now_ms()));
                return Ok(());
            }
            Event::Changed => return self.reload(),
            Event::Serve(node, service, to) => match self.note_waiting(node, service, to) {
                Some(input) => input,
                None => return Ok(()),
            },
            Event::Happened(input) => input,
        };
        let outputs = self.membership.step(now_ms(), input);
        self.perform(outputs).map(drop)
    }

    /// Notes who waits for a node to go out of service or back. Who waits for the contrary waits in vain.
    fn note_waiting(&mut self, node: String, service: Service, to: Done) -> Option<Input> {
        let on = service == Service::In;
        if self.house.orders_of(&node).is_none() {
            let _ = to.send(Err(no_node(&node)));
            return None;
        }
        let waiting = self.serving.entry(node.clone()).or_insert((on, Vec::new()));
        if waiting.0 != on {
            let before = std::mem::replace(waiting, (on, Vec::new()));
            tell_all(before.1, &Err(Error::retry(format!("{node} was told the contrary"))));
        }
        if waiting.1.len() >= WAITING_MAX {
            let _ = to.send(Err(Error::retry(format!("too many wait for {node}"))));
            return None;
        }
        waiting.1.push(to);
        let force = service == Service::OutByForce;
        Some(if on { Input::Wakeup { node } } else { Input::Shutdown { node, force } })
    }

    /// Who waits for a node to go out of service or back.
    fn take_waiting(&mut self, node: &str) -> Vec<Done> {
        self.serving.remove(node).map(|(_, waiting)| waiting).unwrap_or_default()
    }

    /// Tells all who wait for a node to go out of service that it does not.
    fn keep(&mut self, node: &str, why: &str) {
        let waiting = self.take_waiting(node);
        tell_all(waiting, &Err(Error::retry(format!("{node} stays in service: {why}"))));
    }

    /// Orders a node out of service or back, for all who wait for it.
    fn serve(&mut self, node: &str, on: bool) {
        let waiting = self.take_waiting(node);
        if let Err(error) = self.house.order(node, Order::Serve(on, waiting.clone())) {
            tell_all(waiting, &Err(error));
        }
    }

    /// Performs outputs in order, what follows from one before the next. Gives the verdict among them.
    /// A lost race ends it: the rest was judged by tables that are no more.
    fn perform(&mut self, outputs: Vec<Output>) -> Result<Option<Result<(), String>>> {
        let mut todo = VecDeque::from(outputs);
        let (mut verdict, mut changed) = (None, false);
        while let Some(output) = todo.pop_front() {
            match output {
                Output::Cas(record, revision) => {
                    let (won, input) = self.swap(record, revision)?;
                    if !won {
                        todo.clear();
                    }
                    let follows = input.map(|input| self.membership.step(now_ms(), input));
                    follows.into_iter().flatten().rev().for_each(|o| todo.push_front(o));
                }
                Output::Announce => changed = true,
                Output::Log(level, line) => log::log!(level, "{line}"),
                Output::Accept(_) => verdict = Some(Ok(())),
                Output::Refuse(_, why) => verdict = Some(Err(why)),
                Output::Tell(node) => self.house.hint(&node, Order::Tell),
                Output::Beat(node) => self.house.hint(&node, Order::Beat),
                Output::Seal(node, route) => self.house.hint(&node, Order::Seal(route)),
                Output::Resign(node, route) => self.house.hint(&node, Order::Resign(route)),
                Output::Serve(node, on) => self.serve(&node, on),
                Output::Keep(node, why) => self.keep(&node, &why),
            }
        }
        if changed {
            self.publish();
        }
        Ok(verdict)
    }

    /// Whether the swap was won, and what the store holds under the key now.
    fn swap(&self, record: Record, revision: u64) -> Result<(bool, Option<Input>)> {
        let key = record.key();
        match self.store.cas(&key, revision, &record.to_bytes())? {
            Swap::Done(revision) => {
                log::info!("{key} changes: {}", String::from_utf8_lossy(&record.to_bytes()));
                Ok((true, Some(Input::Stored { record, revision })))
            }
            Swap::Lost(Some(held)) => {
                let record = Record::parse(&key, &held.value)?;
                Ok((false, Some(Input::Stored { record, revision: held.revision })))
            }
            Swap::Lost(None) => Ok((false, None)),
        }
    }

    fn reload(&mut self) -> Result<()> {
        let newer = |input: &Input| match input {
            Input::Stored { record, revision } => *revision > self.membership.revision(record),
            _ => false,
        };
        let contents = self.store.load()?;
        if contents.version <= self.house.routes().version {
            return Ok(());
        }
        let inputs: Vec<Input> = inputs(contents)?.into_iter().filter(newer).collect();
        let step = |input| self.membership.step(now_ms(), input);
        let outputs = inputs.into_iter().flat_map(step).collect();
        self.perform(outputs).map(drop)
    }

    fn publish(&self) {
        let routes = Arc::new(self.membership.routes());
        *self.house.routes.write().expect("no thread panics while it swaps a pointer") = routes;
        self.house.orders.keys().for_each(|node| self.house.hint(node, Order::Beat));
    }
}

fn no_node(node: &str) -> Error {
    Error::bad(format!("there is no node {node:?}; NODES lists them"))
}

/// Tells all who wait what came of it.
pub fn tell_all(waiting: Vec<Done>, done: &Result<()>) {
    for to in waiting {
        let _ = to.send(done.clone());
    }
}

/// Reads the records of a store, after what the configuration asks for and is not there was made.
fn load_or_make(config: &Config, store: &dyn ConfigStore) -> Result<Vec<Input>> {
    let contents = store.load()?;
    let mut kept = BTreeMap::new();
    for (key, entry) in &contents.entries {
        kept.insert(key.clone(), Record::parse(key, &entry.value)?);
    }
    for record in layout::missing(config, &kept)? {
        let key = record.key();
        let revision = contents.entries.get(&key).map_or(0, |entry| entry.revision);
        store.cas(&key, revision, &record.to_bytes())?;
    }
    inputs(store.load()?)
}

fn inputs(contents: Contents) -> Result<Vec<Input>> {
    let input = |(key, entry): (String, super::store::Entry)| {
        let record = Record::parse(&key, &entry.value)?;
        Ok(Input::Stored { record, revision: entry.revision })
    };
    contents.entries.into_iter().map(input).collect()
}

/// Milliseconds of a clock that only rises and goes on while the machine sleeps.
pub fn now_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}
