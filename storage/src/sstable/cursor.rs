//! Reading one partition of a table, row by row, in either direction; and walking partitions.
//!
//! A cursor holds the block it stands in, so moving within a block touches neither cache nor
//! index. Every call that may need another block takes the [`BlockSource`] and may fail with a
//! miss; the cursor is then thrown away and the read begins again from where it got to.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::block::{Block, BlockSource};
use super::data::{DataBlock, Mark};
use super::index::Position;
use super::table::{BlockPosition, SsTable};
use crate::error::ReadError;
use crate::read::RowBytes;
use model::codec::DecodeError;
use model::partition::Partition;
use std::ops::Range;
use std::sync::Arc;

/// A block of a table that a cursor stands in.
#[derive(Clone, Debug)]
struct Place {
    at: BlockPosition,
    block: Arc<Block>,
}

impl Place {
    fn data(&self, table: &SsTable) -> Result<DataBlock<'_>, ReadError> {
        DataBlock::new(&self.block.bytes).map_err(|e| table.decode_error(&self.block, &e))
    }

    fn checked<T>(&self, table: &SsTable, result: Result<T, DecodeError>) -> Result<T, ReadError> {
        result.map_err(|e| table.decode_error(&self.block, &e))
    }
}

/// The rows of one partition of one table.
#[derive(Debug)]
pub(crate) struct TableRows {
    table: Arc<SsTable>,
    token: i64,
    key: Arc<[u8]>,
    place: Place,
    /// The partition's rows in this block.
    rows: Range<usize>,
    /// Whether another partition follows in this block: then this one goes on in no other.
    ends_here: bool,
    /// The current one; outside of `rows` when the cursor has come to an end.
    row: Option<usize>,
}

impl TableRows {
    /// Opens a partition and merges its head into `head`. `None` when it is not in the table.
    pub(crate) fn open(
        table: &Arc<SsTable>,
        token: i64,
        key: &Arc<[u8]>,
        head: &mut Partition,
        source: &mut impl BlockSource,
    ) -> Result<Option<TableRows>, ReadError> {
        let start = Position { token, key, clustering: None };
        let Some(place) = find_place(table, &start, source)? else { return Ok(None) };
        let data = place.data(table)?;
        let found = place.checked(table, data.find_mark(token, key))?;
        let Ok(index) = found else { return Ok(None) };
        let mark = place.checked(table, data.mark(index))?;
        place.checked(table, mark.read_head(head))?;
        let (rows, ends_here) = (mark.rows, index + 1 < data.mark_count());
        let (table, key) = (table.clone(), key.clone());
        Ok(Some(TableRows { table, token, key, place, rows, ends_here, row: None }))
    }

    /// The same of the partition that a walk is at.
    pub(crate) fn at(
        walk: &TablePartitions,
        key: &Arc<[u8]>,
        head: &mut Partition,
    ) -> Result<Option<TableRows>, ReadError> {
        let Some(place) = walk.place.clone() else { return Ok(None) };
        let table = walk.table.clone();
        let data = place.data(&table)?;
        let mark = place.checked(&table, data.mark(walk.mark))?;
        place.checked(&table, mark.read_head(head))?;
        let (token, key) = (mark.token, key.clone());
        let (rows, ends_here) = (mark.rows, walk.mark + 1 < data.mark_count());
        Ok(Some(TableRows { table, token, key, place, rows, ends_here, row: None }))
    }

