//! A row's one byte form, and how to read and write it.
//!
//! The same bytes stand in the commit log, the memtable, the sstable and in messages between
//! nodes. A row without its clustering key is:
//!
//! ```text
//! row       := base:i64le flags:u8 [marker] [tombstone] [expiry] cell*
//! flags     := 0x01 marker | 0x02 marker expires | 0x04 row tombstone
//!              | 0x08 more timestamps than the base | 0x10 expiry | 0x20 cells of other kinds than 0
//! marker    := delta [expiry]
//! tombstone := delta deleted_at:signed
//! expiry    := ttl:varint expires_at:signed
//! cell      := column:varint kind:u8 [delta] [expiry] [deleted_at:signed] [path:slice]
//!              [value:slice]
//! kind      := 0x01 tombstone | 0x02 expiring | 0x04 own timestamp | 0x08 path
//!              | 0x10 collection tombstone | 0x20 expiring as the row's expiry says
//! ```
//!
//! A timestamp is `base + delta` (delta: signed varint, left out where it is zero), so that a
//! typical row carries its timestamp once, and stamping a server-assigned timestamp rewrites eight
//! bytes; the flags tell without a look at the cells whether there is another. The row's expiry is
//! one that its cells may share: so a row of a log or of a series carries it once. Invariants:
//! cells ascend by (column, collection tombstone first, path); a tombstone of either kind has no
//! value; nothing follows the last cell; flag 0x08 is set if and only if a delta is not zero or
//! there is a collection tombstone, which counts as one microsecond more than it says; flag 0x20
//! is set if and only if a cell's kind is not 0.
//!
//! Most rows are *plain*: values of columns, one timestamp, no end, perhaps a marker. The flags say
//! so, and [`RowView::plain`] reads such a row with less work.
//!
//! Rows made by this node are well-formed; rows from a disk or a peer are checked once, where
//! they come in, with [`RowView::check`]. After that reading is infallible: a decoding failure
//! is a broken invariant and ends the iteration.

use crate::codec::{Cursor, DecodeError, put_signed, put_slice, put_varint};
use crate::{ColumnId, EpochSeconds, TimestampMicros};

/// The base of a row whose timestamp the leader has yet to assign; see
/// [`crate::mutation::stamp`].
pub const UNSTAMPED: TimestampMicros = i64::MIN;

const FLAG_MARKER: u8 = 0x01;
const FLAG_MARKER_EXPIRES: u8 = 0x02;
const FLAG_TOMBSTONE: u8 = 0x04;
const FLAG_MORE_TIMESTAMPS: u8 = 0x08;
const FLAG_EXPIRY: u8 = 0x10;
const FLAG_OTHER_KINDS: u8 = 0x20;
const FLAGS_KNOWN: u8 = 0x3f;

const KIND_TOMBSTONE: u8 = 0x01;
const KIND_EXPIRING: u8 = 0x02;
const KIND_OWN_TIMESTAMP: u8 = 0x04;
const KIND_PATH: u8 = 0x08;
const KIND_COLLECTION_TOMBSTONE: u8 = 0x10;
pub(crate) const KIND_ROW_EXPIRY: u8 = 0x20;
const KINDS_KNOWN: u8 = 0x3f;

/// Length of the fixed head: base timestamp and flags.
const HEAD_LEN: usize = 9;

/// A time to live and when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The TTL as it was written, in seconds.
    pub ttl_seconds: u32,
    /// When the cell is gone, in seconds since the epoch.
    pub expires_at: EpochSeconds,
}

/// A tombstone: everything in its scope at or below the timestamp is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// The delete's own timestamp.
    pub timestamp: TimestampMicros,
    /// When it was made, by the coordinator's clock: what `gc_grace_seconds` counts from.
    pub deleted_at: EpochSeconds,
}

/// That a row was inserted: it exists even when all its columns are null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The insert's timestamp.
    pub timestamp: TimestampMicros,
    /// Set when the insert had a TTL.
    pub expiry: Option<Expiry>,
}

impl Marker {
    /// Whether the marker still counts at `now`.
    #[inline]
    pub fn is_live(&self, now: EpochSeconds) -> bool {
        self.expiry.is_none_or(|e| e.expires_at > now)
    }
}

