//! A Kafka topic, by librdkafka: an idempotent producer of its own for each feed.
//!
//! The producer waits for all in-sync replicas, keeps order with up to five requests in flight,
//! and chooses partitions as Java's client does, so that one key keeps one partition whoever
//! produces. It repeats by itself, without end and without changing the order, whatever may pass:
//! a broker that is away, a leader that moves. So messages stay with it after a call has failed for
//! want of time, and the next call goes on waiting for them; only a failure that stays, or one after
//! which the library cannot keep its promise, ends the producer, and with it what it still held.
//!
//! ```text
//! send: batch ──▶ queue of librdkafka ──▶ partitions, up to 5 requests each ──▶ brokers
//!         ▲                                                                       │
//!         └────────── the acknowledged prefix ◀── Deliveries ◀── reports ◀────────┘
//! ```
//!
//! The library runs threads of its own (one for reports, one for timers, one for each broker), which
//! nobody simulates; calls of it that block are made on `env`'s pool.
//!
//! With [`Transactions`] the feed's position travels with its messages, `transactions`.
//!
//! Not promised: if a broker refuses one message for good (larger than the topic takes, beyond what
//! `max_message_bytes` lets through), later ones of its partition may have arrived before the feed
//! stops. They arrive again after it has been resumed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use env::tasks::Priority;
use env::{Clock, Env, Tasks};
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::metadata::MetadataPartition;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

mod abilities;
mod deliveries;
#[cfg(test)]
mod tests;
mod transactions;

pub use transactions::Transactions;

use super::{Failure, Message, Sending, Sink, SinkError, TransactionalSink};
use deliveries::Deliveries;
use transactions::Known;

/// One call carries so many messages: enough to keep the brokers busy while the next are made.
const MESSAGES_PER_SEND: usize = 10_000;
/// The library's queue holds no more than this, or two of the feed's largest messages.
const QUEUED_KIBIBYTES_MAX: usize = 64 << 10;
/// Room for a message's key and frame beside the value that `max_message_bytes` speaks of.
const MESSAGE_OVERHEAD_BYTES: usize = 16 << 10;
/// A topic that the brokers are asked to create is waited for so long.
const TOPIC_WAIT_MAX: Duration = Duration::from_secs(15);
/// Between two looks for such a topic.
const TOPIC_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long a list of partitions is believed before marks are sent to it.
const PARTITIONS_FRESH_MAX: Duration = Duration::from_secs(30);

/// What a feed's definition says of its topic, checked.
#[derive(Clone)]
pub struct Settings {
    /// Where to ask for the cluster, each `host:port`.
    pub brokers: Vec<String>,
    /// The topic.
    pub topic: String,
    /// How long a call waits without any progress.
    pub timeout: Duration,
    /// The largest message that the feed sends.
    pub max_message_bytes: usize,
    /// Settings of the library, without their prefix `kafka.`; may hold secrets.
    pub passed_on: BTreeMap<String, String>,
    /// If messages and position are to be one step.
    pub transactions: Option<Transactions>,
}

/// What the sink's promises rest on: no feed may change it.
const FIXED: &[(&str, &str)] = &[
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("max.in.flight.requests.per.connection", "5"),
    ("partitioner", "murmur2_random"),
    // Without end: a message that the library gave up would be overtaken by the next ones.
    ("message.timeout.ms", "0"),
];

/// What a feed may change: batches are cut by the feed, so the library need not wait for more.
const DEFAULTS: &[(&str, &str)] = &[
    ("client.id", "tethys"),
    ("linger.ms", "0"),
    ("socket.nagle.disable", "true"),
    ("reconnect.backoff.ms", "50"),
    ("reconnect.backoff.max.ms", "1000"),
];

impl Settings {
    /// Looks whether the library takes the settings, without connecting to anything.
    pub fn check(&self) -> Result<(), SinkError> {
        let config = self.config()?;
        config.create_native_config().map(drop).map_err(|error| refused_setting(&error))
    }

