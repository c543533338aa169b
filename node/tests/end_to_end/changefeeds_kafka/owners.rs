//! Three nodes and a broker, while the node dies that delivers the feed, or sleeps and wakes up.

use super::{Kafka, TABLE, Told, Writers, cell, host_id, table, wait_for};
use crate::changefeeds::keyspace;
use crate::several_nodes::QUORUM;
use crate::support::{Node, Raw};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const ARGUMENTS: &[&str] = &["--memory", "128M"];

/// Three nodes, and a feed `f` of theirs into the topic `changes`.
pub(super) struct Three {
    pub(super) nodes: [Node; 3],
    host_ids: [Vec<u8>; 3],
}

impl Three {
    pub(super) fn start(kafka: &Kafka, options: &str) -> Three {
        let nodes = Node::start_together(ARGUMENTS);
        let mut raw = Raw::ready(&nodes[0]);
        for statement in [&keyspace(3), TABLE, &kafka.statement("f", "changes", options)] {
            raw.run(statement);
        }
        Three::of(nodes)
    }

    fn of(nodes: [Node; 3]) -> Three {
        let host_ids = [0, 1, 2].map(|at: usize| host_id(&nodes[at]));
        Three { nodes, host_ids }
    }

    /// Who delivers the feed, as one of the nodes knows it.
    pub(super) fn owner(&self, asked: usize) -> Option<usize> {
        let owner = cell(&mut Raw::ready(&self.nodes[asked]), "f", "owner")?;
        self.host_ids.iter().position(|id| *id == owner)
    }

    /// The position that the cluster keeps, and the epoch under which it was written.
    fn position(&self, asked: usize) -> (i64, i64) {
        let rows =
            Raw::ready(&self.nodes[asked]).rows("SELECT sequence, epoch FROM system.changefeeds");
        let row = rows.expect("it is there").remove(0);
        let number = |cell: &Option<Vec<u8>>| {
            let bytes = cell.clone().expect("it is known");
            i64::from_be_bytes(bytes.try_into().expect("eight bytes"))
        };
        (number(&row[0]), number(&row[1]))
    }
}

/// The nodes beside that one.
fn others(than: usize) -> [usize; 2] {
    [(than + 1) % 3, (than + 2) % 3]
}

/// The longest time without news after a moment.
fn longest_silence(told: &Told, after: Instant) -> Duration {
    let pairs = told.firsts.windows(2).filter(|pair| pair[1].at > after);
    pairs.map(|pair| pair[1].at - pair[0].at).max().expect("something came")
}

#[test]
fn another_node_goes_on_into_the_topic_when_the_owner_is_killed() {
    let Some(kafka) = Kafka::start() else { return };
    let mut three = Three::start(&kafka, "");
    let consumer = kafka.broker.follow("changes", "replay");
    let dead = three.owner(0).expect("somebody delivers it");
    let [asked, other] = others(dead);
    let mut raw = Raw::ready(&three.nodes[asked]);
    let writers = Writers::start(1, [asked, other, asked, other].map(|at| &three.nodes[at]));
    Told::wait_for_value(&consumer, 300);

    three.nodes[dead].kill();
    let killed = Instant::now();
    let told = Told::wait_for_value(&consumer, writers.now() + 400);
    println!("the owner was killed: {:?} without news", longest_silence(&told, killed));
    wait_for("another owner", || three.owner(asked).filter(|owner| *owner != dead));
    three.nodes[dead].restart();
    Told::wait_for_value(&consumer, writers.now() + 200);

    let acknowledged = writers.end();
    let told = Told::wait_for_all(&consumer, &acknowledged, &mut raw);
    println!("{} events, {} came again", told.firsts.len(), told.repeats);
}

/// What is committed is one transaction with the position: the next owner repeats nothing, and one
/// that wakes up is shut out by the broker.
#[test]
fn every_event_is_told_once_whoever_sleeps_or_dies_where_the_feed_says_so() {
    let Some(kafka) = Kafka::start() else { return };
    let mut three = Three::start(&kafka, ", delivery = 'exactly_once'");
    let consumer = kafka.broker.follow("changes", "replay");
    let sleeper = three.owner(0).expect("somebody delivers it");
    let [asked, other] = others(sleeper);
    let writers = Writers::start(1, [asked, other, asked, other].map(|at| &three.nodes[at]));
    Told::wait_for_value(&consumer, 300);
    three.nodes[sleeper].freeze();
    Told::wait_for_value(&consumer, writers.now() + 200);
    let owner = wait_for("another owner", || three.owner(asked).filter(|owner| *owner != sleeper));
    three.nodes[sleeper].thaw();
    Told::wait_for_value(&consumer, writers.now() + 200);
    let mut acknowledged = writers.end();

    let left = others(owner);
    let last = acknowledged.last().expect("something was written");
    let writers = Writers::start(last + 1_000, left.map(|at| &three.nodes[at]));
    Told::wait_for_value(&consumer, last + 1_100);
    three.nodes[owner].kill();
    Told::wait_for_value(&consumer, writers.now() + 200);
    acknowledged.extend(writers.end());
    let mut raw = Raw::ready(&three.nodes[left[0]]);
    let told = Told::wait_for_all(&consumer, &acknowledged, &mut raw);
    assert_eq!(told.repeats, 0, "of {} events", told.firsts.len());
}

