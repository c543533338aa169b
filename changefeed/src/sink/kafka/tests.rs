//! The sink against the client library's cluster in memory: order, retries and refusals. What that
//! one gets wrong (fencing, `read_committed`) is tested against a real broker.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use env::Env;
use rdkafka::Message as _;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};

use super::{KafkaSink, Settings};
use crate::sink::{Failure, Message, Sink};

const TOPIC: &str = "orders";
/// Beyond any pause of a busy machine.
const LONG: Duration = Duration::from_mins(1);

type Mock = MockCluster<'static, DefaultProducerContext>;

fn run<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("one").block_on(test)
}

fn cluster() -> Mock {
    let cluster = MockCluster::new(1).expect("a cluster in memory");
    cluster.create_topic(TOPIC, 3, 1).expect("a topic");
    cluster
}

fn settings(cluster: &Mock) -> Settings {
    Settings {
        brokers: vec![cluster.bootstrap_servers()],
        topic: TOPIC.to_owned(),
        timeout: LONG,
        max_message_bytes: 100_000,
        passed_on: BTreeMap::new(),
        transactions: None,
    }
}

fn sink(settings: Settings) -> KafkaSink {
    KafkaSink::new(&Env::real(), settings)
}

/// Messages of nine keys in turn, numbered.
fn messages(range: std::ops::Range<usize>) -> Vec<Message> {
    let message = |number: usize| Message {
        key: Bytes::from(format!("orders:{{\"id\":{}}}", number % 9)),
        value: Some(Bytes::from(number.to_string())),
    };
    range.map(message).collect()
}

/// Sends until all is acknowledged, as a pump does.
async fn insist(sink: &mut KafkaSink, mut batch: &[Message]) {
    while let Err(error) = sink.send(batch).await {
        assert_eq!(error.failure, Failure::Transient, "{error}");
        batch = &batch[error.acknowledged..];
    }
}

/// The values of each partition, in order, until there are `count` in all and none follows soon.
fn read(cluster: &Mock, count: usize) -> Vec<Vec<(String, String)>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "test")
        .create()
        .expect("a consumer");
    let mut partitions = TopicPartitionList::new();
    for id in 0..3 {
        partitions.add_partition_offset(TOPIC, id, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&partitions).expect("an assignment");
    let mut found = vec![Vec::new(); 3];
    let mut seen = 0;
    loop {
        let patience = if seen < count { LONG } else { Duration::from_millis(300) };
        let Some(message) = consumer.poll(patience) else { return found };
        let message = message.expect("a message");
        let text = |bytes: Option<&[u8]>| {
            String::from_utf8(bytes.unwrap_or(b"null").to_vec()).expect("UTF-8")
        };
        found[message.partition() as usize].push((text(message.key()), text(message.payload())));
        seen += 1;
    }
}

/// Every number once, and each partition's in rising order.
fn assert_in_order(cluster: &Mock, count: usize) {
    let found = read(cluster, count);
    let mut all = Vec::new();
    for partition in &found {
        let numbers: Vec<usize> =
            partition.iter().map(|(_, value)| value.parse().expect("a number")).collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
        all.extend(numbers);
    }
    all.sort_unstable();
    assert_eq!(all, (0..count).collect::<Vec<_>>());
}

