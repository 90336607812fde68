//! The text protocol of the store.

pub mod auth;
pub mod cell;
pub mod chunks;
pub mod cluster;
pub mod command;
pub mod connection;
pub mod entry;
pub mod reply;
pub mod wire;
pub mod word;
