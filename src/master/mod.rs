//! The master: which group has which slots, which node serves which tablet in which epoch, who is alive.
//!
//! # Terms
//!
//! * *Record*: a slot table, a group, a node or a tablet's register, kept under a key of the
//!   *configuration store* ([`store`]); it changes by compare-and-swap alone, and is on disk before anyone
//!   is told.
//! * *Routes*: all records and who is alive, as told to every node ([`crate::protocol::cluster::Routes`]).
//! * *Epoch* of a tablet: number of its configuration `{primary, isr, members}`; rises by one with every
//!   change. 0: nobody has served it yet.
//! * *Instance* (boot id): one run of a node's process. *Store*: one disk, by the uuid made when it was formatted.
//!
//! # What it does
//!
//! One persistent connection and one thread for each backend, dialled by the master, as the original
//! ([`heartbeat`]; the messages are in [`crate::protocol::cluster`]). A node that is silent for `heartbeat_timeout_ms` is
//! dead: for now a word in `STATUS` and in the routes, since each tablet has one replica and nobody
//! can take over.
//!
//! The master grants no lease and is never on the path of a read or a write: while it is away all goes on, and
//! only changes of configuration wait. A master that starts counts every known node as just seen.
//!
//! # Invariants
//!
//! 1. Nothing is told to a node, nor answered, that is not on disk.
//! 2. An epoch belongs to one instance of its primary: a node that comes with a new boot id, or says that
//!    it has sealed, gets each of its tablets in the next epoch. A restarted primary never resumes its own.
//! 3. A node's disk is written down before the first epoch of its tablets. From then on another disk
//!    under its name is *refused*: it is told no routes, so it can never become an empty primary. Put the
//!    old disk back, and it serves again.
//! 4. The numbers of tablets and the slot table are fixed when the cluster is made.
//!
//! # Threads
//!
//! ```text
//! heartbeat thread of each backend ──event──▶ owner: Membership (pure) + ConfigStore ──▶ published routes
//!        ▲                                      ▲                                           │
//!        └── order (suspect, shut down, …) ──── connection threads ◀── read ────────────────┘
//! ```
//!
//! The *owner* ([`owner`]) is the one thread that holds the tables. It takes events from a bounded channel, performs
//! what [`membership`] puts out, and publishes the routes behind a lock that is held only to swap a pointer.
//! A store that fails to write ends the process.
//!
//! # Caveats
//!
//! * One replica a tablet: a dead node's tablets wait for it. The registers already hold `isr` and `members`.
//! * One master: [`store::ConfigStore`] is the seam for several.
//! * Groups and nodes added to the configuration are taken up at the next start, without slots or tablets
//!   of others: slots do not move yet.

pub mod election;
mod handover;
pub mod heartbeat;
pub mod layout;
pub mod membership;
pub mod owner;
pub mod record;
pub mod server;
pub mod store;
mod tablets;
mod text;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::net;
use std::net::TcpListener;
use std::sync::Arc;

/// Runs the master named `name` until the process is told to end.
pub fn run(config: &Config, name: &str) -> Result<()> {
    if name != config.master.name {
        return Err(Error::config(format!("no master {name:?} is configured")));
    }
    let secret = config.secrets()?.cluster;
    let listener = net::bind(&config.master.address)?;
    log::info!("master {name} listens on {}", config.master.address);
    serve(config, listener, secret.into())
}

/// Runs the configured master on a listener. Returns only when its store fails.
pub fn serve(config: &Config, listener: TcpListener, secret: Arc<str>) -> Result<()> {
    let store = Arc::new(store::FileStore::open(&config.data_dir(&config.master.name))?);
    let (mut owner, house) = owner::Owner::start(config, store)?;
    heartbeat::start(config, &house, &secret)?;
    server::start(config, house, secret, listener);
    owner.run()
}
