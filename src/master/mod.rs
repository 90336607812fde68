//! The master: which group has which slots, which node serves which tablet in which epoch, who is alive.
//!
//! # Terms
//!
//! * *Record*: the store's name, a slot table, a group, a node or a tablet's register, kept under a key of the
//!   *configuration store* ([`store`]); it changes by compare-and-swap alone, and is on disk before anyone
//!   is told.
//! * *Routes*: all records and who is alive, as told to every node ([`crate::protocol::cluster::Routes`]).
//! * *Epoch* of a tablet: number of its configuration `{primary, in-sync set, members}`; rises by one with every
//!   change. 0: nobody has served it yet.
//! * *In-sync set*: the replicas that have every acknowledged write on disk. *Members*: all replicas, those that
//!   catch up too.
//! * *Seal*: the end of an epoch at a node: it acknowledges and serves nothing of that epoch any more. *Resign*: to
//!   seal by oneself, without leases that others would have to wait for.
//! * *Preferred primary*: the member that leads a tablet when all is well, by the tablet's place in its group.
//! * *Instance* (boot id): one run of a node's process. *Store*: one disk, by the uuid made when it was formatted.
//!
//! # What it does
//!
//! One persistent connection and one thread for each backend, dialled by the master, as the original
//! ([`heartbeat`]; the messages are in [`crate::protocol::cluster`]). A node that is silent for `heartbeat_timeout_ms` is
//! dead. What a node has to say by itself comes over a connection that the node dials ([`server`]).
//!
//! The master is a register, and grants no lease: leases run between the replicas of a tablet. It is never on the
//! path of a read or a write. While it is away all goes on, and only changes of configuration wait. A master that
//! starts, or that stood still, counts every known node as just seen.
//!
//! A tablet's register changes when
//!
//! * its first primary has come (epoch 0 to 1); if that is away, another member that has been there for long;
//! * its primary asks: *remove* a silent replica, *add* one that has caught up ([`mod@election`]). Who wants a replica
//!   removed must answer a heartbeat first: where packets are lost in one direction alone it may be the one who hears
//!   nobody, and is about to be taken for dead;
//! * its epoch must end: the primary is dead, refused, out of service or damaged, or has no lease and another epoch may
//!   be better; or a member of the in-sync set has sealed, as a restarted primary does by itself; or a replica has found
//!   damage. All who live are asked to seal, and the longest log among them leads (`tablets.rs`);
//! * a node leaves its place in order: SHUTDOWN, or a primary that goes back to the preferred node when all has been
//!   well for some seconds, one tablet of a group at a time (`handover.rs`). A node whose epochs had to be ended
//!   is on probation first: 10 s after its first failure, twice as long after each next one, at most 10 minutes
//!   (`probation.rs`);
//! * another disk came under a member's name, which no in-sync set holds: nobody may count on what was on the old one.
//!
//! # Invariants
//!
//! 1. Nothing is told to a node, nor answered, that is not on disk.
//! 2. Epochs rise by one. An in-sync set gains at most one node at a time, which the primary has asked for; it never
//!    falls below `min_insync` by a change. A primary comes from the in-sync set of the epoch before, and either
//!    has sealed that epoch, or follows one that has resigned from it.
//! 3. A seal is always followed by another epoch. Nobody goes on in an epoch that a member has sealed.
//! 4. `clean` is told only of a change in which all who left their place had resigned by themselves.
//! 5. A node's disk is written down before the first epoch of its tablets. From then on another disk
//!    under its name is *refused* while an in-sync set holds the node: it is told no routes, and nothing it says
//!    counts, so it can never become an empty primary. When others have taken over it is taken down, and begins as
//!    one that catches up. If it had the only copy of a tablet, only the old disk helps.
//! 6. A node that is out of service, about to leave or damaged in a tablet is neither chosen nor added there.
//! 7. The numbers of tablets and the slot table are fixed when the cluster is made.
//! 8. A master that hears of tables newer than its own, or of another store's, decides nothing: what it would decide may
//!    have been decided otherwise. The store has a random name, and nodes keep on disk which tables they were told. The
//!    word of a disk that is not written down counts only while no tablet has begun; later its node is refused.
//!
//! # Threads
//!
//! ```text
//! heartbeat thread of each backend ──event──▶ owner: Membership (pure) + ConfigStore ──▶ published routes
//!        ▲                                      │   ▲                                       │
//!        └──────── order (seal, resign, …) ─────┘   └── connection threads ◀── read ────────┘
//! ```
//!
//! The *owner* ([`owner`]) is the one thread that holds the tables. It takes events from a bounded channel, performs
//! what [`membership`] puts out, and publishes the routes behind a lock that is held only to swap a pointer.
//! Orders to seal or to resign are dropped where too many wait: they are given again. A store that fails to write
//! ends the process.
//!
//! # Caveats
//!
//! * One master: [`store::ConfigStore`] is the seam for several.
//! * Where as many replicas as `min_insync` are left and one of them is lost for good, nothing is written any more:
//!   none may leave the in-sync set, and none is added before the primary can commit.
//! * `min_insync` is that of the time at which a tablet was made.
//! * Groups and nodes added to the configuration are taken up at the next start, without slots or tablets
//!   of others: slots do not move yet, and a node that is new in a group becomes a member of nothing.
//! * Who is being shut down is forgotten when the master ends before the node was told.

pub mod election;
mod handover;
pub mod heartbeat;
pub mod layout;
pub mod membership;
pub mod owner;
mod probation;
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
