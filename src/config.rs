//! The cluster's configuration: one TOML file in `conf/` that every process reads.
//!
//! Unknown keys are refused with their line. Sizes end in `_bytes`, times in `_ms` or `_s`.
//! Secrets are not in this file but beside the data (see [`Secrets`]), made by `penncloud format`
//! with mode 0600.

mod http;
mod relay;
mod secrets;
mod smtp;

pub use http::{Http, Scheme};
pub use relay::{Relay, Route};
pub use secrets::Secrets;
pub use smtp::Smtp;

use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest time that can be configured.
const YEAR_MS: u64 = 365 * 24 * 60 * 60 * 1000;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What all processes share.
    pub cluster: Cluster,
    /// Size and time limits of the store.
    #[serde(default)]
    pub store: Store,
    /// How replicas agree.
    #[serde(default)]
    pub replication: Replication,
    /// The master.
    pub master: Master,
    /// Replica groups of backends.
    #[serde(rename = "group")]
    pub groups: Vec<Group>,
    /// Limits of every HTTP listener.
    #[serde(default)]
    pub http: Http,
    /// Accounts of users.
    #[serde(default)]
    pub accounts: Accounts,
    /// HTTP frontends.
    #[serde(rename = "frontend", default)]
    pub frontends: Vec<Frontend>,
    /// SMTP servers.
    #[serde(rename = "smtp", default)]
    pub smtps: Vec<Smtp>,
    /// Balancers.
    #[serde(rename = "balancer", default)]
    pub balancers: Vec<Balancer>,
    /// Admin consoles.
    #[serde(rename = "console", default)]
    pub consoles: Vec<Console>,
}

/// What all processes share.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Directory of all data, one sub-directory a process; relative to the working directory.
    pub data_dir: PathBuf,
    /// Domain of the users' mail addresses.
    pub mail_domain: String,
    /// The user who reads mail to postmaster, which is put off while this is empty or nobody has that name.
    #[serde(default)]
    pub postmaster: String,
    /// Bytes of files and mail that each user may keep; 0: any number.
    #[serde(default = "default_quota")]
    pub quota_bytes: u64,
    /// Who must authenticate to the store: `remote` or `always`.
    #[serde(default)]
    pub auth: Auth,
    /// Lowest level that is logged: `error`, `warn`, `info`, `debug` or `trace`.
    #[serde(default = "default_log")]
    pub log: String,
    /// Where this process reaches others, by their names, when not at their own addresses: through a tunnel.
    #[serde(default)]
    pub via: BTreeMap<String, String>,
}

/// Who must open a store connection with `AUTH`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// Connections from loopback may do without: netcat works.
    #[default]
    Remote,
    /// Every connection must.
    Always,
}

/// Size and time limits of the store.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// Largest value kept in one cell; larger ones are cut into chunks of this size.
    pub cell_bytes: u64,
    /// Largest single value.
    pub value_bytes_max: u64,
    /// Small-value tablets of each group. Fixed once data exists.
    pub small_tablets: u32,
    /// Large-value tablets of each group. Fixed once data exists.
    pub large_tablets: u32,
    /// Size of a preallocated log segment.
    pub segment_bytes: u64,
    /// A checkpoint starts when the log of a tablet has grown by this much.
    pub checkpoint_bytes: u64,
    /// Bytes of a tablet's log that are kept after a checkpoint, for replicas that lag.
    pub log_keep_bytes: u64,
    /// Memory that a backend may take.
    pub memory_limit_bytes: u64,
    /// Bytes of keys and values a tablet may hold before it answers `TABLETFULL`.
    pub tablet_bytes_max: u64,
    /// Free space of an in-sync replica's disk below which all but small writes are refused with `NOSPACE`; below
    /// half of it, all but deletes.
    pub disk_reserve_bytes: u64,
    /// Pause between two rounds in which a backend reads its files, 4 MiB a second, to find damage early.
    pub scrub_ms: u64,
    /// How long a staged value may wait for its COMMIT.
    pub stage_ms: u64,
    /// How long the chunks of an overwritten or deleted value stay for readers that began before.
    pub retire_ms: u64,
    /// How long a request that names no deadline is tried.
    pub request_ms: u64,
    /// Connections of one backend or master; beyond them some are taken from PennCloud's own processes alone.
    pub connections_max: usize,
}

