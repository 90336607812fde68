//! Mail for other hosts: the client against hosts of every kind, DNS of every kind, and the queue of real processes.

mod cluster;
mod hosts;
mod names;
