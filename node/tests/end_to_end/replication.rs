//! Three copies of everything on three nodes: what was acknowledged is on a majority, and the death
//! of a node costs the ranges that it led a moment, and nothing else.

use crate::several_nodes::{ALL, ONE, QUORUM, run};
use crate::support::{Node, Raw, get};
use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for what has to come: clusters of debug builds on a machine with much else
/// to do are slow.
const TIME_MAX: Duration = Duration::from_mins(4);

const SCHEMA: [&str; 3] = [
    "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}",
    "CREATE TABLE ks.t (k int PRIMARY KEY, v int) WITH cdc = {'enabled': true}",
    "CREATE TABLE ks.wide (k int, c int, pad text, PRIMARY KEY (k, c))",
];
const OTHER_SCHEMA: [&str; 2] = [
    "CREATE KEYSPACE IF NOT EXISTS other WITH replication = \
     {'class': 'NetworkTopologyStrategy', 'replication_factor': 3}",
    "CREATE TABLE IF NOT EXISTS other.t (k int PRIMARY KEY, v int)",
];
const KEYS: i32 = 100;

/// Runs a statement until it is acknowledged. What came of an attempt that was not is not known, so
/// the statement has to be one that may be repeated.
fn acknowledged(raw: &mut Raw, text: &str, level: u16) -> Vec<i32> {
    let deadline = Instant::now() + TIME_MAX;
    loop {
        match run(raw, text, level) {
            Ok(rows) => return rows,
            Err(code) => assert!(Instant::now() < deadline, "{text}: {code:#x}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// The numbers that a statement shows, in order.
fn sorted(raw: &mut Raw, text: &str, level: u16) -> Vec<i32> {
    let mut rows = acknowledged(raw, text, level);
    rows.sort_unstable();
    rows
}

/// Waits until a node shows what it has to at ONE, by what it holds itself.
fn wait_until_it_shows(node: &Node, text: &str, expected: &[i32]) {
    let deadline = Instant::now() + TIME_MAX;
    let mut raw = Raw::ready(node);
    loop {
        let rows = sorted(&mut raw, text, ONE);
        if rows == expected {
            return;
        }
        let (found, wanted) = (rows.len(), expected.len());
        assert!(Instant::now() < deadline, "{text}: {found} of {wanted}\n{}", node.log());
        thread::sleep(Duration::from_millis(20));
    }
}

fn insert(k: i32, v: i32) -> String {
    format!("INSERT INTO ks.t (k, v) VALUES ({k}, {v})")
}

/// How many groups a node leads.
fn led_groups(node: &Node) -> u64 {
    figure(node, "led_groups")
}

/// The sum of a metric over the shards of a node.
fn figure(node: &Node, name: &str) -> u64 {
    let (_, metrics) = get(node, "/metrics");
    let start = format!("tethys_{name}{{");
    let lines = metrics.lines().filter(|line| line.starts_with(&start));
    let count = |line: &str| line.rsplit_once(' ').and_then(|(_, count)| count.parse().ok());
    lines.map(|line| count(line).unwrap_or(0)).sum()
}

fn wait_until_it_leads(node: &Node, count: u64) {
    let deadline = Instant::now() + TIME_MAX;
    while led_groups(node) < count {
        assert!(Instant::now() < deadline, "{} led\n{}", led_groups(node), node.log());
        thread::sleep(Duration::from_millis(100));
    }
}

/// What one that is away finds when it comes back: more than memory holds, and tables and groups
/// that it knows nothing of.
fn write_what_the_dead_miss(raw: &mut Raw, other: &Node) {
    // More than a leader keeps in memory for those that lag.
    let pad = "x".repeat(4_000);
    for c in 0..60 {
        let text = format!("INSERT INTO ks.wide (k, c, pad) VALUES (7, {c}, '{pad}')");
        acknowledged(raw, &text, QUORUM);
    }
    // A table that the dead node knows nothing of, changed before it hears of it.
    Raw::ready(other).run("CREATE TABLE ks.late (k int PRIMARY KEY, v int)");
    for k in 0..KEYS {
        acknowledged(raw, &format!("INSERT INTO ks.late (k, v) VALUES ({k}, {k})"), QUORUM);
    }
    acknowledged(raw, "TRUNCATE ks.late", QUORUM);
    for k in 0..KEYS {
        acknowledged(raw, &format!("INSERT INTO ks.late (k, v) VALUES ({k}, {k})"), QUORUM);
    }
    // Groups that the dead node knows nothing of.
    for statement in OTHER_SCHEMA {
        acknowledged(raw, statement, QUORUM);
    }
    for k in 0..KEYS {
        acknowledged(raw, &format!("INSERT INTO other.t (k, v) VALUES ({k}, {k})"), QUORUM);
    }
}

/// A node dies, lives on without it, and comes back.
fn survives(arguments: &[&str]) {
    let mut nodes = Node::start_together::<3>(arguments);
    for statement in SCHEMA {
        Raw::ready(&nodes[0]).run(statement);
    }
    let mut raws: Vec<Raw> = nodes.iter().map(Raw::ready).collect();
    for k in 0..KEYS {
        acknowledged(&mut raws[k as usize % 3], &insert(k, k), QUORUM);
    }
    let all: Vec<i32> = (0..KEYS).collect();
    for node in &nodes {
        wait_until_it_shows(node, "SELECT k FROM ks.t", &all);
        wait_until_it_shows(node, "SELECT k FROM ks.t_scylla_cdc_log", &all);
    }

    nodes[0].kill();
    let began = Instant::now();
    let raw = &mut raws[1];
    for k in 0..KEYS {
        acknowledged(raw, &insert(k, k + 1_000), QUORUM);
    }
    println!("{KEYS} writes after a death took {:?}", began.elapsed());
    write_what_the_dead_miss(raw, &nodes[2]);
    let later: Vec<i32> = (1_000..1_000 + KEYS).collect();
    for raw in &mut raws[1..] {
        let found = sorted(raw, "SELECT v FROM ks.t", QUORUM);
        assert_eq!(found, later, "nothing acknowledged is lost");
    }
    assert!(run(&mut raws[1], &insert(1, 1_001), ALL).is_err(), "a replica is missing");

    nodes[0].restart();
    wait_until_it_shows(&nodes[0], "SELECT v FROM ks.t", &later);
    wait_until_it_shows(&nodes[0], "SELECT c FROM ks.wide", &(0..60).collect::<Vec<_>>());
    wait_until_it_shows(&nodes[0], "SELECT v FROM ks.late", &all);
    wait_until_it_shows(&nodes[0], "SELECT v FROM other.t", &all);
    wait_until_it_leads(&nodes[0], 10);
    let mut raw = Raw::ready(&nodes[0]);
    acknowledged(&mut raw, &insert(0, 5), ALL);
    let value = |node: &Node| run(&mut Raw::ready(node), "SELECT v FROM ks.t WHERE k = 0", ONE);
    for node in &nodes {
        assert_eq!(value(node), Ok(vec![5]), "at ALL every replica has applied it");
    }

    let fewer = "ALTER KEYSPACE ks WITH replication = \
                 {'class': 'SimpleStrategy', 'replication_factor': 2}";
    assert!(run(&mut raw, fewer, ONE).is_err(), "nothing moves data");

    // One that is told to end hands over first.
    assert!(nodes[1].stop().success());
    for k in 0..KEYS {
        acknowledged(&mut raw, &insert(k, later[k as usize]), QUORUM);
    }
    acknowledged(&mut raw, &insert(0, 5), QUORUM);
    nodes[1].restart();

    // All at once, as when the power goes: what was acknowledged is on the disks.
    for node in &mut nodes {
        node.kill();
    }
    Node::restart_together(&mut nodes);
    let mut expected = later;
    expected[0] = 5;
    expected.sort_unstable();
    for node in &nodes {
        assert_eq!(sorted(&mut Raw::ready(node), "SELECT v FROM ks.t", QUORUM), expected);
        wait_until_it_shows(node, "SELECT v FROM ks.t", &expected);
    }
}

#[test]
fn a_death_costs_a_moment_and_nothing_else() {
    survives(&["--memory", "256M"]);
}

#[test]
fn a_death_costs_a_moment_and_nothing_else_when_the_log_is_synced_periodically() {
    survives(&["--memory", "256M", "--commitlog-sync", "periodic"]);
}

/// Segments that tables have no use for any more are kept for a node that is away, and go when it
/// has what is in them.
#[test]
fn the_log_is_kept_for_a_node_that_is_away() {
    // The first segment is short, and goes early if the first batch does not fit into it. The next
    // two are full by then: two more than are written to.
    const BATCHES: i32 = 80;
    const ROWS: i32 = 100;
    let mut nodes = Node::start_together::<3>(&["--memory", "64M"]);
    for statement in SCHEMA {
        Raw::ready(&nodes[0]).run(statement);
    }
    let mut raw = Raw::ready(&nodes[1]);
    acknowledged(&mut raw, "INSERT INTO ks.wide (k, c) VALUES (1, -1)", ALL);
    nodes[0].kill();
    let pad = "x".repeat(10_000);
    for batch in 0..BATCHES {
        let inserts = (batch * ROWS..(batch + 1) * ROWS)
            .map(|c| format!("INSERT INTO ks.wide (k, c, pad) VALUES (1, {c}, '{pad}');"));
        let text = format!("BEGIN UNLOGGED BATCH {} APPLY BATCH", inserts.collect::<String>());
        acknowledged(&mut raw, &text, QUORUM);
    }
    let is_flushed = |node: &Node| figure(node, "flushes_total") > 0;
    let deadline = Instant::now() + TIME_MAX;
    while !is_flushed(&nodes[1]) {
        assert!(Instant::now() < deadline, "nothing is flushed:\n{}", nodes[1].log());
        thread::sleep(Duration::from_millis(100));
    }
    let kept = figure(&nodes[1], "commitlog_segments");
    assert!(kept >= 4, "{kept} segments of two shards");

    nodes[0].restart();
    let last = BATCHES * ROWS - 1;
    let select = format!("SELECT c FROM ks.wide WHERE k = 1 AND c = {last}");
    wait_until_it_shows(&nodes[0], &select, &[last]);
    let count = sorted(&mut Raw::ready(&nodes[0]), "SELECT COUNT(*) FROM ks.wide WHERE k = 1", ONE);
    assert_eq!(count, [BATCHES * ROWS + 1]);
    let deadline = Instant::now() + TIME_MAX;
    while figure(&nodes[1], "commitlog_segments") >= kept {
        assert!(Instant::now() < deadline, "segments stay:\n{}", nodes[1].log());
        thread::sleep(Duration::from_millis(100));
    }
}
