//! Faults, and when they come.
//!
//! One fault at a time: something is done to nodes or between them, and after a while all is healed.
//! With three nodes most faults leave a majority that can work; with one, the cluster is away
//! meanwhile.

use crate::cluster::Cluster;
use crate::network::Cuts;
use crate::random::Random;
use clap::ValueEnum;
use std::cell::RefCell;
use std::io;
use std::time::{Duration, Instant};

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// A node is killed, and started later.
    Kill,
    /// All nodes are, at the same moment.
    KillAll,
    /// A node is told to end, and started later.
    Restart,
    /// A node is stopped by SIGSTOP, and goes on later.
    Pause,
    /// All nodes are.
    PauseAll,
    /// Nothing passes between a random part of the nodes and the others.
    Halves,
    /// Nothing passes between one node and the others.
    Isolate,
    /// What a node says reaches no other; it hears them.
    Mute,
    /// A node hears nothing of the others; they hear it.
    Deafen,
    /// Nothing passes between two nodes, which both speak with all others.
    Bridge,
    /// All nodes are killed, and start later on data of before. No database survives it; it shows
    /// that the checkers notice lost writes.
    Rollback,
}

/// What was done, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inflicted {
    /// The fault and its victims, in words.
    pub what: String,
    /// Since the load began.
    pub began: Duration,
    /// The same; until then it lasted.
    pub healed: Duration,
}

/// The least and the most time between faults, and the same of their length, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between faults.
    pub calm_millis: (u64, u64),
    /// How long one lasts.
    pub fault_millis: (u64, u64),
}

impl Pace {
    /// For that many nodes: what others must notice lasts longer than it takes them to.
    pub fn of(node_count: u8) -> Pace {
        match node_count {
            1 => Pace { calm_millis: (300, 1_500), fault_millis: (50, 1_200) },
            _ => Pace { calm_millis: (500, 2_000), fault_millis: (300, 3_500) },
        }
    }
}

/// How often it is looked whether a node has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Fault {
    /// Whether it needs more than one node.
    pub fn is_of_the_network(self) -> bool {
        use Fault::{Bridge, Deafen, Halves, Isolate, Mute};
        matches!(self, Halves | Isolate | Mute | Deafen | Bridge)
    }
}

/// Inflicts faults from `began` to `end`, and heals the last one.
pub async fn torment(
    cluster: &RefCell<Cluster>,
    faults: &[Fault],
    pace: Pace,
    mut random: Random,
    (began, end): (Instant, Instant),
) -> io::Result<Vec<Inflicted>> {
    let mut inflicted = Vec::new();
    if faults.is_empty() {
        tokio::time::sleep_until(end.into()).await;
        return Ok(inflicted);
    }
    loop {
        rest(&mut random, pace.calm_millis).await;
        if Instant::now() >= end {
            return Ok(inflicted);
        }
        let fault = faults[random.below(faults.len() as u64) as usize];
        let fault_began = began.elapsed();
        let what = inflict(cluster, fault, &mut random).await?;
        rest(&mut random, pace.fault_millis).await;
        cluster.borrow_mut().heal()?;
        inflicted.push(Inflicted { what, began: fault_began, healed: began.elapsed() });
    }
}

/// Does it, and says to whom.
async fn inflict(
    cluster: &RefCell<Cluster>,
    fault: Fault,
    random: &mut Random,
) -> io::Result<String> {
    let count = cluster.borrow().node_count();
    let victim = random.below(count as u64) as usize;
    let all: Vec<usize> = (0..count).collect();
    let one = || format!("{fault:?} node {}", victim + 1);
    match fault {
        Fault::Kill => cluster.borrow_mut().kill(victim).map(|()| one()),
        Fault::Pause => cluster.borrow_mut().pause(victim).map(|()| one()),
        Fault::Restart => restart(cluster, victim).await.map(|()| one()),
        Fault::KillAll => on_all(cluster, fault, Cluster::kill),
        Fault::PauseAll => on_all(cluster, fault, Cluster::pause),
        Fault::Rollback => {
            on_all(cluster, fault, Cluster::kill)?;
            on_all(cluster, fault, Cluster::roll_back)
        }
        Fault::Halves | Fault::Isolate | Fault::Mute | Fault::Deafen | Fault::Bridge => {
            let (cuts, what) = cuts(fault, &all, victim, random);
            cluster.borrow().cut(cuts);
            Ok(format!("{fault:?} {what}"))
        }
    }
}

