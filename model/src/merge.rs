//! The one place that decides which cell wins.
//!
//! Merging is a pure function, commutative, associative and idempotent: any order and any
//! repetition of the same writes gives the same bytes of meaning, so memtables, sstables, images,
//! overlays, snapshots and replicas cannot disagree. The rule for two cells of one place, first
//! difference decides:
//!
//! 1. the newer timestamp;
//! 2. a tombstone over a value;
//! 3. a value with a TTL over one without;
//! 4. the longer TTL (the TTL as written, not the expiry, so that a retry one second later is
//!    the same write);
//! 5. the greater value, by bytes;
//! 6. the later expiry, or for tombstones the later deletion time: the two are the same write
//!    then, and only the longer bookkeeping is kept.
//!
//! A deletion shadows everything in its scope with a timestamp at or below its own.

use crate::row::{
    Cell, CellContent, Deletion, Expiry, Marker, PlainCells, PlainRow, RowHead, RowView, RowWriter,
};
use std::cmp::Ordering;

/// Which of two cells of the same place wins; `Greater` means the first.
#[inline]
pub fn compare_cells(a: &Cell, b: &Cell) -> Ordering {
    a.timestamp.cmp(&b.timestamp).then_with(|| compare_contents(&a.content, &b.content))
}

fn compare_contents(a: &CellContent, b: &CellContent) -> Ordering {
    use CellContent::{CollectionTombstone, Live, Tombstone};
    match (a, b) {
        (Live { value: a, expiry: a_expiry }, Live { value: b, expiry: b_expiry }) => {
            let ttl = |e: &Option<crate::row::Expiry>| e.map(|e| e.ttl_seconds);
            let end = |e: &Option<crate::row::Expiry>| e.map(|e| e.expires_at);
            ttl(a_expiry)
                .cmp(&ttl(b_expiry))
                .then_with(|| a.cmp(b))
                .then_with(|| end(a_expiry).cmp(&end(b_expiry)))
        }
        (Live { .. }, _) => Ordering::Less,
        (_, Live { .. }) => Ordering::Greater,
        (
            Tombstone { deleted_at: a } | CollectionTombstone { deleted_at: a },
            Tombstone { deleted_at: b } | CollectionTombstone { deleted_at: b },
        ) => a.cmp(b),
    }
}

/// Which of two markers wins, by the same rule.
#[inline]
pub fn compare_markers(a: &Marker, b: &Marker) -> Ordering {
    a.timestamp
        .cmp(&b.timestamp)
        .then_with(|| a.expiry.map(|e| e.ttl_seconds).cmp(&b.expiry.map(|e| e.ttl_seconds)))
        .then_with(|| a.expiry.map(|e| e.expires_at).cmp(&b.expiry.map(|e| e.expires_at)))
}

/// The stronger of two deletions.
#[inline]
pub fn merge_deletions(a: Option<Deletion>, b: Option<Deletion>) -> Option<Deletion> {
    match (a, b) {
        (Some(a), Some(b)) => {
            Some(if (a.timestamp, a.deleted_at) >= (b.timestamp, b.deleted_at) { a } else { b })
        }
        (a, b) => a.or(b),
    }
}

