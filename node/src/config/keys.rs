//! The keys of the file that Tethys uses, and those that Cassandra or ScyllaDB use and Tethys does
//! not need.

use model::nearest::nearest;

/// The key of the file that is most like this one.
pub(super) fn nearest_key(key: &str) -> &'static str {
    let known = USED_KEYS.iter().chain(super::limits::KEYS).chain(super::webhooks::KEYS);
    nearest(key, known.chain(KNOWN_UNUSED_KEYS).copied()).unwrap_or_default()
}

/// Keys that have a meaning here.
const USED_KEYS: &[&str] = &[
    "cluster_name",
    "dc",
    "rack",
    "rpc_address",
    "broadcast_rpc_address",
    "listen_address",
    "broadcast_address",
    "storage_port",
    "seeds",
    "seed_provider",
    "native_transport_port",
    "native_shard_aware_transport_port",
    "prometheus_port",
    "num_tokens",
    "replace_node_first_boot",
    "shards",
    "memory",
    "data_file_directories",
    "commitlog_sync",
    "commitlog_sync_period",
    "log_format",
    "init_scripts",
    "init_scripts_nodes",
];

/// Keys of cassandra.yaml and scylla.yaml that people set and that mean nothing here: the log is
/// the repair, hints and snitches do not exist, or every node says itself where it stands.
pub(super) const KNOWN_UNUSED_KEYS: &[&str] = &[
    "allocate_tokens_for_local_replication_factor",
    "authenticator",
    "authorizer",
    "auto_snapshot",
    "batchlog_endpoint_strategy",
    "cdc_enabled",
    "column_index_size",
    "commitlog_directory",
    "compaction_throughput",
    "concurrent_compactors",
    "concurrent_reads",
    "concurrent_writes",
    "developer_mode",
    "disk_optimization_strategy",
    "endpoint_snitch",
    "hinted_handoff_enabled",
    "hints_directory",
    "incremental_backups",
    "internode_compression",
    "key_cache_size",
    "max_hint_window",
    "memtable",
    "partitioner",
    "row_cache_size",
    "saved_caches_directory",
    "start_native_transport",
    "trickle_fsync",
];
