//! The system's keyspaces: tables whose rows the node makes up when they are read.
//!
//! Definitions and everything that follows from the schema come from `cql`; what is here is what
//! the node alone knows: itself, its peers, its clients, its statements, traces and generations.
//! A read builds the table in memory and then goes the way of every read.

mod describe;
mod feeds;
mod rows;
mod watermarks;

use crate::cdc_tables::CdcLogTables;
use crate::config::Seed;
use crate::connection::ClientInfo;
use crate::shard::{Message, Shard};
use crate::statement::format_uuid;
use crate::view::View;
use cql::plan::system_schema;
use cql::syntax::without_secrets;
pub(crate) use describe::DescribedCluster;
pub(crate) use feeds::described as described_feeds;
use model::memory_table::MemoryTable;
use model::{KeyspaceDef, TableDef, TableId};
use rows::{Datum, Rows};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What clients are told as the server's version: Cassandra's, whose surface this is, with ours
/// behind exactly one hyphen.
pub(crate) const RELEASE_VERSION: &str = concat!("5.0.0-tethys", env!("CARGO_PKG_VERSION"));
/// The version of the language that is announced.
const CQL_VERSION: &str = "3.4.7";
/// The newest protocol version.
const PROTOCOL_VERSION: &str = "5";
/// How keys become tokens.
pub(crate) const PARTITIONER: &str = "org.apache.cassandra.dht.Murmur3Partitioner";

/// The system's keyspaces.
pub(crate) fn keyspaces() -> Vec<Arc<KeyspaceDef>> {
    system_schema::system_keyspaces().into_iter().map(Arc::new).collect()
}

/// The version of the schema as clients see it: the same on every node that has applied the same
/// metadata.
pub(crate) fn schema_version(view: &View) -> [u8; 16] {
    // A name-based UUID's shape, from the index alone: nodes at the same index agree.
    let mut id = cql::plan::digest(&view.metadata.schema.version.to_be_bytes());
    id[6] = (id[6] & 0x0f) | 0x50;
    id[8] = (id[8] & 0x3f) | 0x80;
    id
}

/// Builds a virtual table as it is now.
pub(crate) async fn table(shard: &Rc<Shard>, view: &View, table: &TableDef) -> MemoryTable {
    let mutations = match (&*table.keyspace, &*table.name) {
        ("system", "cdc_watermarks") => watermarks::rows(shard, table).await,
        ("system", "local") => local(shard, view, table),
        ("system", "peers" | "peers_v2") => peers(shard, view, table),
        ("system", "prepared_statements") => prepared_statements(shard, table),
        ("system" | "system_views", "clients") => clients(shard, table).await,
        ("system", "versions") => versions(table),
        ("system", "changefeeds") => feeds::saved(shard, table).await,
        ("system_views", "changefeeds") => feeds::live(shard, table).await,
        ("system_views", "settings") => settings(shard, table),
        ("system_views", "caches") => caches(shard, table).await,
        ("system_views", "disk_usage") => disk_usage(shard, view, table).await,
        ("system_traces", "sessions") => trace_sessions(shard, table),
        ("system_traces", "events") => trace_events(shard, table),
        ("system_distributed", "cdc_generation_timestamps") => generation_timestamps(view, table),
        ("system_distributed", "cdc_streams_descriptions_v2") => stream_descriptions(view, table),
        ("system_schema" | "system_virtual_schema", name) => {
            let cdc = &CdcLogTables;
            system_schema::system_schema_mutations(&table.keyspace, name, &view.schema, cdc)
        }
        _ => Vec::new(),
    };
    let mut content = MemoryTable::new(table);
    for mutation in &mutations {
        if let Ok(mutation) = model::mutation::MutationView::new(mutation) {
            content.apply(&mutation);
        }
    }
    content
}

fn local(shard: &Shard, view: &View, table: &TableDef) -> Vec<Vec<u8>> {
    let shared = &shard.shared;
    let (address, internode) = (shared.broadcast_rpc_address(), shared.broadcast_address());
    let mut rows = Rows::new(table);
    let Some(node) = view.metadata.node(shared.host_id.0) else { return rows.finish() };
    rows.add(vec![
        ("key", "local".into()),
        ("bootstrapped", "COMPLETED".into()),
        ("broadcast_address", internode.ip().into()),
        ("broadcast_port", i32::from(internode.port()).into()),
        ("cluster_name", view.metadata.cluster_name.clone().into()),
        ("cql_version", CQL_VERSION.into()),
        ("data_center", node.data_center.clone().into()),
        ("gossip_generation", ((shared.started_at_micros / 1_000_000) as i32).into()),
        ("host_id", shared.host_id.0.to_be_bytes().into()),
        ("listen_address", shared.config.listen_address().into()),
        ("listen_port", i32::from(internode.port()).into()),
        ("native_protocol_version", PROTOCOL_VERSION.into()),
        ("partitioner", PARTITIONER.into()),
        ("rack", node.rack.clone().into()),
        ("release_version", RELEASE_VERSION.into()),
        ("rpc_address", address.ip().into()),
        ("rpc_port", i32::from(address.port()).into()),
        ("schema_version", schema_version(view).into()),
        ("tokens", tokens(&node.tokens)),
    ]);
    rows.finish()
}

