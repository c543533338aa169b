//! Names of keyspaces, tables and columns, looked up in the schema.

use super::error::PlanError;
use super::markers::Receiver;
use crate::syntax::ast::{Name, QualifiedName};
use model::schema::quote_identifier;
use model::{ColumnDef, Schema, TableDef};
use std::sync::Arc;

/// The keyspace that a name is in: its own, or else the one in use.
pub fn keyspace_of<'a>(
    keyspace_in_use: Option<&'a str>,
    name: &'a QualifiedName,
) -> Result<&'a str, PlanError> {
    name.keyspace.as_ref().map(Name::as_str).or(keyspace_in_use).ok_or_else(|| {
        PlanError::invalid(
            "No keyspace has been specified. USE a keyspace, or explicitly specify \
             keyspace.tablename",
        )
    })
}

/// The table of that name.
pub fn find_table<'s>(
    schema: &'s Schema,
    keyspace_in_use: Option<&str>,
    name: &QualifiedName,
) -> Result<&'s Arc<TableDef>, PlanError> {
    let keyspace = keyspace_of(keyspace_in_use, name)?;
    let definition = schema
        .keyspace(keyspace)
        .ok_or_else(|| PlanError::invalid(format!("keyspace {keyspace} does not exist")))?;
    definition
        .tables
        .get(name.name.as_str())
        .ok_or_else(|| PlanError::invalid(format!("table {} does not exist", name.name.as_str())))
}

/// The name of a table or type with its keyspace.
pub(super) fn qualified_name(keyspace: &str, name: &str) -> String {
    format!("{}.{}", quote_identifier(keyspace), quote_identifier(name))
}

/// The column of that name.
pub fn table_column<'t>(table: &'t TableDef, name: &Name) -> Result<&'t ColumnDef, PlanError> {
    column_index(table, name).map(|index| &table.columns[index])
}

/// The place of a column in [`TableDef::columns`].
pub fn column_index(table: &TableDef, name: &Name) -> Result<usize, PlanError> {
    table.columns.iter().position(|column| *column.name == *name.text).ok_or_else(|| {
        PlanError::invalid(format!(
            "Undefined column name {} in table {}",
            quote_identifier(name.as_str()),
            qualified_name(&table.keyspace, &table.name)
        ))
    })
}

/// What a column receives: its name and type.
pub fn receiver_of(column: &ColumnDef) -> Receiver {
    Receiver::new(column.name.clone(), column.cql_type.clone())
}