/// A part of the tables is one transaction with how far the scan has come: whoever goes on with it
/// sends no row again.
#[test]
fn every_row_is_scanned_once_although_the_owner_dies_where_the_feed_says_so() {
    const ROWS: i64 = 500;
    let Some(kafka) = Kafka::start() else { return };
    let nodes = Node::start_together(ARGUMENTS);
    let mut raw = Raw::ready(&nodes[0]);
    for statement in
        [&keyspace(3), "CREATE TABLE shop.orders (id int PRIMARY KEY, v bigint, note text)"]
    {
        raw.run(statement);
    }
    // A part of the scan has a few hundred of them.
    let note = "long".repeat(6_000);
    for id in 0..ROWS {
        let row = format!("INSERT INTO shop.orders (id, v, note) VALUES ({id}, 0, '{note}')");
        raw.rows_at(&row, QUORUM).expect("it is written");
    }
    let options = ", initial_scan = 'yes', delivery = 'exactly_once'";
    let consumer = kafka.broker.follow("changes", "replay");
    raw.run(&kafka.statement("f", "changes", options));
    let mut three = Three::of(nodes);
    let dead = three.owner(0).expect("somebody delivers it");
    wait_for("the first rows", || (!consumer.arrivals().is_empty()).then_some(()));
    three.nodes[dead].kill();
    let asked = others(dead)[0];
    let mut raw = Raw::ready(&three.nodes[asked]);
    println!("the owner was killed at {:?} of the scan", cell(&mut raw, "f", "scan_progress"));
    for id in 0..20 {
        let update = format!("UPDATE shop.orders SET v = {} WHERE id = {id}", id + 1);
        wait_for("a write", || raw.rows_at(&update, QUORUM).ok());
    }
    let wanted = table(&mut raw);
    assert_eq!(wanted.len() as i64, ROWS);
    let told = wait_for("the table in the topic", || {
        let told = consumer.arrivals();
        let events = told.iter().map(|arrival| serde_json::from_str(&arrival.record.value));
        let events: Vec<Value> = events.map(|event| event.expect("an event")).collect();
        let number = |value: &Value| value.as_i64().expect("a number");
        let found = events.iter().map(|e| (number(&e["key"]["id"]), number(&e["new_row"]["v"])));
        (found.collect::<BTreeMap<_, _>>() == wanted).then_some(events)
    });
    let mut scanned: Vec<&Value> = told.iter().filter(|event| event["snapshot"] == true).collect();
    let mut all: Vec<String> =
        told.iter().map(|e| format!("{} {}", e["sequence"], e["key"])).collect();
    scanned.sort_by_key(|event| event["key"]["id"].as_i64());
    let ids = scanned.iter().map(|event| event["key"]["id"].as_i64().expect("an id"));
    assert!(ids.eq(0..ROWS), "every row is scanned once");
    all.sort_unstable();
    let count = all.len();
    all.dedup();
    assert_eq!(all.len(), count, "no event came twice");
}

/// The broker is away when the owner falls asleep: the owner's client library holds messages, and
/// sends them when it wakes up, long after the next owner has delivered them and more.
#[test]
fn an_owner_that_slept_moves_no_position_and_reorders_no_key() {
    let Some(mut kafka) = Kafka::start() else { return };
    let mut three = Three::start(&kafka, "");
    let consumer = kafka.broker.follow("changes", "replay");
    let sleeper = three.owner(0).expect("somebody delivers it");
    let [asked, other] = others(sleeper);
    let writers = Writers::start(1, [asked, other, asked, other].map(|at| &three.nodes[at]));
    Told::wait_for_value(&consumer, 300);
    kafka.broker.stop();
    writers.wait_for_more(200);
    three.nodes[sleeper].freeze();
    kafka.broker.start_again();
    Told::wait_for_value(&consumer, writers.now() + 200);
    wait_for("another owner", || three.owner(asked).filter(|owner| *owner != sleeper));

    three.nodes[sleeper].thaw();
    let mut former = three.position(asked);
    let awake = writers.now();
    wait_for("the sleeper to see that it owns nothing", || {
        let position = three.position(asked);
        assert!(former <= position, "a position goes from {former:?} to {position:?}");
        former = position;
        let knows = three.owner(sleeper).is_some_and(|owner| owner != sleeper);
        let has_news = Told::of(&consumer.arrivals()).values().last() > Some(&(awake + 300));
        (knows && has_news).then_some(())
    });
    let mut acknowledged = writers.end();

    // Whoever comes next begins where the position says.
    let owner = three.owner(asked).expect("somebody delivers it");
    three.nodes[owner].kill();
    let left = others(owner);
    let last = acknowledged.last().expect("something was written");
    let writers = Writers::start(last + 1_000, left.map(|at| &three.nodes[at]));
    Told::wait_for_value(&consumer, last + 1_200);
    acknowledged.extend(writers.end());
    let mut raw = Raw::ready(&three.nodes[left[0]]);
    let told = Told::wait_for_all(&consumer, &acknowledged, &mut raw);
    println!("{} events, {} came again", told.firsts.len(), told.repeats);
}
