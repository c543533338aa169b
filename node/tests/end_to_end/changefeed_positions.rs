//! Where changefeeds begin and are taken to: `cursor`, and `RESUME … FROM`, to the event.

use crate::changefeeds::{ARGUMENTS, Receiver, TABLE, insert, keyspace, wait_for_states};
use crate::support::{Node, Raw};
use serde_json::Value;
use std::thread;
use std::time::Duration;

fn sequence(event: &Value) -> u64 {
    event["sequence"].as_u64().expect("a number")
}

fn timestamp(event: &Value) -> &str {
    event["timestamp"].as_str().expect("a text")
}

/// The first event that has the millisecond of this one.
fn first_of_millisecond(events: &[Value], at: usize) -> usize {
    let millisecond = |event: &Value| timestamp(event)[..23].to_owned();
    let wanted = millisecond(&events[at]);
    events.iter().position(|event| millisecond(event) == wanted).expect("it is there itself")
}

fn refusal(raw: &mut Raw, statement: &str) -> String {
    let (code, message) = raw.rows(statement).expect_err(statement);
    assert_eq!(code, 0x2200, "{message}");
    message
}

/// Why the only feed has stopped.
fn told(raw: &mut Raw) -> String {
    let told = raw.rows("SELECT last_error FROM system_views.changefeeds").expect("it is shown");
    String::from_utf8(told[0][0].clone().expect("a reason")).expect("text")
}

/// The whole log of `shop.orders` as a feed tells it.
fn all_events(raw: &mut Raw, count: i64) -> Vec<Value> {
    let receiver = Receiver::start();
    raw.run(&receiver.statement("all", "shop.orders", ", cursor = '0'"));
    let events = receiver.wait_for(0..count);
    raw.run("DROP CHANGEFEED all");
    assert_eq!(events.len() as i64, count, "one for each insert");
    events
}

#[test]
fn a_feed_begins_and_goes_on_at_the_very_event_that_it_is_told() {
    let node = Node::start_with(ARGUMENTS);
    let mut raw = Raw::ready(&node);
    raw.run(&keyspace(1));
    raw.run(&format!("{TABLE} WITH cdc = {{'enabled': true}}"));
    insert(&mut raw, 20..21);
    let without_rows = Receiver::start();
    raw.run(&without_rows.statement("f", "shop.orders", ", cursor = '0'"));
    wait_for_states(&mut raw, &["Error"]);
    let told = told(&mut raw);
    assert!(told.contains("made before this feed asked for them"), "{told}");
    raw.run("DROP CHANGEFEED f");
    raw.run("DROP TABLE shop.orders");
    let images = "'enabled': true, 'preimage': true, 'postimage': true";
    raw.run(&format!("{TABLE} WITH cdc = {{{images}}}"));
    for id in 0..10 {
        insert(&mut raw, id..id + 1);
        thread::sleep(Duration::from_millis(2));
    }
    let before = all_events(&mut raw, 10);
    let places = [
        ("a", sequence(&before[4]).to_string(), 5),
        ("b", (sequence(&before[4]) - 1).to_string(), 4),
        ("c", timestamp(&before[7]).to_owned(), first_of_millisecond(&before, 7)),
        ("d", sequence(&before[9]).to_string(), 10),
        ("e", "2020-06-01".to_owned(), 0),
    ];
    let receivers = places.clone().map(|(name, cursor, _)| {
        let receiver = Receiver::start();
        raw.run(&receiver.statement(name, "shop.orders", &format!(", cursor = '{cursor}'")));
        receiver
    });
    insert(&mut raw, 10..13);
    let all = all_events(&mut raw, 13);
    for (receiver, (name, cursor, first)) in receivers.iter().zip(&places) {
        receiver.wait_for(*first as i64..13);
        assert_eq!(receiver.events(), all[*first..], "feed {name} from {cursor}");
    }
    // The same by statements, which may take a feed forward and back.
    for (from, first) in [
        ("BEGINNING".to_owned(), 0),
        (format!("SEQUENCE {}", sequence(&all[11])), 12),
        (format!("SEQUENCE {}", sequence(&all[2])), 3),
        (format!("TIMESTAMP '{}'", timestamp(&all[8])), first_of_millisecond(&all, 8)),
        ("SEQUENCE 0".to_owned(), 0),
    ] {
        raw.run("PAUSE CHANGEFEED a");
        receivers[0].forget();
        raw.run(&format!("RESUME CHANGEFEED a FROM {from}"));
        receivers[0].wait_for(first as i64..13);
        assert_eq!(receivers[0].events(), all[first..], "from {from}");
    }
    // Where it stands behind the last event it goes on with the next.
    raw.run("PAUSE CHANGEFEED a");
    receivers[0].forget();
    raw.run(&format!("RESUME CHANGEFEED a FROM SEQUENCE {}", sequence(&all[12])));
    insert(&mut raw, 13..14);
    assert_eq!(receivers[0].wait_for(13..14).len(), 1);
}

