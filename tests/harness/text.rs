//! A connection that speaks the store's text protocol the way a person with netcat does.

use super::PATIENCE;
use penncloud::net::auth::{Side, nonce, proof};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A raw connection to a backend or the master.
pub struct Text {
    stream: BufReader<TcpStream>,
}

impl Text {
    /// Connects.
    pub fn connect(address: &str) -> io::Result<Text> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Text { stream: BufReader::new(stream) })
    }

    /// Connects within a time, which is also the limit of each read and write.
    pub fn connect_within(address: &str, time: Duration) -> io::Result<Text> {
        let address = address.parse().map_err(io::Error::other)?;
        let stream = TcpStream::connect_timeout(&address, time)?;
        stream.set_nodelay(true)?;
        let text = Text { stream: BufReader::new(stream) };
        text.set_limit(time)?;
        Ok(text)
    }

    /// Limits each read and write from now on.
    pub fn set_limit(&self, time: Duration) -> io::Result<()> {
        self.stream.get_ref().set_read_timeout(Some(time))?;
        self.stream.get_ref().set_write_timeout(Some(time))
    }

    /// Proves that it knows a secret; the answer to that.
    pub fn prove(&mut self, secret: &str) -> io::Result<String> {
        let mine = nonce();
        let answer = self.ask(format!("AUTH {mine}"))?;
        let theirs = answer.split(' ').nth(1).ok_or_else(|| io::Error::other(answer.clone()))?;
        let own = proof(secret, Side::Client, mine.as_bytes(), theirs.as_bytes());
        self.ask(format!("AUTH {own}"))
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// The next line of the answer, without its end; an error at the end of the connection.
    pub fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Sends a request (its LF is added) and reads the first line of the answer.
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> io::Result<String> {
        self.send([request.as_ref(), b"\n"].concat())?;
        self.line()
    }

    /// [`Text::ask`] with bytes after the request's line.
    pub fn ask_with(&mut self, request: &str, bytes: &[u8]) -> io::Result<String> {
        self.send([request.as_bytes(), b"\n", bytes, b"\n"].concat())?;
        self.line()
    }

    /// The `n` bytes of an answer and the LF after them.
    pub fn bytes(&mut self, n: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; n + 1];
        self.stream.read_exact(&mut bytes)?;
        assert_eq!(bytes.pop(), Some(b'\n'), "an LF follows the bytes of an answer");
        Ok(bytes)
    }

    /// Reads a cell whole: its version and value, or none.
    pub fn get(&mut self, row: &str, column: &str) -> io::Result<Option<(u64, Vec<u8>)>> {
        let line = self.ask(format!("GET {row} {column}"))?;
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["VALUE", version, len, ..] => {
                let len = len.parse().expect("a length");
                Ok(Some((version.parse().expect("a version"), self.bytes(len)?)))
            }
            ["NOTFOUND"] => Ok(None),
            _ => Err(io::Error::other(line)),
        }
    }

    /// Writes a cell; the error holds any answer but OK.
    pub fn put(&mut self, row: &str, column: &str, value: &[u8]) -> io::Result<u64> {
        let line = self.ask_with(&format!("PUT {row} {column} {}", value.len()), value)?;
        line.strip_prefix("OK ")
            .and_then(|v| v.parse().ok())
            .ok_or_else(|| io::Error::other(line.clone()))
    }

    /// Lines for people, up to the empty one.
    pub fn lines(&mut self, request: &str) -> io::Result<Vec<String>> {
        let mut lines = vec![self.ask(request)?];
        while !lines[lines.len() - 1].is_empty() {
            lines.push(self.line()?);
        }
        lines.pop();
        Ok(lines)
    }

    /// Whether the other side has closed and nothing is left to read.
    pub fn is_closed(&mut self) -> bool {
        match self.stream.fill_buf() {
            Ok(rest) => rest.is_empty(),
            Err(e) => e.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}
