//! Tokens: where a partition key lies on the ring.
//!
//! Two partitioners exist. Murmur3 is Cassandra's variant of the 128-bit x64 hash, of which the
//! first half is the token; it differs from everybody else's in one point: the bytes of the last,
//! incomplete block are sign-extended before they are mixed in. Drivers compute the same tokens,
//! so this function can never change. CDC logs use their keys' own first eight bytes, so that a
//! log row lies where the row it tells of lies.

use crate::schema::{Partitioner, TableDef};

/// A place on the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub i64);

impl Token {
    /// Below every token that a Murmur3 key can have; no partition of a base table lies here.
    pub const MIN: Token = Token(i64::MIN);
    /// The last place on the ring.
    pub const MAX: Token = Token(i64::MAX);
}

impl TableDef {
    /// The token of a serialized partition key of this table.
    pub fn token(&self, partition_key: &[u8]) -> Token {
        token_of(self.partitioner, partition_key)
    }
}

/// The token of a serialized partition key.
pub fn token_of(partitioner: Partitioner, partition_key: &[u8]) -> Token {
    match partitioner {
        Partitioner::Murmur3 => murmur3_token(partition_key),
        Partitioner::CdcStream => cdc_stream_token(partition_key),
    }
}

/// The token of a CDC stream id: its first eight bytes, big endian, when it has the 16 bytes of a
/// stream id, else the minimum token.
pub fn cdc_stream_token(stream_id: &[u8]) -> Token {
    match stream_id.split_first_chunk::<8>() {
        Some((token, rest)) if rest.len() == 8 => Token(i64::from_be_bytes(*token)),
        _ => Token::MIN,
    }
}

/// The token of a key by Cassandra's Murmur3Partitioner. The minimum token is kept free: an empty
/// key alone has it, and a hash that happens to be the minimum becomes the maximum.
pub fn murmur3_token(key: &[u8]) -> Token {
    if key.is_empty() {
        return Token::MIN;
    }
    match murmur3_first_half(key) {
        i64::MIN => Token::MAX,
        hash => Token(hash),
    }
}

const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;

fn murmur3_first_half(key: &[u8]) -> i64 {
    let (mut h1, mut h2) = (0_u64, 0_u64);
    let (blocks, tail) = key.as_chunks::<16>();
    for block in blocks {
        let block = u128::from_le_bytes(*block);
        h1 ^= mix_k1(block as u64);
        h1 = h1.rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 ^= mix_k2((block >> 64) as u64);
        h2 = h2.rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }

    let (tail1, tail2) = tail.split_at(tail.len().min(8));
    h2 ^= mix_k2(sign_extended(tail2));
    h1 ^= mix_k1(sign_extended(tail1));

    h1 ^= key.len() as u64;
    h2 ^= key.len() as u64;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    fmix(h1).wrapping_add(fmix(h2)) as i64
}

fn mix_k1(k1: u64) -> u64 {
    k1.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2)
}

fn mix_k2(k2: u64) -> u64 {
    k2.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1)
}

/// Up to eight bytes, little endian, each widened as a signed byte: the quirk.
fn sign_extended(bytes: &[u8]) -> u64 {
    bytes.iter().enumerate().fold(0, |k, (i, &byte)| k ^ ((byte as i8 as u64) << (8 * i)))
}

fn fmix(mut k: u64) -> u64 {
    k ^= k >> 33;
    k = k.wrapping_mul(0xff51_afd7_ed55_8ccd);
    k ^= k >> 33;
    k = k.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    k ^ (k >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with the Python cassandra-driver's `murmur3`.
    const VECTORS: &[(&[u8], i64)] = &[
        (b"\x61", -8_839_064_797_231_613_815),
        (b"\x31\x32\x33", -7_468_325_962_851_647_638),
        (b"\x00\x00\x00\x01", -4_069_959_284_402_364_209),
        (b"\xff", -4_442_228_696_663_692_417),
        (b"\x80\x81\x82\x83\x84\x85\x86", 690_902_581_674_979_450),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff", 7_071_048_584_287_372_947),
        (b"\x9f\x9f\x9f\x9f\x9f\x9f\x9f\x9f\x9f\x9f\x9f\x9f\x9f\x9f\x9f", -8_151_240_791_523_432_634),
        (b"\x30\x31\x32\x33\x34\x35\x36\x37\x38\x39\x61\x62\x63\x64\x65\x66", 5_467_490_433_528_156_583),
        (b"\xf0\xf0\xf0\xf0\xf0\xf0\xf0\xf0\xf0\xf0\xf0\xf0\xf0\xf0\xf0\xf0\xf0", 8_775_922_637_852_250_311),
        (b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", -8_654_120_586_660_089_346),
        (b"\xc8\xc9\xca\xcb\xcc\xcd\xce\xcf\xd0\xd1\xd2\xd3\xd4\xd5\xd6\xd7\xd8\xd9\xda\xdb\xdc\xdd\xde\xdf\xe0\xe1\xe2\xe3\xe4\xe5\xe6\xe7\xe8\xe9\xea\xeb\xec\xed\xee\xef\xf0\xf1\xf2\xf3\xf4\xf5\xf6\xf7", 7_300_800_020_970_290_544),
        (b"\x7a\xc3\xbc\x72\x69\x63\x68\x2d\xe6\x97\xa5\xe6\x9c\xac", -3_139_595_949_112_409_851),
    ];

    #[test]
    fn tokens_are_those_that_drivers_compute() {
        for (key, token) in VECTORS {
            assert_eq!(murmur3_token(key), Token(*token), "key {key:x?}");
        }
    }

    /// Every tail length, with and without sign bits, folded into one number: the driver gives the
    /// same.
    #[test]
    fn tokens_of_every_length_and_sign_agree_with_the_driver() {
        let mut folded = 0_i64;
        let mut state = 1_u32;
        for length in 1..200_usize {
            let key: Vec<u8> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            folded = folded.wrapping_mul(31).wrapping_add(murmur3_token(&key).0);
        }
        assert_eq!(folded, -3_753_961_163_463_929_402);
    }

    #[test]
    fn the_empty_key_has_the_minimum_token() {
        assert_eq!(murmur3_token(b""), Token::MIN);
    }

    #[test]
    fn stream_ids_carry_their_token() {
        let mut id = [7_u8; 16];
        id[..8].copy_from_slice(&(-42_i64).to_be_bytes());
        assert_eq!(cdc_stream_token(&id), Token(-42));
        assert_eq!(cdc_stream_token(&id[..15]), Token::MIN);
        assert_eq!(cdc_stream_token(&[1; 17]), Token::MIN);
        assert_eq!(token_of(Partitioner::CdcStream, &id), Token(-42));
        assert_eq!(token_of(Partitioner::Murmur3, b"a"), murmur3_token(b"a"));
    }
}
