//! ALTER TABLE.
//!
//! A column that is added never gets the id of one that was dropped, so what was stored under the
//! old one stays gone; Cassandra's rules on types and kinds of columns that come back hold all the
//! same, since clients rely on them.

use super::super::PlanError;
use super::super::names::qualified_name;
use super::cdc::{CdcRefusal, is_attached_log, sync_log};
use super::column_types::{check_data_type, column_type};
use super::create_table::{
    COLUMN_COUNT_MAX, STATIC_NEEDS_CLUSTERING, check_counters_stay, too_many_columns,
};
use super::errors::syntax;
use super::feeds::check_feeds_are_served;
use super::options::{TableProperties, check_cdc_of_log};
use super::table_lookup::user_table;
use super::{ChangeKind, DdlContext, SchemaChange};
use crate::syntax::ast::{self, AlterTable, AlterTableAction, ColumnDefinition, Name};
use model::schema::{DroppedColumn, quote_identifier};
use model::{ColumnDef, ColumnKind, CqlType, KeyspaceDef, Schema, TableDef};
use std::sync::Arc;

pub(super) fn alter(
    alter: &AlterTable,
    schema: &Schema,
    keyspace_in_use: Option<&str>,
    context: &mut DdlContext<'_>,
) -> Result<SchemaChange, PlanError> {
    let found = user_table(schema, keyspace_in_use, &alter.table, alter.if_exists)?;
    let Some((keyspace, old)) = found else { return Ok(SchemaChange::default()) };
    check_log_columns(keyspace, old, &alter.action, context)?;
    check_length(&alter.action)?;
    let mut table = TableDef::clone(old);
    let mut change = SchemaChange::default();
    match &alter.action {
        AlterTableAction::Add { if_not_exists, columns } => {
            for column in columns {
                add_column(&mut table, column, *if_not_exists, schema, context)?;
            }
        }
        AlterTableAction::Drop { if_exists, columns, timestamp } => {
            let dropped_at = timestamp.unwrap_or(context.now_micros);
            for column in columns {
                drop_column(&mut table, column, *if_exists, dropped_at)?;
            }
        }
        AlterTableAction::Rename { if_exists, columns } => {
            for (from, to) in columns {
                rename_column(&mut table, old, from, to, *if_exists)?;
            }
        }
        AlterTableAction::AlterType { .. } => {
            return Err(PlanError::invalid("Altering column types is no longer supported"));
        }
        AlterTableAction::DropCompactStorage => {
            return Err(PlanError::invalid(
                "Cannot DROP COMPACT STORAGE on table without COMPACT STORAGE",
            ));
        }
        AlterTableAction::With(properties) => {
            change.warnings = set_options(&mut table, properties, context)?;
            check_feeds_are_served(old, &table)?;
            if properties.properties.iter().any(|property| property.name.as_str() == "cdc") {
                change.logs_switched.push(table.id);
            }
        }
    }
    if table == **old {
        return Ok(change);
    }
    table.version += 1;
    let mut keyspace = KeyspaceDef::clone(keyspace);
    change.table_event(ChangeKind::Updated, &table);
    sync_log(&mut table, &mut keyspace, &mut change, context)?;
    keyspace.tables.insert(table.name.clone(), Arc::new(table));
    change.put.push(keyspace);
    Ok(change)
}

/// The columns of a log follow from its base's, and no statement changes them.
fn check_log_columns(
    keyspace: &KeyspaceDef,
    table: &TableDef,
    action: &AlterTableAction,
    context: &DdlContext<'_>,
) -> Result<(), PlanError> {
    if !table.is_cdc_log() {
        return Ok(());
    }
    let attached = is_attached_log(keyspace, table);
    let refusal = match action {
        AlterTableAction::Rename { .. } => CdcRefusal::LogColumnRenamed { attached },
        AlterTableAction::Add { .. }
        | AlterTableAction::Drop { .. }
        | AlterTableAction::AlterType { .. } => CdcRefusal::LogColumnsModified { attached },
        AlterTableAction::DropCompactStorage | AlterTableAction::With(_) => return Ok(()),
    };
    Err(context.cdc.refusal(refusal))
}

