//! A storage node: its tablets, what it knows of the cluster, and how it reaches other nodes.

use super::catch_up::Snapshots;
use super::directory::Directory;
use super::disk::fail_stop;
use super::forwards::Forwards;
use super::holdings::{Held, Holdings};
use super::links::{Links, Newest, Speaker};
use super::master_line::{self, MasterLine};
use super::memory::Memory;
use super::room::{self, Room};
use super::surroundings::{Surroundings, Turn, timing};
use super::tablet::{self, Event, Tablet};
use super::terms::Terms;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::protocol::cell::ValueId;
use crate::protocol::cluster::{NodeState, Report, Routes, StorageReport, TabletRoute};
use crate::protocol::command::{Command, Peer, Request};
use crate::protocol::connection::Pool;
use crate::protocol::reply::Reply;
use crate::replication::{Configuration, DiskSpace};
use crate::storage::{DataDir, is_tablet_name};
use crossbeam::channel::Receiver;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Staged ids whose deadline a node remembers.
const STAGED_CACHE_MAX: usize = 4096;
/// Shortest and longest pause before something that was refused for now is tried again.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// Pause before what the master says is kept again where that failed.
const KEEP_PAUSE: Duration = Duration::from_secs(60);
/// How often the free space is looked at: much less than half the reserve is written in between.
const DISK_CHECK: Duration = Duration::from_millis(50);

/// A storage node. Shared by all threads.
pub struct Node {
    /// Its name.
    pub name: String,
    /// The cluster's configuration.
    pub config: Config,
    /// Its data directory.
    pub data: DataDir,
    /// Names this run of the process.
    pub boot_id: String,
    /// Connections to other nodes.
    pub pool: Arc<Pool>,
    /// Open client connections.
    pub connections: AtomicU64,
    started: Instant,
    in_service: AtomicBool,
    /// What it knows of the cluster.
    pub directory: Arc<Directory>,
    /// Its copies of tablets.
    pub(super) holdings: Holdings,
    /// Writes on their way to primaries.
    pub forwards: Forwards,
    /// Which links of other nodes count.
    pub newest_links: Newest,
    adopting: Mutex<()>,
    /// What its tablets know of it.
    pub around: Surroundings,
    staged: Mutex<HashMap<ValueId, u64>>,
}

/// Where a tablet is served.
pub enum Place {
    /// On this node.
    Here(Arc<Tablet>),
    /// At this address.
    At(String),
}

impl Node {
    /// Opens the node's data directory and every tablet in it, and starts its ways to the others.
    pub fn open(config: &Config, name: &str) -> Result<Arc<Node>> {
        let data = DataDir::open_or_create(&config.data_dir(name))?;
        let secret = config.secrets()?.cluster;
        let timing = timing(&config.replication, config.store.memory_limit_bytes);
        let (master, said) = MasterLine::new(name);
        let around = Surroundings {
            node: name.into(),
            limits: config.store.clone(),
            timing,
            free_bytes: Arc::new(AtomicU64::new(data.free_bytes()?)),
            memory: Arc::new(Memory::new(config.store.memory_limit_bytes)),
            freeing: Turn::default(),
            merging: Turn::default(),
            room: Arc::new(Room::new(
                data.ballast(config.store.disk_reserve_bytes / room::BALLAST_PART),
            )),
            links: Arc::new(Links::new(partners(config, name), timing.batch_bytes)),
            master,
            snapshots: Arc::new(Snapshots::default()),
        };
        let holdings = Holdings::open(&data, &around)?;
        let node = Arc::new(Node {
            name: name.into(),
            config: config.clone(),
            boot_id: uuid::Uuid::new_v4().to_string(),
            pool: Arc::new(Pool::new(&secret)),
            connections: AtomicU64::new(0),
            started: Instant::now(),
            in_service: AtomicBool::new(true),
            directory: Arc::new(Directory::new(config, kept_routes(&data))),
            holdings,
            forwards: Forwards::default(),
            newest_links: Newest::default(),
            adopting: Mutex::default(),
            around,
            staged: Mutex::default(),
            data,
        });
        node.speak(&secret, said)?;
        Ok(node)
    }

