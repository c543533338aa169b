//! What a merge may forget: tombstones and expired cells, once nobody needs them.
//!
//! A tombstone is needed until every replica has it (`gc_grace_seconds` after it was made), and
//! while something that it hides may be elsewhere: in a file outside the merge or in a memtable.
//! An expired cell is the same: it hides older values of its place. So both go only when they are
//! old enough and older than everything outside.

use env::planted::{Bug, is_planted};
use model::merge::merge_rows;
use model::partition::Partition;
use model::range_tombstones::RangeTombstones;
use model::row::{Cell, CellContent, Deletion, Expiry, RowHead, RowView, RowWriter};
use model::{EpochSeconds, TimestampMicros};

/// The two conditions, for one partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purge {
    /// What was deleted or expired before this may go.
    pub(crate) gc_before: EpochSeconds,
    /// The oldest timestamp that something outside the merge may have in this partition.
    pub(crate) oldest_outside: TimestampMicros,
}

impl Purge {
    #[inline]
    fn forgets(&self, timestamp: TimestampMicros, gone_at: EpochSeconds) -> bool {
        let is_outlived = timestamp < self.oldest_outside || is_planted(Bug::PurgesTooEarly);
        gone_at < self.gc_before && is_outlived
    }

    fn forgets_deletion(&self, deletion: Deletion) -> bool {
        self.forgets(deletion.timestamp, deletion.deleted_at)
    }

    fn forgets_expired(&self, timestamp: TimestampMicros, expiry: Option<Expiry>) -> bool {
        expiry.is_some_and(|e| self.forgets(timestamp, e.expires_at))
    }

    fn forgets_cell(&self, cell: &Cell) -> bool {
        match cell.content {
            CellContent::Live { expiry, .. } => self.forgets_expired(cell.timestamp, expiry),
            CellContent::Tombstone { deleted_at }
            | CellContent::CollectionTombstone { deleted_at } => {
                self.forgets(cell.timestamp, deleted_at)
            }
        }
    }

    /// Takes what may go out of a partition's head. The rows are to be put under the head as it
    /// was before.
    pub(crate) fn head(&self, head: &mut Partition) {
        if head.deletion.is_some_and(|d| self.forgets_deletion(d)) {
            head.deletion = None;
        }
        if head.range_tombstones.iter().any(|r| self.forgets_deletion(r.deletion)) {
            let mut kept = RangeTombstones::default();
            let ranges = head.range_tombstones.iter();
            for range in ranges.filter(|r| !self.forgets_deletion(r.deletion)) {
                kept.insert(&range.start, &range.end, range.deletion);
            }
            head.range_tombstones = kept;
        }
        if !head.static_row.is_empty() {
            let row = std::mem::take(&mut head.static_row);
            let (mut settled, mut left) = (Vec::new(), Vec::new());
            if let Some(row) = self.row(RowView::new(&row), &mut settled, &mut left) {
                head.static_row = row.as_bytes().to_vec();
            }
        }
    }

    /// What is left of a row; `None` when nothing is.
    pub(crate) fn row<'a>(
        &self,
        row: RowView<'a>,
        settled: &'a mut Vec<u8>,
        out: &'a mut Vec<u8>,
    ) -> Option<RowView<'a>> {
        let row = settle(row, settled);
        let (head, cells) = row.parts();
        let marker = head.marker.filter(|m| !self.forgets_expired(m.timestamp, m.expiry));
        let tombstone = head.tombstone.filter(|t| !self.forgets_deletion(*t));
        let kept_head = RowHead { marker, tombstone };
        if kept_head == head && !cells.clone().any(|c| self.forgets_cell(&c)) {
            return (!row.is_empty()).then_some(row);
        }
        out.clear();
        let base = marker.map(|m| m.timestamp);
        let base = base.or_else(|| cells.clone().next().map(|c| c.timestamp)).unwrap_or(0);
        let mut writer = RowWriter::with_expiry(out, base, kept_head, row.shared_expiry());
        for cell in cells.filter(|c| !self.forgets_cell(c)) {
            writer.cell(&cell);
        }
        let left = RowView::new(out);
        (!left.is_empty()).then_some(left)
    }
}

