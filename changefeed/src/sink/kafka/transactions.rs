//! A feed's messages and its position in one transaction, so that a reader of what is committed sees
//! every event once.
//!
//! The position is the offset of a consumer group that nobody is in: its commit is a part of the
//! transaction, and its metadata has the place as JSON, with that of the scan that the feed began with.
//! Brokers keep one producer for each
//! transactional id and shut out the one before when the next begins; that aborts, or brings to its
//! end, what the former had begun. So whoever begins reads a place that cannot change any more
//! but by its own commits, and [`Known`] says whether it is the one that it left:
//!
//! ```text
//! the place at the brokers         a commit of place P is called for
//! where this sink left it          the transaction before came to nothing, or there was none: send
//! P                                it was committed, and the answer was lost: done
//! anything else                    somebody else has sent: overtaken
//! ```
//!
//! That needs no clock, and no trust in who owns the feed. After any failure the producer is given
//! up, and with it the transaction. `docs/decisions/0018-exactly-once-by-kafka.md` has the argument.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::Producer;
use rdkafka::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};

use super::{DEFAULTS, KafkaSink, Record};
use crate::position::Position;
use crate::scan::Scanned;
use crate::sink::{Failure, Message, Reached, Recovering, Sending, SinkError, TransactionalSink};

/// The partition of the feed's topic that the group's offset is of: every topic has it.
const PARTITION: i32 = 0;
/// Settings of producers, which a consumer warns of.
const OF_PRODUCERS: &[&str] =
    &["compression.", "linger.ms", "batch.", "queue.buffering.", "request.timeout.ms"];

/// By what brokers know a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transactions {
    /// Its transactional id, and the name of its consumer group: its own from CREATE to DROP.
    pub id: String,
    /// Positions are compared within one line only. A feed that is taken elsewhere in the log
    /// (RESUME … FROM) begins another.
    pub line: u64,
}

/// What the metadata of the group's offset say, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    line: u64,
    #[serde(flatten)]
    position: Position,
    /// Of a feed that began with a scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scanned: Option<Arc<Scanned>>,
}

/// What this sink knows of the text that the brokers have as the feed's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Nothing,
    /// This one, or none; but for a transaction whose outcome was not heard.
    Left(Option<String>),
}

impl KafkaSink {
    fn transactions(&self) -> &Transactions {
        self.settings.transactions.as_ref().expect("a transactional sink has an id")
    }

    /// Begins a producer that nobody else has been heard after, unless there is one. Returns the
    /// place at the brokers if it has begun one.
    async fn begin(&mut self) -> Result<Option<Option<String>>, SinkError> {
        if self.connected.as_ref().is_some_and(|connected| connected.group.is_some()) {
            return Ok(None);
        }
        let timeout = self.settings.timeout;
        let producer = Arc::clone(self.connect()?.producer());
        self.call(move || producer.init_transactions(timeout)).await?;
        let config = self.consumer_config();
        let topic = self.settings.topic.clone();
        let (group, place) = self.call(move || read_place(&config, &topic, timeout)).await?;
        if let Some(connected) = &mut self.connected {
            connected.group = Some(Arc::new(group));
        }
        Ok(Some(place))
    }

