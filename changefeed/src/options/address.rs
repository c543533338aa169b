//! Where a feed goes, from the text after INTO KAFKA or INTO WEBHOOK.
//!
//! ```text
//! Kafka    host:port[,host:port…]/topic       [::1]:9092/topic with an IPv6 address
//! webhook  http[s]://host[:port][/path][?query]
//! ```
//!
//! Only the form is checked here; whether an address may be connected to is the sink's to decide,
//! when it is connected to.

use super::SinkKind;
use super::value::OptionError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv6Addr;

/// Longest address.
const ADDRESS_BYTES_MAX: usize = 2_048;
/// Most brokers that a feed names.
const BROKER_COUNT_MAX: usize = 32;
/// Kafka's own limit.
const TOPIC_BYTES_MAX: usize = 249;

/// Where a feed goes. Shown (`Display`) without what may be secret: a URL's query.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SinkAddress {
    /// A topic.
    Kafka {
        /// Brokers to begin with, each `host:port`.
        brokers: Vec<String>,
        /// The topic.
        topic: String,
    },
    /// An endpoint.
    Webhook {
        /// The URL, query included.
        url: String,
    },
}

impl SinkAddress {
    /// The address in a statement's text.
    pub fn parse(kind: SinkKind, text: &str) -> Result<SinkAddress, OptionError> {
        if text.len() > ADDRESS_BYTES_MAX {
            let message = format!("the address of a sink has at most {ADDRESS_BYTES_MAX} bytes");
            return Err(OptionError::new(message));
        }
        match kind {
            SinkKind::Kafka => parse_kafka(text),
            SinkKind::Webhook => {
                check_url(text)?;
                Ok(SinkAddress::Webhook { url: text.to_owned() })
            }
        }
    }

    /// What kind of sink it is.
    pub fn kind(&self) -> SinkKind {
        match self {
            SinkAddress::Kafka { .. } => SinkKind::Kafka,
            SinkAddress::Webhook { .. } => SinkKind::Webhook,
        }
    }
}

impl fmt::Display for SinkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SinkAddress::Kafka { brokers, topic } => {
                write!(f, "kafka://{}/{topic}", brokers.join(","))
            }
            SinkAddress::Webhook { url } => match url.split_once('?') {
                Some((before, _)) => write!(f, "{before}?<redacted>"),
                None => f.write_str(url),
            },
        }
    }
}

impl fmt::Debug for SinkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn parse_kafka(text: &str) -> Result<SinkAddress, OptionError> {
    let wrong = |why: &str| {
        OptionError::new(format!("{} is no address of a topic: {why}", text.escape_debug()))
    };
    let Some((hosts, topic)) = text.split_once('/') else {
        return Err(wrong("it is host:port/topic"));
    };
    let brokers: Vec<String> = hosts.split(',').map(|host| host.trim().to_owned()).collect();
    if brokers.len() > BROKER_COUNT_MAX {
        return Err(wrong(&format!("a feed names at most {BROKER_COUNT_MAX} brokers")));
    }
    for broker in &brokers {
        match broker.rsplit_once(':') {
            _ if broker.is_empty() => return Err(wrong("a broker's name is missing")),
            Some((host, port)) if is_host(host) && is_port(port) => {}
            Some((host, _)) if is_host(host) => {
                return Err(wrong(&format!("the port of {broker} is no number from 1 to 65535")));
            }
            None if is_host(broker) => {
                return Err(wrong(&format!("the broker {broker} has no port")));
            }
            _ => return Err(wrong("a broker is host:port")),
        }
    }
    let is_topic = (1..=TOPIC_BYTES_MAX).contains(&topic.len())
        && topic.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !matches!(topic, "." | "..");
    if !is_topic {
        return Err(wrong(&format!(
            "a topic has 1 to {TOPIC_BYTES_MAX} letters, digits, dots, dashes and underscores"
        )));
    }
    Ok(SinkAddress::Kafka { brokers, topic: topic.to_owned() })
}

/// Errors leave the URL's tail out: it may hold secrets.
fn check_url(url: &str) -> Result<(), OptionError> {
    let wrong = |why: &str| OptionError::new(format!("the URL of a webhook {why}"));
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(wrong("has no scheme: it begins with https://"));
    };
    if !matches!(scheme, "http" | "https") {
        let scheme = scheme[..scheme.floor_char_boundary(20)].escape_debug();
        return Err(wrong(&format!("is http or https, not {scheme}")));
    }
    if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong("holds characters that must be percent-encoded"));
    }
    if rest.contains('#') {
        return Err(wrong("has a fragment, which is not sent"));
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(wrong("holds a user name: credentials belong into the option headers"));
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !authority.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if !is_host(host) {
        return Err(wrong("has no valid host name"));
    }
    if port.is_some_and(|port| !is_port(port)) {
        return Err(wrong("has a port that is no number from 1 to 65535"));
    }
    Ok(())
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}
