//! A partition's record in the arena: what a point operation needs, side by side.
//!
//! ```text
//! record := newest:i64 row_place:u64 row_len:u32 clustering_len:u32 content:u32 key_len:u32
//!           key [clustering row]
//! ```
//! The one row of a partition that has nothing else lies behind the key, until it outgrows its
//! room and moves; `row_place` says where its clustering key is and what room it has, and the
//! highest bit of `clustering_len` whether it is whole (see [`super::rows`]). A partition with more
//! (several rows, a static row, tombstones) has all of it in a [`Content`], whose number plus one
//! is in `content`. Numbers are little-endian; a record never leaves memory.

use super::arena::{Arena, Place};
use super::rows::{RowPlace, WHOLE, first_room_class, room_bytes};
use model::TimestampMicros;

const RECORD_HEAD_BYTES: usize = 32;

/// The head of a record, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHead {
    /// No timestamp in the partition is newer.
    pub(super) newest: TimestampMicros,
    /// Where the only row's clustering key is, and behind it the row.
    pub(super) row_place: RowPlace,
    pub(super) row_len: u32,
    pub(super) clustering_len: u32,
    /// Whether the only row has all that older sources have of it.
    pub(super) is_whole: bool,
    /// The number of the content, when there is more than one row.
    pub(super) content: Option<u32>,
    key_len: u32,
}

impl RecordHead {
    /// Reads the record at a place.
    #[inline]
    pub(super) fn read(arena: &Arena, record: Place) -> Self {
        let bytes = arena.get(record, RECORD_HEAD_BYTES).as_chunks().0;
        let words: &[[u8; 8]; 4] = bytes.first_chunk().expect("that many bytes were asked for");
        let [newest, row_place, row_lengths, others] = words.map(u64::from_le_bytes);
        RecordHead {
            newest: newest as i64,
            row_place: RowPlace::from_bits(row_place),
            row_len: row_lengths as u32,
            clustering_len: (row_lengths >> 32) as u32 & !WHOLE,
            is_whole: (row_lengths >> 32) as u32 & WHOLE != 0,
            content: (others as u32).checked_sub(1),
            key_len: (others >> 32) as u32,
        }
    }

    /// Writes it back.
    #[inline]
    pub(super) fn write(&self, arena: &mut Arena, record: Place) {
        arena.get_mut(record, RECORD_HEAD_BYTES).copy_from_slice(self.to_bytes().as_flattened());
    }

    fn to_bytes(self) -> [[u8; 8]; 4] {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let content = self.content.map_or(0, |number| number + 1);
        let whole = if self.is_whole { WHOLE } else { 0 };
        let row_lengths = pair(self.row_len, self.clustering_len | whole);
        let words = [
            self.newest as u64,
            self.row_place.to_bits(),
            row_lengths,
            pair(content, self.key_len),
        ];
        words.map(u64::to_le_bytes)
    }

    /// Makes the record of a new partition with this row alone. A row of no bytes stands for none,
    /// until the record gets a content.
    pub(super) fn store(
        arena: &mut Arena,
        key: &[u8],
        newest: TimestampMicros,
        clustering: &[u8],
        row: &[u8],
    ) -> Place {
        let mut head = RecordHead {
            newest,
            row_place: RowPlace::from_bits(0),
            row_len: row.len() as u32,
            clustering_len: clustering.len() as u32,
            is_whole: false,
            content: None,
            key_len: key.len() as u32,
        };
        let class = first_room_class(row.len());
        let spare = room_bytes(class) - row.len();
        let record = arena.push([head.to_bytes().as_flattened(), key, clustering, row], spare);
        head.row_place = RowPlace::new(record.behind(RECORD_HEAD_BYTES + key.len()), class);
        head.write(arena, record);
        record
    }

    /// The key of the record at `record`.
    #[inline]
    pub(super) fn key(self, arena: &Arena, record: Place) -> &[u8] {
        arena.get(record.behind(RECORD_HEAD_BYTES), self.key_len as usize)
    }

    /// Clustering key and bytes of the only row.
    #[inline]
    pub(super) fn only_row(self, arena: &Arena) -> (&[u8], &[u8]) {
        self.row_place.get(arena, self.clustering_len as usize, self.row_len as usize)
    }
}

/// The key of the record at a place.
#[inline]
pub(super) fn key_of(arena: &Arena, record: Place) -> &[u8] {
    RecordHead::read(arena, record).key(arena, record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let mut arena = Arena::default();
        arena.push([b"something before"], 0);
        let record = RecordHead::store(&mut arena, b"a key", 7, b"clustering", b"row");
        let mut head = RecordHead::read(&arena, record);
        assert_eq!((head.newest, head.content), (7, None));
        assert_eq!(head.key(&arena, record), b"a key");
        assert_eq!(head.only_row(&arena), (&b"clustering"[..], &b"row"[..]));
        head.newest = -5;
        head.is_whole = true;
        head.content = Some(u32::MAX - 1);
        head.write(&mut arena, record);
        assert_eq!(RecordHead::read(&arena, record), head);
        assert_eq!(key_of(&arena, record), b"a key");
    }
}
