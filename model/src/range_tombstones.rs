//! The range tombstones of a partition, as a sorted list of intervals that do not overlap.
//!
//! An interval is half open over clustering positions (see [`crate::clustering`] for how bounds
//! become positions). Where two overlap, the stronger deletion covers the common part. Neighbours
//! with the same deletion are joined, so equal sets of deletes give equal lists.

use crate::row::Deletion;
use std::ops::Range;

/// A deletion of every row whose position lies in `[start, end)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeTombstone {
    /// First position covered.
    pub start: Box<[u8]>,
    /// First position no longer covered.
    pub end: Box<[u8]>,
    /// The deletion.
    pub deletion: Deletion,
}

/// A partition's range tombstones. Invariants: sorted; `start < end`; no overlaps; no two touching
/// neighbours with the same deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeTombstones {
    list: Vec<RangeTombstone>,
}

impl RangeTombstones {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The intervals in order.
    pub fn iter(&self) -> std::slice::Iter<'_, RangeTombstone> {
        self.list.iter()
    }

    /// The deletion that covers a row at `position`.
    pub fn covering(&self, position: &[u8]) -> Option<Deletion> {
        let after = self.list.partition_point(|r| *r.start <= *position);
        let candidate = self.list.get(after.checked_sub(1)?)?;
        (*position < *candidate.end).then_some(candidate.deletion)
    }

    /// The newest timestamp of any of them.
    pub fn newest_timestamp(&self) -> Option<i64> {
        self.list.iter().map(|r| r.deletion.timestamp).max()
    }

    /// Keeps only what is newer than a deletion of the whole partition.
    pub fn shadow(&mut self, partition_deletion: Deletion) {
        self.list.retain(|r| r.deletion.timestamp > partition_deletion.timestamp);
    }

    /// Merges one more deletion of `[start, end)`; an empty interval changes nothing.
    pub fn insert(&mut self, start: &[u8], end: &[u8], deletion: Deletion) {
        if start >= end {
            return;
        }
        let touched = self.touching(start, end);
        let mut pieces = Vec::with_capacity(touched.len() * 2 + 1);
        let mut at: Box<[u8]> = start.into();
        for old in &self.list[touched.clone()] {
            if *old.start < *start {
                push(&mut pieces, &old.start, min(&old.end, start), old.deletion);
            } else if *at < *old.start {
                push(&mut pieces, &at, min(&old.start, end), deletion);
            }
            let (common_start, common_end) = (max(&old.start, start), min(&old.end, end));
            if common_start < common_end {
                push(&mut pieces, common_start, common_end, stronger(old.deletion, deletion));
            }
            if *old.end > *end {
                push(&mut pieces, max(&old.start, end), &old.end, old.deletion);
            }
            at = max(&at, &old.end).into();
        }
        if *at < *end {
            push(&mut pieces, &at, end, deletion);
        }
        self.list.splice(touched, pieces);
    }

    /// Indexes of the intervals that overlap or touch `[start, end]`.
    fn touching(&self, start: &[u8], end: &[u8]) -> Range<usize> {
        let first = self.list.partition_point(|r| *r.end < *start);
        let last = self.list.partition_point(|r| *r.start <= *end);
        first..last.max(first)
    }
}

impl<'a> IntoIterator for &'a RangeTombstones {
    type Item = &'a RangeTombstone;
    type IntoIter = std::slice::Iter<'a, RangeTombstone>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

fn push(pieces: &mut Vec<RangeTombstone>, start: &[u8], end: &[u8], deletion: Deletion) {
    if start >= end {
        return;
    }
    if let Some(last) = pieces.last_mut()
        && *last.end == *start
        && last.deletion == deletion
    {
        last.end = end.into();
        return;
    }
    pieces.push(RangeTombstone { start: start.into(), end: end.into(), deletion });
}

fn stronger(a: Deletion, b: Deletion) -> Deletion {
    if (a.timestamp, a.deleted_at) >= (b.timestamp, b.deleted_at) { a } else { b }
}

fn min<'a>(a: &'a [u8], b: &'a [u8]) -> &'a [u8] {
    if a <= b { a } else { b }
}

fn max<'a>(a: &'a [u8], b: &'a [u8]) -> &'a [u8] {
    if a >= b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_order_of_inserts_covers_each_position_with_the_strongest_deletion() {
        let mut seed = 7_u64;
        let mut below = |bound: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % bound
        };
        for _ in 0..5_000 {
            let deletes: Vec<(u8, u8, Deletion)> = (0..5)
                .map(|_| {
                    let deletion =
                        Deletion { timestamp: below(4) as i64, deleted_at: below(2) as i64 };
                    (below(8) as u8, below(9) as u8, deletion)
                })
                .collect();
            let mut forward = RangeTombstones::default();
            let mut backward = RangeTombstones::default();
            for (s, e, d) in &deletes {
                forward.insert(&[*s], &[*e], *d);
            }
            for (s, e, d) in deletes.iter().rev() {
                backward.insert(&[*s], &[*e], *d);
            }
            assert_eq!(forward, backward, "{deletes:?}");
            for position in 0..10_u8 {
                let expected = deletes
                    .iter()
                    .filter(|(s, e, _)| *s <= position && position < *e)
                    .map(|(_, _, d)| (d.timestamp, d.deleted_at))
                    .max();
                let found = forward.covering(&[position]).map(|d| (d.timestamp, d.deleted_at));
                assert_eq!(found, expected, "{deletes:?} at {position}");
            }
            for pair in forward.list.windows(2) {
                assert!(pair[0].end <= pair[1].start);
                assert!(pair[0].end != pair[1].start || pair[0].deletion != pair[1].deletion);
            }
        }
    }
}
