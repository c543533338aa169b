//! A mutation: one partition's change of one table, in its one byte form.
//!
//! ```text
//! mutation := table:u128le schema_version:varint key:slice item*
//! item     := 1 timestamp:i64le deleted_at:signed                          partition tombstone
//!           | 2 length:u32le row                                           static row
//!           | 3 start:slice end:slice timestamp:i64le deleted_at:signed    range tombstone
//!           | 4 clustering:slice length:u32le row                          row
//! ```
//!
//! Items ascend by tag; range tombstones by start, rows by clustering key. A mutation is written
//! in one pass into one buffer, and viewed in place. Where the client named no timestamp, rows and
//! tombstones carry [`UNSTAMPED`] and the leader of the range stamps them ([`stamp`]).

use crate::codec::{Cursor, DecodeError, put_signed, put_slice, put_varint};
use crate::row::{
    Deletion, Expiry, RowHead, RowView, RowWriter, UNSTAMPED, base_timestamp, set_base_timestamp,
};
use crate::value_row::ValueRowWriter;
use crate::{TableId, TimestampMicros};

const TAG_PARTITION_TOMBSTONE: u8 = 1;
const TAG_STATIC_ROW: u8 = 2;
const TAG_RANGE_TOMBSTONE: u8 = 3;
const TAG_ROW: u8 = 4;

/// One part of a mutation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MutationItem<'a> {
    /// Deletes the whole partition.
    PartitionTombstone(Deletion),
    /// A change of the static row.
    StaticRow(RowView<'a>),
    /// Deletes the rows at positions in `[start, end)`.
    RangeTombstone {
        /// First position covered.
        start: &'a [u8],
        /// First position no longer covered.
        end: &'a [u8],
        /// The deletion.
        deletion: Deletion,
    },
    /// A change of one row.
    Row {
        /// Its clustering key; empty in a table without clustering columns.
        clustering: &'a [u8],
        /// The change.
        row: RowView<'a>,
    },
}

/// A mutation, viewed in place.
#[derive(Clone, Copy, Debug)]
pub struct MutationView<'a> {
    bytes: &'a [u8],
    table: TableId,
    schema_version: u64,
    key: &'a [u8],
    items: Cursor<'a>,
}

impl<'a> MutationView<'a> {
    /// Views bytes whose items are known to be well-formed; the header is read here.
    pub fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(bytes);
        let table = TableId(u128::from_le_bytes(cursor.array()?));
        let schema_version = cursor.varint()?;
        let key = cursor.slice()?;
        Ok(MutationView { bytes, table, schema_version, key, items: cursor })
    }

    /// Views bytes of unknown origin after checking all of them, rows included.
    pub fn check(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let view = Self::new(bytes)?;
        let mut items = Items { cursor: view.items };
        let mut last_tag = 0;
        let mut last_position: Option<&[u8]> = None;
        while !items.cursor.is_empty() {
            let tag = items.cursor.rest().first().copied().unwrap_or(0);
            let item = items.decode()?;
            let position = match item {
                MutationItem::StaticRow(row) => {
                    RowView::check(row.as_bytes())?;
                    None
                }
                MutationItem::Row { clustering, row } => {
                    RowView::check(row.as_bytes())?;
                    Some(clustering)
                }
                MutationItem::RangeTombstone { start, .. } => Some(start),
                MutationItem::PartitionTombstone(_) => None,
            };
            if tag < last_tag
                || (tag == last_tag && (position.is_none() || position <= last_position))
            {
                return Err(DecodeError("mutation items are out of order"));
            }
            (last_tag, last_position) = (tag, position);
        }
        Ok(view)
    }

    /// Views bytes of unknown origin as a partition of a page, after checking all of them: an
    /// optional static row, and rows in whatever order they were read.
    pub(crate) fn check_in_page(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let view = Self::new(bytes)?;
        let mut items = Items { cursor: view.items };
        let mut is_first = true;
        while !items.cursor.is_empty() {
            match items.decode()? {
                MutationItem::StaticRow(row) if is_first => RowView::check(row.as_bytes())?,
                MutationItem::Row { row, .. } => RowView::check(row.as_bytes())?,
                _ => return Err(DecodeError("a page holds rows, the static one first")),
            };
            is_first = false;
        }
        Ok(view)
    }

    /// The bytes as they stand.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The table.
    pub fn table(&self) -> TableId {
        self.table
    }

    /// The version of the table's definition under which the mutation was planned.
    pub fn schema_version(&self) -> u64 {
        self.schema_version
    }

    /// The serialised partition key.
    pub fn key(&self) -> &'a [u8] {
        self.key
    }

    /// Its parts in order.
    #[inline]
    pub fn items(&self) -> Items<'a> {
        Items { cursor: self.items }
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The newest timestamp in it; see [`RowView::newest_timestamp`].
    pub fn newest_timestamp(&self) -> Option<TimestampMicros> {
        self.items()
            .filter_map(|item| match item {
                MutationItem::PartitionTombstone(deletion)
                | MutationItem::RangeTombstone { deletion, .. } => Some(deletion.timestamp),
                MutationItem::StaticRow(row) | MutationItem::Row { row, .. } => {
                    row.newest_timestamp()
                }
            })
            .max()
    }
}

