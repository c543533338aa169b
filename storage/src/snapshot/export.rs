//! The sending side: what tables hold in an interval of tokens at one moment, as a stream of bytes.

use super::format::{
    CHUNK_BYTES, CHUNK_BYTES_MAX, ChunkKind, ChunkWriter, Counts, SnapshotHead, SnapshotPart,
};
use crate::error::{ReadError, StorageError};
use crate::memtable::Memtable;
use crate::read::partition::{PartitionReader, effective, settled_head};
use crate::read::scan::Scan;
use crate::read::{Frozen, LiveTable, PartitionId, Sources, TokenInterval};
use crate::sstable::BlockingBlocks;
use model::Token;
use model::mutation::MutationWriter;
use std::sync::Arc;

/// A pinned state of a group's tables, to be read on a thread that may wait for the disk. It keeps
/// memtables and files alive, which are given back when it is dropped.
#[derive(Debug)]
pub struct Export {
    head: SnapshotHead,
    parts: Vec<ExportPart>,
    blocks: BlockingBlocks,
    writer: ChunkWriter,
    place: Place,
    counts: Counts,
}

/// One table of an export.
#[derive(Debug)]
pub(crate) struct ExportPart {
    pub(crate) part: SnapshotPart,
    pub(crate) frozen: Vec<Frozen>,
    pub(crate) tables: Vec<LiveTable>,
}

/// What the next chunk begins with.
#[derive(Debug)]
enum Place {
    Head,
    Rows(Cursor),
    End,
    Done,
}

/// A place among the rows.
#[derive(Debug, Default)]
struct Cursor {
    /// Which part.
    part: usize,
    /// The partition that was written last, if any of this part was.
    partition: Option<PartitionId>,
    /// When that partition is not complete: the row that was written last.
    clustering: Option<Vec<u8>>,
}

/// The files and memtables of `tables` that have something in the interval.
pub(crate) fn pinned(part: SnapshotPart, frozen: &[Frozen], tables: &[LiveTable]) -> ExportPart {
    let TokenInterval { first, last } = part.tokens;
    let has_tokens = |live: &&LiveTable| {
        let statistics = &live.table.statistics;
        statistics.first.0 <= last && first <= statistics.last.0
    };
    let is_touched = |frozen: &&Frozen| frozen.memtable.has_tokens(first..=last);
    let frozen = frozen.iter().filter(is_touched).cloned().collect();
    let tables = tables.iter().filter(has_tokens).cloned().collect();
    ExportPart { part, frozen, tables }
}

impl Export {
    pub(crate) fn new(head: SnapshotHead, parts: Vec<ExportPart>) -> Export {
        Export {
            head,
            parts,
            blocks: BlockingBlocks::default(),
            writer: ChunkWriter::default(),
            place: Place::Head,
            counts: Counts::default(),
        }
    }

    /// What it is a snapshot of.
    pub fn head(&self) -> &SnapshotHead {
        &self.head
    }

    /// A rough size of what it will send, in bytes: the files' share of the interval by its length.
    pub fn estimated_bytes(&self) -> u64 {
        let tables = self.parts.iter().flat_map(|part| {
            part.tables.iter().map(|live| {
                let statistics = &live.table.statistics;
                let TokenInterval { first, last } = part.part.tokens;
                let (low, high) = (statistics.first.0, statistics.last.0);
                let span = |from: i64, to: i64| (i128::from(to) - i128::from(from) + 1) as f64;
                let share = span(first.max(low), last.min(high)) / span(low, high);
                (live.table.file.length_bytes as f64 * share) as u64
            })
        });
        tables.sum()
    }

    /// The next bytes of the stream, a few hundred KiB unless a single row is larger; `None` after
    /// the last. Waits for the disk. After an error the export is of no use.
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, StorageError> {
        match std::mem::replace(&mut self.place, Place::Done) {
            Place::Head => {
                self.place = Place::Rows(Cursor::default());
                Ok(Some(self.writer.chunk(ChunkKind::Head, &self.head.encode())))
            }
            Place::Rows(cursor) => {
                let (content, next) = self.rows(cursor)?;
                self.place = next.map_or(Place::End, Place::Rows);
                if content.is_empty() {
                    return self.next_chunk();
                }
                Ok(Some(self.writer.chunk(ChunkKind::Rows, &content)))
            }
            Place::End => Ok(Some(self.writer.chunk(ChunkKind::End, &self.counts.encode()))),
            Place::Done => Ok(None),
        }
    }

