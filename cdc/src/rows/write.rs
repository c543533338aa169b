//! From planned rows to a mutation of the log table.

use super::{Operation, PlannedRow};
use crate::delta::{Bound, DeltaCell, DeltaContent};
use crate::error::CdcError;
use crate::layout::{LogLayout, LoggedColumn};
use crate::stream::StreamId;
use model::clustering::{AFTER, decode_component, encode_component};
use model::key::PartitionKeyParts;
use model::mutation::MutationWriter;
use model::path::{decode_path, field_index};
use model::row::{Cell, CellContent, Expiry, RowHead};
use model::timeuuid::TimeUuidBytes;
use model::value::{CollectionBuilder, push_value};
use model::{ColumnId, CqlType, DeltaMode, EpochSeconds, TimestampMicros};
use std::ops::Range;

const TRUE: &[u8] = &[1];

/// Where a group goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupPlace {
    pub(crate) stream: StreamId,
    pub(crate) time: TimestampMicros,
    pub(crate) time_uuid: TimeUuidBytes,
    pub(crate) now: EpochSeconds,
}

/// The mutation of the log that holds these rows as one group, last row marked.
pub(crate) fn write_group(
    layout: &LogLayout,
    base_key: &[u8],
    place: &GroupPlace,
    rows: &[PlannedRow],
) -> Result<Vec<u8>, CdcError> {
    let mut out = Vec::with_capacity(128 + rows.len() * 64);
    let mut writer =
        MutationWriter::new(&mut out, layout.log.id, layout.log.version, &place.stream);
    let ttl_seconds = layout.options.ttl_seconds;
    let expiry = (ttl_seconds > 0).then(|| Expiry {
        ttl_seconds,
        expires_at: place.now.saturating_add(i64::from(ttl_seconds)),
    });
    let mut clustering = Vec::with_capacity(32);
    encode_component(&CqlType::TimeUuid, false, &place.time_uuid, &mut clustering)?;
    let time_length = clustering.len();
    let mut cells = LogCells::default();
    for (index, row) in rows.iter().enumerate() {
        cells.clear();
        cells.add_row(layout, base_key, row)?;
        if index + 1 == rows.len() {
            cells.put(layout.end_of_batch, TRUE);
        }
        let batch_seq_no = (index as i32).to_be_bytes();
        clustering.truncate(time_length);
        encode_component(&CqlType::Int, false, &batch_seq_no, &mut clustering)?;
        let head = RowHead { marker: None, tombstone: None };
        cells.sort();
        writer.row(&clustering, place.time, head, |row| {
            for (column, value) in cells.iter() {
                let content = CellContent::Live { value, expiry };
                row.cell(&Cell { column, path: None, timestamp: place.time, content });
            }
        });
    }
    Ok(out)
}

/// The cells of one log row; the buffers serve one row after the other.
#[derive(Default)]
struct LogCells {
    cells: Vec<(ColumnId, Range<usize>)>,
    values: Vec<u8>,
    key: Vec<u8>,
}

impl LogCells {
    fn clear(&mut self) {
        self.cells.clear();
        self.values.clear();
    }

    fn sort(&mut self) {
        self.cells.sort_unstable_by_key(|(column, _)| *column);
    }

    fn iter(&self) -> impl Iterator<Item = (ColumnId, &[u8])> {
        self.cells.iter().map(|(column, range)| (*column, &self.values[range.clone()]))
    }

    fn put(&mut self, column: ColumnId, value: &[u8]) {
        let start = self.values.len();
        self.values.extend_from_slice(value);
        self.cells.push((column, start..self.values.len()));
    }

    fn add_row(
        &mut self,
        layout: &LogLayout,
        base_key: &[u8],
        row: &PlannedRow,
    ) -> Result<(), CdcError> {
        self.put(layout.operation, &(row.operation as i8).to_be_bytes());
        if row.ttl_seconds > 0 {
            self.put(layout.ttl, &i64::from(row.ttl_seconds).to_be_bytes());
        }
        let parts = PartitionKeyParts::new(layout.partition_key.len(), base_key);
        for (column, value) in layout.partition_key.iter().zip(parts) {
            self.put(*column, value?);
        }
        if let Some(Bound::Position(position) | Bound::AfterRow(position)) = row.clustering {
            self.add_clustering(layout, position)?;
        }
        let is_image = matches!(row.operation, Operation::Preimage | Operation::Postimage);
        if is_image || layout.options.delta == DeltaMode::Full {
            for cells in row.cells.chunk_by(|a, b| a.column == b.column) {
                self.add_column(layout, cells, is_image)?;
            }
        }
        Ok(())
    }

