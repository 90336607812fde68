//! One tablet's replica, pure: no socket, file, thread or clock.
//!
//! [`Replica::step`] takes an [`Input`] and returns [`Output`]s to be performed in their order. A node
//! drives it with threads and a disk, tests drive it with a script: what is tested is what runs.
//!
//! # Terms
//!
//! * *Version*: the tablet's version number, one more with every entry of its log. *Epoch*: the reign of a
//!   primary, given by the master, one more with every change. (epoch, version) names an entry for ever.
//! * *Prepared*: has a version, and is being made durable. *Committed*: durable on every in-sync replica.
//! * *Barrier*: the entry without effect with which a primary begins its epoch. Nothing is served before it
//!   is committed: until then the log may hold writes that were acknowledged in an earlier epoch.
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
//!             Append entry (epoch, version, effects, answer) ─── the shell writes and syncs ───▶ Persisted
//!                                                                                                  │
//!             Publish the table after it, then Answer  ◀───────────────────────────────────────────┘
//! ```
//!
//! [`execute`] decides what a request does; the log holds the *effects*, so that whoever applies them gets
//! the same [`Table`], whatever its clock says. The table after each prepared entry is kept beside it: a
//! [`Table`] is a set of persistent maps, so a copy shares everything that did not change.
//!
//! # Invariants
//!
//! 1. Versions rise by one; an entry names the epoch of the one before.
//! 2. Nothing is answered before what it depends on is committed: neither a write, nor a failed condition,
//!    which is a read of what was prepared.
//! 3. A restarted replica serves nothing until the master gives it a newer epoch.
//! 4. A request that has a name executes once. A repeat that a tablet may have forgotten is `Unknown`.
//! 5. What refuses has no effect; what has been given a version is answered `Done` or `Unknown`.
//!
//! # Caveats
//!
//! * The in-sync set is the primary alone: entries commit when its own disk has them. The messages between
//!   replicas, leases and sealing are not here yet.
//! * A tablet's cells are all in memory.

pub mod execute;
pub mod replica;
pub mod table;

pub use execute::Setting;
pub use replica::{Configuration, Input, Outcome, Output, Proposal, Replica, Token};
pub use table::Table;
