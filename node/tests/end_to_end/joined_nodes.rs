//! Three nodes that are started at once from empty folders: they find each other, agree on the
//! schema whoever changes it, and go on when one of them is away.

use crate::support::{Finished, Node, Raw, Reply, Row, frame, get, run};
use std::net::Ipv4Addr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// How long nodes may take to get anywhere on a busy machine.
const TIME_MAX: Duration = Duration::from_mins(1);
const ARGUMENTS: &[&str] = &["--memory", "64M"];

const UNAVAILABLE: u32 = 0x1000;
const ALREADY_EXISTS: u32 = 0x2400;

const KEYSPACE: &str = "CREATE KEYSPACE IF NOT EXISTS ks WITH replication = \
                        {'class': 'SimpleStrategy', 'replication_factor': 1}";

/// Waits until something holds.
fn wait_for(what: &str, nodes: &[Node], mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIME_MAX;
    while !holds() {
        if Instant::now() > deadline {
            let logs: Vec<String> = nodes.iter().map(Node::log).collect();
            panic!("not within {TIME_MAX:?}: {what}\n{}", logs.join("\n----\n"));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// What `tethys status` says of the nodes: their states, by their addresses.
fn states(node: &Node) -> Vec<(String, String)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tethys"));
    let (ip, port) = (node.ip().to_string(), node.http_port().to_string());
    command.args(["status", "--host", &ip, "--http-port", &port]);
    let Finished { status, stdout, .. } = run(&mut command, "").expect("the built program runs");
    if !status.success() {
        return Vec::new();
    }
    let lines = stdout.lines().skip_while(|line| !line.starts_with("--"));
    let words = lines.skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut states: Vec<(String, String)> = words
        .filter(|words| words.len() > 1)
        .map(|words| (words[1].to_owned(), words[0].to_owned()))
        .collect();
    states.sort();
    states
}

/// Every node sees all of them in these states.
fn wait_for_states(nodes: &[Node], expected: &[&str], asked: &[usize]) {
    let addresses = nodes.iter().map(|node| node.ip().to_string());
    let mut expected: Vec<(String, String)> =
        addresses.zip(expected.iter().map(|state| (*state).to_owned())).collect();
    expected.sort();
    for &at in asked {
        wait_for(&format!("{expected:?}"), nodes, || states(&nodes[at]) == expected);
    }
}

/// Every node knows that so many decide on the metadata.
pub(crate) fn wait_for_voters(nodes: &[Node], count: usize) {
    let line = format!("tethys_metadata_voters{{shard=\"0\"}} {count}\n");
    for node in nodes {
        wait_for(&line, nodes, || get(node, "/metrics").1.contains(&line));
    }
}

/// Runs a statement, which is no error.
fn rows(raw: &mut Raw, text: &str) -> Vec<Row> {
    raw.rows(text).unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

/// All versions of the schema that a node knows of: its own, and those of the others.
fn schema_versions(node: &Node) -> Vec<Row> {
    let mut raw = Raw::ready(node);
    let mut versions = rows(&mut raw, "SELECT schema_version FROM system.local");
    versions.extend(rows(&mut raw, "SELECT schema_version FROM system.peers_v2"));
    versions.extend(rows(&mut raw, "SELECT schema_version FROM system.peers"));
    versions
}

/// All nodes know as many, at one version of the schema.
fn assert_agreed(nodes: &[&Node], count: usize) {
    let versions: Vec<Vec<Row>> = nodes.iter().map(|node| schema_versions(node)).collect();
    for of_node in &versions {
        assert_eq!(of_node.len(), 2 * count - 1, "{versions:?}");
        assert!(of_node.iter().all(|version| *version == versions[0][0]), "{versions:?}");
    }
}

/// Inserts from every node in turn, and reads from every node.
fn assert_holds_data(nodes: &[&Node], table: &str, first: i32) {
    let mut raws: Vec<Raw> = nodes.iter().map(|node| Raw::ready(node)).collect();
    let count = raws.len();
    for k in first..first + 60 {
        let insert = format!("INSERT INTO {table} (k, v) VALUES ({k}, {k})");
        rows(&mut raws[k as usize % count], &insert);
    }
    for raw in &mut raws {
        for k in first..first + 60 {
            let found = rows(raw, &format!("SELECT v FROM {table} WHERE k = {k}"));
            assert_eq!(found, [[Some(k.to_be_bytes().to_vec())]]);
        }
    }
}

#[test]
fn nodes_started_at_once_are_a_cluster_that_agrees() {
    let mut nodes = Node::start_together::<3>(ARGUMENTS);
    wait_for_states(&nodes, &["UN", "UN", "UN"], &[0, 1, 2]);
    assert_agreed(&nodes.each_ref(), 3);
    wait_for_voters(&nodes, 3);

    // Whoever asks, and however many at once: one keyspace, and one table with one id.
    thread::scope(|scope| {
        for node in &nodes {
            scope.spawn(|| {
                let mut raw = Raw::ready(node);
                rows(&mut raw, KEYSPACE);
                let create = "CREATE TABLE IF NOT EXISTS ks.t (k int PRIMARY KEY, v int)";
                rows(&mut raw, create);
                // Whoever was answered has it.
                rows(&mut raw, "SELECT v FROM ks.t WHERE k = 1");
            });
        }
    });
    assert_agreed(&nodes.each_ref(), 3);
    let id = "SELECT id FROM system_schema.tables WHERE keyspace_name = 'ks'";
    let ids: Vec<Vec<Row>> = nodes.iter().map(|node| rows(&mut Raw::ready(node), id)).collect();
    assert!(ids.iter().all(|found| found.len() == 1 && *found == ids[0]), "{ids:?}");

    // Errors come back as they are from wherever they were decided.
    for (at, node) in nodes.iter().enumerate() {
        let mut raw = Raw::ready(node);
        let twice = raw.rows("CREATE TABLE ks.t (k int PRIMARY KEY)");
        assert_eq!(twice.map_err(|(code, _)| code), Err(ALREADY_EXISTS), "from node {at}");
        rows(&mut raw, &format!("CREATE TABLE ks.t{at} (k int PRIMARY KEY, v int)"));
        assert_agreed(&nodes.each_ref(), 3);
        rows(&mut raw, &format!("ALTER TABLE ks.t{at} ADD w int"));
        assert_agreed(&nodes.each_ref(), 3);
        assert_holds_data(&nodes.each_ref(), &format!("ks.t{at}"), 0);
    }

    // One that is started again goes on, with what was decided while it was away.
    nodes[1].kill();
    wait_for_states(&nodes, &["UN", "DN", "UN"], &[0, 2]);
    rows(&mut Raw::ready(&nodes[2]), "CREATE TABLE ks.away (k int PRIMARY KEY, v int)");
    nodes[1].restart();
    wait_for_states(&nodes, &["UN", "UN", "UN"], &[0, 1, 2]);
    let select = "SELECT v FROM ks.away WHERE k = 1";
    wait_for("the restarted node has it", &nodes, || Raw::ready(&nodes[1]).rows(select).is_ok());
    rows(&mut Raw::ready(&nodes[1]), "CREATE TABLE ks.back (k int PRIMARY KEY, v int)");
    assert_agreed(&nodes.each_ref(), 3);
    wait_for("the whole ring answers", &nodes, || {
        nodes.iter().all(|node| Raw::ready(node).rows("SELECT k FROM ks.back").is_ok())
    });
    assert_holds_data(&nodes.each_ref(), "ks.back", 0);
}

#[test]
fn the_schema_is_changed_by_a_majority_and_not_by_less() {
    let mut nodes = Node::start_together::<3>(ARGUMENTS);
    wait_for_states(&nodes, &["UN", "UN", "UN"], &[0, 1, 2]);
    wait_for_voters(&nodes, 3);
    rows(&mut Raw::ready(&nodes[2]), KEYSPACE);

    // The first seed has founded the cluster, and decides until now.
    nodes[0].kill();
    rows(&mut Raw::ready(&nodes[1]), "CREATE TABLE IF NOT EXISTS ks.a (k int PRIMARY KEY, v int)");
    rows(&mut Raw::ready(&nodes[2]), "CREATE TABLE IF NOT EXISTS ks.b (k int PRIMARY KEY, v int)");
    assert_agreed(&[&nodes[1], &nodes[2]], 3);

    // Alone, a node says so, and goes on with what it has.
    nodes[1].kill();
    let mut raw = Raw::ready(&nodes[2]);
    let mut refusal = None;
    // What is asked before that is known may still be made when the others are back.
    wait_for("alone, it refuses", &nodes, || {
        let refused = raw.rows("CREATE TABLE IF NOT EXISTS ks.c (k int PRIMARY KEY)");
        let (code, message) = refused.expect_err("no majority is there");
        refusal = Some(message);
        code == UNAVAILABLE
    });
    let message = refusal.expect("it was refused");
    assert!(message.contains("1 live, and 2 are needed"), "{message}");
    let tables = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'ks'";
    let local = rows(&mut raw, tables);
    assert_eq!(local.len(), 2, "{local:?}");

    // With the others it goes on, and what was not acknowledged may be there or not.
    nodes[0].restart();
    let create = "CREATE TABLE IF NOT EXISTS ks.c (k int PRIMARY KEY)";
    wait_for("two decide again", &nodes, || raw.rows(create).is_ok());
    assert_agreed(&[&nodes[0], &nodes[2]], 3);
}

#[test]
fn a_node_that_is_ended_while_it_joins_joins_once() {
    let mut nodes = Node::unstarted_together::<2>(ARGUMENTS);
    nodes[0].restart();
    for millis in (1..=14).map(|step| step * 40) {
        nodes[1].run_for(Duration::from_millis(millis));
    }
    nodes[1].restart();
    wait_for_states(&nodes, &["UN", "UN"], &[0, 1]);
    wait_for_voters(&nodes, 2);
    rows(&mut Raw::ready(&nodes[1]), KEYSPACE);
    assert_agreed(&nodes.each_ref(), 2);
}

/// The next event, as words.
fn event(raw: &mut Raw) -> String {
    const EVENT: u8 = 12;
    let Reply::Frame(EVENT, body) = raw.reply() else { panic!("no event") };
    let mut rest = &body[..];
    let mut text = || {
        let (length, tail) = rest.split_first_chunk::<2>().expect("a length");
        let (text, tail) = tail.split_at(usize::from(u16::from_be_bytes(*length)));
        rest = tail;
        String::from_utf8(text.to_vec()).expect("UTF-8")
    };
    let (kind, change) = (text(), text());
    if kind == "SCHEMA_CHANGE" {
        let (target, keyspace) = (text(), text());
        return format!("{change} {target} {keyspace}");
    }
    let address: [u8; 4] = rest[1..5].try_into().expect("an IPv4 address");
    format!("{change} {}", Ipv4Addr::from(address))
}

#[test]
fn clients_of_every_node_are_told_of_the_others() {
    let mut nodes = Node::unstarted_together::<2>(ARGUMENTS);
    nodes[0].restart();
    let mut raw = Raw::ready(&nodes[0]);
    let mut kinds = vec![0, 3];
    for kind in ["TOPOLOGY_CHANGE", "STATUS_CHANGE", "SCHEMA_CHANGE"] {
        kinds.extend(u16::try_from(kind.len()).expect("short").to_be_bytes());
        kinds.extend(kind.as_bytes());
    }
    raw.send(&frame(4, 11, &kinds));
    assert_eq!(raw.reply(), Reply::Frame(2, Vec::new()), "READY");

    nodes[1].restart();
    let ip = nodes[1].ip();
    assert_eq!(event(&mut raw), format!("NEW_NODE {ip}"));
    assert_eq!(event(&mut raw), format!("UP {ip}"));
    rows(&mut Raw::ready(&nodes[1]), KEYSPACE);
    assert_eq!(event(&mut raw), "CREATED KEYSPACE ks");
    nodes[1].kill();
    assert_eq!(event(&mut raw), format!("DOWN {ip}"));

    // It comes back, and is reached elsewhere by its clients.
    let [a, b, c, d] = ip.octets();
    let elsewhere = Ipv4Addr::new(a, b, c, d + 100);
    nodes[1].restart_with(&["--broadcast-rpc-address", &elsewhere.to_string()]);
    let back = format!("UP {elsewhere}");
    let mut told = vec![event(&mut raw)];
    while told.last() != Some(&back) {
        told.push(event(&mut raw));
    }
    // It may have been seen at its old address before it told of the new one.
    told.retain(|text| *text != format!("UP {ip}"));
    assert_eq!(told, [format!("REMOVED_NODE {ip}"), format!("NEW_NODE {elsewhere}"), back]);
    let native = rows(&mut Raw::ready(&nodes[0]), "SELECT native_address FROM system.peers_v2");
    assert_eq!(native, [[Some(elsewhere.octets().to_vec())]]);
}

#[test]
fn a_node_that_lacks_what_the_logs_gave_up_is_given_the_schema_as_a_whole() {
    let mut nodes = Node::start_together::<3>(ARGUMENTS);
    wait_for_voters(&nodes, 3);
    rows(&mut Raw::ready(&nodes[0]), KEYSPACE);
    nodes[2].kill();
    wait_for_states(&nodes, &["UN", "UN", "DN"], &[0, 1]);
    let create = "CREATE TABLE IF NOT EXISTS ks.away (k int PRIMARY KEY, v int)";
    rows(&mut Raw::ready(&nodes[0]), create);
    // Who starts goes on behind its snapshot, and has nothing from before it to send.
    for at in [0, 1] {
        assert!(nodes[at].stop().success());
        nodes[at].restart();
        wait_for_states(&nodes, &["UN", "UN", "DN"], &[0, 1]);
    }
    wait_for("two decide again", &nodes, || {
        let create = "CREATE TABLE IF NOT EXISTS ks.late (k int PRIMARY KEY, v int)";
        Raw::ready(&nodes[1]).rows(create).is_ok()
    });
    nodes[2].restart();
    wait_for("a snapshot was sent", &nodes, || {
        let sent = "has a snapshot of the metadata";
        nodes[..2].iter().any(|node| node.log().contains(sent))
    });
    let select = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'ks'";
    wait_for("it has the schema", &nodes, || rows(&mut Raw::ready(&nodes[2]), select).len() == 2);
    assert_agreed(&nodes.each_ref(), 3);
    rows(&mut Raw::ready(&nodes[2]), "CREATE TABLE ks.more (k int PRIMARY KEY, v int)");

    // It goes on from what it was sent.
    nodes[2].kill();
    nodes[2].restart();
    wait_for_states(&nodes, &["UN", "UN", "UN"], &[0, 1, 2]);
    rows(&mut Raw::ready(&nodes[2]), "CREATE TABLE ks.yet_more (k int PRIMARY KEY, v int)");
    assert_agreed(&nodes.each_ref(), 3);
}

#[test]
fn five_nodes_decide_and_the_sixth_follows() {
    let nodes = Node::start_together::<6>(ARGUMENTS);
    wait_for_voters(&nodes, 5);
    wait_for_states(&nodes, &["UN"; 6], &[0, 5]);
    for node in &nodes {
        let name = node.ip().octets()[3];
        rows(&mut Raw::ready(node), KEYSPACE);
        let create = format!("CREATE TABLE ks.t{name} (k int PRIMARY KEY, v int)");
        rows(&mut Raw::ready(node), &create);
        assert_agreed(&nodes.each_ref(), 6);
    }
}
