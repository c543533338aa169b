//! One node and its clients in turmoil: time, network and disk follow the seed.
//!
//! A test steps the world itself, so that it can cut the node's power between two steps, or let
//! the disk do it in the middle of one.

use crate::client::Home;
use crate::trace::Trace;
use env::disk::{Disk, Survival};
use env::{EntropySource, Env, SimControl};
use node::{CommitLogSync, Config, LogFormat, Node};
use std::cell::{Cell, RefCell};
use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};
use turmoil::Sim;

/// The wall clock when a simulation begins.
pub(crate) const START_MICROS: i64 = 1_800_000_000_000_000;
/// Simulated time after which a run counts as stuck.
const RUN_SECONDS_MAX: u64 = 3_600;
/// Segments that a simulated connection holds.
const TCP_SEGMENTS_MAX: usize = 65_536;
const SHARDS: u16 = 2;
pub(crate) const PORT: u16 = 9042;
/// Little, so that memtables are written out and merged all the time.
const MEMORY_BYTES: usize = 256 << 10;
const NODE: &str = "node";

/// What a node's host says of itself.
#[derive(Debug, Default)]
pub(crate) struct NodeState {
    pub boots: Cell<u64>,
    pub is_serving: Cell<bool>,
    is_to_stop: Cell<bool>,
    has_stopped: Cell<bool>,
    /// Why it did not start.
    pub start_error: RefCell<Option<String>>,
}

/// What can be wrong between a client and the node.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LinkFault {
    /// What is sent is lost, so connections are dead afterwards.
    Cut,
    /// The same, of what the client sends.
    CutToNode,
    /// The same, of what the node sends.
    CutFromNode,
    /// What is sent arrives afterwards.
    Held,
}

impl LinkFault {
    pub(crate) const ALL: [LinkFault; 4] =
        [LinkFault::Cut, LinkFault::CutToNode, LinkFault::CutFromNode, LinkFault::Held];
}

/// A simulation.
pub(crate) struct World {
    sim: Sim<'static>,
    pub control: SimControl,
    pub disk: Disk,
    pub seed: u64,
    home: Home,
    node: Rc<NodeState>,
    clients: u64,
}

impl World {
    /// A world with a node that starts with the first step.
    pub(crate) fn new(seed: u64) -> World {
        World::with_sync(seed, CommitLogSync::Group)
    }

    /// A world whose node syncs its log so.
    pub(crate) fn with_sync(seed: u64, sync: CommitLogSync) -> World {
        let mut sim = simulation(seed);
        let (env, control) = Env::simulated(seed, START_MICROS);
        let node = Rc::new(NodeState::default());
        let (host, host_env, host_control) = (node.clone(), env.clone(), control.clone());
        sim.host(NODE, move || {
            let boot = host.boots.get();
            host.boots.set(boot + 1);
            let mut env = host_env.clone();
            // A machine that starts again does not draw its old random numbers.
            env.entropy = EntropySource::simulated(seed.wrapping_mul(1_000) + boot);
            run_node(env, config(sync), host_control.clone(), host.clone())
        });
        let address: IpAddr = sim.lookup(NODE);
        let home = Home {
            net: env.net,
            clock: env.clock.clone(),
            trace: Trace::default(),
            node: SocketAddr::new(address, PORT),
        };
        World { sim, control, disk: env.disk, seed, home, node, clients: 0 }
    }

