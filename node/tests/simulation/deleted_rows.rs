//! A changefeed that tells of deleted ranges and partitions row by row, while the nodes that lead them,
//! or deliver the feed, die, lose power, stand still and are cut off: each row that went is told once,
//! by the delete that took it, with all others that the same delete took.
//!
//! Clients make every statement again until it is acknowledged, with the timestamp that it had first. So
//! whatever was made without their hearing of it, a delete takes its rows once.
//!
//! Deletes take so many rows, and requests so few, that the feed saves its position while a delete is
//! told in part, and its owner dies then. A planted bug shows that it does (`planted`).

use crate::client::{Client, ClientError, Home};
use crate::clients::HasClients;
use crate::cluster::Cluster;
use crate::faults::{Fault, inflict_on};
use crate::joining::{NODES, wait_for_members};
use crate::receiver::Receiver;
use crate::seeds;
use env::{Clock, Entropy, EntropySource};
use serde_json::Value;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

const SCHEMA: [&str; 2] = [
    "CREATE KEYSPACE IF NOT EXISTS ks WITH replication = \
     {'class': 'SimpleStrategy', 'replication_factor': 3}",
    "CREATE TABLE IF NOT EXISTS ks.lines (p int, c int, v int, PRIMARY KEY (p, c))",
];
/// Requests that are far smaller than a delete, so that one takes longer than it is from one report of
/// the feed's position to the next.
const OPTIONS: &str = ", delete_expansion = 'rows', include_old_values = true, batch_size = 3";
const DELETERS: i32 = 2;
const ROWS: i32 = 80;
/// Where partitions that are deleted by ranges are cut.
const CUT: i32 = 32;
/// The partition of the last row that is written.
const LAST: i32 = -1;
const FAULTS: [Fault; 4] = [Fault::Kill, Fault::PowerCut, Fault::Isolate, Fault::Pause];
const QUIET_TICKS_MAX: u64 = 1_500;
const FAULT_TICKS_MAX: u64 = 4_000;
const PAUSE: Duration = Duration::from_millis(50);
/// Between two partitions of a client: the feed is to keep up.
const REST: Duration = Duration::from_millis(2_500);
/// How long the feed may take to come to its end, when nothing is wrong any more, in ticks.
const END_TICKS_MAX: u64 = 120_000;

/// A delete: the partition, and which rows of it.
type Delete = (i32, Range<i32>);

/// A client that goes to another node when its own does not answer.
pub(crate) struct Insistent {
    homes: Vec<Home>,
    name: String,
    entropy: Entropy,
    client: Client,
}

impl Insistent {
    pub(crate) async fn connect(homes: Vec<Home>, name: String, seed: u64) -> Insistent {
        let mut entropy = EntropySource::simulated(seed).generator(&name);
        let client = Client::connect_to_any(&homes, &name, &mut entropy).await;
        Insistent { homes, name, entropy, client }
    }

    pub(crate) fn clock(&self) -> Clock {
        self.homes[0].clock.clone()
    }

    /// Makes a statement until it is acknowledged.
    pub(crate) async fn run(&mut self, text: &str) {
        loop {
            match self.client.query(text).await {
                Ok(_) => return,
                Err(ClientError::Refused(..)) => self.homes[0].clock.sleep(PAUSE).await,
                Err(ClientError::Lost(_)) => {
                    let (homes, name) = (&self.homes, &self.name);
                    self.client = Client::connect_to_any(homes, name, &mut self.entropy).await;
                }
            }
        }
    }

    /// The same of changes of rows, with a timestamp of now.
    async fn write(&mut self, text: impl Fn(i64) -> String) {
        let text = text(self.clock().now_micros());
        self.run(&text).await;
    }
}

/// Fills partitions and deletes them; what was deleted.
async fn delete(mut client: Insistent, number: i32, is_to_end: Rc<Cell<bool>>) -> Vec<Delete> {
    let mut deleted = Vec::new();
    let mut p = number;
    while !is_to_end.get() {
        client
            .write(|now| {
                let insert = |c| format!("INSERT INTO ks.lines (p, c, v) VALUES ({p}, {c}, {c}); ");
                let inserts: String = (0..ROWS).map(insert).collect();
                format!("BEGIN UNLOGGED BATCH USING TIMESTAMP {now} {inserts}APPLY BATCH")
            })
            .await;
        let deletes = match p % 2 {
            0 => vec![(String::new(), 0..ROWS)],
            _ => vec![(format!(" AND c < {CUT}"), 0..CUT), (format!(" AND c >= {CUT}"), CUT..ROWS)],
        };
        for (condition, rows) in deletes {
            let delete = |now| {
                format!("DELETE FROM ks.lines USING TIMESTAMP {now} WHERE p = {p}{condition}")
            };
            client.write(delete).await;
            deleted.push((p, rows));
        }
        p += DELETERS;
        client.clock().sleep(REST).await;
    }
    deleted
}

