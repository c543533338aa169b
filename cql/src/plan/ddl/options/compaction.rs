//! The table option `compaction`: which strategy, and what it is told.

use super::super::super::PlanError;
use std::collections::BTreeMap;

type Map = BTreeMap<String, String>;

const STRATEGIES: &str = "org.apache.cassandra.db.compaction.";
const THRESHOLD_MIN_DEFAULT: i32 = 4;
const THRESHOLD_MAX_DEFAULT: i32 = 32;
const BUCKET_LOW_DEFAULT: f64 = 0.5;
const BUCKET_HIGH_DEFAULT: f64 = 1.5;

/// What the value of an option has to be.
#[derive(Clone, Copy)]
enum Rule {
    Boolean,
    /// Greater than zero, `-1` would not do.
    PositiveNumber,
    PositiveInteger,
    NotNegativeInteger,
    /// A number, compared with its counterpart later.
    Number,
    Threshold,
    OneOf(&'static [&'static str]),
    ScalingParameters,
    /// Read by nothing but the strategy that is mapped.
    Free,
}

const COMMON: &[(&str, Rule)] = &[
    ("enabled", Rule::Boolean),
    ("log_all", Rule::Boolean),
    ("only_purge_repaired_tombstones", Rule::Boolean),
    (
        "provide_overlapping_tombstones",
        Rule::OneOf(&["NONE", "ROW", "CELL", "none", "row", "cell"]),
    ),
    ("tombstone_compaction_interval", Rule::PositiveInteger),
    ("tombstone_threshold", Rule::PositiveNumber),
    ("unchecked_tombstone_compaction", Rule::Boolean),
];
const SIZE_TIERED: &[(&str, Rule)] = &[
    ("bucket_high", Rule::Number),
    ("bucket_low", Rule::Number),
    ("max_threshold", Rule::Threshold),
    ("min_sstable_size", Rule::NotNegativeInteger),
    ("min_threshold", Rule::Threshold),
];
const LEVELED: &[(&str, Rule)] = &[
    ("fanout_size", Rule::PositiveInteger),
    ("single_sstable_uplevel", Rule::Boolean),
    ("sstable_size_in_mb", Rule::PositiveInteger),
];
const TIME_UNITS: &[&str] =
    &["NANOSECONDS", "MICROSECONDS", "MILLISECONDS", "SECONDS", "MINUTES", "HOURS", "DAYS"];
const TIME_WINDOW: &[(&str, Rule)] = &[
    ("compaction_window_size", Rule::PositiveInteger),
    ("compaction_window_unit", Rule::OneOf(&["MINUTES", "HOURS", "DAYS"])),
    ("expired_sstable_check_frequency_seconds", Rule::NotNegativeInteger),
    ("timestamp_resolution", Rule::OneOf(TIME_UNITS)),
    ("unsafe_aggressive_sstable_expiration", Rule::Boolean),
];
const UNIFIED: &[(&str, Rule)] = &[
    ("base_shard_count", Rule::PositiveInteger),
    ("expired_sstable_check_frequency_seconds", Rule::NotNegativeInteger),
    ("max_sstables_to_compact", Rule::Free),
    ("min_sstable_size", Rule::Free),
    ("overlap_inclusion_method", Rule::OneOf(&["NONE", "SINGLE", "TRANSITIVE"])),
    ("parallelize_output_shards", Rule::Boolean),
    ("scaling_parameters", Rule::ScalingParameters),
    ("sstable_growth", Rule::Free),
    ("target_sstable_size", Rule::Free),
    ("unsafe_aggressive_sstable_expiration", Rule::Boolean),
];
const INCREMENTAL: &[(&str, Rule)] = &[
    ("space_amplification_goal", Rule::PositiveNumber),
    ("sstable_size_in_mb", Rule::PositiveInteger),
];

/// The options that a strategy knows beside the common ones.
fn known_options(strategy: &str) -> Option<[&'static [(&'static str, Rule)]; 2]> {
    Some(match strategy {
        "SizeTieredCompactionStrategy" => [SIZE_TIERED, &[]],
        "LeveledCompactionStrategy" => [SIZE_TIERED, LEVELED],
        "TimeWindowCompactionStrategy" => [SIZE_TIERED, TIME_WINDOW],
        "IncrementalCompactionStrategy" => [SIZE_TIERED, INCREMENTAL],
        "UnifiedCompactionStrategy" => [UNIFIED, &[]],
        _ => return None,
    })
}

