//! Changes of the ring under load, and beside the other faults: a node joins, works for a while, and
//! leaves, or dies and is removed.
//!
//! What was begun is seen through: the verbs are given again until they have done it, as an operator
//! would. A node that does not become one of the cluster, or does not get out of it, within
//! [`RING_TIME_MAX`] is an error of the test, which does not end well then.

use super::{Fault, Inflicted, LOOK_EVERY, inject, rest};
use crate::client::Client;
use crate::cluster::Cluster;
use crate::random::Random;
use scylla::value::CqlValue;
use std::cell::RefCell;
use std::io::{self, Read};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// How long a change may take, faults on the way included.
const RING_TIME_MAX: Duration = Duration::from_mins(3);
/// How long a new node works before it goes, in milliseconds.
const STAY_MILLIS: (u64, u64) = (500, 3_000);
/// Between two changes.
const CALM_MILLIS: (u64, u64) = (300, 1_500);
/// How long a verb may take to answer before it is given anew.
const VERB_TIME_MAX: Duration = Duration::from_mins(1);

/// Changes the ring from `began` to `end`, and ends with the founders alone.
pub async fn change(
    cluster: &RefCell<Cluster>,
    faults: &[Fault],
    mut random: Random,
    (began, end): (Instant, Instant),
) -> io::Result<Vec<Inflicted>> {
    let mut inflicted = Vec::new();
    let spares = cluster.borrow().spares();
    if faults.is_empty() || spares.is_empty() {
        return Ok(inflicted);
    }
    // Each place in turn, so that a place is also taken by a second node.
    for node in spares.cycle() {
        rest(&mut random, CALM_MILLIS).await;
        if Instant::now() >= end {
            break;
        }
        let mut note = |what: &str, since: Duration| {
            let what = format!("{what} node {}", node + 1);
            inflicted.push(Inflicted { what, began: since, healed: began.elapsed() });
        };
        let since = began.elapsed();
        let host_id = join(cluster, node).await?;
        note("Join", since);
        rest(&mut random, STAY_MILLIS).await;
        let since = began.elapsed();
        see_off(cluster, node).await?;
        if faults[random.below(faults.len() as u64) as usize] == Fault::Remove {
            cluster.borrow_mut().kill(node)?;
            insist(cluster, &["remove", &host_id], "REMOVED", None, &mut random).await?;
            note("Remove", since);
        } else {
            insist(cluster, &["decommission"], "DECOMMISSIONED", Some(node), &mut random).await?;
            note("Decommission", since);
        }
        cluster.borrow_mut().forget(node)?;
    }
    Ok(inflicted)
}

/// Takes a node out of the other faults' reach, mended.
async fn see_off(cluster: &RefCell<Cluster>, node: usize) -> io::Result<()> {
    while cluster.borrow().is_injected(node) {
        // It trusts a disk that has failed no more.
        cluster.borrow_mut().kill(node)?;
        inject(cluster, node, "").await?;
    }
    cluster.borrow_mut().see_off(node)
}

/// Starts a new node, and returns its host id once it answers clients.
async fn join(cluster: &RefCell<Cluster>, node: usize) -> io::Result<String> {
    let deadline = Instant::now() + RING_TIME_MAX;
    cluster.borrow_mut().join(node)?;
    let address = cluster.borrow().address(node);
    loop {
        if let Ok(client) = Client::connect(address).await {
            let rows = client.rows::<(CqlValue,)>("SELECT host_id FROM system.local").await;
            if let Some((CqlValue::Uuid(host_id),)) = rows.unwrap_or_default().first() {
                return Ok(host_id.to_string());
            }
        }
        if Instant::now() > deadline {
            let text = format!("has not joined within {RING_TIME_MAX:?}");
            return Err(cluster.borrow().complaint(node, &text));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Gives a verb until it says that it is done; to that node, or to any member.
async fn insist(
    cluster: &RefCell<Cluster>,
    words: &[&str],
    done: &str,
    node: Option<usize>,
    random: &mut Random,
) -> io::Result<()> {
    let deadline = Instant::now() + RING_TIME_MAX;
    loop {
        let members = cluster.borrow().members();
        let asked = node.unwrap_or_else(|| members[random.below(members.len() as u64) as usize]);
        // A restart that had begun when it was seen off may have ended it.
        node.map_or(Ok(()), |node| cluster.borrow_mut().revive(node))?;
        let mut command = cluster.borrow().verb(asked, words);
        let running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let said = wait_for(running, deadline.min(Instant::now() + VERB_TIME_MAX)).await?;
        if said.lines().any(|line| line == done) {
            return Ok(());
        }
        if Instant::now() > deadline {
            let text =
                format!("`{}` is not done within {RING_TIME_MAX:?}: {said}", words.join(" "));
            return Err(cluster.borrow().complaint(asked, &text));
        }
        tokio::time::sleep(LOOK_EVERY * 10).await;
    }
}

/// What a process prints until it ends, or until it is ended.
async fn wait_for(mut running: Child, deadline: Instant) -> io::Result<String> {
    while running.try_wait()?.is_none() {
        if Instant::now() > deadline {
            running.kill()?;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    // A verb prints a few lines, which fit into the pipes.
    let mut said = String::new();
    for pipe in [
        running.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read>),
        running.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read>),
    ] {
        pipe.map_or(Ok(0), |mut pipe| pipe.read_to_string(&mut said))?;
    }
    Ok(said)
}
