//! `tethys status`: what operators and their scripts read.

use crate::support::{Finished, Node, Raw, run};
use std::process::Command;

pub(crate) fn status(node: &Node, arguments: &[&str]) -> Finished {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tethys"));
    command.args(["status", "--http-port", &node.http_port().to_string()]).args(arguments);
    run(&mut command, "").expect("the built program runs")
}

#[test]
fn a_node_alone_is_up_and_owns_all() {
    let node = Node::start_with(&["--memory", "64M", "--rack", "r7"]);
    let shown = status(&node, &[]).success();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], "Datacenter: datacenter1");
    assert!(lines[4].starts_with("--  Address    Load"), "{shown}");
    let words: Vec<&str> = lines[5].split_whitespace().collect();
    assert_eq!(words[..2], ["UN", "127.0.0.1"], "{shown}");
    assert_eq!(words[words.len() - 4..words.len() - 2], ["16", "100.0%"], "{shown}");
    assert_eq!(words[words.len() - 1], "r7", "{shown}");

    let json = status(&node, &["--format", "json"]).success();
    let id = words[words.len() - 2];
    assert!(json.contains(&format!("\"host_id\": \"{id}\"")), "{json}");
}

#[test]
fn ownership_is_that_of_a_keyspace() {
    let node = Node::start_with(&["--memory", "64M"]);
    let mut raw = Raw::ready(&node);
    for (name, centre) in [("here", "datacenter1"), ("\"else Where\"", "mars")] {
        let replication = format!("{{'class': 'NetworkTopologyStrategy', '{centre}': 1}}");
        drop(raw.query(&format!("CREATE KEYSPACE {name} WITH replication = {replication}")));
    }
    let of_keyspace = status(&node, &["here"]).success();
    assert!(of_keyspace.contains("100.0%"), "{of_keyspace}");
    let missing = status(&node, &["nowhere & co"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(missing.stderr.contains("keyspace nowhere & co does not exist"), "{}", missing.stderr);
}

#[test]
fn a_node_that_does_not_answer_is_a_clear_error() {
    let mut node = Node::start_with(&["--memory", "64M"]);
    node.kill();
    let Finished { status, stdout, stderr } = status(&node, &[]);
    assert_eq!((status.code(), &*stdout), (Some(1), ""));
    let expected = format!("tethys: no node answers on 127.0.0.1:{}: ", node.http_port());
    assert!(stderr.starts_with(&expected), "{stderr}");
}
