//! Counters: increments on their way to the leader, sums in the log.
//!
//! A counter is a cell whose value is eight bytes, big endian. In a mutation of a counter table as
//! the planner makes it, a value is an *increment*; the leader of the range replaces it by the sum
//! with what the counter holds ([`add_up`]). So an entry of the log says what counters are and not
//! how they change: to apply it twice changes nothing, and merging needs no rule for counters.

use crate::ColumnId;
use crate::mutation::{MutationItem, MutationView};
use crate::row::CellContent;

/// Bytes of a counter's value.
pub const COUNTER_BYTES: usize = 8;

/// The number in a counter's value, or in an increment.
pub fn counter_value(value: &[u8]) -> i64 {
    value.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes))
}

/// Appends a mutation to `out`, with each increment replaced by the sum of it and of `present`,
/// which tells a counter's value by clustering key (`None`: the static row) and column. Sums wrap
/// around.
pub fn add_up(
    mutation: &MutationView,
    mut present: impl FnMut(Option<&[u8]>, ColumnId) -> i64,
    out: &mut Vec<u8>,
) {
    let (start, bytes) = (out.len(), mutation.as_bytes());
    out.extend_from_slice(bytes);
    for item in mutation.items() {
        let (clustering, row) = match item {
            MutationItem::StaticRow(row) => (None, row),
            MutationItem::Row { clustering, row } => (Some(clustering), row),
            MutationItem::PartitionTombstone(_) | MutationItem::RangeTombstone { .. } => continue,
        };
        for cell in row.cells() {
            let CellContent::Live { value, .. } = cell.content else { continue };
            let sum = counter_value(value).wrapping_add(present(clustering, cell.column));
            // The value is a part of the mutation's bytes, so it has the same place in the copy.
            let at = start + (value.as_ptr().addr() - bytes.as_ptr().addr());
            if let Some(place) = out.get_mut(at..at + COUNTER_BYTES)
                && value.len() == COUNTER_BYTES
            {
                place.copy_from_slice(&sum.to_be_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TableId;
    use crate::mutation::MutationWriter;
    use crate::row::{Cell, Deletion, RowHead};

    #[test]
    fn each_increment_becomes_a_sum_and_the_rest_stays() {
        let write = |values: [i64; 3]| {
            let bytes = values.map(i64::to_be_bytes);
            let live = |column, value| Cell {
                column,
                path: None,
                timestamp: 5,
                content: CellContent::Live { value, expiry: None },
            };
            let mut out = Vec::new();
            let mut writer = MutationWriter::new(&mut out, TableId(1), 1, b"k");
            let head = RowHead { marker: None, tombstone: None };
            writer.static_row(5, head, |row| row.cell(&live(1, &bytes[0])));
            writer.range_tombstone(b"x", b"y", Deletion { timestamp: 5, deleted_at: 1 });
            writer.row(b"c", 5, head, |row| {
                row.cell(&live(2, &bytes[1]));
                row.cell(&Cell {
                    column: 3,
                    path: None,
                    timestamp: 5,
                    content: CellContent::Tombstone { deleted_at: 1 },
                });
                row.cell(&live(4, &bytes[2]));
            });
            out
        };
        let increments = write([1, -2, i64::MAX]);
        let mut sums = b"before".to_vec();
        let present = |clustering: Option<&[u8]>, column| match (clustering, column) {
            (None, 1) => 10,
            (Some(b"c"), 2) => 20,
            (Some(b"c"), 4) => 1,
            other => panic!("{other:?} is no increment"),
        };
        add_up(&MutationView::check(&increments).unwrap(), present, &mut sums);
        assert_eq!(sums[6..], write([11, 18, i64::MIN]));
    }
}
