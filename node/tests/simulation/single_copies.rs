//! A node joins a ring that has one copy of each row, and leaves it again. Rows go to it and come back,
//! and nowhere is another copy that would hide that one was not sent.
//!
//! Nothing else goes wrong: what is looked at is that a change of the ring ends when the rows are
//! where they shall be, and not before.

use crate::client::{Client, Dialect, Home};
use crate::clients::HasClients;
use crate::cluster::{Cluster, Order};
use crate::joining::wait_for_members_of;
use crate::seeds;
use crate::workload::{PATIENCE, insist};
use std::time::Duration;

const FOUNDERS: usize = 3;
const JOINING: usize = FOUNDERS;
const ROWS: usize = 120;
/// How long rows may take to be found, with a ring that has just changed.
const FOUND_TIME_MAX: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(100);

async fn fill(home: Home) {
    let mut client = Client::connect(&home, "fill", Dialect::of(1)).await;
    let keyspace = "CREATE KEYSPACE ks WITH replication = \
                    {'class': 'SimpleStrategy', 'replication_factor': 1}";
    insist(&mut client, &home, keyspace).await;
    insist(&mut client, &home, "CREATE TABLE ks.single (k int PRIMARY KEY)").await;
    for row in 0..ROWS {
        insist(&mut client, &home, &format!("INSERT INTO ks.single (k) VALUES ({row})")).await;
    }
}

/// All rows are found, by way of this node.
async fn check(home: Home) {
    let deadline = home.clock.now_micros() + FOUND_TIME_MAX.as_micros() as i64;
    loop {
        let mut client = Client::connect(&home, "check", Dialect::of(1)).await;
        let found = client.read_all("SELECT k FROM ks.single", 50).await;
        if let Ok(page) = &found {
            return assert_eq!(page.rows.len(), ROWS, "rows are lost");
        }
        assert!(home.clock.now_micros() < deadline, "{found:?}");
        home.clock.sleep(PAUSE).await;
    }
}

fn wait_until(cluster: &mut Cluster, what: &str, is_so: impl Fn(&Cluster) -> bool) {
    // A tick is a millisecond.
    for _ in 0..PATIENCE.as_millis() {
        if is_so(cluster) {
            return;
        }
        cluster.step();
    }
    panic!("seed {}: {what}", cluster.seed);
}

pub(crate) fn run(seed: u64) {
    let mut cluster = Cluster::with_unstarted(seed, FOUNDERS, 1);
    wait_for_members_of(&mut cluster, &[0, 1, 2]);
    cluster.run(fill(cluster.home(0)));
    cluster.restart(JOINING);
    wait_until(&mut cluster, "the node does not join", |cluster| cluster.is_serving(JOINING));
    cluster.run(check(cluster.home(1)));
    cluster.order(JOINING, &Order::post("/decommission"));
    wait_until(&mut cluster, "the node does not leave", |cluster| cluster.has_gone(JOINING));
    cluster.run(check(cluster.home(2)));
}

#[test]
fn every_row_goes_to_a_node_that_joins_and_comes_back_from_one_that_leaves() {
    for seed in seeds(1) {
        run(seed);
    }
}
