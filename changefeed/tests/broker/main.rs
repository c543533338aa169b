//! Feeds into a real Apache Kafka broker with three partitions, read back by Kafka's own consumer.

#![expect(clippy::disallowed_methods, reason = "tests start processes and wait for them")]

mod exactly_once;
mod kafka;
#[cfg(feature = "kafka-tls")]
mod secured;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use cdc::time_uuid::log_time_uuid;
use changefeed::Position;
use changefeed::memory::FeedMemory;
use changefeed::pump::{Backoff, End, Host, MarkOf, Pace, Pump, Render, Status, Stop};
use changefeed::scan::Scanning;
use changefeed::sink::kafka::{KafkaSink, Settings};
use changefeed::sink::{Failure, Message, Sink};
use changefeed::source::{LogRow, MemoryLog, MemorySource};
use env::Env;
use kafka::{Broker, Record};

/// A broker; `None` after a visible `skipped: …`.
fn started() -> Option<Broker> {
    Broker::start(Path::new(env!("CARGO_TARGET_TMPDIR")))
}

/// What ends a partition for the reader.
const LAST: &str = "the last one";

fn settings(broker: &Broker, topic: &str) -> Settings {
    Settings {
        brokers: vec![broker.address()],
        topic: topic.to_owned(),
        timeout: Duration::from_secs(1),
        max_message_bytes: 1_000_000,
        passed_on: BTreeMap::new(),
        transactions: None,
    }
}

fn message(key: &str, value: Option<&str>) -> Message {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Message { key: bytes(key), value: value.map(bytes) }
}

fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    tokio::task::LocalSet::new().block_on(&runtime.expect("a runtime"), test)
}

/// Calls again while the failure is one that passes, as a pump does.
async fn insist(sink: &mut KafkaSink, mut batch: &[Message]) {
    while let Err(error) = sink.send(batch).await {
        assert_eq!(error.failure, Failure::Transient, "{error}");
        batch = &batch[error.acknowledged..];
    }
}

async fn insist_on_mark(sink: &mut KafkaSink, text: &str) {
    let text = Bytes::copy_from_slice(text.as_bytes());
    while let Err(error) = sink.mark(&text).await {
        assert_eq!(error.failure, Failure::Transient, "{error}");
    }
}

#[test]
fn messages_tombstones_and_marks_arrive_and_refusals_are_told() {
    let Some(mut broker) = started() else { return };
    run(async {
        let env = Env::real();
        let mut settings = settings(&broker, "orders");
        settings.passed_on.insert("compression.type".to_owned(), "lz4".to_owned());
        let mut sink = KafkaSink::new(&env, settings.clone());
        // The broker creates the topic.
        while let Err(error) = sink.open().await {
            assert_eq!(error.failure, Failure::Transient, "{error}");
        }
        let key = "shop.orders:{\"id\":1001}";
        let batch = [
            message(key, Some("{\"sequence\":1}")),
            message(key, Some("{\"sequence\":2}")),
            message(key, None),
        ];
        insist(&mut sink, &batch).await;
        insist_on_mark(&mut sink, "{\"resolved\":2}").await;

        // Larger than the topic takes, though the feed would let it pass.
        settings.max_message_bytes = 8 << 20;
        settings.passed_on.clear();
        let mut careless = KafkaSink::new(&env, settings.clone());
        let large = "x".repeat(3 << 20);
        let error = loop {
            let error = careless.send(&[message(key, Some(&large))]).await.expect_err("too large");
            if error.failure != Failure::Transient {
                break error;
            }
        };
        assert_eq!((error.failure, error.acknowledged), (Failure::TooLarge, 0));

        insist_on_mark(&mut sink, LAST).await;
        let records = broker.read("orders", LAST);
        let of_key: Vec<&Record> = records.iter().filter(|record| record.key == key).collect();
        let values: Vec<&str> = of_key.iter().map(|record| record.value.as_str()).collect();
        assert_eq!(values, ["{\"sequence\":1}", "{\"sequence\":2}", "null"]);
        assert!(of_key.iter().all(|record| record.partition == of_key[0].partition));
        let marks: BTreeSet<usize> = records
            .iter()
            .filter(|record| record.value == "{\"resolved\":2}" && record.key == "null")
            .map(|record| record.partition)
            .collect();
        assert_eq!(marks, BTreeSet::from([0, 1, 2]));

        broker.stop();
        broker.configure("auto.create.topics.enable=false");
        broker.start_again();
        let mut lost = KafkaSink::new(&env, Settings { topic: "missing".into(), ..settings });
        let error = loop {
            let error = lost.open().await.expect_err("there is no such topic");
            if error.failure != Failure::Transient {
                break error;
            }
        };
        assert_eq!(error.text, "topic missing does not exist, and the brokers do not create it");
    });
}

