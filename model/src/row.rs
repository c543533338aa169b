//! A row's one byte form, and how to read and write it.
//!
//! The same bytes stand in the commit log, the memtable, the sstable and in messages between
//! nodes. A row without its clustering key is:
//!
//! ```text
//! row       := base:i64le flags:u8 [marker] [tombstone] cell*
//! flags     := 0x01 marker | 0x02 marker expires | 0x04 row tombstone
//! marker    := delta [ttl:varint expires_at:signed]
//! tombstone := delta deleted_at:signed
//! cell      := column:varint kind:u8 [delta] [ttl:varint expires_at:signed] [deleted_at:signed]
//!              [path:slice] [value:slice]
//! kind      := 0x01 tombstone | 0x02 expiring | 0x04 own timestamp | 0x08 path
//!              | 0x10 collection tombstone
//! ```
//!
//! A timestamp is `base + delta` (delta: signed varint, left out where it is zero), so that a
//! typical row carries its timestamp once, and stamping a server-assigned timestamp rewrites eight
//! bytes. Invariants: cells ascend by (column, collection tombstone first, path); a tombstone of
//! either kind has no value; nothing follows the last cell.
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
const FLAGS_KNOWN: u8 = 0x07;

const KIND_TOMBSTONE: u8 = 0x01;
const KIND_EXPIRING: u8 = 0x02;
const KIND_OWN_TIMESTAMP: u8 = 0x04;
const KIND_PATH: u8 = 0x08;
const KIND_COLLECTION_TOMBSTONE: u8 = 0x10;
const KINDS_KNOWN: u8 = 0x1f;

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
        let (_, mut cells) = decode_head(bytes)?;
        let mut last: Option<(ColumnId, Option<&[u8]>)> = None;
        while !cells.cursor.is_empty() {
            let cell = cells.decode()?;
            if last.is_some_and(|last| last >= cell.order()) {
                return Err(DecodeError("cells are out of order"));
            }
            last = Some(cell.order());
        }
        Ok(RowView { bytes })
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
        self.bytes.len() <= HEAD_LEN && self.bytes.get(8).is_none_or(|flags| *flags == 0)
    }

    /// The newest timestamp in it, tombstones included; a collection tombstone counts as one more,
    /// since its overwrite happened just above it.
    pub fn newest_timestamp(&self) -> Option<TimestampMicros> {
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

/// Iterates over the cells of a row, in order.
#[derive(Clone, Debug)]
pub struct Cells<'a> {
    cursor: Cursor<'a>,
    base: TimestampMicros,
}

impl<'a> Cells<'a> {
    const END: Cells<'static> = Cells { cursor: Cursor { rest: &[] }, base: 0 };

    fn decode(&mut self) -> Result<Cell<'a>, DecodeError> {
        let cursor = &mut self.cursor;
        let column = ColumnId::try_from(cursor.varint()?)
            .map_err(|_| DecodeError("column id exceeds 32 bits"))?;
        let kind = cursor.u8()?;
        if kind & !KINDS_KNOWN != 0 {
            return Err(DecodeError("unknown cell kind"));
        }
        let timestamp = if kind & KIND_OWN_TIMESTAMP == 0 {
            self.base
        } else {
            self.base.wrapping_add(cursor.signed()?)
        };
        let expiry = if kind & KIND_EXPIRING == 0 { None } else { Some(decode_expiry(cursor)?) };
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
    Ok((RowHead { marker, tombstone }, Cells { cursor, base }))
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
    #[cfg(debug_assertions)]
    last: Option<(ColumnId, Option<Vec<u8>>)>,
}

impl<'a> RowWriter<'a> {
    /// Begins a row whose most common timestamp is `base` ([`UNSTAMPED`] when the leader is to
    /// assign it; then every timestamp given must be `UNSTAMPED` plus a small offset).
    pub fn new(out: &'a mut Vec<u8>, base: TimestampMicros, head: RowHead) -> Self {
        let start = out.len();
        out.extend_from_slice(&base.to_le_bytes());
        out.push(0);
        let mut flags = 0;
        if let Some(marker) = head.marker {
            flags |= FLAG_MARKER;
            put_signed(out, marker.timestamp.wrapping_sub(base));
            if let Some(expiry) = marker.expiry {
                flags |= FLAG_MARKER_EXPIRES;
                put_expiry(out, expiry);
            }
        }
        if let Some(tombstone) = head.tombstone {
            flags |= FLAG_TOMBSTONE;
            put_signed(out, tombstone.timestamp.wrapping_sub(base));
            put_signed(out, tombstone.deleted_at);
        }
        out[start + 8] = flags;
        RowWriter {
            out,
            start,
            base,
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
        put_varint(self.out, u64::from(cell.column));
        let delta = cell.timestamp.wrapping_sub(self.base);
        let mut kind = if delta == 0 { 0 } else { KIND_OWN_TIMESTAMP };
        kind |= match cell.content {
            CellContent::Live { expiry: None, .. } => 0,
            CellContent::Live { expiry: Some(_), .. } => KIND_EXPIRING,
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
        match cell.content {
            CellContent::Live { expiry: Some(expiry), .. } => put_expiry(self.out, expiry),
            CellContent::Live { expiry: None, .. } => {}
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
fn put_expiry(out: &mut Vec<u8>, expiry: Expiry) {
    put_varint(out, u64::from(expiry.ttl_seconds));
    put_signed(out, expiry.expires_at);
}

/// The base timestamp of a row's bytes.
#[inline]
pub(crate) fn base_timestamp(row: &[u8]) -> Option<TimestampMicros> {
    row.first_chunk().map(|head| i64::from_le_bytes(*head))
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
        let mut row = RowWriter::new(&mut out, 100, head);
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
