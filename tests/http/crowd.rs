//! Many connections at once, to a process of its own: how much each costs, and that nothing that runs out ends it.

use super::process::Process;
use super::server::PATIENCE;
use crate::harness::{eventually, long, skipped};
use penncloud::http::client::{Answer, Client};
use rustix::process::Signal;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Memory that a connection may cost which has sent nothing yet.
const IDLE_BYTES_MAX: usize = 20 << 10;
/// The same after a request: what that touched of the stack stays, and the frames of a debug build are large.
const SERVED_BYTES_MAX: usize = if cfg!(debug_assertions) { 36 << 10 } else { IDLE_BYTES_MAX };

fn ping(process: &Process) -> Option<Answer> {
    let mut client = Client::connect(&process.address, PATIENCE).ok()?;
    client.request("GET", "/ping", &[], b"").ok().filter(|answer| answer.status == 200)
}

/// Opens connections and waits until the process says that it has them; what each costs in resident memory.
fn cost_of_idle(process: &Process, connections: usize, greet: fn(&mut TcpStream)) -> usize {
    let resident = process.resident();
    let mut open: Vec<TcpStream> = Vec::new();
    for _ in 0..connections {
        let mut stream = TcpStream::connect(&process.address).expect("connect");
        greet(&mut stream);
        open.push(stream);
    }
    let began = Instant::now();
    let all = format!("conns={} ", connections + 1);
    eventually("all are open", || {
        let answer = ping(process)?;
        String::from_utf8_lossy(&answer.body).contains(&all).then_some(())
    });
    println!("{connections} idle: all open, and a new one answered, after {:?}", began.elapsed());
    (process.resident() - resident) / connections
}

#[test]
fn an_idle_connection_costs_little_memory() {
    let connections = if long() { 10_000 } else { 400 };
    let http = "connections_max = 20000\nidle_ms = 600000\nhead_ms = 600000";
    let silent: fn(&mut TcpStream) = |_| ();
    for (what, greet, bytes_max) in
        [("silent", silent, IDLE_BYTES_MAX), ("after a request", served, SERVED_BYTES_MAX)]
    {
        let process = Process::start("balancer", "lb", http, "");
        eventually("it answers", || ping(&process));
        let bytes = cost_of_idle(&process, connections, greet);
        println!("{connections} idle, {what}: {:.1} KiB each", bytes as f64 / 1024.0);
        assert!(bytes < bytes_max, "{what}: an idle connection costs {bytes} bytes");
    }
}

/// Has the connection answer something first.
fn served(stream: &mut TcpStream) {
    stream.write_all(b"GET /ping HTTP/1.1\r\nHost: h\r\n\r\n").expect("send");
    let mut input = BufReader::new(stream);
    let mut line = String::new();
    while !line.starts_with("ok ") {
        line.clear();
        assert!(input.read_line(&mut line).expect("an answer") > 0, "the connection was closed");
    }
}

#[test]
fn without_descriptors_for_more_the_process_lives_on() {
    let process = Process::start("balancer", "lb", "", "ulimit -n 48;");
    let crowd: Vec<TcpStream> =
        (0..100).map(|_| TcpStream::connect(&process.address).expect("connect")).collect();
    eventually("it says so", || process.log().contains("accept: ").then_some(()));
    drop(crowd);
    eventually("it answers again", || ping(&process));
    let said = process.log().matches("accept: ").count();
    assert!(said < 20, "the log says the same {said} times");
}

#[test]
fn without_threads_for_more_the_process_lives_on() {
    const FEW: &str = "prlimit --nproc=24:24 setpriv --reuid=64123 --clear-groups";
    let tried = std::process::Command::new("sh").args(["-c", &format!("{FEW} true")]).status();
    if !tried.is_ok_and(|status| status.success()) {
        return skipped("threads that run out", "only root can be somebody who may have few");
    }
    let process = Process::start("balancer", "lb", "", &format!("exec {FEW} \"$0\" \"$@\";"));
    let crowd: Vec<TcpStream> =
        (0..100).map(|_| TcpStream::connect(&process.address).expect("connect")).collect();
    eventually("it says so", || process.log().contains("no thread: ").then_some(()));
    drop(crowd);
    eventually("it answers again", || ping(&process));
}

#[test]
fn a_connection_over_the_cap_is_told_so_by_a_process_that_answers_on() {
    let process = Process::start("balancer", "lb", "connections_max = 3", "");
    let crowd: Vec<Client> = (0..3)
        .filter_map(|_| Client::connect(&process.address, PATIENCE).ok())
        .map(|mut client| {
            client.request("GET", "/ping", &[], b"").expect("an answer");
            client
        })
        .collect();
    let mut over = Client::connect(&process.address, Duration::from_secs(5)).expect("connect");
    assert_eq!(over.request("GET", "/ping", &[], b"").expect("an answer").status, 503);
    drop(crowd);
    eventually("it answers again", || ping(&process));
}

#[test]
fn a_process_that_was_stopped_goes_on_with_its_connections() {
    let process = Process::start("balancer", "lb", "", "");
    let mut client = Client::connect(&process.address, PATIENCE).expect("connect");
    for _ in 0..2 {
        let answer = client.request("GET", "/ping", &[], b"").expect("the connection was kept");
        assert_eq!(answer.status, 200);
        process.signal(Signal::STOP);
        process.signal(Signal::CONT);
    }
}
