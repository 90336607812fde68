//! Dates as HTTP writes them: IMF-fixdate, RFC 9110 section 5.6.7.

use std::time::{SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY_S: u64 = 86_400;

/// `Sun, 06 Nov 1994 08:49:37 GMT`. A time before 1970 is written as 1970.
pub fn format(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, s) = (seconds / DAY_S, seconds % DAY_S);
    let (year, month, day) = civil(days);
    let mut date = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    date[..3].copy_from_slice(DAYS[(days % 7) as usize].as_bytes());
    date[8..11].copy_from_slice(MONTHS[month as usize - 1].as_bytes());
    let day = [(5, day), (12, year / 100), (14, year % 100)];
    let clock = [(17, s / 3600), (20, s / 60 % 60), (23, s % 60)];
    for (at, number) in day.into_iter().chain(clock) {
        date[at] = b'0' + (number / 10 % 10) as u8;
        date[at + 1] = b'0' + (number % 10) as u8;
    }
    date.iter().copied().map(char::from).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
    fn every_day_follows_the_day_before() {
        let mut before = civil(0);
        for days in 1..200_000 {
            let (year, month, day) = civil(days);
            let next = match before {
                (y, m, d) if d < month_days(y, m) => (y, m, d + 1),
                (y, m, _) if m < 12 => (y, m + 1, 1),
                (y, ..) => (y + 1, 1, 1),
            };
            assert_eq!((year, month, day), next);
            before = next;
        }
    }

    fn month_days(year: u64, month: u64) -> u64 {
        let leap =
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        match month {
            2 => 28 + u64::from(leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }
}
