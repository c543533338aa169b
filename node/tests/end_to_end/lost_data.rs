//! Nodes whose data directory is not what they left: they do not go on as if nothing had been, say what
//! to do, and the cluster goes on without them.

use crate::ring_changes::{answer, host_id, wait_for_members};
use crate::support::{Node, Raw};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

const ARGUMENTS: &[&str] = &["--memory", "64M"];
const SCHEMA: [&str; 2] = [
    "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}",
    "CREATE TABLE ks.t (k int PRIMARY KEY)",
];
const KEYS: i64 = 40;
const TIME_MAX: Duration = Duration::from_mins(1);

fn data(node: &Node) -> PathBuf {
    node.scratch().join("data")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("its own folder");
    for entry in fs::read_dir(from).expect("its own folder") {
        let entry = entry.expect("its own folder");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).expect("its own file");
        }
    }
}

/// What a node had when that copy was made, and nothing of what it had since.
fn put_back(node: &Node, copied: &Path) {
    fs::remove_dir_all(data(node)).expect("its own folder");
    copy(copied, &data(node));
}

/// Three nodes with rows, and the third one's data as they were before its second start.
fn with_an_older_copy() -> ([Node; 3], PathBuf) {
    let mut nodes = Node::start_together::<3>(ARGUMENTS);
    wait_for_members(&nodes.each_ref());
    for statement in SCHEMA {
        Raw::ready(&nodes[0]).run(statement);
    }
    insert(&nodes[2], 0..KEYS);
    nodes[2].kill();
    let copied = nodes[2].scratch().join("copied");
    copy(&data(&nodes[2]), &copied);
    nodes[2].restart();
    wait_for_members(&nodes.each_ref());
    insert(&nodes[2], KEYS..2 * KEYS);
    (nodes, copied)
}

fn assert_all_rows(node: &Node, keys: std::ops::Range<i64>) {
    let mut rows = answer(&mut Raw::ready(node), "SELECT k FROM ks.t");
    rows.sort_unstable();
    assert_eq!(rows, keys.map(|k| vec![Some(k)]).collect::<Vec<_>>());
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
    let hint = format!("with `--replace {lost_id}`");
    assert!(line.contains("is that of the node") && line.contains(&hint), "{line}");
    nodes[2].restart_until_let_in(&["--replace", &lost_id]);
    wait_for_members(&nodes.each_ref());
    nodes[0].kill();
    assert_all_rows(&nodes[2], 0..3 * KEYS);
}

#[test]
fn a_node_whose_data_were_put_back_from_an_older_copy_is_refused_and_the_others_go_on() {
    let (mut nodes, copied) = with_an_older_copy();
    let copied_id = host_id(&nodes[0], &nodes[2]);
    nodes[2].kill();
    let aside = nodes[2].scratch().join("aside");
    copy(&data(&nodes[2]), &aside);

    put_back(&nodes[2], &copied);
    for _ in 0..2 {
        let said = nodes[2].refuses_to_restart_as_it_is();
        let line = said.lines().last().expect("it says why");
        assert!(line.contains("is an older copy of what this node had"), "{line}");
        assert!(line.contains(&format!("`--replace {copied_id}`")), "{line}");
        assert!(line.contains(&format!("`tethys remove {copied_id}`")), "{line}");
    }
    insert(&nodes[0], 2 * KEYS..3 * KEYS);
    // What it had last is as good as before.
    put_back(&nodes[2], &aside);
    nodes[2].restart();
    insert(&nodes[2], 3 * KEYS..4 * KEYS);

    // The place of one that is refused is free for a new one.
    nodes[2].kill();
    put_back(&nodes[2], &copied);
    nodes[2].refuses_to_restart_as_it_is();
    fs::remove_dir_all(data(&nodes[2])).expect("its own folder");
    nodes[2].restart_until_let_in(&["--replace", &copied_id]);
    wait_for_members(&nodes.each_ref());
    nodes[0].kill();
    assert_all_rows(&nodes[2], 0..4 * KEYS);
}

#[test]
fn a_node_on_an_older_copy_that_meets_nobody_at_its_start_ends_when_it_does() {
    let (mut nodes, copied) = with_an_older_copy();
    for node in &mut nodes {
        node.kill();
    }
    put_back(&nodes[2], &copied);
    // One that was started before, in vain, does not count on until it is believed.
    for _ in 0..2 {
        nodes[2].restart();
        nodes[2].kill();
    }
    nodes[2].restart();
    Node::restart_together(&mut nodes[..2]);
    let deadline = Instant::now() + TIME_MAX;
    while nodes[2].runs() {
        assert!(Instant::now() < deadline, "it goes on:\n{}", nodes[2].log());
        thread::sleep(Duration::from_millis(50));
    }
    nodes[2].kill();
    let log = nodes[2].log();
    assert!(log.contains(" is an older copy of what this node had: "), "{log}");
    insert(&nodes[0], 2 * KEYS..3 * KEYS);
    assert_all_rows(&nodes[1], 0..3 * KEYS);
}

#[test]
fn a_cluster_that_is_put_back_as_a_whole_goes_on_as_of_then() {
    let (mut nodes, older) = with_an_older_copy();
    for node in &mut nodes {
        node.kill();
    }
    let copies = nodes.each_ref().map(|node| node.scratch().join("of-one-moment"));
    for (node, copied) in nodes.iter().zip(&copies) {
        copy(&data(node), copied);
    }
    Node::restart_together(&mut nodes);
    insert(&nodes[0], 2 * KEYS..3 * KEYS);
    for (node, copied) in nodes.iter_mut().zip(&copies) {
        node.kill();
        put_back(node, copied);
    }
    Node::restart_together(&mut nodes);
    assert_all_rows(&nodes[2], 0..2 * KEYS);

    // With a copy of another moment only if the operator insists.
    nodes[2].kill();
    put_back(&nodes[2], &older);
    let said = nodes[2].refuses_to_restart_as_it_is();
    assert!(said.contains("is an older copy of what this node had"), "{said}");
    for node in &mut nodes[..2] {
        node.kill();
    }
    for node in &nodes {
        fs::remove_file(data(node).join("peers.json")).expect("it remembers others");
    }
    Node::restart_together(&mut nodes);
    insert(&nodes[2], 2 * KEYS..3 * KEYS);
    assert_all_rows(&nodes[2], 0..3 * KEYS);
}
