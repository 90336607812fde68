//! A TCP proxy that makes faults, and a network of them: each process reaches each other one through a proxy of
//! its own, so that any two can be cut off from one another, in one direction or both.
//!
//! A piece of a stream (at most [`PIECE`] bytes) is judged by the fault that holds when it arrives. What was
//! swallowed is missing from the middle of a stream, so such a connection never forwards again and is reset
//! once the fault is over, as TCP itself would do after its time-outs.
//!
//! Threads: one for each listener, two for each connection; all end with the proxy.

use socket2::SockRef;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::Duration;

/// Bytes that are forwarded at once.
const PIECE: usize = 16 << 10;
/// Connections of one proxy; one more is reset.
const CONNECTIONS_MAX: usize = 512;
/// Longest time to reach the target, and to hand it a piece.
const TARGET_TIME: Duration = Duration::from_secs(60);

/// What happens to the bytes of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// They pass.
    #[default]
    None,
    /// Each piece takes this much longer.
    Delay(Duration),
    /// They wait, with the connection open, until the fault is over.
    Stall,
    /// They are swallowed silently.
    Cut,
    /// After so many bytes more of a connection, it is reset.
    ResetAfter(u64),
}

/// A direction of a proxy's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From who connects to the target.
    Forth = 0,
    /// From the target to who connected.
    Back = 1,
}

/// A listener whose connections lead to a target, with faults.
pub struct Proxy {
    address: String,
    shared: Arc<Shared>,
}

struct Shared {
    target: String,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    faults: [Fault; 2],
    refuses: bool,
    over: bool,
    /// Pieces that wait.
    held: usize,
    /// Held by their threads: a socket is closed when those let go of it.
    connections: Vec<Weak<Connection>>,
}

/// What becomes of a piece.
enum Verdict {
    Pass,
    Swallow,
    /// So many bytes pass, then the connection is reset.
    ResetAfter(u64),
    End,
}

/// Both sockets of a connection. They are closed when the last thread lets go of them.
struct Connection {
    near: TcpStream,
    far: Mutex<Option<Arc<TcpStream>>>,
    broken: AtomicBool,
    lost: AtomicBool,
}

impl Connection {
    /// Resets both sides: sockets without linger send RST when they are closed, which the threads do once
    /// their reads end.
    fn reset(&self) {
        self.broken.store(true, Ordering::SeqCst);
        let far = self.far.lock().unwrap().clone();
        for socket in [Some(&self.near), far.as_deref()].into_iter().flatten() {
            let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
            let _ = socket.shutdown(Shutdown::Read);
        }
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::SeqCst)
    }
}

impl Proxy {
    /// A proxy on a port of its own.
    pub fn start(target: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let shared =
            Shared { target: target.into(), state: Mutex::default(), changed: Condvar::new() };
        let proxy = Proxy { address, shared: Arc::new(shared) };
        let shared = proxy.shared.clone();
        std::thread::spawn(move || shared.accept(&listener));
        proxy
    }

    /// `host:port` of the proxy.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sets the fault of one direction, for open connections and new ones.
    pub fn set(&self, direction: Direction, fault: Fault) {
        self.shared.change(|state| state.faults[direction as usize] = fault);
    }

    /// Whether new connections are reset at once.
    pub fn refuse(&self, refuses: bool) {
        self.shared.change(|state| state.refuses = refuses);
    }

    /// Whether bytes wait because of [`Fault::Stall`].
    pub fn holds(&self) -> bool {
        self.shared.state.lock().unwrap().held > 0
    }

    /// Resets all open connections.
    pub fn reset(&self) {
        let connections = self.shared.state.lock().unwrap().connections.clone();
        connections.iter().filter_map(Weak::upgrade).for_each(|connection| connection.reset());
        self.shared.changed.notify_all();
    }

