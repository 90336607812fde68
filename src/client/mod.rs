//! The store's client: how frontends, SMTP servers and tools reach data.
//!
//! A request goes to a backend of its owner's group, which answers it or passes it on to the tablet's
//! primary. When it is refused for now, or no answer comes, the same request, under the same name, is
//! sent again, to another backend if there is one, until its time is over: a write is executed once
//! however often it was sent. Then the caller hears `Retry` (it was definitely not executed) or
//! `Unknown` (it may have been).
//!
//! * [`routes`]: which backend to ask. The master is asked once for a while per slot, and again when a backend refuses;
//!   while it is down, any backend is asked.
//! * [`session`]: names of requests.
//! * [`value`]: values as streams. A value of any size takes the memory of a few chunks, and a stream that breaks
//!   goes on at another backend.
//!
//! # Caveats
//!
//! * A stream that breaks after its cell was overwritten or deleted is an error to its reader: only a stream that is
//!   open goes on with the version that it began with.

mod routes;
mod session;
mod value;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::protocol::cell::owner;
pub use crate::protocol::cell::{Bytes, ValueId};
use crate::protocol::chunks::{Term, fill, send_chunks};
pub use crate::protocol::command::{BATCH_ITEMS_MAX, LIMIT_MAX, Op, Scan};
use crate::protocol::command::{Command, Options, Request};
use crate::protocol::connection::Pool;
use crate::protocol::reply::Reply;
pub use crate::protocol::reply::{Column, Row};
use routes::Routes;
use session::Sessions;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};
pub use value::ValueReader;

/// Pause before a refused request is sent again; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// In the first round each backend has an eighth of the time that is left to answer: one that hangs leaves time to ask
/// the others. All requests may be repeated.
const FIRST_SHARE: u32 = 8;
/// In later rounds it has half: where all are slow, one must be waited for.
const LATER_SHARE: u32 = 2;
/// Shortest time that a backend has to answer.
const TRY_MIN: Duration = Duration::from_secs(1);

/// The store, as frontends, SMTP servers and tools see it. Cheap to clone; safe to share.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    limit: Duration,
    /// The one backend that is asked.
    only: Option<Arc<str>>,
}

struct Shared {
    pool: Arc<Pool>,
    routes: Routes,
    sessions: Sessions,
    cell_bytes: u64,
    stage_ms: u64,
}

/// A cell that was read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Version of the cell.
    pub version: u64,
    /// The value.
    pub value: Vec<u8>,
}

/// What a write came to. Refusals and failures are errors; a condition that does not hold is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// Done.
    Done {
        /// The tablet's version at which it happened: the version of the cells written.
        version: u64,
        /// Sums made by ADD and columns made by APPEND, in the order of the items.
        words: Vec<Bytes>,
    },
    /// The condition of an item does not hold; nothing was written.
    Mismatch {
        /// The cell's version now; 0: no such cell.
        version: u64,
        /// Which item of a BATCH; 0 for a single op.
        at: usize,
    },
    /// A DELETE of what is not there.
    NotFound,
}

/// A value that was taken whole and waits for the write that makes it visible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uploaded {
    /// It fits into a cell: nothing was sent yet.
    Inline(Vec<u8>),
    /// It was staged in chunks.
    Staged {
        /// Its id.
        id: ValueId,
        /// Its length in bytes.
        length: u64,
    },
}

impl Uploaded {
    /// Length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Uploaded::Inline(bytes) => bytes.len() as u64,
            Uploaded::Staged { length, .. } => *length,
        }
    }

    /// The op that makes the value visible in a cell of the row for which it was uploaded: a PUT or a
    /// COMMIT; also as an item of a BATCH.
    pub fn into_op(
        self,
        row: impl Into<Vec<u8>>,
        column: impl Into<Vec<u8>>,
        if_version: Option<u64>,
    ) -> Op {
        match self {
            Uploaded::Inline(value) => {
                Op::Put { row: row.into(), column: column.into(), value, if_version, ttl: None }
            }
            Uploaded::Staged { id, length } => Op::commit(row, column, id, length, if_version),
        }
    }
}

