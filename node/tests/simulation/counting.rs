//! Clients count in the same rows, by counters and by conditional writes, while the power is cut.
//!
//! Numbers only go up, so whatever any client was told stays: a sum is at least what was
//! acknowledged and at most that with the unanswered steps, and a row is never below what a refused
//! client has seen in it. A refusal that tells of a write which is not durable yet would be found
//! out here.

use crate::client::{Client, Dialect, Home};
use crate::clients::HasClients;
use crate::seeds;
use crate::statements::Statement;
use crate::world::World;
use cql::wire::Consistency;
use env::EntropySource;
use env::disk::Survival;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

const CLIENTS: u64 = 8;
const ROWS: u64 = 2;
const STEPS: u64 = 40;
/// Steps of the world between two power cuts.
const TICKS_BETWEEN_CUTS: u64 = 50;
const CUTS: u64 = 4;

/// What clients know of one row.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    applied: i64,
    unanswered: i64,
    /// The largest number that a client was told of.
    seen: i64,
}

/// What they know of all rows: those of counters, and those of conditional writes.
#[derive(Clone, Copy, Debug, Default)]
struct Knowledge {
    counters: [Known; ROWS as usize],
    compared: [Known; ROWS as usize],
}

impl Knowledge {
    fn add(&mut self, other: &Knowledge) {
        let mine = self.counters.iter_mut().chain(&mut self.compared);
        for (mine, other) in mine.zip(other.counters.iter().chain(&other.compared)) {
            mine.applied += other.applied;
            mine.unanswered += other.unanswered;
            mine.seen = mine.seen.max(other.seen);
        }
    }
}

async fn make_tables(home: Home, cdc: &'static str) {
    let mut client = Client::connect(&home, "schema", Dialect::of(1)).await;
    for text in [
        "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', \
         'replication_factor': 1}",
        "CREATE TABLE ks.counted (p int PRIMARY KEY, n counter)",
        &format!("CREATE TABLE ks.compared (p int PRIMARY KEY, n bigint){cdc}"),
    ] {
        client.query(text).await.unwrap();
    }
    for row in 0..ROWS {
        let insert = format!("INSERT INTO ks.compared (p, n) VALUES ({row}, 0) IF NOT EXISTS");
        client.query(&insert).await.unwrap();
    }
}

fn number(cell: Option<&Vec<u8>>) -> i64 {
    cell.map_or(0, |bytes| i64::from_be_bytes(bytes.as_slice().try_into().expect("a bigint")))
}

/// Takes steps to the end, over as many connections as it needs.
async fn count(home: Home, number_of_client: u64, seed: u64, boots: Rc<Cell<u64>>) -> Knowledge {
    let name = format!("counter {number_of_client}");
    let mut entropy = EntropySource::simulated(seed).generator(&name);
    let mut client = Client::connect(&home, &name, Dialect::of(number_of_client)).await;
    let mut knowledge = Knowledge::default();
    let mut seen = [0; ROWS as usize];
    for _ in 0..STEPS {
        let row = entropy.below(ROWS) as usize;
        let is_counter = entropy.below(2) == 0;
        let (from, to) = (seen[row], seen[row] + 1);
        let text = if is_counter {
            format!("UPDATE ks.counted SET n = n + 1 WHERE p = {row}")
        } else {
            format!("UPDATE ks.compared SET n = {to} WHERE p = {row} IF n = {from}")
        };
        let boot = boots.get();
        let result = client.run(&Statement::of_text(&text)).await;
        let known =
            if is_counter { &mut knowledge.counters[row] } else { &mut knowledge.compared[row] };
        match &result {
            Ok(_) if is_counter => known.applied += 1,
            Ok(page) if page.rows[0][0].as_deref() == Some(&[1]) => {
                known.applied += 1;
                seen[row] = to;
            }
            Ok(page) => {
                assert_eq!(page.columns, ["[applied]", "n"]);
                seen[row] = number(page.rows[0][1].as_ref());
                assert!(seen[row] > from, "{text}: refused at {}", seen[row]);
            }
            Err(error) if error.is_not_applied() => {}
            Err(_) => known.unanswered += 1,
        }
        known.seen = known.seen.max(if is_counter { 0 } else { seen[row] });
        if result.is_err() {
            // A node whose disk is gone says so until it is gone too.
            while boots.get() == boot {
                home.clock.sleep(Duration::from_millis(5)).await;
            }
            client = Client::connect(&home, &name, Dialect::of(entropy.u64())).await;
        }
    }
    knowledge
}

async fn check(home: Home, knowledge: Knowledge) {
    let mut client = Client::connect(&home, "checker", Dialect::of(0)).await;
    client.consistency = Consistency::Serial;
    for (table, rows) in [("counted", knowledge.counters), ("compared", knowledge.compared)] {
        for (row, known) in rows.iter().enumerate() {
            let select = format!("SELECT n FROM ks.{table} WHERE p = {row}");
            let page = client.query(&select).await.unwrap();
            let sum = page.rows.first().map_or(0, |row| number(row[0].as_ref()));
            let possible = known.applied.max(known.seen)..=known.applied + known.unanswered;
            assert!(possible.contains(&sum), "{table} {row} is {sum}: {known:?}");
        }
    }
}

pub(crate) fn run(seed: u64, cuts: u64) {
    let mut world = World::new(seed);
    let home = world.home().clone();
    let cdc =
        if seed.is_multiple_of(2) { "" } else { " WITH cdc = {'enabled': true, 'preimage': true}" };
    world.run(make_tables(home.clone(), cdc));
    let boots = Rc::new(Cell::new(world.boots()));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| world.start(count(home.clone(), client, seed, boots.clone())))
        .collect();
    let mut ticks = 0;
    while clients.iter().any(|client| client.borrow().is_none()) {
        world.step();
        boots.set(world.boots());
        ticks += u64::from(world.is_serving());
        if ticks.is_multiple_of(TICKS_BETWEEN_CUTS) && ticks / TICKS_BETWEEN_CUTS <= cuts {
            ticks += 1;
            if world.is_serving() {
                world.cut_power(Survival::SyncedOnly);
            }
        }
    }
    let mut knowledge = Knowledge::default();
    for client in &clients {
        knowledge.add(&client.borrow_mut().take().expect("it has ended"));
    }
    let mut rows = knowledge.counters.iter().chain(&knowledge.compared);
    assert!(rows.clone().all(|known| known.applied > 0), "seed {seed}: {knowledge:?}");
    assert!(cuts > 0 || rows.all(|known| known.unanswered == 0), "seed {seed}: {knowledge:?}");
    world.run(check(home, knowledge));
}

#[test]
fn every_step_counts_once() {
    seeds(4).for_each(|seed| run(seed, 0));
}

#[test]
fn every_step_counts_once_whenever_the_power_is_cut() {
    seeds(8).for_each(|seed| run(seed, CUTS));
}
