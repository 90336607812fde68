//! The clocks of a node.

use crate::replication::Time;
use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since the machine started, suspended or not: what leases are counted by.
pub fn boot_time() -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

/// Milliseconds since 1970.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
