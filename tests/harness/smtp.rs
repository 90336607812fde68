//! An SMTP client that can also misbehave.

use super::PATIENCE;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;

/// A connection to an SMTP server.
pub struct Smtp {
    stream: BufReader<TcpStream>,
}

impl Smtp {
    /// Connects, without reading the greeting.
    pub fn dial(address: &str) -> io::Result<Smtp> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Smtp { stream: BufReader::new(stream) })
    }

    /// Connects, reads the greeting and says EHLO.
    pub fn connect(address: &str) -> io::Result<Smtp> {
        let mut smtp = Smtp::dial(address)?;
        smtp.expect("220")?;
        smtp.say("EHLO client.example")?;
        Ok(smtp)
    }

    /// Sends octets as they are.
    pub fn send(&mut self, octets: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(octets.as_ref())
    }

    /// The next reply, all its lines; an error at the end of the connection.
    pub fn reply(&mut self) -> io::Result<String> {
        let mut reply = String::new();
        loop {
            let start = reply.len();
            if self.stream.read_line(&mut reply)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            assert!(reply.ends_with("\r\n"), "{reply:?}");
            if reply.as_bytes().get(start + 3) != Some(&b'-') {
                return Ok(reply);
            }
        }
    }

    /// Sends a line and reads the reply.
    pub fn say(&mut self, line: &str) -> io::Result<String> {
        self.send(format!("{line}\r\n"))?;
        self.reply()
    }

    /// Reads a reply that must begin so.
    pub fn expect(&mut self, code: &str) -> io::Result<String> {
        let reply = self.reply()?;
        match reply.starts_with(code) {
            true => Ok(reply),
            false => Err(io::Error::other(reply)),
        }
    }

    /// MAIL and RCPT; an error holds the first refusal.
    pub fn envelope(&mut self, from: &str, to: &[&str]) -> io::Result<()> {
        self.send(format!("MAIL FROM:<{from}>\r\n"))?;
        self.expect("250")?;
        for to in to {
            self.send(format!("RCPT TO:<{to}>\r\n"))?;
            self.expect("250")?;
        }
        Ok(())
    }

    /// A whole transaction; dots are stuffed here. The message ends in CR LF. The reply to it.
    pub fn message(&mut self, from: &str, to: &[&str], message: &[u8]) -> io::Result<String> {
        self.envelope(from, to)?;
        self.send("DATA\r\n")?;
        self.expect("354")?;
        let mut stuffed = Vec::with_capacity(message.len() + 100);
        for line in message.split_inclusive(|b| *b == b'\n') {
            stuffed.extend(line.starts_with(b".").then_some(b'.'));
            stuffed.extend_from_slice(line);
        }
        stuffed.extend(b".\r\n");
        self.send(stuffed)?;
        self.reply()
    }

    /// Whether the server has closed and nothing is left to read.
    pub fn is_closed(&mut self) -> bool {
        match self.stream.fill_buf() {
            Ok(rest) => rest.is_empty(),
            Err(e) => e.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}
