//! Every option by name: which sink it is for, and what its value may be.

use super::value::{OptionError, OptionValue, Secret};
use super::{
    DeleteExpansion, Delivery, Envelope, EventKind, InitialScan, LargeMessage, OnError, Options,
    SinkKind, StartAt,
};
use model::CqlType;
use model::literal::parse_literal;
use model::nearest::nearest;
use std::ops::RangeInclusive;

/// Webhook requests carry at most this many headers of the user's.
const HEADER_COUNT_MAX: usize = 32;
/// Longest text that an option may have.
const TEXT_BYTES_MAX: usize = 8 << 10;
/// What comes before the name of a setting of the Kafka client.
const KAFKA_PREFIX: &str = "kafka.";

type Set = fn(&mut Options, &Value) -> Result<(), OptionError>;

/// An option's name, its only sink, and how it is set.
struct Known {
    name: &'static str,
    sink: Option<SinkKind>,
    set: Set,
}

const fn any(name: &'static str, set: Set) -> Known {
    Known { name, sink: None, set }
}

const fn only(sink: SinkKind, name: &'static str, set: Set) -> Known {
    Known { name, sink: Some(sink), set }
}

const KNOWN: &[Known] = &[
    any("include_old_values", |o, v| v.boolean().map(|x| o.include_old_values = x)),
    any("batch_size", |o, v| v.integer(1..=10_000).map(|x| o.batch_size = x as usize)),
    any("flush_interval_ms", |o, v| v.integer(0..=3_600_000).map(|x| o.flush_interval_ms = x)),
    any("filter", |o, v| v.text().map(|x| o.filter = Some(x.to_owned()))),
    any("event_kind", |o, v| {
        let kinds = [
            ("full", EventKind::Full),
            ("delta", EventKind::Delta),
            ("key_only", EventKind::KeyOnly),
            ("patch", EventKind::Patch),
        ];
        v.one_of(&kinds).map(|x| o.event_kind = x)
    }),
    any("envelope", |o, v| {
        let envelopes = [
            ("plain", Envelope::Plain),
            ("debezium", Envelope::Debezium),
            ("cloudevents", Envelope::CloudEvents),
        ];
        v.one_of(&envelopes).map(|x| o.envelope = x)
    }),
    any("initial_scan", |o, v| {
        let scans =
            [("no", InitialScan::No), ("yes", InitialScan::Yes), ("only", InitialScan::Only)];
        v.one_of(&scans).map(|x| o.initial_scan = x)
    }),
    any("cursor", |o, v| v.start().map(|x| o.cursor = Some(x))),
    any("resolved", |o, v| v.interval(10..=3_600_000).map(|x| o.resolved_interval_ms = x)),
    any("delivery", |o, v| {
        let deliveries =
            [("at_least_once", Delivery::AtLeastOnce), ("exactly_once", Delivery::ExactlyOnce)];
        v.one_of(&deliveries).map(|x| o.delivery = x)
    }),
    any("delete_expansion", |o, v| {
        let expansions = [("range", DeleteExpansion::Range), ("rows", DeleteExpansion::Rows)];
        v.one_of(&expansions).map(|x| o.delete_expansion = x)
    }),
    only(SinkKind::Kafka, "tombstones", |o, v| v.boolean().map(|x| o.tombstones = x)),
    any("on_error", |o, v| {
        v.one_of(&[("pause", OnError::Pause), ("skip", OnError::Skip)]).map(|x| o.on_error = x)
    }),
    any("retry_max", |o, v| v.retries().map(|x| o.retry_max = x)),
    any("large_message", |o, v| {
        let policies = [
            ("error", LargeMessage::Error),
            ("key_only", LargeMessage::KeyOnly),
            ("skip", LargeMessage::Skip),
        ];
        v.one_of(&policies).map(|x| o.large_message = x)
    }),
    any("max_message_bytes", |o, v| {
        v.integer(1_024..=64 << 20).map(|x| o.max_message_bytes = x as usize)
    }),
    any("retention_max_age", |o, v| {
        v.age(1_000..=10 * 365 * 86_400_000).map(|x| o.retention_age_ms_max = x)
    }),
    any("retention_max_bytes", |o, v| {
        v.unlimited_or(1 << 20..=1 << 50).map(|x| o.retention_bytes_max = x)
    }),
    only(SinkKind::Webhook, "hmac_secret", |o, v| {
        v.text().map(|x| o.hmac_secret = Some(Secret::new(x)))
    }),
    only(SinkKind::Webhook, "headers", set_headers),
    only(SinkKind::Webhook, "timeout_ms", |o, v| v.integer(1..=600_000).map(|x| o.timeout_ms = x)),
];