impl Default for Store {
    fn default() -> Store {
        Store {
            cell_bytes: 1 << 20,
            value_bytes_max: 1 << 40,
            small_tablets: 6,
            large_tablets: 3,
            segment_bytes: 16 << 20,
            checkpoint_bytes: 64 << 20,
            log_keep_bytes: 64 << 20,
            memory_limit_bytes: 256 << 20,
            tablet_bytes_max: 64 << 30,
            disk_reserve_bytes: 256 << 20,
            scrub_ms: 60 * 60 * 1000,
            stage_ms: 60 * 60 * 1000,
            retire_ms: 60 * 60 * 1000,
            request_ms: 10_000,
            connections_max: 4096,
        }
    }
}

/// How replicas agree.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Replication {
    /// Fewest in-sync replicas of a tablet with which writes go on.
    pub min_insync: u32,
    /// What a read rests on.
    pub reads: Reads,
    /// How long a replica may answer reads after it was last heard.
    pub lease_ms: u64,
    /// How long a replica waits before it lets another primary begin: more than the lease, by the most that two
    /// hosts' clocks differ in rate.
    pub grace_ms: u64,
    /// Silence after which the primary has a replica taken out of the in-sync set.
    pub silence_ms: u64,
}

impl Default for Replication {
    fn default() -> Replication {
        Replication {
            min_insync: 1,
            reads: Reads::Lease,
            lease_ms: 2000,
            grace_ms: 2500,
            silence_ms: 1000,
        }
    }
}

impl Replication {
    /// Whether a promise outlasts a lease at another host, by the most that two hosts' clocks differ in rate.
    pub fn outlasts(grace_ms: u64, lease_ms: u64) -> bool {
        grace_ms >= lease_ms + lease_ms / 4
    }
}

/// What a read rests on.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Reads {
    /// A lease: any replica answers by itself. Hosts' clocks may differ in rate by a tenth.
    #[default]
    Lease,
    /// A round to all in-sync replicas for each batch of reads: no clock matters.
    Confirm,
}

impl Reads {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Reads::Lease => "lease",
            Reads::Confirm => "confirm",
        }
    }

    /// What a word stands for.
    pub fn parse(word: &str) -> Option<Reads> {
        [Reads::Lease, Reads::Confirm].into_iter().find(|reads| reads.word() == word)
    }
}

/// The master.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Master {
    /// Name of the process.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// Time between two heartbeats to a backend.
    #[serde(default = "default_heartbeat_interval")]
    pub heartbeat_interval_ms: u64,
    /// Silence after which a backend is taken for dead.
    #[serde(default = "default_heartbeat_timeout")]
    pub heartbeat_timeout_ms: u64,
}

/// A replica group.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Name of the group: letters and digits.
    pub name: String,
    /// Its backends.
    #[serde(rename = "backend")]
    pub backends: Vec<Backend>,
}

/// One storage node.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// Name of the process, unique in the cluster.
    pub name: String,
    /// Where it listens.
    pub address: String,
}

/// Accounts of users.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Accounts {
    /// Addresses from which any number of sign-ins and sign-ups is heard; all others have 20 a minute.
    pub throttle_exempt: Vec<IpAddr>,
    /// How long nobody can take the name of a deleted account.
    pub address_rest_s: u64,
}

impl Default for Accounts {
    fn default() -> Accounts {
        Accounts {
            throttle_exempt: vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            address_rest_s: 30 * 24 * 3600,
        }
    }
}