/// What was told of a row: by which delete, and as which of its rows.
type Told = BTreeMap<(i32, i32), BTreeSet<(u64, u64)>>;

fn told(events: &[Value]) -> Told {
    let mut told = Told::new();
    for event in events.iter().filter(|event| event["operation"] == "DELETE") {
        let number = |value: &Value| value.as_i64().map(|number| number as i32);
        let key = &event["key"];
        let (Some(p), Some(c)) = (number(&key["p"]), number(&key["c"])) else {
            panic!("rows are not told one by one: {event}");
        };
        assert_eq!(number(&event["old_row"]["v"]), Some(c), "{event}");
        let place = (event["sequence"].as_u64().unwrap(), event["index"].as_u64().unwrap());
        told.entry((p, c)).or_default().insert(place);
    }
    told
}

/// Whether every row of a delete was told once, by that delete.
fn check((p, rows): &Delete, told: &Told) -> Result<(), String> {
    let places: Vec<_> =
        rows.clone().map(|c| told.get(&(*p, c)).cloned().unwrap_or_default()).collect();
    let first = places[0].first().map_or(0, |(sequence, _)| *sequence);
    let expected = (0..).zip(rows.clone()).map(|(index, _)| BTreeSet::from([(first, index)]));
    if expected.eq(places.iter().cloned()) {
        return Ok(());
    }
    Err(format!("the delete of {rows:?} of {p} was told so: {places:?}"))
}

/// Waits until the feed has told of a row that is written behind everything else.
fn wait_for_end(cluster: &mut Cluster, receiver: &Receiver) {
    let (homes, seed) = (cluster.homes(), cluster.seed);
    cluster.run(async move {
        let mut client = Insistent::connect(homes, "last".to_owned(), seed).await;
        client.clock().sleep(REST).await;
        let insert = format!("INSERT INTO ks.lines (p, c, v) VALUES ({LAST}, 0, 0)");
        client.run(&insert).await;
    });
    let is_last = |event: &Value| event["key"]["p"] == LAST;
    for _ in 0..END_TICKS_MAX / 100 {
        cluster.steps(100);
        if receiver.events_of("f").iter().any(is_last) {
            return;
        }
    }
    panic!("seed {seed}: the feed does not come to its end");
}

pub(crate) fn run(seed: u64) {
    let mut cluster = Cluster::new(seed, NODES);
    wait_for_members(&mut cluster);
    let receiver = Receiver::start(&mut cluster);
    let create = receiver.statement("f", "ks.lines", OPTIONS);
    let homes = cluster.homes();
    cluster.run(async move {
        let mut client = Insistent::connect(homes, "schema".to_owned(), seed).await;
        for statement in SCHEMA {
            client.run(statement).await;
        }
        client.run(&create).await;
    });
    let is_to_end = Rc::new(Cell::new(false));
    let start = |number| {
        let (homes, is_to_end) = (cluster.homes(), is_to_end.clone());
        cluster.start(async move {
            let client = Insistent::connect(homes, format!("deleter {number}"), seed).await;
            delete(client, number, is_to_end).await
        })
    };
    let deleters: Vec<_> = (0..DELETERS).map(start).collect();
    let mut entropy = EntropySource::simulated(seed).generator("faults");
    for turn in 0..8 {
        cluster.steps(entropy.below(QUIET_TICKS_MAX));
        let (any, ticks) = (entropy.below(NODES as u64), 1 + entropy.below(FAULT_TICKS_MAX));
        // Every second fault befalls the node that delivers; the others, whoever leads.
        let owner = (0..NODES).find(|node| receiver.sender() == Some(cluster.address(*node)));
        let node = owner.filter(|_| turn % 2 == 0).unwrap_or(any as usize);
        inflict_on(&mut cluster, &FAULTS, node, &[0, 1, 2], ticks, &mut entropy);
    }
    is_to_end.set(true);
    let deleted: Vec<Delete> =
        deleters.iter().flat_map(|deleter| cluster.finish(deleter)).collect();
    wait_for_end(&mut cluster, &receiver);
    let told = told(&receiver.events_of("f"));
    for delete in &deleted {
        check(delete, &told).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
    assert!(deleted.len() > 5, "seed {seed}: {} deletes", deleted.len());
}

#[test]
fn deleted_rows_are_told_once_and_whole_whoever_leads() {
    seeds(1).for_each(run);
}
