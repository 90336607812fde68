//! PennCloud: webmail and file storage over its own distributed key-value store.

pub mod account;
pub mod backend;
pub mod balancer;
pub mod client;
pub mod config;
pub mod console;
pub mod drive;
pub mod error;
pub mod frontend;
pub mod http;
pub mod mail;
pub mod master;
pub mod metrics;
pub mod net;
pub mod protocol;
pub mod replication;
pub mod smtp;
pub mod storage;
pub mod tools;
