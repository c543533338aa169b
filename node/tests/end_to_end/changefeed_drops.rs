//! Tables that are dropped under their changefeeds: to clients they are gone at once, and what was
//! acknowledged before is delivered all the same, whatever dies meanwhile.

use crate::changefeeds::{
    ARGUMENTS, Receiver, TABLE, insert, keyspace, owner_among, shown, wait_for_states,
};
use crate::support::{Node, Raw};
use serde_json::Value;

const USERS: &str = "CREATE TABLE shop.users (id int PRIMARY KEY, name text)";

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
    let deadline = std::time::Instant::now() + crate::changefeeds::TIME_MAX;
    while text_of(raw, "\"table\"") != [table] {
        assert!(std::time::Instant::now() < deadline, "{:?}", shown(raw));
        std::thread::sleep(std::time::Duration::from_millis(20));
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
