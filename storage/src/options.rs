//! What the engine is told: its own limits, and what a table's definition means for storage.

use crate::sstable::WriterOptions;
use model::TableDef;
use model::schema::Partitioner;
use std::collections::BTreeMap;

/// Limits of one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Memory of all memtables together at which the largest is flushed.
    pub memtable_bytes_max: usize,
    /// Memory of cached blocks; at least 4 MiB are kept.
    pub block_cache_bytes_max: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions { memtable_bytes_max: 128 << 20, block_cache_bytes_max: 128 << 20 }
    }
}

/// Content of a data block before compression.
const BLOCK_BYTES: usize = 16 << 10;
/// Logs are read in long runs.
const LOG_BLOCK_BYTES: usize = 64 << 10;

/// What of a table's definition concerns storage.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TableConfig {
    /// The definition has come.
    pub(crate) is_known: bool,
    pub(crate) partitioner: Partitioner,
    pub(crate) gc_grace_seconds: u32,
    pub(crate) writer: WriterOptions,
    pub(crate) compaction: BTreeMap<String, String>,
}

impl TableConfig {
    /// Of a table whose definition has not come yet; nothing is applied to it before it has.
    pub(crate) fn unknown() -> Self {
        TableConfig {
            is_known: false,
            partitioner: Partitioner::Murmur3,
            gc_grace_seconds: u32::MAX,
            writer: WriterOptions {
                is_compressed: true,
                block_bytes: BLOCK_BYTES,
                false_positive_chance: 0.01,
            },
            compaction: BTreeMap::new(),
        }
    }

    pub(crate) fn new(table: &TableDef) -> Self {
        let compression = &table.options.compression;
        let is_off = |key: &str, value: &str| compression.get(key).is_some_and(|v| v == value);
        TableConfig {
            is_known: true,
            partitioner: table.partitioner,
            gc_grace_seconds: table.options.gc_grace_seconds,
            writer: WriterOptions {
                is_compressed: !compression.is_empty()
                    && !is_off("enabled", "false")
                    && !is_off("sstable_compression", ""),
                block_bytes: if table.is_cdc_log() { LOG_BLOCK_BYTES } else { BLOCK_BYTES },
                false_positive_chance: table.options.bloom_filter_fp_chance,
            },
            compaction: table.options.compaction.clone(),
        }
    }
}
