//! What a replica is asked to read, and what it answers.
//!
//! A [`ReadCommand`] names partitions, clustering slices and limits; a [`Page`] holds the merged
//! rows that are live, with tombstones applied, and where to go on. Filters, selections and
//! aggregates are the coordinator's: a replica reads columns as bytes. Both travel between nodes:
//! `docs/formats/requests.md` has their bytes.

mod codec;
mod fuzz;

pub use fuzz::fuzz_read;

use crate::codec::DecodeError;
use crate::mutation::{MutationView, MutationWriter};
use crate::row::RowView;
use crate::{EpochSeconds, TableId};
use std::sync::Arc;

/// The position after every row of a partition.
pub const END_POSITION: &[u8] = &[0xff];

/// Rows at clustering positions in `[start, end)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// First position.
    pub start: Box<[u8]>,
    /// First position no longer in it.
    pub end: Box<[u8]>,
}

impl Slice {
    /// The whole partition.
    pub fn all() -> Self {
        Slice { start: Box::default(), end: END_POSITION.into() }
    }

    /// One row: from its position to the first behind it.
    pub fn of_row(clustering: &[u8]) -> Self {
        Slice { start: clustering.into(), end: [clustering, END_POSITION].concat().into() }
    }
}

/// Which partitions are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadScope {
    /// One partition, by its serialised key.
    Partition(Arc<[u8]>),
    /// All partitions with tokens in `[first, last]`, in the order of (token, key).
    TokenRange {
        /// Lowest token.
        first: i64,
        /// Highest token.
        last: i64,
    },
}

/// The last row of a page: the next page starts after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumePoint {
    /// Its partition.
    pub key: Box<[u8]>,
    /// Its clustering key; `None` when the partition is finished.
    pub clustering: Option<Box<[u8]>>,
    /// How many rows of this partition were returned so far, for the limit per partition.
    pub partition_rows: u32,
}

/// A read of one table on one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadCommand {
    /// The table.
    pub table: TableId,
    /// Which partitions.
    pub scope: ReadScope,
    /// Which rows of each: ascending, without overlaps.
    pub slices: Arc<[Slice]>,
    /// Rows of a partition come in descending order.
    pub reversed: bool,
    /// Whether static rows are wanted.
    pub include_static: bool,
    /// The time that decides about expired cells.
    pub now: EpochSeconds,
    /// Most rows in the page; a partition with static content alone counts as one.
    pub row_limit: u32,
    /// Most rows of each partition.
    pub partition_row_limit: u32,
    /// The page ends after the row that passes this size.
    pub page_bytes: usize,
    /// Where the page before ended.
    pub resume: Option<ResumePoint>,
}

/// Merged live rows, in order, grouped by partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    bytes: Vec<u8>,
    /// Where the last partition begins: its length, then its mutation.
    last_partition_at: usize,
    /// Rows in it.
    pub row_count: u32,
    /// Set when there may be more.
    pub resume: Option<ResumePoint>,
}

impl Page {
    /// Appends a partition; its static row (with the partition's own head) and rows are written by
    /// `write` in the order of the read.
    pub fn partition(
        &mut self,
        table: TableId,
        key: &[u8],
        write: impl FnOnce(&mut MutationWriter),
    ) {
        self.last_partition_at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        write(&mut MutationWriter::new(&mut self.bytes, table, 0, key));
        self.set_last_partition_length();
    }

    /// Appends a row to the last partition, so that a read can stop and go on within one.
    pub fn row(&mut self, clustering: &[u8], row: RowView) {
        assert!(!self.bytes.is_empty(), "a row belongs to a partition");
        MutationWriter::resume(&mut self.bytes).encoded_row(clustering, row);
        self.set_last_partition_length();
    }

    fn set_last_partition_length(&mut self) {
        let at = self.last_partition_at;
        let length = u32::try_from(self.bytes.len() - at - 4).expect("a page is below 4 GiB");
        self.bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// Adds the partitions of a page that goes on where this one ends.
    pub fn append(&mut self, next: Page) {
        if next.row_count > 0 {
            self.last_partition_at = self.bytes.len() + next.last_partition_at;
            self.bytes.extend_from_slice(&next.bytes);
        }
        self.row_count += next.row_count;
        self.resume = next.resume;
    }

    /// The key of the last partition; `None` when there is none.
    pub fn last_key(&self) -> Option<&[u8]> {
        let last = self.bytes.get(self.last_partition_at + 4..)?;
        MutationView::new(last).ok().map(|partition| partition.key())
    }

    /// Size so far, in bytes.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The partitions in order: each with an optional static row and its rows.
    pub fn partitions(&self) -> impl Iterator<Item = Result<MutationView<'_>, DecodeError>> {
        let mut cursor = crate::codec::Cursor::new(&self.bytes);
        std::iter::from_fn(move || {
            if cursor.is_empty() {
                return None;
            }
            Some(cursor.array().and_then(|length| {
                MutationView::new(cursor.bytes(u32::from_le_bytes(length) as usize)?)
            }))
        })
    }
}

/// Takes the rows of a read as they are merged, in order, without a copy.
pub trait RowSink {
    /// A partition begins; `static_row` is given when the command wants it and it has content.
    fn partition(&mut self, key: &[u8], static_row: Option<RowView>);
    /// A live row of the current partition.
    fn row(&mut self, clustering: &[u8], row: RowView);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{RowHead, RowWriter};

    #[test]
    fn rows_can_be_added_to_the_last_partition() {
        let mut row = Vec::new();
        RowWriter::new(&mut row, 1, RowHead { marker: None, tombstone: None });
        let row = RowView::new(&row);
        let mut page = Page::default();
        page.partition(TableId(1), b"a", |_| ());
        page.row(b"1", row);
        page.row(b"0", row);
        page.partition(TableId(1), b"b", |writer| writer.encoded_static_row(row));
        page.row(b"2", row);
        let shape: Vec<(Vec<u8>, usize)> = page
            .partitions()
            .map(|p| p.map(|p| (p.key().to_vec(), p.items().count())).unwrap())
            .collect();
        assert_eq!(shape, [(b"a".to_vec(), 2), (b"b".to_vec(), 2)]);
    }
}
