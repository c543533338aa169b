//! Rows that go with a range or with the partition, told one by one: rule 27.
//!
//! A log tells of a range by its bounds. Where a feed is to tell of each row, the group of the delete
//! names them too, each as if the write had deleted it by its key. That takes a look at all that lies
//! under the delete; so there is a limit, beyond which the delete is told by its bounds alone.

use super::WriteInput;
use crate::content::Content;
use crate::delta::{Bound, DeletedRows, Delta, DeltaCell, DeltaCells, DeltaContent, RowDelta};
use crate::standing::Standing;
use model::TimestampMicros;
use model::clustering::AFTER;
use model::read::END_POSITION;
use model::row::RowView;
use std::borrow::Cow;

/// How many rows under deletes may be told one by one, and how many bytes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Rows, also those that are only looked at.
    pub rows: usize,
    /// Bytes of these rows as they are stored, and about as many as the log has of them.
    pub bytes: usize,
}

/// What a log row takes beside its key and its values, about.
const LOG_ROW_BYTES: usize = 64;
/// And for a column that its preimage tells as null.
const NULL_COLUMN_BYTES: usize = 5;

impl Room {
    /// What all deletes of one entry have together. Reading it keeps a shard's other requests waiting
    /// for some milliseconds, and the entry grows by no more.
    pub const OF_ENTRY: Room = Room { rows: 4_096, bytes: 2 << 20 };

    /// What is left when such a row is taken out; nothing when it does not fit.
    fn without(self, bytes: usize) -> Option<Room> {
        Some(Room { rows: self.rows.checked_sub(1)?, bytes: self.bytes.checked_sub(bytes)? })
    }
}

/// Adds to a delta with deletes of ranges or of the partition the rows that go with them, if there is
/// room for all of them. `content` is the partition before the write, whose timestamp is given.
pub(super) fn tell<'a>(
    input: &WriteInput,
    timestamp: TimestampMicros,
    content: &Content<'a>,
    delta: &mut Delta<'a>,
    room: &mut Option<Room>,
) {
    let Some(before) = *room else { return };
    if !delta.partition_delete && delta.range_deletes.is_empty() {
        return;
    }
    let looker = Looker { input, timestamp, content, delta };
    if let Some((deleted, left)) = looker.deleted_rows(before) {
        delta.deleted_rows = Some(deleted);
        *room = Some(left);
    }
}

struct Looker<'l, 'a> {
    input: &'l WriteInput<'l>,
    timestamp: TimestampMicros,
    content: &'l Content<'a>,
    delta: &'l Delta<'a>,
}

impl<'a> Looker<'_, 'a> {
    /// The rows, and the room that they leave; `None` when they do not fit.
    fn deleted_rows(&self, mut room: Room) -> Option<(DeletedRows<'a>, Room)> {
        let mut deleted = DeletedRows::default();
        if self.delta.partition_delete {
            let standing = Standing::static_row(self.content, self.input.now_seconds);
            if self.delta.static_row.is_empty() && self.goes(&standing) {
                room = room.without(self.logged_bytes(&[], self.content.static_row()))?;
                deleted.static_row = all_columns_deleted(&standing);
            }
            self.add_rows(&[], END_POSITION, &mut deleted, &mut room)?;
            return Some((deleted, room));
        }
        for range in &self.delta.range_deletes {
            let (start, end) = (position(range.start), position(range.end));
            self.add_rows(&start, &end, &mut deleted, &mut room)?;
        }
        Some((deleted, room))
    }

    fn add_rows(
        &self,
        start: &[u8],
        end: &[u8],
        deleted: &mut DeletedRows<'a>,
        room: &mut Room,
    ) -> Option<()> {
        for clustering in self.content.keys_between(start, end) {
            let standing = Standing::row(self.content, clustering, self.input.now_seconds);
            if !self.goes(&standing) || self.is_named(clustering) {
                continue;
            }
            *room = room.without(self.logged_bytes(clustering, self.content.row(clustering)))?;
            deleted.rows.push(clustering);
        }
        Some(())
    }

    /// What the log has of a row, about: a preimage and a delete.
    fn logged_bytes(&self, clustering: &[u8], row: Option<RowView>) -> usize {
        let WriteInput { layout, mutation, .. } = self.input;
        let key = LOG_ROW_BYTES + mutation.key().len() + clustering.len();
        let nulls = NULL_COLUMN_BYTES * layout.base.data_columns().len();
        2 * key + nulls + row.map_or(0, |row| row.as_bytes().len())
    }

    /// Whether a row was there, and is not afterwards.
    fn goes(&self, standing: &Standing) -> bool {
        standing.is_live() && !standing.has_newer(self.timestamp)
    }

    /// Whether the write has the row itself. Both lists ascend.
    fn is_named(&self, clustering: &[u8]) -> bool {
        let Delta { rows, row_deletes, .. } = self.delta;
        rows.binary_search_by(|(own, _)| (*own).cmp(clustering)).is_ok()
            || row_deletes.binary_search_by(|own| (*own).cmp(clustering)).is_ok()
    }
}

/// The position at a bound, which is after all rows that it is behind.
fn position(bound: Bound<'_>) -> Cow<'_, [u8]> {
    match bound {
        Bound::Position(position) => Cow::Borrowed(position),
        Bound::AfterRow(row) => Cow::Owned([row, &[AFTER]].concat()),
    }
}

/// What a statement says that deletes every column that has a value.
fn all_columns_deleted<'a>(standing: &Standing<'a>) -> RowDelta<'a> {
    let mut cells: Vec<DeltaCell> = Vec::new();
    for cell in standing.live_cells() {
        if cells.last().is_some_and(|last| last.column == cell.column) {
            continue;
        }
        let content =
            if cell.path.is_some() { DeltaContent::CollectionDead } else { DeltaContent::Dead };
        cells.push(DeltaCell { column: cell.column, path: None, content });
    }
    RowDelta { marker_ttl: None, cells: DeltaCells::List(cells) }
}
