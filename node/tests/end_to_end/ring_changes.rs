//! The ring changes while clients write: a node joins, one leaves, one that is dead is removed.
//! Whatever was acknowledged is there afterwards, and at every moment.

use crate::several_nodes::{ONE, QUORUM, Row, rows, run as ask};
use crate::support::{Finished, Node, Raw, get, post, run};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long nodes may take to get anywhere on a busy machine.
const TIME_MAX: Duration = Duration::from_mins(1);
const ARGUMENTS: &[&str] = &["--memory", "64M"];

const SCHEMA: [&str; 5] = [
    "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}",
    "CREATE KEYSPACE one WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
    "CREATE TABLE ks.t (k int PRIMARY KEY, v int) WITH cdc = {'enabled': true}",
    "CREATE TABLE ks.hot (k int PRIMARY KEY, v int)",
    "CREATE TABLE one.t (k int PRIMARY KEY, v int)",
];
/// Rows of each table that are there before anything changes.
const KEYS: i32 = 150;
/// Rows that are written again and again.
const HOT_KEYS: i32 = 8;
const WRITE_INTERVAL: Duration = Duration::from_millis(3);

/// What a client has been promised: the values of rows, by table and key.
#[derive(Default)]
struct Acknowledged(BTreeMap<(&'static str, i32), i32>);

impl Acknowledged {
    /// Writes a row until that is acknowledged, by whichever node answers.
    fn write(
        &mut self,
        nodes: &[&Node],
        raws: &mut [Option<Raw>],
        place: (&'static str, i32),
        v: i32,
    ) {
        let (table, k) = place;
        let insert = format!("INSERT INTO {table} (k, v) VALUES ({k}, {v})");
        let deadline = Instant::now() + TIME_MAX;
        for attempt in k as usize.. {
            let at = attempt % nodes.len();
            let raw = raws[at].get_or_insert_with(|| Raw::ready(nodes[at]));
            if ask(raw, &insert, QUORUM).is_ok() {
                self.0.insert(place, v);
                return;
            }
            assert!(Instant::now() < deadline, "{insert} is not acknowledged");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Every row has the value that was acknowledged last, whoever is asked.
    fn check(&self, nodes: &[&Node]) {
        self.check_tables(nodes, &["ks.t", "one.t", "ks.hot"]);
    }

    /// The same of these tables, the only ones.
    fn check_tables(&self, nodes: &[&Node], tables: &[&str]) {
        for node in nodes {
            let mut raw = Raw::ready(node);
            for (&(table, k), v) in &self.0 {
                let select = format!("SELECT v FROM {table} WHERE k = {k}");
                assert_eq!(answer(&mut raw, &select), [[Some(i64::from(*v))]], "{table} {k}");
            }
            for table in tables {
                let expected = self.0.keys().filter(|(of, _)| of == table).count();
                let found = answer(&mut raw, &format!("SELECT k FROM {table}"));
                assert_eq!(found.len(), expected, "all rows of {table} in one scan");
            }
        }
    }

    /// Every row of the table with a log is told of there.
    fn check_log(&self, node: &Node) {
        let mut raw = Raw::ready(node);
        let logged = answer(&mut raw, "SELECT k, v FROM ks.t_scylla_cdc_log");
        let logged: Vec<(i64, i64)> =
            logged.iter().map(|row| (row[0].expect("a key"), row[1].expect("a value"))).collect();
        for ((_, k), v) in self.0.iter().filter(|((table, _), _)| *table == "ks.t") {
            let is_told = logged.contains(&(i64::from(*k), i64::from(*v)));
            assert!(is_told, "the log does not tell of {k}");
        }
    }
}

/// The rows of a statement, asked for until it is answered.
pub(crate) fn answer(raw: &mut Raw, text: &str) -> Vec<Row> {
    let deadline = Instant::now() + TIME_MAX;
    loop {
        match rows(raw, text, QUORUM) {
            Ok(rows) => return rows,
            Err(code) => assert!(Instant::now() < deadline, "{text}: {code:#x}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Makes the schema and the first rows.
fn fill(nodes: &[&Node]) -> Acknowledged {
    let mut raw = Raw::ready(nodes[0]);
    for statement in SCHEMA {
        raw.run(statement);
    }
    let mut acknowledged = Acknowledged::default();
    let mut raws: Vec<Option<Raw>> = nodes.iter().map(|_| None).collect();
    for k in 0..KEYS {
        acknowledged.write(nodes, &mut raws, ("ks.t", k), k);
        acknowledged.write(nodes, &mut raws, ("one.t", k), k);
    }
    acknowledged
}

/// Writes by way of these nodes, as long as `change` goes on.
fn while_writing<R>(
    nodes: &[&Node],
    mut acknowledged: Acknowledged,
    tables: &[&'static str],
    change: impl FnOnce() -> R,
) -> (Acknowledged, R) {
    let is_over = AtomicBool::new(false);
    let first = acknowledged.0.len() as i32 * 10;
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut raws: Vec<Option<Raw>> = nodes.iter().map(|_| None).collect();
            for k in first.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                for table in tables {
                    acknowledged.write(nodes, &mut raws, (table, k), k);
                }
                acknowledged.write(nodes, &mut raws, ("ks.hot", k % HOT_KEYS), k);
                let select = format!("SELECT v FROM ks.hot WHERE k = {}", k % HOT_KEYS);
                let raw = raws.iter_mut().flatten().next().expect("one was asked");
                assert_eq!(answer(raw, &select), [[Some(i64::from(k))]], "what was just written");
                thread::sleep(WRITE_INTERVAL);
            }
            acknowledged
        });
        let result = change();
        // A little longer, by the new ring.
        thread::sleep(Duration::from_millis(300));
        is_over.store(true, Ordering::Relaxed);
        (writer.join().expect("the writer does not panic"), result)
    })
}

/// Runs one of the program's verbs against a node.
pub(crate) fn verb(node: &Node, words: &[&str]) -> Finished {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tethys"));
    let (ip, port) = (node.ip().to_string(), node.http_port().to_string());
    command.args(words).args(["--host", &ip, "--http-port", &port]);
    run(&mut command, "").expect("the built program runs")
}

/// What a node says of all nodes: their letters and host ids, by their addresses.
pub(crate) fn status(node: &Node) -> BTreeMap<String, (String, String)> {
    let Finished { stdout, .. } = verb(node, &["status"]);
    let lines = stdout.lines().skip_while(|line| !line.starts_with("--")).skip(1);
    let words = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    let is_node = |letters: &str| letters.len() == 2 && letters.starts_with(['U', 'D']);
    let of_nodes = words.filter(|words| words.len() >= 7 && is_node(words[0]));
    of_nodes
        .map(|words| {
            let host_id = words[words.len() - 2];
            (words[1].to_owned(), (words[0].to_owned(), host_id.to_owned()))
        })
        .collect()
}

/// Waits until each of these nodes takes exactly these for up.
pub(crate) fn wait_for_members(nodes: &[&Node]) {
    let deadline = Instant::now() + TIME_MAX;
    let expected: Vec<String> = nodes.iter().map(|node| node.ip().to_string()).collect();
    for node in nodes {
        loop {
            let found = status(node);
            let is_there = expected.iter().all(|ip| found.get(ip).is_some_and(|(s, _)| s == "UN"));
            if is_there && found.len() == nodes.len() {
                break;
            }
            assert!(Instant::now() < deadline, "{found:?}, not {expected:?}:\n{}", node.log());
            thread::sleep(Duration::from_millis(50));
        }
        let mut raw = Raw::ready(node);
        let peers = ask(&mut raw, "SELECT peer_port FROM system.peers_v2", ONE).expect("peers");
        assert_eq!(peers.len(), nodes.len() - 1, "clients see the others");
    }
}

pub(crate) fn host_id(asked: &Node, node: &Node) -> String {
    status(asked)[&node.ip().to_string()].1.clone()
}

#[test]
fn a_node_joins_and_another_leaves_while_clients_write() {
    let mut nodes = Node::unstarted_together::<4>(ARGUMENTS);
    nodes[0].restart();
    Node::restart_together(&mut nodes[1..3]);
    let (there, new) = nodes.split_at_mut(3);
    let there: Vec<&Node> = there.iter().collect();
    wait_for_members(&there);
    let acknowledged = fill(&there);

    let (acknowledged, ()) =
        while_writing(&there, acknowledged, &["ks.t", "one.t"], || new[0].restart());
    let all: Vec<&Node> = there.iter().copied().chain([&new[0]]).collect();
    wait_for_members(&all);
    acknowledged.check(&all);
    acknowledged.check_log(&new[0]);

    // The one that founded the cluster goes.
    let (rest, leaving) = (&all[1..], all[0]);
    let (acknowledged, finished) =
        while_writing(rest, acknowledged, &["ks.t", "one.t"], || verb(leaving, &["decommission"]));
    assert!(finished.success().ends_with("DECOMMISSIONED\n"));
    wait_for_members(rest);
    acknowledged.check(rest);
    acknowledged.check_log(rest[0]);
    let refused = verb(rest[0], &["decommission"]);
    assert!(refused.stderr.contains("keyspace ks wants 3 copies, and 2"), "{}", refused.stderr);

    wait_until_ended(&mut nodes[0]);
    let log = nodes[0].refuses_to_restart_as_it_is();
    assert!(log.contains("this node has left its cluster"), "{log}");
}

fn wait_until_ended(node: &mut Node) {
    let deadline = Instant::now() + TIME_MAX;
    while node.runs() {
        assert!(Instant::now() < deadline, "a node that has left ends:\n{}", node.log());
        thread::sleep(Duration::from_millis(50));
    }
    node.kill();
}

/// No step is written anywhere but in the groups' own logs, so it does not matter who dies.
#[test]
fn whoever_dies_while_a_node_joins_it_goes_on() {
    let mut nodes = Node::unstarted_together::<4>(ARGUMENTS);
    nodes[0].restart();
    Node::restart_together(&mut nodes[1..3]);
    wait_for_members(&nodes[..3].iter().collect::<Vec<_>>());
    let acknowledged = fill(&nodes[..3].iter().collect::<Vec<_>>());

    // The first one decides on the ring when it begins to change.
    let (first, rest) = nodes.split_at_mut(1);
    let (writers, new) = rest.split_at_mut(2);
    let writers: Vec<&Node> = writers.iter().collect();
    let (acknowledged, ()) = while_writing(&writers, acknowledged, &["ks.t"], || {
        for millis in [300, 700, 1_100] {
            new[0].run_for(Duration::from_millis(millis));
        }
        new[0].launch_again();
        thread::sleep(Duration::from_millis(400));
        first[0].kill();
        thread::sleep(Duration::from_millis(1_500));
        first[0].restart();
        new[0].kill();
        new[0].restart();
        // It holds its part now, and the others forget theirs of it.
        first[0].kill();
        first[0].restart();
    });
    for node in &mut nodes[1..3] {
        node.kill();
        node.restart();
    }
    let all: Vec<&Node> = nodes.iter().collect();
    wait_for_members(&all);
    acknowledged.check(&all);
    acknowledged.check_log(all[3]);

    // Ranges come back to nodes that have forgotten them.
    let (rest, leaving) = (&all[..3], all[3]);
    let (acknowledged, finished) =
        while_writing(rest, acknowledged, &["ks.t", "one.t"], || verb(leaving, &["decommission"]));
    assert!(finished.success().ends_with("DECOMMISSIONED\n"));
    wait_for_members(rest);
    acknowledged.check(rest);
    acknowledged.check_log(rest[0]);
}

/// The sum of a figure over a node's shards.
fn figure(node: &Node, name: &str) -> u64 {
    let (_, text) = get(node, "/metrics");
    let lines = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[test]
fn a_node_joins_that_gets_snapshots_since_the_logs_have_no_more_what_it_lacks() {
    const PAD: usize = 4_000;
    const ROWS: i32 = 1_500;
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let path = folder.path().join("tethys.yaml");
    let text = "commitlog_segment_size: 256KiB\ncommitlog_total_space: 2MiB\n";
    std::fs::write(&path, text).expect("written");
    let path = path.to_str().expect("a temporary folder");
    let mut nodes = Node::unstarted_together::<4>(&["--memory", "64M", "--config", path]);
    nodes[0].restart();
    Node::restart_together(&mut nodes[1..3]);
    let (there, new) = nodes.split_at_mut(3);
    let there: Vec<&Node> = there.iter().collect();
    wait_for_members(&there);
    let acknowledged = fill(&there);
    let mut raw = Raw::ready(there[0]);
    raw.run("CREATE TABLE ks.wide (k int, c int, pad text, PRIMARY KEY (k, c))");
    let mut state = 1_u64;
    for row in 0..ROWS {
        // Digits that do not compress to nothing.
        let words = (0..PAD / 16).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            format!("{state:016x}")
        });
        let (k, pad) = (row % 50, words.collect::<String>());
        answer(&mut raw, &format!("INSERT INTO ks.wide (k, c, pad) VALUES ({k}, {row}, '{pad}')"));
    }
    let (acknowledged, ()) =
        while_writing(&there, acknowledged, &["ks.t", "one.t"], || new[0].restart());
    let all: Vec<&Node> = there.iter().copied().chain([&new[0]]).collect();
    wait_for_members(&all);
    let received = figure(all[3], "tethys_snapshots_received_total");
    assert!(received > 0, "it was filled from logs alone");
    acknowledged.check(&all);
    acknowledged.check_log(all[3]);
    for node in all {
        let mut raw = Raw::ready(node);
        assert_eq!(answer(&mut raw, "SELECT k, c FROM ks.wide").len(), ROWS as usize);
    }
}

#[test]
fn a_dead_node_is_removed_while_clients_write() {
    let mut nodes = Node::start_together::<4>(ARGUMENTS);
    let all: Vec<&Node> = nodes.iter().collect();
    wait_for_members(&all);
    // Of what has one copy nothing could be moved.
    let acknowledged = fill_three_copies(&all);
    let dead_id = host_id(all[0], all[3]);
    let refused = verb(all[0], &["remove", &dead_id]);
    assert!(
        refused.stderr.contains("lives: have it leave by `tethys decommission`"),
        "{}",
        refused.stderr
    );
    let unknown = verb(all[0], &["remove", &"0".repeat(32)]);
    assert!(unknown.stderr.contains("there is no node"), "{}", unknown.stderr);

    nodes[3].kill();
    let rest: Vec<&Node> = nodes[..3].iter().collect();
    let remove = || {
        // As long as it may still be promised support, it counts as alive.
        let deadline = Instant::now() + TIME_MAX;
        loop {
            let finished = verb(rest[1], &["remove", &dead_id]);
            if finished.status.success() {
                return finished;
            }
            assert!(Instant::now() < deadline, "{}", finished.stderr);
            thread::sleep(Duration::from_millis(100));
        }
    };
    let (acknowledged, finished) = while_writing(&rest, acknowledged, &["ks.t"], remove);
    assert!(finished.stdout.ends_with("REMOVED\n"), "{}", finished.stdout);
    wait_for_members(&rest);
    for node in &rest {
        let mut raw = Raw::ready(node);
        for (&(table, k), v) in &acknowledged.0 {
            let select = format!("SELECT v FROM {table} WHERE k = {k}");
            assert_eq!(answer(&mut raw, &select), [[Some(i64::from(*v))]], "{table} {k}");
        }
    }
    acknowledged.check_log(rest[2]);

    // It comes back, and is told.
    nodes[3].launch_again();
    wait_until_ended(&mut nodes[3]);
    let log = nodes[3].log();
    assert!(log.contains("this node has left its cluster, or was removed"), "{log}");
}

/// Rows of the keyspace with three copies, on three nodes.
fn fill_three_copies(nodes: &[&Node]) -> Acknowledged {
    let mut raw = Raw::ready(nodes[0]);
    for statement in SCHEMA.iter().filter(|statement| !statement.contains("one")) {
        raw.run(statement);
    }
    let mut acknowledged = Acknowledged::default();
    let mut raws: Vec<Option<Raw>> = nodes.iter().map(|_| None).collect();
    for k in 0..KEYS {
        acknowledged.write(nodes, &mut raws, ("ks.t", k), k);
    }
    acknowledged
}

#[test]
fn a_node_takes_the_place_of_a_dead_one() {
    let mut nodes = Node::unstarted_together::<4>(ARGUMENTS);
    nodes[0].restart();
    Node::restart_together(&mut nodes[1..3]);
    let there: Vec<&Node> = nodes[..3].iter().collect();
    wait_for_members(&there);
    let acknowledged = fill_three_copies(&there);
    let dead_id = host_id(there[0], there[2]);
    let log = nodes[3].refused_with(&["--replace", &dead_id]);
    assert!(log.contains("lives, and its place cannot be taken"), "{log}");

    nodes[2].kill();
    let (rest, new) = nodes.split_at_mut(3);
    let rest: Vec<&Node> = rest[..2].iter().collect();
    let (acknowledged, ()) = while_writing(&rest, acknowledged, &["ks.t"], || {
        // As long as it may still be promised support, it counts as alive.
        new[0].restart_until_let_in(&["--replace", &dead_id]);
    });
    let all: Vec<&Node> = vec![rest[0], rest[1], &new[0]];
    wait_for_members(&all);
    acknowledged.check_tables(&all, &["ks.t", "ks.hot"]);
    acknowledged.check_log(all[2]);
    // What it was told at its first start is of no meaning any more.
    new[0].kill();
    new[0].restart();
    nodes[2].launch_again();
    wait_until_ended(&mut nodes[2]);
    let log = nodes[2].log();
    assert!(log.contains("this node has left its cluster, or was removed"), "{log}");
}

#[test]
fn a_change_that_is_withdrawn_leaves_the_ring_as_it_was() {
    let mut nodes = Node::unstarted_together::<4>(ARGUMENTS);
    nodes[0].restart();
    Node::restart_together(&mut nodes[1..4]);
    let all: Vec<&Node> = nodes.iter().collect();
    wait_for_members(&all);
    let acknowledged = fill_three_copies(&all);
    let (leaving, rest) = (all[3], &all[..3]);
    let leaving_id = host_id(rest[0], leaving);
    let (acknowledged, ()) = while_writing(rest, acknowledged, &["ks.t"], || {
        let (status, text) = post(leaving, "/decommission");
        assert_eq!(status, 202, "{text}");
        let withdrawn = verb(rest[1], &["withdraw", &leaving_id]);
        let said = withdrawn.success();
        assert!(said.ends_with("is a member of the ring\n"), "{said}");
    });
    wait_for_members(&all);
    acknowledged.check_tables(&all, &["ks.t", "ks.hot"]);
    acknowledged.check_log(leaving);
    let unknown = verb(rest[1], &["withdraw", &"0".repeat(32)]);
    assert!(unknown.stderr.contains("there is no node"), "{}", unknown.stderr);
    // Whoever stays may leave another time.
    assert!(verb(leaving, &["decommission"]).success().ends_with("DECOMMISSIONED\n"));
    wait_for_members(rest);
    acknowledged.check_tables(rest, &["ks.t", "ks.hot"]);
}
