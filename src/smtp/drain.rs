//! Ending in order: a message that is being received is received and answered first.

use crate::error::{Error, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long the end waits for messages. A client whose message is cut off keeps it and comes again.
const TIME_MAX: Duration = Duration::from_secs(30);
/// How often it looks whether there are any.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// For how long there must be none: an answer is written after its message was stored.
const QUIET: Duration = Duration::from_millis(100);

/// Whether the process is to end, and how many messages it is receiving.
#[derive(Clone, Default)]
pub(super) struct Drain(Arc<State>);

#[derive(Default)]
struct State {
    ending: AtomicBool,
    receiving: AtomicUsize,
}

/// A message that is being received; it is over when this is dropped.
pub(super) struct Receiving(Arc<State>);

impl Drain {
    /// Starts the thread that waits for SIGTERM or SIGINT and then ends the process. A second signal ends
    /// it at once.
    pub fn on_signal() -> Result<Drain> {
        let drain = Drain::default();
        let cannot = |e: std::io::Error| Error::config(format!("cannot wait for signals: {e}"));
        let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(cannot)?;
        let told = drain.clone();
        let wait = move || {
            let mut signals = signals.forever();
            signals.next();
            std::thread::spawn(move || told.end());
            signals.next();
            std::process::exit(1);
        };
        std::thread::Builder::new().name("signals".into()).spawn(wait).map_err(cannot)?;
        Ok(drain)
    }

    /// Whether sessions should be told that the service ends.
    pub fn is_ending(&self) -> bool {
        self.0.ending.load(Ordering::SeqCst)
    }

    /// Keeps the process alive while a message is received.
    pub fn receiving(&self) -> Receiving {
        self.0.receiving.fetch_add(1, Ordering::SeqCst);
        Receiving(self.0.clone())
    }

    fn end(&self) {
        log::info!("ending: open messages are received first");
        self.0.ending.store(true, Ordering::SeqCst);
        let (began, mut quiet_since) = (Instant::now(), Instant::now());
        while began.elapsed() < TIME_MAX && quiet_since.elapsed() < QUIET {
            if self.0.receiving.load(Ordering::SeqCst) > 0 {
                quiet_since = Instant::now();
            }
            std::thread::sleep(LOOK_EVERY);
        }
        std::process::exit(0);
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.0.receiving.fetch_sub(1, Ordering::SeqCst);
    }
}
