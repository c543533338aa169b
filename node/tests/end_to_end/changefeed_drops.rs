//! Tables that are dropped under their changefeeds: to clients they are gone at once, and what was
//! acknowledged before is delivered all the same, whatever dies meanwhile.

use crate::changefeeds::{
    ARGUMENTS, Receiver, TABLE, TIME_MAX, insert, keyspace, owner_among, shown, wait_for_states,
};
use crate::ring_changes::{answer, verb, wait_for_members};
use crate::support::{Node, Raw, metric};
use serde_json::Value;
use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

const USERS: &str = "CREATE TABLE shop.users (id int PRIMARY KEY, name text)";

const WRITE_TIMEOUT: u32 = 0x1100;

fn text_of(raw: &mut Raw, column: &str) -> Vec<String> {
    let query = format!("SELECT {column} FROM system_views.changefeeds");
    let rows = raw.rows(&query).expect("it is shown");
    let cells = rows.into_iter().map(|mut row| row.remove(0).unwrap_or_default());
    cells.map(|cell| String::from_utf8(cell).expect("text")).collect()
}

fn ids(events: &[Value]) -> Vec<i64> {
    let mut ids: Vec<i64> =
        events.iter().map(|event| event["key"]["id"].as_i64().expect("an id")).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[test]
fn the_rest_of_a_dropped_table_is_delivered_over_a_restart_beside_a_new_one_of_its_name() {
    let (receiver, of_paused) = (Receiver::start(), Receiver::start());
    let mut node = Node::start_with(ARGUMENTS);
    let mut raw = Raw::ready(&node);
    raw.run(&keyspace(1));
    raw.run(TABLE);
    let filter = ", include_old_values = true, filter = 'status = ''new'''";
    raw.run(&receiver.statement("f", "shop.orders", filter));
    raw.run(&of_paused.statement("g", "shop.orders", ""));
    raw.run("PAUSE CHANGEFEED g");
    receiver.close(true);
    insert(&mut raw, 0..50);
    raw.run("DROP TABLE shop.orders");
    let (code, message) = raw.rows("SELECT * FROM shop.orders").expect_err("it is gone");
    assert!(code == 0x2200 && message.contains("orders does not exist"), "{message}");
    let (_, message) = raw.rows("SELECT * FROM shop.orders_scylla_cdc_log").expect_err("so is its");
    assert!(message.contains("does not exist"), "{message}");
    raw.run(TABLE);
    insert(&mut raw, 100..110);
    assert_eq!(text_of(&mut raw, "state"), ["Running", "Paused"]);

    node.stop();
    node.restart();
    receiver.close(false);
    let mut raw = Raw::ready(&node);
    receiver.wait_for(0..50);
    wait_for_states(&mut raw, &["Finished", "Paused"]);
    assert_eq!(text_of(&mut raw, "phase"), ["table dropped", "stopped"]);
    assert_eq!(ids(&receiver.events()), (0..50).collect::<Vec<_>>(), "it is on the old one alone");
    let (_, message) = raw.rows("RESUME CHANGEFEED f").expect_err("there is nothing left");
    assert!(message.contains("its table, which was dropped"), "{message}");

    raw.run("RESUME CHANGEFEED g");
    of_paused.wait_for(0..50);
    wait_for_states(&mut raw, &["Finished", "Finished"]);
    raw.run("DROP CHANGEFEED f");
    raw.run("DROP CHANGEFEED g");
    assert_eq!(shown(&mut raw), []);
    // The new one has a log of its own.
    raw.run(&receiver.statement("f", "shop.orders", ""));
    insert(&mut raw, 110..112);
    receiver.wait_for(110..112);
}

#[test]
fn a_feed_on_several_tables_goes_on_with_those_that_are_left() {
    let receiver = Receiver::start();
    let node = Node::start_with(ARGUMENTS);
    let mut raw = Raw::ready(&node);
    for statement in [&keyspace(1), TABLE, USERS] {
        raw.run(statement);
    }
    raw.run(&receiver.statement("f", "shop.orders, shop.users", ""));
    receiver.close(true);
    insert(&mut raw, 0..5);
    raw.run("DROP TABLE shop.orders");
    raw.run("INSERT INTO shop.users (id, name) VALUES (5, 'Ada')");
    assert_eq!(text_of(&mut raw, "\"table\""), ["orders, users"]);
    receiver.close(false);
    receiver.wait_for(0..6);
    wait_for_table(&mut raw, "users");
    raw.run("INSERT INTO shop.users (id, name) VALUES (6, 'Bea')");
    receiver.wait_for(0..7);
    raw.run("DROP KEYSPACE shop");
    wait_for_states(&mut raw, &["Finished"]);
    assert_eq!(ids(&receiver.events()), (0..7).collect::<Vec<_>>());
}

fn wait_for_table(raw: &mut Raw, table: &str) {
    let deadline = Instant::now() + TIME_MAX;
    while text_of(raw, "\"table\"") != [table] {
        assert!(Instant::now() < deadline, "{:?}", shown(raw));
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(shown(raw)[0].2, "Running");
}

#[test]
fn another_node_delivers_the_rest_when_the_owner_dies() {
    let receiver = Receiver::start();
    let mut nodes: [Node; 3] = Node::start_together(ARGUMENTS);
    let mut raw = Raw::ready(&nodes[0]);
    for statement in [&keyspace(3), TABLE, &receiver.statement("f", "shop.orders", "")] {
        raw.run(statement);
    }
    insert(&mut raw, 0..10);
    receiver.wait_for(0..10);
    receiver.close(true);
    insert(&mut raw, 10..40);
    raw.run("DROP TABLE shop.orders");
    let dead = owner_among(&nodes, &mut raw);
    nodes[dead].kill();
    receiver.close(false);
    let mut raw = Raw::ready(&nodes[(dead + 1) % 3]);
    receiver.wait_for(0..40);
    wait_for_states(&mut raw, &["Finished"]);
    nodes[dead].restart();
    let mut raw = Raw::ready(&nodes[dead]);
    wait_for_states(&mut raw, &["Finished"]);
    raw.run(TABLE);
    insert(&mut raw, 0..3);
}

/// Drops something, whoever decides on the schema just then.
fn drop_by(raw: &mut Raw, what: &str) {
    let deadline = Instant::now() + TIME_MAX;
    while let Err(error) = raw.rows(&format!("DROP {what}")) {
        assert!(Instant::now() < deadline, "{what}: {error:?}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// The log of a dropped table has a place on the ring like any other: it moves to a node that joins
/// while the table is dropped, and from the owner of its feed when that leaves.
#[test]
fn the_log_of_a_dropped_table_moves_with_the_ring() {
    let receiver = Receiver::start();
    let mut nodes = Node::unstarted_together::<4>(ARGUMENTS);
    nodes[0].restart();
    Node::restart_together(&mut nodes[1..3]);
    wait_for_members(&nodes[..3].iter().collect::<Vec<_>>());
    let mut raw = Raw::ready(&nodes[0]);
    for statement in [&keyspace(3), TABLE, USERS, &receiver.statement("f", "shop.orders", "")] {
        raw.run(statement);
    }
    insert(&mut raw, 0..10);
    receiver.wait_for(0..10);
    receiver.close(true);
    insert(&mut raw, 10..60);
    let (there, new) = nodes.split_at_mut(3);
    thread::scope(|scope| {
        scope.spawn(|| new[0].restart());
        thread::sleep(Duration::from_millis(200));
        drop_by(&mut Raw::ready(&there[1]), "TABLE IF EXISTS shop.orders");
    });
    wait_for_members(&nodes.iter().collect::<Vec<_>>());
    receiver.close(false);
    receiver.wait_for(10..60);
    let mut raw = Raw::ready(&nodes[3]);
    wait_for_states(&mut raw, &["Finished"]);
    drop_by(&mut raw, "CHANGEFEED IF EXISTS f");

    receiver.forget();
    answer(&mut raw, &receiver.statement("IF NOT EXISTS g", "shop.users", ""));
    receiver.close(true);
    for id in 0..50 {
        answer(&mut raw, &format!("INSERT INTO shop.users (id, name) VALUES ({id}, 'Ada')"));
    }
    drop_by(&mut raw, "KEYSPACE IF EXISTS shop");
    let leaves = owner_among(&nodes, &mut raw);
    assert!(verb(&nodes[leaves], &["decommission"]).success().ends_with("DECOMMISSIONED\n"));
    let rest: Vec<&Node> =
        nodes.iter().enumerate().filter(|(at, _)| *at != leaves).map(|(_, node)| node).collect();
    wait_for_members(&rest);
    receiver.close(false);
    receiver.wait_for(0..50);
    wait_for_states(&mut Raw::ready(rest[0]), &["Finished"]);
    assert_eq!(ids(&receiver.events()), (0..50).collect::<Vec<_>>());
}

/// What came of a logged batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Done,
    /// It is on record, and will be made as a whole.
    Decided,
    Unknown,
}

impl Answer {
    fn of(raw: &mut Raw, batch: &str) -> Answer {
        match raw.rows(batch) {
            Ok(_) => Answer::Done,
            // The type of a write that timed out.
            Err((WRITE_TIMEOUT, _)) if raw.details.ends_with(b"\0\x05BATCH") => Answer::Decided,
            Err(_) => Answer::Unknown,
        }
    }
}

/// Logged batches over the table and another one are decided, and cannot be finished, since the node
/// that has a part of both does not answer. What they change of the dropped table goes with it; the
/// rest is made, and the feed does not wait for either.
#[test]
fn unfinished_logged_batches_neither_hold_a_dropped_table_nor_lose_their_other_part() {
    const BATCHES: i64 = 60;
    let receiver = Receiver::start();
    let nodes: [Node; 3] = Node::start_together(ARGUMENTS);
    wait_for_members(&nodes.iter().collect::<Vec<_>>());
    let mut raw = Raw::ready(&nodes[0]);
    for statement in [&keyspace(1), TABLE, USERS, &receiver.statement("f", "shop.orders", "")] {
        raw.run(statement);
    }
    let batch = |id: i64| {
        format!(
            "BEGIN BATCH INSERT INTO shop.orders (id, status) VALUES ({id}, 'new'); \
             INSERT INTO shop.users (id, name) VALUES ({}, 'of a batch'); APPLY BATCH",
            id + 1_000
        )
    };
    let mut raws: Vec<Raw> = (0..BATCHES).map(|_| Raw::ready(&nodes[0])).collect();
    nodes[1].freeze();
    let answers: Vec<Answer> = thread::scope(|scope| {
        let ask = |raw, id| Answer::of(raw, &batch(id));
        let asking: Vec<_> =
            raws.iter_mut().zip(0..).map(|(raw, id)| scope.spawn(move || ask(raw, id))).collect();
        asking.into_iter().map(|asked| asked.join().expect("no panic")).collect()
    });
    let with = |answer: Answer| -> Vec<i64> {
        (0..).zip(&answers).filter(|(_, given)| **given == answer).map(|(id, _)| id).collect()
    };
    let (acknowledged, decided) = (with(Answer::Done), with(Answer::Decided));
    assert!(!decided.is_empty(), "nothing was left unfinished: {answers:?}");
    drop_by(&mut raw, "TABLE IF EXISTS shop.orders");
    nodes[1].thaw();

    wait_for_states(&mut Raw::ready(&nodes[2]), &["Finished"]);
    let told = ids(&receiver.events());
    let missing: Vec<&i64> = acknowledged.iter().filter(|id| !told.contains(id)).collect();
    assert!(missing.is_empty(), "{missing:?} were acknowledged and not told of");
    // Those that were decided are finished, whoever it falls to.
    let deadline = Instant::now() + TIME_MAX;
    loop {
        let rows = answer(&mut raw, "SELECT id FROM shop.users");
        let made: BTreeSet<i64> = rows.iter().map(|row| row[0].expect("an id") - 1_000).collect();
        let wanted = told.iter().chain(&acknowledged).chain(&decided);
        let unmade: BTreeSet<&i64> = wanted.filter(|id| !made.contains(id)).collect();
        if unmade.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "{unmade:?} are half made: {answers:?}");
        thread::sleep(Duration::from_millis(100));
    }
    for node in &nodes {
        assert_eq!(metric(node, "logged_batches_unreadable"), 0, "{}", node.log());
    }
}

#[test]
fn the_log_of_a_dropped_table_is_kept_for_so_long() {
    let receiver = Receiver::start();
    let node = Node::start_with(ARGUMENTS);
    let mut raw = Raw::ready(&node);
    for statement in [&keyspace(1), TABLE, USERS] {
        raw.run(statement);
    }
    let age = ", retention_max_age = '1s'";
    raw.run(&receiver.statement("f", "shop.orders", age));
    raw.run(&receiver.statement("g", "shop.orders, shop.users", age));
    for feed in ["f", "g"] {
        raw.run(&format!("PAUSE CHANGEFEED {feed}"));
    }
    insert(&mut raw, 0..5);
    raw.run("DROP TABLE shop.orders");
    wait_for_states(&mut raw, &["Error", "Error"]);
    for told in text_of(&mut raw, "last_error") {
        for part in ["changes from 20", " are lost: the table was dropped", "retention_max_age"] {
            assert!(told.contains(part), "{told}");
        }
    }
    let (code, message) = raw.rows("RESUME CHANGEFEED f").expect_err("there is no log");
    assert!(code == 0x2200 && message.contains("nothing of its log is kept"), "{message}");
    // It has another table.
    raw.run("RESUME CHANGEFEED g");
    raw.run("INSERT INTO shop.users (id, name) VALUES (7, 'Ada')");
    receiver.wait_for(7..8);
    assert_eq!(text_of(&mut raw, "\"table\""), ["orders", "users"]);
}
