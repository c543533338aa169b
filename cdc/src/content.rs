//! What the leader sees of a partition before a write.
//!
//! Mostly one row is asked for, and it lies in one piece in memory; then it is viewed where it is.

use model::mutation::MutationItem;
use model::partition::Partition;
use model::range_tombstones::RangeTombstone;
use model::row::{Deletion, RowView};
use std::ops::Bound::{Excluded, Included};

/// A partition as far as [`crate::need`] asked for it: stored, and proposed but not yet committed.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// The parts that were asked for, tombstones included.
    Partition(&'a Partition),
    /// The one row that was asked for, with no tombstone over it that is not its own.
    Row {
        /// Its clustering key.
        clustering: &'a [u8],
        /// What there is of it; `None` when there is nothing.
        row: Option<RowView<'a>>,
    },
}

impl<'a> Content<'a> {
    pub(crate) fn deletion(&self) -> Option<Deletion> {
        self.partition()?.deletion
    }

    pub(crate) fn static_row(&self) -> Option<RowView<'a>> {
        let row = &self.partition()?.static_row;
        (!row.is_empty()).then(|| RowView::new(row))
    }

    pub(crate) fn row(&self, clustering: &[u8]) -> Option<RowView<'a>> {
        match self {
            Content::Partition(partition) => {
                partition.rows.get(clustering).map(|r| RowView::new(r))
            }
            Content::Row { clustering: own, row } => row.filter(|_| *own == clustering),
        }
    }

    /// The deletion that covers a row from outside it.
    pub(crate) fn deletion_covering(&self, clustering: &[u8]) -> Option<Deletion> {
        self.partition()?.deletion_covering(clustering)
    }

    pub(crate) fn range_tombstones(&self) -> impl Iterator<Item = &'a RangeTombstone> + use<'a> {
        self.partition().into_iter().flat_map(|partition| &partition.range_tombstones)
    }

    /// The keys of the rows at positions in `[start, end)`.
    pub(crate) fn keys_between(&self, start: &[u8], end: &[u8]) -> Vec<&'a [u8]> {
        match self {
            _ if start >= end => Vec::new(),
            Content::Partition(partition) => {
                let rows = partition.rows.range::<[u8], _>((Included(start), Excluded(end)));
                rows.map(|(clustering, _)| &**clustering).collect()
            }
            Content::Row { clustering, row } => {
                let is_between = row.is_some() && start <= *clustering && *clustering < end;
                if is_between { vec![clustering] } else { Vec::new() }
            }
        }
    }

    /// A copy to which writes can be applied.
    pub(crate) fn to_partition(self) -> Partition {
        match self {
            Content::Partition(partition) => partition.clone(),
            Content::Row { clustering, row } => {
                let mut partition = Partition::default();
                if let Some(row) = row {
                    partition.apply_item(MutationItem::Row { clustering, row });
                }
                partition
            }
        }
    }

    fn partition(&self) -> Option<&'a Partition> {
        match self {
            Content::Partition(partition) => Some(partition),
            Content::Row { .. } => None,
        }
    }
}
