//! `penncloud bench`: how much a running cluster does, beside what its machine allows.
//!
//! First the machine's limits are measured: fdatasyncs of the disk that holds the data, round trips and
//! bytes of loopback TCP. Then one *case* after another runs for a fixed time with a number of
//! connections, each sending its next request when it has the answer to the one before. The table gives
//! for each case requests and bytes a second, the median and the 99th percentile of the time a request
//! took, and the share of the limit that applies: a write cannot be faster than its sync (but
//! many at once share one), a large value not faster than the network, a page not faster than a round trip.
//!
//! * [`limits`]: what the machine allows. [`load`]: runs a case. [`table`]: prints.
//! * [`kv`], [`web`], [`smtp`]: the cases.
//!
//! Four more measurements start processes of their own, in a new directory that goes with them:
//!
//! * [`replicated`] (`penncloud bench kv`): PUT and GET of 100 B, 10 KB and 1 MB by 1, 16 and 64 connections, in
//!   one group of three backends that sync every write, and in the same run in three members of etcd and three
//!   servers of Redis, where these are installed. Each case runs in all stores before the next, so that they share
//!   the machine's moods; what counts is the ratio.
//! * [`volume`] (`penncloud bench store`): a million small cells and a value of a gigabyte with little memory: how fast they
//!   are written and read, how often they are written again, and how a node starts that holds them.
//! * [`mod@http`] (`penncloud bench http`): a small file, a redirect and an inbox by 1 to 1,000 connections, kept or new
//!   for each request, beside nginx and a bare loop of a thread a connection ([`bare`]).
//! * [`failover`] (`penncloud bench failover`): how long a writer and a reader wait when the primary of their tablet
//!   is killed with SIGKILL, and when the master takes it out of service. Many runs, and their distribution.
//!
//! [`children`] are such processes, [`group`] is ours, [`store`] is what all stores have to do, [`etcd`] (over
//! [`grpc`]), [`redis`] and [`nginx`] are the others.
//!
//! Where the time goes, other tools show while `penncloud bench kv --only "PUT 100 B, 16" --seconds 60` runs:
//! `strace -f -c -p <pid>` counts a node's system calls, `perf record -g -p <pid>` samples its processor time, and
//! `/proc/diskstats` counts what reaches the disk (`/proc/<pid>/io` counts whole page groups where only a block is
//! written).
//!
//! # Caveats
//!
//! * It runs beside the cluster, on the same processors: what it takes itself is missing from the results.
//! * Requests wait for answers, so a stall delays those behind it without being counted for each of them.
//! * It makes an account and rows of its own, and removes their cells at the end.
//! * All nodes of the stores that `bench kv` compares share this machine's disk and processors with one another and
//!   with the load: with machines of their own all rates are others.
//! * A bench that is killed with SIGKILL leaves its processes and its directory.

pub mod bare;
mod children;
mod etcd;
pub mod failover;
mod group;
mod grpc;
pub mod http;
mod kv;
mod limits;
mod load;
mod nginx;
mod redis;
pub mod replicated;
mod smtp;
mod store;
mod table;
pub mod volume;
mod web;

use crate::client::Client;
use crate::config::Config;
use crate::error::Result;
use indicatif::{ProgressBar, ProgressStyle};
use limits::Limits;
use load::{Load, Measured};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;
use table::Row;

/// Bytes in flight at once where nothing less is asked for.
const FLIGHT_BYTES_MAX: u64 = 64 << 20;

/// Bytes that one case moves at most: overwritten big values stay on disk for a while.
const CASE_BYTES_MAX: u64 = 512 << 20;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long each case runs.
    pub time: Duration,
    /// Bytes in flight at once: the largest product of value size and connections that is measured.
    pub flight_bytes_max: u64,
}

/// What is measured beside other programs, and where.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The program `penncloud`, of which the processes are started.
    pub program: PathBuf,
    /// A directory on the disk that is measured; a new one in it holds all data, and is removed.
    pub dir: PathBuf,
    /// How long each case runs.
    pub time: Duration,
    /// Only cases whose name holds this text.
    pub only: String,
}

impl Settings {
    /// Everything, for so long each.
    pub fn full(time: Duration) -> Settings {
        Settings { time, flight_bytes_max: FLIGHT_BYTES_MAX }
    }
}

/// What the cases share while they run.
struct Bench<'a> {
    config: &'a Config,
    client: Client,
    settings: &'a Settings,
    limits: Limits,
    /// Tells the rows and the account of this run from all others.
    run: String,
    bar: ProgressBar,
    rows: Vec<Row>,
}

/// What a case is compared with.
#[derive(Clone, Copy, Debug)]
enum Against {
    Syncs,
    RoundTrips,
    Bandwidth,
}

/// Measures a running cluster, and prints a table.
pub fn run(config: &Config, settings: &Settings, out: &mut dyn Write) -> Result<()> {
    let mut run = uuid::Uuid::new_v4().simple().to_string();
    run.truncate(12);
    let client = Client::new(config)?;
    kv::check(&client, &run)?;
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}");
    let bar = ProgressBar::new(CASES).with_style(style.expect("the template is right"));
    bar.set_message("what the machine allows");
    let limits = Limits::measure(&config.cluster.data_dir, settings.time)?;
    let mut bench = Bench { config, client, settings, limits, run, bar, rows: Vec::new() };
    kv::run(&mut bench);
    web::run(&mut bench);
    bench.bar.finish_and_clear();
    table::print(&bench.limits, &bench.rows, out)
}

/// About how many cases there are, for the progress bar.
const CASES: u64 = 44;

impl Bench<'_> {
    /// Runs one case and keeps its row. Values too large for the settings or for memory are left out.
    fn case<W: FnMut() -> Result<u64>>(
        &mut self,
        name: &str,
        (connections, bytes): (usize, u64),
        against: Against,
        worker: impl Fn(usize) -> Result<W> + Sync,
    ) {
        self.bar.inc(1);
        if bytes * connections as u64 > self.settings.flight_bytes_max {
            return;
        }
        self.bar.set_message(format!("{name}, {connections} connections"));
        let load = Load { connections, time: self.settings.time, bytes_max: CASE_BYTES_MAX };
        let measured = load::measure(&load, worker);
        let share = self.limits.share(against, &measured);
        self.rows.push(Row { name: name.into(), connections, measured, share });
    }

    /// Keeps a row for what could not be measured.
    fn skipped(&mut self, name: &str, why: crate::error::Error) {
        let measured = Measured::failed(why);
        self.rows.push(Row { name: name.into(), connections: 0, measured, share: String::new() });
    }
}