    /// The library's settings, or which of the feed's it does not take.
    fn config(&self) -> Result<ClientConfig, SinkError> {
        abilities::check(&self.passed_on)?;
        let mut config = ClientConfig::new();
        // Two of the largest messages must fit, or the first would wait for room without end.
        let queued_kibibytes = QUEUED_KIBIBYTES_MAX.max(self.max_message_bytes >> 9);
        let pairs = DEFAULTS.iter().map(|(name, value)| (*name, (*value).to_owned()));
        for (name, value) in pairs.chain([
            ("bootstrap.servers", self.brokers.join(",")),
            ("message.max.bytes", (self.max_message_bytes + MESSAGE_OVERHEAD_BYTES).to_string()),
            ("queue.buffering.max.messages", (2 * MESSAGES_PER_SEND).to_string()),
            ("queue.buffering.max.kbytes", queued_kibibytes.to_string()),
        ]) {
            config.set(name, value);
        }
        for (name, value) in &self.passed_on {
            if FIXED.iter().any(|(fixed, _)| fixed == name) || name == "bootstrap.servers" {
                return Err(SinkError::permanent(format!("kafka.{name} is set by the server")));
            }
            config.set(name, value);
        }
        for (name, value) in FIXED {
            config.set(*name, *value);
        }
        if let Some(Transactions { id, .. }) = &self.transactions {
            config.set("transactional.id", id);
        }
        Ok(config)
    }
}

/// The library's callbacks.
struct Reports(Arc<Deliveries>);

impl ClientContext for Reports {
    fn error(&self, error: KafkaError, reason: &str) {
        // The reason names hosts and what is wrong with them, and never a password.
        let code = error.rdkafka_error_code();
        let name = code.map_or(String::new(), |code| format!("{code}: "));
        self.0.complain(code, format!("{name}{reason}"));
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let outcome = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        };
        self.0.report(number, outcome);
    }
}

/// A producer and what became of its messages.
struct Connected {
    /// Taken only when this is dropped.
    producer: Option<Arc<ThreadedProducer<Reports>>>,
    deliveries: Arc<Deliveries>,
    /// Transactions may begin, and the positions are those of this group.
    group: Option<Arc<ConsumerGroupMetadata>>,
    tasks: Tasks,
}

impl Connected {
    fn new(config: &ClientConfig, tasks: Tasks) -> Result<Connected, SinkError> {
        let deliveries = Arc::new(Deliveries::default());
        let reports = Reports(Arc::clone(&deliveries));
        let producer = ThreadedProducer::from_config_and_context(config, reports);
        let producer = producer.map_err(|error| refused_setting(&error))?;
        Ok(Connected { producer: Some(Arc::new(producer)), deliveries, group: None, tasks })
    }

