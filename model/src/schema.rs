//! Keyspaces, tables, columns and user types, as one immutable [`Schema`] value.
//!
//! A schema is never changed in place: a statement makes a new one (`Arc` keeps the parts that
//! stay), and every part of the node reads the snapshot it holds. Invariants:
//!
//! - A [`ColumnId`] is never used twice in a table, not even after the column was dropped, so
//!   cells of a dropped column cannot come back under a new one.
//! - `columns` is ordered: partition key, clustering key, then static and regular columns by name.

use crate::types::{CqlType, UdtType};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A table's identity: it outlives renames and distinguishes a table from its dropped namesake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableId(pub u128);

/// A column's identity within its table; also its order among the cells of a row.
pub type ColumnId = u32;

/// What part a column has in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ColumnKind {
    /// Component of the partition key; the position among them.
    PartitionKey(u16),
    /// Component of the clustering key; the position among them.
    Clustering(u16),
    /// One value per partition.
    Static,
    /// One value per row.
    Regular,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnDef {
    /// Never reused within the table.
    pub id: ColumnId,
    /// Name as it is stored (case kept, no quotes).
    pub name: Arc<str>,
    /// Its type, frozen-ness included.
    pub cql_type: CqlType,
    /// Its part in the table.
    pub kind: ColumnKind,
    /// Clustering columns only: sorted descending.
    pub descending: bool,
}

/// A column that was dropped, remembered so that old cells are skipped and `system_schema` can
/// show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedColumn {
    /// The identity that old cells carry.
    pub id: ColumnId,
    /// Its name.
    pub name: Arc<str>,
    /// Its type when it was dropped.
    pub cql_type: CqlType,
    /// Static or regular.
    pub is_static: bool,
    /// When, in microseconds since the epoch.
    pub dropped_at_micros: i64,
}

/// Options of a table that are plain values. `compaction`, `compression` and `caching` are kept as
/// the maps the user wrote (validated), since that is how they are shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableOptions {
    /// Free text.
    pub comment: String,
    /// How long tombstones are kept, in seconds.
    pub gc_grace_seconds: u32,
    /// TTL of writes that name none, in seconds; 0 is none.
    pub default_time_to_live: u32,
    /// Target false-positive rate of Bloom filters.
    pub bloom_filter_fp_chance: f64,
    /// Kept and shown.
    pub crc_check_chance: f64,
    /// Kept and shown.
    pub memtable_flush_period_in_ms: u32,
    /// Kept and shown.
    pub min_index_interval: u32,
    /// Kept and shown.
    pub max_index_interval: u32,
    /// Kept and shown.
    pub speculative_retry: String,
    /// Kept and shown.
    pub additional_write_policy: String,
    /// Kept and shown.
    pub read_repair: String,
    /// Kept and shown.
    pub caching: BTreeMap<String, String>,
    /// Strategy class and its options.
    pub compaction: BTreeMap<String, String>,
    /// Compressor and its options; empty means off.
    pub compression: BTreeMap<String, String>,
    /// ScyllaDB's `tombstone_gc`, as written.
    pub tombstone_gc: BTreeMap<String, String>,
    /// Change data capture; `None` when the option was never set or stores nothing.
    pub cdc: Option<CdcOptions>,
    /// What the changefeeds on the table need of its log, which is on as long as there are any.
    #[serde(default)]
    pub feed_log: Option<FeedLog>,
}

impl Default for TableOptions {
    fn default() -> Self {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        TableOptions {
            comment: String::new(),
            gc_grace_seconds: 864_000,
            default_time_to_live: 0,
            bloom_filter_fp_chance: 0.01,
            crc_check_chance: 1.0,
            memtable_flush_period_in_ms: 0,
            min_index_interval: 128,
            max_index_interval: 2048,
            speculative_retry: "99p".to_owned(),
            additional_write_policy: "99p".to_owned(),
            read_repair: "BLOCKING".to_owned(),
            caching: map(&[("keys", "ALL"), ("rows_per_partition", "NONE")]),
            compaction: map(&[
                ("class", "org.apache.cassandra.db.compaction.SizeTieredCompactionStrategy"),
                ("max_threshold", "32"),
                ("min_threshold", "4"),
            ]),
            compression: map(&[
                ("chunk_length_in_kb", "16"),
                ("class", "org.apache.cassandra.io.compress.LZ4Compressor"),
            ]),
            tombstone_gc: BTreeMap::new(),
            cdc: None,
            feed_log: None,
        }
    }
}

