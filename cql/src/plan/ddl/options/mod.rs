//! The options of a table: a WITH clause to [`TableOptions`].

mod compaction;
mod maps;
mod retry;

use super::super::PlanError;
use super::cdc::{CdcRefusal, CdcTables};
use super::errors::syntax;
use super::properties::Properties;
use crate::syntax::ast::{Property, PropertyValue};
use compaction::{default_bloom_filter_fp_chance, parse_compaction};
use maps::{parse_caching, parse_compression, parse_tombstone_gc};
use model::literal::parse_literal;
use model::{CdcOptions, CqlType, TableDef, TableId, TableOptions};
use retry::parse_retry;
use std::collections::BTreeMap;

/// Longest TTL, in seconds: 20 years.
pub(super) const TTL_SECONDS_MAX: i32 = 20 * 365 * 24 * 60 * 60;
/// Smallest false-positive rate that a Bloom filter can have.
const BLOOM_FILTER_FP_CHANCE_MIN: f64 = 6.71e-5;

/// The WITH clause of a table.
pub(super) struct TableProperties<'a> {
    properties: Properties<'a>,
    cdc: &'a dyn CdcTables,
}

/// What a WITH clause makes of a table's options.
pub(super) struct ReadOptions {
    /// The new options.
    pub(super) options: TableOptions,
    /// What the user should know.
    pub(super) warnings: Vec<String>,
}

impl<'a> TableProperties<'a> {
    pub(super) fn new(properties: &'a [Property], cdc: &'a dyn CdcTables) -> Self {
        TableProperties { properties: Properties::new(properties), cdc }
    }

    /// The table's id, if the clause names one.
    pub(super) fn take_id(&mut self) -> Result<Option<TableId>, PlanError> {
        let invalid = || PlanError::config("Invalid table id");
        let Some(value) = self.properties.take("id") else { return Ok(None) };
        let PropertyValue::Text(text) = value else { return Err(invalid()) };
        let bytes = parse_literal(&CqlType::Uuid, text).map_err(|_| invalid())?;
        let bytes = bytes.try_into().map_err(|_| invalid())?;
        Ok(Some(TableId(u128::from_be_bytes(bytes))))
    }

    /// Refuses the property `id`: it cannot be changed.
    pub(super) fn refuse_id(&mut self) -> Result<(), PlanError> {
        match self.properties.take("id") {
            None => Ok(()),
            Some(_) => Err(PlanError::config("Cannot alter table id.")),
        }
    }

    /// The options after the clause; `old` are those before it, the defaults when `is_new`.
    pub(super) fn read(
        mut self,
        old: &TableOptions,
        is_new: bool,
    ) -> Result<ReadOptions, PlanError> {
        let mut options = old.clone();
        let mut warnings = Vec::new();
        let wanted = &mut self.properties;
        if let Some(comment) = wanted.take_text("comment")? {
            comment.clone_into(&mut options.comment);
        }
        if let Some(map) = wanted.take_map("compaction")? {
            options.compaction = parse_compaction(map, &mut warnings)?;
        }
        if let Some(map) = wanted.take_map("compression")? {
            options.compression = parse_compression(map, &mut warnings)?;
        }
        if let Some(map) = wanted.take_map("caching")? {
            options.caching = parse_caching(map)?;
        }
        if let Some(map) = wanted.take_map("tombstone_gc")? {
            options.tombstone_gc = parse_tombstone_gc(map)?;
        }
        if let Some(text) = wanted.take_text("speculative_retry")? {
            options.speculative_retry = parse_retry(text)?;
        }
        if let Some(text) = wanted.take_text("additional_write_policy")? {
            options.additional_write_policy = parse_retry(text)?;
        }
        if let Some(text) = wanted.take_text("read_repair")? {
            options.read_repair = text.to_ascii_uppercase();
            if !matches!(options.read_repair.as_str(), "BLOCKING" | "NONE") {
                return Err(PlanError::config(format!(
                    "Invalid value {text} for option 'read_repair': only BLOCKING and NONE are \
                     allowed"
                )));
            }
        }
        read_numbers(wanted, &mut options, is_new)?;
        refuse_what_cannot_be_changed(wanted)?;
        options.cdc = read_cdc(wanted, self.cdc, old.cdc, is_new)?;
        self.properties.finish()?;
        Ok(ReadOptions { options, warnings })
    }
}