    /// Makes a call of the library that blocks.
    async fn call<T: Send + 'static>(
        &mut self,
        call: impl FnOnce() -> KafkaResult<T> + Send + 'static,
    ) -> Result<T, SinkError> {
        let error = match self.tasks.run_blocking(call).await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let connected = self.connected.as_ref();
        let fatal = connected.and_then(|connected| connected.producer().client().fatal_error());
        let code = fatal.map(|(code, _)| code).or(error.rdkafka_error_code());
        let failed = self.failure(code.unwrap_or(RDKafkaErrorCode::Fail), 0);
        self.connected = None;
        Err(failed)
    }

    /// The settings by which the place is read.
    fn consumer_config(&self) -> ClientConfig {
        let settings = &self.settings;
        let mut config = ClientConfig::new();
        let defaults = DEFAULTS.iter().map(|(name, value)| (*name, *value));
        let passed_on =
            settings.passed_on.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in defaults.chain(passed_on) {
            if !OF_PRODUCERS.iter().any(|prefix| name.starts_with(prefix)) {
                config.set(name, value);
            }
        }
        config.set("bootstrap.servers", settings.brokers.join(","));
        config.set("group.id", &self.transactions().id);
        config.set("enable.auto.commit", "false");
        // A place whose transaction is not settled is waited for.
        config.set("isolation.level", "read_committed");
        config
    }

    /// Sends records in one transaction, with the place behind them unless they are no events.
    pub(super) async fn commit_records(
        &mut self,
        records: &[Record<'_>],
        place: Option<&Place>,
    ) -> Result<(), SinkError> {
        let committed = self.try_commit(records, place).await;
        if committed.is_err() {
            self.connected = None;
        }
        // Nothing is acknowledged in part, and which record it was is not looked for.
        committed.map_err(|error| SinkError { acknowledged: 0, suspects: 0, ..error })
    }

    async fn try_commit(
        &mut self,
        records: &[Record<'_>],
        place: Option<&Place>,
    ) -> Result<(), SinkError> {
        let text = place.map(|place| serde_json::to_string(place).expect("numbers are JSON"));
        if let Some(found) = self.begin().await? {
            let found = Known::Left(found);
            if text.is_some() && found == Known::Left(text.clone()) {
                self.known = found;
                return Ok(());
            }
            if self.known != Known::Nothing && self.known != found {
                return Err(self.overtaken());
            }
            self.known = found;
        }
        let timeout = self.settings.timeout;
        let connected = self.connect()?;
        let producer = Arc::clone(connected.producer());
        let group = connected.group.clone().expect("it has begun");
        let beginning = Arc::clone(&producer);
        self.call(move || beginning.begin_transaction()).await?;
        self.deliver(records).await?;
        let offset = place.map(|place| place.position.sequence);
        let topic = self.settings.topic.clone();
        let of_group = text.clone();
        self.call(move || {
            if let (Some(text), Some(offset)) = (of_group, offset) {
                let offsets = offsets_of(&topic, offset, &text)?;
                producer.send_offsets_to_transaction(&offsets, &group, timeout)?;
            }
            producer.commit_transaction(timeout)
        })
        .await?;
        if text.is_some() {
            self.known = Known::Left(text);
        }
        Ok(())
    }

    fn overtaken(&self) -> SinkError {
        let text = format!("another sender has written to topic {}", self.settings.topic);
        SinkError { failure: Failure::Overtaken, ..SinkError::transient(text) }
    }
}

/// The group, and its place if it has one.
fn read_place(
    config: &ClientConfig,
    topic: &str,
    timeout: Duration,
) -> KafkaResult<(ConsumerGroupMetadata, Option<String>)> {
    let consumer: BaseConsumer = config.create()?;
    let mut asked = TopicPartitionList::new();
    asked.add_partition(topic, PARTITION);
    let told = consumer.committed_offsets(asked, timeout)?;
    let failed = KafkaError::MetadataFetch(RDKafkaErrorCode::Fail);
    let found = told.find_partition(topic, PARTITION).ok_or_else(|| failed.clone())?;
    found.error()?;
    let place = matches!(found.offset(), Offset::Offset(_)).then(|| found.metadata().to_owned());
    Ok((consumer.group_metadata().ok_or(failed)?, place))
}

/// The sequence stands as the offset, for people who look at the group.
fn offsets_of(topic: &str, sequence: u64, place: &str) -> KafkaResult<TopicPartitionList> {
    let mut offsets = TopicPartitionList::new();
    let offset = Offset::Offset(i64::try_from(sequence).unwrap_or(i64::MAX));
    let mut entry = offsets.add_partition(topic, PARTITION);
    entry.set_offset(offset)?;
    entry.set_metadata(place);
    Ok(offsets)
}

impl TransactionalSink for KafkaSink {
    fn recover(&mut self) -> Recovering<'_> {
        Box::pin(async move {
            // Also if there is a producer: what it has under way must not come any more.
            self.connected = None;
            self.known = Known::Nothing;
            let found = self.begin().await?.flatten();
            let place = found.as_deref().and_then(|text| serde_json::from_str::<Place>(text).ok());
            self.known = Known::Left(found);
            let line = self.transactions().line;
            let place = place.filter(|place| place.line == line);
            Ok(place.map(|Place { position, scanned, .. }| Reached { position, scanned }))
        })
    }

    fn commit<'a>(&'a mut self, batch: &'a [Message], reached: Reached) -> Sending<'a> {
        Box::pin(async move {
            let records: Vec<Record<'_>> = batch.iter().map(Record::of).collect();
            let Reached { position, scanned } = reached;
            let place = Place { line: self.transactions().line, position, scanned };
            self.commit_records(&records, Some(&place)).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Place;
    use crate::position::{LogKey, Position};
    use model::TableId;
    use std::sync::Arc;

    /// What former versions left with the brokers stays readable.
    #[test]
    fn the_json_of_a_place_does_not_change_unnoticed() {
        let key = LogKey { time: [1; 16], table: TableId(2), stream: [3; 16], batch_seq_no: 4 };
        let position = Position { key, sequence: 6 };
        let place = Place { line: 5, position, scanned: None };
        let text = serde_json::to_string(&place).unwrap();
        let expected = format!(
            r#"{{"line":5,"time":"{}","table":"{:032x}","stream":"{}","batch_seq_no":4,"sequence":6}}"#,
            "01".repeat(16),
            2,
            "03".repeat(16)
        );
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Place>(&text).unwrap(), place);
        let place = Place { scanned: Some(Arc::default()), ..place };
        let scanned = r#","scanned":{"to":null,"rows":0,"is_complete":false}}"#;
        let expected = text.replace('}', scanned);
        assert_eq!(serde_json::to_string(&place).unwrap(), expected);
        assert_eq!(serde_json::from_str::<Place>(&expected).unwrap(), place);
    }
}
