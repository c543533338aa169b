//! Generations and stream ids: where on the ring, and in which period, a change is logged.
//!
//! A generation is a start time and a way to cut the ring. Each of its ranges `(previous end, end]`
//! has one stream; the first range also takes what lies after the last end. A stream's id begins
//! with its range's end token, so the log's partition lies in the range whose changes it holds:
//! the same replicas, the same group, the same shard.
//!
//! ```text
//! stream id := token:i64be low:u64be
//! low       := hash:38 index:22 version:4      version = 1, index = number of the range
//! ```
//!
//! The hash is of the start and the range's end, so ids of two generations differ, and a generation
//! is known from its start and ends alone. Clients group streams by index and refuse other versions.

use std::sync::Arc;

/// A stream's id, the partition key of the log.
pub type StreamId = [u8; 16];

const VERSION: u64 = 1;
const INDEX_SHIFT: u32 = 4;
const HASH_SHIFT: u32 = 26;

/// Most ranges of a generation: an index has 22 bits.
pub const RANGE_COUNT_MAX: usize = 1 << 22;

/// A period and the streams that changes of that period go to. Never changed once made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    starts_at_millis: i64,
    range_ends: Arc<[i64]>,
}

impl Generation {
    /// A generation that starts at that time, with one stream for each range; `range_ends` ascend.
    pub fn new(starts_at_millis: i64, range_ends: &[i64]) -> Self {
        assert!(!range_ends.is_empty(), "a generation has at least one range");
        assert!(range_ends.len() <= RANGE_COUNT_MAX, "a generation has too many ranges");
        assert!(range_ends.is_sorted_by(|a, b| a < b), "range ends ascend");
        Generation { starts_at_millis, range_ends: range_ends.into() }
    }

    /// When it begins to operate, in milliseconds since the epoch.
    pub fn starts_at_millis(&self) -> i64 {
        self.starts_at_millis
    }

    /// When it begins to operate, in microseconds since the epoch.
    pub fn starts_at_micros(&self) -> i64 {
        self.starts_at_millis.saturating_mul(1_000)
    }

    /// The ends of its ranges, ascending.
    pub fn range_ends(&self) -> &[i64] {
        &self.range_ends
    }

    /// The stream that holds changes of partitions with this token.
    pub fn stream_of(&self, token: i64) -> StreamId {
        let stream = self.stream(self.range_of(token));
        let stream_token = model::token::cdc_stream_token(&stream);
        debug_assert_eq!(
            self.range_of(stream_token.0),
            self.range_of(token),
            "a stream lies in the range whose changes it holds"
        );
        stream
    }

    /// Rows of `cdc_streams_descriptions_v2`: each range's end and its streams.
    pub fn descriptions(&self) -> impl Iterator<Item = (i64, [StreamId; 1])> {
        (0..self.range_ends.len()).map(|index| (self.range_ends[index], [self.stream(index)]))
    }

    /// All its streams, in the order of their ranges.
    pub fn streams(&self) -> impl Iterator<Item = StreamId> {
        (0..self.range_ends.len()).map(|index| self.stream(index))
    }

    fn range_of(&self, token: i64) -> usize {
        let index = self.range_ends.partition_point(|end| *end < token);
        if index == self.range_ends.len() { 0 } else { index }
    }

    fn stream(&self, index: usize) -> StreamId {
        let end = self.range_ends[index];
        let hash = mix(mix(self.starts_at_millis as u64) ^ end as u64);
        let low = (hash >> HASH_SHIFT << HASH_SHIFT) | (index as u64) << INDEX_SHIFT | VERSION;
        (u128::from(end as u64) << 64 | u128::from(low)).to_be_bytes()
    }
}

/// Spreads every bit over all others (the finaliser of splitmix64); stream ids depend on it, so it
/// never changes.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The generations in order of their starts. Append-only: clients never look behind the newest one
/// they have seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generations {
    list: Vec<Generation>,
}

impl Generations {
    /// No generation yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one that starts after all others.
    pub fn push(&mut self, generation: Generation) {
        assert!(
            self.list.last().is_none_or(|last| last.starts_at_millis < generation.starts_at_millis),
            "generations are appended in the order of their starts"
        );
        self.list.push(generation);
    }

    /// All of them, oldest first.
    pub fn list(&self) -> &[Generation] {
        &self.list
    }

    /// The one operating at a time in microseconds; none before the first starts.
    pub fn operating_at(&self, micros: i64) -> Option<&Generation> {
        let after = self.list.partition_point(|g| g.starts_at_micros() <= micros);
        self.list.get(after.checked_sub(1)?)
    }

    /// Forgets the oldest one, unless it is the only one.
    pub fn forget_oldest(&mut self) -> Option<Generation> {
        (self.list.len() > 1).then(|| self.list.remove(0))
    }
}

impl FromIterator<Generation> for Generations {
    fn from_iter<I: IntoIterator<Item = Generation>>(generations: I) -> Self {
        let mut all = Generations::new();
        generations.into_iter().for_each(|generation| all.push(generation));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::token::cdc_stream_token;

    #[test]
    fn ids_have_the_layout_that_clients_read() {
        let generation = Generation::new(1_700_000_000_000, &[-5, 10, 900]);
        for (index, (end, [id])) in generation.descriptions().enumerate() {
            let low = u64::from_be_bytes(id[8..].try_into().unwrap());
            assert_eq!(cdc_stream_token(&id).0, end);
            assert_eq!(low & 0xf, 1);
            assert_eq!((low & 0x03ff_fff0) >> 4, index as u64);
        }
        assert_eq!(generation.streams().count(), 3);
    }

    /// Ids are data that outlives a release.
    #[test]
    fn ids_never_change() {
        let id = Generation::new(1_700_000_000_000, &[0, 77]).stream_of(50);
        assert_eq!(u128::from_be_bytes(id), 0x0000_0000_0000_004d_ab06_bf90_9000_0011);
    }

    #[test]
    fn a_token_goes_to_the_stream_of_its_range() {
        let generation = Generation::new(1, &[-5, 10, 900]);
        let end_of = |token| cdc_stream_token(&generation.stream_of(token)).0;
        let tokens = [i64::MIN, -5, -4, 10, 11, 900, 901, i64::MAX];
        assert_eq!(tokens.map(end_of), [-5, -5, 10, 10, 900, 900, -5, -5]);
    }

    #[test]
    fn ids_of_two_generations_differ() {
        let (one, two) = (Generation::new(1, &[7]), Generation::new(2, &[7]));
        assert_ne!(one.stream_of(0), two.stream_of(0));
    }

    #[test]
    fn the_operating_generation_is_the_last_that_started() {
        let mut all: Generations =
            [1, 3].map(|start| Generation::new(start, &[7])).into_iter().collect();
        let start = |micros| all.operating_at(micros).map(Generation::starts_at_millis);
        assert_eq!(start(999), None);
        assert_eq!([1_000, 2_999, 3_000, i64::MAX].map(start), [1, 1, 3, 3].map(Some));
        assert_eq!(all.forget_oldest().unwrap().starts_at_millis(), 1);
        assert_eq!(all.forget_oldest(), None);
    }
}