/// More columns than a table may have are never meant, and would be looked up one by one.
fn check_length(action: &AlterTableAction) -> Result<(), PlanError> {
    let length = match action {
        AlterTableAction::Add { columns, .. } => columns.len(),
        AlterTableAction::Drop { columns, .. } => columns.len(),
        AlterTableAction::Rename { columns, .. } => columns.len(),
        _ => 0,
    };
    if length <= COLUMN_COUNT_MAX {
        return Ok(());
    }
    Err(too_many_columns())
}

fn add_column(
    table: &mut TableDef,
    column: &ColumnDefinition,
    if_not_exists: bool,
    schema: &Schema,
    context: &DdlContext<'_>,
) -> Result<(), PlanError> {
    let name = column.name.as_str();
    if table.column(name).is_some() {
        return if if_not_exists {
            Ok(())
        } else {
            Err(PlanError::invalid(format!("Column with name '{name}' already exists")))
        };
    }
    if column.is_static && table.clustering_count() == 0 {
        return Err(PlanError::invalid(STATIC_NEEDS_CLUSTERING));
    }
    if table.columns.len() >= COLUMN_COUNT_MAX {
        return Err(too_many_columns());
    }
    let cql_type = column_type(schema, &table.keyspace, &column.type_name)?;
    check_data_type(&cql_type)?;
    if let Some(dropped) = table.dropped_columns.iter().rev().find(|old| &*old.name == name) {
        check_coming_back(dropped, column.is_static, &cql_type)?;
    }
    if table.is_counter() {
        if cql_type != CqlType::Counter {
            return Err(PlanError::config(format!(
                "{}.{}: Cannot have a non counter column (\"{name}\") in a counter table",
                table.keyspace, table.name
            )));
        }
        if table.dropped_columns.iter().any(|old| &*old.name == name) {
            return Err(PlanError::invalid(format!(
                "Cannot re-add previously dropped counter column {name}"
            )));
        }
    } else if cql_type == CqlType::Counter {
        if table.cdc_enabled().is_some() {
            return Err(context.cdc.refusal(CdcRefusal::CounterColumnAdded { column: name }));
        }
        return Err(PlanError::config(format!(
            "{}.{}: Cannot have a counter column (\"{name}\") in a non counter table",
            table.keyspace, table.name
        )));
    }
    let kind = if column.is_static { ColumnKind::Static } else { ColumnKind::Regular };
    let (id, name) = (table.next_column_id, column.name.text.clone());
    let after_keys = table.columns.len() - table.data_columns().len();
    let place = after_keys + table.data_columns().partition_point(|other| other.name < name);
    table.columns.insert(place, ColumnDef { id, name, cql_type, kind, descending: false });
    table.next_column_id += 1;
    Ok(())
}

/// A column that comes back is what it was.
fn check_coming_back(
    dropped: &DroppedColumn,
    is_static: bool,
    cql_type: &CqlType,
) -> Result<(), PlanError> {
    let name = &dropped.name;
    if without_user_types(cql_type) != dropped.cql_type {
        return Err(PlanError::invalid(format!(
            "Cannot add a column '{name}' of type {cql_type}, incompatible with previously dropped \
             column '{name}' of type {}",
            dropped.cql_type
        )));
    }
    if is_static != dropped.is_static {
        let kind = |is_static| if is_static { "STATIC" } else { "REGULAR" };
        return Err(PlanError::invalid(format!(
            "Cannot re-add previously dropped column '{name}' of kind {}, incompatible with \
             previous kind {}",
            kind(is_static),
            kind(dropped.is_static)
        )));
    }
    Ok(())
}

