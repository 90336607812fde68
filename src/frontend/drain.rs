//! Ending in order: what is being answered is answered first.

use super::App;
use crate::error::{Error, Result};
use crate::http::{Body, Response};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long the end waits for open requests.
pub const TIME_MAX: Duration = Duration::from_secs(30);
/// How often it looks whether there are any.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// For how long there must be none: a small answer is written after its handler has returned.
const QUIET: Duration = Duration::from_millis(200);

/// Starts the thread that waits for SIGTERM or SIGINT and then ends the process. A second signal ends it at
/// once.
pub(super) fn on_signal(app: Arc<App>) -> Result<()> {
    let cannot = |e: std::io::Error| Error::config(format!("cannot wait for signals: {e}"));
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(cannot)?;
    let wait = move || {
        let mut told = signals.forever();
        told.next();
        log::info!("{}: draining", app.process.name);
        std::thread::spawn(move || end(&app));
        told.next();
        std::process::exit(1);
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).map(drop).map_err(cannot)
}

fn end(app: &App) {
    app.draining.store(true, Ordering::SeqCst);
    let (began, mut quiet_since) = (Instant::now(), Instant::now());
    while began.elapsed() < TIME_MAX && quiet_since.elapsed() < QUIET {
        if app.open.load(Ordering::SeqCst) > 0 {
            quiet_since = Instant::now();
        }
        std::thread::sleep(LOOK_EVERY);
    }
    log::info!("{}: ended", app.process.name);
    std::process::exit(0);
}

/// A request that is being answered; it is over when this is dropped.
pub(super) struct Open(Arc<App>);

impl Open {
    pub(super) fn enter(app: &Arc<App>) -> Open {
        app.open.fetch_add(1, Ordering::SeqCst);
        Open(app.clone())
    }

    /// Keeps the request open until a streamed body has been sent.
    pub(super) fn until_sent(self, mut response: Response) -> Response {
        response.body = match response.body {
            Body::Stream { length, from } => {
                Body::Stream { length, from: Box::new(Sending { from, _open: self }) }
            }
            body => body,
        };
        response
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Sending {
    from: Box<dyn Read + Send>,
    _open: Open,
}

impl Read for Sending {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.from.read(buffer)
    }
}