/// Settings of the Kafka client that a feed may have. Those that its promises rest on (`acks`,
/// `enable.idempotence`, `partitioner`, …) are not among them, nor those that load code.
const KAFKA: &[&str] = &[
    "security.protocol",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.username",
    "sasl.password",
    "sasl.kerberos.service.name",
    "sasl.kerberos.principal",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.extensions",
    "sasl.oauthbearer.token.endpoint.url",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.key.location",
    "ssl.key.pem",
    "ssl.key.password",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.crl.location",
    "ssl.cipher.suites",
    "ssl.curves.list",
    "ssl.sigalgs.list",
    "ssl.endpoint.identification.algorithm",
    "enable.ssl.certificate.verification",
    "client.id",
    "client.rack",
    "compression.type",
    "compression.codec",
    "compression.level",
    "linger.ms",
    "batch.size",
    "batch.num.messages",
    "message.max.bytes",
    "queue.buffering.max.ms",
    "request.timeout.ms",
    "socket.timeout.ms",
    "socket.keepalive.enable",
    "socket.nagle.disable",
    "socket.connection.setup.timeout.ms",
    "connections.max.idle.ms",
    "reconnect.backoff.ms",
    "reconnect.backoff.max.ms",
    "topic.metadata.refresh.interval.ms",
    "metadata.max.age.ms",
    "broker.address.family",
    "client.dns.lookup",
];

/// Headers that are the sink's own.
const HEADERS_RESERVED: &[&str] = &[
    "host",
    "connection",
    "content-length",
    "content-type",
    "transfer-encoding",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
];

/// Whether an option says where a feed begins, so that it cannot be altered.
pub fn is_fixed_at_creation(name: &str) -> bool {
    matches!(name, "cursor" | "initial_scan")
}

/// Sets one option.
pub(super) fn set(
    options: &mut Options,
    sink: SinkKind,
    name: &str,
    value: &OptionValue,
) -> Result<(), OptionError> {
    let value = Value { name, value };
    if let Some(setting) = name.strip_prefix(KAFKA_PREFIX) {
        check_sink(name, SinkKind::Kafka, sink)?;
        if !KAFKA.contains(&setting) {
            return Err(unknown(name, KAFKA_PREFIX, KAFKA.iter().copied()));
        }
        options.kafka.insert(setting.to_owned(), Secret::new(value.text()?));
        return Ok(());
    }
    let Some(known) = KNOWN.iter().find(|known| known.name == name) else {
        return Err(unknown(name, "", KNOWN.iter().map(|known| known.name)));
    };
    if let Some(only) = known.sink {
        check_sink(name, only, sink)?;
    }
    (known.set)(options, &value)
}

fn check_sink(name: &str, only: SinkKind, sink: SinkKind) -> Result<(), OptionError> {
    let label = |kind| match kind {
        SinkKind::Kafka => "Kafka",
        SinkKind::Webhook => "a webhook",
    };
    if only == sink {
        return Ok(());
    }
    let (only, sink) = (label(only), label(sink));
    Err(OptionError::new(format!(
        "changefeed option {name} is for feeds into {only}: this one goes into {sink}"
    )))
}

fn unknown(name: &str, prefix: &str, known: impl Iterator<Item = &'static str>) -> OptionError {
    let own = name.strip_prefix(prefix).unwrap_or(name);
    let nearest = nearest(own, known).unwrap_or_default();
    OptionError::new(format!(
        "unknown changefeed option {}; the nearest known one is {prefix}{nearest}",
        shown(name)
    ))
}

fn set_headers(options: &mut Options, value: &Value) -> Result<(), OptionError> {
    let OptionValue::Map(map) = value.value else {
        return Err(value.wrong("a map of names and values, as {'Authorization': 'Bearer …'}"));
    };
    if map.len() > HEADER_COUNT_MAX {
        return Err(value.wrong(&format!("at most {HEADER_COUNT_MAX} headers")));
    }
    for (name, text) in map {
        let is_name = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        if !is_name || name.len() > TEXT_BYTES_MAX {
            return Err(OptionError::new(format!("{} is no name of a header", shown(name))));
        }
        if HEADERS_RESERVED.contains(&name.to_lowercase().as_str()) {
            return Err(OptionError::new(format!("header {name} is set by the feed itself")));
        }
        let is_value = text.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b));
        if !is_value || text.len() > TEXT_BYTES_MAX {
            return Err(OptionError::new(format!(
                "the value of header {name} must be printable ASCII of at most {TEXT_BYTES_MAX} \
                 bytes"
            )));
        }
        options.headers.insert(name.clone(), Secret::new(text));
    }
    Ok(())
}

