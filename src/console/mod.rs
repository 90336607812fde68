//! The console: the admin's web page. Every node and its state, shut down and wake up, and the raw rows and
//! columns that any backend holds.
//!
//! # Pages
//!
//! | path | what |
//! |---|---|
//! | `/` | the dashboard: one headline ([`judge`]), the nodes, the tablets and their replicas, the web processes; looks again every 5 s |
//! | `/nodes/<node>/shutdown`, `…/wakeup` | asks for the node's name, then gives the order to the master |
//! | `/kv`, `/kv/<node>`, `…/row`, `…/cell` | rows, columns and values as the node itself holds them |
//! | `/queue` | messages that leave: how many, for which domains, what each waits for; hold, release, retry now, delete |
//! | `/audit` | who did what, newest first |
//! | `/login`, `/logout`, `/ping`, `/static/…` | |
//!
//! # Rows
//!
//! `~console/admin`: `password` (argon2id, made from the secrets file at the first login). `~console/session`:
//! `<hash of token>` (ttl). `~console/audit`: `event/…` by APPEND.
//!
//! # Invariants
//!
//! * Whatever is broken, the console opens: a panel whose source does not answer says so and nothing else. The
//!   console must be able to wake the very node that keeps its own rows, so a session lives in memory too, and
//!   while the store is down the password is judged by what was last known ([`admin`]).
//! * Every action is written to the audit row *before* it is done; where that fails, to the log.
//! * Values are shown as text or as hexadecimal digits, never as HTML; password hashes and sessions are not shown.
//! * Every form carries the session's token, and comes from our own origin ([`http::guard`]).
//!
//! # Threads
//!
//! One a connection (`http`); a dashboard asks all its sources at once, each on a thread for as long as
//! [`gather::PATIENCE`].
//!
//! # Caveats
//!
//! * One account. Without TLS the console listens on loopback only.
//! * The audit row is never cut.
//! * The queue's page reads the first 200 messages of each shard and shows the first 100; deleting one tells nobody.

mod admin;
mod app;
mod assets;
mod audit;
mod browse;
mod dashboard;
mod door;
mod gather;
mod judge;
mod orders;
mod page;
mod queue;
mod session;
mod value;

use crate::config::{Config, Scheme};
use crate::error::{Error, Result};
use crate::{http, net};
use std::sync::Arc;

/// Runs the console named `name` until the process is told to end.
pub fn run(config: &Config, name: &str) -> Result<()> {
    let process = config.consoles.iter().find(|c| c.name == name);
    let process =
        process.ok_or_else(|| Error::config(format!("no console {name:?} is configured")))?;
    let listener = net::bind(&process.address)?;
    let in_the_clear = config.http.scheme() == Scheme::Http;
    if in_the_clear && !listener.local_addr()?.ip().is_loopback() {
        return Err(Error::config(format!(
            "the console {name} listens on loopback only, not on {}, without http.tls_cert",
            process.address
        )));
    }
    let app = Arc::new(app::App::new(config, name)?);
    log::info!("{name}: {}://{}", config.http.scheme(), process.address);
    http::serve(listener, &config.http, Arc::new(app::Front::new(app)))
}
