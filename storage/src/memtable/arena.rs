//! Bytes that live as long as their memtable, in a few large chunks.
//!
//! No allocation per row and nothing to free one by one: what is replaced by longer bytes stays
//! behind until the memtable goes. Handles are indexes, so there is no `unsafe` and a handle of
//! another arena cannot reach foreign memory.

/// First chunk: small, since many tables hold little.
const CHUNK_BYTES_MIN: usize = 4 << 10;
/// Chunks double up to this.
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// Where bytes begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    chunk: u32,
    offset: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Arena {
    chunks: Vec<Vec<u8>>,
    capacity_bytes: usize,
}

impl Arena {
    /// Copies two pieces in, one behind the other.
    pub(crate) fn push(&mut self, first: &[u8], second: &[u8]) -> Place {
        let length = first.len() + second.len();
        let has_room = self.chunks.last().is_some_and(|c| c.capacity() - c.len() >= length);
        if !has_room {
            self.grow(length);
        }
        let chunk = self.chunks.len() - 1;
        let bytes = &mut self.chunks[chunk];
        let offset = bytes.len();
        bytes.extend_from_slice(first);
        bytes.extend_from_slice(second);
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

    /// Memory taken from the allocator, used or not.
    pub(crate) fn capacity_bytes(&self) -> usize {
        self.capacity_bytes
    }

    #[cold]
    fn grow(&mut self, length: usize) {
        let doubled = CHUNK_BYTES_MIN << self.chunks.len().min(16);
        let capacity = doubled.min(CHUNK_BYTES_MAX).max(length);
        assert!(u32::try_from(capacity).is_ok(), "one item of a memtable is below 4 GiB");
        self.chunks.push(Vec::with_capacity(capacity));
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
                (arena.push(&bytes, b"end"), bytes)
            })
            .collect();
        let large = arena.push(&vec![7; 3 << 20], b"");
        for (place, bytes) in &places {
            assert_eq!(arena.get(*place, bytes.len()), bytes);
            let end = Place { offset: place.offset + bytes.len() as u32, ..*place };
            assert_eq!(arena.get(end, 3), b"end");
        }
        assert_eq!(arena.get(large, 3 << 20), vec![7; 3 << 20]);
        assert!(arena.capacity_bytes() < (3 << 20) + 1_000_000);
    }
}