/// An HTTP frontend.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frontend {
    /// Name of the process.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// `host:port` by which browsers reach it; the address itself unless told.
    pub advertise: Option<String>,
    /// Who may sign up.
    #[serde(default)]
    pub signup: SignUp,
}

/// Who may make an account.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum SignUp {
    /// Anybody.
    #[default]
    Open,
    /// Who has an invitation (`penncloud invite`).
    Invite,
    /// Nobody.
    Closed,
}

impl Frontend {
    /// `host:port` by which browsers reach this frontend.
    pub fn advertised(&self) -> &str {
        self.advertise.as_deref().unwrap_or(&self.address)
    }
}

/// A balancer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Balancer {
    /// Name of the process.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// Time between two pings to each frontend.
    #[serde(default = "default_ping")]
    pub ping_interval_ms: u64,
}

/// An admin console.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Console {
    /// Name of the process.
    pub name: String,
    /// Where it listens.
    pub address: String,
}

fn default_quota() -> u64 {
    10_000_000_000
}
fn default_log() -> String {
    "info".into()
}
fn default_heartbeat_interval() -> u64 {
    300
}
fn default_heartbeat_timeout() -> u64 {
    1500
}
fn default_ping() -> u64 {
    2000
}

impl Config {
    /// Reads and checks a configuration file. The error names the file, and the line where there is one.
    pub fn load(path: &Path) -> Result<Config> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            Error::config(format!("cannot read the configuration {}: {e}", path.display()))
        })?;
        Config::parse(&text).map_err(|e| Error::config(format!("{}: {e}", path.display())))
    }

    /// Parses and checks the text of a configuration file.
    pub fn parse(text: &str) -> Result<Config> {
        let config: Config =
            toml::from_str(text).map_err(|e| Error::config(e.to_string().trim_end()))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        self.check_processes()?;
        self.check_groups()?;
        self.check_store()?;
        self.check_times()?;
        self.check_replication()?;
        self.http.check()?;
        self.smtps.iter().try_for_each(Smtp::check)?;
        if self.master.heartbeat_timeout_ms <= self.master.heartbeat_interval_ms {
            return Err(Error::config(
                "master.heartbeat_timeout_ms must be more than heartbeat_interval_ms",
            ));
        }
        Ok(())
    }

    /// A promise outlives the leases that rest on it even if one clock runs 11 % faster than the other.
    fn check_replication(&self) -> Result<()> {
        let replication = &self.replication;
        if replication.min_insync == 0 {
            return Err(Error::config("replication.min_insync must be at least 1"));
        }
        if self.groups.iter().any(|g| g.backends.len() < replication.min_insync as usize) {
            return Err(Error::config("replication.min_insync is more than a group has backends"));
        }
        if !Replication::outlasts(replication.grace_ms, replication.lease_ms) {
            return Err(Error::config(
                "replication.grace_ms must be at least 1.25 times replication.lease_ms",
            ));
        }
        Ok(())
    }

    /// No time may be 0, nor longer than a year: clocks are added to it.
    fn check_times(&self) -> Result<()> {
        let (store, master, replication) = (&self.store, &self.master, &self.replication);
        let http = &self.http;
        let relays = self.smtps.iter().flat_map(|smtp| smtp.relay.times());
        let all = [
            ("http.head_ms", http.head_ms),
            ("http.form_ms", http.form_ms),
            ("http.idle_ms", http.idle_ms),
            ("http.stall_ms", http.stall_ms),
            ("store.scrub_ms", store.scrub_ms),
            ("store.stage_ms", store.stage_ms),
            ("store.retire_ms", store.retire_ms),
            ("store.request_ms", store.request_ms),
            ("replication.lease_ms", replication.lease_ms),
            ("replication.grace_ms", replication.grace_ms),
            ("replication.silence_ms", replication.silence_ms),
            ("master.heartbeat_interval_ms", master.heartbeat_interval_ms),
            ("master.heartbeat_timeout_ms", master.heartbeat_timeout_ms),
            ("accounts.address_rest_s", self.accounts.address_rest_s.saturating_mul(1000)),
        ];
        for (name, ms) in all.into_iter().chain(relays) {
            if !(1..=YEAR_MS).contains(&ms) {
                return Err(Error::config(format!("{name} must lie between 1 ms and a year")));
            }
        }
        Ok(())
    }

    fn check_processes(&self) -> Result<()> {
        let mut seen = BTreeSet::new();
        for (name, ..) in self.processes() {
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                return Err(Error::config(format!(
                    "the process name {name:?} may hold letters, digits and - only"
                )));
            }
            if !seen.insert(name.to_string()) {
                return Err(Error::config(format!("two processes are named {name:?}")));
            }
        }
        self.check_addresses()
    }

    /// Every listener has an address of its own.
    fn check_addresses(&self) -> Result<()> {
        let main = self.processes().into_iter().map(|(_, _, address)| address);
        let others = self.smtps.iter().flat_map(Smtp::other_listeners).map(|(_, address)| address);
        let mut seen = BTreeSet::new();
        for address in main.chain(others) {
            if !seen.insert(address) {
                return Err(Error::config(format!("two processes have the address {address}")));
            }
            resolve(address)?;
        }
        Ok(())
    }

    /// A group's name is part of the names of its tablets, and they of directories.
    fn check_groups(&self) -> Result<()> {
        if self.groups.is_empty() || self.groups.iter().any(|g| g.backends.is_empty()) {
            return Err(Error::config("every group needs a backend, and the cluster a group"));
        }
        let mut seen = BTreeSet::new();
        for name in self.groups.iter().map(|group| group.name.as_str()) {
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
                return Err(Error::config(format!(
                    "the group name {name:?} may hold letters and digits only"
                )));
            }
            if !seen.insert(name) {
                return Err(Error::config(format!("two groups are named {name:?}")));
            }
        }
        Ok(())
    }

    fn check_store(&self) -> Result<()> {
        let store = &self.store;
        if store.small_tablets == 0 || store.large_tablets == 0 {
            return Err(Error::config(
                "store.small_tablets and store.large_tablets must be at least 1",
            ));
        }
        if !(1024..=(4 << 20)).contains(&store.cell_bytes) {
            return Err(Error::config("store.cell_bytes must lie between 1 KiB and 4 MiB"));
        }
        if store.segment_bytes < 1 << 20 {
            return Err(Error::config("store.segment_bytes must be at least 1 MiB"));
        }
        let least = (128 * store.cell_bytes).max(64 << 20);
        if store.memory_limit_bytes < least {
            return Err(Error::config(format!(
                "store.memory_limit_bytes must be at least {} MiB with cells of {} bytes",
                least >> 20,
                store.cell_bytes
            )));
        }
        Ok(())
    }

    /// Every process: name, role and main address, in the order in which they start.
    pub fn processes(&self) -> Vec<(&str, &'static str, &str)> {
        let mut all = vec![(self.master.name.as_str(), "master", self.master.address.as_str())];
        all.extend(self.backends().map(|b| (b.name.as_str(), "backend", b.address.as_str())));
        all.extend(
            self.frontends.iter().map(|p| (p.name.as_str(), "frontend", p.address.as_str())),
        );
        all.extend(self.smtps.iter().map(|p| (p.name.as_str(), "smtp", p.exchange.as_str())));
        all.extend(
            self.balancers.iter().map(|p| (p.name.as_str(), "balancer", p.address.as_str())),
        );
        all.extend(self.consoles.iter().map(|p| (p.name.as_str(), "console", p.address.as_str())));
        all
    }

    /// All backends of all groups.
    pub fn backends(&self) -> impl Iterator<Item = &Backend> {
        self.groups.iter().flat_map(|g| &g.backends)
    }

    /// The directory of one process's data.
    pub fn data_dir(&self, name: &str) -> PathBuf {
        self.cluster.data_dir.join(name)
    }

    /// The cluster's secrets, as made by `penncloud format`.
    pub fn secrets(&self) -> Result<Secrets> {
        Secrets::load(&self.cluster.data_dir)
    }

    /// Where this process reaches another, which has this address.
    pub fn via<'a>(&'a self, name: &str, address: &'a str) -> &'a str {
        self.cluster.via.get(name).map_or(address, String::as_str)
    }

    /// Where this process reaches the master.
    pub fn master_address(&self) -> &str {
        self.via(&self.master.name, &self.master.address)
    }

    /// How long a store request that names no deadline is tried.
    pub fn request_time(&self) -> Duration {
        Duration::from_millis(self.store.request_ms)
    }
}

