//! What may be given, and what is said of what may not.

use super::*;

fn given(options: &[(&str, &str)]) -> Given {
    let text = |value: &str| OptionValue::Text(value.to_owned());
    options.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect()
}

fn kafka(options: &[(&str, &str)]) -> Result<Options, String> {
    parse(SinkKind::Kafka, &given(options)).map_err(|error| error.message)
}

fn webhook(options: &[(&str, &str)]) -> Result<Options, String> {
    parse(SinkKind::Webhook, &given(options)).map_err(|error| error.message)
}

#[test]
fn every_option_is_understood() {
    assert_eq!(kafka(&[]).unwrap(), Options::default());
    let options = kafka(&[
        ("include_old_values", "TRUE"),
        ("batch_size", "500"),
        ("flush_interval_ms", "0"),
        ("filter", "status = 'shipped'"),
        ("event_kind", "patch"),
        ("envelope", "cloudevents"),
        ("initial_scan", "no"),
        ("cursor", "2026-01-31T12:00:00Z"),
        ("resolved", "10s"),
        ("delivery", "exactly_once"),
        ("tombstones", "true"),
        ("on_error", "skip"),
        ("retry_max", "7"),
        ("large_message", "skip"),
        ("max_message_bytes", "2048"),
        ("retention_max_age", "12h"),
        ("retention_max_bytes", "unlimited"),
        ("kafka.compression.type", "zstd"),
    ]);
    let expected = Options {
        include_old_values: true,
        batch_size: 500,
        flush_interval_ms: 0,
        filter: Some("status = 'shipped'".to_owned()),
        event_kind: EventKind::Patch,
        envelope: Envelope::CloudEvents,
        cursor: Some(StartAt::Timestamp(1_769_860_800_000)),
        resolved_interval_ms: Some(10_000),
        delivery: Delivery::ExactlyOnce,
        tombstones: true,
        on_error: OnError::Skip,
        retry_max: Some(7),
        large_message: LargeMessage::Skip,
        max_message_bytes: 2_048,
        retention_age_ms_max: Some(43_200_000),
        retention_bytes_max: None,
        kafka: [("compression.type".to_owned(), Secret::new("zstd"))].into(),
        ..Options::default()
    };
    assert_eq!(options.unwrap(), expected);
    let json = serde_json::to_string(&expected).unwrap();
    assert_eq!(serde_json::from_str::<Options>(&json).unwrap(), expected);

    let options = webhook(&[("hmac_secret", "s"), ("timeout_ms", "50"), ("cursor", "12")]).unwrap();
    assert_eq!(options.hmac_secret.unwrap().reveal(), "s");
    assert_eq!((options.timeout_ms, options.cursor), (50, Some(StartAt::Sequence(12))));
    assert_eq!(webhook(&[("resolved", "off"), ("retry_max", "unlimited")]), webhook(&[]));
}

#[test]
fn debezium_is_followed_by_tombstones_unless_told_otherwise() {
    assert!(kafka(&[("envelope", "debezium")]).unwrap().tombstones);
    assert!(!kafka(&[("envelope", "debezium"), ("tombstones", "false")]).unwrap().tombstones);
    assert!(!webhook(&[("envelope", "debezium")]).unwrap().tombstones);
}

