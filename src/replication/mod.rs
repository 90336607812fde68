//! One tablet's replica, pure: no socket, file, thread or clock.
//!
//! [`Replica::step`] takes an [`Input`] and returns [`Output`]s to be performed in their order. A node drives it
//! with threads and a disk; tests drive it with scripts, and with a simulated network, disks and clocks that
//! fail by a seed. What is tested is what runs.
//!
//! The shape is PacificA's (Microsoft, MSR-TR-2008-25) with reads at any replica, as in CRAQ and Hermes: the
//! master holds `{epoch, primary, in-sync set}` as a register; the primary orders the writes and sends them to
//! all members; an entry is committed when every in-sync member has it on disk.
//!
//! # Terms
//!
//! * *Version*: the tablet's version number, one more with every entry of its log. *Epoch*: the reign of a
//!   primary, given by the master, one more with every change. (epoch, version) names an entry for ever, and with
//!   it everything before.
//! * *Prepared*: has a version, and is being made durable. *Committed*: durable on every in-sync replica.
//! * *Barrier*: the entry without effect with which a primary begins its epoch. Nothing is served before it is
//!   committed: until then the log may hold writes that were acknowledged in an earlier epoch.
//! * *Matched*: how far a replica's log is known to be equal to the primary's in this epoch.
//! * *Lease* (L): for so long after a beacon that every needed member has answered, the primary, and through it each
//!   in-sync replica, may answer reads. *Promise* (G, more than L by the most that two clocks may differ): for so
//!   long after the receipt of a beacon a member waits before it lets a new primary begin.
//! * *Seal*: the end of an epoch at a node. It acknowledges and serves nothing of that epoch any more.
//!
//! # A write
//!
//! ```text
//! Propose ──▶ known already? ──yes──▶ its answer, once it is committed
//!                │ no
//!                ▼
//!             execute on the table after all prepared entries ──no──▶ the refusal, once what it saw is committed
//!                │ yes: effects
//!                ▼
//!             Append entry ──▶ own disk ──▶ Persisted ─────────────────────────────┐
//!                └──▶ Prepare to every member ──▶ its disk ──▶ Ack (matched, durable)┤
//!                                                                                  ▼
//!             Answer  ◀── commit: the least of all that the in-sync set, and a member being added, have
//! ```
//!
//! [`mod@execute`] decides what a request does; the log holds the *effects*, so that whoever applies them gets the
//! same [`Table`], whatever its clock says. A [`Table`] is a set of persistent maps, so a copy shares everything
//! that did not change: the table after each prepared entry is kept beside it (of a recovered log, after the last one).
//!
//! # Modules
//!
//! * [`replica`]: the state. `epoch`: configurations, seals and resignations. [`propose`]: writes. [`lead`]: the
//!   primary's side. [`follow`]: the others'. `read_back`: entries for members that are far behind. `confirm`: reads
//!   without clocks.
//! * [`table`], [`mod@execute`]: what a log adds up to, and how requests are judged. `cells`: which of it is in memory, and
//!   what lies below; `write_out`: how more of it gets there. `digest`: whether two tables are equal.
//! * [`message`]: what replicas say. [`outbox`]: what they do not say yet. [`rules`]: each rule that a replica keeps as a
//!   switch, for the simulation. [`wire`]: messages as text.
//!
//! # Invariants
//!
//! 1. Versions rise by one; an entry names the epoch of the one before; equal (epoch, version) in two logs means
//!    equal logs up to there.
//! 2. Epochs, adopted and sealed, never fall at a node. Nothing of an epoch at or below the sealed one is
//!    acknowledged.
//! 3. Nothing is answered before what it depends on is committed: neither a write, nor what was found by a look at what
//!    was prepared. An outcome that rests on no entry (a condition that does not hold, a batch that finds nothing to
//!    delete) is a read, and needs what reads need.
//! 4. What was acknowledged is on the disk of every member of the in-sync set; no committed entry is ever cut off.
//! 5. A primary serves nothing before its barrier is committed, and commits nothing while a node that it does without
//!    may still hold a lease of an earlier epoch. A restarted primary never resumes its epoch.
//! 6. A request that has a name executes once. A repeat that a tablet may have forgotten is `Unknown`; one that is
//!    refused is refused for ever, and so is its first try, should it still come.
//! 7. What refuses has no effect; what has been given a version is answered `Done` or `Unknown`. So a disk that is
//!    full, of any replica on whom a commit depends, refuses before a version is given.
//!
//! # Reads
//!
//! With leases ([`Reads::Lease`]) a primary, and each in-sync replica for what is clean, answers at once while its
//! lease runs. What counts is the lease that ran when the value was copied, and that it still runs after that: one
//! that was regained in between, in a later epoch, says nothing about the copy. Without ([`Reads::Confirm`]) a
//! primary first asks all members, in rounds that each serve all who wait, and replicas ask the primary.
//!
//! # Comparing
//!
//! Equal logs make equal tables, unless something is broken that no checksum sees. So every `Prepare`, beacons too, has
//! the *digest* of the primary's committed table, and a replica that has committed as much compares it with its own. One
//! that differs says so ([`Output::Differs`]), once, and its shell treats the copy as one that was found damaged. The
//! replica goes on to acknowledge, for its log has what was acknowledged, until the in-sync set does without it; but
//! it answers no reader, and if it is made primary before that, nobody is asked to compare with it. A table that it takes
//! as a whole ends all that. A primary is never told: where two differ, the primary's copy counts.
//!
//! # Leaving in order
//!
//! A node that is asked to resign seals the epoch by itself, and tells the master when it holds no lease: a primary
//! when everything is committed. The next primary then begins at once. Leases that the first one granted may still
//! run at members that have not heard of the new epoch; no commit goes without these members, but if one of them is
//! *removed* before the new primary has begun, its lease is waited for ([`rules::Rules::hand_over_owes`]).
//!
//! # What the simulation shows
//!
//! `tests/simulation` runs the replicas of one or two tablets on two to five nodes, and the production
//! [`crate::master::membership`], through crashes, pauses, suspended machines, stalled, full and replaced disks, lost, late
//! and doubled messages, one-way and partial cuts, resignations, shutdowns, restarts of the master, and clocks that
//! differ by a tenth; where reads are confirmed, clocks that run at 0.3 to 1.7 of their rate or stand still. Clients
//! repeat requests whose first tries are held up; big values are staged, committed, read, overwritten and dropped
//! over two tablets while their writers die. Every rule of [`rules`], and those that the master, the clocks, the readers
//! and the sweepers keep, is caught when it is taken away, by a seed that is kept. Two rules cover one another: the
//! wait before a seal is answered, and the new primary's wait for its own promise; either alone is enough, and both
//! are kept.
//!
//! # Caveats
//!
//! * Of copies that differ nobody knows which is right: not even two against the primary are heard. The copies that are
//!   set aside stay on the disk, for people. What a replica read out before it first compared may have been wrong: that is
//!   one beacon after its start. A process that starts again has forgotten that it differs, and compares anew.
//! * The simulation knows no damaged disks, no eviction of sessions, and no balance of many tablets.
//! * A chunk that is held up on its way for longer than half the grace of the retire list may stay for ever.
//! * A commit waits for every in-sync replica: one that is silent holds up the writes of its tablets until it has been
//!   taken out of the in-sync set, and its last lease has run out.
//! * With leases, a read is current only while the rates of two hosts' clocks differ by less than grace to lease, and
//!   no clock stands still. No acknowledged write depends on a clock.
//! * A DELETEROW of a row with very many cells is one step, at the primary and at each replica.
//! * Each tablet has leases and beacons of its own, though many tablets share the same nodes.
//! * Of a table only the cells may lie on the disk. What is beside them is in memory: the numbers of APPEND, one for each
//!   row and prefix; times to live; values that are being written or removed; sessions.

mod cells;
#[cfg(test)]
mod cells_tests;
mod confirm;
mod digest;
mod epoch;
pub mod execute;
pub mod follow;
pub mod lead;
pub mod message;
pub mod outbox;
pub mod propose;
mod read_back;
pub mod replica;
pub mod rules;
pub mod table;
pub mod wire;
mod write_out;

pub use crate::protocol::entry::Position;
pub use execute::{DiskSpace, Setting};
pub use message::{Ack, Configuration, Message, Nack, Node, Plea, Prepare, Time};
pub use outbox::Outbox;
pub use replica::{Input, Outcome, Output, Proposal, Reads, Replica, Timing, Token};
pub use rules::Rules;
pub use table::Table;
