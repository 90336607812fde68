//! `penncloud bench kv`: PUT and GET of three replicas that sync every write, beside etcd and Redis.

use super::Comparison;
use super::etcd::Etcd;
use super::group::Group;
use super::limits::Limits;
use super::load::{self, Load, Measured};
use super::redis::Redis;
use super::store::Store;
use super::table::{COLUMNS, numbers, size};
use crate::error::{Error, Result};
use std::io::{ErrorKind, Write};
use std::sync::Arc;

/// Sizes of values, in bytes.
const SIZES: [u64; 3] = [100, 10_000, 1_000_000];

/// Connections.
const CONNECTIONS: [usize; 3] = [1, 16, 64];

/// Bytes that one case moves at most in each store.
const CASE_BYTES_MAX: u64 = 256 << 20;

/// What a case does.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Put,
    Get,
}

/// A store that was started, or why not.
struct Contender {
    name: &'static str,
    store: Result<Arc<dyn Store>>,
    key: fn(usize) -> String,
}

const NOTES: &str = "\
Three nodes of each store, all on this machine. A write is answered when all of PennCloud's replicas, a majority of
etcd's, or all of Redis's have it in their synced log (Redis: appendfsync always, SET and WAIT 2 in one message).
PennCloud's tablets are led by all three nodes: that spreads work over machines, and costs on one. \"One tablet\" is the
same load on one of them, ordered by one node, as with etcd and Redis.
Writes go to the node that orders them, reads to all three. PennCloud's and etcd's reads are linearizable; Redis's
replicas answer what they have. etcd is spoken to in gRPC. The last column is PennCloud's rate by that store's.
";

/// Starts the stores, measures them case by case in turn, and prints a table.
pub fn run(settings: &Comparison, out: &mut dyn Write) -> Result<()> {
    let (program, dir) = (&settings.program, settings.dir.as_path());
    let limits = Limits::measure(dir, settings.time)?;
    let ours: Arc<dyn Store> = Arc::new(Group::start(program, dir)?);
    let contenders = [
        Contender { name: "PennCloud", store: Ok(ours.clone()), key: spread },
        Contender { name: "one tablet", store: Ok(ours), key: of_one_owner },
        contender("etcd", Etcd::start(dir)),
        contender("Redis", Redis::start(dir)),
    ];
    write!(out, "{NOTES}\n{:15} {:>5} {:10} {COLUMNS}  ratio\n", "", "conns", "")?;
    for (name, measured) in limits.all() {
        writeln!(out, "{name:32} {}", numbers(measured))?;
    }
    for (kind, bytes, connections) in cases() {
        let name = format!("{} {}", kind.verb(), size(bytes));
        if format!("{name}, {connections}").contains(&settings.only) {
            let load = Load { connections, time: settings.time, bytes_max: CASE_BYTES_MAX };
            let results: Vec<_> =
                contenders.iter().map(|c| c.measure(kind, bytes, &load)).collect();
            print(out, &format!("{name:15} {connections:>5}"), &contenders, &results)?;
        }
    }
    Ok(())
}

/// Keys of as many owners: the load is on all tablets.
fn spread(number: usize) -> String {
    format!("~bench-{number}")
}

/// Keys of one owner: the load is on one tablet.
fn of_one_owner(number: usize) -> String {
    format!("bench/{number}")
}

/// Starts what is compared; its processes end with it.
fn contender<S: Store + 'static>(name: &'static str, store: Result<S>) -> Contender {
    Contender { name, store: store.map(|store| Arc::new(store) as Arc<dyn Store>), key: spread }
}

fn cases() -> impl Iterator<Item = (Kind, u64, usize)> {
    let of_size = |bytes| {
        let kinds = [Kind::Put, Kind::Get].into_iter();
        kinds.flat_map(move |kind| CONNECTIONS.map(|connections| (kind, bytes, connections)))
    };
    SIZES.into_iter().flat_map(of_size)
}

impl Kind {
    fn verb(self) -> &'static str {
        match self {
            Kind::Put => "PUT",
            Kind::Get => "GET",
        }
    }
}

impl Contender {
    /// Each connection has a key of its own.
    fn measure(&self, kind: Kind, bytes: u64, load: &Load) -> Measured {
        let store = match &self.store {
            Ok(store) => store,
            Err(error) => return Measured::failed(error.clone()),
        };
        load::measure(load, |number| match kind {
            Kind::Put => store.putter(number, &(self.key)(number), bytes),
            Kind::Get => store.getter(number, &(self.key)(number), bytes),
        })
    }
}

/// The lines of one case: ours, then the others, each with the ratio.
fn print(
    out: &mut dyn Write,
    case: &str,
    contenders: &[Contender],
    results: &[Measured],
) -> Result<()> {
    for (number, (contender, measured)) in contenders.iter().zip(results).enumerate() {
        let (case, name) = (if number == 0 { case } else { "" }, contender.name);
        let said = match &measured.fault {
            Some(Error::Io(ErrorKind::NotFound, _)) => "not installed".into(),
            Some(fault) => format!("failed: {fault}"),
            None if number == 0 => numbers(measured),
            None => format!("{}  {}", numbers(measured), ratio(&results[0], measured)),
        };
        writeln!(out, "{case:21} {name:10} {said}")?;
    }
    Ok(())
}

fn ratio(ours: &Measured, theirs: &Measured) -> String {
    match ours.fault {
        Some(_) => "-".into(),
        None => format!("{:.2}", ours.rate() / theirs.rate()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn measured(requests: u64) -> Measured {
        let times = vec![Duration::from_millis(1); requests as usize];
        Measured { elapsed: Duration::from_secs(1), times, ..Measured::default() }
    }

    #[test]
    fn a_store_that_is_not_there_has_no_number() {
        let missing = || Err(Error::Io(ErrorKind::NotFound, "no such program".into()));
        let contenders = [("ours", missing()), ("theirs", missing())]
            .map(|(name, store)| Contender { name, store, key: spread });
        let results = [
            measured(30),
            contenders[1].measure(
                Kind::Put,
                1,
                &Load { connections: 1, time: Duration::ZERO, bytes_max: 1 },
            ),
        ];
        let mut out = Vec::new();
        print(&mut out, "PUT", &contenders, &results).expect("printed");
        let text = String::from_utf8(out).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("PUT") && lines[0].contains(" 30 "), "{text}");
        assert!(lines[1].ends_with("theirs     not installed"), "{text}");
    }

    #[test]
    fn a_ratio_is_ours_by_theirs() {
        assert_eq!(ratio(&measured(30), &measured(20)), "1.50");
        assert_eq!(ratio(&Measured::failed(Error::retry("lame")), &measured(20)), "-");
    }
}
