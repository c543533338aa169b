//! A simulated machine: a node on a disk and clocks of its own, that is started again after a crash,
//! and can be frozen as SIGSTOP freezes a process: time goes on, what is sent to it arrives, and
//! nothing in it runs.

use crate::followed::Followed;
use crate::operator::Operator;
use env::{EntropySource, Env, SimControl};
use node::{CommitLogSync, Config, Limits, LogFormat, Node, StartError, Webhooks};
use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, UNIX_EPOCH};
use tokio::task::LocalSet;
use turmoil::Sim;

/// The wall clock when a simulation begins.
pub(crate) const START_MICROS: i64 = 1_800_000_000_000_000;
pub(crate) const PORT: u16 = 9042;
/// Simulated time after which a run counts as stuck.
const RUN_SECONDS_MAX: u64 = 3_600;
/// Segments that a simulated connection holds.
const TCP_SEGMENTS_MAX: usize = 65_536;
/// How long a node that has left goes on, so that others hear the last of it.
const FAREWELL: Duration = Duration::from_secs(2);
const SHARDS: u16 = 2;
/// Little, so that memtables are written out and merged all the time.
const MEMORY_BYTES: usize = 256 << 10;

/// What the node's host says of itself.
#[derive(Debug, Default)]
pub(crate) struct NodeState {
    pub boots: Cell<u64>,
    pub is_serving: Cell<bool>,
    pub is_to_stop: Cell<bool>,
    pub has_stopped: Cell<bool>,
    /// It is a member no more, and has ended.
    pub has_gone: Cell<bool>,
    pub operator: Operator,
    /// The dead node whose place it takes.
    pub replaces: Cell<Option<u128>>,
    /// What is followed of the log on this node.
    pub followed: Followed,
    /// Why it did not start.
    pub start_error: RefCell<Option<String>>,
    /// Why it ended by itself.
    pub end_error: RefCell<Option<String>>,
    is_frozen: Cell<bool>,
    /// Whoever polls a node that is frozen.
    thaws: RefCell<Option<Waker>>,
}

impl NodeState {
    /// Nothing in the node runs from now on.
    pub(crate) fn freeze(&self) {
        self.is_frozen.set(true);
    }

    /// It goes on where it stood, and finds that time has passed.
    pub(crate) fn thaw(&self) {
        self.is_frozen.set(false);
        if let Some(waker) = self.thaws.take() {
            waker.wake();
        }
    }

    /// Runs a node with all its tasks, but for the times when it is frozen. When it ends, so do they.
    async fn run(&self, node: impl Future<Output = ()> + 'static) {
        let tasks = LocalSet::new();
        let node = tasks.spawn_local(node);
        let mut running = pin!(tasks.run_until(node));
        let ended = poll_fn(|context| {
            if self.is_frozen.get() {
                *self.thaws.borrow_mut() = Some(context.waker().clone());
                return Poll::Pending;
            }
            running.as_mut().poll(context)
        });
        ended.await.expect("nobody aborts it");
    }
}

/// A network without machines.
pub(crate) fn network(seed: u64) -> Sim<'static> {
    turmoil::Builder::new()
        .rng_seed(seed)
        .epoch(UNIX_EPOCH + Duration::from_micros(START_MICROS as u64))
        .simulation_duration(Duration::from_secs(RUN_SECONDS_MAX))
        .min_message_latency(Duration::from_micros(100))
        .max_message_latency(Duration::from_millis(3))
        .tcp_capacity(TCP_SEGMENTS_MAX)
        .enable_random_order()
        .build()
}

/// Starts the node of a machine, as often as the machine is.
pub(crate) fn boot(
    seed: u64,
    env: &Env,
    config: Config,
    control: &SimControl,
    state: &Rc<NodeState>,
) -> impl Future<Output = turmoil::Result> + use<> {
    let boot = state.boots.get();
    state.boots.set(boot + 1);
    let mut env = env.clone();
    // A machine that starts again does not draw its old random numbers.
    env.entropy = EntropySource::simulated(seed.wrapping_mul(1_000) + boot);
    let (control, state) = (control.clone(), state.clone());
    async move {
        state.clone().run(run_node(env, config, control, state)).await;
        // The machine goes on.
        pending().await
    }
}

async fn run_node(env: Env, config: Config, control: SimControl, state: Rc<NodeState>) {
    let (clock, net) = (env.clock.clone(), env.net);
    let node = match Node::start(env, config).await {
        Ok(node) => node,
        // The power went while it started, or the disk failed: the test starts it again.
        Err(_) if control.disk.is_off() || control.disk.writes_fail() => return,
        Err(StartError::Gone(_)) => return state.has_gone.set(true),
        Err(error) => return *state.start_error.borrow_mut() = Some(error.to_string()),
    };
    state.is_serving.set(true);
    let is_to_stop = async {
        while !state.is_to_stop.get() {
            clock.sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        biased;
        () = is_to_stop => {}
        () = node.gone() => clock.sleep(FAREWELL).await,
        error = node.must_end() => {
            *state.end_error.borrow_mut() = Some(error.to_string());
            return state.is_serving.set(false);
        }
        () = state.followed.run(&node, &clock) => {}
        () = state.operator.work(net, &clock) => {}
    }
    let has_gone = !state.is_to_stop.get();
    node.stop().await;
    state.has_stopped.set(true);
    state.has_gone.set(has_gone);
}

/// What an operator chose for a node that founds a cluster of its own.
pub(crate) fn config(commitlog_sync: CommitLogSync) -> Config {
    Config {
        cluster_name: Some("simulation".to_owned()),
        data_center: "datacenter1".to_owned(),
        rack: "rack1".to_owned(),
        data_dir: PathBuf::from("/data"),
        address: IpAddr::from([0, 0, 0, 0]),
        broadcast_rpc_address: None,
        listen_address: None,
        broadcast_address: None,
        storage_port: 7000,
        seeds: Vec::new(),
        port: PORT,
        shard_aware_port: 19042,
        http_port: 9180,
        token_count: 16,
        replaces: None,
        shard_count: Some(SHARDS),
        core_count: usize::from(SHARDS),
        memory_bytes: MEMORY_BYTES,
        commitlog_sync,
        log_format: LogFormat::Text,
        init_scripts: None,
        init_scripts_node_count: None,
        limits: Limits::default(),
        webhooks: Webhooks {
            allow_http: true,
            allow_private_addresses: true,
            certificate_authorities: None,
        },
    }
}
