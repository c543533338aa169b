//! From planned rows to a mutation of the log table.
//!
//! Values go straight from the change into the mutation's bytes; only what has another form in the
//! log, keys and collections, is built first.

use super::image::ImageCells;
use super::{PlannedRow, RowCells};
use crate::delta::{Bound, DeltaCell, DeltaCells, DeltaContent};
use crate::error::CdcError;
use crate::layout::{LogLayout, LoggedColumn};
use crate::stream::StreamId;
use model::clustering::{AFTER, decode_component, encode_component};
use model::key::PartitionKeyParts;
use model::mutation::MutationWriter;
use model::path::{decode_path, field_index};
use model::row::{CellContent, Expiry};
use model::timeuuid::TimeUuidBytes;
use model::value::{CollectionBuilder, push_value};
use model::value_row::ValueRowWriter;
use model::{CqlType, DeltaMode, EpochSeconds, TimestampMicros};

const TRUE: &[u8] = &[1];

/// Where a group goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupPlace {
    pub(crate) stream: StreamId,
    pub(crate) time: TimestampMicros,
    pub(crate) time_uuid: TimeUuidBytes,
    pub(crate) now: EpochSeconds,
}

/// Writes groups; its buffers serve one after the other.
#[derive(Debug, Default)]
pub(crate) struct GroupWriter {
    clustering: Vec<u8>,
    value: Vec<u8>,
    element_key: Vec<u8>,
}

impl GroupWriter {
    /// Appends the mutation of the log that holds these rows as one group, last row marked.
    pub(crate) fn write<'r>(
        &mut self,
        layout: &LogLayout,
        base_key: &[u8],
        place: &GroupPlace,
        rows: impl Iterator<Item = &'r PlannedRow<'r>>,
        out: &mut Vec<u8>,
    ) -> Result<(), CdcError> {
        let mut writer = MutationWriter::new(out, layout.log.id, layout.log.version, &place.stream);
        let ttl_seconds = layout.options.ttl_seconds;
        let expiry = (ttl_seconds > 0).then(|| Expiry {
            ttl_seconds,
            expires_at: place.now.saturating_add(i64::from(ttl_seconds)),
        });
        let GroupWriter { clustering, value, element_key } = self;
        clustering.clear();
        encode_component(&CqlType::TimeUuid, false, &place.time_uuid, clustering)?;
        let time_length = clustering.len();
        let mut rows = rows.zip(0_i32..).peekable();
        while let Some((row, batch_seq_no)) = rows.next() {
            clustering.truncate(time_length);
            encode_component(&CqlType::Int, false, &batch_seq_no.to_be_bytes(), clustering)?;
            let is_last = rows.peek().is_none();
            writer.value_row(clustering, place.time, expiry, |out| {
                LogRow { layout, out, value, element_key }.write(base_key, row, is_last)
            })?;
        }
        Ok(())
    }
}

/// A log row in the making. New logs have their columns in the order in which they are written
/// here, so that nothing has to be sorted.
struct LogRow<'w, 'o> {
    layout: &'w LogLayout,
    out: &'w mut ValueRowWriter<'o>,
    value: &'w mut Vec<u8>,
    element_key: &'w mut Vec<u8>,
}

impl LogRow<'_, '_> {
    fn write(&mut self, base_key: &[u8], row: &PlannedRow, is_last: bool) -> Result<(), CdcError> {
        let layout = self.layout;
        self.out.value(layout.operation, &(row.operation as i8).to_be_bytes());
        if row.ttl_seconds > 0 || row.is_by_row {
            self.out.value(layout.ttl, &i64::from(row.ttl_seconds).to_be_bytes());
        }
        if is_last {
            self.out.value(layout.end_of_batch, TRUE);
        }
        let parts = PartitionKeyParts::new(layout.partition_key.len(), base_key);
        for (column, value) in layout.partition_key.iter().zip(parts) {
            self.out.value(*column, value?);
        }
        if let Some(Bound::Position(position) | Bound::AfterRow(position)) = row.clustering {
            self.add_clustering(position)?;
        }
        match &row.cells {
            RowCells::Image(image) => self.add_image(image),
            RowCells::Delta(_) if layout.options.delta == DeltaMode::Keys => Ok(()),
            RowCells::Delta(cells) => self.add_delta(cells),
        }
    }

    /// As many clustering columns as the position has.
    fn add_clustering(&mut self, position: &[u8]) -> Result<(), CdcError> {
        let mut rest = position;
        let layout = self.layout;
        for (target, column) in layout.clustering_key.iter().zip(layout.base.clustering_key()) {
            if rest.is_empty() || rest == [AFTER] {
                return Ok(());
            }
            self.value.clear();
            decode_component(&column.cql_type, column.descending, &mut rest, self.value)?;
            self.out.value(*target, self.value);
        }
        Ok(())
    }

