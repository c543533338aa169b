//! A whole node: its data directory, its shards, its listeners, from start to end.

use crate::clock_check::{self, WallClock, describe};
use crate::config::{CommitLogSync, Config, Seed};
use crate::data_directory::{ClusterIdentity, DataDirectory};
use crate::feeds::Feeds;
use crate::feeds::source::ClusterSource;
use crate::founding;
use crate::init_scripts;
use crate::internode;
use crate::metadata::{self, KnownGenerations, Metadata, Snapshot, Standing};
use crate::ring_change::{Departure, refuse_gone};
use crate::shard::{self, Boards, Message, PublishedClock};
use crate::statement::StatementCache;
use crate::traces::Traces;
use crate::view::Views;
use crate::write_failure::WriteFailure;
use changefeed::memory::FeedMemory;
use changefeed::source::{Source, SourceError};
use cluster::HostId;
use cluster::peer::Registry;
use env::Env;
use env::net::TcpListener;
use env::tasks::Task;
use env::tasks::queue::{Receiver, Sender, queue};
use model::{KeyspaceDef, TableId, TimestampMicros};
use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use storage::EngineOptions;
use storage::commitlog::{LogOptions, SyncMode};
use tokio::sync::{oneshot, watch};

/// Connections that the node serves; further ones are closed at once.
const CONNECTIONS_MAX: usize = 16_384;
/// How long the acceptor waits after an error that is not one connection's, such as too many open
/// files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often a node that joins looks whether it is a member.
const JOIN_PAUSE: Duration = Duration::from_millis(20);
/// How long clients wait for a node that has all its data and does not know the newest metadata,
/// before they are sent away.
const CLIENT_WAIT: Duration = Duration::from_secs(2);

/// What all threads of the node share.
pub(crate) struct Shared {
    pub env: Env,
    pub config: Config,
    pub host_id: HostId,
    /// Who this node is to others, and whom it is connected with.
    pub registry: Registry,
    pub shard_count: u16,
    pub shards: Vec<Sender<Message>>,
    /// What each shard's clock has given out last.
    pub clocks: Vec<PublishedClock>,
    /// Which nodes support each other, as shard 0 knows it.
    pub boards: Boards,
    /// The changefeeds that this node delivers.
    pub feeds: Feeds,
    pub statements: StatementCache,
    pub traces: Traces,
    pub system_keyspaces: Vec<Arc<KeyspaceDef>>,
    pub data: DataDirectory,
    pub started_at_micros: i64,
    pub connection_count: AtomicUsize,
    /// Shards that have not finished the logged batches of before the start.
    pub shards_with_old_batches: AtomicUsize,
    /// It serves clients.
    pub is_ready: AtomicBool,
    pub write_failure: WriteFailure,
    /// Whether it is a member no more.
    pub departure: Departure,
    /// How far ahead it knows the generations of CDC streams.
    pub known_generations: KnownGenerations,
    /// Whether its wall clock is right.
    pub wall_clock: WallClock,
    /// Whether it knows the newest metadata, since it was started.
    pub standing: watch::Sender<Standing>,
    views: OnceLock<Views>,
    /// Turns true when the first view is there.
    has_view: watch::Sender<bool>,
    address: OnceLock<SocketAddr>,
    shard_aware_address: OnceLock<SocketAddr>,
    http_address: OnceLock<SocketAddr>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({})", self.host_id)
    }
}

impl Shared {
    /// The snapshots of the metadata; there from before the first shard serves anything.
    pub(crate) fn views(&self) -> &Views {
        self.views.get().expect("shards serve only after the first view")
    }

    /// Makes the first view known.
    pub(crate) fn set_views(&self, views: Views) {
        assert!(self.views.set(views).is_ok(), "the first view is made once");
        self.has_view.send_replace(true);
    }

    /// This node belongs to the cluster of that metadata from here on, after every start, with what its
    /// shards have begun to log.
    pub(crate) fn belong_to(
        &self,
        metadata: &Metadata,
        log_segments: &[u64],
    ) -> Result<(), String> {
        self.registry.set_cluster_id(metadata.cluster_id);
        let cluster =
            ClusterIdentity { id: metadata.cluster_id, name: metadata.cluster_name.clone() };
        self.data.belong_to(&self.env.disk, &cluster, log_segments)
    }

