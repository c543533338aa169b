//! One node and a broker: the statements as they are documented, a broker that is restarted and
//! killed, and feeds that cannot be delivered beside one that can.

use super::{Kafka, TABLE, Told, Writers, number, text, wait_for};
use crate::changefeeds::keyspace;
use crate::kafka::Consumer;
use crate::support::{Node, Raw, python, run};
use serde_json::Value;
use std::collections::BTreeSet;

const ARGUMENTS: &[&str] = &["--memory", "256M"];

/// Keys and events of a topic once there are so many.
fn events(consumer: &Consumer, count: usize) -> Vec<(String, Value)> {
    let arrivals = wait_for(&format!("{count} events"), || {
        Some(consumer.arrivals()).filter(|arrivals| arrivals.len() >= count)
    });
    let event = |text: &str| serde_json::from_str(text).expect("an event");
    let records = arrivals.into_iter().map(|arrival| arrival.record);
    records.map(|record| (record.key, event(&record.value))).collect()
}

/// What an event of row 1001 says; the rest of it has to be as it is documented.
fn said((key, event): &(String, Value)) -> String {
    assert_eq!(key, r#"orders:{"id":1001}"#);
    assert_eq!((&event["table"], &event["key"]["id"]), (&"orders".into(), &1001.into()));
    let timestamp = event["timestamp"].as_str().expect("text");
    assert!(timestamp.starts_with("20") && timestamp.ends_with('Z'), "{timestamp}");
    let names: Vec<&String> = event.as_object().expect("an object").keys().collect();
    assert_eq!(names.len(), 7, "{names:?}");
    let [operation, new, old] = ["operation", "new_row", "old_row"].map(|name| &event[name]);
    format!("{operation} {new} {old}")
}

#[test]
fn the_documented_statements_deliver_to_topics() {
    let Some(Kafka { broker, .. }) = &Kafka::start() else { return };
    let Some(python) = python() else { return };
    let node = Node::start_with(ARGUMENTS);
    let cqlsh = |commands: &str| {
        let mut command = python.cqlsh(node.scratch());
        command.args(["127.0.0.1", &node.cql_port().to_string()]).current_dir(node.scratch());
        let finished = run(&mut command, commands).expect("cqlsh runs");
        assert_eq!(finished.stderr, "", "{}", finished.stdout);
        finished.success()
    };
    let address = broker.address();
    let shop = keyspace(1);
    cqlsh(&format!(
        "{shop};
USE shop;
CREATE TABLE orders (id int PRIMARY KEY, customer text, status text, total decimal);
CREATE CHANGEFEED orders_feed FOR TABLE orders INTO KAFKA '{address}/orders-topic';
CREATE CHANGEFEED detailed_feed FOR TABLE orders INTO KAFKA '{address}/detailed-topic'
  WITH ( include_old_values = true, batch_size = 500, flush_interval_ms = 2000, filter = 'status = ''shipped''' );
INSERT INTO orders (id, customer, status, total) VALUES (1001, 'Ada', 'new', 12.50);
UPDATE orders SET status = 'shipped' WHERE id = 1001;
DELETE FROM orders WHERE id = 1001;
"
    ));
    let (plain, detailed) =
        (broker.follow("orders-topic", "plain"), broker.follow("detailed-topic", "detailed"));
    let of_plain = events(&plain, 3);
    let last = of_plain[2].1["sequence"].as_i64().expect("a sequence");
    let row =
        |status| format!(r#"{{"id":1001,"customer":"Ada","status":"{status}","total":12.50}}"#);
    // Objects of serde_json have their keys in the order of the alphabet.
    let sorted = |row: String| serde_json::from_str::<Value>(&row).expect("JSON").to_string();
    let (new, shipped) = (sorted(row("new")), sorted(row("shipped")));
    let expected = [
        format!(r#""INSERT" {new} null"#),
        format!(r#""UPDATE" {shipped} null"#),
        r#""DELETE" null null"#.to_owned(),
    ];
    assert_eq!(of_plain.iter().map(said).collect::<Vec<_>>(), expected);
    let expected = [format!(r#""UPDATE" {shipped} {new}"#), format!(r#""DELETE" null {shipped}"#)];
    assert_eq!(events(&detailed, 2).iter().map(said).collect::<Vec<_>>(), expected);

    let mut raw = Raw::ready(&node);
    wait_for("figures of the feed", || {
        (number(&mut raw, "orders_feed", "events_delivered") == 3).then_some(())
    });
    assert_eq!(number(&mut raw, "orders_feed", "last_sequence"), last);
    let insert = |id| format!("INSERT INTO orders (id, status) VALUES ({id}, 'new');");
    let rows: Vec<String> = (0..60).map(insert).collect();
    cqlsh(&format!("USE shop;\nPAUSE CHANGEFEED orders_feed;\n{}", rows.join("\n")));
    assert_eq!(text(&mut raw, "orders_feed", "state"), "Paused");
    cqlsh("RESUME CHANGEFEED orders_feed;");
    let of_plain = events(&plain, 63);
    let ids: BTreeSet<i64> =
        of_plain[3..].iter().filter_map(|(_, event)| event["key"]["id"].as_i64()).collect();
    assert!(ids.into_iter().eq(0..60), "what was written meanwhile is told after the pause");
    let partitions: BTreeSet<usize> =
        plain.arrivals().iter().map(|arrival| arrival.record.partition).collect();
    assert_eq!(partitions.len(), 3, "keys are spread over the topic");
    assert_eq!(plain.arrivals().len(), 63, "nothing came twice");

    let shown = raw.rows("SHOW CHANGEFEEDS").expect("it is shown");
    assert_eq!(shown.len(), 2);
    cqlsh("DROP CHANGEFEED orders_feed;\nDROP CHANGEFEED detailed_feed;");
    assert_eq!(raw.rows("SHOW CHANGEFEEDS").expect("it is shown").len(), 0);
}

#[test]
fn the_topic_comes_to_the_table_although_the_broker_is_restarted_and_killed() {
    let Some(mut kafka) = Kafka::start() else { return };
    let node = Node::start_with(ARGUMENTS);
    let mut raw = Raw::ready(&node);
    for statement in [&keyspace(1), TABLE, &kafka.statement("f", "changes", "")] {
        raw.run(statement);
    }
    let consumer = kafka.broker.follow("changes", "replay");
    let writers = Writers::start(1, [&node, &node, &node]);
    Told::wait_for_value(&consumer, 300);
    kafka.broker.stop();
    wait_for("a feed that notices", || {
        (text(&mut raw, "f", "last_error").starts_with("Kafka at ")).then_some(())
    });
    assert_eq!(text(&mut raw, "f", "state"), "Running");
    let before = writers.now();
    kafka.broker.start_again();
    Told::wait_for_value(&consumer, before);
    kafka.broker.kill();
    writers.wait_for_more(300);
    let before = writers.now();
    kafka.broker.start_again();
    Told::wait_for_value(&consumer, before);
    wait_for("a feed that is well again", || {
        text(&mut raw, "f", "last_error").is_empty().then_some(())
    });

    let acknowledged = writers.end();
    let told = Told::wait_for_all(&consumer, &acknowledged, &mut raw);
    println!("{} events, {} came again", told.firsts.len(), told.repeats);
    let newest = told.firsts.iter().map(|first| first.sequence).max().expect("events came");
    wait_for("a position that says that all was delivered", || {
        // What changed nothing is told of by no event, and counted all the same.
        let last = number(&mut raw, "f", "last_sequence");
        (last >= i64::try_from(newest).expect("53 bits")).then_some(())
    });
}

#[test]
fn feeds_that_cannot_be_delivered_say_why_and_hold_nobody() {
    let Some(mut kafka) = Kafka::start() else { return };
    kafka.broker.stop();
    kafka.broker.configure("auto.create.topics.enable=false");
    kafka.broker.start_again();
    for topic in ["fine", "narrow"] {
        kafka.broker.create(topic);
    }
    let node = Node::start_with(ARGUMENTS);
    let mut raw = Raw::ready(&node);
    let table = "CREATE TABLE shop.orders (id int PRIMARY KEY, v bigint, note text)";
    for statement in [&keyspace(1), table, &kafka.statement("fine", "fine", "")] {
        raw.run(statement);
    }
    let narrow = kafka.statement("narrow", "narrow", ", max_message_bytes = 1024");
    let missing = kafka.statement("missing", "missing", "");
    let away = "CREATE CHANGEFEED away FOR TABLE shop.orders INTO KAFKA '127.0.0.1:1/t'";
    for statement in [&narrow, &missing, away] {
        raw.run(statement);
    }
    let insert = |raw: &mut Raw, id: i64, note: &str| {
        raw.run(&format!("INSERT INTO shop.orders (id, v, note) VALUES ({id}, {id}, '{note}')"));
    };
    insert(&mut raw, 1, "short");
    insert(&mut raw, 2, &"long".repeat(500));
    insert(&mut raw, 3, "short");
    let ids = |consumer: &Consumer, count| -> Vec<i64> {
        let events = events(consumer, count);
        let mut ids: Vec<i64> =
            events.iter().filter_map(|(_, event)| event["key"]["id"].as_i64()).collect();
        ids.sort_unstable();
        ids
    };
    let fine = kafka.broker.follow("fine", "fine");
    assert_eq!(ids(&fine, 3), [1, 2, 3], "the others hold nobody");

    let mut stops_with = |feed: &str, state: &str, reason: &str| {
        let said = wait_for(&format!("{feed} in state {state}"), || {
            let said = text(&mut raw, feed, "last_error");
            (text(&mut raw, feed, "state") == state && !said.is_empty()).then_some(said)
        });
        assert!(said.contains(reason), "{feed}: {said}");
    };
    stops_with(
        "missing",
        "Error",
        "topic missing does not exist, and the brokers do not create it",
    );
    stops_with("narrow", "Error", "1024");
    stops_with("away", "Running", "Kafka at 127.0.0.1:1: ");

    // Mended, each goes on where it stood.
    raw.run("ALTER CHANGEFEED narrow SET (large_message = 'key_only')");
    raw.run("RESUME CHANGEFEED narrow");
    let narrow = kafka.broker.follow("narrow", "narrow");
    assert_eq!(ids(&narrow, 3), [1, 2, 3]);
    kafka.broker.create("missing");
    raw.run("RESUME CHANGEFEED missing");
    let missing = kafka.broker.follow("missing", "missing");
    assert_eq!(ids(&missing, 3), [1, 2, 3]);
    raw.run("DROP CHANGEFEED away");
    insert(&mut raw, 4, "short");
    for consumer in [&fine, &narrow, &missing] {
        assert_eq!(ids(consumer, 4), [1, 2, 3, 4]);
    }
}
