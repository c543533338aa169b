//! A node's first start with seeds: it founds a cluster, waits, or says why it cannot go on.

use crate::support::{Node, Raw, Reply, get};

/// An address on which nobody listens: the discard port.
const NOBODY: &str = "127.0.0.1:9";

fn seed(node: &Node) -> String {
    format!("127.0.0.1:{}", node.storage_port())
}

const KEYSPACE: &str = "CREATE KEYSPACE shop WITH replication = {'class': 'SimpleStrategy', \
                        'replication_factor': 1}";
const TABLE: &str = "CREATE TABLE shop.carts (id int PRIMARY KEY, what text)";

#[test]
fn the_first_seed_founds_and_others_join_whether_there_are_data_or_not() {
    // A seed without a port has the node's own, so this is the node itself by its name.
    let founder = Node::start_with(&["--memory", "64M", "--seeds", &format!("localhost,{NOBODY}")]);
    let second = Node::start_with(&["--memory", "64M", "--seeds", &seed(&founder)]);
    for node in [&founder, &second] {
        let nodes = Raw::ready(node).rows("SELECT tokens FROM system.peers_v2").expect("rows");
        assert_eq!(nodes.len(), 1);
    }
    let mut raw = Raw::ready(&second);
    raw.run(KEYSPACE);
    raw.run(TABLE);
    raw.run("INSERT INTO shop.carts (id, what) VALUES (1, 'left behind')");
    // Whoever is asked, the node that decides answers.
    let third = Node::start_with(&["--memory", "64M", "--seeds", &seed(&second)]);
    let rows = |raw: &mut Raw| raw.rows("SELECT id FROM shop.carts").map(|rows| rows.len());
    assert_eq!(rows(&mut Raw::ready(&third)), Ok(1));
    raw.run("DROP KEYSPACE shop");
    // The same setting again, now on three nodes: nothing of the old logs comes back.
    raw.run(KEYSPACE);
    raw.run(TABLE);
    let mut raw = Raw::ready(&third);
    assert_eq!(rows(&mut raw), Ok(0));
    for id in 0..20 {
        raw.run(&format!("INSERT INTO shop.carts (id, what) VALUES ({id}, 'new')"));
    }
    assert_eq!(rows(&mut raw), Ok(20));
}

#[test]
fn a_seed_of_another_cluster_is_an_error_of_who_named_it() {
    let other = Node::start_with(&["--memory", "64M", "--cluster-name", "north"]);
    let log = Node::refused(&["--seeds", &seed(&other), "--cluster-name", "south"]);
    let expected = format!("tethys: seed {}: ", seed(&other));
    let line = log.lines().find(|line| line.contains(&expected)).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("north") && line.contains("south"), "{line}");
    Raw::ready(&other).run("SELECT key FROM system.local");
}

#[test]
fn a_node_with_the_address_of_another_is_told_whose_it_is() {
    let other = Node::start_with(&["--memory", "64M"]);
    let port = other.storage_port().to_string();
    // It listens elsewhere and says that it is where the other one is: that seed is not itself.
    let given_out = ["--listen-address", "127.0.0.3", "--broadcast-address", "127.0.0.1"];
    let arguments = ["--seeds", &seed(&other), "--storage-port", &port];
    let log = Node::refused(&[&given_out[..], &arguments[..]].concat());
    let expected = format!("tethys: seed {}: ", seed(&other));
    let line = log.lines().find(|line| line.contains(&expected)).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains(&format!("127.0.0.1:{port}")), "{line}");
    Raw::ready(&other).run("SELECT key FROM system.local");
}

#[test]
fn a_node_whose_first_seed_is_silent_waits_and_can_be_told_to_end() {
    let arguments = ["--memory", "64M", "--seeds", NOBODY];
    let mut node = Node::start_until(&arguments, "waiting for the cluster: 127.0.0.1:9: ");
    // Clients go elsewhere, and operators see that it lives.
    assert_eq!(Raw::connect(&node).reply(), Reply::Closed);
    assert_eq!(get(&node, "/healthz"), (200, "ok\n".to_owned()));
    for path in ["/readyz", "/metrics", "/status"] {
        assert_eq!(get(&node, path), (503, "the node is starting\n".to_owned()), "{path}");
    }
    let status = node.stop();
    assert!(status.success(), "{status}\n{}", node.log());
}

#[test]
fn a_node_that_founded_starts_without_its_seeds_and_under_its_name_alone() {
    let mut node = Node::start_with(&["--memory", "64M", "--cluster-name", "north"]);
    node.kill();
    let log = node.refuses_to_restart(&["--cluster-name", "south"]);
    assert!(log.contains("belongs to cluster `north`, and cluster_name says `south`"), "{log}");
    // It belongs to a cluster: it asks nobody, and keeps the name it was given.
    let log = node.refuses_to_restart(&["--memory", "1M"]);
    assert!(log.contains("memory"), "{log}");
    node.restart();
    let mut raw = Raw::ready(&node);
    let body = raw.run("SELECT cluster_name FROM system.local");
    assert!(body.windows(5).any(|word| word == b"north"), "{body:?}");
}
