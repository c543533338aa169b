//! Three nodes that founded one cluster, everything on all of them, while nodes are killed, lose
//! power, are stopped, cut off from each other, and have their clocks set. What holds meanwhile and in the end
//! is the [`workload`](crate::workload)'s.

use crate::clients::HasClients;
use crate::cluster::Cluster;
use crate::faults::{Fault, inflict};
use crate::followed;
use crate::joining::{NODES, wait_for_members};
use crate::seeds;
use crate::trace::hash;
use crate::workload::{FOLLOWED, Workload};
use env::EntropySource;

/// Ticks between two faults, and while one lasts, at most.
const QUIET_TICKS_MAX: u64 = 1_500;
const FAULT_TICKS_MAX: u64 = 4_000;
const FAULTS: [Fault; 9] = [
    Fault::Kill,
    Fault::PowerCut,
    Fault::PowerCutOfAll,
    Fault::Isolate,
    Fault::Part,
    Fault::Pause,
    Fault::Clock,
    Fault::SlowDisk,
    Fault::FailingDisk,
];

/// Everything that clients saw, and what the disks hold in the end.
fn run(seed: u64, factor: usize, count: u64) -> Vec<String> {
    run_with(seed, factor, &FAULTS, count)
}

/// The same, and nothing goes wrong but that nodes stand still.
#[cfg(debug_assertions)]
pub(crate) fn pause(seed: u64) {
    run_with(seed, 3, &[Fault::Pause], 4);
}

fn run_with(seed: u64, factor: usize, faults: &[Fault], count: u64) -> Vec<String> {
    let mut cluster = Cluster::new(seed, NODES);
    let follower = seed as usize % NODES;
    cluster.follow(follower, &FOLLOWED);
    wait_for_members(&mut cluster);
    let workload = Workload::start(&mut cluster, follower, factor);
    let mut entropy = EntropySource::simulated(seed).generator("faults");
    for _ in 0..count {
        cluster.steps(entropy.below(QUIET_TICKS_MAX));
        inflict(&mut cluster, faults, &[0, 1, 2], FAULT_TICKS_MAX, &mut entropy);
    }
    cluster.steps(QUIET_TICKS_MAX);
    workload.end(&mut cluster, &[0, 1, 2]);
    followed::check(&mut cluster, follower, &FOLLOWED);
    cluster.history()
}

#[test]
fn three_nodes_keep_what_they_acknowledge() {
    for seed in seeds(2) {
        run(seed, 3, 6);
    }
}

/// With one copy of each row there is nobody to take over: batches over several ranges are finished
/// by whoever holds their record, and what is asked of a dead node waits.
#[test]
fn three_nodes_of_one_copy_keep_what_they_acknowledge() {
    for seed in seeds(1) {
        run(seed, 1, 6);
    }
}

#[test]
fn where_nothing_is_wrong_every_write_is_answered() {
    for seed in seeds(1) {
        for factor in [1, 3] {
            let mut cluster = Cluster::new(seed, NODES);
            wait_for_members(&mut cluster);
            let workload = Workload::start(&mut cluster, 0, factor);
            cluster.steps(10_000);
            let unanswered = workload.end(&mut cluster, &[0, 1, 2]);
            assert_eq!(unanswered, 0, "seed {seed}, {factor} copies");
        }
    }
}

#[test]
fn a_seed_has_one_history() {
    for seed in seeds(1) {
        let (first, second) = (run(seed, 3, 2), run(seed, 3, 2));
        for (index, (one, other)) in first.iter().zip(&second).enumerate() {
            assert_eq!(one, other, "seed {seed}: the histories part at event {index}");
        }
        let hashes = [first, second].map(|lines| hash(lines.join("\n").as_bytes()));
        assert_eq!(hashes[0], hashes[1], "seed {seed}: one history ends early");
    }
}
