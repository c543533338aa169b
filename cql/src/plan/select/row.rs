//! One row as the selectors see it: a slot for each column of the table.
//!
//! Reading a row goes over its cells once and copies no value; non-frozen collections and user
//! types are put together from their cells when something asks for them. The slots' memory is used
//! again for every row of a result.

use crate::plan::error::PlanError;
use crate::wire::{OpenCell, write_cell};
use model::clustering::decode_component;
use model::key::PartitionKeyParts;
use model::path::{decode_path, field_index};
use model::row::{Cell, Cells, RowView};
use model::value::{CollectionBuilder, push_value};
use model::{ColumnDef, ColumnId, ColumnKind, CqlType, EpochSeconds, TableDef, ValueError};
use std::borrow::Cow;

/// A row and its partition, as they come from storage.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RowParts<'r> {
    /// The partition key.
    pub(super) key: &'r [u8],
    /// The static row, if it has content.
    pub(super) static_row: Option<RowView<'r>>,
    /// Clustering key and row; none for a partition with nothing but a static row.
    pub(super) row: Option<(&'r [u8], RowView<'r>)>,
}

/// A column of one row.
#[derive(Clone, Debug)]
pub(super) enum Slot<'r> {
    /// No live cell.
    Null,
    /// Part of the key.
    Value(&'r [u8]),
    /// A live cell.
    Cell(Cell<'r>),
    /// The cells of a multi-cell column, and of the columns behind it.
    Elements(Cells<'r>),
}

/// Which columns are read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RowReader {
    /// Whether any partition key column is.
    reads_key: bool,
    /// How many clustering columns are: up to the last one wanted.
    clustering_count: usize,
    /// Static and regular columns, each in the order of cells.
    static_columns: Vec<DataColumn>,
    regular_columns: Vec<DataColumn>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct DataColumn {
    id: ColumnId,
    /// Index in the table's columns.
    index: usize,
    is_multi_cell: bool,
}

/// The decoded values of a clustering key.
#[derive(Clone, Debug, Default)]
pub(super) struct ClusteringValues {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl ClusteringValues {
    fn decode(&mut self, table: &TableDef, count: usize, key: &[u8]) -> Result<(), ValueError> {
        self.bytes.clear();
        self.ends.clear();
        let mut rest = key;
        for column in table.clustering_key().iter().take(count) {
            decode_component(&column.cql_type, column.descending, &mut rest, &mut self.bytes)?;
            self.ends.push(self.bytes.len());
        }
        Ok(())
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.bytes.get(start..*end).unwrap_or_default())
    }
}

/// Bytes of the first `count` components of a clustering key.
pub(super) fn clustering_prefix_bytes(
    table: &TableDef,
    count: usize,
    key: &[u8],
    scratch: &mut ClusteringValues,
) -> Result<usize, ValueError> {
    if count >= table.clustering_count() {
        return Ok(key.len());
    }
    scratch.bytes.clear();
    let mut rest = key;
    for column in table.clustering_key().iter().take(count) {
        decode_component(&column.cql_type, column.descending, &mut rest, &mut scratch.bytes)?;
    }
    Ok(key.len() - rest.len())
}

impl RowReader {
    /// Reads the columns whose index in the table is marked.
    pub(super) fn new(table: &TableDef, is_wanted: &[bool]) -> RowReader {
        let mut reader = RowReader {
            reads_key: false,
            clustering_count: 0,
            static_columns: Vec::new(),
            regular_columns: Vec::new(),
        };
        for (index, column) in table.columns.iter().enumerate() {
            if !is_wanted.get(index).copied().unwrap_or(false) {
                continue;
            }
            let is_multi_cell = column.cql_type.is_multi_cell();
            let data = DataColumn { id: column.id, index, is_multi_cell };
            match column.kind {
                ColumnKind::PartitionKey(_) => reader.reads_key = true,
                ColumnKind::Clustering(at) => reader.clustering_count = usize::from(at) + 1,
                ColumnKind::Static => reader.static_columns.push(data),
                ColumnKind::Regular => reader.regular_columns.push(data),
            }
        }
        reader.static_columns.sort_unstable_by_key(|column| column.id);
        reader.regular_columns.sort_unstable_by_key(|column| column.id);
        reader
    }

    /// Whether any static column is read.
    pub(super) fn reads_static(&self) -> bool {
        !self.static_columns.is_empty()
    }

    /// Decodes the clustering key into `values`, whose bytes the slots will view.
    pub(super) fn decode_clustering(
        &self,
        table: &TableDef,
        parts: &RowParts,
        values: &mut ClusteringValues,
    ) -> Result<(), PlanError> {
        let (count, clustering) = match parts.row {
            Some((clustering, _)) => (self.clustering_count, clustering),
            None => (0, &[][..]),
        };
        Ok(values.decode(table, count, clustering)?)
    }

    /// Fills a slot for each column of the table; columns that are not read stay null.
    pub(super) fn fill<'r>(
        &self,
        table: &TableDef,
        parts: &RowParts<'r>,
        clustering: &'r ClusteringValues,
        now: EpochSeconds,
        slots: &mut Vec<Slot<'r>>,
    ) -> Result<(), PlanError> {
        slots.clear();
        slots.resize(table.columns.len(), Slot::Null);
        let key_count = table.partition_key_count();
        // No partition has an empty key: it is the row of an aggregate over nothing.
        if self.reads_key && !parts.key.is_empty() {
            for (slot, value) in slots.iter_mut().zip(PartitionKeyParts::new(key_count, parts.key))
            {
                *slot = Slot::Value(value?);
            }
        }
        for (slot, value) in slots.iter_mut().skip(key_count).zip(clustering.iter()) {
            *slot = Slot::Value(value);
        }
        if let Some(row) = parts.static_row {
            fill_cells(&self.static_columns, row, now, slots);
        }
        if let Some((_, row)) = parts.row {
            fill_cells(&self.regular_columns, row, now, slots);
        }
        Ok(())
    }
}

/// One walk over the cells and the columns, which have the same order.
fn fill_cells<'r>(
    columns: &[DataColumn],
    row: RowView<'r>,
    now: EpochSeconds,
    slots: &mut [Slot<'r>],
) {
    let mut cells = row.cells();
    let mut columns = columns.iter();
    let Some(mut column) = columns.next() else { return };
    loop {
        let here = cells.clone();
        let Some(cell) = cells.next() else { return };
        while column.id < cell.column {
            let Some(next) = columns.next() else { return };
            column = next;
        }
        if column.id != cell.column {
            continue;
        }
        let Some(slot) = slots.get_mut(column.index) else { return };
        if !column.is_multi_cell {
            if cell.path.is_none() && cell.live_value(now).is_some() {
                *slot = Slot::Cell(cell);
            }
        } else if matches!(slot, Slot::Null) {
            *slot = Slot::Elements(here);
        }
    }
}

/// Memory that reading one row after another uses again.
#[derive(Clone, Debug, Default)]
pub struct RowScratch {
    pub(super) slots: Vec<Slot<'static>>,
    pub(super) clustering: ClusteringValues,
}

/// Memory of slots, for those of a row with another lifetime.
pub(super) fn recycle<'new>(mut slots: Vec<Slot<'_>>) -> Vec<Slot<'new>> {
    slots.clear();
    slots.into_iter().map_while(|_| None).collect()
}