/// What a cell holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellContent<'a> {
    /// A value, perhaps with an end.
    Live {
        /// The serialised value.
        value: &'a [u8],
        /// Set when it has a TTL.
        expiry: Option<Expiry>,
    },
    /// The column, or the element at the path, was deleted.
    Tombstone {
        /// When, for `gc_grace_seconds`.
        deleted_at: EpochSeconds,
    },
    /// All elements of the column at or below the timestamp were deleted.
    CollectionTombstone {
        /// When, for `gc_grace_seconds`.
        deleted_at: EpochSeconds,
    },
}

/// A cell, viewed in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell<'a> {
    /// Which column.
    pub column: ColumnId,
    /// Which element, for a column of several cells; `None` for its collection tombstone.
    pub path: Option<&'a [u8]>,
    /// The write's timestamp.
    pub timestamp: TimestampMicros,
    /// What it holds.
    pub content: CellContent<'a>,
}

impl<'a> Cell<'a> {
    /// The value when the cell is live at `now`.
    #[inline]
    pub fn live_value(&self, now: EpochSeconds) -> Option<&'a [u8]> {
        match self.content {
            CellContent::Live { value, expiry } if expiry.is_none_or(|e| e.expires_at > now) => {
                Some(value)
            }
            _ => None,
        }
    }

    /// Whether it deletes all elements of its column.
    #[inline]
    pub fn is_collection_tombstone(&self) -> bool {
        matches!(self.content, CellContent::CollectionTombstone { .. })
    }

    /// Its place among the cells of a row.
    #[inline]
    pub fn order(&self) -> (ColumnId, Option<&'a [u8]>) {
        (self.column, self.path)
    }
}

/// A row, viewed in place. `Copy`: it is a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowView<'a> {
    bytes: &'a [u8],
}

