//! Items in order, in leaves: sorted vectors, and the first item of each in one vector more.
//!
//! A B-tree of two levels. An insert moves at most one leaf's items; the upper level grows by one
//! item per half a leaf of inserts, which stays cheap up to millions. Items that arrive in order,
//! as the rows of a log do, are appended without a search.

use std::cmp::Ordering;

/// Items per leaf; half of them are moved in well under 100 ns.
const LEAF_ITEMS_MAX: usize = 256;

/// A position among the items: the slot of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    leaf: usize,
    slot: usize,
}

impl Position {
    /// Before everything else.
    pub(crate) const FIRST: Position = Position { leaf: 0, slot: 0 };
    /// Behind the only item.
    pub(crate) const SECOND: Position = Position { leaf: 1, slot: 0 };
}

/// See the module. The order is the caller's, who gives a comparison with every search.
#[derive(Debug)]
pub(crate) struct Leaves<T> {
    /// What stood first in each leaf when it came there: the same in the order as what does now.
    firsts: Vec<T>,
    /// The leaves, none of them empty.
    lists: Vec<Vec<T>>,
    memory_bytes: usize,
}

impl<T> Default for Leaves<T> {
    fn default() -> Self {
        Leaves { firsts: Vec::new(), lists: Vec::new(), memory_bytes: 0 }
    }
}

impl<T: Copy> Leaves<T> {
    /// Memory of all items, used or not.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Whether there is no item.
    pub(crate) fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// How many items there are; counts leaves.
    pub(crate) fn len(&self) -> usize {
        self.lists.iter().map(Vec::len).sum()
    }

    /// The item at a position, `None` behind the last.
    #[inline]
    pub(crate) fn at(&self, position: Position) -> Option<&T> {
        self.lists.get(position.leaf).map(|leaf| &leaf[position.slot])
    }

    /// The item at a position, to be changed without changing its place in the order.
    pub(crate) fn at_mut(&mut self, position: Position) -> Option<&mut T> {
        self.lists.get_mut(position.leaf).map(|leaf| &mut leaf[position.slot])
    }

    /// The position behind that of an item.
    #[inline]
    pub(crate) fn next(&self, position: Position) -> Position {
        if position.slot + 1 < self.lists[position.leaf].len() {
            Position { leaf: position.leaf, slot: position.slot + 1 }
        } else {
            Position { leaf: position.leaf + 1, slot: 0 }
        }
    }

    /// The position before `position`, if there is one.
    #[inline]
    pub(crate) fn previous(&self, position: Position) -> Option<Position> {
        if let Some(slot) = position.slot.checked_sub(1) {
            return Some(Position { leaf: position.leaf, slot });
        }
        let leaf = position.leaf.checked_sub(1)?;
        Some(Position { leaf, slot: self.lists[leaf].len().checked_sub(1)? })
    }

