//! A change as the log will tell it: what is left of a mutation once its place in time is known.
//!
//! Between the mutation and the log rows stands a [`Delta`]. It has no timestamps, since all of it
//! happens at one log time. Cells are views into the mutation or into the partition's content.

use model::mutation::{MutationItem, MutationView};
use model::row::{Cell, CellContent, Cells, Expiry, RowView};
use model::{ColumnId, EpochSeconds};

/// What happens to one partition at one log time. Rows, deletes and ranges ascend.
#[derive(Clone, Debug, Default)]
pub(crate) struct Delta<'a> {
    pub(crate) static_row: RowDelta<'a>,
    pub(crate) rows: Vec<(&'a [u8], RowDelta<'a>)>,
    pub(crate) row_deletes: Vec<&'a [u8]>,
    pub(crate) range_deletes: Vec<RangeDelete<'a>>,
    pub(crate) partition_delete: bool,
    /// What goes with the deleted ranges, or with the partition, when it is told row by row.
    pub(crate) deleted_rows: Option<DeletedRows<'a>>,
}

/// The rows under a write's deletes that were there before it, but for those that it names itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeletedRows<'a> {
    /// The columns of the static row, deleted.
    pub(crate) static_row: RowDelta<'a>,
    /// Ascending.
    pub(crate) rows: Vec<&'a [u8]>,
}

/// A delete of the rows at positions from the one to below the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RangeDelete<'a> {
    pub(crate) start: Bound<'a>,
    pub(crate) end: Bound<'a>,
}

/// A position: a key or prefix, or the place after everything that begins with it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound<'a> {
    /// As it stands in a mutation.
    Position(&'a [u8]),
    /// Right after the row with this key.
    AfterRow(&'a [u8]),
}

/// The upsert part of a row's change.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowDelta<'a> {
    /// The marker was set, with this TTL; 0 is none.
    pub(crate) marker_ttl: Option<u32>,
    pub(crate) cells: DeltaCells<'a>,
}

/// The cells of a change, in the order of columns, and of paths within a column.
#[derive(Clone, Debug)]
pub(crate) enum DeltaCells<'a> {
    /// All cells of a row, as they stand there.
    Row(Cells<'a>),
    /// These.
    List(Vec<DeltaCell<'a>>),
}

/// The change of a column or of one of its elements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeltaCell<'a> {
    pub(crate) column: ColumnId,
    pub(crate) path: Option<&'a [u8]>,
    pub(crate) content: DeltaContent<'a>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum DeltaContent<'a> {
    /// It got this value, with this TTL; 0 is none.
    Live { value: &'a [u8], ttl_seconds: u32 },
    /// The column or the element was deleted.
    Dead,
    /// All elements of the column were deleted.
    CollectionDead,
}

impl<'a> Delta<'a> {
    /// Nothing yet; `rows` is an empty list whose space is used.
    pub(crate) fn with_space(rows: Vec<(&'a [u8], RowDelta<'a>)>) -> Self {
        Delta { rows, ..Delta::default() }
    }

    /// The whole mutation.
    pub(crate) fn as_it_stands(
        mutation: &MutationView<'a>,
        rows: Vec<(&'a [u8], RowDelta<'a>)>,
    ) -> Self {
        let mut delta = Delta::with_space(rows);
        for item in mutation.items() {
            match item {
                MutationItem::PartitionTombstone(_) => delta.partition_delete = true,
                MutationItem::StaticRow(row) => delta.static_row = RowDelta::as_it_stands(row),
                MutationItem::RangeTombstone { start, end, .. } => delta.delete_range(start, end),
                MutationItem::Row { clustering, row } => {
                    delta.push_row(clustering, RowDelta::as_it_stands(row));
                    if row.tombstone().is_some() {
                        delta.row_deletes.push(clustering);
                    }
                }
            }
        }
        delta
    }

    pub(crate) fn push_row(&mut self, clustering: &'a [u8], row: RowDelta<'a>) {
        if !row.is_empty() {
            self.rows.push((clustering, row));
        }
    }

    pub(crate) fn delete_range(&mut self, start: &'a [u8], end: &'a [u8]) {
        self.range_deletes
            .push(RangeDelete { start: Bound::Position(start), end: Bound::Position(end) });
    }

    /// Restores the order that rows and deletes of several parts of a mutation may have lost.
    pub(crate) fn sort(&mut self) {
        self.rows.sort_by_key(|(clustering, _)| *clustering);
        self.row_deletes.sort_unstable();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.static_row.is_empty()
            && self.rows.is_empty()
            && self.row_deletes.is_empty()
            && self.range_deletes.is_empty()
            && !self.partition_delete
    }
}

impl<'a> RowDelta<'a> {
    pub(crate) fn as_it_stands(row: RowView<'a>) -> Self {
        let (head, cells) = row.parts();
        let marker_ttl = head.marker.map(|m| ttl_of(m.expiry));
        RowDelta { marker_ttl, cells: DeltaCells::Row(cells) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.marker_ttl.is_none() && self.cells.is_empty()
    }
}

impl<'a> DeltaCells<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            DeltaCells::Row(cells) => cells.is_empty(),
            DeltaCells::List(cells) => cells.is_empty(),
        }
    }

    pub(crate) fn iter(&self) -> DeltaCellsIter<'_, 'a> {
        match self {
            DeltaCells::Row(cells) => DeltaCellsIter::Row(cells.clone()),
            DeltaCells::List(cells) => DeltaCellsIter::List(cells.iter()),
        }
    }
}

