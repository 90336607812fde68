//! HTTPS, with certificates of `penncloud cert`, as foreign clients see it.

use super::process::Process;
use super::server::{PATIENCE, limits, start, statuses};
use crate::harness::eventually;
use native_tls::{Certificate, Protocol, TlsConnector, TlsStream};
use penncloud::config::{self, Scheme};
use penncloud::http::client::Client;
use penncloud::tools::cert::{self, Made};
use rustix::process::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// A certificate of its own for each test.
fn pair(dir: &Path) -> Made {
    cert::run(dir, &["localhost".into(), "127.0.0.1".into()]).expect("a pair")
}

fn with(made: &Made, limits: config::Http) -> config::Http {
    config::Http { tls_cert: made.certificate.clone(), tls_key: made.key.clone(), ..limits }
}

/// Connects as a client that trusts this certificate and no other.
fn connect(address: &str, certificate: &Path) -> Result<TlsStream<TcpStream>, String> {
    let trusted = Certificate::from_pem(&fs::read(certificate).expect("a file")).expect("one");
    let connector = TlsConnector::builder()
        .disable_built_in_roots(true)
        .add_root_certificate(trusted)
        .build()
        .expect("a connector");
    let stream = TcpStream::connect(address).map_err(|e| e.to_string())?;
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    connector.connect("localhost", stream).map_err(|e| e.to_string())
}

fn rest(stream: &mut TlsStream<TcpStream>) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the server ends the connection in order");
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn requests_are_answered_under_tls_as_in_the_clear() {
    let dir = tempfile::tempdir().expect("a directory");
    let made = pair(dir.path());
    let address = start(with(&made, limits())).to_string();
    let mut client = Client::connect_by(Scheme::Https, &address, PATIENCE).expect("connect");
    let body = vec![b'a'; 300_000];
    for _ in 0..2 {
        let answer = client.request("POST", "/echo", &[], &body).expect("an answer");
        assert_eq!((answer.status, answer.body == body), (200, true));
        let hsts = answer.headers.get("strict-transport-security");
        assert_eq!(hsts, Some("max-age=31536000"));
    }
    let mut stream = connect(&address, &made.certificate).expect("a client that trusts it");
    stream.write_all(b"GET /last HTTP/1.1\r\nHost: h\r\n\r\n").expect("send");
    assert!(rest(&mut stream).ends_with("\r\n\r\nlast"), "closed in order, by close_notify");
}

#[test]
fn cookies_are_of_this_host_and_secure() {
    let dir = tempfile::tempdir().expect("a directory");
    let address = start(with(&pair(dir.path()), limits())).to_string();
    let mut client = Client::connect_by(Scheme::Https, &address, PATIENCE).expect("connect");
    let answer = client.request("GET", "/cookie", &[("Cookie", "c=forged")], b"").expect("answer");
    assert_eq!(answer.headers.get("set-cookie"), Some("__Host-c=1; Path=/; Secure"));
    assert_eq!(answer.body, b"none");
    let ours = [("Cookie", "c=forged; __Host-c=ours")];
    assert_eq!(client.request("GET", "/cookie", &ours, b"").expect("answer").body, b"ours");
}

#[test]
fn times_end_what_is_slow_under_tls_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let made = pair(dir.path());
    let short = config::Http { head_ms: 1500, idle_ms: 1500, ..limits() };
    let address = start(with(&made, short)).to_string();
    let mut silent = TcpStream::connect(&address).expect("connect");
    silent.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    let mut slow = connect(&address, &made.certificate).expect("connect");
    slow.write_all(b"GET / HTTP/1.1\r\n").expect("send");
    let mut idle = connect(&address, &made.certificate).expect("connect");
    assert_eq!(silent.read(&mut [0]).expect("an end"), 0, "no hand was shaken");
    assert_eq!(statuses(rest(&mut slow).as_bytes()), [408]);
    assert_eq!(rest(&mut idle), "");
}

#[test]
fn who_speaks_http_to_a_port_of_tls_is_told_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let address = start(with(&pair(dir.path()), limits()));
    let mut stream = super::server::connect(address);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").expect("send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.contains("https://"), "{answer}");
    assert_eq!(statuses(answer.as_bytes()), [400]);
}

