//! The HTTP server over real sockets.

use penncloud::config;
use penncloud::http::{App, Request, Response};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

struct Echo;

impl App for Echo {
    fn respond(&self, request: &mut Request<'_>) -> Response {
        let mut body = Vec::new();
        match request.body().read_to_end(&mut body) {
            Ok(_) => Response::bytes(200, "application/octet-stream", body),
            Err(e) => Response::text(400, e.to_string()),
        }
    }
}

fn start(limits: config::Http) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || penncloud::http::serve(listener, &limits, Arc::new(Echo)));
    address
}

#[test]
fn a_request_is_answered() {
    let mut stream = TcpStream::connect(start(config::Http::default())).expect("connect");
    stream
        .write_all(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
        )
        .expect("send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
}
