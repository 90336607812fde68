//! All frontends, and which of them a visitor is sent to.

use super::health::{Health, Heard, State};
use crate::config;
use crate::error::Error;
use crate::net::Stream;
use std::io::ErrorKind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A sign of life younger than this needs no proof.
const FRESH: Duration = Duration::from_millis(250);
/// Time to connect to a frontend before a visitor is sent there.
const PROBE_TIME: Duration = Duration::from_millis(200);
/// Connections by which frontends may differ before the busier one comes later.
const CONNS_APART: u64 = 16;

/// One frontend of the configuration.
pub struct Frontend {
    /// Name of the process.
    pub name: String,
    /// Where we reach it.
    pub address: String,
    /// Where browsers reach it.
    pub advertised: String,
}

/// The frontends and their health.
pub struct Fleet {
    /// In the order of the configuration.
    pub frontends: Vec<Frontend>,
    healths: Mutex<Vec<Health>>,
    turn: AtomicUsize,
}

impl Fleet {
    /// Frontends of which nothing is known yet.
    pub fn new(all: &[config::Frontend]) -> Fleet {
        let frontends = all.iter().map(|f| Frontend {
            name: f.name.clone(),
            address: f.address.clone(),
            advertised: f.advertised().to_string(),
        });
        Fleet {
            frontends: frontends.collect(),
            healths: Mutex::new(vec![Health::default(); all.len()]),
            turn: AtomicUsize::new(0),
        }
    }

    /// The address of a frontend that takes connections, for the next visitor.
    pub fn choose(&self) -> Option<&str> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let candidates = order(&self.healths(), turn);
        let chosen = candidates.into_iter().find(|n| self.takes_connections(*n))?;
        Some(&self.frontends[chosen].advertised)
    }

    /// Frontends that visitors can be sent to.
    pub fn usable(&self) -> usize {
        self.healths().iter().filter(|h| h.rank().is_some()).count()
    }

    /// Takes note of what was heard of a frontend; whether it should be asked again soon.
    pub fn hear(&self, n: usize, heard: Heard) -> bool {
        let mut healths = self.healths.lock().expect("nothing panics while it holds this lock");
        let health = &mut healths[n];
        let before = health.state;
        health.hear(heard, Instant::now());
        let (state, returning) = (health.state, health.is_returning());
        drop(healths);
        self.tell(n, before, state);
        returning
    }

    fn tell(&self, n: usize, before: State, now: State) {
        let Frontend { name, address, .. } = &self.frontends[n];
        match (before, now) {
            (State::Down(_), State::Down(_)) | (State::Up, State::Up) => {}
            (_, State::Up) => log::info!("{name} at {address} is up"),
            (_, State::Suspect) => log::warn!("{name} at {address} missed a ping"),
            (_, State::Down(_)) => log::warn!("{name} at {address} is down"),
            (_, State::New) => {}
        }
    }

    fn takes_connections(&self, n: usize) -> bool {
        if self.healths()[n].is_fresh(FRESH, Instant::now()) {
            return true;
        }
        let heard = match Stream::connect(&self.frontends[n].address, PROBE_TIME) {
            Ok(_) => Heard::Accepted,
            Err(e) => failed(&e),
        };
        let accepted = heard == Heard::Accepted;
        self.hear(n, heard);
        accepted
    }

    fn healths(&self) -> Vec<Health> {
        self.healths.lock().expect("nothing panics while it holds this lock").clone()
    }
}

/// What a failed connection means.
pub fn failed(error: &Error) -> Heard {
    match error {
        Error::Io(ErrorKind::ConnectionRefused, _) => Heard::Refused,
        _ => Heard::Silent,
    }
}

/// All that can be chosen, the best first; those that are equally good take turns.
fn order(healths: &[Health], turn: usize) -> Vec<usize> {
    let mut order: Vec<usize> =
        (0..healths.len()).filter(|n| healths[*n].rank().is_some()).collect();
    if order.is_empty() {
        return order;
    }
    let conns = |n: &usize| healths[*n].report.conns;
    let least = order.iter().map(conns).min().unwrap_or_default();
    let busy = |n: &usize| conns(n) > 2 * least + CONNS_APART;
    let grade = |n: &usize| (healths[*n].rank(), busy(n));
    let best = order.iter().map(grade).min();
    let equals = order.iter().filter(|n| Some(grade(n)) == best).count();
    order.sort_by_key(grade);
    order[..equals].rotate_left(turn % equals);
    order
}

#[cfg(test)]
mod tests {
    use super::super::health::Report;
    use super::*;

    fn fleet(reports: &[&str]) -> Vec<Health> {
        let health = |body: &&str| {
            let mut health = Health::default();
            health.hear(Report::parse(body).map_or(Heard::Refused, Heard::Good), Instant::now());
            health
        };
        reports.iter().map(health).collect()
    }

    fn firsts(healths: &[Health], turns: usize) -> Vec<Option<usize>> {
        (0..turns).map(|turn| order(healths, turn).first().copied()).collect()
    }

    #[test]
    fn equals_take_turns_and_the_dead_none() {
        let healths = fleet(&["ok", "", "ok", "ok"]);
        assert_eq!(firsts(&healths, 4), [Some(0), Some(2), Some(3), Some(0)]);
        assert_eq!(firsts(&fleet(&["", "ok draining=1"]), 2), [None, None]);
    }

    #[test]
    fn the_degraded_serve_only_where_none_is_better() {
        assert_eq!(firsts(&fleet(&["ok kv=lost", "ok"]), 2), [Some(1), Some(1)]);
        assert_eq!(firsts(&fleet(&["ok kv=lost", "ok kv=lost"]), 2), [Some(0), Some(1)]);
        assert_eq!(order(&fleet(&["ok kv=lost", "ok"]), 0), [1, 0]);
    }

    #[test]
    fn the_much_busier_comes_later() {
        let healths = fleet(&["ok conns=100", "ok conns=10"]);
        assert_eq!(firsts(&healths, 2), [Some(1), Some(1)]);
        let healths = fleet(&["ok conns=20", "ok conns=10"]);
        assert_eq!(firsts(&healths, 2), [Some(0), Some(1)]);
    }
}
