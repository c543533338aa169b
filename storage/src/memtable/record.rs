//! A partition's record in the arena: what a point operation needs, side by side.
//!
//! ```text
//! record := newest:i64 row_place:u64 row_len:u32 clustering_len:u32 content:u32 key_len:u32
//!           key [clustering row]
//! ```
//! The one row of a partition that has nothing else lies behind the key, until it outgrows its
//! room and moves; `row_place` says where its clustering key is. A partition with more (several
//! rows, a static row, tombstones) has all of it in a [`Content`], whose number plus one is in
//! `content`. Numbers are little-endian; a record never leaves memory.

use super::arena::{Arena, Place};
use super::rows::room_for;
use model::TimestampMicros;

const RECORD_HEAD_BYTES: usize = 32;

/// The head of a record, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHead {
    /// No timestamp in the partition is newer.
    pub(super) newest: TimestampMicros,
    /// Where the only row's clustering key is, and behind it the row.
    pub(super) row_place: Place,
    pub(super) row_len: u32,
    pub(super) clustering_len: u32,
    /// The number of the content, when there is more than one row.
    pub(super) content: Option<u32>,
    key_len: u32,
}

impl RecordHead {
    /// Reads the record at a place.
    #[inline]
    pub(super) fn read(arena: &Arena, record: Place) -> Self {
        let bytes = arena.get(record, RECORD_HEAD_BYTES);
        let u32_at = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        RecordHead {
            newest: u64_at(0) as i64,
            row_place: Place::from_bits(u64_at(8)),
            row_len: u32_at(16),
            clustering_len: u32_at(20),
            content: u32_at(24).checked_sub(1),
            key_len: u32_at(28),
        }
    }

    /// Writes it back.
    #[inline]
    pub(super) fn write(&self, arena: &mut Arena, record: Place) {
        arena.get_mut(record, RECORD_HEAD_BYTES).copy_from_slice(&self.to_bytes());
    }

    fn to_bytes(self) -> [u8; RECORD_HEAD_BYTES] {
        let mut bytes = [0; RECORD_HEAD_BYTES];
        bytes[..8].copy_from_slice(&self.newest.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.row_place.to_bits().to_le_bytes());
        bytes[16..20].copy_from_slice(&self.row_len.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.clustering_len.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.content.map_or(0, |number| number + 1).to_le_bytes());
        bytes[28..].copy_from_slice(&self.key_len.to_le_bytes());
        bytes
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
            row_place: Place::from_bits(0),
            row_len: row.len() as u32,
            clustering_len: clustering.len() as u32,
            content: None,
            key_len: key.len() as u32,
        };
        let spare = room_for(row.len()) - row.len();
        let record = arena.push([&head.to_bytes(), key, clustering, row], spare);
        head.row_place = record.behind(RECORD_HEAD_BYTES + key.len());
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
        let clustering_len = self.clustering_len as usize;
        arena.get(self.row_place, clustering_len + self.row_len as usize).split_at(clustering_len)
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
        head.content = Some(u32::MAX - 1);
        head.write(&mut arena, record);
        assert_eq!(RecordHead::read(&arena, record), head);
        assert_eq!(key_of(&arena, record), b"a key");
    }
}
