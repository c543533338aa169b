//! Rows before and after a group: the partition's content, told in full.
//!
//! Every row that a group inserts, updates or deletes by its own key has images; rows under a range
//! or partition delete have none, unless they are told row by row, or the table has no clustering
//! key, where the partition is the row. A preimage exists when the row existed. A postimage exists when the row does, and after
//! an upsert that left nothing alive (all its columns are null then), but not after a delete.

use super::{Operation, PlannedRow, RowCells};
use crate::content::Content;
use crate::delta::{Bound, Delta, RowDelta};
use crate::layout::{ColumnSet, LogLayout};
use crate::standing::Standing;
use model::partition::Partition;
use model::{EpochSeconds, PreimageMode};

/// A row that has images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ImageOf<'a> {
    /// The static row.
    StaticRow,
    /// The row with this key.
    Row(&'a [u8]),
}

/// What an image tells.
#[derive(Clone, Debug)]
pub(crate) struct ImageCells<'a> {
    pub(crate) standing: Standing<'a>,
    /// Whether it is of the static row.
    pub(crate) is_static: bool,
    /// The columns that it has, by their numbers in the layout; all of them when there is no set.
    pub(crate) columns: Option<ColumnSet>,
    /// Whether columns that are null are told as deleted: of a preimage.
    pub(crate) tells_absent: bool,
}

/// The rows of a write that have images.
#[derive(Debug, Default)]
pub(crate) struct Images<'a> {
    /// In order, once [`Images::sort`] was called.
    rows: Vec<Touched<'a>>,
}

/// What a write does to a row.
#[derive(Debug)]
pub(crate) struct Touched<'a> {
    row: ImageOf<'a>,
    columns: ColumnSet,
    deleted: bool,
    upserted: bool,
}

impl<'a> Images<'a> {
    /// None yet; `rows` is an empty list whose space is used.
    pub(crate) fn with_space(rows: Vec<Touched<'a>>) -> Self {
        Images { rows }
    }

    pub(crate) fn into_space(self) -> Vec<Touched<'a>> {
        self.rows
    }

    /// Adds the rows of a group of the write.
    pub(crate) fn touch(&mut self, layout: &LogLayout, delta: &Delta<'a>) {
        if !delta.static_row.is_empty() {
            self.upsert(layout, ImageOf::StaticRow, &delta.static_row);
        }
        for (clustering, row) in &delta.rows {
            self.upsert(layout, ImageOf::Row(clustering), row);
        }
        for clustering in &delta.row_deletes {
            self.delete(ImageOf::Row(clustering));
        }
        if delta.partition_delete && layout.base.clustering_count() == 0 {
            self.delete(ImageOf::Row(&[]));
        }
        if let Some(deleted) = &delta.deleted_rows {
            if !deleted.static_row.is_empty() {
                self.delete(ImageOf::StaticRow);
            }
            deleted.rows.iter().for_each(|clustering| self.delete(ImageOf::Row(clustering)));
        }
    }

    /// Brings the rows in order, each once, after the last group was added.
    pub(crate) fn sort(&mut self) {
        self.rows.sort_by_key(|touched| touched.row);
        self.rows.dedup_by(|later, first| {
            let is_same = later.row == first.row;
            if is_same {
                first.columns.union(&later.columns);
                first.deleted |= later.deleted;
                first.upserted |= later.upserted;
            }
            is_same
        });
    }

    fn upsert(&mut self, layout: &LogLayout, row: ImageOf<'a>, delta: &RowDelta) {
        let columns = touched_columns(layout, delta);
        self.rows.push(Touched { row, columns, deleted: false, upserted: true });
    }

    fn delete(&mut self, row: ImageOf<'a>) {
        let columns = ColumnSet::default();
        self.rows.push(Touched { row, columns, deleted: true, upserted: false });
    }

    /// Copies what these rows have in `content`, tombstones over them included.
    pub(crate) fn copy_rows(&self, content: &Partition, into: &mut Partition) {
        into.deletion = content.deletion;
        into.range_tombstones.clone_from(&content.range_tombstones);
        for touched in &self.rows {
            match touched.row {
                ImageOf::StaticRow => into.static_row.clone_from(&content.static_row),
                ImageOf::Row(clustering) => {
                    if let Some(row) = content.rows.get(clustering) {
                        into.rows.insert(clustering.into(), row.clone());
                    }
                }
            }
        }
    }

    /// Appends the preimages, when the table has them; `content` is the partition before the write.
    pub(crate) fn plan_before<'c>(
        &self,
        layout: &LogLayout,
        content: &Content<'c>,
        now: EpochSeconds,
        rows: &mut Vec<PlannedRow<'c>>,
    ) where
        'a: 'c,
    {
        if layout.options.preimage == PreimageMode::Off {
            return;
        }
        for touched in &self.rows {
            let all = touched.deleted || layout.options.preimage == PreimageMode::Full;
            let columns = (!all).then(|| touched.columns.clone());
            rows.extend(touched.row.preimage(content, columns, now));
        }
    }

    /// Appends the postimages, when the table has them; `content` is the partition after the write,
    /// `write_covers` says whether a delete of the write itself covers a row.
    pub(crate) fn plan_after<'c>(
        &self,
        layout: &LogLayout,
        content: &Content<'c>,
        now: EpochSeconds,
        write_covers: impl Fn(ImageOf) -> bool,
        rows: &mut Vec<PlannedRow<'c>>,
    ) where
        'a: 'c,
    {
        if !layout.options.postimage {
            return;
        }
        for touched in &self.rows {
            let row = touched.row;
            let upserted = touched.upserted && !touched.deleted && !write_covers(row);
            rows.extend(row.postimage(content, upserted, now));
        }
    }
}

