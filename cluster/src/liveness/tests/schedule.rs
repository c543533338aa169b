//! Random schedules of requests, losses, restarts and clocks that drift as far as they may.

use super::super::*;
use super::simulation::{Simulation, host};
use crate::random::Random;
use crate::rules::{Rule, is_noticed};

const SEEDS: u64 = 400;
const STEPS: u64 = 400;
const PACKETS_MAX: usize = 16;

fn run(seed: u64) {
    let mut random = Random(seed);
    let mut simulation = Simulation::default();
    let node_count = 2 + random.below(2);
    for id in 1..=node_count {
        let drift = [1_000_000 - DRIFT_PPM, 1_000_000, 1_000_000 + DRIFT_PPM];
        simulation.add(id, random.below(1 << 50), drift[random.below(3) as usize]);
    }
    (1..=node_count).for_each(|id| simulation.start(id));
    let wildness = 1 + random.below(30);
    for _ in 0..STEPS {
        let id = 1 + random.below(node_count);
        let under_way = simulation.network.len() as u64;
        if random.below(100) < wildness {
            let position = random.below(under_way.max(1)) as usize;
            match random.below(4) {
                0 => simulation.stop(id),
                1 if under_way > 0 => drop(simulation.network.remove(position)),
                2 if under_way > 0 => {
                    let copy = simulation.network[position].clone();
                    simulation.network.push(copy);
                }
                _ => simulation.nanos += random.below(SUPPORT_NANOS),
            }
        } else if simulation.nodes[&id].liveness.is_none() {
            simulation.start(id);
        } else if under_way > 0 && random.below(2) == 0 {
            let bound = if random.below(3) == 0 { under_way } else { 1 };
            simulation.deliver(random.below(bound) as usize);
        } else {
            // Often to just where a promise ends.
            let moment = simulation.nodes[&id].liveness.as_ref().and_then(Liveness::next_tick);
            let wait = moment.map_or(0, |moment| moment.0.saturating_sub(simulation.clock(id).0));
            simulation.nanos += [0, wait, wait + 1_000_000][random.below(3) as usize];
            simulation.check();
            simulation.tick(id);
        }
        simulation.check();
        if simulation.network.len() > PACKETS_MAX {
            let position = random.below(simulation.network.len() as u64) as usize;
            simulation.network.remove(position);
        }
    }
    support_returns(&mut simulation);
}

/// With everybody up and nothing lost, everybody supports everybody, and votes.
fn support_returns(simulation: &mut Simulation) {
    let ids: Vec<u64> = simulation.nodes.keys().copied().collect();
    simulation.network.clear();
    for &id in &ids {
        if simulation.nodes[&id].liveness.is_none() {
            simulation.start(id);
        }
    }
    for _ in 0..8 {
        simulation.nanos += REQUEST_NANOS;
        for &id in &ids {
            simulation.tick(id);
        }
        while !simulation.network.is_empty() {
            simulation.deliver(0);
        }
    }
    for &id in &ids {
        let liveness = simulation.nodes[&id].liveness.as_ref().unwrap();
        assert!(liveness.may_vote());
        let now = simulation.clock(id);
        for peer in ids.iter().map(|&peer| host(peer)).filter(|&peer| peer != host(id)) {
            assert!(liveness.supports(peer).is_some());
            assert!(liveness.support_from(peer).is_some_and(|support| support.until > now));
        }
    }
}

#[test]
fn whoever_is_relied_on_keeps_to_it() {
    (0..SEEDS).for_each(run);
}

#[test]
fn each_rule_broken_is_noticed() {
    for rule in [
        Rule::WithdrawnIsOver,
        Rule::RequestNamesALife,
        Rule::RestartWaits,
        Rule::FromSending,
        Rule::Margin,
        Rule::SupportIsKept,
        Rule::RestartBeginsAnEpoch,
    ] {
        assert!(is_noticed(rule, 0..SEEDS, run), "{rule:?} was broken, and nothing noticed");
    }
}

#[test]
fn a_peer_more_than_the_limit_is_not_taken() {
    let mut liveness = Liveness::start(None, MonotonicNanos(0), &mut Vec::new());
    for peer in 0..PEERS_MAX as u64 {
        assert!(liveness.add_peer(host(peer), MonotonicNanos(0)));
    }
    assert!(!liveness.add_peer(host(PEERS_MAX as u64), MonotonicNanos(0)));
    assert!(liveness.add_peer(host(0), MonotonicNanos(0)), "one that is there already");
}