    /// No faults any more.
    pub fn heal(&self) {
        self.shared.change(|state| {
            state.faults = [Fault::None; 2];
            state.refuses = false;
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.change(|state| state.over = true);
        self.reset();
        let _ = TcpStream::connect(&self.address);
    }
}

impl Shared {
    /// Changes the faults. A connection that has lost bytes is reset once nothing is swallowed any more.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap();
        change(&mut state);
        if !state.faults.contains(&Fault::Cut) {
            let open = state.connections.iter().filter_map(Weak::upgrade);
            let lost = open.filter(|connection| connection.lost.load(Ordering::SeqCst));
            lost.for_each(|connection| connection.reset());
        }
        self.changed.notify_all();
    }

    fn accept(self: Arc<Shared>, listener: &TcpListener) {
        for near in listener.incoming() {
            let mut state = self.state.lock().unwrap();
            if state.over {
                return;
            }
            let Ok(near) = near else { continue };
            let _ = near.set_nodelay(true);
            state.connections.retain(|connection| connection.strong_count() > 0);
            let connection = Arc::new(Connection {
                near,
                far: Mutex::default(),
                broken: AtomicBool::new(false),
                lost: AtomicBool::new(false),
            });
            if state.refuses || state.connections.len() >= CONNECTIONS_MAX {
                connection.reset();
                continue;
            }
            state.connections.push(Arc::downgrade(&connection));
            drop(state);
            let shared = self.clone();
            std::thread::spawn(move || shared.connect(&connection));
        }
    }

    /// Reaches the target; then both directions go their way.
    fn connect(self: Arc<Shared>, connection: &Arc<Connection>) {
        if matches!(self.verdict(connection, Direction::Forth), Verdict::End) {
            return connection.reset();
        }
        let target = self.target.parse().expect("targets are host:port by number");
        let Ok(far) = TcpStream::connect_timeout(&target, TARGET_TIME) else {
            return connection.reset();
        };
        let _ = far.set_nodelay(true);
        let far = Arc::new(far);
        *connection.far.lock().unwrap() = Some(far.clone());
        if connection.is_broken() {
            return connection.reset();
        }
        let (shared, back, from) = (self.clone(), connection.clone(), far.clone());
        let back = std::thread::spawn(move || {
            shared.pump(&back, Direction::Back, &from, &back.near);
        });
        self.pump(connection, Direction::Forth, &connection.near, &far);
        let _ = back.join();
    }

    fn pump(
        &self,
        connection: &Connection,
        direction: Direction,
        from: &TcpStream,
        to: &TcpStream,
    ) {
        if self.forward(connection, direction, from, to).is_err() {
            connection.reset();
        }
        if !connection.is_broken() {
            let _ = to.shutdown(Shutdown::Write);
        }
    }

    /// Forwards until the stream ends. An error means that the connection is to be reset.
    fn forward(
        &self,
        connection: &Connection,
        direction: Direction,
        mut from: &TcpStream,
        mut to: &TcpStream,
    ) -> io::Result<()> {
        to.set_write_timeout(Some(TARGET_TIME))?;
        let (mut buffer, mut passed) = (vec![0; PIECE], 0);
        loop {
            let n = from.read(&mut buffer)?;
            if connection.is_broken() {
                return Ok(());
            }
            match self.verdict(connection, direction) {
                Verdict::Pass if n == 0 => return Ok(()),
                Verdict::Pass => to.write_all(&buffer[..n])?,
                Verdict::Swallow if n == 0 => return self.wait_for_reset(connection),
                Verdict::Swallow => {}
                Verdict::ResetAfter(limit) => {
                    let left = limit.saturating_sub(passed).min(n as u64) as usize;
                    to.write_all(&buffer[..left])?;
                    passed += left as u64;
                    if left < n {
                        return Err(io::ErrorKind::ConnectionReset.into());
                    }
                    if n == 0 {
                        return Ok(());
                    }
                }
                Verdict::End => return Ok(()),
            }
        }
    }

    /// What becomes of a piece that has arrived, after the delay or stall that it meets.
    fn verdict(&self, connection: &Connection, direction: Direction) -> Verdict {
        let mut state = self.state.lock().unwrap();
        loop {
            if state.over || connection.is_broken() {
                return Verdict::End;
            }
            if connection.lost.load(Ordering::SeqCst) {
                return Verdict::Swallow;
            }
            match state.faults[direction as usize] {
                Fault::None => return Verdict::Pass,
                Fault::Delay(time) => {
                    drop(state);
                    std::thread::sleep(time);
                    return Verdict::Pass;
                }
                Fault::Stall => {
                    state.held += 1;
                    state = self.changed.wait(state).unwrap();
                    state.held -= 1;
                }
                Fault::Cut => {
                    connection.lost.store(true, Ordering::SeqCst);
                    return Verdict::Swallow;
                }
                Fault::ResetAfter(bytes) => return Verdict::ResetAfter(bytes),
            }
        }
    }

    /// The end of a stream was swallowed too: the connection stays as it is until it is reset.
    fn wait_for_reset(&self, connection: &Connection) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        while !state.over && !connection.is_broken() {
            state = self.changed.wait(state).unwrap();
        }
        Ok(())
    }
}

/// A proxy for each ordered pair of processes.
pub struct Network {
    proxies: BTreeMap<(String, String), Proxy>,
}

impl Network {
    /// Lets each process reach each other one through a proxy; processes are names and addresses.
    pub fn start(processes: &[(String, String)]) -> Network {
        let pairs = processes.iter().flat_map(|from| processes.iter().map(move |to| (from, to)));
        let pairs = pairs.filter(|(from, to)| from.0 != to.0);
        let proxies =
            pairs.map(|(from, to)| ((from.0.clone(), to.0.clone()), Proxy::start(&to.1))).collect();
        Network { proxies }
    }

    /// The end of a process's configuration file: where it reaches the others.
    pub fn via(&self, process: &str) -> String {
        let own = self.proxies.iter().filter(|((from, _), _)| from == process);
        own.fold("\n[cluster.via]\n".into(), |text, ((_, to), proxy)| {
            format!("{text}{to} = \"{}\"\n", proxy.address())
        })
    }

    /// Sets the fault of all bytes that flow from one process to another, whoever connected.
    pub fn set(&self, from: &str, to: &str, fault: Fault) {
        self.proxy(from, to).set(Direction::Forth, fault);
        self.proxy(to, from).set(Direction::Back, fault);
    }

    /// Sets the fault between two processes, in both directions.
    pub fn set_pair(&self, one: &str, other: &str, fault: Fault) {
        self.set(one, other, fault);
        self.set(other, one, fault);
    }

    /// Whether something that one process sends to another waits because of [`Fault::Stall`].
    pub fn holds(&self, from: &str, to: &str) -> bool {
        self.proxy(from, to).holds()
    }

    /// Whether one process's new connections to another are reset at once.
    pub fn refuse(&self, from: &str, to: &str, refuses: bool) {
        self.proxy(from, to).refuse(refuses);
    }

    /// Resets all connections between two processes.
    pub fn reset(&self, one: &str, other: &str) {
        self.proxy(one, other).reset();
        self.proxy(other, one).reset();
    }

    /// No faults any more.
    pub fn heal(&self) {
        self.proxies.values().for_each(Proxy::heal);
    }

    fn proxy(&self, from: &str, to: &str) -> &Proxy {
        let pair = (from.to_string(), to.to_string());
        self.proxies.get(&pair).unwrap_or_else(|| panic!("no proxy from {from} to {to}"))
    }
}
