//! What a change says by itself, without the rows around it.
//!
//! `new_row` has the key and the columns that are known whole afterwards: set, set to null, or
//! replaced. A collection or user type of which parts were changed is told in `elements`, since a
//! part cannot be told from a whole by its JSON:
//!
//! ```text
//! "elements":{"tags":{"set":["new"],"removed":["old"]},          set
//!             "prices":{"set":[[1,"x"]],"removed":[2]},          map: pairs of key and value
//!             "items":{"set":[["<time uuid>",5]],"removed":[…]}, list: its elements' ids
//!             "home":{"set":[["city","Bonn"]],"removed":["zip"]}}  user type: fields
//! ```
//!
//! A list that was replaced is in both, marked `"replaced":true`, since later changes name its
//! elements by their ids.

use super::body::{Members, STYLE, data_columns, push_column_value, push_key};
use super::{Change, Event};
use crate::source::DataColumn;
use model::json::{push_json_string, push_json_value};
use model::value::{CollectionBuilder, ListView, MapView, TupleView, normalize, push_value};
use model::{CqlType, ValueError};

/// Appends `new_row`.
pub(crate) fn push_changed_columns(out: &mut String, event: &Event) -> Result<(), ValueError> {
    push_key(out, event)?;
    // The key's object is opened again: columns follow.
    out.pop();
    for (index, column) in data_columns(event) {
        let change = ColumnChange::of(event, index);
        if change.is_whole(column) {
            out.push(',');
            push_json_string(out, &column.name);
            out.push(':');
            push_whole(out, column, &change)?;
        }
    }
    out.push('}');
    Ok(())
}

/// Appends the value of `elements`, if any part of a collection or user type was changed; says
/// whether there was one.
pub(crate) fn push_elements(out: &mut String, event: &Event) -> Result<bool, ValueError> {
    let mut members: Option<Members> = None;
    let mut buffer = Some(out);
    for (index, column) in data_columns(event) {
        let change = ColumnChange::of(event, index);
        if !change.has_elements_to_tell(column) {
            continue;
        }
        if let Some(out) = buffer.take() {
            members = Some(Members::open(out));
        }
        if let Some(members) = &mut members {
            push_element_changes(members.name(&column.name), column, &change)?;
        }
    }
    let is_any = members.is_some();
    if let Some(members) = members {
        members.close();
    }
    Ok(is_any)
}

/// What the log rows of an event say of one column.
struct ColumnChange<'e, 'g> {
    event: &'e Event<'g>,
    index: usize,
    is_deleted: bool,
    has_value: bool,
    has_removed: bool,
}

impl<'e, 'g> ColumnChange<'e, 'g> {
    fn of(event: &'e Event<'g>, index: usize) -> ColumnChange<'e, 'g> {
        let mut rows = event.deltas();
        let has_value = rows.clone().any(|row| row.value(index).is_some());
        // A row that was scanned takes the place of whatever was known of it.
        let is_multi_cell = || event.shape.columns[index].cql_type.is_multi_cell();
        let is_replaced = event.change == Change::Read && (!has_value || is_multi_cell());
        ColumnChange {
            event,
            index,
            is_deleted: is_replaced || rows.clone().any(|row| row.is_deleted(index)),
            has_value,
            has_removed: rows.any(|row| row.deleted_elements(index).is_some()),
        }
    }

    /// Whether the column's value afterwards is known.
    fn is_whole(&self, column: &DataColumn) -> bool {
        self.is_deleted || (self.has_value && !column.cql_type.is_multi_cell())
    }

    fn has_elements_to_tell(&self, column: &DataColumn) -> bool {
        let is_list = matches!(column.cql_type, CqlType::List { .. });
        column.cql_type.is_multi_cell()
            && (self.has_value || self.has_removed)
            && (!self.is_deleted || is_list)
    }

    fn values(&self) -> impl Iterator<Item = &'g [u8]> {
        self.event.deltas().filter_map(|row| row.value(self.index))
    }

    fn removed(&self) -> impl Iterator<Item = &'g [u8]> {
        self.event.deltas().filter_map(|row| row.deleted_elements(self.index))
    }
}

