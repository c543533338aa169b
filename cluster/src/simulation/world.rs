//! The nodes, the network between them, and true time.

use super::disk::{Disk, Replica};
use super::local::GroupLog;
use super::network::{Network, Packet};
use super::node::{Context, Node, host};
use super::oracle::Oracle;
use crate::consensus::{LogIndex, Membership};
use crate::liveness::DRIFT_PPM;
use crate::placement::GroupId;
use crate::random::Random;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A simulated cluster.
pub(super) struct World {
    /// True time.
    pub(super) nanos: u64,
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) groups: Vec<GroupId>,
    pub(super) network: Network,
    pub(super) oracle: Oracle,
    pub(super) random: Random,
    /// How many of a hundred chances to finish a write a disk takes.
    pub(super) disk_speed: u64,
    written_count: u64,
}

impl World {
    /// `node_count` nodes that start now, and groups of `voter_count` of them each.
    pub(super) fn new(seed: u64, node_count: u64, group_count: u64, voter_count: u64) -> World {
        let mut random = Random(seed);
        let mut nodes = BTreeMap::new();
        let groups: Vec<GroupId> = (1..=group_count).map(GroupId).collect();
        for id in 1..=node_count {
            let drift = [1_000_000 - DRIFT_PPM, 1_000_000, 1_000_000 + DRIFT_PPM];
            let node = Node {
                id,
                clock_start: random.below(1 << 50),
                clock_ppm: drift[random.below(3) as usize],
                wall_offset: random.below(400_000) as i64 - 200_000,
                paused_until: 0,
                disk: Disk::default(),
                log_bytes_max: None,
                looks_after_followers: true,
                up: None,
            };
            nodes.insert(id, node);
        }
        for &group in &groups {
            let first = random.below(node_count);
            let voters = (0..voter_count).map(|i| host(1 + (first + i) % node_count));
            let members = Arc::new(Membership::of_voters(voters));
            for node in nodes.values_mut() {
                node.disk.replicas.insert(group, Replica::new(members.clone()));
            }
        }
        let (network, oracle) = (Network::default(), Oracle::default());
        let (nanos, disk_speed, written_count) = (0, 100, 0);
        let mut world =
            World { nanos, nodes, groups, network, oracle, random, disk_speed, written_count };
        (1..=node_count).for_each(|id| world.start(id));
        world
    }

    /// Nodes whose clocks all show true time, with one group of the first `voter_count` of them.
    pub(super) fn in_step(node_count: u64, voter_count: u64) -> World {
        let mut world = World::new(0, node_count, 0, 0);
        let group = GroupId(1);
        let members = Arc::new(Membership::of_voters((1..=voter_count).map(host)));
        world.groups.push(group);
        for node in world.nodes.values_mut() {
            (node.clock_start, node.clock_ppm, node.wall_offset) = (0, 1_000_000, 0);
            node.disk = Disk::default();
            node.disk.replicas.insert(group, Replica::new(members.clone()));
        }
        (1..=node_count).for_each(|id| world.start(id));
        world
    }

    pub(super) fn start(&mut self, id: u64) {
        let peers: Vec<u64> = self.nodes.keys().copied().collect();
        let node = self.nodes.get_mut(&id).unwrap();
        let now = node.clock(self.nanos);
        node.start(&peers, now);
    }

    /// Has a node act, if it is up and not paused.
    pub(super) fn with<T: Default>(
        &mut self,
        id: u64,
        act: impl FnOnce(&mut Node, &mut Context) -> T,
    ) -> T {
        let node = self.nodes.get_mut(&id).unwrap();
        if node.up.is_none() || node.paused_until > self.nanos {
            return T::default();
        }
        let mut out = Vec::new();
        let (now, wall) = (node.clock(self.nanos), node.wall(self.nanos));
        let result = act(node, &mut Context { now, wall, oracle: &mut self.oracle, out: &mut out });
        for packet in out {
            self.network.send(&packet, self.nanos, &mut self.random);
        }
        result
    }

    /// Lets true time pass, and everybody do what is due by then.
    pub(super) fn pass(&mut self, nanos: u64) {
        let before = self.nanos;
        self.nanos += nanos;
        // One that went on meanwhile may do what it was about to before it hears anything.
        let went_on = self
            .nodes
            .values()
            .filter(|node| node.paused_until > before && node.paused_until <= self.nanos);
        for id in went_on.map(|node| node.id).collect::<Vec<_>>() {
            self.with(id, Node::run);
        }
        let mut held = Vec::new();
        while let Some(packet) = self.network.next_arrived(self.nanos) {
            self.arrive(packet, &mut held);
        }
        for packet in held {
            self.network.hold(packet, self.nanos);
        }
        let ids: Vec<u64> = self.nodes.keys().copied().collect();
        for &id in &ids {
            let mut budget = self.random.below(40);
            while budget > 0 && self.random.below(100) < self.disk_speed {
                budget -= 1;
                if !self.with(id, Node::sync_one) {
                    break;
                }
            }
            self.with(id, Node::run);
        }
        self.check_leases();
    }

    fn arrive(&mut self, packet: Packet, held: &mut Vec<Packet>) {
        let node = &self.nodes[&packet.to];
        if node.up.is_some() && node.paused_until > self.nanos {
            held.push(packet);
            return;
        }
        self.with(packet.to, |node, context| node.receive(packet, context));
    }

    /// A client sends a read to a node, paused or not.
    pub(super) fn request_read(&mut self, id: u64, group: GroupId) {
        let node = self.nodes.get_mut(&id).unwrap();
        node.request_read(group, &mut self.oracle);
    }

    /// A value that was never written.
    pub(super) fn next_value(&mut self) -> u64 {
        self.written_count += 1;
        self.written_count
    }

    /// At most one member of a group has a lease, paused ones included.
    fn check_leases(&mut self) {
        for &group in &self.groups {
            let mut holders = Vec::new();
            for node in self.nodes.values() {
                let Some(up) = &node.up else { continue };
                let until = up.replicas.lease_until(group, &up.liveness);
                if until.is_some_and(|until| until > node.clock(self.nanos)) {
                    holders.push(node.id);
                }
            }
            self.oracle.leases(group, &holders);
        }
    }

    /// Logs that hold the same entry are the same up to there.
    pub(super) fn check_logs(&self) {
        let ups: Vec<_> = self.nodes.values().filter_map(|node| node.up.as_ref()).collect();
        for up in &ups {
            up.replicas.check_invariants();
        }
        for group in &self.groups {
            let logs: Vec<_> = ups.iter().map(|up| up.log.of(*group)).collect();
            for (position, one) in logs.iter().enumerate() {
                for other in &logs[position + 1..] {
                    check_logs_match(one, other);
                }
            }
        }
    }
}

fn check_logs_match(one: &GroupLog, other: &GroupLog) {
    let start: LogIndex = one.base.max(other.base);
    let part = |log: &GroupLog| (start.0 - log.base.0) as usize;
    let one = one.entries.get(part(one)..).unwrap_or_default();
    let other = other.entries.get(part(other)..).unwrap_or_default();
    let shared = one.iter().zip(other).rposition(|(a, b)| a.header.term == b.header.term);
    if let Some(last) = shared {
        assert_eq!(one[..=last], other[..=last], "log matching");
    }
}
