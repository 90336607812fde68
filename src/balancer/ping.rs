//! The threads that ask the frontends how they are.

use super::fleet::{Fleet, failed};
use super::health::{Heard, Report};
use crate::config::Scheme;
use crate::error::{Error, Result};
use crate::http::client;
use std::sync::Arc;
use std::time::Duration;

/// Time for a whole ping.
const PING_TIME: Duration = Duration::from_secs(1);
/// Pause before the ping that may bring a frontend back.
const RETURN_PAUSE: Duration = Duration::from_millis(200);

/// Starts one thread for each frontend; all are spoken to in one way.
pub fn start(fleet: &Arc<Fleet>, scheme: Scheme, interval: Duration) -> Result<()> {
    for n in 0..fleet.frontends.len() {
        let fleet = fleet.clone();
        std::thread::Builder::new()
            .name(format!("ping {}", fleet.frontends[n].name))
            .spawn(move || ask_for_ever(&fleet, scheme, n, interval))
            .map_err(|e| Error::config(format!("no thread for a frontend's pings: {e}")))?;
    }
    Ok(())
}

fn ask_for_ever(fleet: &Fleet, scheme: Scheme, n: usize, interval: Duration) {
    loop {
        let soon = fleet.hear(n, ask(scheme, &fleet.frontends[n].address));
        std::thread::sleep(if soon { interval.min(RETURN_PAUSE) } else { interval });
    }
}

fn ask(scheme: Scheme, address: &str) -> Heard {
    let answer = match client::get(scheme, address, "/ping", PING_TIME) {
        Ok(answer) if answer.status == 200 => answer,
        Ok(_) => return Heard::Silent,
        Err(e) => return failed(&e),
    };
    let report = std::str::from_utf8(&answer.body).ok().and_then(Report::parse);
    report.map_or(Heard::Silent, Heard::Good)
}