/// The table option `cdc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CdcOptions {
    /// Whether writes are logged.
    pub enabled: bool,
    /// Rows before the change.
    pub preimage: PreimageMode,
    /// Rows after the change.
    pub postimage: bool,
    /// What delta rows hold.
    pub delta: DeltaMode,
    /// TTL of log cells in seconds; 0 is none.
    pub ttl_seconds: u32,
}

impl Default for CdcOptions {
    fn default() -> Self {
        CdcOptions {
            enabled: false,
            preimage: PreimageMode::Off,
            postimage: false,
            delta: DeltaMode::Full,
            ttl_seconds: 86_400,
        }
    }
}

/// What the changefeeds on a table need of its log, beside the changes themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedLog {
    /// Rows before the change.
    pub preimage: PreimageMode,
    /// Whole rows after the change.
    pub postimage: bool,
    /// Rows that go with a range or a partition, each by its key.
    pub deleted_rows: bool,
}

impl FeedLog {
    /// What both need.
    #[must_use]
    pub fn union(self, other: FeedLog) -> FeedLog {
        FeedLog {
            preimage: self.preimage.max(other.preimage),
            postimage: self.postimage || other.postimage,
            deleted_rows: self.deleted_rows || other.deleted_rows,
        }
    }
}

/// Which columns a preimage holds; each holds those of the modes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PreimageMode {
    /// No preimage rows.
    Off,
    /// The columns that the write touches.
    Touched,
    /// Every column.
    Full,
}

/// What a delta row holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeltaMode {
    /// Keys and values.
    Full,
    /// Keys only.
    Keys,
}

/// How a table's keys become tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Partitioner {
    /// Cassandra's Murmur3.
    Murmur3,
    /// The first eight bytes of the key are the token: CDC logs.
    CdcStream,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableDef {
    /// Identity.
    pub id: TableId,
    /// The keyspace's name.
    pub keyspace: Arc<str>,
    /// The table's name.
    pub name: Arc<str>,
    /// Every live column: partition key, clustering key, then the others by name.
    pub columns: Vec<ColumnDef>,
    /// Columns that once were.
    pub dropped_columns: Vec<DroppedColumn>,
    /// The id the next new column gets.
    pub next_column_id: ColumnId,
    /// Raised by every change of the table.
    pub version: u64,
    /// How keys become tokens.
    pub partitioner: Partitioner,
    /// For a CDC log: the table whose changes it holds, attached or not.
    pub cdc_base: Option<TableId>,
    /// For a table with CDC on: its log.
    pub cdc_log: Option<TableId>,
    /// The options.
    pub options: TableOptions,
}

impl TableDef {
    /// Partition key columns in order.
    pub fn partition_key(&self) -> &[ColumnDef] {
        &self.columns[..self.partition_key_count()]
    }

    /// Clustering columns in order.
    pub fn clustering_key(&self) -> &[ColumnDef] {
        let start = self.partition_key_count();
        &self.columns[start..start + self.clustering_count()]
    }

    /// Static and regular columns, by name.
    pub fn data_columns(&self) -> &[ColumnDef] {
        &self.columns[self.partition_key_count() + self.clustering_count()..]
    }

    /// How many columns the partition key has.
    pub fn partition_key_count(&self) -> usize {
        self.columns.iter().take_while(|c| matches!(c.kind, ColumnKind::PartitionKey(_))).count()
    }

    /// How many columns the clustering key has.
    pub fn clustering_count(&self) -> usize {
        let after_partition_key = self.columns.iter().skip(self.partition_key_count());
        after_partition_key.take_while(|c| matches!(c.kind, ColumnKind::Clustering(_))).count()
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&ColumnDef> {
        self.columns.iter().find(|c| &*c.name == name)
    }

    /// The column of that id.
    pub fn column_by_id(&self, id: ColumnId) -> Option<&ColumnDef> {
        self.columns.iter().find(|c| c.id == id)
    }

    /// Whether any column is static.
    pub fn has_static_columns(&self) -> bool {
        self.columns.iter().any(|c| c.kind == ColumnKind::Static)
    }

    /// Whether this is a counter table.
    pub fn is_counter(&self) -> bool {
        self.columns.iter().any(|c| c.cql_type == CqlType::Counter)
    }

    /// Whether this is a CDC log table, attached or detached.
    pub fn is_cdc_log(&self) -> bool {
        self.partitioner == Partitioner::CdcStream
    }

    /// By what options writes to this table are logged: the user's, with what the changefeeds on
    /// it need besides.
    pub fn cdc_enabled(&self) -> Option<CdcOptions> {
        let own = self.options.cdc.filter(|cdc| cdc.enabled);
        let Some(feeds) = self.options.feed_log else { return own };
        let own = own.unwrap_or_default();
        Some(CdcOptions {
            enabled: true,
            preimage: own.preimage.max(feeds.preimage),
            postimage: own.postimage || feeds.postimage,
            delta: DeltaMode::Full,
            ttl_seconds: own.ttl_seconds,
        })
    }
}

/// A user-defined type as it was declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserType {
    /// Its name.
    pub name: Arc<str>,
    /// Fields in declaration order.
    pub fields: Vec<(Arc<str>, CqlType)>,
}