    fn producer(&self) -> &Arc<ThreadedProducer<Reports>> {
        self.producer.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Connected {
    /// Ends the producer and forgets what it still held. That waits for its threads, so it is done
    /// elsewhere.
    fn drop(&mut self) {
        let producer = self.producer.take();
        let ending = move || async move { drop(producer) };
        // Without a thread for it the closure is dropped right here, which does the same, slowly.
        self.tasks.spawn_worker("kafka-close", Priority::Background, ending).ok();
    }
}

/// A producer that could not be made: its settings, or no threads. Values are not repeated.
fn refused_setting(error: &KafkaError) -> SinkError {
    match error {
        KafkaError::ClientConfig(_, reason, name, value) => {
            let repeats = !value.is_empty() && reason.contains(value.as_str());
            let reason = if repeats { "its value is not valid" } else { reason };
            SinkError::permanent(format!("kafka.{name} is not taken by the client: {reason}"))
        }
        other => SinkError::permanent(format!("the Kafka client cannot be made: {other}")),
    }
}

/// The partitions of the topic, as they were when they were asked for.
struct Partitions {
    ids: Vec<i32>,
    asked_nanos: u64,
}

/// A topic.
pub struct KafkaSink {
    settings: Settings,
    clock: Clock,
    tasks: Tasks,
    connected: Option<Connected>,
    partitions: Option<Partitions>,
    /// What is known of the position at the brokers.
    known: Known,
}

impl KafkaSink {
    /// Connects to nothing yet.
    pub fn new(env: &Env, settings: Settings) -> KafkaSink {
        KafkaSink {
            settings,
            clock: env.clock.clone(),
            tasks: env.tasks,
            connected: None,
            partitions: None,
            known: Known::Nothing,
        }
    }

    fn connect(&mut self) -> Result<&Connected, SinkError> {
        if self.connected.is_none() {
            self.connected = Some(Connected::new(&self.settings.config()?, self.tasks)?);
        }
        Ok(self.connected.as_ref().expect("it was just made"))
    }

    /// Asks for the topic's partitions; waits a while for a topic that is being created.
    async fn find_partitions(&mut self) -> Result<Vec<i32>, SinkError> {
        let began = self.clock.monotonic_nanos();
        let topic = self.settings.topic.clone();
        let timeout = self.settings.timeout;
        loop {
            let producer = Arc::clone(self.connect()?.producer());
            let asked = topic.clone();
            let found = self.tasks.run_blocking(move || partitions_of(&producer, &asked, timeout));
            let error = match found.await {
                Ok(ids) => {
                    let asked_nanos = self.clock.monotonic_nanos();
                    self.partitions = Some(Partitions { ids: ids.clone(), asked_nanos });
                    self.connect()?.deliveries.forget_complaint();
                    return Ok(ids);
                }
                Err(KafkaError::MetadataFetch(code)) => code,
                Err(_) => RDKafkaErrorCode::Fail,
            };
            let waited = self.clock.monotonic_nanos() - began;
            if !is_being_created(error) || u128::from(waited) >= TOPIC_WAIT_MAX.as_nanos() {
                return Err(self.failure(error, 0));
            }
            self.clock.sleep(TOPIC_POLL_INTERVAL).await;
        }
    }

    /// Says what a failure is. `acknowledged` messages went through before it.
    fn failure(&self, code: RDKafkaErrorCode, acknowledged: usize) -> SinkError {
        let topic = &self.settings.topic;
        let failure = judge(code);
        let text = match code {
            code if is_being_created(code) => {
                format!("topic {topic} does not exist, and the brokers do not create it")
            }
            RDKafkaErrorCode::OffsetMetadataTooLarge => format!(
                "topic {topic}: how far the scan has come takes more than brokers keep of it \
                 (offset.metadata.max.bytes), since the table has keys that are so long"
            ),
            RDKafkaErrorCode::Fail
            | RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::AllBrokersDown => {
                return SinkError { acknowledged, ..self.out_of_reach() };
            }
            code => format!("topic {topic}: {code}"),
        };
        SinkError { failure, text, acknowledged, retry_after: None, suspects: 0 }
    }

    fn out_of_reach(&self) -> SinkError {
        let brokers = self.settings.brokers.join(",");
        let complaint = self.connected.as_ref().and_then(|it| it.deliveries.complaint());
        let reason = complaint.unwrap_or_else(|| {
            format!("nothing was acknowledged within {} ms", self.settings.timeout.as_millis())
        });
        SinkError::transient(format!("Kafka at {brokers}: {reason}"))
    }

    /// Hands messages to the library until they are all acknowledged. Those it has already are the
    /// first of them.
    async fn deliver(&mut self, records: &[Record<'_>]) -> Result<(), SinkError> {
        let timeout = self.settings.timeout;
        let topic = self.settings.topic.clone();
        let clock = self.clock.clone();
        let connected = self.connect()?;
        let producer = Arc::clone(connected.producer());
        let deliveries = Arc::clone(&connected.deliveries);
        let mut acknowledged = 0;
        let mut given = deliveries.count();
        assert!(given <= records.len(), "a call that is repeated has the same messages");
        let mut reported = usize::MAX;
        let mut deadline = 0;
        loop {
            let refused = enqueue(&producer, &deliveries, &topic, &records[given..], &mut given);
            let front = deliveries.take_front();
            acknowledged += front.acknowledged;
            if acknowledged == records.len() {
                return Ok(());
            }
            // A message that was refused at once counts when those before it are settled.
            let is_first = acknowledged + deliveries.count() == given && deliveries.count() == 0;
            if let Some(code) = front.failed.or(refused.filter(|_| is_first)) {
                // Once nothing more can be sent, messages fail for that alone.
                let fatal = producer.client().fatal_error().map(|(code, _)| code);
                let code = fatal.unwrap_or(code);
                let mut error = self.failure(code, acknowledged);
                if is_of_messages(code) {
                    // The library knows what it refuses; brokers refuse several at once for one.
                    let by_broker = front.failed.is_some();
                    error.suspects = if by_broker { records.len() - acknowledged } else { 1 };
                }
                self.connected = None;
                return Err(error);
            }
            if front.reported != reported {
                reported = front.reported;
                deadline = clock.monotonic_nanos() + timeout.as_nanos() as u64;
            } else if clock.monotonic_nanos() >= deadline {
                return Err(SinkError { acknowledged, ..self.out_of_reach() });
            }
            tokio::select! {
                biased;
                () = deliveries.settled(given < records.len()) => {}
                () = clock.sleep_until(deadline) => {}
            }
        }
    }
}

/// What the library is given.
struct Record<'a> {
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    partition: Option<i32>,
}

impl<'a> Record<'a> {
    fn of(message: &'a Message) -> Record<'a> {
        Record { key: Some(&message.key), value: message.value.as_deref(), partition: None }
    }
}

/// Gives the library as many records as it takes, and says why it did not take the next: nothing
/// if all were taken, or if its queue is full.
fn enqueue(
    producer: &ThreadedProducer<Reports>,
    deliveries: &Deliveries,
    topic: &str,
    records: &[Record<'_>],
    given: &mut usize,
) -> Option<RDKafkaErrorCode> {
    for record in records {
        let number = deliveries.begin();
        let mut sent: BaseRecord<'_, [u8], [u8], usize> = BaseRecord::with_opaque_to(topic, number);
        sent.key = record.key;
        sent.payload = record.value;
        sent.partition = record.partition;
        if let Err((error, _)) = producer.send(sent) {
            deliveries.take_back();
            return match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) => None,
                Some(code) => Some(code),
                None => Some(RDKafkaErrorCode::Fail),
            };
        }
        *given += 1;
    }
    None
}

/// Blocks until the brokers have said what partitions a topic has.
fn partitions_of(
    producer: &ThreadedProducer<Reports>,
    topic: &str,
    timeout: Duration,
) -> Result<Vec<i32>, KafkaError> {
    let metadata = producer.client().fetch_metadata(Some(topic), timeout)?;
    let unknown = KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Err(unknown);
    };
    if let Some(error) = found.error() {
        return Err(KafkaError::MetadataFetch(error.into()));
    }
    let ids: Vec<i32> = found.partitions().iter().map(MetadataPartition::id).collect();
    if ids.is_empty() { Err(unknown) } else { Ok(ids) }
}

/// What brokers say of a topic that is not there, or not yet.
fn is_being_created(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{LeaderNotAvailable, UnknownTopic, UnknownTopicOrPartition};
    matches!(code, UnknownTopic | UnknownTopicOrPartition | LeaderNotAvailable)
}

fn judge(code: RDKafkaErrorCode) -> Failure {
    use RDKafkaErrorCode as Code;
    match code {
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => Failure::TooLarge,
        Code::UnknownTopic
        | Code::UnknownTopicOrPartition
        | Code::InvalidTopic
        | Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::InvalidRequiredAcks
        | Code::UnsupportedForMessageFormat
        | Code::InvalidRecord
        | Code::PolicyViolation
        | Code::OffsetMetadataTooLarge
        | Code::GroupAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => Failure::Permanent,
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => Failure::Overtaken,
        // Also what ends a producer for good: the next one may do better.
        _ => Failure::Transient,
    }
}

/// Whether a message may be why, and no other would have failed so.
fn is_of_messages(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{InvalidRecord, MessageBatchTooLarge, MessageSizeTooLarge};
    matches!(code, InvalidRecord | MessageBatchTooLarge | MessageSizeTooLarge)
}

impl Sink for KafkaSink {
    /// Finds the topic, which the brokers may create.
    fn open(&mut self) -> Sending<'_> {
        Box::pin(async move { self.find_partitions().await.map(drop) })
    }

