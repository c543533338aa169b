//! A node is away for longer than the others keep their logs: it gets a copy of its ranges, whole and
//! exact, whoever is killed meanwhile.

use crate::several_nodes::{ALL, ONE, QUORUM, Row, rows, run};
use crate::support::{Node, Raw, get};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a test waits for what has to come.
const TIME_MAX: Duration = Duration::from_mins(2);

const SCHEMA: [&str; 4] = [
    "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}",
    "CREATE TABLE ks.t (k int PRIMARY KEY, v int, s set<int>) WITH cdc = {'enabled': true}",
    "CREATE TABLE ks.wide (k int, c int, fixed int static, pad text, PRIMARY KEY (k, c))",
    "CREATE TABLE ks.none (k int PRIMARY KEY, v int)",
];
const KEYS: i32 = 60;
/// Enough that every shard's log has more than it may keep.
const WIDE_ROWS: i32 = 1_500;
const WIDE_PARTITIONS: i32 = 50;

/// Whatever a client can see of the tables and of the log.
const QUERIES: [&str; 5] = [
    "SELECT k, v, s, writetime(v) FROM ks.t",
    "SELECT k, c, fixed, writetime(fixed) FROM ks.wide",
    "SELECT k, c, pad, writetime(pad) FROM ks.wide",
    "SELECT k, v FROM ks.none",
    "SELECT * FROM ks.t_scylla_cdc_log",
];

/// Three nodes that keep little log, and send so much a second.
fn cluster(folder: &TempDir, rate: &str) -> [Node; 3] {
    let path = folder.path().join("tethys.yaml");
    let text = format!(
        "commitlog_segment_size: 256KiB\ncommitlog_total_space: 2MiB\nstream_throughput_outbound: \
         {rate}\n"
    );
    fs::write(&path, text).expect("written");
    let path = path.to_str().expect("a temporary folder");
    let nodes = Node::start_together::<3>(&["--memory", "256M", "--config", path]);
    for statement in SCHEMA {
        Raw::ready(&nodes[0]).run(statement);
    }
    nodes
}

