//! A schema as the rows of `system_schema` and `system_virtual_schema`.
//!
//! Drivers rebuild their picture of the schema from these rows, `cqlsh` prints from them what it
//! does not ask the server for, and CDC clients read the option's blob, so every value has the form
//! that Cassandra (for ScyllaDB's tables: ScyllaDB) gives it.

use super::is_virtual_keyspace;
use super::rows::{RowError, SystemRows, value};
use crate::plan::ddl::CdcTables;
use model::schema::Replication;
use model::{ColumnDef, ColumnKind, KeyspaceDef, Schema, TableDef, TableOptions};
use std::collections::BTreeMap;

/// The partitioner of CDC logs, by the name that clients look for.
const CDC_PARTITIONER: &str = "com.scylladb.dht.CDCPartitioner";

/// The rows of one table of `system_schema` or `system_virtual_schema` that describe `schema`: one
/// mutation for each partition. Empty for tables that describe what does not exist here (views,
/// functions, …) and for tables of other keyspaces.
///
/// `schema` contains the system's keyspaces, if they are to be shown.
pub fn system_schema_mutations(
    keyspace: &str,
    table: &str,
    schema: &Schema,
    cdc: &dyn CdcTables,
) -> Vec<Vec<u8>> {
    let Some(definition) = schema.table(keyspace, table) else { return Vec::new() };
    let mut rows = SystemRows::new(definition);
    let is_virtual = keyspace == "system_virtual_schema";
    let described =
        schema.keyspaces.values().filter(|k| is_virtual_keyspace(&k.name) == is_virtual);
    let mut written = Ok(());
    for keyspace in described {
        written = written.and_then(|()| match table {
            "keyspaces" => keyspace_row(&mut rows, keyspace, is_virtual),
            "types" => type_rows(&mut rows, keyspace),
            _ => keyspace.tables.values().try_for_each(|described| match table {
                "tables" => table_row(&mut rows, described, is_virtual, cdc),
                "scylla_tables" => scylla_table_row(&mut rows, described, cdc),
                "columns" => {
                    described.columns.iter().try_for_each(|c| column_row(&mut rows, described, c))
                }
                "dropped_columns" => dropped_column_rows(&mut rows, described),
                _ => Ok(()),
            }),
        });
    }
    let mutations = written.and_then(|()| rows.into_mutations());
    // The definitions are constants of this crate, and names fit into keys.
    mutations.expect("the rows of the schema tables fit their definitions")
}

fn keyspace_row(
    rows: &mut SystemRows<'_>,
    keyspace: &KeyspaceDef,
    is_virtual: bool,
) -> Result<(), RowError> {
    let name = ("keyspace_name", value::text(&keyspace.name));
    if is_virtual {
        return rows.row([name]);
    }
    rows.row([
        name,
        ("durable_writes", value::boolean(keyspace.durable_writes)),
        ("replication", text_map(&replication_map(&keyspace.replication))),
    ])
}

/// The replication of a keyspace as the map that is shown.
pub(in crate::plan) fn replication_map(replication: &Replication) -> BTreeMap<String, String> {
    let entry = |key: &str, value: String| (key.to_owned(), value);
    let class = |name: &str| entry("class", format!("org.apache.cassandra.locator.{name}"));
    match replication {
        Replication::Local => BTreeMap::from([class("LocalStrategy")]),
        Replication::Simple { factor } => BTreeMap::from([
            class("SimpleStrategy"),
            entry("replication_factor", factor.to_string()),
        ]),
        Replication::NetworkTopology { factors } => {
            let factors = factors.iter().map(|(name, factor)| entry(name, factor.to_string()));
            factors.chain([class("NetworkTopologyStrategy")]).collect()
        }
    }
}

fn type_rows(rows: &mut SystemRows<'_>, keyspace: &KeyspaceDef) -> Result<(), RowError> {
    keyspace.types.values().try_for_each(|user_type| {
        let types: Vec<String> = user_type.fields.iter().map(|(_, t)| t.to_string()).collect();
        rows.row([
            ("keyspace_name", value::text(&keyspace.name)),
            ("type_name", value::text(&user_type.name)),
            ("field_names", value::texts(user_type.fields.iter().map(|(name, _)| &**name))),
            ("field_types", value::texts(types.iter().map(String::as_str))),
        ])
    })
}

