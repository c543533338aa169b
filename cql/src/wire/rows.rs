//! RESULT with rows, written cell by cell where it is sent from.
//!
//! The reader of the table appends values straight to the output buffer ([`write_cell`],
//! [`OpenCell`]); the number of rows is put in at the end, and so is the paging state, which is
//! known only when the page is full. Putting that in moves the page's bytes once; the last page,
//! and so every short result, moves nothing.

use super::encode::{patch_int, put_bytes, put_flags, put_int, put_short_bytes};
use super::frame::Opcode;
use super::metadata::{ResultMetadata, metadata_flags};
use super::response::{OpenFrame, ResponseHead, ResponseTooLarge, result_kind};

/// How the columns of a result are described.
#[derive(Clone, Copy, Debug)]
pub struct RowsHead<'a> {
    /// The columns.
    pub metadata: &'a ResultMetadata,
    /// The client knows the columns ([`super::QueryParameters::skip_metadata`]).
    pub skip_metadata: bool,
    /// The id of `metadata`, if the client sent another one: the columns are then sent even to a
    /// client that asked to skip them.
    pub new_metadata_id: Option<&'a [u8]>,
}

/// A result whose rows are being written at the end of a buffer.
#[must_use = "the number of rows is still missing"]
#[derive(Debug)]
pub struct OpenRows {
    frame: OpenFrame,
    flags: u32,
    flags_at: usize,
    paging_state_at: usize,
    row_count_at: usize,
    row_count: u32,
}

impl OpenRows {
    /// Writes what precedes the rows.
    pub fn begin(out: &mut Vec<u8>, head: &ResponseHead<'_>, rows: &RowsHead<'_>) -> Self {
        let frame = OpenFrame::begin(out, head, Opcode::Result);
        put_int(out, result_kind::ROWS);
        let mut flags = rows.metadata.flags();
        if rows.new_metadata_id.is_some() {
            flags |= metadata_flags::METADATA_CHANGED;
        } else if rows.skip_metadata {
            flags = metadata_flags::NO_METADATA;
        }
        let flags_at = out.len();
        put_flags(out, flags);
        put_int(out, rows.metadata.column_count());
        let paging_state_at = out.len();
        if let Some(id) = rows.new_metadata_id {
            put_short_bytes(out, id);
        }
        if flags & metadata_flags::NO_METADATA == 0 {
            out.extend_from_slice(rows.metadata.encoded(head.version));
        }
        let row_count_at = out.len();
        put_int(out, 0);
        OpenRows { frame, flags, flags_at, paging_state_at, row_count_at, row_count: 0 }
    }

    /// Counts a row, after all its cells were written in the order of the columns.
    pub fn row_written(&mut self) {
        self.row_count += 1;
    }

    /// Rows counted so far.
    pub fn row_count(&self) -> u32 {
        self.row_count
    }

    /// Bytes of the frame so far, for limits of a page in bytes.
    pub fn bytes_written(&self, out: &[u8]) -> usize {
        self.frame.bytes_written(out)
    }

    /// Completes the result; a paging state says that there are more pages.
    pub fn finish(
        self,
        out: &mut Vec<u8>,
        paging_state: Option<&[u8]>,
    ) -> Result<(), ResponseTooLarge> {
        patch_int(out, self.row_count_at, self.row_count);
        if let Some(state) = paging_state {
            patch_int(out, self.flags_at, self.flags | metadata_flags::HAS_MORE_PAGES);
            let mut encoded = Vec::with_capacity(4 + state.len());
            put_bytes(&mut encoded, Some(state));
            out.splice(self.paging_state_at..self.paging_state_at, encoded);
        }
        self.frame.finish(out)
    }

    /// Takes everything back, for an error that comes up among the rows.
    pub fn discard(self, out: &mut Vec<u8>) {
        self.frame.discard(out);
    }
}

/// Appends a cell: a value in its type's serialization, or null.
#[inline]
pub fn write_cell(out: &mut Vec<u8>, value: Option<&[u8]>) {
    put_bytes(out, value);
}

/// A cell whose value is being written at the end of a buffer, for values put together in place.
#[must_use = "the cell's length is still missing"]
#[derive(Debug)]
pub struct OpenCell {
    start: usize,
}

impl OpenCell {
    /// Leaves room for the length.
    #[inline]
    pub fn begin(out: &mut Vec<u8>) -> Self {
        let start = out.len();
        put_int(out, 0);
        OpenCell { start }
    }

    /// Puts in the length of what was appended since. A value beyond 2 GiB has a length that is
    /// never sent: its frame is refused when it is finished.
    #[inline]
    pub fn finish(self, out: &mut [u8]) {
        let value_bytes = out.len() - self.start - 4;
        patch_int(out, self.start, u32::try_from(value_bytes).unwrap_or(u32::MAX));
    }
}
