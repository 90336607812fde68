//! A value read as a stream, which goes on at another backend when it breaks.

use super::{Client, Try, strange};
use crate::error::{Error, Result};
use crate::protocol::cell::owner;
use crate::protocol::command::{Command, Request};
use crate::protocol::connection::Connection;
use crate::protocol::reply::Reply;
use crate::protocol::wire;
use std::io::{self, Read};
use std::time::{Duration, Instant};

/// Longest wait for the next bytes of a value.
const STALL: Duration = Duration::from_secs(30);
/// How often a stream is opened again without a byte in between.
const RESUMES_MAX: u32 = 4;

/// A part of a cell to be read.
struct Part {
    row: Vec<u8>,
    column: Vec<u8>,
    offset: u64,
    length: Option<u64>,
    /// The version that is wanted; any unless told.
    version: Option<u64>,
}

/// What opening a cell came to.
enum Opened {
    /// Its bytes follow.
    Value(Head, Source),
    /// There is no such cell.
    NotFound,
    /// There is none of this version.
    Mismatch,
}

/// What a VALUE line says.
#[derive(PartialEq, Eq)]
struct Head {
    version: u64,
    len: u64,
    total: u64,
}

/// A connection on which bytes arrive, and the address of its other end.
type Source = (Connection, String);

impl Client {
    /// Opens a cell for reading `length` bytes from `offset` on as a stream (all that is left, unless
    /// told); a value of any size. An offset at or past the end gives an empty stream.
    pub fn open(
        &self,
        row: impl AsRef<[u8]>,
        column: impl AsRef<[u8]>,
        offset: u64,
        length: Option<u64>,
    ) -> Result<Option<ValueReader>> {
        let (row, column) = (row.as_ref().to_vec(), column.as_ref().to_vec());
        let part = Part { row, column, offset, length, version: None };
        match self.open_part(&part)? {
            Opened::Value(head, from) => ValueReader::new(self.clone(), part, head, from).map(Some),
            Opened::NotFound => Ok(None),
            Opened::Mismatch => Err(Error::corrupt("a mismatch where no version was asked for")),
        }
    }

    fn open_part(&self, part: &Part) -> Result<Opened> {
        let command = Command::Get {
            row: part.row.clone(),
            column: part.column.clone(),
            offset: part.offset,
            length: part.length,
            if_version: part.version,
            local: false,
        };
        self.until_answered(owner(&part.row), Request::new(command), |address, request, until| {
            self.try_open(address, request, until).unwrap_or_else(Try::Silent)
        })
    }

    fn try_open(&self, address: &str, request: &Request, deadline: Instant) -> Result<Try<Opened>> {
        let pool = &self.shared.pool;
        let mut connection = pool.take(address, deadline)?;
        let reply =
            connection.call(request).map_err(|e| Error::unknown(format!("{address}: {e}")))?;
        if let Reply::Value { version, len, total } = reply {
            let head = Head { version, len, total };
            return Ok(Try::Done(Opened::Value(head, (connection, address.to_string()))));
        }
        pool.put(address, connection);
        Ok(Try::of(reply, |reply| match reply {
            Reply::NotFound => Ok(Opened::NotFound),
            Reply::Mismatch { .. } => Ok(Opened::Mismatch),
            other => Err(strange(&other)),
        }))
    }
}

/// A value that is read as a stream. Where the connection breaks it is opened again, at the version with which it
/// began and the byte that comes next. Reads fail with an error rather than end early.
pub struct ValueReader {
    /// Version of the cell.
    pub version: u64,
    /// Bytes of the whole value.
    pub total: u64,
    /// Bytes that this reader gives.
    pub len: u64,
    left: u64,
    /// The bytes that are still to be given.
    rest: Part,
    /// How often it was opened again since the last byte.
    resumes: u32,
    from: Option<Source>,
    client: Client,
}

impl ValueReader {
    /// Reads the bytes that follow a VALUE line.
    fn new(client: Client, part: Part, head: Head, from: Source) -> Result<ValueReader> {
        let Head { version, len, total } = head;
        let rest = Part { version: Some(version), ..part };
        let from = Some(from);
        let mut reader =
            ValueReader { version, total, len, left: len, rest, resumes: 0, from, client };
        if len == 0 {
            reader.finish()?;
        }
        Ok(reader)
    }

    /// The next bytes of the connection.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let broken = || Error::retry("the connection is lost");
        let (connection, _) = self.from.as_mut().ok_or_else(broken)?;
        connection.set_deadline(Instant::now() + STALL);
        let most = self.left.min(buffer.len() as u64) as usize;
        match connection.reader().read(&mut buffer[..most])? {
            0 => Err(Error::corrupt("the value ended early")),
            n => Ok(n),
        }
    }

    /// Opens what is left again, after the connection was lost.
    fn resume(&mut self, lost: Error) -> Result<()> {
        if let Some((_, address)) = self.from.take() {
            self.client.shared.routes.shun(&self.client.shared.pool, &address);
        }
        if self.resumes == RESUMES_MAX {
            return Err(lost);
        }
        self.resumes += 1;
        self.rest.length = Some(self.left);
        let expected = Head { version: self.version, len: self.left, total: self.total };
        match self.client.open_part(&self.rest)? {
            Opened::Value(head, from) if head == expected => {
                self.from = Some(from);
                Ok(())
            }
            Opened::Value(..) => Err(Error::corrupt("another value under the same version")),
            Opened::NotFound | Opened::Mismatch => {
                Err(Error::retry("the value was changed while it was read"))
            }
        }
    }

    /// After the last byte the connection can be used again. Where it is lost before the LF that ends the value,
    /// nothing is missing.
    fn finish(&mut self) -> Result<()> {
        let Some((mut connection, address)) = self.from.take() else { return Ok(()) };
        match wire::end_value(connection.reader()) {
            Ok(()) => self.client.shared.pool.put(&address, connection),
            Err(error @ Error::Corrupt(_)) => return Err(error),
            Err(_) => {}
        }
        Ok(())
    }
}

impl Read for ValueReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let n = loop {
            match self.receive(buffer) {
                Ok(n) => break n,
                Err(lost) => self.resume(lost)?,
            }
        };
        self.left -= n as u64;
        self.rest.offset += n as u64;
        self.resumes = 0;
        if self.left == 0 {
            self.finish()?;
        }
        Ok(n)
    }
}
