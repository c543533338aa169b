//! Rows before and after a group: the partition's content, told in full.
//!
//! Every row that a group inserts, updates or deletes by its own key has images; rows under a range
//! or partition delete have none, unless the table has no clustering key, where the partition is
//! the row. A preimage exists when the row existed. A postimage exists when the row does, and after
//! an upsert that left nothing alive (all its columns are null then), but not after a delete.

use super::{Operation, PlannedRow};
use crate::delta::{Bound, Delta, DeltaCell, DeltaContent};
use crate::layout::LogLayout;
use crate::standing::Standing;
use model::partition::Partition;
use model::{ColumnId, EpochSeconds, PreimageMode};
use std::collections::BTreeMap;

/// A row that has images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ImageOf<'a> {
    /// The static row.
    StaticRow,
    /// The row with this key.
    Row(&'a [u8]),
}

/// The rows of a write that have images.
#[derive(Clone, Debug, Default)]
pub(crate) struct Images<'a> {
    rows: BTreeMap<ImageOf<'a>, Touched>,
}

/// What a write does to a row.
#[derive(Clone, Debug, Default)]
struct Touched {
    columns: Vec<ColumnId>,
    deleted: bool,
    upserted: bool,
}

impl<'a> Images<'a> {
    /// Adds the rows of a group of the write.
    pub(crate) fn touch(&mut self, layout: &LogLayout, delta: &Delta<'a>) {
        if !delta.static_row.is_empty() {
            self.upsert(ImageOf::StaticRow, &delta.static_row.cells);
        }
        for (clustering, row) in &delta.rows {
            self.upsert(ImageOf::Row(clustering), &row.cells);
        }
        for clustering in &delta.row_deletes {
            self.rows.entry(ImageOf::Row(clustering)).or_default().deleted = true;
        }
        if delta.partition_delete && layout.base.clustering_count() == 0 {
            self.rows.entry(ImageOf::Row(&[])).or_default().deleted = true;
        }
    }

    fn upsert(&mut self, row: ImageOf<'a>, cells: &[DeltaCell]) {
        let touched = self.rows.entry(row).or_default();
        touched.upserted = true;
        for column in cells.chunk_by(|a, b| a.column == b.column) {
            touched.columns.extend(column.first().map(|cell| cell.column));
        }
    }

    /// Copies what these rows have in `content`, tombstones over them included.
    pub(crate) fn copy_rows(&self, content: &Partition, into: &mut Partition) {
        into.deletion = content.deletion;
        into.range_tombstones.clone_from(&content.range_tombstones);
        for of in self.rows.keys() {
            match of {
                ImageOf::StaticRow => into.static_row.clone_from(&content.static_row),
                ImageOf::Row(clustering) => {
                    if let Some(row) = content.rows.get(*clustering) {
                        into.rows.insert((*clustering).into(), row.clone());
                    }
                }
            }
        }
    }

    /// Appends the preimages, when the table has them; `content` is the partition before the write.
    pub(crate) fn plan_before<'c>(
        &self,
        layout: &LogLayout,
        content: &'c Partition,
        now: EpochSeconds,
        rows: &mut Vec<PlannedRow<'c>>,
    ) where
        'a: 'c,
    {
        if layout.options.preimage == PreimageMode::Off {
            return;
        }
        let all_columns = layout.options.preimage == PreimageMode::Full;
        for (of, touched) in &self.rows {
            let standing = of.standing(content, now);
            if !standing.is_live() {
                continue;
            }
            let wanted = |column: ColumnId| {
                all_columns || touched.deleted || touched.columns.contains(&column)
            };
            let mut cells: Vec<_> =
                standing.live_cells().filter(|cell| wanted(cell.column)).map(told).collect();
            let is_static = *of == ImageOf::StaticRow;
            let absent: Vec<DeltaCell> = layout
                .columns_of(is_static)
                .filter(|c| wanted(c.base_id) && cells.iter().all(|cell| cell.column != c.base_id))
                .map(|c| DeltaCell { column: c.base_id, path: None, content: DeltaContent::Dead })
                .collect();
            cells.extend(absent);
            cells.sort_by_key(DeltaCell::order);
            rows.push(of.planned(Operation::Preimage, cells));
        }
    }

    /// Appends the postimages, when the table has them; `content` is the partition after the write,
    /// `write_covers` says whether a delete of the write itself covers a row.
    pub(crate) fn plan_after<'c>(
        &self,
        layout: &LogLayout,
        content: &'c Partition,
        now: EpochSeconds,
        write_covers: impl Fn(ImageOf) -> bool,
        rows: &mut Vec<PlannedRow<'c>>,
    ) where
        'a: 'c,
    {
        if !layout.options.postimage {
            return;
        }
        for (of, touched) in &self.rows {
            let standing = of.standing(content, now);
            let emptied = touched.upserted && !touched.deleted && !write_covers(*of);
            if standing.is_live() || emptied {
                let cells = standing.live_cells().map(told).collect();
                rows.push(of.planned(Operation::Postimage, cells));
            }
        }
    }
}

impl<'a> ImageOf<'a> {
    fn standing<'c>(&self, content: &'c Partition, now: EpochSeconds) -> Standing<'c> {
        match self {
            ImageOf::StaticRow => Standing::static_row(content, now),
            ImageOf::Row(clustering) => Standing::row(content, clustering, now),
        }
    }

    fn planned<'c>(self, operation: Operation, cells: Vec<DeltaCell<'c>>) -> PlannedRow<'c>
    where
        'a: 'c,
    {
        let clustering = match self {
            ImageOf::StaticRow => None,
            ImageOf::Row(clustering) => Some(Bound::Position(clustering)),
        };
        PlannedRow { operation, clustering, ttl_seconds: 0, cells }
    }
}

fn told(cell: model::row::Cell) -> DeltaCell {
    DeltaCell::as_it_stands(cell)
}
