//! An SMTP client that can also misbehave.

use super::PATIENCE;
use native_tls::{TlsConnector, TlsStream};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// A connection to an SMTP server.
pub struct Smtp {
    stream: BufReader<Wire>,
}

/// In the clear, or under TLS with whatever certificate.
enum Wire {
    Clear(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    fn secure(stream: TcpStream) -> io::Result<Wire> {
        let connector = TlsConnector::builder().danger_accept_invalid_certs(true).build();
        let connector = connector.expect("a connector without certificates");
        let stream = connector.connect("penn.test", stream);
        stream.map(|stream| Wire::Tls(Box::new(stream))).map_err(io::Error::other)
    }
}

impl Read for Wire {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Clear(stream) => stream.read(out),
            Wire::Tls(stream) => stream.read(out),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Clear(stream) => stream.write(octets),
            Wire::Tls(stream) => stream.write(octets),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Smtp {
    /// Shakes hands at once, reads the greeting and says EHLO.
    pub fn connect_tls(address: &str) -> io::Result<Smtp> {
        let mut smtp = Smtp::dial(address)?.secured()?;
        smtp.expect("220")?;
        smtp.say("EHLO client.example")?;
        Ok(smtp)
    }

    /// Shakes hands on the connection as it is; what was read and not used is forgotten.
    pub fn secured(self) -> io::Result<Smtp> {
        let Wire::Clear(stream) = self.stream.into_inner() else { panic!("TLS is on already") };
        Ok(Smtp { stream: BufReader::new(Wire::secure(stream)?) })
    }

    /// Connects, without reading the greeting.
    pub fn dial(address: &str) -> io::Result<Smtp> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Smtp { stream: BufReader::new(Wire::Clear(stream)) })
    }

    /// Connects, reads the greeting and says EHLO.
    pub fn connect(address: &str) -> io::Result<Smtp> {
        let mut smtp = Smtp::dial(address)?;
        smtp.expect("220")?;
        smtp.say("EHLO client.example")?;
        Ok(smtp)
    }

    /// The certificate that the server has shown, in DER.
    pub fn certificate(&self) -> Vec<u8> {
        let Wire::Tls(stream) = self.stream.get_ref() else { panic!("TLS is not on") };
        stream.peer_certificate().unwrap().expect("a server shows one").to_der().unwrap()
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
