//! The text protocol of the store.

pub mod auth;
pub mod cell;
pub mod cluster;
pub mod command;
pub mod entry;
pub mod reply;
pub mod wire;
pub mod word;
