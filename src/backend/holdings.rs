//! The tablets of which a node holds a copy, and how each copy is: opened or not, and why not.

use super::surroundings::Surroundings;
use super::tablet::Tablet;
use crate::error::{Error, Result};
use crate::protocol::cluster::{Role, TabletReport};
use crate::storage::{DataDir, TabletConfig};
use std::collections::BTreeMap;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// What is wrong with a copy for which there is no room.
const NO_ROOM: &str = "the disk is too full to open it";
/// Pause before a copy is opened again for which there was no room.
const OPEN_PAUSE: Duration = Duration::from_secs(10);

/// What a node holds. Shared by its threads: nobody is at the disk while the list is locked.
pub struct Holdings(RwLock<BTreeMap<String, Held>>);

/// One copy.
#[derive(Clone)]
pub enum Held {
    /// It is served.
    Open(Arc<Tablet>),
    /// A thread opens it. The epoch that its files are known to know, where that was tried before; or else 0.
    Opening(u64),
    /// Its files are damaged. They know this epoch; 0: not known.
    Damaged(u64),
    /// The disk is too full to open it. The epoch that its files know, and when that was tried.
    NoRoom(u64, Instant),
}

impl Held {
    /// Opens a copy, on a full disk in the room of the ballast. Other errors than damage and a full disk are the disk's.
    pub fn open(id: &str, data: &DataDir, around: &Surroundings) -> Result<Held> {
        let opened = match Tablet::open(id, &data.tablet(id), around) {
            Err(Error::NoSpace) if around.room.give() => Tablet::open(id, &data.tablet(id), around),
            opened => opened,
        };
        let error = match opened {
            Ok(tablet) => return Ok(Held::Open(tablet)),
            Err(error) => error,
        };
        log::error!("tablet {id} is not served: {error}");
        match error {
            Error::Corrupt(_) => Ok(Held::Damaged(known_epoch(id, data))),
            Error::NoSpace => Ok(Held::NoRoom(known_epoch(id, data), Instant::now())),
            error => Err(error),
        }
    }

    /// What the node reports of it to the master.
    fn report(&self, id: &str) -> Option<TabletReport> {
        let (role, epoch, problem) = match self {
            Held::Open(tablet) => return Some(tablet.report()),
            Held::Opening(0) => return None,
            Held::Opening(epoch) => (Role::Stuck, *epoch, Some(NO_ROOM.into())),
            Held::Damaged(epoch) => (Role::Damaged, *epoch, None),
            Held::NoRoom(epoch, _) => (Role::Stuck, *epoch, Some(NO_ROOM.into())),
        };
        Some(TabletReport { id: id.into(), epoch, role, problem, ..TabletReport::default() })
    }
}

/// The epoch that a copy's files know; 0 if they do not say.
pub fn known_epoch(id: &str, data: &DataDir) -> u64 {
    TabletConfig::load(&data.tablet(id)).ok().flatten().map_or(0, |stored| stored.epoch)
}

impl Holdings {
    /// Opens every copy in a data directory.
    pub fn open(data: &DataDir, around: &Surroundings) -> Result<Holdings> {
        let open = |id: String| Ok((id.clone(), Held::open(&id, data, around)?));
        Ok(Holdings(RwLock::new(data.tablets()?.into_iter().map(open).collect::<Result<_>>()?)))
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Held>> {
        self.0.read().expect("the list is not left half-changed")
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Held>> {
        self.0.write().expect("the list is not left half-changed")
    }

    /// An open copy.
    pub fn tablet(&self, id: &str) -> Option<Arc<Tablet>> {
        match self.read().get(id) {
            Some(Held::Open(tablet)) => Some(tablet.clone()),
            _ => None,
        }
    }

    /// All open copies.
    pub fn tablets(&self) -> Vec<Arc<Tablet>> {
        let open = |held: &Held| match held {
            Held::Open(tablet) => Some(tablet.clone()),
            _ => None,
        };
        self.read().values().filter_map(open).collect()
    }

    /// Whether the caller is to open a copy, and to [`Holdings::put`] what comes of it; nobody else does meanwhile.
    pub fn begin_to_open(&self, id: &str) -> bool {
        let mut list = self.write();
        let epoch = match list.get(id) {
            None => 0,
            Some(Held::NoRoom(epoch, at)) if at.elapsed() >= OPEN_PAUSE => *epoch,
            Some(_) => return false,
        };
        list.insert(id.into(), Held::Opening(epoch));
        true
    }

    /// Says how a copy is now.
    pub fn put(&self, id: &str, held: Held) {
        self.write().insert(id.into(), held);
    }

    /// Forgets a copy: it is begun anew.
    pub fn remove(&self, id: &str) {
        self.write().remove(id);
    }

    /// The epoch that the files of a damaged copy know, if it is one.
    pub fn damaged(&self, id: &str) -> Option<u64> {
        match self.read().get(id) {
            Some(Held::Damaged(epoch)) => Some(*epoch),
            _ => None,
        }
    }

    /// Names of the copies about which something is to be done: flawed ones, damaged ones, and those that are not open.
    pub fn troubled(&self) -> Vec<String> {
        let troubled = |held: &Held| match held {
            Held::Open(tablet) => tablet.troubles.is_flawed(),
            Held::Opening(_) => false,
            Held::Damaged(_) | Held::NoRoom(..) => true,
        };
        let list = self.read();
        list.iter().filter(|(_, held)| troubled(held)).map(|(id, _)| id.clone()).collect()
    }

    /// What the node reports of its copies to the master.
    pub fn reports(&self) -> Vec<TabletReport> {
        let list = self.read().clone();
        list.iter().filter_map(|(id, held)| held.report(id)).collect()
    }
}
