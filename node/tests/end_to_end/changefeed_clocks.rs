//! Changefeeds of three nodes while the clock of one is an hour off: whatever that node does for them,
//! deciding on statements, delivering, leading ranges, nothing is lost, nothing overtakes anything of
//! its key, and nothing that is sent or shown is off by an hour.

use crate::changefeeds::{ARGUMENTS, Receiver, TIME_MAX, keyspace, shown};
use crate::several_nodes::QUORUM;
use crate::support::{Node, Raw, get};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const HOUR_MICROS: i64 = 3_600_000_000;
/// What nothing that is shown may be off by: beyond any pause of a busy machine, and far from an hour.
const OFF_MILLIS_MAX: i64 = 600_000;
/// The log keeps its rows for half an hour, or for feeds, and the feed that is paused has it kept for as
/// long again: nothing of that is over before the test is.
const TABLE: &str = "CREATE TABLE shop.orders (id int PRIMARY KEY, status text) WITH cdc = \
                     {'enabled': true, 'preimage': true, 'postimage': true, 'ttl': 1800}";
const KEPT: &str = ", retention_max_age = '30m'";
/// Rows that are written all the time.
const KEYS: i64 = 8;
/// Rows that live for half an hour.
const PASSING: std::ops::Range<i64> = 100..120;

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIME_MAX;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Values that rise, each written to one of the rows.
#[derive(Default)]
struct Writer {
    next: AtomicI64,
    ends: AtomicBool,
}

impl Writer {
    /// Writes by way of the nodes in turn until it is told to end; returns what was acknowledged.
    fn write(&self, nodes: &[Node]) -> Vec<i64> {
        let mut clients: Vec<Raw> = nodes.iter().map(Raw::ready).collect();
        let mut acknowledged = Vec::new();
        while !self.ends.load(Ordering::SeqCst) {
            let value = self.next.fetch_add(1, Ordering::SeqCst);
            let text = format!(
                "UPDATE shop.orders SET status = '{value}' WHERE id = {}",
                value.rem_euclid(KEYS)
            );
            let raw = &mut clients[usize::try_from(value).expect("it rises") % nodes.len()];
            // While a range has no leader, writes of it fail, and some are done all the same.
            if raw.rows_at(&text, QUORUM).is_ok() {
                acknowledged.push(value);
            }
            thread::sleep(Duration::from_millis(2));
        }
        acknowledged
    }

    fn now(&self) -> i64 {
        self.next.load(Ordering::SeqCst)
    }
}

/// Ends the writer, also where a test fails that would wait for it.
struct Ending<'w>(&'w Writer);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.ends.store(true, Ordering::SeqCst);
    }
}

/// The value that an event of the writer's rows tells of, with its row.
fn value(event: &Value) -> Option<(i64, i64)> {
    let id = event["key"]["id"].as_i64().filter(|id| *id < KEYS)?;
    Some((id, event["new_row"]["status"].as_str()?.parse().ok()?))
}

/// Waits until a value comes that is to be written yet.
fn wait_for_news(receiver: &Receiver, writer: &Writer, what: &str) {
    let now = writer.now();
    wait_until(what, || receiver.events().iter().filter_map(value).any(|(_, value)| value >= now));
}

/// Every value that was acknowledged has come, in the order of each row, with times of this hour.
fn check(receiver: &Receiver, acknowledged: &[i64], began_at: &str) {
    let last = *acknowledged.last().expect("something was written");
    let has = |wanted: i64| receiver.events().iter().filter_map(value).any(|(_, v)| v == wanted);
    wait_until("the last value", || has(last));
    let mut newest: BTreeMap<i64, (u64, i64)> = BTreeMap::new();
    let mut told = Vec::new();
    for event in receiver.events() {
        let at = event["timestamp"].as_str().expect("a time");
        assert!(at >= began_at && minutes_between(began_at, at) < 30, "{event}, not {began_at}");
        let (Some((id, value)), Some(sequence)) = (value(&event), event["sequence"].as_u64())
        else {
            continue;
        };
        let (known, before) = newest.entry(id).or_insert((0, -1));
        if sequence > *known {
            assert!(value > *before, "{value} came behind {before}: {event}");
            (*known, *before) = (sequence, value);
            told.push(value);
        }
    }
    told.sort_unstable();
    let lost: Vec<_> = acknowledged.iter().filter(|v| told.binary_search(v).is_err()).collect();
    assert!(lost.is_empty(), "{lost:?} of {} did not come", acknowledged.len());
}

/// Between two times of an event, as far as hours and minutes tell.
fn minutes_between(before: &str, after: &str) -> i64 {
    let minutes = |at: &str| -> i64 {
        at[11..13].parse::<i64>().expect("hours") * 60 + at[14..16].parse::<i64>().expect("minutes")
    };
    (minutes(after) - minutes(before)).rem_euclid(24 * 60)
}

/// A number of a feed's line as a node shows it.
fn number(raw: &mut Raw, feed: &str, column: &str) -> Option<i64> {
    let query = format!("SELECT {column} FROM system_views.changefeeds WHERE name = '{feed}'");
    let cell = raw.rows(&query).expect("it is shown").first()?[0].clone()?;
    Some(i64::from_be_bytes(cell.try_into().expect("eight bytes")))
}

/// Which feeds a node delivers, as another one knows it.
fn feeds_of(raw: &mut Raw, host_id: &[u8]) -> Vec<String> {
    let rows = raw.rows("SELECT name, owner FROM system_views.changefeeds").expect("shown");
    let own = rows.into_iter().filter(|row| row[1].as_deref() == Some(host_id));
    own.map(|row| String::from_utf8(row[0].clone().expect("a name")).expect("text")).collect()
}

