//! One row: the hot path. Nothing is allocated when one memtable has all there is.

use crate::error::ReadError;
use crate::memtable::PartitionRef;
use crate::read::Sources;
use crate::read::partition::{effective, merge_head};
use crate::sstable::{BlockSource, KeyHash, read_head, read_row};
use model::merge::merge_rows;
use model::partition::Partition;
use model::row::RowView;
use model::{EpochSeconds, Token};

/// What is read.
#[derive(Clone, Copy)]
pub(crate) struct SingleRead<'a> {
    pub(crate) token: Token,
    pub(crate) key: &'a [u8],
    pub(crate) clustering: &'a [u8],
    pub(crate) now: EpochSeconds,
    pub(crate) include_static: bool,
}

/// Reads a row and hands static row and row to `f`, each when it is live.
pub(crate) fn read_one<R>(
    sources: Sources,
    read: SingleRead,
    blocks: &mut impl BlockSource,
    f: impl FnOnce(Option<RowView>, Option<RowView>) -> R,
) -> Result<R, ReadError> {
    let hash = KeyHash::new(read.token, read.key);
    let may_be_in_tables = sources.tables.iter().any(|t| t.may_contain(read.token, read.key, hash));
    if !may_be_in_tables {
        let mut found =
            sources.memtables(read.token).filter_map(|m| m.partition(read.token, read.key));
        match (found.next(), found.next()) {
            (None, _) => return Ok(f(None, None)),
            (Some(only), None) if only.has_rows_only() => {
                let row = only.row(read.clustering).map(RowView::new);
                let static_row =
                    only.static_row().filter(|_| read.include_static).map(RowView::new);
                let is_live = |row: &RowView| row.is_live(read.now);
                return Ok(f(static_row.filter(is_live), row.filter(is_live)));
            }
            _ => {}
        }
    }
    read_merged(sources, read, hash, blocks, f)
}

fn read_merged<R>(
    sources: Sources,
    read: SingleRead,
    hash: KeyHash,
    blocks: &mut impl BlockSource,
    f: impl FnOnce(Option<RowView>, Option<RowView>) -> R,
) -> Result<R, ReadError> {
    let (head, merged) = merge_sources(sources, read, hash, blocks)?;
    let mut buffer = Vec::new();
    let row = merged.row().map(|row| effective(&head, read.clustering, row, &mut buffer));
    let static_row = if read.include_static { head.effective_static_row() } else { None };
    let static_row = static_row.as_ref().map(|row| RowView::new(row));
    let is_live = |row: &RowView| row.is_live(read.now);
    Ok(f(static_row.filter(is_live), row.filter(is_live)))
}

/// A row as it was written, and what its partition has beside rows, from all sources. What older
/// sources have is left out where a tombstone of a newer one covers it.
pub(crate) fn merge_sources(
    sources: Sources,
    read: SingleRead,
    hash: KeyHash,
    blocks: &mut impl BlockSource,
) -> Result<(Partition, Merged), ReadError> {
    let SingleRead { token, key, clustering, .. } = read;
    let mut head = Partition::default();
    let mut merged = Merged::default();
    for memtable in sources.memtables(token) {
        if let Some(partition) = memtable.partition(token, key) {
            merge_head(&mut head, &partition);
            if let Some(row) = partition.row(clustering) {
                merged.add(RowView::new(row));
            }
        }
    }
    for live in sources.tables {
        if !live.may_contain(token, key, hash) {
            continue;
        }
        // Tables come with the newest timestamps first: what is deleted up to the newest of this
        // table is deleted in all that follow.
        let newest = live.table.statistics.timestamps.newest;
        let deleted_up_to = head.deletion.map(|d| d.timestamp);
        if deleted_up_to >= Some(newest) {
            break;
        }
        let table = &live.table;
        let is_row_possible = !merged.is_deleted_up_to(newest)
            && table
                .statistics
                .clustering
                .as_ref()
                .is_some_and(|(min, max)| **min <= *clustering && *clustering <= **max);
        if is_row_possible {
            read_row(table, token.0, key, clustering, &mut head, blocks, |row| {
                merged.add(RowView::check(row)?);
                Ok(())
            })?;
        } else if table.statistics.head_count > 0 {
            read_head(table, token.0, key, &mut head, blocks)?;
        }
    }
    Ok((head, merged))
}

/// The merge of a row's versions so far.
#[derive(Default)]
pub(crate) struct Merged {
    bytes: Vec<u8>,
    scratch: Vec<u8>,
}

impl Merged {
    fn add(&mut self, row: RowView) {
        if self.bytes.is_empty() {
            self.bytes.extend_from_slice(row.as_bytes());
            return;
        }
        self.scratch.clear();
        merge_rows(RowView::new(&self.bytes), row, &mut self.scratch);
        std::mem::swap(&mut self.bytes, &mut self.scratch);
    }

    pub(crate) fn row(&self) -> Option<RowView<'_>> {
        (!self.bytes.is_empty()).then(|| RowView::new(&self.bytes))
    }

    /// Whether its own tombstone hides everything up to a timestamp.
    fn is_deleted_up_to(&self, timestamp: i64) -> bool {
        self.row().and_then(|row| row.tombstone()).is_some_and(|t| t.timestamp >= timestamp)
    }
}

impl PartitionRef<'_> {
    /// Whether no tombstone of the partition has to be applied to its rows.
    pub(crate) fn has_rows_only(&self) -> bool {
        self.deletion().is_none() && self.range_tombstones().is_none()
    }
}