/// See [`DeltaCells::iter`].
pub(crate) enum DeltaCellsIter<'c, 'a> {
    Row(Cells<'a>),
    List(std::slice::Iter<'c, DeltaCell<'a>>),
}

impl<'a> Iterator for DeltaCellsIter<'_, 'a> {
    type Item = DeltaCell<'a>;

    #[inline]
    fn next(&mut self) -> Option<DeltaCell<'a>> {
        match self {
            DeltaCellsIter::Row(cells) => cells.next().map(DeltaCell::as_it_stands),
            DeltaCellsIter::List(cells) => cells.next().copied(),
        }
    }
}

impl Default for DeltaCells<'_> {
    fn default() -> Self {
        DeltaCells::List(Vec::new())
    }
}

impl<'a> DeltaCell<'a> {
    pub(crate) fn as_it_stands(cell: Cell<'a>) -> Self {
        let content = match cell.content {
            CellContent::Live { value, expiry } => {
                DeltaContent::Live { value, ttl_seconds: ttl_of(expiry) }
            }
            CellContent::Tombstone { .. } => DeltaContent::Dead,
            CellContent::CollectionTombstone { .. } => DeltaContent::CollectionDead,
        };
        DeltaCell { column: cell.column, path: cell.path, content }
    }

    /// A cell that was live before, told again: its TTL is the time it has left.
    pub(crate) fn survivor(cell: Cell<'a>, now: EpochSeconds) -> Self {
        let mut told = Self::as_it_stands(cell);
        if let CellContent::Live { value, expiry: Some(expiry) } = cell.content {
            let left = expiry.expires_at.saturating_sub(now);
            let ttl_seconds = u32::try_from(left).unwrap_or(expiry.ttl_seconds).max(1);
            told.content = DeltaContent::Live { value, ttl_seconds };
        }
        told
    }

    /// The same place, deleted.
    pub(crate) fn dying(cell: Cell<'a>) -> Self {
        DeltaCell { column: cell.column, path: cell.path, content: DeltaContent::Dead }
    }

    pub(crate) fn order(&self) -> (ColumnId, Option<&'a [u8]>) {
        (self.column, self.path)
    }

    pub(crate) fn ttl_seconds(&self) -> u32 {
        match self.content {
            DeltaContent::Live { ttl_seconds, .. } => ttl_seconds,
            DeltaContent::Dead | DeltaContent::CollectionDead => 0,
        }
    }
}

fn ttl_of(expiry: Option<Expiry>) -> u32 {
    expiry.map_or(0, |e| e.ttl_seconds)
}
