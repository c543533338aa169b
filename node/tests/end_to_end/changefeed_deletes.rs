//! Feeds that tell of deleted ranges and partitions row by row: statements in, events at an HTTP
//! endpoint out, and what is in the log beside.

use crate::changefeeds::{ARGUMENTS, Receiver, TIME_MAX, keyspace};
use crate::support::{Node, Raw};
use serde_json::Value;
use std::fmt::Write;
use std::thread;
use std::time::{Duration, Instant};

const LINES: &str = "CREATE TABLE shop.lines (id int, part int, line int, note text, title text \
                     static, PRIMARY KEY (id, part, line)) WITH CLUSTERING ORDER BY (part ASC, \
                     line DESC) AND cdc = {'enabled': true}";
const ROWS: &str = ", delete_expansion = 'rows', include_old_values = true";
/// A hundred rows beyond more than an entry tells of one by one.
const MANY: i32 = 4_300;

/// Waits for the row with that id, which is written last, and takes all events before it.
fn events_before(receiver: &Receiver, raw: &mut Raw, id: i32) -> Vec<Value> {
    raw.run(&format!("INSERT INTO shop.lines (id, part, line) VALUES ({id}, 0, 0)"));
    let deadline = Instant::now() + TIME_MAX;
    loop {
        let events = receiver.events();
        if let Some(last) = events.iter().position(|event| event["key"]["id"] == id) {
            receiver.forget();
            return events[..last].to_vec();
        }
        assert!(Instant::now() < deadline, "{events:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn insert(raw: &mut Raw, id: i32, keys: &[(i32, i32)]) {
    for (part, line) in keys {
        raw.run(&format!(
            "INSERT INTO shop.lines (id, part, line, note) VALUES ({id}, {part}, {line}, 'n{line}')"
        ));
    }
}

/// What DELETE events say, in order.
fn deletes(events: &[Value]) -> Vec<String> {
    let deletes = events.iter().filter(|event| event["operation"] == "DELETE");
    let told = deletes.map(|event| {
        let key = &event["key"];
        let old = &event["old_row"];
        let note = if old["title"].is_null() { &old["note"] } else { &old["title"] };
        format!("{}/{} {note} {}", key["part"], key["line"], event["index"])
    });
    told.collect()
}

/// Which operations the newest group of the log of a partition has.
fn last_group(raw: &mut Raw, table: &str, id: i32) -> Vec<i8> {
    let query = format!(
        "SELECT \"cdc$time\", \"cdc$batch_seq_no\", \"cdc$operation\" FROM {table}_scylla_cdc_log \
         WHERE id = {id} ALLOW FILTERING"
    );
    let mut rows = raw.rows(&query).expect("the log is read");
    // Time uuids of one second: their first eight bytes are low and middle of the time.
    let time = |row: &[Option<Vec<u8>>]| {
        let time = row[0].clone().expect("a time");
        [&time[6..8], &time[4..6], &time[..4], &time[8..]].concat()
    };
    let newest = rows.iter().map(|row| time(row)).max().expect("there is one");
    rows.retain(|row| time(row) == newest);
    rows.sort_by_key(|row| row[1].clone());
    rows.iter().map(|row| row[2].as_ref().expect("an operation")[0] as i8).collect()
}

#[test]
fn deletes_of_ranges_and_partitions_are_told_row_by_row() {
    let receiver = Receiver::start();
    let mut node = Node::start_with(ARGUMENTS);
    let mut raw = Raw::ready(&node);
    raw.run(&keyspace(1));
    raw.run(LINES);
    raw.run(&receiver.statement("f", "shop.lines", ROWS));
    insert(&mut raw, 1, &[(1, 1), (1, 2), (1, 3), (2, 1), (3, 1)]);
    raw.run("UPDATE shop.lines SET title = 't' WHERE id = 1");
    raw.run("DELETE FROM shop.lines WHERE id = 1 AND part = 1 AND line = 3");
    raw.run("DELETE FROM shop.lines WHERE id = 1 AND part = 1");
    assert_eq!(last_group(&mut raw, "shop.lines", 1), [0, 0, 3, 3, 5, 7]);
    raw.run("DELETE FROM shop.lines WHERE id = 1 AND part > 2");
    raw.run("DELETE FROM shop.lines WHERE id = 1 AND part = 1");
    raw.run("DELETE FROM shop.lines USING TIMESTAMP 5 WHERE id = 1");
    raw.run("DELETE FROM shop.lines WHERE id = 1");
    assert_eq!(last_group(&mut raw, "shop.lines", 1), [0, 0, 1, 3, 4]);
    let told = events_before(&receiver, &mut raw, 90);
    let expected = [
        "1/3 \"n3\" null",
        "1/2 \"n2\" 0",
        "1/1 \"n1\" 1",
        "3/1 \"n1\" 0",
        "null/null \"t\" 0",
        "2/1 \"n1\" 1",
    ];
    assert_eq!(deletes(&told), expected, "{told:?}");

    // In one batch with inserts into the same range, and beside a row that is named.
    insert(&mut raw, 2, &[(1, 1), (1, 2), (1, 3)]);
    raw.run(
        "BEGIN BATCH DELETE FROM shop.lines WHERE id = 2 AND part = 1; \
         INSERT INTO shop.lines (id, part, line, note) VALUES (2, 1, 4, 'n4'); \
         DELETE FROM shop.lines WHERE id = 2 AND part = 1 AND line = 2; APPLY BATCH",
    );
    let batch = events_before(&receiver, &mut raw, 91);
    assert_eq!(deletes(&batch), ["1/2 \"n2\" null", "1/3 \"n3\" 0", "1/1 \"n1\" 1"]);

    // What comes again after a restart is the same.
    node.stop();
    node.restart();
    let mut raw = Raw::ready(&node);
    raw.run("PAUSE CHANGEFEED f");
    receiver.forget();
    raw.run("RESUME CHANGEFEED f FROM BEGINNING");
    let again = events_before(&receiver, &mut raw, 92);
    let is_told = |event: &&Value| event["key"]["id"].as_i64() < Some(90);
    let again: Vec<Value> = again.iter().filter(is_told).cloned().collect();
    assert_eq!(again, [told, batch].concat());

    // Without the feed the log is again as it was asked for.
    insert(&mut raw, 3, &[(1, 1)]);
    raw.run("DROP CHANGEFEED f");
    raw.run("DELETE FROM shop.lines WHERE id = 3 AND part = 1");
    assert_eq!(last_group(&mut raw, "shop.lines", 3), [5, 7]);
}

#[test]
fn a_delete_of_too_many_rows_is_told_by_its_bounds_and_says_so() {
    let receiver = Receiver::start();
    let node = Node::start_with(ARGUMENTS);
    let mut raw = Raw::ready(&node);
    raw.run(&keyspace(1));
    raw.run(LINES);
    let mut line = 0;
    while line < MANY {
        let mut batch = "BEGIN UNLOGGED BATCH ".to_owned();
        for line in line..(line + 500).min(MANY) {
            let values = format!("VALUES (1, 1, {line}, 'n{line}')");
            write!(batch, "INSERT INTO shop.lines (id, part, line, note) {values}; ")
                .expect("text");
        }
        raw.run(&format!("{batch}APPLY BATCH"));
        line += 500;
    }
    raw.run(&receiver.statement("f", "shop.lines", ROWS));
    // Another feed on the table takes deletes as they are.
    let of_ranges = Receiver::start();
    raw.run(&of_ranges.statement("g", "shop.lines", ""));
    raw.run("DELETE FROM shop.lines WHERE id = 1 AND part = 1 AND line >= 4200");
    raw.run("DELETE FROM shop.lines WHERE id = 1 AND part < 5 AND part > 0");
    insert(&mut raw, 1, &[(1, 1)]);
    let told = events_before(&receiver, &mut raw, 90);
    let (rows, rest) = told.split_at(100);
    assert!(rows.iter().zip(0_u64..).all(|(event, index)| event["index"] == index), "{rows:?}");
    assert!(rows.iter().all(|event| event["sequence"] == rows[0]["sequence"]));
    assert_eq!(rest[0]["expanded"], false, "{rest:?}");
    assert_eq!(rest[0]["range"]["start"]["key"]["part"], 0);
    assert_eq!((rest.len(), &rest[1]["operation"]), (2, &Value::from("INSERT")));
    let told = events_before(&of_ranges, &mut raw, 91);
    let has_range = |event: &Value| event.get("range").is_some() && event.get("expanded").is_none();
    assert!(told.len() == 4 && told[..2].iter().all(has_range), "{told:?}");
}
