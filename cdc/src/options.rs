//! The table option `cdc`: a map of text, checked and turned into [`CdcOptions`], and back.
//!
//! Keys and values are compared without regard to case; what is shown again is always lower case,
//! with every key present. The map of a statement replaces the one before as a whole. The blob form
//! (`system_schema.tables.extensions`) is read by clients for `ttl` and `enabled`, so its bytes are
//! fixed:
//!
//! ```text
//! blob := count:u32le (key value){count}      key, value := length:u32le bytes
//! ```

use crate::error::{CdcError, config, invalid};
use model::codec::{Cursor, DecodeError};
use model::{CdcOptions, DeltaMode, PreimageMode};
use std::collections::BTreeMap;

/// The option of `CREATE TABLE … WITH cdc = {…}`. A map without `enabled` is checked, and then
/// stores nothing.
pub fn parse_for_create(map: &BTreeMap<String, String>) -> Result<Option<CdcOptions>, CdcError> {
    let (options, has_enabled) = parse(map)?;
    Ok(has_enabled.then_some(options))
}

/// The option of `ALTER TABLE … WITH cdc = {…}`: the whole new value, nothing of the old one stays.
pub fn parse_for_alter(map: &BTreeMap<String, String>) -> Result<CdcOptions, CdcError> {
    match parse(map)? {
        (options, true) => Ok(options),
        (_, false) => Err(invalid("Altering CDC options requires specifying \"enabled\" flag")),
    }
}

/// The options, and whether `enabled` was named.
fn parse(map: &BTreeMap<String, String>) -> Result<(CdcOptions, bool), CdcError> {
    let mut options = CdcOptions::default();
    let mut has_enabled = false;
    for (key, value) in map {
        let bad_value = |name| config(format!("Invalid value for CDC option \"{name}\": {value}"));
        let lower = value.to_lowercase();
        match key.to_lowercase().as_str() {
            "enabled" => {
                options.enabled = parse_bool(&lower).ok_or_else(|| bad_value("enabled"))?;
                has_enabled = true;
            }
            "preimage" => {
                options.preimage = match (lower.as_str(), parse_bool(&lower)) {
                    ("full", _) => PreimageMode::Full,
                    (_, Some(true)) => PreimageMode::Touched,
                    (_, Some(false)) => PreimageMode::Off,
                    _ => return Err(bad_value("preimage")),
                };
            }
            "postimage" => {
                options.postimage = parse_bool(&lower).ok_or_else(|| bad_value("postimage"))?;
            }
            "delta" => {
                options.delta = match lower.as_str() {
                    "full" => DeltaMode::Full,
                    "keys" => DeltaMode::Keys,
                    _ => return Err(bad_value("delta")),
                };
            }
            "ttl" => {
                options.ttl_seconds = match parse_integer_prefix(value) {
                    IntegerPrefix::None => return Err(bad_value("ttl")),
                    IntegerPrefix::OutOfRange => {
                        return Err(config("Invalid CDC option: ttl too large"));
                    }
                    IntegerPrefix::Value(ttl) => u32::try_from(ttl)
                        .map_err(|_| config("Invalid CDC option: ttl must be >= 0"))?,
                };
            }
            _ => return Err(config(format!("Invalid CDC option: {key}"))),
        }
    }
    Ok((options, has_enabled))
}