    /// The current row: clustering key and bytes. The bytes are not checked.
    pub(crate) fn current(&self) -> Result<Option<RowBytes<'_>>, ReadError> {
        let Some(row) = self.row else { return Ok(None) };
        let data = self.place.data(&self.table)?;
        self.place.checked(&self.table, data.row(row)).map(Some)
    }

    /// The error for a row that does not decode.
    pub(crate) fn decode_error(&self, error: &DecodeError) -> ReadError {
        self.table.decode_error(&self.place.block, error)
    }

    /// Goes to the first row at or behind a position.
    pub(crate) fn seek(
        &mut self,
        position: &[u8],
        source: &mut impl BlockSource,
    ) -> Result<(), ReadError> {
        let row = self.lower_bound(position, source)?;
        self.row = Some(row);
        if row >= self.rows.end { self.enter_next_block(source) } else { Ok(()) }
    }

    /// Goes to the last row before a position.
    pub(crate) fn seek_before(
        &mut self,
        position: &[u8],
        source: &mut impl BlockSource,
    ) -> Result<(), ReadError> {
        self.row = Some(self.lower_bound(position, source)?);
        self.step_back(source)
    }

    pub(crate) fn step(&mut self, source: &mut impl BlockSource) -> Result<(), ReadError> {
        let Some(row) = self.row else { return Ok(()) };
        self.row = Some(row + 1);
        if row + 1 >= self.rows.end { self.enter_next_block(source) } else { Ok(()) }
    }

    pub(crate) fn step_back(&mut self, source: &mut impl BlockSource) -> Result<(), ReadError> {
        let Some(row) = self.row else { return Ok(()) };
        if row > self.rows.start {
            self.row = Some(row - 1);
            return Ok(());
        }
        self.row = None;
        if !self.mark_here()?.is_some_and(|mark| mark.is_continued()) {
            return Ok(());
        }
        let Some(at) = self.table.previous(self.place.at, source)? else { return Ok(()) };
        if self.enter(at, source)? {
            self.row = self.rows.end.checked_sub(1).filter(|row| *row >= self.rows.start);
        }
        Ok(())
    }

    /// The first row at or behind a position in the block that would hold it.
    fn lower_bound(
        &mut self,
        position: &[u8],
        source: &mut impl BlockSource,
    ) -> Result<usize, ReadError> {
        let whole = Position { token: self.token, key: &self.key, clustering: Some(position) };
        if !self.is_whole_here()?
            && let Some(at) = self.table.locate(&whole, source)?
            && at != self.place.at
        {
            self.enter(at, source)?;
        }
        let data = self.place.data(&self.table)?;
        let found = data.find_row(self.rows.clone(), position);
        Ok(match self.place.checked(&self.table, found)? {
            Ok(row) | Err(row) => row,
        })
    }

    /// Whether the partition begins and ends in this block.
    fn is_whole_here(&self) -> Result<bool, ReadError> {
        Ok(self.ends_here && self.mark_here()?.is_some_and(|mark| !mark.is_continued()))
    }

    fn mark_here(&self) -> Result<Option<Mark<'_>>, ReadError> {
        let data = self.place.data(&self.table)?;
        match self.place.checked(&self.table, data.find_mark(self.token, &self.key))? {
            Ok(index) => self.place.checked(&self.table, data.mark(index)).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Goes to the first row of the next block, if the partition goes on there.
    fn enter_next_block(&mut self, source: &mut impl BlockSource) -> Result<(), ReadError> {
        self.row = None;
        if self.ends_here {
            return Ok(());
        }
        let at = self.table.next(self.place.at, source)?;
        if self.enter(at, source)? {
            self.row = (!self.rows.is_empty()).then_some(self.rows.start);
        }
        Ok(())
    }

    /// Moves to another block; `false`, and nothing moved, when the partition is not in it.
    fn enter(
        &mut self,
        at: BlockPosition,
        source: &mut impl BlockSource,
    ) -> Result<bool, ReadError> {
        let Some(block) = self.table.block(at, source)? else { return Ok(false) };
        let place = Place { at, block };
        let data = place.data(&self.table)?;
        let found = place.checked(&self.table, data.find_mark(self.token, &self.key))?;
        let Ok(index) = found else { return Ok(false) };
        self.rows = place.checked(&self.table, data.mark(index))?.rows;
        self.ends_here = index + 1 < data.mark_count();
        self.place = place;
        Ok(true)
    }
}

