//! `penncloud bench store`: how a group carries much data. Cells by the million, values by the gigabyte, with little
//! memory; what that costs in reads, in bytes written again, and in the time that a node takes to start.
//!
//! Each figure stands beside one of the same run: reads beside a PING by as many connections, values beside what the
//! disk takes in one file, synced in pieces. All three replicas write to that disk, each its log and its values.

use super::group::Group;
use super::limits::sequential_write;
use super::load::{self, Load, Measured};
use super::store::{PATIENCE, connect, primary};
use super::table::{duration, numbers, size};
use crate::client::{Client, Op, Scan, Written};
use crate::error::{Error, Result};
use crate::protocol::cluster::{Report, StorageReport};
use crate::protocol::command::{Command, Peer, Request};
use crate::protocol::reply::Reply;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes of a small cell's value.
const VALUE_BYTES: usize = 100;
/// Cells of one row, and of one BATCH.
const ROW_CELLS: u64 = 100;
/// Rows that are read again and again.
const HOT_ROWS: u64 = 16;
/// Connections.
const CONNECTIONS: usize = 16;
/// The column of the large value.
const COLUMN: &str = "value";
/// The row of the large value.
const LARGE_ROW: &str = "large/value";

/// What is measured, and where.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program `penncloud`, of which the nodes are started.
    pub program: PathBuf,
    /// Directory for the nodes' data.
    pub dir: PathBuf,
    /// Small cells that are loaded, and how often each is overwritten afterwards.
    pub cells: u64,
    /// See `cells`.
    pub overwrites: u64,
    /// Bytes of the large value.
    pub large_bytes: u64,
    /// Memory of each node.
    pub memory_limit_bytes: u64,
    /// How long each case of reads runs.
    pub time: Duration,
}

struct Bench<'a> {
    settings: &'a Settings,
    group: Group,
    client: Client,
    out: &'a mut dyn Write,
}

/// Starts a group, fills it, and prints what that came to.
pub fn run(settings: &Settings, out: &mut dyn Write) -> Result<()> {
    let limit = settings.memory_limit_bytes;
    let group = Group::start_with(
        &settings.program,
        &settings.dir,
        &format!("[store]\nmemory_limit_bytes = {limit}\n"),
    )?;
    let client = Client::new(group.config())?;
    let mut bench = Bench { settings, group, client, out };
    bench.small_cells()?;
    bench.reads()?;
    bench.large_value()?;
    bench.start_up()?;
    bench.resident()
}

