//! Values of the file, of flags and of variables: texts, numbers, sizes, durations. An error names
//! the key.

use super::{ConfigError, LogFormat};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// A text, or what YAML took for a number or a flag.
pub(super) fn text(key: &str, value: &Value) -> Result<String, ConfigError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        _ => Err(ConfigError(format!("{key}: expected a text, got {value}"))),
    }
}

/// A number of 16 bits: a port, a count.
pub(super) fn number(key: &str, value: &Value) -> Result<u16, ConfigError> {
    value.as_u64().and_then(|n| u16::try_from(n).ok()).ok_or_else(|| {
        ConfigError(format!("{key}: expected a number from 0 to 65535, got {value}"))
    })
}

/// The one directory of `data_file_directories`.
pub(super) fn data_directory(key: &str, value: &Value) -> Result<PathBuf, ConfigError> {
    match value {
        Value::Array(list) if list.len() == 1 => Ok(PathBuf::from(text(key, &list[0])?)),
        Value::Array(_) => {
            Err(ConfigError(format!("{key}: expected one directory; Tethys uses exactly one")))
        }
        other => Ok(PathBuf::from(text(key, other)?)),
    }
}

/// A host id as `tethys status` shows it, with hyphens or without; nothing for an empty text.
pub(super) fn host_id(key: &str, text: &str) -> Result<Option<u128>, ConfigError> {
    if text.is_empty() {
        return Ok(None);
    }
    let error = || {
        ConfigError(format!("{key}: `{text}` is no host id: it is a UUID, as in `tethys status`"))
    };
    parse_host_id(text).map(Some).ok_or_else(error)
}

/// The same, if the text is one.
pub(crate) fn parse_host_id(text: &str) -> Option<u128> {
    let digits: String = text.chars().filter(|character| *character != '-').collect();
    let is_hex = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u128::from_str_radix(&digits, 16).ok()).flatten()
}

/// A truth value.
pub(super) fn boolean(key: &str, value: &str) -> Result<bool, ConfigError> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(ConfigError(format!("{key}: `{value}` is neither true nor false"))),
    }
}

/// `text` or `json`.
pub(super) fn parse_log_format(key: &str, name: &str) -> Result<LogFormat, ConfigError> {
    match name {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(ConfigError(format!("{key}: `{name}` is not a format; use text or json"))),
    }
}

/// A size such as `512M`, `4G`, `4GiB` or plain bytes.
pub(super) fn parse_size(key: &str, size: &str) -> Result<usize, ConfigError> {
    let error = || ConfigError(format!("{key}: `{size}` is not a size; write 512M or 4G"));
    let (digits, unit) = split_number(size);
    let shift = match unit.to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(error()),
    };
    let count: usize = digits.parse().map_err(|_| error())?;
    count.checked_mul(1 << shift).ok_or_else(error)
}

/// A duration such as `10s`, `5000ms`, `1m`; a bare number is milliseconds.
pub(super) fn parse_duration(key: &str, duration: &str) -> Result<Duration, ConfigError> {
    let error =
        || ConfigError(format!("{key}: `{duration}` is not a duration; write 10s or 500ms"));
    let (digits, unit) = split_number(duration);
    let count: u64 = digits.parse().map_err(|_| error())?;
    match unit {
        "" | "ms" => Ok(Duration::from_millis(count)),
        "s" => Ok(Duration::from_secs(count)),
        "m" => Ok(Duration::from_secs(count.checked_mul(60).ok_or_else(error)?)),
        _ => Err(error()),
    }
}

fn split_number(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_take_the_usual_spellings() {
        assert_eq!(parse_size("k", "4GiB").unwrap(), 4 << 30);
        assert_eq!(parse_size("k", "512m").unwrap(), 512 << 20);
        assert_eq!(parse_duration("k", "10s").unwrap(), Duration::from_secs(10));
        assert_eq!(parse_duration("k", "500").unwrap(), Duration::from_millis(500));
    }
}
