//! The accept loop: one OS thread a connection.
//!
//! A finished connection's thread waits up to [`IDLE_THREAD`] for the next connection before it ends, so
//! that a client that opens one connection a request does not pay for a new thread each time. The
//! acceptor hands a connection over without waiting, and makes a thread only when nobody waits.

use super::Stream;
use crate::error::{Error, Result};
use crossbeam::channel::{Receiver, Sender, bounded};
use std::cell::Cell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a finished thread waits for another connection.
const IDLE_THREAD: Duration = Duration::from_secs(5);
/// Pause of the acceptor when the system has no descriptor or thread to give, and how often the log says so.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(10);
const EXHAUSTED_SAID_EVERY: Duration = Duration::from_secs(5);
/// Stack of a connection's thread.
const STACK_BYTES: usize = 256 << 10;
/// Connections that the kernel keeps for the acceptor.
const BACKLOG: i32 = 1024;

/// Caps of one crew, which is all of a listener where there is no other.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Open connections from one IPv4 address, or one /64 of IPv6, which is one subscriber; loopback is exempt.
    pub per_address: usize,
}

impl Limits {
    /// So many connections, from wherever they come.
    pub fn of(connections: usize) -> Limits {
        Limits { connections, per_address: connections }
    }
}

/// Binds a listener; the error is a sentence for the operator.
pub fn bind(address: &str) -> Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let bound = || -> std::io::Result<TcpListener> {
        let target =
            address.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&target.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    bound().map_err(|e| Error::config(format!("cannot listen on {address}: {e}")))
}

/// Accepts for ever. `handle` runs on the connection's own thread; `refuse` is called on the acceptor's
/// thread for a connection over the caps, and must not block for long.
pub fn serve<H, R>(listener: TcpListener, limits: Limits, handle: H, refuse: R)
where
    H: Fn(Stream, SocketAddr) + Send + Sync + 'static,
    R: Fn(Stream),
{
    serve_crews(listener, &[Crew::new(limits, handle)], refuse);
}

/// [`serve`] with several crews: a connection goes to the first that is not full.
pub fn serve_crews(listener: TcpListener, crews: &[Crew], refuse: impl Fn(Stream)) {
    let exhausted = Exhausted::default();
    loop {
        let (stream, peer) = match accept(&listener) {
            Ok(accepted) => accepted,
            Err(e) => {
                exhausted.pause(&format_args!("accept: {e}"));
                continue;
            }
        };
        match crews.iter().find_map(|crew| Some((crew, crew.open.take(peer.ip(), crew.limits)?))) {
            Some((crew, slot)) => {
                let taken = crew.take(Connection { stream, peer, _slot: slot });
                taken.unwrap_or_else(|e| exhausted.pause(&format_args!("no thread: {e}")));
            }
            None => refuse(stream),
        }
    }
}

/// [`serve`] on a thread of its own.
pub fn spawn<H, R>(listener: TcpListener, limits: Limits, handle: H, refuse: R)
where
    H: Fn(Stream, SocketAddr) + Send + Sync + 'static,
    R: Fn(Stream) + Send + 'static,
{
    spawn_crews(listener, vec![Crew::new(limits, handle)], refuse);
}

/// [`serve_crews`] on a thread of its own.
pub fn spawn_crews(
    listener: TcpListener,
    crews: Vec<Crew>,
    refuse: impl Fn(Stream) + Send + 'static,
) {
    std::thread::Builder::new()
        .name("accept".into())
        .spawn(move || serve_crews(listener, &crews, refuse))
        .expect("a process can start its acceptor");
}

/// Threads that serve connections in one way, and their caps.
pub struct Crew {
    limits: Limits,
    open: Arc<Open>,
    handle: Arc<dyn Fn(Stream, SocketAddr) + Send + Sync>,
    hand_over: Sender<Connection>,
    waiting: Receiver<Connection>,
}

impl Crew {
    /// A crew without connections. `handle` runs on a connection's own thread.
    pub fn new(
        limits: Limits,
        handle: impl Fn(Stream, SocketAddr) + Send + Sync + 'static,
    ) -> Crew {
        let (hand_over, waiting) = bounded(0);
        let (open, handle) = (Arc::default(), Arc::new(handle));
        Crew { limits, open, handle, hand_over, waiting }
    }

    /// Hands a connection to a thread that waits, or else to a new one. Where there can be none it is closed.
    fn take(&self, connection: Connection) -> std::io::Result<()> {
        let Err(back) = self.hand_over.try_send(connection) else { return Ok(()) };
        let (waiting, handle) = (self.waiting.clone(), self.handle.clone());
        std::thread::Builder::new()
            .name("connection".into())
            .stack_size(STACK_BYTES)
            .spawn(move || work(back.into_inner(), &waiting, &*handle))
            .map(drop)
    }
}

/// What the acceptor does when the system has nothing more to give: it waits a moment, and says so now and then.
#[derive(Default)]
struct Exhausted {
    said: Cell<Option<Instant>>,
}

impl Exhausted {
    fn pause(&self, why: &dyn std::fmt::Display) {
        if self.said.get().is_none_or(|said| said.elapsed() > EXHAUSTED_SAID_EVERY) {
            log::warn!("{why}");
            self.said.set(Some(Instant::now()));
        }
        std::thread::sleep(EXHAUSTED_PAUSE);
    }
}

struct Connection {
    stream: Stream,
    peer: SocketAddr,
    _slot: Slot,
}

fn accept(listener: &TcpListener) -> Result<(Stream, SocketAddr)> {
    let (socket, peer) = listener.accept()?;
    Ok((Stream::new(socket)?, peer))
}

