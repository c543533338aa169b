//! A log that cannot be written any more: nothing is acknowledged from then on, the errors say
//! why, reads go on, and after a restart everything that was acknowledged is there.

use crate::client::{Client, ClientError, Dialect, Home};
use crate::clients::HasClients;
use crate::cluster::Order;
use crate::operator::ask;
use crate::world::World;
use cql::wire::Consistency;
use env::SimControl;
use env::disk::{OperationKind, Survival};
use std::collections::BTreeSet;
use std::time::Duration;

/// More rows than a full disk takes.
const ROWS_MAX: i32 = 300;
/// Writes after the fault, spread over partitions and so over both shards.
const LATER_WRITES: i32 = 20;

async fn connect_with_table(home: &Home) -> Client {
    let mut client = Client::connect(home, "writer", Dialect::of(1)).await;
    for text in [
        "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', \
         'replication_factor': 1}",
        "CREATE TABLE ks.t (p int PRIMARY KEY, v text) WITH cdc = {'enabled': true}",
    ] {
        client.query(text).await.unwrap();
    }
    // Past what follows a change of the schema.
    home.clock.sleep(Duration::from_secs(1)).await;
    client
}

async fn put(client: &mut Client, p: i32, bytes: usize) -> Result<(), ClientError> {
    let text = format!("INSERT INTO ks.t (p, v) VALUES ({p}, '{}')", "x".repeat(bytes));
    client.query(&text).await.map(drop)
}

/// The keys of a table.
async fn keys(client: &mut Client, table: &str) -> BTreeSet<i32> {
    let page = client.read_all(&format!("SELECT p FROM ks.{table}"), 10).await.unwrap();
    let key = |row: &Vec<Option<Vec<u8>>>| {
        i32::from_be_bytes(row[0].clone().expect("a key").try_into().unwrap())
    };
    page.rows.iter().map(key).collect()
}

/// What a writer was told, by key.
#[derive(Debug, Default)]
struct Told {
    acknowledged: BTreeSet<i32>,
    unknown: BTreeSet<i32>,
    refused: Vec<(i32, String)>,
}

impl Told {
    fn note(&mut self, p: i32, result: Result<(), ClientError>) {
        match result {
            Ok(()) => {
                self.acknowledged.insert(p);
            }
            Err(ClientError::Refused(code, why)) if error_is_definite(code) => {
                self.refused.push((p, why));
            }
            Err(ClientError::Refused(..)) => {
                self.unknown.insert(p);
            }
            Err(error) => panic!("the node does not say what happened: {error:?}"),
        }
    }
}

fn error_is_definite(code: i32) -> bool {
    ClientError::Refused(code, String::new()).is_not_applied()
}

/// Writes, breaks the disk, goes on.
async fn write_through_a_fault(home: Home, control: SimControl) -> Told {
    let mut client = connect_with_table(&home).await;
    let mut told = Told::default();
    for p in 0..5 {
        put(&mut client, p, 10).await.unwrap();
        told.acknowledged.insert(p);
    }
    // The log's writes are synchronous: writing is where a sync fails too.
    control.disk.fail_nth(OperationKind::Write, 1);
    told.note(5, put(&mut client, 5, 10).await);
    assert!(told.unknown.contains(&5), "a write that hit the fault: {told:?}");
    // The shard of that key has failed for good, the fault itself was a single one.
    let retried = put(&mut client, 5, 10).await;
    told.note(5, retried);
    assert!(!told.acknowledged.contains(&5), "acknowledged by a log that has failed: {told:?}");
    assert!(
        told.refused.iter().any(|(_, why)| why.contains("cannot write any more")),
        "the error does not say why: {told:?}"
    );
    for p in 100..100 + LATER_WRITES {
        let result = put(&mut client, p, 10).await;
        told.note(p, result);
    }
    assert!(told.refused.len() > 1, "one shard of two refuses: {told:?}");
    let ready = ask(home.net, home.node.ip(), &Order::get("/readyz")).await.unwrap();
    assert_eq!(ready.0, 503, "health checks hear of it: {ready:?}");
    assert!(ready.1.contains("cannot write any more"), "{ready:?}");
    check_reads(&mut client, &told).await;
    told
}

/// Reads go on: all that was acknowledged, nothing that was refused, each with its log row.
async fn check_reads(client: &mut Client, told: &Told) {
    // At QUORUM a log waits for what is undecided, which a shard that has failed never knows.
    client.consistency = Consistency::One;
    let found = keys(client, "t").await;
    assert_eq!(found, keys(client, "t_scylla_cdc_log").await, "the log tells of other rows");
    client.consistency = Consistency::Quorum;
    let missing: Vec<_> = told.acknowledged.difference(&found).collect();
    assert!(missing.is_empty(), "acknowledged and gone: {missing:?}");
    for p in &found {
        assert!(told.acknowledged.contains(p) || told.unknown.contains(p), "{p} was refused");
    }
}

async fn check_after_restart(home: Home, told: Told) {
    let mut client = Client::connect(&home, "reader", Dialect::of(2)).await;
    check_reads(&mut client, &told).await;
    for p in 200..200 + LATER_WRITES {
        put(&mut client, p, 10).await.expect("a node that was started again takes writes");
    }
}

#[test]
fn a_failed_write_of_the_log_stops_acknowledging_and_not_reading() {
    for (seed, survival) in [Survival::SyncedOnly, Survival::Everything].into_iter().enumerate() {
        let mut world = World::new(seed as u64);
        let (home, control) = (world.home().clone(), world.control.clone());
        let told = world.run(write_through_a_fault(home.clone(), control));
        world.cut_power(survival);
        world.run(check_after_restart(home, told));
    }
}

/// Writes until the disk takes no more.
async fn fill(home: Home, control: SimControl) -> Told {
    let mut client = connect_with_table(&home).await;
    control.disk.limit_space(Some(1 << 20));
    let mut told = Told::default();
    for p in 0..ROWS_MAX {
        let result = put(&mut client, p, 20_000).await;
        told.note(p, result);
    }
    assert!(!told.acknowledged.is_empty(), "nothing fitted");
    assert!(told.acknowledged.len() < ROWS_MAX as usize, "the disk was never full");
    check_reads(&mut client, &told).await;
    told
}

#[test]
fn a_full_disk_refuses_writes_and_loses_none() {
    let mut world = World::new(7);
    let (home, control) = (world.home().clone(), world.control.clone());
    let told = world.run(fill(home.clone(), control));
    world.cut_power(Survival::SyncedOnly);
    world.control.disk.limit_space(None);
    world.run(check_after_restart(home, told));
}
