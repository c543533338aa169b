//! `tethys health`, and the variables by which containers of Cassandra are told what to do.

use crate::support::{Finished, Node, run};
use std::process::Command;

fn tethys() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tethys"))
}

/// Health by the flags that the node was started with.
fn health(node: &Node, address: &str) -> Finished {
    let mut command = tethys();
    command
        .args(["--port", &node.cql_port().to_string()])
        .args(["--http-port", &node.http_port().to_string()])
        .args(["--address", address, "health"]);
    run(&mut command, "").expect("the built program runs")
}

#[test]
fn a_node_is_healthy_while_it_serves() {
    let mut node = Node::start_with(&["--memory", "64M", "--address", "0.0.0.0"]);
    assert_eq!(health(&node, "0.0.0.0").success(), "", "who listens everywhere is here, too");
    assert_eq!(health(&node, "localhost").success(), "");
    assert!(node.stop().success());
    let ended = health(&node, "127.0.0.1");
    assert_eq!(ended.status.code(), Some(1));
    let expected = format!("tethys: 127.0.0.1:{}: ", node.cql_port());
    assert!(ended.stderr.starts_with(&expected), "{}", ended.stderr);
}

#[test]
fn a_node_that_waits_for_its_cluster_is_not_healthy() {
    let arguments = ["--memory", "64M", "--seeds", "127.0.0.1:9"];
    let node = Node::start_until(&arguments, "waiting for the cluster");
    let waiting = health(&node, "127.0.0.1");
    assert_eq!(waiting.status.code(), Some(1), "{}", waiting.stderr);
}

#[test]
fn variables_of_cassandras_image_are_read() {
    let mut command = tethys();
    command.env("CASSANDRA_NUM_TOKENS", "many").arg("health");
    let refused = run(&mut command, "").expect("the built program runs");
    assert_eq!(refused.status.code(), Some(1));
    let expected = "tethys: CASSANDRA_NUM_TOKENS: `many` is not a number of tokens";
    assert!(refused.stderr.contains(expected), "{}", refused.stderr);
}
