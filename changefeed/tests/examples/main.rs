//! The programs of docs/examples, as a reader of docs/changefeeds.md runs them: consumers in Python
//! that get events from the sinks, repeats included, and what the recipes make of them.

#![expect(clippy::disallowed_methods, reason = "tests start processes and wait for them")]

#[path = "../broker/kafka/mod.rs"]
mod kafka;
mod python;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use changefeed::sink::kafka::{KafkaSink, Settings as KafkaSettings};
use changefeed::sink::webhook::{
    AddressPolicy, Settings, SigningKey, Target, Tls, WebhookSink, headers,
};
use changefeed::sink::{Failure, Message, Sink};
use env::Env;
use python::{Example, Python};

const SECRET: &str = "whsec_c2VjcmV0IG9mIHRoZSBmZWVk";
/// Beyond any pause of a busy machine.
const LONG: Duration = Duration::from_mins(1);

/// Customer, status, total.
type Order = (&'static str, &'static str, &'static str);

/// What happened to the orders 1 to 3.
const CHANGES: &[(&str, u32, Option<Order>)] = &[
    ("INSERT", 1, Some(("Ada", "new", "12.50"))),
    ("INSERT", 2, Some(("Bob", "new", "7"))),
    ("UPDATE", 1, Some(("Ada", "shipped", "12.50"))),
    ("INSERT", 3, Some(("Ada", "new", "99.99"))),
    ("DELETE", 2, None),
    ("UPDATE", 3, Some(("Ada", "shipped", "99.99"))),
];
const EVENT_COUNT: usize = CHANGES.len();

/// Each recipe, and what it makes of these changes.
const RESULTS: &[(&str, &str)] = &[
    ("search", r#"{"shipped":[{"id":1},{"id":3}],"Ada":[{"id":1},{"id":3}]}"#),
    ("cache", r#"{"cached":[],"dropped":0}"#),
    (
        "warehouse",
        r#"[[1,"Ada","shipped","12.5",0],[2,null,null,null,1],[3,"Ada","shipped","99.99",0]]"#,
    ),
    (
        "audit",
        r#"[["INSERT",{"id":1}],["INSERT",{"id":2}],["UPDATE",{"id":1}],["INSERT",{"id":3}],["DELETE",{"id":2}],["UPDATE",{"id":3}]]"#,
    ),
];

fn messages() -> Vec<Message> {
    let message = |(index, (operation, id, row)): (usize, &(&str, u32, Option<Order>))| {
        let row = row.map_or("null".to_owned(), |(customer, status, total)| {
            format!(r#"{{"id":{id},"customer":"{customer}","status":"{status}","total":{total}}}"#)
        });
        let event = format!(
            r#"{{"sequence":{},"timestamp":"2026-11-21T10:00:00.00000{index}Z","table":"orders","operation":"{operation}","key":{{"id":{id}}},"new_row":{row},"old_row":null}}"#,
            890_000_000_000_000_u64 + index as u64,
        );
        Message {
            key: Bytes::from(format!(r#"orders:{{"id":{id}}}"#)),
            value: Some(Bytes::from(event)),
        }
    };
    CHANGES.iter().enumerate().map(message).collect()
}

/// Events as a feed delivers them that had a failure: some come twice, the last ones again.
fn with_repeats() -> Vec<Message> {
    let all = messages();
    all[..3].iter().chain(&all[1..5]).chain(&all[3..]).cloned().collect()
}

fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(test)
}

async fn insist(sink: &mut dyn Sink, mut batch: &[Message]) {
    while let Err(error) = sink.send(batch).await {
        assert_eq!(error.failure, Failure::Transient, "{error}");
        batch = &batch[error.acknowledged..];
    }
}

fn webhook(receiver: &Example, secret: &str) -> WebhookSink {
    let env = Env::real();
    let policy = AddressPolicy { allow_http: true, allow_private: true };
    let tls = Tls::new(&env.clock, &[]).expect("settings of TLS");
    let settings = Settings {
        feed: "orders_feed".to_owned(),
        target: Target::parse(&format!("http://127.0.0.1:{}/", receiver.port()), policy)
            .expect("a URL"),
        policy,
        secret: Some(SigningKey::parse(secret).expect("a secret")),
        headers: headers([]).expect("none"),
        content_type: "application/json",
        timeout: LONG,
    };
    WebhookSink::new(&env, &tls, settings)
}

#[test]
fn every_recipe_works_behind_the_receiver_of_webhooks() {
    let Some(python) = Python::fetched() else { return };
    for (recipe, result) in RESULTS {
        let events = with_repeats();
        let count = events.len().to_string();
        let arguments = [SECRET, *recipe, "--port", "0", "--events", count.as_str()];
        let mut receiver = python.run("webhook_receiver.py", &arguments);
        run(async {
            // Somebody who does not know the secret is refused.
            let mut stranger = webhook(&receiver, "whsec_bm90IHRoZSBzZWNyZXQ=");
            let error = stranger.send(&events[..1]).await.expect_err("a refusal");
            assert_eq!(error.failure, Failure::Permanent);
            drop(stranger);
            let mut sink = webhook(&receiver, SECRET);
            for batch in events.chunks(4) {
                insist(&mut sink, batch).await;
            }
        });
        assert_eq!(receiver.result(), *result, "{recipe}");
    }
}

#[test]
fn every_recipe_works_behind_the_consumer_of_kafka() {
    let Some(python) = Python::fetched() else { return };
    let Some(broker) = kafka::Broker::start(Path::new(env!("CARGO_TARGET_TMPDIR"))) else { return };
    let events = with_repeats();
    for (recipe, result) in RESULTS {
        run(async {
            let settings = KafkaSettings {
                brokers: vec![broker.address()],
                topic: format!("orders-{recipe}"),
                timeout: LONG,
                max_message_bytes: 1_000_000,
                passed_on: BTreeMap::new(),
                transactions: None,
            };
            let mut sink = KafkaSink::new(&Env::real(), settings);
            insist(&mut sink, &events).await;
        });
        let count = events.len().to_string();
        let topic = format!("orders-{recipe}");
        let arguments = [&broker.address(), &topic, *recipe, "--events", &count];
        let mut consumer = python.run("kafka_consumer.py", &arguments);
        // Partitions are read one after the other; sequences put the audit in order all the same.
        assert_eq!(consumer.result(), *result, "{recipe}");
    }
    assert!(EVENT_COUNT < events.len(), "some events were sent twice");
}