    /// This node is a member by that snapshot from here on, after every start.
    fn join(&self, snapshot: &Snapshot) -> Result<(), String> {
        let path = self.data.metadata();
        metadata::save(&self.env.disk, &path, snapshot)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        self.belong_to(&snapshot.metadata, &[])
    }

    /// Waits until this node is a member of the ring: one that joins by a plan is so when it holds its
    /// part of the data.
    async fn wait_until_member(&self) {
        let mut is_told = false;
        while self.views().newest().metadata.node(self.host_id.0).is_none() {
            if !std::mem::replace(&mut is_told, true) {
                tracing::info!(
                    "this node joins: it serves clients when it holds its part of the data"
                );
            }
            self.env.clock.sleep(JOIN_PAUSE).await;
        }
    }

    /// Waits for the first view.
    pub(crate) async fn wait_for_view(&self) {
        let mut has_view = self.has_view.subscribe();
        // The sender lives as long as `self`.
        has_view.wait_for(|has| *has).await.ok();
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        let configured = SocketAddr::new(self.config.address, self.config.port);
        self.address.get().copied().unwrap_or(configured)
    }

    /// Where clients are told to connect.
    pub(crate) fn broadcast_rpc_address(&self) -> SocketAddr {
        let address = self.address();
        SocketAddr::new(self.config.broadcast_rpc_address.unwrap_or(address.ip()), address.port())
    }

    /// Where other nodes are told to connect.
    pub(crate) fn broadcast_address(&self) -> SocketAddr {
        self.registry.us().address
    }

    /// The port on which a client chooses its shard; 0 when there is none.
    pub(crate) fn shard_aware_port(&self) -> u16 {
        self.shard_aware_address.get().map_or(0, SocketAddr::port)
    }

    /// Where metrics and health are.
    pub(crate) fn http_address(&self) -> SocketAddr {
        let configured = SocketAddr::new(self.config.address, self.config.http_port);
        self.http_address.get().copied().unwrap_or(configured)
    }

    /// How the log of a shard is set up.
    pub(crate) fn log_options(&self, shard: u16, salt: u64) -> LogOptions {
        let mut options = LogOptions::new(u32::from(shard), salt);
        options.segment_bytes = self.config.limits.segment_bytes();
        options.sync = match self.config.commitlog_sync {
            CommitLogSync::Group => SyncMode::Group,
            CommitLogSync::Periodic(every) => SyncMode::Periodic { every },
        };
        options
    }

    /// How much log one shard may keep.
    pub(crate) fn log_bytes_max(&self) -> u64 {
        self.config.limits.log_bytes_per_shard(self.shard_count)
    }

    /// The memory of one shard's engine.
    pub(crate) fn engine_options(&self) -> EngineOptions {
        let share = self.config.memory_bytes / usize::from(self.shard_count);
        EngineOptions { memtable_bytes_max: share / 2, block_cache_bytes_max: share / 4 }
    }

    /// The memory of one shard's connections: the rest of its share.
    pub(crate) fn connection_bytes_max(&self) -> usize {
        self.config.memory_bytes / usize::from(self.shard_count) / 4
    }
}

