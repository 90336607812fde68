//! A run put together anew from parts that were changed, with good checksums.

use super::footer::{self, Entry, Footer};
use super::merged::{Merged, Wanted};
use super::write::MAGIC;
use super::*;
use crate::protocol::cell::{Cell, Key, Value};
use crate::protocol::entry::Encode;
use crate::protocol::kept::{Held, Kept, Lower};
use crate::storage::fuzz_tests::Chance;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;

fn key(n: u32) -> Key {
    Key::new(b"row", &n.to_be_bytes())
}

/// The parts of a run: its blocks, filters and footer.
struct Parts {
    blocks: Vec<(Vec<u8>, Entry)>,
    filters: Vec<u8>,
    footer: Footer,
}

impl Parts {
    fn of(path: &Path) -> Parts {
        let bytes = std::fs::read(path).expect("read");
        let (tail, _) = bytes[bytes.len() - 8..].split_first_chunk().expect("8 bytes");
        let at = bytes.len()
            - 8
            - Footer::length(&[*tail, [0; 4]].concat().try_into().expect("8")) as usize;
        let (footer, _) = Footer::decode(&bytes[at..]).expect("whole");
        let (start, len) = (footer.index_offset as usize, footer.index_len as usize);
        let index = footer::read_index(&bytes[start..start + len], MAGIC.len() as u64);
        let block = |entry: Entry| {
            let start = entry.offset as usize;
            (bytes[start..start + entry.len as usize].to_vec(), entry)
        };
        let blocks = index.expect("whole").into_iter().map(block).collect();
        Parts { blocks, filters: bytes[start + len..at].to_vec(), footer }
    }

    /// A run of some changed parts.
    fn change(&self, chance: &mut Chance) -> Vec<u8> {
        let (mut out, mut index, mut footer) = (MAGIC.to_vec(), Vec::new(), self.footer.clone());
        for (block, entry) in &self.blocks {
            let block = if chance.below(2) == 0 { chance.change(block) } else { block.clone() };
            let cells = if chance.below(9) == 0 { chance.below(5000) as u32 } else { entry.cells };
            let (offset, len) = (out.len() as u64, block.len() as u32);
            let crc = crc32c::crc32c(&block);
            Entry { offset, len, crc, cells, first: entry.first.clone() }.encode(&mut index);
            out.extend(block);
        }
        if chance.below(9) == 0 {
            index = chance.change(&index);
        }
        footer.index_offset = out.len() as u64;
        footer.index_len = index.len() as u64;
        footer.index_crc = crc32c::crc32c(&index);
        out.extend(index);
        out.extend(&self.filters);
        let (mut end, _) = footer.to_bytes();
        if chance.below(9) == 0 {
            end.truncate(end.len() - 8);
            end = chance.change(&end);
            (end.len() as u32).encode(&mut end);
            crc32c::crc32c(&end).encode(&mut end);
        }
        out.extend(end);
        out
    }
}

/// Writes a run, and reads it and many like it.
pub fn runs(chance: &mut Chance, rounds: usize) {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let dir = dir.expect("a temporary directory");
    let shared = Shared::new(Arc::new(Cache::new(1 << 20)));
    let mut output = Output::new(dir.path(), &Arc::new(Sequences::after(0)), 0);
    for n in 0..300u32 {
        let value = Value::Inline(vec![n as u8; if n % 60 == 0 { 17_000 } else { 200 }].into());
        let Cell { version, expires, value } = Cell { version: n.into(), expires: 0, value };
        let kept = Kept { version, expires, hash: 1, value: Held::Here(value) };
        output.add(&key(n), Some(&kept).filter(|_| n % 7 > 0)).expect("added");
    }
    let written = output.finish(&shared, &Runs::default()).expect("written");
    let run = written.run.as_ref().expect("there are cells");
    let (parts, values) = (Parts::of(run.path()), written.runs().values);
    let mut opened = 0;
    for _ in 0..rounds {
        std::fs::write(run.path(), parts.change(chance)).expect("written");
        if let Ok(run) = Run::open(dir.path(), run.footer.sequence, &values, &shared) {
            opened += 1;
            read(run, values.clone());
        }
    }
    assert!(opened > rounds / 4, "{opened} of {rounds} are opened");
}

/// Reads all of a run in every way.
fn read(run: Run, values: BTreeMap<u64, Arc<ValueFile>>) {
    let run = Arc::new(run);
    let _ = run.check(|_| {});
    let most = run.bytes as usize;
    assert!(Merged::all([run.clone()].into_iter()).count() <= most, "it ends");
    let low = Bound::Excluded(key(70));
    let wanted = Wanted { low: low.clone(), high: Bound::Included(key(200)), reverse: true };
    assert!(Merged::new([run.clone()].into_iter(), wanted).count() <= most, "it ends");
    let runs = Runs::new(vec![run], values);
    for n in (0..300).step_by(20) {
        if let Ok(Some(kept)) = runs.get(&key(n)) {
            let _ = kept.load();
        }
    }
    assert!(runs.range(low, Bound::Unbounded, false).count() <= most);
}