/// Iterates over a mutation's parts.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Items<'a> {
    fn decode(&mut self) -> Result<MutationItem<'a>, DecodeError> {
        let cursor = &mut self.cursor;
        Ok(match cursor.u8()? {
            TAG_PARTITION_TOMBSTONE => MutationItem::PartitionTombstone(decode_deletion(cursor)?),
            TAG_STATIC_ROW => MutationItem::StaticRow(decode_row(cursor)?),
            TAG_RANGE_TOMBSTONE => MutationItem::RangeTombstone {
                start: cursor.slice()?,
                end: cursor.slice()?,
                deletion: decode_deletion(cursor)?,
            },
            TAG_ROW => MutationItem::Row { clustering: cursor.slice()?, row: decode_row(cursor)? },
            _ => return Err(DecodeError("unknown mutation item")),
        })
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = MutationItem<'a>;

    #[inline]
    fn next(&mut self) -> Option<MutationItem<'a>> {
        if self.cursor.is_empty() {
            return None;
        }
        let item = self.decode();
        debug_assert!(item.is_ok(), "a mutation that was checked does not decode: {item:?}");
        item.ok()
    }
}

fn decode_deletion(cursor: &mut Cursor) -> Result<Deletion, DecodeError> {
    Ok(Deletion { timestamp: i64::from_le_bytes(cursor.array()?), deleted_at: cursor.signed()? })
}

fn decode_row<'a>(cursor: &mut Cursor<'a>) -> Result<RowView<'a>, DecodeError> {
    let length = u32::from_le_bytes(cursor.array()?) as usize;
    Ok(RowView::new(cursor.bytes(length)?))
}

/// Writes a mutation at the end of a buffer, in the order of the items' tags.
#[derive(Debug)]
pub struct MutationWriter<'a> {
    out: &'a mut Vec<u8>,
    last_tag: u8,
    last_row_is_empty: bool,
}

impl<'a> MutationWriter<'a> {
    /// Begins a mutation.
    pub fn new(out: &'a mut Vec<u8>, table: TableId, schema_version: u64, key: &[u8]) -> Self {
        out.extend_from_slice(&table.0.to_le_bytes());
        put_varint(out, schema_version);
        put_slice(out, key);
        MutationWriter { out, last_tag: 0, last_row_is_empty: false }
    }

    /// Goes on with a mutation that ends where the buffer ends; its last item was not of a later
    /// kind than those that follow.
    pub(crate) fn resume(out: &'a mut Vec<u8>) -> Self {
        MutationWriter { out, last_tag: 0, last_row_is_empty: false }
    }

    /// Length of the buffer: the mutation so far, when it began at the buffer's start.
    pub fn byte_count(&self) -> usize {
        self.out.len()
    }

    /// Deletes the partition.
    pub fn partition_tombstone(&mut self, deletion: Deletion) {
        self.tag(TAG_PARTITION_TOMBSTONE);
        self.deletion(deletion);
    }

    /// Adds a range tombstone; they come in ascending order.
    pub fn range_tombstone(&mut self, start: &[u8], end: &[u8], deletion: Deletion) {
        self.tag(TAG_RANGE_TOMBSTONE);
        put_slice(self.out, start);
        put_slice(self.out, end);
        self.deletion(deletion);
    }

    /// Adds the static row, written by `cells`.
    pub fn static_row(
        &mut self,
        base: TimestampMicros,
        head: RowHead,
        cells: impl FnOnce(&mut RowWriter),
    ) {
        self.tag(TAG_STATIC_ROW);
        self.row_body(|out| cells(&mut RowWriter::new(out, base, head)));
    }

