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
use std::sync::Arc;
use std::time::Instant;

impl Node {
    /// Answers a message of another process, which has proved that it belongs to the cluster.
    pub fn answer_peer(
        self: &Arc<Node>,
        peer: Peer,
        options: Options,
        deadline: Instant,
    ) -> Result<Reply> {
        match peer.verb.as_str() {
            "@HELLO" => self.hello(&parse_json::<Hello>(&peer.payload)?),
            "@ROUTES" => {
                self.adopt(parse_json::<Routes>(&peer.payload)?)?;
                Ok(data(Vec::new()))
            }
            "@BEAT" => {
                Ok(Reply::Peer { words: vec![peer.word(0)?.to_vec()], payload: self.report_json() })
            }
            "@SEAL" => {
                self.end_epoch(&parse_json(&peer.payload)?, false).map(|()| data(Vec::new()))
            }
            "@RESIGN" => {
                self.end_epoch(&parse_json(&peer.payload)?, true).map(|()| data(Vec::new()))
            }
            "@TABLE" => self.around.snapshots.page(&peer),
            "@SHUTDOWN" => Ok(self.serve_or_not(false)),
            "@WAKEUP" => Ok(self.serve_or_not(true)),
            "@WRITE" => {
                let tablet = self.here(peer.text(0)?)?;
                let (ops, single) =
                    (Vec::<Op>::from_bytes(&peer.payload)?, peer.word(1)? == b"single");
                Ok(reply(tablet.propose(Write { ops, single, options }, deadline), single))
            }
            "@GET" => {
                let key = Key {
                    slot: peer.number(1)?,
                    row: peer.word(2)?.into(),
                    column: peer.word(3)?.into(),
                };
                let table = self.here(peer.text(0)?)?.serving(deadline)?;
                Ok(data(table.get(&key).map_err(Error::of_this_copy)?.to_bytes()))
            }
            "@SCAN" => self.peer_scan(&peer, deadline),
            "@STAGED" => {
                let table = self.here(peer.text(0)?)?.serving(deadline)?;
                let until =
                    table.staged(ValueId::parse(peer.word(1)?)?).map(|staged| staged.deadline);
                let words = until.iter().map(|until| until.to_string().into()).collect();
                Ok(Reply::Peer { words, payload: Vec::new() })
            }
            "@CHUNKS" => {
                let table = self.here(peer.text(0)?)?.serving(deadline)?;
                let chunks = chunks_of(&table, peer.number(1)?, ValueId::parse(peer.word(2)?)?);
                Ok(data(encode_chunks(&chunks.map_err(Error::of_this_copy)?)))
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

    fn peer_scan(&self, peer: &Peer, deadline: Instant) -> Result<Reply> {
        let line = peer.payload.strip_suffix(b"\n").unwrap_or(&peer.payload);
        let (request, _) = command::parse(line)?;
        let Command::Scan(scan) = request.command else {
            return Err(Error::bad("@SCAN takes a SCAN"));
        };
        scan_table(&self.here(peer.text(0)?)?.serving(deadline)?, &scan)
            .map_err(Error::of_this_copy)
    }
}

fn data(payload: Vec<u8>) -> Reply {
    Reply::Peer { words: Vec::new(), payload }
}

fn parse_json<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::bad(format!("not the JSON expected: {e}")))
}
