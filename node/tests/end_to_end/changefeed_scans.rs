//! Changefeeds that begin with the rows of their tables, under writers that do not stop: whoever
//! takes the events by key has the table.

use crate::changefeeds::{
    ARGUMENTS, Receiver, TIME_MAX, keyspace, owner_among, shown, wait_for_states,
};
use crate::several_nodes::QUORUM;
use crate::support::{Node, Raw};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const TABLE: &str =
    "CREATE TABLE shop.orders (id int, line int, status text, PRIMARY KEY (id, line))";
const IDS: i64 = 300;

/// Rows by key; what a row's status is.
type Rows = BTreeMap<(i64, i64), String>;

fn fill(raw: &mut Raw) {
    for id in 0..IDS {
        for line in 0..4 {
            let text =
                format!("INSERT INTO shop.orders (id, line, status) VALUES ({id}, {line}, 'old')");
            raw.rows_at(&text, QUORUM).expect("it is written");
        }
    }
}

/// Changes random rows until it is told to stop; what fails is tried again.
fn write_on(node: &Node, seed: u64, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let (mut raw, stop) = (Raw::ready(node), stop.clone());
    thread::spawn(move || {
        let mut state = seed;
        while !stop.load(Ordering::Relaxed) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            let (id, line) = ((state >> 33) % IDS as u64, (state >> 20) % 5);
            let text = match state >> 60 {
                0 => format!("DELETE FROM shop.orders WHERE id = {id}"),
                1 => format!("DELETE FROM shop.orders WHERE id = {id} AND line > {line}"),
                2..5 => format!("DELETE FROM shop.orders WHERE id = {id} AND line = {line}"),
                5..9 => format!(
                    "UPDATE shop.orders SET status = 'u{state}' WHERE id = {id} AND line = {line}"
                ),
                _ => format!(
                    "INSERT INTO shop.orders (id, line, status) VALUES ({id}, {line}, 'i{state}')"
                ),
            };
            raw.rows_at(&text, QUORUM).ok();
        }
    })
}

fn stored(raw: &mut Raw) -> Rows {
    let rows = raw.rows_at("SELECT id, line, status FROM shop.orders", QUORUM);
    let number = |cell: &Option<Vec<u8>>| {
        let bytes = cell.clone().expect("a key").try_into().expect("an int");
        i64::from(i32::from_be_bytes(bytes))
    };
    let text =
        |cell: &Option<Vec<u8>>| String::from_utf8(cell.clone().unwrap_or_default()).expect("text");
    let rows = rows.expect("it is read");
    rows.iter().map(|row| ((number(&row[0]), number(&row[1])), text(&row[2]))).collect()
}

/// The rows after these events, for a reader that passes over what it knows of a key.
fn replayed(events: &[Value]) -> Rows {
    let mut rows = Rows::new();
    let mut known: BTreeMap<String, u64> = BTreeMap::new();
    for event in events {
        let sequence = event["sequence"].as_u64().expect("a number");
        let newest = known.entry(format!("{} {:?}", event["key"], event.get("range"))).or_default();
        if sequence <= *newest {
            continue;
        }
        *newest = sequence;
        let id = event["key"]["id"].as_i64().expect("an id");
        if event["operation"] != "DELETE" {
            let line = event["key"]["line"].as_i64().expect("a line");
            let status = event["new_row"]["status"].as_str().unwrap_or_default();
            rows.insert((id, line), status.to_owned());
        } else if let Some(line) = event["key"]["line"].as_i64() {
            rows.remove(&(id, line));
        } else {
            let after = event["range"]["start"]["key"]["line"].as_i64().unwrap_or(-1);
            rows.retain(|key, _| key.0 != id || key.1 <= after);
        }
    }
    rows
}

