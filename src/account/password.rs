//! Passwords: what is accepted, and argon2id behind a gate.
//!
//! A hash takes 19 MiB and some 20 ms of a core, so a crowd at the login page could exhaust both. The gate
//! lets twice as many in as there are cores, has a bounded number of others wait, and refuses the rest.

use crate::error::{Error, Result};
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Shortest and longest password, in characters.
pub const LENGTH: std::ops::RangeInclusive<usize> = 8..=256;
/// Hashes that may wait for a core; one more is refused.
const WAITING_MAX: usize = 50;
/// Memory, passes and lanes: OWASP's minimum for argon2id.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Passwords that everyone tries first. Longer than eight characters, so that the length lets them pass.
const COMMON: &[&str] = &[
    "00000000",
    "11111111",
    "12341234",
    "12345678",
    "123456789",
    "1234567890",
    "1q2w3e4r",
    "87654321",
    "88888888",
    "abc12345",
    "abcd1234",
    "administrator",
    "asdfasdf",
    "asdfghjkl",
    "baseball",
    "changeme",
    "computer",
    "dragon123",
    "football",
    "iloveyou",
    "letmein1",
    "liverpool",
    "password",
    "password1",
    "password12",
    "password123",
    "passw0rd",
    "penncloud",
    "princess",
    "qwer1234",
    "qwerty12",
    "qwerty123",
    "qwertyuiop",
    "starwars",
    "sunshine",
    "superman",
    "trustno1",
    "welcome1",
    "whatever",
    "zaq12wsx",
];

/// Says what is wrong with a new password.
pub fn check(user: &str, password: &str) -> Result<()> {
    if !LENGTH.contains(&password.chars().count()) {
        return Err(Error::bad("a password has 8 to 256 characters"));
    }
    let lower = password.to_lowercase();
    if COMMON.contains(&lower.as_str()) {
        return Err(Error::bad("this password is one of those that everyone tries first"));
    }
    if lower == user {
        return Err(Error::bad("the password must not be the user name"));
    }
    Ok(())
}

/// Hashes and verifies passwords, a bounded number at a time.
pub struct Passwords {
    argon2: Argon2<'static>,
    gate: Gate,
    /// Verified for a user who does not exist, so that the answer takes as long.
    dummy: String,
}

impl Passwords {
    /// A gate for this machine's cores.
    pub fn new() -> Passwords {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the costs are in range");
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let dummy = hash(&argon2, "nobody's password");
        Passwords { argon2, gate: Gate::new(2 * cores, WAITING_MAX), dummy }
    }

    /// Hashes a password with a new salt; `Retry` when too many wait.
    pub fn hash(&self, password: &str) -> Result<String> {
        let _turn = self.gate.enter()?;
        Ok(hash(&self.argon2, password))
    }

    /// Whether a password fits a stored hash; `None` takes as long and fits nothing.
    pub fn verify(&self, password: &str, stored: Option<&str>) -> Result<bool> {
        let _turn = self.gate.enter()?;
        let hash = PasswordHash::new(stored.unwrap_or(&self.dummy))
            .map_err(|e| Error::corrupt(format!("a stored password hash: {e}")))?;
        let fits = *LENGTH.end() >= password.chars().count()
            && self.argon2.verify_password(password.as_bytes(), &hash).is_ok();
        Ok(fits && stored.is_some())
    }
}

fn hash(argon2: &Argon2, password: &str) -> String {
    let hash = argon2.hash_password(password.as_bytes());
    hash.expect("a bounded password and fixed costs can be hashed").to_string()
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
}

impl Gate {
    fn new(inside_max: usize, waiting_max: usize) -> Gate {
        Gate { inside_max, waiting_max, counts: Mutex::default(), left: Condvar::new() }
    }

    fn enter(&self) -> Result<Turn<'_>> {
        let mut counts = self.lock();
        if counts.inside >= self.inside_max && counts.waiting >= self.waiting_max {
            return Err(Error::retry("too many people log in at this moment"));
        }
        counts.waiting += 1;
        while counts.inside >= self.inside_max {
            counts = self.left.wait(counts).unwrap_or_else(PoisonError::into_inner);
        }
        counts.waiting -= 1;
        counts.inside += 1;
        Ok(Turn(self))
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place inside the gate, given back when dropped.
struct Turn<'a>(&'a Gate);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().inside -= 1;
        self.0.left.notify_one();
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
        assert!(passwords.verify("correct horse", Some(&hash)).unwrap());
        assert!(!passwords.verify("correct horsf", Some(&hash)).unwrap());
        assert_ne!(hash, passwords.hash("correct horse").unwrap(), "salted");
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
