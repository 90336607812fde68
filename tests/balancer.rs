//! The balancer over real sockets, with played frontends.

use penncloud::balancer;
use penncloud::config::Config;
use penncloud::http::client::{Answer, Client};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// Answers `/ping` with what it is told to, as long as it lives. Without an answer it is silent.
struct Frontend {
    address: SocketAddr,
    says: Arc<Mutex<Option<String>>>,
    dead: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Frontend {
    fn start() -> Frontend {
        Frontend::start_at("127.0.0.1:0")
    }

    fn start_at(address: &str) -> Frontend {
        let listener = penncloud::net::bind(address).expect("the port is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let says = Arc::new(Mutex::new(Some("ok conns=1 draining=0 kv=ok".to_string())));
        let dead = Arc::new(AtomicBool::new(false));
        let (words, end) = (says.clone(), dead.clone());
        let thread = std::thread::spawn(move || play(&listener, &words, &end));
        Frontend { address, says, dead, thread: Some(thread) }
    }

    fn say(&self, answer: Option<&str>) {
        *self.says.lock().expect("no test panics here") = answer.map(String::from);
    }

    fn die(&mut self) {
        self.dead.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the played frontend ends");
        }
    }
}

impl Drop for Frontend {
    fn drop(&mut self) {
        self.die();
    }
}

fn play(listener: &TcpListener, says: &Mutex<Option<String>>, dead: &AtomicBool) {
    let mut silent = Vec::new();
    for stream in listener.incoming() {
        if dead.load(Ordering::SeqCst) {
            return;
        }
        let Ok(mut stream) = stream else { continue };
        let answer = says.lock().expect("no test panics here").clone();
        let Some(body) = answer else {
            silent.push(stream);
            continue;
        };
        stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a time-out can be set");
        let mut head = [0; 1024];
        if matches!(stream.read(&mut head), Ok(n) if n > 0) {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    }
}

fn config(frontends: &[&Frontend], interval: Duration) -> Config {
    let mut text = String::from(
        "[cluster]\ndata_dir = \"unused\"\nmail_domain = \"penn.test\"\n\
         [master]\nname = \"m\"\naddress = \"127.0.0.1:1\"\n\
         [[group]]\nname = \"a\"\nbackend = [{ name = \"a1\", address = \"127.0.0.1:2\" }]\n\
         [[balancer]]\nname = \"lb\"\naddress = \"127.0.0.1:3\"\n",
    );
    text += &format!("ping_interval_ms = {}\n", interval.as_millis());
    for (n, frontend) in frontends.iter().enumerate() {
        let address = frontend.address;
        text += &format!(
            "[[frontend]]\nname = \"f{n}\"\naddress = \"{address}\"\nadvertise = \"f{n}.test:80\"\n"
        );
    }
    Config::parse(&text).expect("a good configuration")
}

/// A balancer that pings every 50 ms.
fn balance(frontends: &[&Frontend]) -> SocketAddr {
    balance_every(Duration::from_millis(50), frontends)
}

fn balance_every(interval: Duration, frontends: &[&Frontend]) -> SocketAddr {
    let config = config(frontends, interval);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound listener has an address");
    std::thread::spawn(move || balancer::serve(listener, &config, &config.balancers[0]));
    address
}

fn ask(balancer: SocketAddr, method: &str, target: &str, fields: &[(&str, &str)]) -> Answer {
    let mut client = Client::connect(&balancer.to_string(), PATIENCE).expect("connect");
    client.request(method, target, fields, b"").expect("answer")
}

/// Which frontend a visitor is sent to.
fn sent_to(balancer: SocketAddr) -> Option<String> {
    let answer = ask(balancer, "GET", "/", &[]);
    let location = answer.headers.get("location")?;
    Some(location.strip_prefix("http://")?.split('.').next()?.to_string())
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether visitors are sent to all of these and to nobody else.
fn goes_to(balancer: SocketAddr, names: &[&str]) -> bool {
    let mut seen: Vec<String> = (0..8).filter_map(|_| sent_to(balancer)).collect();
    seen.sort();
    seen.dedup();
    seen == names
}

#[test]
fn visitors_are_sent_to_all_in_turn() {
    let (a, b) = (Frontend::start(), Frontend::start());
    let balancer = balance(&[&a, &b]);
    eventually("both are up", || goes_to(balancer, &["f0", "f1"]));
    let names: Vec<_> = (0..100).filter_map(|_| sent_to(balancer)).collect();
    assert_eq!(names.iter().filter(|n| *n == "f0").count(), 50);
}

#[test]
fn path_and_query_go_along_and_nothing_else() {
    let a = Frontend::start();
    let balancer = balance(&[&a]);
    eventually("it is up", || goes_to(balancer, &["f0"]));
    let forged = [("X-Forwarded-Host", "evil.test"), ("Forwarded", "host=evil.test")];
    let answer = ask(balancer, "GET", "/mail/a%20b?x=%2F%2Fy&z", &forged);
    assert_eq!(answer.status, 303);
    assert_eq!(answer.headers.get("location"), Some("http://f0.test:80/mail/a%20b?x=%2F%2Fy&z"));
    assert_eq!(answer.headers.get("cache-control"), Some("no-store"));
    assert!(answer.body.is_empty());
    let absolute = ask(balancer, "GET", "http://evil.test/x", &[]);
    assert_eq!(absolute.headers.get("location"), Some("http://f0.test:80/x"));
    assert_eq!(ask(balancer, "HEAD", "/", &[]).status, 303);
    assert_eq!(ask(balancer, "POST", "/login", &[]).status, 303);
    assert_eq!(ask(balancer, "PUT", "/dav/x", &[]).status, 307);
}

#[test]
fn nobody_is_sent_to_another_host() {
    let a = Frontend::start();
    let balancer = balance(&[&a]);
    eventually("it is up", || goes_to(balancer, &["f0"]));
    for target in
        ["//evil.test/", "/\\evil.test/", "/a\\b", "/%0d%0aLocation:x", "http://evil.test//x"]
    {
        let answer = ask(balancer, "GET", target, &[]);
        assert_eq!((answer.status, answer.headers.get("location")), (400, None), "{target}");
    }
}

#[test]
fn a_dead_frontend_is_left_out_at_once_and_comes_back() {
    let (a, mut b) = (Frontend::start(), Frontend::start());
    let balancer = balance(&[&a, &b]);
    eventually("both are up", || goes_to(balancer, &["f0", "f1"]));
    let address = b.address.to_string();
    b.die();
    eventually("only one is left", || goes_to(balancer, &["f0"]));
    let _b = Frontend::start_at(&address);
    eventually("it is back", || goes_to(balancer, &["f0", "f1"]));
}

#[test]
fn between_two_pings_a_dead_frontend_is_found_by_a_connection() {
    let (a, mut b) = (Frontend::start(), Frontend::start());
    let balancer = balance_every(100 * PATIENCE, &[&a, &b]);
    eventually("both are up", || goes_to(balancer, &["f0", "f1"]));
    b.die();
    eventually("only one is left", || goes_to(balancer, &["f0"]));
}

#[test]
fn a_silent_frontend_is_left_out() {
    let (a, b) = (Frontend::start(), Frontend::start());
    let balancer = balance(&[&a, &b]);
    eventually("both are up", || goes_to(balancer, &["f0", "f1"]));
    b.say(None);
    eventually("only one is left", || goes_to(balancer, &["f0"]));
    b.say(Some("ok conns=0 draining=0 kv=ok"));
    eventually("it is back", || goes_to(balancer, &["f0", "f1"]));
}

#[test]
fn the_degraded_serve_only_where_none_is_better_and_the_draining_never() {
    let (a, b) = (Frontend::start(), Frontend::start());
    let balancer = balance(&[&a, &b]);
    b.say(Some("ok conns=0 draining=0 kv=lost"));
    eventually("the degraded one is left out", || goes_to(balancer, &["f0"]));
    a.say(Some("ok conns=0 draining=0 kv=lost"));
    eventually("both are degraded", || goes_to(balancer, &["f0", "f1"]));
    a.say(Some("ok conns=0 draining=1 kv=ok"));
    eventually("the draining one is left out", || goes_to(balancer, &["f1"]));
}

#[test]
fn without_a_frontend_the_page_tries_again_by_itself() {
    let mut a = Frontend::start();
    let balancer = balance(&[&a]);
    eventually("it is up", || goes_to(balancer, &["f0"]));
    let address = a.address.to_string();
    a.die();
    eventually("none is left", || ask(balancer, "GET", "/", &[]).status == 503);
    let answer = ask(balancer, "GET", "/mail?a=\"<b>", &[]);
    assert_eq!(answer.status, 503);
    assert_eq!(answer.headers.get("retry-after"), Some("2"));
    assert_eq!(answer.headers.get("cache-control"), Some("no-store"));
    let page = String::from_utf8(answer.body).expect("UTF-8");
    assert!(page.contains("http-equiv=\"refresh\" content=\"2\""), "{page}");
    assert!(!page.contains("<b>"), "{page}");
    let _a = Frontend::start_at(&address);
    eventually("it is back", || goes_to(balancer, &["f0"]));
}

#[test]
fn the_balancer_answers_its_own_ping_and_style() {
    let a = Frontend::start();
    let balancer = balance(&[&a]);
    eventually("it is up", || goes_to(balancer, &["f0"]));
    let ping = ask(balancer, "GET", "/ping", &[]);
    let body = String::from_utf8(ping.body).expect("UTF-8");
    assert!(
        ping.status == 200 && body.starts_with("ok conns=") && body.ends_with(" frontends=1\n"),
        "{body}"
    );
    let style = ask(balancer, "GET", "/balancer/app.css", &[]);
    assert_eq!(
        (style.status, style.headers.get("content-type")),
        (200, Some("text/css; charset=utf-8"))
    );
}
