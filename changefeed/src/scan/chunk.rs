//! Rows that were scanned together, and what became of them since.
//!
//! A chunk is read from the table at no moment in particular: each of its rows is as it was at some
//! time between the *start*, up to which everything was known to be in what was read, and
//! [`Chunk::placed`]. Then every change after the start is merged into it, in the log's order, until
//! the log is closed at some time at or above `placed`: from then on the chunk is the table as of
//! that time. What is merged is whole rows, so it does not matter whether what was read had the
//! change already.

use super::place::{Place, PlaceWithin};
use crate::event::{Change, Event, EventError, RowCells, RowKind};
use crate::source::{LogRow, Operation, TableShape};
use cdc::{CdcError, LogBuffer, LogLayout};
use model::clustering::{AFTER, encode_component};
use model::codec::DecodeError;
use model::key::encode_partition_key;
use model::mutation::{MutationItem, MutationView};
use model::read::{END_POSITION, Page};
use model::token::token_of;
use model::{EpochSeconds, TableId, TimestampMicros};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Rows of a table between two places, as the log tells rows after a change.
#[derive(Clone, Debug)]
pub struct Chunk {
    rows: BTreeMap<RowPlace, LogRow>,
    /// All rows of the tables up to here are in this chunk or in those before it.
    pub end: Place,
    /// Whether it is the last.
    pub is_last: bool,
    /// No change that is in what was read has its place in the log above this, in microseconds.
    pub placed: TimestampMicros,
}

/// A row's place in its table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RowPlace {
    token: i64,
    key: Arc<[u8]>,
    /// Clustering position; empty for the static row, and where there are no clustering columns.
    position: Box<[u8]>,
}

/// Where an event's row, or the first row that it may tell of, lies.
#[derive(Debug)]
pub(super) struct EventPlace {
    pub(super) token: i64,
    pub(super) key: Vec<u8>,
    pub(super) position: Vec<u8>,
}

/// A page that is not one of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageError(String);

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a scanned row cannot be read: {}", self.0)
    }
}

impl std::error::Error for PageError {}

impl From<DecodeError> for PageError {
    fn from(error: DecodeError) -> Self {
        PageError(error.to_string())
    }
}

impl From<CdcError> for PageError {
    fn from(error: CdcError) -> Self {
        PageError(error.to_string())
    }
}

impl Chunk {
    /// No rows; `end` is where the scan comes with it.
    pub fn empty(end: Place, is_last: bool) -> Chunk {
        Chunk { rows: BTreeMap::new(), end, is_last, placed: TimestampMicros::MIN }
    }

    /// The rows of a page that was read with static rows, behind the place `after`. `now` is the
    /// time that the read took for what has expired.
    pub fn of_page(
        layout: &LogLayout,
        shape: &TableShape,
        page: &Page,
        after: Option<&Place>,
        now: EpochSeconds,
    ) -> Result<Chunk, PageError> {
        let mut chunk = Chunk::empty(Place::end_of(shape.table), false);
        let mut told = LogBuffer::new();
        let mut rows = Vec::new();
        for partition in page.partitions() {
            let partition = partition?;
            rows.clear();
            cdc::scan::tell_rows(layout, &partition, now, &mut told)?;
            for mutation in told.mutations() {
                shape.read_rows(&MutationView::new(mutation)?, &mut rows)?;
            }
            chunk.add_partition(layout, &partition, after, &mut rows)?;
        }
        if let Some(resume) = &page.resume {
            let token = token_of(layout.base().partitioner, &resume.key).0;
            let (key, clustering) = (resume.key.clone(), resume.clustering.clone());
            chunk.end.within = Some(PlaceWithin { token, key, clustering });
        }
        Ok(chunk)
    }