impl Bench<'_> {
    fn say(&mut self, what: &str, said: &str) -> Result<()> {
        Ok(writeln!(self.out, "{what:34} {said}")?)
    }

    /// Loads the cells, overwrites them by chance, and says what was written for that.
    fn small_cells(&mut self) -> Result<()> {
        let rows = (self.settings.cells / ROW_CELLS).max(1);
        let (next, total) = (AtomicU64::new(0), rows * (1 + self.settings.overwrites));
        let began = Instant::now();
        let loaded = AtomicU64::new(0);
        let load = Load { connections: CONNECTIONS, time: Duration::MAX, bytes_max: u64::MAX };
        let client = &self.client;
        let written = load::measure(&load, |_| {
            let (client, next, loaded) = (client.clone(), &next, &loaded);
            Ok(move || {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= total {
                    return Err(Error::retry(DONE));
                }
                if n == rows {
                    loaded.store(began.elapsed().as_micros() as u64, Ordering::Relaxed);
                }
                let row = if n < rows { n } else { scatter(n) % rows };
                write_row(&client, row, n)
            })
        });
        check_done(&written)?;
        let cells = written.times.len() as u64 * ROW_CELLS;
        let seconds = written.elapsed.as_secs_f64();
        self.say(
            &format!("write {cells} cells of {VALUE_BYTES} B"),
            &format!("{:.0} a second, in batches of {ROW_CELLS}", cells as f64 / seconds),
        )?;
        let StorageReport { logged, flushed, merged, .. } = self.storage()?;
        let user = written.bytes * 3;
        let ratio = |bytes: u64, of: u64| bytes as f64 / of.max(1) as f64;
        self.say(
            "written for each byte of the log",
            &format!(
                "{:.2} by checkpoints, {:.2} by merges; the log itself has {:.2} for each byte of names and values",
                ratio(flushed, logged),
                ratio(merged, logged),
                ratio(logged, user)
            ),
        )
    }

    fn reads(&mut self) -> Result<()> {
        let (rows, time) = ((self.settings.cells / ROW_CELLS).max(1), self.settings.time);
        let (group, client) = (&self.group, &self.client);
        let ping = case(time, |_| {
            let mut connection = connect(group, &group.addresses()[0])?;
            let ping = Request::new(Command::Ping);
            Ok(move || {
                connection.set_deadline(Instant::now() + PATIENCE);
                connection.call(&ping).map(|_| 0)
            })
        })?;
        let hot = case(time, |number| getter(group, number, HOT_ROWS.min(rows)))?;
        let cold = case(time, |number| getter(group, number, rows))?;
        let scan = case(time, |number| {
            let (client, mut n) = (client.clone(), number as u64);
            Ok(move || {
                n = scatter(n);
                scan_row(&client, &name(n % rows))
            })
        })?;
        self.say("PING", &numbers(&ping))?;
        for (what, got) in [("GET in memory", hot), ("GET anywhere", cold)] {
            let share = 100.0 * got.rate() / ping.rate();
            self.say(what, &format!("{}  {share:.0} % of PING", numbers(&got)))?;
        }
        self.say(&format!("SCAN of {ROW_CELLS} cells, anywhere"), &numbers(&scan))
    }

    /// Writes and reads one large value, and a range of it.
    fn large_value(&mut self) -> Result<()> {
        let bytes = self.settings.large_bytes;
        let disk = sequential_write(&self.settings.dir, bytes.min(1 << 30))?;
        self.say("the disk, one file", &format!("{:.0} MB/s", disk / 1e6))?;
        let began = Instant::now();
        let uploaded = self.client.upload(LARGE_ROW, &mut Pattern(bytes), u64::MAX)?;
        self.client.write(uploaded.into_op(LARGE_ROW, COLUMN, None))?;
        let put = bytes as f64 / began.elapsed().as_secs_f64();
        let what = size(bytes);
        self.say(
            &format!("PUT {what}"),
            &format!(
                "{:.0} MB/s, {:.0} % of the disk's for three logs, {:.0} % with the values",
                put / 1e6,
                300.0 * put / disk,
                600.0 * put / disk
            ),
        )?;
        let (got, first) = self.read_large(0, bytes)?;
        let rate = got as f64 / first.as_secs_f64();
        self.say(&format!("GET {what}"), &format!("{:.0} MB/s", rate / 1e6))?;
        let (_, time) = self.read_large(bytes / 2, 1000.min(bytes))?;
        self.say(&format!("GET 1 KB in the middle of {what}"), &duration(time))
    }

    fn read_large(&self, offset: u64, length: u64) -> Result<(u64, Duration)> {
        let began = Instant::now();
        let value = self.client.open(LARGE_ROW, COLUMN, offset, Some(length))?;
        let mut value = value.ok_or_else(|| Error::corrupt("the value is gone"))?;
        let got = std::io::copy(&mut value, &mut std::io::sink())?;
        match got == length {
            true => Ok((got, began.elapsed())),
            false => Err(Error::corrupt(format_args!("{got} bytes of {length}"))),
        }
    }

    /// Kills a node, and starts it again.
    fn start_up(&mut self) -> Result<()> {
        let (name, address) = primary(&self.group, LARGE_ROW)?;
        let held = self.report(&address)?;
        self.group.kill(&name)?;
        let began = Instant::now();
        self.group.launch_backend(&name)?;
        self.group.await_answer(&address)?;
        let answers = began.elapsed();
        self.group.await_whole()?;
        let cells: u64 = held.tablets.iter().map(|tablet| tablet.cells).sum();
        self.say(
            &format!("start of a node with {cells} cells"),
            &format!(
                "{} until it answers, {} until it is in sync; {} on its disk",
                duration(answers),
                duration(began.elapsed()),
                size(held.storage.disk)
            ),
        )
    }

    fn resident(&mut self) -> Result<()> {
        let most = ["a1", "a2", "a3"].map(|name| self.group.most_resident(name).unwrap_or(0));
        let limit = size(self.settings.memory_limit_bytes);
        let most = most.map(|bytes| format!("{} MiB", bytes >> 20)).join(", ");
        self.say(&format!("most resident, of {limit}"), &most)
    }

    /// What all nodes together hold and have written.
    fn storage(&self) -> Result<StorageReport> {
        self.group.addresses().iter().try_fold(StorageReport::default(), |mut sum, address| {
            let StorageReport { logged, flushed, merged, disk, .. } = self.report(address)?.storage;
            sum.logged += logged;
            sum.flushed += flushed;
            sum.merged += merged;
            sum.disk += disk;
            Ok(sum)
        })
    }

    fn report(&self, address: &str) -> Result<Report> {
        let words = vec![b"0".to_vec()];
        let peer = Peer { verb: "@BEAT".into(), words, payload: Vec::new() };
        match connect(&self.group, address)?.call(&Request::new(Command::Peer(peer)))? {
            Reply::Peer { payload, .. } => serde_json::from_slice(&payload).map_err(Error::corrupt),
            other => Err(Error::corrupt(format_args!("a strange answer to @BEAT: {other:?}"))),
        }
    }
}

