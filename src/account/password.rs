//! Passwords: what is accepted, and argon2id behind a gate.
//!
//! A hash takes 19 MiB and some 20 ms of a core, so a crowd at the login page could exhaust both. The gate
//! lets twice as many in as there are cores, has a bounded number of others wait, and refuses the rest. Whoever
//! leaves it hands the memory on: taken anew each time, it would stay with the allocator, once for each thread.
//!
//! A password is taken in Unicode's normal form NFC: keyboards write the same letter in different ways.

use super::common;
use crate::error::{Error, Result};
use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use unicode_normalization::UnicodeNormalization;

/// Shortest and longest password, in characters.
pub const LENGTH: std::ops::RangeInclusive<usize> = 8..=256;
/// Hashes that may wait for a core; one more is refused.
const WAITING_MAX: usize = 50;
/// Memory, passes and lanes: OWASP's minimum for argon2id.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;
/// Why a hash is refused when too many wait.
pub const CROWD: &str = "too many people sign in at this moment";

/// Says what is wrong with a new password.
pub fn check(user: &str, password: &str) -> Result<()> {
    if !LENGTH.contains(&password.nfc().count()) {
        return Err(Error::bad("a password has 8 to 256 characters"));
    }
    let lower = normal(password).to_lowercase();
    if common::is_common(&lower) {
        return Err(Error::bad("this password is one of those that everyone tries first"));
    }
    if lower == user {
        return Err(Error::bad("the password must not be the user name"));
    }
    Ok(())
}

/// Hashes and verifies passwords, a bounded number at a time.
pub struct Passwords {
    costs: Params,
    gate: Gate,
    /// Verified for a user who does not exist, so that the answer takes as long.
    dummy: String,
}

impl Passwords {
    /// A gate for this machine's cores.
    pub fn new() -> Passwords {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let costs = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the costs are in range");
        let dummy = hash(&costs, "nobody's password", &mut Vec::new());
        Passwords { costs, gate: Gate::new(2 * cores, WAITING_MAX), dummy }
    }

    /// Hashes a password with a new salt; `Retry` when too many wait.
    pub fn hash(&self, password: &str) -> Result<String> {
        let mut turn = self.gate.enter()?;
        Ok(hash(&self.costs, password, &mut turn.memory))
    }

    /// Whether a password fits a stored hash; `None` takes as long and fits nothing.
    pub fn verify(&self, password: &str, stored: Option<&str>) -> Result<bool> {
        let mut turn = self.gate.enter()?;
        let hash = PasswordHash::new(stored.unwrap_or(&self.dummy)).map_err(corrupt)?;
        let costs = Params::try_from(&hash).map_err(corrupt)?;
        let (Some(salt), Some(expected)) = (hash.salt, hash.hash) else {
            return Err(corrupt("no salt or no output"));
        };
        let fits = *LENGTH.end() >= password.nfc().count()
            && output(&costs, password, &salt, &mut turn.memory)? == expected;
        Ok(fits && stored.is_some())
    }
}

/// Whether a hash was made with other costs than those of now.
pub(super) fn is_outdated(hash: &str) -> bool {
    !hash.starts_with(&format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}$"))
}

fn normal(password: &str) -> String {
    password.nfc().collect()
}

fn corrupt(why: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("a stored password hash: {why}"))
}

/// A PHC string with a new salt.
fn hash(costs: &Params, password: &str, memory: &mut Vec<Block>) -> String {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).expect("the operating system gives random bytes");
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(costs).expect("three numbers fit"),
        salt: Some(Salt::new(&salt).expect("16 bytes are a salt")),
        hash: Some(output(costs, password, &salt, memory).expect("our own costs can be paid")),
    };
    hash.to_string()
}

