//! `penncloud bench failover`: how long clients wait when a primary dies, and when it leaves in order.
//!
//! One client writes and another reads a row through a node that stays, without a pause. Then the primary of the row's
//! tablet is killed with SIGKILL, or taken out of service by the master's SHUTDOWN. What each client waits is its longest
//! time without a success from that instant on. The node comes back, all is in sync again, and the next run begins with
//! whoever is the primary then: a node that has failed gets its primaries back later.

use super::group::Group;
use super::load::Measured;
use super::table::duration;
use crate::error::{Error, Result};
use crate::protocol::command::{Command, Op, Request};
use crate::protocol::connection::Connection;
use crate::protocol::reply::Reply;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const ROW: &str = "~bench-failover";
const COLUMN: &str = "value";
/// How long the clients go on after the fault: longer than every lease and promise of the old epoch.
const WATCH: Duration = Duration::from_secs(6);
/// How long the clients run before the fault.
const WARM_UP: Duration = Duration::from_millis(300);
/// Time that a request is given, as by a frontend.
const REQUEST: Duration = Duration::from_secs(10);
/// Pause between two requests of a client.
const PAUSE: Duration = Duration::from_millis(1);

/// What is measured, and where.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program `penncloud`, of which the nodes are started.
    pub program: PathBuf,
    /// Directory for the nodes' data.
    pub dir: PathBuf,
    /// How often each fault is made.
    pub runs: usize,
}

/// What happens to the primary.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    Shutdown,
}

/// What a client does.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Write,
    Read,
}

/// What a client saw.
#[derive(Debug, Default)]
struct Seen {
    /// When its requests succeeded, in order.
    successes: Vec<Instant>,
    /// Definite refusals: RETRY.
    refused: usize,
    /// Answers that leave open whether a write was executed: UNKNOWN.
    unknown: usize,
}

/// What all runs of a fault came to, for one client.
#[derive(Default)]
struct Outages {
    waits: Vec<Duration>,
    refused: usize,
    unknown: usize,
}

/// Starts a group, makes the faults in turn, and prints what clients waited.
pub fn run(settings: &Settings, out: &mut dyn Write) -> Result<()> {
    let group = Group::start(&settings.program, &settings.dir)?;
    writeln!(
        out,
        "{:26} {:>5} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8}",
        "longest wait of a client", "runs", "min", "median", "p90", "max", "refused", "unknown"
    )?;
    for fault in [Fault::Kill, Fault::Shutdown] {
        let (mut writes, mut reads) = (Outages::default(), Outages::default());
        for _ in 0..settings.runs {
            let (wrote, read) = one_run(&group, fault)?;
            writes.add(wrote)?;
            reads.add(read)?;
        }
        print(out, &format!("{}: writes", fault.name()), writes)?;
        print(out, &format!("{}: reads", fault.name()), reads)?;
    }
    Ok(())
}

/// A client's view of one fault: when it was made, and what was seen.
type View = (Instant, Seen);

fn one_run(group: &Group, fault: Fault) -> Result<(View, View)> {
    let nodes = group.nodes_of(ROW)?;
    let [(primary, _), (_, other), ..] = &nodes[..] else {
        return Err(Error::retry("the group has too few nodes"));
    };
    let stop = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let stop = &stop;
        let client = move |kind| Client::open(group, other)?.run(kind, stop);
        let [writer, reader] =
            [Kind::Write, Kind::Read].map(|kind| scope.spawn(move || client(kind)));
        std::thread::sleep(WARM_UP);
        let began = Instant::now();
        let made = fault.make(group, primary);
        std::thread::sleep(WATCH.saturating_sub(began.elapsed()));
        stop.store(true, Ordering::Relaxed);
        let joined =
            [writer, reader].map(|thread| thread.join().expect("a client fails with an error"));
        made.map(|()| (began, joined))
    });
    fault.mend(group, primary)?;
    group.await_whole()?;
    let (began, [wrote, read]) = seen?;
    Ok(((began, wrote?), (began, read?)))
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill -9",
            Fault::Shutdown => "SHUTDOWN",
        }
    }

    fn make(self, group: &Group, node: &str) -> Result<()> {
        match self {
            Fault::Kill => group.kill(node),
            Fault::Shutdown => order(group, Command::Shutdown { node: node.into(), force: false }),
        }
    }

    fn mend(self, group: &Group, node: &str) -> Result<()> {
        match self {
            Fault::Kill => group.launch_backend(node),
            Fault::Shutdown => order(group, Command::Wakeup { node: node.into() }),
        }
    }
}

fn order(group: &Group, command: Command) -> Result<()> {
    match group.ask_master(command)? {
        Reply::Ok(_) => Ok(()),
        other => Err(Error::bad(format_args!("the master answered {other:?}"))),
    }
}

