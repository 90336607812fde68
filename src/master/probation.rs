//! How long a node must be well before primaries are moved back to it: PURE.
//!
//! A node that is slow now and then would else lose its primaries and get them back again and again, and each time
//! clients wait. Elections count a node on probation last, and the balance gives it nothing.

/// How long a node is on probation after its first failure, in milliseconds; twice as long after each next one.
pub const PROBATION_MIN_MS: u64 = 10_000;
/// Longest probation; and how long after its probation a node must have been well for its failures to be forgotten.
pub const PROBATION_MAX_MS: u64 = 600_000;

/// A node's failures as a primary.
#[derive(Default)]
pub(super) struct Probation {
    failures: u32,
    /// When it failed last, or was away last.
    unwell: u64,
}

impl Probation {
    /// An epoch that the node led had to be ended. What fails during its probation is no other failure, but begins the
    /// probation anew.
    pub fn fail(&mut self, now: u64) {
        let end = self.end();
        if now >= end + PROBATION_MAX_MS {
            self.failures = 0;
        }
        if self.failures == 0 || now >= end {
            self.failures += 1;
        }
        self.unwell = now;
    }

    /// The node is away: only time in which it is well counts.
    pub fn is_away(&mut self, now: u64) {
        self.unwell = now;
    }

    /// Whether the node is on probation.
    pub fn lasts(&self, now: u64) -> bool {
        self.failures > 0 && now < self.end()
    }

    fn end(&self) -> u64 {
        let doubled = self.failures.saturating_sub(1).min(u64::BITS / 2);
        self.unwell + (PROBATION_MIN_MS << doubled).min(PROBATION_MAX_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a probation lasts that begins now.
    fn length(probation: &Probation, now: u64) -> u64 {
        (0..).find(|ms| !probation.lasts(now + ms)).expect("it is bounded")
    }

    #[test]
    fn each_failure_doubles_the_probation_up_to_a_bound() {
        let (mut probation, mut now, mut lengths) = (Probation::default(), 5, Vec::new());
        assert!(!probation.lasts(now));
        for _ in 0..40 {
            probation.fail(now);
            lengths.push(length(&probation, now));
            now += lengths.last().expect("just pushed") + 1;
        }
        assert_eq!(lengths[..7], [10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 600_000]);
        assert!(lengths[7..].iter().all(|length| *length == PROBATION_MAX_MS));
    }

    #[test]
    fn what_fails_during_it_counts_once_and_time_away_does_not_count() {
        let mut probation = Probation::default();
        (0..3).for_each(|_| probation.fail(100));
        assert_eq!(length(&probation, 100), PROBATION_MIN_MS);
        probation.is_away(1_000_000);
        assert_eq!(length(&probation, 1_000_000), PROBATION_MIN_MS);
    }

    #[test]
    fn a_node_that_was_well_for_long_begins_anew() {
        let mut probation = Probation::default();
        probation.fail(0);
        probation.fail(10_000);
        let end = 30_000;
        assert!(probation.lasts(end - 1) && !probation.lasts(end));
        probation.fail(end + PROBATION_MAX_MS);
        assert_eq!(length(&probation, end + PROBATION_MAX_MS), PROBATION_MIN_MS);
    }
}
