//! When a message is tried again, and when that ends: pure arithmetic on milliseconds.

/// Minutes between the first tries; later ones are [`LATER`] apart.
const STEPS: [u64; 7] = [1, 5, 15, 30, 60, 120, 180];
/// Minutes between all later tries.
const LATER: u64 = 240;
/// Minutes after which a message that is still here is given up: 5 days (RFC 5321, 4.5.4.1).
const LIFE: u64 = 5 * 24 * 60;
/// Minutes after which its sender is told that it is late.
const NOTICE: u64 = 4 * 60;

/// The times of the queue. All follow from the length of a minute, which only tests shorten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Milliseconds of a minute.
    pub minute_ms: u64,
}

impl Schedule {
    /// How long to wait after so many failed tries: 1, 5, 15, 30 and 60 minutes, 2, 3 and then 4 hours, each a
    /// tenth longer or shorter as a random number says, so that what failed together does not come back together.
    pub fn pause_ms(self, tries: u32, random: u64) -> u64 {
        let step = (tries.max(1) - 1) as usize;
        let minutes = STEPS.get(step).copied().unwrap_or(LATER);
        minutes * self.minute_ms * (900 + random % 201) / 1000
    }

    /// How long a message is tried.
    pub fn life_ms(self) -> u64 {
        LIFE * self.minute_ms
    }

    /// After how long its sender is told that it is late.
    pub fn notice_ms(self) -> u64 {
        NOTICE * self.minute_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAL: Schedule = Schedule { minute_ms: 60_000 };
    /// The random number that changes nothing.
    const NEUTRAL: u64 = 100;

    #[test]
    fn pauses_grow_to_four_hours() {
        let minutes: Vec<u64> =
            (1..=10).map(|tries| REAL.pause_ms(tries, NEUTRAL) / 60_000).collect();
        assert_eq!(minutes, [1, 5, 15, 30, 60, 120, 180, 240, 240, 240]);
        assert_eq!(REAL.pause_ms(0, NEUTRAL), 60_000);
        assert_eq!(REAL.pause_ms(u32::MAX, NEUTRAL), 240 * 60_000);
    }

    #[test]
    fn jitter_is_a_tenth_at_most() {
        let pauses: Vec<u64> = (0..1000).map(|random| REAL.pause_ms(2, random)).collect();
        assert_eq!(pauses.iter().min(), Some(&270_000));
        assert_eq!(pauses.iter().max(), Some(&330_000));
    }

    #[test]
    fn a_message_lives_five_days_and_is_late_after_four_hours() {
        assert_eq!(REAL.life_ms(), 5 * 86_400_000);
        assert_eq!(REAL.notice_ms(), 4 * 3_600_000);
        assert_eq!(Schedule { minute_ms: 100 }.notice_ms(), 24_000);
    }
}