fn tokens(tokens: &[i64]) -> Datum {
    Datum::set(tokens.iter().map(|token| token.to_string().into_bytes()).collect())
}

fn peers(shard: &Shard, view: &View, table: &TableDef) -> Vec<Vec<u8>> {
    let mut rows = Rows::new(table);
    let host_id = shard.shared.host_id.0;
    for node in view.metadata.nodes.values().filter(|node| node.host_id != host_id) {
        rows.add(vec![
            ("peer", node.internode_address.ip().into()),
            ("peer_port", i32::from(node.internode_address.port()).into()),
            ("data_center", node.data_center.clone().into()),
            ("host_id", node.host_id.to_be_bytes().into()),
            ("rack", node.rack.clone().into()),
            ("release_version", RELEASE_VERSION.into()),
            ("rpc_address", node.address.into()),
            ("native_address", node.address.into()),
            ("native_port", i32::from(node.cql_port).into()),
            ("schema_version", schema_version(view).into()),
            ("tokens", tokens(&node.tokens)),
        ]);
    }
    rows.finish()
}

fn prepared_statements(shard: &Shard, table: &TableDef) -> Vec<Vec<u8>> {
    let mut rows = Rows::new(table);
    for statement in shard.shared.statements.all() {
        let mut values = vec![
            ("prepared_id", Datum::blob(&statement.id)),
            ("query_string", (*without_secrets(&statement.text)).into()),
        ];
        if let Some(keyspace) = &statement.keyspace {
            values.push(("logged_keyspace", (**keyspace).into()));
        }
        rows.add(values);
    }
    rows.finish()
}

/// What every shard answers, in their order; one that has too much to do is left out.
async fn ask_shards<T>(
    shard: &Rc<Shard>,
    question: impl Fn(oneshot::Sender<T>) -> Message,
) -> Vec<T> {
    let mut waiting = Vec::new();
    for other in &shard.shared.shards {
        let (reply, answer) = oneshot::channel();
        if other.try_send(question(reply)).is_ok() {
            waiting.push(answer);
        }
    }
    let mut answers = Vec::with_capacity(waiting.len());
    for answer in waiting {
        answers.extend(answer.await.ok());
    }
    answers
}

async fn clients(shard: &Rc<Shard>, table: &TableDef) -> Vec<Vec<u8>> {
    let mut rows = Rows::new(table);
    for client in ask_shards(shard, Message::Clients).await.iter().flatten() {
        rows.add(client_row(client));
    }
    rows.finish()
}

fn client_row(client: &ClientInfo) -> Vec<(&'static str, Datum)> {
    let option = |key: &str| {
        let found = client.options.iter().find(|(k, _)| k.eq_ignore_ascii_case(key));
        Datum::from(found.map_or("", |(_, value)| value.as_str()))
    };
    let options = client.options.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    vec![
        ("address", client.peer.ip().into()),
        ("port", i32::from(client.peer.port()).into()),
        ("client_type", "cql".into()),
        ("client_options", Datum::map(options)),
        ("connection_stage", "READY".into()),
        ("driver_name", option("DRIVER_NAME")),
        ("driver_version", option("DRIVER_VERSION")),
        ("protocol_version", i32::from(client.protocol_version).into()),
        ("request_count", (client.request_count as i64).into()),
        ("shard_id", i32::from(client.shard).into()),
        ("ssl_enabled", false.into()),
        ("username", "anonymous".into()),
    ]
}

fn settings(shard: &Shard, table: &TableDef) -> Vec<Vec<u8>> {
    let config = &shard.shared.config;
    let mut rows = Rows::new(table);
    for (name, value) in [
        ("cluster_name", config.cluster_name().to_owned()),
        ("rpc_address", config.address.to_string()),
        ("listen_address", config.listen_address().to_string()),
        ("storage_port", shard.shared.broadcast_address().port().to_string()),
        ("seeds", config.seeds.iter().map(Seed::to_string).collect::<Vec<_>>().join(",")),
        ("native_transport_port", shard.shared.address().port().to_string()),
        ("num_tokens", config.token_count.to_string()),
        ("shards", shard.shared.shard_count.to_string()),
        ("memory", config.memory_bytes.to_string()),
        ("data_file_directories", config.data_dir.display().to_string()),
        ("commitlog_sync", config.commitlog_sync.to_string()),
        ("host_id", format_uuid(shard.shared.host_id.0)),
    ] {
        rows.add(vec![("name", name.into()), ("value", value.into())]);
    }
    rows.finish()
}

