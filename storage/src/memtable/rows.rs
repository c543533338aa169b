//! The rows of one partition in clustering order.
//!
//! A row's clustering key and bytes lie one behind the other in the arena; the partition keeps
//! handles of them. A handle carries the first eight bytes of its clustering key, so that most
//! comparisons of a search do not leave the leaf.
//!
//! A row has a little more room than it needs, so that an update of an inserted row, which is
//! longer by the time of the insert, is merged in its place. It keeps its room when it becomes
//! shorter: one that is inserted and updated in turn must not leave its bytes behind each time. One
//! that outgrows its room gets an eighth more, since it may grow by bits, as a collection does.
//!
//! A row is *whole* when it was merged with all that older memtables and files have of it, at a
//! moment when no tombstone lay over it there. Those do not change, so it stays whole.

use super::arena::{Arena, PLACE_SPARE_BITS, Place};
use super::leaves::{Leaves, Position};
use std::cmp::Ordering;

/// Where a row's clustering key and bytes are: one behind the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowHandle {
    prefix: u64,
    place: RowPlace,
    /// With [`WHOLE`].
    clustering_len: u32,
    row_len: u32,
}

/// The bit of a clustering key's length that says that the row is whole; keys are far shorter.
pub(super) const WHOLE: u32 = 1 << 31;

impl RowHandle {
    pub(super) fn store(arena: &mut Arena, clustering: &[u8], row: &[u8]) -> Self {
        let place = RowPlace::store(arena, clustering, row, first_room_class(row.len()));
        RowHandle::new(place, clustering, row.len())
    }

    /// A row that is in the arena already.
    pub(super) fn new(place: RowPlace, clustering: &[u8], row_len: usize) -> Self {
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
        self.place.get(arena, clustering_len, self.row_len as usize)
    }

    /// Puts other bytes in the row's place.
    pub(super) fn replace(&mut self, arena: &mut Arena, row: &[u8]) {
        self.place = self.place.replace(arena, self.clustering_len(), row);
        self.row_len = row.len() as u32;
    }

    #[inline]
    fn compare(&self, arena: &Arena, prefix: u64, clustering: &[u8]) -> Ordering {
        self.prefix
            .cmp(&prefix)
            .then_with(|| self.place.get(arena, self.clustering_len(), 0).0.cmp(clustering))
    }
}

/// Where a row's clustering key is, and how much room the row behind it has: the room's class in
/// the highest bits, which a [`Place`] does not use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowPlace(u64);

/// Where a room's class begins among the bits.
const CLASS_SHIFT: u32 = u64::BITS - PLACE_SPARE_BITS;

impl RowPlace {
    /// Puts a row into the arena, in a room of that class.
    fn store(arena: &mut Arena, clustering: &[u8], row: &[u8], class: u8) -> Self {
        let place = arena.push([clustering, row], room_bytes(class) - row.len());
        RowPlace::new(place, class)
    }

    /// A row whose room is of that class.
    pub(super) fn new(place: Place, class: u8) -> Self {
        RowPlace(u64::from(class) << CLASS_SHIFT | place.to_bits())
    }

    /// As one number.
    #[inline]
    pub(super) fn to_bits(self) -> u64 {
        self.0
    }

    /// What [`RowPlace::to_bits`] gave.
    #[inline]
    pub(super) fn from_bits(bits: u64) -> Self {
        RowPlace(bits)
    }

    #[inline]
    pub(super) fn place(self) -> Place {
        Place::from_bits(self.0 & ((1 << CLASS_SHIFT) - 1))
    }

    /// Clustering key and row of those lengths.
    #[inline]
    pub(super) fn get(
        self,
        arena: &Arena,
        clustering_len: usize,
        row_len: usize,
    ) -> (&[u8], &[u8]) {
        arena.get(self.place(), clustering_len + row_len).split_at(clustering_len)
    }

