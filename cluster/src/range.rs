//! The ring as a sorted list of ranges, and the shard that each range lives on.
//!
//! A range is an interval of tokens `(previous end, end]`, as in Cassandra. The ring is cut at even
//! points, whose number is fixed when a cluster is founded ([`cuts_for`]), and nodes own tokens that
//! are such points ([`choose_tokens`](crate::ring::choose_tokens)). A token that is none cuts the
//! ring as well. So:
//!
//! - Ranges do not change when nodes come and go: each is held by other nodes, and neither its log
//!   nor a stream of changes has to be cut.
//! - Every range lies on one shard of each of its nodes, whatever power of two up to the number of
//!   cuts a node has of shards. So a range's log, memtable and leader are one thread's alone.
//! - The last range always ends at the greatest token, so no range wraps around. The range that
//!   would (from the last node's token, over the end of the ring, to the first node's) is cut in
//!   two at the top; both parts have the same replicas.
//!
//! The shard of a token is ScyllaDB's formula with no ignored bits, which shard-aware drivers
//! compute as well. A shard count that is not a power of two does not divide the cuts evenly: a
//! range lives on the shard of its first token, so the tokens of the fewer than one range per
//! shard border that lie beyond the border are served by the shard below the one a driver names.
//! That costs those requests a hop between threads; nothing else depends on it.
//!
//! Finding a token's range takes one probe of a directory and a search among the few ranges that
//! share its entry: about two memory accesses on rings of any usual size.

use model::Token;

/// Fewest even cuts of a ring: seven nodes can have sixteen tokens each, and others some.
pub const CUTS_MIN: usize = 128;
/// Most even cuts of a ring.
pub const CUTS_MAX: usize = 4_096;
/// Ranges for each shard of a node, so that what shards lead is even.
const CUTS_PER_SHARD: usize = 32;

/// How many even cuts the ring of a cluster has whose first node has that many shards.
pub fn cuts_for(shard_count: u16) -> usize {
    (usize::from(shard_count).next_power_of_two() * CUTS_PER_SHARD).clamp(CUTS_MIN, CUTS_MAX)
}

/// The tokens at which a ring with `cuts` even cuts is cut, ascending. `cuts` is a power of two
/// between 2 and [`CUTS_MAX`].
pub(crate) fn cut_tokens(cuts: usize) -> impl Iterator<Item = Token> {
    assert!(is_cut_count(cuts), "{cuts} cuts do not divide the ring evenly");
    let shift = 64 - cuts.trailing_zeros();
    (1..=cuts).map(move |cut| {
        // The last one is the end of the ring: 2^64 - 1.
        token_at((((cut as u128) << shift) as u64).wrapping_sub(1))
    })
}

/// Whether a ring can have that many even cuts.
pub(crate) fn is_cut_count(cuts: usize) -> bool {
    cuts.is_power_of_two() && (2..=CUTS_MAX).contains(&cuts)
}

/// A range's position in the list, ascending by token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RangeIndex(pub u32);

/// Every range of the ring, in order of tokens, without gaps or overlaps.
///
/// Invariants: `ends` strictly ascends, contains every cut, and its last element is the greatest
/// token. `directory` has a power of two of entries plus one, and entry `b` is the index of the
/// first range whose end is not below the first token of bucket `b`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges {
    ends: Vec<Token>,
    directory: Vec<u32>,
    /// Bits to drop from a position to find its bucket.
    directory_shift: u32,
}

impl Ranges {
    /// Cuts the ring at `tokens` (any order, repeats allowed) and at so many even points.
    pub fn new(tokens: impl IntoIterator<Item = Token>, cuts: usize) -> Ranges {
        let mut ends: Vec<Token> = tokens.into_iter().collect();
        ends.extend(cut_tokens(cuts));
        ends.sort_unstable();
        ends.dedup();
        assert!(ends.len() < u32::MAX as usize, "a ring has fewer than 2^32 ranges");

        let directory_bits = (ends.len() * 2).next_power_of_two().trailing_zeros();
        let directory_shift = 64 - directory_bits;
        let mut directory: Vec<u32> = (0..1_u64 << directory_bits)
            .map(|bucket| {
                let first = token_at(bucket << directory_shift);
                ends.partition_point(|&end| end < first) as u32
            })
            .collect();
        directory.push(ends.len() as u32 - 1);
        Ranges { ends, directory, directory_shift }
    }

