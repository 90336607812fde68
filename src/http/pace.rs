//! The slowest that a peer may be while a body moves.

use std::time::Duration;

/// Bytes a second that a body must move at, averaged over the stall time.
const RATE_MIN: u64 = 1 << 10;

/// Counts what moved and how long we waited for it. Only waiting counts: a handler may take its time.
#[derive(Clone, Debug)]
pub struct Pace {
    window: Duration,
    waited: Duration,
    moved: u64,
}

impl Pace {
    /// A peer that may wait for `window` at most before it has moved `window` × 1 KiB/s.
    pub fn new(window: Duration) -> Pace {
        Pace { window, waited: Duration::ZERO, moved: 0 }
    }

    /// How long the next wait may take; zero when the peer is too slow.
    pub fn left(&self) -> Duration {
        self.window.saturating_sub(self.waited)
    }

    /// Counts bytes that moved after a wait.
    pub fn count(&mut self, bytes: u64, waited: Duration) {
        self.moved += bytes;
        self.waited += waited;
        if u128::from(self.moved) * 1000 >= u128::from(RATE_MIN) * self.window.as_millis() {
            *self = Pace::new(self.window);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_byte_a_second_ends_after_the_window() {
        let mut pace = Pace::new(30 * SECOND);
        let mut seconds = 0;
        while !pace.left().is_zero() {
            pace.count(1, SECOND);
            seconds += 1;
        }
        assert_eq!(seconds, 30);
    }

    #[test]
    fn the_least_rate_goes_on_for_ever() {
        let mut pace = Pace::new(30 * SECOND);
        for _ in 0..1000 {
            assert!(!pace.left().is_zero());
            pace.count(RATE_MIN, SECOND);
        }
    }
}
