//! Faults, and when they come.
//!
//! One fault at a time: something is done to nodes or between them, and after a while all is healed.
//! With three nodes most faults leave a majority that can work; with one, the cluster is away
//! meanwhile. The ring changes beside all that ([`ring`]): whatever a plan has begun has to live
//! through the other faults.

pub mod ring;

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
    /// A node's wall clock jumps by up to some seconds, either way, and back later. Like the next two it
    /// needs a program that was built with `debug_assertions`.
    Clock,
    /// A node's writes and syncs take long.
    SlowDisk,
    /// A node's writes and syncs fail; later it is killed, and started on a disk that works.
    BrokenDisk,
    /// A further node joins, and leaves later (`tethys decommission`).
    Join,
    /// A further node joins, is killed, and removed by the others (`tethys remove`).
    Remove,
    /// All nodes are killed, and start later on the data that they had before the load. No database
    /// survives it; it shows that the checkers notice lost writes.
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

/// How far a clock jumps at most, and how much longer a write takes.
const CLOCK_MILLIS_MAX: u64 = 4_000;
const DISK_DELAY_MILLIS_MAX: u64 = 150;
/// How often it is looked whether a node has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Fault {
    /// Whether it needs more than one node.
    pub fn is_of_the_network(self) -> bool {
        use Fault::{Bridge, Deafen, Halves, Isolate, Mute};
        matches!(self, Halves | Isolate | Mute | Deafen | Bridge)
    }

    /// Whether the program itself is told to have it.
    pub fn is_injected(self) -> bool {
        matches!(self, Fault::Clock | Fault::SlowDisk | Fault::BrokenDisk)
    }

    /// Whether it changes the ring.
    pub fn is_of_the_ring(self) -> bool {
        matches!(self, Fault::Join | Fault::Remove)
    }
}

/// Inflicts faults from `began` to `end`, and heals the last one. A change of the ring that has begun
/// is seen through.
pub async fn torment(
    cluster: &RefCell<Cluster>,
    faults: &[Fault],
    pace: Pace,
    mut random: Random,
    span: (Instant, Instant),
) -> io::Result<Vec<Inflicted>> {
    let (of_the_ring, others): (Vec<Fault>, Vec<Fault>) =
        faults.iter().partition(|fault| fault.is_of_the_ring());
    let of_the_ring = ring::change(cluster, &of_the_ring, Random::new(random.any()), span);
    let others = torment_nodes(cluster, &others, pace, random, span);
    let (of_the_ring, others) = futures::future::join(of_the_ring, others).await;
    let mut inflicted = of_the_ring?;
    inflicted.append(&mut others?);
    inflicted.sort_by_key(|fault| fault.began);
    Ok(inflicted)
}

async fn torment_nodes(
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
        if fault.is_injected() {
            withdraw(cluster, fault).await?;
        }
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
    let all = cluster.borrow().members();
    let victim = all[random.below(all.len() as u64) as usize];
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
        Fault::Clock => {
            let millis = random.below(2 * CLOCK_MILLIS_MAX) as i64 - CLOCK_MILLIS_MAX as i64;
            inject(cluster, victim, &format!("wall_offset_micros={}", millis * 1_000)).await?;
            Ok(format!("{} by {millis} ms", one()))
        }
        Fault::SlowDisk => {
            let millis = 5 + random.below(DISK_DELAY_MILLIS_MAX);
            inject(cluster, victim, &format!("disk_delay_millis={millis}")).await?;
            Ok(format!("{} by {millis} ms", one()))
        }
        Fault::BrokenDisk => inject(cluster, victim, "disk_fails=1").await.map(|()| one()),
        Fault::Join | Fault::Remove => unreachable!("the ring changes beside the other faults"),
    }
}

/// Has a node be wrong as the program lets itself be told.
async fn inject(cluster: &RefCell<Cluster>, node: usize, faults: &str) -> io::Result<()> {
    let injecting = cluster.borrow().begin_inject(node, faults)?;
    injecting.wait().await
}

/// Takes back what was injected. A node whose disk has failed trusts it no more: it is killed, and
/// started again by the healing that follows.
async fn withdraw(cluster: &RefCell<Cluster>, fault: Fault) -> io::Result<()> {
    let members = cluster.borrow().members();
    for node in members {
        if !cluster.borrow().is_injected(node) {
            continue;
        }
        if fault == Fault::BrokenDisk {
            cluster.borrow_mut().kill(node)?;
        }
        inject(cluster, node, "").await?;
    }
    Ok(())
}

fn on_all(
    cluster: &RefCell<Cluster>,
    fault: Fault,
    strike: impl Fn(&mut Cluster, usize) -> io::Result<()>,
) -> io::Result<String> {
    let mut cluster = cluster.borrow_mut();
    for node in cluster.members() {
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