#[test]
fn a_password_is_passed_on_and_a_wrong_one_is_told() {
    let Some(mut broker) = started() else { return };
    let address = broker.ask_for_password("feed", "open-sesame");
    let settings_with = |password: &str| {
        let mut settings = settings(&broker, "guarded");
        settings.brokers = vec![address.clone()];
        for (name, value) in [
            ("security.protocol", "SASL_PLAINTEXT"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", "feed"),
            ("sasl.password", password),
        ] {
            settings.passed_on.insert(name.to_owned(), value.to_owned());
        }
        settings
    };
    run(async {
        let env = Env::real();
        let mut sink = KafkaSink::new(&env, settings_with("open-barley"));
        // The first failure may be one of the connection.
        let told = loop {
            let error = sink.open().await.expect_err("the password is wrong");
            assert!(!error.text.contains("barley"), "{error}");
            if error.text.to_lowercase().contains("authentication") {
                break error;
            }
        };
        assert_eq!(told.failure, Failure::Transient, "somebody may mend it at the broker");
        let mut sink = KafkaSink::new(&env, settings_with("open-sesame"));
        insist(&mut sink, &[message("k", Some("in"))]).await;
        insist_on_mark(&mut sink, LAST).await;
    });
    let records = broker.read("guarded", LAST);
    assert_eq!(records.iter().map(|record| record.value.as_str()).collect::<Vec<_>>(), ["in"]);
}

/// One message a row, with the row's time as its value.
struct TimeRender;

impl Render for TimeRender {
    fn render(
        &mut self,
        group: &[LogRow],
        _: Option<&mut Scanning>,
        out: &mut Vec<Message>,
    ) -> Result<Option<Position>, String> {
        for row in group {
            let value = row.key.micros().to_string();
            out.push(message(&format!("k{}", row.key.stream[0]), Some(&value)));
        }
        let key = group.last().expect("a group has rows").key;
        Ok(Some(Position { key, sequence: key.micros() as u64 }))
    }

    fn render_scanned(&mut self, _: &LogRow, _: i64, _: &mut Vec<Message>) -> Result<(), String> {
        Err("this feed scans nothing".to_owned())
    }

    fn resolved(&self, closed: i64) -> u64 {
        closed as u64
    }

    fn marker(&self) -> MarkOf {
        Box::new(|_| Bytes::new())
    }
}

/// Remembers how the feed stands.
#[derive(Clone, Default)]
struct Notes(Rc<RefCell<Status>>);

impl Host for Notes {
    fn may_send(&self) -> bool {
        true
    }

    fn report(&self, status: &Status) {
        *self.0.borrow_mut() = status.clone();
    }
}

/// A change of one of ten keys, the only one of its group.
fn row(micros: i64) -> LogRow {
    let mut bytes = log_time_uuid(micros, 1).to_vec();
    bytes.extend_from_slice(&[0; 16]);
    bytes.extend_from_slice(&[(micros % 10) as u8; 16]);
    bytes.extend_from_slice(&[0, 0, 0, 0, 1, 1, 0, 0]);
    LogRow::decode_all(&Bytes::from(bytes)).expect("a row").remove(0)
}

fn pump(
    env: &Env,
    broker: &Broker,
    log: &MemoryLog,
    notes: &Notes,
    stop: &Stop,
) -> Pump<MemorySource, TimeRender, Notes> {
    let pace = Pace {
        batch_size: 10,
        flush_interval: Duration::from_millis(5),
        mark_interval: None,
        retry_max: None,
        skips_too_large: false,
        skips_refused: false,
    };
    Pump {
        source: log.open(0, 50),
        scan: None,
        render: TimeRender,
        sink: Box::new(KafkaSink::new(env, settings(broker, "changes"))),
        host: notes.clone(),
        pace,
        stop: stop.clone(),
        clock: env.clock.clone(),
        backoff: Backoff::new(env.entropy.generator("backoff")),
        memory: FeedMemory::ample(),
    }
}

#[test]
fn nothing_is_lost_or_out_of_order_when_the_broker_is_restarted_and_killed() {
    let Some(mut broker) = started() else { return };
    let count = run(async {
        let env = Env::real();
        let log = MemoryLog::default();
        let (notes, stop) = (Notes::default(), Stop::default());
        let pump = pump(&env, &broker, &log, &notes, &stop);
        let pump = tokio::task::spawn_local(pump.run());
        let mut micros = 0;
        let mut change = async |count: i64| {
            for _ in 0..count {
                micros += 1;
                log.append(row(micros));
                log.close(micros);
                env.clock.sleep(Duration::from_millis(1)).await;
            }
            micros
        };
        let delivered = || notes.0.borrow().resolved.map_or(0, |resolved| resolved.closed);
        let reach = async |micros: i64| {
            while delivered() < micros {
                assert!(!pump.is_finished(), "the feed has ended");
                env.clock.sleep(Duration::from_millis(20)).await;
            }
        };
        let so_far = change(300).await;
        reach(so_far).await;
        broker.stop();
        change(300).await;
        // The feed notices, and says so.
        while notes.0.borrow().last_error.is_none() {
            env.clock.sleep(Duration::from_millis(20)).await;
        }
        broker.start_again();
        let so_far = change(300).await;
        reach(so_far).await;
        change(200).await;
        broker.kill();
        change(200).await;
        broker.start_again();
        let so_far = change(300).await;
        reach(so_far).await;
        assert_eq!(notes.0.borrow().last_error, None);
        stop.request();
        assert_eq!(pump.await.expect("no panic"), End::Stopped);
        let mut sink = KafkaSink::new(&env, settings(&broker, "changes"));
        insist_on_mark(&mut sink, LAST).await;
        so_far
    });
    let mut newest: BTreeMap<String, i64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for record in broker.read("changes", LAST) {
        let micros: i64 = record.value.parse().expect("a time");
        if seen.insert(micros) {
            let former = newest.insert(record.key.clone(), micros).unwrap_or(0);
            assert!(former < micros, "{}: {micros} after {former}", record.key);
        }
    }
    assert!(seen.into_iter().eq(1..=count), "every change arrives");
}
