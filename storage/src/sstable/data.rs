//! Data blocks: partitions and rows in order, found by binary search.
//!
//! ```text
//! data      := entry* row_offset:u32le* (mark_offset:u32le first_row:u32le)*
//!              row_count:u32le mark_count:u32le
//! mark      := token:i64le key:slice flags:u8 [head]        before the partition's first row here
//! flags     := 1 a head follows | 2 the partition began in an earlier block
//!            | 4 its head is in an earlier block
//! head      := parts:u8 [timestamp:i64le deleted_at:signed] [static row:slice]
//!              [count:varint (start:slice end:slice timestamp:i64le deleted_at:signed)*]
//! parts     := 1 partition tombstone | 2 static row | 4 range tombstones
//! row       := clustering:slice row:slice
//! ```
//!
//! Every block stands alone: it begins with a mark. Rows of a partition have the clustering order,
//! partitions the order of (token, key).

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

use model::codec::{Cursor, DecodeError, put_signed, put_slice, put_varint};
use model::mutation::MutationItem;
use model::partition::Partition;
use model::row::{Deletion, RowView};
use std::cmp::Ordering;
use std::ops::Range;

const FLAG_HEAD: u8 = 1;
const FLAG_CONTINUED: u8 = 2;
const FLAG_HEAD_EARLIER: u8 = 4;
const PART_DELETION: u8 = 1;
const PART_STATIC: u8 = 2;
const PART_RANGES: u8 = 4;

/// Builds one data block.
#[derive(Debug, Default)]
pub(crate) struct DataBuilder {
    bytes: Vec<u8>,
    row_offsets: Vec<u32>,
    marks: Vec<(u32, u32)>,
}

impl DataBuilder {
    /// Content so far, without the trailer's counts.
    pub(crate) fn len_bytes(&self) -> usize {
        self.bytes.len() + self.row_offsets.len() * 4 + self.marks.len() * 8
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Begins a partition; `head` is its content beside rows.
    pub(crate) fn begin(&mut self, token: i64, key: &[u8], head: &Partition) {
        let has_head = has_head(head);
        self.mark(token, key, if has_head { FLAG_HEAD } else { 0 });
        if has_head {
            put_head(&mut self.bytes, head);
        }
    }

    /// Goes on with a partition of the block before.
    pub(crate) fn go_on(&mut self, token: i64, key: &[u8], has_head: bool) {
        self.mark(token, key, FLAG_CONTINUED | if has_head { FLAG_HEAD_EARLIER } else { 0 });
    }

    fn mark(&mut self, token: i64, key: &[u8], flags: u8) {
        self.marks.push((length_u32(self.bytes.len()), length_u32(self.row_offsets.len())));
        self.bytes.extend_from_slice(&token.to_le_bytes());
        put_slice(&mut self.bytes, key);
        self.bytes.push(flags);
    }

    pub(crate) fn row(&mut self, clustering: &[u8], row: RowView) {
        self.row_offsets.push(length_u32(self.bytes.len()));
        put_slice(&mut self.bytes, clustering);
        put_slice(&mut self.bytes, row.as_bytes());
    }

    /// The block's content; the builder is empty afterwards.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        let (row_count, mark_count) = (self.row_offsets.len(), self.marks.len());
        for offset in self.row_offsets.drain(..) {
            bytes.extend_from_slice(&offset.to_le_bytes());
        }
        for (offset, first_row) in self.marks.drain(..) {
            bytes.extend_from_slice(&offset.to_le_bytes());
            bytes.extend_from_slice(&first_row.to_le_bytes());
        }
        bytes.extend_from_slice(&length_u32(row_count).to_le_bytes());
        bytes.extend_from_slice(&length_u32(mark_count).to_le_bytes());
        bytes
    }
}

fn length_u32(length: usize) -> u32 {
    u32::try_from(length).expect("a block is below 4 GiB")
}

/// Whether a partition has anything beside rows.
pub(crate) fn has_head(head: &Partition) -> bool {
    head.deletion.is_some() || !head.static_row.is_empty() || !head.range_tombstones.is_empty()
}

fn put_deletion(out: &mut Vec<u8>, deletion: Deletion) {
    out.extend_from_slice(&deletion.timestamp.to_le_bytes());
    put_signed(out, deletion.deleted_at);
}

fn put_head(out: &mut Vec<u8>, head: &Partition) {
    let mut parts = 0;
    parts |= if head.deletion.is_some() { PART_DELETION } else { 0 };
    parts |= if head.static_row.is_empty() { 0 } else { PART_STATIC };
    parts |= if head.range_tombstones.is_empty() { 0 } else { PART_RANGES };
    out.push(parts);
    if let Some(deletion) = head.deletion {
        put_deletion(out, deletion);
    }
    if !head.static_row.is_empty() {
        put_slice(out, &head.static_row);
    }
    if !head.range_tombstones.is_empty() {
        put_varint(out, head.range_tombstones.iter().len() as u64);
        for range in &head.range_tombstones {
            put_slice(out, &range.start);
            put_slice(out, &range.end);
            put_deletion(out, range.deletion);
        }
    }
}

fn read_deletion(cursor: &mut Cursor) -> Result<Deletion, DecodeError> {
    Ok(Deletion { timestamp: i64::from_le_bytes(cursor.array()?), deleted_at: cursor.signed()? })
}

