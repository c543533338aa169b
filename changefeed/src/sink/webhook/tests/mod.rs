//! The sink against a receiver over real sockets that answers, refuses, hangs, breaks and floods.

mod receiver;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use env::Env;
use tokio::task::LocalSet;

use super::{AddressPolicy, Settings, SigningKey, Target, Tls, WebhookSink, headers};

use crate::sink::{Failure, Message, Sink, SinkError};
use receiver::{Reaction, Receiver};

const OPEN: AddressPolicy = AddressPolicy { allow_http: true, allow_private: true };
/// For receivers that answer: beyond any pause of a busy machine.
const LONG: Duration = Duration::from_mins(1);
/// For receivers that never do.
const SHORT: Duration = Duration::from_millis(100);

fn settings(url: &str, policy: AddressPolicy) -> Settings {
    Settings {
        feed: "orders_feed".to_owned(),
        target: Target::parse(url, policy).expect("a URL"),
        policy,
        secret: None,
        headers: http::HeaderMap::new(),
        content_type: "application/json",
        timeout: LONG,
    }
}

fn sink_of(settings: Settings) -> WebhookSink {
    let env = Env::real();
    let tls = Tls::new(&env.clock, &[]).expect("settings of TLS");
    WebhookSink::new(&env, &tls, settings)
}

fn sink(receiver: &Receiver) -> WebhookSink {
    sink_of(settings(&receiver.url(), OPEN))
}

fn messages(values: &[&'static str]) -> Vec<Message> {
    let message = |value: &&'static str| Message {
        key: Bytes::from_static(b"orders:{\"id\":1}"),
        value: (!value.is_empty()).then(|| Bytes::from_static(value.as_bytes())),
    };
    values.iter().map(message).collect()
}

fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    LocalSet::new().block_on(&runtime.expect("a runtime"), test)
}

/// What a sink says after one batch, before a receiver that reacts in this way.
fn outcome(reaction: Reaction, timeout: Duration) -> Result<(), SinkError> {
    run(async {
        let receiver = Receiver::start([reaction]).await;
        let mut sink = sink_of(Settings { timeout, ..settings(&receiver.url(), OPEN) });
        let result = sink.send(&messages(&["1"])).await;
        let shown = result.as_ref().map_or_else(ToString::to_string, |()| String::new());
        assert!(!shown.contains("hook") && !shown.contains("hidden"), "{shown}");
        result
    })
}

/// The kind of a failure, and what follows the name of the receiver in its text.
fn failure(reaction: Reaction, timeout: Duration) -> (Failure, String) {
    let error = outcome(reaction, timeout).expect_err("a failure");
    assert_eq!(error.acknowledged, 0);
    let (_, text) = error.text.split_once(' ').expect("a receiver and more");
    (error.failure, text.to_owned())
}

