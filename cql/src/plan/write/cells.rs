//! Column operations to the cells of a row.
//!
//! A column of one cell is written straight into the row. The cells of a column of several are
//! gathered in a scratch buffer first, since elements come in the order of the statement and cells
//! must come in the order of their paths; of two cells for one path the merge's rule decides.
//! Changes that need to read first become [`ListOperation`]s.

use super::attributes::BoundAttributes;
use super::bind::{WRITE_BYTES_MAX, check_length};
use super::counter::bind_increment;
use super::operation::{ColumnChange, ColumnOperation};
use crate::plan::context::{BindContext, BoundValues};
use crate::plan::error::PlanError;
use crate::plan::term::{BoundTerm, PreparedTerm};
use crate::wire::Value;
use model::list_operation::{ListChange, ListOperation};
use model::merge::compare_cells;
use model::path::{encode_path, field_path};
use model::row::{Cell, CellContent, RowWriter};
use model::timeuuid::reversed_timeuuid;
use model::value::{ListView, MapView, TupleView};
use model::{ColumnId, CqlType};
use std::ops::Range;

/// Writes cells of one execution. Buffers are kept from row to row.
#[derive(Debug)]
pub(super) struct CellMaker<'v, 'c, 'x> {
    pub(super) values: BoundValues<'v>,
    pub(super) context: &'c mut BindContext<'x>,
    pub(super) attributes: BoundAttributes,
    /// What needs to read first, of all rows of the partition so far.
    pub(super) list_operations: Vec<ListOperation>,
    /// Bytes in list operations, of all partitions: they are copied for each row.
    list_byte_count: usize,
    gathered: Gathered,
}

/// The cells of one column until they are sorted.
#[derive(Debug, Default)]
struct Gathered {
    tombstone_at: Option<i64>,
    bytes: Vec<u8>,
    cells: Vec<GatheredCell>,
}

#[derive(Debug)]
struct GatheredCell {
    path: Range<usize>,
    /// A tombstone without one.
    value: Option<Range<usize>>,
}

impl<'v, 'c, 'x> CellMaker<'v, 'c, 'x> {
    pub(super) fn new(
        values: BoundValues<'v>,
        context: &'c mut BindContext<'x>,
        attributes: BoundAttributes,
    ) -> Self {
        let gathered = Gathered::default();
        CellMaker {
            values,
            context,
            attributes,
            list_operations: Vec::new(),
            list_byte_count: 0,
            gathered,
        }
    }

