//! Changefeeds into a real Apache Kafka broker, read back by Kafka's own consumer at
//! `read_committed`: on one node and on three, over faults of the broker and of the feed's owner.
//!
//! Clients write values that nobody writes twice ([`Writers`]); what comes out of the topic
//! ([`Told`]) must tell of every write that was acknowledged, in the order of each key, and come to
//! the table that is there.

mod marks;
mod one_node;
mod owners;
mod ring;

use crate::kafka::{Arrival, Broker, Consumer};
use crate::several_nodes::QUORUM;
use crate::support::{Node, Random, Raw};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Beyond any pause of a busy machine.
const TIME_MAX: Duration = Duration::from_mins(2);
/// Between two looks at something that is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Rows that clients write and delete again and again.
const KEYS: u64 = 40;
/// Between two writes of one client.
const WRITE_INTERVAL: Duration = Duration::from_millis(4);
/// One of so many writes deletes the row.
const DELETE_ONE_OF: u64 = 6;

const TABLE: &str = "CREATE TABLE shop.orders (id int PRIMARY KEY, v bigint)";

/// A broker, for one test at a time: each is two or three more processes on a small machine.
struct Kafka {
    broker: Broker,
    _turn: MutexGuard<'static, ()>,
}

impl Kafka {
    /// `None` after a visible `skipped: …`.
    fn start() -> Option<Kafka> {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let broker = Broker::start(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
        Some(Kafka { broker, _turn: turn })
    }

    fn statement(&self, name: &str, topic: &str, options: &str) -> String {
        let address = self.broker.address();
        format!(
            "CREATE CHANGEFEED {name} FOR TABLE shop.orders INTO KAFKA '{address}/{topic}' WITH \
             (flush_interval_ms = 5{options})"
        )
    }
}

/// Waits until `found` gives something; fails with `what` after a time that is long everywhere.
fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIME_MAX;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(LOOK_INTERVAL);
    }
}

/// A cell of a feed's line in `system_views.changefeeds`.
fn cell(raw: &mut Raw, feed: &str, column: &str) -> Option<Vec<u8>> {
    let rows = raw.rows(&format!("SELECT name, {column} FROM system_views.changefeeds"));
    let rows = rows.expect("it is shown");
    let row = rows.into_iter().find(|row| row[0].as_deref() == Some(feed.as_bytes()));
    row.expect("the feed is there").remove(1)
}

/// How a node is called in that view.
fn host_id(node: &Node) -> Vec<u8> {
    let rows = Raw::ready(node).rows("SELECT host_id FROM system.local");
    rows.expect("it is there")[0][0].clone().expect("every node has one")
}

/// The same of one that is text; empty if there is none.
fn text(raw: &mut Raw, feed: &str, column: &str) -> String {
    String::from_utf8(cell(raw, feed, column).unwrap_or_default()).expect("text")
}

/// The same of one that is a number.
fn number(raw: &mut Raw, feed: &str, column: &str) -> i64 {
    cell(raw, feed, column)
        .map_or(0, |bytes| i64::from_be_bytes(bytes.try_into().expect("eight bytes")))
}

/// Clients that write rows of `shop.orders` until they are told to end.
struct Writers {
    ends: Arc<AtomicBool>,
    next_value: Arc<AtomicI64>,
    threads: Vec<JoinHandle<Vec<i64>>>,
}

impl Writers {
    /// One for each of the nodes; their values begin with `value`.
    fn start<'a>(value: i64, nodes: impl IntoIterator<Item = &'a Node>) -> Writers {
        let (ends, next_value) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(value)));
        let mut random = Random::from_environment("TETHYS_WRITES_SEED");
        let start = |node| {
            let (ends, next_value) = (ends.clone(), next_value.clone());
            let (raw, random) = (Raw::ready(node), Random::new(random.next()));
            thread::spawn(move || write_rows(raw, random, &next_value, &ends))
        };
        let threads = nodes.into_iter().map(start).collect();
        Writers { ends, next_value, threads }
    }

    /// Returns when so many more rows were asked to be written.
    fn wait_for_more(&self, count: i64) {
        let enough = self.next_value.load(Ordering::SeqCst) + count;
        wait_for("clients that write", || {
            (self.next_value.load(Ordering::SeqCst) >= enough).then_some(())
        });
    }

    /// A value that is greater than all that were written before.
    fn now(&self) -> i64 {
        self.next_value.load(Ordering::SeqCst)
    }

    /// Ends them; returns the values whose writes were acknowledged.
    fn end(self) -> BTreeSet<i64> {
        self.ends.store(true, Ordering::SeqCst);
        self.threads.into_iter().flat_map(|thread| thread.join().expect("a client")).collect()
    }
}

