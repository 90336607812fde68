//! The relay: takes messages out of the [`queue`](crate::mail::queue) and brings each to its recipients.
//!
//! ```text
//! scan (one thread) ──due messages──▶ workers ──take: lease──▶ route ──▶ client ──▶ state of each recipient
//!                                                                          │                written
//!                                     bounce (PURE) ◀── failures, delays ──┘
//! ```
//!
//! Every smtp process does this, and none knows of the others: the lease of an entry decides who works on it, and ends
//! when its worker dies.
//!
//! # One message in a worker's hands
//!
//! 1. Failures that an earlier worker left untold are told.
//! 2. Recipients in our own domain get it into their inbox: once, by the delivery's id.
//! 3. The others are grouped by domain. For each group: hosts from DNS ([`mx`]), at most [`mx::ADDRESSES_MAX`] addresses
//!    and [`SESSIONS_MAX`] sessions, one transaction for at most [`GROUP_MAX`] recipients; then what was heard of each
//!    is written, before the next transaction begins.
//! 4. Whoever was put off waits as the schedule says; after five days that ends. Failures are told to the sender, and
//!    after four hours that it is late.
//! 5. When nobody waits, entry and body go.
//!
//! # Rules
//!
//! * A report goes to nobody (`<>`) never: no bounce of a bounce. Its delivery id follows from the message and the
//!   recipients that it is about, so that it is made once, by whomever. NOTIFY of RFC 3461 is obeyed.
//! * A worker that finds its lease lost drops the connection and writes nothing.
//! * A message that five workers did not survive is held.
//! * Only workers talk to other hosts, so many at once in all and to one domain.
//!
//! # Caveats
//!
//! * A report of success (NOTIFY=SUCCESS) is left to hosts that know RFC 3461; where they do not, none is made.
//! * Each transaction has a connection of its own.
//! * No DKIM, MTA-STS or DANE: TLS with other hosts keeps out who only listens.

pub mod bounce;
mod local;
pub mod mx;
mod report;
mod route;
mod scan;
mod worker;

use super::client::{Login, Patience};
use super::drain::Drain;
use crate::config::{Config, Relay as Settings, Smtp};
use crate::error::{Error, Result};
use crate::mail::queue::Schedule;
use crate::mail::{Mailboxes, Queue};
use crate::net::dns::Dns;
use route::Router;
use std::collections::{HashMap, HashSet};
use std::net::ToSocketAddrs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Sessions of one try for one domain.
pub const SESSIONS_MAX: usize = 2;
/// Recipients of one transaction: each host takes a hundred (RFC 5321, 4.5.3.1.8).
pub const GROUP_MAX: usize = 100;

/// What all workers share.
struct Relay {
    node: String,
    queue: Queue,
    router: Router,
    login: Option<Login>,
    patience: Patience,
    schedule: Schedule,
    lease_ms: u64,
    per_domain: usize,
    drain: Drain,
    busy: Mutex<Busy>,
}

/// What is being worked on.
#[derive(Default)]
struct Busy {
    messages: HashSet<String>,
    domains: HashMap<String, usize>,
}

/// Starts the threads that send, if this process is to send. One without a way to other hosts leaves that to those that
/// have one, where there are any: it would fail what they can send.
pub(super) fn start(
    config: &Config,
    own: &Smtp,
    mailboxes: &Mailboxes,
    drain: &Drain,
) -> Result<()> {
    let settings = &own.relay;
    let others_send = config.smtps.iter().any(|smtp| smtp.relay.sends());
    if settings.workers == 0 || (others_send && !settings.sends()) {
        return Ok(());
    }
    let command = Duration::from_millis(settings.patience_ms);
    let slice = (command / 10).min(Duration::from_millis(settings.lease_ms / 8));
    let relay = Relay {
        node: own.name.clone(),
        queue: Queue::new(mailboxes.clone()),
        router: router(config, settings, command)?,
        login: login(settings)?,
        patience: Patience { command, slice: slice.min(Duration::from_secs(10)) },
        schedule: Schedule { minute_ms: settings.minute_ms },
        lease_ms: settings.lease_ms,
        per_domain: settings.workers_per_domain,
        drain: drain.clone(),
        busy: Mutex::default(),
    };
    log::info!("{} workers send mail by route {:?}", settings.workers, settings.route);
    let poll = Duration::from_millis(settings.poll_ms);
    scan::start(Arc::new(relay), settings.workers, poll)
}

fn router(config: &Config, settings: &Settings, command: Duration) -> Result<Router> {
    let listeners = config.smtps.iter().filter_map(|smtp| smtp.exchange.to_socket_addrs().ok());
    Ok(Router {
        route: settings.route()?,
        resolver: Box::new(Dns::new(settings.dns()?, command / 60)?),
        own: vec![config.cluster.mail_domain.to_ascii_lowercase()],
        listeners: listeners.flatten().collect(),
        port: settings.port,
        loopback: settings.loopback,
    })
}

fn login(settings: &Settings) -> Result<Option<Login>> {
    if settings.user.is_empty() {
        return Ok(None);
    }
    let file = &settings.password_file;
    let text = std::fs::read_to_string(file).map_err(|e| {
        Error::config(format!("cannot read relay.password_file {}: {e}", file.display()))
    })?;
    let password = text.trim_end_matches(['\r', '\n']).to_string();
    Ok(Some(Login { user: settings.user.clone(), password }))
}

/// A number that nobody can guess.
fn random() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    u64::from_le_bytes(bytes)
}