fn table_row(
    rows: &mut SystemRows<'_>,
    table: &TableDef,
    is_virtual: bool,
    cdc: &dyn CdcTables,
) -> Result<(), RowError> {
    let options = &table.options;
    let named = [
        ("keyspace_name", value::text(&table.keyspace)),
        ("table_name", value::text(&table.name)),
        ("comment", value::text(&options.comment)),
    ];
    if is_virtual {
        return rows.row(named);
    }
    let mut flags = vec!["compound"];
    flags.extend(table.is_counter().then_some("counter"));
    let blob = options.cdc.map(|options| cdc.to_blob(options));
    let extensions = blob.as_deref().map(|blob| ("cdc", blob));
    rows.row(named.into_iter().chain(option_values(options)).chain([
        ("extensions", value::map(extensions)),
        ("flags", value::texts(flags)),
        ("id", value::uuid(table.id.0)),
    ]))
}

fn option_values(options: &TableOptions) -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    // Options are read from signed 32-bit integers, so the way back loses nothing.
    let int = |number: u32| value::int(i32::try_from(number).unwrap_or(i32::MAX));
    [
        ("additional_write_policy", value::text(&options.additional_write_policy)),
        ("bloom_filter_fp_chance", value::double(options.bloom_filter_fp_chance)),
        ("caching", text_map(&options.caching)),
        ("compaction", text_map(&options.compaction)),
        ("compression", text_map(&shown_compression(options))),
        ("crc_check_chance", value::double(options.crc_check_chance)),
        ("dclocal_read_repair_chance", value::double(0.0)),
        ("default_time_to_live", int(options.default_time_to_live)),
        ("gc_grace_seconds", int(options.gc_grace_seconds)),
        ("max_index_interval", int(options.max_index_interval)),
        ("memtable_flush_period_in_ms", int(options.memtable_flush_period_in_ms)),
        ("min_index_interval", int(options.min_index_interval)),
        ("read_repair", value::text(&options.read_repair)),
        ("read_repair_chance", value::double(0.0)),
        ("speculative_retry", value::text(&options.speculative_retry)),
    ]
    .into_iter()
}

/// The option `compression` as it is shown: off is a map of its own.
pub(in crate::plan) fn shown_compression(options: &TableOptions) -> BTreeMap<String, String> {
    if options.compression.is_empty() {
        return BTreeMap::from([("enabled".to_owned(), "false".to_owned())]);
    }
    options.compression.clone()
}

fn scylla_table_row(
    rows: &mut SystemRows<'_>,
    table: &TableDef,
    cdc: &dyn CdcTables,
) -> Result<(), RowError> {
    let mut values = vec![
        ("keyspace_name", value::text(&table.keyspace)),
        ("table_name", value::text(&table.name)),
    ];
    if let Some(options) = table.options.cdc {
        values.push(("cdc", text_map(&cdc.to_map(options))));
    }
    if table.is_cdc_log() {
        values.push(("partitioner", value::text(CDC_PARTITIONER)));
    }
    rows.row(values)
}

fn column_row(
    rows: &mut SystemRows<'_>,
    table: &TableDef,
    column: &ColumnDef,
) -> Result<(), RowError> {
    let (kind, position, order) = match column.kind {
        ColumnKind::PartitionKey(position) => ("partition_key", i32::from(position), "none"),
        ColumnKind::Clustering(position) => {
            ("clustering", i32::from(position), if column.descending { "desc" } else { "asc" })
        }
        ColumnKind::Static => ("static", -1, "none"),
        ColumnKind::Regular => ("regular", -1, "none"),
    };
    rows.row([
        ("keyspace_name", value::text(&table.keyspace)),
        ("table_name", value::text(&table.name)),
        ("column_name", value::text(&column.name)),
        ("clustering_order", value::text(order)),
        ("column_name_bytes", value::text(&column.name)),
        ("kind", value::text(kind)),
        ("position", value::int(position)),
        ("type", value::text(&column.cql_type.to_string())),
    ])
}

fn dropped_column_rows(rows: &mut SystemRows<'_>, table: &TableDef) -> Result<(), RowError> {
    table.dropped_columns.iter().try_for_each(|column| {
        rows.row([
            ("keyspace_name", value::text(&table.keyspace)),
            ("table_name", value::text(&table.name)),
            ("column_name", value::text(&column.name)),
            ("dropped_time", value::bigint(column.dropped_at_micros.div_euclid(1_000))),
            ("kind", value::text(if column.is_static { "static" } else { "regular" })),
            ("type", value::text(&column.cql_type.to_string())),
        ])
    })
}

fn text_map(map: &BTreeMap<String, String>) -> Vec<u8> {
    value::map(map.iter().map(|(key, value)| (key.as_str(), value.as_bytes())))
}