fn read_head(cursor: &mut Cursor, head: &mut Partition) -> Result<(), DecodeError> {
    let parts = cursor.u8()?;
    if parts & PART_DELETION != 0 {
        head.apply_item(MutationItem::PartitionTombstone(read_deletion(cursor)?));
    }
    if parts & PART_STATIC != 0 {
        head.apply_item(MutationItem::StaticRow(RowView::check(cursor.slice()?)?));
    }
    if parts & PART_RANGES != 0 {
        for _ in 0..cursor.varint()? {
            let (start, end) = (cursor.slice()?, cursor.slice()?);
            let deletion = read_deletion(cursor)?;
            head.apply_item(MutationItem::RangeTombstone { start, end, deletion });
        }
    }
    Ok(())
}

/// A data block, viewed in place. Every access is checked: the bytes may be hostile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DataBlock<'a> {
    bytes: &'a [u8],
    row_offsets: &'a [[u8; 4]],
    marks: &'a [[[u8; 4]; 2]],
}

/// A partition's part of a block.
#[derive(Clone, Debug)]
pub(crate) struct Mark<'a> {
    pub(crate) token: i64,
    pub(crate) key: &'a [u8],
    flags: u8,
    head: Cursor<'a>,
    /// Its rows in this block.
    pub(crate) rows: Range<usize>,
}

impl Mark<'_> {
    /// Whether it began in an earlier block.
    pub(crate) fn is_continued(&self) -> bool {
        self.flags & FLAG_CONTINUED != 0
    }

    /// Whether its head is in an earlier block.
    pub(crate) fn has_head_earlier(&self) -> bool {
        self.flags & FLAG_HEAD_EARLIER != 0
    }

    /// Merges its head, if it is here, into `head`.
    pub(crate) fn read_head(&self, head: &mut Partition) -> Result<(), DecodeError> {
        if self.flags & FLAG_HEAD != 0 {
            read_head(&mut self.head.clone(), head)?;
        }
        Ok(())
    }
}

const CUT: DecodeError = DecodeError("a data block's trailer is cut short");

impl<'a> DataBlock<'a> {
    pub(crate) fn new(content: &'a [u8]) -> Result<Self, DecodeError> {
        let (rest, mark_count) = content.split_last_chunk::<4>().ok_or(CUT)?;
        let (rest, row_count) = rest.split_last_chunk::<4>().ok_or(CUT)?;
        let mark_bytes = (u32::from_le_bytes(*mark_count) as usize).checked_mul(8).ok_or(CUT)?;
        let row_bytes = (u32::from_le_bytes(*row_count) as usize).checked_mul(4).ok_or(CUT)?;
        let marks_at = rest.len().checked_sub(mark_bytes).ok_or(CUT)?;
        let (rest, marks) = rest.split_at_checked(marks_at).ok_or(CUT)?;
        let rows_at = rest.len().checked_sub(row_bytes).ok_or(CUT)?;
        let (bytes, rows) = rest.split_at_checked(rows_at).ok_or(CUT)?;
        Ok(DataBlock {
            bytes,
            row_offsets: rows.as_chunks().0,
            marks: marks.as_chunks().0.as_chunks().0,
        })
    }

    pub(crate) fn mark_count(&self) -> usize {
        self.marks.len()
    }

    pub(crate) fn mark(&self, index: usize) -> Result<Mark<'a>, DecodeError> {
        let missing = DecodeError("a data block has no such partition");
        let (offset, first_row) = split(*self.marks.get(index).ok_or(missing)?);
        let end = self.marks.get(index + 1).map_or(self.row_offsets.len(), |next| split(*next).1);
        if first_row > end || end > self.row_offsets.len() {
            return Err(DecodeError("a partition's rows are out of order"));
        }
        let mut cursor = Cursor::new(self.bytes.get(offset..).ok_or(CUT)?);
        let token = i64::from_le_bytes(cursor.array()?);
        let key = cursor.slice()?;
        let flags = cursor.u8()?;
        Ok(Mark { token, key, flags, head: cursor, rows: first_row..end })
    }

    /// The partition of a key, or the index of the first one behind it.
    pub(crate) fn find_mark(
        &self,
        token: i64,
        key: &[u8],
    ) -> Result<Result<usize, usize>, DecodeError> {
        search(0..self.marks.len(), |index| {
            let mark = self.mark(index)?;
            Ok(mark.token.cmp(&token).then_with(|| mark.key.cmp(key)))
        })
    }

    /// Clustering key and row; the row's bytes are not checked yet.
    pub(crate) fn row(&self, index: usize) -> Result<(&'a [u8], &'a [u8]), DecodeError> {
        let missing = DecodeError("a data block has no such row");
        let offset = u32::from_le_bytes(*self.row_offsets.get(index).ok_or(missing)?) as usize;
        let mut cursor = Cursor::new(self.bytes.get(offset..).ok_or(CUT)?);
        Ok((cursor.slice()?, cursor.slice()?))
    }

    /// The row of a clustering key among `rows`, or the index of the first one behind it.
    pub(crate) fn find_row(
        &self,
        rows: Range<usize>,
        clustering: &[u8],
    ) -> Result<Result<usize, usize>, DecodeError> {
        search(rows, |index| Ok(self.row(index)?.0.cmp(clustering)))
    }
}

fn split([offset, first_row]: [[u8; 4]; 2]) -> (usize, usize) {
    (u32::from_le_bytes(offset) as usize, u32::from_le_bytes(first_row) as usize)
}

/// Binary search with comparisons that may fail.
pub(super) fn search(
    range: Range<usize>,
    mut compare: impl FnMut(usize) -> Result<Ordering, DecodeError>,
) -> Result<Result<usize, usize>, DecodeError> {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low + (high - low) / 2;
        match compare(middle)? {
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
            Ordering::Equal => return Ok(Ok(middle)),
        }
    }
    Ok(Err(low))
}
