//! Which delta rows a group has, and in which order.

use super::{Operation, PlannedRow};
use crate::delta::{Bound, Delta, DeltaCell, DeltaContent, RowDelta};
use crate::error::CdcError;
use model::TableDef;
use model::clustering::decode_bound;

/// Appends the delta rows of a group.
pub(crate) fn plan_deltas<'a>(
    base: &TableDef,
    delta: Delta<'a>,
    rows: &mut Vec<PlannedRow<'a>>,
) -> Result<(), CdcError> {
    let mut updates = Vec::new();
    split_by_ttl(None, delta.static_row.cells, rows);
    for (clustering, row) in delta.rows {
        plan_row(Bound::Position(clustering), row, rows, &mut updates);
    }
    rows.append(&mut updates);
    for clustering in delta.row_deletes {
        let bound = Some(Bound::Position(clustering));
        rows.push(PlannedRow::keys_only(Operation::RowDelete, bound));
    }
    for range in delta.range_deletes {
        // The whole partition begins before everything, and ends after everything.
        let start = if lies_after_prefix(base, range.start)? {
            Operation::RangeStartExclusive
        } else {
            Operation::RangeStartInclusive
        };
        let end = if lies_after_prefix(base, range.end)? {
            Operation::RangeEndInclusive
        } else {
            Operation::RangeEndExclusive
        };
        rows.push(PlannedRow::keys_only(start, Some(range.start)));
        rows.push(PlannedRow::keys_only(end, Some(range.end)));
    }
    if delta.partition_delete {
        rows.push(PlannedRow::keys_only(Operation::PartitionDelete, None));
    }
    Ok(())
}

/// An insert goes to `inserts`; what cannot share its row, and rows without a marker, to `updates`.
fn plan_row<'a>(
    clustering: Bound<'a>,
    row: RowDelta<'a>,
    inserts: &mut Vec<PlannedRow<'a>>,
    updates: &mut Vec<PlannedRow<'a>>,
) {
    let Some(marker_ttl) = row.marker_ttl else {
        return split_by_ttl(Some(clustering), row.cells, updates);
    };
    let overwritten: Vec<_> = row
        .cells
        .iter()
        .filter(|cell| matches!(cell.content, DeltaContent::CollectionDead))
        .map(|cell| cell.column)
        .collect();
    let shares_insert = |cell: &DeltaCell| {
        cell.ttl_seconds() == marker_ttl
            && (cell.path.is_none() || (marker_ttl == 0 && overwritten.contains(&cell.column)))
    };
    let (cells, others) = row.cells.into_iter().partition(shares_insert);
    inserts.push(PlannedRow {
        operation: Operation::Insert,
        clustering: Some(clustering),
        ttl_seconds: marker_ttl,
        cells,
    });
    split_by_ttl(Some(clustering), others, updates);
}

/// One update for each TTL, ascending.
fn split_by_ttl<'a>(
    clustering: Option<Bound<'a>>,
    cells: Vec<DeltaCell<'a>>,
    updates: &mut Vec<PlannedRow<'a>>,
) {
    let first_new = updates.len();
    for cell in cells {
        let ttl_seconds = cell.ttl_seconds();
        match updates[first_new..].iter_mut().find(|row| row.ttl_seconds == ttl_seconds) {
            Some(row) => row.cells.push(cell),
            None => updates.push(PlannedRow {
                operation: Operation::Update,
                clustering,
                ttl_seconds,
                cells: vec![cell],
            }),
        }
    }
    updates[first_new..].sort_by_key(|row| row.ttl_seconds);
}

fn lies_after_prefix(base: &TableDef, bound: Bound) -> Result<bool, CdcError> {
    match bound {
        Bound::Position(position) => Ok(decode_bound(base, position)?.1),
        Bound::AfterRow(_) => Ok(true),
    }
}