/// Why a node did not start.
#[derive(Debug)]
pub enum StartError {
    /// The data directory cannot be opened.
    Data(String),
    /// The metadata snapshot cannot be read.
    Metadata(String),
    /// A shard cannot recover.
    Shard(u16, String),
    /// An address cannot be listened on; the text is the configuration key of its port.
    Listen(SocketAddr, &'static str, std::io::Error),
    /// The cluster of a seed does not let this node in, as the text says.
    JoinRefused(Seed, String),
    /// A seed says why this node and it cannot be in one cluster.
    Seed(Seed, String),
    /// Two seeds belong to different clusters.
    TornSeeds(Seed, Seed),
    /// The node is to take the place of that one, and is given no seed of a cluster.
    NothingToReplace(HostId),
    /// The node's clock is so many microseconds ahead of those of most other members, or behind.
    Clock(i64),
    /// The node is a member of its cluster no more.
    Gone(PathBuf),
    /// A thread cannot be started.
    Thread(std::io::Error),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Data(error) | StartError::Metadata(error) => f.write_str(error),
            StartError::Shard(shard, error) => write!(f, "shard {shard}: {error}"),
            StartError::Listen(address, key, error) => {
                let advice = match error.kind() {
                    ErrorKind::AddrInUse => {
                        "; end the program that has it, or choose another port or address"
                    }
                    ErrorKind::AddrNotAvailable => "; choose an address of this machine",
                    ErrorKind::PermissionDenied => "; choose a port from 1024 on",
                    _ => "",
                };
                write!(f, "cannot listen on {address} ({key}): {error}{advice}")
            }
            StartError::JoinRefused(seed, reason) => {
                write!(f, "cannot join the cluster of seed {seed}: {reason}")
            }
            StartError::Seed(seed, reason) => write!(f, "seed {seed}: {reason}"),
            StartError::TornSeeds(one, other) => write!(
                f,
                "seeds {one} and {other} belong to different clusters of this name; give only \
                 seeds of the one that is meant"
            ),
            StartError::NothingToReplace(host) => write!(
                f,
                "this node is to take the place of node {host}, and no seed leads to its cluster; \
                 name members of it as --seeds"
            ),
            StartError::Clock(ahead_micros) => {
                write!(f, "{}: set it right, and start the node again", describe(*ahead_micros))
            }
            StartError::Gone(path) => write!(
                f,
                "this node has left its cluster, or was removed from it: to join again as a new node, \
                 start it with an empty data directory instead of {}",
                path.display()
            ),
            StartError::Thread(error) => write!(f, "cannot start a thread: {error}"),
        }
    }
}

/// A running node.
pub struct Node {
    shared: Arc<Shared>,
    tasks: Vec<Task>,
    /// The thread of changefeeds, and what ends it.
    feeds: (Task, oneshot::Sender<()>),
}

fn open_data(env: &Env, config: &Config) -> Result<DataDirectory, StartError> {
    let opened = DataDirectory::open(
        &env.disk,
        &config.data_dir,
        config.shard_count,
        config.shard_count_default(),
        &mut env.entropy.generator("node"),
    );
    opened.map_err(|error| StartError::Data(error.to_string()))
}

impl Node {
    /// Starts a node: opens its data, recovers its shards, hears of the newest metadata, listens.
    /// On return it serves clients.
    pub async fn start(env: Env, config: Config) -> Result<Node, StartError> {
        let data = open_data(&env, &config)?;
        let snapshot = metadata::load(&env.disk, &data.metadata()).map_err(StartError::Metadata)?;
        let shard_count = data.identity.shard_count;
        let for_nodes = bind(&env, config.listen_address(), config.storage_port, "storage_port");
        let (for_nodes, internode_address) = for_nodes.await?;
        let name = cluster_name(&config, &data, &snapshot.metadata)?;
        let registry = internode::registry(&config, name, &data, env.tasks, internode_address);
        // The snapshot of a cluster that has let it in makes it a member, whatever came after.
        let is_member = data.is_member(&env.disk).map_err(StartError::Data)?
            || !snapshot.metadata.nodes.is_empty();
        let (shards, receivers): (Vec<_>, Vec<_>) =
            (0..shard_count).map(|_| queue(shard::MESSAGES_MAX)).unzip();
        let shared = Arc::new(Shared {
            started_at_micros: env.clock.now_micros(),
            wall_clock: WallClock::new(&env.clock),
            known_generations: KnownGenerations::default(),
            host_id: HostId(data.identity.host_id),
            registry,
            feeds: Feeds::new(config.memory_bytes),
            env,
            config,
            shard_count,
            shards,
            clocks: (0..shard_count).map(|_| PublishedClock::default()).collect(),
            boards: Boards::default(),
            statements: StatementCache::default(),
            traces: Traces::default(),
            system_keyspaces: crate::system::keyspaces(),
            data,
            connection_count: AtomicUsize::new(0),
            shards_with_old_batches: AtomicUsize::new(usize::from(shard_count)),
            is_ready: AtomicBool::new(false),
            write_failure: WriteFailure::default(),
            departure: Departure::default(),
            standing: watch::channel(Standing::Asking).0,
            views: OnceLock::new(),
            has_view: watch::channel(false).0,
            address: OnceLock::new(),
            shard_aware_address: OnceLock::new(),
            http_address: OnceLock::new(),
        });
        let (listeners, http) = Listeners::bind(&shared).await?;
        tokio::task::spawn_local(crate::http::serve(http, shared.clone()));
        tokio::task::spawn_local(internode::accept(shared.clone(), for_nodes));
        let begun = Node::begin(shared.clone(), listeners, receivers, snapshot, is_member);
        tokio::select! {
            biased;
            error = must_end(&shared) => Err(error),
            begun = begun => begun,
        }
    }

