//! The verbs between PennCloud's own processes: what the master and other nodes ask of this one. Nothing
//! here is passed on a second time.

use super::node::Node;
use super::reads::{chunks_of, encode_chunks, scan_table};
use super::tablet::Write;
use super::writes::reply;
use crate::error::{Error, Result};
use crate::protocol::cell::{Key, ValueId};
use crate::protocol::cluster::{Hello, Routes};
use crate::protocol::command::{self, Command, Op, Options, Peer};
use crate::protocol::entry::Encode;
use crate::protocol::reply::Reply;
use std::time::Instant;

impl Node {
    /// Answers a message of another process, which has proved that it belongs to the cluster.
    pub fn answer_peer(&self, peer: Peer, options: Options, deadline: Instant) -> Result<Reply> {
        let words = Words(&peer.words);
        match peer.verb.as_str() {
            "@HELLO" => self.hello(&parse_json::<Hello>(&peer.payload)?),
            "@ROUTES" => {
                self.adopt(parse_json::<Routes>(&peer.payload)?);
                Ok(data(Vec::new()))
            }
            "@BEAT" => Ok(Reply::Peer {
                words: vec![words.bytes(0)?.to_vec()],
                payload: self.report_json(),
            }),
            "@SHUTDOWN" => Ok(self.serve_or_not(false)),
            "@WAKEUP" => Ok(self.serve_or_not(true)),
            "@WRITE" => {
                let tablet = self.here(&words.text(0)?)?;
                let (ops, single) =
                    (Vec::<Op>::from_bytes(&peer.payload)?, words.bytes(1)? == b"single");
                Ok(reply(tablet.propose(Write { ops, single, options }, deadline), single))
            }
            "@GET" => {
                let key = Key {
                    slot: words.number(1)?,
                    row: words.bytes(2)?.into(),
                    column: words.bytes(3)?.into(),
                };
                let table = self.here(&words.text(0)?)?.serving()?;
                Ok(data(table.get(&key).cloned().to_bytes()))
            }
            "@SCAN" => self.peer_scan(&words, &peer.payload),
            "@STAGED" => {
                let table = self.here(&words.text(0)?)?.serving()?;
                let until =
                    table.staged(ValueId::parse(words.bytes(1)?)?).map(|staged| staged.deadline);
                let words = until.iter().map(|until| until.to_string().into()).collect();
                Ok(Reply::Peer { words, payload: Vec::new() })
            }
            "@CHUNKS" => {
                let table = self.here(&words.text(0)?)?.serving()?;
                let chunks = chunks_of(&table, words.number(1)?, ValueId::parse(words.bytes(2)?)?);
                Ok(data(encode_chunks(&chunks)))
            }
            verb => Err(Error::bad(format!("unknown verb {verb}"))),
        }
    }

    fn hello(&self, hello: &Hello) -> Result<Reply> {
        if hello.node != self.name {
            return Err(Error::Denied(format!("this is {}, not {}", self.name, hello.node)));
        }
        let words = [&self.name, &self.data.store_uuid().to_string(), &self.boot_id];
        Ok(Reply::Peer {
            words: words.iter().map(|word| word.as_bytes().to_vec()).collect(),
            payload: self.report_json(),
        })
    }

    fn report_json(&self) -> Vec<u8> {
        serde_json::to_vec(&self.report()).expect("a report has only strings and numbers")
    }

    fn serve_or_not(&self, in_service: bool) -> Reply {
        self.set_in_service(in_service);
        data(Vec::new())
    }

    fn peer_scan(&self, words: &Words, line: &[u8]) -> Result<Reply> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let (request, _) = command::parse(line)?;
        let Command::Scan(scan) = request.command else {
            return Err(Error::bad("@SCAN takes a SCAN"));
        };
        Ok(scan_table(&self.here(&words.text(0)?)?.serving()?, &scan))
    }
}

fn data(payload: Vec<u8>) -> Reply {
    Reply::Peer { words: Vec::new(), payload }
}

fn parse_json<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::bad(format!("not the JSON expected: {e}")))
}

/// The words of a message, by place.
struct Words<'a>(&'a [Vec<u8>]);

impl Words<'_> {
    fn bytes(&self, at: usize) -> Result<&[u8]> {
        self.0.get(at).map(Vec::as_slice).ok_or_else(|| Error::bad("a word is missing"))
    }

    fn text(&self, at: usize) -> Result<String> {
        String::from_utf8(self.bytes(at)?.to_vec()).map_err(|_| Error::bad("a word is not UTF-8"))
    }

    fn number<T: std::str::FromStr>(&self, at: usize) -> Result<T> {
        self.text(at)?.parse().map_err(|_| Error::bad("a word is not a number in range"))
    }
}
