//! One client: whom it asks, how often, and what it writes down.

use super::cells::name_of;
use super::{Object, Scene};
use crate::harness::Text;
use crate::linearizability::{Action, Operation, Outcome, Random, Word};
use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

/// Requests to rows, in a hundred; the others are to single cells.
const TO_ROWS: u64 = 30;
/// Longest time for one try, and for all of them.
const TRY: Duration = Duration::from_millis(1200);
const PATIENCE: Duration = Duration::from_secs(7);
/// How long those who ask once wait.
const ONCE: Duration = Duration::from_secs(12);

/// Operations, each with its object.
pub type Records = Vec<(Object, Operation)>;

/// What to ask.
pub struct Request {
    /// Of what.
    pub object: Object,
    /// What it means.
    pub action: Action,
    /// Its line, without the options that any request may carry.
    pub line: String,
    /// What follows the line.
    pub bytes: Vec<u8>,
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
            let request = self.choose();
            let op = self.perform(&request);
            self.scene.note(request.object, &op);
            records.push((request.object, op));
            std::thread::sleep(Duration::from_micros(self.random.below(10_000)));
        }
        records
    }

    /// Reads at one node until it answers.
    pub fn read_at(&mut self, node: &str, request: &Request) -> Operation {
        let began = self.scene.now();
        let outcome = crate::harness::eventually(&format!("{node} answers"), || {
            match self.once(node, request, (TRY, false)) {
                Try::Answered(outcome) => Some(outcome),
                Try::Refused | Try::Lost => None,
            }
        });
        let (action, ended) = (request.action.clone(), self.scene.now());
        Operation { client: self.number, began, ended, action, outcome }
    }

    /// What to ask next.
    fn choose(&mut self) -> Request {
        let unique = format!("{}-{}", self.number, self.request + 1);
        let (only_reads, random) = (self.only_reads(), &mut self.random);
        if random.chance(TO_ROWS) {
            let owner = random.below(self.scene.owners.len() as u64) as usize;
            self.scene.owners[owner].choose(owner, &unique, only_reads, random)
        } else {
            let cell = random.below(self.scene.cells.len() as u64) as usize;
            self.scene.cells[cell].choose(Object::Cell(cell), &unique, only_reads, random)
        }
    }

    /// Asks until there is an answer, or patience is over.
    fn perform(&mut self, request: &Request) -> Operation {
        self.request += 1;
        let began = self.scene.now();
        let outcome = match self.asks_once() {
            true => self.ask_once(request),
            false => self.ask_everywhere(request),
        };
        let (action, ended) = (request.action.clone(), self.scene.now());
        let op = Operation { client: self.number, began, ended, action, outcome };
        if !matches!(op.outcome, Outcome::Unknown | Outcome::Refused) {
            self.scene.count(request.object, &op);
        }
        op
    }

    fn ask_once(&mut self, request: &Request) -> Outcome {
        let node = self.random.one_of(&self.nodes).clone();
        match self.once(&node, request, (ONCE, false)) {
            Try::Answered(outcome) => outcome,
            Try::Refused => Outcome::Refused,
            Try::Lost => Outcome::Unknown,
        }
    }

    fn ask_everywhere(&mut self, request: &Request) -> Outcome {
        let patience = if self.home.is_none() { PATIENCE } else { TRY };
        let (end, mut retry) = (Instant::now() + patience, false);
        while Instant::now() < end {
            let node = self.random.one_of(&self.nodes).clone();
            match self.once(&node, request, (TRY, retry)) {
                Try::Answered(outcome) => return outcome,
                Try::Refused => {}
                Try::Lost => retry = true,
            }
            std::thread::sleep(Duration::from_millis(self.random.between(5, 150)));
        }
        if retry { Outcome::Unknown } else { Outcome::Refused }
    }

    /// One try at one node, within a time; whether it is a repeat.
    fn once(&mut self, node: &str, request: &Request, (time, retry): (Duration, bool)) -> Try {
        let connection = match self.connections.remove(node) {
            Some(connection) => Ok(connection),
            None => self.scene.cluster.connect_within(node, time),
        };
        let Ok(mut connection) = connection else { return Try::Refused };
        let answer = connection
            .set_limit(time)
            .and_then(|()| connection.send(self.written(request, time, retry)))
            .and_then(|()| answer(&mut connection, &request.action));
        let Ok(answer) = answer else { return Try::Lost };
        self.connections.insert(node.into(), connection);
        answer
    }

    /// A request with its options.
    fn written(&self, request: &Request, time: Duration, retry: bool) -> Vec<u8> {
        let mut line = format!("{} deadline={}", request.line, time.as_millis());
        if !request.action.reads() {
            let (session, n) = (&self.session, self.request);
            line += &format!(" client={session} req={n} low={n}");
            line += if retry { " retry=1" } else { "" };
        }
        [line.as_bytes(), b"\n", &request.bytes, b"\n"].concat()
    }
}

/// Reads an answer whole.
fn answer(connection: &mut Text, action: &Action) -> io::Result<Try> {
    let line = connection.line()?;
    let words: Vec<&str> = line.split(' ').collect();
    let outcome = match words[..] {
        ["RETRY", ..] => return Ok(Try::Refused),
        ["UNKNOWN", ..] => return Ok(Try::Lost),
        ["OK", version] => Outcome::Ok(number(version)),
        ["OK", version, ref made @ ..] => {
            Outcome::Made(number(version), made.iter().map(|word| word.to_string()).collect())
        }
        ["MISMATCH", version] => Outcome::Mismatch(number(version)),
        ["MISMATCH", version, at] => Outcome::MismatchAt(number(version), option(at) as usize),
        ["QUOTA", sum, _] => {
            Outcome::Over(sum.parse().unwrap_or_else(|_| panic!("a strange answer: {line}")))
        }
        ["NOTFOUND"] => Outcome::NotFound,
        ["VALUE", version, len, ..] => {
            Outcome::Value(number(version), name_of(&connection.bytes(number(len) as usize)?))
        }
        ["COLUMNS", n, "more=0"] => Outcome::Cells(cells(connection, action, number(n))?),
        _ => panic!("a strange answer: {line}"),
    };
    Ok(Try::Answered(outcome))
}

/// Reads the cells that a SCAN found: name, version, value.
fn cells(connection: &mut Text, action: &Action, n: u64) -> io::Result<Vec<(Word, u64, Word)>> {
    let Action::Scan(row) = action else { panic!("{action:?} was answered with columns") };
    let cell = |_| {
        let line = connection.line()?;
        let words: Vec<&str> = line.split(' ').collect();
        let [column, version, len] = words[..] else { panic!("a strange column: {line}") };
        let value = name_of(&connection.bytes(number(len) as usize)?);
        Ok((format!("{row} {column}").into(), number(version), value.into()))
    };
    (0..n).map(cell).collect()
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("{word} is no number"))
}

fn option(word: &str) -> u64 {
    number(word.split_once('=').unwrap_or_else(|| panic!("{word} is no option")).1)
}
