//! Messages between replicas as text.
//!
//! ```text
//! @PREPARE <tablet> <configuration> <prev epoch> <prev version> <committed> <sent> <round> <echo> <left>
//!          <digest of the committed table: 16 hexadecimal digits|none> <len> + entries
//! @ACK <tablet> <epoch> <version> <sent> <round> <at> <room on its disk: enough|low|exhausted> 0
//! @NACK <tablet> <epoch> <hint> <log end> <sent> 0
//! @QUERY <tablet> <epoch> <id> 0
//! @COMMITTED <tablet> <epoch> <id> <version> 0
//! @INSTALL <tablet> <configuration> <epoch> <version> 0
//! ```
//!
//! A configuration is five words: epoch, primary, in-sync set, members, least in-sync replicas; names in a set are
//! separated by commas. Times are microseconds of the sender's own clock, or of the receiver's where they come
//! back to it. Entries are in their binary form, as in the log.
//!
//! A table is not in its message: `@INSTALL` offers it, and who needs it fetches it page by page.

use super::execute::DiskSpace;
use super::message::{Ack, Configuration, Message, Nack, Node, Prepare};
use crate::error::{Error, Result};
use crate::protocol::command::Peer;
use crate::protocol::entry::{Decoder, Encode, Entry, Position};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Words of a configuration.
const CONFIGURATION_WORDS: usize = 5;

/// What a message says.
#[derive(Debug)]
pub enum Heard {
    /// A message to the replica.
    Message(Message),
    /// A table that may be fetched from the sender.
    Offer(Configuration, Position),
}

/// A tablet's message as text.
pub fn encode(tablet: &str, message: &Message) -> Peer {
    let mut words = vec![tablet.as_bytes().to_vec()];
    let mut payload = Vec::new();
    let verb = match message {
        Message::Prepare(prepare) => {
            encode_configuration(&prepare.configuration, &mut words);
            let Prepare { prev, committed, digest, sent, round, echo, left, .. } = prepare;
            numbers(
                &[prev.epoch, prev.version, *committed, *sent, *round, *echo, *left],
                &mut words,
            );
            words.push(digest.map_or("none".into(), |digest| format!("{digest:016x}").into()));
            prepare.entries.iter().for_each(|entry| entry.encode(&mut payload));
            "@PREPARE"
        }
        Message::Ack(Ack { epoch, version, sent, round, at, space }) => {
            numbers(&[*epoch, *version, *sent, *round, *at], &mut words);
            words.push(space.word().into());
            "@ACK"
        }
        Message::Nack(Nack { epoch, hint, end, sent }) => {
            numbers(&[*epoch, *hint, *end, *sent], &mut words);
            "@NACK"
        }
        Message::Query { epoch, id } => {
            numbers(&[*epoch, *id], &mut words);
            "@QUERY"
        }
        Message::Committed { epoch, id, version } => {
            numbers(&[*epoch, *id, *version], &mut words);
            "@COMMITTED"
        }
        Message::Install { configuration, table } => {
            encode_configuration(configuration, &mut words);
            numbers(&[table.epoch, table.version], &mut words);
            "@INSTALL"
        }
    };
    Peer { verb: verb.into(), words, payload }
}

/// The tablet of a message, and what it says.
pub fn decode(peer: &Peer) -> Result<(&str, Heard)> {
    let number = |at| peer.number::<u64>(at);
    let message = match peer.verb.as_str() {
        "@PREPARE" => Message::Prepare(decode_prepare(peer)?),
        "@ACK" => Message::Ack(Ack {
            epoch: number(1)?,
            version: number(2)?,
            sent: number(3)?,
            round: number(4)?,
            at: number(5)?,
            space: DiskSpace::parse(peer.text(6)?)?,
        }),
        "@NACK" => Message::Nack(Nack {
            epoch: number(1)?,
            hint: number(2)?,
            end: number(3)?,
            sent: number(4)?,
        }),
        "@QUERY" => Message::Query { epoch: number(1)?, id: number(2)? },
        "@COMMITTED" => {
            Message::Committed { epoch: number(1)?, id: number(2)?, version: number(3)? }
        }
        "@INSTALL" => {
            let at = 1 + CONFIGURATION_WORDS;
            let position = Position { epoch: number(at)?, version: number(at + 1)? };
            return Ok((peer.text(0)?, Heard::Offer(decode_configuration(peer)?, position)));
        }
        verb => return Err(Error::bad(format!("{verb} is no message between replicas"))),
    };
    Ok((peer.text(0)?, Heard::Message(message)))
}