    /// Starts a thread for each way to another process.
    fn speak(&self, secret: &str, said: Receiver<Peer>) -> Result<()> {
        let speaker = Arc::new(Speaker {
            node: self.name.clone(),
            store_uuid: self.data.store_uuid().to_string(),
            secret: secret.into(),
            terms: Terms::of(&self.config.replication),
            directory: self.directory.clone(),
        });
        for link in self.around.links.all() {
            let (link, speaker) = (link.clone(), speaker.clone());
            tablet::spawn("link".into(), move || link.run(&speaker));
        }
        let (config, pool) = (self.config.clone(), self.pool.clone());
        let thread = std::thread::Builder::new().name("master line".into());
        thread.spawn(move || master_line::run(&config, &pool, &said))?;
        Ok(())
    }

    /// What the master said last.
    pub fn routes(&self) -> Arc<Routes> {
        self.directory.routes()
    }

    /// Takes what the master says: configures the tablets of which this node is a replica, and has those opened that
    /// are not yet. A flawed copy that is done without hears of it no more: it is given up ([`Node::mend`]), and takes no
    /// part in the epoch in which it can be set aside.
    ///
    /// # Errors
    /// As of [`Directory::replace`].
    pub fn adopt(self: &Arc<Node>, routes: Routes) -> Result<()> {
        let _one_at_a_time = self.adopting.lock().expect("adopting does not panic");
        let before = self.routes();
        self.directory.replace(routes)?;
        let routes = self.routes();
        let replaced = |route: &&TabletRoute| {
            let known = before.tablet(&route.id);
            !route.clean && known.is_ok_and(|known| known.primary != route.primary)
        };
        routes.tablets.iter().filter(replaced).for_each(|route| self.forwards.cut(&route.id));
        for route in routes.tablets.iter().filter(|route| route.epoch > 0) {
            let configuration = Configuration::of(route);
            let leaves = |tablet: &Arc<Tablet>| {
                tablet.troubles.is_flawed() && !configuration.isr.contains(&*self.name)
            };
            let open = self.open_as_member(&route.id, &configuration);
            if let Some(tablet) = open.filter(|tablet| !leaves(tablet)) {
                tablet.tell(Event::Configure(configuration));
            }
        }
        Ok(())
    }

    /// A tablet of which this node is a replica. One that is not open yet is opened by a thread of its own: whoever
    /// brings word of it does not wait for the disk.
    pub fn open_as_member(
        self: &Arc<Node>,
        id: &str,
        configuration: &Configuration,
    ) -> Option<Arc<Tablet>> {
        let open = self.tablet(id);
        let is_member = configuration.members.contains(&*self.name);
        if open.is_none() && is_member && is_tablet_name(id) && self.holdings.begin_to_open(id) {
            let (node, id, configuration) = (self.clone(), id.to_string(), configuration.clone());
            tablet::spawn(format!("{id} open"), move || node.open_tablet(&id, configuration));
        }
        open
    }

    /// Opens a tablet. It hears the configuration before anything else, and then what was said meanwhile.
    fn open_tablet(&self, id: &str, configuration: Configuration) {
        let held = Held::open(id, &self.data, &self.around);
        let held = held.unwrap_or_else(|error| fail_stop(&format!("opening tablet {id}"), &error));
        let open = match &held {
            Held::Open(tablet) => Some(tablet.clone()),
            _ => None,
        };
        open.iter().for_each(|tablet| _ = tablet.tell(Event::Configure(configuration.clone())));
        self.holdings.put(id, held);
        if let (Some(tablet), Ok(route)) = (open, self.routes().tablet(id)) {
            tablet.tell(Event::Configure(Configuration::of(route)));
        }
    }

    /// Ends a tablet's epoch here, or leaves it: what the master asks on the heartbeat connection.
    pub fn end_epoch(self: &Arc<Node>, route: &TabletRoute, in_order: bool) -> Result<()> {
        let configuration = Configuration::of(route);
        let tablet = self
            .open_as_member(&route.id, &configuration)
            .ok_or_else(|| Error::retry(format!("this node does not serve tablet {}", route.id)))?;
        tablet.tell(match in_order {
            true => Event::Resign(route.epoch),
            false => Event::Seal(configuration),
        });
        Ok(())
    }

