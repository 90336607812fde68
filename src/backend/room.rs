//! Room on a node's disk for what must be written, also when there is none: the ballast.

use super::trouble::{Troubles, With};
use crate::error::{Error, Result};
use crate::storage::Ballast;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The ballast is this part of the reserve.
pub const BALLAST_PART: u64 = 4;
/// Pause before something is tried again for which a disk had no room.
pub const PAUSE: Duration = Duration::from_secs(1);
/// Pause between two tries to take the ballast back.
const HOLD_PAUSE: Duration = Duration::from_secs(10);

/// The room that is kept for the worst. Shared by a node's threads.
pub struct Room {
    ballast: Ballast,
    /// When the ballast was given up last, or could not be held.
    missed: Mutex<Option<Instant>>,
    /// How often it was given up.
    given: AtomicU64,
    /// Bytes that it held when the disk was at it last.
    held: AtomicU64,
}

impl Room {
    /// The room that a ballast keeps.
    pub fn new(ballast: Ballast) -> Room {
        let held = AtomicU64::new(ballast.held());
        Room { ballast, missed: Mutex::default(), given: AtomicU64::new(0), held }
    }

    /// Bytes that [`Room::give`] would free. It does not wait for the disk.
    pub fn bytes(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    fn note_held(&self) {
        self.held.store(self.ballast.held(), Ordering::Relaxed);
    }

    /// How often it was given up: each time tablets look at once what they can give back.
    pub fn times_given(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }

    /// Gives the ballast up; whether it was there.
    pub fn give(&self) -> bool {
        *self.missed.lock().expect("an instant is replaced whole") = Some(Instant::now());
        let released = self.ballast.release();
        self.note_held();
        match released {
            Ok(false) => false,
            Ok(true) => {
                self.given.fetch_add(1, Ordering::Relaxed);
                log::warn!("the disk is full: its ballast is given up");
                true
            }
            Err(error) => {
                log::error!("the ballast cannot be given up: {error}");
                false
            }
        }
    }

    /// Takes the ballast back once there is enough room beside it.
    pub fn take_back(&self, free_bytes: u64, reserve_bytes: u64) {
        let mut missed = self.missed.lock().expect("an instant is replaced whole");
        let lately = missed.is_some_and(|at| at.elapsed() < HOLD_PAUSE);
        let held = self.ballast.held() == self.ballast.bytes();
        if held || lately || free_bytes < reserve_bytes + self.ballast.bytes() {
            return;
        }
        if let Err(error) = self.ballast.hold() {
            log::warn!("no ballast: {error}");
            *missed = Some(Instant::now());
        }
        self.note_held();
    }

    /// Does what must be done on the disk. While there is no room for it the ballast goes; when that is gone too, it
    /// is tried again and again.
    pub fn until_done<T>(
        &self,
        troubles: &Troubles,
        mut work: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let mut waited = false;
        loop {
            match work() {
                Err(Error::NoSpace) if self.give() => {}
                Err(Error::NoSpace) => {
                    troubles.note(With::Log, "the disk is full: writes wait");
                    waited = true;
                    std::thread::sleep(PAUSE);
                }
                done => {
                    if waited {
                        troubles.end(With::Log);
                    }
                    return done;
                }
            }
        }
    }
}
