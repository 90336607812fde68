//! A storage node: a replica of every tablet of its group, served to clients and to other nodes.
//!
//! Any node takes any request. A read is answered from the node's own replica where that is known to be current,
//! else by the tablet's primary. A write goes to the primary. Nothing is passed on twice.
//!
//! ```text
//! client ──▶ serve ──▶ reads, writes ──▶ tablet (here) ──▶ shell, replica ──▶ log thread ──▶ disk
//!                           │                                  ▲  │   ▲           │
//!                           │                                  │  │   └─ Persisted ┘
//!                           └──▶ peer (the primary's node)     │  └──▶ link ──▶ other nodes' replicas
//!                                                              └────── link ◀── theirs
//! ```
//!
//! * [`node`]: the tablets of this node, and how it reaches the rest. [`directory`]: what the master said of the cluster.
//! * [`holdings`]: which copies the node has, opened or not, and why not.
//! * [`tablet`]: a tablet as other threads see it, with the view that readers share. Behind it [`shell`], which
//!   drives the replica under the tablet's lock; [`disk`], the thread that owns the log; [`checkpoints`]: when the next
//!   is due; [`surroundings`]: what the two know of their node; [`clock`]: what leases are counted by; [`waits`]: where
//!   threads wait for one another.
//! * [`reads`], [`writes`]: GET, SCAN, ROWS; single ops, batches, and big values chunk by chunk.
//! * [`links`]: what replicas say to one another. [`catch_up`]: whole tables for those that are too far behind.
//!   [`master_line`]: what the node says to the master by itself. [`terms`]: what nodes must agree on.
//! * [`serve`]: a client's connection. [`peer`]: the verbs between PennCloud's own processes. [`forwards`]: writes that
//!   wait for another node's answer.
//! * [`memory`]: what the tablets of the node may hold in memory, and who writes out next.
//! * [`room`]: what is kept free on the disk for the worst. [`trouble`]: what is wrong with a copy, for people.
//! * [`damage`]: copies that are damaged, and how files are read in the background to find that early.
//! * [`sweep`]: what a primary does by itself: what has expired goes, chunks that nobody reads any more go.
//! * [`status`]: lines for people. [`drain`]: what the node does before it ends.
//!
//! # Reads
//!
//! A *view* is one instant of a replica: the committed table, the entries after it whose fate is not known here, and
//! until when the node's lease runs. What no such entry touches is answered from the view while the lease runs.
//! Otherwise the node asks the primary which entries are committed, and then answers from its own replica. One that is
//! not in sync passes the read on. A chunk of a big value never changes: any copy with the right checksum is served.
//! `local=1` answers from the committed table as it is, current or not.
//!
//! # Links and catching up
//!
//! A node dials each other node of its group, and sends the messages of all their tablets over that one connection
//! (`@LINK`, then `@PREPARE`, `@ACK` and so on: [`crate::replication::wire`]); the other's come over a link that it
//! dials. Both sides name their disk, and one that is not the disk that the master knows is refused; so is a node whose
//! leases and promises do not fit ours ([`terms`]). A link makes nobody wait: what does not fit is dropped, and the
//! protocol sends it again.
//!
//! A replica that has been away is sent the entries that it lacks: from memory, or read back from the primary's log on
//! disk, of which `log_keep_bytes` stay after each checkpoint. One that is further behind, or new, is offered the table,
//! and fetches it page by page (`@TABLE`), writing it to its disk as it comes, while writes go on and the primary keeps
//! its log; it installs the table in place of what it had, takes the rest by the log, and is then added to the in-sync
//! set.
//!
//! # Memory
//!
//! A tablet holds in memory what was written since its last checkpoint ([`crate::replication::Table`]); the rest is read
//! from its runs ([`crate::storage`]) through a cache of blocks that the whole node shares. No tablet is ever loaded or
//! dropped as a whole: what is used often is in the cache, block by block, of whichever tablet it is. A checkpoint moves
//! what is in memory to the disk, when the log has grown enough or the node's tablets hold too much, and changes nothing
//! that anybody sees. Values of 16 KiB and more, chunks among them, lie beside the runs and are not cached here; the
//! kernel does that. What a write overwrites is read before the tablet's lock is taken, so that nobody waits for the disk
//! under it.
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
//! One for each connection, of clients and of others' links. Two for each tablet: one owns the log, one tells the
//! replica that time passes; one more while a checkpoint is written, and one while a table is fetched. What a replica has
//! to do is done by the thread that brings it, a connection's or a link's or the log's, under the tablet's lock, and that
//! thread sends what comes of it too: a switch to another thread costs more than all that a replica does.
//!
//! One for each link to another node, one for the line to the master, one that keeps what the master said, one that
//! sweeps, one that watches the disk, one that reads it for damage, one that looks after copies that are damaged or not
//! open, and one that waits for signals. A tablet is opened by a thread of its own. Readers never wait
//! for a sync: they read the last committed table.
//!
//! # Failures
//!
//! * Clients that take all connections do not shut out other nodes and the master: beyond `connections_max` so many more
//!   as [`RESERVED`] says are taken from PennCloud's own processes alone.
//! * A write or a sync that fails ends the process (exit code 3): the disk is not asked again. What was
//!   acknowledged is on it. That a new file found no room is no such failure: nothing was harmed.
//! * A tablet whose files are damaged is not served; the node's others are. The master takes the node out of the
//!   tablet's in-sync set; then the files are set aside (`tablets-damaged/`), and the tablet is fetched from the
//!   primary. The last copy is never set aside.
//! * All files but those that are being written are read in the background, slowly. A copy in which damage is found goes
//!   on until the master has an in-sync set without it, and is then set aside too. The last one says so, mends its log by a
//!   checkpoint, and refuses what it cannot read.
//! * A replica whose table differs from the primary's at the same version, though all checksums are right, leaves in the same
//!   way, and until then passes all reads on. With every beacon the two are compared by a digest
//!   ([`crate::replication`], *Comparing*).
//! * A disk that hangs for longer than half a lease: the node leaves its tablets to others until it works again:
//!   the replica stands down, and the node's heartbeat says it (`stuck`), for before a new epoch is on disk the replica
//!   tells nobody anything.
//! * Below `disk_reserve_bytes` of free space on the disk of any in-sync replica, what grows a tablet by more than
//!   4 KiB is refused with `NOSPACE` before anything is written: people sign in, move and delete. Below half of it,
//!   all that does not shrink a tablet is refused. A replica says with every acknowledgement how its disk is.
//! * A quarter of `disk_reserve_bytes` is held as *ballast*, a file without use. It is given up for what must be written on
//!   a disk without room: the next segment of a log that deletes fill, a new epoch, a checkpoint that frees more than
//!   it takes. It is held again when there is room enough. When it is gone too, a log that needs a segment waits for
//!   room, as if the disk hung, and a tablet that cannot be opened is tried again; the process goes on, and STATUS
//!   says why. A table for a copy that is behind waits for room beside the ballast, and the copy stays a learner.
//! * While the disk is low, each tablet looks every ten seconds whether a checkpoint would give bytes back, and
//!   its log keeps no spare segments but the next: what was deleted is free again soon after its chunks go.
//!
//! # Caveats
//!
//! * A merge is written before the runs that it replaces go: on a low disk only while its runs fill less than three
//!   quarters of what is free. What was deleted from a tablet with larger ones comes back when there is room for that.
//! * The limit of the memory is one of what is counted: the indexes and filters of runs (about a hundredth of what lies
//!   on the disk) and what connections hold are not. A limit that is small beside them is exceeded.
//! * A replica that lacks more than the logs on disk hold takes the whole table, however little of it has changed.
//! * Requests of one connection are executed one after the other; more in flight take more connections.
//! * A page of ROWS looks into each of the 1,024 slots once.

