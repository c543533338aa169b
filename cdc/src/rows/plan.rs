//! Which delta rows a group has, and in which order.

use super::{Operation, PlannedRow, RowCells};
use crate::delta::{Bound, DeletedRows, Delta, DeltaCell, DeltaCells, DeltaContent, RowDelta};
use crate::error::CdcError;
use model::clustering::decode_bound;
use model::{ColumnId, TableDef};

/// Appends the delta rows of a group. The delta's list of rows is left empty, to be used again.
pub(crate) fn plan_deltas<'a: 'r, 'r>(
    base: &TableDef,
    delta: &mut Delta<'a>,
    rows: &mut Vec<PlannedRow<'r>>,
) -> Result<(), CdcError> {
    let first = rows.len();
    plan_row(None, std::mem::take(&mut delta.static_row), rows);
    for (clustering, row) in delta.rows.drain(..) {
        plan_row(Some(Bound::Position(clustering)), row, rows);
    }
    let deleted_rows = delta.deleted_rows.take();
    let is_by_row = deleted_rows.is_some();
    plan_row_deletes(&delta.row_deletes, deleted_rows, rows);
    for range in &delta.range_deletes {
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
        for (operation, bound) in [(start, range.start), (end, range.end)] {
            let row = PlannedRow::keys_only(operation, Some(bound));
            rows.push(PlannedRow { is_by_row, ..row });
        }
    }
    if delta.partition_delete {
        let row = PlannedRow::keys_only(Operation::PartitionDelete, None);
        rows.push(PlannedRow { is_by_row, ..row });
    }
    // Inserts and updates are planned row by row, and stand in the log kind by kind.
    rows[first..].sort_by_key(|row| match row.operation {
        Operation::Update if row.clustering.is_none() => 0,
        Operation::Insert => 1,
        Operation::Update => 2,
        _ => 3,
    });
    Ok(())
}

/// The deletes of rows, in their order: those that the write names, and those told with its deletes of
/// ranges and partitions.
fn plan_row_deletes<'a>(
    named: &[&'a [u8]],
    told: Option<DeletedRows<'a>>,
    rows: &mut Vec<PlannedRow<'a>>,
) {
    let row_delete = |clustering: &'a [u8], is_by_row| {
        let bound = Some(Bound::Position(clustering));
        PlannedRow { is_by_row, ..PlannedRow::keys_only(Operation::RowDelete, bound) }
    };
    let Some(DeletedRows { static_row, rows: told }) = told else {
        return rows.extend(named.iter().map(|clustering| row_delete(clustering, false)));
    };
    if !static_row.is_empty() {
        let cells = RowCells::Delta(static_row.cells);
        let (operation, clustering) = (Operation::Update, None);
        rows.push(PlannedRow { operation, clustering, ttl_seconds: 0, is_by_row: true, cells });
    }
    let mut all: Vec<(&[u8], bool)> = named.iter().map(|clustering| (*clustering, false)).collect();
    all.extend(told.into_iter().map(|clustering| (clustering, true)));
    all.sort_unstable();
    rows.extend(all.into_iter().map(|(clustering, is_by_row)| row_delete(clustering, is_by_row)));
}

/// The log rows of one row: one, when all of it fits, else an insert and updates.
fn plan_row<'a>(clustering: Option<Bound<'a>>, row: RowDelta<'a>, rows: &mut Vec<PlannedRow<'a>>) {
    if row.is_empty() {
        return;
    }
    let row = match plan_one_row(clustering, row) {
        Ok(planned) => return rows.push(planned),
        Err(row) => row,
    };
    let Some(marker_ttl) = row.marker_ttl else {
        return split_by_ttl(clustering, row.cells.iter(), rows);
    };
    let mut shares = SharesInsert::new(marker_ttl);
    let (cells, others): (Vec<_>, Vec<_>) = row.cells.iter().partition(|cell| shares.cell(cell));
    rows.push(PlannedRow {
        operation: Operation::Insert,
        clustering,
        ttl_seconds: marker_ttl,
        is_by_row: false,
        cells: RowCells::Delta(DeltaCells::List(cells)),
    });
    split_by_ttl(clustering, others.into_iter(), rows);
}

/// The one log row that tells of all of a row, or the row again when it takes several.
pub(crate) fn plan_one_row<'a>(
    clustering: Option<Bound<'a>>,
    row: RowDelta<'a>,
) -> Result<PlannedRow<'a>, RowDelta<'a>> {
    let Some((operation, ttl_seconds)) = as_one_row(&row) else { return Err(row) };
    let cells = RowCells::Delta(row.cells);
    Ok(PlannedRow { operation, clustering, ttl_seconds, is_by_row: false, cells })
}

/// Operation and TTL of the one log row that tells of all of a row, if one can.
fn as_one_row(row: &RowDelta) -> Option<(Operation, u32)> {
    let mut cells = row.cells.iter();
    if let Some(marker_ttl) = row.marker_ttl {
        let mut shares = SharesInsert::new(marker_ttl);
        return cells.all(|cell| shares.cell(&cell)).then_some((Operation::Insert, marker_ttl));
    }
    let ttl_seconds = cells.next()?.ttl_seconds();
    let is_same = cells.all(|cell| cell.ttl_seconds() == ttl_seconds);
    is_same.then_some((Operation::Update, ttl_seconds))
}

/// Which cells can share the row of their insert; cells come in order.
struct SharesInsert {
    marker_ttl: u32,
    /// The last collection that was deleted: its elements come next.
    overwritten: Option<ColumnId>,
}

impl SharesInsert {
    fn new(marker_ttl: u32) -> Self {
        SharesInsert { marker_ttl, overwritten: None }
    }

    fn cell(&mut self, cell: &DeltaCell) -> bool {
        if matches!(cell.content, DeltaContent::CollectionDead) {
            self.overwritten = Some(cell.column);
        }
        cell.ttl_seconds() == self.marker_ttl
            && (cell.path.is_none()
                || (self.marker_ttl == 0 && self.overwritten == Some(cell.column)))
    }
}

/// One update for each TTL, ascending.
fn split_by_ttl<'a>(
    clustering: Option<Bound<'a>>,
    cells: impl Iterator<Item = DeltaCell<'a>>,
    rows: &mut Vec<PlannedRow<'a>>,
) {
    let mut by_ttl: Vec<(u32, Vec<DeltaCell<'a>>)> = Vec::new();
    for cell in cells {
        let ttl_seconds = cell.ttl_seconds();
        match by_ttl.iter_mut().find(|(ttl, _)| *ttl == ttl_seconds) {
            Some((_, same)) => same.push(cell),
            None => by_ttl.push((ttl_seconds, vec![cell])),
        }
    }
    by_ttl.sort_by_key(|(ttl, _)| *ttl);
    rows.extend(by_ttl.into_iter().map(|(ttl_seconds, cells)| PlannedRow {
        operation: Operation::Update,
        clustering,
        ttl_seconds,
        is_by_row: false,
        cells: RowCells::Delta(DeltaCells::List(cells)),
    }));
}

fn lies_after_prefix(base: &TableDef, bound: Bound) -> Result<bool, CdcError> {
    match bound {
        Bound::Position(position) => Ok(decode_bound(base, position)?.1),
        Bound::AfterRow(_) => Ok(true),
    }
}
