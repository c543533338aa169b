//! Several nodes that form one cluster, and their clients, in turmoil: time, network and disks
//! follow the seed.
//!
//! Each node is a machine with a disk and a wall clock of its own. All of them start with the first
//! step and find each other by themselves.

use crate::client::Home;
use crate::clients::{Clients, HasClients, SHARED_HOST};
use crate::followed::Followed;
use crate::machine::{self, NodeState, PORT, START_MICROS};
use crate::trace::Trace;
use env::disk::Survival;
use env::{Clock, Env, Net, SimControl};
use node::{CommitLogSync, Config, Seed};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use turmoil::Sim;

/// What can be wrong between two nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// What they send each other is lost.
    BothWays,
    /// What the first sends is lost.
    OneWay,
    /// What they send each other arrives afterwards.
    Held,
}

/// What an operator asks of a node, over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub method: &'static str,
    pub path: String,
}

impl Order {
    pub(crate) fn get(path: &str) -> Order {
        Order { method: "GET", path: path.to_owned() }
    }

    pub(crate) fn post(path: &str) -> Order {
        Order { method: "POST", path: path.to_owned() }
    }
}

/// One node's machine.
#[derive(Debug)]
struct Machine {
    name: String,
    address: IpAddr,
    control: SimControl,
    state: Rc<NodeState>,
}

/// A simulation.
pub(crate) struct Cluster {
    sim: Sim<'static>,
    pub seed: u64,
    machines: Vec<Machine>,
    net: Net,
    clock: Clock,
    trace: Trace,
    clients: Clients,
}

impl Cluster {
    /// Machines whose nodes start with the first step, all at once.
    pub(crate) fn new(seed: u64, node_count: usize) -> Cluster {
        Cluster::with_unstarted(seed, node_count, 0)
    }

    /// The same, and behind them some that are not started.
    pub(crate) fn with_unstarted(seed: u64, started: usize, unstarted: usize) -> Cluster {
        let mut cluster = Cluster::of_machines(seed, started + unstarted);
        for node in started..started + unstarted {
            cluster.crash(node, Survival::Everything);
        }
        cluster
    }

    fn of_machines(seed: u64, node_count: usize) -> Cluster {
        let mut sim = machine::network(seed);
        let names: Vec<String> = (1..=node_count).map(|number| format!("node-{number}")).collect();
        let addresses: Vec<IpAddr> = names.iter().map(|name| sim.lookup(name.as_str())).collect();
        let seeds: Vec<Seed> = addresses.iter().take(2).map(seed_at).collect();
        let mut machines = Vec::new();
        for ((number, name), address) in (0..).zip(names).zip(addresses) {
            let own_seed = seed.wrapping_mul(16).wrapping_add(number);
            let (env, control) = Env::simulated(own_seed, START_MICROS);
            let state = Rc::new(NodeState::default());
            let (host_control, host_state, seeds) = (control.clone(), state.clone(), seeds.clone());
            sim.host(name.as_str(), move || {
                let config = Config {
                    broadcast_rpc_address: Some(address),
                    broadcast_address: Some(address),
                    seeds: seeds.clone(),
                    replaces: host_state.replaces.get(),
                    ..machine::config(CommitLogSync::Group)
                };
                machine::boot(own_seed, &env, config, &host_control, &host_state)
            });
            machines.push(Machine { name, address, control, state });
        }
        let (Env { net, clock, .. }, _) = Env::simulated(seed, START_MICROS);
        let clients = Clients::together(&mut sim);
        Cluster { sim, seed, machines, net, clock, trace: Trace::default(), clients }
    }

    /// Where a client of a node lives.
    pub(crate) fn home(&self, node: usize) -> Home {
        let (net, clock, trace) = (self.net, self.clock.clone(), self.trace.clone());
        let node = SocketAddr::new(self.machines[node].address, PORT);
        Home { net, clock, trace, node }
    }

    /// The same for every node.
    pub(crate) fn homes(&self) -> Vec<Home> {
        (0..self.machines.len()).map(|node| self.home(node)).collect()
    }

    /// Where a node lives.
    pub(crate) fn address(&self, node: usize) -> IpAddr {
        self.machines[node].address
    }

    /// Where all clients live.
    pub(crate) fn address_of_clients(&self) -> IpAddr {
        self.sim.lookup(SHARED_HOST)
    }

    /// Whether a node serves clients.
    pub(crate) fn is_serving(&self, node: usize) -> bool {
        self.machines[node].state.is_serving.get()
    }

    /// Starts a node that is to refuse; why it does.
    pub(crate) fn refuses_to_start(&mut self, node: usize) -> String {
        self.restart(node);
        loop {
            self.sim.step().expect("no client fails");
            if let Some(error) = self.machines[node].state.start_error.take() {
                let name = self.machines[node].name.clone();
                self.sim.crash(name.as_str());
                return error;
            }
        }
    }

