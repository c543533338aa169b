//! Scripts that a cluster's first start runs, once.

use crate::support::{Node, Raw, Reply};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long scripts may take; they take a moment.
const TIME_MAX: Duration = Duration::from_mins(1);

const SCHEMA: &str = "-- the shop
CREATE KEYSPACE shop WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1};
USE shop;
CREATE TABLE runs (k int PRIMARY KEY, n counter);
CREATE TABLE items (k int PRIMARY KEY, v text);
BEGIN BATCH
  INSERT INTO items (k, v) VALUES (1, ';');
  INSERT INTO items (k, v) VALUES (2, 'b');
APPLY BATCH;
";
const COUNT: &str = "UPDATE shop.runs SET n = n + 1 WHERE k = ";

fn arguments(folder: &Path) -> [String; 4] {
    let folder = folder.to_str().expect("a plain path").to_owned();
    ["--memory".to_owned(), "64M".to_owned(), "--init-scripts".to_owned(), folder]
}

fn start(folder: &Path, further: &[&str]) -> Node {
    let arguments = arguments(folder);
    let all: Vec<&str> =
        arguments.iter().map(String::as_str).chain(further.iter().copied()).collect();
    Node::start_with(&all)
}

/// Waits until the node's log says it so often.
fn wait_for(node: &Node, text: &str, count: usize) {
    let deadline = Instant::now() + TIME_MAX;
    while node.log().matches(text).count() < count {
        assert!(Instant::now() < deadline, "nothing of {text}:\n{}", node.log());
        thread::sleep(Duration::from_millis(20));
    }
}

/// The one number of the one row.
fn number(node: &Node, text: &str) -> i64 {
    let body = Raw::ready(node).run(text);
    i64::from_be_bytes(*body.last_chunk::<8>().expect("a bigint"))
}

#[test]
fn scripts_run_once_in_their_order_and_go_on_behind_one_that_failed() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("saved");
    write("1-schema.cql", &format!("{SCHEMA}{COUNT}1;"));
    write("2-data.cql", &format!("{COUNT}2;\n\nINSERT INTO shop.nothing (k) VALUES (1);"));
    write("notes.txt", "no script");
    let mut node = start(folder.path(), &[]);
    wait_for(&node, "2-data.cql: the statement at line 3: ", 1);
    assert!(node.log().contains("init script 1-schema.cql: 6 statements done"), "{}", node.log());
    assert_eq!(number(&node, "SELECT count(*) FROM shop.items"), 2);

    write("2-data.cql", &format!("{COUNT}2;"));
    assert!(node.stop().success());
    node.restart();
    wait_for(&node, "init script 2-data.cql: 1 statement done", 1);
    assert!(node.stop().success());
    write("3-late.cql", &format!("{COUNT}3;"));
    node.restart();
    // The first once, the second by both tries, the third came too late.
    for (k, n) in [(1, 1), (2, 2)] {
        assert_eq!(number(&node, &format!("SELECT n FROM shop.runs WHERE k = {k}")), n, "{k}");
    }
    assert_eq!(number(&node, "SELECT count(*) FROM shop.runs"), 2);
}

#[test]
fn scripts_wait_for_the_nodes_that_were_told_of_and_spare_a_cluster_in_use() {
    let folder = tempfile::TempDir::new().expect("a folder");
    fs::write(folder.path().join("a.cql"), SCHEMA).expect("saved");
    let mut node = start(folder.path(), &["--init-scripts-nodes", "2"]);
    wait_for(&node, "init scripts wait for nodes: 1 of 2 are up", 1);
    Raw::ready(&node).run(
        "CREATE KEYSPACE mine WITH replication = {'class': 'SimpleStrategy', \
         'replication_factor': 1}",
    );
    assert!(node.stop().success());
    node.restart();
    Raw::ready(&node).run("USE mine");
    let reply = Raw::ready(&node).query("USE shop");
    assert!(matches!(reply, Reply::Error(0x2200, _)), "{reply:?}");
    assert_eq!(node.log().matches("init scripts wait").count(), 1, "{}", node.log());
}