    /// A tablet that this node holds.
    pub fn tablet(&self, id: &str) -> Option<Arc<Tablet>> {
        self.holdings.tablet(id)
    }

    /// All tablets that this node holds.
    pub fn tablets(&self) -> Vec<Arc<Tablet>> {
        self.holdings.tablets()
    }

    /// Where a tablet's primary is. This node may have heard of a newer one than the master has told it.
    pub fn place(&self, route: &TabletRoute) -> Result<Place> {
        self.check_service()?;
        let tablet = self.tablet(&route.id);
        let adopted = tablet.as_ref().map(|tablet| tablet.view().configuration.clone());
        let newer = adopted.filter(|adopted| adopted.epoch > route.epoch);
        let primary = match &newer {
            Some(adopted) => adopted.primary.as_deref(),
            None => route.primary.as_deref(),
        };
        match (primary, tablet) {
            (Some(primary), Some(tablet)) if *primary == self.name => Ok(Place::Here(tablet)),
            (Some(primary), _) if *primary != self.name => {
                self.directory.address(primary).map(Place::At)
            }
            _ => Err(Error::retry(format!("tablet {} has no primary now", route.id))),
        }
    }

    /// A tablet that this node serves, if it is in service.
    pub fn here(&self, id: &str) -> Result<Arc<Tablet>> {
        self.check_service()?;
        self.tablet(id).ok_or_else(|| Error::retry(format!("this node has no tablet {id}")))
    }

    /// Refuses everything while the node is out of service.
    pub fn check_service(&self) -> Result<()> {
        if self.in_service.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(Error::retry(format!("node {} is shut down", self.name)))
    }

