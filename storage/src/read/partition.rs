//! The rows of one partition, merged from all sources, in either direction.
//!
//! Heads (partition tombstone, static row, range tombstones) are merged when the partition is
//! opened. Rows are merged as they are walked: a row that is in one source is handed on as it
//! stands there, without a copy. Rows from files are checked here, once, before anything views
//! them.

use crate::error::ReadError;
use crate::memtable::PartitionRef;
use crate::memtable::leaves::Position;
use crate::read::scan::Scan;
use crate::read::{RowBytes, Sources};
use crate::sstable::{BlockSource, KeyHash, TableRows};
use model::Token;
use model::merge::{merge_rows, shadow_row};
use model::mutation::MutationItem;
use model::partition::Partition;
use model::row::RowView;
use std::cmp::Ordering;
use std::sync::Arc;

/// The rows of a partition in one source.
enum RowCursor<'a> {
    Memory { partition: PartitionRef<'a>, at: Option<Position> },
    Table(TableRows),
}

impl RowCursor<'_> {
    fn current(&self) -> Result<Option<RowBytes<'_>>, ReadError> {
        match self {
            RowCursor::Memory { partition, at } => Ok(at.and_then(|at| partition.row_at(at))),
            RowCursor::Table(rows) => rows.current(),
        }
    }

    fn seek(&mut self, to: &[u8], source: &mut impl BlockSource) -> Result<(), ReadError> {
        match self {
            RowCursor::Memory { partition, at } => {
                *at = Some(partition.seek(to));
                Ok(())
            }
            RowCursor::Table(rows) => rows.seek(to, source),
        }
    }

    fn seek_before(&mut self, to: &[u8], source: &mut impl BlockSource) -> Result<(), ReadError> {
        match self {
            RowCursor::Memory { partition, at } => {
                *at = partition.previous(partition.seek(to));
                Ok(())
            }
            RowCursor::Table(rows) => rows.seek_before(to, source),
        }
    }

    fn step(&mut self, reversed: bool, source: &mut impl BlockSource) -> Result<(), ReadError> {
        match self {
            RowCursor::Memory { partition, at } => {
                *at = at.and_then(|at| {
                    if reversed { partition.previous(at) } else { Some(partition.next(at)) }
                });
                Ok(())
            }
            RowCursor::Table(rows) if reversed => rows.step_back(source),
            RowCursor::Table(rows) => rows.step(source),
        }
    }

    fn check(&self, row: &[u8]) -> Result<(), ReadError> {
        match self {
            RowCursor::Memory { .. } => Ok(()),
            RowCursor::Table(rows) => {
                RowView::check(row).map(drop).map_err(|e| rows.decode_error(&e))
            }
        }
    }
}

struct Input<'a> {
    cursor: RowCursor<'a>,
    /// Its current row was handed out: step before looking at it again.
    is_used: bool,
}

impl<'a> Input<'a> {
    fn new(cursor: RowCursor<'a>) -> Input<'a> {
        Input { cursor, is_used: false }
    }
}

/// An open partition. See the module.
pub(crate) struct PartitionReader<'a> {
    /// What it has beside rows, of all sources.
    pub(crate) head: Partition,
    inputs: Vec<Input<'a>>,
    merged: Vec<u8>,
    scratch: Vec<u8>,
    reversed: bool,
}

impl<'a> PartitionReader<'a> {
    /// Opens a partition in every source that has it.
    pub(crate) fn open(
        sources: Sources<'a>,
        token: Token,
        key: &Arc<[u8]>,
        reversed: bool,
        blocks: &mut impl BlockSource,
    ) -> Result<Self, ReadError> {
        let hash = KeyHash::new(token, key);
        let mut reader = PartitionReader::in_memory(sources, token, key, reversed);
        for table in sources.tables.iter().filter(|t| t.may_contain(token, key, hash)) {
            let rows = TableRows::open(&table.table, token.0, key, &mut reader.head, blocks)?;
            reader.inputs.extend(rows.map(|rows| Input::new(RowCursor::Table(rows))));
        }
        Ok(reader)
    }

    /// Opens the partition that a scan has come to. The scan stands at it: it is not looked for.
    pub(crate) fn open_found(scan: &Scan<'a>, reversed: bool) -> Result<Self, ReadError> {
        let (token, key) = scan.at();
        let mut reader = PartitionReader::in_memory(scan.sources(), *token, key, reversed);
        for walk in scan.found() {
            let rows = TableRows::at(walk, key, &mut reader.head)?;
            reader.inputs.extend(rows.map(|rows| Input::new(RowCursor::Table(rows))));
        }
        Ok(reader)
    }

