//! One mutation, several timestamps: one write for each, ascending (rule 3).
//!
//! A collection tombstone belongs to the microsecond after its own, where the overwrite happened
//! that it made room for.

use crate::error::{CdcError, invalid};
use model::TimestampMicros;
use model::codec::DecodeError;
use model::mutation::{MutationItem, MutationView, MutationWriter};
use model::partition::Partition;
use model::row::{Cell, CellContent, RowHead, RowView, RowWriter};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Most timestamps in one mutation: each is a write of its own, which may look at all of a row and
/// log images of it, within one step of the shard. No batch below Cassandra's default size limit
/// comes near.
pub const TIMESTAMPS_MAX: usize = 2_048;

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

/// The writes of a mutation, ascending: one, nearly always, and then nothing is allocated.
#[derive(Debug)]
pub(super) enum Writes<'a> {
    AtMostOne(Option<Write<'a>>),
    Several(Vec<Write<'a>>),
}

impl<'a> Writes<'a> {
    pub(super) fn as_slice(&self) -> &[Write<'a>] {
        match self {
            Writes::AtMostOne(write) => write.as_slice(),
            Writes::Several(writes) => writes,
        }
    }
}

/// The writes of a mutation.
///
/// Errors when it has more than [`TIMESTAMPS_MAX`] timestamps.
pub(super) fn split<'a>(mutation: &MutationView<'a>) -> Result<Writes<'a>, CdcError> {
    let mut range: Option<(TimestampMicros, TimestampMicros)> = None;
    each_timestamp(mutation, |timestamp| {
        let (first, last) = range.unwrap_or((timestamp, timestamp));
        range = Some((first.min(timestamp), last.max(timestamp)));
    });
    let Some((first, last)) = range else { return Ok(Writes::AtMostOne(None)) };
    if first == last {
        let mutation = Cow::Borrowed(mutation.as_bytes());
        return Ok(Writes::AtMostOne(Some(Write { timestamp: first, mutation })));
    }
    let writes = split_apart(mutation);
    if writes.len() > TIMESTAMPS_MAX {
        return Err(invalid(format!(
            "A write to one partition of a table with CDC has {} timestamps, more than {TIMESTAMPS_MAX}",
            writes.len()
        )));
    }
    Ok(Writes::Several(writes))
}

/// The range and partition deletes of a write.
#[derive(Debug, Default)]
pub(super) struct OwnDeletes<'a> {
    pub(super) partition: bool,
    /// Ascending, without overlaps, as in the mutation.
    ranges: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> OwnDeletes<'a> {
    pub(super) fn of(write: &MutationView<'a>) -> Self {
        let mut own = OwnDeletes::default();
        for item in write.items() {
            match item {
                MutationItem::PartitionTombstone(_) => own.partition = true,
                MutationItem::RangeTombstone { start, end, .. } => own.ranges.push((start, end)),
                MutationItem::StaticRow(_) => {}
                MutationItem::Row { .. } => break,
            }
        }
        own
    }

    /// Whether one of them covers the row with this key.
    pub(super) fn cover(&self, clustering: &[u8]) -> bool {
        let after = self.ranges.partition_point(|(start, _)| *start <= clustering);
        let last = after.checked_sub(1).and_then(|index| self.ranges.get(index));
        self.partition || last.is_some_and(|(_, end)| clustering < *end)
    }
}

/// The microsecond that a cell belongs to.
pub(super) fn happened_at(cell: &Cell) -> TimestampMicros {
    match cell.content {
        CellContent::CollectionTombstone { .. } => cell.timestamp.saturating_add(1),
        _ => cell.timestamp,
    }
}

