//! The table options `caching`, `compression` and `tombstone_gc`.

use super::super::super::PlanError;
use std::collections::BTreeMap;

type Map = BTreeMap<String, String>;

/// Caching, with what is not named at its default.
pub(super) fn parse_caching(map: Map) -> Result<Map, PlanError> {
    let refuse = |key: &str, value: &str, allowed: &str| {
        Err(PlanError::config(format!(
            "Invalid value '{value}' for caching sub-option '{key}': only {allowed} are allowed"
        )))
    };
    let mut out = Map::from([
        ("keys".to_owned(), "ALL".to_owned()),
        ("rows_per_partition".to_owned(), "NONE".to_owned()),
    ]);
    for (key, value) in map {
        let upper = value.to_ascii_uppercase();
        let kept = match key.as_str() {
            "keys" if matches!(upper.as_str(), "ALL" | "NONE") => upper,
            "keys" => return refuse(&key, &value, "'ALL' and 'NONE'"),
            "rows_per_partition"
                if matches!(upper.as_str(), "ALL" | "NONE") || value.parse::<u32>().is_ok() =>
            {
                upper
            }
            "rows_per_partition" => {
                return refuse(&key, &value, "'ALL', 'NONE', and integer values");
            }
            "enabled" if matches!(upper.as_str(), "TRUE" | "FALSE") => upper.to_ascii_lowercase(),
            "enabled" => return refuse(&key, &value, "'true' and 'false'"),
            _ => {
                return Err(PlanError::config(format!(
                    "Invalid caching sub-options [{key}]: only 'keys' and 'rows_per_partition' are \
                     allowed"
                )));
            }
        };
        out.insert(key, kept);
    }
    Ok(out)
}

const COMPRESSORS: &str = "org.apache.cassandra.io.compress.";
const CHUNK_KIB_DEFAULT: &str = "16";

/// Compression; empty when it is off.
pub(super) fn parse_compression(
    mut map: Map,
    warnings: &mut Vec<String>,
) -> Result<Map, PlanError> {
    // The spelling of old releases, which ScyllaDB still prints.
    for (old, new) in [("sstable_compression", "class"), ("chunk_length_kb", CHUNK_LENGTH)] {
        if let Some(value) = map.remove(old) {
            map.entry(new.to_owned()).or_insert(value);
        }
    }
    let enabled = map.remove("enabled");
    if enabled.as_deref().is_some_and(|enabled| enabled.eq_ignore_ascii_case("false")) {
        return if map.is_empty() {
            Ok(map)
        } else {
            Err(PlanError::config(
                "If the 'enabled' option is set to false no other options must be specified",
            ))
        };
    }
    if map.is_empty() || (map.len() == 1 && map.get("class").is_some_and(String::is_empty)) {
        return Ok(Map::new());
    }
    let class = map.remove("class").ok_or_else(|| {
        PlanError::config("Missing sub-option 'class' for the 'compression' option.")
    })?;
    let short = class.strip_prefix(COMPRESSORS).unwrap_or(&class);
    match short {
        "LZ4Compressor" => {}
        "SnappyCompressor" | "DeflateCompressor" | "ZstdCompressor" | "NoopCompressor" => {
            warnings.push(format!("{short} is accepted, and blocks are compressed with LZ4"));
        }
        "" => {
            return Err(PlanError::config(
                "The 'class' option must not be empty. To disable compression use 'enabled' : \
                 false.",
            ));
        }
        _ => {
            let package = if short.contains('.') { "" } else { COMPRESSORS };
            return Err(PlanError::config(format!(
                "Could not create Compression for type {package}{short}"
            )));
        }
    }
    check_compression_options(short, &map)?;
    map.entry(CHUNK_LENGTH.to_owned()).or_insert_with(|| CHUNK_KIB_DEFAULT.to_owned());
    map.insert("class".to_owned(), format!("{COMPRESSORS}{short}"));
    Ok(map)
}

const CHUNK_LENGTH: &str = "chunk_length_in_kb";

fn check_compression_options(class: &str, map: &Map) -> Result<(), PlanError> {
    let refuse = |message: String| Err(PlanError::config(message));
    for (key, value) in map {
        match key.as_str() {
            CHUNK_LENGTH => match value.parse::<i32>() {
                Err(_) => return refuse(format!("Invalid value for {key}")),
                Ok(..=0) => return refuse(format!("Invalid negative or null {key}")),
                Ok(kib) if kib.count_ones() != 1 => {
                    return refuse(format!("{key} must be a power of 2"));
                }
                Ok(_) => {}
            },
            "min_compress_ratio" => {
                let ratio = value.parse::<f64>();
                if !ratio.is_ok_and(|ratio| ratio == 0.0 || (1.0..=f64::MAX).contains(&ratio)) {
                    return refuse(format!(
                        "min_compress_ratio must be 0 or at least 1 (got {value})"
                    ));
                }
            }
            "lz4_compressor_type" if class == "LZ4Compressor" => {
                if !matches!(value.as_str(), "fast" | "high") {
                    return refuse(format!(
                        "Invalid compressor type '{value}' specified for LZ4 parameter \
                         'lz4_compressor_type'. Valid options are [high, fast]."
                    ));
                }
            }
            "lz4_high_compressor_level" if class == "LZ4Compressor" => {
                if !value.parse::<u8>().is_ok_and(|level| (1..=17).contains(&level)) {
                    return refuse(format!(
                        "Invalid value [{value}] for parameter 'lz4_high_compressor_level'. Value \
                         must be between 1 and 17."
                    ));
                }
            }
            "compression_level" if class == "ZstdCompressor" => {
                if !value.parse::<i32>().is_ok_and(|level| (-131_072..=22).contains(&level)) {
                    return refuse(format!("compression_level={value} is invalid."));
                }
            }
            _ => return refuse(format!("Unknown compression options {key}")),
        }
    }
    Ok(())
}

/// ScyllaDB's `tombstone_gc`, kept as it was written.
pub(super) fn parse_tombstone_gc(map: Map) -> Result<Map, PlanError> {
    for (key, value) in &map {
        let valid = match key.as_str() {
            "mode" => matches!(value.as_str(), "timeout" | "disabled" | "immediate" | "repair"),
            "propagation_delay_in_seconds" => value.parse::<u32>().is_ok(),
            _ => {
                return Err(PlanError::config(format!("Invalid tombstone_gc option: {key}")));
            }
        };
        if !valid {
            return Err(PlanError::config(format!(
                "Invalid value for tombstone_gc option {key}: {value}"
            )));
        }
    }
    Ok(map)
}
