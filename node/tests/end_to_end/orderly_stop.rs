//! A node that is told to stop writes out what is in memory, so that its next start reads no log.

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
