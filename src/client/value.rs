//! A value read as a stream.

use crate::error::{Error, Result};
use crate::protocol::connection::{Connection, Pool};
use crate::protocol::wire;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest wait for the next bytes of a value.
const STALL: Duration = Duration::from_secs(30);

/// A value that is read as a stream. Reads fail with an error rather than end early.
pub struct ValueReader {
    /// Version of the cell.
    pub version: u64,
    /// Bytes of the whole value.
    pub total: u64,
    /// Bytes that this reader gives.
    pub len: u64,
    left: u64,
    from: Option<(Connection, String)>,
    pool: Arc<Pool>,
}

impl ValueReader {
    /// Reads the bytes that follow a VALUE line.
    pub(super) fn new(
        (version, total, len): (u64, u64, u64),
        from: (Connection, String),
        pool: Arc<Pool>,
    ) -> Result<ValueReader> {
        let mut reader = ValueReader { version, total, len, left: len, from: Some(from), pool };
        if len == 0 {
            reader.finish()?;
        }
        Ok(reader)
    }

    /// After the last byte the connection can be used again.
    fn finish(&mut self) -> Result<()> {
        let Some((mut connection, address)) = self.from.take() else { return Ok(()) };
        wire::end_value(connection.reader())?;
        self.pool.put(&address, connection);
        Ok(())
    }
}

impl Read for ValueReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((connection, _)) = &mut self.from else { return Ok(0) };
        if buffer.is_empty() {
            return Ok(0);
        }
        connection.set_deadline(Instant::now() + STALL);
        let most = self.left.min(buffer.len() as u64) as usize;
        let n = connection.reader().read(&mut buffer[..most])?;
        if n == 0 {
            return Err(Error::corrupt("the value ended early").into());
        }
        self.left -= n as u64;
        if self.left == 0 {
            self.finish()?;
        }
        Ok(n)
    }
}
