//! A checker for linearizability: is there one order of all operations on an object that agrees with real time and
//! explains every answer? Objects are independent, so each is checked by itself.
//!
//! * [`history`]: what was recorded. [`register`]: what a cell may answer. [`rows`]: what some rows of one owner may,
//!   which are written together. [`check`]: the search for an order.

pub mod check;
pub mod history;
mod register;
mod rows;
mod rows_tests;
mod tests;

pub use check::{Verdict, check};
pub use history::{Action, Change, Operation, Outcome, Word};
pub use register::Register;
pub use rows::Rows;

/// Random numbers of a seed.
pub struct Random(u64);

impl Random {
    /// Begins with a seed.
    pub fn new(seed: u64) -> Random {
        // A seed's own state would be on the way of its neighbours: they would say the same a step later.
        Random(Random(seed).any())
    }

    /// Any number (splitmix64).
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of 128 bits.
    pub fn wide(&mut self) -> u128 {
        u128::from(self.any()) << 64 | u128::from(self.any())
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.any() % n
    }

    /// A number of the range, its end excluded.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low)
    }

    /// One of several.
    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }

    /// True so many times in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