    /// A change's cells. Columns that the base has no more are left out.
    fn add_delta(&mut self, cells: &DeltaCells) -> Result<(), CdcError> {
        let mut near = 0;
        // The cells of the collection that is being gone through.
        let mut collection = Vec::new();
        for cell in cells.iter() {
            if collection.first().is_some_and(|first: &DeltaCell| first.column != cell.column) {
                self.add_collection(near, &collection, false)?;
                collection.clear();
            }
            let Some((number, column)) = self.layout.column(cell.column, near) else { continue };
            near = number;
            match cell.content {
                _ if column.is_multi_cell => collection.push(cell),
                _ if cell.path.is_some() => {}
                DeltaContent::Live { value, .. } => self.out.value(column.value, value),
                DeltaContent::Dead | DeltaContent::CollectionDead => {
                    self.out.value(column.deleted, TRUE);
                }
            }
        }
        if collection.is_empty() { Ok(()) } else { self.add_collection(near, &collection, false) }
    }

    /// What a row holds, in the columns that its image has.
    fn add_image(&mut self, image: &ImageCells) -> Result<(), CdcError> {
        let mut cells = image.standing.live_cells();
        let mut next = cells.next();
        let mut collection = Vec::new();
        for (number, column) in self.layout.columns_of(image.is_static) {
            while next.is_some_and(|cell| cell.column < column.base_id) {
                next = cells.next();
            }
            if image.columns.as_ref().is_some_and(|columns| !columns.contains(number)) {
                continue;
            }
            let is_absent = next.is_none_or(|cell| cell.column != column.base_id);
            if is_absent {
                if image.tells_absent {
                    self.out.value(column.deleted, TRUE);
                }
                continue;
            }
            collection.clear();
            while let Some(cell) = next.filter(|cell| cell.column == column.base_id) {
                next = cells.next();
                match cell.content {
                    _ if column.is_multi_cell => collection.push(DeltaCell::as_it_stands(cell)),
                    CellContent::Live { value, .. } if cell.path.is_none() => {
                        self.out.value(column.value, value);
                    }
                    _ => {}
                }
            }
            if !collection.is_empty() {
                self.add_collection(number, &collection, true)?;
            }
        }
        Ok(())
    }

    /// All changes of one collection or user type, by its number in the layout.
    fn add_collection(
        &mut self,
        number: usize,
        cells: &[DeltaCell],
        is_image: bool,
    ) -> Result<(), CdcError> {
        let column = self.layout.column_at(number);
        let has_elements = live_elements(cells).next().is_some();
        match &column.cql_type {
            CqlType::Udt(_) if has_elements || !is_image => self.add_udt(column, cells)?,
            _ if has_elements => self.add_elements(column, cells)?,
            _ => {}
        }
        if cells.iter().any(|cell| cell.path.is_none()) {
            self.out.value(column.deleted, TRUE);
        }
        self.add_deleted_elements(column, cells)
    }

    fn add_elements(&mut self, column: &LoggedColumn, cells: &[DeltaCell]) -> Result<(), CdcError> {
        self.value.clear();
        let is_set = matches!(column.cql_type, CqlType::Set { .. });
        let mut builder = CollectionBuilder::new(self.value);
        for (path, value) in live_elements(cells) {
            self.element_key.clear();
            decode_path(&column.cql_type, path, self.element_key)?;
            if is_set {
                builder.element(self.element_key);
            } else {
                builder.entry(self.element_key, value);
            }
        }
        builder.finish();
        self.out.value(column.value, self.value);
        Ok(())
    }

    /// Fields in the order of their declaration, those that are not told null.
    fn add_udt(&mut self, column: &LoggedColumn, cells: &[DeltaCell]) -> Result<(), CdcError> {
        let CqlType::Udt(udt) = &column.cql_type else { return Ok(()) };
        self.value.clear();
        let mut next_field = 0;
        for (path, value) in live_elements(cells) {
            let index = field_index(&column.cql_type, path)?;
            (next_field..index).for_each(|_| push_value(self.value, None));
            push_value(self.value, Some(value));
            next_field = index + 1;
        }
        (next_field..udt.fields.len()).for_each(|_| push_value(self.value, None));
        self.out.value(column.value, self.value);
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
        self.value.clear();
        let mut builder = CollectionBuilder::new(self.value);
        for path in dead {
            self.element_key.clear();
            decode_path(&column.cql_type, path, self.element_key)?;
            builder.element(self.element_key);
        }
        builder.finish();
        self.out.value(target, self.value);
        Ok(())
    }
}

fn live_elements<'a>(cells: &[DeltaCell<'a>]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    cells.iter().filter_map(|cell| match (cell.path, cell.content) {
        (Some(path), DeltaContent::Live { value, .. }) => Some((path, value)),
        _ => None,
    })
}
