//! Nodes whose data directory is not what they left: they do not go on as if nothing had been, say what
//! to do, and the cluster goes on without them.

use crate::ring_changes::{answer, host_id, wait_for_members};
use crate::support::{Node, Raw};
use std::fs;
use std::path::PathBuf;

const ARGUMENTS: &[&str] = &["--memory", "64M"];
const SCHEMA: [&str; 2] = [
    "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}",
    "CREATE TABLE ks.t (k int PRIMARY KEY)",
];
const KEYS: i64 = 40;

fn data(node: &Node) -> PathBuf {
    node.scratch().join("data")
}

/// Inserts until that is acknowledged: others may have to take over first.
fn insert(node: &Node, keys: std::ops::Range<i64>) {
    let mut raw = Raw::ready(node);
    for k in keys {
        answer(&mut raw, &format!("INSERT INTO ks.t (k) VALUES ({k})"));
    }
}

#[test]
fn a_node_that_lost_its_votes_is_refused_and_takes_its_place_again_as_a_new_one() {
    let mut nodes = Node::start_together::<3>(ARGUMENTS);
    wait_for_members(&nodes.each_ref());
    for statement in SCHEMA {
        Raw::ready(&nodes[0]).run(statement);
    }
    insert(&nodes[2], 0..KEYS);
    let lost_id = host_id(&nodes[0], &nodes[2]);
    nodes[2].kill();

    let (log, aside) = (data(&nodes[2]).join("shard-1/log"), nodes[2].scratch().join("aside"));
    fs::rename(&log, &aside).expect("its own folder");
    for _ in 0..2 {
        let said = nodes[2].refuses_to_restart_as_it_is();
        let line = said.lines().last().expect("it says why");
        assert!(line.contains("has lost the commit log of shard 1"), "{line}");
        assert!(line.contains(&format!("`--replace {lost_id}`")), "{line}");
    }
    // The others go on without it, and what was put back is as good as before.
    insert(&nodes[0], KEYS..2 * KEYS);
    fs::rename(&aside, &log).expect("its own folder");
    nodes[2].restart();
    insert(&nodes[2], 2 * KEYS..3 * KEYS);

    // An empty directory makes another node, which cannot have the address of a member.
    nodes[2].kill();
    fs::remove_dir_all(data(&nodes[2])).expect("its own folder");
    let said = nodes[2].refuses_to_restart_as_it_is();
    let line = said.lines().last().expect("it says why");
    let hint = format!("with `--replace {}`", lost_id.replace('-', ""));
    assert!(line.contains("is that of the node") && line.contains(&hint), "{line}");
    nodes[2].restart_until_let_in(&["--replace", &lost_id]);
    wait_for_members(&nodes.each_ref());
    nodes[0].kill();
    let mut raw = Raw::ready(&nodes[2]);
    let mut rows = answer(&mut raw, "SELECT k FROM ks.t");
    rows.sort_unstable();
    assert_eq!(rows, (0..3 * KEYS).map(|k| vec![Some(k)]).collect::<Vec<_>>());
}
