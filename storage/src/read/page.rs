//! Follows a read command: partitions, slices, limits, resuming.
//!
//! A read may stop before its page is full: a block is missing, or its share of the thread's time
//! is used up. What it got to is in the caller's [`ReadProgress`]; called again with it, the read
//! goes on behind the last row it looked at, and nothing is handed to the sink twice.

use crate::error::ReadError;
use crate::read::partition::{PartitionReader, effective};
use crate::read::scan::Scan;
use crate::read::{PartitionId, Sources};
use crate::sstable::BlockSource;
use model::read::{Page, ReadCommand, ReadScope, ResumePoint, RowSink};
use model::row::RowView;
use model::schema::Partitioner;
use model::token::token_of;
use model::{TableId, Token};
use std::sync::Arc;

/// Rows looked at, dead ones included, before a read lets others run: about 500 microseconds.
const ROWS_PER_TURN_MAX: u32 = 2_000;
/// What a partition costs beside its rows, in the same measure.
const PARTITION_TURN_COST: u32 = 4;

/// How far a read got.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one position")]
pub struct ReadProgress {
    is_started: bool,
    /// The partition that was begun last, and whether it is finished.
    partition: Option<PartitionId>,
    is_partition_finished: bool,
    /// The sink was told of the partition.
    is_announced: bool,
    /// The last row looked at, when `has_clustering`.
    clustering: Vec<u8>,
    has_clustering: bool,
    partition_rows: u32,
    row_count: u32,
    bytes: usize,
    turn_cost: u32,
    page: Page,
}

/// How a read ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadEnd {
    /// Rows handed to the sink.
    pub row_count: u32,
    /// Set when there may be more.
    pub resume: Option<ResumePoint>,
}

impl ReadProgress {
    /// Takes up where the page before ended.
    fn start(&mut self, command: &ReadCommand, partitioner: Partitioner) {
        self.is_started = true;
        let Some(resume) = &command.resume else { return };
        self.partition = Some((token_of(partitioner, &resume.key), resume.key.clone().into()));
        self.is_partition_finished = resume.clustering.is_none();
        self.partition_rows = resume.partition_rows;
        if let Some(clustering) = &resume.clustering {
            self.note_row(clustering);
        }
    }

    fn begin(&mut self, partition: PartitionId) {
        if self.partition.as_ref() != Some(&partition) {
            self.partition = Some(partition);
            self.partition_rows = 0;
            self.has_clustering = false;
            self.is_announced = false;
        }
        self.is_partition_finished = false;
        self.turn_cost += PARTITION_TURN_COST;
    }

    fn note_row(&mut self, clustering: &[u8]) {
        self.clustering.clear();
        self.clustering.extend_from_slice(clustering);
        self.has_clustering = true;
        self.turn_cost += 1;
    }

    fn pause_if_due(&mut self) -> Result<(), ReadError> {
        if self.turn_cost < ROWS_PER_TURN_MAX {
            return Ok(());
        }
        self.turn_cost = 0;
        Err(ReadError::Paused)
    }

    fn is_full(&self, command: &ReadCommand) -> bool {
        self.row_count >= command.row_limit || self.bytes > command.page_bytes
    }

    fn resume_point(&self) -> Option<ResumePoint> {
        let (_, key) = self.partition.as_ref()?;
        let is_inside = self.has_clustering && !self.is_partition_finished;
        Some(ResumePoint {
            key: (**key).into(),
            clustering: is_inside.then(|| self.clustering.as_slice().into()),
            partition_rows: self.partition_rows,
        })
    }
}

/// Reads into a sink until the page is full or everything was read.
pub(crate) fn read_into(
    sources: Sources,
    partitioner: Partitioner,
    command: &ReadCommand,
    progress: &mut ReadProgress,
    sink: &mut impl RowSink,
    blocks: &mut impl BlockSource,
) -> Result<ReadEnd, ReadError> {
    if !progress.is_started {
        progress.start(command, partitioner);
    }
    let more = match &command.scope {
        ReadScope::Partition(key) => {
            let token = token_of(partitioner, key);
            progress.begin((token, key.clone()));
            let reader = PartitionReader::open(sources, token, key, command.reversed, blocks)?;
            read_partition(reader, command, progress, sink, blocks)?;
            !progress.is_partition_finished
        }
        ReadScope::TokenRange { first, last } => {
            read_range(sources, command, (*first, *last), progress, sink, blocks)?
        }
    };
    let resume = if more { progress.resume_point() } else { None };
    Ok(ReadEnd { row_count: progress.row_count, resume })
}

