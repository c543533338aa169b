//! Changes of the ring that are held up by a member that is dead: the cluster goes on, says what it waits
//! for, and other changes wait for their turn.

use crate::ring_changes::{answer, host_id, status, verb, wait_for_members};
use crate::support::{Node, Raw, get};
use std::thread;
use std::time::{Duration, Instant};

/// How long nodes may take to get anywhere on a busy machine.
const TIME_MAX: Duration = Duration::from_mins(1);
const ARGUMENTS: &[&str] = &["--memory", "64M"];
const SCHEMA: [&str; 4] = [
    "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}",
    "CREATE KEYSPACE one WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
    "CREATE TABLE ks.t (k int PRIMARY KEY)",
    "CREATE TABLE one.t (k int PRIMARY KEY)",
];
const KEYS: i64 = 60;

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIME_MAX;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn insert(node: &Node, table: &str, keys: std::ops::Range<i64>) {
    let mut raw = Raw::ready(node);
    for k in keys {
        answer(&mut raw, &format!("INSERT INTO {table} (k) VALUES ({k})"));
    }
}

/// All keys of a table, in order.
fn keys(node: &Node, table: &str) -> Vec<i64> {
    let rows = answer(&mut Raw::ready(node), &format!("SELECT k FROM {table}"));
    let mut keys: Vec<i64> = rows.iter().map(|row| row[0].expect("a key")).collect();
    keys.sort_unstable();
    keys
}

fn letters(asked: &Node, node: &Node) -> Option<String> {
    status(asked).remove(&node.ip().to_string()).map(|(letters, _)| letters)
}

/// Three members with data in one and in three copies, and further nodes that have not begun.
fn three_members<const N: usize>() -> [Node; N] {
    let mut nodes = Node::unstarted_together::<N>(ARGUMENTS);
    nodes[0].restart();
    Node::restart_together(&mut nodes[1..3]);
    wait_for_members(&nodes[..3].iter().collect::<Vec<_>>());
    for statement in SCHEMA {
        Raw::ready(&nodes[0]).run(statement);
    }
    for table in ["ks.t", "one.t"] {
        insert(&nodes[0], table, 0..KEYS);
    }
    nodes
}

/// The third member dies, so that what it has the only copy of cannot move, and the fourth begins to
/// join: that is not at its end before the third is back.
fn begin_join(nodes: &mut [Node]) {
    nodes[2].kill();
    nodes[3].launch_again();
    wait_until("the fourth joins", || letters(&nodes[0], &nodes[3]).as_deref() == Some("UJ"));
}

#[test]
fn a_second_node_joins_in_its_turn() {
    let mut nodes = three_members::<5>();
    begin_join(&mut nodes);
    let first_id = host_id(&nodes[0], &nodes[3]);
    let dead_id = host_id(&nodes[0], &nodes[2]);

    nodes[4].launch_again();
    let reason = format!("the node {first_id} is joining or leaving");
    wait_until("the fifth says what it waits for", || {
        let log = nodes[4].log();
        log.lines().any(|line| line.contains("waiting for the cluster") && line.contains(&reason))
    });
    assert!(nodes[4].runs(), "it waits for its turn:\n{}", nodes[4].log());
    assert_eq!(get(&nodes[4], "/readyz").0, 503);
    assert_eq!(letters(&nodes[0], &nodes[4]), None, "it is not known yet");
    for words in [&["decommission"][..], &["remove", &dead_id]] {
        let refused = verb(&nodes[1], words);
        assert!(!refused.status.success() && refused.stderr.contains(&reason), "{refused:?}");
    }
    let silent = format!("node {dead_id} does not answer");
    wait_until(&silent, || verb(&nodes[1], &["status"]).stdout.contains(&silent));
    // The cluster goes on.
    insert(&nodes[1], "ks.t", KEYS..2 * KEYS);

    nodes[2].restart();
    for node in &nodes[3..] {
        wait_until("it joins", || letters(&nodes[0], node).as_deref() == Some("UN"));
    }
    let all: Vec<&Node> = nodes.iter().collect();
    wait_for_members(&all);
    for node in all {
        assert_eq!(keys(node, "ks.t"), (0..2 * KEYS).collect::<Vec<_>>());
        assert_eq!(keys(node, "one.t"), (0..KEYS).collect::<Vec<_>>());
    }
}