/// What scylla-cqlsh greets with.
fn versions(table: &TableDef) -> Vec<Vec<u8>> {
    let mut rows = Rows::new(table);
    rows.add(vec![
        ("key", "local".into()),
        ("version", env!("CARGO_PKG_VERSION").into()),
        ("build_mode", (if cfg!(debug_assertions) { "debug" } else { "release" }).into()),
    ]);
    rows.finish()
}

/// The block cache, under the name that Cassandra gives its own. What is not counted is null.
async fn caches(shard: &Rc<Shard>, table: &TableDef) -> Vec<Vec<u8>> {
    let (mut bytes, mut hits, mut misses) = (0, 0, 0);
    for report in ask_shards(shard, Message::Storage).await {
        bytes += report.cache.bytes;
        hits += report.cache.hit_count;
        misses += report.cache.miss_count;
    }
    let requests = hits + misses;
    let mut rows = Rows::new(table);
    let mut values = vec![
        ("name", "chunks".into()),
        ("hit_count", (hits as i64).into()),
        ("request_count", (requests as i64).into()),
        ("size_bytes", (bytes as i64).into()),
    ];
    if requests > 0 {
        values.push(("hit_ratio", (hits as f64 / requests as f64).into()));
    }
    rows.add(values);
    rows.finish()
}

/// The size of each table's files on this node, rounded up.
async fn disk_usage(shard: &Rc<Shard>, view: &View, table: &TableDef) -> Vec<Vec<u8>> {
    let mut bytes: BTreeMap<TableId, u64> = BTreeMap::new();
    for (id, statistics) in ask_shards(shard, Message::Storage).await.iter().flat_map(|r| &r.tables)
    {
        *bytes.entry(*id).or_default() += statistics.file_bytes;
    }
    let mut rows = Rows::new(table);
    for (id, bytes) in bytes {
        let Some(stored) = view.schema.table_by_id(id) else { continue };
        rows.add(vec![
            ("keyspace_name", (*stored.keyspace).into()),
            ("table_name", (*stored.name).into()),
            ("mebibytes", (bytes.div_ceil(1 << 20) as i64).into()),
        ]);
    }
    rows.finish()
}

fn trace_sessions(shard: &Shard, table: &TableDef) -> Vec<Vec<u8>> {
    let coordinator = shard.shared.address();
    let mut rows = Rows::new(table);
    for trace in shard.shared.traces.all() {
        rows.add(vec![
            ("session_id", trace.id.into()),
            ("client", trace.client.ip().into()),
            ("command", trace.command.into()),
            ("coordinator", coordinator.ip().into()),
            ("coordinator_port", i32::from(coordinator.port()).into()),
            ("duration", (trace.duration_micros as i32).into()),
            ("parameters", Datum::map([("query", &*trace.text)])),
            ("request", format!("Execute CQL3 {}", trace.command.to_lowercase()).into()),
            ("started_at", (trace.started_at_micros / 1_000).into()),
        ]);
    }
    rows.finish()
}

fn trace_events(shard: &Shard, table: &TableDef) -> Vec<Vec<u8>> {
    let source = shard.shared.address();
    let mut rows = Rows::new(table);
    for trace in shard.shared.traces.all() {
        for event in &trace.events {
            rows.add(vec![
                ("session_id", trace.id.into()),
                ("event_id", event.id.into()),
                ("activity", event.activity.clone().into()),
                ("source", source.ip().into()),
                ("source_port", i32::from(source.port()).into()),
                ("source_elapsed", (event.elapsed_micros as i32).into()),
                ("thread", event.thread.clone().into()),
            ]);
        }
    }
    rows.finish()
}

/// The key under which all generations are listed.
const GENERATIONS_KEY: &str = "timestamps";

fn generation_timestamps(view: &View, table: &TableDef) -> Vec<Vec<u8>> {
    let mut rows = Rows::new(table);
    for generation in view.generations.list() {
        let time = generation.starts_at_millis();
        rows.add(vec![("key", GENERATIONS_KEY.into()), ("time", time.into())]);
    }
    rows.finish()
}

fn stream_descriptions(view: &View, table: &TableDef) -> Vec<Vec<u8>> {
    let mut rows = Rows::new(table);
    for generation in view.generations.list() {
        for (range_end, streams) in generation.descriptions() {
            let streams = streams.iter().map(|stream| stream.as_ref().to_vec()).collect();
            rows.add(vec![
                ("time", generation.starts_at_millis().into()),
                ("range_end", range_end.into()),
                ("streams", Datum::set(streams)),
            ]);
        }
    }
    rows.finish()
}
