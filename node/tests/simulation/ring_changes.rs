//! The ring changes while clients work, nodes are killed and cut off from each other: a node joins, or
//! takes the place of one that died; another leaves, or dies and is removed. Some of that is withdrawn
//! in the middle, and who joins may die for good. What the [`workload`](crate::workload) promises holds
//! meanwhile and on the ring that is left, which is the one that was asked for.

use crate::clients::HasClients;
use crate::cluster::{Cluster, Order};
use crate::faults::{Fault, inflict};
use crate::followed;
use crate::joining::wait_for_members_of;
use crate::seeds;
use crate::workload::{FOLLOWED, PATIENCE, Workload};
use env::disk::Survival;
use env::{Entropy, EntropySource};
use serde_json::Value;
use std::collections::BTreeSet;

/// Those that found the cluster, and the one that joins.
const FOUNDERS: usize = 3;
const JOINING: usize = FOUNDERS;
/// Ticks between two faults, and while one lasts, at most; a tick is a millisecond.
const QUIET_TICKS_MAX: u64 = 3_000;
const FAULT_TICKS_MAX: u64 = 3_000;
/// Faults while the ring changes; after them it has to come to its end.
const FAULTS_MAX: u64 = 4;
const FAULTS: [Fault; 7] = [
    Fault::Kill,
    Fault::PowerCut,
    Fault::PowerCutOfAll,
    Fault::Isolate,
    Fault::Part,
    Fault::Pause,
    Fault::Quiet,
];
/// How far ahead a generation is announced: further than anybody is cut off.
const GENERATION_AHEAD_MILLIS: u64 = 60_000;

/// What a removal hears that would leave less than a majority of some replicas, and after how long it
/// is clear that nobody is on the way back.
const NO_MAJORITY: &str = "bring their nodes back first";
const REFUSED_TICKS: u64 = 20_000;

/// A cluster whose ring changes.
struct Changing {
    cluster: Cluster,
    entropy: Entropy,
    /// Nodes that are meant to run.
    running: BTreeSet<usize>,
    /// Nodes that are members, or are to be.
    members: BTreeSet<usize>,
    /// It is never killed for good, and follows the log.
    stayer: usize,
    /// Copies of the data.
    factor: usize,
}

impl Changing {
    fn any(&mut self, of: &BTreeSet<usize>) -> usize {
        let nth = self.entropy.below(of.len() as u64) as usize;
        *of.iter().nth(nth).expect("there is one")
    }

    /// Lets one thing go wrong for a while, or nothing.
    fn disturb(&mut self) {
        let quiet = self.entropy.below(QUIET_TICKS_MAX);
        self.cluster.steps(quiet);
        let running: Vec<usize> = self.running.iter().copied().collect();
        inflict(&mut self.cluster, &FAULTS, &running, FAULT_TICKS_MAX, &mut self.entropy);
    }

    fn disturb_some(&mut self) {
        for _ in 0..self.entropy.below(FAULTS_MAX + 1) {
            self.disturb();
        }
    }

    /// Steps until something is so. Nothing is wrong any more, so it has to come.
    fn wait_until(&mut self, what: &str, mut is_so: impl FnMut(&mut Cluster) -> bool) {
        let mut ticks_left = PATIENCE.as_millis();
        while !is_so(&mut self.cluster) {
            if ticks_left == 0 {
                let answers: Vec<_> = (0..=JOINING).map(|node| self.cluster.answer(node)).collect();
                let (seed, status) = (self.cluster.seed, self.status());
                panic!("seed {seed}: {what}; answers {answers:?}; {status:?}");
            }
            ticks_left -= 1;
            self.cluster.step();
        }
    }

    /// What the node that stays says of the cluster.
    fn status(&mut self) -> Option<Value> {
        ask(&mut self.cluster, self.stayer, &Order::get("/status"))
    }

    /// Has a node do something, whatever goes wrong meanwhile, until it says that it is done.
    fn insist(&mut self, node: usize, order: &Order) {
        self.cluster.order(node, order);
        self.disturb_some();
        let what = format!("node {node} does not come to an end with {order:?}");
        self.wait_until(&what, |cluster| cluster.is_done(node) || cluster.has_gone(node));
    }

    /// The one that comes is started, and may be killed in the meantime.
    fn join(&mut self) {
        self.cluster.restart(JOINING);
        self.running.insert(JOINING);
        self.disturb_some();
        self.wait_until("the node does not join", |cluster| cluster.is_serving(JOINING));
        self.members.insert(JOINING);
    }