struct Client {
    connection: Connection,
}

impl Client {
    fn open(group: &Group, address: &str) -> Result<Client> {
        let secret = group.config().secrets()?.cluster;
        let connection = Connection::open(address, &secret, Instant::now() + REQUEST)?;
        Ok(Client { connection })
    }

    /// Sends one request after the other until told to stop.
    fn run(mut self, kind: Kind, stop: &AtomicBool) -> Result<Seen> {
        let (mut seen, request) = (Seen::default(), Request::new(kind.command()));
        while !stop.load(Ordering::Relaxed) {
            match self.once(&request)? {
                Ok(()) => seen.successes.push(Instant::now()),
                Err(Error::Retry(_)) => seen.refused += 1,
                Err(Error::Unknown(_)) => seen.unknown += 1,
                Err(error) => return Err(error),
            }
            std::thread::sleep(PAUSE);
        }
        Ok(seen)
    }

    /// One request: an error of the connection, or what the node said.
    fn once(&mut self, request: &Request) -> Result<Result<()>> {
        self.connection.set_deadline(Instant::now() + REQUEST * 2);
        match self.connection.call(request)? {
            Reply::Error(error) => return Ok(Err(error)),
            Reply::Value { len, .. } => {
                let value = &mut self.connection.reader().take(len + 1);
                std::io::copy(value, &mut std::io::sink())?;
            }
            Reply::Ok(_) | Reply::NotFound => {}
            other => return Err(Error::bad(format_args!("a strange answer: {other:?}"))),
        }
        Ok(Ok(()))
    }
}

impl Kind {
    fn command(self) -> Command {
        let (row, column) = (ROW.into(), COLUMN.into());
        match self {
            Kind::Write => {
                let value = b"value".to_vec();
                Command::Write(Op::Put { row, column, value, if_version: None, ttl: None })
            }
            Kind::Read => {
                let (offset, length, if_version) = (0, None, None);
                Command::Get { row, column, offset, length, if_version, local: false }
            }
        }
    }
}

impl Seen {
    /// The longest time without a success from an instant on; none if there was no success after it.
    fn longest_wait(&self, from: Instant) -> Option<Duration> {
        let after = self.successes.iter().filter(|success| **success > from);
        let mut before = from;
        after.map(|success| success.duration_since(std::mem::replace(&mut before, *success))).max()
    }
}

impl Outages {
    /// Takes what a client saw of one run.
    fn add(&mut self, (began, seen): View) -> Result<()> {
        let wait = seen.longest_wait(began);
        self.waits.push(wait.ok_or_else(|| Error::retry("a client was not served again"))?);
        self.refused += seen.refused;
        self.unknown += seen.unknown;
        Ok(())
    }
}

fn print(out: &mut dyn Write, name: &str, mut outages: Outages) -> Result<()> {
    outages.waits.sort_unstable();
    let Outages { waits, refused, unknown } = outages;
    let (runs, all) = (waits.len(), Measured { times: waits, ..Measured::default() });
    let [min, median, p90, max] = [0.0, 0.5, 0.9, 1.0].map(|share| duration(all.percentile(share)));
    writeln!(
        out,
        "{name:26} {runs:>5} {min:>9} {median:>9} {p90:>9} {max:>9} {refused:>8} {unknown:>8}"
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(from: Instant, successes: &[u64]) -> Seen {
        let successes = successes.iter().map(|ms| from + Duration::from_millis(*ms)).collect();
        Seen { successes, ..Seen::default() }
    }

    #[test]
    fn a_wait_lasts_from_the_fault_or_the_last_success_to_the_next() {
        let start = Instant::now();
        let fault = start + Duration::from_millis(100);
        let ms =
            |successes| seen(start, successes).longest_wait(fault).map(|wait| wait.as_millis());
        assert_eq!(ms(&[90, 1100, 1150]), Some(1000));
        assert_eq!(ms(&[0, 90, 150, 200, 900, 950]), Some(700));
        assert_eq!(ms(&[0, 90]), None);
    }

    #[test]
    fn a_client_that_was_never_served_again_is_an_error() {
        let start = Instant::now();
        let mut outages = Outages::default();
        assert!(outages.add((start, seen(start, &[]))).is_err());
        assert!(outages.add((start, seen(start, &[5]))).is_ok());
        let mut out = Vec::new();
        print(
            &mut out,
            "kill",
            Outages { waits: vec![Duration::from_millis(5)], refused: 1, unknown: 2 },
        )
        .expect("printed");
        let words: Vec<String> =
            String::from_utf8_lossy(&out).split_whitespace().map(String::from).collect();
        assert_eq!(
            words[1..],
            ["1", "5.00", "ms", "5.00", "ms", "5.00", "ms", "5.00", "ms", "1", "2"]
        );
    }
}
