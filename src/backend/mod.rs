//! A storage node: tablets on disk, served to clients and to other nodes.
//!
//! Any node takes any request. It answers from its own tablet when it is the tablet's primary, and passes
//! the request on to the primary when it is not; nothing is passed on twice.
//!
//! ```text
//! client ──▶ serve ──▶ reads, writes ──▶ tablet (here) ──▶ replica thread ──▶ log thread ──▶ disk
//!                           │                                   ▲                 │
//!                           └──▶ peer (another node's) ────────▶│◀── Persisted ───┘
//! ```
//!
//! * [`node`]: the tablets of this node, the routes that the master gave it, its connections to others.
//! * [`tablet`]: a tablet's threads, its group commit, its checkpoints, and the view that readers share.
//! * [`reads`], [`writes`]: GET, SCAN, ROWS; single ops, batches, and big values chunk by chunk.
//! * [`serve`]: a client's connection. [`peer`]: the verbs between PennCloud's own processes.
//! * [`sweep`]: what the node does by itself: what has expired goes, chunks that nobody reads any more go.
//! * [`status`]: lines for people.
//!
//! # Big values
//!
//! A value larger than a cell is cut into chunks, which lie in large-value tablets; its row holds a small
//! head that lists them. Whatever dies between two steps, nothing visible lacks a chunk and no chunk stays
//! for ever:
//!
//! 1. STAGE logs the value's id with a deadline in the row's own tablet.
//! 2. CHUNK writes a chunk; taken only while the id is staged.
//! 3. COMMIT lists the chunks that are on disk, checks that they are the whole value, and writes the head.
//! 4. An overwritten or deleted head, and an id past its deadline, goes on the tablet's retire list. An hour
//!    later, when no reader can still be at it, the sweep removes the chunks, and then the list's entry.
//!
//! # Threads
//!
//! One for each connection; two for each tablet, and one more while it writes a checkpoint; one that sweeps
//! and one that watches the disk. Readers never wait for a sync: they read the last committed table.
//!
//! # Failures
//!
//! * A write or a sync that fails ends the process (exit code 3): the disk is not asked again. What was
//!   acknowledged is on it.
//! * A tablet whose files are damaged is not served; the node's others are.
//! * Below `disk_reserve_bytes` of free space, what grows a tablet by more than 4 KiB is refused with `NOSPACE`
//!   before anything is written: people sign in, move and delete. Below half of it, all that does not shrink a
//!   tablet is refused.
//! * While the disk is low, each tablet looks every ten seconds whether a checkpoint would give bytes back, and
//!   its log keeps no spare segments but the next: what was deleted is free again soon after its chunks go.
//!
//! # Caveats
//!
//! * A checkpoint is written before the old one and the log go: on a low disk, of a tablet that fills less than
//!   three quarters of what is free. A larger one gives nothing back until more of it was deleted.
//! * All tablets of a node are in memory, the chunks of large values too.
//! * Requests of one connection are executed one after the other; more in flight take more connections.
//! * ROWS reads through all tablets of the node for each page.

mod catch_up;
mod checkpoints;
mod clock;
mod directory;
mod disk;
mod drain;
mod forwards;
mod links;
mod master_line;
mod node;
mod peer;
mod reads;
mod serve;
mod shell;
mod status;
mod surroundings;
mod sweep;
mod tablet;
mod writes;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::net::{self, Limits};
use crate::protocol::reply::Reply;
use node::Node;
use std::io::Write;
use std::sync::Arc;

/// Runs the backend named `name` until the process is told to end.
pub fn run(config: &Config, name: &str) -> Result<()> {
    let backend = config.backends().find(|b| b.name == name);
    let backend = backend
        .ok_or_else(|| Error::config(format!("the configuration has no backend {name:?}")))?;
    let secret: Arc<str> = config.secrets()?.cluster.into();
    let listener = net::bind(&backend.address)?;
    let node = Node::open(config, name)?;
    for (task, run) in [("disk", Node::watch_disk as fn(&Node)), ("sweep", Node::sweep)] {
        let node = node.clone();
        std::thread::Builder::new().name(task.into()).spawn(move || run(&node))?;
    }
    drain::on_signal(node.clone())?;
    log::info!("backend {name} listens on {}", backend.address);
    let limits = Limits {
        connections: config.store.connections_max,
        per_address: config.store.connections_max,
    };
    net::serve(
        listener,
        limits,
        move |stream, peer| serve::serve(&node, &secret, stream, peer),
        |mut stream| {
            let mut out = Vec::new();
            Reply::Error(Error::retry("too many connections")).write(&mut out);
            let _ = stream.write_all(&out);
        },
    );
    Ok(())
}