    /// The one that comes is sent away while it joins, or dies for good and is removed.
    fn join_in_vain(&mut self) {
        self.cluster.restart(JOINING);
        self.running.insert(JOINING);
        let ticks = self.entropy.below(4_000);
        self.cluster.steps(ticks);
        self.disturb_some();
        if self.cluster.is_serving(JOINING) {
            self.members.insert(JOINING);
        } else if self.entropy.below(2) == 0 {
            self.remove(JOINING);
        } else if let Some(host_id) = self.host_id(JOINING) {
            self.withdraw(JOINING, &host_id);
        } else {
            self.wait_until("the node does not join", |cluster| cluster.is_serving(JOINING));
            self.members.insert(JOINING);
        }
    }

    /// A founder dies, and the one that comes takes its place.
    fn replace(&mut self) {
        let mut others = self.members.clone();
        others.remove(&self.stayer);
        let dead = self.any(&others);
        let host_id = self.host_id(dead).expect("it is a member");
        self.running.remove(&dead);
        self.members.remove(&dead);
        self.cluster.crash(dead, Survival::SyncedOnly);
        // Until nobody is promised by it to be supported.
        self.cluster.steps(3_000);
        let digits = host_id.replace('-', "");
        let dead_id = u128::from_str_radix(&digits, 16).expect("a host id");
        self.cluster.replace_by(JOINING, dead_id);
        self.join();
    }

    /// What was begun with a node is taken back, if it is not at its end by then.
    fn withdraw(&mut self, node: usize, host_id: &str) {
        let stayer = self.stayer;
        self.insist(stayer, &Order::post(&format!("/withdraw?host_id={host_id}")));
        let (_, text) = self.cluster.answer(stayer).expect("it was answered");
        if text.ends_with("is a member of the ring") {
            self.members.insert(node);
            self.wait_until("a member serves", |cluster| cluster.is_serving(node));
            return;
        }
        assert!(text.ends_with("is no member of the ring"), "{text}");
        self.members.remove(&node);
        self.running.remove(&node);
        self.wait_until("who was sent away ends", |cluster| cluster.has_gone(node));
    }

    /// A node leaves, or stays after all.
    fn decommission(&mut self, node: usize) {
        let host_id = self.host_id(node).expect("it is a member");
        if self.entropy.below(3) == 0 {
            self.cluster.order(node, &Order::post("/decommission"));
            let ticks = self.entropy.below(6_000);
            self.cluster.steps(ticks);
            self.disturb_some();
            self.cluster.forget_order(node);
            return self.withdraw(node, &host_id);
        }
        self.insist(node, &Order::post("/decommission"));
        self.wait_until("who has left ends", |cluster| cluster.has_gone(node));
        self.running.remove(&node);
        self.members.remove(&node);
    }

    /// The host id of a node, if the one that stays knows of it.
    fn host_id(&mut self, node: usize) -> Option<String> {
        let address = self.cluster.address(node).to_string();
        loop {
            let Some(status) = self.status() else { continue };
            let lines = status["nodes"].as_array().expect("nodes");
            let found = lines.iter().find(|line| line["address"] == *address);
            return found.map(|line| line["host_id"].as_str().expect("an id").to_owned());
        }
    }

    /// A node dies and is removed. With two copies it may hold half of what there is of some ranges,
    /// if it has come to be a member by then: its removal is refused for good, and it comes back.
    fn remove(&mut self, node: usize) {
        self.running.remove(&node);
        self.members.remove(&node);
        self.cluster.crash(node, Survival::SyncedOnly);
        // Perhaps it never got so far.
        let Some(host_id) = self.host_id(node) else { return };
        let (stayer, may_be_half) = (self.stayer, self.factor == 2);
        let order = Order::post(&format!("/remove?host_id={host_id}"));
        self.cluster.order(stayer, &order);
        self.disturb_some();
        let mut refused_ticks = 0;
        self.wait_until(
            &format!("node {stayer} does not come to an end with {order:?}"),
            |cluster| {
                let answer = cluster.answer(stayer).map(|(_, text)| text).unwrap_or_default();
                let is_refused = may_be_half && answer.ends_with(NO_MAJORITY);
                refused_ticks = if is_refused { refused_ticks + 1 } else { 0 };
                cluster.is_done(stayer) || refused_ticks == REFUSED_TICKS
            },
        );
        if !self.cluster.is_done(stayer) {
            assert_eq!(node, JOINING, "founders are removed of three copies only");
            self.cluster.forget_order(stayer);
            self.join();
        }
    }

