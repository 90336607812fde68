//! Redis beside ours: a primary and two replicas, each of which syncs its log with every write.

use super::children::{Children, free_addresses};
use super::store::{Store, Worker};
use crate::error::{Error, Result};
use crate::net::Stream;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Time for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Three Redis servers, the primary first.
pub struct Redis {
    addresses: [String; 3],
    _children: Children,
}

impl Redis {
    /// Starts them with their data below a directory.
    pub fn start(below: &Path) -> Result<Redis> {
        let (children, addresses) = (Children::new(below)?, free_addresses::<3>()?);
        let primary = addresses[0].replace(':', " ");
        for (number, address) in addresses.iter().enumerate() {
            let name = format!("redis{number}");
            let dir = children.dir().join(&name);
            std::fs::create_dir(&dir)?;
            let mut command = Command::new("redis-server");
            command.args(["--bind", "127.0.0.1", "--port", port(address)]);
            command.arg("--dir").arg(dir).args(["--save", "", "--repl-diskless-sync-delay", "0"]);
            command.args(["--appendonly", "yes", "--appendfsync", "always"]);
            command.args(["--auto-aof-rewrite-percentage", "0"]);
            if number > 0 {
                command.args(["--replicaof", &primary]);
            }
            children.start(&name, &mut command)?;
        }
        let redis = Redis { addresses, _children: children };
        redis
            ._children
            .await_work("wait for Redis", || redis.putter(0, "ready", 1)?().map(drop))?;
        Ok(redis)
    }
}

fn port(address: &str) -> &str {
    address.rsplit(':').next().unwrap_or_default()
}

impl Store for Redis {
    /// SET and WAIT 2 in one write: both replicas have the value in their synced log.
    fn putter(&self, _: usize, key: &str, bytes: u64) -> Result<Worker> {
        let mut session = Session::open(&self.addresses[0])?;
        let mut request = command(&[b"SET", key.as_bytes(), &vec![b'x'; bytes as usize]]);
        request.extend(command(&[b"WAIT", b"2", b"10000"]));
        Ok(Box::new(move || {
            session.stream.get_mut().write_all(&request)?;
            session.expect("+OK")?;
            session.expect(":2")?;
            Ok(bytes)
        }))
    }

    fn getter(&self, number: usize, key: &str, bytes: u64) -> Result<Worker> {
        self.putter(0, key, bytes)?()?;
        let mut session = Session::open(&self.addresses[number % self.addresses.len()])?;
        let request = command(&[b"GET", key.as_bytes()]);
        let mut value = vec![0; bytes as usize + 2];
        Ok(Box::new(move || {
            session.stream.get_mut().write_all(&request)?;
            session.expect(&format!("${bytes}"))?;
            session.stream.read_exact(&mut value)?;
            Ok(bytes)
        }))
    }
}

/// A command as Redis reads it: an array of strings.
fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend(format!("${}\r\n", word.len()).bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

struct Session {
    stream: BufReader<Stream>,
}

impl Session {
    fn open(address: &str) -> Result<Session> {
        let stream = Stream::connect(address, PATIENCE)?;
        stream.set_stall(Some(PATIENCE));
        Ok(Session { stream: BufReader::new(stream) })
    }

    fn expect(&mut self, wanted: &str) -> Result<()> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        match line.trim_end() {
            line if line == wanted => Ok(()),
            line => Err(Error::retry(format_args!("Redis said {line:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_array_of_strings() {
        assert_eq!(command(&[b"GET", b"key"]), b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n");
    }
}