#[test]
fn a_batch_is_one_post_of_a_json_array() {
    run(async {
        let receiver = Receiver::start([]).await;
        let secret = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
        let added = headers([("X-Tenant", "7"), ("authorization", "Bearer x")]).expect("headers");
        let mut sink = sink_of(Settings {
            secret: Some(secret.clone()),
            headers: added,
            ..settings(&receiver.url(), OPEN)
        });
        // A tombstone means nothing to a webhook.
        sink.send(&messages(&[r#"{"a":1}"#, "", r#"{"b":2}"#])).await.expect("a success");
        sink.send(&messages(&["", ""])).await.expect("nothing to send");
        sink.mark(&Bytes::from_static(br#"{"resolved":7}"#)).await.expect("a success");

        let received = receiver.received();
        assert_eq!(received.len(), 2);
        let request = &received[0];
        assert_eq!(request.body, r#"[{"a":1},{"b":2}]"#);
        assert!(request.head.starts_with("POST /hook?token=hidden HTTP/1.1\r\n"));
        assert_eq!(request.header("host"), receiver.address.to_string());
        assert_eq!(request.header("content-type"), "application/json");
        assert_eq!(request.header("x-tenant"), "7");
        assert_eq!(request.header("authorization"), "Bearer x");
        assert!(request.header("user-agent").starts_with("tethys/"));
        let timestamp = request.header("webhook-timestamp").parse().expect("seconds");
        let signature =
            secret.sign(request.header("webhook-id"), timestamp, request.body.as_bytes());
        assert_eq!(request.header("webhook-signature"), signature);
        assert_eq!(received[1].body, r#"[{"resolved":7}]"#);
        assert_eq!(receiver.connection_count(), 1, "the connection is kept");
    });
}

#[test]
fn a_batch_that_is_sent_again_has_the_same_id() {
    run(async {
        let plan = [Reaction::Answer(500, "", "oops"), Reaction::Close];
        let receiver = Receiver::start(plan).await;
        let mut sink = sink(&receiver);
        sink.send(&messages(&["1", "2"])).await.expect_err("a 500");
        // The connection was used before, so that its end alone is no failure.
        sink.send(&messages(&["1", "2"])).await.expect("a success");
        sink.send(&messages(&["1", "3"])).await.expect("a success");
        let ids: Vec<String> =
            receiver.received().iter().map(|one| one.header("webhook-id").to_owned()).collect();
        assert_eq!(ids.len(), 4);
        assert_eq!((&ids[0], &ids[1]), (&ids[1], &ids[2]));
        assert_ne!(ids[2], ids[3]);
        assert!(ids[0].starts_with("msg_") && ids[0].len() == 36, "{}", ids[0]);
    });
}

#[test]
fn a_status_decides() {
    use Failure::{Permanent, Transient};
    let answered = |status, headers| failure(Reaction::Answer(status, headers, "why"), LONG);
    assert_eq!(answered(500, ""), (Transient, "answered 500 Internal Server Error".into()));
    assert_eq!(answered(429, ""), (Transient, "answered 429 Too Many Requests".into()));
    assert_eq!(answered(400, ""), (Permanent, "answered 400 Bad Request".into()));
    assert_eq!(answered(410, ""), (Permanent, "answered 410 Gone".into()));
    let elsewhere = "location: http://169.254.169.254/latest/meta-data\r\n";
    let redirected = "answered 302 Found: redirects are not followed";
    assert_eq!(answered(302, elsewhere), (Permanent, redirected.into()));
    assert_eq!(outcome(Reaction::Answer(204, "", ""), LONG), Ok(()));
}

#[test]
fn a_receiver_may_say_when_to_come_back() {
    for status in [429, 503] {
        let reaction = Reaction::Answer(status, "retry-after: 17\r\n", "");
        let error = outcome(reaction, LONG).expect_err("a failure");
        assert_eq!(error.retry_after, Some(Duration::from_secs(17)));
    }
}

#[test]
fn a_receiver_that_hangs_or_breaks_is_tried_again() {
    use Failure::Transient;
    let late = "did not answer within 100 ms";
    assert_eq!(failure(Reaction::Hang, SHORT), (Transient, late.into()));
    let closed = "closed the connection before it had answered";
    assert_eq!(failure(Reaction::Close, LONG), (Transient, closed.into()));
    assert_eq!(failure(Reaction::CloseHalfway, LONG), (Transient, closed.into()));
    let garbage = "answered with something that is not HTTP";
    assert_eq!(failure(Reaction::Garbage, LONG), (Transient, garbage.into()));
}

#[test]
fn what_follows_a_status_changes_nothing() {
    assert_eq!(outcome(Reaction::CloseInBody, LONG), Ok(()));
    assert_eq!(outcome(Reaction::HangInBody, LONG), Ok(()));
    assert_eq!(outcome(Reaction::Flood(200, 100 << 20), LONG), Ok(()));
    let flooded = failure(Reaction::Flood(500, 100 << 20), LONG);
    assert_eq!(flooded.0, Failure::Transient);
}

#[test]
fn an_answer_of_a_hundred_megabytes_is_not_read() {
    run(async {
        let receiver = Receiver::start([Reaction::Flood(200, 100 << 20)]).await;
        let mut sink = sink(&receiver);
        sink.send(&messages(&["1"])).await.expect("a success");
        sink.send(&messages(&["2"])).await.expect("a success over another connection");
        assert_eq!(receiver.connection_count(), 2);
        // What the buffers of two sockets hold is written, and no more.
        assert!(receiver.written_bytes() < 50 << 20, "{}", receiver.written_bytes());
    });
}

#[test]
fn a_connection_that_was_closed_meanwhile_is_made_again() {
    run(async {
        let receiver = Receiver::start(vec![Reaction::AnswerAndClose; 5]).await;
        let mut sink = sink(&receiver);
        for _ in 0..5 {
            sink.send(&messages(&["1"])).await.expect("a success");
        }
        assert_eq!(receiver.received().len(), 5);
        assert_eq!(receiver.connection_count(), 5);
    });
}

#[test]
fn nobody_there_is_tried_again() {
    run(async {
        let receiver = Receiver::start([]).await;
        // Port 1 of loopback: nobody listens there.
        let mut sink = sink_of(settings("http://127.0.0.1:1/", OPEN));
        let error = sink.send(&messages(&["1"])).await.expect_err("a failure");
        assert_eq!(error.failure, Failure::Transient);
        assert!(error.text.starts_with("http://127.0.0.1:1 cannot be reached: "), "{}", error.text);
        let mut sink = sink_of(settings("https://nobody.invalid/", OPEN));
        let error = sink.send(&messages(&["1"])).await.expect_err("a failure");
        assert_eq!(error.failure, Failure::Transient);
        assert!(error.text.starts_with("https://nobody.invalid cannot be resolved"), "{error}");
        assert_eq!(receiver.connection_count(), 0);
    });
}

#[test]
fn the_own_network_is_out_of_reach_by_number_and_by_name() {
    run(async {
        let receiver = Receiver::start([]).await;
        let port = receiver.address.port();
        let closed = AddressPolicy { allow_http: true, allow_private: false };
        for host in
            ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "127.1"]
        {
            let mut sink = sink_of(settings(&format!("http://{host}:{port}/"), closed));
            let error = sink.send(&messages(&["1"])).await.expect_err(host);
            assert_eq!(error.failure, Failure::Permanent, "{host}: {error}");
            assert!(error.text.contains("does not allow"), "{host}: {error}");
        }
        assert_eq!(receiver.connection_count(), 0);
    });
}

#[test]
fn tls_needs_a_certificate_of_an_authority_that_is_trusted() {
    run(async {
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("one");
        let key = issued.signing_key.serialize_der().try_into().expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![issued.cert.der().clone()], key)
            .expect("a certificate");
        let receiver = Receiver::start_with([], Some(Arc::new(config))).await;
        let env = Env::real();
        let url = format!("https://localhost:{}/", receiver.address.port());
        let sink_with = |authorities: &[u8]| {
            let tls = Tls::new(&env.clock, authorities).expect("settings of TLS");
            WebhookSink::new(&env, &tls, settings(&url, OPEN))
        };
        let error = sink_with(&[]).send(&messages(&["1"])).await.expect_err("an unknown issuer");
        assert_eq!(error.failure, Failure::Transient);
        assert!(error.text.contains("certificate"), "{error}");
        let mut sink = sink_with(issued.cert.pem().as_bytes());
        sink.send(&messages(&["1"])).await.expect("a success");
        sink.send(&messages(&["2"])).await.expect("a success");
        assert_eq!(receiver.received().len(), 2);
        let broken = b"-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n";
        assert!(Tls::new(&env.clock, broken).is_err());
    });
}

#[test]
fn headers_are_checked_and_their_values_not_shown() {
    for (name, value, reason) in [
        ("host", "x", "the header host is set by the server"),
        ("Content-Type", "x", "the header content-type is set by the server"),
        ("webhook-id", "x", "the header webhook-id is set by the server"),
        ("no name", "x", "\"no name\" is not the name of a header"),
        ("x-a", "secret\r\nx-b: 1", "the value of x-a is not one of a header"),
    ] {
        assert_eq!(headers([(name, value)]).expect_err(name), reason);
    }
    let long = "v".repeat(9000);
    assert!(headers([("x-a", long.as_str())]).is_err());
    let names: Vec<String> = (0..40).map(|number| format!("x-{number}")).collect();
    assert!(headers(names.iter().map(|name| (name.as_str(), "v"))).is_err());
    let shown = format!("{:?}", headers([("authorization", "hidden")]).expect("headers"));
    assert!(!shown.contains("hidden"), "{shown}");
}