/// Returns the values whose writes were acknowledged.
fn write_rows(
    mut raw: Raw,
    mut random: Random,
    next_value: &AtomicI64,
    ends: &AtomicBool,
) -> Vec<i64> {
    let mut acknowledged = Vec::new();
    while !ends.load(Ordering::SeqCst) {
        let id = random.below(KEYS);
        let v = next_value.fetch_add(1, Ordering::SeqCst);
        let statement = match random.below(DELETE_ONE_OF) {
            0 => format!("DELETE FROM shop.orders WHERE id = {id}"),
            1..3 => format!("INSERT INTO shop.orders (id, v) VALUES ({id}, {v})"),
            _ => format!("UPDATE shop.orders SET v = {v} WHERE id = {id}"),
        };
        // While a range has no leader, writes of it fail, and some are done all the same.
        if raw.rows_at(&statement, QUORUM).is_ok() && !statement.starts_with("DELETE") {
            acknowledged.push(v);
        }
        thread::sleep(WRITE_INTERVAL);
    }
    acknowledged
}

/// The table: `v` by `id`.
fn table(raw: &mut Raw) -> BTreeMap<i64, i64> {
    let rows = wait_for("a table that can be read", || {
        raw.rows_at("SELECT id, v FROM shop.orders", QUORUM).ok()
    });
    let number = |cell: &Option<Vec<u8>>| {
        cell.as_ref().map(|bytes| bytes.iter().fold(0, |sum, byte| sum << 8 | i64::from(*byte)))
    };
    let of_row = |row: &Vec<Option<Vec<u8>>>| Some((number(&row[0])?, number(&row[1])?));
    // A row that was made by an UPDATE and lost its value is none.
    rows.iter().filter_map(of_row).collect()
}

/// One event of the topic, the first time that it came.
struct First {
    at: Instant,
    id: i64,
    sequence: u64,
    /// Of the row afterwards; none if it was deleted.
    v: Option<i64>,
}

/// What a topic has told.
struct Told {
    firsts: Vec<First>,
    repeats: usize,
}

impl Told {
    /// Reads events, and makes sure that of each key those that come for the first time come in order,
    /// and in one partition.
    fn of(arrivals: &[Arrival]) -> Told {
        let mut told = Told { firsts: Vec::new(), repeats: 0 };
        let mut seen = BTreeSet::new();
        let mut newest: BTreeMap<&str, (u64, usize)> = BTreeMap::new();
        for Arrival { at, record } in arrivals {
            let event: Value = serde_json::from_str(&record.value).expect("an event");
            let sequence = event["sequence"].as_u64().expect("a sequence");
            assert_eq!(record.key, format!("orders:{}", event["key"]), "{event}");
            if !seen.insert(sequence) {
                told.repeats += 1;
                continue;
            }
            let this = (sequence, record.partition);
            if let Some(former) = newest.insert(&record.key, this) {
                assert!(former.0 < sequence, "{} comes after {}: {event}", sequence, former.0);
                assert_eq!(former.1, record.partition, "{event}");
            }
            let (id, v) = (event["key"]["id"].as_i64().expect("an id"), &event["new_row"]["v"]);
            told.firsts.push(First { at: *at, id, sequence, v: v.as_i64() });
        }
        told
    }

    fn values(&self) -> BTreeSet<i64> {
        self.firsts.iter().filter_map(|first| first.v).collect()
    }

    /// The table that they come to.
    fn replayed(&self) -> BTreeMap<i64, i64> {
        let mut table = BTreeMap::new();
        for First { id, v, .. } in &self.firsts {
            match v {
                Some(v) => table.insert(*id, *v),
                None => table.remove(id),
            };
        }
        table
    }

    /// Waits until a consumer was told of a value that is at least so great.
    fn wait_for_value(consumer: &Consumer, value: i64) -> Told {
        wait_for(&format!("an event of value {value}"), || {
            let told = Told::of(&consumer.arrivals());
            told.values().last().is_some_and(|last| *last >= value).then_some(told)
        })
    }

    /// Waits until all was told that was acknowledged, and what was told is the table.
    fn wait_for_all(consumer: &Consumer, acknowledged: &BTreeSet<i64>, raw: &mut Raw) -> Told {
        let deadline = Instant::now() + TIME_MAX;
        loop {
            let told = Told::of(&consumer.arrivals());
            let missing: Vec<i64> = acknowledged.difference(&told.values()).copied().collect();
            let (replayed, stored) = (told.replayed(), table(raw));
            if missing.is_empty() && replayed == stored {
                assert!(!stored.is_empty() && !acknowledged.is_empty(), "something was written");
                return told;
            }
            let is_late = Instant::now() >= deadline;
            assert!(!is_late, "missing: {missing:?}\ntold: {replayed:?}\nthere: {stored:?}");
            thread::sleep(LOOK_INTERVAL);
        }
    }
}