fn on_all(
    cluster: &RefCell<Cluster>,
    fault: Fault,
    strike: impl Fn(&mut Cluster, usize) -> io::Result<()>,
) -> io::Result<String> {
    let mut cluster = cluster.borrow_mut();
    for node in 0..cluster.node_count() {
        strike(&mut cluster, node)?;
    }
    Ok(format!("{fault:?}"))
}

async fn restart(cluster: &RefCell<Cluster>, node: usize) -> io::Result<()> {
    cluster.borrow().terminate(node)?;
    let told = Instant::now();
    while !cluster.borrow_mut().has_ended(node, told)? {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// What a fault of the network cuts, and between whom, in words.
fn cuts(fault: Fault, all: &[usize], victim: usize, random: &mut Random) -> (Cuts, String) {
    let others: Vec<usize> = all.iter().copied().filter(|node| *node != victim).collect();
    let none = Cuts::default();
    let name = |nodes: &[usize]| {
        let names: Vec<String> = nodes.iter().map(|node| (node + 1).to_string()).collect();
        names.join(" ")
    };
    match fault {
        Fault::Mute => {
            let cuts = others.iter().fold(none, |cuts, other| cuts.and_from_to(victim, *other));
            (cuts, name(&[victim]))
        }
        Fault::Deafen => {
            let cuts = others.iter().fold(none, |cuts, other| cuts.and_from_to(*other, victim));
            (cuts, name(&[victim]))
        }
        Fault::Bridge => {
            let other = [others[random.below(others.len() as u64) as usize]];
            (none.and_between(&[victim], &other), format!("{} | {}", victim + 1, name(&other)))
        }
        Fault::Halves => {
            // If the coin puts nobody on the other side, the victim is alone on its own.
            let (mut one, mut other): (Vec<usize>, Vec<usize>) =
                all.iter().partition(|node| **node == victim || random.below(2) == 0);
            if other.is_empty() {
                (one, other) = (vec![victim], others);
            }
            (none.and_between(&one, &other), format!("{} | {}", name(&one), name(&other)))
        }
        _ => {
            let cuts = none.and_between(&[victim], &others);
            (cuts, format!("{} | {}", victim + 1, name(&others)))
        }
    }
}

async fn rest(random: &mut Random, (least, most): (u64, u64)) {
    tokio::time::sleep(Duration::from_millis(least + random.below(most - least))).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_of_the_network_cuts_what_it_says() {
        let all = [0, 1, 2];
        let pairs: Vec<(usize, usize)> =
            all.iter().flat_map(|a| all.iter().map(|b| (*a, *b))).filter(|(a, b)| a != b).collect();
        let cut = |fault, seed| {
            let (cuts, what) = cuts(fault, &all, 1, &mut Random::new(seed));
            let held: Vec<(usize, usize)> =
                pairs.iter().copied().filter(|(from, to)| !cuts.let_pass(*from, *to)).collect();
            (held, what)
        };
        let isolated = vec![(0, 1), (1, 0), (1, 2), (2, 1)];
        assert_eq!(cut(Fault::Isolate, 1), (isolated, "2 | 1 3".to_owned()));
        assert_eq!(cut(Fault::Mute, 1), (vec![(1, 0), (1, 2)], "2".to_owned()));
        assert_eq!(cut(Fault::Deafen, 1), (vec![(0, 1), (2, 1)], "2".to_owned()));
        let (held, what) = cut(Fault::Bridge, 1);
        assert!(held.len() == 2 && ["2 | 1", "2 | 3"].contains(&what.as_str()), "{what}");
        for seed in 0..20 {
            let (held, what) = cut(Fault::Halves, seed);
            let (one, other) = what.split_once(" | ").expect("two sides");
            let sides = one.split_whitespace().count() * other.split_whitespace().count();
            assert_eq!(held.len(), 2 * sides, "{what}");
        }
    }
}
