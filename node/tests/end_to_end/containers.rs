//! `tethys health`, and the variables by which containers of Cassandra are told what to do.

use crate::support::{Finished, Node, get, run};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// How long a node may take to hear that the others are there again.
const PATIENCE: Duration = Duration::from_mins(1);

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
fn a_node_that_was_started_and_finds_no_majority_serves_and_is_not_ready() {
    let mut nodes: [Node; 3] = Node::start_together(&["--memory", "64M", "--shards", "1"]);
    // Until then one or two nodes are the majority.
    let deadline = Instant::now() + PATIENCE;
    let promotion_count = |node: &Node| node.log().matches("becomes a voter").count();
    while nodes.iter().map(promotion_count).sum::<usize>() < 2 {
        assert!(Instant::now() < deadline, "{}", nodes[0].log());
        thread::sleep(Duration::from_millis(20));
    }
    nodes.iter_mut().for_each(Node::kill);
    let [one, others @ ..] = &mut nodes;
    one.restart();
    let (status, text) = get(one, "/readyz");
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("1 live, and 2 are needed"), "{text}");
    let address = one.ip().to_string();
    let unhealthy = health(one, &address);
    assert!(unhealthy.stderr.contains("1 live, and 2 are needed"), "{}", unhealthy.stderr);
    Node::restart_together(others);
    let deadline = Instant::now() + PATIENCE;
    while get(one, "/readyz") != (200, "ready\n".to_owned()) {
        assert!(Instant::now() < deadline, "{}", one.log());
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(health(one, &address).success(), "");
}

/// A service of that name in Kubernetes kept nodes from starting: `invalid value 'tcp://…'`.
#[test]
fn what_kubernetes_says_of_a_service_is_no_port() {
    let mut command = tethys();
    command
        .env("TETHYS_PORT", "tcp://10.0.0.1:9042")
        .env("TETHYS_HTTP_PORT", "tcp://10.0.0.1:9180")
        .args(["--port", "0", "health"]);
    let asked = run(&mut command, "").expect("the built program runs");
    assert_eq!(asked.stderr.split(": ").nth(1), Some("127.0.0.1:0"), "{}", asked.stderr);
    let mut command = tethys();
    command.env("TETHYS_HTTP_PORT", "tcp://10.0.0.1:9180");
    let asked = run(command.args(["status", "--host", "nowhere.invalid"]), "");
    let asked = asked.expect("the built program runs");
    assert!(asked.stderr.contains("nowhere.invalid:9180"), "{}", asked.stderr);
}

/// It started a node, or said that one had the data directory.
#[test]
fn nodetool_without_a_verb_says_which_there_are() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let nodetool = folder.path().join("nodetool");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tethys"), &nodetool).expect("it is new");
    let asked = run(&mut Command::new(nodetool), "").expect("the built program runs");
    assert_eq!(asked.status.code(), Some(2));
    assert!(asked.stderr.contains("decommission"), "{}", asked.stderr);
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
