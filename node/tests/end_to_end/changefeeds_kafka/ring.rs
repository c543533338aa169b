//! A snapshot and the stream behind it, while a node joins, the owner of the feed dies, and a node
//! leaves.

use super::{Kafka, TABLE, Writers, cell, host_id, table, text, wait_for};
use crate::changefeeds::keyspace;
use crate::kafka::Arrival;
use crate::ring_changes::{verb, wait_for_members};
use crate::several_nodes::QUORUM;
use crate::support::{Node, Raw};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::thread;

const ARGUMENTS: &[&str] = &["--memory", "64M"];
/// Rows that are there before the feed, and that nobody changes.
const OLD_IDS: std::ops::Range<i64> = 1_000..1_200;
const FEED: &str = ", initial_scan = 'yes', batch_size = 20";

/// The table, for a reader that passes over what it knows of a key.
fn replayed(arrivals: &[Arrival]) -> BTreeMap<i64, i64> {
    let mut rows = BTreeMap::new();
    let mut newest: BTreeMap<i64, u64> = BTreeMap::new();
    for Arrival { record, .. } in arrivals {
        let event: Value = serde_json::from_str(&record.value).expect("an event");
        let id = event["key"]["id"].as_i64().expect("an id");
        let sequence = event["sequence"].as_u64().expect("a sequence");
        let known = newest.entry(id).or_default();
        if sequence <= *known {
            continue;
        }
        *known = sequence;
        match event["new_row"]["v"].as_i64() {
            Some(v) => rows.insert(id, v),
            None => rows.remove(&id),
        };
    }
    rows
}

/// Which of these nodes delivers the feed.
fn owner(nodes: &[Node], asked: &Node) -> usize {
    wait_for("an owner", || {
        let owner = cell(&mut Raw::ready(asked), "f", "owner")?;
        nodes.iter().position(|node| host_id(node) == owner)
    })
}

#[test]
fn snapshot_and_stream_are_the_table_while_nodes_join_die_and_leave() {
    let Some(kafka) = Kafka::start() else { return };
    let mut nodes = Node::unstarted_together::<4>(ARGUMENTS);
    nodes[0].restart();
    Node::restart_together(&mut nodes[1..3]);
    let (there, new) = nodes.split_at_mut(3);
    wait_for_members(&there.iter().collect::<Vec<_>>());
    let mut raw = Raw::ready(&there[0]);
    for statement in [&keyspace(3), TABLE] {
        raw.run(statement);
    }
    for id in OLD_IDS {
        let insert = format!("INSERT INTO shop.orders (id, v) VALUES ({id}, {id})");
        wait_for("a row", || raw.rows_at(&insert, QUORUM).ok());
    }
    let before = Writers::start(10_000, there.iter());
    before.wait_for_more(100);
    let consumer = kafka.broker.follow("changes", "replay");

    // The scan begins while a node joins, and its owner dies.
    let (dead, writers, mut acknowledged) = thread::scope(|scope| {
        let joining = scope.spawn(|| new[0].restart());
        // While the ring changes, nobody may lead what decides on feeds for a moment.
        let create = kafka.statement("IF NOT EXISTS f", "changes", FEED);
        wait_for("a feed", || raw.rows_at(&create, QUORUM).ok());
        let dead = owner(there, &there[0]);
        let stays = &there[(dead + 1) % 3];
        let writers = Writers::start(100_000, [stays, stays, stays]);
        let acknowledged = before.end();
        wait_for("the first event", || (!consumer.arrivals().is_empty()).then_some(()));
        there[dead].kill();
        writers.wait_for_more(100);
        there[dead].restart();
        joining.join().expect("it joins");
        (dead, writers, acknowledged)
    });
    let (stays, leaves) = ((dead + 1) % 3, (dead + 2) % 3);
    let all: Vec<&Node> = nodes.iter().collect();
    wait_for_members(&all);
    let mut raw = Raw::ready(&nodes[stays]);
    wait_for("a scan that is complete", || {
        (text(&mut raw, "f", "phase") == "streaming").then_some(())
    });
    let streamed_from = writers.now();

    assert!(verb(&nodes[leaves], &["decommission"]).success().ends_with("DECOMMISSIONED\n"));
    let enough = writers.now() + 200;
    wait_for("events by the new ring", || {
        values_of(&consumer.arrivals()).iter().any(|v| *v >= enough).then_some(())
    });
    acknowledged.extend(writers.end());

    // What was overwritten while it was scanned is told of by what came later.
    acknowledged.retain(|v| *v >= streamed_from);
    assert!(!acknowledged.is_empty(), "something was written");
    wait_for("the table in the topic, and every change since the scan", || {
        let arrivals = consumer.arrivals();
        let values = values_of(&arrivals);
        let is_whole = acknowledged.iter().all(|v| values.contains(v));
        (is_whole && replayed(&arrivals) == table(&mut raw)).then_some(())
    });
}

/// The values that were told of.
fn values_of(arrivals: &[Arrival]) -> BTreeSet<i64> {
    let value = |arrival: &Arrival| {
        let event: Value = serde_json::from_str(&arrival.record.value).expect("an event");
        event["new_row"]["v"].as_i64()
    };
    arrivals.iter().filter_map(value).collect()
}