    /// Why a node has ended, if that was by itself.
    pub(crate) fn end_error(&self, node: usize) -> Option<String> {
        self.machines[node].state.end_error.take()
    }

    /// Has a node that was never started take the place of a dead one.
    pub(crate) fn replace_by(&self, node: usize, dead: u128) {
        self.machines[node].state.replaces.set(Some(dead));
    }

    /// Whether a node has ended because it is a member no more.
    pub(crate) fn has_gone(&self, node: usize) -> bool {
        self.machines[node].state.has_gone.get()
    }

    /// Has a node's operator ask it for something until it has said that it is done, in place of
    /// what was asked before.
    pub(crate) fn order(&self, node: usize, order: &Order) {
        self.machines[node].state.operator.give(order.clone());
    }

    /// A node's operator asks it for nothing any more.
    pub(crate) fn forget_order(&self, node: usize) {
        self.machines[node].state.operator.forget();
    }

    /// Whether what was asked for is done.
    pub(crate) fn is_done(&self, node: usize) -> bool {
        self.machines[node].state.operator.is_done()
    }

    /// The status and text of a node's last answer to its operator.
    pub(crate) fn answer(&self, node: usize) -> Option<(u16, String)> {
        self.machines[node].state.operator.answer()
    }

    /// Ends a node where it stands; its disk keeps what survives. Nothing if it is down.
    pub(crate) fn crash(&mut self, node: usize, survival: Survival) {
        let Machine { name, control, state, .. } = &self.machines[node];
        if !self.sim.is_host_running(name.as_str()) {
            return;
        }
        control.disk.power_off();
        self.sim.crash(name.as_str());
        control.disk.restart(survival);
        state.is_serving.set(false);
        state.thaw();
    }

    /// Starts a node that is down; nothing if it is not.
    pub(crate) fn restart(&mut self, node: usize) {
        let name = self.machines[node].name.as_str();
        if !self.sim.is_host_running(name) {
            self.sim.bounce(name);
        }
    }

    /// Stops a node's process where it stands; it goes on when it is thawed.
    pub(crate) fn freeze(&self, node: usize) {
        self.machines[node].state.freeze();
    }

    /// Lets a node go on that was frozen.
    pub(crate) fn thaw(&self, node: usize) {
        self.machines[node].state.thaw();
    }

    /// Whatever a node does with its disk takes so much longer from now on.
    pub(crate) fn slow_disk(&self, node: usize, delay: Duration) {
        self.machines[node].control.tasks.set_disk_delay(delay);
    }

    /// A node's disk takes nothing any more, until the node has crashed.
    pub(crate) fn fail_disk(&self, node: usize) {
        self.machines[node].control.disk.fail_writes();
    }

    /// Breaks what is between two nodes.
    pub(crate) fn cut(&self, one: usize, other: usize, cut: Cut) {
        let (one, other) = (&*self.machines[one].name, &*self.machines[other].name);
        match cut {
            Cut::BothWays => self.sim.partition(one, other),
            Cut::OneWay => self.sim.partition_oneway(one, other),
            Cut::Held => self.sim.hold(one, other),
        }
    }

    /// Mends it again.
    pub(crate) fn mend(&self, one: usize, other: usize, cut: Cut) {
        let (one, other) = (&*self.machines[one].name, &*self.machines[other].name);
        match cut {
            Cut::BothWays => self.sim.repair(one, other),
            Cut::OneWay => self.sim.repair_oneway(one, other),
            Cut::Held => self.sim.release(one, other),
        }
    }

    /// Somebody sets a node's wall clock.
    pub(crate) fn jump_wall(&self, node: usize, micros: i64) {
        self.machines[node].control.clock.jump_wall(micros);
    }

    /// Has a node follow the log of these tables of keyspace `ks`, once they are there.
    pub(crate) fn follow(&self, node: usize, tables: &[&'static str]) {
        *self.followed(node).tables.borrow_mut() = tables.to_vec();
    }

    /// What was heard of the log on a node.
    pub(crate) fn followed(&self, node: usize) -> &Followed {
        &self.machines[node].state.followed
    }

    /// Everything that clients saw, and last what the disks hold.
    pub(crate) fn history(&self) -> Vec<String> {
        let mut lines = self.trace.lines();
        for Machine { name, control, .. } in &self.machines {
            lines.push(format!("{name} {:016x}", control.disk.fingerprint()));
        }
        lines
    }
}

impl HasClients for Cluster {
    fn parts(&mut self) -> (&mut Sim<'static>, &mut Clients) {
        (&mut self.sim, &mut self.clients)
    }

    fn step(&mut self) {
        if let Err(error) = self.sim.step() {
            panic!("seed {}: {error}", self.seed);
        }
        for machine in &self.machines {
            if let Some(error) = machine.state.start_error.take() {
                panic!("seed {}: {} does not start: {error}", self.seed, machine.name);
            }
        }
    }
}

fn seed_at(address: &IpAddr) -> Seed {
    Seed { host: address.to_string(), port: None }
}
