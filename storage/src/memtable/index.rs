//! Where the partition of a token is: a hash table in front of the order of partitions.
//!
//! A point look-up then waits for memory once before it has the partition's place, where a walk
//! through a tree would wait at each level. Slots of 16 bytes (token and place), open addressing
//! with linear probing. The table doubles when it is three quarters full, and a few slots of the
//! old one are moved with each insert that follows, so that no insert takes long.
//!
//! A token is a hash already, but one that a client can steer: its slot is chosen by a random odd
//! factor, which nothing that can be observed depends on, except time.
//!
//! The few partitions that share their token with another are not in it: the token leads to
//! [`Found::Several`], and they are looked up in the order.

use super::arena::Place;
use env::memory::advise_huge_pages;
use env::prefetch::prefetch;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// Token, and the place plus one; no place is zero.
type Slot = [u64; 2];
const EMPTY: u64 = 0;
const SEVERAL: u64 = u64::MAX;

/// Slots of the smallest table.
const SLOTS_MIN: usize = 8;
/// Slots of the old table moved with each insert: growing is over long before the next time.
const SLOTS_MOVED_PER_INSERT: usize = 16;

/// What is known of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// No partition has it.
    Nothing,
    /// One partition has it.
    One(Place),
    /// More than one.
    Several,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Index {
    slots: Vec<Slot>,
    /// The table before the last growth, and how many of its slots were moved. What was moved
    /// stays in it until all are.
    old: Vec<Slot>,
    moved: usize,
    count: usize,
    factor: u64,
}

impl Default for Index {
    fn default() -> Self {
        let factor = RandomState::new().hash_one(0_u8) | 1;
        Index { slots: Vec::new(), old: Vec::new(), moved: 0, count: 0, factor }
    }
}

impl Index {
    /// Memory of its slots.
    pub(super) fn memory_bytes(&self) -> usize {
        (self.slots.len() + self.old.len()) * size_of::<Slot>()
    }

    /// What is known of a token.
    #[inline]
    pub(super) fn get(&self, token: i64) -> Found {
        let mut found = self.find(&self.slots, token).map_or(EMPTY, |at| self.slots[at][1]);
        if found == EMPTY && !self.old.is_empty() {
            found = self.find(&self.old, token).map_or(EMPTY, |at| self.old[at][1]);
        }
        match found {
            EMPTY => Found::Nothing,
            SEVERAL => Found::Several,
            place => Found::One(Place::from_bits(place - 1)),
        }
    }

    /// Begins to fetch the slot of a token.
    #[inline]
    pub(super) fn prefetch(&self, token: i64) {
        if !self.slots.is_empty() {
            prefetch(&self.slots[self.home(&self.slots, token)]);
        }
    }

    /// Notes a partition whose token is new.
    pub(super) fn insert(&mut self, token: i64, place: Place) {
        self.make_room();
        self.put(token, place.to_bits() + 1);
        self.count += 1;
    }

    /// Notes that a token that is there has more than one partition.
    pub(super) fn set_several(&mut self, token: i64) {
        self.put(token, SEVERAL);
    }

    /// The slot where a token's search begins.
    #[inline]
    fn home(&self, slots: &[Slot], token: i64) -> usize {
        let hash = (token as u64).wrapping_mul(self.factor);
        // The upper bits depend on all of the token's. There are at least eight slots.
        (hash >> (64 - slots.len().trailing_zeros())) as usize
    }

    /// The slot of a token, or the empty one where its search ends. `None` without slots.
    #[inline]
    fn find(&self, slots: &[Slot], token: i64) -> Option<usize> {
        if slots.is_empty() {
            return None;
        }
        let mut at = self.home(slots, token);
        while slots[at][1] != EMPTY && slots[at][0] != token as u64 {
            at = (at + 1) & (slots.len() - 1);
        }
        Some(at)
    }

    fn put(&mut self, token: i64, value: u64) {
        let at = self.find(&self.slots, token).expect("room was made before");
        self.slots[at] = [token as u64, value];
    }

    fn make_room(&mut self) {
        if (self.count + 1) * 4 > self.slots.len() * 3 {
            assert!(self.old.is_empty(), "the last growth is over before the next one");
            let slot_count = (self.slots.len() * 2).max(SLOTS_MIN);
            // Zeroed pages come from the system when they are first touched.
            let mut slots = vec![[0; 2]; slot_count];
            advise_huge_pages(&mut slots);
            self.old = std::mem::replace(&mut self.slots, slots);
            self.moved = 0;
        }
        if self.old.is_empty() {
            return;
        }
        let end = (self.moved + SLOTS_MOVED_PER_INSERT).min(self.old.len());
        for at in self.moved..end {
            let [token, value] = self.old[at];
            let to = self.find(&self.slots, token as i64).expect("the new table has slots");
            // What was changed since is there already.
            if value != EMPTY && self.slots[to][1] == EMPTY {
                self.slots[to] = [token, value];
            }
        }
        self.moved = end;
        if end == self.old.len() {
            self.old = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memtable::arena::Arena;
    use std::collections::BTreeMap;

    fn check(tokens: impl Iterator<Item = i64>) {
        let (mut arena, mut index) = (Arena::default(), Index::default());
        let mut model: BTreeMap<i64, Found> = BTreeMap::new();
        for (number, token) in tokens.enumerate() {
            let expected = model.get(&token).copied().unwrap_or(Found::Nothing);
            assert_eq!(index.get(token), expected);
            index.prefetch(token);
            let found = if expected == Found::Nothing {
                let place = arena.push([&[0; 8]], 0);
                index.insert(token, place);
                Found::One(place)
            } else {
                index.set_several(token);
                Found::Several
            };
            model.insert(token, found);
            assert_eq!(index.get(token), found);
            if number % 97 == 0 {
                assert!(model.iter().all(|(token, found)| index.get(*token) == *found));
            }
        }
        assert!(model.iter().all(|(token, found)| index.get(*token) == *found));
        assert!(index.slots.len() * 3 >= model.len() * 4);
        assert!(index.slots.len() <= (model.len() * 3).max(SLOTS_MIN));
    }

    #[test]
    fn tokens_are_found_while_the_table_grows_and_after() {
        check(std::iter::empty());
        check([i64::MIN, i64::MAX, 0, 0, -1, i64::MIN].into_iter());
        check((0..5_000).map(|i| i64::from(i) << 40));
        check((0..5_000).map(|i: i64| i.wrapping_mul(0x5851_f42d_4c95_7f2d)));
        // One in three tokens comes again, at once or much later.
        check((0..6_000).map(|i: i64| if i % 3 == 0 { i / 6 } else { i }));
    }
}