#[test]
fn the_least_that_is_spoken_is_tls_1_2() {
    let dir = tempfile::tempdir().expect("a directory");
    let address = start(with(&pair(dir.path()), limits())).to_string();
    let with_most = |most| {
        let connector = TlsConnector::builder()
            .danger_accept_invalid_certs(true)
            .min_protocol_version(None)
            .max_protocol_version(Some(most))
            .build()
            .expect("a connector");
        connector.connect("localhost", TcpStream::connect(&address).expect("connect")).is_ok()
    };
    assert!(with_most(Protocol::Tlsv12));
    assert!(!with_most(Protocol::Tlsv11));
}

#[test]
fn over_the_cap_a_503_comes_under_tls() {
    let dir = tempfile::tempdir().expect("a directory");
    let made = pair(dir.path());
    let address = start(with(&made, config::Http { connections_max: 1, ..limits() })).to_string();
    let mut kept = Client::connect_by(Scheme::Https, &address, PATIENCE).expect("connect");
    assert_eq!(kept.request("GET", "/unread", &[], b"").expect("an answer").status, 200);
    let mut over = Client::connect_by(Scheme::Https, &address, PATIENCE).expect("connect");
    assert_eq!(over.request("GET", "/unread", &[], b"").expect("an answer").status, 503);
}

#[test]
fn every_role_serves_https_and_reads_its_certificate_again() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a directory")).collect();
    let (made, other) = (pair(dirs[0].path()), pair(dirs[1].path()));
    let http = format!("tls_cert = {:?}\ntls_key = {:?}", made.certificate, made.key);
    for (role, name, path) in [
        ("frontend", "f1", "/login"),
        ("console", "console", "/login"),
        ("balancer", "lb", "/ping"),
    ] {
        let process = Process::start(role, name, &http, "");
        let mut client =
            Client::connect_by(Scheme::Https, &process.address, PATIENCE).expect("connect");
        let answer = client.request("GET", path, &[], b"").expect("an answer");
        assert_eq!(answer.status, 200, "{name}");
        let https = format!("https://{}", process.address);
        eventually("it says so", || process.log().contains(&https).then_some(()));
        for cookie in answer.headers.all("set-cookie") {
            assert!(cookie.starts_with("__Host-") && cookie.ends_with("; Secure"), "{cookie}");
            assert!(cookie.contains("; Path=/;") && !cookie.contains("Domain"), "{cookie}");
        }
    }
    let process = Process::start("balancer", "lb", &http, "");
    let mut before = connect(&process.address, &made.certificate).expect("the first certificate");
    fs::write(&made.key, "no key").expect("written");
    process.signal(Signal::HUP);
    eventually("it keeps what it has", || {
        process.log().contains("the certificate stays as it was").then_some(())
    });
    connect(&process.address, &made.certificate).expect("the first certificate, still");
    let renewed = dirs[2].path().join("first.pem");
    fs::copy(&made.certificate, &renewed).expect("copied");
    fs::copy(&other.key, &made.key).expect("copied");
    fs::copy(&other.certificate, &made.certificate).expect("copied");
    process.signal(Signal::HUP);
    eventually("it shows the other", || connect(&process.address, &other.certificate).ok());
    assert!(connect(&process.address, &renewed).is_err(), "the first certificate is gone");
    before.write_all(b"GET /ping HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").expect("send");
    assert_eq!(statuses(rest(&mut before).as_bytes()), [200], "what was open goes on");
}

#[test]
fn a_certificate_that_cannot_be_used_is_a_start_that_fails() {
    let dir = tempfile::tempdir().expect("a directory");
    let made = pair(dir.path());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let wrong = config::Http { tls_key: made.certificate.clone(), ..with(&made, limits()) };
    let began = Instant::now();
    let why = super::server::serve(listener, wrong).expect_err("no start").to_string();
    assert!(why.starts_with("the TLS file ") && began.elapsed() < Duration::from_secs(60), "{why}");
}