impl<'a> RowView<'a> {
    /// Views bytes that are known to be well-formed.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        RowView { bytes }
    }

    /// Checks bytes of unknown origin, whole: structure, order of cells, known flags.
    pub fn check(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (head, mut cells) = decode_head(bytes)?;
        let base = cells.base;
        let mut has_more = head.marker.is_some_and(|m| m.timestamp != base)
            || head.tombstone.is_some_and(|t| t.timestamp != base);
        let mut last: Option<(ColumnId, Option<&[u8]>)> = None;
        let mut has_other_kinds = false;
        while !cells.cursor.is_empty() {
            has_other_kinds |= cells.next_kind()? != 0;
            let cell = cells.decode()?;
            if last.is_some_and(|last| last >= cell.order()) {
                return Err(DecodeError("cells are out of order"));
            }
            last = Some(cell.order());
            has_more |= cell.timestamp != base || cell.is_collection_tombstone();
        }
        let row = RowView { bytes };
        if has_more != row.has_flag(FLAG_MORE_TIMESTAMPS) {
            return Err(DecodeError("row flags and timestamps contradict"));
        }
        if has_other_kinds != row.has_flag(FLAG_OTHER_KINDS) {
            return Err(DecodeError("row flags and kinds of cells contradict"));
        }
        Ok(row)
    }

    /// The bytes as they stand.
    #[inline]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Marker, tombstone, and an iterator over the cells, in one pass.
    #[inline]
    pub fn parts(&self) -> (RowHead, Cells<'a>) {
        decode_head(self.bytes).unwrap_or((RowHead { marker: None, tombstone: None }, Cells::END))
    }

    /// The row in its short form, when it is plain: it has no tombstone, one timestamp, and values
    /// of columns alone, all without an end. Known without a look at the cells.
    #[inline]
    pub fn plain(&self) -> Option<PlainRow<'a>> {
        let (head, rest) = self.bytes.split_first_chunk::<HEAD_LEN>()?;
        let [timestamp @ .., flags] = *head;
        let has_marker = flags == FLAG_MARKER;
        if flags & !FLAG_MARKER != 0 {
            return None;
        }
        // The marker's distance from the base, which is zero, takes a byte.
        let rest = if has_marker { rest.get(1..)? } else { rest };
        let cells = PlainCells { cursor: Cursor::new(rest) };
        Some(PlainRow { timestamp: i64::from_le_bytes(timestamp), has_marker, cells })
    }

    /// The marker and the cells of a row that would be plain if its marker had the same timestamp and
    /// no end: an insert that updates came after.
    #[inline]
    pub(crate) fn plain_behind_marker(&self) -> Option<(Option<Marker>, PlainCells<'a>)> {
        if self.has_flag(FLAG_TOMBSTONE | FLAG_EXPIRY | FLAG_OTHER_KINDS) {
            return None;
        }
        let (head, cells) = self.parts();
        Some((head.marker, PlainCells { cursor: cells.cursor }))
    }

    /// The cells in order.
    #[inline]
    pub fn cells(&self) -> Cells<'a> {
        self.parts().1
    }

    /// The row marker, live or expired.
    pub fn marker(&self) -> Option<Marker> {
        self.parts().0.marker
    }

    /// The row tombstone.
    pub fn tombstone(&self) -> Option<Deletion> {
        self.parts().0.tombstone
    }

    /// The cells of one column.
    pub fn column(&self, column: ColumnId) -> impl Iterator<Item = Cell<'a>> + use<'a> {
        self.cells().skip_while(move |c| c.column < column).take_while(move |c| c.column == column)
    }

    /// Whether the row exists at `now`: a live marker or any live cell.
    pub fn is_live(&self, now: EpochSeconds) -> bool {
        let (head, mut cells) = self.parts();
        head.marker.is_some_and(|m| m.is_live(now)) || cells.any(|c| c.live_value(now).is_some())
    }

    /// Whether nothing at all is in it, tombstones included.
    pub fn is_empty(&self) -> bool {
        match self.bytes.get(8) {
            None => true,
            Some(0) => self.bytes.len() == HEAD_LEN,
            Some(flags) if flags & (FLAG_MARKER | FLAG_TOMBSTONE) != 0 => false,
            Some(_) => self.cells().is_empty(),
        }
    }

    /// The one timestamp of everything in it, known without a look at the cells. `None` when there
    /// are several, a collection tombstone counting as one more. Says nothing of an empty row.
    #[inline]
    pub fn only_timestamp(&self) -> Option<TimestampMicros> {
        if self.has_flag(FLAG_MORE_TIMESTAMPS) { None } else { base_timestamp(self.bytes) }
    }

    /// The expiry that its cells may share.
    pub fn shared_expiry(&self) -> Option<Expiry> {
        self.cells().expiry
    }

    #[inline]
    fn has_flag(&self, flag: u8) -> bool {
        self.bytes.get(8).is_some_and(|flags| flags & flag != 0)
    }

    /// The newest timestamp in it, tombstones included; a collection tombstone counts as one more,
    /// since its overwrite happened just above it.
    pub fn newest_timestamp(&self) -> Option<TimestampMicros> {
        if let Some(timestamp) = self.only_timestamp() {
            return (!self.is_empty()).then_some(timestamp);
        }
        let (head, cells) = self.parts();
        let head = head.marker.map(|m| m.timestamp).max(head.tombstone.map(|t| t.timestamp));
        let cells = cells.map(|c| match c.content {
            CellContent::CollectionTombstone { .. } => c.timestamp.saturating_add(1),
            _ => c.timestamp,
        });
        head.max(cells.max())
    }
}

/// What a row has besides cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowHead {
    /// The row marker.
    pub marker: Option<Marker>,
    /// The row tombstone.
    pub tombstone: Option<Deletion>,
}

/// A row of which there is little to say; see [`RowView::plain`].
#[derive(Clone, Debug)]
pub struct PlainRow<'a> {
    /// The one timestamp of marker and cells.
    pub timestamp: TimestampMicros,
    /// Whether it has a marker, which is then without an end.
    pub has_marker: bool,
    /// Its columns in order.
    pub cells: PlainCells<'a>,
}

/// Iterates over the columns of a plain row and their values, in order.
#[derive(Clone, Debug)]
pub struct PlainCells<'a> {
    cursor: Cursor<'a>,
}

impl<'a> PlainCells<'a> {
    /// Their bytes as they stand in the row.
    #[inline]
    pub(crate) fn as_bytes(&self) -> &'a [u8] {
        self.cursor.rest
    }

    #[inline]
    fn decode(&mut self) -> Result<(ColumnId, &'a [u8]), DecodeError> {
        let column = self.cursor.varint()?;
        // The kind, which is 0.
        self.cursor.u8()?;
        Ok((column as ColumnId, self.cursor.slice()?))
    }
}

