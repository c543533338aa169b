//! SIGKILL at random moments under load, again and again on the same data.
//!
//! Each writer counts upwards in its own partition and remembers what was acknowledged. After every
//! restart the table and its log are read whole:
//!
//! - no acknowledged write is lost, and no value appears that nobody sent;
//! - the log holds each acknowledged write once, in the order in which it was made, and a write of
//!   unknown fate at most once;
//! - the last change of each row in the log is the row: no log row without its write, no write
//!   without its log row.
//!
//! Rows are padded and the node has little memory, so that memtables are written out and merged
//! meanwhile. In either mode of the log: SIGKILL takes back nothing that the system was given.
//!
//! `TETHYS_CRASH_ROUNDS` sets how often (10 unless told, 200 in full), `TETHYS_CRASH_SEED` when.

use crate::support::{Node, Random, on_runtime};
use futures::TryStreamExt;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlTimeuuid;
use std::collections::BTreeMap;
use std::time::Duration;

const WRITERS: usize = 16;
/// Rows of a writer's partition, written in turn.
const ROWS: i64 = 5;
const ROUNDS_DEFAULT: usize = 10;
/// A row's padding is a multiple of this.
const PAD_BYTES: usize = 700;

/// What one writer knows: its next number, and what became of those before.
#[derive(Clone, Debug, Default)]
struct Writer {
    next: i64,
    acknowledged: Vec<i64>,
    /// Sent, and neither acknowledged nor refused.
    unknown: Vec<i64>,
}

async fn connected(node: &Node) -> Session {
    SessionBuilder::new().known_node(node.address()).build().await.expect("a session")
}

