//! CREATE TABLE.

use super::super::PlanError;
use super::column_types::{check_data_type, check_key_type, column_type};
use super::errors::{check_table_name, table_exists, unknown_keyspace};
use super::options::{TableProperties, check_cdc_of_log};
use super::table_lookup::user_keyspace;
use super::{ChangeKind, DdlContext, SchemaChange, cdc};
use crate::syntax::ast::{ColumnDefinition, CreateTable, Direction, Name, PrimaryKey};
use model::literal::format_value;
use model::schema::Partitioner;
use model::{ColumnDef, ColumnKind, CqlType, KeyspaceDef, Schema, TableDef, TableId, TableOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most columns a table may have.
pub(super) const COLUMN_COUNT_MAX: usize = 8_192;

/// Ids below are of tables that are in no schema.
const OWN_IDS_END: u128 = 1 << 64;

pub(super) fn create(
    create: &CreateTable,
    schema: &Schema,
    keyspace_in_use: Option<&str>,
    context: &mut DdlContext<'_>,
) -> Result<SchemaChange, PlanError> {
    let keyspace_name = user_keyspace(&create.table, keyspace_in_use)?;
    let name = create.table.name.as_str();
    check_table_name(keyspace_name, name)?;
    let keyspace = schema.keyspace(keyspace_name).ok_or_else(|| unknown_keyspace(keyspace_name))?;
    let mut change = SchemaChange::default();
    if keyspace.tables.contains_key(name) {
        return if create.if_not_exists {
            Ok(change)
        } else {
            Err(table_exists(keyspace_name, name))
        };
    }
    if create.properties.compact_storage.is_some() {
        return Err(PlanError::invalid("COMPACT STORAGE tables are not supported"));
    }
    let columns = columns(create, schema, &keyspace.name)?;
    let mut properties = TableProperties::new(&create.properties.properties, context.cdc);
    let wanted_id = properties.take_id()?;
    let options = properties.read(&TableOptions::default(), true)?;
    change.warnings = options.warnings;
    let id = match wanted_id {
        Some(id) => check_id(id, schema, context).map(|()| id)?,
        None => TableId((context.fresh_table_id)()),
    };
    let mut table = new_table(id, &keyspace.name, name, columns, options.options);
    check_cdc_of_log(&table, context.cdc)?;
    check_counters_stay(&table)?;
    let mut keyspace = KeyspaceDef::clone(keyspace);
    change.table_event(ChangeKind::Created, &table);
    cdc::sync_log(&mut table, &mut keyspace, &mut change, context)?;
    keyspace.tables.insert(table.name.clone(), Arc::new(table));
    change.put.push(keyspace);
    Ok(change)
}

/// An id that a statement names must never have been another table's: what the log still holds of
/// that one would come back in this one.
fn check_id(id: TableId, schema: &Schema, context: &DdlContext<'_>) -> Result<(), PlanError> {
    let id_text = format_value(&CqlType::Uuid, &id.0.to_be_bytes());
    if id.0 < OWN_IDS_END {
        return Err(PlanError::config(format!("Table id {id_text} is reserved for the system")));
    }
    let tables = schema.keyspaces.values().flat_map(|keyspace| keyspace.tables.values());
    if let Some(other) = tables.into_iter().find(|table| table.id == id) {
        return Err(PlanError::config(format!(
            "Table id {id_text} is that of table {}.{}",
            other.keyspace, other.name
        )));
    }
    if (context.is_dropped_id)(id) {
        return Err(PlanError::config(format!(
            "Table id {id_text} was that of a table that has been dropped; leave the id out"
        )));
    }
    Ok(())
}

fn new_table(
    id: TableId,
    keyspace: &Arc<str>,
    name: &str,
    columns: Vec<ColumnDef>,
    options: TableOptions,
) -> TableDef {
    TableDef {
        id,
        keyspace: keyspace.clone(),
        name: name.into(),
        next_column_id: columns.len() as u32,
        columns,
        dropped_columns: Vec::new(),
        version: 1,
        partitioner: Partitioner::Murmur3,
        cdc_base: None,
        cdc_log: None,
        options,
    }
}

/// A table of the system's own, with default options and an id that the caller sets.
pub(super) fn system_table(create: &CreateTable, keyspace: &str) -> Result<TableDef, PlanError> {
    let columns = columns(create, &Schema::default(), keyspace)?;
    let name = create.table.name.as_str();
    Ok(new_table(TableId(0), &keyspace.into(), name, columns, TableOptions::default()))
}

/// The columns in the order of a definition, which is also that of their ids.
fn columns(
    create: &CreateTable,
    schema: &Schema,
    keyspace: &str,
) -> Result<Vec<ColumnDef>, PlanError> {
    let table = create.table.name.as_str();
    let mut written = BTreeMap::new();
    for column in &create.columns {
        if written.insert(column.name.as_str(), column).is_some() {
            return Err(PlanError::invalid(format!(
                "Duplicate column '{}' declaration for table '{table}'",
                column.name.as_str()
            )));
        }
    }
    if written.len() > COLUMN_COUNT_MAX {
        return Err(too_many_columns());
    }
    let key = primary_key(create)?;
    let descending = clustering_order(create, key)?;
    let mut taken = BTreeSet::new();
    let mut columns = Vec::with_capacity(written.len());
    let mut add = |column: &ColumnDefinition, cql_type: CqlType, kind, descending| {
        let (id, name) = (columns.len() as u32, column.name.text.clone());
        columns.push(ColumnDef { id, name, cql_type, kind, descending });
    };
    let partition =
        key.partition.iter().map(|name| (name, ColumnKind::PartitionKey as fn(u16) -> _));
    let clustering =
        key.clustering.iter().map(|name| (name, ColumnKind::Clustering as fn(u16) -> _));
    for (place, (name, kind)) in partition.chain(clustering).enumerate() {
        let column = key_column(name, table, &written, &mut taken)?;
        let cql_type = column_type(schema, keyspace, &column.type_name)?;
        check_key_type(name.as_str(), &cql_type)?;
        let clustering_place = place.checked_sub(key.partition.len());
        let position = clustering_place.unwrap_or(place) as u16;
        let descending = clustering_place.is_some_and(|at| descending[at]);
        add(column, cql_type, kind(position), descending);
    }
    let (mut counters, mut others) = (false, false);
    for (_, column) in written.into_iter().filter(|(name, _)| !taken.contains(name)) {
        let cql_type = column_type(schema, keyspace, &column.type_name)?;
        check_data_type(&cql_type)?;
        let is_counter = cql_type == CqlType::Counter;
        (counters, others) = (counters || is_counter, others || !is_counter);
        let kind = if column.is_static { ColumnKind::Static } else { ColumnKind::Regular };
        if column.is_static && key.clustering.is_empty() {
            return Err(PlanError::invalid(STATIC_NEEDS_CLUSTERING));
        }
        add(column, cql_type, kind, false);
    }
    match (counters, others) {
        (true, true) => {
            Err(PlanError::invalid("Cannot mix counter and non counter columns in the same table"))
        }
        _ => Ok(columns),
    }
}

/// Counters do not expire.
pub(super) fn check_counters_stay(table: &TableDef) -> Result<(), PlanError> {
    if table.is_counter() && table.options.default_time_to_live > 0 {
        return Err(PlanError::invalid("Cannot set default_time_to_live on a table with counters"));
    }
    Ok(())
}

pub(super) fn too_many_columns() -> PlanError {
    PlanError::invalid(format!("A table may have at most {COLUMN_COUNT_MAX} columns"))
}

/// The refusal of a static column in a table whose partitions are single rows.
pub(super) const STATIC_NEEDS_CLUSTERING: &str = "Static columns are only useful (and thus \
    allowed) if the table has at least one clustering column";

/// The one PRIMARY KEY. The texts are spelled as in Cassandra: clients look for them.
fn primary_key(create: &CreateTable) -> Result<&PrimaryKey, PlanError> {
    let table = create.table.name.as_str();
    match create.primary_keys.as_slice() {
        [key] => Ok(key),
        [] => Err(PlanError::invalid(format!(
            "No PRIMARY KEY specifed for table '{table}' (exactly one required)"
        ))),
        _ => Err(PlanError::invalid(format!(
            "Multiple PRIMARY KEY specified for table '{table}' (exactly one required)"
        ))),
    }
}

/// The definition of a column that the PRIMARY KEY names, each once.
fn key_column<'a>(
    name: &'a Name,
    table: &str,
    written: &BTreeMap<&str, &'a ColumnDefinition>,
    taken: &mut BTreeSet<&'a str>,
) -> Result<&'a ColumnDefinition, PlanError> {
    let text = name.as_str();
    let column = written.get(text).ok_or_else(|| {
        PlanError::invalid(format!(
            "Unknown column '{text}' referenced in PRIMARY KEY for table '{table}'"
        ))
    })?;
    if column.is_static {
        return Err(PlanError::invalid(format!(
            "Static column '{text}' cannot be part of the PRIMARY KEY"
        )));
    }
    if !taken.insert(text) {
        return Err(PlanError::invalid(format!(
            "Duplicate column '{text}' in PRIMARY KEY clause for table '{table}'"
        )));
    }
    Ok(column)
}