/// Reads one row: its bytes are handed to `take`, the partition's head is merged into `head`.
/// For a wide partition only the row's own block is read, and the head's where there is one.
pub(crate) fn read_row(
    table: &SsTable,
    token: i64,
    key: &[u8],
    clustering: &[u8],
    head: &mut Partition,
    source: &mut impl BlockSource,
    take: impl FnOnce(&[u8]) -> Result<(), DecodeError>,
) -> Result<(), ReadError> {
    let position = Position { token, key, clustering: Some(clustering) };
    let Some(place) = find_place(table, &position, source)? else { return Ok(()) };
    let data = place.data(table)?;
    let Ok(index) = place.checked(table, data.find_mark(token, key))? else { return Ok(()) };
    let mark = place.checked(table, data.mark(index))?;
    place.checked(table, mark.read_head(head))?;
    if mark.has_head_earlier() {
        read_head(table, token, key, head, source)?;
    }
    if let Ok(row) = place.checked(table, data.find_row(mark.rows, clustering))? {
        let (_, bytes) = place.checked(table, data.row(row))?;
        place.checked(table, take(bytes))?;
    }
    Ok(())
}

/// Merges a partition's head into `head`.
pub(crate) fn read_head(
    table: &SsTable,
    token: i64,
    key: &[u8],
    head: &mut Partition,
    source: &mut impl BlockSource,
) -> Result<(), ReadError> {
    let start = Position { token, key, clustering: None };
    let Some(place) = find_place(table, &start, source)? else { return Ok(()) };
    let data = place.data(table)?;
    if let Ok(index) = place.checked(table, data.find_mark(token, key))? {
        let mark = place.checked(table, data.mark(index))?;
        place.checked(table, mark.read_head(head))?;
    }
    Ok(())
}

fn find_place(
    table: &SsTable,
    position: &Position,
    source: &mut impl BlockSource,
) -> Result<Option<Place>, ReadError> {
    let Some(at) = table.locate(position, source)? else { return Ok(None) };
    Ok(table.block(at, source)?.map(|block| Place { at, block }))
}

/// Walks the partitions of a table in order.
#[derive(Debug)]
pub(crate) struct TablePartitions {
    table: Arc<SsTable>,
    place: Option<Place>,
    mark: usize,
}

impl TablePartitions {
    /// Stands at the first partition at or behind `(token, key)`, or behind it when not inclusive.
    pub(crate) fn seek(
        table: &Arc<SsTable>,
        token: i64,
        key: &[u8],
        is_inclusive: bool,
        source: &mut impl BlockSource,
    ) -> Result<Self, ReadError> {
        let start = Position { token, key, clustering: None };
        let at = table.locate(&start, source)?.unwrap_or_else(SsTable::first);
        let block = table.block(at, source)?;
        let place = block.map(|block| Place { at, block });
        let mut walk = TablePartitions { table: table.clone(), place, mark: 0 };
        if let Some(place) = &walk.place {
            let found = place.checked(table, place.data(table)?.find_mark(token, key))?;
            walk.mark = match found {
                Ok(index) if !is_inclusive => index + 1,
                Ok(index) | Err(index) => index,
            };
        }
        walk.settle(source)?;
        Ok(walk)
    }

    /// The current partition, `None` behind the last.
    pub(crate) fn current(&self) -> Result<Option<(i64, &[u8])>, ReadError> {
        let Some(place) = &self.place else { return Ok(None) };
        let mark = place.checked(&self.table, place.data(&self.table)?.mark(self.mark))?;
        Ok(Some((mark.token, mark.key)))
    }

    pub(crate) fn step(&mut self, source: &mut impl BlockSource) -> Result<(), ReadError> {
        self.mark += 1;
        self.settle(source)
    }

    /// Leaves blocks that are used up and marks of partitions that began earlier.
    fn settle(&mut self, source: &mut impl BlockSource) -> Result<(), ReadError> {
        while let Some(place) = &self.place {
            let data = place.data(&self.table)?;
            if self.mark >= data.mark_count() {
                let at = self.table.next(place.at, source)?;
                let block = self.table.block(at, source)?;
                self.place = block.map(|block| Place { at, block });
                self.mark = 0;
            } else if place.checked(&self.table, data.mark(self.mark))?.is_continued() {
                self.mark += 1;
            } else {
                break;
            }
        }
        Ok(())
    }
}
