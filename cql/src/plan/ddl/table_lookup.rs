//! Finding what a statement names, for statements that change it.

use super::super::PlanError;
use super::errors::check_user_keyspace;
use crate::syntax::ast::{Name, QualifiedName};
use model::{KeyspaceDef, Schema, TableDef};
use std::sync::Arc;

/// The keyspace of a name: its own, or else the one in use; never one of the system's.
pub(super) fn user_keyspace<'a>(
    name: &'a QualifiedName,
    keyspace_in_use: Option<&'a str>,
) -> Result<&'a str, PlanError> {
    let keyspace =
        name.keyspace.as_ref().map(Name::as_str).or(keyspace_in_use).ok_or_else(|| {
            PlanError::invalid(
                "No keyspace has been specified. USE a keyspace, or explicitly specify \
             keyspace.tablename",
            )
        })?;
    check_user_keyspace(keyspace)?;
    Ok(keyspace)
}

/// The table of that name with its keyspace; `None` when there is none and `if_exists` allows it.
pub(super) fn user_table<'s>(
    schema: &'s Schema,
    keyspace_in_use: Option<&str>,
    name: &QualifiedName,
    if_exists: bool,
) -> Result<Option<(&'s KeyspaceDef, &'s Arc<TableDef>)>, PlanError> {
    let keyspace = user_keyspace(name, keyspace_in_use)?;
    let table = name.name.as_str();
    let found = schema
        .keyspace(keyspace)
        .and_then(|definition| Some((&**definition, definition.tables.get(table)?)));
    if found.is_none() && !if_exists {
        return Err(PlanError::invalid(format!("Table '{keyspace}.{table}' doesn't exist")));
    }
    Ok(found)
}
