//! Ending in order: the node's tablets are handed over to others first.

use super::node::Node;
use crate::error::{Error, Result};
use crate::protocol::command::{Command, Request};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long others may take to take over. Where there is no master, nobody is waited for.
const TIME_MAX: Duration = Duration::from_secs(5);

/// Starts the thread that waits for SIGTERM or SIGINT and then ends the process. A second signal ends it at
/// once.
pub fn on_signal(node: Arc<Node>) -> Result<()> {
    let cannot = |e: std::io::Error| Error::config(format!("cannot wait for signals: {e}"));
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(cannot)?;
    let wait = move || {
        let mut told = signals.forever();
        told.next();
        std::thread::spawn(move || end(&node));
        told.next();
        std::process::exit(1);
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).map(drop).map_err(cannot)
}

/// Asks the master to take the node out of service, whoever needs it. What is not handed over is as after a crash.
fn end(node: &Node) {
    let master = &node.config.master;
    let address = node.config.via(&master.name, &master.address);
    let shutdown = Request::new(Command::Shutdown { node: node.name.clone(), force: true });
    match node.ask(address, &shutdown, Instant::now() + TIME_MAX) {
        Ok(_) => log::info!("handed over; ended"),
        Err(error) => log::info!("ended without handing over: {error}"),
    }
    std::process::exit(0);
}
