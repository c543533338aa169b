//! CREATE TABLE, and the properties of a table as its WITH clause says them.
//!
//! Properties stand in the order in which Cassandra prints them. Printed are those that CREATE
//! TABLE takes: `cdc` when it is set (Cassandra's `cdc = false` would say something else in ALTER
//! TABLE), `tombstone_gc` when it is set.

use super::super::ddl::{CdcTables, double};
use super::super::names::qualified_name;
use super::super::system_schema::{is_virtual_keyspace, shown_compression};
use super::text::{commented, quote_map, quote_text};
use model::literal::format_value;
use model::schema::{DroppedColumn, quote_identifier};
use model::{ColumnDef, ColumnKind, CqlType, TableDef, TableOptions};
use std::collections::BTreeMap;

/// Between two properties.
const AND: &str = "\n    AND ";
/// What ScyllaDB says above the CREATE TABLE of an attached log.
const LOG_INTRODUCTION: &str =
    "Do NOT execute this statement! It's only for informational purposes.
   A CDC log table is created automatically when creating the base with CDC
   enabled option or creating the vector index on the base table's vector column.
";

/// CREATE TABLE; with internals also the id and the columns that were dropped.
pub(super) fn table_statement(
    table: &TableDef,
    cdc: &dyn CdcTables,
    with_internals: bool,
) -> String {
    let name = qualified_name(&table.keyspace, &table.name);
    if is_virtual_keyspace(&table.keyspace) {
        return virtual_table_statement(table, &name, with_internals);
    }
    let dropped = if with_internals { last_dropped(table) } else { BTreeMap::new() };
    let mut properties = structure_properties(table, with_internals);
    properties.extend(option_properties(&table.options, cdc));
    let definitions = definitions(table, &dropped).join(",\n    ");
    let mut out =
        format!("CREATE TABLE {name} (\n    {definitions}\n) WITH {};", properties.join(AND));
    for column in dropped.values() {
        out.push_str(&drop_statements(table, &name, column));
    }
    out
}

/// ALTER TABLE with every property of a log that its base makes.
pub(super) fn log_properties_statement(log: &TableDef, cdc: &dyn CdcTables) -> String {
    let name = qualified_name(&log.keyspace, &log.name);
    format!("ALTER TABLE {name} WITH {};", option_properties(&log.options, cdc).join(AND))
}

/// CREATE TABLE of a log that its base makes, which nobody is to run.
pub(super) fn attached_log_statement(
    log: &TableDef,
    cdc: &dyn CdcTables,
    with_internals: bool,
) -> String {
    commented(LOG_INTRODUCTION, &table_statement(log, cdc, with_internals))
}

fn virtual_table_statement(table: &TableDef, name: &str, with_internals: bool) -> String {
    let mut properties = structure_properties(table, with_internals);
    properties.push(format!("comment = {}", quote_text(&table.options.comment)));
    let definitions = definitions(table, &BTreeMap::new()).join(",\n    ");
    format!(
        "/*\nWarning: Table {name} is a virtual table and cannot be recreated with CQL.\n\
         Structure, for reference:\nVIRTUAL TABLE {name} (\n    {definitions}\n) WITH {};\n*/",
        properties.join(AND)
    )
}

/// Columns and primary key. A column that was dropped and added again stands there as it was
/// dropped; its ALTER TABLE ADD follows.
fn definitions(table: &TableDef, dropped: &BTreeMap<&str, &DroppedColumn>) -> Vec<String> {
    let has_single_key = table.partition_key_count() == 1 && table.clustering_count() == 0;
    let mut live: Vec<&ColumnDef> =
        table.columns.iter().filter(|column| !dropped.contains_key(&*column.name)).collect();
    live.sort_by_key(|column| printing_rank(column));
    let mut definitions: Vec<String> = live
        .into_iter()
        .map(|column| {
            let definition = column_definition(column);
            let is_key = has_single_key && column.kind == ColumnKind::PartitionKey(0);
            definition + if is_key { " PRIMARY KEY" } else { "" }
        })
        .collect();
    definitions.extend(
        dropped.values().map(|column| definition(&column.name, &column.cql_type, column.is_static)),
    );
    if !has_single_key {
        definitions.push(primary_key(table));
    }
    definitions
}

