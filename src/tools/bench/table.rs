//! The table of results.

use super::limits::Limits;
use super::load::Measured;
use crate::error::Result;
use std::io::Write;
use std::time::Duration;

/// Heads of the columns that [`numbers`] fills.
pub const COLUMNS: &str = "per second       MB/s        p50        p99";

/// One line.
pub struct Row {
    /// What was done.
    pub name: String,
    /// By how many connections at once; 0: it was not begun.
    pub connections: usize,
    /// What came of it.
    pub measured: Measured,
    /// How much of the limit it reached.
    pub share: String,
}

/// Prints the machine's limits and all results.
pub fn print(limits: &Limits, rows: &[Row], out: &mut dyn Write) -> Result<()> {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(24);
    writeln!(out, "{:width$} {:>5} {COLUMNS}  share of the limit", "", "conns")?;
    for (name, measured) in limits.all() {
        writeln!(out, "{name:width$} {:>5} {}", 1, numbers(measured))?;
    }
    for Row { name, connections, measured, share } in rows {
        if let Some(fault) = &measured.fault {
            writeln!(out, "{name:width$} {connections:>5} failed: {fault}")?;
        } else {
            writeln!(out, "{name:width$} {connections:>5} {}  {share}", numbers(measured))?;
        }
    }
    Ok(())
}

/// Rates and times as columns.
pub fn numbers(measured: &Measured) -> String {
    format!(
        "{:>10.0} {:>10.1} {:>10} {:>10}",
        measured.rate(),
        measured.bandwidth() / 1e6,
        duration(measured.percentile(0.5)),
        duration(measured.percentile(0.99))
    )
}

/// Three digits or so, and a unit.
pub fn duration(time: Duration) -> String {
    let us = time.as_secs_f64() * 1e6;
    match us {
        ..1e3 => format!("{us:.0} us"),
        ..1e4 => format!("{:.2} ms", us / 1e3),
        ..1e6 => format!("{:.0} ms", us / 1e3),
        _ => format!("{:.2} s", us / 1e6),
    }
}

/// A size in words.
pub fn size(bytes: u64) -> String {
    match bytes {
        1_000..1_000_000 if bytes.is_multiple_of(1_000) => format!("{} KB", bytes / 1_000),
        1_000_000.. if bytes.is_multiple_of(1_000_000) => format!("{} MB", bytes / 1_000_000),
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_about_three_digits() {
        let said = [12, 1_234, 56_789, 1_500_000].map(|us| duration(Duration::from_micros(us)));
        assert_eq!(said, ["12 us", "1.23 ms", "57 ms", "1.50 s"]);
    }

    #[test]
    fn sizes_are_said_in_their_unit() {
        assert_eq!([100, 1024, 65536, 16 << 20].map(size), ["100 B", "1 KiB", "64 KiB", "16 MiB"]);
        assert_eq!([10_000, 1_000_000].map(size), ["10 KB", "1 MB"]);
    }
}