#[test]
fn a_position_that_cannot_be_is_refused_with_what_is_wrong() {
    let receiver = Receiver::start();
    let node = Node::start_with(ARGUMENTS);
    let mut raw = Raw::ready(&node);
    raw.run(&keyspace(1));
    raw.run(TABLE);
    let with_cursor =
        |cursor: &str| receiver.statement("f", "shop.orders", &format!(", cursor = '{cursor}'"));
    let unlogged = refusal(&mut raw, &with_cursor("0"));
    assert!(unlogged.contains("shop.orders has no log"), "{unlogged}");
    raw.run(&receiver.statement("f", "shop.orders", ""));
    let running = refusal(&mut raw, "RESUME CHANGEFEED f FROM BEGINNING");
    assert!(running.contains("pause it to resume it from somewhere else"), "{running}");
    raw.run("PAUSE CHANGEFEED f");
    for (from, reason) in [
        ("SEQUENCE 9007199254740992", "a sequence is a number from 0 to 9007199254740991"),
        ("SEQUENCE 9007199254740991", "in the future"),
        ("TIMESTAMP '2199-01-01'", "in the future"),
        ("TIMESTAMP 'soon'", "soon"),
    ] {
        let message = refusal(&mut raw, &format!("RESUME CHANGEFEED f FROM {from}"));
        assert!(message.contains(reason), "{message}");
    }
    for (cursor, reason) in [
        ("soon", "cursor"),
        ("9007199254740992", "cursor"),
        ("9007199254740991", "in the future"),
        ("2199-01-01", "in the future"),
    ] {
        let create = with_cursor(cursor).replacen(" f ", " g ", 1);
        let message = refusal(&mut raw, &create);
        assert!(message.contains(reason), "{message}");
    }
    let altered = refusal(&mut raw, "ALTER CHANGEFEED f SET (cursor = '5')");
    assert!(altered.contains("cannot be altered"), "{altered}");
    raw.run("RESUME CHANGEFEED f");
}

#[test]
fn a_feed_that_is_taken_behind_the_end_of_the_log_says_what_may_be_lost() {
    let receiver = Receiver::start();
    let node = Node::start_with(ARGUMENTS);
    let mut raw = Raw::ready(&node);
    raw.run(&keyspace(1));
    raw.run(&format!("{TABLE} WITH cdc = {{'enabled': true, 'ttl': 2}}"));
    raw.run(&receiver.statement("f", "shop.orders", ""));
    insert(&mut raw, 0..3);
    let events = receiver.wait_for(0..3);
    thread::sleep(Duration::from_secs(3));
    for from in [
        format!("SEQUENCE {}", sequence(&events[0])),
        format!("TIMESTAMP '{}'", timestamp(&events[0])),
    ] {
        raw.run("PAUSE CHANGEFEED f");
        raw.run(&format!("RESUME CHANGEFEED f FROM {from}"));
        wait_for_states(&mut raw, &["Error"]);
        let told = told(&mut raw);
        assert!(told.starts_with("changes from 20") && told.contains(" may be lost"), "{told}");
        assert!(told.contains("RESUME … FROM BEGINNING"), "{told}");
    }
    raw.run("RESUME CHANGEFEED f FROM BEGINNING");
    insert(&mut raw, 5..7);
    receiver.wait_for(5..7);
    wait_for_states(&mut raw, &["Running"]);
}

#[test]
fn a_feed_that_has_scanned_is_taken_to_the_changes_behind_its_rows() {
    let receiver = Receiver::start();
    let node = Node::start_with(ARGUMENTS);
    let mut raw = Raw::ready(&node);
    raw.run(&keyspace(1));
    raw.run(TABLE);
    insert(&mut raw, 0..20);
    raw.run(&receiver.statement("f", "shop.orders", ", initial_scan = 'yes'"));
    let rows = receiver.wait_for(0..20);
    assert!(rows.iter().all(|event| event["snapshot"] == true));
    insert(&mut raw, 30..33);
    let events = receiver.wait_for(30..33);
    let changes = &events[events.len() - 3..];
    for (from, first) in [
        (format!("SEQUENCE {}", sequence(&rows[19])), 0),
        (format!("SEQUENCE {}", sequence(&changes[0])), 1),
        (format!("TIMESTAMP '{}'", timestamp(&changes[1])), first_of_millisecond(changes, 1)),
    ] {
        raw.run("PAUSE CHANGEFEED f");
        receiver.forget();
        raw.run(&format!("RESUME CHANGEFEED f FROM {from}"));
        receiver.wait_for(30 + first as i64..33);
        assert_eq!(receiver.events(), changes[first..], "from {from}: rows are not told again");
    }
}