fn decode_prepare(peer: &Peer) -> Result<Prepare> {
    let number = |at| peer.number::<u64>(1 + CONFIGURATION_WORDS + at);
    let (mut from, mut entries) = (Decoder(&peer.payload), Vec::new());
    while !from.is_empty() {
        entries.push(Arc::new(from.read::<Entry>()?));
    }
    let prev = Position { epoch: number(0)?, version: number(1)? };
    if !follow(prev, &entries) {
        return Err(Error::bad("the entries of a PREPARE do not follow one another"));
    }
    Ok(Prepare {
        configuration: decode_configuration(peer)?,
        prev,
        entries,
        committed: number(2)?,
        sent: number(3)?,
        round: number(4)?,
        echo: number(5)?,
        left: number(6)?,
        digest: decode_digest(peer.text(1 + CONFIGURATION_WORDS + 7)?)?,
    })
}

fn decode_digest(word: &str) -> Result<Option<u64>> {
    if word == "none" {
        return Ok(None);
    }
    let digest = u64::from_str_radix(word, 16);
    digest.map(Some).map_err(|_| Error::bad(format!("{word} is no digest of a table")))
}

/// Whether entries go on from a position without a gap.
fn follow(mut prev: Position, entries: &[Arc<Entry>]) -> bool {
    entries.iter().all(|entry| {
        let follows = entry.version == prev.version + 1 && entry.prev_epoch == prev.epoch;
        prev = Position::of(entry);
        follows
    })
}

fn encode_configuration(configuration: &Configuration, words: &mut Vec<Vec<u8>>) {
    let set = |names: &BTreeSet<Node>| {
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        names.join(",").into_bytes()
    };
    words.extend([
        configuration.epoch.to_string().into_bytes(),
        configuration.primary.as_deref().unwrap_or_default().as_bytes().to_vec(),
        set(&configuration.isr),
        set(&configuration.members),
        configuration.min_insync.to_string().into_bytes(),
    ]);
}

fn decode_configuration(peer: &Peer) -> Result<Configuration> {
    let set = |at| peer.text(at).map(|names| names.split(',').map(Node::from).collect());
    Ok(Configuration {
        epoch: peer.number(1)?,
        primary: Some(peer.text(2)?.into()),
        isr: set(3)?,
        members: set(4)?,
        min_insync: peer.number(5)?,
        clean: false,
    })
}

