//! Much more data than memory: nodes hold their limit while values of all sizes are written, overwritten and deleted,
//! processes are killed in the middle of checkpoints and merges, and a node that was away fetches everything; what was
//! acknowledged is there afterwards, byte for byte, and nothing else.

use crate::harness::{Cluster, EndOnPanic, Text, eventually, long, noise};
use penncloud::tools::fsck;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What a backend may take.
const MEMORY: u64 = 64 << 20;
/// Bytes of keys and values that are written.
const BYTES: u64 = 96 << 20;
const BYTES_LONG: u64 = 2 << 30;
/// The number of times that nodes are killed, and one more.
const KILLS: u64 = 5;
/// Bytes of each tablet's log that are kept for replicas that lag.
const KEPT: u64 = BYTES / 8;
/// People who write, each rows of their own.
const WRITERS: usize = 4;
/// Every cell is one of so many of its writer; so most are overwritten, or deleted, later.
const LARGE: u64 = 64;

/// Cells with values of a few bytes to a megabyte, each written again and again. A cell's value follows from its name and
/// its generation.
struct Writer {
    number: usize,
    /// The generation of each cell; none: it was deleted.
    cells: BTreeMap<String, Option<u64>>,
    step: u64,
}

impl Writer {
    fn new(number: usize) -> Writer {
        Writer { number, cells: BTreeMap::new(), step: 0 }
    }

    /// Name and length of a cell's next value.
    fn choose(&self) -> (String, usize) {
        let random =
            u64::from_le_bytes(noise(self.step * 31 + self.number as u64, 8).try_into().unwrap());
        let (kind, n) = (random % 100, random / 100);
        match kind {
            0..80 => (format!("small{}", n % 20_000), (n % 1500) as usize),
            80..96 => (format!("medium{}", n % 400), 10_000 + (n % 50_000) as usize),
            _ => (format!("large{}", n % LARGE), 300_000 + (n % 700_000) as usize),
        }
    }

    fn row(&self, cell: &str) -> String {
        let owner = cell.bytes().map(usize::from).sum::<usize>() % 5;
        format!("w{}-{owner}/{cell}", self.number)
    }

    /// One write, tried until it is acknowledged; the bytes written.
    fn write(&mut self, store: &mut Nodes) -> u64 {
        let (cell, len) = self.choose();
        self.step += 1;
        let (row, step) = (self.row(&cell), self.step);
        if step.is_multiple_of(9) {
            store.until_done(|text| match &*text.ask(format!("DELETE {row} value"))? {
                "NOTFOUND" => Ok(()),
                line if line.starts_with("OK ") => Ok(()),
                line => Err(io::Error::other(line.to_string())),
            });
            self.cells.insert(cell, None);
            return 0;
        }
        let value = noise(step, len);
        store.until_done(|text| text.put(&row, "value", &value).map(drop));
        self.cells.insert(cell, Some(step));
        len as u64
    }

    /// Compares everything with what a node answers.
    fn check(&self, text: &mut Text, lengths: &BTreeMap<String, usize>) {
        for (cell, generation) in &self.cells {
            let row = self.row(cell);
            let found = text.get(&row, "value").unwrap_or_else(|e| panic!("{row}: {e}"));
            match (found, generation) {
                (None, None) => {}
                (Some((_, value)), Some(step)) => {
                    let len = lengths[&format!("{}/{step}", self.number)];
                    assert!(value == noise(*step, len), "{row} is not what was written");
                }
                (found, known) => panic!("{row}: {:?} for {known:?}", found.map(|f| f.1.len())),
            }
        }
    }
}

/// Connections to one node after the other.
struct Nodes<'a> {
    cluster: &'a Cluster,
    open: Option<Text>,
    next: usize,
}

impl Nodes<'_> {
    fn until_done(&mut self, mut work: impl FnMut(&mut Text) -> io::Result<()>) {
        eventually("a write is acknowledged", || {
            let text = match self.open.take() {
                Some(text) => Some(text),
                None => self.connect(),
            };
            let mut text = text?;
            let done = work(&mut text);
            if done.is_ok() {
                self.open = Some(text);
            }
            done.ok()
        });
    }

    fn connect(&mut self) -> Option<Text> {
        self.next += 1;
        let names = self.cluster.backends();
        Text::connect(&self.cluster.address(&names[self.next % names.len()])).ok()
    }
}

/// A store whose nodes have little memory, and keep so much of each log.
fn start(log_keep_bytes: u64) -> Cluster {
    Cluster::start_store(|configuration| {
        *configuration = configuration
            .replace(
                "cell_bytes = 4096",
                &format!("cell_bytes = 65536\nmemory_limit_bytes = {MEMORY}"),
            )
            .replace("checkpoint_bytes = 1048576", "checkpoint_bytes = 67108864")
            .replace("log_keep_bytes = 1048576", &format!("log_keep_bytes = {log_keep_bytes}"));
    })
}

/// The most that a process ever had resident, in bytes.
fn most_resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().map_or(0, |kib| kib << 10)
}

