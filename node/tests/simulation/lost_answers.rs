//! Three nodes of which one is cut off again and again while requests of its clients are on their way
//! to the others, or the answers back: what a client is told of them is true.
//!
//! A write that was refused is nowhere, one that was acknowledged is there, and an increment counts
//! once, whatever the node does to get an answer.

use crate::client::{Client, Dialect, Home};
use crate::clients::HasClients;
use crate::cluster::{Cluster, Cut};
use crate::joining::{NODES, wait_for_members};
use crate::seeds;
use env::{Entropy, EntropySource};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

/// Clients of each node.
const CLIENTS: u64 = 3;
const COUNTERS: u64 = 12;
const CUTS: u64 = 8;
/// Ticks of a cut and between two, at most; the shortest cut is as long as it takes to be noticed.
const CUT_TICKS: std::ops::Range<u64> = 400..3_500;
const CALM_TICKS: u64 = 600;
/// How long a client waits for an answer: longer than a node does.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(20);

/// What a client was told.
#[derive(Debug, Default)]
struct Told {
    acknowledged: BTreeSet<i64>,
    refused: BTreeSet<i64>,
    /// By counter: what was surely added, and what may have been.
    added: [(i64, i64); COUNTERS as usize],
}

async fn make_tables(home: Home) {
    for text in [
        "CREATE KEYSPACE IF NOT EXISTS ks WITH replication = {'class': 'SimpleStrategy', \
         'replication_factor': 3}",
        "CREATE TABLE IF NOT EXISTS ks.elements (p bigint PRIMARY KEY)",
        "CREATE TABLE IF NOT EXISTS ks.counted (p bigint PRIMARY KEY, n counter)",
    ] {
        let mut client = Client::connect(&home, "schema", Dialect::of(1)).await;
        while client.query(text).await.is_err() {
            home.clock.sleep(PAUSE).await;
            client = Client::connect(&home, "schema", Dialect::of(1)).await;
        }
    }
}

async fn work(home: Home, number: u64, mut entropy: Entropy, is_to_end: Rc<Cell<bool>>) -> Told {
    let mut told = Told::default();
    let name = format!("worker {number}");
    let mut next = number as i64 * 1_000_000;
    while !is_to_end.get() {
        let mut client = Client::connect(&home, &name, Dialect::of(entropy.u64())).await;
        client.patience = PATIENCE;
        while !is_to_end.get() {
            let is_answered = if entropy.below(2) == 0 {
                next += 1;
                add(&mut client, next, &mut told).await
            } else {
                count(&mut client, entropy.below(COUNTERS), &mut told).await
            };
            if !is_answered {
                break;
            }
        }
        home.clock.sleep(PAUSE).await;
    }
    told
}

/// The timestamp is the client's own, so that the node may repeat the write.
async fn add(client: &mut Client, element: i64, told: &mut Told) -> bool {
    let text = format!("INSERT INTO ks.elements (p) VALUES ({element}) USING TIMESTAMP {element}");
    match client.query(&text).await {
        Ok(_) => drop(told.acknowledged.insert(element)),
        Err(error) if error.is_not_applied() => drop(told.refused.insert(element)),
        Err(_) => return false,
    }
    true
}

async fn count(client: &mut Client, counter: u64, told: &mut Told) -> bool {
    let text = format!("UPDATE ks.counted SET n = n + 1 WHERE p = {counter}");
    let (surely, perhaps) = &mut told.added[counter as usize];
    match client.query(&text).await {
        Ok(_) => *surely += 1,
        Err(error) if error.is_not_applied() => {}
        Err(_) => {
            *perhaps += 1;
            return false;
        }
    }
    true
}

/// All rows of both tables, once the leaders answer.
async fn read(home: Home) -> (BTreeSet<i64>, Vec<(i64, i64)>) {
    let bigint = |cell: &Option<Vec<u8>>| {
        let bytes = cell.as_deref().expect("no null here");
        i64::from_be_bytes(bytes.try_into().expect("a bigint"))
    };
    loop {
        let mut client = Client::connect(&home, "reader", Dialect::of(1)).await;
        let elements = client.read_all("SELECT p FROM ks.elements", 500).await;
        let counters = client.read_all("SELECT p, n FROM ks.counted", 500).await;
        if let (Ok(elements), Ok(counters)) = (elements, counters) {
            let elements = elements.rows.iter().map(|row| bigint(&row[0])).collect();
            let counters = counters.rows.iter().map(|row| (bigint(&row[0]), bigint(&row[1])));
            return (elements, counters.collect());
        }
        home.clock.sleep(PAUSE).await;
    }
}

pub(crate) fn run(seed: u64) {
    let mut world = Cluster::new(seed, NODES);
    wait_for_members(&mut world);
    world.run(make_tables(world.home(0)));
    let is_to_end = Rc::new(Cell::new(false));
    let mut entropy = EntropySource::simulated(seed).generator("cuts");
    let workers: Vec<_> = (0..CLIENTS * NODES as u64)
        .map(|number| {
            let entropy = EntropySource::simulated(seed).generator(&format!("worker {number}"));
            let home = world.home(number as usize % NODES);
            world.start(work(home, number, entropy, is_to_end.clone()))
        })
        .collect();
    for _ in 0..CUTS {
        world.steps(entropy.below(CALM_TICKS));
        let node = entropy.below(NODES as u64) as usize;
        let others = [(node + 1) % NODES, (node + 2) % NODES];
        // Its requests arrive and the answers do not, or nothing passes.
        let is_one_way = entropy.below(2) == 0;
        let cut = if is_one_way { Cut::OneWay } else { Cut::BothWays };
        for other in others {
            world.cut(other, node, cut);
        }
        world.steps(CUT_TICKS.start + entropy.below(CUT_TICKS.end - CUT_TICKS.start));
        for other in others {
            world.mend(other, node, cut);
        }
    }
    world.steps(CALM_TICKS);
    is_to_end.set(true);
    while workers.iter().any(|told| told.borrow().is_none()) {
        world.step();
    }
    let told: Vec<Told> = workers.iter().map(|told| told.take().expect("it has ended")).collect();
    let (elements, counters) = world.run(read(world.home(0)));
    for told in &told {
        let lost: Vec<_> = told.acknowledged.difference(&elements).collect();
        assert!(lost.is_empty(), "seed {seed}: acknowledged and not there: {lost:?}");
        let there: Vec<_> = told.refused.intersection(&elements).collect();
        assert!(there.is_empty(), "seed {seed}: refused, and there: {there:?}");
    }
    for (counter, sum) in counters {
        let of_counter = told.iter().map(|told| told.added[counter as usize]);
        let (surely, perhaps) = of_counter.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let possible = surely..=surely + perhaps;
        assert!(possible.contains(&sum), "seed {seed}: counter {counter} is {sum}: {possible:?}");
    }
}

#[test]
fn what_is_told_of_requests_whose_answers_are_lost_is_true() {
    seeds(1).for_each(run);
}