/// A value and the option that it is of.
struct Value<'a> {
    name: &'a str,
    value: &'a OptionValue,
}

impl Value<'_> {
    fn wrong(&self, expected: &str) -> OptionError {
        OptionError::new(format!("changefeed option {} must be {expected}", self.name))
    }

    fn text(&self) -> Result<&str, OptionError> {
        let OptionValue::Text(text) = self.value else {
            return Err(self.wrong("one value, not a map"));
        };
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return Err(self.wrong(&format!("text of 1 to {TEXT_BYTES_MAX} bytes")));
        }
        Ok(text)
    }

    fn boolean(&self) -> Result<bool, OptionError> {
        self.one_of(&[("true", true), ("false", false)])
    }

    fn one_of<T: Copy>(&self, values: &[(&str, T)]) -> Result<T, OptionError> {
        let text = self.text()?;
        if let Some((_, value)) = values.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
            return Ok(*value);
        }
        let names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
        Err(self.wrong(&format!("one of {}, not {}", names.join(", "), shown(text))))
    }

    fn integer(&self, range: RangeInclusive<u64>) -> Result<u64, OptionError> {
        let text = self.text()?;
        let number = text.parse::<u64>().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            let (low, high) = (range.start(), range.end());
            self.wrong(&format!("a number from {low} to {high}, not {}", shown(text)))
        })
    }

    fn retries(&self) -> Result<Option<u32>, OptionError> {
        let number = self.unlimited_or(0..=1_000_000)?;
        Ok(number.and_then(|number| u32::try_from(number).ok()))
    }

    fn unlimited_or(&self, range: RangeInclusive<u64>) -> Result<Option<u64>, OptionError> {
        if self.text()?.eq_ignore_ascii_case("unlimited") {
            return Ok(None);
        }
        self.integer(range).map(Some)
    }

    /// `off`, or a number with a unit: `500ms`, `10s`, `1m`.
    fn interval(&self, range_ms: RangeInclusive<u64>) -> Result<Option<u64>, OptionError> {
        self.duration("off", "an interval as 500ms, 10s or 1m", range_ms)
    }

    /// `unlimited`, or a number with a unit: `90s`, `12h`, `4d`.
    fn age(&self, range_ms: RangeInclusive<u64>) -> Result<Option<u64>, OptionError> {
        self.duration("unlimited", "a time as 90s, 12h or 4d", range_ms)
    }

    /// A number with a unit, in milliseconds; nothing for the one word that says so.
    fn duration(
        &self,
        none: &str,
        expected: &str,
        range_ms: RangeInclusive<u64>,
    ) -> Result<Option<u64>, OptionError> {
        let text = self.text()?;
        if text.eq_ignore_ascii_case(none) {
            return Ok(None);
        }
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let factor = match unit {
            "ms" => Some(1),
            "s" => Some(1_000),
            "m" => Some(60_000),
            "h" => Some(3_600_000),
            "d" => Some(86_400_000),
            _ => None,
        };
        let millis = number.parse::<u64>().ok().zip(factor).and_then(|(n, f)| n.checked_mul(f));
        match millis.filter(|millis| range_ms.contains(millis)) {
            Some(millis) => Ok(Some(millis)),
            None => Err(self.wrong(&format!(
                "{none}, or {expected} from {} to {} ms, not {}",
                range_ms.start(),
                range_ms.end(),
                shown(text)
            ))),
        }
    }

    /// A sequence, or a time as CQL writes it.
    fn start(&self) -> Result<StartAt, OptionError> {
        let text = self.text()?;
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return self.integer(0..=(1 << 53) - 1).map(StartAt::Sequence);
        }
        let millis = parse_literal(&CqlType::Timestamp, text).ok();
        match millis.and_then(|bytes| <[u8; 8]>::try_from(bytes.as_slice()).ok()) {
            Some(bytes) => Ok(StartAt::Timestamp(i64::from_be_bytes(bytes))),
            None => Err(self.wrong(&format!(
                "a sequence or a time as 2026-01-31T12:00:00Z, not {}",
                shown(text)
            ))),
        }
    }
}

/// A text of the user's as an error shows it.
fn shown(text: &str) -> String {
    const SHOWN_BYTES_MAX: usize = 100;
    format!("'{}'", text[..text.floor_char_boundary(SHOWN_BYTES_MAX)].escape_debug())
}
