//! A node that is told to stop writes out what is in memory, so that its next start reads no log;
//! and what that start then has in files is brought back where it is changed under conditions.

use crate::support::{Node, Raw, metric};

/// So many that writing them out takes longer than the node's own look for such work.
const TABLES: usize = 40;

#[test]
fn a_stop_writes_out_every_table() {
    let mut node = Node::start();
    let empty_bytes = metric(&node, "memtable_bytes");
    let mut raw = Raw::ready(&node);
    raw.run(
        "CREATE KEYSPACE ks WITH replication = \
         {'class': 'SimpleStrategy', 'replication_factor': 1}",
    );
    for table in 0..TABLES {
        raw.run(&format!("CREATE TABLE ks.t{table} (k int PRIMARY KEY, v text)"));
    }
    for round in 0..3 {
        for (table, key) in (0..TABLES).flat_map(|table| [(table, 1), (table, 2)]) {
            raw.run(&format!("INSERT INTO ks.t{table} (k, v) VALUES ({key}, 'v{round}')"));
        }
        assert!(metric(&node, "memtable_bytes") > empty_bytes);
        assert!(node.stop().success());
        node.restart();
        assert_eq!(metric(&node, "memtable_bytes"), empty_bytes, "round {round}: the log was read");
        raw = Raw::ready(&node);
    }
    for table in 0..TABLES {
        let rows = raw.rows(&format!("SELECT v FROM ks.t{table}")).expect("it is read");
        assert_eq!(rows, vec![vec![Some(b"v2".to_vec())]; 2]);
    }
}

/// Bytes of a column that the statements do not change.
const LARGE: usize = 8 << 10;

#[test]
fn a_row_of_a_file_is_brought_into_memory_by_a_conditional_write_that_changes_it() {
    let mut node = Node::start();
    let mut raw = Raw::ready(&node);
    raw.run(
        "CREATE KEYSPACE ks WITH replication = \
         {'class': 'SimpleStrategy', 'replication_factor': 1}",
    );
    raw.run("CREATE TABLE ks.t (k int PRIMARY KEY, v int, w text)");
    let large = "w".repeat(LARGE);
    raw.run(&format!("INSERT INTO ks.t (k, v, w) VALUES (1, 1, '{large}')"));
    assert!(node.stop().success());
    node.restart();
    let mut raw = Raw::ready(&node);
    let empty_bytes = metric(&node, "memtable_bytes");
    let applies = |raw: &mut Raw, from: i32, to: i32, w: &str| {
        raw.run(&format!("UPDATE ks.t SET v = {to} WHERE k = 1 IF v = {from} AND w = '{w}'"));
        let rows = raw.rows("SELECT v FROM ks.t WHERE k = 1").expect("it is read");
        rows == [[Some(to.to_be_bytes().to_vec())]]
    };
    assert!(!applies(&mut raw, 2, 3, &large) && !applies(&mut raw, 1, 3, "w"));
    assert_eq!(metric(&node, "memtable_bytes"), empty_bytes, "what is refused writes nothing");
    raw.run("UPDATE ks.t SET v = 1 WHERE k = 1");
    let bytes = metric(&node, "memtable_bytes");
    assert!(applies(&mut raw, 1, 2, &large));
    let bytes = metric(&node, "memtable_bytes") - bytes;
    assert!(bytes >= LARGE as u64, "the next conditions are asked of the row in memory: {bytes}");
    assert!(!applies(&mut raw, 1, 3, &large) && applies(&mut raw, 2, 3, &large));
    assert!(node.stop().success());
    node.restart();
    let rows = Raw::ready(&node).rows("SELECT v, w FROM ks.t WHERE k = 1").expect("it is read");
    assert_eq!(rows, [[Some(vec![0, 0, 0, 3]), Some(large.into_bytes())]]);
}