impl<'a> Iterator for PlainCells<'a> {
    type Item = (ColumnId, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<(ColumnId, &'a [u8])> {
        if self.cursor.is_empty() {
            return None;
        }
        let cell = self.decode();
        debug_assert!(cell.is_ok(), "a row that was checked does not decode: {cell:?}");
        cell.ok()
    }
}

/// Iterates over the cells of a row, in order.
#[derive(Clone, Debug)]
pub struct Cells<'a> {
    cursor: Cursor<'a>,
    base: TimestampMicros,
    /// The row's, which cells may share.
    expiry: Option<Expiry>,
}

impl<'a> Cells<'a> {
    const END: Cells<'static> = Cells { cursor: Cursor { rest: &[] }, base: 0, expiry: None };

    /// Whether there are no more.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.cursor.is_empty()
    }

    /// The kind of the cell that comes next.
    fn next_kind(&self) -> Result<u8, DecodeError> {
        let mut cursor = self.cursor;
        cursor.varint()?;
        cursor.u8()
    }

    /// Most cells are values of a column, with the row's timestamp and without an end.
    #[inline]
    fn decode(&mut self) -> Result<Cell<'a>, DecodeError> {
        let cursor = &mut self.cursor;
        let column = ColumnId::try_from(cursor.varint()?)
            .map_err(|_| DecodeError("column id exceeds 32 bits"))?;
        let kind = cursor.u8()?;
        if kind != 0 {
            return self.decode_kind(column, kind);
        }
        let content = CellContent::Live { value: cursor.slice()?, expiry: None };
        Ok(Cell { column, path: None, timestamp: self.base, content })
    }

    /// The rest of a cell that is anything else.
    fn decode_kind(&mut self, column: ColumnId, kind: u8) -> Result<Cell<'a>, DecodeError> {
        let cursor = &mut self.cursor;
        if kind & !KINDS_KNOWN != 0 {
            return Err(DecodeError("unknown cell kind"));
        }
        let timestamp = if kind & KIND_OWN_TIMESTAMP == 0 {
            self.base
        } else {
            self.base.wrapping_add(cursor.signed()?)
        };
        let expiry = match kind & (KIND_EXPIRING | KIND_ROW_EXPIRY) {
            0 => None,
            KIND_EXPIRING => Some(decode_expiry(cursor)?),
            KIND_ROW_EXPIRY if self.expiry.is_some() => self.expiry,
            _ => return Err(DecodeError("contradicting cell kind")),
        };
        let dead = kind & (KIND_TOMBSTONE | KIND_COLLECTION_TOMBSTONE);
        let deleted_at = if dead == 0 { 0 } else { cursor.signed()? };
        let path = if kind & KIND_PATH == 0 { None } else { Some(cursor.slice()?) };
        let content = match (dead, expiry) {
            (0, expiry) => CellContent::Live { value: cursor.slice()?, expiry },
            (KIND_TOMBSTONE, None) => CellContent::Tombstone { deleted_at },
            (KIND_COLLECTION_TOMBSTONE, None) if path.is_none() => {
                CellContent::CollectionTombstone { deleted_at }
            }
            _ => return Err(DecodeError("contradicting cell kind")),
        };
        Ok(Cell { column, path, timestamp, content })
    }
}

impl<'a> Iterator for Cells<'a> {
    type Item = Cell<'a>;

    #[inline]
    fn next(&mut self) -> Option<Cell<'a>> {
        if self.cursor.is_empty() {
            return None;
        }
        let cell = self.decode();
        debug_assert!(cell.is_ok(), "a row that was checked does not decode: {cell:?}");
        cell.ok()
    }
}

#[inline]
fn decode_head(bytes: &[u8]) -> Result<(RowHead, Cells<'_>), DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let base = i64::from_le_bytes(cursor.array()?);
    let flags = cursor.u8()?;
    if flags & !FLAGS_KNOWN != 0 {
        return Err(DecodeError("unknown row flags"));
    }
    let marker = if flags & FLAG_MARKER == 0 {
        None
    } else {
        let timestamp = base.wrapping_add(cursor.signed()?);
        let expires = flags & FLAG_MARKER_EXPIRES != 0;
        let expiry = if expires { Some(decode_expiry(&mut cursor)?) } else { None };
        Some(Marker { timestamp, expiry })
    };
    let tombstone = if flags & FLAG_TOMBSTONE == 0 {
        None
    } else {
        let timestamp = base.wrapping_add(cursor.signed()?);
        Some(Deletion { timestamp, deleted_at: cursor.signed()? })
    };
    let expiry = if flags & FLAG_EXPIRY == 0 { None } else { Some(decode_expiry(&mut cursor)?) };
    Ok((RowHead { marker, tombstone }, Cells { cursor, base, expiry }))
}