/// Turns `host:port` into an address, or says what is wrong with it.
fn resolve(address: &str) -> Result<SocketAddr> {
    address
        .to_socket_addrs()
        .map_err(|e| Error::config(format!("the address {address:?} is not host:port: {e}")))?
        .next()
        .ok_or_else(|| Error::config(format!("the address {address:?} has no IP address")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = include_str!("../conf/local.toml");

    #[test]
    fn the_local_cluster_shows_every_default() {
        let config = Config::parse(LOCAL).unwrap();
        assert_eq!(config.processes().len(), 12);
        let (store, http) = (Store::default(), Http::default());
        let limits = format!("{:?} {:?} {:?}", config.store, config.http, config.accounts);
        assert_eq!(limits, format!("{store:?} {http:?} {:?}", Accounts::default()));
        assert_eq!(format!("{:?}", config.smtps[0].relay), format!("{:?}", Relay::default()));
        assert_eq!(config.cluster.quota_bytes, default_quota());
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let text = LOCAL.replace("log = \"info\"", "log = \"info\"\ncolour = \"red\"");
        let line = text.lines().position(|l| l.starts_with("colour")).unwrap() + 1;
        let error = Config::parse(&text).unwrap_err().to_string();
        assert!(error.contains(&format!("line {line}")) && error.contains("colour"), "{error}");
    }

    #[test]
    fn what_cannot_work_is_refused_with_a_sentence() {
        for (was, is, says) in [
            ("name = \"a2\"", "name = \"a1\"", "two processes are named \"a1\""),
            ("127.0.0.1:5102", "127.0.0.1:5101", "two processes have the address 127.0.0.1:5101"),
            (
                "name = \"a2\"",
                "name = \"a/2\"",
                "the process name \"a/2\" may hold letters, digits and - only",
            ),
            ("127.0.0.1:5102", "nowhere", "the address \"nowhere\" is not host:port"),
            ("name = \"b\"", "name = \"a\"", "two groups are named \"a\""),
            (
                "name = \"b\"",
                "name = \"b/2\"",
                "the group name \"b/2\" may hold letters and digits only",
            ),
            ("small_tablets = 6", "small_tablets = 0", "must be at least 1"),
            ("tls_key = \"\"", "tls_key = \"k\"", "http.tls_cert and http.tls_key belong together"),
            (
                "\"data/smtp-key.pem\"",
                "\"\"",
                "tls_cert and tls_key of the smtp s1 belong together",
            ),
            ("127.0.0.1:2465", "127.0.0.1:2525", "two processes have the address 127.0.0.1:2525"),
            ("min_insync = 1", "min_insync = 4", "is more than a group has backends"),
            ("cell_bytes = 1048576", "cell_bytes = 1", "store.cell_bytes must lie between"),
            (
                "heartbeat_timeout_ms = 1500",
                "heartbeat_timeout_ms = 300",
                "must be more than heartbeat_interval_ms",
            ),
        ] {
            assert!(LOCAL.contains(was), "{was}");
            let error = Config::parse(&LOCAL.replacen(was, is, 1)).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
