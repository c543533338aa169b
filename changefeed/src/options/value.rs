//! Values of options as a statement gives them, and as they are printed: secrets never.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write;

/// The options of a statement by name.
pub type Given = BTreeMap<String, OptionValue>;

/// One option's value.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OptionValue {
    /// A string, number or word.
    Text(String),
    /// A map of such.
    Map(BTreeMap<String, String>),
}

/// What is printed in a secret's place.
const REDACTED: &str = "<redacted>";

/// Text that is stored and used, but never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for the one place that uses it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// A value does not know whether its option is secret, so it shows its kind alone.
impl fmt::Debug for OptionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OptionValue::Text(_) => "Text(…)",
            OptionValue::Map(_) => "Map(…)",
        })
    }
}

/// What is wrong with the options of a statement. Its text holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionError {
    /// For the client.
    pub message: String,
}

impl OptionError {
    pub(super) fn new(message: impl Into<String>) -> OptionError {
        OptionError { message: message.into() }
    }
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for OptionError {}

/// The options as a statement would give them, in order of their names, secrets redacted:
/// `batch_size = 500, hmac_secret = '<redacted>'`.
pub fn to_cql(given: &Given) -> String {
    let mut out = String::new();
    for (name, value) in given {
        if !out.is_empty() {
            out.push_str(", ");
        }
        write!(out, "{name} = ").expect("writing to a string");
        match value {
            OptionValue::Text(_) if is_secret(name) => push_quoted(&mut out, REDACTED),
            OptionValue::Text(text) if is_bare(text) => out.push_str(text),
            OptionValue::Text(text) => push_quoted(&mut out, text),
            OptionValue::Map(map) => push_map(&mut out, map, is_secret(name)),
        }
    }
    out
}

/// The options one by one as a statement would give their values, without outer quotes, secrets
/// redacted.
pub fn shown(given: &Given) -> BTreeMap<String, String> {
    let text = |(name, value): (&String, &OptionValue)| match value {
        OptionValue::Text(_) if is_secret(name) => REDACTED.to_owned(),
        OptionValue::Text(text) => text.clone(),
        OptionValue::Map(map) => {
            let mut out = String::new();
            push_map(&mut out, map, is_secret(name));
            out
        }
    };
    given.iter().map(|entry| (entry.0.clone(), text(entry))).collect()
}

fn push_map(out: &mut String, map: &BTreeMap<String, String>, is_secret: bool) {
    out.push('{');
    for (index, (key, value)) in map.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        push_quoted(out, key);
        out.push_str(": ");
        push_quoted(out, if is_secret { REDACTED } else { value });
    }
    out.push('}');
}

/// Numbers and truth values stand without quotes.
fn is_bare(text: &str) -> bool {
    let is_number = (1..=18).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    is_number || matches!(text, "true" | "false")
}

fn push_quoted(out: &mut String, text: &str) {
    out.push('\'');
    out.push_str(&text.replace('\'', "''"));
    out.push('\'');
}

/// Whether an option's value must never be shown. Headers carry tokens.
fn is_secret(name: &str) -> bool {
    const PARTS: &[&str] = &["password", "secret", "token", "jaas", "pem", "oauthbearer.config"];
    let lower = name.to_lowercase();
    lower == "headers" || PARTS.iter().any(|part| lower.contains(part))
}
