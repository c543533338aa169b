//! The operator's port: `/metrics` in Prometheus' text form, `/healthz`, `/readyz`, `/status` for
//! `tethys status`, `POST /cdc/generations`, which announces a new CDC generation, and `POST
//! /decommission` and `/remove`, which change the ring and are taken from this machine only.

use crate::clock_check::describe;
use crate::feeds::Feeds;
use crate::metadata::{DdlError, MetadataRequest, Standing};
use crate::node::Shared;
use crate::ring_change;
use crate::shard::{Message, ShardStatistics};
use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::{self, HeaderName};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use env::net::{TcpListener, TcpStream};
use serde::Deserialize;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;

/// How far ahead a generation is announced unless the caller says otherwise: every client that
/// polls has seen it by then.
const GENERATION_LEAD_MILLIS: i64 = 65_000;
/// How long to wait after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The listener as axum takes it.
struct Listener {
    listener: TcpListener,
    shared: Arc<Shared>,
}

impl axum::serve::Listener for Listener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok(accepted) => return accepted,
                Err(_) => self.shared.env.clock.sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientAddress(pub SocketAddr);

impl Connected<IncomingStream<'_, Listener>> for ClientAddress {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        ClientAddress(*stream.remote_addr())
    }
}

/// Serves until the node ends.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/readyz", get(ready))
        .route("/status", get(status))
        .route("/cdc/generations", post(announce_generation))
        .route("/decommission", post(ring_change::serve_decommission))
        .route("/remove", post(ring_change::serve_remove))
        .route("/withdraw", post(ring_change::serve_withdraw))
        .layer(middleware::from_fn_with_state(shared.clone(), refuse_before_ready))
        .route("/healthz", get(async || "ok\n"))
        .with_state(shared.clone());
    let service = router.into_make_service_with_connect_info::<ClientAddress>();
    if let Err(error) = axum::serve(Listener { listener, shared }, service).await {
        tracing::error!("the HTTP port is closed: {error}");
    }
}

/// A node that recovers, or waits for its cluster, has nobody yet to ask for more.
async fn refuse_before_ready(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    if shared.is_ready.load(Ordering::Acquire) {
        return next.run(request).await;
    }
    (StatusCode::SERVICE_UNAVAILABLE, "the node is starting\n").into_response()
}

