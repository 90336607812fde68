//! Writes: single ops and batches, here or at the tablet's primary; big values chunk by chunk.

use super::clock::unix_ms;
use super::node::{Node, Place};
use super::reads::{again, chunks_of, decode_chunks};
use super::tablet::Write;
use crate::error::{Error, Result};
use crate::protocol::cell::{Chunk, Head, ValueId, slot};
use crate::protocol::chunks::{Term, fill, send_chunks};
use crate::protocol::cluster::{Routes, TabletRoute};
use crate::protocol::command::{Command, Op, Options, Peer, Request};
use crate::protocol::entry::{Answer, Encode};
use crate::protocol::reply::Reply;
use crate::replication::Outcome;
use std::io::Read;
use std::time::Instant;

impl Node {
    /// Executes one op.
    pub fn write(&self, op: Op, options: Options, deadline: Instant) -> Result<Reply> {
        self.execute(Write { ops: vec![op], single: true, options }, deadline)
    }

    /// Executes ops on rows of one owner: all or none.
    pub fn execute(&self, mut write: Write, deadline: Instant) -> Result<Reply> {
        for op in &mut write.ops {
            let completed = self.complete_commit(op, deadline);
            completed.map_err(|error| before_the_tablet(error, &write.options))?;
        }
        let single = write.single;
        let row = write.ops.first().and_then(Op::row).ok_or_else(|| Error::bad("no row"))?;
        let outcome = self.propose(|routes| routes.tablet_of_row(row), &write, deadline)?;
        Ok(reply(outcome, single))
    }

    /// Has ops executed by a tablet's primary. While nobody is, or it is about to be another, the ops wait: they
    /// were definitely not executed.
    fn propose(
        &self,
        find: impl Fn(&Routes) -> Result<&TabletRoute>,
        write: &Write,
        deadline: Instant,
    ) -> Result<Outcome> {
        self.patiently(deadline, || {
            let routes = self.routes();
            match self.propose_once(find(&routes)?, write.clone(), deadline)? {
                Outcome::Refused(error @ Error::Retry(_)) => Err(error),
                outcome => Ok(outcome),
            }
        })
    }

    fn propose_once(
        &self,
        route: &TabletRoute,
        write: Write,
        deadline: Instant,
    ) -> Result<Outcome> {
        match self.place(route)? {
            Place::Here(tablet) => Ok(tablet.propose(write, deadline)),
            Place::At(address) => {
                let kind = if write.single { "single" } else { "batch" };
                let words = vec![route.id.clone().into(), kind.into()];
                let peer = Peer { verb: "@WRITE".into(), words, payload: write.ops.to_bytes() };
                let options = with_deadline(write.options, deadline);
                let request = Request { command: Command::Peer(peer), options };
                outcome(self.forward(&route.id, &address, &request, deadline)?)
            }
        }
    }

    /// Begins or renews a big value.
    pub fn stage(
        &self,
        row: &[u8],
        id: Option<ValueId>,
        options: Options,
        deadline: Instant,
    ) -> Result<Reply> {
        let staged = id.unwrap_or_default();
        let op = Op::Stage { row: row.to_vec(), id: staged, renew: id.is_some() };
        match self.write(op, options, deadline)? {
            Reply::Ok(mut words) if words.len() == 2 => Ok(Reply::Ok(vec![words.remove(1)])),
            other => Ok(other),
        }
    }

    /// Stores one chunk of a staged value.
    pub fn put_chunk(
        &self,
        row: &[u8],
        id: ValueId,
        offset: u64,
        value: Vec<u8>,
        deadline: Instant,
    ) -> Result<Reply> {
        if value.is_empty() {
            return Err(Error::bad("a chunk has at least one byte"));
        }
        let end = offset.saturating_add(value.len() as u64);
        self.check_length(end)?;
        self.check_staged(row, id, deadline)?;
        let slot = slot(row);
        let write = own(Op::Chunk { slot, id, offset, value });
        let answer = self.until_known(deadline, || {
            self.propose(|routes| routes.tablet_of_chunk(slot, id, offset), &write, deadline)
                .map(|outcome| reply(outcome, true))
        })?;
        Ok(if matches!(answer, Reply::Ok(_)) { Reply::ok(end) } else { answer })
    }

