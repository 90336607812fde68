//! What the operator's commands do: [`mod@format`] makes a cluster's secrets, [`processes`] lists what has to
//! be started, [`logfile`] keeps a process's log within bounds. `run.sh` is built on these three. [`kv`] is the store's
//! client for people and scripts, [`invite`] makes codes for signing up, [`cert`] makes a certificate for trying, [`fsck`]
//! checks what a stopped node has on disk, and [`mod@bench`] measures a running
//! cluster.

pub mod bench;
pub mod cert;
pub mod format;
pub mod fsck;
pub mod invite;
pub mod kv;
pub mod logfile;
pub mod processes;
