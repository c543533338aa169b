//! The parts of an event as JSON: keys, rows, bounds, times.
//!
//! Columns have their plain names; values are as `SELECT JSON` prints them, without blanks. A list
//! stands in the log as a map from its elements' time uuids, and here as a list again.

use super::cells::RowCells;
use super::{Event, RowKind, push_elements, push_patch};
use crate::source::{DataColumn, KeyColumn, Operation};
use model::json::{JsonStyle, push_json_string, push_json_value};
use model::literal::push_rfc3339_micros;
use model::value::MapView;
use model::{CqlType, TimestampMicros, ValueError};
use std::fmt;

/// Events have no blanks.
pub(crate) const STYLE: JsonStyle = JsonStyle::Compact;

/// A time as events write it: `2026-11-21T13:00:00.123456Z`.
pub(crate) struct Rfc3339(pub(crate) TimestampMicros);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        push_rfc3339_micros(&mut text, self.0);
        f.write_str(&text)
    }
}

/// Writes the members of a JSON object.
pub(crate) struct Members<'o> {
    out: &'o mut String,
    is_first: bool,
}

impl<'o> Members<'o> {
    /// Opens the object.
    pub(crate) fn open(out: &'o mut String) -> Members<'o> {
        out.push('{');
        Members { out, is_first: true }
    }

    /// A member's name; its value is to be appended to what is returned.
    pub(crate) fn name(&mut self, name: &str) -> &mut String {
        if !self.is_first {
            self.out.push(',');
        }
        self.is_first = false;
        push_json_string(self.out, name);
        self.out.push(':');
        self.out
    }

    /// A member that is a string.
    pub(crate) fn string(&mut self, name: &str, value: &str) {
        push_json_string(self.name(name), value);
    }

    /// `elements`, when there are changes of elements.
    pub(crate) fn elements(&mut self, event: &Event) -> Result<(), ValueError> {
        let length = self.out.len();
        if !push_elements(self.name("elements"), event)? {
            self.out.truncate(length);
        }
        Ok(())
    }

    /// `patch`.
    pub(crate) fn patch(&mut self, event: &Event) -> Result<(), ValueError> {
        push_patch(self.name("patch"), event)
    }

    /// Closes the object.
    pub(crate) fn close(self) {
        self.out.push('}');
    }
}

/// The key: the whole primary key, or that of the partition.
pub(crate) fn push_key(out: &mut String, event: &Event) -> Result<(), ValueError> {
    let mut members = Members::open(out);
    push_key_members(&mut members, event)?;
    members.close();
    Ok(())
}

fn push_key_members(members: &mut Members, event: &Event) -> Result<(), ValueError> {
    let shape = event.shape;
    push_key_columns(members, &shape.partition_key, event.key.partition_key())?;
    if event.kind == RowKind::Row {
        push_key_columns(members, &shape.clustering_key, event.key.clustering())?;
    }
    Ok(())
}

/// Those columns that have a value: a bound may have fewer than all.
fn push_key_columns(
    members: &mut Members,
    columns: &[KeyColumn],
    values: &[Option<&[u8]>],
) -> Result<(), ValueError> {
    for (column, value) in columns.iter().zip(values) {
        if let Some(value) = value {
            push_json_value(members.name(&column.name), STYLE, &column.cql_type, value)?;
        }
    }
    Ok(())
}

/// A whole row: key, and every column of its kind, null where it has no value.
pub(crate) fn push_row(out: &mut String, event: &Event, row: &RowCells) -> Result<(), ValueError> {
    let mut members = Members::open(out);
    push_key_members(&mut members, event)?;
    for (index, column) in data_columns(event) {
        push_column_value(members.name(&column.name), column, row.value(index))?;
    }
    members.close();
    Ok(())
}

/// A row, or null.
pub(crate) fn push_row_or_null(
    out: &mut String,
    event: &Event,
    row: Option<&RowCells>,
) -> Result<(), ValueError> {
    if let Some(row) = row {
        return push_row(out, event, row);
    }
    out.push_str("null");
    Ok(())
}

/// The data columns of the event's kind of row, with their numbers in the shape.
pub(crate) fn data_columns<'e>(event: &'e Event) -> impl Iterator<Item = (usize, &'e DataColumn)> {
    let wants_static = event.kind == RowKind::Static;
    let columns = event.shape.columns.iter().enumerate();
    columns.filter(move |(_, column)| column.is_static == wants_static)
}

/// A data column's whole value, from the log's form of it.
pub(crate) fn push_column_value(
    out: &mut String,
    column: &DataColumn,
    value: Option<&[u8]>,
) -> Result<(), ValueError> {
    let Some(value) = value else {
        out.push_str("null");
        return Ok(());
    };
    match &column.cql_type {
        CqlType::List { element, frozen: false } => {
            out.push('[');
            for (index, entry) in MapView::new(value)?.enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_json_value(out, STYLE, element, entry?.1)?;
            }
            out.push(']');
            Ok(())
        }
        _ => push_json_value(out, STYLE, &column.logged_type, value),
    }
}

/// The bounds of a deleted range: `{"start":{"key":{…},"inclusive":true},"end":null}`; null is an
/// open end.
pub(crate) fn push_range(
    out: &mut String,
    event: &Event,
    (start, end): (&RowCells, &RowCells),
) -> Result<(), ValueError> {
    let mut members = Members::open(out);
    push_bound(members.name("start"), event, start)?;
    push_bound(members.name("end"), event, end)?;
    members.close();
    Ok(())
}

fn push_bound(out: &mut String, event: &Event, bound: &RowCells) -> Result<(), ValueError> {
    if bound.clustering().iter().all(Option::is_none) {
        out.push_str("null");
        return Ok(());
    }
    let is_inclusive = matches!(
        bound.row.operation,
        Operation::RangeStartInclusive | Operation::RangeEndInclusive
    );
    let mut members = Members::open(out);
    let mut key = Members::open(members.name("key"));
    push_key_columns(&mut key, &event.shape.clustering_key, bound.clustering())?;
    key.close();
    members.name("inclusive").push_str(if is_inclusive { "true" } else { "false" });
    members.close();
    Ok(())
}