/// How one try of a request ended.
enum Try<T> {
    /// With an answer.
    Done(T),
    /// The backend said no.
    Refused(Error),
    /// The backend said nothing.
    Silent(Error),
}

impl<T> Try<T> {
    /// An answer of a backend, refusals apart.
    fn of(reply: Reply, done: impl FnOnce(Reply) -> Result<T>) -> Try<T> {
        match reply {
            Reply::Error(error) => Try::Refused(error),
            reply => done(reply).map_or_else(Try::Refused, Try::Done),
        }
    }
}

impl Client {
    /// A client of the configured cluster. Connects when it is first used.
    pub fn new(config: &Config) -> Result<Client> {
        let shared = Shared {
            pool: Arc::new(Pool::new(&config.secrets()?.cluster)),
            routes: Routes::new(config),
            sessions: Sessions::new(),
            cell_bytes: config.store.cell_bytes,
            stage_ms: config.store.stage_ms,
        };
        Ok(Client { shared: Arc::new(shared), limit: config.request_time(), only: None })
    }

    /// The same client with another time limit for each request (the configured one unless told).
    pub fn with_time_limit(&self, limit: Duration) -> Client {
        Client { limit, ..self.clone() }
    }

    /// The same client, asking one backend (`host:port`) alone, which passes on what another must do.
    pub fn through(&self, address: &str) -> Client {
        Client { only: Some(address.into()), ..self.clone() }
    }

    /// Reads a cell whole; for values known to be small: larger than `max` is `TooBig`.
    pub fn get(
        &self,
        row: impl AsRef<[u8]>,
        column: impl AsRef<[u8]>,
        max: u64,
    ) -> Result<Option<Found>> {
        let Some(mut reader) = self.open(row, column, 0, None)? else { return Ok(None) };
        if reader.total > max {
            return Err(Error::TooBig(format!(
                "the value has {} bytes, at most {max} are read",
                reader.total
            )));
        }
        let mut value = Vec::with_capacity(reader.len as usize);
        reader.read_to_end(&mut value)?;
        Ok(Some(Found { version: reader.version, value }))
    }

    /// Makes one change.
    pub fn write(&self, op: Op) -> Result<Written> {
        let row = op.row().ok_or_else(|| Error::bad("an op without a row"))?;
        let owner = owner(row).to_vec();
        written(self.change(&owner, Command::Write(op))?)
    }

    /// Makes several changes to rows of one owner: all or none.
    pub fn batch(&self, owner: impl AsRef<[u8]>, items: Vec<Op>) -> Result<Written> {
        let owner = owner.as_ref().to_vec();
        written(self.change(&owner.clone(), Command::Batch { owner, items })?)
    }

    /// One page of a row's columns, and whether more follow.
    pub fn scan(&self, scan: Scan) -> Result<(Vec<Column>, bool)> {
        let owner = owner(&scan.row).to_vec();
        let limit =
            if scan.limit == 0 { crate::protocol::command::LIMIT_DEFAULT } else { scan.limit };
        match self.ask(&owner, Request::new(Command::Scan(Scan { limit, ..scan })))? {
            Reply::Columns { columns, more } => Ok((columns, more)),
            other => Err(strange(&other)),
        }
    }