/// Runs a case of reads.
fn case<W: FnMut() -> Result<u64>>(
    time: Duration,
    worker: impl Fn(usize) -> Result<W> + Sync,
) -> Result<Measured> {
    let load = Load { connections: CONNECTIONS, time, bytes_max: u64::MAX };
    let measured = load::measure(&load, worker);
    measured.fault.clone().map_or(Ok(measured), Err)
}

/// Reads cells of some rows by chance, from the nodes in turn.
fn getter(group: &Group, number: usize, rows: u64) -> Result<impl FnMut() -> Result<u64> + use<>> {
    let addresses = group.addresses();
    let mut connection = connect(group, &addresses[number % addresses.len()])?;
    let (mut n, mut value) = (number as u64, vec![0; VALUE_BYTES + 1]);
    Ok(move || {
        n = scatter(n);
        let (row, column) = (name(n % rows).into(), cell(n / rows % ROW_CELLS).into());
        let get =
            Command::Get { row, column, offset: 0, length: None, if_version: None, local: false };
        connection.set_deadline(Instant::now() + PATIENCE);
        match connection.call(&Request::new(get))? {
            Reply::Value { len, .. } if len == VALUE_BYTES as u64 => {
                connection.reader().read_exact(&mut value)?;
                Ok(len)
            }
            Reply::Error(error) => Err(error),
            other => Err(Error::corrupt(format_args!("a GET was answered {other:?}"))),
        }
    })
}

/// Reads a row with its values; their bytes.
fn scan_row(client: &Client, row: &str) -> Result<u64> {
    let scan = Scan {
        row: row.into(),
        prefix: Vec::new(),
        after: None,
        limit: ROW_CELLS as usize,
        reverse: false,
        values: true,
        local: false,
    };
    let (columns, _) = client.scan(scan)?;
    Ok(columns.iter().map(|column| column.len).sum())
}

/// Why a worker ends that has nothing more to do.
const DONE: &str = "all is written";

/// A measurement ends well when its workers have nothing more to do.
fn check_done(measured: &Measured) -> Result<()> {
    match &measured.fault {
        Some(Error::Retry(why)) if why == DONE => Ok(()),
        Some(error) => Err(error.clone()),
        None => Ok(()),
    }
}

/// Bytes of a large value that no file holds.
struct Pattern(u64);

impl Read for Pattern {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.0.min(buffer.len() as u64);
        let (step, left) = (8, self.0);
        let words = buffer[..n as usize].chunks_mut(step).enumerate();
        words.for_each(|(i, word)| {
            let bytes = scatter(left - (i * step) as u64).to_le_bytes();
            word.copy_from_slice(&bytes[..word.len()]);
        });
        self.0 -= n;
        Ok(n as usize)
    }
}

/// Writes all cells of a row in one BATCH; the bytes of names and values.
fn write_row(client: &Client, row: u64, generation: u64) -> Result<u64> {
    let (row, mut bytes) = (name(row), 0);
    let items = (0..ROW_CELLS).map(|n| {
        let (column, mut value) = (cell(n), vec![0; VALUE_BYTES]);
        let mut seed = generation * ROW_CELLS + n;
        for word in value.chunks_mut(8) {
            seed = scatter(seed);
            word.copy_from_slice(&seed.to_le_bytes()[..word.len()]);
        }
        bytes += (row.len() + column.len() + value.len()) as u64;
        Op::put(row.as_str(), column, value)
    });
    let items = items.collect();
    match client.batch(&row, items)? {
        Written::Done { .. } => Ok(bytes),
        other => Err(Error::bad(format_args!("a BATCH of PUTs came to {other:?}"))),
    }
}

fn name(row: u64) -> String {
    format!("row{row:08}")
}

fn cell(n: u64) -> String {
    format!("column{n:04}")
}

/// Another number, by chance as good as any: SplitMix64.
fn scatter(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
