//! The system's tables as CREATE TABLE statements, each behind its comment.
//!
//! Keyspaces and what stands in them ascend by name. Every statement is parsed by a test.

/// A keyspace's name and its tables: comment and statement.
type Keyspace = (&'static str, &'static [(&'static str, &'static str)]);

/// The system's keyspaces.
pub(super) const KEYSPACES: &[Keyspace] = &[
    ("system", SYSTEM),
    ("system_distributed", SYSTEM_DISTRIBUTED),
    ("system_schema", SYSTEM_SCHEMA),
    ("system_traces", SYSTEM_TRACES),
    ("system_views", SYSTEM_VIEWS),
    ("system_virtual_schema", SYSTEM_VIRTUAL_SCHEMA),
];

const SYSTEM: &[(&str, &str)] = &[
    (
        "built column indexes",
        "CREATE TABLE \"IndexInfo\" (
            table_name text, index_name text, value blob,
            PRIMARY KEY (table_name, index_name))",
    ),
    (
        "built views",
        "CREATE TABLE built_views (
            keyspace_name text, view_name text, status_replicated boolean,
            PRIMARY KEY (keyspace_name, view_name))",
    ),
    (
        "up to which time each CDC stream of a keyspace is complete",
        "CREATE TABLE cdc_watermarks (
            keyspace_name text, stream_id blob, closed timeuuid, closed_at timestamp,
            PRIMARY KEY (keyspace_name, stream_id))",
    ),
    (
        "changefeeds as the cluster has agreed on them, with their saved positions",
        "CREATE TABLE changefeeds (
            keyspace_name text, name text, created_at timestamp, epoch bigint,
            events_delivered bigint, last_error text, options frozen<map<text, text>>, owner uuid,
            position_time timeuuid, retries bigint, sequence bigint, sink text, state text,
            tables frozen<list<text>>, PRIMARY KEY (keyspace_name, name))",
    ),
    (
        "currently connected clients, as ScyllaDB lists them",
        "CREATE TABLE clients (
            address inet, port int, client_type text, client_options frozen<map<text, text>>,
            connection_stage text, driver_name text, driver_version text, hostname text,
            protocol_version int, shard_id int, ssl_cipher_suite text, ssl_enabled boolean,
            ssl_protocol text, username text, PRIMARY KEY (address, port, client_type))",
    ),
    (
        "information about the local node",
        "CREATE TABLE local (
            key text PRIMARY KEY, bootstrapped text, broadcast_address inet, broadcast_port int,
            cluster_name text, cql_version text, data_center text, gossip_generation int,
            host_id uuid, listen_address inet, listen_port int, native_protocol_version text,
            partitioner text, rack text, release_version text, rpc_address inet, rpc_port int,
            schema_version uuid, supported_features text, tokens set<text>,
            truncated_at map<uuid, blob>)",
    ),
    (
        "information about known peers in the cluster",
        "CREATE TABLE peers (
            peer inet PRIMARY KEY, data_center text, host_id uuid, preferred_ip inet, rack text,
            release_version text, rpc_address inet, schema_version uuid, supported_features text,
            tokens set<text>)",
    ),
    (
        "information about known peers in the cluster",
        "CREATE TABLE peers_v2 (
            peer inet, peer_port int, data_center text, host_id uuid, native_address inet,
            native_port int, preferred_ip inet, preferred_port int, rack text,
            release_version text, schema_version uuid, tokens set<text>,
            PRIMARY KEY (peer, peer_port))",
    ),
    (
        "prepared statements",
        "CREATE TABLE prepared_statements (
            prepared_id blob PRIMARY KEY, logged_keyspace text, query_string text)",
    ),
    (
        "per-table primary range size estimates, table is deprecated in favor of table_estimates",
        "CREATE TABLE size_estimates (
            keyspace_name text, table_name text, range_start text, range_end text,
            mean_partition_size bigint, partitions_count bigint,
            PRIMARY KEY (keyspace_name, table_name, range_start, range_end))",
    ),
    (
        "per-table range size estimates",
        "CREATE TABLE table_estimates (
            keyspace_name text, table_name text, range_type text, range_start text,
            range_end text, mean_partition_size bigint, partitions_count bigint,
            PRIMARY KEY (keyspace_name, table_name, range_type, range_start, range_end))",
    ),
    (
        "the version of the program, where ScyllaDB's tools look for it",
        "CREATE TABLE versions (
            key text PRIMARY KEY, build_id text, build_mode text, version text)",
    ),
];