    /// Adds a row, written by `cells`; rows come in ascending order of their clustering keys.
    pub fn row(
        &mut self,
        clustering: &[u8],
        base: TimestampMicros,
        head: RowHead,
        cells: impl FnOnce(&mut RowWriter),
    ) {
        self.tag(TAG_ROW);
        put_slice(self.out, clustering);
        self.row_body(|out| cells(&mut RowWriter::new(out, base, head)));
    }

    /// Adds a row of values that have one timestamp and one expiry. After an error of `values` the
    /// mutation is of no use.
    #[inline]
    pub fn value_row<E>(
        &mut self,
        clustering: &[u8],
        timestamp: TimestampMicros,
        expiry: Option<Expiry>,
        values: impl FnOnce(&mut ValueRowWriter) -> Result<(), E>,
    ) -> Result<(), E> {
        self.tag(TAG_ROW);
        put_slice(self.out, clustering);
        let mut result = Ok(());
        self.row_body(|out| {
            let mut row = ValueRowWriter::new(out, timestamp, expiry);
            result = values(&mut row);
            row.finish();
        });
        result
    }

    /// Adds the static row, unless `cells` fails or leaves it empty.
    pub fn try_static_row<E>(
        &mut self,
        base: TimestampMicros,
        head: RowHead,
        cells: impl FnOnce(&mut RowWriter) -> Result<(), E>,
    ) -> Result<(), E> {
        self.try_item(|writer, result| {
            writer.static_row(base, head, |row| *result = cells(row));
        })
    }

    /// Adds a row, unless `cells` fails or leaves it empty.
    pub fn try_row<E>(
        &mut self,
        clustering: &[u8],
        base: TimestampMicros,
        head: RowHead,
        cells: impl FnOnce(&mut RowWriter) -> Result<(), E>,
    ) -> Result<(), E> {
        self.try_item(|writer, result| {
            writer.row(clustering, base, head, |row| *result = cells(row));
        })
    }

    /// Adds a row by `write` and takes it back if that fails or if nothing is in the row.
    fn try_item<E>(&mut self, write: impl FnOnce(&mut Self, &mut Result<(), E>)) -> Result<(), E> {
        let (start, last_tag) = (self.out.len(), self.last_tag);
        let mut result = Ok(());
        write(self, &mut result);
        if result.is_err() || self.last_row_is_empty {
            self.out.truncate(start);
            self.last_tag = last_tag;
        }
        result
    }

    /// Adds the static row as it stands.
    pub fn encoded_static_row(&mut self, row: RowView) {
        self.tag(TAG_STATIC_ROW);
        self.row_body(|out| out.extend_from_slice(row.as_bytes()));
    }

    /// Adds a row as it stands.
    pub fn encoded_row(&mut self, clustering: &[u8], row: RowView) {
        self.tag(TAG_ROW);
        put_slice(self.out, clustering);
        self.row_body(|out| out.extend_from_slice(row.as_bytes()));
    }

    fn row_body(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let at = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        write(self.out);
        let length = u32::try_from(self.out.len() - at - 4).expect("a row is below 4 GiB");
        self.out[at..at + 4].copy_from_slice(&length.to_le_bytes());
        self.last_row_is_empty = RowView::new(&self.out[at + 4..]).is_empty();
    }

    fn tag(&mut self, tag: u8) {
        assert!(tag >= self.last_tag, "mutation items are written in the order of their tags");
        self.last_tag = tag;
        self.out.push(tag);
    }

    fn deletion(&mut self, deletion: Deletion) {
        self.out.extend_from_slice(&deletion.timestamp.to_le_bytes());
        put_signed(self.out, deletion.deleted_at);
    }
}

/// Gives every part that carries no timestamp yet the leader's `timestamp`.
pub fn stamp(mutation: &mut [u8], timestamp: TimestampMicros) -> Result<(), DecodeError> {
    replace_timestamp(mutation, UNSTAMPED, timestamp)
}

/// Takes the timestamp away from every part that has `timestamp` as its base, so that the leader
/// assigns one: undoes [`stamp`]. Mutations are merged under a common timestamp in between, since
/// times before and after an unknown one do not compare.
pub fn unstamp(mutation: &mut [u8], timestamp: TimestampMicros) -> Result<(), DecodeError> {
    replace_timestamp(mutation, timestamp, UNSTAMPED)
}

