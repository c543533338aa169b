//! JSON patches (RFC 6902) from the row before a change to the row after it.
//!
//! Applied to the row before, as `full` events print it, a patch gives the row after. A new row is
//! one operation on the whole document. A column that changed is one `add`, which replaces what is
//! there, also in a document from before the column was; maps and user types that were and are there
//! have an operation for each changed entry, lists and sets one for each changed element: first
//! removals from the end, then additions and replacements from the front.

use super::body::{STYLE, data_columns, push_column_value, push_row};
use super::{Change, Event};
use crate::source::DataColumn;
use model::json::{push_field_name, push_json_key, push_json_value};
use model::value::{ListView, MapView, TupleView};
use model::{CqlType, ValueError};

/// Appends the patch as a list of operations; `null` for a DELETE.
pub(crate) fn push_patch(out: &mut String, event: &Event) -> Result<(), ValueError> {
    let (Some(after), false) = (event.after, event.change == Change::Delete) else {
        out.push_str("null");
        return Ok(());
    };
    let mut patch = Patch { out, is_first: true };
    patch.out.push('[');
    match event.before {
        None => {
            patch.operation("add", "", &[]);
            push_row(patch.out, event, after)?;
            patch.out.push('}');
        }
        Some(before) => {
            for (index, column) in data_columns(event) {
                patch.column(column, before.value(index), after.value(index))?;
            }
        }
    }
    patch.out.push(']');
    Ok(())
}

/// The operations so far.
struct Patch<'o> {
    out: &'o mut String,
    is_first: bool,
}

impl Patch<'_> {
    /// Begins an operation with a value; the value and the closing brace are the caller's.
    fn operation(&mut self, operation: &str, column: &str, path: &[&str]) {
        self.head(operation, column, path);
        self.out.push_str(",\"value\":");
    }

    fn remove(&mut self, column: &str, path: &str) {
        self.head("remove", column, &[path]);
        self.out.push('}');
    }

    /// `{"op":"add","path":"/column/path"`; the path of the document itself is empty.
    fn head(&mut self, operation: &str, column: &str, path: &[&str]) {
        if !self.is_first {
            self.out.push(',');
        }
        self.is_first = false;
        self.out.push_str("{\"op\":\"");
        self.out.push_str(operation);
        self.out.push_str("\",\"path\":");
        let mut pointer = String::new();
        for part in std::iter::once(&column).filter(|part| !part.is_empty()).chain(path) {
            pointer.push('/');
            pointer.push_str(&part.replace('~', "~0").replace('/', "~1"));
        }
        model::json::push_json_string(self.out, &pointer);
    }

    fn column(
        &mut self,
        column: &DataColumn,
        before: Option<&[u8]>,
        after: Option<&[u8]>,
    ) -> Result<(), ValueError> {
        if before == after {
            return Ok(());
        }
        match (before, after, &column.cql_type) {
            (Some(before), Some(after), CqlType::Map { .. }) => self.map(column, before, after),
            (Some(before), Some(after), CqlType::Udt(_)) => self.fields(column, before, after),
            (Some(before), Some(after), CqlType::List { frozen: false, .. }) => {
                self.list(column, &entries(before)?, &entries(after)?)
            }
            (Some(before), Some(after), CqlType::Set { .. }) => {
                self.list(column, &elements(before)?, &elements(after)?)
            }
            _ => {
                self.operation("add", &column.name, &[]);
                push_column_value(self.out, column, after)?;
                self.out.push('}');
                Ok(())
            }
        }
    }

    /// Both are sorted by the same order of keys; keys are compared as bytes.
    fn map(&mut self, column: &DataColumn, before: &[u8], after: &[u8]) -> Result<(), ValueError> {
        let CqlType::Map { key, value, .. } = &column.cql_type else { return Ok(()) };
        let (before, after) = (entries(before)?, entries(after)?);
        let named = |entry_key: &[u8]| -> Result<String, ValueError> {
            let mut json = String::new();
            push_json_key(&mut json, key, entry_key)?;
            text_of(&json)
        };
        let after_by_key: std::collections::BTreeMap<_, _> = after.iter().copied().collect();
        let before_by_key: std::collections::BTreeMap<_, _> = before.iter().copied().collect();
        for (entry_key, _) in before.iter().filter(|(key, _)| !after_by_key.contains_key(key)) {
            self.remove(&column.name, &named(entry_key)?);
        }
        for (entry_key, entry) in after {
            if before_by_key.get(entry_key) != Some(&entry) {
                self.operation("add", &column.name, &[&named(entry_key)?]);
                push_json_value(self.out, STYLE, value, entry)?;
                self.out.push('}');
            }
        }
        Ok(())
    }

    fn fields(
        &mut self,
        column: &DataColumn,
        before: &[u8],
        after: &[u8],
    ) -> Result<(), ValueError> {
        let CqlType::Udt(udt) = &column.cql_type else { return Ok(()) };
        let (mut before, mut after) = (TupleView::new(before), TupleView::new(after));
        for (name, field_type) in &udt.fields {
            let old = before.next().transpose()?.flatten();
            let new = after.next().transpose()?.flatten();
            if old == new {
                continue;
            }
            let mut json = String::new();
            push_field_name(&mut json, name);
            self.operation("add", &column.name, &[&text_of(&json)?]);
            match new {
                Some(value) => push_json_value(self.out, STYLE, field_type, value)?,
                None => self.out.push_str("null"),
            }
            self.out.push('}');
        }
        Ok(())
    }

    /// Elements by an identity that both are sorted by: of a list the time uuid, of a set the value.
    fn list(
        &mut self,
        column: &DataColumn,
        before: &[Entry],
        after: &[Entry],
    ) -> Result<(), ValueError> {
        let (CqlType::List { element, .. } | CqlType::Set { element, .. }) = &column.cql_type
        else {
            return Ok(());
        };
        let kept: std::collections::BTreeSet<&[u8]> = after.iter().map(|(id, _)| *id).collect();
        for (index, (id, _)) in before.iter().enumerate().rev() {
            if !kept.contains(id) {
                self.remove(&column.name, &index.to_string());
            }
        }
        let old: std::collections::BTreeMap<&[u8], &[u8]> = before.iter().copied().collect();
        for (index, (id, value)) in after.iter().enumerate() {
            let operation = match old.get(id) {
                Some(former) if former == value => continue,
                Some(_) => "replace",
                None => "add",
            };
            self.operation(operation, &column.name, &[&index.to_string()]);
            push_json_value(self.out, STYLE, element, value)?;
            self.out.push('}');
        }
        Ok(())
    }
}

/// An element: what it is known by, and its value.
type Entry<'v> = (&'v [u8], &'v [u8]);

fn entries(value: &[u8]) -> Result<Vec<Entry<'_>>, ValueError> {
    MapView::new(value)?.collect()
}

fn elements(value: &[u8]) -> Result<Vec<Entry<'_>>, ValueError> {
    ListView::set(value)?.map(|element| element.map(|element| (element, element))).collect()
}

/// The text of a JSON string that [`push_json_key`] wrote.
fn text_of(json: &str) -> Result<String, ValueError> {
    serde_json::from_str(json).map_err(|_| ValueError::new("a key that is no JSON string"))
}
