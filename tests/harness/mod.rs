//! What integration tests stand on: a cluster of real processes, and clients that know nothing of
//! PennCloud's own code.

pub mod browser;
pub mod cluster;
pub mod configuration;
pub mod disk;
pub mod dns;
pub mod hosts;
pub mod html;
pub mod ports;
pub mod proxy;
pub mod remote;
pub mod scripted;
pub mod smtp;
pub mod text;
pub mod trace;
pub mod web;

pub use cluster::Cluster;
pub use disk::Disk;
pub use dns::Dns;
pub use hosts::{Hosts, Loss};
pub use remote::Remote;
pub use scripted::Scripted;
pub use smtp::Smtp;
pub use text::Text;
pub use trace::Trace;
pub use web::Web;

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Time after which a test gives up waiting for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Polls until `found` gives something; panics with `what` when that takes too long.
pub fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} for this: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Says that a check cannot be made here, and why; `./run.sh test` counts these lines. It writes past the
/// test runner, which hides what passing tests print.
pub fn skipped(name: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {name}: {reason}");
}

/// The path of a command, if this machine has it.
pub fn command(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Runs a command to its end; what it complained of, if it failed.
pub fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| e.to_string())?;
    let why = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    if output.status.success() { Ok(()) } else { Err(why) }
}

/// Whether the long tests were asked for (`./run.sh test --long`).
pub fn long() -> bool {
    std::env::var_os("PENNCLOUD_LONG").is_some()
}

/// Bytes that look random and are the same each time.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Sets a flag when a check fails, so that threads which go on until then end too.
pub struct EndOnPanic<'a>(pub &'a AtomicBool);

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}