fn merge_markers(a: Option<Marker>, b: Option<Marker>) -> Option<Marker> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if compare_markers(&a, &b) == Ordering::Less { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// Appends the merge of two versions of one row to `out`.
pub fn merge_rows(a: RowView, b: RowView, out: &mut Vec<u8>) {
    let (a_head, mut a_cells) = a.parts();
    let (b_head, mut b_cells) = b.parts();
    let tombstone = merge_deletions(a_head.tombstone, b_head.tombstone);
    let floor = tombstone.map(|t| t.timestamp);
    let marker = merge_markers(a_head.marker, b_head.marker).filter(|m| Some(m.timestamp) > floor);
    let base = a.newest_base(b);
    let expiry = a.newest_shared_expiry(b);
    let mut writer = RowWriter::with_expiry(out, base, RowHead { marker, tombstone }, expiry);
    let mut shadow = Shadow::new(floor);
    let (mut next_a, mut next_b) = (a_cells.next(), b_cells.next());
    loop {
        let winner = match (next_a, next_b) {
            (None, None) => break,
            (Some(cell), None) => {
                next_a = a_cells.next();
                cell
            }
            (None, Some(cell)) => {
                next_b = b_cells.next();
                cell
            }
            (Some(x), Some(y)) => match x.order().cmp(&y.order()) {
                Ordering::Less => {
                    next_a = a_cells.next();
                    x
                }
                Ordering::Greater => {
                    next_b = b_cells.next();
                    y
                }
                Ordering::Equal => {
                    next_a = a_cells.next();
                    next_b = b_cells.next();
                    if compare_cells(&x, &y) == Ordering::Less { y } else { x }
                }
            },
        };
        if shadow.admits(&winner) {
            writer.cell(&winner);
        }
    }
}

/// Whether nothing of `old` is left when `new` is merged in, so that the merge is `new` as it
/// stands. Only for a `new` all of whose timestamps are newer than all of `old`.
pub fn is_overwritten(old: RowView, new: RowView) -> bool {
    if let (Some(old), Some(new)) = (old.plain(), new.plain()) {
        return is_plain_overwritten(old, new);
    }
    let (old_head, old_cells) = old.parts();
    let (new_head, mut new_cells) = new.parts();
    if new_head.tombstone.is_some() {
        return true;
    }
    if old_head.tombstone.is_some() || old_head.marker.is_some() && new_head.marker.is_none() {
        return false;
    }
    let mut next = new_cells.next();
    let mut deleted_column = None;
    for cell in old_cells {
        while let Some(new) = next.filter(|new| new.order() <= cell.order()) {
            if let CellContent::CollectionTombstone { .. } = new.content {
                deleted_column = Some(new.column);
            }
            if new.order() == cell.order() {
                break;
            }
            next = new_cells.next();
        }
        let is_replaced = next.is_some_and(|new| new.order() == cell.order());
        let is_deleted = cell.path.is_some() && deleted_column == Some(cell.column);
        if !is_replaced && !is_deleted {
            return false;
        }
    }
    true
}

/// As [`is_overwritten`]: each column of the old row is in the new one too.
fn is_plain_overwritten(old: PlainRow, new: PlainRow) -> bool {
    (new.has_marker || !old.has_marker) && are_overwritten(old.cells, new.cells)
}

/// Whether each of the old columns is among the new ones.
fn are_overwritten(mut old: PlainCells, mut new: PlainCells) -> bool {
    old.all(|(column, _)| new.find(|(new, _)| *new >= column).is_some_and(|(new, _)| new == column))
}

/// Appends the merge of two versions to `out` as [`merge_rows`] does, in less time, if nothing but the
/// marker is left of `old`: an update of all columns that an insert or another update has written. Only
/// for a `new` all of whose timestamps are newer than all of `old`. Says whether it did so.
pub fn merge_overwritten(old: RowView, new: RowView, out: &mut Vec<u8>) -> bool {
    let Some(new) = new.plain().filter(|new| !new.has_marker) else { return false };
    // Without a marker nothing would be left, which [`is_overwritten`] says.
    let Some((marker @ Some(_), old_cells)) = old.plain_behind_marker() else { return false };
    if !are_overwritten(old_cells, new.cells.clone()) {
        return false;
    }
    RowWriter::new(out, new.timestamp, RowHead { marker, tombstone: None });
    out.extend_from_slice(new.cells.as_bytes());
    true
}

/// Appends what is left of a row under a partition or range tombstone of that timestamp. The
/// tombstone itself is not written into the row.
pub fn shadow_row(row: RowView, deletion: Deletion, out: &mut Vec<u8>) {
    let (head, cells) = row.parts();
    let tombstone = head.tombstone.filter(|t| t.timestamp > deletion.timestamp);
    let marker = head.marker.filter(|m| m.timestamp > deletion.timestamp);
    let kept_head = RowHead { marker, tombstone };
    let mut writer = RowWriter::with_expiry(out, row.base(), kept_head, row.shared_expiry());
    let mut shadow = Shadow::new(Some(deletion.timestamp));
    for cell in cells {
        if shadow.admits(&cell) {
            writer.cell(&cell);
        }
    }
}

/// What deletions above the cells have left to live: the row's, and the current column's.
struct Shadow {
    row_floor: Option<i64>,
    column: Option<(u32, i64)>,
}

impl Shadow {
    fn new(row_floor: Option<i64>) -> Self {
        Shadow { row_floor, column: None }
    }

    #[inline]
    fn admits(&mut self, cell: &Cell) -> bool {
        if Some(cell.timestamp) <= self.row_floor {
            return false;
        }
        if let CellContent::CollectionTombstone { .. } = cell.content {
            self.column = Some((cell.column, cell.timestamp));
            return true;
        }
        // An element only: a column that was altered from one kind to the other keeps both.
        !(cell.path.is_some()
            && self.column.is_some_and(|(c, t)| c == cell.column && cell.timestamp <= t))
    }
}

impl RowView<'_> {
    fn base(&self) -> i64 {
        crate::row::base_timestamp(self.as_bytes()).unwrap_or(0)
    }

    /// The base that will fit most cells of a merge with `other`: the newer row usually wins.
    fn newest_base(&self, other: RowView) -> i64 {
        self.base().max(other.base())
    }

    /// The shared expiry that fits that base; in any order of merges the same.
    fn newest_shared_expiry(&self, other: RowView) -> Option<Expiry> {
        let [a, b] = [*self, other].map(|row| {
            let expiry = row.shared_expiry();
            (row.base(), expiry.map(|e| (e.ttl_seconds, e.expires_at)), expiry)
        });
        if (a.0, a.1) < (b.0, b.1) { b.2 } else { a.2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small deterministic generator: tests draw no entropy.
    pub(crate) struct Random(pub(crate) u64);

    impl Random {
        pub(crate) fn below(&mut self, bound: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % bound
        }
    }

    fn random_row(random: &mut Random) -> Vec<u8> {
        if random.below(3) == 0 { random_plain_row(random) } else { random_mixed_row(random) }
    }

    fn random_plain_row(random: &mut Random) -> Vec<u8> {
        let timestamp = 10 + random.below(4) as i64;
        let marker = (random.below(2) == 0).then_some(Marker { timestamp, expiry: None });
        let mut out = Vec::new();
        let mut writer = RowWriter::new(&mut out, timestamp, RowHead { marker, tombstone: None });
        for column in [0, 2, 3] {
            if random.below(3) != 0 {
                let value = if random.below(2) == 0 { b"x" } else { b"y" };
                let content = CellContent::Live { value, expiry: None };
                writer.cell(&Cell { column, path: None, timestamp, content });
            }
        }
        assert!(RowView::new(&out).plain().is_some());
        out
    }

    fn random_mixed_row(random: &mut Random) -> Vec<u8> {
        let timestamp = |random: &mut Random| 10 + random.below(4) as i64;
        let expiry = |random: &mut Random| {
            (random.below(2) == 0).then(|| Expiry {
                ttl_seconds: 1 + random.below(2) as u32,
                expires_at: 100 + random.below(2) as i64,
            })
        };
        let marker = (random.below(2) == 0)
            .then(|| Marker { timestamp: timestamp(random), expiry: expiry(random) });
        let tombstone = (random.below(4) == 0)
            .then(|| Deletion { timestamp: timestamp(random), deleted_at: random.below(2) as i64 });
        let mut out = Vec::new();
        let (base, head) = (timestamp(random), RowHead { marker, tombstone });
        let mut writer = RowWriter::with_expiry(&mut out, base, head, expiry(random));
        for column in 0..2 {
            for path in [None, Some(&b"a"[..]), Some(&b"b"[..])] {
                if random.below(3) == 0 {
                    continue;
                }
                let is_atomic = column == 0;
                if is_atomic != path.is_none() && path.is_some() {
                    continue;
                }
                let content = match (is_atomic, path.is_some(), random.below(3)) {
                    (false, false, _) => CellContent::CollectionTombstone { deleted_at: 1 },
                    (_, _, 0) => CellContent::Tombstone { deleted_at: random.below(2) as i64 },
                    _ => CellContent::Live {
                        value: if random.below(2) == 0 { b"x" } else { b"y" },
                        expiry: expiry(random),
                    },
                };
                writer.cell(&Cell { column, path, timestamp: timestamp(random), content });
            }
        }
        out
    }

    fn merged(a: &[u8], b: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        merge_rows(RowView::check(a).unwrap(), RowView::check(b).unwrap(), &mut out);
        RowView::check(&out).unwrap();
        out
    }

    type Meaning = (RowHead, Vec<(u32, Option<Vec<u8>>, i64, String)>);

    fn meaning(row: &[u8]) -> Meaning {
        let (head, cells) = RowView::new(row).parts();
        let cells = cells
            .map(|c| {
                (c.column, c.path.map(<[u8]>::to_vec), c.timestamp, format!("{:?}", c.content))
            })
            .collect();
        (head, cells)
    }

    #[test]
    fn merging_is_commutative_associative_and_idempotent() {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for _ in 0..20_000 {
            let (a, b, c) =
                (random_row(&mut random), random_row(&mut random), random_row(&mut random));
            let ab = merged(&a, &b);
            assert_eq!(ab, merged(&b, &a));
            assert_eq!(merged(&ab, &c), merged(&a, &merged(&b, &c)));
            assert_eq!(meaning(&merged(&ab, &b)), meaning(&ab));
        }
    }

    #[test]
    fn an_overwritten_row_leaves_nothing_in_the_merge() {
        let mut random = Random(7);
        let mut overwritten_count = 0;
        for _ in 0..20_000 {
            let old = random_row(&mut random);
            let mut new = random_row(&mut random);
            // Rows hold nothing that their own tombstones hide.
            new = merged(&new, &new);
            let base = RowView::new(&new).base();
            crate::row::set_base_timestamp(&mut new, base + 10);
            let is_new_alone = meaning(&merged(&old, &new)) == meaning(&new);
            let is_overwritten = is_overwritten(RowView::new(&old), RowView::new(&new));
            assert_eq!(is_overwritten, is_new_alone);
            overwritten_count += usize::from(is_overwritten);
        }
        assert!(overwritten_count > 1_000);
    }

    #[test]
    fn an_update_of_all_columns_leaves_what_a_merge_leaves() {
        let mut random = Random(11);
        let mut count = 0;
        for _ in 0..20_000 {
            let (insert, update) = (random_row(&mut random), random_plain_row(&mut random));
            let mut old = merged(&insert, &update);
            let mut new = random_plain_row(&mut random);
            for (row, later) in [(&mut old, 0), (&mut new, 10)] {
                let base = RowView::new(row).base();
                crate::row::set_base_timestamp(row, base + later);
            }
            let mut out = b"before".to_vec();
            let is_merged = merge_overwritten(RowView::new(&old), RowView::new(&new), &mut out);
            let expected = if is_merged { merged(&old, &new) } else { Vec::new() };
            assert_eq!(out, [b"before", &expected[..]].concat());
            count += usize::from(is_merged);
        }
        assert!(count > 500, "{count}");
    }

    #[test]
    fn shadowing_a_row_equals_merging_the_deletion_and_taking_it_out() {
        let mut random = Random(42);
        for _ in 0..5_000 {
            let row = random_row(&mut random);
            let row = merged(&row, &row);
            let deletion = Deletion { timestamp: 12, deleted_at: 0 };
            let mut out = Vec::new();
            shadow_row(RowView::new(&row), deletion, &mut out);
            let (head, cells) = RowView::check(&out).unwrap().parts();
            assert!(head.marker.is_none_or(|m| m.timestamp > 12));
            assert!(head.tombstone.is_none_or(|t| t.timestamp > 12));
            assert!(cells.clone().all(|c| c.timestamp > 12));
            let kept = RowView::new(&row).cells().filter(|c| c.timestamp > 12).count();
            assert_eq!(cells.count(), kept);
        }
    }

    #[test]
    fn equal_timestamps_follow_the_written_rule() {
        let live = |value, ttl: Option<u32>, end| Cell {
            column: 1,
            path: None,
            timestamp: 5,
            content: CellContent::Live {
                value,
                expiry: ttl.map(|ttl_seconds| Expiry { ttl_seconds, expires_at: end }),
            },
        };
        let dead = Cell { content: CellContent::Tombstone { deleted_at: 0 }, ..live(b"", None, 0) };
        assert_eq!(compare_cells(&dead, &live(b"z", Some(9), 9)), Ordering::Greater);
        assert_eq!(compare_cells(&live(b"a", Some(1), 0), &live(b"z", None, 0)), Ordering::Greater);
        assert_eq!(
            compare_cells(&live(b"a", Some(2), 0), &live(b"z", Some(1), 99)),
            Ordering::Greater
        );
        assert_eq!(
            compare_cells(&live(b"b", Some(1), 0), &live(b"a", Some(1), 99)),
            Ordering::Greater
        );
    }
}