#[test]
fn what_is_wrong_is_said() {
    let sayings: &[(&[(&str, &str)], &str)] = &[
        (
            &[("batchsize", "1")],
            "unknown changefeed option 'batchsize'; the nearest known one is batch_size",
        ),
        (
            &[("kafka.sasl.pasword", "x")],
            "unknown changefeed option 'kafka.sasl.pasword'; the nearest known one is \
             kafka.sasl.password",
        ),
        (
            &[("batch_size", "0")],
            "changefeed option batch_size must be a number from 1 to 10000, not '0'",
        ),
        (
            &[("flush_interval_ms", "-1")],
            "changefeed option flush_interval_ms must be a number from 0 to 3600000, not '-1'",
        ),
        (
            &[("event_kind", "half")],
            "changefeed option event_kind must be one of full, delta, key_only, patch, not 'half'",
        ),
        (
            &[("resolved", "5")],
            "changefeed option resolved must be off, or an interval as 500ms, 10s or 1m from 10 to \
             3600000 ms, not '5'",
        ),
        (
            &[("cursor", "yesterday")],
            "changefeed option cursor must be a sequence or a time as 2026-01-31T12:00:00Z, not \
             'yesterday'",
        ),
        (
            &[("hmac_secret", "x")],
            "changefeed option hmac_secret is for feeds into a webhook: this one goes into Kafka",
        ),
        (
            &[("retention_max_age", "4 d")],
            "changefeed option retention_max_age must be unlimited, or a time as 90s, 12h or 4d \
             from 1000 to 315360000000 ms, not '4 d'",
        ),
        (
            &[("retention_max_bytes", "1000")],
            "changefeed option retention_max_bytes must be a number from 1048576 to \
             1125899906842624, not '1000'",
        ),
        (&[("filter", "")], "changefeed option filter must be text of 1 to 8192 bytes"),
        (
            &[("envelope", "debezium"), ("event_kind", "delta")],
            "envelope 'debezium' carries whole rows: it goes with event_kind 'full' only",
        ),
        (
            &[("include_old_values", "true"), ("event_kind", "key_only")],
            "include_old_values and event_kind 'key_only' exclude each other",
        ),
    ];
    for (options, saying) in sayings {
        assert_eq!(kafka(options).unwrap_err(), *saying);
    }
    assert_eq!(
        webhook(&[("tombstones", "true")]).unwrap_err(),
        "changefeed option tombstones is for feeds into Kafka: this one goes into a webhook"
    );
    let twice = webhook(&[("delivery", "exactly_once")]).unwrap_err();
    assert!(twice.starts_with("delivery 'exactly_once' is for feeds into Kafka"), "{twice}");
    assert!(kafka(&[("kafka.acks", "0")]).unwrap_err().starts_with("unknown changefeed option"));
}

#[test]
fn headers_are_names_and_values() {
    let headers = |name: &str, value: &str| {
        let map = [(name.to_owned(), value.to_owned())].into();
        let given = [("headers".to_owned(), OptionValue::Map(map))].into();
        parse(SinkKind::Webhook, &given).map_err(|error| error.message)
    };
    let options = headers("Authorization", "Bearer x").unwrap();
    assert_eq!(options.headers["Authorization"].reveal(), "Bearer x");
    assert!(headers("a b", "x").unwrap_err().contains("is no name of a header"));
    assert!(headers("Host", "x").unwrap_err().contains("set by the feed itself"));
    let error = headers("X", "line\nbreak").unwrap_err();
    assert!(error.contains("printable ASCII") && !error.contains("break"), "{error}");
    assert!(webhook(&[("headers", "x")]).unwrap_err().contains("must be a map"));
}

#[test]
fn secrets_are_not_shown() {
    let mut options = given(&[
        ("batch_size", "500"),
        ("filter", "status = 'shipped'"),
        ("hmac_secret", "hush"),
        ("kafka.sasl.password", "hush"),
        ("kafka.ssl.key.pem", "hush"),
        ("kafka.sasl.username", "me"),
    ]);
    let map = [("Authorization".to_owned(), "hush".to_owned())].into();
    options.insert("headers".to_owned(), OptionValue::Map(map));
    assert_eq!(
        to_cql(&options),
        "batch_size = 500, filter = 'status = ''shipped''', headers = {'Authorization': \
         '<redacted>'}, hmac_secret = '<redacted>', kafka.sasl.password = '<redacted>', \
         kafka.sasl.username = 'me', kafka.ssl.key.pem = '<redacted>'"
    );
    assert!(!format!("{options:?}").contains("hush"));
    options.retain(|name, _| !name.starts_with("kafka"));
    let parsed = parse(SinkKind::Webhook, &options).unwrap();
    assert!(!format!("{parsed:?}").contains("hush"));
}

