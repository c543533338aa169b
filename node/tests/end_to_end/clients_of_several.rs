//! Drivers and three nodes: what they learn of the cluster, where they send what, and that a session
//! outlives a node.

use crate::support::{Node, get, on_runtime, python, run};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::statement::prepared::PreparedStatement;
use std::path::Path;
use std::time::{Duration, Instant};

/// Leadership comes home a few ranges at a time, and later on a busy machine.
const TIME_MAX: Duration = Duration::from_mins(3);
const KEYS: i32 = 40;

async fn connected(nodes: &[Node]) -> Session {
    let addresses = nodes.iter().map(Node::address);
    let builder = SessionBuilder::new().known_nodes(addresses);
    let builder = builder.cluster_metadata_refresh_interval(Duration::from_secs(1));
    let session = builder.build().await.expect("a session");
    for text in [
        "CREATE KEYSPACE IF NOT EXISTS ks WITH replication = \
         {'class': 'NetworkTopologyStrategy', 'replication_factor': 3}",
        "CREATE TABLE IF NOT EXISTS ks.t (k int PRIMARY KEY, v int)",
    ] {
        session.query_unpaged(text, ()).await.unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    session
}

/// Runs an attempt until it succeeds; each is one that may be repeated.
async fn eventually<T, E: std::fmt::Debug>(
    what: &str,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + TIME_MAX;
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => assert!(Instant::now() < deadline, "{what}: {error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How many requests the nodes have sent each other.
fn forwarded(nodes: &[Node]) -> u64 {
    let lines = nodes.iter().map(|node| get(node, "/metrics").1).collect::<Vec<_>>().join("\n");
    let counts = lines.lines().filter(|line| line.starts_with("tethys_requests_forwarded_total{"));
    counts.map(|line| line.rsplit(' ').next().expect("a count").parse::<u64>().expect("one")).sum()
}

/// The same statement, for one node alone.
fn only_at(statement: &PreparedStatement, session: &Session, at: usize) -> PreparedStatement {
    let node = session.get_cluster_state().get_nodes_info()[at].host_id;
    let target = SingleTargetLoadBalancingPolicy::new(NodeIdentifier::HostId(node), None);
    let mut statement = statement.clone();
    statement.set_load_balancing_policy(Some(target));
    statement
}

#[test]
fn conditional_statements_are_sent_to_who_leads() {
    let nodes = Node::start_together::<3>(&["--memory", "64M"]);
    on_runtime(async {
        let session = connected(&nodes).await;
        let state = session.get_cluster_state();
        assert_eq!(state.get_nodes_info().len(), 3);
        for node in state.get_nodes_info() {
            assert_eq!(node.sharder().expect("its shards are known").nr_shards.get(), 2);
        }
        let insert = "INSERT INTO ks.t (k, v) VALUES (?, ?) IF NOT EXISTS";
        let insert = eventually("prepared", async || session.prepare(insert).await).await;
        assert!(insert.is_confirmed_lwt(), "the driver is told that it is conditional");
        // Leadership comes home to the replicas that drivers try first.
        eventually("each is led by its first replica", async || {
            let before = forwarded(&nodes);
            for k in 0..KEYS {
                session.execute_unpaged(&insert, (k, k)).await.map_err(|e| e.to_string())?;
            }
            let more = forwarded(&nodes) - before;
            if more == 0 { Ok(()) } else { Err(format!("{more} were forwarded")) }
        })
        .await;
    });
}

#[test]
fn a_session_outlives_a_node() {
    let mut nodes = Node::start_together::<3>(&["--memory", "64M"]);
    on_runtime(async {
        let session = connected(&nodes).await;
        let insert = "INSERT INTO ks.t (k, v) VALUES (?, ?)";
        let mut insert = eventually("prepared", async || session.prepare(insert).await).await;
        insert.set_is_idempotent(true);
        let select = session.prepare("SELECT v FROM ks.t WHERE k = ?").await.expect("prepared");
        let write_all = async |v: i32| {
            for k in 0..KEYS {
                let write = async || session.execute_unpaged(&insert, (k, v)).await;
                eventually("a write", write).await;
            }
        };
        write_all(1).await;
        nodes[1].kill();
        write_all(2).await;
        nodes[1].restart();
        write_all(3).await;
        // Whatever was prepared before is there, on each of them, with what was written meanwhile.
        for at in 0..nodes.len() {
            let select = only_at(&select, &session, at);
            for k in 0..KEYS {
                let read = async || session.execute_unpaged(&select, (k,)).await;
                let rows = eventually("a read", read).await.into_rows_result().expect("rows");
                assert_eq!(rows.single_row::<(i32,)>().expect("a row"), (3,), "key {k}");
            }
        }
    });
}

#[test]
fn the_python_driver_knows_every_node() {
    let mut nodes = Node::start_together::<3>(&["--memory", "64M"]);
    let script = |nodes: &[Node], up: &str| {
        let Some(python) = python() else { return };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/end_to_end/python");
        let mut command = python.interpreter();
        command.arg(folder.join("several.py")).arg(nodes[0].cql_port().to_string()).arg(up);
        command.args(nodes.iter().map(|node| node.ip().to_string()));
        let printed = run(&mut command, "").expect("Python runs").success();
        assert!(printed.contains("ok test_"), "the script runs tests: {printed}");
    };
    script(&nodes, "3");
    nodes[2].kill();
    script(&nodes, "2");
    nodes[2].restart();
    script(&nodes, "3");
}
