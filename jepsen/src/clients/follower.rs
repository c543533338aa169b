//! scylla-cdc, the reader of ScyllaDB's change logs, unchanged: it follows the log of the rows that the
//! other clients write.

use crate::checker::followed::Change;
use async_trait::async_trait;
use futures::future::RemoteHandle;
use scylla::client::session_builder::SessionBuilder;
use scylla::value::CqlValue;
use scylla_cdc::consumer::{CDCRow, Consumer, ConsumerFactory};
use scylla_cdc::log_reader::{CDCLogReader, CDCLogReaderBuilder};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// It reads by windows of this size, of which none is younger than the interval: nobody has said that
/// the log is read, and then a write may stand up to five seconds before the moment at which it
/// came (docs/cdc.md).
const WINDOW_SIZE: Duration = Duration::from_secs(2);
const SAFETY_INTERVAL: Duration = Duration::from_secs(6);
const SLEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How long it may take to read to the end once nobody writes any more.
const END_TIME_MAX: Duration = Duration::from_mins(2);

/// What came, in its order.
type Seen = Arc<Mutex<Vec<Change>>>;

/// The running reader.
pub(super) struct Follower {
    reader: CDCLogReader,
    finished: RemoteHandle<anyhow::Result<()>>,
    seen: Seen,
}

impl Follower {
    /// Follows the log from now on.
    pub(super) async fn start(addresses: &[SocketAddr]) -> io::Result<Follower> {
        let session = SessionBuilder::new().known_nodes_addr(addresses).build().await;
        let seen = Seen::default();
        let builder = CDCLogReaderBuilder::new()
            .session(Arc::new(session.map_err(io::Error::other)?))
            .keyspace("jepsen")
            .table_name("elements")
            .start_timestamp(now())
            .window_size(WINDOW_SIZE)
            .safety_interval(SAFETY_INTERVAL)
            .sleep_interval(SLEEP_INTERVAL)
            .consumer_factory(Arc::new(Recorders(Arc::clone(&seen))));
        let (reader, finished) = builder.build().await.map_err(io::Error::other)?;
        Ok(Follower { reader, finished, seen })
    }

    /// What it has seen of all that was written until now.
    pub(super) async fn end(mut self) -> io::Result<Vec<Change>> {
        self.reader.stop_at(now() + Duration::from_secs(1));
        let finished = tokio::time::timeout(END_TIME_MAX, self.finished).await;
        let finished =
            finished.map_err(|_| io::Error::other("scylla-cdc does not come to the end"))?;
        finished.map_err(|error| io::Error::other(format!("scylla-cdc gave up: {error:#}")))?;
        Ok(std::mem::take(&mut self.seen.lock().expect("nobody panics with it")))
    }
}

struct Recorder(Seen);

#[async_trait]
impl Consumer for Recorder {
    async fn consume_cdc(&mut self, row: CDCRow<'_>) -> anyhow::Result<()> {
        let Some(CqlValue::BigInt(value)) = row.get_value("v") else {
            anyhow::bail!("a change without its key");
        };
        let change = Change {
            stream: row.stream_id.to_string(),
            time: row.time.as_u128(),
            sequence: row.batch_seq_no,
            value: *value,
        };
        self.0.lock().expect("nobody panics with it").push(change);
        Ok(())
    }
}

struct Recorders(Seen);

#[async_trait]
impl ConsumerFactory for Recorders {
    async fn new_consumer(&self) -> Box<dyn Consumer> {
        Box::new(Recorder(Arc::clone(&self.0)))
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
