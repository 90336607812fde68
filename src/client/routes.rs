//! Which backend to ask: what the master said last, and which backends did not answer lately.

use crate::config::Config;
use crate::error::Result;
use crate::protocol::cell::slot_of_owner;
use crate::protocol::command::{Command, Request};
use crate::protocol::connection::Pool;
use crate::protocol::reply::Reply;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long an answer of the master is used without asking again.
const FRESH: Duration = Duration::from_secs(30);
/// The same once a backend has refused a request: there may be another primary.
const DOUBTED: Duration = Duration::from_secs(1);
/// How long a backend that did not answer is asked last.
const SHUNNED: Duration = Duration::from_secs(1);
/// Longest time to wait for the master: without it, any backend can be asked.
const MASTER_PATIENCE: Duration = Duration::from_millis(500);
/// How long the master is not asked again after it did not answer.
const MASTER_PAUSE: Duration = Duration::from_secs(1);

/// Backends by slot. The master is asked rarely, and is not needed: any backend passes a request on.
pub struct Routes {
    master: String,
    /// All configured backends: name and address.
    backends: Vec<(String, String)>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    slots: HashMap<u16, Group>,
    shunned: HashMap<String, Instant>,
    master_failed: Option<Instant>,
}

/// What the master said of a slot.
#[derive(Clone)]
struct Group {
    /// Addresses of the group's nodes, the best first.
    addresses: Vec<String>,
    asked: Instant,
    /// For how long it is used.
    good_for: Duration,
}

impl Routes {
    /// Knows nothing but the configuration.
    pub fn new(config: &Config) -> Routes {
        Routes {
            master: config.master_address().into(),
            backends: config
                .backends()
                .map(|b| (b.name.clone(), config.via(&b.name, &b.address).into()))
                .collect(),
            known: Mutex::default(),
        }
    }

    /// Addresses to ask about an owner, the best first; never empty. Within the group the master's order holds:
    /// the primary of the owner's tablet comes first, those that do not answer last.
    pub fn candidates(&self, pool: &Pool, owner: &[u8]) -> Vec<String> {
        let slot = slot_of_owner(owner);
        let group = self.remembered(slot).unwrap_or_else(|| self.ask_master(pool, owner, slot));
        let turn = usize::from(slot) % self.backends.len().max(1);
        let others = self.backends[turn..].iter().chain(&self.backends[..turn]);
        let others: Vec<String> =
            others.map(|(_, address)| address.clone()).filter(|a| !group.contains(a)).collect();
        let mut all = [group, others].concat();
        let known = self.known.lock().expect("a map is not left half-changed");
        let shunned =
            |address: &String| known.shunned.get(address).is_some_and(|at| at.elapsed() < SHUNNED);
        all.sort_by_key(shunned);
        all
    }

    fn remembered(&self, slot: u16) -> Option<Vec<String>> {
        let known = self.known.lock().expect("a map is not left half-changed");
        let group = known.slots.get(&slot).filter(|group| group.asked.elapsed() < group.good_for);
        group.map(|group| group.addresses.clone())
    }

    /// A backend has refused a request of an owner for now: what the master said is not used for long any more.
    pub fn doubt(&self, owner: &[u8]) {
        let mut known = self.known.lock().expect("a map is not left half-changed");
        if let Some(group) = known.slots.get_mut(&slot_of_owner(owner)) {
            group.good_for = DOUBTED;
        }
    }

    /// Asks the master for the group of an owner; what it said before if it does not answer.
    fn ask_master(&self, pool: &Pool, owner: &[u8], slot: u16) -> Vec<String> {
        let paused =
            |known: &Known| known.master_failed.is_some_and(|at| at.elapsed() < MASTER_PAUSE);
        let before = |known: &Known| {
            known.slots.get(&slot).map(|group| group.addresses.clone()).unwrap_or_default()
        };
        let known = self.known.lock().expect("a map is not left half-changed");
        if paused(&known) {
            return before(&known);
        }
        drop(known);
        let request = Request::new(Command::Where { owner: owner.to_vec() });
        let answer = pool.call(&self.master, &request, Instant::now() + MASTER_PATIENCE);
        let mut known = self.known.lock().expect("a map is not left half-changed");
        let Ok(Reply::Group { nodes, .. }) = answer else {
            known.master_failed = Some(Instant::now());
            return before(&known);
        };
        let addresses: Vec<String> = nodes.into_iter().map(|node| self.reached_at(node)).collect();
        let group = Group { addresses: addresses.clone(), asked: Instant::now(), good_for: FRESH };
        known.slots.insert(slot, group);
        addresses
    }

