//! The rows of one partition in clustering order.
//!
//! A row's clustering key and bytes lie one behind the other in the arena; the partition keeps
//! handles of them. A handle carries the first eight bytes of its clustering key, so that most
//! comparisons of a search do not leave the leaf.
//!
//! A row is *whole* when it was merged with all that older memtables and files have of it, at a
//! moment when no tombstone lay over it there. Those do not change, so it stays whole.

use super::arena::{Arena, Place};
use super::leaves::{Leaves, Position};
use std::cmp::Ordering;

/// Where a row's clustering key and bytes are: one behind the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowHandle {
    prefix: u64,
    place: Place,
    /// With [`WHOLE`].
    clustering_len: u32,
    row_len: u32,
}

/// The bit of a clustering key's length that says that the row is whole; keys are far shorter.
pub(super) const WHOLE: u32 = 1 << 31;

impl RowHandle {
    pub(super) fn store(arena: &mut Arena, clustering: &[u8], row: &[u8]) -> Self {
        let place = arena.push([clustering, row], room_for(row.len()) - row.len());
        RowHandle::new(place, clustering, row.len())
    }

    /// A row that is in the arena already, and has the room of [`room_for`].
    pub(super) fn new(place: Place, clustering: &[u8], row_len: usize) -> Self {
        RowHandle {
            prefix: prefix_of(clustering),
            place,
            clustering_len: clustering.len() as u32,
            row_len: row_len as u32,
        }
    }

    #[inline]
    fn clustering_len(&self) -> usize {
        (self.clustering_len & !WHOLE) as usize
    }

    #[inline]
    pub(super) fn is_whole(&self) -> bool {
        self.clustering_len & WHOLE != 0
    }

    pub(super) fn set_whole(&mut self) {
        self.clustering_len |= WHOLE;
    }

    /// Clustering key and row.
    #[inline]
    pub(super) fn get<'a>(&self, arena: &'a Arena) -> (&'a [u8], &'a [u8]) {
        let clustering_len = self.clustering_len();
        arena.get(self.place, clustering_len + self.row_len as usize).split_at(clustering_len)
    }

    /// Puts other bytes in the row's place.
    pub(super) fn replace(&mut self, arena: &mut Arena, row: &[u8]) {
        let (clustering_len, row_len) = (self.clustering_len(), self.row_len as usize);
        self.place = replace_row(arena, self.place, clustering_len, row_len, row);
        self.row_len = row.len() as u32;
    }

    #[inline]
    fn compare(&self, arena: &Arena, prefix: u64, clustering: &[u8]) -> Ordering {
        self.prefix
            .cmp(&prefix)
            .then_with(|| arena.get(self.place, self.clustering_len()).cmp(clustering))
    }
}

/// Room that a row of that many bytes has: up to an eighth more, so that one that is written again
/// a little longer, or grows by bits as a collection does, seldom has to move.
pub(super) fn room_for(row_len: usize) -> usize {
    row_len.next_multiple_of((row_len / 8 + 1).next_power_of_two().max(8))
}

/// Puts a row's bytes in the place of an older version's: where that is when there is room, else
/// to a new place with the clustering key before it.
pub(super) fn replace_row(
    arena: &mut Arena,
    place: Place,
    clustering_len: usize,
    old_row_len: usize,
    row: &[u8],
) -> Place {
    if row.len() <= room_for(old_row_len) {
        arena.get_mut(place.behind(clustering_len), row.len()).copy_from_slice(row);
        return place;
    }
    let clustering = arena.get(place, clustering_len).to_vec();
    arena.push([&clustering, row], room_for(row.len()) - row.len())
}

fn prefix_of(clustering: &[u8]) -> u64 {
    let mut first = [0; 8];
    let length = clustering.len().min(8);
    first[..length].copy_from_slice(&clustering[..length]);
    u64::from_be_bytes(first)
}

/// Handles in clustering order.
pub(super) type Rows = Leaves<RowHandle>;

impl Rows {
    /// The row of that clustering key, or the position of the first row behind it.
    #[inline]
    pub(super) fn find(&self, arena: &Arena, clustering: &[u8]) -> Result<Position, Position> {
        let prefix = prefix_of(clustering);
        self.search(|row| row.compare(arena, prefix, clustering))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn rows_are_found_by_their_keys_and_keep_the_bytes_written_last() {
        let (mut arena, mut rows) = (Arena::default(), Rows::default());
        let mut model = BTreeMap::new();
        for step in 0..12_000_usize {
            let clustering = format!("{:06}x", step * 7_919 % 3_001).into_bytes();
            let value = vec![step as u8; step * 31 % 200];
            match rows.find(&arena, &clustering) {
                Ok(at) => rows.at_mut(at).unwrap().replace(&mut arena, &value),
                Err(at) => {
                    let handle = RowHandle::store(&mut arena, &clustering, &value);
                    rows.insert(at, handle);
                }
            }
            model.insert(clustering, value);
        }
        let stored = rows.iter().map(|row| row.get(&arena));
        assert!(stored.eq(model.iter().map(|(clustering, value)| (&**clustering, &**value))));
    }

    #[test]
    fn a_row_that_grows_by_bits_seldom_moves() {
        let mut arena = Arena::default();
        let mut handle = RowHandle::store(&mut arena, b"key", b"");
        let mut moves = 0;
        for length in 0..20_000 {
            assert!((length..=length + 8 + length / 4).contains(&room_for(length)));
            let before = handle.place;
            handle.replace(&mut arena, &vec![7; length]);
            moves += usize::from(handle.place != before);
        }
        assert!(moves < 100, "{moves}");
        assert_eq!(handle.get(&arena), (&b"key"[..], &vec![7; 19_999][..]));
    }
}
