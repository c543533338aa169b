//! One mutation, several timestamps: one write for each, ascending (rule 3).
//!
//! A collection tombstone belongs to the microsecond after its own, where the overwrite happened
//! that it made room for.

use model::TimestampMicros;
use model::codec::DecodeError;
use model::mutation::{MutationItem, MutationView, MutationWriter};
use model::row::{Cell, CellContent, RowHead, RowView, RowWriter};
use std::borrow::Cow;
use std::convert::Infallible;

/// The parts of a mutation that happened in one microsecond.
#[derive(Debug)]
pub(super) struct Write<'a> {
    pub(super) timestamp: TimestampMicros,
    pub(super) mutation: Cow<'a, [u8]>,
}

impl Write<'_> {
    /// Rule 7: whether the write has to look, when N is `newest`. A collection tombstone one below
    /// a row tombstone's reach leaves no trace in N, so writes that carry one look at N + 1 too.
    pub(super) fn looks(&self, newest: Option<TimestampMicros>) -> Result<bool, DecodeError> {
        let Some(newest) = newest else { return Ok(false) };
        if newest.saturating_add(1) == self.timestamp {
            return Ok(has_collection_tombstone(&MutationView::new(&self.mutation)?));
        }
        Ok(newest >= self.timestamp)
    }
}

fn has_collection_tombstone(mutation: &MutationView) -> bool {
    mutation.items().any(|item| match item {
        MutationItem::StaticRow(row) | MutationItem::Row { row, .. } => {
            row.cells().any(|cell| matches!(cell.content, CellContent::CollectionTombstone { .. }))
        }
        MutationItem::PartitionTombstone(_) | MutationItem::RangeTombstone { .. } => false,
    })
}

/// The writes of a mutation.
pub(super) fn split<'a>(mutation: &MutationView<'a>) -> Vec<Write<'a>> {
    let timestamps = timestamps(mutation);
    match timestamps.as_slice() {
        [timestamp] => {
            vec![Write { timestamp: *timestamp, mutation: Cow::Borrowed(mutation.as_bytes()) }]
        }
        _ => timestamps
            .iter()
            .map(|timestamp| Write {
                timestamp: *timestamp,
                mutation: Cow::Owned(extract(mutation, *timestamp)),
            })
            .collect(),
    }
}

/// The microsecond that a cell belongs to.
pub(super) fn happened_at(cell: &Cell) -> TimestampMicros {
    match cell.content {
        CellContent::CollectionTombstone { .. } => cell.timestamp.saturating_add(1),
        _ => cell.timestamp,
    }
}

fn timestamps(mutation: &MutationView) -> Vec<TimestampMicros> {
    let mut all = Vec::with_capacity(1);
    let mut add = |timestamp| {
        if !all.contains(&timestamp) {
            all.push(timestamp);
        }
    };
    for item in mutation.items() {
        match item {
            MutationItem::PartitionTombstone(deletion)
            | MutationItem::RangeTombstone { deletion, .. } => add(deletion.timestamp),
            MutationItem::StaticRow(row) | MutationItem::Row { row, .. } => {
                let (head, cells) = row.parts();
                head.marker.iter().for_each(|marker| add(marker.timestamp));
                head.tombstone.iter().for_each(|tombstone| add(tombstone.timestamp));
                cells.for_each(|cell| add(happened_at(&cell)));
            }
        }
    }
    all.sort_unstable();
    all
}

fn extract(mutation: &MutationView, timestamp: TimestampMicros) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer =
        MutationWriter::new(&mut out, mutation.table(), mutation.schema_version(), mutation.key());
    for item in mutation.items() {
        match item {
            MutationItem::PartitionTombstone(deletion) if deletion.timestamp == timestamp => {
                writer.partition_tombstone(deletion);
            }
            MutationItem::RangeTombstone { start, end, deletion }
                if deletion.timestamp == timestamp =>
            {
                writer.range_tombstone(start, end, deletion);
            }
            MutationItem::StaticRow(row) => {
                let head = head_at(row, timestamp);
                let Ok(()) = writer.try_static_row::<Infallible>(timestamp, head, |out| {
                    cells_at(row, timestamp, out);
                    Ok(())
                });
            }
            MutationItem::Row { clustering, row } => {
                let head = head_at(row, timestamp);
                let Ok(()) = writer.try_row::<Infallible>(clustering, timestamp, head, |out| {
                    cells_at(row, timestamp, out);
                    Ok(())
                });
            }
            MutationItem::PartitionTombstone(_) | MutationItem::RangeTombstone { .. } => {}
        }
    }
    out
}

fn head_at(row: RowView, timestamp: TimestampMicros) -> RowHead {
    RowHead {
        marker: row.marker().filter(|marker| marker.timestamp == timestamp),
        tombstone: row.tombstone().filter(|tombstone| tombstone.timestamp == timestamp),
    }
}

fn cells_at(row: RowView, timestamp: TimestampMicros, out: &mut RowWriter) {
    for cell in row.cells().filter(|cell| happened_at(cell) == timestamp) {
        out.cell(&cell);
    }
}