    /// Goes on with a start once other nodes are heard.
    async fn begin(
        shared: Arc<Shared>,
        listeners: Listeners,
        receivers: Vec<Receiver<Message>>,
        mut snapshot: Snapshot,
        is_member: bool,
    ) -> Result<Node, StartError> {
        if !is_member && let Some(joined) = find_cluster(&shared, &listeners).await? {
            snapshot = *joined;
            shared.join(&snapshot).map_err(StartError::Data)?;
        }
        part_with_gone(&shared, &snapshot.metadata)?;
        if !snapshot.metadata.nodes.is_empty() {
            // It may have ended before it wrote down whose member it is, and others remember the starts of
            // members alone.
            shared.registry.set_cluster_id(snapshot.metadata.cluster_id);
        }
        if is_member {
            clock_check::before_start(&shared, &snapshot.metadata).await?;
        }
        let (tasks, log_segments) = start_shards(&shared, receivers, snapshot).await?;
        let metadata = &shared.views().newest().metadata;
        shared.belong_to(metadata, &log_segments).map_err(StartError::Data)?;
        wait_for_its_part(&shared, &listeners).await?;
        let feeds = start_feeds(&shared)?;
        listeners.serve(&shared);
        shared.is_ready.store(true, Ordering::Release);
        tokio::task::spawn_local(init_scripts::run(shared.clone()));
        Ok(Node { shared, tasks, feeds })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.shared.address()
    }

    /// One line that says where to connect and how.
    pub fn greeting(&self) -> String {
        let (address, shared) = (self.address(), &self.shared);
        let (ip, port) = (self.told_ip(), address.port());
        let plural = if shared.shard_count == 1 { "" } else { "s" };
        format!(
            "Tethys {} is ready: CQL on {address} (cqlsh {ip} {port}), shard-aware port {}, HTTP \
             on {}, other nodes on {}, {} shard{plural}, data in {}",
            env!("CARGO_PKG_VERSION"),
            shared.shard_aware_port(),
            shared.http_address(),
            shared.broadcast_address(),
            shared.shard_count,
            shared.data.path.display(),
        )
    }

    /// Where somebody who tries the node finds it: of all interfaces, one that it has told others.
    fn told_ip(&self) -> IpAddr {
        let told = [self.shared.broadcast_rpc_address(), self.shared.broadcast_address()];
        let reachable = told.iter().map(SocketAddr::ip).find(|ip| !ip.is_unspecified());
        reachable.unwrap_or(IpAddr::from([127, 0, 0, 1]))
    }

    /// Returns when the node is a member of its cluster no more: it has left, or was removed.
    pub async fn gone(&self) {
        self.shared.departure.wait().await;
    }

    /// Returns when the node must end at once, with what to tell the operator: its data directory turns
    /// out to be an older copy of what it had, or cannot be written while others can go on without it.
    pub async fn must_end(&self) -> StartError {
        must_end(&self.shared).await
    }

    /// Follows the logs of tables with CDC on, given by keyspace and name, above a time in
    /// microseconds: what is logged on all nodes of the cluster, in order, milliseconds after it was.
    /// For a thread with a `LocalSet`; it ends when the node does.
    ///
    /// Errors when a table is not there or has no log.
    pub fn follow_log(
        &self,
        tables: &[(&str, &str)],
        above: TimestampMicros,
    ) -> Result<impl Source + use<>, SourceError> {
        let view = self.shared.views().newest();
        let ids: Result<Vec<TableId>, SourceError> = tables
            .iter()
            .map(|(keyspace, name)| {
                let found = view.schema.keyspace(keyspace).and_then(|k| k.tables.get(*name));
                let missing =
                    || SourceError::Failed(format!("table {keyspace}.{name} is not there"));
                found.map(|table| table.id).ok_or_else(missing)
            })
            .collect();
        let memory = Rc::new(FeedMemory::ample().account());
        ClusterSource::open(&self.shared, &ids?, above, memory)
    }

