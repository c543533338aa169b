//! What goes wrong with the nodes of a cluster: one thing at a time, for a while, then it is mended.

use crate::clients::HasClients;
use crate::cluster::{Cluster, Cut};
use env::Entropy;
use env::disk::Survival;
use std::time::Duration;

/// How far a clock is set. All faults of a run together stay below what a node bears at its start.
const JUMP_MICROS_MAX: u64 = 800_000;
/// What a power cut leaves on a disk of what was not synced.
const SURVIVALS: [Survival; 3] = [Survival::SyncedOnly, Survival::LastFileTorn, Survival::Random];
/// How much longer each use of a slow disk takes.
const DISK_DELAY_MILLIS: std::ops::Range<u64> = 50..3_000;
const CUTS: [Cut; 3] = [Cut::BothWays, Cut::OneWay, Cut::Held];

/// What may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A process dies; its machine goes on, and so nothing on its disk is lost.
    Kill,
    /// A machine loses power, and its disk what was not synced, or a part of that.
    PowerCut,
    /// All machines do, at the same moment.
    PowerCutOfAll,
    /// What passes between a node and all others is lost, or that of one direction, or comes late.
    Isolate,
    /// The same between two nodes.
    Part,
    /// A process is stopped, and goes on.
    Pause,
    /// A clock is set, for good.
    Clock,
    /// Whatever is done with a disk takes long.
    SlowDisk,
    /// A disk takes nothing any more. Its machine is started again later, with a disk that was mended.
    FailingDisk,
    /// Nothing.
    Quiet,
}

/// Lets one of the faults befall one of the nodes, or several, for up to so many ticks.
pub(crate) fn inflict(
    cluster: &mut Cluster,
    faults: &[Fault],
    nodes: &[usize],
    ticks_max: u64,
    entropy: &mut Entropy,
) {
    let ticks = 1 + entropy.below(ticks_max);
    let node = nodes[entropy.below(nodes.len() as u64) as usize];
    inflict_on(cluster, faults, node, nodes, ticks, entropy);
}

/// Lets one of the faults befall this one of the nodes, for so many ticks.
pub(crate) fn inflict_on(
    cluster: &mut Cluster,
    faults: &[Fault],
    node: usize,
    nodes: &[usize],
    ticks: u64,
    entropy: &mut Entropy,
) {
    let others: Vec<usize> = nodes.iter().copied().filter(|other| *other != node).collect();
    let survival = SURVIVALS[entropy.below(3) as usize];
    let cut = CUTS[entropy.below(3) as usize];
    match faults[entropy.below(faults.len() as u64) as usize] {
        Fault::Kill => crash(cluster, &[node], Survival::Everything, ticks),
        Fault::PowerCut => crash(cluster, &[node], survival, ticks / 8),
        Fault::PowerCutOfAll => crash(cluster, nodes, survival, ticks / 8),
        Fault::Isolate => part(cluster, node, &others, cut, ticks),
        Fault::Part => part(cluster, node, &others[..1], cut, ticks),
        Fault::Pause => {
            cluster.freeze(node);
            cluster.steps(ticks);
            cluster.thaw(node);
        }
        Fault::Clock => {
            let micros = entropy.below(JUMP_MICROS_MAX * 2) as i64 - JUMP_MICROS_MAX as i64;
            cluster.jump_wall(node, micros);
        }
        Fault::SlowDisk => {
            let span = DISK_DELAY_MILLIS.end - DISK_DELAY_MILLIS.start;
            let millis = DISK_DELAY_MILLIS.start + entropy.below(span);
            cluster.slow_disk(node, Duration::from_millis(millis));
            cluster.steps(ticks);
            cluster.slow_disk(node, Duration::ZERO);
        }
        Fault::FailingDisk => {
            cluster.fail_disk(node);
            cluster.steps(ticks);
            crash(cluster, &[node], survival, ticks / 8);
        }
        Fault::Quiet => cluster.steps(ticks),
    }
}

fn crash(cluster: &mut Cluster, nodes: &[usize], survival: Survival, ticks: u64) {
    for node in nodes {
        cluster.crash(*node, survival);
    }
    cluster.steps(ticks);
    for node in nodes {
        cluster.restart(*node);
    }
}

fn part(cluster: &mut Cluster, node: usize, others: &[usize], cut: Cut, ticks: u64) {
    for other in others {
        cluster.cut(node, *other, cut);
    }
    cluster.steps(ticks);
    for other in others {
        cluster.mend(node, *other, cut);
    }
}
