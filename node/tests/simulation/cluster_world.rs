//! Several nodes with disks of their own in turmoil: each can lose its power, and what is between
//! two of them can be cut.

use crate::client::Home;
use crate::trace::Trace;
use crate::world::{NodeState, PORT, START_MICROS, config, run_node, simulation};
use env::disk::Survival;
use env::{EntropySource, Env, SimControl};
use node::{CommitLogSync, Config, Seed};
use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use turmoil::Sim;

/// A simulation.
pub(crate) struct ClusterWorld {
    sim: Sim<'static>,
    pub seed: u64,
    nodes: Vec<SimNode>,
    clients: u64,
}

struct SimNode {
    name: String,
    control: SimControl,
    state: Rc<NodeState>,
    home: Home,
}

impl ClusterWorld {
    /// A world with nodes that have the same seeds and start with the first step.
    pub(crate) fn new(seed: u64, count: u64) -> ClusterWorld {
        let mut sim = simulation(seed);
        let names: Vec<String> = (0..count).map(|number| format!("node-{number}")).collect();
        let addresses: Vec<IpAddr> = names.iter().map(|name| sim.lookup(name.as_str())).collect();
        let seeds: Vec<Seed> = addresses
            .iter()
            .map(|address| Seed { host: address.to_string(), port: None })
            .collect();
        let trace = Trace::default();
        let mut nodes = Vec::new();
        for ((number, name), address) in (0..).zip(names).zip(addresses) {
            // Nodes need seeds that differ, also from those of other worlds' nodes.
            let own_seed = seed.wrapping_mul(count).wrapping_add(number);
            let (env, control) = Env::simulated(own_seed, START_MICROS);
            let state = Rc::new(NodeState::default());
            let home = Home {
                net: env.net,
                clock: env.clock.clone(),
                trace: trace.clone(),
                node: SocketAddr::new(address, PORT),
            };
            let config = Config {
                seeds: seeds.clone(),
                broadcast_address: Some(address),
                broadcast_rpc_address: Some(address),
                ..config(CommitLogSync::Group)
            };
            let (host, host_control) = (state.clone(), control.clone());
            sim.host(name.as_str(), move || {
                let boot = host.boots.get();
                host.boots.set(boot + 1);
                let mut env = env.clone();
                // A machine that starts again does not draw its old random numbers.
                let draw = own_seed.wrapping_mul(1_000).wrapping_add(boot);
                env.entropy = EntropySource::simulated(draw);
                run_node(env, config.clone(), host_control.clone(), host.clone())
            });
            nodes.push(SimNode { name, control, state, home });
        }
        ClusterWorld { sim, seed, nodes, clients: 0 }
    }

    /// Where clients of a node live.
    pub(crate) fn home(&self, node: usize) -> Home {
        self.nodes[node].home.clone()
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

    /// Runs everything for some ticks. Panics when a node or a client failed.
    pub(crate) fn steps(&mut self, count: u64) {
        for _ in 0..count {
            self.step();
        }
    }

    fn step(&mut self) {
        if let Err(error) = self.sim.step() {
            panic!("seed {}: {error}", self.seed);
        }
        for node in &self.nodes {
            if let Some(error) = node.state.start_error.take() {
                panic!("seed {}: {} does not start: {error}", self.seed, node.name);
            }
        }
    }

    /// Cuts a node's power now, and starts the machine again on what is left.
    pub(crate) fn cut_power(&mut self, node: usize, survival: Survival) {
        let SimNode { name, control, state, .. } = &self.nodes[node];
        control.disk.power_off();
        self.sim.crash(name.as_str());
        control.disk.restart(survival);
        state.is_serving.set(false);
        self.sim.bounce(name.as_str());
    }

    /// What two nodes send each other is lost from here on.
    pub(crate) fn part(&self, one: usize, other: usize) {
        self.sim.partition(&*self.nodes[one].name, &*self.nodes[other].name);
    }

    /// It arrives again.
    pub(crate) fn mend(&self, one: usize, other: usize) {
        self.sim.repair(&*self.nodes[one].name, &*self.nodes[other].name);
    }
}
