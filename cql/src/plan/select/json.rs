//! SELECT JSON: each row of the result is one text, an object with the selected columns.
//!
//! ```text
//! SELECT JSON p, "C", count(*) FROM t     {"p": 1, "\"C\"": null, "count": 3}
//! ```
//!
//! Members are named and printed as Cassandra does, which [`model::json`] knows.

use crate::plan::error::PlanError;
use crate::wire::{ColumnSpec, OpenCell};
use model::json::{JsonStyle, push_field_name, push_json_value};
use model::{CqlType, TableDef};
use std::borrow::Cow;

/// The name of the result's only column.
const COLUMN: &str = "[json]";

/// What the object of a row has.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct JsonRow {
    members: Vec<Member>,
}

#[derive(Clone, Debug, PartialEq)]
struct Member {
    /// With what stands before and behind it.
    name: String,
    cql_type: CqlType,
}

/// The only column of the result.
pub(super) fn json_column(table: &TableDef) -> ColumnSpec {
    ColumnSpec {
        keyspace: table.keyspace.clone(),
        table: table.name.clone(),
        name: COLUMN.into(),
        cql_type: CqlType::Text,
    }
}

impl JsonRow {
    /// With these columns.
    pub(super) fn of(columns: &[ColumnSpec]) -> JsonRow {
        let member = |(index, column): (usize, &ColumnSpec)| {
            let mut name = if index == 0 { "{" } else { JsonStyle::Spaced.comma() }.to_owned();
            push_field_name(&mut name, &column.name);
            name.push_str(JsonStyle::Spaced.colon());
            Member { name, cql_type: column.cql_type.clone() }
        };
        JsonRow { members: columns.iter().enumerate().map(member).collect() }
    }

    /// Appends the cell of a row with these values.
    pub(super) fn write<'v>(
        &self,
        values: impl Iterator<Item = Result<Option<Cow<'v, [u8]>>, PlanError>>,
        out: &mut Vec<u8>,
    ) -> Result<(), PlanError> {
        let mut text = String::new();
        for (member, value) in self.members.iter().zip(values) {
            text.push_str(&member.name);
            match value? {
                Some(value) => {
                    push_json_value(&mut text, JsonStyle::Spaced, &member.cql_type, &value)
                        .map_err(|error| PlanError::invalid(error.to_string()))?;
                }
                None => text.push_str("null"),
            }
        }
        text.push('}');
        let cell = OpenCell::begin(out);
        out.extend_from_slice(text.as_bytes());
        cell.finish(out);
        Ok(())
    }
}