/// Cassandra's order of columns in a description: the key, static columns, regular ones; among the
/// latter two those of several cells come last. Within a rank columns keep their order, by name.
fn printing_rank(column: &ColumnDef) -> (u8, bool) {
    match column.kind {
        ColumnKind::PartitionKey(_) => (0, false),
        ColumnKind::Clustering(_) => (1, false),
        ColumnKind::Static => (2, column.cql_type.is_multi_cell()),
        ColumnKind::Regular => (3, column.cql_type.is_multi_cell()),
    }
}

fn column_definition(column: &ColumnDef) -> String {
    definition(&column.name, &column.cql_type, column.kind == ColumnKind::Static)
}

fn definition(name: &str, cql_type: &CqlType, is_static: bool) -> String {
    let name = quote_identifier(name);
    format!("{name} {cql_type}{}", if is_static { " static" } else { "" })
}

fn primary_key(table: &TableDef) -> String {
    let names = |columns: &[ColumnDef]| -> Vec<String> {
        columns.iter().map(|column| quote_identifier(&column.name)).collect()
    };
    let mut partition = names(table.partition_key()).join(", ");
    if table.partition_key_count() > 1 {
        partition = format!("({partition})");
    }
    let mut key = vec![partition];
    key.extend(names(table.clustering_key()));
    format!("PRIMARY KEY ({})", key.join(", "))
}

/// What stands before the options of a table.
fn structure_properties(table: &TableDef, with_internals: bool) -> Vec<String> {
    let mut properties = Vec::new();
    if with_internals {
        properties
            .push(format!("ID = {}", format_value(&CqlType::Uuid, &table.id.0.to_be_bytes())));
    }
    if table.clustering_count() > 0 {
        let direction = |column: &ColumnDef| if column.descending { "DESC" } else { "ASC" };
        let order: Vec<String> = table
            .clustering_key()
            .iter()
            .map(|column| format!("{} {}", quote_identifier(&column.name), direction(column)))
            .collect();
        properties.push(format!("CLUSTERING ORDER BY ({})", order.join(", ")));
    }
    properties
}

fn option_properties(options: &TableOptions, cdc: &dyn CdcTables) -> Vec<String> {
    let mut properties = Vec::new();
    let mut add = |name: &str, value: String| properties.push(format!("{name} = {value}"));
    add("additional_write_policy", quote_text(&options.additional_write_policy));
    add("allow_auto_snapshot", "true".to_owned());
    add("bloom_filter_fp_chance", double(options.bloom_filter_fp_chance));
    add("caching", quote_map(&options.caching));
    if let Some(options) = options.cdc {
        add("cdc", quote_map(&cdc.to_map(options)));
    }
    add("comment", quote_text(&options.comment));
    add("compaction", quote_map(&options.compaction));
    add("compression", quote_map(&shown_compression(options)));
    add("memtable", "'default'".to_owned());
    add("crc_check_chance", double(options.crc_check_chance));
    add("default_time_to_live", options.default_time_to_live.to_string());
    add("extensions", "{}".to_owned());
    add("gc_grace_seconds", options.gc_grace_seconds.to_string());
    add("incremental_backups", "true".to_owned());
    add("max_index_interval", options.max_index_interval.to_string());
    add("memtable_flush_period_in_ms", options.memtable_flush_period_in_ms.to_string());
    add("min_index_interval", options.min_index_interval.to_string());
    add("read_repair", quote_text(&options.read_repair));
    add("speculative_retry", quote_text(&options.speculative_retry));
    if !options.tombstone_gc.is_empty() {
        add("tombstone_gc", quote_map(&options.tombstone_gc));
    }
    properties
}

/// The columns that were dropped, each as it was dropped last.
fn last_dropped(table: &TableDef) -> BTreeMap<&str, &DroppedColumn> {
    let mut columns: BTreeMap<&str, &DroppedColumn> = BTreeMap::new();
    for column in &table.dropped_columns {
        let last = columns.entry(&column.name).or_insert(column);
        if last.dropped_at_micros <= column.dropped_at_micros {
            *last = column;
        }
    }
    columns
}

/// ALTER TABLE DROP, and ALTER TABLE ADD if the column was added again.
fn drop_statements(table: &TableDef, name: &str, dropped: &DroppedColumn) -> String {
    let column = quote_identifier(&dropped.name);
    let at = dropped.dropped_at_micros;
    let drop = format!("\nALTER TABLE {name} DROP {column} USING TIMESTAMP {at};");
    match table.column(&dropped.name) {
        None => drop,
        Some(added) => format!("{drop}\nALTER TABLE {name} ADD {};", column_definition(added)),
    }
}
