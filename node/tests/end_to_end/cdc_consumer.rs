//! scylla-cdc, the log's reader for ScyllaDB's own CDC: it follows the log while it is written, over
//! a change of generations, and is given every change once and in order.
//!
//! Its windows are shortened from a minute to half a second, so that the test does not take long.

use crate::support::{Node, on_runtime, post};
use async_trait::async_trait;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::value::CqlValue;
use scylla_cdc::cdc_types::StreamID;
use scylla_cdc::consumer::{CDCRow, Consumer, ConsumerFactory, OperationType};
use scylla_cdc::log_reader::CDCLogReaderBuilder;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const KEYS: i32 = 12;
/// How long the writers write; the new generation starts in the middle.
const LOAD_TIME: Duration = Duration::from_secs(9);
const GENERATION_STARTS_IN: Duration = Duration::from_secs(4);
/// Pause of a writer between two writes.
const WRITE_INTERVAL: Duration = Duration::from_millis(5);

/// What was consumed: of each key its values in their order, and the streams they came from.
#[derive(Default)]
pub(crate) struct Seen {
    pub values: BTreeMap<i32, Vec<i32>>,
    pub streams: BTreeSet<StreamID>,
}

struct Recorder(Arc<Mutex<Seen>>);

#[async_trait]
impl Consumer for Recorder {
    async fn consume_cdc(&mut self, row: CDCRow<'_>) -> anyhow::Result<()> {
        let number = |name: &str| row.get_value(name).as_ref().and_then(CqlValue::as_int);
        anyhow::ensure!(row.operation == OperationType::RowUpdate, "{}", row.operation);
        anyhow::ensure!(row.end_of_batch && row.batch_seq_no == 0, "one row is one group");
        let (Some(key), Some(value)) = (number("k"), number("v")) else {
            anyhow::bail!("a change without its key or value");
        };
        let mut seen = self.0.lock().expect("no test panics with it");
        seen.values.entry(key).or_default().push(value);
        seen.streams.insert(row.stream_id);
        Ok(())
    }
}

pub(crate) struct Recorders(pub Arc<Mutex<Seen>>);

#[async_trait]
impl ConsumerFactory for Recorders {
    async fn new_consumer(&self) -> Box<dyn Consumer> {
        Box::new(Recorder(Arc::clone(&self.0)))
    }
}

pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

pub(crate) async fn run(session: &Session, text: &str) {
    session.query_unpaged(text, ()).await.unwrap_or_else(|error| panic!("{text}: {error}"));
}

/// Counts upwards in one key until `end`; returns the last number.
async fn write(session: &Session, key: i32, end: Duration) -> i32 {
    let update = session.prepare("UPDATE ks.t SET v = ? WHERE k = ?").await.expect("prepared");
    let mut number = 0;
    while now() < end {
        number += 1;
        session.execute_unpaged(&update, (number, key)).await.expect("written");
        tokio::time::sleep(WRITE_INTERVAL).await;
    }
    number
}

#[test]
fn every_change_is_consumed_once_and_in_order_across_generations() {
    let node = Node::start();
    on_runtime(async {
        let session = SessionBuilder::new().known_node(node.address()).build().await;
        let session = Arc::new(session.expect("a session"));
        run(
            &session,
            "CREATE KEYSPACE ks WITH replication = \
             {'class': 'SimpleStrategy', 'replication_factor': 1}",
        )
        .await;
        run(&session, "CREATE TABLE ks.t (k int PRIMARY KEY, v int) WITH cdc = {'enabled': true}")
            .await;

        let seen = Arc::default();
        let builder = CDCLogReaderBuilder::new()
            .session(Arc::clone(&session))
            .keyspace("ks")
            .table_name("t")
            .start_timestamp(now())
            .window_size(Duration::from_millis(500))
            .safety_interval(Duration::from_millis(500))
            .sleep_interval(Duration::from_millis(100))
            .consumer_factory(Arc::new(Recorders(Arc::clone(&seen))));
        let (mut reader, finished) = builder.build().await.expect("a reader");

        let starts_in = GENERATION_STARTS_IN.as_millis();
        let (status, answer) = post(&node, &format!("/cdc/generations?starts_in_ms={starts_in}"));
        assert!((200..300).contains(&status), "{status}: {answer}");
        let end = now() + LOAD_TIME;
        let written =
            futures::future::join_all((0..KEYS).map(|key| write(&session, key, end))).await;
        reader.stop_at(now() + Duration::from_secs(1));
        finished.await.expect("the reader reads to the end");

        let count = session.query_unpaged(
            "SELECT COUNT(*) FROM system_distributed.cdc_generation_timestamps \
             WHERE key = 'timestamps'",
            (),
        );
        let count = count.await.expect("read").into_rows_result().expect("rows");
        let (count,) = count.single_row::<(i64,)>().expect("one row");
        assert!(count >= 2, "{count} generations");
        let seen: &Mutex<Seen> = &seen;
        let seen = seen.lock().expect("no test panics with it");
        for (key, last) in (0..KEYS).zip(written) {
            assert!(last > 100, "writer {key} wrote {last} times");
            let expected: Vec<i32> = (1..=last).collect();
            assert_eq!(seen.values.get(&key), Some(&expected), "key {key}");
        }
        assert!(seen.streams.len() > 1, "streams of more than one generation");
    });
}
