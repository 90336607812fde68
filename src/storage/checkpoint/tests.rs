//! The parts of a checkpoint, one by one.

use super::*;

fn footer() -> Footer {
    Footer {
        position: Position { epoch: 3, version: 17 },
        items: 5,
        index_offset: 4000,
        index_len: 99,
        index_crc: 0x1234_5678,
    }
}

#[test]
fn a_footer_comes_back_and_no_flipped_bit_passes() {
    let whole: [u8; FOOTER_BYTES] = footer().to_bytes().try_into().expect("its size");
    assert_eq!(Footer::decode(&whole), Some(footer()));
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole;
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Footer::decode(&bytes), None, "bit {bit}");
    }
}

#[test]
fn a_block_of_the_index_comes_back() {
    for first in [None, Some(Key::new(b"alice", b"note"))] {
        let block = Block { offset: 8, len: 70_000, crc: 7, items: 3, first };
        assert_eq!(Block::from_bytes(&block.to_bytes()), Ok(block));
    }
}

#[test]
fn only_older_checkpoints_are_removed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for version in [3, 7, 9] {
        std::fs::write(file::numbered_path(dir.path(), PREFIX, version), b"").expect("written");
    }
    remove_older(dir.path(), 7).expect("removed");
    let left: Vec<_> = list(dir.path()).expect("listed").into_iter().map(|(v, _)| v).collect();
    assert_eq!(left, [7, 9]);
}
