//! A storage node: its tablets, what it knows of the cluster, and how it reaches other nodes.

use super::tablet::{Surroundings, Tablet};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::protocol::cell::ValueId;
use crate::protocol::cluster::{NodeState, Report, Role, Routes, TabletReport, TabletRoute};
use crate::protocol::command::{Command, Peer, Request};
use crate::protocol::connection::Pool;
use crate::protocol::reply::Reply;
use crate::replication::{Configuration, DiskSpace};
use crate::storage::DataDir;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

/// Staged ids whose deadline a node remembers.
const STAGED_CACHE_MAX: usize = 4096;
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
    pub pool: Pool,
    /// Open client connections.
    pub connections: AtomicU64,
    started: Instant,
    in_service: AtomicBool,
    routes: RwLock<Arc<Routes>>,
    tablets: RwLock<BTreeMap<String, Arc<Tablet>>>,
    /// Tablets whose files were found damaged: they are not served, and not opened again.
    damaged: Mutex<BTreeSet<String>>,
    adopting: Mutex<()>,
    around: Surroundings,
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
    /// Opens the node's data directory and every tablet in it.
    pub fn open(config: &Config, name: &str) -> Result<Arc<Node>> {
        let data = DataDir::open_or_create(&config.data_dir(name))?;
        let around = Surroundings {
            node: name.into(),
            limits: config.store.clone(),
            free_bytes: Arc::new(AtomicU64::new(data.free_bytes()?)),
            freeing: Arc::default(),
        };
        let (mut tablets, mut damaged) = (BTreeMap::new(), BTreeSet::new());
        for id in data.tablets()? {
            match Tablet::open(&id, &data.tablet(&id), &around) {
                Ok(tablet) => drop(tablets.insert(id, tablet)),
                Err(error @ Error::Corrupt(_)) => {
                    log::error!("tablet {id} is not served: {error}");
                    damaged.insert(id);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Arc::new(Node {
            name: name.into(),
            config: config.clone(),
            boot_id: uuid::Uuid::new_v4().to_string(),
            pool: Pool::new(&config.secrets()?.cluster),
            connections: AtomicU64::new(0),
            started: Instant::now(),
            in_service: AtomicBool::new(true),
            routes: RwLock::default(),
            tablets: RwLock::new(tablets),
            damaged: Mutex::new(damaged),
            adopting: Mutex::default(),
            around,
            staged: Mutex::default(),
            data,
        }))
    }

    /// What the master said last.
    pub fn routes(&self) -> Arc<Routes> {
        self.routes.read().expect("routes are replaced whole").clone()
    }

    /// Takes what the master says: opens the tablets that this node is to serve, and configures them.
    pub fn adopt(&self, mut routes: Routes) {
        let _one_at_a_time = self.adopting.lock().expect("adopting does not panic");
        if routes.version < self.routes().version {
            return;
        }
        for node in &mut routes.nodes {
            node.address = self.config.via(&node.name, &node.address).into();
        }
        for route in routes.tablets.iter().filter(|route| route.epoch > 0) {
            let mine = route.primary.as_deref() == Some(&self.name);
            let tablet = self
                .tablet(&route.id)
                .or_else(|| mine.then(|| self.open_tablet(&route.id)).flatten());
            if let Some(tablet) = tablet {
                tablet.configure(Configuration::of(route));
            }
        }
        *self.routes.write().expect("routes are replaced whole") = Arc::new(routes);
    }

    /// Opens a tablet that this node was just given; none if its files are damaged.
    fn open_tablet(&self, id: &str) -> Option<Arc<Tablet>> {
        let mut damaged = self.damaged.lock().expect("a set is not left half-changed");
        if damaged.contains(id) {
            return None;
        }
        match Tablet::open(id, &self.data.tablet(id), &self.around) {
            Ok(tablet) => {
                let mut tablets =
                    self.tablets.write().expect("the list of tablets is replaced whole");
                tablets.insert(id.into(), tablet.clone());
                Some(tablet)
            }
            Err(error) => {
                log::error!("tablet {id} is not served: {error}");
                if matches!(error, Error::Corrupt(_)) {
                    damaged.insert(id.into());
                }
                None
            }
        }
    }

    /// A tablet that this node holds.
    pub fn tablet(&self, id: &str) -> Option<Arc<Tablet>> {
        self.tablets.read().expect("the list of tablets is replaced whole").get(id).cloned()
    }

    /// All tablets that this node holds.
    pub fn tablets(&self) -> Vec<Arc<Tablet>> {
        self.tablets
            .read()
            .expect("the list of tablets is replaced whole")
            .values()
            .cloned()
            .collect()
    }

    /// Where a tablet is served.
    pub fn place(&self, routes: &Routes, route: &TabletRoute) -> Result<Place> {
        self.check_service()?;
        match &route.primary {
            Some(primary) if *primary == self.name => self.here(&route.id).map(Place::Here),
            _ => Ok(Place::At(routes.primary_address(route)?.into())),
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

    /// Forgets a staged value: it was committed or abandoned.
    pub fn forget_staged(&self, id: ValueId) {
        self.staged.lock().expect("a map is not left half-changed").remove(&id);
    }

    /// Watches the disk for ever: where there is little room, writes are refused before anything is written.
    pub fn watch_disk(&self) {
        loop {
            match self.data.free_bytes() {
                Ok(free) => self.note_free_bytes(free),
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
            let word = match now {
                DiskSpace::Enough => "enough again",
                DiskSpace::Low => "low: only small writes are taken",
                DiskSpace::Exhausted => "exhausted: only deletes are taken",
            };
            log::warn!("free disk space is {word} ({} MiB)", free >> 20);
        }
    }

    /// What the node reports to the master.
    pub fn report(&self) -> Report {
        let in_service = self.in_service.load(Ordering::Relaxed);
        Report {
            state: if in_service { NodeState::Alive } else { NodeState::Shutdown },
            free_bytes: self.around.free_bytes.load(Ordering::Relaxed),
            tablets: self.tablet_reports(),
            uptime_ms: self.started.elapsed().as_millis() as u64,
            rss_bytes: resident_bytes(),
            connections: self.connections.load(Ordering::Relaxed),
        }
    }
}

impl Node {
    fn tablet_reports(&self) -> Vec<TabletReport> {
        let damaged = self.damaged.lock().expect("a set is not left half-changed").clone();
        let damaged = damaged.into_iter().map(|id| TabletReport {
            id,
            role: Role::Damaged,
            ..TabletReport::default()
        });
        self.tablets().iter().map(|tablet| tablet.report()).chain(damaged).collect()
    }
}

/// Resident memory of this process.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