/// Ready for any statement. A node that serves without a majority, by what it knew when it was
/// ended, is so for reads at ONE alone, and says that; one that cannot write, for reads.
async fn ready(State(shared): State<Arc<Shared>>) -> (StatusCode, String) {
    if let Some(ahead_micros) = shared.wall_clock.ahead_micros() {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", describe(ahead_micros)));
    }
    if let Some(reason) = shared.write_failure.reason() {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n"));
    }
    match *shared.standing.borrow() {
        Standing::CaughtUp => (StatusCode::OK, "ready\n".to_owned()),
        standing => (StatusCode::SERVICE_UNAVAILABLE, format!("{standing}\n")),
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Result<String, StatusCode> {
    let mut text = String::new();
    let now = shared.env.clock.now_micros();
    let uptime = (now - shared.started_at_micros) as f64 / 1e6;
    let connections = shared.connection_count.load(Ordering::Relaxed);
    let mut waiting = Vec::new();
    for shard in &shared.shards {
        let (reply, answer) = oneshot::channel();
        if shard.try_send(Message::Statistics(reply)).is_ok() {
            waiting.push(answer);
        }
    }
    let mut statistics = Vec::new();
    for answer in waiting {
        statistics.push(answer.await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?);
    }
    write_metrics(&mut text, uptime, connections, &shared.feeds, &statistics)
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(text)
}

type Figure = (&'static str, &'static str, &'static str, fn(&ShardStatistics) -> u64);

/// Name, kind, meaning, and where the figure is.
const SHARD_FIGURES: &[Figure] = &[
    ("writes_total", "counter", "Writes proposed.", |s| s.writes),
    ("flushes_total", "counter", "Memtables written to files.", |s| s.flushes),
    ("compactions_total", "counter", "Merges of files.", |s| s.compactions),
    (
        "log_questions_total",
        "counter",
        "How often whoever follows CDC logs has asked what was logged.",
        |s| s.log_questions,
    ),
    ("memtable_bytes", "gauge", "Memory of memtables.", |s| s.memtable_bytes),
    ("storage_memory_bytes", "gauge", "Memory of memtables, indexes and blocks.", |s| {
        s.memory_bytes
    }),
    ("commitlog_segments", "gauge", "Segments of the commit log.", |s| s.log_segments),
    ("led_groups", "gauge", "Groups of replicas that this node leads.", |s| s.led_groups),
    ("client_connections", "gauge", "CQL connections.", |s| s.connections),
    ("connection_memory_bytes", "gauge", "Memory of requests and answers.", |s| s.connection_bytes),
    ("requests_total", "counter", "CQL requests.", |s| s.requests),
    ("requests_forwarded_total", "counter", "Writes and reads sent to other nodes.", |s| {
        s.forwarded
    }),
    (
        "logged_batches_unfinished",
        "gauge",
        "Logged batches on record that are decided and long overdue.",
        |s| s.unfinished_batches,
    ),
    (
        "logged_batches_unreadable",
        "gauge",
        "Logged batches whose record could not be read; the log names them.",
        |s| s.unreadable_batches,
    ),
    (
        "groups_standing_still",
        "gauge",
        "Groups that were sent an entry which this node can never take; the log says why.",
        |s| s.standing_still,
    ),
    (
        "followers_standing_still",
        "gauge",
        "Members of groups led here, on live nodes, that lack entries and got none for ten seconds.",
        |s| s.followers_standing_still,
    ),
    ("metadata_voters", "gauge", "Nodes that decide on schema and ring; on shard 0.", |s| {
        s.metadata_voters
    }),
    ("snapshots_under_way", "gauge", "Snapshots of ranges that are being sent or received.", |s| {
        s.snapshots_under_way
    }),
    ("snapshots_sent_total", "counter", "Snapshots that other nodes have installed.", |s| {
        s.snapshots.sent
    }),
    ("snapshot_sent_bytes_total", "counter", "Bytes of snapshots that were sent.", |s| {
        s.snapshots.sent_bytes
    }),
    ("snapshots_received_total", "counter", "Snapshots of other nodes that were installed.", |s| {
        s.snapshots.received
    }),
    ("snapshot_received_bytes_total", "counter", "Bytes of snapshots that came.", |s| {
        s.snapshots.received_bytes
    }),
    (
        "snapshots_failed_total",
        "counter",
        "Snapshots that were begun, on either side, and given up.",
        |s| s.snapshots.failed,
    ),
    (
        "internode_unknown_messages_total",
        "counter",
        "Messages and requests of other nodes that this one does not know.",
        |s| s.unknown_messages,
    ),
];

fn write_metrics(
    text: &mut String,
    uptime: f64,
    connections: usize,
    feeds: &Feeds,
    shards: &[ShardStatistics],
) -> std::fmt::Result {
    writeln!(text, "# HELP tethys_uptime_seconds Time since the node started.")?;
    writeln!(text, "# TYPE tethys_uptime_seconds gauge")?;
    writeln!(text, "tethys_uptime_seconds {uptime:.3}")?;
    writeln!(text, "# HELP tethys_connections CQL connections of all shards.")?;
    writeln!(text, "# TYPE tethys_connections gauge")?;
    writeln!(text, "tethys_connections {connections}")?;
    writeln!(
        text,
        "# HELP tethys_changefeed_memory_bytes What changefeeds have read and not sent."
    )?;
    writeln!(text, "# TYPE tethys_changefeed_memory_bytes gauge")?;
    let held = feeds.memory_bytes.load(Ordering::Relaxed);
    writeln!(text, "tethys_changefeed_memory_bytes {held}")?;
    writeln!(text, "# HELP tethys_changefeed_memory_bytes_max How much of that there may be.")?;
    writeln!(text, "# TYPE tethys_changefeed_memory_bytes_max gauge")?;
    writeln!(text, "tethys_changefeed_memory_bytes_max {}", feeds.memory_bytes_max)?;
    for (name, kind, help, figure) in SHARD_FIGURES {
        writeln!(text, "# HELP tethys_{name} {help}")?;
        writeln!(text, "# TYPE tethys_{name} {kind}")?;
        for (index, shard) in shards.iter().enumerate() {
            writeln!(text, "tethys_{name}{{shard=\"{index}\"}} {}", figure(shard))?;
        }
    }
    Ok(())
}

#[derive(Debug, Deserialize)]
struct StatusQuery {
    keyspace: Option<String>,
}

async fn status(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<StatusQuery>,
) -> Result<([(HeaderName, &'static str); 1], Vec<u8>), (StatusCode, String)> {
    let (reply, answer) = oneshot::channel();
    let unavailable = |reason: &str| (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n"));
    shared.shards[0]
        .try_send(Message::ClusterStatus(query.keyspace, reply))
        .map_err(|_| unavailable("too many requests are waiting"))?;
    match answer.await {
        Ok(Ok(status)) => {
            let json = serde_json::to_vec(&status).expect("a status has text keys and no NaN");
            Ok(([(header::CONTENT_TYPE, "application/json")], json))
        }
        Ok(Err(error)) => Err((StatusCode::NOT_FOUND, format!("{error}\n"))),
        Err(_) => Err(unavailable("the node is going down")),
    }
}

#[derive(Debug, Deserialize)]
struct GenerationQuery {
    starts_in_ms: Option<i64>,
}

async fn announce_generation(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<GenerationQuery>,
) -> Result<&'static str, (StatusCode, String)> {
    let starts_in_millis = query.starts_in_ms.unwrap_or(GENERATION_LEAD_MILLIS);
    if starts_in_millis < 0 {
        return Err((StatusCode::BAD_REQUEST, "starts_in_ms must not be negative\n".to_owned()));
    }
    let (reply, answer) = oneshot::channel();
    let request = MetadataRequest::Generation { starts_in_millis };
    let unavailable = |reason: &str| (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n"));
    shared.shards[0]
        .try_send(Message::Ddl(Box::new(request), reply))
        .map_err(|_| unavailable("too many requests are waiting"))?;
    match answer.await {
        Ok(Ok(_)) => Ok("announced\n"),
        Ok(Err(DdlError::Write(error))) => Err((StatusCode::CONFLICT, format!("{error}\n"))),
        Ok(Err(DdlError::Plan(error))) => Err((StatusCode::CONFLICT, format!("{error}\n"))),
        Ok(Err(error @ DdlError::NoMajority { .. })) => Err(unavailable(&error.to_string())),
        Err(_) => Err(unavailable("the node is going down")),
    }
}
