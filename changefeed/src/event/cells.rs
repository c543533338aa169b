//! The values of one log row, by the base table's columns.

use super::EventError;
use crate::source::{LogColumn, LogRow, TableShape};
use model::ColumnId;

/// Slots of a data column: its value, whether it was deleted, which elements of it were.
const SLOTS_PER_COLUMN: usize = 3;

/// A log row and where its values are.
#[derive(Clone, Debug)]
pub struct RowCells<'a> {
    /// The row.
    pub row: &'a LogRow,
    partition_key_count: usize,
    key_count: usize,
    /// Partition key, clustering key, then [`SLOTS_PER_COLUMN`] for each data column.
    slots: Box<[Option<&'a [u8]>]>,
}

impl<'a> RowCells<'a> {
    pub(crate) fn new(shape: &'a TableShape, row: &'a LogRow) -> Result<RowCells<'a>, EventError> {
        let partition_key_count = shape.partition_key.len();
        let key_count = partition_key_count + shape.clustering_key.len();
        let count = key_count + SLOTS_PER_COLUMN * shape.columns.len();
        let mut slots = vec![None; count].into_boxed_slice();
        for (column, value) in shape.cells(row) {
            let slot = match column {
                LogColumn::PartitionKey(index) => index,
                LogColumn::Clustering(index) => partition_key_count + index,
                LogColumn::Value(index) => key_count + SLOTS_PER_COLUMN * index,
                LogColumn::Deleted(index) => key_count + SLOTS_PER_COLUMN * index + 1,
                LogColumn::DeletedElements(index) => key_count + SLOTS_PER_COLUMN * index + 2,
            };
            slots[slot] = Some(value);
        }
        if slots[..partition_key_count].contains(&None) {
            let why = "a row lacks a part of its partition key".to_owned();
            return Err(EventError::Malformed(why));
        }
        Ok(RowCells { row, partition_key_count, key_count, slots })
    }

    /// The same key, and nothing else.
    pub(crate) fn without_values(&self) -> RowCells<'a> {
        let mut cells = self.clone();
        cells.slots[self.key_count..].fill(None);
        cells
    }

    /// The values of the partition key; all are there.
    pub fn partition_key(&self) -> &[Option<&'a [u8]>] {
        &self.slots[..self.partition_key_count]
    }

    /// The values of the clustering key: all, none (static row, partition), or a prefix (a bound).
    pub fn clustering(&self) -> &[Option<&'a [u8]>] {
        &self.slots[self.partition_key_count..self.key_count]
    }

    /// The value of a data column by its number in the shape: in a change of a collection or user
    /// type, the new elements.
    pub fn value(&self, column: usize) -> Option<&'a [u8]> {
        self.slots[self.key_count + SLOTS_PER_COLUMN * column]
    }

    /// The value of any column of the base table.
    pub(crate) fn value_of(&self, shape: &TableShape, id: ColumnId) -> Option<&'a [u8]> {
        let keys = shape.partition_key.iter().chain(&shape.clustering_key);
        if let Some(index) = keys.into_iter().position(|column| column.id == id) {
            return self.slots[index];
        }
        let index = shape.columns.iter().position(|column| column.id == id)?;
        self.value(index)
    }

    /// Whether a change set a data column to null, or replaced it as a whole.
    pub fn is_deleted(&self, column: usize) -> bool {
        self.slots[self.key_count + SLOTS_PER_COLUMN * column + 1] == Some(&[1])
    }

    /// The set of a data column's elements that a change deleted.
    pub fn deleted_elements(&self, column: usize) -> Option<&'a [u8]> {
        self.slots[self.key_count + SLOTS_PER_COLUMN * column + 2]
    }
}