    /// The ring is the one that was asked for, and nothing is under way.
    fn check_ring(&mut self) {
        let members = self.members.clone();
        let addresses = members.iter().map(|node| self.cluster.address(*node).to_string());
        let mut expected: Vec<String> =
            addresses.map(|address| format!("{address} Normal")).collect();
        expected.sort();
        for node in members {
            let mut found = Vec::new();
            for _ in 0..PATIENCE.as_secs() {
                let Some(status) = ask(&mut self.cluster, node, &Order::get("/status")) else {
                    continue;
                };
                let lines = status["nodes"].as_array().expect("nodes").iter();
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                found = lines
                    .map(|line| format!("{} {}", text(&line["address"]), text(&line["state"])))
                    .collect();
                found.sort();
                if found == expected && status["change"].is_null() {
                    break;
                }
                self.cluster.steps(1_000);
            }
            assert_eq!(found, expected, "seed {}: as node {node} says", self.cluster.seed);
        }
    }
}

/// A node's answer, once it has one that can be read.
fn ask(cluster: &mut Cluster, node: usize, order: &Order) -> Option<Value> {
    text_of(cluster, node, order).and_then(|body| serde_json::from_str(&body).ok())
}

fn text_of(cluster: &mut Cluster, node: usize, order: &Order) -> Option<String> {
    cluster.order(node, order);
    for _ in 0..10_000 {
        cluster.step();
        if cluster.is_done(node) {
            return cluster.answer(node).map(|(_, body)| body);
        }
    }
    None
}

/// Until each founder knows that all of them vote on the metadata, which comes a little after they are
/// members: one that dies for good before may be half of those that do.
pub(crate) fn wait_for_votes(cluster: &mut Cluster) {
    let line = format!("tethys_metadata_voters{{shard=\"0\"}} {FOUNDERS}\n");
    for node in 0..FOUNDERS {
        let mut has_three = || {
            let metrics = text_of(cluster, node, &Order::get("/metrics"));
            metrics.is_some_and(|metrics| metrics.contains(&line))
        };
        let found = (0..PATIENCE.as_secs()).any(|_| has_three());
        assert!(found, "node {node} does not know of {FOUNDERS} voters");
        cluster.forget_order(node);
    }
}

fn run(seed: u64) {
    let mut entropy = EntropySource::simulated(seed).generator("changes");
    let stayer = entropy.below(FOUNDERS as u64) as usize;
    let mut cluster = Cluster::with_unstarted(seed, FOUNDERS, 1);
    cluster.follow(stayer, &FOLLOWED);
    let founders: Vec<usize> = (0..FOUNDERS).collect();
    wait_for_members_of(&mut cluster, &founders);
    wait_for_votes(&mut cluster);
    let factor = if entropy.below(3) == 0 { 2 } else { 3 };
    let workload = Workload::start(&mut cluster, stayer, factor);
    let (running, members) = (BTreeSet::from_iter(founders.clone()), BTreeSet::from_iter(founders));
    let mut changing = Changing { cluster, entropy, running, members, stayer, factor };
    let announcement =
        Order::post(&format!("/cdc/generations?starts_in_ms={GENERATION_AHEAD_MILLIS}"));
    changing.cluster.order(stayer, &announcement);
    match changing.entropy.below(4) {
        0 => changing.join_in_vain(),
        // Of two copies, one is no majority.
        1 if factor == 3 => changing.replace(),
        _ => changing.join(),
    }
    if changing.members.len() > factor {
        let mut others = changing.members.clone();
        others.remove(&stayer);
        let node = changing.any(&others);
        // Of three nodes with two copies, two would be one too few while one is dead.
        if changing.entropy.below(2) == 0 && factor == 3 {
            changing.remove(node);
        } else {
            changing.decommission(node);
        }
    }
    changing.check_ring();
    changing.cluster.steps(QUIET_TICKS_MAX);
    let members: Vec<usize> = changing.members.iter().copied().collect();
    workload.end(&mut changing.cluster, &members);
    followed::check(&mut changing.cluster, stayer, &FOLLOWED);
}

#[test]
fn whatever_dies_the_ring_changes_and_nothing_acknowledged_is_lost() {
    for seed in seeds(1) {
        run(seed);
    }
}