    /// How many ranges there are; never zero.
    #[expect(clippy::len_without_is_empty, reason = "a ring always has its cuts")]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The range that holds `token`.
    #[inline]
    pub fn range_of(&self, token: Token) -> RangeIndex {
        let bucket = (position_of(token) >> self.directory_shift) as usize;
        let mut low = self.directory[bucket] as usize;
        // The end of the last range that touches this bucket is not below the token.
        let mut high = self.directory[bucket + 1] as usize;
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.ends[middle] < token {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        RangeIndex(low as u32)
    }

    /// The first token of a range.
    pub fn first_token(&self, range: RangeIndex) -> Token {
        match range.0 {
            0 => Token::MIN,
            index => Token(self.ends[index as usize - 1].0 + 1),
        }
    }

    /// The last token of a range, which belongs to it.
    pub fn end_token(&self, range: RangeIndex) -> Token {
        self.ends[range.0 as usize]
    }

    /// The shard that owns a range on a node with `shards` shards.
    pub fn shard_of_range(&self, range: RangeIndex, shards: u16) -> u16 {
        shard_of(self.first_token(range), shards)
    }

    /// Every range, ascending.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RangeIndex> + use<> {
        (0..self.ends.len() as u32).map(RangeIndex)
    }
}

/// The shard that drivers expect to own `token` on a node with `shards` shards.
#[inline]
pub fn shard_of(token: Token, shards: u16) -> u16 {
    ((u128::from(position_of(token)) * u128::from(shards)) >> 64) as u16
}

/// A token's distance from the start of the ring.
#[inline]
pub(crate) fn position_of(token: Token) -> u64 {
    (token.0 as u64) ^ (1 << 63)
}

/// The token at a distance from the start of the ring.
#[inline]
pub(crate) fn token_at(position: u64) -> Token {
    Token((position ^ (1 << 63)) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixed(seed: u64) -> u64 {
        let mut z = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z ^ (z >> 31)
    }

    #[test]
    fn every_token_is_in_the_range_whose_bounds_hold_it() {
        for tokens in [0_u64, 1, 16, 48, 1600] {
            let clustered = (0..tokens).map(|i| Token(7_000 + i as i64));
            let spread = (0..tokens).map(|i| Token(mixed(i) as i64));
            let ranges = Ranges::new(clustered.chain(spread), 64);
            let edges = ranges.iter().flat_map(|r| {
                let end = ranges.end_token(r).0;
                [end, end.wrapping_add(1), end.wrapping_sub(1)]
            });
            let probes = edges.chain((0..5_000).map(|i| mixed(i + 77_777) as i64));
            for token in probes.chain([i64::MIN, -1, 0, 1, i64::MAX]) {
                let token = Token(token);
                let range = ranges.range_of(token);
                assert!(ranges.first_token(range) <= token, "{token:?} starts below its range");
                assert!(token <= ranges.end_token(range), "{token:?} ends above its range");
            }
        }
    }

    #[test]
    fn a_range_lies_on_one_shard_when_shards_are_a_power_of_two() {
        let ranges = Ranges::new((0..48).map(|i| Token(mixed(i) as i64)), 64);
        for shards in [1_u16, 2, 4, 8, 16, 32, 64] {
            for range in ranges.iter() {
                let last = shard_of(ranges.end_token(range), shards);
                assert_eq!(ranges.shard_of_range(range, shards), last, "{shards} shards");
            }
        }
    }

    #[test]
    fn other_shard_counts_misroute_only_the_ranges_at_borders() {
        let ranges = Ranges::new([], 64);
        for shards in [3_u16, 5, 6, 7, 12, 48] {
            let split = ranges.iter().filter(|&range| {
                ranges.shard_of_range(range, shards) != shard_of(ranges.end_token(range), shards)
            });
            assert!(split.count() < shards as usize, "{shards} shards");
        }
        assert_eq!(shard_of(Token::MIN, 3), 0);
        assert_eq!(shard_of(Token::MAX, 3), 2);
    }

    #[test]
    fn a_ring_has_enough_ranges_for_the_shards_of_its_first_node() {
        let counts = [1, 4, 5, 8, 9, 16, 64, u16::MAX].map(cuts_for);
        assert_eq!(counts, [128, 128, 256, 256, 512, 512, 2_048, CUTS_MAX]);
        assert!(counts.into_iter().all(is_cut_count));
    }

    #[test]
    fn the_cuts_alone_make_even_ranges_up_to_the_greatest_token() {
        let ranges = Ranges::new([], 64);
        assert_eq!(ranges.len(), 64);
        assert_eq!(ranges.first_token(RangeIndex(0)), Token::MIN);
        assert_eq!(ranges.end_token(RangeIndex(63)), Token::MAX);
        assert_eq!(ranges.end_token(RangeIndex(31)), Token(-1), "the middle of the ring is a cut");
    }
}