    /// Tries again even what may have been executed: only for what may be executed twice. A value that takes minutes
    /// to send outlives a primary by it.
    fn until_known(
        &self,
        deadline: Instant,
        mut attempt: impl FnMut() -> Result<Reply>,
    ) -> Result<Reply> {
        let mut unknown = None;
        let answer = self.patiently(deadline, || match attempt() {
            Ok(Reply::Error(error @ Error::Unknown(_))) | Err(error @ Error::Unknown(_)) => {
                let again = Error::retry(&error);
                unknown = Some(error);
                Err(again)
            }
            answer => answer,
        });
        match (answer, unknown) {
            (Err(Error::Retry(_)), Some(unknown)) => Err(unknown),
            (answer, _) => answer,
        }
    }

    fn check_length(&self, length: u64) -> Result<()> {
        let max = self.config.store.value_bytes_max;
        if length <= max {
            return Ok(());
        }
        Err(Error::TooBig(format!("a value has at most {max} bytes")))
    }

    /// How much of a staged value is there without a gap.
    pub fn staged_length(&self, row: &[u8], id: ValueId, deadline: Instant) -> Result<Reply> {
        self.check_staged(row, id, deadline)?;
        Ok(Reply::ok(contiguous(&self.chunks_everywhere(slot(row), id, deadline)?).length))
    }

    /// A chunk is taken only while its value is staged: what nobody has staged, nobody would remove. The
    /// deadline is remembered, so a long upload asks seldom; but not for longer than half the retire list's
    /// grace, in which another node may have committed or abandoned the value: a chunk that comes after
    /// its value's were removed would stay for ever.
    fn check_staged(&self, row: &[u8], id: ValueId, deadline: Instant) -> Result<()> {
        if self.staged_deadline(id).is_some_and(|until| unix_ms() < until) {
            return Ok(());
        }
        let until = self
            .patiently(deadline, || self.staged_until(row, id, deadline))?
            .ok_or_else(|| Error::bad(format!("value {id} is not staged, or was abandoned")))?;
        self.remember_staged(
            id,
            until.min(unix_ms().saturating_add(self.config.store.retire_ms / 2)),
        );
        Ok(())
    }

    /// The deadline of a staged value, as its row's primary knows it.
    fn staged_until(&self, row: &[u8], id: ValueId, deadline: Instant) -> Result<Option<u64>> {
        let routes = self.routes();
        let route = routes.tablet_of_row(row)?;
        Ok(match self.place(route)? {
            Place::Here(tablet) => {
                tablet.serving(deadline)?.staged(id).map(|staged| staged.deadline)
            }
            Place::At(address) => {
                let words = vec![route.id.clone().into(), id.to_string().into()];
                let answer = self.ask_peer(&address, "@STAGED", words, Vec::new(), deadline);
                let (words, _) = answer.map_err(again)?;
                words.first().and_then(|word| String::from_utf8_lossy(word).parse().ok())
            }
        })
    }

    /// Gives a COMMIT the list of its value's chunks, after all of them were seen on disk.
    fn complete_commit(&self, op: &mut Op, deadline: Instant) -> Result<()> {
        let Op::Commit { row, id, length, head, .. } = op else { return Ok(()) };
        if head.is_some() {
            return Ok(());
        }
        self.forget_staged(*id);
        let chunks = self.chunks_everywhere(slot(row), *id, deadline)?;
        let found = Head::new(*id, whole(&chunks, *length)?);
        *head = Some(found);
        Ok(())
    }

