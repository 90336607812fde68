//! All integration tests, in one binary.

#[allow(dead_code, unused_imports, reason = "a toolbox: not every tool is used on every day")]
mod harness;
mod http;
mod mail;
mod master;
mod protocol;
mod replication;
mod storage;
mod smtp_session;
