//! Changefeeds and the log that they read: it is read once for all of them, one that is stuck holds
//! nobody, and it waits for those that are away.

use crate::changefeeds::{ARGUMENTS, Receiver, TABLE, TIME_MAX, insert, keyspace, shown};
use crate::support::{Node, Raw, metric};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIME_MAX;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn feeds_of_one_table_read_its_log_once_and_one_that_is_stuck_holds_nobody() {
    const FEEDS: usize = 10;
    let receivers: Vec<Receiver> = (1..FEEDS).map(|_| Receiver::start()).collect();
    // It takes connections and never answers.
    let silent = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let node = Node::start_with(&[ARGUMENTS, &["--shards", "2"]].concat());
    let mut raw = Raw::ready(&node);
    raw.run(&keyspace(1));
    raw.run(TABLE);
    for (number, receiver) in receivers.iter().enumerate() {
        raw.run(&receiver.statement(&format!("f{number}"), "shop.orders", ""));
    }
    raw.run(&format!(
        "CREATE CHANGEFEED stuck FOR TABLE shop.orders INTO WEBHOOK 'http://{}/hook' WITH \
         (flush_interval_ms = 5, batch_size = 1, timeout_ms = 600000)",
        silent.local_addr().expect("it is bound")
    ));
    insert(&mut raw, 0..100);
    for receiver in &receivers {
        receiver.wait_for(0..100);
    }
    let delivered: Vec<i64> =
        shown(&mut raw).into_iter().filter(|feed| feed.0 == "stuck").map(|feed| feed.3).collect();
    assert_eq!(delivered, [0]);

    // Nobody writes: a question waits a tenth of a second for an answer, at each of two shards.
    let (began, before) = (Instant::now(), metric(&node, "log_questions_total"));
    thread::sleep(Duration::from_secs(2));
    let questions = metric(&node, "log_questions_total") - before;
    let of_one_reader = 2 * (began.elapsed().as_millis() as u64 / 100 + 1);
    assert!(questions > 0 && questions <= 2 * of_one_reader, "{questions} of {of_one_reader}");
}

/// Each of them would hold some megabytes of events if it were alone.
#[test]
fn feeds_that_are_stuck_hold_no_more_than_all_feeds_may_and_hold_nobody() {
    const STUCK: usize = 12;
    const ROWS: i64 = 40;
    const STATUS_BYTES: usize = 16 << 10;
    let receiver = Receiver::start();
    let silent = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let arguments = ["--webhook-allow-http", "--webhook-allow-private-addresses"];
    let node = Node::start_with(&[&arguments[..], &["--memory", "64M"]].concat());
    let mut raw = Raw::ready(&node);
    raw.run(&keyspace(1));
    raw.run(TABLE);
    for number in 0..STUCK {
        let create = format!(
            "CREATE CHANGEFEED stuck{number} FOR TABLE shop.orders INTO WEBHOOK \
             'http://{}/hook' WITH (timeout_ms = 600000)",
            silent.local_addr().expect("it is bound")
        );
        raw.run(&create);
    }
    let status = "x".repeat(STATUS_BYTES);
    let mut write = |ids: std::ops::Range<i64>| {
        for id in ids {
            let insert = format!("INSERT INTO shop.orders (id, status) VALUES ({id}, '{status}')");
            raw.run(&insert);
        }
    };
    write(0..ROWS);
    let held_max = metric(&node, "changefeed_memory_bytes_max");
    assert_eq!(held_max, 8 << 20);
    let held = || metric(&node, "changefeed_memory_bytes");
    wait_until("they take what there is", || held() > held_max / 3);
    let fast = receiver.statement("fast", "shop.orders", ", cursor = '0'");
    Raw::ready(&node).run(&fast);
    write(ROWS..2 * ROWS);
    receiver.wait_for(0..2 * ROWS);
    // What is taken in one step may go beyond the limit.
    let held_now = held();
    assert!((held_max / 3..held_max * 3 / 2).contains(&held_now), "{held_now} of {held_max}");
    for number in 0..STUCK {
        raw.run(&format!("DROP CHANGEFEED stuck{number}"));
    }
    wait_until("what they held is free", || held() < held_max / 3);
}

#[test]
fn the_log_outlives_its_ttl_for_a_feed_that_has_not_read_it() {
    let receiver = Receiver::start();
    let mut node = Node::start_with(ARGUMENTS);
    let mut raw = Raw::ready(&node);
    let short = "WITH cdc = {'enabled': true, 'ttl': 2}";
    raw.run(&keyspace(1));
    raw.run(&format!("{TABLE} {short}"));
    raw.run(&format!("CREATE TABLE shop.others (id int PRIMARY KEY, status text) {short}"));
    raw.run(&receiver.statement("f", "shop.orders", ""));
    insert(&mut raw, 0..1);
    receiver.wait_for(0..1);
    raw.run("PAUSE CHANGEFEED f");
    insert(&mut raw, 1..30);
    raw.run("INSERT INTO shop.others (id, status) VALUES (1, 'new')");
    let logged = |raw: &mut Raw, table: &str| {
        let text = format!("SELECT \"cdc$time\" FROM shop.{table}_scylla_cdc_log");
        raw.rows(&text).expect("it is read").len()
    };
    for table in ["orders", "others"] {
        wait_until("the log ends", || logged(&mut raw, table) == 0);
    }
    // What is in memory becomes files, and files in which all has ended are merged away.
    node.stop();
    node.restart();
    wait_until("files are merged", || metric(&node, "compactions_total") > 0);
    let mut raw = Raw::ready(&node);
    insert(&mut raw, 30..31);
    raw.run("RESUME CHANGEFEED f");
    let events = receiver.wait_for(0..31);
    assert_eq!(events.len(), 31, "each came once");
    assert!(events.is_sorted_by_key(|event| event["sequence"].as_u64()), "{events:?}");
}

#[test]
fn a_feed_that_was_away_for_longer_than_it_may_says_what_is_lost() {
    let receiver = Receiver::start();
    let node = Node::start_with(ARGUMENTS);
    let mut raw = Raw::ready(&node);
    let age = ", retention_max_age = '1s'";
    for statement in [&keyspace(1), TABLE, &receiver.statement("f", "shop.orders", age)] {
        raw.run(statement);
    }
    insert(&mut raw, 0..1);
    receiver.wait_for(0..1);
    raw.run("PAUSE CHANGEFEED f");
    insert(&mut raw, 1..2);
    let ttl = |seconds| {
        format!("ALTER TABLE shop.orders WITH cdc = {{'enabled': true, 'ttl': {seconds}}}")
    };
    raw.run(&ttl(1));
    wait_until("it is released", || shown(&mut raw)[0].2 == "Error");
    let told = raw.rows("SELECT last_error FROM system_views.changefeeds").expect("it is shown");
    let told = String::from_utf8(told[0][0].clone().expect("there is an error")).expect("text");
    for part in ["changes from 20", " are lost", "retention_max_age", "FROM BEGINNING"] {
        assert!(told.contains(part), "{told}");
    }
    // Writers are not held.
    insert(&mut raw, 2..3);
    // Its position is kept. What was written before the TTL was changed had not ended after all.
    raw.run(&ttl(86_400));
    raw.run("RESUME CHANGEFEED f");
    receiver.wait_for(0..2);
}