/// While a feed is held up, every node shows how far it is behind.
fn check_lag(nodes: &[Node], receiver: &Receiver, right: usize, wrong: usize) {
    receiver.close(true);
    let lag = |node: usize| number(&mut Raw::ready(&nodes[node]), "f0", "lag_ms").unwrap_or(0);
    wait_until("a feed that is behind", || lag(right) >= 1_500);
    let (before, shown, after) = (lag(right), lag(wrong), lag(right));
    let is_true = shown >= before - 1_000 && shown <= after + OFF_MILLIS_MAX;
    receiver.close(false);
    assert!(is_true, "{shown} ms behind, not between {before} and {after}");
}

#[test]
fn feeds_go_on_while_a_node_has_lost_its_clock() {
    let nodes: [Node; 3] = Node::start_together(ARGUMENTS);
    let mut raw = Raw::ready(&nodes[0]);
    raw.run(&keyspace(3));
    raw.run(TABLE);
    for id in PASSING {
        let text = format!("INSERT INTO shop.orders (id) VALUES ({id}) USING TTL 1800");
        raw.rows_at(&text, QUORUM).expect("it is written");
    }
    // One for each node, and one that is away.
    let receivers = ["f0", "f1", "f2", "kept"].map(|name| {
        let receiver = Receiver::start();
        let options = if name == "kept" { KEPT } else { "" };
        raw.run(&receiver.statement(name, "shop.orders", options));
        receiver
    });
    raw.run("PAUSE CHANGEFEED kept");
    let writer = Writer::default();
    let acknowledged = thread::scope(|scope| {
        let writing = scope.spawn(|| writer.write(&nodes));
        let ending = Ending(&writer);
        wait_for_news(&receivers[0], &writer, "the first events");
        for (victim, hours) in [(0, 1), (1, -1), (2, 1)] {
            lose_clock(&nodes, victim, hours, &receivers, &writer);
        }
        drop(ending);
        writing.join().expect("the writer")
    });
    raw.run("RESUME CHANGEFEED kept");
    let began_at = receivers[0].events()[0]["timestamp"].as_str().expect("a time").to_owned();
    for receiver in &receivers {
        check(receiver, &acknowledged, &began_at);
    }
}

/// Sets a node's clock wrong, looks at all that feeds do, and sets it right.
fn lose_clock(
    nodes: &[Node; 3],
    victim: usize,
    hours: i64,
    receivers: &[Receiver; 4],
    writer: &Writer,
) {
    let (other, third) = ((victim + 1) % 3, (victim + 2) % 3);
    let (mut raw, mut of_victim) = (Raw::ready(&nodes[other]), Raw::ready(&nodes[victim]));
    let (name, receiver) = (format!("g{victim}"), Receiver::start());
    let misdated = receivers.each_ref().map(Receiver::misdated);
    nodes[victim].inject(&format!("wall_offset_micros={}", hours * HOUR_MICROS));
    // At once, before anybody can have noticed, and from where that node is asked first.
    of_victim.run(&receiver.statement(&name, "shop.orders", ", initial_scan = 'yes'"));
    receiver.wait_for(PASSING);
    wait_for_news(&receiver, writer, "changes of a feed that was made by a wrong clock");

    let own = of_victim.rows("SELECT host_id FROM system.local").expect("it is there");
    let own = own[0][0].clone().expect("a host id");
    wait_until("others deliver", || feeds_of(&mut raw, &own).is_empty());
    assert_eq!(receiver.misdated(), 0);
    for (receiver, before) in receivers.iter().zip(misdated) {
        // One may have been on its way.
        assert!(receiver.misdated() <= before + 1, "{} requests", receiver.misdated());
    }
    for receiver in &receivers[..3] {
        wait_for_news(receiver, writer, "news of each feed");
    }
    assert_eq!(shown(&mut raw).last().expect("it is there").2, "Paused", "kept is kept");
    for feed in ["f0", "f1", "f2"] {
        for node in nodes {
            let lag = number(&mut Raw::ready(node), feed, "lag_ms").expect("it runs");
            assert!(lag < OFF_MILLIS_MAX, "{feed} is {lag} ms behind");
        }
    }
    check_lag(nodes, &receivers[0], third, victim);

    // A place by its time is that place.
    let again = receiver.events().into_iter().rfind(|event| value(event).is_some()).expect("news");
    let at = again["timestamp"].as_str().expect("a time");
    raw.run(&format!("PAUSE CHANGEFEED {name}"));
    receiver.forget();
    of_victim.run(&format!("RESUME CHANGEFEED {name} FROM TIMESTAMP '{at}'"));
    wait_until("what is told again", || receiver.events().contains(&again));
    assert!(receiver.events()[0]["timestamp"].as_str() >= Some(&at[..23]), "from {at}");
    raw.run(&format!("DROP CHANGEFEED {name}"));

    let side = if hours > 0 { "ahead of" } else { "behind" };
    let log = nodes[victim].log();
    let says_so = |line: &&str| line.contains("this node's clock is") && line.contains(side);
    let reason = log.lines().find(says_so).expect("it says what is wrong");
    assert!(reason.contains("ERROR") && reason.contains("changefeed"), "{reason}");
    assert_eq!(get(&nodes[victim], "/readyz").0, 503);
    nodes[victim].inject("");
    wait_until("the clock is right again", || get(&nodes[victim], "/readyz").0 == 200);
}