#[test]
fn keys_choose_partitions_as_in_java_and_keep_order() {
    run(async {
        let cluster = cluster();
        let mut sink = sink(settings(&cluster));
        sink.open().await.expect("a topic");
        // Hashes that Kafka's own tests of its murmur2 expect.
        let hashes = [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        let batch: Vec<Message> = hashes
            .iter()
            .map(|(key, _)| Message { key: Bytes::from_static(key.as_bytes()), value: None })
            .collect();
        sink.send(&batch).await.expect("a success");
        sink.mark(&Bytes::from_static(b"{\"resolved\":1}")).await.expect("a success");
        for (id, partition) in read(&cluster, 9).iter().enumerate() {
            let belongs = |hash: i32| (hash & 0x7fff_ffff) as usize % 3 == id;
            let mut expected: Vec<_> = hashes
                .iter()
                .filter(|(_, hash)| belongs(*hash))
                .map(|(key, _)| ((*key).to_owned(), "null".to_owned()))
                .collect();
            expected.push(("null".to_owned(), "{\"resolved\":1}".to_owned()));
            assert_eq!(*partition, expected, "partition {id}");
        }
    });
}

#[test]
fn more_than_the_queue_of_the_library_holds_goes_through() {
    run(async {
        let cluster = cluster();
        let mut settings = settings(&cluster);
        settings.passed_on.insert("queue.buffering.max.messages".into(), "50".into());
        let mut sink = sink(settings);
        sink.send(&messages(0..2_000)).await.expect("a success");
        assert_in_order(&cluster, 2_000);
    });
}

#[test]
fn brokers_that_stumble_are_asked_again_without_a_trace() {
    run(async {
        let cluster = cluster();
        let mut sink = sink(settings(&cluster));
        sink.send(&messages(0..10)).await.expect("a success");
        let stumbles = [
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
        ];
        cluster.request_errors(RDKafkaApiKey::Produce, &stumbles);
        // The library may make several requests of one call, and these brokers, unlike real ones,
        // take what comes behind a request that they refused: so one message a call.
        for message in messages(10..100) {
            sink.send(&[message]).await.expect("a success");
        }
        assert_in_order(&cluster, 100);
    });
}

#[test]
fn a_broker_that_is_away_is_a_failure_that_passes_and_messages_stay_in_order() {
    run(async {
        let cluster = cluster();
        let mut sink = sink(Settings { timeout: Duration::from_millis(300), ..settings(&cluster) });
        insist(&mut sink, &messages(0..20)).await;
        cluster.broker_down(1).expect("a broker");
        let batch = messages(20..40);
        let mut acknowledged = 0;
        for _ in 0..2 {
            let error = sink.send(&batch[acknowledged..]).await.expect_err("nobody is there");
            assert_eq!(error.failure, Failure::Transient);
            assert!(error.text.starts_with("Kafka at 127.0.0.1:"), "{}", error.text);
            acknowledged += error.acknowledged;
        }
        cluster.broker_up(1).expect("a broker");
        insist(&mut sink, &batch[acknowledged..]).await;
        insist(&mut sink, &messages(40..60)).await;
        assert_in_order(&cluster, 60);
    });
}

#[test]
fn a_message_that_is_too_large_is_told_from_the_rest() {
    run(async {
        let cluster = cluster();
        let mut sink = sink(settings(&cluster));
        let mut batch = messages(0..10);
        batch[6].value = Some(Bytes::from(vec![b'x'; 200_000]));
        let error = sink.send(&batch).await.expect_err("too large");
        assert_eq!((error.failure, error.acknowledged), (Failure::TooLarge, 6));
        sink.send(&messages(6..20)).await.expect("a success");
        assert_in_order(&cluster, 20);
    });
}

#[test]
fn a_refusal_stays_until_somebody_acts() {
    run(async {
        let cluster = cluster();
        let mut sink = sink(settings(&cluster));
        sink.send(&messages(0..5)).await.expect("a success");
        let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
        cluster.request_errors(RDKafkaApiKey::Produce, &[refusal; 3]);
        let error = sink.send(&messages(5..6)).await.expect_err("a refusal");
        assert_eq!((error.failure, error.acknowledged), (Failure::Permanent, 0));
        assert!(error.text.starts_with("topic orders: "), "{}", error.text);
        cluster.clear_request_errors(RDKafkaApiKey::Produce);
        sink.send(&messages(5..10)).await.expect("a success");
        assert_in_order(&cluster, 10);
    });
}

#[test]
fn a_topic_that_is_not_there_is_named() {
    run(async {
        let cluster = cluster();
        let unknown = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
        cluster.topic_error("missing", unknown).expect("an error");
        let mut sink = sink(Settings { topic: "missing".to_owned(), ..settings(&cluster) });
        let error = sink.open().await.expect_err("no topic");
        assert_eq!(error.failure, Failure::Permanent);
        assert_eq!(error.text, "topic missing does not exist, and the brokers do not create it");
    });
}

#[test]
fn nobody_there_is_a_failure_that_passes() {
    run(async {
        let cluster = cluster();
        let mut sink = sink(Settings {
            brokers: vec!["127.0.0.1:1".to_owned()],
            timeout: Duration::from_millis(300),
            ..settings(&cluster)
        });
        let error = sink.open().await.expect_err("nobody");
        assert_eq!(error.failure, Failure::Transient);
        assert!(error.text.starts_with("Kafka at 127.0.0.1:1: "), "{}", error.text);
    });
}

#[test]
fn settings_are_passed_on_or_refused() {
    run(async {
        let cluster = cluster();
        let refusal = async |name: &str, value: &str| {
            let mut settings = settings(&cluster);
            settings.passed_on.insert(name.to_owned(), value.to_owned());
            let checked = settings.check().expect_err(name);
            let error = sink(settings).open().await.expect_err(name);
            assert_eq!((error.failure, &error), (Failure::Permanent, &checked));
            error.text
        };
        assert_eq!(refusal("acks", "0").await, "kafka.acks is set by the server");
        assert_eq!(
            refusal("bootstrap.servers", "x:1").await,
            "kafka.bootstrap.servers is set by the server"
        );
        let unknown = refusal("sasl.pasword", "hidden").await;
        assert!(unknown.starts_with("kafka.sasl.pasword is not taken by the client"), "{unknown}");
        assert!(!unknown.contains("hidden"), "{unknown}");

        let invalid = refusal("compression.type", "hidden").await;
        let name = "kafka.compression.type";
        assert_eq!(invalid, format!("{name} is not taken by the client: its value is not valid"));

        let mut settings = settings(&cluster);
        settings.passed_on.insert("compression.type".into(), "lz4".into());
        assert_eq!(settings.check(), Ok(()));
        let mut sink = sink(settings);
        sink.send(&messages(0..100)).await.expect("a success");
        assert_in_order(&cluster, 100);
    });
}