fn read_numbers(
    wanted: &mut Properties<'_>,
    options: &mut TableOptions,
    is_new: bool,
) -> Result<(), PlanError> {
    let refuse = |message: String| Err(PlanError::config(message));
    match wanted.take_double("bloom_filter_fp_chance")? {
        Some(chance) if chance > BLOOM_FILTER_FP_CHANCE_MIN && chance <= 1.0 => {
            options.bloom_filter_fp_chance = chance;
        }
        Some(chance) => {
            return refuse(format!(
                "bloom_filter_fp_chance must be larger than 6.71E-5 and less than or equal to 1.0 \
                 (got {})",
                double(chance)
            ));
        }
        None if is_new => {
            options.bloom_filter_fp_chance = default_bloom_filter_fp_chance(&options.compaction);
        }
        None => {}
    }
    match wanted.take_double("crc_check_chance")? {
        Some(chance) if (0.0..=1.0).contains(&chance) => options.crc_check_chance = chance,
        Some(chance) => {
            return refuse(format!(
                "crc_check_chance must be larger than or equal to 0 and smaller than or equal to \
                 1.0 (got {})",
                double(chance)
            ));
        }
        None => {}
    }
    for (name, least, most, option) in [
        ("gc_grace_seconds", 0, i32::MAX, &mut options.gc_grace_seconds),
        ("default_time_to_live", 0, TTL_SECONDS_MAX, &mut options.default_time_to_live),
        ("min_index_interval", 1, i32::MAX, &mut options.min_index_interval),
        ("max_index_interval", i32::MIN, i32::MAX, &mut options.max_index_interval),
        ("memtable_flush_period_in_ms", 0, i32::MAX, &mut options.memtable_flush_period_in_ms),
    ] {
        let Some(value) = wanted.take_integer(name)? else { continue };
        if value < least {
            return refuse(format!(
                "{name} must be greater than or equal to {least} (got {value})"
            ));
        }
        if value > most {
            return refuse(format!("{name} must be less than or equal to {most} (got {value})"));
        }
        // A negative maximum is below every minimum, and refused as such.
        *option = u32::try_from(value).unwrap_or(0);
    }
    let (least, most) = (options.min_index_interval, options.max_index_interval);
    if most < least {
        return refuse(format!(
            "max_index_interval must be greater than or equal to min_index_interval ({least}) \
             (got {most})"
        ));
    }
    Ok(())
}

/// A number as Java writes it.
pub(in super::super) fn double(number: f64) -> String {
    model::literal::format_value(&CqlType::Double, &number.to_be_bytes())
}

/// Options that Cassandra prints and that have one value here.
fn refuse_what_cannot_be_changed(wanted: &mut Properties<'_>) -> Result<(), PlanError> {
    if let Some(memtable) = wanted.take_text("memtable")?
        && memtable != "default"
    {
        return Err(PlanError::config(format!("Memtable configuration \"{memtable}\" not found.")));
    }
    for name in ["allow_auto_snapshot", "incremental_backups"] {
        if wanted.take_boolean(name)? == Some(false) {
            return Err(PlanError::config(format!("{name} = false is not supported")));
        }
    }
    match wanted.take_map("extensions")? {
        Some(extensions) if !extensions.is_empty() => {
            Err(PlanError::config("Extensions of a table cannot be set as such"))
        }
        _ => Ok(()),
    }
}

/// The option `cdc`. Cassandra's `cdc = false` is taken for what it says, since it stands in every
/// dump of a schema.
fn read_cdc(
    wanted: &mut Properties<'_>,
    cdc: &dyn CdcTables,
    old: Option<CdcOptions>,
    is_new: bool,
) -> Result<Option<CdcOptions>, PlanError> {
    let map: BTreeMap<String, String> = match wanted.take("cdc") {
        None => return Ok(old),
        Some(PropertyValue::Map(entries)) => entries.iter().cloned().collect(),
        Some(PropertyValue::Text(text)) if text.eq_ignore_ascii_case("false") => {
            if old.is_none() {
                return Ok(None);
            }
            BTreeMap::from([("enabled".to_owned(), "false".to_owned())])
        }
        Some(PropertyValue::Text(_)) => {
            return Err(syntax(
                "Invalid value for property 'cdc'. It should be a map, for example \
                 {'enabled': true}.",
            ));
        }
    };
    if is_new { cdc.parse_for_create(&map) } else { cdc.parse_for_alter(&map).map(Some) }
}

/// What a log's own options may not say.
pub(super) fn check_cdc_of_log(table: &TableDef, cdc: &dyn CdcTables) -> Result<(), PlanError> {
    if !table.is_cdc_log() {
        return Ok(());
    }
    if table.cdc_enabled().is_some() {
        let (keyspace, log) = (&*table.keyspace, &*table.name);
        return Err(cdc.refusal(CdcRefusal::NestedLog { keyspace, log }));
    }
    if table.options.tombstone_gc.get("mode").is_some_and(|mode| mode == "repair") {
        return Err(cdc.refusal(CdcRefusal::LogTombstoneGcRepair));
    }
    Ok(())
}