    fn add_partition(
        &mut self,
        layout: &LogLayout,
        partition: &MutationView,
        after: Option<&Place>,
        rows: &mut Vec<LogRow>,
    ) -> Result<(), PageError> {
        let key: Arc<[u8]> = partition.key().into();
        let (table, token) = (layout.base().id, token_of(layout.base().partitioner, &key).0);
        let positions = partition.items().map(|item| match item {
            MutationItem::Row { clustering, .. } => clustering,
            _ => &[],
        });
        if positions.clone().count() != rows.len() {
            return Err(PageError("it holds what is no live row".to_owned()));
        }
        for (position, row) in positions.zip(rows.drain(..)) {
            // A page that goes on within a partition has its static row once more.
            if after.is_none_or(|after| !after.covers(table, token, &key, position)) {
                let place = RowPlace { token, key: key.clone(), position: position.into() };
                self.rows.insert(place, row);
            }
        }
        Ok(())
    }

    /// How many rows it has.
    pub fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// What it takes in memory, about.
    pub fn len_bytes(&self) -> usize {
        let of_place = |place: &RowPlace| size_of::<RowPlace>() + place.position.len();
        self.rows.iter().map(|(place, row)| of_place(place) + row.len_bytes()).sum()
    }

    /// The table that it is of.
    pub fn table(&self) -> TableId {
        self.end.table
    }

    /// Its rows in order.
    pub(crate) fn into_rows(self) -> impl Iterator<Item = LogRow> {
        self.rows.into_values()
    }

    /// Merges a change of this table in, the next in the log's order. Rows behind the chunk's end
    /// are the next one's.
    pub(super) fn merge(&mut self, event: &Event, place: EventPlace) -> Result<(), EventError> {
        let EventPlace { token, key, position } = place;
        let key: Arc<[u8]> = key.into();
        if event.kind == RowKind::Partition {
            let (start, end) = match event.range {
                Some((start, end)) => (bound(event.shape, start)?, bound(event.shape, end)?),
                None => (Vec::new(), END_POSITION.to_vec()),
            };
            self.remove(token, &key, &start, &end);
            return Ok(());
        }
        if !self.end.covers(event.shape.table, token, &key, &position) {
            return Ok(());
        }
        let place = RowPlace { token, key, position: position.into() };
        let image = event.after.filter(|after| {
            event.change != Change::Delete && after.row.operation == Operation::Postimage
        });
        match image {
            Some(after) => drop(self.rows.insert(place, after.row.clone())),
            None => drop(self.rows.remove(&place)),
        }
        Ok(())
    }

    fn remove(&mut self, token: i64, key: &Arc<[u8]>, start: &[u8], end: &[u8]) {
        if start >= end {
            return;
        }
        let place =
            |position: &[u8]| RowPlace { token, key: key.clone(), position: position.into() };
        let gone: Vec<RowPlace> =
            self.rows.range(place(start)..place(end)).map(|(place, _)| place.clone()).collect();
        for place in gone {
            self.rows.remove(&place);
        }
    }
}

impl EventPlace {
    /// Where an event lies.
    pub(super) fn of(event: &Event) -> Result<EventPlace, EventError> {
        let values: Option<Vec<&[u8]>> = event.key.partition_key().iter().copied().collect();
        let values = values.unwrap_or_default();
        let key = encode_partition_key(&values)?;
        let position = match event.kind {
            RowKind::Row => position_of(event.shape, event.key)?,
            RowKind::Static | RowKind::Partition => Vec::new(),
        };
        Ok(EventPlace { token: token_of(event.shape.partitioner, &key).0, key, position })
    }
}

/// The position of a row, or of the prefix that a bound has.
fn position_of(shape: &TableShape, cells: &RowCells) -> Result<Vec<u8>, EventError> {
    let mut position = Vec::new();
    for (column, value) in shape.clustering_key.iter().zip(cells.clustering()) {
        let Some(value) = value else { break };
        encode_component(&column.cql_type, column.is_descending, value, &mut position)?;
    }
    Ok(position)
}

/// The position at which a deleted range begins or ends. The static row is in none.
fn bound(shape: &TableShape, cells: &RowCells) -> Result<Vec<u8>, EventError> {
    let mut position = position_of(shape, cells)?;
    let lies_behind = match cells.row.operation {
        Operation::RangeStartInclusive => false,
        Operation::RangeStartExclusive => !position.is_empty(),
        Operation::RangeEndExclusive => position.is_empty(),
        _ => true,
    };
    if lies_behind {
        position.push(AFTER);
    } else if position.is_empty() {
        // Before every row, behind the static one.
        position.push(0);
    }
    Ok(position)
}