    /// Consumers do not see how messages came.
    fn messages_per_send_max(&self, batch_size: usize) -> usize {
        batch_size.max(MESSAGES_PER_SEND)
    }

    fn send<'a>(&'a mut self, batch: &'a [Message]) -> Sending<'a> {
        Box::pin(async move {
            let records: Vec<Record<'_>> = batch.iter().map(Record::of).collect();
            self.deliver(&records).await
        })
    }

    fn transactional(&mut self) -> Option<&mut dyn TransactionalSink> {
        if self.settings.transactions.is_some() { Some(self) } else { None }
    }

    fn mark<'a>(&'a mut self, text: &'a Bytes) -> Sending<'a> {
        Box::pin(async move {
            let now = self.clock.monotonic_nanos();
            let is_fresh = |found: &&Partitions| {
                u128::from(now - found.asked_nanos) < PARTITIONS_FRESH_MAX.as_nanos()
            };
            let ids = match self.partitions.as_ref().filter(is_fresh) {
                Some(found) => found.ids.clone(),
                None => self.find_partitions().await?,
            };
            let record = |id: &i32| Record { key: None, value: Some(text), partition: Some(*id) };
            let records: Vec<Record<'_>> = ids.iter().map(record).collect();
            let sent = match self.settings.transactions {
                Some(_) => self.commit_records(&records, None).await,
                None => self.deliver(&records).await,
            };
            if sent.is_err() {
                // A mark that is repeated is a newer one: it has nothing in common with this.
                self.connected = None;
            }
            sent.map_err(|error| SinkError {
                acknowledged: 0,
                suspects: error.suspects.min(1),
                ..error
            })
        })
    }
}
