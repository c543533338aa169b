//! Writes rows that hold nothing but values of one timestamp and one expiry: the rows of a log.
//!
//! The bytes are those of [`crate::row`]. What all cells have in common is written once, so a cell
//! costs its value and three bytes; and columns may come in any order, since whoever derives a row
//! from another table's has that table's order.

use crate::codec::{put_slice, put_varint};
use crate::row::{
    CellContent, Expiry, KIND_ROW_EXPIRY, RowHead, RowView, RowWriter, set_has_other_kinds,
};
use crate::{ColumnId, TimestampMicros};

/// See the module.
#[derive(Debug)]
pub struct ValueRowWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    /// Where the cells begin.
    cells_start: usize,
    kind: u8,
    /// Below it are all columns so far.
    next_column: u64,
    is_sorted: bool,
}

impl<'a> ValueRowWriter<'a> {
    /// Begins a row at the end of a buffer.
    pub fn new(
        out: &'a mut Vec<u8>,
        timestamp: TimestampMicros,
        expiry: Option<Expiry>,
    ) -> ValueRowWriter<'a> {
        let start = out.len();
        RowWriter::with_expiry(out, timestamp, RowHead { marker: None, tombstone: None }, expiry);
        let kind = if expiry.is_some() { KIND_ROW_EXPIRY } else { 0 };
        let cells_start = out.len();
        ValueRowWriter { out, start, cells_start, kind, next_column: 0, is_sorted: true }
    }

    /// Sets a column; each comes once.
    #[inline]
    pub fn value(&mut self, column: ColumnId, value: &[u8]) {
        let column = u64::from(column);
        self.is_sorted &= column >= self.next_column;
        self.next_column = self.next_column.max(column + 1);
        put_varint(self.out, column);
        self.out.push(self.kind);
        put_slice(self.out, value);
    }

    /// Ends the row.
    pub fn finish(self) {
        if self.kind != 0 && self.out.len() > self.cells_start {
            set_has_other_kinds(&mut self.out[self.start..]);
        }
        if !self.is_sorted {
            self.sort();
        }
    }

    /// Tables of which several columns were added at once have others than their logs' order.
    #[cold]
    fn sort(self) {
        let row = self.out.split_off(self.start);
        let mut cells: Vec<_> = RowView::new(&row).cells().collect();
        cells.sort_unstable_by_key(|cell| cell.column);
        self.out.extend_from_slice(&row[..self.cells_start - self.start]);
        for cell in cells {
            if let CellContent::Live { value, .. } = cell.content {
                put_varint(self.out, u64::from(cell.column));
                self.out.push(self.kind);
                put_slice(self.out, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Cell;

    #[test]
    fn columns_in_any_order_give_the_row_that_cells_in_order_give() {
        let values: [(ColumnId, &[u8]); 4] = [(3, b"c"), (200, b""), (1, b"a"), (2, b"b")];
        for expiry in [None, Some(Expiry { ttl_seconds: 60, expires_at: 1_000 })] {
            let mut expected = b"before".to_vec();
            let head = RowHead { marker: None, tombstone: None };
            let mut writer = RowWriter::with_expiry(&mut expected, 9, head, expiry);
            let mut sorted = values;
            sorted.sort_unstable();
            for (column, value) in sorted {
                let content = CellContent::Live { value, expiry };
                writer.cell(&Cell { column, path: None, timestamp: 9, content });
            }
            for order in [sorted, values] {
                let mut out = b"before".to_vec();
                let mut writer = ValueRowWriter::new(&mut out, 9, expiry);
                for (column, value) in order {
                    writer.value(column, value);
                }
                writer.finish();
                assert_eq!(out, expected);
            }
        }
    }
}