fn decode_expiry(cursor: &mut Cursor) -> Result<Expiry, DecodeError> {
    let ttl_seconds =
        u32::try_from(cursor.varint()?).map_err(|_| DecodeError("ttl exceeds 32 bits"))?;
    Ok(Expiry { ttl_seconds, expires_at: cursor.signed()? })
}

/// Writes a row's bytes at the end of a buffer: head first, then cells in order.
#[derive(Debug)]
pub struct RowWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    base: TimestampMicros,
    /// The row's, which cells may share.
    expiry: Option<Expiry>,
    #[cfg(debug_assertions)]
    last: Option<(ColumnId, Option<Vec<u8>>)>,
}

impl<'a> RowWriter<'a> {
    /// Begins a row whose most common timestamp is `base` ([`UNSTAMPED`] when the leader is to
    /// assign it; then every timestamp given must be `UNSTAMPED` plus a small offset).
    pub fn new(out: &'a mut Vec<u8>, base: TimestampMicros, head: RowHead) -> Self {
        Self::with_expiry(out, base, head, None)
    }

    /// As [`RowWriter::new`]; cells that expire like this are shorter.
    pub fn with_expiry(
        out: &'a mut Vec<u8>,
        base: TimestampMicros,
        head: RowHead,
        expiry: Option<Expiry>,
    ) -> Self {
        let start = out.len();
        out.extend_from_slice(&base.to_le_bytes());
        out.push(0);
        let mut flags = 0;
        if let Some(marker) = head.marker {
            flags |= FLAG_MARKER | flag_of(marker.timestamp, base);
            put_signed(out, marker.timestamp.wrapping_sub(base));
            if let Some(expiry) = marker.expiry {
                flags |= FLAG_MARKER_EXPIRES;
                put_expiry(out, expiry);
            }
        }
        if let Some(tombstone) = head.tombstone {
            flags |= FLAG_TOMBSTONE | flag_of(tombstone.timestamp, base);
            put_signed(out, tombstone.timestamp.wrapping_sub(base));
            put_signed(out, tombstone.deleted_at);
        }
        if let Some(expiry) = expiry {
            flags |= FLAG_EXPIRY;
            put_expiry(out, expiry);
        }
        out[start + 8] = flags;
        RowWriter {
            out,
            start,
            base,
            expiry,
            #[cfg(debug_assertions)]
            last: None,
        }
    }

    /// Appends a cell; cells come in ascending [`Cell::order`].
    #[inline]
    pub fn cell(&mut self, cell: &Cell) {
        #[cfg(debug_assertions)]
        {
            let order = (cell.column, cell.path.map(<[u8]>::to_vec));
            assert!(
                self.last.as_ref().is_none_or(|last| *last < order),
                "cells are written out of order: {order:?} after {:?}",
                self.last
            );
            self.last = Some(order);
        }
        if let CellContent::Live { value, expiry: None } = cell.content
            && let (Ok(column @ ..0x80), Ok(length @ ..0x80)) =
                (u8::try_from(cell.column), u8::try_from(value.len()))
            && cell.path.is_none()
            && cell.timestamp == self.base
        {
            // The usual cell: its varints are of one byte.
            self.out.extend_from_slice(&[column, 0, length]);
            self.out.extend_from_slice(value);
            return;
        }
        self.any_cell(cell);
    }

    fn any_cell(&mut self, cell: &Cell) {
        put_varint(self.out, u64::from(cell.column));
        let delta = cell.timestamp.wrapping_sub(self.base);
        let mut kind = if delta == 0 { 0 } else { KIND_OWN_TIMESTAMP };
        kind |= match cell.content {
            CellContent::Live { expiry: None, .. } => 0,
            CellContent::Live { expiry, .. } if expiry == self.expiry => KIND_ROW_EXPIRY,
            CellContent::Live { .. } => KIND_EXPIRING,
            CellContent::Tombstone { .. } => KIND_TOMBSTONE,
            CellContent::CollectionTombstone { .. } => KIND_COLLECTION_TOMBSTONE,
        };
        if cell.path.is_some() {
            kind |= KIND_PATH;
        }
        self.out.push(kind);
        if delta != 0 {
            put_signed(self.out, delta);
        }
        if delta != 0 || cell.is_collection_tombstone() {
            self.out[self.start + 8] |= FLAG_MORE_TIMESTAMPS;
        }
        if kind != 0 {
            self.out[self.start + 8] |= FLAG_OTHER_KINDS;
        }
        match cell.content {
            CellContent::Live { expiry: Some(expiry), .. } if kind & KIND_EXPIRING != 0 => {
                put_expiry(self.out, expiry);
            }
            CellContent::Live { .. } => {}
            CellContent::Tombstone { deleted_at }
            | CellContent::CollectionTombstone { deleted_at } => put_signed(self.out, deleted_at),
        }
        if let Some(path) = cell.path {
            put_slice(self.out, path);
        }
        if let CellContent::Live { value, .. } = cell.content {
            put_slice(self.out, value);
        }
    }

