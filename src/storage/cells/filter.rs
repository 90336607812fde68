//! A Bloom filter for each block: whether a key may be in it, without reading it (Bloom 1970; double hashing after
//! Kirsch and Mitzenmacher 2006).

/// Bits for each key. With [`PROBES`] about one in a hundred keys that are not there passes.
const BITS: usize = 10;

/// Bits that are looked at for each key.
const PROBES: u32 = 7;

/// The smallest filter, in bytes.
const BYTES_MIN: usize = 8;

/// Hash of a key's binary form.
pub fn hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

/// Bytes of the filter of a block with so many cells.
pub fn len(cells: u32) -> usize {
    (cells as usize * BITS).div_ceil(8).max(BYTES_MIN)
}

/// Appends the filter of a block whose keys have these hashes.
pub fn build(hashes: &[u64], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + len(hashes.len() as u32), 0);
    let filter = &mut out[start..];
    for hash in hashes {
        for bit in bits(*hash, filter.len()) {
            filter[bit / 8] |= 1 << (bit % 8);
        }
    }
}

/// Whether a key with this hash may be there; if not, it is not.
pub fn may_contain(filter: &[u8], hash: u64) -> bool {
    bits(hash, filter.len()).all(|bit| filter[bit / 8] & 1 << (bit % 8) != 0)
}

fn bits(hash: u64, bytes: usize) -> impl Iterator<Item = usize> {
    let (step, bits) = (hash.rotate_left(32) | 1, bytes as u64 * 8);
    (0..PROBES).map(move |n| (hash.wrapping_add(step.wrapping_mul(n.into())) % bits) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_passes_and_few_others() {
        for cells in [1, 7, 300, 5000u32] {
            let hash_of = |n: u32| hash(&n.to_le_bytes());
            let hashes: Vec<_> = (0..cells).map(hash_of).collect();
            let mut filter = Vec::new();
            build(&hashes, &mut filter);
            assert_eq!(filter.len(), len(cells));
            assert!(hashes.iter().all(|hash| may_contain(&filter, *hash)));
            let passed = (cells..cells + 20_000).filter(|n| may_contain(&filter, hash_of(*n)));
            let passed = passed.count();
            assert!(passed < 400, "{passed} of 20,000 others pass a filter of {cells}");
        }
    }
}