fn work(
    first: Connection,
    waiting: &Receiver<Connection>,
    handle: &(impl Fn(Stream, SocketAddr) + ?Sized),
) {
    let mut next = Some(first);
    while let Some(Connection { stream, peer, _slot }) = next.take() {
        let ended =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| handle(stream.clone(), peer)));
        if ended.is_err() {
            log::error!("a connection's thread panicked; its connection is closed");
        }
        stream.close();
        drop(_slot);
        next = waiting.recv_timeout(IDLE_THREAD).ok();
    }
}

/// Open connections, in all and by address.
#[derive(Default)]
struct Open {
    all: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// One open connection; its place is free again when this is dropped.
struct Slot {
    open: Arc<Open>,
    address: IpAddr,
}

impl Open {
    fn take(self: &Arc<Self>, address: IpAddr, limits: Limits) -> Option<Slot> {
        if self.all.load(Ordering::Relaxed) >= limits.connections {
            return None;
        }
        let address = subscriber(address);
        let mut by_address = self.by_address.lock().expect("no thread panics while it counts");
        let n = by_address.entry(address).or_default();
        if !address.is_loopback() && *n >= limits.per_address {
            return None;
        }
        *n += 1;
        self.all.fetch_add(1, Ordering::Relaxed);
        Some(Slot { open: self.clone(), address })
    }
}

/// What an address stands for: whoever has one of IPv6 has 2^64.
pub fn subscriber(address: IpAddr) -> IpAddr {
    const NETWORK: u128 = !0 << 64;
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => Ipv6Addr::from_bits(v6.to_bits() & NETWORK).into(),
        other => other,
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.open.all.fetch_sub(1, Ordering::Relaxed);
        let mut by_address = self.open.by_address.lock().expect("no thread panics while it counts");
        if let Some(n) = by_address.get_mut(&self.address) {
            *n -= 1;
            if *n == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    /// Serves echoes on a free port; a connection over the cap is told `full`.
    fn echo(connections: usize) -> SocketAddr {
        let listener = bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let echo = |mut stream: Stream, _| {
            let mut byte = [0];
            while stream.read(&mut byte).is_ok_and(|n| n == 1) {
                assert_ne!(byte, *b"!", "a handler that panics");
                stream.write_all(&byte).unwrap();
            }
        };
        let full = |mut stream: Stream| drop(stream.write_all(b"full"));
        spawn(listener, Limits { connections, per_address: 1 }, echo, full);
        address
    }

    fn say(stream: &mut TcpStream, byte: u8) -> Option<u8> {
        stream.write_all(&[byte]).ok()?;
        let mut answer = [0];
        (stream.read(&mut answer).ok()? == 1).then_some(answer[0])
    }

    /// Tries until there is an echo: a slot is free only when its thread has ended.
    fn connect(address: SocketAddr) -> TcpStream {
        for _ in 0..500 {
            let mut stream = TcpStream::connect(address).unwrap();
            if say(&mut stream, b'a') == Some(b'a') {
                return stream;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("no slot became free");
    }

    #[test]
    fn the_cap_holds_and_a_closed_connection_frees_its_slot() {
        let address = echo(2);
        let (first, _second) = (connect(address), connect(address));
        let mut third = TcpStream::connect(address).unwrap();
        let mut answer = String::new();
        third.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "full");
        drop(first);
        connect(address);
    }

    #[test]
    fn what_one_crew_has_no_room_for_goes_to_the_next() {
        let listener = bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let says = |word: &'static [u8]| {
            let limits = Limits { connections: 1, per_address: 1 };
            Crew::new(limits, move |mut stream: Stream, _| {
                let _ = stream.write_all(word).and_then(|()| stream.read(&mut [0]));
            })
        };
        let full = |mut stream: Stream| drop(stream.write_all(b"c"));
        spawn_crews(listener, vec![says(b"a"), says(b"b")], full);
        let mut open: Vec<TcpStream> =
            (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        let heard = open.iter_mut().map(|stream| {
            let mut word = [0];
            stream.read_exact(&mut word).unwrap();
            word[0]
        });
        assert_eq!(heard.collect::<Vec<_>>(), b"abc");
    }

    #[test]
    fn one_subscriber_takes_no_more_than_his_share() {
        let (open, limits) = (Arc::new(Open::default()), Limits { connections: 9, per_address: 2 });
        let take = |address: &str| open.take(address.parse().unwrap(), limits);
        let held = [take("192.0.2.1"), take("::ffff:192.0.2.1")];
        assert!(held.iter().all(Option::is_some) && take("192.0.2.1").is_none());
        assert!(take("192.0.2.2").is_some());
        let six = [take("2001:db8::1"), take("2001:db8::ffff:1")];
        assert!(six.iter().all(Option::is_some) && take("2001:db8::2").is_none());
        assert!(take("2001:db8:0:1::1").is_some());
        let many: Vec<_> = (0..3).map(|_| take("127.0.0.1")).collect();
        assert!(many.iter().all(Option::is_some), "loopback is exempt");
        drop(held);
        assert!(take("192.0.2.1").is_some());
    }

    #[test]
    fn a_panic_frees_its_slot() {
        let address = echo(1);
        for _ in 0..3 {
            let mut stream = connect(address);
            assert_eq!(say(&mut stream, b'!'), None);
        }
        connect(address);
    }

    #[test]
    fn a_taken_port_is_a_sentence() {
        let taken = bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let error = bind(&address).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot listen on {address}: ")), "{error}");
    }
}