    /// Writes what `operations`, sorted by column, do to one row; `clustering` is `None` for the
    /// static row.
    pub(super) fn write<'o>(
        &mut self,
        operations: impl Iterator<Item = &'o ColumnOperation>,
        clustering: Option<&[u8]>,
        row: &mut RowWriter,
    ) -> Result<(), PlanError> {
        let mut operations = operations.peekable();
        while let Some(operation) = operations.next() {
            if self.write_single(operation, row)? {
                continue;
            }
            if let ColumnChange::Increment { term, is_negative } = &operation.change {
                let mut sum = self.bind_increment(term, *is_negative)?;
                while let Some(more) = operations.next_if(|next| next.column == operation.column) {
                    if let ColumnChange::Increment { term, is_negative } = &more.change {
                        let increment = self.bind_increment(term, *is_negative)?;
                        sum = increment.map(|n| n.wrapping_add(sum.unwrap_or(0))).or(sum);
                    }
                }
                self.write_increment(operation.column, sum, row);
                continue;
            }
            self.gather(operation, clustering)?;
            while let Some(more) = operations.next_if(|next| next.column == operation.column) {
                self.gather(more, clustering)?;
            }
            self.write_gathered(operation.column, row);
        }
        Ok(())
    }

    /// Writes a column of one cell; false when it is one of several.
    fn write_single(
        &mut self,
        operation: &ColumnOperation,
        row: &mut RowWriter,
    ) -> Result<bool, PlanError> {
        let bound = match &operation.change {
            // The usual column: a value that is copied from the request to the row.
            ColumnChange::SetValue(PreparedTerm::Marker(marker))
                if !marker.cql_type.has_parts() =>
            {
                match marker.bind_in_place(&self.values)? {
                    Value::Set(value) => {
                        self.write_value(operation.column, value, row);
                        return Ok(true);
                    }
                    Value::Null => BoundTerm::Null,
                    Value::Unset => BoundTerm::Unset,
                }
            }
            ColumnChange::SetValue(term) => term.bind(&self.values, self.context)?,
            ColumnChange::Delete if !operation.cql_type.is_multi_cell() => BoundTerm::Null,
            _ => return Ok(false),
        };
        let (column, timestamp) = (operation.column, self.attributes.timestamp);
        match &bound {
            BoundTerm::Unset => {}
            BoundTerm::Null => {
                let content = self.tombstone();
                row.cell(&Cell { column, path: None, timestamp, content });
            }
            BoundTerm::Value(value) => self.write_value(column, value, row),
        }
        Ok(true)
    }

    fn bind_increment(
        &mut self,
        term: &PreparedTerm,
        is_negative: bool,
    ) -> Result<Option<i64>, PlanError> {
        bind_increment(term, is_negative, &self.values, self.context)
    }

    fn write_increment(&self, column: ColumnId, sum: Option<i64>, row: &mut RowWriter) {
        if let Some(sum) = sum.map(i64::to_be_bytes) {
            let content = CellContent::Live { value: &sum, expiry: None };
            row.cell(&Cell { column, path: None, timestamp: self.attributes.timestamp, content });
        }
    }

    #[inline]
    fn write_value(&self, column: ColumnId, value: &[u8], row: &mut RowWriter) {
        let BoundAttributes { timestamp, expiry, .. } = self.attributes;
        let content = CellContent::Live { value, expiry };
        row.cell(&Cell { column, path: None, timestamp, content });
    }

    fn tombstone(&self) -> CellContent<'static> {
        CellContent::Tombstone { deleted_at: self.context.now_seconds }
    }

    fn gather(
        &mut self,
        operation: &ColumnOperation,
        clustering: Option<&[u8]>,
    ) -> Result<(), PlanError> {
        let cql_type = &operation.cql_type;
        match &operation.change {
            // Written as single cells.
            ColumnChange::SetValue(_) | ColumnChange::Increment { .. } => Ok(()),
            ColumnChange::Delete => {
                self.gathered.tombstone_at = Some(self.attributes.timestamp);
                Ok(())
            }
            ColumnChange::Overwrite(term) => {
                let bound = self.bind(term)?;
                if bound != BoundTerm::Unset {
                    // One below the new elements, which it must not cover.
                    let timestamp = self.attributes.timestamp.wrapping_sub(1);
                    self.gathered.tombstone_at = Some(timestamp);
                }
                self.gather_elements(cql_type, bound.as_value())
            }
            ColumnChange::AddElements(term) | ColumnChange::Append(term) => {
                let bound = self.bind(term)?;
                self.gather_elements(cql_type, bound.as_value())
            }
            ColumnChange::Prepend(term) => {
                let bound = self.bind(term)?;
                self.gather_prepended(cql_type, bound.as_value())
            }
            ColumnChange::RemoveKeys(term) => {
                let bound = self.bind(term)?;
                let Some(keys) = bound.as_value() else { return Ok(()) };
                for key in ListView::set(keys)? {
                    self.gathered.push(cql_type, key?, None)?;
                }
                Ok(())
            }
            ColumnChange::SetEntry { key, value } => {
                self.gather_entry(cql_type, key, value, "map key")
            }
            ColumnChange::SetListCell { cell, value } => {
                self.gather_entry(cql_type, cell, value, "list cell")
            }
            ColumnChange::DeleteKey(key) => {
                let what = if is_map(cql_type) { "map key" } else { "set element" };
                let key = required(self.bind(key)?, what)?;
                self.gathered.push(cql_type, &key, None)
            }
            ColumnChange::SetField { index, value } => {
                let bound = self.bind(value)?;
                if bound != BoundTerm::Unset {
                    self.gathered.push(cql_type, &field_path(*index), bound.as_value())?;
                }
                Ok(())
            }
            ColumnChange::DeleteField(index) => {
                self.gathered.push(cql_type, &field_path(*index), None)
            }
            ColumnChange::SetIndex { .. }
            | ColumnChange::DeleteIndex(_)
            | ColumnChange::RemoveValues(_) => self.add_list_operation(operation, clustering),
        }
    }

    fn bind<'t>(&mut self, term: &'t PreparedTerm) -> Result<BoundTerm<'t>, PlanError>
    where
        'v: 't,
    {
        let values: BoundValues<'t> = self.values;
        term.bind(&values, self.context)
    }

    /// The elements of a serialized collection or user type, behind what is there.
    fn gather_elements(
        &mut self,
        cql_type: &CqlType,
        value: Option<&[u8]>,
    ) -> Result<(), PlanError> {
        let Some(value) = value else { return Ok(()) };
        match cql_type {
            CqlType::Map { .. } => {
                for entry in MapView::new(value)? {
                    let (key, value) = entry?;
                    self.gathered.push(cql_type, key, Some(value))?;
                }
            }
            CqlType::Set { .. } => {
                for element in ListView::set(value)? {
                    self.gathered.push(cql_type, element?, Some(b""))?;
                }
            }
            CqlType::Udt(_) => {
                for (index, field) in (0..).zip(TupleView::new(value)) {
                    if let Some(field) = field? {
                        self.gathered.push(cql_type, &field_path(index), Some(field))?;
                    }
                }
            }
            _ => {
                for element in ListView::list(value)? {
                    let place = (self.context.fresh_timeuuid)();
                    self.gathered.push(cql_type, &place, Some(element?))?;
                }
            }
        }
        Ok(())
    }

    /// List elements before what is there. Places descend, so the last element gets the first.
    fn gather_prepended(
        &mut self,
        cql_type: &CqlType,
        value: Option<&[u8]>,
    ) -> Result<(), PlanError> {
        let Some(value) = value else { return Ok(()) };
        let elements = ListView::list(value)?.collect::<Result<Vec<_>, _>>()?;
        for element in elements.into_iter().rev() {
            let place = reversed_timeuuid(&(self.context.fresh_timeuuid)());
            self.gathered.push(cql_type, &place, Some(element))?;
        }
        Ok(())
    }

    fn gather_entry(
        &mut self,
        cql_type: &CqlType,
        key: &PreparedTerm,
        value: &PreparedTerm,
        what: &str,
    ) -> Result<(), PlanError> {
        let key = required(self.bind(key)?, what)?;
        let value = self.bind(value)?;
        if value == BoundTerm::Unset {
            return Ok(());
        }
        self.gathered.push(cql_type, &key, value.as_value())
    }

    fn add_list_operation(
        &mut self,
        operation: &ColumnOperation,
        clustering: Option<&[u8]>,
    ) -> Result<(), PlanError> {
        let change = match &operation.change {
            ColumnChange::SetIndex { index, value } => {
                let index = bind_index(&self.bind(index)?)?;
                let value = self.bind(value)?;
                if value == BoundTerm::Unset {
                    return Ok(());
                }
                ListChange::SetIndex { index, value: value.as_value().map(<[u8]>::to_vec) }
            }
            ColumnChange::DeleteIndex(index) => {
                let index = self.bind(index)?;
                if index == BoundTerm::Unset {
                    return Ok(());
                }
                ListChange::DeleteIndex { index: bind_index(&index)? }
            }
            ColumnChange::RemoveValues(term) => {
                let bound = self.bind(term)?;
                let Some(values) = bound.as_value() else { return Ok(()) };
                let values = ListView::list(values)?
                    .map(|value| value.map(<[u8]>::to_vec))
                    .collect::<Result<Vec<_>, _>>()?;
                if values.is_empty() {
                    return Ok(());
                }
                ListChange::RemoveValues { values }
            }
            _ => return Ok(()),
        };
        self.list_byte_count += match &change {
            ListChange::SetIndex { value, .. } => value.as_ref().map_or(0, Vec::len),
            ListChange::DeleteIndex { .. } => 0,
            ListChange::RemoveValues { values } => values.iter().map(Vec::len).sum(),
        };
        check_length(self.list_byte_count, WRITE_BYTES_MAX)?;
        self.list_operations.push(ListOperation {
            clustering: clustering.map(<[u8]>::to_vec),
            column: operation.column,
            timestamp: self.attributes.timestamp,
            expiry: self.attributes.expiry,
            deleted_at: self.context.now_seconds,
            change,
        });
        Ok(())
    }

    /// Writes the cells of one column in the order of their paths, and forgets them.
    fn write_gathered(&mut self, column: ColumnId, row: &mut RowWriter) {
        let Gathered { tombstone_at, bytes, cells } = &mut self.gathered;
        let deleted_at = self.context.now_seconds;
        if let Some(timestamp) = tombstone_at.take() {
            let content = CellContent::CollectionTombstone { deleted_at };
            row.cell(&Cell { column, path: None, timestamp, content });
        }
        let expiry = self.attributes.expiry;
        let timestamp = self.attributes.timestamp;
        let view = |cell: &GatheredCell| {
            let content = match &cell.value {
                Some(value) => CellContent::Live { value: &bytes[value.clone()], expiry },
                None => CellContent::Tombstone { deleted_at },
            };
            Cell { column, path: Some(&bytes[cell.path.clone()]), timestamp, content }
        };
        // The winner of equal paths comes first.
        cells.sort_by(|a, b| {
            let (a, b) = (view(a), view(b));
            a.path.cmp(&b.path).then_with(|| compare_cells(&b, &a))
        });
        let mut last_path: Option<&[u8]> = None;
        for cell in cells.iter().map(view) {
            if cell.path != last_path {
                row.cell(&cell);
            }
            last_path = cell.path;
        }
        bytes.clear();
        cells.clear();
    }
}

