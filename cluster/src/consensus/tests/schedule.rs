//! Random schedules: every seed is a group under proposals, elections, losses, crashes and changes.
//!
//! The simulation checks election safety, log matching, leader completeness and state machine
//! safety after each step; this file only chooses steps, and checks that the group makes progress
//! once the faults stop, so that a group that does nothing does not pass.

use super::super::*;
use super::simulation::{Simulation, host};
use crate::random::Random;
use std::sync::Arc;

const SEEDS: u64 = 250;
const STEPS: u64 = 500;
/// More messages under way than this are lost: old ones would drown those that matter.
const PACKETS_MAX: usize = 12;

#[test]
fn random_schedules_break_no_rule() {
    for seed in 0..SEEDS {
        let result = std::panic::catch_unwind(|| run(seed));
        if let Err(panic) = result {
            println!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn run(seed: u64) {
    let mut random = Random(seed);
    let voter_count = 1 + random.below(5);
    let node_count = voter_count + random.below(2);
    let members = Arc::new(Membership::of_voters((1..=voter_count).map(host)));
    let mut simulation = Simulation::default();
    (1..=node_count).for_each(|id| simulation.add(id, &members));
    let temper = Temper {
        // Calm groups replicate; wild ones elect.
        wildness: 1 + random.below(40),
        disk_speed: 1 + random.below(4),
        changes: random.below(3) == 0,
    };
    for step in 0..STEPS {
        let id = 1 + random.below(node_count);
        if random.below(100) < temper.wildness {
            disturb(&mut simulation, &mut random, id, &temper);
        } else {
            work(&mut simulation, &mut random, id, step, &temper);
        }
        if simulation.network.len() > PACKETS_MAX {
            let position = random.below(simulation.network.len() as u64) as usize;
            simulation.network.remove(position);
        }
        simulation.trace.clear();
    }
    recover(&mut simulation);
}

/// What sets one schedule apart from another.
struct Temper {
    /// Faults in a hundred steps.
    wildness: u64,
    /// Writes that finish, relative to proposals.
    disk_speed: u64,
    /// Whether members change.
    changes: bool,
}

fn disturb(simulation: &mut Simulation, random: &mut Random, id: u64, temper: &Temper) {
    let position = random.below(simulation.network.len().max(1) as u64) as usize;
    match random.below(12) {
        0..=3 => simulation.step(id, Input::Campaign, &[]),
        4 | 5 => simulation.crash(id, random.below(3) as usize),
        6 | 7 if temper.changes => {
            let other = host(1 + random.below(simulation.members.len() as u64));
            let changes =
                [Change::AddLearner(other), Change::Promote(other), Change::Remove(other)];
            let change = changes[random.below(3) as usize];
            for id in simulation.members.keys().copied().collect::<Vec<_>>() {
                simulation.step(id, Input::ChangeMembers(change), &[]);
            }
        }
        8 if !simulation.network.is_empty() => {
            simulation.network.remove(position);
        }
        9 if !simulation.network.is_empty() => {
            let copy = simulation.network[position].clone();
            simulation.network.push(copy);
        }
        10 => simulation.discard(id, LogIndex(random.below(20))),
        _ => {
            let to = host(1 + random.below(simulation.members.len() as u64));
            simulation.step(id, Input::Resend { to }, &[]);
        }
    }
}

fn work(simulation: &mut Simulation, random: &mut Random, id: u64, step: u64, temper: &Temper) {
    if simulation.members[&id].group.is_none() {
        simulation.restart(id);
        return;
    }
    if random.below(8) == 0
        && let Some((from, to)) = simulation.snapshots_needed.pop()
    {
        simulation.install_snapshot(from, to);
    }
    match random.below(8 + temper.disk_speed) {
        0 | 1 => simulation.step(id, Input::Propose, &[format!("p{step}")]),
        2..=7 if !simulation.network.is_empty() => {
            // Mostly in order, at times from anywhere.
            let bound = if random.below(4) == 0 { simulation.network.len() as u64 } else { 1 };
            simulation.deliver(random.below(bound) as usize);
        }
        _ => drop(simulation.sync_one(id)),
    }
}

/// With everybody up and nothing lost, some member can lead, and its proposal is committed.
fn recover(simulation: &mut Simulation) {
    let ids: Vec<u64> = simulation.members.keys().copied().collect();
    for &id in &ids {
        if simulation.members[&id].group.is_none() {
            simulation.restart(id);
        }
    }
    simulation.settle();
    for &id in ids.iter().cycle().take(ids.len() * 3) {
        simulation.step(id, Input::Campaign, &[]);
        simulation.settle();
        let group = simulation.members[&id].group.as_ref().unwrap();
        if !group.is_leader() {
            continue;
        }
        let members = group.members().clone();
        members.members().for_each(|to| simulation.step(id, Input::Resend { to }, &[]));
        simulation.settle();
        while let Some((from, to)) = simulation.snapshots_needed.pop() {
            simulation.install_snapshot(from, to);
            simulation.settle();
        }
        simulation.step(id, Input::Propose, &["final".to_owned()]);
        simulation.settle();
        if simulation.trace.contains(&format!("{id} commits "))
            && simulation.trace.contains("final")
        {
            return;
        }
    }
    panic!("nobody could commit:\n{}", simulation.status());
}