    /// One page of the rows that one backend holds itself.
    pub fn rows_of(
        &self,
        address: &str,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<(Vec<Row>, bool)> {
        let command =
            Command::Rows { prefix: prefix.to_vec(), after: after.map(<[u8]>::to_vec), limit };
        match self.call_at(address, command)? {
            Reply::Rows { rows, more } => Ok((rows, more)),
            other => Err(strange(&other)),
        }
    }

    /// Asks one backend or the master (`host:port`) itself, once.
    pub fn call_at(&self, address: &str, command: Command) -> Result<Reply> {
        let deadline = Instant::now() + self.limit;
        match self.shared.pool.call(address, &Request::new(command), deadline)? {
            Reply::Error(error) => Err(error),
            reply => Ok(reply),
        }
    }

    /// Begins a big value for a row.
    pub fn stage(&self, row: impl AsRef<[u8]>) -> Result<ValueId> {
        self.stage_id(row.as_ref(), None)
    }

    /// Keeps a staged value alive for another term.
    pub fn renew(&self, row: impl AsRef<[u8]>, id: ValueId) -> Result<()> {
        self.stage_id(row.as_ref(), Some(id)).map(drop)
    }

    fn stage_id(&self, row: &[u8], id: Option<ValueId>) -> Result<ValueId> {
        let reply = self.change(owner(row), Command::Stage { row: row.to_vec(), id })?;
        ValueId::parse(first_word(&reply)?)
    }

    /// Writes the chunk of a staged value that begins at `offset`. A repeat is harmless.
    pub fn chunk(
        &self,
        row: impl AsRef<[u8]>,
        id: ValueId,
        offset: u64,
        bytes: Vec<u8>,
    ) -> Result<()> {
        let row = row.as_ref().to_vec();
        let owner = owner(&row).to_vec();
        let reply =
            self.ask(&owner, Request::new(Command::Chunk { row, id, offset, value: bytes }))?;
        first_word(&reply).map(drop)
    }

    /// How many bytes of a staged value are there without a gap.
    pub fn staged(&self, row: impl AsRef<[u8]>, id: ValueId) -> Result<u64> {
        let row = row.as_ref().to_vec();
        let owner = owner(&row).to_vec();
        let reply = self.ask(&owner, Request::new(Command::Staged { row, id }))?;
        let word = String::from_utf8_lossy(first_word(&reply)?).into_owned();
        word.parse().map_err(|_| Error::corrupt("STAGED was not answered by a number"))
    }

    /// Gives a staged value up: its chunks are removed.
    pub fn abandon(&self, row: impl AsRef<[u8]>, id: ValueId) -> Result<()> {
        let row = row.as_ref().to_vec();
        self.write(Op::Abandon { row, id }).map(drop)
    }

    /// Takes everything that a reader gives, for a row; at most `max` bytes, else `TooBig`. Streams: memory
    /// is a few chunks. On an error what was staged is abandoned.
    pub fn upload(&self, row: impl AsRef<[u8]>, from: &mut dyn Read, max: u64) -> Result<Uploaded> {
        let row = row.as_ref();
        let first = fill(from, self.shared.cell_bytes)?;
        if first.len() as u64 > max {
            return Err(Error::TooBig(format!("at most {max} bytes")));
        }
        if (first.len() as u64) < self.shared.cell_bytes {
            return Ok(Uploaded::Inline(first));
        }
        let id = self.stage(row)?;
        match self.send_staged(row, id, first, from, max) {
            Ok(length) => Ok(Uploaded::Staged { id, length }),
            Err(error) => {
                if let Err(later) = self.abandon(row, id) {
                    log::debug!("staged value {id} waits for its deadline: {later}");
                }
                Err(error)
            }
        }
    }

    /// Sends all chunks, and renews the value in time: an upload may take longer than a term.
    fn send_staged(
        &self,
        row: &[u8],
        id: ValueId,
        first: Vec<u8>,
        from: &mut dyn Read,
        max: u64,
    ) -> Result<u64> {
        let term = Term::new(self.shared.stage_ms);
        send_chunks(first, from, self.shared.cell_bytes, max, |offset, bytes| {
            if term.is_due() {
                self.renew(row, id)?;
            }
            self.chunk(row, id, offset, bytes)
        })
    }

    /// Asks one process (`host:port` of a backend or the master) for its STATUS, for people.
    pub fn status_of(&self, address: &str, deadline: Instant) -> Result<String> {
        let mut connection = self.shared.pool.take(address, deadline)?;
        let text = connection.call_text(&Request::new(Command::Status))?;
        self.shared.pool.put(address, connection);
        Ok(text)
    }

    /// A request that changes something, under a name of its own.
    fn change(&self, owner: &[u8], command: Command) -> Result<Reply> {
        let ticket = self.shared.sessions.ticket(Instant::now() + self.limit);
        let ticket = ticket.ok_or_else(|| Error::retry("too many writes at once"))?;
        let options = Options { session: Some(ticket.id), ..Options::default() };
        self.ask(owner, Request { command, options })
    }

    /// Asks until there is an answer or the time is over.
    fn ask(&self, owner: &[u8], request: Request) -> Result<Reply> {
        self.until_answered(owner, request, |address, request, deadline| {
            match self.shared.pool.call(address, request, deadline) {
                Ok(reply) => Try::of(reply, Ok),
                Err(error) => Try::Silent(error),
            }
        })
    }

    /// Tries one backend after another until one answers or the time is over. From the first try on that may
    /// have reached a tablet, the request says that it is a repeat.
    fn until_answered<T>(
        &self,
        owner: &[u8],
        mut request: Request,
        try_at: impl Fn(&str, &Request, Instant) -> Try<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + self.limit;
        let (mut pause, mut share) = (PAUSE_MIN, FIRST_SHARE);
        let mut last = Error::retry("there was no time to ask");
        while Instant::now() < deadline {
            for address in self.candidates(owner) {
                let time = (time_until(deadline) / share).max(TRY_MIN);
                let until = deadline.min(Instant::now() + time);
                request.options.deadline_ms = Some(time_until(until).as_millis() as u64);
                let error = match try_at(&address, &request, until) {
                    Try::Done(answer) => return Ok(answer),
                    Try::Refused(error @ (Error::Retry(_) | Error::Unknown(_))) => error,
                    Try::Refused(error) if request.options.session.is_some() => {
                        return Err(worse(last, error));
                    }
                    Try::Refused(error) => return Err(error),
                    Try::Silent(error) => {
                        self.shared.routes.shun(&self.shared.pool, &address);
                        error
                    }
                };
                request.options.retry |= matches!(error, Error::Unknown(_));
                if matches!(error, Error::Retry(_)) {
                    self.shared.routes.doubt(owner);
                }
                last = worse(last, error);
            }
            share = LATER_SHARE;
            std::thread::sleep(pause.min(time_until(deadline)));
            pause = (pause * 2).min(PAUSE_MAX);
        }
        Err(last)
    }

    /// Addresses to ask about an owner, the best first.
    fn candidates(&self, owner: &[u8]) -> Vec<String> {
        match &self.only {
            Some(address) => vec![address.to_string()],
            None => self.shared.routes.candidates(&self.shared.pool, owner),
        }
    }
}

fn time_until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// Once a try may have been executed, a later refusal does not make it undone: it may still be on its way.
fn worse(before: Error, now: Error) -> Error {
    if matches!(before, Error::Unknown(_)) { before } else { now }
}

fn strange(reply: &Reply) -> Error {
    Error::corrupt(format!("a strange answer: {reply:?}"))
}

fn first_word(reply: &Reply) -> Result<&[u8]> {
    match reply {
        Reply::Ok(words) if !words.is_empty() => Ok(&words[0]),
        other => Err(strange(other)),
    }
}

fn written(reply: Reply) -> Result<Written> {
    match reply {
        Reply::Ok(_) => {
            let version = String::from_utf8_lossy(first_word(&reply)?).parse();
            let version = version.map_err(|_| strange(&reply))?;
            let Reply::Ok(words) = reply else { return Err(strange(&reply)) };
            Ok(Written::Done {
                version,
                words: words.into_iter().skip(1).map(Into::into).collect(),
            })
        }
        Reply::Mismatch { version, at } => Ok(Written::Mismatch { version, at: at.unwrap_or(0) }),
        Reply::NotFound => Ok(Written::NotFound),
        other => Err(strange(&other)),
    }
}
