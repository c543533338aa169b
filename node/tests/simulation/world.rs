//! One node and its clients in turmoil: time, network and disk follow the seed.
//!
//! A test steps the world itself, so that it can cut the node's power between two steps, or let
//! the disk do it in the middle of one.

use crate::client::Home;
use crate::clients::{Clients, HasClients};
use crate::machine::{self, NodeState, PORT, START_MICROS};
use crate::trace::Trace;
use env::disk::{Disk, Survival};
use env::{Env, SimControl};
use node::CommitLogSync;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use turmoil::Sim;

const NODE: &str = "node";

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
    clients: Clients,
}

impl World {
    /// A world with a node that starts with the first step.
    pub(crate) fn new(seed: u64) -> World {
        World::with_sync(seed, CommitLogSync::Group)
    }

    /// A world whose node syncs its log so.
    pub(crate) fn with_sync(seed: u64, sync: CommitLogSync) -> World {
        let mut sim = machine::network(seed);
        let (env, control) = Env::simulated(seed, START_MICROS);
        let node = Rc::new(NodeState::default());
        let (host_env, host_control, state) = (env.clone(), control.clone(), node.clone());
        sim.host(NODE, move || {
            let config = machine::config(sync);
            machine::boot(seed, &host_env, config, &host_control, &state)
        });
        let address: IpAddr = sim.lookup(NODE);
        let home = Home {
            net: env.net,
            clock: env.clock.clone(),
            trace: Trace::default(),
            node: SocketAddr::new(address, PORT),
        };
        World { sim, control, disk: env.disk, seed, home, node, clients: Clients::apart() }
    }

    /// Where clients live.
    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// Runs everything for one tick; says why the node did not start.
    fn step_or_fail(&mut self) -> Result<(), String> {
        if let Err(error) = self.sim.step() {
            panic!("seed {}: {error}", self.seed);
        }
        self.node.start_error.take().map_or(Ok(()), Err)
    }

    /// The host of the client that was started last.
    pub(crate) fn newest_client(&self) -> String {
        self.clients.newest_host()
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

impl HasClients for World {
    fn parts(&mut self) -> (&mut Sim<'static>, &mut Clients) {
        (&mut self.sim, &mut self.clients)
    }

    fn step(&mut self) {
        if let Err(error) = self.step_or_fail() {
            panic!("seed {}: the node does not start: {error}", self.seed);
        }
    }
}