fn numbers(numbers: &[u64], words: &mut Vec<Vec<u8>>) {
    words.extend(numbers.iter().map(|number| number.to_string().into_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::command::{Command, Request};
    use crate::protocol::entry::Answer;
    use crate::protocol::wire::{Incoming, read_request};
    use crate::replication::Table;

    fn configuration() -> Configuration {
        let set = |names: &[&str]| names.iter().map(|name| Node::from(*name)).collect();
        Configuration {
            epoch: 7,
            primary: Some("a1".into()),
            isr: set(&["a1", "a2"]),
            members: set(&["a1", "a2", "a3"]),
            min_insync: 1,
            clean: false,
        }
    }

    fn entry(version: u64) -> Arc<Entry> {
        Arc::new(Entry {
            epoch: 7,
            version,
            prev_epoch: 7,
            retire: 0,
            request: None,
            answer: Answer::default(),
            effects: Vec::new(),
        })
    }

    fn prepare(entries: Vec<Arc<Entry>>) -> Message {
        Message::Prepare(Prepare {
            configuration: configuration(),
            prev: Position { epoch: 7, version: 4 },
            entries,
            committed: 3,
            digest: Some(0xa1),
            sent: 100,
            round: 2,
            echo: 50,
            left: 9,
        })
    }

    fn ack(space: DiskSpace) -> Ack {
        Ack { epoch: 7, version: 6, sent: 100, round: 2, at: 60, space }
    }

    fn over_the_wire(message: &Message) -> Result<Heard> {
        let peer = encode("a-s0", message);
        let bytes = Request::new(Command::Peer(peer)).to_bytes();
        let Incoming::Request(request) = read_request(&mut &bytes[..], 1 << 20, |_| Ok(()))? else {
            panic!("a request was written")
        };
        let Command::Peer(peer) = request.command else { panic!("a message was written") };
        let (tablet, heard) = decode(&peer)?;
        assert_eq!(tablet, "a-s0");
        Ok(heard)
    }

    #[test]
    fn messages_come_over_the_wire_as_they_were() {
        let messages = [
            prepare(vec![entry(5), entry(6)]),
            prepare(vec![]),
            Message::Ack(ack(DiskSpace::Enough)),
            Message::Ack(ack(DiskSpace::Low)),
            Message::Ack(ack(DiskSpace::Exhausted)),
            Message::Nack(Nack { epoch: 8, hint: 2, end: 3, sent: 100 }),
            Message::Query { epoch: 7, id: 11 },
            Message::Committed { epoch: 7, id: 11, version: 6 },
        ];
        for message in messages {
            let Ok(Heard::Message(heard)) = over_the_wire(&message) else {
                panic!("{message:?} does not come over")
            };
            assert_eq!(format!("{heard:?}"), format!("{message:?}"));
        }
    }

    #[test]
    fn a_table_is_offered() {
        let mut table = Table::default();
        (table.epoch, table.version) = (6, 5);
        let message = Message::Install { configuration: configuration(), table: table.into() };
        let Ok(Heard::Offer(theirs, position)) = over_the_wire(&message) else {
            panic!("an offer comes over")
        };
        assert_eq!(theirs, configuration());
        assert_eq!(position, Position { epoch: 6, version: 5 });
    }

    #[test]
    fn a_person_can_read_a_prepare_and_an_ack() {
        let line = |message| {
            let bytes = Request::new(Command::Peer(encode("a-s0", &message))).to_bytes();
            String::from_utf8_lossy(&bytes).trim_end().to_string()
        };
        let said = line(prepare(vec![]));
        assert_eq!(said, "@PREPARE a-s0 7 a1 a1,a2 a1,a2,a3 1 7 4 3 100 2 50 9 00000000000000a1 0");
        assert_eq!(line(Message::Ack(ack(DiskSpace::Low))), "@ACK a-s0 7 6 100 2 60 low 0");
    }

    #[test]
    fn a_primary_in_doubt_sends_no_digest() {
        let Message::Prepare(prepare) = prepare(vec![]) else { unreachable!("it is one") };
        let mut peer = encode("a-s0", &Message::Prepare(Prepare { digest: None, ..prepare }));
        let heard = decode(&peer).expect("it is well formed").1;
        let Heard::Message(Message::Prepare(heard)) = heard else { panic!("{heard:?}") };
        assert_eq!(heard.digest, None);
        *peer.words.last_mut().expect("it has words") = b"a table".to_vec();
        assert!(decode(&peer).is_err());
    }

    #[test]
    fn an_ack_that_says_nothing_of_the_disk_is_refused() {
        let mut peer = encode("a-s0", &Message::Ack(ack(DiskSpace::Low)));
        peer.words[6] = b"full".to_vec();
        assert!(decode(&peer).is_err());
    }

    #[test]
    fn entries_with_a_gap_are_refused() {
        assert!(over_the_wire(&prepare(vec![entry(6)])).is_err());
        assert!(over_the_wire(&prepare(vec![entry(5), entry(7)])).is_err());
    }
}
