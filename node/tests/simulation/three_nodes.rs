//! Three nodes that founded one cluster, everything on all of them, while nodes are killed, lose
//! power, are cut off from each other, and have their clocks set. What holds meanwhile and in the end
//! is the [`workload`](crate::workload)'s.

use crate::clients::HasClients;
use crate::cluster::{Cluster, Cut};
use crate::followed;
use crate::joining::{NODES, wait_for_members};
use crate::seeds;
use crate::trace::hash;
use crate::workload::{FOLLOWED, Workload};
use env::disk::Survival;
use env::{Entropy, EntropySource};

/// Ticks between two faults, and while one lasts, at most.
const QUIET_TICKS_MAX: u64 = 1_500;
const FAULT_TICKS_MAX: u64 = 4_000;
/// How far a clock is set; all together, less than a node bears at its start.
const JUMP_MICROS_MAX: u64 = 800_000;

/// Lets one thing go wrong, and mends it.
fn disturb(cluster: &mut Cluster, entropy: &mut Entropy) {
    let node = entropy.below(NODES as u64) as usize;
    let others = [(node + 1) % NODES, (node + 2) % NODES];
    let ticks = entropy.below(FAULT_TICKS_MAX);
    let survivals = [Survival::SyncedOnly, Survival::LastFileTorn, Survival::Random];
    let survival = survivals[entropy.below(3) as usize];
    let cuts = [Cut::BothWays, Cut::OneWay, Cut::Held];
    let cut = cuts[entropy.below(3) as usize];
    match entropy.below(6) {
        0 => {
            // The process dies; the machine goes on.
            cluster.crash(node, Survival::Everything);
            cluster.steps(ticks);
            cluster.restart(node);
        }
        1 => {
            cluster.crash(node, survival);
            cluster.steps(ticks / 8);
            cluster.restart(node);
        }
        2 => {
            (0..NODES).for_each(|node| cluster.crash(node, survival));
            cluster.steps(ticks / 8);
            (0..NODES).for_each(|node| cluster.restart(node));
        }
        3 => {
            for other in others {
                cluster.cut(node, other, cut);
            }
            cluster.steps(ticks);
            for other in others {
                cluster.mend(node, other, cut);
            }
        }
        4 => {
            cluster.cut(node, others[0], cut);
            cluster.steps(ticks);
            cluster.mend(node, others[0], cut);
        }
        _ => cluster
            .jump_wall(node, entropy.below(JUMP_MICROS_MAX * 2) as i64 - JUMP_MICROS_MAX as i64),
    }
}

/// Everything that clients saw, and what the disks hold in the end.
fn run(seed: u64, factor: usize, faults: u64) -> Vec<String> {
    let mut cluster = Cluster::new(seed, NODES);
    let follower = seed as usize % NODES;
    cluster.follow(follower, &FOLLOWED);
    wait_for_members(&mut cluster);
    let workload = Workload::start(&mut cluster, follower, factor);
    let mut entropy = EntropySource::simulated(seed).generator("faults");
    for _ in 0..faults {
        cluster.steps(entropy.below(QUIET_TICKS_MAX));
        disturb(&mut cluster, &mut entropy);
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
