//! The whole server over real sockets.

use super::server::{PATIENCE, connect, limits, start, statuses};
use penncloud::config;
use penncloud::http::client::{Answer, Client};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Sends bytes, and reads until the server closes.
fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = connect(address);
    stream.write_all(request).expect("send");
    rest(&mut stream)
}

fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the server ends the connection in order");
    String::from_utf8_lossy(&answer).into_owned()
}

fn client(address: SocketAddr) -> Client {
    Client::connect(&address.to_string(), PATIENCE).expect("connect")
}

fn text(answer: &Answer) -> &str {
    std::str::from_utf8(&answer.body).expect("text")
}

#[test]
fn a_connection_is_kept_for_the_next_request() {
    let mut client = client(start(limits()));
    for n in 0..3 {
        let body = format!("body {n}");
        let answer = client.request("POST", "/echo", &[], body.as_bytes()).expect("answer");
        assert_eq!((answer.status, text(&answer)), (200, body.as_str()));
        assert_eq!(answer.headers.get("connection"), None);
        assert!(answer.headers.get("date").is_some_and(|d| d.ends_with(" GMT")));
    }
}

#[test]
fn a_connection_is_kept_after_a_long_head() {
    let mut client = client(start(limits()));
    for len in [3000, 1, 5000, 1] {
        let long = "x".repeat(len);
        let answer = client.request("GET", "/end", &[("x-long", &long)], b"").expect("answer");
        assert_eq!(answer.status, 200);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let request = b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n";
    let mut all: Vec<u8> = (b'a'..=b'e').flat_map(|b| [&request[..], &[b]].concat()).collect();
    all.extend(b"GET /end HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let answers = exchange(start(limits()), &all);
    assert_eq!(statuses(answers.as_bytes()), [200; 6]);
    let bodies: Vec<&str> = answers
        .split("\r\n\r\n")
        .skip(1)
        .map(|b| b.split("HTTP/1.1").next().unwrap_or(b))
        .collect();
    assert_eq!(bodies, ["a", "b", "c", "d", "e", "GET /end 0"]);
}

#[test]
fn a_handler_may_end_the_connection() {
    let answers = exchange(start(limits()), &b"GET /last HTTP/1.1\r\nHost: h\r\n\r\n".repeat(2));
    assert_eq!(statuses(answers.as_bytes()), [200]);
    assert_eq!(answers.matches("Connection: close\r\n").count(), 1, "{answers}");
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let address = start(config::Http { idle_ms: 100, ..limits() });
    assert_eq!(rest(&mut connect(address)), "");
}

#[test]
fn silence_is_cut_short_when_the_places_are_nearly_taken() {
    let address = start(config::Http { connections_max: 4, idle_ms: 60_000, ..limits() });
    let mut crowd: Vec<Client> = (0..3).map(|_| client(address)).collect();
    for client in &mut crowd {
        assert_eq!(client.request("GET", "/unread", &[], b"").expect("answer").status, 200);
    }
    let mut last = connect(address);
    last.write_all(b"GET /unread HTTP/1.1\r\nHost: h\r\n\r\n").expect("send");
    assert_eq!(statuses(rest(&mut last).as_bytes()), [200]);
}

#[test]
fn a_slow_head_is_cut_off_by_its_total_time() {
    let address = start(config::Http { head_ms: 300, ..limits() });
    let mut stream = connect(address);
    let began = Instant::now();
    for byte in b"GET / HTTP/1.1\r\nHost: h\r\nX: ".iter().chain(std::iter::repeat(&b'a')) {
        if stream.write_all(&[*byte]).is_err() || began.elapsed() > PATIENCE {
            break;
        }
        stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a time-out can be set");
        let mut first = [0];
        match stream.peek(&mut first) {
            Ok(_) => break,
            Err(e) => {
                assert!(matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{e}")
            }
        }
    }
    assert!(began.elapsed() < PATIENCE, "the head was let go on");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert_eq!(statuses(&answer), [408]);
}

#[test]
fn a_slow_body_is_cut_off() {
    let address = start(config::Http { stall_ms: 200, form_ms: 200, ..limits() });
    for path in ["/echo", "/form"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\
             Content-Type: application/x-www-form-urlencoded\r\n\r\na=b"
        );
        assert_eq!(statuses(exchange(address, head.as_bytes()).as_bytes()), [408], "{path}");
    }
}

#[test]
fn a_reader_who_does_not_read_is_cut_off() {
    let address = start(config::Http { stall_ms: 200, ..limits() });
    let mut stream = connect(address);
    stream.write_all(b"GET /stream/1000000000 HTTP/1.1\r\nHost: h\r\n\r\n").expect("send");
    let deadline = Instant::now() + PATIENCE;
    while stream.write_all(b"x").is_ok() {
        assert!(Instant::now() < deadline, "the server still holds the connection");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_chunked_upload_is_read() {
    let mut stream = connect(start(limits()));
    stream
        .write_all(b"PUT /put HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
        .expect("send");
    for _ in 0..100 {
        stream.write_all(b"1000;x=y\r\n").expect("send");
        stream.write_all(&[7; 0x1000]).expect("send");
        stream.write_all(b"\r\n").expect("send");
    }
    stream.write_all(b"0\r\nX: y\r\n\r\n").expect("send");
    assert!(rest(&mut stream).ends_with("PUT /put 409600"));
}

#[test]
fn an_upload_passes_in_parts() {
    let file = vec![b'-'; 1_000_000];
    let head = "Content-Disposition: form-data; name=\"file\"; filename=\"grün.bin\"";
    let body = [format!("--B\r\n{head}\r\n\r\n").as_bytes(), &file, b"\r\n--B--\r\n"].concat();
    let kind = ("Content-Type", "multipart/form-data; boundary=B");
    let answer =
        client(start(limits())).request("POST", "/upload", &[kind], &body).expect("answer");
    assert_eq!(text(&answer), "file Some(\"grün.bin\") 1000000\n");
}

#[test]
fn forms_are_read_in_both_codings() {
    let mut client = client(start(limits()));
    let urlencoded = ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8");
    let answer =
        client.request("POST", "/form", &[urlencoded], b"a=1+2&b=%C3%BC&a=").expect("answer");
    assert_eq!(text(&answer), "a=1 2\nb=ü\na=");
    let multipart = ("Content-Type", "multipart/form-data; boundary=B");
    let field = "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1 2\r\n";
    let none = "--B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"\"\r\n\r\n\r\n";
    let body = format!("{field}{none}--B--\r\n");
    let answer = client.request("POST", "/form", &[multipart], body.as_bytes()).expect("answer");
    assert_eq!(text(&answer), "a=1 2");
    let file = body.replace("filename=\"\"", "filename=\"x\"");
    let answer = client.request("POST", "/form", &[multipart], file.as_bytes()).expect("answer");
    assert_eq!(answer.status, 400);
    let answer =
        client.request("POST", "/form", &[("Content-Type", "text/csv")], b"a").expect("answer");
    assert_eq!(answer.status, 400);
}

#[test]
fn what_is_too_large_is_refused_by_its_own_status() {
    let small = config::Http { form_bytes_max: 100, upload_bytes_max: 1000, ..limits() };
    let address = start(small);
    let urlencoded = ("Content-Type", "application/x-www-form-urlencoded");
    let form =
        client(address).request("POST", "/form", &[urlencoded], &[b'a'; 101]).expect("answer");
    assert_eq!(form.status, 413);
    let (kind, value) = urlencoded;
    let head =
        format!("POST /form HTTP/1.1\r\nHost: h\r\n{kind}: {value}\r\nContent-Length: 101\r\n\r\n");
    let began = Instant::now();
    let said = exchange(address, head.as_bytes());
    assert_eq!(statuses(said.as_bytes()), [413]);
    assert!(
        began.elapsed() < Duration::from_millis(limits().form_ms),
        "nothing more is waited for"
    );
    let upload = client(address).request("PUT", "/put", &[], &[b'a'; 1001]).expect("answer");
    assert_eq!(upload.status, 413);
    let chunked = "PUT /put HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n";
    let chunked = format!("{chunked}{}\r\n0\r\n\r\n", "a".repeat(1001));
    assert_eq!(statuses(exchange(address, chunked.as_bytes()).as_bytes()), [413]);
    let target = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(9000));
    assert_eq!(statuses(exchange(address, target.as_bytes()).as_bytes()), [414]);
    let head = format!("GET / HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n", "a".repeat(17_000));
    assert_eq!(statuses(exchange(address, head.as_bytes()).as_bytes()), [431]);
}

#[test]
fn a_refusal_arrives_although_the_client_still_sends() {
    let head = "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n";
    let request = format!("{head}{}", "a".repeat(60_000));
    let answer = exchange(start(limits()), request.as_bytes());
    assert_eq!(statuses(answer.as_bytes()), [400]);
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
}

/// Whether the other side takes what is written after its answer has begun.
fn goes_on_writing(mut stream: TcpStream) -> bool {
    stream.read_exact(&mut [0; 12]).expect("the answer begins");
    (0..4).all(|_| {
        std::thread::sleep(Duration::from_millis(10));
        stream.write_all(&[b'a'; 1000]).is_ok()
    })
}

#[test]
fn after_a_refusal_nothing_is_reset_while_the_client_still_sends() {
    let address = start(config::Http { connections_max: 1, ..limits() });
    let mut refused = connect(address);
    refused.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n").expect("send");
    assert!(goes_on_writing(refused), "a refused request");
    let mut kept = client(address);
    while kept.request("GET", "/unread", &[], b"").map(|a| a.status) != Ok(200) {
        kept = client(address);
    }
    let mut over = connect(address);
    over.write_all(b"GET / HTTP/1.1\r\n").expect("send");
    assert!(goes_on_writing(over), "a connection over the cap");
}

#[test]
fn head_is_get_without_its_body() {
    let address = start(limits());
    for target in ["/stream/5?sized", "/stream/5", "/unread"] {
        let both = format!(
            "HEAD {target} HTTP/1.1\r\nHost: h\r\n\r\nGET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        );
        let answers = exchange(address, both.as_bytes());
        let (head, get) = answers.split_once("\r\n\r\n").expect("two answers");
        let (get_head, body) = get.split_once("\r\n\r\n").expect("a body");
        let fields = |head: &str| -> Vec<String> {
            head.lines()
                .filter(|l| !l.starts_with("Date") && !l.starts_with("Conn"))
                .map(String::from)
                .collect()
        };
        assert_eq!(fields(head), fields(get_head));
        assert!(!body.is_empty());
    }
}

#[test]
fn a_client_that_waits_is_told_to_go_on_when_the_body_is_read() {
    let mut stream = connect(start(limits()));
    let head = "POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("send");
    let mut input = BufReader::new(stream.try_clone().expect("one more handle"));
    let mut line = String::new();
    input.read_line(&mut line).expect("a line");
    assert_eq!(line, "HTTP/1.1 100 Continue\r\n");
    stream.write_all(b"hello").expect("send");
    let mut answer = String::new();
    input.read_to_string(&mut answer).expect("answer");
    assert!(answer.ends_with("hello"), "{answer}");
}

#[test]
fn a_client_that_waits_is_not_told_to_send_what_nobody_reads() {
    let request =
        "POST /unread HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let answer = exchange(start(limits()), request.as_bytes());
    assert_eq!(statuses(answer.as_bytes()), [200]);
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
}

#[test]
fn an_unread_body_is_never_a_request() {
    let address = start(limits());
    let poison = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    let short = format!(
        "POST /unread HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{poison}GET /next HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        poison.len()
    );
    let answers = exchange(address, short.as_bytes());
    assert_eq!(statuses(answers.as_bytes()), [200, 200]);
    assert!(answers.ends_with("GET /next 0") && !answers.contains("smuggled"), "{answers}");
    let long = format!(
        "POST /unread HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n{}",
        poison.repeat(1000)
    );
    let answers = exchange(address, long.as_bytes());
    assert_eq!(statuses(answers.as_bytes()), [200]);
    assert!(answers.contains("\r\nConnection: close\r\n"), "{answers}");
}

#[test]
fn a_malformed_body_is_refused_even_where_nobody_reads_it() {
    let request = "POST /unread HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    assert_eq!(statuses(exchange(start(limits()), request.as_bytes()).as_bytes()), [400]);
}

#[test]
fn a_panic_is_a_500_and_the_server_lives_on() {
    let address = start(limits());
    for _ in 0..3 {
        let answer = exchange(address, b"GET /panic HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(statuses(answer.as_bytes()), [500]);
        assert!(answer.contains("\nrequest "), "{answer}");
    }
    let deadline = Instant::now() + PATIENCE;
    while text(&client(address).request("GET", "/open", &[], b"").expect("answer")) != "1" {
        assert!(Instant::now() < deadline, "a place was not given back");
    }
}

#[test]
fn a_connection_over_the_cap_is_told_so_and_a_place_is_free_again() {
    let address = start(config::Http { connections_max: 2, ..limits() });
    let mut kept: Vec<Client> = (0..2).map(|_| client(address)).collect();
    for client in &mut kept {
        assert_eq!(client.request("GET", "/unread", &[], b"").expect("answer").status, 200);
    }
    let answer = exchange(address, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(statuses(answer.as_bytes()), [503]);
    assert!(answer.contains("\r\nRetry-After: 1\r\n"), "{answer}");
    drop(kept);
    let deadline = Instant::now() + PATIENCE;
    while client(address).request("GET", "/unread", &[], b"").map(|a| a.status) != Ok(200) {
        assert!(Instant::now() < deadline, "no place became free");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn http_1_0_gets_one_answer_without_chunks() {
    let address = start(limits());
    let answer = exchange(address, b"GET /stream/5 HTTP/1.0\r\n\r\n");
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    assert!(!answer.contains("chunked") && answer.ends_with("\r\n\r\nxxxxx"), "{answer}");
    let kept =
        b"GET /unread HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /unread HTTP/1.0\r\n\r\n";
    let answer = exchange(address, kept);
    assert_eq!(statuses(answer.as_bytes()), [200, 200]);
    assert!(answer.contains("\r\nConnection: keep-alive\r\n"), "{answer}");
}

#[test]
fn streams_arrive_whole() {
    let mut client = client(start(limits()));
    for target in ["/stream/300000?sized", "/stream/300000", "/stream/0?sized", "/stream/0"] {
        let answer = client.request("GET", target, &[], b"").expect("answer");
        let size = if target.contains("300000") { 300_000 } else { 0 };
        assert_eq!(answer.body, vec![b'x'; size], "{target}");
    }
}

#[test]
fn a_stream_that_breaks_is_never_taken_for_the_whole() {
    let address = start(limits());
    for target in ["/broken", "/broken?sized", "/short"] {
        let answer = client(address).request("GET", target, &[], b"");
        assert!(answer.is_err(), "{target}: {answer:?}");
        let two = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n").repeat(2);
        assert_eq!(statuses(exchange(address, two.as_bytes()).as_bytes()), [200], "{target}");
    }
}

#[test]
fn a_client_that_leaves_within_its_body_harms_nobody() {
    let address = start(limits());
    let mut stream = connect(address);
    stream
        .write_all(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc")
        .expect("send");
    stream.shutdown(Shutdown::Write).expect("half closed");
    assert_eq!(statuses(rest(&mut stream).as_bytes()), [400]);
    assert_eq!(client(address).request("GET", "/unread", &[], b"").expect("answer").status, 200);
}

#[test]
fn options_and_other_methods_name_what_is_allowed() {
    let mut client = client(start(limits()));
    for (method, target, status, allow) in [
        ("OPTIONS", "/unread", 204, "GET, HEAD, POST, OPTIONS"),
        ("DELETE", "/unread", 405, "GET, HEAD, POST, OPTIONS"),
        ("OPTIONS", "*", 204, "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH"),
        ("TRACE", "/", 405, "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH"),
    ] {
        let answer = client.request(method, target, &[], b"").expect("answer");
        assert_eq!(
            (answer.status, answer.headers.get("allow")),
            (status, Some(allow)),
            "{method} {target}"
        );
    }
}
