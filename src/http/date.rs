//! Dates as HTTP writes them: IMF-fixdate, RFC 9110 section 5.6.7.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY_S: u64 = 86_400;

/// `Sun, 06 Nov 1994 08:49:37 GMT`. A time before 1970 is written as 1970.
pub fn format(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, s) = (seconds / DAY_S, seconds % DAY_S);
    let (year, month, day) = civil(days);
    let (weekday, month) = (DAYS[(days % 7) as usize], MONTHS[month as usize - 1]);
    let (hour, minute, second) = (s / 3600, s / 60 % 60, s % 60);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Reads what [`format()`] writes; the two obsolete forms and dates before 1970 are `None`.
pub fn parse(text: &str) -> Option<SystemTime> {
    let words: Vec<&str> = text.split(' ').collect();
    let [weekday, day, month, year, clock, "GMT"] = words[..] else { return None };
    let month = MONTHS.iter().position(|m| *m == month)? as u64 + 1;
    let days = days_since_1970(year.parse().ok()?, month, day.parse().ok()?)?;
    let clock: Vec<u64> = clock.split(':').map(|n| n.parse().ok()).collect::<Option<_>>()?;
    let [hour @ ..24, minute @ ..60, second @ ..61] = clock[..] else { return None };
    let right_day = weekday.strip_suffix(',') == Some(DAYS[(days % 7) as usize]);
    let seconds = days * DAY_S + hour * 3600 + minute * 60 + second;
    right_day.then(|| UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Year, month and day of a day after 1970-01-01. Years are counted from March, so that the leap day
/// comes last, in eras of 400 years (146,097 days).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..=9999).contains(&year) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let from_march = (month + 9) % 12;
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn known_dates_are_written_as_the_rfc_does() {
        assert_eq!(format(at(784_111_777)), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(format(at(951_782_400)), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(format(at(0)), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn nonsense_is_no_date() {
        for text in ["", "GMT", "Mon, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:49:37 GMT"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("Sunday, 06-Nov-94 08:49:37 GMT"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(seconds in 0u64..250_000_000_000) {
            prop_assert_eq!(parse(&format(at(seconds))), Some(at(seconds)));
        }
    }
}