/// For each clustering column, whether it is descending. CLUSTERING ORDER BY names a prefix of
/// them in their order, or nothing.
fn clustering_order(create: &CreateTable, key: &PrimaryKey) -> Result<Vec<bool>, PlanError> {
    let order = &create.properties.clustering_order;
    let mut named = BTreeSet::new();
    for (column, _) in order {
        if !named.insert(column.as_str()) {
            return Err(PlanError::invalid(format!(
                "Duplicate column '{}' in CLUSTERING ORDER BY clause for table '{}'",
                column.as_str(),
                create.table.name.as_str()
            )));
        }
    }
    let clustering: BTreeSet<&str> = key.clustering.iter().map(Name::as_str).collect();
    let unknown = order.iter().map(|(column, _)| column.as_str());
    let unknown: Vec<&str> = unknown.filter(|name| !clustering.contains(name)).collect();
    if !unknown.is_empty() {
        return Err(PlanError::invalid(format!(
            "Only clustering key columns can be defined in CLUSTERING ORDER directive: [{}] are \
             not clustering columns",
            unknown.join(", ")
        )));
    }
    let mut descending = vec![false; key.clustering.len()];
    for (place, (column, (named_here, direction))) in key.clustering.iter().zip(order).enumerate() {
        let (column, named_here) = (column.as_str(), named_here.as_str());
        if column != named_here {
            return Err(PlanError::invalid(if named.contains(column) {
                format!(
                    "The order of columns in the CLUSTERING ORDER directive must match that of the \
                     clustering columns ({column} must appear before {named_here})"
                )
            } else {
                format!("Missing CLUSTERING ORDER for column {column}")
            }));
        }
        descending[place] = *direction == Direction::Descending;
    }
    Ok(descending)
}