/// Whether there may be more.
fn read_range(
    sources: Sources,
    command: &ReadCommand,
    (first, last): (i64, i64),
    progress: &mut ReadProgress,
    sink: &mut impl RowSink,
    blocks: &mut impl BlockSource,
) -> Result<bool, ReadError> {
    let (start, is_inclusive) = match &progress.partition {
        Some(partition) => (partition.clone(), !progress.is_partition_finished),
        None => ((Token(first), Arc::from(&[][..])), true),
    };
    let mut scan = Scan::new(sources, start, is_inclusive, last);
    loop {
        if progress.is_full(command) {
            return Ok(true);
        }
        progress.pause_if_due()?;
        let Some(partition) = scan.next(blocks)? else { return Ok(false) };
        progress.begin(partition);
        let reader = PartitionReader::open_found(&scan, command.reversed)?;
        read_partition(reader, command, progress, sink, blocks)?;
        if !progress.is_partition_finished {
            return Ok(true);
        }
    }
}

/// Reads the partition that the progress names until it is finished or the page is full.
fn read_partition(
    mut reader: PartitionReader,
    command: &ReadCommand,
    progress: &mut ReadProgress,
    sink: &mut impl RowSink,
    blocks: &mut impl BlockSource,
) -> Result<(), ReadError> {
    let Some((_, key)) = progress.partition.clone() else { return Ok(()) };
    let head = std::mem::take(&mut reader.head);
    let static_row = if command.include_static { head.effective_static_row() } else { None };
    let static_row =
        static_row.as_ref().map(|row| RowView::new(row)).filter(|row| row.is_live(command.now));
    let mut buffer = Vec::new();
    let mut at = Vec::new();
    for index in 0..command.slices.len() {
        let slice = &command.slices[ordinal(index, command)];
        if progress.partition_rows >= command.partition_row_limit {
            break;
        }
        let (start, end) = (&*slice.start, &*slice.end);
        if !start_of_walk(command.reversed, (start, end), progress, &mut at) {
            continue;
        }
        reader.seek(&at, blocks)?;
        while let Some((clustering, row)) = reader.next_raw(blocks)? {
            let is_behind = if command.reversed { clustering < start } else { clustering >= end };
            if is_behind || progress.partition_rows >= command.partition_row_limit {
                break;
            }
            let row = effective(&head, clustering, row, &mut buffer);
            if row.is_live(command.now) {
                if !std::mem::replace(&mut progress.is_announced, true) {
                    progress.bytes += key.len();
                    sink.partition(&key, static_row);
                }
                sink.row(clustering, row);
                progress.bytes += clustering.len() + row.as_bytes().len();
                progress.row_count += 1;
                progress.partition_rows += 1;
            }
            progress.note_row(clustering);
            if progress.is_full(command) {
                progress.is_partition_finished =
                    progress.partition_rows >= command.partition_row_limit;
                return Ok(());
            }
            progress.pause_if_due()?;
        }
    }
    if progress.partition_rows == 0 && static_row.is_some() {
        sink.partition(&key, static_row);
        progress.row_count += 1;
        progress.bytes += key.len();
    }
    progress.is_partition_finished = true;
    Ok(())
}

/// The index of the slice that a walk visits as its `index`-th.
fn ordinal(index: usize, command: &ReadCommand) -> usize {
    if command.reversed { command.slices.len() - 1 - index } else { index }
}

/// Puts the position where the walk of a slice begins into `at`; `false` when the read is past it.
fn start_of_walk(
    reversed: bool,
    (start, end): (&[u8], &[u8]),
    progress: &ReadProgress,
    at: &mut Vec<u8>,
) -> bool {
    at.clear();
    let last = progress.has_clustering.then_some(&progress.clustering[..]);
    if reversed {
        at.extend_from_slice(last.map_or(end, |last| last.min(end)));
        return &at[..] > start;
    }
    match last.filter(|last| *last >= start) {
        Some(last) => {
            // The least position behind a row: its key and a zero byte.
            at.extend_from_slice(last);
            at.push(0);
        }
        None => at.extend_from_slice(start),
    }
    &at[..] < end
}

/// Collects a page.
struct PageSink<'a> {
    page: &'a mut Page,
    table: TableId,
}

impl RowSink for PageSink<'_> {
    fn partition(&mut self, key: &[u8], static_row: Option<RowView>) {
        self.page.partition(self.table, key, |writer| {
            if let Some(row) = static_row {
                writer.encoded_static_row(row);
            }
        });
    }

    fn row(&mut self, clustering: &[u8], row: RowView) {
        self.page.row(clustering, row);
    }
}

/// Reads a page. While it is not complete its rows are in the progress.
pub(crate) fn read_page(
    sources: Sources,
    partitioner: Partitioner,
    command: &ReadCommand,
    progress: &mut ReadProgress,
    blocks: &mut impl BlockSource,
) -> Result<Page, ReadError> {
    let mut page = std::mem::take(&mut progress.page);
    let mut sink = PageSink { page: &mut page, table: command.table };
    match read_into(sources, partitioner, command, progress, &mut sink, blocks) {
        Ok(end) => {
            page.row_count = end.row_count;
            page.resume = end.resume;
            Ok(page)
        }
        Err(error) => {
            progress.page = page;
            Err(error)
        }
    }
}
