//! Requests and forms that other projects test their parsers with: `vectors/README.md` says whose.

use super::pieces::{parts, requests};
use super::server;
use crate::harness::Cluster;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};

const PIECES: [usize; 3] = [usize::MAX, 1, 7];

#[derive(Deserialize)]
pub struct Vector {
    name: String,
    raw: String,
    upstream: String,
    /// Whether the message is whole; what is not ends too early.
    complete: bool,
}

impl Vector {
    fn is_rejected(&self) -> bool {
        self.upstream == "reject"
    }

    /// The bytes, with a Host where the vector has none.
    pub fn bytes(&self) -> Vec<u8> {
        let raw = match self.raw.to_ascii_lowercase().contains("host:") {
            true => self.raw.clone(),
            false => self.raw.replace("HTTP/1.1\r\n", "HTTP/1.1\r\nHost: x\r\n"),
        };
        raw.chars().map(|c| c as u8).collect()
    }
}

pub fn llhttp() -> Vec<Vector> {
    let vectors: Vec<Vector> =
        serde_json::from_str(include_str!("vectors/llhttp.json")).expect("good JSON");
    assert_eq!(vectors.len(), 131);
    vectors
}

/// Rules by which we refuse what llhttp accepts.
const STRICTER: [&str; 6] = [
    "an unknown method",
    "this method is not served",
    "the request line ends in HTTP/1.1",
    "the request line",
    "a target has no fragment",
    "Host is one name or address, and a port",
];

#[test]
fn what_llhttp_rejects_is_refused_and_what_it_accepts_is_served() {
    let mut seen = BTreeSet::new();
    for vector in llhttp() {
        for piece in PIECES {
            let (served, refusal) = requests(&vector.bytes(), piece);
            let name = &vector.name;
            match refusal {
                None => assert!(!vector.is_rejected(), "{name} is served in pieces of {piece}"),
                Some(refusal) if vector.is_rejected() => assert!(refusal.status >= 400, "{name}"),
                Some(refusal) if refusal.why.ends_with("too early") => {
                    assert!(
                        !served.is_empty() || !vector.complete || name.contains("reset"),
                        "{name}"
                    );
                }
                Some(refusal) => {
                    assert!(STRICTER.contains(&refusal.why), "{name}: {refusal:?}");
                    seen.insert(refusal.why);
                }
            }
        }
    }
    assert_eq!(seen.len(), STRICTER.len(), "only {seen:?} are needed");
}

#[test]
fn the_server_answers_the_vectors_as_the_machines_judge_them() {
    let address = server::start(server::limits());
    for vector in llhttp() {
        let statuses = server::statuses(&exchange(address, &vector.bytes()));
        assert!(!statuses.is_empty(), "{} is not answered", vector.name);
        let (served, refusal) = requests(&vector.bytes(), usize::MAX);
        let expected = served.iter().map(|_| 200).chain(refusal.map(|r| r.status));
        assert_eq!(statuses, expected.collect::<Vec<_>>(), "{}", vector.name);
    }
}

#[test]
fn no_listener_of_a_cluster_serves_what_llhttp_rejects() {
    let cluster = Cluster::shared();
    let mut listeners = 0;
    for (name, role, address) in cluster.config().processes() {
        if !["frontend", "balancer", "console"].contains(&role) {
            continue;
        }
        listeners += 1;
        let address = address.parse().expect("an address of loopback");
        for vector in llhttp().iter().filter(|v| v.is_rejected()) {
            let statuses = server::statuses(&exchange(address, &vector.bytes()));
            let last = statuses.last().copied().unwrap_or_default();
            assert!(last >= 400, "{name} answers {:?} by {statuses:?}", vector.raw);
        }
    }
    assert!(listeners >= 4, "only {listeners} listeners speak HTTP");
}

fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = server::connect(address);
    stream.write_all(bytes).expect("send");
    stream.shutdown(Shutdown::Write).expect("half closed");
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers).expect("answers");
    answers
}

#[derive(Deserialize)]
pub struct Form {
    name: String,
    boundary: String,
    body: String,
    error: bool,
    parts: Vec<Part>,
}

impl Form {
    pub fn bytes(&self) -> Vec<u8> {
        BASE64_STANDARD.decode(&self.body).expect("base64")
    }

    pub fn content_type(&self) -> String {
        format!("multipart/form-data; boundary=\"{}\"", self.boundary)
    }
}

#[derive(Deserialize)]
struct Part {
    name: String,
    filename: Option<String>,
    data: String,
}

pub fn forms() -> Vec<Form> {
    let forms: Vec<Form> =
        serde_json::from_str(include_str!("vectors/multipart.json")).expect("good JSON");
    assert_eq!(forms.len(), 29);
    forms
}

#[test]
fn forms_come_back_byte_for_byte_or_are_refused() {
    for form in forms() {
        for piece in PIECES {
            let read = parts(&form.content_type(), &form.bytes(), piece);
            assert_eq!(read.is_err(), form.error, "{}: {read:?}", form.name);
            let Ok(read) = read else { continue };
            assert_eq!(read.len(), form.parts.len(), "{}", form.name);
            for ((name, filename, _, bytes), part) in read.into_iter().zip(&form.parts) {
                assert_eq!((&name, &filename), (&part.name, &part.filename), "{}", form.name);
                assert_eq!(bytes, BASE64_STANDARD.decode(&part.data).expect("base64"), "{name}");
            }
        }
    }
}

#[test]
fn the_server_reads_the_forms_however_they_arrive() {
    let address = server::start(server::limits());
    for form in forms() {
        for piece in PIECES {
            let answer = String::from_utf8(send_form(address, &form, piece)).expect("text");
            let status = server::statuses(answer.as_bytes());
            if form.error {
                assert!(matches!(status[..], [400..500]), "{}: {answer}", form.name);
                continue;
            }
            let said = form.parts.iter().map(|part| {
                let data = BASE64_STANDARD.decode(&part.data).expect("base64");
                server::part_line(&part.name, part.filename.as_deref(), &data)
            });
            let expected = said.collect::<String>();
            assert_eq!(status, [200], "{}: {answer}", form.name);
            assert!(answer.ends_with(&format!("\r\n\r\n{expected}")), "{}: {answer}", form.name);
        }
    }
}

/// Sends a form, its body in pieces, and reads until the server closes.
fn send_form(address: SocketAddr, form: &Form, piece: usize) -> Vec<u8> {
    let (mut stream, body) = (server::connect(address), form.bytes());
    let head = format!(
        "POST /parts HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
        form.content_type(),
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("send");
    // A refusal may come, and the server be gone, before the last piece.
    let _ = body.chunks(piece.min(body.len().max(1))).try_for_each(|piece| stream.write_all(piece));
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    answer
}