fn parse_bool(lower: &str) -> Option<bool> {
    match lower {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

enum IntegerPrefix {
    None,
    OutOfRange,
    Value(i32),
}

/// The integer at the front of a text, as C's `strtol` reads it: leading white space, a sign,
/// digits, and whatever follows is ignored.
fn parse_integer_prefix(text: &str) -> IntegerPrefix {
    let text = text.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let length = digits.bytes().take_while(u8::is_ascii_digit).count();
    if length == 0 {
        return IntegerPrefix::None;
    }
    let magnitude = digits[..length].parse::<i64>().ok();
    match magnitude.map(|m| i32::try_from(if negative { -m } else { m })) {
        Some(Ok(value)) => IntegerPrefix::Value(value),
        _ => IntegerPrefix::OutOfRange,
    }
}

/// The option as a map, every key present.
pub fn to_map(options: CdcOptions) -> BTreeMap<String, String> {
    let entries = to_entries(options);
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The option as CQL text, keys in order and everything quoted.
pub fn to_cql(options: CdcOptions) -> String {
    let entries = to_entries(options).map(|(key, value)| format!("'{key}': '{value}'"));
    format!("{{{}}}", entries.join(", "))
}

fn to_entries(options: CdcOptions) -> [(&'static str, String); 5] {
    let delta = match options.delta {
        DeltaMode::Full => "full",
        DeltaMode::Keys => "keys",
    };
    let preimage = match options.preimage {
        PreimageMode::Off => "false",
        PreimageMode::Touched => "true",
        PreimageMode::Full => "full",
    };
    [
        ("delta", delta.to_owned()),
        ("enabled", options.enabled.to_string()),
        ("postimage", options.postimage.to_string()),
        ("preimage", preimage.to_owned()),
        ("ttl", options.ttl_seconds.to_string()),
    ]
}

/// The option as the value of `extensions['cdc']`; a table without the option has no such value.
pub fn to_blob(options: CdcOptions) -> Vec<u8> {
    let entries = to_entries(options);
    let mut out = Vec::with_capacity(96);
    let put_length = |out: &mut Vec<u8>, length: usize| {
        out.extend_from_slice(&(length as u32).to_le_bytes());
    };
    put_length(&mut out, entries.len());
    for (key, value) in &entries {
        put_length(&mut out, key.len());
        out.extend_from_slice(key.as_bytes());
        put_length(&mut out, value.len());
        out.extend_from_slice(value.as_bytes());
    }
    out
}

/// The option from its blob: what [`to_blob`] wrote, or what a backup of another system holds.
/// `None` for an empty map.
pub fn from_blob(blob: &[u8]) -> Result<Option<CdcOptions>, CdcError> {
    let malformed = |_: DecodeError| invalid("Malformed CDC options");
    let mut cursor = Cursor::new(blob);
    let count = u32::from_le_bytes(cursor.array().map_err(malformed)?);
    let mut map = BTreeMap::new();
    for _ in 0..count {
        let key = read_text(&mut cursor)?;
        let value = read_text(&mut cursor)?;
        map.insert(key, value);
    }
    cursor.finish().map_err(malformed)?;
    parse_for_create(&map)
}

fn read_text(cursor: &mut Cursor) -> Result<String, CdcError> {
    let malformed = || invalid("Malformed CDC options");
    let length = u32::from_le_bytes(cursor.array().map_err(|_| malformed())?) as usize;
    let bytes = cursor.bytes(length).map_err(|_| malformed())?;
    Ok(std::str::from_utf8(bytes).map_err(|_| malformed())?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::CdcErrorKind;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn created(pairs: &[(&str, &str)]) -> CdcOptions {
        parse_for_create(&map(pairs)).unwrap().unwrap()
    }

    #[test]
    fn values_are_read_without_regard_to_case_and_defaults_fill_the_rest() {
        let options = created(&[("Enabled", "TRUE")]);
        assert_eq!(options, CdcOptions { enabled: true, ..CdcOptions::default() });
        let options = created(&[
            ("enabled", "1"),
            ("preimage", "FULL"),
            ("postimage", "true"),
            ("delta", "Keys"),
            ("ttl", " 12abc"),
        ]);
        assert_eq!(
            options,
            CdcOptions {
                enabled: true,
                preimage: PreimageMode::Full,
                postimage: true,
                delta: DeltaMode::Keys,
                ttl_seconds: 12,
            }
        );
    }

    #[test]
    fn refusals_have_the_known_texts() {
        let refusal = |pairs: &[(&str, &str)]| {
            let error = parse_for_create(&map(pairs)).unwrap_err();
            assert_eq!(error.kind, CdcErrorKind::Config);
            error.message
        };
        for key in ["enabled", "preimage", "postimage", "delta", "ttl"] {
            let expected = format!("Invalid value for CDC option \"{key}\": Maybe");
            assert_eq!(refusal(&[(key, "Maybe")]), expected);
        }
        for ttl in ["2147483648", "-2147483649", "99999999999999999999"] {
            assert_eq!(refusal(&[("ttl", ttl)]), "Invalid CDC option: ttl too large");
        }
        assert_eq!(refusal(&[("ttl", "-1")]), "Invalid CDC option: ttl must be >= 0");
        assert_eq!(refusal(&[("Colour", "red")]), "Invalid CDC option: Colour");
        let error = parse_for_alter(&map(&[("preimage", "true")])).unwrap_err();
        assert_eq!(error.message, "Altering CDC options requires specifying \"enabled\" flag");
        assert_eq!(error.kind, CdcErrorKind::Invalid);
    }

    #[test]
    fn without_enabled_a_create_stores_nothing_and_an_alter_resets_what_it_does_not_name() {
        assert_eq!(parse_for_create(&map(&[("preimage", "true")])), Ok(None));
        let altered = parse_for_alter(&map(&[("enabled", "false")])).unwrap();
        assert_eq!(altered, CdcOptions::default());
    }

    #[test]
    fn the_printed_map_reads_back() {
        let options = created(&[("enabled", "true")]);
        assert_eq!(
            to_cql(options),
            "{'delta': 'full', 'enabled': 'true', 'postimage': 'false', 'preimage': 'false', \
             'ttl': '86400'}"
        );
        assert_eq!(parse_for_alter(&to_map(options)), Ok(options));
    }

    #[test]
    fn the_blob_has_fixed_bytes_and_reads_back() {
        let options = created(&[("enabled", "true"), ("ttl", "0")]);
        let blob = to_blob(options);
        let mut expected = b"\x05\0\0\0".to_vec();
        for text in ["delta", "full", "enabled", "true", "postimage", "false", "preimage", "false"]
        {
            expected.extend_from_slice(&[text.len() as u8, 0, 0, 0]);
            expected.extend_from_slice(text.as_bytes());
        }
        expected.extend_from_slice(b"\x03\0\0\0ttl\x01\0\0\x000");
        assert_eq!(blob, expected);
        assert_eq!(from_blob(&blob), Ok(Some(options)));
        assert_eq!(from_blob(&[0; 4]), Ok(None));
        for length in 0..blob.len() {
            assert!(from_blob(&blob[..length]).is_err(), "{length}");
        }
        assert!(from_blob(&[blob.as_slice(), &[0]].concat()).is_err());
        assert!(from_blob(&[0xff; 8]).is_err());
    }
}