/// The value of a column that is known whole. Parts with TTLs of their own are put together.
fn push_whole(
    out: &mut String,
    column: &DataColumn,
    change: &ColumnChange,
) -> Result<(), ValueError> {
    let mut values = change.values();
    let first = values.next();
    if !column.cql_type.is_multi_cell() {
        return push_column_value(out, column, first.filter(|_| !change.is_deleted));
    }
    let rest: Vec<&[u8]> = values.collect();
    let joined = match (first, &column.cql_type) {
        (None, _) => None,
        (Some(first), CqlType::Udt(udt)) => {
            join_fields(udt.fields.len(), std::iter::once(first).chain(rest))?
        }
        (Some(first), _) if rest.is_empty() => Some(first.to_vec()),
        (Some(first), CqlType::Set { .. }) => {
            let mut joined = Vec::new();
            let mut builder = CollectionBuilder::new(&mut joined);
            for value in std::iter::once(first).chain(rest) {
                for element in ListView::set(value)? {
                    builder.element(element?);
                }
            }
            builder.finish();
            Some(joined)
        }
        (Some(first), _) => {
            let mut joined = Vec::new();
            let mut builder = CollectionBuilder::new(&mut joined);
            for value in std::iter::once(first).chain(rest) {
                for entry in MapView::new(value)? {
                    let (key, value) = entry?;
                    builder.entry(key, value);
                }
            }
            builder.finish();
            Some(joined)
        }
    };
    // Parts with several TTLs come in the order of these.
    let joined =
        joined.as_deref().map(|joined| normalize(&column.logged_type, joined)).transpose()?;
    push_column_value(out, column, joined.as_deref())
}

/// A user type's fields from several rows; none when no field has a value.
fn join_fields<'v>(
    count: usize,
    values: impl Iterator<Item = &'v [u8]>,
) -> Result<Option<Vec<u8>>, ValueError> {
    let mut fields: Vec<Option<&[u8]>> = vec![None; count];
    for value in values {
        for (slot, field) in fields.iter_mut().zip(TupleView::new(value)) {
            *slot = field?.or(*slot);
        }
    }
    if fields.iter().all(Option::is_none) {
        return Ok(None);
    }
    let mut joined = Vec::new();
    for field in fields {
        push_value(&mut joined, field);
    }
    Ok(Some(joined))
}

fn push_element_changes(
    out: &mut String,
    column: &DataColumn,
    change: &ColumnChange,
) -> Result<(), ValueError> {
    let mut members = Members::open(out);
    if change.is_deleted {
        members.name("replaced").push_str("true");
    }
    let out = members.name("set");
    out.push('[');
    let mut comma = Comma::default();
    for value in change.values() {
        push_set(out, &mut comma, column, value)?;
    }
    out.push(']');
    let out = members.name("removed");
    out.push('[');
    let mut comma = Comma::default();
    for removed in change.removed() {
        for element in ListView::set(removed)? {
            comma.push(out);
            push_removed(out, column, element?)?;
        }
    }
    out.push(']');
    members.close();
    Ok(())
}

fn push_set(
    out: &mut String,
    comma: &mut Comma,
    column: &DataColumn,
    value: &[u8],
) -> Result<(), ValueError> {
    match &column.logged_type {
        CqlType::Set { element, .. } => {
            for item in ListView::set(value)? {
                comma.push(out);
                push_json_value(out, STYLE, element, item?)?;
            }
        }
        CqlType::Map { key, value: element, .. } => {
            for entry in MapView::new(value)? {
                let (entry_key, entry_value) = entry?;
                comma.push(out);
                out.push('[');
                push_json_value(out, STYLE, key, entry_key)?;
                out.push(',');
                push_json_value(out, STYLE, element, entry_value)?;
                out.push(']');
            }
        }
        CqlType::Udt(udt) => {
            for ((name, field_type), field) in udt.fields.iter().zip(TupleView::new(value)) {
                if let Some(field) = field? {
                    comma.push(out);
                    out.push('[');
                    push_json_string(out, name);
                    out.push(',');
                    push_json_value(out, STYLE, field_type, field)?;
                    out.push(']');
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn push_removed(out: &mut String, column: &DataColumn, element: &[u8]) -> Result<(), ValueError> {
    match &column.logged_type {
        CqlType::Set { element: cql_type, .. } | CqlType::Map { key: cql_type, .. } => {
            push_json_value(out, STYLE, cql_type, element)
        }
        CqlType::Udt(udt) => {
            let index = <[u8; 2]>::try_from(element).map(u16::from_be_bytes).ok();
            match index.and_then(|index| udt.fields.get(usize::from(index))) {
                Some((name, _)) => push_json_string(out, name),
                None => return Err(ValueError::new("a user type has no such field")),
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Before every element but the first.
#[derive(Default)]
struct Comma {
    is_needed: bool,
}

impl Comma {
    fn push(&mut self, out: &mut String) {
        if self.is_needed {
            out.push(',');
        }
        self.is_needed = true;
    }
}