    /// All chunks of a value, from every large-value tablet that may hold some, in order.
    fn chunks_everywhere(
        &self,
        slot: u16,
        id: ValueId,
        deadline: Instant,
    ) -> Result<Vec<(u64, Chunk)>> {
        let (routes, mut all) = (self.routes(), Vec::new());
        for route in routes.large_tablets_of(slot)? {
            all.extend(self.patiently(deadline, || {
                let routes = self.routes();
                self.chunks_in(routes.tablet(&route.id)?, slot, id, deadline)
            })?);
        }
        all.sort_by_key(|(offset, _)| *offset);
        Ok(all)
    }

    /// The chunks of a value in one large-value tablet, as its primary knows them.
    fn chunks_in(
        &self,
        route: &TabletRoute,
        slot: u16,
        id: ValueId,
        deadline: Instant,
    ) -> Result<Vec<(u64, Chunk)>> {
        match self.place(route)? {
            Place::Here(tablet) => {
                chunks_of(&tablet.serving(deadline)?, slot, id).map_err(Error::of_this_copy)
            }
            Place::At(address) => {
                let slot = slot.to_string().into();
                let words = vec![route.id.clone().into(), slot, id.to_string().into()];
                let answer = self.ask_peer(&address, "@CHUNKS", words, Vec::new(), deadline);
                decode_chunks(&answer.map_err(again)?.1)
            }
        }
    }

    /// Writes a value larger than a cell: stages it, sends its chunks while they arrive, and commits.
    pub fn put_big(
        &self,
        request: &Request,
        len: u64,
        from: &mut impl Read,
        deadline: Instant,
    ) -> Result<Reply> {
        let Command::Write(Op::Put { row, column, if_version, ttl, .. }) = &request.command else {
            return Err(Error::bad("only PUT takes a value larger than a cell"));
        };
        self.check_length(len)?;
        let id = self.stage_anew(row, deadline);
        let id = id.map_err(|error| before_the_tablet(error, &request.options))?;
        let limit = self.config.request_time();
        let cell_bytes = self.config.store.cell_bytes;
        let mut value = from.take(len);
        let first = fill(&mut value, cell_bytes)?;
        let term = Term::new(self.config.store.stage_ms);
        let sent = send_chunks(first, &mut value, cell_bytes, len, |offset, bytes| {
            if term.is_due() {
                let deadline = Instant::now() + limit;
                refused(self.until_known(deadline, || {
                    self.stage(row, Some(id), Options::default(), deadline)
                })?)?;
            }
            refused(self.put_chunk(row, id, offset, bytes, Instant::now() + limit)?)
        });
        let (row, column, if_version, ttl) = (row.clone(), column.clone(), *if_version, *ttl);
        match sent {
            Ok(length) if length == len => {
                let commit = Op::Commit { row, column, id, length, if_version, ttl, head: None };
                let written = self.write(commit, request.options, Instant::now() + limit)?;
                if !matches!(written, Reply::Ok(_)) {
                    self.abandon(request, id);
                }
                Ok(written)
            }
            Ok(_) => {
                self.abandon(request, id);
                Err(Error::Io(std::io::ErrorKind::UnexpectedEof, "the value ended early".into()))
            }
            Err(error) => {
                self.abandon(request, id);
                Err(before_the_tablet(error, &request.options))
            }
        }
    }

    /// Begins a big value of the node's own. An id of which nobody knows whether it was staged waits for its deadline.
    fn stage_anew(&self, row: &[u8], deadline: Instant) -> Result<ValueId> {
        let mut id = ValueId::new();
        let staged = self.until_known(deadline, || {
            id = ValueId::new();
            let stage = Op::Stage { row: row.to_vec(), id, renew: false };
            self.write(stage, Options::default(), deadline)
        });
        staged.and_then(refused).map(|()| id)
    }