/// Waits until what was received is the table.
fn wait_until_equal(receiver: &Receiver, raw: &mut Raw) {
    let wanted = stored(raw);
    assert!(!wanted.is_empty());
    let deadline = Instant::now() + TIME_MAX;
    loop {
        let events = receiver.events();
        let found = replayed(&events);
        if found == wanted {
            assert!(events.iter().any(|event| event["snapshot"] == true));
            return;
        }
        let missing: Vec<_> = wanted.iter().filter(|row| !found.contains_key(row.0)).collect();
        let extra: Vec<_> = found.iter().filter(|row| !wanted.contains_key(row.0)).collect();
        assert!(
            Instant::now() < deadline,
            "{} rows of {}; missing {missing:?}, too many {extra:?}, {:?}",
            found.len(),
            wanted.len(),
            shown(raw)
        );
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_scan_and_the_changes_beside_it_are_the_table_over_pauses_and_a_restart() {
    let receiver = Receiver::start();
    let mut node = Node::start_with(ARGUMENTS);
    let mut raw = Raw::ready(&node);
    for statement in [&keyspace(1), TABLE] {
        raw.run(statement);
    }
    fill(&mut raw);
    let stop = Arc::default();
    let writer = write_on(&node, 7, &stop);
    raw.run(&receiver.statement("f", "shop.orders", ", initial_scan = 'yes', batch_size = 7"));
    for _ in 0..3 {
        raw.run("PAUSE CHANGEFEED f");
        raw.run("RESUME CHANGEFEED f");
        thread::sleep(Duration::from_millis(50));
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().expect("no panic");
    node.stop();
    node.restart();
    let mut raw = Raw::ready(&node);
    let stop = Arc::default();
    let writer = write_on(&node, 8, &stop);
    thread::sleep(Duration::from_millis(200));
    stop.store(true, Ordering::Relaxed);
    writer.join().expect("no panic");
    wait_until_equal(&receiver, &mut raw);
    let shown =
        raw.rows("SELECT phase, scan_progress FROM system_views.changefeeds").expect("it is shown");
    let progress = shown[0][1].clone().expect("it has scanned").try_into().expect("a double");
    assert_eq!(shown[0][0].as_deref(), Some(&b"streaming"[..]));
    assert!(f64::from_be_bytes(progress) >= 1.0);
}

#[test]
fn a_scan_goes_on_when_its_owner_dies() {
    let receiver = Receiver::start();
    let mut nodes: [Node; 3] = Node::start_together(ARGUMENTS);
    let mut raw = Raw::ready(&nodes[0]);
    for statement in [&keyspace(3), TABLE] {
        raw.run(statement);
    }
    fill(&mut raw);
    // Small batches, so that the scan is under way when the owner dies.
    raw.run(&receiver.statement("f", "shop.orders", ", initial_scan = 'yes', batch_size = 2"));
    let dead = owner_among(&nodes, &mut raw);
    let left = (dead + 1) % 3;
    let stop = Arc::default();
    let writer = write_on(&nodes[left], 9, &stop);
    thread::sleep(Duration::from_millis(300));
    nodes[dead].kill();
    thread::sleep(Duration::from_secs(2));
    stop.store(true, Ordering::Relaxed);
    writer.join().expect("no panic");
    let mut raw = Raw::ready(&nodes[left]);
    wait_until_equal(&receiver, &mut raw);
}

/// What an UPDATE leaves in the log: operations of its rows.
fn logged_for_update(raw: &mut Raw, status: &str) -> Vec<u8> {
    let text = format!("UPDATE shop.orders SET status = '{status}' WHERE id = 1 AND line = 1");
    raw.rows_at(&text, QUORUM).expect("it is written");
    let told = raw.rows_at(
        "SELECT \"cdc$time\", status, \"cdc$operation\" FROM shop.orders_scylla_cdc_log",
        QUORUM,
    );
    let told = told.expect("it is read");
    let is_ours = |row: &&Vec<Option<Vec<u8>>>| row[1].as_deref() == Some(status.as_bytes());
    let time = told.iter().find(is_ours).expect("it is logged")[0].clone();
    let of_write = told.iter().filter(|row| row[0] == time);
    of_write.map(|row| row[2].as_deref().expect("it has one")[0]).collect()
}

#[test]
fn images_that_only_a_scan_needs_go_when_it_is_complete() {
    let receiver = Receiver::start();
    let node = Node::start_with(ARGUMENTS);
    let mut raw = Raw::ready(&node);
    for statement in [&keyspace(1), TABLE] {
        raw.run(statement);
    }
    fill(&mut raw);
    // It stays where it is until it is told to go on.
    raw.run(
        "CREATE CHANGEFEED f FOR TABLE shop.orders INTO WEBHOOK 'http://127.0.0.1:1/hook' \
         WITH (initial_scan = 'yes', event_kind = 'delta')",
    );
    let (preimage, update, postimage) = (0, 1, 9);
    assert_eq!(logged_for_update(&mut raw, "scanning"), [preimage, update, postimage]);
    raw.run("DROP CHANGEFEED f");
    let options = ", initial_scan = 'yes', event_kind = 'delta'";
    raw.run(&receiver.statement("g", "shop.orders", options));
    let deadline = Instant::now() + TIME_MAX;
    let mut number = 0;
    loop {
        number += 1;
        let logged = logged_for_update(&mut raw, &format!("n{number}"));
        if logged == [update] {
            break;
        }
        assert_eq!(logged, [preimage, update, postimage]);
        assert!(Instant::now() < deadline, "they stay");
        thread::sleep(Duration::from_millis(100));
    }
    // It goes on telling what changed, before and after.
    let deadline = Instant::now() + TIME_MAX;
    loop {
        let events = receiver.events();
        let last = format!("n{number}");
        if let Some(at) = events.iter().position(|event| event["new_row"]["status"] == *last) {
            assert_eq!(events[at]["operation"], "UPDATE");
            break;
        }
        assert!(Instant::now() < deadline, "{} events", events.len());
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_feed_that_is_a_scan_alone_finishes_and_lets_go_of_its_table() {
    let receiver = Receiver::start();
    let node = Node::start_with(ARGUMENTS);
    let mut raw = Raw::ready(&node);
    for statement in [&keyspace(1), TABLE] {
        raw.run(statement);
    }
    fill(&mut raw);
    raw.run("INSERT INTO shop.orders (id, line, status) VALUES (1, 9, 'x') USING TTL 1");
    thread::sleep(Duration::from_secs(2));
    raw.run(&receiver.statement("f", "shop.orders", ", initial_scan = 'only'"));
    wait_for_states(&mut raw, &["Finished"]);
    let events = receiver.events();
    assert_eq!(events.len() as i64, IDS * 4, "what has expired is not told");
    assert!(events.iter().all(|event| event["snapshot"] == true));
    assert_eq!(replayed(&events), stored(&mut raw));
    for statement in ["RESUME CHANGEFEED f", "ALTER CHANGEFEED f SET (batch_size = 5)"] {
        let (code, message) = raw.rows(statement).expect_err("there is nothing left to do");
        assert!(code == 0x2200 && message.contains("has finished its scan"), "{message}");
    }
    raw.run("PAUSE CHANGEFEED f");
    assert_eq!(shown(&mut raw)[0].2, "Finished");
    // The log that it needed goes by itself.
    let deadline = Instant::now() + TIME_MAX;
    while let Err((_, message)) = raw.rows("TRUNCATE shop.orders") {
        assert!(message.contains("changefeed") && Instant::now() < deadline, "{message}");
        thread::sleep(Duration::from_millis(100));
    }
    raw.run("DROP CHANGEFEED f");
}

#[test]
fn a_feed_whose_scan_is_under_way_is_resumed_from_where_it_stands_alone() {
    let node = Node::start_with(ARGUMENTS);
    let mut raw = Raw::ready(&node);
    for statement in [&keyspace(1), TABLE] {
        raw.run(statement);
    }
    fill(&mut raw);
    // Nobody listens there.
    raw.run(
        "CREATE CHANGEFEED f FOR TABLE shop.orders INTO WEBHOOK 'http://127.0.0.1:1/hook' \
         WITH (initial_scan = 'yes')",
    );
    raw.run("PAUSE CHANGEFEED f");
    for from in ["BEGINNING", "SEQUENCE 5", "TIMESTAMP '2026-01-01'"] {
        let (code, message) =
            raw.rows(&format!("RESUME CHANGEFEED f FROM {from}")).expect_err("it is refused");
        assert!(code == 0x2200 && message.contains("not finished its initial scan"), "{message}");
    }
    for statement in ["DROP TABLE shop.orders", "DROP KEYSPACE shop"] {
        let (code, message) = raw.rows(statement).expect_err("rows are to be sent");
        assert!(code == 0x2200 && message.contains("rows of its initial scan left"), "{message}");
    }
    raw.run("RESUME CHANGEFEED f");
    let phase = raw.rows("SELECT phase FROM system_views.changefeeds").expect("it is shown");
    let phase = String::from_utf8(phase[0][0].clone().expect("a phase")).expect("text");
    assert!(["starting", "retrying", "scanning"].contains(&&*phase), "{phase}");
    let wrong = "CREATE CHANGEFEED g FOR TABLE shop.orders INTO WEBHOOK 'http://127.0.0.1:1/hook' \
                 WITH (initial_scan = 'yes', cursor = '5')";
    let (_, message) = raw.rows(wrong).expect_err("they exclude each other");
    assert!(message.contains("cursor and initial_scan"), "{message}");
}
