//! What the client library was built with, and which of a feed's settings ask for more.
//!
//! The library itself would find out about some of them only when a producer is made, long after
//! CREATE, and in words about its own build. Values are never repeated: one may be a password that
//! stands in the wrong place.

use std::collections::BTreeMap;

use crate::sink::SinkError;

/// Whether TLS, SCRAM and zstd are there.
const HAS_TLS: bool = cfg!(feature = "kafka-tls");
/// How clients say who they are. OAUTHBEARER is not among them: it takes a token from a callback.
const MECHANISMS: &[&str] =
    if HAS_TLS { &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] } else { &["PLAIN"] };
const CREDENTIALS: [&str; 2] = ["sasl.username", "sasl.password"];

/// Refuses what this build cannot do, by name.
pub(super) fn check(settings: &BTreeMap<String, String>) -> Result<(), SinkError> {
    if let Some((name, what)) = settings.iter().find_map(|(name, value)| missing(name, value)) {
        let text = format!(
            "kafka.{name}: this server was built without {what} for Kafka; the feature \
             changefeed/kafka-tls has it"
        );
        return Err(SinkError::permanent(text));
    }
    let value = |name: &str| settings.get(name).map(String::as_str);
    let protocol = value("security.protocol").unwrap_or_default().to_ascii_lowercase();
    if !protocol.starts_with("sasl_") {
        return Ok(());
    }
    let mechanism = value("sasl.mechanism").or(value("sasl.mechanisms"));
    if !mechanism.is_some_and(|mechanism| MECHANISMS.contains(&mechanism)) {
        let text = format!("kafka.sasl.mechanism must be one of {}", MECHANISMS.join(", "));
        return Err(SinkError::permanent(text));
    }
    match CREDENTIALS.iter().find(|name| value(name).is_none_or(str::is_empty)) {
        Some(name) => Err(SinkError::permanent(format!("kafka.{name} must be given"))),
        None => Ok(()),
    }
}

/// What a setting asks for that is not there.
fn missing<'a>(name: &'a str, value: &str) -> Option<(&'a str, &'static str)> {
    if HAS_TLS {
        return None;
    }
    let value = value.to_ascii_lowercase();
    match name {
        "security.protocol" if value.ends_with("ssl") => Some((name, "TLS")),
        "sasl.mechanism" | "sasl.mechanisms" if value.starts_with("scram-") => {
            Some((name, "SCRAM"))
        }
        "compression.type" | "compression.codec" if value == "zstd" => Some((name, "zstd")),
        name if name.starts_with("ssl.") => Some((name, "TLS")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(settings: &[(&str, &str)]) -> String {
        let owned = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        check(&owned.collect()).map_or_else(|error| error.text, |()| "taken".to_owned())
    }

    #[test]
    fn sasl_needs_a_mechanism_and_who_it_is() {
        let protocol = ("security.protocol", "SASL_PLAINTEXT");
        let (user, password) = (("sasl.username", "feed"), ("sasl.password", "hidden"));
        let plain = ("sasl.mechanism", "PLAIN");
        assert_eq!(said(&[protocol, plain, user, password]), "taken");
        assert_eq!(said(&[protocol, ("sasl.mechanisms", "PLAIN"), user, password]), "taken");
        assert_eq!(said(&[protocol, plain, user]), "kafka.sasl.password must be given");
        for wrong in [&[protocol, user, password][..], &[protocol, ("sasl.mechanism", "hidden")]] {
            let said = said(wrong);
            assert!(said.starts_with("kafka.sasl.mechanism must be one of PLAIN"), "{said}");
            assert!(!said.contains("hidden"), "{said}");
        }
    }

    #[test]
    fn what_is_not_built_in_is_named_with_its_feature() {
        for (name, value, what) in [
            ("security.protocol", "SSL", "TLS"),
            ("security.protocol", "sasl_ssl", "TLS"),
            ("ssl.ca.location", "/etc/ca.pem", "TLS"),
            ("sasl.mechanism", "SCRAM-SHA-512", "SCRAM"),
            ("compression.type", "zstd", "zstd"),
        ] {
            let said = said(&[(name, value)]);
            if HAS_TLS {
                assert!(!said.contains("kafka-tls"), "{said}");
                continue;
            }
            let expected = format!("kafka.{name}: this server was built without {what} for Kafka");
            assert!(said.starts_with(&expected) && said.contains("changefeed/kafka-tls"), "{said}");
        }
        assert_eq!(
            said(&[("security.protocol", "PLAINTEXT"), ("compression.type", "lz4")]),
            "taken"
        );
    }
}