const SYSTEM_DISTRIBUTED: &[(&str, &str)] = &[
    (
        "when the generations of CDC streams begin",
        "CREATE TABLE cdc_generation_timestamps (
            key text, time timestamp, expired timestamp, PRIMARY KEY (key, time))
            WITH CLUSTERING ORDER BY (time DESC)",
    ),
    (
        "the CDC streams of each generation",
        "CREATE TABLE cdc_streams_descriptions_v2 (
            time timestamp, range_end bigint, streams frozen<set<blob>>,
            PRIMARY KEY (time, range_end))",
    ),
];

const SYSTEM_SCHEMA: &[(&str, &str)] = &[
    (
        "user defined aggregate definitions",
        "CREATE TABLE aggregates (
            keyspace_name text, aggregate_name text, argument_types frozen<list<text>>,
            final_func text, initcond text, return_type text, state_func text, state_type text,
            PRIMARY KEY (keyspace_name, aggregate_name, argument_types))",
    ),
    (
        "column dynamic data masks",
        "CREATE TABLE column_masks (
            keyspace_name text, table_name text, column_name text,
            function_argument_nulls frozen<list<boolean>>,
            function_argument_types frozen<list<text>>,
            function_argument_values frozen<list<text>>, function_keyspace text,
            function_name text, PRIMARY KEY (keyspace_name, table_name, column_name))",
    ),
    (
        "column definitions",
        "CREATE TABLE columns (
            keyspace_name text, table_name text, column_name text, clustering_order text,
            column_name_bytes blob, kind text, position int, type text,
            PRIMARY KEY (keyspace_name, table_name, column_name))",
    ),
    (
        "computed columns",
        "CREATE TABLE computed_columns (
            keyspace_name text, table_name text, column_name text, computation blob,
            PRIMARY KEY (keyspace_name, table_name, column_name))",
    ),
    (
        "dropped column registry",
        "CREATE TABLE dropped_columns (
            keyspace_name text, table_name text, column_name text, dropped_time timestamp,
            kind text, type text, PRIMARY KEY (keyspace_name, table_name, column_name))",
    ),
    (
        "user defined function definitions",
        "CREATE TABLE functions (
            keyspace_name text, function_name text, argument_types frozen<list<text>>,
            argument_names frozen<list<text>>, body text, called_on_null_input boolean,
            language text, return_type text,
            PRIMARY KEY (keyspace_name, function_name, argument_types))",
    ),
    (
        "secondary index definitions",
        "CREATE TABLE indexes (
            keyspace_name text, table_name text, index_name text, kind text,
            options frozen<map<text, text>>,
            PRIMARY KEY (keyspace_name, table_name, index_name))",
    ),
    (
        "keyspace definitions",
        "CREATE TABLE keyspaces (
            keyspace_name text PRIMARY KEY, durable_writes boolean,
            replication frozen<map<text, text>>)",
    ),
    (
        "ScyllaDB's properties of keyspaces",
        "CREATE TABLE scylla_keyspaces (
            keyspace_name text PRIMARY KEY, initial_tablets int,
            storage_options frozen<map<text, text>>, storage_type text)",
    ),
    (
        "ScyllaDB's properties of tables",
        "CREATE TABLE scylla_tables (
            keyspace_name text, table_name text, cdc frozen<map<text, text>>, partitioner text,
            version uuid, PRIMARY KEY (keyspace_name, table_name))",
    ),
    (
        "table definitions",
        "CREATE TABLE tables (
            keyspace_name text, table_name text, additional_write_policy text,
            allow_auto_snapshot boolean, bloom_filter_fp_chance double,
            caching frozen<map<text, text>>, cdc boolean, comment text,
            compaction frozen<map<text, text>>, compression frozen<map<text, text>>,
            crc_check_chance double, dclocal_read_repair_chance double, default_time_to_live int,
            extensions frozen<map<text, blob>>, flags frozen<set<text>>, gc_grace_seconds int,
            id uuid, incremental_backups boolean, max_index_interval int, memtable text,
            memtable_flush_period_in_ms int, min_index_interval int, read_repair text,
            read_repair_chance double, speculative_retry text,
            PRIMARY KEY (keyspace_name, table_name))",
    ),
    (
        "trigger definitions",
        "CREATE TABLE triggers (
            keyspace_name text, table_name text, trigger_name text,
            options frozen<map<text, text>>,
            PRIMARY KEY (keyspace_name, table_name, trigger_name))",
    ),
    (
        "user defined type definitions",
        "CREATE TABLE types (
            keyspace_name text, type_name text, field_names frozen<list<text>>,
            field_types frozen<list<text>>, PRIMARY KEY (keyspace_name, type_name))",
    ),
    (
        "virtual columns of views",
        "CREATE TABLE view_virtual_columns (
            keyspace_name text, view_name text, column_name text, clustering_order text,
            column_name_bytes blob, kind text, position int, type text,
            PRIMARY KEY (keyspace_name, view_name, column_name))",
    ),
    (
        "view definitions",
        "CREATE TABLE views (
            keyspace_name text, view_name text, additional_write_policy text,
            allow_auto_snapshot boolean, base_table_id uuid, base_table_name text,
            bloom_filter_fp_chance double, caching frozen<map<text, text>>, cdc boolean,
            comment text, compaction frozen<map<text, text>>, compression frozen<map<text, text>>,
            crc_check_chance double, dclocal_read_repair_chance double, default_time_to_live int,
            extensions frozen<map<text, blob>>, gc_grace_seconds int, id uuid,
            include_all_columns boolean, incremental_backups boolean, max_index_interval int,
            memtable text, memtable_flush_period_in_ms int, min_index_interval int,
            read_repair text, read_repair_chance double, speculative_retry text,
            where_clause text, PRIMARY KEY (keyspace_name, view_name))",
    ),
];

