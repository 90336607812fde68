//! One client: what it asks, how often, and what it writes down.

use super::Scene;
use crate::harness::{Text, noise};
use crate::linearizability::{Action, Operation, Outcome, Random};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Cells that all clients use.
pub const CELLS: usize = 34;
/// Those of them whose values may be big.
const BIG_CELLS: usize = 6;
/// Bytes of a big value: three cells.
const BIG_BYTES: usize = 3 * 4096 - 100;
/// Values longer than this are known by their hash.
const SHOWN_BYTES: usize = 100;
/// Longest time for one try, and for all of them.
const TRY: Duration = Duration::from_millis(1200);
const PATIENCE: Duration = Duration::from_secs(7);
/// How long those who ask once wait.
const ONCE: Duration = Duration::from_secs(12);

/// Operations, each with the number of its cell.
pub type Records = Vec<(usize, Operation)>;

/// A cell, by its words.
pub struct Cell {
    pub row: String,
    pub column: String,
    big: bool,
}

/// Cells of many owners, and so of all tablets.
pub fn cells() -> Vec<Cell> {
    let cell = |i| Cell { row: format!("owner{i}"), column: format!("c{i}"), big: i < BIG_CELLS };
    (0..CELLS).map(cell).collect()
}

/// What one try came to.
enum Try {
    Answered(Outcome),
    /// It was not executed.
    Refused,
    /// It may have been executed, or may be yet.
    Lost,
}

/// A client that does one thing at a time, under one session.
pub struct Caller<'a> {
    scene: &'a Scene,
    number: usize,
    random: Random,
    /// The nodes that it asks.
    nodes: Vec<String>,
    home: Option<String>,
    connections: HashMap<String, Text>,
    session: String,
    request: u64,
}

