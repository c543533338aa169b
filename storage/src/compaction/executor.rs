//! Merges table files into one.
//!
//! Reads its inputs as a scan does, with a small cache of its own, and writes what is left: rows
//! put under the tombstones that hide them, and [`super::purge`] applied. One pass, memory for a
//! row and for the blocks that the inputs stand in.

use crate::compaction::purge::Purge;
use crate::error::{ReadError, StorageError};
use crate::memtable::{IndexSpan, Memtable};
use crate::read::partition::{PartitionReader, effective, settled_head};
use crate::read::scan::Scan;
use crate::read::{LiveTable, PartitionId, Sources};
use crate::sstable::{BlockingBlocks, KeyHash, TableWriter, WriterOptions, has_head};
use env::disk::Disk;
use model::partition::Partition;
use model::{EpochSeconds, TimestampMicros, Token};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// A compaction, decided.
#[derive(Debug)]
pub(crate) struct CompactionWork {
    pub(crate) dir: PathBuf,
    pub(crate) file_id: u64,
    pub(crate) options: WriterOptions,
    /// What is merged, newest maximum timestamp first.
    pub(crate) inputs: Vec<LiveTable>,
    /// The table's other files.
    pub(crate) outside: Vec<LiveTable>,
    /// The oldest timestamp in the table's memtables.
    pub(crate) oldest_in_memory: TimestampMicros,
    /// What was deleted or expired before this may go.
    pub(crate) gc_before: EpochSeconds,
}

/// The files outside of a merge that may hold a partition, as its partitions come in order.
struct Outside<'a> {
    work: &'a CompactionWork,
    /// Those that begin behind it, the one that begins first last.
    ahead: Vec<&'a LiveTable>,
    /// Those that have begun and not ended.
    here: Vec<&'a LiveTable>,
}

impl<'a> Outside<'a> {
    fn new(work: &'a CompactionWork) -> Outside<'a> {
        let mut ahead: Vec<&LiveTable> = work.outside.iter().collect();
        ahead.sort_by_key(|table| Reverse(table.table.statistics.first.0));
        Outside { work, ahead, here: Vec::new() }
    }

    /// What may be forgotten of the next partition.
    fn purge(&mut self, token: Token, key: &[u8]) -> Purge {
        while let Some(table) = self.ahead.pop_if(|t| t.table.statistics.first.0 <= token.0) {
            self.here.push(table);
        }
        self.here.retain(|table| token.0 <= table.table.statistics.last.0);
        let hash = KeyHash::new(token, key);
        let holders = self.here.iter().filter(|t| t.may_contain(token, key, hash));
        let oldest = holders.map(|t| t.table.statistics.timestamps.oldest).min();
        let oldest_outside = oldest.unwrap_or(i64::MAX).min(self.work.oldest_in_memory);
        Purge { gc_before: self.work.gc_before, oldest_outside }
    }
}

impl CompactionWork {
    fn indexes(&self) -> BTreeMap<u64, IndexSpan> {
        let mut all: BTreeMap<u64, IndexSpan> = BTreeMap::new();
        for (group, span) in self.inputs.iter().flat_map(|t| &t.table.statistics.indexes) {
            let sum = all.entry(*group).or_insert(*span);
            sum.first = sum.first.min(span.first);
            sum.last = sum.last.max(span.last);
        }
        all
    }
}

/// Whether a file was made: nothing may be left.
pub(crate) fn compact(disk: &Disk, work: &CompactionWork) -> Result<bool, StorageError> {
    merge(disk, work).map_err(|error| match error {
        ReadError::Storage(error) => error,
        other => unreachable!("a background read waits for the disk and has a table: {other}"),
    })
}

fn merge(disk: &Disk, work: &CompactionWork) -> Result<bool, ReadError> {
    let nothing = Memtable::default();
    let sources = Sources { active: &nothing, frozen: &[], tables: &work.inputs };
    let mut blocks = BlockingBlocks::default();
    let start = (Token(i64::MIN), Arc::from(&[][..]));
    let mut scan = Scan::new(sources, start, true, i64::MAX);
    let (mut outside, mut buffers) = (Outside::new(work), Buffers::default());
    let mut writer = None;
    while let Some(partition) = scan.next(&mut blocks)? {
        let mut reader = PartitionReader::open_found(&scan, false)?;
        let head = std::mem::take(&mut reader.head);
        let purge = outside.purge(partition.0, &partition.1);
        let kept = kept_head(&head, &purge);
        let is_begun = has_head(&kept);
        let mut output =
            Output { disk, work, writer: &mut writer, partition: &partition, kept: Some(kept) };
        if is_begun {
            output.begin()?;
        }
        reader.seek(b"", &mut blocks)?;
        while let Some((clustering, row)) = reader.next_raw(&mut blocks)? {
            let Buffers { shadowed, settled, purged } = &mut buffers;
            let row = effective(&head, clustering, row, shadowed);
            if let Some(row) = purge.row(row, settled, purged) {
                output.begin()?.row(clustering, row)?;
            }
        }
    }
    match writer {
        Some(writer) => {
            writer.finish(disk, work.indexes())?;
            Ok(true)
        }
        None => Ok(false),
    }
}

/// What of a partition's head is written.
fn kept_head(head: &Partition, purge: &Purge) -> Partition {
    let mut kept = settled_head(head);
    purge.head(&mut kept);
    kept
}

#[derive(Default)]
struct Buffers {
    shadowed: Vec<u8>,
    settled: Vec<u8>,
    purged: Vec<u8>,
}

/// Begins the file with the first partition that has anything, and each partition with the first
/// thing in it.
struct Output<'a> {
    disk: &'a Disk,
    work: &'a CompactionWork,
    writer: &'a mut Option<TableWriter>,
    partition: &'a PartitionId,
    /// The partition's head until it was written.
    kept: Option<Partition>,
}

impl Output<'_> {
    fn begin(&mut self) -> Result<&mut TableWriter, StorageError> {
        let CompactionWork { dir, file_id, options, .. } = self.work;
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => TableWriter::create(self.disk, dir, *file_id, *options)?,
        };
        let writer = self.writer.insert(writer);
        if let Some(head) = self.kept.take() {
            writer.partition(self.partition.0, &self.partition.1, &head)?;
        }
        Ok(writer)
    }
}