/// What people wrote, and how long each value is.
type Written = Vec<(Writer, BTreeMap<String, usize>)>;

/// Has people write so many bytes while something happens, which is told how many were written.
fn write_during(cluster: &Cluster, bytes: u64, happens: impl FnOnce(&AtomicU64)) -> Written {
    let (written, over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let _end = EndOnPanic(&over);
        let write = |number| {
            let (written, over) = (&written, &over);
            scope.spawn(move || {
                let mut store = Nodes { cluster, open: None, next: number };
                let (mut writer, mut lengths) = (Writer::new(number), BTreeMap::new());
                while !over.load(Ordering::Relaxed) && written.load(Ordering::Relaxed) < bytes {
                    let len = writer.write(&mut store);
                    lengths.insert(format!("{number}/{}", writer.step), len as usize);
                    written.fetch_add(len, Ordering::Relaxed);
                }
                (writer, lengths)
            })
        };
        let threads: Vec<_> = (0..WRITERS).map(write).collect();
        happens(&written);
        threads.into_iter().map(|thread| thread.join().expect("a writer")).collect()
    })
}

/// Compares everything with what the nodes answer, each in turn.
fn check(cluster: &Cluster, written: &Written) {
    let names = cluster.backends();
    for (i, (writer, lengths)) in written.iter().enumerate() {
        let mut text = Text::connect(&cluster.address(&names[i % names.len()])).expect("a node");
        writer.check(&mut text, lengths);
    }
}

/// Ends all nodes in order, and looks their disks over.
fn check_disks(cluster: &Cluster) {
    let data = cluster.config().cluster.data_dir.clone();
    for name in cluster.backends() {
        assert!(cluster.stop(&name), "{name} ends in order");
        let mut said = Vec::new();
        fsck::run(&data.join(name), &mut said)
            .unwrap_or_else(|e| panic!("{e}:\n{}", String::from_utf8_lossy(&said)));
    }
}

#[test]
fn data_many_times_the_memory_is_held_within_it() {
    let cluster = start(1 << 20);
    let bytes = if long() { BYTES_LONG } else { BYTES };
    let mut most = 0;
    let written = write_during(&cluster, bytes, |written| {
        most = kill_during(&cluster, bytes / KILLS, || written.load(Ordering::Relaxed));
    });
    cluster.wait_in_sync();
    check(&cluster, &written);
    let names = cluster.backends();
    most = names.iter().map(|name| most_resident(cluster.pid(name))).fold(most, u64::max);
    println!("{} MiB were resident at most, of {}", most >> 20, MEMORY >> 20);
    assert!(most <= MEMORY, "{} MiB were resident, of {}", most >> 20, MEMORY >> 20);
    check_disks(&cluster);
}

#[test]
fn who_was_away_gets_what_it_lacks_while_writes_go_on() {
    let cluster = start(KEPT);
    let bytes = BYTES / 2;
    let data = cluster.config().cluster.data_dir.clone();
    let written = write_during(&cluster, bytes, |written| {
        let wait = |part: u64| {
            while written.load(Ordering::Relaxed) < bytes / 8 * part {
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        wait(1);
        take_away(&cluster, "a1");
        wait(2);
        cluster.start_again("a1");
        cluster.wait_in_sync();
        let log = cluster.log("a1");
        assert!(!log.contains("takes the table"), "the log on disk would have done:\n{log}");
        wait(5);
        take_away(&cluster, "a2");
        std::fs::remove_dir_all(data.join("a2")).expect("its disk is lost");
        cluster.start_again("a2");
        cluster.wait_in_sync();
        assert!(cluster.log("a2").contains("takes the table"), "it had nothing");
    });
    cluster.wait_in_sync();
    check(&cluster, &written);
    check_disks(&cluster);
}

/// Kills a node, and waits until the others do without it.
fn take_away(cluster: &Cluster, name: &str) {
    cluster.kill(name);
    eventually("the others do without it", || {
        let routes = cluster.routes();
        routes
            .tablets
            .iter()
            .all(|tablet| !tablet.isr.iter().any(|node| node == name))
            .then_some(())
    });
}

/// Whenever so many bytes were written, kills a node with SIGKILL, whatever it is at, and starts it again, in the end all
/// of them at once: then nothing is known to be committed but what checkpoints hold. The most that any had resident.
fn kill_during(cluster: &Cluster, every: u64, written: impl Fn() -> u64) -> u64 {
    let (names, mut most) = (cluster.backends(), 0);
    for n in 1..KILLS {
        while written() < n * every {
            std::thread::sleep(Duration::from_millis(10));
        }
        let one = n as usize % names.len();
        let killed = if n + 1 < KILLS { &names[one..=one] } else { &names[..] };
        for name in killed {
            most = most.max(most_resident(cluster.pid(name)));
            cluster.kill(name);
        }
        std::thread::sleep(Duration::from_millis(500));
        killed.iter().for_each(|name| cluster.start_again(name));
    }
    most
}