impl<'a> Caller<'a> {
    /// A client with a number and a session of its own. One with a home asks the node there, and gives up soon when
    /// it does not answer; others ask any.
    pub fn new(
        scene: &'a Scene,
        number: usize,
        home: Option<String>,
        random: Random,
    ) -> Caller<'a> {
        let session = uuid::Uuid::now_v7().simple().to_string();
        let nodes = home.clone().map_or_else(|| scene.cluster.backends(), |home| vec![home]);
        let connections = HashMap::new();
        Caller { scene, number, random, nodes, home, connections, session, request: 0 }
    }

    /// Moves the calling thread to the client's home, if it has one.
    pub fn go_home(&self) {
        if let (Some(hosts), Some(home)) = (self.scene.cluster.hosts(), &self.home) {
            hosts.enter(home);
        }
    }

    /// One in four sends once and waits: who asks again does not see what a stale node would have said.
    fn asks_once(&self) -> bool {
        self.home.is_none() && self.number.is_multiple_of(4)
    }

    /// One in four reads only: while writes wait for a new primary, somebody sees what nodes that were left out
    /// would say.
    fn only_reads(&self) -> bool {
        self.number % 4 == 1
    }

    /// Asks for as long as the run lasts.
    pub fn work(&mut self) -> Records {
        let mut records = Records::new();
        while !self.scene.is_over() {
            let cell = self.random.below(super::CELLS as u64) as usize;
            let (action, value) = self.choose(cell);
            let op = self.perform(cell, action, &value);
            self.note(cell, &op);
            records.push((cell, op));
            std::thread::sleep(Duration::from_micros(self.random.below(10_000)));
        }
        records
    }

    /// Reads a cell at one node until it answers.
    pub fn read_at(&mut self, node: &str, cell: usize) -> Operation {
        let began = self.scene.now();
        let outcome = crate::harness::eventually(&format!("{node} answers"), || {
            match self.once(node, cell, &Action::Get, &[], (TRY, false)) {
                Try::Answered(outcome) => Some(outcome),
                Try::Refused | Try::Lost => None,
            }
        });
        let ended = self.scene.now();
        Operation { client: self.number, began, ended, action: Action::Get, outcome }
    }

    /// What to ask next, and the bytes of the value that it writes.
    fn choose(&mut self, cell: usize) -> (Action, Vec<u8>) {
        let unique = format!("{}-{}", self.number, self.request + 1);
        let big = self.scene.cells[cell].big && self.random.chance(40);
        let bytes = match big {
            true => big_value(&unique),
            false => unique.into_bytes(),
        };
        let value = name_of(&bytes);
        let (version, expected) = self.scene.seen[cell].lock().unwrap().clone();
        let dice = if self.only_reads() { 0 } else { self.random.below(100) };
        let action = match dice {
            45..70 => Action::Put { value, if_version: None },
            70..75 => Action::Put { value, if_version: Some(version) },
            75..88 if !big && expected.len() <= SHOWN_BYTES && !expected.starts_with("sha256:") => {
                Action::Cput { expected, value }
            }
            88..92 => Action::Delete { if_version: Some(version) },
            92..96 => Action::Delete { if_version: None },
            _ => Action::Get,
        };
        (action, bytes)
    }

    /// Lets all clients know what is there now.
    fn note(&self, cell: usize, op: &Operation) {
        let is = match (&op.outcome, op.written()) {
            (Outcome::Value(version, value), _) => (*version, value.clone()),
            (Outcome::Ok(version), Some(value)) => (*version, value.clone()),
            (Outcome::Ok(_) | Outcome::NotFound, None) => (0, String::new()),
            _ => return,
        };
        *self.scene.seen[cell].lock().unwrap() = is;
    }

    /// Asks until there is an answer, or patience is over.
    fn perform(&mut self, cell: usize, action: Action, value: &[u8]) -> Operation {
        self.request += 1;
        let began = self.scene.now();
        let outcome = match self.asks_once() {
            true => self.ask_once(cell, &action, value),
            false => self.ask_everywhere(cell, &action, value),
        };
        let ended = self.scene.now();
        if !matches!(outcome, Outcome::Unknown | Outcome::Refused) {
            let kind = usize::from(action != Action::Get);
            self.scene.answered[cell][kind].fetch_max(began, Ordering::Relaxed);
            self.scene.answers[1].fetch_add(1, Ordering::Relaxed);
            let faulty = usize::from(self.scene.faulty.load(Ordering::Relaxed));
            self.scene.answers[0].fetch_add(faulty, Ordering::Relaxed);
        }
        Operation { client: self.number, began, ended, action, outcome }
    }

    fn ask_once(&mut self, cell: usize, action: &Action, value: &[u8]) -> Outcome {
        let node = self.random.one_of(&self.nodes).clone();
        match self.once(&node, cell, action, value, (ONCE, false)) {
            Try::Answered(outcome) => outcome,
            Try::Refused => Outcome::Refused,
            Try::Lost => Outcome::Unknown,
        }
    }

    fn ask_everywhere(&mut self, cell: usize, action: &Action, value: &[u8]) -> Outcome {
        let patience = if self.home.is_none() { PATIENCE } else { TRY };
        let (end, mut retry) = (Instant::now() + patience, false);
        while Instant::now() < end {
            let node = self.random.one_of(&self.nodes).clone();
            match self.once(&node, cell, action, value, (TRY, retry)) {
                Try::Answered(outcome) => return outcome,
                Try::Refused => {}
                Try::Lost => retry = true,
            }
            std::thread::sleep(Duration::from_millis(self.random.between(5, 150)));
        }
        if retry { Outcome::Unknown } else { Outcome::Refused }
    }

    /// One try at one node, within a time; whether it is a repeat.
    fn once(
        &mut self,
        node: &str,
        cell: usize,
        action: &Action,
        value: &[u8],
        (time, retry): (Duration, bool),
    ) -> Try {
        let connection = match self.connections.remove(node) {
            Some(connection) => Ok(connection),
            None => self.scene.cluster.connect_within(node, time),
        };
        let Ok(mut connection) = connection else { return Try::Refused };
        let request = self.request(cell, action, value, time, retry);
        let answer = connection
            .set_limit(time)
            .and_then(|()| connection.send(request))
            .and_then(|()| answer(&mut connection));
        let Ok(answer) = answer else { return Try::Lost };
        self.connections.insert(node.into(), connection);
        answer
    }

    fn request(
        &self,
        cell: usize,
        action: &Action,
        value: &[u8],
        time: Duration,
        retry: bool,
    ) -> Vec<u8> {
        let Cell { row, column, .. } = &self.scene.cells[cell];
        let len = value.len();
        let condition = |version: &Option<u64>| {
            version.map(|version| format!(" if={version}")).unwrap_or_default()
        };
        let (line, bytes) = match action {
            Action::Get => (format!("GET {row} {column}"), Vec::new()),
            Action::Put { if_version, .. } => {
                (format!("PUT {row} {column} {len}{}", condition(if_version)), value.to_vec())
            }
            Action::Cput { expected, .. } => (
                format!("CPUT {row} {column} {} {len}", expected.len()),
                [expected.as_bytes(), value].concat(),
            ),
            Action::Delete { if_version } => {
                (format!("DELETE {row} {column}{}", condition(if_version)), Vec::new())
            }
            other => unreachable!("{other:?} is asked of rows"),
        };
        let mut line = format!("{line} deadline={}", time.as_millis());
        if *action != Action::Get {
            let (session, n) = (&self.session, self.request);
            line += &format!(" client={session} req={n} low={n}");
            line += if retry { " retry=1" } else { "" };
        }
        [line.as_bytes(), b"\n", &bytes, b"\n"].concat()
    }
}

/// Reads an answer whole.
fn answer(connection: &mut Text) -> io::Result<Try> {
    let line = connection.line()?;
    let mut words = line.split(' ');
    let verb = words.next().unwrap_or_default();
    let number = words.next().and_then(|word| word.parse().ok());
    Ok(match (verb, number) {
        ("OK", Some(version)) => Try::Answered(Outcome::Ok(version)),
        ("MISMATCH", Some(version)) => Try::Answered(Outcome::Mismatch(version)),
        ("NOTFOUND", None) => Try::Answered(Outcome::NotFound),
        ("VALUE", Some(version)) => {
            let len = words.next().and_then(|word| word.parse().ok()).expect("a length");
            Try::Answered(Outcome::Value(version, name_of(&connection.bytes(len)?)))
        }
        ("RETRY", _) => Try::Refused,
        ("UNKNOWN", _) => Try::Lost,
        _ => panic!("a strange answer: {line}"),
    })
}

/// A value of three cells that nobody else writes.
fn big_value(unique: &str) -> Vec<u8> {
    let mut bytes = unique.as_bytes().to_vec();
    bytes.extend(noise(bytes.len() as u64, BIG_BYTES));
    bytes
}

/// What stands for a value in a history.
fn name_of(bytes: &[u8]) -> String {
    match bytes.len() <= SHOWN_BYTES {
        true => String::from_utf8_lossy(bytes).into_owned(),
        false => {
            let hash = Sha256::digest(bytes);
            let hex: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            format!("sha256:{hex}")
        }
    }
}