impl UserType {
    /// The type as a column would use it.
    pub fn as_cql_type(&self, keyspace: &Arc<str>, frozen: bool) -> CqlType {
        CqlType::Udt(Arc::new(UdtType {
            keyspace: keyspace.clone(),
            name: self.name.clone(),
            fields: self.fields.clone(),
            frozen,
        }))
    }
}

/// How a keyspace's data is copied over nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Replication {
    /// Every node holds everything: the system's own keyspaces.
    Local,
    /// That many copies, the next nodes on the ring.
    Simple {
        /// How many copies.
        factor: u32,
    },
    /// That many copies in each data centre, spread over its racks.
    NetworkTopology {
        /// Copies by data centre.
        factors: BTreeMap<String, u32>,
    },
}

/// A keyspace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyspaceDef {
    /// Its name.
    pub name: Arc<str>,
    /// How it is copied.
    pub replication: Replication,
    /// Kept and shown; every write goes through the log either way.
    pub durable_writes: bool,
    /// Its tables by name.
    pub tables: BTreeMap<Arc<str>, Arc<TableDef>>,
    /// Its types by name.
    pub types: BTreeMap<Arc<str>, Arc<UserType>>,
}

/// Everything that DDL statements have made, as one immutable value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Schema {
    /// Index of the metadata log entry that made this schema; nodes that show the same version
    /// have the same schema.
    pub version: u64,
    /// Keyspaces by name.
    pub keyspaces: BTreeMap<Arc<str>, Arc<KeyspaceDef>>,
}

impl Schema {
    /// The keyspace of that name.
    pub fn keyspace(&self, name: &str) -> Option<&Arc<KeyspaceDef>> {
        self.keyspaces.get(name)
    }

    /// The table of that name.
    pub fn table(&self, keyspace: &str, name: &str) -> Option<&Arc<TableDef>> {
        self.keyspaces.get(keyspace)?.tables.get(name)
    }

    /// The table of that id.
    pub fn table_by_id(&self, id: TableId) -> Option<&Arc<TableDef>> {
        self.keyspaces.values().flat_map(|k| k.tables.values()).find(|t| t.id == id)
    }
}

/// The identifier as CQL text: quoted when it would not read back as itself otherwise.
pub fn quote_identifier(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !RESERVED_WORDS.contains(&name);
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Words that CQL never reads as a name unless quoted.
pub const RESERVED_WORDS: &[&str] = &[
    "add",
    "allow",
    "alter",
    "and",
    "apply",
    "asc",
    "authorize",
    "batch",
    "begin",
    "by",
    "columnfamily",
    "create",
    "default",
    "delete",
    "desc",
    "describe",
    "drop",
    "entries",
    "execute",
    "from",
    "full",
    "grant",
    "if",
    "in",
    "index",
    "infinity",
    "insert",
    "into",
    "is",
    "keyspace",
    "limit",
    "materialized",
    "mbean",
    "mbeans",
    "modify",
    "nan",
    "norecursive",
    "not",
    "null",
    "of",
    "on",
    "or",
    "order",
    "primary",
    "rename",
    "replace",
    "revoke",
    "schema",
    "select",
    "set",
    "table",
    "to",
    "token",
    "truncate",
    "unlogged",
    "unset",
    "update",
    "use",
    "using",
    "view",
    "where",
    "with",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_quoted_only_when_they_must_be() {
        assert_eq!(quote_identifier("plain_1"), "plain_1");
        assert_eq!(quote_identifier("Mixed"), "\"Mixed\"");
        assert_eq!(quote_identifier("cdc$time"), "\"cdc$time\"");
        assert_eq!(quote_identifier("select"), "\"select\"");
        assert_eq!(quote_identifier("a\"b"), "\"a\"\"b\"");
    }
}
