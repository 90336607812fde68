//! Bytes of every kind for what reads files: with good checksums, so that what lies behind them is reached. Nothing
//! panics, and nothing is read for ever. The same seeds, the same bytes.

use super::cells::fuzz;
use super::checkpoint::{Loaded, Manifest};
use super::record::{self, Record};
use super::tests::entry;
use super::*;
use crate::protocol::entry::{Encode, Entry};

/// Changes for each kind of bytes.
const ROUNDS: u64 = 10_000;

/// A small random number generator.
pub struct Chance(pub u64);

impl Chance {
    /// A number below another.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % n.max(1)
    }

    /// Bytes like these, but for some.
    pub fn change(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(6) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at.min(bytes.len()), self.below(256) as u8),
                2 if at + 4 <= bytes.len() => bytes[at..at + 4].copy_from_slice(&[0xff; 4]),
                3 if at + 8 <= bytes.len() => {
                    let number = (1u64 << self.below(64)).to_le_bytes();
                    bytes[at..at + 8].copy_from_slice(&number);
                }
                4 => bytes.extend((0..self.below(40)).map(|n| n as u8)),
                _ if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                _ => {}
            }
        }
        bytes
    }
}

#[test]
fn entries_and_records_of_any_bytes_are_refused_or_read() {
    let mut chance = Chance(1);
    let mut whole = Vec::new();
    record::encode(&entry(7, 100), 5, 1, &mut whole).expect("small");
    for _ in 0..ROUNDS {
        let body = chance.change(&entry(7, 20).to_bytes());
        let _ = Entry::from_bytes(&body).map(|entry| entry.to_bytes());
        let changed = chance.change(&whole);
        let _ = Record::decode(&changed, 1).map(|record| Entry::from_bytes(record.entry));
    }
}

#[test]
fn checkpoints_of_any_bytes_are_refused_or_read() {
    let mut chance = Chance(2);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("checkpoint");
    let mut others = (0..9).map(Item::Evicted);
    let items = checkpoint::Items::New(&mut others);
    let manifest = Manifest { position: Position { epoch: 1, version: 3 }, ..Manifest::default() };
    let temporary = manifest.write_temporary(&path, items).expect("written");
    let whole = std::fs::read(&temporary).expect("read");
    let body = &whole[8..whole.len() - 4];
    let mut read = 0;
    for _ in 0..ROUNDS {
        let body = chance.change(body);
        let crc = crc32c::crc32c(&body).to_le_bytes();
        let bytes = [&whole[..8], &body, &crc].concat();
        if let Ok(loaded) = Loaded::from_bytes(&path, 3, &bytes) {
            read += usize::from(loaded.items().is_ok());
        }
    }
    assert!(read > 100, "{read} are good");
}

#[test]
fn runs_of_any_bytes_are_refused_or_read() {
    fuzz::runs(&mut Chance(3), 1000);
}
