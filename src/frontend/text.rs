//! Numbers and times as people read them.

/// A size: `0 bytes`, `812 bytes`, `1.4 KB`, `23 MB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return if bytes == 1 { "1 byte".into() } else { format!("{bytes} bytes") };
    }
    let (mut value, mut unit) = (bytes as f64 / 1000.0, 0);
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if value < 9.95 {
        format!("{value:.1} {}", UNITS[unit])
    } else {
        format!("{value:.0} {}", UNITS[unit])
    }
}

/// A count of seconds: `1 second`, `2 seconds`.
pub fn seconds(n: u64) -> String {
    if n == 1 { "1 second".into() } else { format!("{n} seconds") }
}

/// A day and time in UTC: `3 Nov 2025, 14:02`.
pub fn moment(ms: u64) -> String {
    let (minutes, time) = (ms / 60_000, civil(ms));
    format!(
        "{} {} {}, {:02}:{:02}",
        time.day,
        MONTHS[time.month as usize - 1],
        time.year,
        minutes / 60 % 24,
        minutes % 60
    )
}

/// A time for machines: `2025-11-03T14:02:07Z`.
pub fn iso(ms: u64) -> String {
    let (seconds, time) = (ms / 1000, civil(ms));
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        time.year,
        time.month,
        time.day,
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60
    )
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

struct Civil {
    year: u64,
    month: u64,
    day: u64,
}

/// The day of the Gregorian calendar, counted in eras of 400 years that begin in March.
fn civil(ms: u64) -> Civil {
    let days = ms / 86_400_000 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    Civil { year, month, day: day_of_year - (153 * from_march + 2) / 5 + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_two_digits_or_so() {
        let cases = [
            (0, "0 bytes"),
            (1, "1 byte"),
            (999, "999 bytes"),
            (1000, "1.0 KB"),
            (1449, "1.4 KB"),
            (23_400_000, "23 MB"),
            (999_600, "1.0 MB"),
            (5_000_000_000, "5.0 GB"),
            (u64::MAX, "18447 PB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn one_second_is_one() {
        assert_eq!((seconds(1).as_str(), seconds(2).as_str()), ("1 second", "2 seconds"));
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(iso(0), "1970-01-01T00:00:00Z");
        assert_eq!(iso(951_782_399_000), "2000-02-28T23:59:59Z");
        assert_eq!(iso(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(moment(1_762_178_527_000), "3 Nov 2025, 14:02");
        assert_eq!(iso(4_102_444_800_000), "2100-01-01T00:00:00Z");
    }
}