/// The preimage of a row that a write upserts and does nothing else, when the table has them and
/// the row existed.
pub(crate) fn preimage_of<'c>(
    layout: &LogLayout,
    clustering: &'c [u8],
    delta: &RowDelta,
    content: &Content<'c>,
    now: EpochSeconds,
) -> Option<PlannedRow<'c>> {
    let columns = match layout.options.preimage {
        PreimageMode::Off => return None,
        PreimageMode::Touched => Some(touched_columns(layout, delta)),
        PreimageMode::Full => None,
    };
    ImageOf::Row(clustering).preimage(content, columns, now)
}

/// The postimage of such a row, when the table has them.
pub(crate) fn postimage_of<'c>(
    layout: &LogLayout,
    clustering: &'c [u8],
    content: &Content<'c>,
    now: EpochSeconds,
) -> Option<PlannedRow<'c>> {
    let has_postimages = layout.options.postimage;
    has_postimages.then(|| ImageOf::Row(clustering).postimage(content, true, now)).flatten()
}

/// The columns that an upsert touches, where preimages have just those.
fn touched_columns(layout: &LogLayout, delta: &RowDelta) -> ColumnSet {
    let mut columns = ColumnSet::default();
    if layout.options.preimage == PreimageMode::Touched {
        let mut near = 0;
        for cell in delta.cells.iter() {
            if let Some((number, _)) = layout.column(cell.column, near) {
                columns.insert(number);
                near = number;
            }
        }
    }
    columns
}

impl<'a> ImageOf<'a> {
    /// The row as it was, with these columns or all, if it existed.
    fn preimage<'c>(
        self,
        content: &Content<'c>,
        columns: Option<ColumnSet>,
        now: EpochSeconds,
    ) -> Option<PlannedRow<'c>>
    where
        'a: 'c,
    {
        let standing = self.standing(content, now);
        let is_static = self == ImageOf::StaticRow;
        standing.is_live().then(|| {
            let cells = ImageCells { standing, is_static, columns, tells_absent: true };
            self.planned(Operation::Preimage, cells)
        })
    }

    /// The row as it is: when it exists, or was upserted last, though nothing of it is left.
    fn postimage<'c>(
        self,
        content: &Content<'c>,
        upserted: bool,
        now: EpochSeconds,
    ) -> Option<PlannedRow<'c>>
    where
        'a: 'c,
    {
        let standing = self.standing(content, now);
        let is_static = self == ImageOf::StaticRow;
        (upserted || standing.is_live()).then(|| {
            let cells = ImageCells { standing, is_static, columns: None, tells_absent: false };
            self.planned(Operation::Postimage, cells)
        })
    }

    /// The row as it is, told as a postimage, if it exists.
    pub(crate) fn as_it_stands<'c>(
        self,
        content: &Content<'c>,
        now: EpochSeconds,
    ) -> Option<PlannedRow<'c>>
    where
        'a: 'c,
    {
        self.postimage(content, false, now)
    }

    fn standing<'c>(&self, content: &Content<'c>, now: EpochSeconds) -> Standing<'c> {
        match self {
            ImageOf::StaticRow => Standing::static_row(content, now),
            ImageOf::Row(clustering) => Standing::row(content, clustering, now),
        }
    }

    fn planned<'c>(self, operation: Operation, cells: ImageCells<'c>) -> PlannedRow<'c>
    where
        'a: 'c,
    {
        let clustering = match self {
            ImageOf::StaticRow => None,
            ImageOf::Row(clustering) => Some(Bound::Position(clustering)),
        };
        let cells = RowCells::Image(cells);
        PlannedRow { operation, clustering, ttl_seconds: 0, is_by_row: false, cells }
    }
}
