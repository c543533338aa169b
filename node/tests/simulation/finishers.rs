//! Logged batches that two finish: the coordinator, which cannot hear or stands still, and the leader of
//! the group that has the record, which takes over. All of a batch is there or nothing, what was
//! written over it stays, and the log tells of each of its changes once.
//!
//! That they are made twice in this test, and not only could be, is seen by a planted bug: changes that
//! come a second time are logged again then, and are found (`planted`).

use crate::change_log::{self, table_def};
use crate::client::{Client, Dialect, Home};
use crate::clients::HasClients;
use crate::cluster::{Cluster, Cut};
use crate::joining::{NODES, wait_for_members};
use crate::seeds;
use crate::statements::Statement;
use crate::told::Written;
use crate::workload::insist;
use cdc::fold::LogRow;
use cql::wire::BatchKind;
use env::{Entropy, EntropySource};
use model::{ColumnKind, CqlType, TableDef};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The node that coordinates batches.
const COORDINATOR: usize = 0;
/// The node that the other clients use.
const OTHER: usize = 1;
const BATCHES: i32 = 12;
/// Partitions that a batch writes to, which no other batch does.
const PARTITIONS: i32 = 6;
/// What is written over the row of a partition.
const OVER: i32 = 1_000_000;
/// Within this many ticks after the batches were sent, the coordinator is cut off or stopped.
const START_TICKS_MAX: u64 = 60;
/// From here on rows of the batches are overwritten; the leaders have not taken over yet.
const OVERWRITE_TICKS: u64 = 5_000;
/// Then all goes on when the leaders have, or are about to.
const REST_TICKS: std::ops::Range<u64> = 4_000..9_000;
/// Until whoever still has something to finish has tried it for as long as it may.
const END_TICKS: u64 = 25_000;

const SCHEMA: [&str; 3] = [
    "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}",
    "CREATE TABLE ks.deltas (p int PRIMARY KEY, v int) WITH cdc = {'enabled': true}",
    "CREATE TABLE ks.images (p int PRIMARY KEY, v int) \
     WITH cdc = {'enabled': true, 'preimage': 'full', 'postimage': true}",
];
const TABLES: [&str; 2] = ["deltas", "images"];

fn base_table(name: &str) -> Arc<TableDef> {
    let columns = [
        ("p", CqlType::Int, ColumnKind::PartitionKey(0)),
        ("v", CqlType::Int, ColumnKind::Regular),
    ];
    table_def(name, &columns)
}

/// The partitions of a batch, with its table.
fn places(batch: i32) -> impl Iterator<Item = (usize, i32)> {
    let table = batch as usize % TABLES.len();
    (0..PARTITIONS).map(move |number| (table, batch * PARTITIONS + number))
}

fn insert((table, p): (usize, i32), v: i32) -> Statement {
    Statement::of_text(&format!("INSERT INTO ks.{} (p, v) VALUES ({p}, {v})", TABLES[table]))
}

async fn make_tables(home: Home) {
    let mut client = Client::connect(&home, "schema", Dialect::of(1)).await;
    for statement in SCHEMA {
        insist(&mut client, &home, statement).await;
    }
}

/// Sends a batch as soon as all clients are there; whether it was acknowledged. Its timestamp is the
/// client's, so that it is older than what is written over it, whenever it is decided.
async fn send(home: Home, batch: i32, ready_count: Rc<Cell<i32>>) -> bool {
    let mut client = Client::connect(&home, &format!("batch {batch}"), Dialect::of(2)).await;
    ready_count.set(ready_count.get() + 1);
    while ready_count.get() < BATCHES {
        home.clock.sleep(Duration::from_millis(1)).await;
    }
    let statements: Vec<Statement> = places(batch).map(|place| insert(place, batch)).collect();
    let timestamp = Some(home.clock.now_micros());
    client.batch(BatchKind::Logged, &statements, timestamp).await.is_ok()
}

/// Writes over one row of each batch; which of them were acknowledged.
async fn overwrite(home: Home, mut entropy: Entropy) -> BTreeMap<(usize, i32), bool> {
    let mut client = Client::connect(&home, "overwriter", Dialect::of(2)).await;
    let mut overwritten = BTreeMap::new();
    for batch in 0..BATCHES {
        let number = entropy.below(PARTITIONS as u64) as usize;
        let place = places(batch).nth(number).expect("a batch has so many");
        let result = client.run(&insert(place, OVER + batch)).await;
        overwritten.insert(place, result.is_ok());
        home.clock.sleep(Duration::from_millis(entropy.below(20))).await;
    }
    overwritten
}