/// Runs a statement that may be repeated until it is acknowledged.
fn acknowledged(raw: &mut Raw, text: &str) -> Vec<i32> {
    let deadline = Instant::now() + TIME_MAX;
    loop {
        match run(raw, text, QUORUM) {
            Ok(rows) => return rows,
            Err(code) => assert!(Instant::now() < deadline, "{code:#x}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// What was written while all were there.
fn write_before(raw: &mut Raw) {
    for k in 0..KEYS {
        let text = format!("INSERT INTO ks.t (k, v, s) VALUES ({k}, {k}, {{1, 2}})");
        acknowledged(raw, &text);
        acknowledged(raw, &format!("INSERT INTO ks.wide (k, c, fixed) VALUES ({k}, 100000, {k})"));
    }
}

/// What was written while one was away: changes and deletions of all kinds, and much of it.
fn write_meanwhile(raw: &mut Raw) {
    for k in 0..KEYS {
        let text = match k % 4 {
            0 => format!("DELETE FROM ks.t WHERE k = {k}"),
            1 => format!("UPDATE ks.t SET v = {}, s = s - {{1}} WHERE k = {k}", k + 1_000),
            2 => format!("UPDATE ks.t USING TTL 86400 SET v = {} WHERE k = {k}", k + 2_000),
            _ => format!("DELETE v FROM ks.t WHERE k = {k}"),
        };
        acknowledged(raw, &text);
        acknowledged(raw, &format!("DELETE FROM ks.wide WHERE k = {k} AND c >= 100000"));
    }
    let mut state = 1_u64;
    for row in 0..WIDE_ROWS {
        // Digits that do not compress to nothing.
        let words = (0..250).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            format!("{state:016x}")
        });
        let (k, pad) = (row % WIDE_PARTITIONS, words.collect::<String>());
        let text = format!("INSERT INTO ks.wide (k, c, pad) VALUES ({k}, {row}, '{pad}')");
        acknowledged(raw, &text);
    }
}

/// What a node shows by what it holds itself.
fn shown(node: &Node) -> Option<Vec<Vec<Row>>> {
    let mut raw = Raw::ready(node);
    let rows = |query: &&str| {
        let mut rows = rows(&mut raw, query, ONE).ok()?;
        rows.sort_unstable();
        Some(rows)
    };
    QUERIES.iter().map(rows).collect()
}

/// Waits until a node shows what another does.
fn wait_until_equal(node: &Node, other: &Node) {
    let deadline = Instant::now() + TIME_MAX;
    loop {
        let (found, expected) = (shown(node), shown(other));
        if found.is_some() && found == expected {
            return;
        }
        let counts = |shown: &Option<Vec<Vec<Row>>>| -> Vec<usize> {
            shown.iter().flatten().map(Vec::len).collect()
        };
        let (found, expected) = (counts(&found), counts(&expected));
        assert!(Instant::now() < deadline, "{found:?} of {expected:?}\n{}", node.log());
        thread::sleep(Duration::from_millis(200));
    }
}

/// A figure of all shards of a node together.
fn figure(node: &Node, name: &str) -> u64 {
    let (status, text) = get(node, "/metrics");
    assert_eq!(status, 200);
    let lines = text.lines().filter(|line| line.starts_with(&format!("tethys_{name}{{")));
    lines.map(|line| line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0)).sum()
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIME_MAX;
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_node_that_was_away_for_too_long_gets_its_ranges_anew() {
    let folder = TempDir::with_prefix("tethys-").expect("a temporary folder");
    let mut nodes = cluster(&folder, "0");
    let mut raw = Raw::ready(&nodes[1]);
    write_before(&mut raw);
    wait_until_equal(&nodes[0], &nodes[1]);
    nodes[0].kill();
    write_meanwhile(&mut raw);
    nodes[0].restart();
    wait_until_equal(&nodes[0], &nodes[1]);
    wait_until_equal(&nodes[0], &nodes[2]);
    assert!(figure(&nodes[0], "snapshots_received_total") > 0, "its entries were gone");

    // It takes part again, and what came is there after a restart.
    for k in 0..KEYS {
        let text = format!("INSERT INTO ks.none (k, v) VALUES ({k}, 1)");
        wait_for("all three", || run(&mut raw, &text, ALL).is_ok());
    }
    nodes[0].kill();
    nodes[0].restart();
    wait_until_equal(&nodes[0], &nodes[1]);
    nodes[1].kill();
    let mut raw = Raw::ready(&nodes[0]);
    let mut values = acknowledged(&mut raw, "SELECT v FROM ks.none");
    values.sort_unstable();
    assert_eq!(values, vec![1; KEYS as usize], "the two others are a majority");
}

#[test]
fn a_copy_is_exact_whoever_is_killed_meanwhile() {
    let folder = TempDir::with_prefix("tethys-").expect("a temporary folder");
    let mut nodes = cluster(&folder, "300KiB/s");
    let mut raw = Raw::ready(&nodes[1]);
    write_before(&mut raw);
    wait_until_equal(&nodes[0], &nodes[1]);
    nodes[0].kill();
    write_meanwhile(&mut raw);
    // On a machine that is very busy all may have come before anybody looks.
    let has_all = |node: &Node, other: &Node| shown(node).is_some_and(|s| Some(s) == shown(other));
    // Killed while it receives, twice.
    for _ in 0..2 {
        nodes[0].restart();
        wait_for("a part of a snapshot", || {
            figure(&nodes[0], "snapshot_received_bytes_total") > 0 || has_all(&nodes[0], &nodes[2])
        });
        nodes[0].kill();
    }
    // A leader is killed while it sends.
    nodes[0].restart();
    wait_for("a snapshot under way", || {
        figure(&nodes[1], "snapshots_under_way") > 0 || has_all(&nodes[0], &nodes[2])
    });
    nodes[1].kill();
    wait_until_equal(&nodes[0], &nodes[2]);
    nodes[1].restart();
    wait_until_equal(&nodes[0], &nodes[1]);
}