    /// Gives up what a PUT had staged. If this fails too, the deadline does it.
    fn abandon(&self, request: &Request, id: ValueId) {
        let Command::Write(Op::Put { row, .. }) = &request.command else { return };
        let op = Op::Abandon { row: row.clone(), id };
        let deadline = Instant::now() + self.config.request_time();
        if let Err(error) = self.write(op, Options::default(), deadline) {
            log::debug!("value {id} waits for its deadline: {error}");
        }
    }

    /// Executes one op of the node's own on a tablet, wherever it is served.
    pub fn propose_to(&self, tablet: &str, op: Op, deadline: Instant) -> Result<Answer> {
        match self.propose(|routes| routes.tablet(tablet), &own(op), deadline)? {
            Outcome::Done(answer) => Ok(answer),
            Outcome::Refused(error) => Err(error),
            other => Err(Error::unknown(format!("{other:?}"))),
        }
    }
}

/// An op of the node's own.
fn own(op: Op) -> Write {
    Write { ops: vec![op], single: true, options: Options::default() }
}

/// An outcome as an answer.
pub fn reply(outcome: Outcome, single: bool) -> Reply {
    match outcome {
        Outcome::Done(answer) => answer.into(),
        Outcome::Mismatch { version, at } => {
            Reply::Mismatch { version, at: (!single).then_some(at) }
        }
        Outcome::NotFound => Reply::NotFound,
        Outcome::Refused(error) => Reply::Error(error),
    }
}

/// An answer of another node as an outcome.
fn outcome(reply: Reply) -> Result<Outcome> {
    match reply {
        Reply::Ok(words) => {
            let mut words = words.into_iter();
            let version = words.next().and_then(|word| String::from_utf8_lossy(&word).parse().ok());
            let version = version.ok_or_else(|| Error::unknown("an OK without a version"))?;
            Ok(Outcome::Done(Answer { version, words: words.map(Into::into).collect() }))
        }
        Reply::Mismatch { version, at } => Ok(Outcome::Mismatch { version, at: at.unwrap_or(0) }),
        Reply::NotFound => Ok(Outcome::NotFound),
        Reply::Error(error) => Ok(Outcome::Refused(error)),
        other => Err(Error::unknown(format!("a strange answer to a write: {other:?}"))),
    }
}

/// What a repeat is told that was refused before its tablet looked whether the first try was executed: that may have
/// been, or be yet. That it was not executed for now speaks of this try alone.
fn before_the_tablet(error: Error, options: &Options) -> Error {
    let is_repeat = options.retry && options.session.is_some();
    match error {
        Error::Bad(_) | Error::NoSpace | Error::TabletFull | Error::Quota { .. } if is_repeat => {
            Error::unknown(format!("an earlier try may be executed; this one was not: {error}"))
        }
        error => error,
    }
}

/// Turns an answer that is no success into an error.
fn refused(reply: Reply) -> Result<()> {
    match reply {
        Reply::Ok(_) => Ok(()),
        Reply::Error(error) => Err(error),
        other => Err(Error::unknown(format!("{other:?}"))),
    }
}

fn with_deadline(mut options: Options, deadline: Instant) -> Options {
    options.deadline_ms =
        Some(deadline.saturating_duration_since(Instant::now()).as_millis() as u64);
    options
}

/// The chunks from the beginning on without a gap.
fn contiguous(chunks: &[(u64, Chunk)]) -> Head {
    let (mut end, mut run) = (0, Vec::new());
    for (offset, chunk) in chunks {
        if *offset != end {
            break;
        }
        end += u64::from(chunk.length);
        run.push(*chunk);
    }
    Head::new(ValueId(0), run)
}

/// The chunks of a value that is there whole: without a gap, and exactly as long as the client says.
fn whole(chunks: &[(u64, Chunk)], length: u64) -> Result<Vec<Chunk>> {
    let there = contiguous(chunks);
    if there.length == length && there.chunks.len() == chunks.len() {
        return Ok(there.chunks);
    }
    Err(Error::bad(format!(
        "the value has {} bytes without a gap, COMMIT says {length}",
        there.length
    )))
}
