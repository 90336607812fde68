//! A TCP stream with total deadlines.

use crate::error::{Error, Result};
use rustix::net::SendFlags;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A connected TCP stream. Clones share the socket and the deadlines.
///
/// Two clocks may run against it: a *deadline*, an instant after which every read and write fails with
/// `TimedOut`; and a *stall* time, the longest that one read or write may take. Both are off at first.
#[derive(Clone, Debug)]
pub struct Stream {
    socket: Arc<TcpStream>,
    limits: Arc<Clocks>,
}

#[derive(Debug)]
struct Clocks {
    began: Instant,
    /// Milliseconds after `began`; 0 is none.
    deadline: AtomicU64,
    /// Milliseconds; 0 is none.
    stall: AtomicU64,
    /// Time-outs that the socket has now, in milliseconds; 0 is none. One that will do is not set again.
    read_timeout: AtomicU64,
    write_timeout: AtomicU64,
}

impl Stream {
    /// Wraps a socket that was just accepted or connected, and so has no time-outs; small writes leave at once.
    pub fn new(socket: TcpStream) -> Result<Stream> {
        socket.set_nodelay(true)?;
        let zero = || AtomicU64::new(0);
        let (deadline, stall, read_timeout, write_timeout) = (zero(), zero(), zero(), zero());
        let limits = Clocks { began: Instant::now(), deadline, stall, read_timeout, write_timeout };
        Ok(Stream { socket: Arc::new(socket), limits: Arc::new(limits) })
    }

    /// Connects to `host:port` within a time.
    pub fn connect(address: &str, within: Duration) -> Result<Stream> {
        let target = address
            .to_socket_addrs()
            .map_err(|e| Error::from(e).during(format!("look up {address}")))?
            .next()
            .ok_or_else(|| Error::bad(format!("{address} has no IP address")))?;
        let socket = TcpStream::connect_timeout(&target, within)
            .map_err(|e| Error::from(e).during(format!("connect to {address}")))?;
        Stream::new(socket)
    }

    /// From now on everything must be over at this instant; `None` takes the limit away.
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        let at = deadline.map_or(0, |d| {
            d.saturating_duration_since(self.limits.began).as_millis().max(1) as u64
        });
        self.limits.deadline.store(at, Ordering::Relaxed);
    }

    /// The instant at which everything must be over.
    pub fn deadline(&self) -> Option<Instant> {
        let at = self.limits.deadline.load(Ordering::Relaxed);
        (at > 0).then(|| self.limits.began + Duration::from_millis(at))
    }

    /// From now on one read or write may take this long; `None` takes the limit away.
    pub fn set_stall(&self, stall: Option<Duration>) {
        let ms = stall.map_or(0, |s| s.as_millis().max(1) as u64);
        self.limits.stall.store(ms, Ordering::Relaxed);
    }

    /// Breaks the connection when what was sent is not acknowledged by the other host for so long.
    pub fn set_user_timeout(&self, within: Duration) -> Result<()> {
        Ok(socket2::SockRef::from(&*self.socket).set_tcp_user_timeout(Some(within))?)
    }

    /// The other side's address.
    pub fn peer(&self) -> Result<SocketAddr> {
        Ok(self.socket.peer_addr()?)
    }

    /// Ends both directions: a thread that blocks in a read or write on any clone returns.
    pub fn close(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Says that nothing more will be written.
    pub fn close_write(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// The socket itself, for options that only one layer needs.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Writes what the socket takes at once.
    ///
    /// # Errors
    /// `WouldBlock`: it takes nothing now.
    pub fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        Ok(rustix::net::send(&*self.socket, bytes, flags)?)
    }

    /// The longest that the next read or write may block, in milliseconds, 0 for ever; an error when the time is over.
    fn patience(&self) -> io::Result<u64> {
        let stall = self.limits.stall.load(Ordering::Relaxed);
        let Some(deadline) = self.deadline() else { return Ok(stall) };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(timed_out());
        }
        let left = (left.as_millis() as u64).max(1);
        Ok(if stall > 0 { stall.min(left) } else { left })
    }
}

/// The time-out to be set, in milliseconds, where the socket has another that will not do. One that is longer by a
/// 32nd will: requests one after the other, all with the same time, cost no system call for it.
fn other_timeout(has: &AtomicU64, patience: u64) -> Option<u64> {
    let will_do = patience..=patience + patience / 32;
    let set = patience + patience / 64;
    let replace = !will_do.contains(&has.load(Ordering::Relaxed));
    replace.then(|| has.store(set, Ordering::Relaxed)).map(|()| set)
}

/// A time-out of so many milliseconds as the socket takes it.
fn timeout(ms: u64) -> Option<Duration> {
    (ms > 0).then(|| Duration::from_millis(ms))
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the time for this is over")
}

/// A socket's time-out comes back as `WouldBlock` on Unix.
fn name_timeout(e: io::Error) -> io::Error {
    if e.kind() == io::ErrorKind::WouldBlock { timed_out() } else { e }
}

/// A process that is stopped and goes on finds what it was at interrupted, where the socket has a time-out: it is tried
/// again.
fn uninterrupted(mut step: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match step() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map_err(name_timeout),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        uninterrupted(|| {
            let patience = self.patience()?;
            if let Some(ms) = other_timeout(&self.limits.read_timeout, patience) {
                self.socket.set_read_timeout(timeout(ms))?;
            }
            (&*self.socket).read(buffer)
        })
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        uninterrupted(|| {
            let patience = self.patience()?;
            if let Some(ms) = other_timeout(&self.limits.write_timeout, patience) {
                self.socket.set_write_timeout(timeout(ms))?;
            }
            (&*self.socket).write(bytes)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Stream::new(listener.accept().unwrap().0).unwrap(), other)
    }

    #[test]
    fn a_deadline_ends_a_peer_that_sends_a_byte_now_and_then() {
        let (mut stream, mut other) = pair();
        let trickle = std::thread::spawn(move || {
            while other.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        stream.set_deadline(Some(Instant::now() + Duration::from_millis(200)));
        let mut all = Vec::new();
        let ended = stream.read_to_end(&mut all).unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        assert!(!all.is_empty(), "bytes came all the time");
        stream.close();
        drop(stream);
        trickle.join().unwrap();
    }

    #[test]
    fn a_stall_ends_one_read() {
        let (mut stream, other) = pair();
        stream.set_stall(Some(Duration::from_millis(20)));
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(other);
    }

    #[test]
    fn a_reader_that_does_not_read_ends_the_write() {
        let (mut stream, other) = pair();
        stream.set_deadline(Some(Instant::now() + Duration::from_millis(100)));
        let ended = stream.write_all(&vec![0; 64 << 20]).unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        drop(other);
    }
}
