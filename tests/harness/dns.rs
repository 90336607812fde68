//! A DNS server for tests, over UDP and TCP: a zone of a few names, and every way to fail.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};

const A: u16 = 1;
const CNAME: u16 = 5;
const MX: u16 = 15;

/// What the server says about a name.
#[derive(Clone, Debug)]
pub enum Record {
    /// An address.
    A(Ipv4Addr),
    /// A host with its preference; `""` is the null MX.
    Mx(u16, &'static str),
    /// Another name for it.
    Cname(&'static str),
    /// SERVFAIL.
    Fails,
    /// No answer at all.
    Silent,
    /// An empty answer that says over UDP that it is cut off.
    Truncated,
}

type Zone = BTreeMap<&'static str, Vec<Record>>;

/// A server that lives as long as the test process.
pub struct Dns {
    /// Where it listens.
    pub address: SocketAddr,
    /// Names that were asked over TCP.
    pub over_tcp: Arc<Mutex<Vec<String>>>,
}

impl Dns {
    /// Starts it with these names; all others do not exist.
    pub fn start(zone: &[(&'static str, &[Record])]) -> Dns {
        let zone: Zone = zone.iter().map(|(name, records)| (*name, records.to_vec())).collect();
        let (udp, tcp) = sockets();
        let address = udp.local_addr().unwrap();
        let over_tcp = Arc::new(Mutex::new(Vec::new()));
        let (tcp_zone, seen) = (zone.clone(), over_tcp.clone());
        std::thread::spawn(move || serve_udp(&udp, &zone));
        std::thread::spawn(move || serve_tcp(&tcp, &tcp_zone, &seen));
        Dns { address, over_tcp }
    }
}

/// The same port for both.
fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
}

fn serve_udp(socket: &UdpSocket, zone: &Zone) {
    let mut query = [0; 1500];
    while let Ok((n, from)) = socket.recv_from(&mut query) {
        if let Some(answer) = answer(&query[..n], zone, false) {
            let _ = socket.send_to(&answer, from);
        }
    }
}

fn serve_tcp(listener: &TcpListener, zone: &Zone, seen: &Mutex<Vec<String>>) {
    for mut stream in listener.incoming().flatten() {
        let mut length = [0; 2];
        while stream.read_exact(&mut length).is_ok() {
            let mut query = vec![0; u16::from_be_bytes(length).into()];
            if stream.read_exact(&mut query).is_err() {
                break;
            }
            seen.lock().unwrap().push(question(&query).map_or(String::new(), |(name, ..)| name));
            let Some(answer) = answer(&query, zone, true) else { break };
            let mut framed = (answer.len() as u16).to_be_bytes().to_vec();
            framed.extend(answer);
            if stream.write_all(&framed).is_err() {
                break;
            }
        }
    }
}

/// The name that is asked for, its type, and where the question ends.
fn question(query: &[u8]) -> Option<(String, u16, usize)> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let len = usize::from(*query.get(at)?);
        at += 1;
        if len == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + len)?).to_lowercase());
        at += len;
    }
    let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
    Some((labels.join("."), kind, at + 4))
}

fn answer(query: &[u8], zone: &Zone, tcp: bool) -> Option<Vec<u8>> {
    let (name, kind, end) = question(query)?;
    let records = zone.get(name.as_str());
    let (mut code, mut truncated, mut answers) = (0, false, Vec::new());
    match records {
        None => code = 3,
        Some(records) => {
            for record in records {
                match record {
                    Record::Fails => code = 2,
                    Record::Silent => return None,
                    Record::Truncated => truncated = !tcp,
                    other => add(&mut answers, &name, kind, other, zone),
                }
            }
        }
    }
    if truncated {
        answers.clear();
    }
    let flags: u16 = 0x8180 | code | if truncated { 0x0200 } else { 0 };
    let mut out = query[..2].to_vec();
    for word in [flags, 1, answers.len() as u16, 0, 0] {
        out.extend(word.to_be_bytes());
    }
    out.extend(&query[12..end]);
    answers.iter().for_each(|record| out.extend(record));
    Some(out)
}

fn add(answers: &mut Vec<Vec<u8>>, name: &str, kind: u16, record: &Record, zone: &Zone) {
    match record {
        Record::A(address) if kind == A => {
            answers.push(resource(name, A, &address.octets()));
        }
        Record::Mx(preference, host) if kind == MX => {
            let rdata = [&preference.to_be_bytes()[..], &encode(host)].concat();
            answers.push(resource(name, MX, &rdata));
        }
        Record::Cname(target) => {
            answers.push(resource(name, CNAME, &encode(target)));
            let more = zone.get(target).into_iter().flatten();
            more.for_each(|record| add(answers, target, kind, record, zone));
        }
        _ => {}
    }
}

fn resource(name: &str, kind: u16, rdata: &[u8]) -> Vec<u8> {
    let mut out = encode(name);
    out.extend(kind.to_be_bytes());
    out.extend(1u16.to_be_bytes());
    out.extend(60u32.to_be_bytes());
    out.extend((rdata.len() as u16).to_be_bytes());
    out.extend(rdata);
    out
}

fn encode(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut out: Vec<u8> = labels.flat_map(|l| [&[l.len() as u8], l.as_bytes()].concat()).collect();
    out.push(0);
    out
}
