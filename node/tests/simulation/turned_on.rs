//! A log that is turned on while a leader cannot hear of it: it is cut off from the node that
//! decides on the metadata, and a majority of its own groups' members supports it all the while, or does so
//! again before it has heard. What is written once the statement is answered is in the log, by
//! whichever node.

use crate::change_log::{self, read_log, read_table, table_def};
use crate::client::{Client, ClientError, Dialect, Home};
use crate::clients::{HasClients, Outcome};
use crate::cluster::{Cluster, Cut};
use crate::joining::{NODES, wait_for_members};
use crate::seeds;
use cdc::fold::LogRow;
use model::{ColumnKind, CqlType, TableDef};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const SCHEMA: [&str; 2] = [
    "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}",
    "CREATE TABLE ks.t (k int PRIMARY KEY, v int)",
];
const TURN_ON: &str = "ALTER TABLE ks.t WITH cdc = {'enabled': true}";
/// Each is written by a client of its own; some are led by the node that is cut off.
const KEYS: i32 = 12;
const WRITE_PAUSE: Duration = Duration::from_millis(100);
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// The node that decides on the metadata, the one that it cannot reach, and the one that both can.
const DECIDER: usize = 0;
const CUT_OFF: usize = 1;
const BETWEEN: usize = 2;

/// A write that was acknowledged, and when it was begun.
#[derive(Clone, Copy, Debug)]
struct Write {
    key: i32,
    value: i32,
    asked: i64,
}

fn base_table() -> Arc<TableDef> {
    table_def(
        "t",
        &[
            ("k", CqlType::Int, ColumnKind::PartitionKey(0)),
            ("v", CqlType::Int, ColumnKind::Regular),
        ],
    )
}

/// Makes statements until one is not refused.
async fn insist(home: Home, statements: &'static [&'static str]) {
    let mut client = Client::connect(&home, "definer", Dialect::of(1)).await;
    for statement in statements {
        while let Err(error) = client.query(statement).await {
            assert!(matches!(error, ClientError::Refused(..)), "{statement}: {error:?}");
            home.clock.sleep(RETRY_PAUSE).await;
        }
    }
}

/// Counts upwards in one row; what was acknowledged.
async fn write(home: Home, key: i32, is_to_end: Rc<Cell<bool>>) -> Vec<Write> {
    let name = format!("writer {key}");
    let (mut writes, mut value) = (Vec::new(), 0);
    while !is_to_end.get() {
        let mut client = Client::connect(&home, &name, Dialect::of(key as u64)).await;
        while !is_to_end.get() {
            value += 1;
            let asked = home.clock.now_micros();
            let insert = format!("INSERT INTO ks.t (k, v) VALUES ({key}, {value})");
            match client.query(&insert).await {
                Ok(_) => writes.push(Write { key, value, asked }),
                Err(ClientError::Refused(..)) => {}
                Err(ClientError::Lost(_)) => break,
            }
            home.clock.sleep(WRITE_PAUSE).await;
        }
    }
    writes
}

/// A cluster whose nodes lead what they are the first replica of, with a client for every row on
/// the node that will be cut off.
struct Run {
    cluster: Cluster,
    is_to_end: Rc<Cell<bool>>,
    writers: Vec<Outcome<Vec<Write>>>,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut cluster = Cluster::new(seed, NODES);
        wait_for_members(&mut cluster);
        cluster.run(insist(cluster.home(BETWEEN), &SCHEMA));
        cluster.steps(30_000);
        let is_to_end = Rc::new(Cell::new(false));
        let writers = (0..KEYS)
            .map(|key| cluster.start(write(cluster.home(CUT_OFF), key, is_to_end.clone())))
            .collect();
        cluster.steps(1_000);
        Run { cluster, is_to_end, writers }
    }

    /// Turns the log on; when that was answered.
    fn turn_on(&mut self) -> i64 {
        let home = self.cluster.home(BETWEEN);
        self.cluster.run(async move {
            insist(home.clone(), &[TURN_ON]).await;
            home.clock.now_micros()
        })
    }

    /// Mends what is broken, and compares the log with what was acknowledged, and with the table.
    fn judge(mut self, turned_on: i64) {
        let Run { cluster, is_to_end, writers } = &mut self;
        cluster.mend(DECIDER, CUT_OFF, Cut::BothWays);
        cluster.steps(15_000);
        is_to_end.set(true);
        let mut writes = Vec::new();
        for writer in writers {
            writes.extend(cluster.finish(writer));
        }
        let (home, table) = (cluster.home(BETWEEN), base_table());
        let (log, contents, now) = cluster.run(async move {
            let mut client = Client::connect(&home, "reader", Dialect::of(1)).await;
            let log = read_log(&mut client, &base_table()).await.expect("nothing is wrong");
            let contents = read_table(&mut client, &base_table()).await.expect("nothing is wrong");
            (log, contents, home.clock.now_micros() / 1_000_000)
        });
        let seed = cluster.seed;
        let told: BTreeSet<(i32, i32)> = log.iter().map(told).collect();
        let mut keys = BTreeSet::new();
        for write in writes.iter().filter(|write| write.asked >= turned_on) {
            keys.insert(write.key);
            let is_told = told.contains(&(write.key, write.value));
            assert!(is_told, "seed {seed}: not in the log, turned on at {turned_on}: {write:?}");
        }
        assert_eq!(keys.len(), KEYS as usize, "seed {seed}: every row is written afterwards");
        if let Err(why) = change_log::check(&table, false, &log, &contents, now) {
            panic!("seed {seed}: {why}");
        }
    }
}

/// The row that a change is of, and what it was set to.
fn told(row: &LogRow) -> (i32, i32) {
    let number = |name: &str| {
        let bytes = row.columns.get(name).expect("every change has all columns").as_slice();
        i32::from_be_bytes(bytes.try_into().unwrap())
    };
    (number("k"), number("v"))
}

/// A leader that does not hear that the log is turned on goes on until it gives up leading.
pub(crate) fn stays(seed: u64) {
    let mut run = Run::new(seed);
    run.cluster.cut(DECIDER, CUT_OFF, Cut::BothWays);
    run.cluster.steps(2_000);
    let turned_on = run.turn_on();
    run.cluster.steps(5_000);
    run.judge(turned_on);
}

/// It stands still while others lead and hear that the log is turned on, and leads again before it
/// has heard itself.
pub(crate) fn comes_back(seed: u64) {
    let mut run = Run::new(seed);
    run.cluster.cut(DECIDER, CUT_OFF, Cut::BothWays);
    run.cluster.freeze(CUT_OFF);
    let turned_on = run.turn_on();
    run.cluster.thaw(CUT_OFF);
    run.cluster.steps(20_000);
    run.judge(turned_on);
}

#[test]
fn what_is_written_by_way_of_a_leader_that_has_not_heard_is_told_of() {
    for seed in seeds(1) {
        stays(seed);
    }
}

#[test]
fn what_is_written_by_way_of_a_leader_that_comes_back_is_told_of() {
    for seed in seeds(1) {
        comes_back(seed);
    }
}