fn each_timestamp(mutation: &MutationView, mut visit: impl FnMut(TimestampMicros)) {
    for item in mutation.items() {
        match item {
            MutationItem::PartitionTombstone(deletion)
            | MutationItem::RangeTombstone { deletion, .. } => visit(deletion.timestamp),
            MutationItem::StaticRow(row) | MutationItem::Row { row, .. } => {
                if row.is_empty() {
                    continue;
                }
                if let Some(timestamp) = row.only_timestamp() {
                    visit(timestamp);
                    continue;
                }
                let (head, cells) = row.parts();
                head.marker.iter().for_each(|marker| visit(marker.timestamp));
                head.tombstone.iter().for_each(|tombstone| visit(tombstone.timestamp));
                cells.for_each(|cell| visit(happened_at(&cell)));
            }
        }
    }
}

/// One pass over the mutation, however many timestamps it has.
fn split_apart<'a>(mutation: &MutationView<'a>) -> Vec<Write<'a>> {
    let mut writes: BTreeMap<TimestampMicros, Partition> = BTreeMap::new();
    let mut bytes = Vec::new();
    for item in mutation.items() {
        match item {
            MutationItem::PartitionTombstone(deletion)
            | MutationItem::RangeTombstone { deletion, .. } => {
                writes.entry(deletion.timestamp).or_default().apply_item(item);
            }
            MutationItem::StaticRow(row) => split_row(row, &mut bytes, |timestamp, row| {
                let write = writes.entry(timestamp).or_default();
                write.apply_item(MutationItem::StaticRow(row));
            }),
            MutationItem::Row { clustering, row } => {
                split_row(row, &mut bytes, |timestamp, row| {
                    let write = writes.entry(timestamp).or_default();
                    write.apply_item(MutationItem::Row { clustering, row });
                });
            }
        }
    }
    let (table, version, key) = (mutation.table(), mutation.schema_version(), mutation.key());
    writes
        .into_iter()
        .map(|(timestamp, parts)| {
            let mut out = Vec::new();
            parts.write(&mut MutationWriter::new(&mut out, table, version, key));
            Write { timestamp, mutation: Cow::Owned(out) }
        })
        .collect()
}

/// The parts of a row by their microseconds.
fn split_row(row: RowView, bytes: &mut Vec<u8>, mut part: impl FnMut(TimestampMicros, RowView)) {
    let (head, cells) = row.parts();
    let mut cells: Vec<Cell> = cells.collect();
    cells.sort_by_key(happened_at);
    let mut timestamps: BTreeSet<TimestampMicros> = cells.iter().map(happened_at).collect();
    timestamps.extend(head.marker.map(|marker| marker.timestamp));
    timestamps.extend(head.tombstone.map(|tombstone| tombstone.timestamp));
    let mut rest = cells.as_slice();
    for timestamp in timestamps {
        let count = rest.partition_point(|cell| happened_at(cell) <= timestamp);
        let (own, later) = rest.split_at(count);
        rest = later;
        bytes.clear();
        let head = RowHead {
            marker: head.marker.filter(|marker| marker.timestamp == timestamp),
            tombstone: head.tombstone.filter(|tombstone| tombstone.timestamp == timestamp),
        };
        let mut writer = RowWriter::new(bytes, timestamp, head);
        for cell in own {
            writer.cell(cell);
        }
        part(timestamp, RowView::new(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::base_table;
    use crate::testing::statement::parse_write;

    #[test]
    fn batches_with_too_many_timestamps_are_refused() {
        let base = base_table("p int, c int, a int");
        let batch = |count: usize| {
            let statements = (0..count).map(|i| format!("update {i} a=1 @{i}"));
            let text = statements.collect::<Vec<_>>().join(" + ");
            parse_write(&base, b"k", &text, 0, &|time| time.parse().unwrap())
        };
        let most = batch(TIMESTAMPS_MAX);
        let writes = split(&MutationView::check(&most).unwrap()).unwrap();
        assert_eq!(writes.as_slice().len(), TIMESTAMPS_MAX);
        assert!(writes.as_slice().is_sorted_by(|a, b| a.timestamp < b.timestamp));
        let more = batch(TIMESTAMPS_MAX + 1);
        assert_eq!(
            split(&MutationView::check(&more).unwrap()).unwrap_err().message,
            "A write to one partition of a table with CDC has 2049 timestamps, more than 2048"
        );
    }
}