    /// All items in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.lists.iter().flatten()
    }

    /// The item that `compare` calls equal to what is sought, or the position of the first that it
    /// calls greater.
    #[inline]
    pub(crate) fn search(&self, compare: impl Fn(&T) -> Ordering) -> Result<Position, Position> {
        let end = Position { leaf: self.lists.len(), slot: 0 };
        let Some(last) = self.lists.last().and_then(|leaf| leaf.last()) else { return Err(end) };
        if compare(last) == Ordering::Less {
            return Err(end);
        }
        let behind = self.firsts.partition_point(|first| compare(first) != Ordering::Greater);
        let leaf = behind.saturating_sub(1);
        let items = &self.lists[leaf];
        match items.binary_search_by(compare) {
            Ok(slot) => Ok(Position { leaf, slot }),
            Err(slot) if slot == items.len() => Err(Position { leaf: leaf + 1, slot: 0 }),
            Err(slot) => Err(Position { leaf, slot }),
        }
    }

    /// Puts an item at the position that [`Leaves::search`] gave for it. An item behind the end of
    /// a leaf goes to that leaf's end, not to the start of the next one.
    pub(crate) fn insert(&mut self, position: Position, item: T) {
        let (leaf, slot) = match position.slot {
            0 if position.leaf > 0 => (position.leaf - 1, self.lists[position.leaf - 1].len()),
            slot => (position.leaf, slot),
        };
        let is_last = leaf + 1 == self.lists.len();
        let Some(items) = self.lists.get_mut(leaf) else {
            return self.insert_leaf(leaf, vec![item]);
        };
        if items.len() < LEAF_ITEMS_MAX {
            let capacity = items.capacity();
            items.insert(slot, item);
            self.memory_bytes += (items.capacity() - capacity) * size_of::<T>();
            if slot == 0 {
                self.firsts[leaf] = item;
            }
            return;
        }
        if is_last && slot == items.len() {
            return self.insert_leaf(leaf + 1, vec![item]);
        }
        let middle = items.len() / 2;
        let upper = items.split_off(middle);
        self.insert_leaf(leaf + 1, upper);
        // Either half has room now.
        if slot <= middle {
            self.insert(Position { leaf, slot }, item);
        } else {
            self.insert(Position { leaf: leaf + 1, slot: slot - middle }, item);
        }
    }

    fn insert_leaf(&mut self, at: usize, items: Vec<T>) {
        self.memory_bytes +=
            items.capacity() * size_of::<T>() + size_of::<Vec<T>>() + size_of::<T>();
        self.firsts.insert(at, items[0]);
        self.lists.insert(at, items);
    }

    /// Keeps the items that `keeps` accepts.
    pub(crate) fn retain(&mut self, mut keeps: impl FnMut(&T) -> bool) {
        let mut kept = Leaves::default();
        for items in std::mem::take(&mut self.lists) {
            let items: Vec<T> = items.into_iter().filter(|item| keeps(item)).collect();
            if !items.is_empty() {
                kept.insert_leaf(kept.lists.len(), items);
            }
        }
        *self = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn check(numbers: impl Iterator<Item = u32>) {
        let (mut leaves, mut model) = (Leaves::default(), BTreeSet::new());
        for number in numbers {
            let found = leaves.search(|item: &u32| item.cmp(&number));
            assert_eq!(found.is_err(), model.insert(number));
            if let Err(at) = found {
                leaves.insert(at, number);
            }
        }
        check_against(&leaves, &model);
        let is_kept = |number: &u32| (number / 300).is_multiple_of(2) && !number.is_multiple_of(7);
        leaves.retain(is_kept);
        model.retain(is_kept);
        check_against(&leaves, &model);
    }

    fn check_against(leaves: &Leaves<u32>, model: &BTreeSet<u32>) {
        assert!(leaves.iter().eq(model));
        assert!(leaves.lists.iter().all(|leaf| (1..=LEAF_ITEMS_MAX).contains(&leaf.len())));
        assert!(leaves.firsts.iter().eq(leaves.lists.iter().map(|leaf| &leaf[0])));
        let bytes: usize = leaves.lists.iter().map(|leaf| leaf.capacity() * 4 + 28).sum();
        assert_eq!(leaves.memory_bytes(), bytes);
        let mut at = Position::FIRST;
        let mut positions = Vec::new();
        for number in model {
            assert_eq!(leaves.at(at), Some(number));
            assert_eq!(leaves.search(|item| item.cmp(number)), Ok(at));
            positions.push(at);
            at = leaves.next(at);
        }
        assert!(leaves.at(at).is_none());
        for probe in 0..=model.last().copied().unwrap_or(0) + 1 {
            let behind = model.range(probe..).next();
            let (Ok(found) | Err(found)) = leaves.search(|item| item.cmp(&probe));
            assert_eq!(leaves.at(found), behind);
        }
        for expected in positions.iter().rev() {
            at = leaves.previous(at).unwrap();
            assert_eq!(at, *expected);
        }
        assert!(leaves.previous(at).is_none());
    }

    #[test]
    fn items_are_found_and_walked_in_order_however_they_came() {
        check(0..0);
        check(5..6);
        check((0..3_000).map(|i| i * 2));
        check((0..3_000).rev());
        check((0..4_000).map(|i| i * 7_919 % 3_001));
    }
}