    fn in_memory(sources: Sources<'a>, token: Token, key: &[u8], reversed: bool) -> Self {
        let mut head = Partition::default();
        let mut inputs = Vec::new();
        for memtable in sources.memtables(token) {
            if let Some(partition) = memtable.partition(token, key) {
                merge_head(&mut head, &partition);
                inputs.push(Input::new(RowCursor::Memory { partition, at: None }));
            }
        }
        PartitionReader { head, inputs, merged: Vec::new(), scratch: Vec::new(), reversed }
    }

    /// Goes to where the walk begins: forward at the first row at or behind `position`, reversed
    /// at the last row before it.
    pub(crate) fn seek(
        &mut self,
        position: &[u8],
        blocks: &mut impl BlockSource,
    ) -> Result<(), ReadError> {
        for input in &mut self.inputs {
            input.is_used = false;
            if self.reversed {
                input.cursor.seek_before(position, blocks)?;
            } else {
                input.cursor.seek(position, blocks)?;
            }
        }
        Ok(())
    }

    /// The next row as it was written: versions merged, tombstones outside it not applied.
    /// `None` at the end of the partition.
    pub(crate) fn next_raw(
        &mut self,
        blocks: &mut impl BlockSource,
    ) -> Result<Option<(&[u8], RowView<'_>)>, ReadError> {
        for input in &mut self.inputs {
            if std::mem::replace(&mut input.is_used, false) {
                input.cursor.step(self.reversed, blocks)?;
            }
        }
        let Some(best) = self.best()? else { return Ok(None) };
        let mut is_merged = false;
        for index in best + 1..self.inputs.len() {
            let (Some((clustering, first)), Some((other, row))) =
                (self.inputs[best].cursor.current()?, self.inputs[index].cursor.current()?)
            else {
                continue;
            };
            if clustering != other {
                continue;
            }
            self.inputs[index].cursor.check(row)?;
            if !is_merged {
                self.inputs[best].cursor.check(first)?;
            }
            self.scratch.clear();
            let so_far = if is_merged { &self.merged } else { first };
            merge_rows(RowView::new(so_far), RowView::new(row), &mut self.scratch);
            std::mem::swap(&mut self.merged, &mut self.scratch);
            is_merged = true;
            self.inputs[index].is_used = true;
        }
        self.inputs[best].is_used = true;
        let cursor = &self.inputs[best].cursor;
        let Some((clustering, row)) = cursor.current()? else { return Ok(None) };
        if is_merged {
            return Ok(Some((clustering, RowView::new(&self.merged))));
        }
        cursor.check(row)?;
        Ok(Some((clustering, RowView::new(row))))
    }

    /// The first source that stands at the first row in the order of the walk.
    fn best(&self) -> Result<Option<usize>, ReadError> {
        let mut best: Option<(usize, &[u8])> = None;
        for (index, input) in self.inputs.iter().enumerate() {
            let Some((clustering, _)) = input.cursor.current()? else { continue };
            let order = best.map(|(_, best)| clustering.cmp(best));
            let wanted = if self.reversed { Ordering::Greater } else { Ordering::Less };
            if order.is_none_or(|order| order == wanted) {
                best = Some((index, clustering));
            }
        }
        Ok(best.map(|(index, _)| index))
    }
}

/// Merges what a memtable's partition has beside rows into `head`.
pub(crate) fn merge_head(head: &mut Partition, partition: &PartitionRef) {
    if let Some(deletion) = partition.deletion() {
        head.apply_item(MutationItem::PartitionTombstone(deletion));
    }
    if let Some(row) = partition.static_row() {
        head.apply_item(MutationItem::StaticRow(RowView::new(row)));
    }
    for range in partition.range_tombstones().into_iter().flatten() {
        let (start, end) = (&range.start, &range.end);
        head.apply_item(MutationItem::RangeTombstone { start, end, deletion: range.deletion });
    }
}

/// A partition's head without what its own tombstones hide.
pub(crate) fn settled_head(head: &Partition) -> Partition {
    let mut settled = head.clone();
    settled.static_row = head
        .effective_static_row()
        .filter(|row| !RowView::new(row).is_empty())
        .unwrap_or_default()
        .into_owned();
    if let Some(deletion) = settled.deletion {
        settled.range_tombstones.shadow(deletion);
    }
    settled
}

/// What a row has left under the tombstones of its partition's head; `buffer` takes it when it had
/// to be rewritten.
pub(crate) fn effective<'a>(
    head: &Partition,
    clustering: &[u8],
    row: RowView<'a>,
    buffer: &'a mut Vec<u8>,
) -> RowView<'a> {
    match head.deletion_covering(clustering) {
        None => row,
        Some(deletion) => {
            buffer.clear();
            shadow_row(row, deletion, buffer);
            RowView::new(buffer)
        }
    }
}