/// The map as it is kept and shown: full class name, thresholds filled in.
pub(super) fn parse_compaction(mut map: Map, warnings: &mut Vec<String>) -> Result<Map, PlanError> {
    let class = map.remove("class").ok_or_else(|| {
        PlanError::config("Missing sub-option 'class' for the 'compaction' option")
    })?;
    let strategy = class.strip_prefix(STRATEGIES).unwrap_or(&class);
    let Some(known) = known_options(strategy) else {
        let package = if strategy.contains('.') { "" } else { STRATEGIES };
        return Err(PlanError::config(format!(
            "Unable to find compaction strategy class '{package}{strategy}'"
        )));
    };
    let rule_of = |key: &str| {
        let mut rules = COMMON.iter().chain(known[0]).chain(known[1]);
        rules.find(|(name, _)| *name == key).map(|(_, rule)| *rule)
    };
    let unknown: Vec<&str> =
        map.keys().map(String::as_str).filter(|key| rule_of(key).is_none()).collect();
    if !unknown.is_empty() {
        return Err(PlanError::config(format!(
            "Properties specified [{}] are not understood by {strategy}",
            unknown.join(", ")
        )));
    }
    for (key, value) in &map {
        if let Some(rule) = rule_of(key) {
            check_value(key, value, rule)?;
        }
    }
    check_buckets(&map)?;
    if !matches!(strategy, "SizeTieredCompactionStrategy" | "TimeWindowCompactionStrategy") {
        warnings.push(format!("{strategy} is accepted, and run as SizeTieredCompactionStrategy"));
    }
    if strategy != "UnifiedCompactionStrategy" {
        fill_thresholds(&mut map)?;
    }
    map.insert("class".to_owned(), format!("{STRATEGIES}{strategy}"));
    Ok(map)
}

fn check_value(key: &str, value: &str, rule: Rule) -> Result<(), PlanError> {
    let refuse = |message: String| Err(PlanError::config(message));
    let integer = || {
        value.parse::<i64>().map_err(|_| {
            PlanError::config(format!("{value} is not a parsable int (base10) for {key}"))
        })
    };
    let number = || {
        let number = value.parse::<f64>().ok().filter(|number| number.is_finite());
        number
            .ok_or_else(|| PlanError::config(format!("{value} is not a parsable float for {key}")))
    };
    match rule {
        Rule::Boolean if matches!(value, "true" | "false") => Ok(()),
        Rule::Boolean => refuse(format!("{key} should either be 'true' or 'false', not {value}")),
        Rule::PositiveNumber => match number()? {
            n if n > 0.0 => Ok(()),
            n => refuse(format!("{key} must be greater than 0, but was {n:.6}")),
        },
        Rule::PositiveInteger => match integer()? {
            1.. => Ok(()),
            0 if key == "compaction_window_size" => {
                refuse(format!("{value} must be greater than 1 for {key}"))
            }
            n if key == "tombstone_compaction_interval" => {
                refuse(format!("{key} must be greater than 0, but was {n}"))
            }
            n => refuse(format!("{key} must be larger than 0, but was {n}")),
        },
        Rule::NotNegativeInteger => match integer()? {
            0.. => Ok(()),
            n => refuse(format!("{key} must be non negative: {n}")),
        },
        Rule::Number => number().map(|_| ()),
        Rule::Threshold => match value.parse::<i32>() {
            Ok(_) => Ok(()),
            Err(_) => refuse(format!(
                "Invalid value {value} for '{key}' compaction sub-option - must be an integer"
            )),
        },
        Rule::OneOf(allowed) if allowed.contains(&value) => Ok(()),
        Rule::OneOf(_) => refuse(format!("{value} is not valid for {key}")),
        Rule::ScalingParameters => {
            match value.split(',').map(str::trim).find(|one| !is_scaling_parameter(one)) {
                None => Ok(()),
                Some(one) => refuse(format!(
                    "Scaling parameter {one} must match N|L[0-9]+|T[0-9]+|[+-]?[0-9]+"
                )),
            }
        }
        Rule::Free => Ok(()),
    }
}

fn is_scaling_parameter(text: &str) -> bool {
    let digits = text.strip_prefix(['L', 'T', '+', '-']).unwrap_or(text);
    text == "N" || (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn check_buckets(map: &Map) -> Result<(), PlanError> {
    let number = |key: &str, default: f64| {
        map.get(key).and_then(|value| value.parse().ok()).unwrap_or(default)
    };
    let low = number("bucket_low", BUCKET_LOW_DEFAULT);
    let high = number("bucket_high", BUCKET_HIGH_DEFAULT);
    if high <= low {
        return Err(PlanError::config(format!(
            "bucket_high value ({high:?}) is less than or equal to the bucket_low value ({low:?})"
        )));
    }
    Ok(())
}

fn fill_thresholds(map: &mut Map) -> Result<(), PlanError> {
    let mut threshold = |key: &str, default: i32| -> i32 {
        let value = map.entry(key.to_owned()).or_insert_with(|| default.to_string());
        value.parse().unwrap_or(default)
    };
    let least = threshold("min_threshold", THRESHOLD_MIN_DEFAULT);
    let most = threshold("max_threshold", THRESHOLD_MAX_DEFAULT);
    if least < 2 {
        return Err(PlanError::config(format!(
            "Min compaction threshold cannot be less than 2 (got {least})"
        )));
    }
    if least > most {
        return Err(PlanError::config(format!(
            "Min compaction threshold (got {least}) cannot be greater than max compaction \
             threshold (got {most})"
        )));
    }
    Ok(())
}

/// The default depends on the strategy: levels make a row's absence cheap to find.
pub(super) fn default_bloom_filter_fp_chance(compaction: &Map) -> f64 {
    let leveled = compaction.get("class").is_some_and(|c| c.ends_with("LeveledCompactionStrategy"));
    if leveled { 0.1 } else { 0.01 }
}