    /// The bytes written so far for this row.
    pub fn as_bytes(&self) -> &[u8] {
        &self.out[self.start..]
    }
}

#[inline]
fn flag_of(timestamp: TimestampMicros, base: TimestampMicros) -> u8 {
    if timestamp == base { 0 } else { FLAG_MORE_TIMESTAMPS }
}

#[inline]
fn put_expiry(out: &mut Vec<u8>, expiry: Expiry) {
    put_varint(out, u64::from(expiry.ttl_seconds));
    put_signed(out, expiry.expires_at);
}

/// The base timestamp of a row's bytes.
#[inline]
pub(crate) fn base_timestamp(row: &[u8]) -> Option<TimestampMicros> {
    row.first_chunk().map(|head| i64::from_le_bytes(*head))
}

/// Notes in a row's bytes that it has cells of other kinds than 0.
#[inline]
pub(crate) fn set_has_other_kinds(row: &mut [u8]) {
    if let Some(flags) = row.get_mut(8) {
        *flags |= FLAG_OTHER_KINDS;
    }
}

/// Replaces the base timestamp, and with it every timestamp of the row by the same distance.
#[inline]
pub(crate) fn set_base_timestamp(row: &mut [u8], base: TimestampMicros) {
    if let Some(head) = row.first_chunk_mut() {
        *head = base.to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn sample() -> Vec<u8> {
        let mut out = Vec::new();
        let expiry = Some(Expiry { ttl_seconds: 60, expires_at: 1_000 });
        let head = RowHead {
            marker: Some(Marker { timestamp: 100, expiry }),
            tombstone: Some(Deletion { timestamp: 90, deleted_at: 7 }),
        };
        let mut row = RowWriter::with_expiry(&mut out, 100, head, expiry);
        row.cell(&Cell {
            column: 3,
            path: None,
            timestamp: 100,
            content: CellContent::Live { value: b"abc", expiry: None },
        });
        row.cell(&Cell {
            column: 4,
            path: None,
            timestamp: 99,
            content: CellContent::CollectionTombstone { deleted_at: 7 },
        });
        row.cell(&Cell {
            column: 4,
            path: Some(b"k"),
            timestamp: 100,
            content: CellContent::Live { value: b"", expiry },
        });
        row.cell(&Cell {
            column: 5,
            path: None,
            timestamp: 101,
            content: CellContent::Tombstone { deleted_at: 8 },
        });
        out
    }

    #[test]
    fn a_row_reads_back_as_it_was_written() {
        let bytes = sample();
        let row = RowView::check(&bytes).unwrap();
        assert_eq!(row.marker().unwrap().timestamp, 100);
        assert_eq!(row.tombstone().unwrap(), Deletion { timestamp: 90, deleted_at: 7 });
        let cells: Vec<_> = row.cells().collect();
        assert_eq!(cells.len(), 4);
        assert_eq!(cells[0].live_value(0), Some(&b"abc"[..]));
        assert_eq!(cells[2].path, Some(&b"k"[..]));
        assert_eq!(cells[2].live_value(999), Some(&b""[..]));
        assert_eq!(cells[2].live_value(1_000), None);
        assert_eq!(cells[3].timestamp, 101);
        assert_eq!(row.newest_timestamp(), Some(101));
        assert!(row.is_live(5_000));
        assert_eq!(row.column(4).count(), 2);
    }

    #[test]
    fn a_row_of_one_timestamp_and_expiry_carries_them_once() {
        let expiry = Some(Expiry { ttl_seconds: 86_400, expires_at: 1_700_000_000 });
        let no_head = RowHead { marker: None, tombstone: None };
        let write = |row_expiry, second_timestamp| {
            let mut out = Vec::new();
            let mut row = RowWriter::with_expiry(&mut out, 7, no_head, row_expiry);
            for (column, timestamp) in [(1, 7), (2, second_timestamp)] {
                let content = CellContent::Live { value: b"v", expiry };
                row.cell(&Cell { column, path: None, timestamp, content });
            }
            RowView::check(&out).unwrap();
            out
        };
        let (shared, own) = (write(expiry, 7), write(None, 7));
        assert_eq!(own.len() - shared.len(), 8);
        let cells = |row| RowView::new(row).cells().collect::<Vec<_>>();
        assert_eq!(cells(&shared), cells(&own));
        assert_eq!(RowView::new(&shared).shared_expiry(), expiry);
        assert_eq!(RowView::new(&shared).only_timestamp(), Some(7));
        assert_eq!(RowView::new(&write(expiry, 8)).only_timestamp(), None);
        let mut contradicting = shared;
        contradicting[8] ^= FLAG_MORE_TIMESTAMPS;
        RowView::check(&contradicting).unwrap_err();
        let mut empty = Vec::new();
        RowWriter::with_expiry(&mut empty, 7, no_head, expiry);
        assert!(RowView::check(&empty).unwrap().is_empty());
    }

    #[test]
    fn a_row_is_plain_when_it_has_values_of_one_timestamp_and_perhaps_a_marker() {
        let head = |marker_timestamp: Option<i64>| RowHead {
            marker: marker_timestamp.map(|timestamp| Marker { timestamp, expiry: None }),
            tombstone: None,
        };
        let write = |head, expiry, cells: &[(i64, CellContent)]| {
            let mut out = Vec::new();
            let mut row = RowWriter::with_expiry(&mut out, 7, head, expiry);
            for (column, (timestamp, content)) in (1..).step_by(100).zip(cells) {
                let (timestamp, content) = (*timestamp, *content);
                row.cell(&Cell { column, path: None, timestamp, content });
            }
            RowView::check(&out).unwrap();
            out
        };
        let long = [3; 300];
        let live = |value| CellContent::Live { value, expiry: None };
        let values = [(7, live(b"a")), (7, live(&long)), (7, live(b""))];
        for marker in [None, Some(7)] {
            let bytes = write(head(marker), None, &values);
            let plain = RowView::new(&bytes).plain().unwrap();
            assert_eq!((plain.timestamp, plain.has_marker), (7, marker.is_some()));
            let cells: Vec<_> = plain.cells.collect();
            assert_eq!(cells, [(1, &b"a"[..]), (101, &long), (201, b"")]);
            assert!(RowView::new(&write(head(marker), None, &[])).plain().is_some());
        }
        let expiry = Some(Expiry { ttl_seconds: 60, expires_at: 1_000 });
        let expiring = CellContent::Live { value: b"a", expiry };
        let mut tombstone = head(None);
        tombstone.tombstone = Some(Deletion { timestamp: 7, deleted_at: 1 });
        let mut expiring_marker = head(Some(7));
        expiring_marker.marker = Some(Marker { timestamp: 7, expiry });
        for other in [
            write(head(Some(8)), None, &values),
            write(tombstone, None, &values),
            write(expiring_marker, None, &values),
            write(head(None), expiry, &values),
            write(head(None), None, &[values[0], (8, live(b"b"))]),
            write(head(None), None, &[values[0], (7, expiring)]),
            write(head(None), None, &[(7, CellContent::Tombstone { deleted_at: 1 })]),
        ] {
            assert!(RowView::new(&other).plain().is_none(), "{other:?}");
        }
        for (mut contradicting, flag) in [
            (write(head(None), None, &values), 1),
            (write(head(None), expiry, &[(7, expiring)]), 0),
        ] {
            assert_eq!(contradicting[8] & FLAG_OTHER_KINDS, (1 - flag) * FLAG_OTHER_KINDS);
            contradicting[8] ^= FLAG_OTHER_KINDS;
            RowView::check(&contradicting).unwrap_err();
        }
    }

    #[test]
    fn every_truncation_and_bit_flip_is_an_error_or_a_well_formed_row() {
        let bytes = sample();
        for length in 0..bytes.len() {
            if let Ok(row) = RowView::check(&bytes[..length]) {
                assert!(row.cells().count() < 4);
            }
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(row) = RowView::check(&flipped) {
                row.cells().count();
            }
        }
    }
}