    /// Puts a row's bytes in the place of an older version's: where that is when there is room,
    /// else to a new place with the clustering key before it.
    pub(super) fn replace(self, arena: &mut Arena, clustering_len: usize, row: &[u8]) -> Self {
        if row.len() <= room_bytes((self.0 >> CLASS_SHIFT) as u8) {
            arena.get_mut(self.place().behind(clustering_len), row.len()).copy_from_slice(row);
            return self;
        }
        let clustering = arena.get(self.place(), clustering_len).to_vec();
        let class = room_class(row.len() + SPARE_BYTES.max(row.len() / 8));
        RowPlace::store(arena, &clustering, row, class)
    }
}

/// What a row is longer by when it has the time of its marker besides its cells': some days in
/// microseconds.
const SPARE_BYTES: usize = 6;
/// Up to this many bytes, rooms are multiples of [`ROOM_STEP_BYTES`]; behind, each doubling has
/// [`ROOMS_PER_DOUBLING`].
const SMALL_ROOM_BYTES: usize = 1 << 10;
const ROOM_STEP_BYTES: usize = 8;
const SMALL_ROOMS: usize = SMALL_ROOM_BYTES / ROOM_STEP_BYTES;
const ROOMS_PER_DOUBLING: usize = 4;

/// The class of the room that a new row gets; of none, if it is none.
pub(super) fn first_room_class(row_len: usize) -> u8 {
    if row_len == 0 { 0 } else { room_class(row_len + SPARE_BYTES) }
}

/// The class of the least room that holds so many bytes.
fn room_class(byte_count: usize) -> u8 {
    if byte_count <= SMALL_ROOM_BYTES {
        return byte_count.div_ceil(ROOM_STEP_BYTES) as u8;
    }
    let doublings = ((byte_count - 1) / SMALL_ROOM_BYTES).ilog2() as usize;
    let start = SMALL_ROOM_BYTES << doublings;
    let step = (byte_count - start).div_ceil(start / ROOMS_PER_DOUBLING);
    (SMALL_ROOMS + doublings * ROOMS_PER_DOUBLING + step) as u8
}

/// How many bytes a room of that class has.
#[inline]
pub(super) fn room_bytes(class: u8) -> usize {
    let Some(steps) = usize::from(class).checked_sub(SMALL_ROOMS + 1) else {
        return usize::from(class) * ROOM_STEP_BYTES;
    };
    let start = SMALL_ROOM_BYTES << (steps / ROOMS_PER_DOUBLING);
    start + start / ROOMS_PER_DOUBLING * (steps % ROOMS_PER_DOUBLING + 1)
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
            let before = handle.place;
            handle.replace(&mut arena, &vec![7; length]);
            moves += usize::from(handle.place != before);
        }
        assert!(moves < 100, "{moves}");
        assert_eq!(handle.get(&arena), (&b"key"[..], &vec![7; 19_999][..]));
    }

    #[test]
    fn an_inserted_row_is_updated_in_its_place_and_never_moves_twice_for_that() {
        let mut arena = Arena::default();
        for length in 1..300 {
            let mut handle = RowHandle::store(&mut arena, b"key", &vec![1; length]);
            let place = handle.place;
            for length in [length + SPARE_BYTES, length, 0, length + SPARE_BYTES] {
                handle.replace(&mut arena, &vec![3; length]);
                assert_eq!(handle.get(&arena), (&b"key"[..], &vec![3; length][..]));
            }
            assert_eq!(handle.place, place);
            handle.replace(&mut arena, &vec![4; length + 30]);
            let place = handle.place;
            for length in [length, length + 30 + SPARE_BYTES] {
                handle.replace(&mut arena, &vec![5; length]);
            }
            assert_eq!(handle.place, place);
        }
    }

    #[test]
    fn rooms_hold_what_they_are_for_and_little_more() {
        let large = (16..32).flat_map(|bits| [(1_usize << bits) - 1, 1 << bits, (1 << bits) + 1]);
        for length in (0..20_000).chain(large).chain([u32::MAX as usize]) {
            let class = room_class(length);
            let room = room_bytes(class);
            let room_max = if length <= SMALL_ROOM_BYTES { length + 7 } else { length * 5 / 4 };
            assert!((length..=room_max).contains(&room), "{length}: {room}");
            assert!(class == 0 || room_bytes(class - 1) < length, "{length}");
            assert!(first_room_class(length) >= class);
        }
    }
}