/// What each row holds, the log of each table, and the law between them.
async fn read(home: Home) -> (BTreeMap<(usize, i32), i32>, Vec<Vec<LogRow>>) {
    let mut client = Client::connect(&home, "reader", Dialect::of(2)).await;
    let (mut rows, mut logs) = (BTreeMap::new(), Vec::new());
    for (index, name) in TABLES.iter().enumerate() {
        let table = base_table(name);
        let contents = change_log::read_table(&mut client, &table).await.expect("all is healed");
        let log = change_log::read_log(&mut client, &table).await.expect("all is healed");
        let now = home.clock.now_seconds();
        if let Err(why) = change_log::check(&table, index == 1, &log, &contents, now) {
            panic!("{name}: {why}");
        }
        let page = client.read_all(&format!("SELECT p, v FROM ks.{name}"), 100).await;
        for row in page.expect("all is healed").rows {
            let int = |cell: &Option<Vec<u8>>| {
                let bytes = cell.as_deref().expect("every row has it");
                i32::from_be_bytes(bytes.try_into().expect("an int"))
            };
            rows.insert((index, int(&row[0])), int(&row[1]));
        }
        logs.push(log);
    }
    (rows, logs)
}

/// Keeps the coordinator from hearing of what it has sent, or stops it.
fn disturb(cluster: &Cluster, entropy: &mut Entropy) -> impl FnOnce(&Cluster) + use<> {
    let is_cut = entropy.below(2) == 0;
    if is_cut {
        for other in 1..NODES {
            cluster.cut(other, COORDINATOR, Cut::OneWay);
        }
    } else {
        cluster.freeze(COORDINATOR);
    }
    move |cluster| {
        if is_cut {
            for other in 1..NODES {
                cluster.mend(other, COORDINATOR, Cut::OneWay);
            }
        } else {
            cluster.thaw(COORDINATOR);
        }
    }
}

fn run(seed: u64) {
    run_with(seed, true);
}

/// Nothing is written over what the batches write: all that can be told of twice was made twice.
#[cfg(debug_assertions)]
pub(crate) fn run_without_others(seed: u64) {
    run_with(seed, false);
}

fn run_with(seed: u64, is_overwritten: bool) {
    let mut cluster = Cluster::new(seed, NODES);
    wait_for_members(&mut cluster);
    cluster.run(make_tables(cluster.home(OTHER)));
    let mut entropy = EntropySource::simulated(seed).generator("finishers");
    let ready_count = Rc::new(Cell::new(0));
    let send = |batch| send(cluster.home(COORDINATOR), batch, ready_count.clone());
    let batches: Vec<_> = (0..BATCHES).map(send).collect();
    let sent: Vec<_> = batches.into_iter().map(|batch| cluster.start(batch)).collect();
    while ready_count.get() < BATCHES {
        cluster.step();
    }
    cluster.steps(entropy.below(START_TICKS_MAX));
    let mend = disturb(&cluster, &mut entropy);
    cluster.steps(OVERWRITE_TICKS);
    let overwriter = EntropySource::simulated(seed).generator("overwriter");
    let overwritten = if is_overwritten {
        cluster.run(overwrite(cluster.home(OTHER), overwriter))
    } else {
        BTreeMap::new()
    };
    cluster.steps(REST_TICKS.start + entropy.below(REST_TICKS.end - REST_TICKS.start));
    mend(&cluster);
    cluster.steps(END_TICKS);
    let acknowledged: Vec<bool> = sent.iter().map(|batch| cluster.finish(batch)).collect();
    let (rows, logs) = cluster.run(read(cluster.home(OTHER)));

    let mut written = Written::default();
    for batch in 0..BATCHES {
        let is_acknowledged = acknowledged[batch as usize];
        let of_batch: BTreeSet<(usize, i32)> = places(batch).collect();
        let is_there = |place: &&(usize, i32)| rows.contains_key(place);
        let count = of_batch.iter().filter(is_there).count();
        let over = of_batch.iter().filter(|place| overwritten.contains_key(place)).count();
        // A row that was written over says nothing of the batch.
        let is_whole = count == of_batch.len() || (!is_acknowledged && count <= over);
        assert!(is_whole, "seed {seed}: {count} of the rows of batch {batch} are there: {rows:?}");
        for place in of_batch {
            let over = OVER + batch;
            match overwritten.get(&place) {
                Some(true) => assert_eq!(rows[&place], over, "seed {seed}: {place:?} went back"),
                Some(false) => {}
                None => assert!(rows.get(&place).is_none_or(|v| *v == batch), "seed {seed}"),
            }
            // One that came when its row had been written over changed nothing.
            let is_told = is_acknowledged && !overwritten.contains_key(&place);
            written.note((place.0, place.1, None, batch), is_told);
            if let Some(is_acknowledged) = overwritten.get(&place) {
                written.note((place.0, place.1, None, over), *is_acknowledged);
            }
        }
    }
    for (index, log) in logs.iter().enumerate() {
        if let Err(why) = written.check(index, log) {
            panic!("seed {seed}: the log of {}: {why}", TABLES[index]);
        }
    }
}

#[test]
fn batches_that_two_finish_are_made_once() {
    for seed in seeds(2) {
        run(seed);
    }
}