#[test]
fn the_images_that_a_feed_needs_follow_from_what_it_tells() {
    let images_at = |options: &[(&str, &str)], scans: bool| {
        let images = kafka(options).unwrap().images(scans);
        (images.preimage, images.postimage)
    };
    let images = |options: &[(&str, &str)]| images_at(options, false);
    assert_eq!(images(&[]), (PreimageMode::Touched, true));
    assert_eq!(images(&[("include_old_values", "true")]), (PreimageMode::Full, true));
    assert_eq!(images(&[("event_kind", "patch")]), (PreimageMode::Full, true));
    assert_eq!(images(&[("event_kind", "delta")]), (PreimageMode::Off, false));
    assert_eq!(
        images(&[("event_kind", "key_only"), ("filter", "a = 1")]),
        (PreimageMode::Touched, true)
    );
    let expands = [("event_kind", "delta"), ("delete_expansion", "rows")];
    assert_eq!(images(&expands), (PreimageMode::Touched, true));
    let scans = [("event_kind", "delta"), ("initial_scan", "yes")];
    assert_eq!(images_at(&scans, true), (PreimageMode::Touched, true));
    assert_eq!(images(&scans), (PreimageMode::Off, false), "its scan is complete");
}

#[test]
fn addresses_are_taken_apart() {
    let parse = |kind, text: &str| SinkAddress::parse(kind, text).map_err(|error| error.message);
    let kafka = |text: &str| parse(SinkKind::Kafka, text);
    let webhook = |text: &str| parse(SinkKind::Webhook, text);
    let address = kafka("broker:9092, [::1]:9093/orders-topic").unwrap();
    let brokers = vec!["broker:9092".to_owned(), "[::1]:9093".to_owned()];
    assert_eq!(address, SinkAddress::Kafka { brokers, topic: "orders-topic".to_owned() });
    assert_eq!(address.to_string(), "kafka://broker:9092,[::1]:9093/orders-topic");
    for (text, why) in [
        ("broker:9092", "it is host:port/topic"),
        ("broker/topic", "the broker broker has no port"),
        ("broker:0/topic", "the port of broker:0 is no number from 1 to 65535"),
        (",b:1/topic", "a broker's name is missing"),
        ("b c:1/topic", "a broker is host:port"),
        ("b:1/a/b", "a topic has 1 to 249 letters, digits, dots, dashes and underscores"),
        ("b:1/", "a topic has 1 to 249 letters, digits, dots, dashes and underscores"),
    ] {
        assert_eq!(kafka(text).unwrap_err(), format!("{text} is no address of a topic: {why}"));
    }

    let address = webhook("https://api.example.com:8443/hook?token=hush").unwrap();
    assert_eq!(address.to_string(), "https://api.example.com:8443/hook?<redacted>");
    assert!(webhook("http://[::1]/hook").is_ok() && webhook("http://10.0.0.1:80").is_ok());
    for (text, why) in [
        ("api.example.com/hook", "has no scheme: it begins with https://"),
        ("ftp://x/", "is http or https, not ftp"),
        ("https:///hook", "has no valid host name"),
        ("https://me:pw@x/", "holds a user name: credentials belong into the option headers"),
        ("https://x:99999/", "has a port that is no number from 1 to 65535"),
        ("https://x/a b", "holds characters that must be percent-encoded"),
        ("https://x/#a", "has a fragment, which is not sent"),
    ] {
        assert_eq!(webhook(text).unwrap_err(), format!("the URL of a webhook {why}"));
    }
}

#[test]
fn what_a_scan_does_not_go_with_is_said() {
    let sayings: &[(&[(&str, &str)], &str)] = &[
        (
            &[("initial_scan", "maybe")],
            "changefeed option initial_scan must be one of no, yes, only, not 'maybe'",
        ),
        (
            &[("initial_scan", "yes"), ("cursor", "5")],
            "cursor and initial_scan exclude each other: a scan begins with the rows as they are",
        ),
    ];
    for (options, saying) in sayings {
        assert_eq!(kafka(options).unwrap_err(), *saying);
    }
}