impl Gathered {
    /// Adds an element by its serialized key; see [`encode_path`]. A tombstone without a value.
    fn push(
        &mut self,
        cql_type: &CqlType,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), PlanError> {
        let start = self.bytes.len();
        encode_path(cql_type, key, &mut self.bytes)?;
        let path = start..self.bytes.len();
        let value = value.map(|value| {
            self.bytes.extend_from_slice(value);
            path.end..self.bytes.len()
        });
        self.cells.push(GatheredCell { path, value });
        Ok(())
    }
}

fn is_map(cql_type: &CqlType) -> bool {
    matches!(cql_type, CqlType::Map { .. })
}

fn required<'t>(term: BoundTerm<'t>, what: &str) -> Result<std::borrow::Cow<'t, [u8]>, PlanError> {
    match term {
        BoundTerm::Value(bytes) => Ok(bytes),
        BoundTerm::Null => Err(PlanError::invalid(format!("Invalid null {what}"))),
        BoundTerm::Unset => Err(PlanError::invalid(format!("Invalid unset {what}"))),
    }
}

fn bind_index(term: &BoundTerm) -> Result<i32, PlanError> {
    let bytes = match term {
        BoundTerm::Value(bytes) => bytes.first_chunk(),
        BoundTerm::Unset => return Err(PlanError::invalid("Invalid unset value for list index")),
        BoundTerm::Null => None,
    };
    bytes
        .map(|bytes| i32::from_be_bytes(*bytes))
        .ok_or_else(|| PlanError::invalid("Invalid null value for list index"))
}
