//! INSERT JSON: the values of all columns out of one text.
//!
//! A text that stands in the statement is read when it is prepared, and its values are constants.
//! One that comes with a request is read once for each execution, by the first column that asks;
//! the others find it in the context.

use super::context::{BindContext, BoundValues};
use super::error::PlanError;
use super::markers::Receiver;
use super::term::{BoundTerm, PreparedTerm};
use super::term_preparer::TermPreparer;
use crate::syntax::ast::Term;
use crate::wire::Value;
use model::json::{Json, name_from_json, value_from_json};
use model::{ColumnDef, ColumnKind, CqlType};
use std::borrow::Cow;
use std::sync::Arc;

/// The value of one column in a text that comes with the request.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonMember {
    /// The marker of the text.
    slot: u16,
    column: Arc<str>,
    cql_type: CqlType,
    /// All that the text may name.
    columns: Arc<[Arc<str>]>,
    /// A column that the text does not name stays as it is; else it is set to null.
    default_unset: bool,
}

/// The members of a text's object.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonDocument {
    text: String,
    /// All that it may name.
    columns: Arc<[Arc<str>]>,
    members: Vec<(String, Json)>,
}

/// What an INSERT gives each column of its table by a JSON text, in their order.
pub(super) fn prepare<'t>(
    preparer: &mut TermPreparer<'t, '_>,
    value: &Term,
    default_unset: bool,
) -> Result<Vec<(&'t ColumnDef, PreparedTerm)>, PlanError> {
    let table = preparer.table;
    let text = preparer.prepare(value, &Receiver::new("[json]", CqlType::Text))?;
    let columns: Arc<[Arc<str>]> = table.columns.iter().map(|column| column.name.clone()).collect();
    let PreparedTerm::Constant(text) = &text else {
        let Some(slot) = text.marker_slot() else { return Err(no_text()) };
        let member = |column: &'t ColumnDef| {
            let (name, cql_type, columns) =
                (column.name.clone(), column.cql_type.clone(), columns.clone());
            let member = JsonMember { slot, column: name, cql_type, columns, default_unset };
            (column, PreparedTerm::JsonMember(Box::new(member)))
        };
        return Ok(table.columns.iter().map(member).collect());
    };
    let document = JsonDocument::read(text, &columns)?;
    let mut values = Vec::new();
    for column in &table.columns {
        let Some(json) = document.member(&column.name) else {
            if is_key(column) || !default_unset {
                values.push((column, PreparedTerm::Null));
            }
            continue;
        };
        let value = decode(&column.name, &column.cql_type, json)?;
        let value = value.map_or(PreparedTerm::Null, |value| PreparedTerm::Constant(value.into()));
        values.push((column, value));
    }
    Ok(values)
}

impl JsonMember {
    pub(super) fn bind<'a>(
        &self,
        values: &BoundValues<'a>,
        context: &mut BindContext<'_>,
    ) -> Result<BoundTerm<'a>, PlanError> {
        let Value::Set(text) = values.slot(self.slot) else { return Err(no_text()) };
        let known = context.json.take().filter(|known| {
            Arc::ptr_eq(&known.columns, &self.columns) && known.text.as_bytes() == text
        });
        let document = match known {
            Some(document) => document,
            None => Box::new(JsonDocument::read(text, &self.columns)?),
        };
        let value = match document.member(&self.column) {
            Some(json) => {
                let value = decode(&self.column, &self.cql_type, json)?;
                value.map_or(BoundTerm::Null, |value| BoundTerm::Value(Cow::Owned(value)))
            }
            None if self.default_unset => BoundTerm::Unset,
            None => BoundTerm::Null,
        };
        context.json = Some(document);
        Ok(value)
    }
}

impl JsonDocument {
    /// Reads a text that may name these columns.
    fn read(text: &[u8], columns: &Arc<[Arc<str>]>) -> Result<JsonDocument, PlanError> {
        let Ok(text) = std::str::from_utf8(text) else {
            return Err(PlanError::invalid("String didn't validate."));
        };
        let failed = |error: &str| {
            PlanError::invalid(format!("Could not decode JSON string as a map: {error}"))
        };
        let members = match Json::parse(text).map_err(|error| failed(&error))? {
            Json::Object(members) => members,
            Json::Null => return Err(no_text()),
            _ => return Err(failed("it is no object")),
        };
        for (name, _) in &members {
            let name = name_from_json(name);
            if !columns.iter().any(|column| **column == *name) {
                return Err(PlanError::invalid(format!(
                    "JSON values map contains unrecognized column: {name}"
                )));
            }
        }
        Ok(JsonDocument { text: text.to_owned(), columns: columns.clone(), members })
    }

    /// What the text gives a column. Of several the last counts.
    fn member(&self, column: &str) -> Option<&Json> {
        let named = self.members.iter().rev().find(|(name, _)| name_from_json(name) == column);
        named.map(|(_, json)| json)
    }
}

/// The value of a column, or null.
fn decode(column: &str, cql_type: &CqlType, json: &Json) -> Result<Option<Vec<u8>>, PlanError> {
    value_from_json(cql_type, json).map_err(|error| {
        PlanError::invalid(format!("Error decoding JSON value for {column}: {error}"))
    })
}

fn is_key(column: &ColumnDef) -> bool {
    matches!(column.kind, ColumnKind::PartitionKey(_) | ColumnKind::Clustering(_))
}

fn no_text() -> PlanError {
    PlanError::invalid("Got null for INSERT JSON values")
}
