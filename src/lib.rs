//! PennCloud: webmail and file storage over its own distributed key-value store.
//!
//! One program, one role a process, one OS thread a connection. This is the tour; each folder's `mod.rs`
//! holds its own design.
//!
//! ```text
//! browser ──HTTP──▶ balancer ──303──▶ frontend ─┐
//! mail hosts ──SMTP──▶ smtp ────────────────────┼──text──▶ backends a1 a2 a3   (group a)
//! operator ──HTTP──▶ console ───────────────────┘     └──▶ backends b1 b2 b3   (group b)
//!                       └──▶ master ── heartbeats ──▶ every backend
//! ```
//!
//! All rows of an owner lie in one tablet of one group. Every backend of the group has a replica of it; one of
//! them, the primary, orders the writes, and an acknowledged write is on the disk of every replica in sync. Any
//! backend answers reads. When a primary dies, a replica that has everything takes its place.
//!
//! # Layers
//!
//! Imports go down only; a test reads the source and enforces it.
//!
//! | layer | modules | what is there |
//! |---|---|---|
//! | 1 | [`net`], [`config`] | sockets and threads; the configuration file |
//! | 2 | [`protocol`], [`http`] | what is said on the wire |
//! | 3 | [`storage`], [`replication`], [`master`] (its pure part) | a tablet on disk; a tablet's replica; membership |
//! | 4 | [`backend`], [`master`] (its server), [`client`] | nodes, and how to reach them |
//! | 5 | [`quota`] | how much a user may keep |
//! | 6 | [`mail`], [`drive`], [`account`] | mailboxes, files, users |
//! | 7 | [`smtp`] | mail from and to other hosts, and from our users' programs |
//! | 8 | [`frontend`], [`console`], [`balancer`] | web pages |
//! | 9 | [`tools`], `main` | the command line |
//!
//! What is absent matters as much: `storage` knows no socket; `replication` knows no file and no clock;
//! `http` knows nothing of mail; frontends and smtp reach data through `client` alone; the master is never
//! on the path of a read or a write.
//!
//! # Where to begin
//!
//! A write from the outside in: [`protocol`], [`client`], [`backend`], [`replication`], [`storage`]. A failover:
//! [`master`], then [`replication`]. A page:
//! [`http`], [`frontend`], [`drive`]. A message: [`smtp`], [`mail`].

#![allow(rustdoc::private_intra_doc_links, reason = "the design pages lead to private modules too")]

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
pub mod net;
pub mod protocol;
pub mod quota;
pub mod replication;
pub mod smtp;
pub mod storage;
pub mod tools;