    /// The rows from a place on, and where the next ones begin; none when these were the last.
    fn rows(&mut self, mut at: Cursor) -> Result<(Vec<u8>, Option<Cursor>), StorageError> {
        let mut content = Vec::with_capacity(CHUNK_BYTES + (CHUNK_BYTES >> 2));
        while let Some(part) = self.parts.get(at.part) {
            let is_full = part
                .write(&mut at, &mut content, &mut self.counts, &mut self.blocks)
                .map_err(|error| match error {
                    ReadError::Storage(error) => error,
                    other => {
                        unreachable!(
                            "a background read waits for the disk and has a table: {other}"
                        )
                    }
                })?;
            if content.len() > CHUNK_BYTES_MAX {
                let (table, bytes) = (part.part.table, content.len());
                return Err(StorageError::RowTooLarge { table, bytes });
            }
            if is_full {
                return Ok((content, Some(at)));
            }
            at = Cursor { part: at.part + 1, ..Cursor::default() };
        }
        Ok((content, None))
    }
}

impl ExportPart {
    /// Writes partitions from a place on, and moves it. Whether the chunk is full.
    fn write(
        &self,
        at: &mut Cursor,
        content: &mut Vec<u8>,
        counts: &mut Counts,
        blocks: &mut BlockingBlocks,
    ) -> Result<bool, ReadError> {
        let nothing = Memtable::default();
        let sources = Sources { active: &nothing, frozen: &self.frozen, tables: &self.tables };
        let TokenInterval { first, last } = self.part.tokens;
        let start = at.partition.clone().unwrap_or((Token(first), Arc::from(&[][..])));
        let is_inclusive = at.partition.is_none() || at.clustering.is_some();
        let mut scan = Scan::new(sources, start, is_inclusive, last);
        while let Some(partition) = scan.next(blocks)? {
            let reader = PartitionReader::open_found(&scan, false)?;
            let resumed = at.clustering.take();
            let open = OpenPartition { table: self.part, key: &partition.1, reader, resumed };
            at.clustering = open.write(content, counts, blocks)?;
            at.partition = Some(partition);
            if at.clustering.is_some() || content.len() >= CHUNK_BYTES {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A partition that is being written.
struct OpenPartition<'a> {
    table: SnapshotPart,
    key: &'a [u8],
    reader: PartitionReader<'a>,
    /// The row behind which it goes on.
    resumed: Option<Vec<u8>>,
}

impl OpenPartition<'_> {
    /// Writes it as one mutation, and says which row it got to when it did not get to its end.
    fn write(
        mut self,
        content: &mut Vec<u8>,
        counts: &mut Counts,
        blocks: &mut BlockingBlocks,
    ) -> Result<Option<Vec<u8>>, ReadError> {
        let start = content.len();
        content.extend_from_slice(&[0; 4]);
        let mut writer = MutationWriter::new(content, self.table.table, 0, self.key);
        let nothing_bytes = writer.byte_count();
        let head = std::mem::take(&mut self.reader.head);
        // The first position behind a row is its key with a zero byte.
        let from = self.resumed.as_ref().map_or(Vec::new(), |row| [&row[..], &[0]].concat());
        if self.resumed.is_none() {
            settled_head(&head).write(&mut writer);
        }
        let mut buffer = Vec::new();
        let mut stopped_at = None;
        self.reader.seek(&from, blocks)?;
        while let Some((clustering, row)) = self.reader.next_raw(blocks)? {
            let row = effective(&head, clustering, row, &mut buffer);
            if row.is_empty() {
                continue;
            }
            writer.encoded_row(clustering, row);
            counts.rows += 1;
            if writer.byte_count() >= CHUNK_BYTES {
                stopped_at = Some(clustering.to_vec());
                break;
            }
        }
        if writer.byte_count() == nothing_bytes {
            content.truncate(start);
            return Ok(None);
        }
        counts.partitions += u64::from(self.resumed.is_none());
        let length = u32::try_from(content.len() - start - 4).expect("a chunk is below 4 GiB");
        content[start..start + 4].copy_from_slice(&length.to_le_bytes());
        Ok(stopped_at)
    }
}