async fn prepare_tables(session: &Session) {
    for text in [
        "CREATE KEYSPACE ks WITH replication = \
         {'class': 'SimpleStrategy', 'replication_factor': 1}",
        "CREATE TABLE ks.plain (k int, c int, v bigint, pad text, PRIMARY KEY (k, c)) \
         WITH cdc = {'enabled': true}",
        "CREATE TABLE ks.imaged (k int, c int, v bigint, pad text, PRIMARY KEY (k, c)) \
         WITH cdc = {'enabled': true, 'preimage': true, 'postimage': true}",
    ] {
        session.query_unpaged(text, ()).await.unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

/// Writes until the node is gone.
async fn write(
    session: &Session,
    insert: &PreparedStatement,
    key: usize,
    mut writer: Writer,
) -> Writer {
    loop {
        let number = writer.next;
        writer.next += 1;
        let pad = "x".repeat(number as usize % 4 * PAD_BYTES);
        let values = (key as i32, (number % ROWS) as i32, number, pad);
        if session.execute_unpaged(insert, values).await.is_err() {
            writer.unknown.push(number);
            return writer;
        }
        writer.acknowledged.push(number);
    }
}

/// All writers of a table at once, until the node is killed after `delay`.
async fn load_until_killed(
    node: &mut Node,
    writers: &mut BTreeMap<(&'static str, usize), Writer>,
    delay: Duration,
) {
    let session = connected(node).await;
    let mut inserts = BTreeMap::new();
    for table in ["plain", "imaged"] {
        let text = format!("INSERT INTO ks.{table} (k, c, v, pad) VALUES (?, ?, ?, ?)");
        let mut insert = session.prepare(text).await.expect("prepared");
        // A retry that the driver makes on its own would be a write of its own.
        insert.set_retry_policy(Some(std::sync::Arc::new(
            scylla::policies::retry::FallthroughRetryPolicy::new(),
        )));
        insert.set_request_timeout(Some(Duration::from_secs(10)));
        inserts.insert(table, insert);
    }
    let writing = futures::future::join_all(
        writers
            .iter()
            .map(|((table, key), writer)| write(&session, &inserts[table], *key, writer.clone())),
    );
    let killing = async {
        tokio::time::sleep(delay).await;
        node.kill();
    };
    let (written, ()) = futures::future::join(writing, killing).await;
    for (writer, written) in writers.values_mut().zip(written) {
        *writer = written;
    }
}

/// The rows of a query over all pages.
async fn rows<T>(session: &Session, text: &str) -> Vec<T>
where
    T: for<'f, 'm> scylla::deserialize::row::DeserializeRow<'f, 'm> + 'static,
{
    let pages =
        session.query_iter(text, ()).await.unwrap_or_else(|error| panic!("{text}: {error}"));
    let rows = pages.rows_stream::<T>().expect("typed");
    rows.try_collect().await.unwrap_or_else(|error| panic!("{text}: {error}"))
}

async fn check(session: &Session, table: &str, writers: &BTreeMap<(&'static str, usize), Writer>) {
    let text = format!("SELECT k, c, v FROM ks.{table}");
    let stored: Vec<(i32, i32, i64)> = rows(session, &text).await;
    let stored: BTreeMap<(i32, i32), i64> =
        stored.into_iter().map(|(k, c, v)| ((k, c), v)).collect();

    let text =
        format!("SELECT k, c, v, \"cdc$time\", \"cdc$operation\" FROM ks.{table}_scylla_cdc_log");
    let log: Vec<(i32, i32, Option<i64>, CqlTimeuuid, i8)> = rows(session, &text).await;
    let mut changes: BTreeMap<i32, Vec<(CqlTimeuuid, i32, i64)>> = BTreeMap::new();
    for (k, c, v, time, operation) in log {
        if operation == 2 {
            changes.entry(k).or_default().push((time, c, v.expect("an insert has its value")));
        }
    }
    let mut replayed = BTreeMap::new();
    for (key, changes) in &mut changes {
        changes.sort();
        replayed.extend(changes.iter().map(|(_, c, v)| ((*key, *c), *v)));
    }
    assert_eq!(replayed, stored, "{table}: the log, replayed, is the table");

    for ((_, key), writer) in writers.iter().filter(|((name, _), _)| *name == table) {
        let empty = Vec::new();
        let logged = changes.get(&(*key as i32)).unwrap_or(&empty);
        let logged: Vec<i64> = logged.iter().map(|(_, _, v)| *v).collect();
        assert!(logged.is_sorted_by(|a, b| a < b), "{table}, {key}: in order and once: {logged:?}");
        for number in &writer.acknowledged {
            assert!(logged.binary_search(number).is_ok(), "{table}, {key}: {number} is not logged");
        }
        for number in &logged {
            let sent = writer.acknowledged.binary_search(number).is_ok()
                || writer.unknown.contains(number);
            assert!(sent, "{table}, {key}: nobody sent {number}");
        }
        for c in 0..ROWS {
            let last = writer.acknowledged.iter().rev().find(|number| *number % ROWS == c);
            let found = stored.get(&(*key as i32, c as i32));
            assert!(found >= last, "{table}, {key}, {c}: {found:?} is stored after {last:?}");
        }
    }
}

/// Ends that are clean and ends that are not, in every order of four, on one node: segments of the
/// log are given up in some lives and not in others. The schema goes on as the rows do.
#[test]
fn a_node_outlives_any_order_of_ends() {
    let mut node = Node::start();
    on_runtime(async { prepare_tables(&connected(&node).await).await });
    let mut written = Vec::new();
    for life in 0..20_u32 {
        let number = i64::from(life);
        on_runtime(async {
            let session = connected(&node).await;
            let insert = "INSERT INTO ks.plain (k, c, v) VALUES (?, ?, ?)";
            let values = ((life % 7) as i32, life as i32, number);
            session.query_unpaged(insert, values).await.expect("written");
            written.push((life % 7, number));
            let create = format!("CREATE TABLE ks.life_{life} (k int PRIMARY KEY)");
            session.query_unpaged(create, ()).await.expect("created");
            if life % 3 == 0 {
                // Time enough to give up segments that the life before has flushed.
                tokio::time::sleep(Duration::from_millis(400)).await;
            }
        });
        // The low bits of the order count through all orders of four.
        if (life / 4 + 1) >> (life % 4) & 1 == 1 {
            assert!(node.stop().success(), "life {life}");
        } else {
            node.kill();
        }
        node.restart();
        on_runtime(async {
            let session = connected(&node).await;
            let found: Vec<(i32, i64)> = rows(&session, "SELECT k, v FROM ks.plain").await;
            let mut found: Vec<(u32, i64)> =
                found.into_iter().map(|(k, v)| (k.cast_unsigned(), v)).collect();
            found.sort_by_key(|(_, v)| *v);
            assert_eq!(found, written, "after life {life}");
            for life in 0..=life {
                rows::<(i32,)>(&session, &format!("SELECT k FROM ks.life_{life}")).await;
            }
            let log: Vec<(i64,)> = rows(&session, "SELECT v FROM ks.plain_scylla_cdc_log").await;
            assert_eq!(log.len(), written.len(), "after life {life}");
        });
    }
}

#[test]
fn no_acknowledged_write_is_lost() {
    crash(Node::start_with(&["--memory", "64M"]));
}

#[test]
fn no_acknowledged_write_is_lost_when_the_log_is_synced_periodically() {
    crash(Node::start_with(&["--memory", "64M", "--commitlog-sync", "periodic"]));
}

fn crash(mut node: Node) {
    let rounds = std::env::var("TETHYS_CRASH_ROUNDS").ok();
    let rounds = rounds.map_or(ROUNDS_DEFAULT, |text| text.parse().expect("a number of rounds"));
    let mut random = Random::from_environment("TETHYS_CRASH_SEED");
    on_runtime(async { prepare_tables(&connected(&node).await).await });
    let keys = ["plain", "imaged"].into_iter().flat_map(|t| (0..WRITERS / 2).map(move |k| (t, k)));
    let mut writers: BTreeMap<(&str, usize), Writer> =
        keys.map(|key| (key, Writer::default())).collect();
    for round in 0..rounds {
        let delay = Duration::from_millis(20 + random.below(500));
        on_runtime(load_until_killed(&mut node, &mut writers, delay));
        // Some crashes come while the node recovers from the one before.
        node.restart();
        if random.below(4) == 0 {
            node.kill();
            node.restart();
        }
        on_runtime(async {
            let session = connected(&node).await;
            check(&session, "plain", &writers).await;
            check(&session, "imaged", &writers).await;
        });
        let count: usize = writers.values().map(|writer| writer.acknowledged.len()).sum();
        println!("round {round}: {count} writes acknowledged so far");
    }
    let status = node.stop();
    assert!(status.success(), "{status}");
    node.restart();
    on_runtime(async { check(&connected(&node).await, "plain", &writers).await });
    assert!(writers.values().all(|writer| !writer.acknowledged.is_empty()), "all of them wrote");
}