/// A row as it was written may still hold cells that its own tombstones hide; they must go before
/// the tombstones may.
fn settle<'a>(row: RowView<'a>, buffer: &'a mut Vec<u8>) -> RowView<'a> {
    let (head, mut cells) = row.parts();
    let hides = |c: Cell| matches!(c.content, CellContent::CollectionTombstone { .. });
    if head.tombstone.is_none() && !cells.any(hides) {
        return row;
    }
    buffer.clear();
    merge_rows(row, row, buffer);
    RowView::new(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Purge = Purge { gc_before: 100, oldest_outside: i64::MAX };

    fn purged(purge: Purge, head: RowHead, cells: &[Cell]) -> Option<(RowHead, Vec<u32>)> {
        let mut bytes = Vec::new();
        let mut writer = RowWriter::new(&mut bytes, 10, head);
        for cell in cells {
            writer.cell(cell);
        }
        let (mut settled, mut out) = (Vec::new(), Vec::new());
        let row = purge.row(RowView::new(&bytes), &mut settled, &mut out)?;
        Some((row.parts().0, row.cells().map(|c| c.column).collect()))
    }

    fn cell(column: u32, timestamp: i64, content: CellContent) -> Cell {
        Cell { column, path: None, timestamp, content }
    }

    const NO_HEAD: RowHead = RowHead { marker: None, tombstone: None };
    const LIVE: CellContent = CellContent::Live { value: b"v", expiry: None };

    fn expiring(expires_at: i64) -> CellContent<'static> {
        CellContent::Live { value: b"v", expiry: Some(Expiry { ttl_seconds: 1, expires_at }) }
    }

    #[test]
    fn what_is_dead_for_long_enough_goes() {
        let cells = [
            cell(1, 10, LIVE),
            cell(2, 10, expiring(99)),
            cell(3, 10, expiring(100)),
            cell(4, 10, CellContent::Tombstone { deleted_at: 99 }),
            cell(5, 10, CellContent::Tombstone { deleted_at: 100 }),
            cell(6, 10, CellContent::CollectionTombstone { deleted_at: 99 }),
        ];
        assert_eq!(purged(OLD, NO_HEAD, &cells), Some((NO_HEAD, vec![1, 3, 5])));
        assert_eq!(purged(OLD, NO_HEAD, &cells[3..4]), None, "nothing is left of the row");
    }

    #[test]
    fn what_may_hide_something_elsewhere_stays() {
        let dead = CellContent::Tombstone { deleted_at: 1 };
        let cells = [cell(1, 10, dead), cell(2, 9, dead), cell(3, 10, expiring(1))];
        let purge = Purge { oldest_outside: 10, ..OLD };
        assert_eq!(purged(purge, NO_HEAD, &cells), Some((NO_HEAD, vec![1, 3])));
    }

    #[test]
    fn cells_that_a_purged_tombstone_hid_go_with_it() {
        let tombstone = Some(Deletion { timestamp: 10, deleted_at: 1 });
        let head = RowHead { marker: None, tombstone };
        let cells = [cell(1, 10, LIVE), cell(2, 11, LIVE)];
        assert_eq!(purged(OLD, head, &cells), Some((NO_HEAD, vec![2])));
    }

    #[test]
    fn heads_lose_what_is_dead_for_long_enough() {
        use model::mutation::MutationItem;
        let mut head = Partition::default();
        let deletion = |timestamp, deleted_at| Deletion { timestamp, deleted_at };
        head.apply_item(MutationItem::PartitionTombstone(deletion(5, 99)));
        let ranges: [(&[u8], &[u8], i64); 2] = [(b"a", b"b", 99), (b"c", b"d", 100)];
        for (start, end, deleted_at) in ranges {
            let deletion = deletion(7, deleted_at);
            head.apply_item(MutationItem::RangeTombstone { start, end, deletion });
        }
        OLD.head(&mut head);
        assert_eq!(head.deletion, None);
        let left: Vec<_> = head.range_tombstones.iter().map(|r| r.start.to_vec()).collect();
        assert_eq!(left, [b"c"]);
    }
}
