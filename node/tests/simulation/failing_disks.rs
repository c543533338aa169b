//! Three nodes of which one's disk fails: it ends, others lead what it led, and clients go on by way of
//! them; with a disk that was mended it leads again. One whose disk does not answer is as such. And three
//! whose disks fail all: the last two stay, and what can be read is read.

use crate::client::{Client, Dialect, Home};
use crate::clients::HasClients;
use crate::cluster::Cluster;
use crate::joining::{NODES, wait_for_members};
use crate::restarts::{insist, led_count, told};
use crate::seeds;
use cql::wire::Consistency;
use env::disk::Survival;
use std::time::Duration;

const SCHEMA: [&str; 2] = [
    "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}",
    "CREATE TABLE ks.t (k int PRIMARY KEY, v int)",
];
/// Rows, of which every shard of every node leads some.
const KEYS: i32 = 40;
/// Until every node leads what it is the first replica of.
const HOMECOMING_TICKS: u64 = 15_000;
/// Until the others have missed a node, waited for each other and voted.
const TAKE_OVER_TICKS: u64 = 4_000;
/// What a disk takes for anything that does not answer, and until its node has given it up.
const STALL: Duration = Duration::from_mins(10);
const STALL_TICKS: u64 = 20_000;
/// Until leadership has come home after a node's start.
const REST_TICKS: u64 = 40_000;

/// Writes every row, whatever comes of it; what went wrong.
async fn write(home: Home, v: i32) -> Vec<String> {
    let mut client = Client::connect(&home, "writer", Dialect::of(1)).await;
    let mut failures = Vec::new();
    for k in 0..KEYS {
        let insert = format!("INSERT INTO ks.t (k, v) VALUES ({k}, {v})");
        if let Err(error) = client.query(&insert).await {
            failures.push(format!("{error:?}"));
        }
    }
    failures
}

/// Every row is there, as one of these writes has left it.
async fn read(home: Home, values: &'static [i32]) {
    let mut client = Client::connect(&home, "reader", Dialect::of(2)).await;
    client.consistency = Consistency::Quorum;
    for k in 0..KEYS {
        let select = format!("SELECT v FROM ks.t WHERE k = {k}");
        let rows = client.query(&select).await.expect("reads go on").rows;
        let found = rows.first().and_then(|row| row[0].clone());
        let found = found.and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes);
        assert!(found.is_some_and(|v| values.contains(&v)), "row {k} is {found:?}");
    }
}

/// Three nodes that each lead some of the rows.
fn three_nodes(seed: u64) -> Cluster {
    let mut cluster = Cluster::new(seed, NODES);
    wait_for_members(&mut cluster);
    for statement in SCHEMA {
        cluster.run(insist(cluster.home(0), statement.to_owned()));
    }
    cluster.steps(HOMECOMING_TICKS);
    for node in 0..NODES {
        assert!(led_count(&mut cluster, node) > 0, "seed {seed}");
        assert_eq!(cluster.run(write(cluster.home(node), 0)), [""; 0], "seed {seed}");
    }
    cluster
}

pub(crate) fn run(seed: u64) {
    let mut cluster = three_nodes(seed);
    let victim = seed as usize % NODES;
    let others = [(victim + 1) % NODES, (victim + 2) % NODES];
    let is_stalled = seed % 2 == 1;
    if is_stalled {
        cluster.slow_disk(victim, STALL);
    } else {
        cluster.fail_disk(victim);
    }
    // It meets it.
    cluster.run(write(cluster.home(others[0]), 1));
    cluster.steps(TAKE_OVER_TICKS + if is_stalled { STALL_TICKS } else { 0 });
    let reason = cluster.end_error(victim).expect("it ends");
    assert!(reason.contains("cannot write"), "seed {seed}: {reason}");
    for node in others {
        let failures = cluster.run(write(cluster.home(node), 2));
        assert_eq!(failures, [""; 0], "seed {seed}: others lead what it led");
        cluster.run(read(cluster.home(node), &[2]));
    }
    // The metadata may have been led there too.
    let table = "CREATE TABLE ks.later (k int PRIMARY KEY)";
    cluster.run(insist(cluster.home(others[1]), table.to_owned()));

    cluster.slow_disk(victim, Duration::ZERO);
    cluster.crash(victim, Survival::Random);
    cluster.restart(victim);
    cluster.steps(REST_TICKS);
    assert_eq!(told(&mut cluster, victim, "/readyz").0, 200, "seed {seed}");
    assert!(led_count(&mut cluster, victim) > 0, "seed {seed}: leadership comes home");
    cluster.run(read(cluster.home(victim), &[2]));
}

#[test]
fn others_lead_what_a_node_led_whose_disk_fails() {
    for seed in seeds(2) {
        run(seed);
    }
}

#[test]
fn nodes_stay_for_reads_where_nobody_could_write_without_them() {
    for seed in seeds(1) {
        let mut cluster = three_nodes(seed);
        cluster.fail_disk(0);
        cluster.run(write(cluster.home(1), 1));
        cluster.steps(TAKE_OVER_TICKS);
        assert!(cluster.end_error(0).is_some(), "seed {seed}: the first makes way");
        assert_eq!(cluster.run(write(cluster.home(1), 2)), [""; 0], "seed {seed}");
        for node in [1, 2] {
            cluster.fail_disk(node);
        }
        for node in [1, 2] {
            let failures = cluster.run(write(cluster.home(node), 3));
            let is_told = |why: &String| why.contains("cannot write any more");
            assert!(failures.iter().any(is_told), "seed {seed}: {failures:?}");
        }
        cluster.steps(TAKE_OVER_TICKS);
        for node in [1, 2] {
            assert_eq!(cluster.end_error(node), None, "seed {seed}: {node} stays");
            assert_eq!(told(&mut cluster, node, "/readyz").0, 503, "seed {seed}");
            cluster.run(read(cluster.home(node), &[2, 3]));
        }
    }
}