    /// Stops serving, writes out what is in memory, and ends the shards.
    pub async fn stop(self) {
        let (feeds, end) = self.feeds;
        end.send(()).ok();
        feeds.finished().await.ok();
        let mut answers = Vec::new();
        for shard in &self.shared.shards {
            let (reply, answer) = oneshot::channel();
            if shard.try_send(Message::Stop(reply)).is_ok() {
                answers.push(answer);
            }
        }
        for answer in answers {
            answer.await.ok();
        }
        for task in self.tasks {
            task.finished().await.ok();
        }
    }
}

/// Nodes that have gone from the ring are refused; a node that has gone itself does not start.
fn part_with_gone(shared: &Shared, metadata: &Metadata) -> Result<(), StartError> {
    if metadata.is_gone(shared.host_id.0) {
        return Err(StartError::Gone(shared.data.path.clone()));
    }
    refuse_gone(&shared.registry, metadata);
    Ok(())
}

async fn must_end(shared: &Arc<Shared>) -> StartError {
    tokio::select! {
        error = overtaken(shared) => error,
        reason = shared.write_failure.makes_way() => StartError::Data(reason),
    }
}

/// Returns when it turns out that this node runs on an older copy of its data directory.
async fn overtaken(shared: &Arc<Shared>) -> StartError {
    let found = shared.registry.overtaken().await;
    let of_write = shared.clone();
    let note = move || of_write.data.note_overtaken(found).to_string();
    StartError::Data(shared.env.tasks.run_blocking(note).await)
}

/// The cluster that has let this node in; none if it founds one itself.
async fn find_cluster(
    shared: &Arc<Shared>,
    listeners: &Listeners,
) -> Result<Option<Box<Snapshot>>, StartError> {
    tokio::select! {
        found = founding::find_cluster(shared) => found,
        never = listeners.turn_away(shared) => match never {},
    }
}

/// Returns when the node is a member of the ring; meanwhile clients are turned away.
async fn wait_for_its_part(shared: &Arc<Shared>, listeners: &Listeners) -> Result<(), StartError> {
    tokio::select! {
        biased;
        () = shared.departure.wait() => return Err(StartError::Gone(shared.data.path.clone())),
        () = shared.wait_until_member() => {}
        never = listeners.turn_away(shared) => match never {},
    }
    tokio::select! {
        biased;
        () = shared.departure.wait() => Err(StartError::Gone(shared.data.path.clone())),
        () = listeners.hold_back(shared) => Ok(()),
    }
}

/// The name of the cluster that this node belongs to, or is to belong to.
fn cluster_name(
    config: &Config,
    data: &DataDirectory,
    metadata: &Metadata,
) -> Result<String, StartError> {
    let saved = data.identity.cluster.as_ref().map_or(&metadata.cluster_name, |known| &known.name);
    match &config.cluster_name {
        Some(name) if !saved.is_empty() && name != saved => Err(StartError::Data(format!(
            "the data directory {} belongs to cluster `{saved}`, and cluster_name says `{name}`",
            data.path.display()
        ))),
        _ if saved.is_empty() => Ok(config.cluster_name().to_owned()),
        _ => Ok(saved.clone()),
    }
}

/// Starts a thread for each shard, and waits until all are recovered; with the segments that their
/// logs have begun.
async fn start_shards(
    shared: &Arc<Shared>,
    receivers: Vec<Receiver<Message>>,
    snapshot: Snapshot,
) -> Result<(Vec<Task>, Vec<u64>), StartError> {
    let mut tasks = Vec::new();
    let mut started = Vec::new();
    let mut snapshot = Some(snapshot);
    for (index, messages) in (0_u16..).zip(receivers) {
        let (ready, is_ready) = oneshot::channel();
        let (shared_of_shard, snapshot) = (shared.clone(), snapshot.take());
        let body = move || async move {
            match shard::start(index, shared_of_shard, snapshot).await {
                Ok(shard) => {
                    ready.send(Ok(shard.log_segment())).ok();
                    shard.run(messages).await;
                }
                Err(error) => {
                    ready.send(Err(error.to_string())).ok();
                }
            }
        };
        let task = shared
            .env
            .tasks
            .spawn_shard(&format!("shard-{index}"), Some(usize::from(index)), body)
            .map_err(StartError::Thread)?;
        tasks.push(task);
        started.push(is_ready);
    }
    let mut log_segments = Vec::new();
    for (index, is_ready) in (0_u16..).zip(started) {
        match is_ready.await {
            Ok(Ok(log_segment)) => log_segments.push(log_segment),
            Ok(Err(reason)) => return Err(StartError::Shard(index, reason)),
            Err(_) => return Err(StartError::Shard(index, "the thread died".to_owned())),
        }
    }
    Ok((tasks, log_segments))
}

