//! Simulated nodes that support each other: each with a clock of its own and a disk that holds one
//! number, over a network that does as told.

use super::super::*;
use crate::ring::HostId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// One node.
pub(super) struct Node {
    /// Nothing while it is down.
    pub(super) liveness: Option<Liveness>,
    found: Option<Incarnation>,
    /// What its clock shows when true time begins.
    clock_start: u64,
    /// How fast its clock runs, in millionths of true time.
    clock_ppm: u64,
}

/// A message under way.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) from: u64,
    pub(super) to: u64,
    message: Message,
}

/// The nodes.
#[derive(Default)]
pub(super) struct Simulation {
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) network: Vec<Packet>,
    /// True time.
    pub(super) nanos: u64,
    /// What happened since it was last read.
    pub(super) trace: String,
    /// Epochs that are over: supporter, requester, epoch.
    over: BTreeSet<(u64, u64, Epoch)>,
    /// Those that a supporter has forgotten, until it votes again.
    forgotten: BTreeSet<(u64, u64, Epoch)>,
}

pub(super) fn host(id: u64) -> HostId {
    HostId(id.into())
}

fn number(host: HostId) -> u64 {
    host.0 as u64
}

impl Simulation {
    /// Adds a node that never ran, down.
    pub(super) fn add(&mut self, id: u64, clock_start: u64, clock_ppm: u64) {
        let node = Node { liveness: None, found: None, clock_start, clock_ppm };
        self.nodes.insert(id, node);
    }

    /// What a node's clock shows.
    pub(super) fn clock(&self, id: u64) -> MonotonicNanos {
        let node = &self.nodes[&id];
        let passed = u128::from(self.nanos) * u128::from(node.clock_ppm) / 1_000_000;
        MonotonicNanos(node.clock_start + passed as u64)
    }

    /// Starts a node, and saves its incarnation at once.
    pub(super) fn start(&mut self, id: u64) {
        let now = self.clock(id);
        let peers: Vec<u64> = self.nodes.keys().copied().filter(|&peer| peer != id).collect();
        let node = self.nodes.get_mut(&id).unwrap();
        let mut effects = Vec::new();
        let mut liveness = Liveness::start(node.found, now, &mut effects);
        let [Effect::SaveIncarnation(incarnation)] = effects[..] else {
            panic!("a start saves an incarnation, and nothing else");
        };
        node.found = Some(incarnation);
        liveness.incarnation_saved();
        for peer in peers {
            assert!(liveness.add_peer(host(peer), now));
        }
        node.liveness = Some(liveness);
        writeln!(self.trace, "{id} begins life {}", incarnation.0).unwrap();
    }

    pub(super) fn stop(&mut self, id: u64) {
        let peers: Vec<u64> = self.nodes.keys().copied().collect();
        if let Some(liveness) = self.nodes.get_mut(&id).unwrap().liveness.take() {
            let supported = |peer| Some((id, peer, liveness.supports(host(peer))?));
            self.forgotten.extend(peers.into_iter().filter_map(supported));
        }
    }

    /// Runs a node's timers.
    pub(super) fn tick(&mut self, id: u64) {
        let now = self.clock(id);
        self.act(id, |liveness, effects| liveness.tick(now, effects));
    }

    /// Hands over the packet at a position of the network.
    pub(super) fn deliver(&mut self, position: usize) {
        let Packet { from, to, message } = self.network.remove(position);
        let now = self.clock(to);
        self.act(to, |liveness, effects| liveness.receive(host(from), message, now, effects));
    }

    pub(super) fn act(&mut self, id: u64, act: impl FnOnce(&mut Liveness, &mut Vec<Effect>)) {
        let Some(liveness) = &mut self.nodes.get_mut(&id).unwrap().liveness else {
            return;
        };
        let mut effects = Vec::new();
        act(liveness, &mut effects);
        for effect in effects {
            match effect {
                Effect::SaveIncarnation(_) => panic!("an incarnation is saved at the start only"),
                Effect::Send { to, message } => {
                    let packet = Packet { from: id, to: number(to), message };
                    writeln!(self.trace, "{packet}").unwrap();
                    self.network.push(packet);
                }
                Effect::Withdrawn { from, epoch } => {
                    let from = number(from);
                    self.over.insert((id, from, epoch));
                    writeln!(self.trace, "{id} withdraws {} from {from}", show(epoch)).unwrap();
                }
                Effect::Gained { by, epoch } => {
                    let by = number(by);
                    writeln!(self.trace, "{id} is supported in {} by {by}", show(epoch)).unwrap();
                }
            }
        }
        let liveness = self.nodes[&id].liveness.as_ref();
        if liveness.is_some_and(Liveness::may_vote) {
            let forgotten = self.forgotten.iter().filter(|(supporter, ..)| *supporter == id);
            self.over.extend(forgotten);
        }
        self.check();
    }

    /// Whoever is relied on keeps to it: it supports that epoch and never ceased to, or was restarted
    /// and does not vote.
    pub(super) fn check(&self) {
        for (&requester, node) in &self.nodes {
            let Some(liveness) = &node.liveness else {
                continue;
            };
            for (&supporter, other) in &self.nodes {
                let now = self.clock(requester);
                let support = liveness.support_from(host(supporter)).filter(|s| s.until > now);
                let Some(support) = support else {
                    continue;
                };
                let key = (supporter, requester, support.epoch);
                assert!(!self.over.contains(&key), "{requester} relies on what {supporter} ended");
                let Some(other) = &other.liveness else {
                    continue;
                };
                let keeps = other.supports(host(requester)) == Some(support.epoch);
                assert!(keeps || !other.may_vote(), "{requester} relies on {supporter} in vain");
            }
        }
    }

    /// Who supports whom.
    pub(super) fn status(&self) -> String {
        let mut status = String::new();
        for (&id, node) in &self.nodes {
            let Some(liveness) = &node.liveness else {
                writeln!(status, "{id} is down").unwrap();
                continue;
            };
            let now = self.clock(id);
            let vote = if liveness.may_vote() { "votes" } else { "does not vote" };
            write!(status, "{id} {vote}").unwrap();
            for &peer in self.nodes.keys().filter(|&&peer| peer != id) {
                if let Some(epoch) = liveness.supports(host(peer)) {
                    write!(status, ", supports {peer} in {}", show(epoch)).unwrap();
                }
                if let Some(Support { epoch, until }) = liveness.support_from(host(peer)) {
                    let left = until.0.saturating_sub(now.0) / 1_000_000;
                    write!(status, ", relies on {peer} in {} for {left} ms", show(epoch)).unwrap();
                }
            }
            status.push('\n');
        }
        status
    }
}

fn show(epoch: Epoch) -> String {
    format!("{}.{}", epoch.incarnation.0, epoch.round)
}

impl std::fmt::Display for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}->{}: ", self.from, self.to)?;
        match self.message {
            Message::Request { epoch, supporter, .. } => {
                write!(f, "support {} of life {}?", show(epoch), supporter.0)
            }
            Message::Granted { epoch, .. } => write!(f, "granted {}", show(epoch)),
            Message::Refused { epoch, supporter } => {
                write!(f, "refused {} by life {}", show(epoch), supporter.0)
            }
        }
    }
}
