//! The proxy that makes faults, by itself: a test tool that did nothing would let every test pass.

use crate::harness::proxy::{Direction, Fault, Network, Proxy};
use crate::harness::{Cluster, PATIENCE, Text, eventually};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Time in which nothing must arrive.
const SILENCE: Duration = Duration::from_millis(150);

/// A server that sends back what it gets; its address.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut to = stream.try_clone().unwrap();
                let _ = io::copy(&mut stream, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    address
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends a word and reads it back.
fn says(stream: &mut TcpStream, word: &str) -> io::Result<String> {
    stream.write_all(word.as_bytes())?;
    hears(stream, word.len())
}

fn hears(stream: &mut TcpStream, len: usize) -> io::Result<String> {
    let mut back = vec![0; len];
    stream.read_exact(&mut back)?;
    Ok(String::from_utf8(back).unwrap())
}

/// Nothing arrives, and the connection is open.
fn is_silent(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    let got = stream.read(&mut [0]);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    got.is_err_and(|e| matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
}

fn is_reset(stream: &mut TcpStream) -> bool {
    stream.read(&mut [0]).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset)
}

#[test]
fn without_a_fault_everything_passes_and_ends() {
    let proxy = Proxy::start(&echo());
    let mut stream = connect(&proxy);
    let sent = crate::harness::noise(1, 1 << 20);
    let mut to = stream.try_clone().unwrap();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || {
        to.write_all(&copy).unwrap();
        to.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    writer.join().unwrap();
    assert!(back == sent);
}

#[test]
fn what_is_stalled_arrives_afterwards() {
    for direction in [Direction::Forth, Direction::Back] {
        let proxy = Proxy::start(&echo());
        let mut stream = connect(&proxy);
        assert_eq!(says(&mut stream, "one").unwrap(), "one");
        proxy.set(direction, Fault::Stall);
        stream.write_all(b"two").unwrap();
        assert!(is_silent(&mut stream));
        proxy.heal();
        assert_eq!(hears(&mut stream, 3).unwrap(), "two");
        assert_eq!(says(&mut stream, "three").unwrap(), "three");
    }
}

#[test]
fn a_cut_swallows_in_silence_and_what_lost_bytes_is_reset_afterwards() {
    for direction in [Direction::Forth, Direction::Back] {
        let proxy = Proxy::start(&echo());
        let (mut stream, mut idle) = (connect(&proxy), connect(&proxy));
        assert_eq!(says(&mut stream, "one").unwrap(), "one");
        assert_eq!(says(&mut idle, "one").unwrap(), "one");
        proxy.set(direction, Fault::Cut);
        stream.write_all(b"two").unwrap();
        assert!(is_silent(&mut stream));
        let mut new = connect(&proxy);
        new.write_all(b"two").unwrap();
        assert!(is_silent(&mut new));
        proxy.heal();
        assert!(is_reset(&mut stream) && is_reset(&mut new));
        assert_eq!(says(&mut idle, "three").unwrap(), "three");
    }
}

#[test]
fn one_way_cut_leaves_the_other_way() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(&listener.local_addr().unwrap().to_string());
    let mut near = connect(&proxy);
    let (mut far, _) = listener.accept().unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    proxy.set(Direction::Forth, Fault::Cut);
    far.write_all(b"back").unwrap();
    assert_eq!(hears(&mut near, 4).unwrap(), "back");
    near.write_all(b"forth").unwrap();
    assert!(is_silent(&mut far));
}

#[test]
fn a_delay_delays() {
    let proxy = Proxy::start(&echo());
    let mut stream = connect(&proxy);
    proxy.set(Direction::Forth, Fault::Delay(SILENCE));
    let began = Instant::now();
    assert_eq!(says(&mut stream, "one").unwrap(), "one");
    assert!(began.elapsed() >= SILENCE);
}

#[test]
fn a_reset_and_a_refusal_are_seen_as_such() {
    let proxy = Proxy::start(&echo());
    let mut stream = connect(&proxy);
    assert_eq!(says(&mut stream, "one").unwrap(), "one");
    proxy.reset();
    assert!(is_reset(&mut stream));
    proxy.refuse(true);
    let mut refused = connect(&proxy);
    assert!(is_reset(&mut refused));
    proxy.heal();
    assert_eq!(says(&mut connect(&proxy), "two").unwrap(), "two");
}

#[test]
fn a_connection_is_reset_in_the_middle() {
    let proxy = Proxy::start(&echo());
    proxy.set(Direction::Back, Fault::ResetAfter(5));
    let mut stream = connect(&proxy);
    stream.write_all(b"onetwo").unwrap();
    let mut back = Vec::new();
    assert_eq!(stream.read_to_end(&mut back).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(b"onetw".starts_with(&back[..]));
}

#[test]
fn who_connects_to_a_target_that_is_down_is_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let proxy = Proxy::start(&address.to_string());
    assert!(is_reset(&mut connect(&proxy)));
}

#[test]
fn a_network_cuts_both_kinds_of_connections_in_one_direction() {
    let processes = ["x", "y"].map(|name| (name.to_string(), echo()));
    let network = Network::start(&processes);
    let to = |from: &str, to: &str| {
        let via = network.via(from);
        let line = via.lines().find(|line| line.starts_with(to)).unwrap();
        let stream = TcpStream::connect(line.split('"').nth(1).unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let (mut x_to_y, mut y_to_x) = (to("x", "y"), to("y", "x"));
    assert_eq!(says(&mut x_to_y, "one").unwrap(), "one");
    assert_eq!(says(&mut y_to_x, "one").unwrap(), "one");
    network.set("x", "y", Fault::Stall);
    x_to_y.write_all(b"two").unwrap();
    y_to_x.write_all(b"two").unwrap();
    assert!(is_silent(&mut x_to_y) && is_silent(&mut y_to_x));
    network.heal();
    assert_eq!(hears(&mut x_to_y, 3).unwrap(), "two");
    assert_eq!(hears(&mut y_to_x, 3).unwrap(), "two");
}

#[test]
fn the_processes_of_a_store_reach_one_another_through_its_network() {
    let cluster = Cluster::start_store(|_| {});
    let text = |name: &str| Text::connect(&cluster.address(name)).unwrap();
    let is_alive = || {
        let nodes = text("m1").lines("NODES").unwrap();
        nodes.iter().any(|line| line.starts_with("a1 ") && line.ends_with(" alive"))
    };
    assert!(is_alive());
    cluster.network().set_pair("m1", "a1", Fault::Cut);
    eventually("the master misses a1", || (!is_alive()).then_some(()));
    cluster.network().heal();
    eventually("the master hears a1", || is_alive().then_some(()));
    cluster.wait_in_service();
    let put = |name: &str| text(name).ask("PUT alice c 1 deadline=500\nx").unwrap();
    let other = eventually("a write is not passed on over a link that is cut", || {
        let group = text("m1").ask("WHERE alice").unwrap();
        let primary = group.split(' ').nth(2).unwrap().to_string();
        let other = cluster.backends().into_iter().find(|name| *name != primary).unwrap();
        eventually("a write is taken", || put(&other).starts_with("OK ").then_some(()));
        cluster.network().set(&other, &primary, Fault::Cut);
        let answer = put(&other);
        cluster.network().heal();
        let is_lost = answer.starts_with("RETRY ") || answer.starts_with("UNKNOWN ");
        assert!(is_lost || answer.starts_with("OK "), "{answer}");
        is_lost.then_some(other)
    });
    eventually("writes are passed on again", || put(&other).starts_with("OK ").then_some(()));
}
