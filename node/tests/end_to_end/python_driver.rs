//! The Apache driver for Python: each script in `python/` against a node of its own.

use crate::support::{Node, python, run};
use std::path::Path;

/// Runs a script with further arguments against the node; its failed asserts are the test's.
fn script(node: &Node, name: &str, arguments: &[&str]) {
    let Some(python) = python() else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/end_to_end/python");
    let mut command = python.interpreter();
    command.arg(folder.join(name)).arg(node.cql_port().to_string()).args(arguments);
    let printed = run(&mut command, "").expect("Python runs").success();
    assert!(printed.contains("ok test_"), "the script runs tests: {printed}");
}

#[test]
fn every_type_makes_the_round_trip() {
    script(&Node::start(), "round_trip.py", &[]);
}

#[test]
fn all_protocol_versions_and_compressions_work() {
    script(&Node::start(), "protocol.py", &[]);
}

#[test]
fn statements_are_prepared_bound_and_batched() {
    script(&Node::start(), "prepared.py", &[]);
}

#[test]
fn the_driver_sees_the_cluster_and_every_schema_change() {
    script(&Node::start(), "metadata.py", &[]);
}

#[test]
fn the_driver_finds_and_uses_every_node_of_a_cluster() {
    let nodes = Node::start_together::<3>(&["--memory", "64M"]);
    let addresses = nodes.each_ref().map(|node| node.ip().to_string());
    script(&nodes[0], "cluster.py", &addresses.each_ref().map(|address| &**address));
}

#[test]
fn errors_say_what_is_wrong() {
    script(&Node::start(), "errors.py", &[]);
}

#[test]
fn queries_return_what_cassandra_returns() {
    script(&Node::start(), "queries.py", &[]);
}

#[test]
fn changes_are_in_the_log() {
    script(&Node::start(), "cdc.py", &[]);
}

/// What a real Cassandra said to the same statements.
#[test]
fn conditional_writes_and_counters_answer_as_cassandra_does() {
    let node = Node::start();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/end_to_end/transcripts");
    for name in ["conditional_existence", "conditional_columns", "conditional_batches", "counters"]
    {
        let transcript = folder.join(name).with_extension("txt");
        script(&node, "transcript.py", &[transcript.to_str().expect("a path of ours")]);
    }
}

#[test]
fn pages_go_on_after_a_restart() {
    let mut node = Node::start();
    let states = node.scratch().join("paging-states.json");
    let states = states.to_str().expect("a path of ours").to_owned();
    script(&node, "paging.py", &["write", &states]);
    if python().is_some() {
        let status = node.stop();
        assert!(status.success(), "a node that is told to end ends well: {status}");
        node.restart();
        script(&node, "paging.py", &["resume", &states]);
        node.kill();
        node.restart();
        script(&node, "paging.py", &["resume", &states]);
    }
}