    /// Tries something again while it is definitely refused for now, as when a tablet gets a new primary: for half
    /// of the time that there is, so that who asks can still try elsewhere.
    pub fn patiently<T>(
        &self,
        deadline: Instant,
        mut attempt: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let now = Instant::now();
        let until = now + deadline.saturating_duration_since(now) / 2;
        let mut pause = PAUSE_MIN;
        loop {
            match attempt() {
                Err(Error::Retry(_))
                    if Instant::now() + pause < until && self.check_service().is_ok() =>
                {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                done => return done,
            }
        }
    }

    /// Takes the node out of service, or puts it back.
    pub fn set_in_service(&self, in_service: bool) {
        self.in_service.store(in_service, Ordering::Relaxed);
        log::info!("{}", if in_service { "back in service" } else { "out of service" });
    }

    /// Asks another node.
    pub fn ask(&self, address: &str, request: &Request, deadline: Instant) -> Result<Reply> {
        match self.pool.call(address, request, deadline)? {
            Reply::Error(error) => Err(error),
            reply => Ok(reply),
        }
    }

    /// Asks another node with one of the verbs between nodes; returns the words and the bytes of its answer.
    pub fn ask_peer(
        &self,
        address: &str,
        verb: &str,
        words: Vec<Vec<u8>>,
        payload: Vec<u8>,
        deadline: Instant,
    ) -> Result<(Vec<Vec<u8>>, Vec<u8>)> {
        let request = Request::new(Command::Peer(Peer { verb: verb.into(), words, payload }));
        match self.ask(address, &request, deadline)? {
            Reply::Peer { words, payload } => Ok((words, payload)),
            _ => Err(Error::unknown(format!("{address} gave a strange answer to {verb}"))),
        }
    }

    /// The deadline of a staged value, as remembered.
    pub fn staged_deadline(&self, id: ValueId) -> Option<u64> {
        self.staged.lock().expect("a map is not left half-changed").get(&id).copied()
    }

    /// Remembers the deadline of a staged value.
    pub fn remember_staged(&self, id: ValueId, deadline: u64) {
        let mut staged = self.staged.lock().expect("a map is not left half-changed");
        if staged.len() >= STAGED_CACHE_MAX {
            staged.clear();
        }
        staged.insert(id, deadline);
    }

    /// Forgets a staged value: it is being committed. One that is abandoned is remembered until its deadline.
    pub fn forget_staged(&self, id: ValueId) {
        self.staged.lock().expect("a map is not left half-changed").remove(&id);
    }

    /// Keeps on disk what the master says of the cluster, for ever.
    pub fn keep_routes(&self) {
        let (mut seen, mut kept) = (self.routes(), 0);
        loop {
            if seen.version != kept {
                match self.data.keep_routes(&seen) {
                    Ok(()) => kept = seen.version,
                    Err(error) => log::warn!("what the master says is not kept: {error}"),
                }
            }
            seen = self.directory.wait_change(&seen, KEEP_PAUSE);
        }
    }

    /// Watches the disk for ever: where there is little room, writes are refused before anything is written.
    /// A node whose data directory was removed ends: it would acknowledge what is on no disk.
    pub fn watch_disk(&self) {
        loop {
            if !self.data.is_there() {
                fail_stop("looking at the data directory", &Error::corrupt("it was removed"));
            }
            match self.data.free_bytes() {
                Ok(free) => {
                    self.note_free_bytes(free);
                    self.around.room.take_back(free, self.config.store.disk_reserve_bytes);
                }
                Err(error) => log::warn!("free space: {error}"),
            }
            std::thread::sleep(DISK_CHECK);
        }
    }

    fn note_free_bytes(&self, free: u64) {
        let before = self.around.disk_space();
        self.around.free_bytes.store(free, Ordering::Relaxed);
        let now = self.around.disk_space();
        if now != before {
            let word = low_disk(now).unwrap_or("the disk has room enough again");
            log::warn!("{word} ({} MiB free)", free >> 20);
        }
    }

    /// What the node reports to the master.
    pub fn report(&self) -> Report {
        let in_service = self.in_service.load(Ordering::Relaxed);
        Report {
            state: if in_service { NodeState::Alive } else { NodeState::Shutdown },
            free_bytes: self.around.free_bytes.load(Ordering::Relaxed),
            tablets: self.holdings.reports(),
            uptime_ms: self.started.elapsed().as_millis() as u64,
            rss_bytes: resident_bytes(),
            connections: self.connections.load(Ordering::Relaxed),
            storage: self.storage(),
            problem: low_disk(self.around.disk_space()).map(Into::into),
            knows: self.directory.knows(),
        }
    }
}

impl Node {
    /// What its tablets hold and have written.
    fn storage(&self) -> StorageReport {
        let memory = &self.around.memory;
        let own = StorageReport {
            memory: memory.held(),
            cache: memory.cache().used(),
            ..Default::default()
        };
        self.tablets().iter().fold(own, |mut sum, tablet| {
            let (runs, written) = (tablet.cells.runs(), tablet.cells.written());
            sum.disk += runs.bytes();
            sum.runs += runs.count() as u64;
            sum.logged += tablet.logged.load(Ordering::Relaxed);
            sum.flushed += written.flushed + written.values;
            sum.merged += written.merged;
            sum
        })
    }
}

/// What is wrong with a disk that has not room enough.
fn low_disk(space: DiskSpace) -> Option<&'static str> {
    match space {
        DiskSpace::Enough => None,
        DiskSpace::Low => Some("the disk is low: only small writes are taken"),
        DiskSpace::Exhausted => Some("the disk is full: only deletes are taken"),
    }
}

/// The other nodes of a node's group.
fn partners(config: &Config, name: &str) -> Vec<String> {
    let group = config.groups.iter().find(|group| group.backends.iter().any(|b| b.name == name));
    let backends = group.into_iter().flat_map(|group| &group.backends);
    backends.map(|backend| backend.name.clone()).filter(|other| other != name).collect()
}

/// What the master said in an earlier run. It is a help and no more: without it the master is waited for.
fn kept_routes(data: &DataDir) -> Option<Routes> {
    data.kept_routes().unwrap_or_else(|error| {
        log::warn!("what the master said before is lost: {error}");
        None
    })
}

/// Resident memory of this process.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
