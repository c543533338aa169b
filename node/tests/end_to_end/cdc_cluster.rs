//! Change logs on three nodes: streams that all of them know alike and that hold every row, and a
//! reader that follows the log while a node dies and comes back.

use crate::cdc_consumer::{Recorders, Seen, now, run};
use crate::support::{Node, Raw, Row, on_runtime};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla_cdc::log_reader::CDCLogReaderBuilder;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const ARGUMENTS: &[&str] = &["--memory", "64M"];
const KEYS: i32 = 200;
/// Keys that are written while a node dies.
const COUNTED_KEYS: i32 = 12;
const LOAD_TIME: Duration = Duration::from_secs(12);
const DIES_AFTER: Duration = Duration::from_secs(2);
const IS_AWAY_FOR: Duration = Duration::from_secs(4);
const WRITE_INTERVAL: Duration = Duration::from_millis(20);
/// How far the reader trails: nothing is placed further back than five seconds.
const SAFETY_INTERVAL: Duration = Duration::from_secs(6);
/// How long a statement may be refused.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs a statement until it is answered.
fn rows(raw: &mut Raw, text: &str) -> Vec<Row> {
    let deadline = now() + PATIENCE;
    loop {
        match raw.rows(text) {
            Ok(rows) => return rows,
            Err(error) => assert!(now() < deadline, "{text}: {error:?}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn bigint(cell: Option<&Vec<u8>>) -> i64 {
    let bytes = cell.expect("a value").as_slice();
    i64::from_be_bytes(bytes.try_into().expect("a bigint"))
}

/// The streams of the only generation as a node tells them: the end of each range, and its stream.
fn streams(node: &Node) -> Vec<(i64, [u8; 16])> {
    let mut raw = Raw::ready(node);
    let times = rows(
        &mut raw,
        "SELECT time FROM system_distributed.cdc_generation_timestamps WHERE key = 'timestamps'",
    );
    let [time] = times.as_slice() else { panic!("{} generations", times.len()) };
    let text = format!(
        "SELECT range_end, streams FROM system_distributed.cdc_streams_descriptions_v2 \
         WHERE time = {}",
        bigint(time[0].as_ref())
    );
    let descriptions = rows(&mut raw, &text);
    let stream = |set: &Option<Vec<u8>>| {
        // A set of one blob: its count, its length, its bytes.
        let bytes = set.as_deref().expect("there are streams");
        assert_eq!(bytes[..8], [0, 0, 0, 1, 0, 0, 0, 16]);
        bytes[8..].try_into().expect("a stream's id")
    };
    descriptions.iter().map(|row| (bigint(row[0].as_ref()), stream(&row[1]))).collect()
}

#[test]
fn reading_all_streams_finds_every_row_whatever_the_replication() {
    let nodes = Node::start_together::<3>(ARGUMENTS);
    let mut raws: Vec<Raw> = nodes.iter().map(Raw::ready).collect();
    for copies in [1, 3] {
        rows(
            &mut raws[0],
            &format!(
                "CREATE KEYSPACE ks{copies} WITH replication = \
                 {{'class': 'SimpleStrategy', 'replication_factor': {copies}}}"
            ),
        );
        let table =
            format!("ks{copies}.t (k int PRIMARY KEY, v int) WITH cdc = {{'enabled': true}}");
        rows(&mut raws[copies % 3], &format!("CREATE TABLE {table}"));
    }
    let of_nodes: Vec<_> = nodes.iter().map(streams).collect();
    assert!(of_nodes.iter().all(|of_node| *of_node == of_nodes[0]), "all nodes know the same");
    let streams = &of_nodes[0];
    let ends: Vec<i64> = streams.iter().map(|(end, _)| *end).collect();
    assert!(ends.is_sorted() && ends.len() > 100, "{} ranges", ends.len());
    for (end, id) in streams {
        let token = i64::from_be_bytes(*id.first_chunk().expect("16 bytes"));
        assert_eq!(token, *end, "a stream lies at the end of its range");
    }
    for copies in [1, 3] {
        for k in 0..KEYS {
            let insert = format!("INSERT INTO ks{copies}.t (k, v) VALUES ({k}, {k})");
            rows(&mut raws[k as usize % 3], &insert);
        }
        let mut found = BTreeSet::new();
        for (at, (end, id)) in streams.iter().enumerate() {
            let select = format!(
                "SELECT k FROM ks{copies}.t_scylla_cdc_log WHERE \"cdc$stream_id\" = 0x{:032x}",
                u128::from_be_bytes(*id)
            );
            for row in rows(&mut raws[at % 3], &select) {
                let k = row[0].as_deref().expect("each change has its key");
                let k = i32::from_be_bytes(k.try_into().expect("an int"));
                let select = format!("SELECT token(k) FROM ks{copies}.t WHERE k = {k}");
                let token = bigint(rows(&mut raws[at % 3], &select)[0][0].as_ref());
                let range = ends.partition_point(|end| *end < token);
                assert_eq!(ends[range], *end, "{k} is logged in the stream of its range");
                assert!(found.insert(k), "{k} is logged once");
            }
        }
        assert_eq!(found, (0..KEYS).collect(), "with {copies} copies");
    }
}

/// Counts upwards in one key until `end`; returns the last number. A number is written with one
/// timestamp until that is acknowledged, so that it is logged once.
async fn count(session: &Session, key: i32, end: Duration) -> i32 {
    let text = "UPDATE ks.t USING TIMESTAMP ? SET v = ? WHERE k = ?";
    let mut update = session.prepare(text).await.expect("prepared");
    update.set_is_idempotent(true);
    let mut number = 0;
    while now() < end {
        number += 1;
        let timestamp = i64::try_from(now().as_micros()).expect("before the year 294,000");
        let deadline = now() + PATIENCE;
        while let Err(error) = session.execute_unpaged(&update, (timestamp, number, key)).await {
            assert!(now() < deadline, "{key}: {error}");
            tokio::time::sleep(WRITE_INTERVAL).await;
        }
        tokio::time::sleep(WRITE_INTERVAL).await;
    }
    number
}

#[test]
fn a_reader_of_the_log_misses_nothing_when_a_node_dies() {
    let mut nodes = Node::start_together::<3>(ARGUMENTS);
    on_runtime(async {
        let addresses: Vec<String> = nodes.iter().map(Node::address).collect();
        let session = SessionBuilder::new().known_nodes(addresses).build().await;
        let session = Arc::new(session.expect("a session"));
        run(
            &session,
            "CREATE KEYSPACE ks WITH replication = \
             {'class': 'SimpleStrategy', 'replication_factor': 3}",
        )
        .await;
        run(&session, "CREATE TABLE ks.t (k int PRIMARY KEY, v int) WITH cdc = {'enabled': true}")
            .await;

        let seen = Arc::<Mutex<Seen>>::default();
        let builder = CDCLogReaderBuilder::new()
            .session(Arc::clone(&session))
            .keyspace("ks")
            .table_name("t")
            .start_timestamp(now())
            .window_size(Duration::from_secs(1))
            .safety_interval(SAFETY_INTERVAL)
            .sleep_interval(Duration::from_millis(200))
            .consumer_factory(Arc::new(Recorders(Arc::clone(&seen))));
        let (mut reader, finished) = builder.build().await.expect("a reader");

        let end = now() + LOAD_TIME;
        let counting =
            futures::future::join_all((0..COUNTED_KEYS).map(|key| count(&session, key, end)));
        let death = async {
            tokio::time::sleep(DIES_AFTER).await;
            nodes[0].kill();
            tokio::time::sleep(IS_AWAY_FOR).await;
            nodes[0].restart();
        };
        let (written, ()) = futures::future::join(counting, death).await;
        reader.stop_at(now() + Duration::from_secs(1));
        finished.await.expect("the reader reads to the end");

        let seen = seen.lock().expect("no test panics with it");
        for (key, last) in (0..COUNTED_KEYS).zip(written) {
            assert!(last > 20, "writer {key} wrote {last} times");
            let expected: Vec<i32> = (1..=last).collect();
            assert_eq!(seen.values.get(&key), Some(&expected), "key {key}");
        }
    });
}
