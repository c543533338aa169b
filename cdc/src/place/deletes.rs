//! Looking at deletes: rules 14 to 19.
//!
//! Told at its own time, a delete is told as it stands, and nothing need be scanned. Told at another
//! time (RELOG) it would also kill what is newer than itself, so the rows that hold something newer
//! are told one by one, and range deletes tell of the gaps between them.

use super::look::Looker;
use crate::delta::{Bound, DeltaCell, DeltaCells, RangeDelete, RowDelta};
use crate::standing::Standing;
use model::read::END_POSITION;

impl<'a> Looker<'a> {
    /// Rule 14 for a range: tombstones at least as new cover all of it.
    pub(super) fn is_deleted_already(&self, start: &[u8], end: &[u8]) -> bool {
        if self.content.deletion().is_some_and(|d| d.timestamp >= self.timestamp) {
            return true;
        }
        let mut at = start;
        for range in self.content.range_tombstones() {
            if *range.end <= *at {
                continue;
            }
            if *range.start > *at || range.deletion.timestamp < self.timestamp {
                return false;
            }
            at = &range.end;
            if at >= end {
                return true;
            }
        }
        false
    }

    pub(super) fn delete_row(&mut self, clustering: &'a [u8], standing: &Standing<'a>) {
        if self.relog && standing.has_newer(self.timestamp) {
            self.delete_older(clustering, standing);
        } else {
            self.delta.row_deletes.push(clustering);
        }
    }

    pub(super) fn delete_range(&mut self, start: &'a [u8], end: &'a [u8]) {
        let mut gap = Bound::Position(start);
        for (clustering, standing) in self.rows_with_newer(start, end) {
            let is_empty = matches!(gap, Bound::Position(at) if at == clustering);
            if !is_empty {
                let end = Bound::Position(clustering);
                self.delta.range_deletes.push(RangeDelete { start: gap, end });
            }
            gap = Bound::AfterRow(clustering);
            self.delete_older(clustering, &standing);
        }
        let is_empty = matches!(gap, Bound::AfterRow(row) if ends_right_after(end, row));
        if !is_empty {
            self.delta.range_deletes.push(RangeDelete { start: gap, end: Bound::Position(end) });
        }
    }

    pub(super) fn delete_partition(&mut self) {
        let static_row = Standing::static_row(&self.content, self.now);
        let all_go = !static_row.has_newer(self.timestamp)
            && self.rows_with_newer(&[], END_POSITION).is_empty();
        if all_go {
            self.delta.partition_delete = true;
            return;
        }
        self.delta.static_row = self.dying(&static_row);
        if self.has_clustering {
            self.delete_range(&[], END_POSITION);
        } else {
            self.delete_row(&[], &Standing::row(&self.content, &[], self.now));
        }
    }

    /// With RELOG, the rows in `[start, end)` that hold something newer than the delete.
    fn rows_with_newer(&self, start: &[u8], end: &[u8]) -> Vec<(&'a [u8], Standing<'a>)> {
        if !self.relog {
            return Vec::new();
        }
        let keys = self.content.keys_between(start, end).into_iter();
        keys.map(|clustering| (clustering, Standing::row(&self.content, clustering, self.now)))
            .filter(|(_, standing)| standing.has_newer(self.timestamp))
            .collect()
    }

    /// Rule 18: a row that outlives the delete in part.
    fn delete_older(&mut self, clustering: &'a [u8], standing: &Standing<'a>) {
        let marker_dies = standing.live_marker().is_some_and(|m| m.timestamp <= self.timestamp);
        if !marker_dies {
            let dying = self.dying(standing);
            self.delta.push_row(clustering, dying);
            return;
        }
        self.delta.row_deletes.push(clustering);
        let cells = standing
            .live_cells()
            .filter(|cell| cell.timestamp > self.timestamp)
            .map(|cell| DeltaCell::survivor(cell, self.now))
            .collect();
        let survivors = RowDelta { marker_ttl: None, cells: DeltaCells::List(cells) };
        self.survivors.push_row(clustering, survivors);
    }

    fn dying(&self, standing: &Standing<'a>) -> RowDelta<'a> {
        let cells = standing
            .live_cells()
            .filter(|cell| cell.timestamp <= self.timestamp)
            .map(DeltaCell::dying)
            .collect();
        RowDelta { marker_ttl: None, cells: DeltaCells::List(cells) }
    }
}

/// Whether a range that ends at `end` holds nothing after this row.
fn ends_right_after(end: &[u8], row: &[u8]) -> bool {
    end.strip_prefix(row) == Some(&[model::clustering::AFTER])
}