/// Starts the thread of changefeeds.
fn start_feeds(shared: &Arc<Shared>) -> Result<(Task, oneshot::Sender<()>), StartError> {
    let (end, ended) = oneshot::channel();
    let of_thread = shared.clone();
    let body = move || crate::feeds::run(of_thread, ended);
    let task = shared.env.tasks.spawn_shard("feeds", None, body).map_err(StartError::Thread)?;
    Ok((task, end))
}

/// Listens, and says where; `key` names the port to the operator.
async fn bind(
    env: &Env,
    ip: IpAddr,
    port: u16,
    key: &'static str,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let address = SocketAddr::new(ip, port);
    let failed = |error| StartError::Listen(address, key, error);
    let listener = env.net.bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// The sockets that clients connect to.
struct Listeners {
    any_shard: TcpListener,
    shard_aware: TcpListener,
}

impl Listeners {
    /// Listens for clients and, as the second, for operators.
    async fn bind(shared: &Arc<Shared>) -> Result<(Listeners, TcpListener), StartError> {
        let config = &shared.config;
        let bind = |port, key| bind(&shared.env, config.address, port, key);
        let (any_shard, address) = bind(config.port, "native_transport_port").await?;
        shared.address.set(address).ok();
        let key = "native_shard_aware_transport_port";
        let (shard_aware, address) = bind(config.shard_aware_port, key).await?;
        shared.shard_aware_address.set(address).ok();
        let (http, address) = bind(config.http_port, "prometheus_port").await?;
        shared.http_address.set(address).ok();
        Ok((Listeners { any_shard, shard_aware }, http))
    }

    /// Ends every connection at once: who waits for its cluster may do so for long, and clients are
    /// better off with another node.
    async fn turn_away(&self, shared: &Shared) -> Infallible {
        loop {
            let accepted = tokio::select! {
                accepted = self.any_shard.accept() => accepted,
                accepted = self.shard_aware.accept() => accepted,
            };
            if accepted.is_err() {
                shared.env.clock.sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    /// Returns when clients may be let in. Those that come before wait for a moment, which mostly is
    /// enough, and are then sent away.
    async fn hold_back(&self, shared: &Shared) {
        let turn_away_later = async {
            shared.env.clock.sleep(CLIENT_WAIT).await;
            self.turn_away(shared).await
        };
        tokio::select! {
            () = shared.wait_for_metadata() => {}
            never = turn_away_later => match never {},
        }
    }

    /// Accepts from here on: in turn on the common port, by the client's port on the other.
    fn serve(self, shared: &Arc<Shared>) {
        let next = Rc::new(AtomicUsize::new(0));
        let shard_count = usize::from(shared.shard_count);
        let in_turn = move |_: SocketAddr| next.fetch_add(1, Ordering::Relaxed) % shard_count;
        tokio::task::spawn_local(accept(shared.clone(), self.any_shard, in_turn));
        let by_port = move |peer: SocketAddr| usize::from(peer.port()) % shard_count;
        tokio::task::spawn_local(accept(shared.clone(), self.shard_aware, by_port));
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, choose: impl Fn(SocketAddr) -> usize) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("a connection was not accepted: {error}");
                shared.env.clock.sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if shared.connection_count.load(Ordering::Relaxed) >= CONNECTIONS_MAX {
            tracing::warn!("{peer} is turned away: {CONNECTIONS_MAX} clients are connected");
            continue;
        }
        let Ok(stream) = stream.detach() else { continue };
        let message = Message::Connection(stream, peer);
        if shared.shards[choose(peer)].try_send(message).is_err() {
            tracing::warn!("{peer} is turned away: its shard has too much to do");
        }
    }
}