/// The live elements of a multi-cell column.
pub(super) fn live_elements<'r>(
    cells: &Cells<'r>,
    column: ColumnId,
    now: EpochSeconds,
) -> impl Iterator<Item = (&'r [u8], &'r [u8], Cell<'r>)> + use<'r> {
    let cells = cells.clone().take_while(move |cell| cell.column == column);
    cells.filter_map(move |cell| Some((cell.path?, cell.live_value(now)?, cell)))
}

impl<'r> Slot<'r> {
    /// The serialized value.
    pub(super) fn value(
        &self,
        column: ColumnId,
        cql_type: &CqlType,
        now: EpochSeconds,
    ) -> Result<Option<Cow<'r, [u8]>>, PlanError> {
        match self {
            Slot::Null => Ok(None),
            Slot::Value(value) => Ok(Some(Cow::Borrowed(value))),
            Slot::Cell(cell) => Ok(cell.live_value(now).map(Cow::Borrowed)),
            Slot::Elements(cells) => {
                let mut value = Vec::new();
                let is_set = assemble(cells, column, cql_type, now, &mut value)?;
                Ok(is_set.then_some(Cow::Owned(value)))
            }
        }
    }

    /// Appends the column as a cell of a result.
    pub(super) fn write(
        &self,
        column: ColumnId,
        cql_type: &CqlType,
        now: EpochSeconds,
        out: &mut Vec<u8>,
    ) -> Result<(), PlanError> {
        let value = match self {
            Slot::Null => None,
            Slot::Value(value) => Some(*value),
            Slot::Cell(cell) => cell.live_value(now),
            Slot::Elements(cells) => {
                let start = out.len();
                let cell = OpenCell::begin(out);
                if assemble(cells, column, cql_type, now, out)? {
                    cell.finish(out);
                } else {
                    out.truncate(start);
                    write_cell(out, None);
                }
                return Ok(());
            }
        };
        write_cell(out, value);
        Ok(())
    }
}

/// The serialized value of a static or regular column of a row.
pub(in crate::plan) fn column_value<'r>(
    row: RowView<'r>,
    column: &ColumnDef,
    now: EpochSeconds,
) -> Result<Option<Cow<'r, [u8]>>, ValueError> {
    let mut cells = row.cells();
    loop {
        let here = cells.clone();
        match cells.next() {
            Some(cell) if cell.column < column.id => {}
            Some(cell) if cell.column == column.id => {
                if !column.cql_type.is_multi_cell() {
                    return Ok(cell.live_value(now).map(Cow::Borrowed));
                }
                let mut value = Vec::new();
                let is_set = assemble(&here, column.id, &column.cql_type, now, &mut value)?;
                return Ok(is_set.then_some(Cow::Owned(value)));
            }
            _ => return Ok(None),
        }
    }
}

/// Appends the value that live elements make up; `false` when there are none.
fn assemble(
    cells: &Cells,
    column: ColumnId,
    cql_type: &CqlType,
    now: EpochSeconds,
    out: &mut Vec<u8>,
) -> Result<bool, ValueError> {
    let mut elements = live_elements(cells, column, now).peekable();
    if elements.peek().is_none() {
        return Ok(false);
    }
    if let CqlType::Udt(udt) = cql_type {
        let mut next_field = 0;
        for (path, value, _) in elements {
            let field = field_index(cql_type, path)?;
            (next_field..field).for_each(|_| push_value(out, None));
            push_value(out, Some(value));
            next_field = field + 1;
        }
        (next_field..udt.fields.len()).for_each(|_| push_value(out, None));
        return Ok(true);
    }
    let mut key = Vec::new();
    let mut builder = CollectionBuilder::new(out);
    for (path, value, _) in elements {
        if let CqlType::List { .. } = cql_type {
            builder.element(value);
            continue;
        }
        key.clear();
        decode_path(cql_type, path, &mut key)?;
        match cql_type {
            CqlType::Map { .. } => builder.entry(&key, value),
            _ => builder.element(&key),
        }
    }
    builder.finish();
    Ok(true)
}
