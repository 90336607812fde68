//! One tablet's replica, pure: no socket, file, thread or clock.

pub mod execute;
pub mod replica;
pub mod table;

pub use execute::Setting;
pub use replica::{Configuration, Input, Outcome, Output, Proposal, Replica, Token};
pub use table::Table;
