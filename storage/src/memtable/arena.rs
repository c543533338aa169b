//! Bytes that live as long as their memtable, in a few large chunks.
//!
//! No allocation per row and nothing to free one by one: what is replaced by longer bytes stays
//! behind until the memtable goes. Handles are indexes, so there is no `unsafe` and a handle of
//! another arena cannot reach foreign memory. Pieces begin at multiples of eight bytes, so that a
//! small one seldom lies across two cache lines.

use env::memory::{HUGE_PAGE_BYTES, advise_huge_pages};
use env::prefetch::prefetch_lines;

/// First chunk: small, since many tables hold little.
const CHUNK_BYTES_MIN: usize = 4 << 10;
/// Chunks grow with the arena up to this: eight huge pages, less what the allocator needs to make
/// them one mapping of that size, which the system then aligns. The first of them is lost: the
/// allocator has written a few bytes into it before it can be asked for.
const CHUNK_BYTES_MAX: usize = 8 * HUGE_PAGE_BYTES - (4 << 10);
/// Where pieces begin.
const ALIGNMENT: usize = 8;
/// Highest bits of [`Place::to_bits`] that are never set.
pub(super) const PLACE_SPARE_BITS: u32 = 8;

/// Where bytes begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    chunk: u32,
    offset: u32,
}

impl Place {
    /// As one number.
    #[inline]
    pub(super) fn to_bits(self) -> u64 {
        u64::from(self.chunk) << 32 | u64::from(self.offset)
    }

    /// What [`Place::to_bits`] gave.
    #[inline]
    pub(super) fn from_bits(bits: u64) -> Self {
        Place { chunk: (bits >> 32) as u32, offset: bits as u32 }
    }

    /// The place so many bytes behind this one, in the same piece.
    #[inline]
    pub(super) fn behind(self, byte_count: usize) -> Self {
        Place { chunk: self.chunk, offset: self.offset + byte_count as u32 }
    }

    /// Whether it is less than so many bytes behind another.
    #[inline]
    pub(super) fn is_within(self, other: Place, byte_count: usize) -> bool {
        let distance = self.offset.wrapping_sub(other.offset);
        self.chunk == other.chunk && (distance as usize) < byte_count
    }
}

#[derive(Debug, Default)]
pub(crate) struct Arena {
    chunks: Vec<Vec<u8>>,
    capacity_bytes: usize,
}

impl Arena {
    /// Copies pieces in, one behind the other, and leaves `spare_bytes` behind them.
    pub(crate) fn push<const N: usize>(&mut self, pieces: [&[u8]; N], spare_bytes: usize) -> Place {
        let length = pieces.iter().map(|piece| piece.len()).sum::<usize>() + spare_bytes;
        let needed = length + ALIGNMENT - 1;
        let has_room = self.chunks.last().is_some_and(|c| c.capacity() - c.len() >= needed);
        if !has_room {
            self.grow(needed);
        }
        let chunk = self.chunks.len() - 1;
        let bytes = &mut self.chunks[chunk];
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        let offset = bytes.len();
        for piece in pieces {
            bytes.extend_from_slice(piece);
        }
        bytes.resize(offset + length, 0);
        Place { chunk: chunk as u32, offset: offset as u32 }
    }

    #[inline]
    pub(crate) fn get(&self, place: Place, length: usize) -> &[u8] {
        let offset = place.offset as usize;
        &self.chunks[place.chunk as usize][offset..offset + length]
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, place: Place, length: usize) -> &mut [u8] {
        let offset = place.offset as usize;
        &mut self.chunks[place.chunk as usize][offset..offset + length]
    }

    /// Begins to fetch what lies at a place into the processor's cache.
    #[inline]
    pub(super) fn prefetch(&self, place: Place, length: usize) {
        let chunk = self.chunks.get(place.chunk as usize);
        if let Some(bytes) = chunk.and_then(|chunk| chunk.get(place.offset as usize..)) {
            prefetch_lines(&bytes[..bytes.len().min(length)]);
        }
    }

    /// Memory taken from the allocator, used or not.
    pub(crate) fn capacity_bytes(&self) -> usize {
        self.capacity_bytes
    }

    /// A new chunk is at most half as large as all before it, so that little of a small arena is
    /// unused.
    #[cold]
    fn grow(&mut self, length: usize) {
        let capacity = (self.capacity_bytes / 2).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        let capacity = capacity.max(length);
        assert!(u32::try_from(capacity).is_ok(), "one item of a memtable is below 4 GiB");
        let chunks_max = 1 << (u32::BITS - PLACE_SPARE_BITS);
        assert!(self.chunks.len() < chunks_max, "a memtable is far smaller than that");
        let mut chunk = Vec::with_capacity(capacity);
        advise_huge_pages(chunk.spare_capacity_mut());
        self.chunks.push(chunk);
        self.capacity_bytes += capacity;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_where_they_were_put() {
        let mut arena = Arena::default();
        let places: Vec<(Place, Vec<u8>)> = (0..5_000_usize)
            .map(|i| {
                let bytes = vec![i as u8; i % 97];
                (arena.push([&bytes, b"end"], i % 5), bytes)
            })
            .collect();
        let large = arena.push([&vec![7; 3 << 20]], 0);
        for (place, bytes) in &places {
            assert_eq!(Place::from_bits(place.to_bits()), *place);
            assert_eq!(arena.get(*place, bytes.len()), bytes);
            assert_eq!(arena.get(place.behind(bytes.len()), 3), b"end");
        }
        assert_eq!(arena.get(large, 3 << 20), vec![7; 3 << 20]);
        assert!(arena.capacity_bytes() < (3 << 20) + 1_000_000);
    }
}
