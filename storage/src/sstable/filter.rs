//! The Bloom filter of a table: which partitions it may contain.
//!
//! ```text
//! filter := probes:u8 block*      block: 64 bytes, one cache line
//! ```
//!
//! All probes of a key fall in one block. The key's hash is computed once per read and serves the
//! filters of all tables. The hash is part of the format: starting from the token, the key's
//! 8-byte little-endian pieces (the last one padded with zeros), then its length, are each folded
//! in by `fold(hash ^ piece, K)`, where `fold` multiplies to 128 bits and xors the halves. The
//! upper 32 bits choose the block, `upper * block_count >> 32`; the lower 32 bits, times the odd
//! number `P` before each probe, choose by their upper nine bits a bit of the block.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use model::Token;
use model::codec::DecodeError;

const K: u64 = 0x9e37_79b9_7f4a_7c15;
const P: u32 = 0x9e37_79b1;
const BLOCK_BYTES: usize = 64;
const PROBES_MAX: u8 = 16;
/// One-block filters need more bits than the textbook's for the same rate.
const BLOCKED_BITS_FACTOR: f64 = 1.15;

/// The hash of a partition key, for every filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyHash(u64);

impl KeyHash {
    pub(crate) fn new(token: Token, key: &[u8]) -> Self {
        let mut hash = fold(token.0 as u64);
        let (pieces, rest) = key.as_chunks::<8>();
        for piece in pieces {
            hash = fold(hash ^ u64::from_le_bytes(*piece));
        }
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        hash = fold(hash ^ u64::from_le_bytes(last));
        KeyHash(fold(hash ^ key.len() as u64))
    }
}

#[inline]
fn fold(value: u64) -> u64 {
    let product = u128::from(value) * u128::from(K);
    (product as u64) ^ ((product >> 64) as u64) ^ value.rotate_left(32)
}

/// A filter in memory.
#[derive(Debug)]
pub(crate) struct Filter {
    probes: u8,
    blocks: Vec<[u8; BLOCK_BYTES]>,
}

impl Filter {
    /// A filter of these keys that lies with about this probability.
    pub(crate) fn build(hashes: &[KeyHash], false_positive_chance: f64) -> Self {
        let chance = false_positive_chance.clamp(1e-6, 0.9);
        let bits_per_key = -chance.ln() / std::f64::consts::LN_2.powi(2) * BLOCKED_BITS_FACTOR;
        let probes = (bits_per_key * std::f64::consts::LN_2).round().clamp(1.0, 16.0) as u8;
        let bits = (hashes.len() as f64 * bits_per_key).ceil() as usize;
        let mut filter = Filter {
            probes: probes.min(PROBES_MAX),
            blocks: vec![[0; BLOCK_BYTES]; bits.div_ceil(BLOCK_BYTES * 8).max(1)],
        };
        for hash in hashes {
            filter.add(*hash);
        }
        filter
    }

    fn add(&mut self, hash: KeyHash) {
        let at = self.block_of(hash);
        let bits = probes(hash, self.probes);
        if let Some(block) = self.blocks.get_mut(at) {
            for (byte, mask) in bits {
                if let Some(byte) = block.get_mut(byte) {
                    *byte |= mask;
                }
            }
        }
    }

    fn block_of(&self, hash: KeyHash) -> usize {
        (((hash.0 >> 32) * self.blocks.len() as u64) >> 32) as usize
    }

    /// Whether the key may be in it; `false` is certain.
    #[inline]
    pub(crate) fn may_contain(&self, hash: KeyHash) -> bool {
        let Some(block) = self.blocks.get(self.block_of(hash)) else { return true };
        probes(hash, self.probes)
            .all(|(byte, mask)| block.get(byte).is_none_or(|byte| byte & mask != 0))
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.probes];
        out.extend(self.blocks.as_flattened());
        out
    }

    pub(crate) fn decode(content: &[u8]) -> Result<Self, DecodeError> {
        let (&probes, blocks) =
            content.split_first().ok_or(DecodeError("a filter is cut short"))?;
        let (blocks, rest) = blocks.as_chunks::<BLOCK_BYTES>();
        if blocks.is_empty() || !rest.is_empty() || !(1..=PROBES_MAX).contains(&probes) {
            return Err(DecodeError("a filter's size is wrong"));
        }
        Ok(Filter { probes, blocks: blocks.to_vec() })
    }
}

/// The bits of a key in its block: byte and mask.
#[inline]
fn probes(hash: KeyHash, count: u8) -> impl Iterator<Item = (usize, u8)> {
    let mut state = hash.0 as u32;
    (0..count).map(move |_| {
        state = state.wrapping_mul(P);
        let bit = state >> 23;
        ((bit >> 3) as usize, 1 << (bit & 7))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(i: u64) -> KeyHash {
        let key = i.to_be_bytes();
        KeyHash::new(model::token::murmur3_token(&key), &key)
    }

    #[test]
    fn no_key_is_lost_and_few_others_are_found() {
        for (chance, most) in [(0.01, 160), (0.1, 1_300), (0.001, 40)] {
            let hashes: Vec<_> = (0..20_000).map(hash).collect();
            let filter = Filter::decode(&Filter::build(&hashes, chance).encode()).unwrap();
            assert!(hashes.iter().all(|h| filter.may_contain(*h)));
            let lies = (20_000..30_000).filter(|i| filter.may_contain(hash(*i))).count();
            assert!(lies <= most, "{lies} of 10000 at {chance}");
        }
    }

    #[test]
    fn keys_of_one_token_differ() {
        let a = KeyHash::new(Token(5), b"aaaaaaaabbbbbbbb");
        let b = KeyHash::new(Token(5), b"aaaaaaaabbbbbbbc");
        assert_ne!(a, b);
        assert_ne!(KeyHash::new(Token(5), b"a"), KeyHash::new(Token(5), b"a\0"));
    }

    #[test]
    fn hostile_filters_are_errors() {
        for content in [&[][..], &[4], &[0; 65], &[17; 65], &[4; 64]] {
            assert!(Filter::decode(content).is_err());
        }
        assert!(Filter::decode(&[4; 65]).is_ok());
    }
}
