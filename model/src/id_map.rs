//! Maps by ids that this program made: groups, tables, prepared statements.
//!
//! The read and write paths look into several of them for every request. Their ids are random or
//! hashes already and no client chooses them, so a multiplication serves as hash; it is the same in
//! every process, so two runs of a simulation see maps in the same order.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by ids. Never by what comes from outside: its collisions are easy to make.
pub type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// An odd number whose bits are evenly set: 2^64 over the golden ratio.
const ODD: u64 = 0x9E37_79B9_7F4A_7C15;

/// The hash of an [`IdMap`].
#[derive(Clone, Copy, Debug, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    #[inline]
    fn write_u64(&mut self, id: u64) {
        // The low half of the product knows the low bits of the id, the high half the high ones.
        let product = u128::from(self.0 ^ id) * u128::from(ODD);
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    #[inline]
    fn write_u128(&mut self, id: u128) {
        self.write_u64((id >> 64) as u64 ^ id as u64);
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TableId;
    use std::collections::BTreeSet;
    use std::hash::BuildHasher;

    #[test]
    fn near_ids_and_ids_that_differ_in_high_bits_alone_come_to_lie_apart() {
        let build = BuildHasherDefault::<IdHasher>::default();
        let low_bits = |hash: u64| hash & 0x3FF;
        let counted: BTreeSet<_> = (0..512_u64).map(|id| low_bits(build.hash_one(id))).collect();
        let high: BTreeSet<_> = (0..512_u64).map(|id| low_bits(build.hash_one(id << 55))).collect();
        let tables: BTreeSet<_> =
            (0..512).map(|id| low_bits(build.hash_one(TableId(id << 64)))).collect();
        for places in [counted, high, tables] {
            assert!(places.len() > 256, "{} of 512", places.len());
        }
    }
}
