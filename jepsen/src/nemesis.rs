//! Faults, and when they come.
//!
//! One fault at a time: something is done to a node, and after a while all is healed. With three
//! nodes a majority is always there; with one, the cluster is away meanwhile.

use crate::cluster::Cluster;
use crate::random::Random;
use clap::ValueEnum;
use std::cell::RefCell;
use std::io;
use std::time::{Duration, Instant};

/// What may happen to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// SIGKILL, and a start later.
    Kill,
    /// SIGSTOP, and SIGCONT later.
    Pause,
    /// SIGKILL, and a start later on data of before. No database survives it on a majority; it shows
    /// that the checkers notice lost writes.
    Rollback,
}

/// The least and the most time between faults, and the same of their length.
const CALM_MILLIS: (u64, u64) = (300, 1_500);
const FAULT_MILLIS: (u64, u64) = (50, 1_200);

/// Inflicts faults until `end`, and heals the last one. Returns how many there were.
pub async fn torment(
    cluster: &RefCell<Cluster>,
    faults: &[Fault],
    mut random: Random,
    end: Instant,
) -> io::Result<u64> {
    let mut count = 0;
    if faults.is_empty() {
        tokio::time::sleep_until(end.into()).await;
        return Ok(count);
    }
    loop {
        rest(&mut random, CALM_MILLIS).await;
        if Instant::now() >= end {
            return Ok(count);
        }
        let node = random.below(cluster.borrow().node_count() as u64) as usize;
        let fault = faults[random.below(faults.len() as u64) as usize];
        match fault {
            Fault::Kill => cluster.borrow_mut().kill(node)?,
            Fault::Pause => cluster.borrow_mut().pause(node)?,
            Fault::Rollback => cluster.borrow_mut().roll_back(node)?,
        }
        count += 1;
        rest(&mut random, FAULT_MILLIS).await;
        cluster.borrow_mut().heal()?;
    }
}

async fn rest(random: &mut Random, (least, most): (u64, u64)) {
    tokio::time::sleep(Duration::from_millis(least + random.below(most - least))).await;
}
