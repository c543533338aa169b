//! A table that is dropped while its feeds are behind, and nodes die, lose power, stand still and are cut
//! off: what was acknowledged before the drop is delivered, in the order of each row; what is written to a
//! new table of the name is not; and then a feed on that table alone has ended, and one on two tables goes
//! on with the other.

use crate::client::{Client, Dialect, Home};
use crate::clients::HasClients;
use crate::cluster::Cluster;
use crate::deleted_rows::Insistent;
use crate::faults::{Fault, inflict};
use crate::joining::{NODES, wait_for_members};
use crate::receiver::Receiver;
use crate::seeds;
use env::EntropySource;
use serde_json::Value;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

const SCHEMA: [&str; 3] = [
    "CREATE KEYSPACE IF NOT EXISTS ks WITH replication = \
     {'class': 'SimpleStrategy', 'replication_factor': 3}",
    GONE,
    "CREATE TABLE IF NOT EXISTS ks.stays (k int PRIMARY KEY, v int)",
];
const GONE: &str = "CREATE TABLE IF NOT EXISTS ks.gone (k int PRIMARY KEY, v int)";
/// The feeds, by the path that they deliver to.
const ALONE: &str = "alone";
const BOTH: &str = "both";
const KEYS: i32 = 6;
const FAULTS: [Fault; 4] = [Fault::Kill, Fault::PowerCut, Fault::Isolate, Fault::Pause];
const QUIET_TICKS_MAX: u64 = 1_000;
const FAULT_TICKS_MAX: u64 = 3_000;
const PAUSE: Duration = Duration::from_millis(30);
/// What a table of the same name, made afterwards, is given.
const OF_THE_NEXT: i32 = -1;
/// How long the feeds may take to come to their end, when nothing is wrong any more, in ticks.
const END_TICKS_MAX: u64 = 180_000;

/// Writes rising values to a table until it is told to end; what was acknowledged.
async fn write(mut client: Insistent, table: &str, is_to_end: Rc<Cell<bool>>) -> Vec<i32> {
    let clock = client.clock();
    let mut acknowledged = Vec::new();
    while !is_to_end.get() {
        let v = acknowledged.len() as i32;
        let now = clock.now_micros();
        let k = v % KEYS;
        client
            .run(&format!("UPDATE ks.{table} USING TIMESTAMP {now} SET v = {v} WHERE k = {k}"))
            .await;
        acknowledged.push(v);
        clock.sleep(PAUSE).await;
    }
    acknowledged
}

/// State and phase of a feed, as a node that answers shows it.
async fn shown(home: Home, feed: &'static str) -> (String, String) {
    let mut client = Client::connect(&home, "shown", Dialect::of(1)).await;
    let query = format!("SELECT state, phase FROM system_views.changefeeds WHERE name = '{feed}'");
    let page = client.query(&query).await.expect("nothing is wrong any more");
    let text = |cell: &Option<Vec<u8>>| String::from_utf8(cell.clone().unwrap()).unwrap();
    (text(&page.rows[0][0]), text(&page.rows[0][1]))
}

/// The values of a table that a feed has told of, each the first time that it came; of each row they rise.
fn values(receiver: &Receiver, feed: &str, table: &str) -> Result<Vec<i64>, String> {
    let mut newest: BTreeMap<i64, (u64, i64)> = BTreeMap::new();
    let mut values = Vec::new();
    for event in receiver.events_of(feed).iter().filter(|event| event["table"] == table) {
        let number = |value: &Value| value.as_i64().expect("a number");
        let (k, v) = (number(&event["key"]["k"]), number(&event["new_row"]["v"]));
        let sequence = event["sequence"].as_u64().expect("a number");
        let (known, before) = newest.entry(k).or_insert((0, i64::MIN));
        if sequence <= *known {
            continue;
        }
        if v <= *before {
            return Err(format!("{feed} tells of {v} behind {before}: {event}"));
        }
        (*known, *before) = (sequence, v);
        values.push(v);
    }
    values.sort_unstable();
    Ok(values)
}