    /// Where clients live.
    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// Lets a client begin with the next step; its result is there when it is done.
    pub(crate) fn start<T: 'static>(
        &mut self,
        client: impl Future<Output = T> + 'static,
    ) -> Rc<RefCell<Option<T>>> {
        let slot = Rc::new(RefCell::new(None));
        let result = slot.clone();
        self.clients += 1;
        self.sim.client(format!("client-{}", self.clients), async move {
            let value = client.await;
            *result.borrow_mut() = Some(value);
            Ok(())
        });
        slot
    }

    /// Runs a client to its end.
    pub(crate) fn run<T: 'static>(&mut self, client: impl Future<Output = T> + 'static) -> T {
        let slot = self.start(client);
        loop {
            if let Some(value) = slot.borrow_mut().take() {
                return value;
            }
            self.step();
        }
    }

    /// Runs everything for one tick. Panics when the node or a client failed.
    pub(crate) fn step(&mut self) {
        if let Err(error) = self.step_or_fail() {
            panic!("seed {}: the node does not start: {error}", self.seed);
        }
    }

    /// The same; says why the node did not start.
    fn step_or_fail(&mut self) -> Result<(), String> {
        if let Err(error) = self.sim.step() {
            panic!("seed {}: {error}", self.seed);
        }
        self.node.start_error.take().map_or(Ok(()), Err)
    }

    /// The host of the client that was started last.
    pub(crate) fn newest_client(&self) -> String {
        format!("client-{}", self.clients)
    }

    /// Breaks what is between a client's host and the node.
    pub(crate) fn break_link(&self, client: &str, fault: LinkFault) {
        match fault {
            LinkFault::Cut => self.sim.partition(client, NODE),
            LinkFault::CutToNode => self.sim.partition_oneway(client, NODE),
            LinkFault::CutFromNode => self.sim.partition_oneway(NODE, client),
            LinkFault::Held => self.sim.hold(client, NODE),
        }
    }

    /// Mends it again.
    pub(crate) fn mend_link(&self, client: &str, fault: LinkFault) {
        match fault {
            LinkFault::Cut => self.sim.repair(client, NODE),
            LinkFault::CutToNode => self.sim.repair_oneway(client, NODE),
            LinkFault::CutFromNode => self.sim.repair_oneway(NODE, client),
            LinkFault::Held => self.sim.release(client, NODE),
        }
    }

    /// Whether the node serves clients.
    pub(crate) fn is_serving(&self) -> bool {
        self.node.is_serving.get()
    }

    /// Cuts the power now, and starts the machine again on what is left.
    pub(crate) fn cut_power(&mut self, survival: Survival) {
        self.control.disk.power_off();
        self.crash_node(survival);
        self.start_node();
    }

    /// Stops the node in order, and starts it again. The disk keeps only what was synced.
    pub(crate) fn restart_in_order(&mut self) {
        self.stop_in_order(Survival::SyncedOnly);
        self.start_node();
    }

    /// Stops the node in order; it stays down.
    pub(crate) fn stop_in_order(&mut self, survival: Survival) {
        while !self.is_serving() {
            self.step();
        }
        self.node.is_to_stop.set(true);
        while !self.node.has_stopped.get() {
            self.step();
        }
        self.crash_node(survival);
    }

    /// How often the node was started.
    pub(crate) fn boots(&self) -> u64 {
        self.node.boots.get()
    }

    /// Ends the node where it stands, and leaves the disk with what survives.
    pub(crate) fn crash_node(&mut self, survival: Survival) {
        self.sim.crash(NODE);
        self.control.disk.restart(survival);
        self.node.is_serving.set(false);
        self.node.is_to_stop.set(false);
        self.node.has_stopped.set(false);
    }

    /// Starts a node that is down.
    pub(crate) fn start_node(&mut self) {
        self.sim.bounce(NODE);
    }

    /// Waits until the node serves, or says why it did not start.
    pub(crate) fn wait_for_start(&mut self) -> Result<(), String> {
        while !self.is_serving() {
            self.step_or_fail()?;
        }
        Ok(())
    }
}

/// Time and network, without anybody yet.
pub(crate) fn simulation(seed: u64) -> Sim<'static> {
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

/// A node's life on its host, from one start to the end.
pub(crate) async fn run_node(
    env: Env,
    config: Config,
    control: SimControl,
    state: Rc<NodeState>,
) -> turmoil::Result {
    let clock = env.clock.clone();
    let node = match Node::start(env, config).await {
        Ok(node) => node,
        // The power went while it started: the test starts it again.
        Err(_) if control.disk.is_off() => return pending().await,
        Err(error) => {
            *state.start_error.borrow_mut() = Some(error.to_string());
            return pending().await;
        }
    };
    state.is_serving.set(true);
    while !state.is_to_stop.get() {
        clock.sleep(Duration::from_millis(1)).await;
    }
    node.stop().await;
    state.has_stopped.set(true);
    pending().await
}

/// A node that founds a cluster.
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
        shard_count: Some(SHARDS),
        core_count: usize::from(SHARDS),
        memory_bytes: MEMORY_BYTES,
        commitlog_sync,
        log_format: LogFormat::Text,
        init_scripts: None,
        init_scripts_node_count: None,
    }
}
