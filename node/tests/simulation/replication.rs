//! Three copies on three nodes, while the power of any of them is cut and what is between two of
//! them is: what was acknowledged is read at QUORUM from every node, then and in the end.
//!
//! Each client writes numbers that rise to rows of its own. A write without an answer may be made
//! at any time, also after later ones; so a row shows what was acknowledged last, or a number whose
//! fate is not known.

use crate::client::{Client, ClientError, Dialect, Home};
use crate::cluster_world::ClusterWorld;
use crate::joining::{NODES, harm, wait_for_members};
use crate::seeds;
use cql::wire::Consistency;
use env::EntropySource;
use env::disk::Survival;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(20);
const ROWS: u64 = 6;
const FAULTS: u64 = 8;

/// What a client knows of one of its rows.
#[derive(Clone, Debug, Default)]
struct Row {
    acknowledged: Option<i32>,
    unknown: BTreeSet<i32>,
}

impl Row {
    fn may_show(&self, number: Option<i32>) -> bool {
        number == self.acknowledged || number.is_some_and(|number| self.unknown.contains(&number))
    }
}

#[derive(Debug, Default)]
struct Known {
    rows: BTreeMap<i32, Row>,
    acknowledged: u64,
    reads: u64,
}

/// A row's number at QUORUM.
async fn read(client: &mut Client, row: i32) -> Result<Option<i32>, ClientError> {
    let page = client.query(&format!("SELECT v FROM ks.t WHERE k = {row}")).await?;
    let value = page.rows.first().and_then(|row| row[0].clone());
    Ok(value.map(|bytes| i32::from_be_bytes(bytes.try_into().expect("an int"))))
}

async fn connect(home: &Home, name: &str) -> Client {
    let mut client = Client::connect(home, name, Dialect::of(1)).await;
    client.patience = PATIENCE;
    client.consistency = Consistency::Quorum;
    client
}

async fn work(home: Home, seed: u64, number: usize, is_to_end: Rc<Cell<bool>>) -> Known {
    let name = format!("writer {number}");
    let mut entropy = EntropySource::simulated(seed).generator(&name);
    let mut known = Known::default();
    let mut next = 0;
    let mut client = connect(&home, &name).await;
    while !is_to_end.get() {
        let key = number as i32 * 1_000 + entropy.below(ROWS) as i32;
        let row = known.rows.entry(key).or_default();
        let result = if entropy.below(3) == 0 {
            read(&mut client, key).await.map(|shown| {
                assert!(row.may_show(shown), "seed {seed}, row {key}: {shown:?} of {row:?}");
                known.reads += 1;
            })
        } else {
            next += 1;
            let insert = format!("INSERT INTO ks.t (k, v) VALUES ({key}, {next})");
            let result = client.query(&insert).await;
            match &result {
                Ok(_) => {
                    row.acknowledged = Some(next);
                    known.acknowledged += 1;
                }
                Err(error) if error.is_not_applied() => {}
                Err(_) => drop(row.unknown.insert(next)),
            }
            result.map(drop)
        };
        match result {
            Ok(()) => {}
            Err(ClientError::Refused(..)) => home.clock.sleep(PAUSE).await,
            Err(ClientError::Lost(_)) => client = connect(&home, &name).await,
        }
    }
    known
}

/// Reads all rows at QUORUM from one node, as soon as it answers.
async fn check(home: Home, seed: u64, rows: Rc<BTreeMap<i32, Row>>) {
    let mut client = connect(&home, "checker").await;
    for (key, row) in &*rows {
        let shown = loop {
            match read(&mut client, *key).await {
                Ok(shown) => break shown,
                Err(ClientError::Refused(..)) => home.clock.sleep(PAUSE).await,
                Err(ClientError::Lost(_)) => client = connect(&home, "checker").await,
            }
        };
        assert!(row.may_show(shown), "seed {seed}, in the end: row {key}: {shown:?} of {row:?}");
    }
}

async fn make_table(home: Home) {
    let mut client = connect(&home, "schema").await;
    for statement in [
        "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', \
         'replication_factor': 3}",
        "CREATE TABLE ks.t (k int PRIMARY KEY, v int) WITH cdc = {'enabled': true}",
    ] {
        client.query(statement).await.unwrap();
    }
}

fn history(seed: u64) {
    let mut world = ClusterWorld::new(seed, NODES as u64);
    let mut entropy = EntropySource::simulated(seed).generator("faults");
    wait_for_members(&mut world);
    let home = world.home(0);
    world.run(make_table(home));
    let is_to_end = Rc::new(Cell::new(false));
    let clients: Vec<_> = (0..NODES)
        .map(|node| world.start(work(world.home(node), seed, node, is_to_end.clone())))
        .collect();
    harm(&mut world, &mut entropy, FAULTS, true);
    if entropy.below(2) == 0 {
        // All at once.
        for node in 0..NODES {
            world.cut_power(node, Survival::Random);
        }
    }
    is_to_end.set(true);
    let mut rows = BTreeMap::new();
    let (mut acknowledged, mut reads) = (0, 0);
    for client in clients {
        while client.borrow().is_none() {
            world.steps(1);
        }
        let known = client.take().expect("it is done");
        rows.extend(known.rows);
        acknowledged += known.acknowledged;
        reads += known.reads;
    }
    assert!(acknowledged > 100 && reads > 50, "seed {seed}: {acknowledged} writes, {reads} reads");
    let rows = Rc::new(rows);
    for node in 0..NODES {
        let home = world.home(node);
        world.run(check(home, seed, rows.clone()));
    }
}

#[test]
fn what_was_acknowledged_by_a_majority_is_read_from_every_node() {
    for seed in seeds(1) {
        history(seed);
    }
}