/// Makes the tables and the feeds.
fn set_up(cluster: &mut Cluster, receiver: &Receiver) {
    let (homes, seed) = (cluster.homes(), cluster.seed);
    let feeds = [
        receiver.statement(ALONE, "ks.gone", ""),
        receiver.statement(BOTH, "ks.gone, ks.stays", ", batch_size = 7"),
    ];
    cluster.run(async move {
        let mut client = Insistent::connect(homes, "schema".to_owned(), seed).await;
        for statement in SCHEMA.iter().copied().chain(feeds.iter().map(String::as_str)) {
            client.run(statement).await;
        }
    });
}

fn run(seed: u64) {
    let mut cluster = Cluster::new(seed, NODES);
    wait_for_members(&mut cluster);
    let receiver = Receiver::start(&mut cluster);
    set_up(&mut cluster, &receiver);
    let mut entropy = EntropySource::simulated(seed).generator("faults");
    let (gone_is_to_end, is_to_end) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
    let mut start = |table: &'static str, is_to_end: &Rc<Cell<bool>>| {
        let (homes, is_to_end) = (cluster.homes(), is_to_end.clone());
        cluster.start(async move {
            let client = Insistent::connect(homes, format!("writer of {table}"), seed).await;
            write(client, table, is_to_end).await
        })
    };
    let writing_gone = start("gone", &gone_is_to_end);
    let writing_stays = start("stays", &is_to_end);
    cluster.steps(1_000);
    receiver.close(true);
    inflict(&mut cluster, &FAULTS, &[0, 1, 2], FAULT_TICKS_MAX, &mut entropy);
    cluster.steps(entropy.below(QUIET_TICKS_MAX));
    gone_is_to_end.set(true);
    let gone = cluster.finish(&writing_gone);
    let homes = cluster.homes();
    let dropping = cluster.start(async move {
        let mut client = Insistent::connect(homes, "dropper".to_owned(), seed).await;
        for statement in ["DROP TABLE IF EXISTS ks.gone", GONE] {
            client.run(statement).await;
        }
        let next = format!("INSERT INTO ks.gone (k, v) VALUES (1, {OF_THE_NEXT})");
        client.run(&next).await;
    });
    inflict(&mut cluster, &FAULTS, &[0, 1, 2], FAULT_TICKS_MAX, &mut entropy);
    cluster.finish(&dropping);
    receiver.close(false);
    cluster.steps(entropy.below(QUIET_TICKS_MAX));
    inflict(&mut cluster, &FAULTS, &[0, 1, 2], FAULT_TICKS_MAX, &mut entropy);
    cluster.steps(QUIET_TICKS_MAX);
    is_to_end.set(true);
    let stays = cluster.finish(&writing_stays);
    wait_for_ends(&mut cluster, &receiver, stays.len());

    let all = |values: &[i32]| values.iter().copied().map(i64::from).collect::<Vec<_>>();
    for (feed, table, written) in
        [(ALONE, "gone", all(&gone)), (BOTH, "gone", all(&gone)), (BOTH, "stays", all(&stays))]
    {
        let told =
            values(&receiver, feed, table).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        assert_eq!(told, written, "seed {seed}: {feed} of {table}");
    }
    assert!(gone.len() > 20, "seed {seed}: {} writes", gone.len());
}

/// Waits until the feed of the table alone has ended, and the other has told of all of its other table.
fn wait_for_ends(cluster: &mut Cluster, receiver: &Receiver, stays_count: usize) {
    let seed = cluster.seed;
    let mut last = (String::new(), 0);
    for _ in 0..END_TICKS_MAX / 500 {
        cluster.steps(500);
        let home = cluster.home(0);
        let (state, phase) = cluster.run(shown(home, ALONE));
        let told = values(receiver, BOTH, "stays").map_or(0, |values| values.len());
        last = (format!("{state}, {phase}"), told);
        if last == ("Finished, table dropped".to_owned(), stays_count) {
            let home = cluster.home(1);
            let (state, phase) = cluster.run(shown(home, BOTH));
            assert_eq!(state, "Running", "seed {seed}: {phase}");
            return;
        }
    }
    panic!("seed {seed}: not at an end: {last:?}, of {stays_count}");
}

#[test]
fn what_a_dropped_table_held_is_told_before_its_feeds_end() {
    seeds(2).for_each(run);
}