fn replace_timestamp(
    mutation: &mut [u8],
    old: TimestampMicros,
    new: TimestampMicros,
) -> Result<(), DecodeError> {
    let items = MutationView::new(mutation)?.items;
    let mut at = mutation.len() - items.rest().len();
    while at < mutation.len() {
        let tag = mutation[at];
        let mut cursor = Cursor::new(&mutation[at + 1..]);
        let before = cursor.rest().len();
        match tag {
            TAG_RANGE_TOMBSTONE => {
                cursor.slice()?;
                cursor.slice()?;
            }
            TAG_ROW => {
                cursor.slice()?;
            }
            _ => {}
        }
        let skipped = before - cursor.rest().len();
        let start = at + 1 + skipped;
        if tag == TAG_STATIC_ROW || tag == TAG_ROW {
            let length = u32::from_le_bytes(cursor.array()?) as usize;
            let row = mutation
                .get_mut(start + 4..start + 4 + length)
                .ok_or(DecodeError("row is cut short"))?;
            restamp(row, old, new);
            at = start + 4 + length;
        } else {
            decode_deletion(&mut cursor)?;
            at = mutation.len() - cursor.rest().len();
            restamp(&mut mutation[start..at], old, new);
        }
    }
    Ok(())
}

/// Rows and tombstones both begin with their timestamp.
fn restamp(bytes: &mut [u8], old: TimestampMicros, new: TimestampMicros) {
    if base_timestamp(bytes) == Some(old) {
        set_base_timestamp(bytes, new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{Cell, CellContent, Marker};

    fn sample(base: i64) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = MutationWriter::new(&mut out, TableId(7), 3, b"key");
        let deletion = Deletion { timestamp: base, deleted_at: 1 };
        writer.partition_tombstone(deletion);
        writer.range_tombstone(b"a", b"b", deletion);
        writer.range_tombstone(b"c", b"d", Deletion { timestamp: 50, deleted_at: 1 });
        let head =
            RowHead { marker: Some(Marker { timestamp: base, expiry: None }), tombstone: None };
        writer.row(b"k", base, head, |row| {
            row.cell(&Cell {
                column: 1,
                path: None,
                timestamp: base.wrapping_sub(1),
                content: CellContent::CollectionTombstone { deleted_at: 1 },
            });
            row.cell(&Cell {
                column: 1,
                path: Some(b"p"),
                timestamp: base,
                content: CellContent::Live { value: b"v", expiry: None },
            });
        });
        out
    }

    #[test]
    fn stamping_gives_the_same_bytes_as_writing_with_the_timestamp() {
        let mut unstamped = sample(UNSTAMPED);
        stamp(&mut unstamped, 1_000).unwrap();
        assert_eq!(unstamped, sample(1_000));
        stamp(&mut unstamped, 2_000).unwrap();
        assert_eq!(unstamped, sample(1_000), "a stamped mutation keeps its timestamp");
        unstamp(&mut unstamped, 1_000).unwrap();
        assert_eq!(unstamped, sample(UNSTAMPED));
    }

    #[test]
    fn a_row_that_fails_or_stays_empty_is_not_written() {
        let nothing = RowHead { marker: None, tombstone: None };
        let mut out = Vec::new();
        let mut writer = MutationWriter::new(&mut out, TableId(7), 3, b"key");
        writer.try_row::<()>(b"a", 1, nothing, |_| Ok(())).unwrap();
        writer.try_static_row::<()>(1, nothing, |_| Ok(())).unwrap();
        let cell = Cell {
            column: 1,
            path: None,
            timestamp: 1,
            content: CellContent::Tombstone { deleted_at: 1 },
        };
        let failed = writer.try_row(b"b", 1, nothing, |row| {
            row.cell(&cell);
            Err("failed")
        });
        assert_eq!(failed, Err("failed"));
        assert!(MutationView::check(&out).unwrap().is_empty());
    }

    #[test]
    fn a_mutation_reads_back_and_hostile_bytes_do_not_panic() {
        let bytes = sample(10);
        let view = MutationView::check(&bytes).unwrap();
        assert_eq!((view.table(), view.schema_version(), view.key()), (TableId(7), 3, &b"key"[..]));
        assert_eq!(view.items().count(), 4);
        assert_eq!(view.newest_timestamp(), Some(50));
        for length in 0..bytes.len() {
            if let Ok(view) = MutationView::check(&bytes[..length]) {
                assert!(view.items().count() < 4);
            }
            let mut cut = bytes[..length].to_vec();
            drop(stamp(&mut cut, 5));
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(view) = MutationView::check(&flipped) {
                view.items().count();
            }
        }
    }
}