/// Fills the memory. Two outputs are compared in constant time.
fn output(costs: &Params, password: &str, salt: &[u8], memory: &mut Vec<Block>) -> Result<Output> {
    memory.resize(costs.block_count(), Block::new());
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, costs.clone());
    let mut bytes = [0; Params::DEFAULT_OUTPUT_LEN];
    argon2
        .hash_password_into_with_memory(normal(password).as_bytes(), salt, &mut bytes, memory)
        .map_err(corrupt)?;
    Output::new(&bytes).map_err(corrupt)
}

impl Default for Passwords {
    fn default() -> Passwords {
        Passwords::new()
    }
}

/// Lets a number of threads in at a time, and a number wait.
struct Gate {
    inside_max: usize,
    waiting_max: usize,
    counts: Mutex<Counts>,
    left: Condvar,
}

#[derive(Default)]
struct Counts {
    inside: usize,
    waiting: usize,
    /// What those who left have handed on.
    memories: Vec<Vec<Block>>,
}

impl Gate {
    fn new(inside_max: usize, waiting_max: usize) -> Gate {
        Gate { inside_max, waiting_max, counts: Mutex::default(), left: Condvar::new() }
    }

    fn enter(&self) -> Result<Turn<'_>> {
        let mut counts = self.lock();
        if counts.inside >= self.inside_max && counts.waiting >= self.waiting_max {
            return Err(Error::retry(CROWD));
        }
        counts.waiting += 1;
        while counts.inside >= self.inside_max {
            counts = self.left.wait(counts).unwrap_or_else(PoisonError::into_inner);
        }
        counts.waiting -= 1;
        counts.inside += 1;
        let memory = counts.memories.pop().unwrap_or_default();
        Ok(Turn { gate: self, memory })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place inside the gate, with memory to hash in; both are given back when it is dropped.
struct Turn<'a> {
    gate: &'a Gate,
    memory: Vec<Block>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut counts = self.gate.lock();
        counts.inside -= 1;
        counts.memories.push(std::mem::take(&mut self.memory));
        self.gate.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_argon2id_with_the_agreed_costs() {
        let passwords = Passwords::new();
        let hash = passwords.hash("correct horse").unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(!is_outdated(&hash) && is_outdated(&hash.replace("t=2", "t=1")));
        assert!(passwords.verify("correct horse", Some(&hash)).unwrap());
        assert!(!passwords.verify("correct horsf", Some(&hash)).unwrap());
        assert_ne!(hash, passwords.hash("correct horse").unwrap(), "salted");
    }

    #[test]
    fn a_letter_is_the_same_however_it_is_written() {
        let passwords = Passwords::new();
        let hash = passwords.hash("Gr\u{fc}\u{df}e an alle").unwrap();
        assert!(passwords.verify("Gru\u{308}\u{df}e an alle", Some(&hash)).unwrap());
    }

    #[test]
    fn nobody_has_no_password() {
        assert!(!Passwords::new().verify("nobody's password", None).unwrap());
    }

    #[test]
    fn short_long_and_common_passwords_are_refused() {
        for bad in ["", "1234567", "password", "PASSWORD123", "alice-alice", &"x".repeat(257)] {
            assert!(check("alice-alice", bad).is_err(), "{bad:?}");
        }
        assert!(check("alice", "correct horse").is_ok());
        assert!(check("alice", "ünïcödé!").is_ok(), "characters count, not bytes");
    }

    #[test]
    fn a_full_gate_refuses_and_opens_again() {
        let gate = Gate::new(1, 0);
        let turn = gate.enter().unwrap();
        assert!(matches!(gate.enter(), Err(Error::Retry(_))));
        drop(turn);
        assert!(gate.enter().is_ok());
    }

    #[test]
    fn who_waits_at_the_gate_gets_in() {
        let gate = Gate::new(1, 1);
        let turn = gate.enter().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| gate.enter().is_ok());
            while gate.lock().waiting == 0 {
                std::thread::yield_now();
            }
            drop(turn);
            assert!(waiting.join().unwrap());
        });
    }
}
