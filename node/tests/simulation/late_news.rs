//! A leader that does not hear of a new generation of CDC streams: it is cut off from the node that
//! decides on the metadata, and a majority of its own groups' members supports it all the while.

use crate::change_log::{read_log, table_def};
use crate::client::{Client, ClientError, Dialect, Home};
use crate::clients::HasClients;
use crate::cluster::{Cluster, Cut, Order};
use crate::generations;
use crate::joining::{NODES, wait_for_members};
use crate::seeds;
use model::{ColumnKind, CqlType};
use std::time::Duration;

const SCHEMA: [&str; 2] = [
    "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}",
    "CREATE TABLE ks.t (k int PRIMARY KEY, v int) WITH cdc = {'enabled': true}",
];
/// As short as a generation may be announced.
const LEAD_MILLIS: i32 = 60_000;
const WRITE_INTERVAL_MILLIS: i32 = 100;
const PATIENCE: Duration = Duration::from_secs(30);

/// Writes rows one after the other, each until it is acknowledged.
async fn write(home: Home, keys: std::ops::Range<i32>) {
    let mut client = Client::connect(&home, "writer", Dialect::of(1)).await;
    for k in keys {
        let deadline = home.clock.now_micros() + PATIENCE.as_micros() as i64;
        // Again, it changes nothing.
        let time = home.clock.now_micros();
        let insert = format!("INSERT INTO ks.t (k, v) VALUES ({k}, {k}) USING TIMESTAMP {time}");
        while let Err(error) = client.query(&insert).await {
            assert!(matches!(error, ClientError::Refused(..)), "{insert}: {error:?}");
            assert!(home.clock.now_micros() < deadline, "{insert}: {error:?}");
        }
        home.clock.sleep(Duration::from_millis(WRITE_INTERVAL_MILLIS as u64)).await;
    }
}

#[test]
fn a_leader_that_hears_of_no_new_generation_places_nothing_in_the_old_one() {
    for seed in seeds(1) {
        let mut cluster = Cluster::new(seed, NODES);
        wait_for_members(&mut cluster);
        let home = cluster.home(2);
        cluster.run(async move {
            let mut client = Client::connect(&home, "definer", Dialect::of(1)).await;
            for statement in SCHEMA {
                client.query(statement).await.expect("nothing is wrong");
            }
        });
        // Every node leads what it is the first replica of.
        cluster.steps(30_000);
        // The founder decides on the metadata.
        cluster.cut(0, 1, Cut::BothWays);
        cluster.steps(2_000);
        cluster.order(0, &Order::post(&format!("/cdc/generations?starts_in_ms={LEAD_MILLIS}")));
        cluster.steps(5_000);
        assert!(cluster.is_done(0), "{:?}", cluster.answer(0));
        let row_count = (LEAD_MILLIS + 10_000) / WRITE_INTERVAL_MILLIS;
        cluster.run(write(cluster.home(2), 0..row_count));
        cluster.mend(0, 1, Cut::BothWays);
        cluster.run(write(cluster.home(2), row_count..row_count + 50));

        let all = cluster.run(generations::read(cluster.home(0)));
        let columns = [
            ("k", CqlType::Int, ColumnKind::PartitionKey(0)),
            ("v", CqlType::Int, ColumnKind::Regular),
        ];
        let home = cluster.home(2);
        let log = cluster.run(async move {
            let mut client = Client::connect(&home, "reader", Dialect::of(1)).await;
            read_log(&mut client, &table_def("t", &columns)).await.expect("nothing is wrong")
        });
        assert_eq!(log.len(), (row_count + 50) as usize, "each change is told of once");
        if let Err(why) = all.check(&log) {
            panic!("seed {seed}: {why}");
        }
    }
}