fn drop_column(
    table: &mut TableDef,
    column: &Name,
    if_exists: bool,
    dropped_at_micros: i64,
) -> Result<(), PlanError> {
    let name = column.as_str();
    let Some(place) = table.columns.iter().position(|c| &*c.name == name) else {
        return if if_exists {
            Ok(())
        } else {
            Err(PlanError::invalid(format!(
                "Column {name} was not found in table '{}'",
                qualified_name(&table.keyspace, &table.name)
            )))
        };
    };
    let is_static = match table.columns[place].kind {
        ColumnKind::Static => true,
        ColumnKind::Regular => false,
        ColumnKind::PartitionKey(_) | ColumnKind::Clustering(_) => {
            return Err(PlanError::invalid(format!("Cannot drop PRIMARY KEY column {name}")));
        }
    };
    if let CqlType::Udt(udt) = &table.columns[place].cql_type
        && !udt.frozen
    {
        return Err(PlanError::invalid(format!(
            "Cannot drop non-frozen column {name} of user type {}",
            udt.name
        )));
    }
    let ColumnDef { id, name, cql_type, .. } = table.columns.remove(place);
    let cql_type = without_user_types(&cql_type);
    table.dropped_columns.retain(|old| old.name != name);
    table.dropped_columns.push(DroppedColumn { id, name, cql_type, is_static, dropped_at_micros });
    Ok(())
}

/// The type with tuples in place of user types: what is known of a dropped column must not keep
/// the user type from being dropped.
fn without_user_types(cql_type: &CqlType) -> CqlType {
    let inside = |inner: &Arc<CqlType>| Arc::new(without_user_types(inner));
    match cql_type {
        CqlType::List { element, frozen } => {
            CqlType::List { element: inside(element), frozen: *frozen }
        }
        CqlType::Set { element, frozen } => {
            CqlType::Set { element: inside(element), frozen: *frozen }
        }
        CqlType::Map { key, value, frozen } => {
            CqlType::Map { key: inside(key), value: inside(value), frozen: *frozen }
        }
        CqlType::Vector { element, dimension } => {
            CqlType::Vector { element: inside(element), dimension: *dimension }
        }
        CqlType::Tuple(fields) => CqlType::Tuple(fields.iter().map(without_user_types).collect()),
        CqlType::Udt(udt) => CqlType::Tuple(
            udt.fields.iter().map(|(_, t)| without_user_types(&t.freeze())).collect(),
        ),
        native => native.clone(),
    }
}

/// Renames a column of the key. Names are those from before the statement.
fn rename_column(
    table: &mut TableDef,
    old: &TableDef,
    from: &Name,
    to: &Name,
    if_exists: bool,
) -> Result<(), PlanError> {
    let (from, to_text) = (from.as_str(), to.as_str());
    let (keyspace, name) = (&table.keyspace, &table.name);
    let Some(column) = old.column(from) else {
        return if if_exists {
            Ok(())
        } else {
            Err(PlanError::invalid(format!(
                "Undefined column name {} in table {}",
                quote_identifier(from),
                qualified_name(keyspace, name)
            )))
        };
    };
    if matches!(column.kind, ColumnKind::Regular | ColumnKind::Static) {
        return Err(PlanError::invalid(format!("Cannot rename non PRIMARY KEY column {from}")));
    }
    if table.column(to_text).is_some() {
        return Err(PlanError::invalid(format!(
            "Cannot rename column {from} to {to_text} in table '{keyspace}.{name}'; another column \
             with that name already exists"
        )));
    }
    // A pair that names the same column again finds it by its id.
    if let Some(renamed) = table.columns.iter_mut().find(|other| other.id == column.id) {
        renamed.name = to.text.clone();
    }
    Ok(())
}

/// Sets the options of a WITH clause and returns its warnings.
fn set_options(
    table: &mut TableDef,
    properties: &ast::TableProperties,
    context: &DdlContext<'_>,
) -> Result<Vec<String>, PlanError> {
    if !properties.clustering_order.is_empty() {
        return Err(syntax("The clustering order of a table cannot be altered"));
    }
    if properties.compact_storage.is_some() {
        return Err(PlanError::invalid("COMPACT STORAGE tables are not supported"));
    }
    let mut wanted = TableProperties::new(&properties.properties, context.cdc);
    wanted.refuse_id()?;
    let read = wanted.read(&table.options, false)?;
    table.options = read.options;
    check_counters_stay(table)?;
    check_cdc_of_log(table, context.cdc)?;
    Ok(read.warnings)
}