    /// Where this process reaches a node that the master names.
    fn reached_at(&self, (name, address): (String, String)) -> String {
        let known = self.backends.iter().find(|(backend, _)| *backend == name);
        known.map_or(address, |(_, address)| address.clone())
    }

    /// A backend did not answer: it is asked last for a while, and the master is told.
    pub fn shun(&self, pool: &Pool, address: &str) {
        let mut known = self.known.lock().expect("a map is not left half-changed");
        let news = known
            .shunned
            .insert(address.into(), Instant::now())
            .is_none_or(|at| at.elapsed() > SHUNNED);
        known.slots.retain(|_, group| !group.addresses.iter().any(|a| a == address));
        drop(known);
        if news {
            let _ = self.suspect(pool, address);
        }
    }

    fn suspect(&self, pool: &Pool, address: &str) -> Result<()> {
        let Some((name, _)) = self.backends.iter().find(|(_, a)| a == address) else {
            return Ok(());
        };
        let request = Request::new(Command::Suspect { node: name.clone() });
        pool.call(&self.master, &request, Instant::now() + MASTER_PATIENCE).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Routes that know the group of every slot; nobody is at the master's address.
    fn knowing(group: &[&str]) -> Routes {
        let mut config = Config::parse(include_str!("../../conf/local.toml")).unwrap();
        config.master.address = "127.0.0.1:1".into();
        let routes = Routes::new(&config);
        let addresses = group.iter().map(|a| a.to_string()).collect();
        let group = Group { addresses, asked: Instant::now(), good_for: FRESH };
        let known = (0..crate::protocol::cell::SLOTS).map(|s| (s, group.clone()));
        routes.known.lock().unwrap().slots = known.collect();
        routes
    }

    #[test]
    fn after_a_refusal_the_master_is_asked_soon_and_what_it_said_holds_until_it_answers() {
        let (routes, pool) = (knowing(&["127.0.0.1:5203"]), Pool::new("secret"));
        let slot = slot_of_owner(b"alice");
        routes.doubt(b"alice");
        assert!(routes.remembered(slot).is_some(), "it was asked just now");
        routes.known.lock().unwrap().slots.get_mut(&slot).unwrap().asked -= DOUBTED;
        assert_eq!(routes.remembered(slot), None);
        assert_eq!(routes.candidates(&pool, b"alice")[0], "127.0.0.1:5203");
        assert!(routes.known.lock().unwrap().master_failed.is_some(), "the master was asked");
        assert_eq!(routes.candidates(&pool, b"alice")[0], "127.0.0.1:5203");
    }

    #[test]
    fn the_masters_order_holds_and_every_backend_is_asked_in_the_end() {
        let group = ["127.0.0.1:5103", "127.0.0.1:5101", "127.0.0.1:5102"];
        let (routes, pool) = (knowing(&group), Pool::new("secret"));
        for owner in ["alice", "bob", "carol", "dave"] {
            let all = routes.candidates(&pool, owner.as_bytes());
            assert_eq!(all[..3], group, "{owner}");
            assert_eq!(all.len(), 6);
        }
    }

    #[test]
    fn who_did_not_answer_is_asked_last() {
        let (routes, pool) = (knowing(&["127.0.0.1:5101", "127.0.0.1:5102"]), Pool::new("secret"));
        let now = Instant::now();
        routes.known.lock().unwrap().shunned.insert("127.0.0.1:5101".into(), now);
        let all = routes.candidates(&pool, b"alice");
        assert_eq!((all[0].as_str(), all[5].as_str()), ("127.0.0.1:5102", "127.0.0.1:5101"));
    }
}