const SYSTEM_TRACES: &[(&str, &str)] = &[
    (
        "tracing events",
        "CREATE TABLE events (
            session_id uuid, event_id timeuuid, activity text, source inet, source_elapsed int,
            source_port int, thread text, PRIMARY KEY (session_id, event_id))",
    ),
    (
        "tracing sessions",
        "CREATE TABLE sessions (
            session_id uuid PRIMARY KEY, client inet, command text, coordinator inet,
            coordinator_port int, duration int, parameters map<text, text>, request text,
            started_at timestamp)",
    ),
];

const SYSTEM_VIEWS: &[(&str, &str)] = &[
    (
        "system caches",
        "CREATE TABLE caches (
            name text PRIMARY KEY, capacity_bytes bigint, entry_count int, hit_count bigint,
            hit_ratio double, recent_hit_rate_per_second bigint,
            recent_request_rate_per_second bigint, request_count bigint, size_bytes bigint)",
    ),
    (
        "changefeeds and how they stand now",
        "CREATE TABLE changefeeds (
            keyspace_name text, name text, created_at timestamp, events_delivered bigint,
            lag_ms bigint, last_error text, last_sequence bigint, last_skipped text,
            options frozen<map<text, text>>, owner uuid, phase text, resolved timestamp,
            retries bigint, scan_progress double, sink text, skipped bigint, state text,
            \"table\" text,
            PRIMARY KEY (keyspace_name, name))",
    ),
    (
        "currently connected clients",
        "CREATE TABLE clients (
            address inet, port int, client_options frozen<map<text, text>>,
            connection_stage text, driver_name text, driver_version text, hostname text,
            keyspace_name text, protocol_version int, request_count bigint,
            ssl_cipher_suite text, ssl_enabled boolean, ssl_protocol text, username text,
            PRIMARY KEY (address, port))",
    ),
    (
        "disk usage",
        "CREATE TABLE disk_usage (
            keyspace_name text, table_name text, mebibytes bigint,
            PRIMARY KEY ((keyspace_name, table_name)))",
    ),
    ("current settings", "CREATE TABLE settings (name text PRIMARY KEY, value text)"),
];

const SYSTEM_VIRTUAL_SCHEMA: &[(&str, &str)] = &[
    (
        "virtual column definitions",
        "CREATE TABLE columns (
            keyspace_name text, table_name text, column_name text, clustering_order text,
            column_name_bytes blob, kind text, position int, type text,
            PRIMARY KEY (keyspace_name, table_name, column_name))",
    ),
    ("virtual keyspace definitions", "CREATE TABLE keyspaces (keyspace_name text PRIMARY KEY)"),
    (
        "virtual table definitions",
        "CREATE TABLE tables (
            keyspace_name text, table_name text, comment text,
            PRIMARY KEY (keyspace_name, table_name))",
    ),
];
