//! A partition's content in memory: what mutations add up to.
//!
//! Used where a partition is looked at as a whole: decisions of the leader (overlay, images,
//! conditions), batches that are merged before they are planned, and tests' models. The memtable
//! has a form of its own that is cheaper per row; both call [`crate::merge`].

use crate::TimestampMicros;
use crate::merge::{merge_deletions, merge_rows, shadow_row};
use crate::mutation::{MutationItem, MutationView, MutationWriter};
use crate::range_tombstones::RangeTombstones;
use crate::row::{Deletion, RowView};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Everything known of a partition. Rows are kept as they were merged; partition and range
/// tombstones are applied when a row is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// The partition tombstone.
    pub deletion: Option<Deletion>,
    /// The static row's bytes; empty when there is none.
    pub static_row: Vec<u8>,
    /// Range tombstones.
    pub range_tombstones: RangeTombstones,
    /// Rows by clustering key.
    pub rows: BTreeMap<Box<[u8]>, Vec<u8>>,
}

impl Partition {
    /// Merges a mutation in.
    pub fn apply(&mut self, mutation: &MutationView) {
        for item in mutation.items() {
            self.apply_item(item);
        }
    }

    /// Merges one part of a mutation in.
    pub fn apply_item(&mut self, item: MutationItem) {
        match item {
            MutationItem::PartitionTombstone(deletion) => {
                self.deletion = merge_deletions(self.deletion, Some(deletion));
            }
            MutationItem::StaticRow(row) => merge_into(&mut self.static_row, row),
            MutationItem::RangeTombstone { start, end, deletion } => {
                self.range_tombstones.insert(start, end, deletion);
            }
            MutationItem::Row { clustering, row } => {
                if let Some(old) = self.rows.get_mut(clustering) {
                    merge_into(old, row);
                } else {
                    self.rows.insert(clustering.into(), row.as_bytes().to_vec());
                }
            }
        }
    }

    /// Merges another partition's content in.
    pub fn merge(&mut self, other: &Partition) {
        for item in other.items() {
            self.apply_item(item);
        }
    }

    /// Its content as the parts of a mutation, in their order.
    pub fn items(&self) -> impl Iterator<Item = MutationItem<'_>> {
        let deletion = self.deletion.map(MutationItem::PartitionTombstone);
        let static_row = (!self.static_row.is_empty())
            .then(|| MutationItem::StaticRow(RowView::new(&self.static_row)));
        let ranges = self.range_tombstones.iter().map(|r| MutationItem::RangeTombstone {
            start: &r.start,
            end: &r.end,
            deletion: r.deletion,
        });
        let rows = self
            .rows
            .iter()
            .map(|(clustering, row)| MutationItem::Row { clustering, row: RowView::new(row) });
        deletion.into_iter().chain(static_row).chain(ranges).chain(rows)
    }

    /// Writes its content as the parts of a mutation.
    pub fn write(&self, writer: &mut MutationWriter) {
        for item in self.items() {
            match item {
                MutationItem::PartitionTombstone(deletion) => writer.partition_tombstone(deletion),
                MutationItem::StaticRow(row) => writer.encoded_static_row(row),
                MutationItem::RangeTombstone { start, end, deletion } => {
                    writer.range_tombstone(start, end, deletion);
                }
                MutationItem::Row { clustering, row } => writer.encoded_row(clustering, row),
            }
        }
    }

    /// Whether nothing was ever merged in.
    pub fn is_empty(&self) -> bool {
        self.deletion.is_none()
            && self.static_row.is_empty()
            && self.range_tombstones.is_empty()
            && self.rows.is_empty()
    }

    /// The newest timestamp in it, every kind of tombstone included.
    pub fn newest_timestamp(&self) -> Option<TimestampMicros> {
        let rows = self.rows.values().filter_map(|r| RowView::new(r).newest_timestamp()).max();
        let static_row = (!self.static_row.is_empty())
            .then(|| RowView::new(&self.static_row).newest_timestamp())
            .flatten();
        let deletion = self.deletion.map(|d| d.timestamp);
        rows.max(static_row).max(deletion).max(self.range_tombstones.newest_timestamp())
    }

    /// The deletion that covers a clustering position from outside its row.
    pub fn deletion_covering(&self, clustering: &[u8]) -> Option<Deletion> {
        merge_deletions(self.deletion, self.range_tombstones.covering(clustering))
    }

    /// What is left of the static row under the partition tombstone.
    pub fn effective_static_row(&self) -> Option<Cow<'_, [u8]>> {
        (!self.static_row.is_empty()).then(|| shadowed(&self.static_row, self.deletion))
    }

    /// What is left of a row under the partition and range tombstones.
    pub fn effective_row(&self, clustering: &[u8]) -> Option<Cow<'_, [u8]>> {
        let row = self.rows.get(clustering)?;
        Some(shadowed(row, self.deletion_covering(clustering)))
    }

    /// The rows at positions in `[start, end)`, in order, as they are left under the tombstones.
    pub fn effective_rows<'a>(
        &'a self,
        start: &'a [u8],
        end: &'a [u8],
    ) -> impl Iterator<Item = (&'a [u8], Cow<'a, [u8]>)> {
        let range = (start < end)
            .then(|| self.rows.range::<[u8], _>((Bound::Included(start), Bound::Excluded(end))));
        range.into_iter().flatten().map(|(clustering, row)| {
            (&**clustering, shadowed(row, self.deletion_covering(clustering)))
        })
    }
}

fn merge_into(old: &mut Vec<u8>, new: RowView) {
    if old.is_empty() {
        old.extend_from_slice(new.as_bytes());
        return;
    }
    let mut merged = Vec::with_capacity(old.len() + new.as_bytes().len());
    merge_rows(RowView::new(old), new, &mut merged);
    *old = merged;
}

fn shadowed(row: &[u8], deletion: Option<Deletion>) -> Cow<'_, [u8]> {
    match deletion {
        None => Cow::Borrowed(row),
        Some(deletion) => {
            let mut out = Vec::with_capacity(row.len());
            shadow_row(RowView::new(row), deletion, &mut out);
            Cow::Owned(out)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TableId;
    use crate::row::{Marker, RowHead};

    #[test]
    fn tombstones_hide_rows_and_the_content_round_trips_as_a_mutation() {
        let mut partition = Partition::default();
        let marker =
            |t| RowHead { marker: Some(Marker { timestamp: t, expiry: None }), tombstone: None };
        let mut bytes = Vec::new();
        let mut writer = MutationWriter::new(&mut bytes, TableId(1), 1, b"k");
        writer.range_tombstone(b"a", b"c", Deletion { timestamp: 5, deleted_at: 0 });
        writer.row(b"a", 4, marker(4), |_| ());
        writer.row(b"b", 6, marker(6), |_| ());
        writer.row(b"c", 1, marker(1), |_| ());
        partition.apply(&MutationView::check(&bytes).unwrap());
        let live: Vec<_> = partition
            .effective_rows(b"", b"\xff")
            .filter(|(_, row)| RowView::new(row).is_live(0))
            .map(|(clustering, _)| clustering.to_vec())
            .collect();
        assert_eq!(live, [b"b", b"c"]);
        assert_eq!(partition.newest_timestamp(), Some(6));

        let mut again = Vec::new();
        partition.write(&mut MutationWriter::new(&mut again, TableId(1), 1, b"k"));
        assert_eq!(again, bytes);
    }
}