    /// As many clustering columns as the position has.
    fn add_clustering(&mut self, layout: &LogLayout, position: &[u8]) -> Result<(), CdcError> {
        let mut rest = position;
        for (target, column) in layout.clustering_key.iter().zip(layout.base.clustering_key()) {
            if rest.is_empty() || rest == [AFTER] {
                return Ok(());
            }
            let start = self.values.len();
            decode_component(&column.cql_type, column.descending, &mut rest, &mut self.values)?;
            self.cells.push((*target, start..self.values.len()));
        }
        Ok(())
    }

    /// All changes of one column. Columns that the base has no more are left out.
    fn add_column(
        &mut self,
        layout: &LogLayout,
        cells: &[DeltaCell],
        is_image: bool,
    ) -> Result<(), CdcError> {
        let Some(column) = cells.first().and_then(|cell| layout.column(cell.column)) else {
            return Ok(());
        };
        if !column.cql_type.is_multi_cell() {
            for cell in cells.iter().filter(|cell| cell.path.is_none()) {
                match cell.content {
                    DeltaContent::Live { value, .. } => self.put(column.value, value),
                    _ => self.put(column.deleted, TRUE),
                }
            }
            return Ok(());
        }
        if cells.iter().any(|cell| cell.path.is_none()) {
            self.put(column.deleted, TRUE);
        }
        let has_elements = live_elements(cells).next().is_some();
        match &column.cql_type {
            CqlType::Udt(_) if has_elements || !is_image => self.add_udt(column, cells)?,
            _ if has_elements => self.add_elements(column, cells)?,
            _ => {}
        }
        self.add_deleted_elements(column, cells)
    }

    fn add_elements(&mut self, column: &LoggedColumn, cells: &[DeltaCell]) -> Result<(), CdcError> {
        let start = self.values.len();
        let is_set = matches!(column.cql_type, CqlType::Set { .. });
        let mut builder = CollectionBuilder::new(&mut self.values);
        for (path, value) in live_elements(cells) {
            self.key.clear();
            decode_path(&column.cql_type, path, &mut self.key)?;
            if is_set {
                builder.element(&self.key);
            } else {
                builder.entry(&self.key, value);
            }
        }
        builder.finish();
        self.cells.push((column.value, start..self.values.len()));
        Ok(())
    }

    /// Fields in the order of their declaration, those that are not told null.
    fn add_udt(&mut self, column: &LoggedColumn, cells: &[DeltaCell]) -> Result<(), CdcError> {
        let CqlType::Udt(udt) = &column.cql_type else { return Ok(()) };
        let start = self.values.len();
        let mut next_field = 0;
        for (path, value) in live_elements(cells) {
            let index = field_index(&column.cql_type, path)?;
            (next_field..index).for_each(|_| push_value(&mut self.values, None));
            push_value(&mut self.values, Some(value));
            next_field = index + 1;
        }
        (next_field..udt.fields.len()).for_each(|_| push_value(&mut self.values, None));
        self.cells.push((column.value, start..self.values.len()));
        Ok(())
    }

    fn add_deleted_elements(
        &mut self,
        column: &LoggedColumn,
        cells: &[DeltaCell],
    ) -> Result<(), CdcError> {
        let mut dead = cells
            .iter()
            .filter(|cell| matches!(cell.content, DeltaContent::Dead))
            .filter_map(|cell| cell.path)
            .peekable();
        let Some(target) = column.deleted_elements.filter(|_| dead.peek().is_some()) else {
            return Ok(());
        };
        let start = self.values.len();
        let mut builder = CollectionBuilder::new(&mut self.values);
        for path in dead {
            self.key.clear();
            decode_path(&column.cql_type, path, &mut self.key)?;
            builder.element(&self.key);
        }
        builder.finish();
        self.cells.push((target, start..self.values.len()));
        Ok(())
    }
}

fn live_elements<'a>(cells: &[DeltaCell<'a>]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    cells.iter().filter_map(|cell| match (cell.path, cell.content) {
        (Some(path), DeltaContent::Live { value, .. }) => Some((path, value)),
        _ => None,
    })
}
