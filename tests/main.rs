//! All integration tests, in one binary.

mod accounts;
mod attacks;
mod balancer;
mod bench;
mod browser;
mod client;
mod console;
mod crash;
mod disks;
mod drive;
mod files;
#[allow(dead_code, reason = "a toolbox: not every tool is used on every day")]
mod harness;
mod histories;
mod hosts;
mod http;
mod kv;
mod kv_tool;
mod linearizability;
mod mail;
mod master;
mod protocol;
mod proxy;
mod quota;
mod replicas;
mod replication;
mod replication_group;
mod run_sh;
mod simulation;
mod smtp;
mod smtp_session;
mod storage;
mod tidy;
mod volume;
mod web;
mod webmail;