mod catch_up;
mod checkpoints;
mod clock;
mod damage;
mod directory;
mod disk;
mod drain;
mod forwards;
mod holdings;
mod links;
mod master_line;
mod memory;
mod node;
mod peer;
mod reads;
mod room;
mod serve;
mod shell;
mod status;
mod surroundings;
mod sweep;
mod tablet;
mod terms;
mod trouble;
mod waits;
mod writes;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::net::{self, Crew, Limits};
use crate::protocol::auth::RESERVED;
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
    type Run = fn(&Arc<Node>);
    let tasks: [(&str, Run); 5] = [
        ("disk", |node| node.watch_disk()),
        ("sweep", |node| node.sweep()),
        ("routes", |node| node.keep_routes()),
        ("scrub", |node| node.scrub()),
        ("mend", Node::mend),
    ];
    for (task, run) in tasks {
        let node = node.clone();
        std::thread::Builder::new().name(task.into()).spawn(move || run(&node))?;
    }
    drain::on_signal(node.clone())?;
    log::info!("backend {name} listens on {}", backend.address);
    let (reserved, key) = (node.clone(), secret.clone());
    let crews = [
        Crew::new(Limits::of(config.store.connections_max), move |stream, peer| {
            serve::serve(&node, &secret, stream, peer);
        }),
        Crew::new(Limits::of(RESERVED), move |stream, peer| {
            serve::serve_reserved(&reserved, &key, stream, peer);
        }),
    ];
    net::serve_crews(listener, &crews, |mut stream| {
        let mut out = Vec::new();
        Reply::Error(Error::retry("too many connections")).write(&mut out);
        let _ = stream.write_all(&out);
    });
    Ok(())
}
