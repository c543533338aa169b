//! The sink of a feed: from its definition and this node's configuration.

use crate::config::Webhooks;
use crate::metadata::FeedRecord;
use crate::node::Shared;
use changefeed::Definition;
use changefeed::options::{Delivery, Envelope, Options, Secret, SinkAddress};
use changefeed::sink::Sink;
use changefeed::sink::kafka::{self, KafkaSink, Transactions};
use changefeed::sink::webhook::{self, AddressPolicy, SigningKey, Target, Tls, WebhookSink};
use std::path::Path;
use std::time::Duration;

/// Largest file of certificates that is read.
const AUTHORITIES_BYTES_MAX: u64 = 4 << 20;

/// How long a broker may make no progress before a call has failed.
const KAFKA_TIME_MAX: Duration = Duration::from_secs(10);

/// How webhooks are made on this node.
pub(super) struct WebhookTerms {
    tls: Tls,
    policy: AddressPolicy,
}

impl WebhookTerms {
    /// By the node's configuration.
    pub(super) fn new(shared: &Shared) -> Result<WebhookTerms, String> {
        let authorities = match &shared.config.webhooks.certificate_authorities {
            Some(path) => read(shared, path)?,
            None => Vec::new(),
        };
        let tls = Tls::new(&shared.env.clock, &authorities)?;
        Ok(WebhookTerms { tls, policy: policy(shared) })
    }
}

/// What is wrong with a feed's sink by this node's configuration, if anything.
pub(super) fn check(shared: &Shared, definition: &Definition) -> Result<(), String> {
    match &definition.sink {
        SinkAddress::Kafka { brokers, topic } => {
            let settings = kafka_settings(definition, brokers, topic, None);
            settings.check().map_err(|error| error.to_string())
        }
        SinkAddress::Webhook { url } => {
            let policy = policy(shared);
            webhook_settings(policy, definition, url)?.target.judge_number(policy)
        }
    }
}

/// What webhooks may reach from this node.
fn policy(shared: &Shared) -> AddressPolicy {
    let Webhooks { allow_http, allow_private_addresses, .. } = shared.config.webhooks;
    AddressPolicy { allow_http, allow_private: allow_private_addresses }
}

fn webhook_settings(
    policy: AddressPolicy,
    definition: &Definition,
    url: &str,
) -> Result<webhook::Settings, String> {
    let options = &definition.options;
    let secret = options.hmac_secret.as_ref().map(Secret::reveal);
    let secret = secret.map(SigningKey::parse).transpose();
    let wanted = options.headers.iter().map(|(name, value)| (name.as_str(), value.reveal()));
    Ok(webhook::Settings {
        feed: definition.name.to_string(),
        target: Target::parse(url, policy)?,
        policy,
        secret: secret.map_err(|reason| format!("hmac_secret: {reason}"))?,
        headers: webhook::headers(wanted)?,
        content_type: content_type(options),
        timeout: Duration::from_millis(options.timeout_ms),
    })
}

fn kafka_settings(
    definition: &Definition,
    brokers: &[String],
    topic: &str,
    transactions: Option<Transactions>,
) -> kafka::Settings {
    let options = &definition.options;
    let passed_on = options.kafka.iter();
    kafka::Settings {
        brokers: brokers.to_vec(),
        topic: topic.to_owned(),
        timeout: KAFKA_TIME_MAX,
        max_message_bytes: options.max_message_bytes,
        passed_on: passed_on
            .map(|(name, value)| (name.clone(), value.reveal().to_owned()))
            .collect(),
        transactions,
    }
}

/// The sink of a feed, which is connected with nothing yet.
pub(super) fn open(
    shared: &Shared,
    terms: &Result<WebhookTerms, String>,
    feed: &FeedRecord,
) -> Result<Box<dyn Sink>, String> {
    let definition = &feed.definition;
    match &definition.sink {
        SinkAddress::Kafka { brokers, topic } => {
            let transactions = transactions(shared, feed);
            let settings = kafka_settings(definition, brokers, topic, transactions);
            Ok(Box::new(KafkaSink::new(&shared.env, settings)))
        }
        SinkAddress::Webhook { url } => {
            let terms = terms.as_ref().map_err(Clone::clone)?;
            let settings = webhook_settings(terms.policy, definition, url)?;
            Ok(Box::new(WebhookSink::new(&shared.env, &terms.tls, settings)))
        }
    }
}

/// By what brokers know a feed that is delivered exactly once: another one when it is made anew, and
/// in another cluster.
fn transactions(shared: &Shared, feed: &FeedRecord) -> Option<Transactions> {
    let FeedRecord { definition, created_at_millis, line, .. } = feed;
    if definition.options.delivery != Delivery::ExactlyOnce {
        return None;
    }
    let view = shared.views().newest();
    let (cluster, name) = (&view.metadata.cluster_name, &definition.name);
    Some(Transactions { id: format!("tethys-{cluster}-{name}-{created_at_millis}"), line: *line })
}

fn content_type(options: &Options) -> &'static str {
    match options.envelope {
        Envelope::CloudEvents => "application/cloudevents-batch+json",
        Envelope::Plain | Envelope::Debezium => "application/json",
    }
}

fn read(shared: &Shared, path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error| format!("{}: {error}", path.display());
    shared.env.disk.read(path, AUTHORITIES_BYTES_MAX).map_err(failed)
}
