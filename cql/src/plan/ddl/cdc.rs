//! CDC logs in the life of their base tables.
//!
//! | the base                   | its log                                                        |
//! |----------------------------|----------------------------------------------------------------|
//! | gets `enabled: true`       | is made, or the one it had is attached again, columns in step  |
//! | is altered                 | follows with its columns, keeps its properties and its id      |
//! | gets `enabled: false`      | is detached: it stays, readable, and may be dropped now        |
//! | is dropped                 | is dropped, attached or not                                    |
//!
//! A log is attached when its base's `cdc_log` names it. What a log looks like, and the texts of
//! refusals, come through [`CdcTables`], since this crate does not know the one that has them.

use super::super::PlanError;
use super::{ChangeKind, DdlContext, SchemaChange};
use model::{CdcOptions, KeyspaceDef, TableDef, TableId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The rules of CDC logs: pure functions.
pub trait CdcTables {
    /// The option of CREATE TABLE from its map; `None` when it stores nothing.
    fn parse_for_create(
        &self,
        map: &BTreeMap<String, String>,
    ) -> Result<Option<CdcOptions>, PlanError>;

    /// The option of ALTER TABLE from its map: the whole new value.
    fn parse_for_alter(&self, map: &BTreeMap<String, String>) -> Result<CdcOptions, PlanError>;

    /// The option as a map, every key present.
    fn to_map(&self, options: CdcOptions) -> BTreeMap<String, String>;

    /// The option as the value of `extensions['cdc']`.
    fn to_blob(&self, options: CdcOptions) -> Vec<u8>;

    /// The name of a table's log.
    fn log_table_name(&self, base: &str) -> String;

    /// A new log for `base`, whose options are set.
    fn new_log_table(&self, base: &TableDef, id: TableId) -> Result<TableDef, PlanError>;

    /// The log after a change of its base, its version raised when anything changed.
    fn sync_log_table(
        &self,
        base: &TableDef,
        log: &TableDef,
        now_micros: i64,
    ) -> Result<TableDef, PlanError>;

    /// The error of a refusal.
    fn refusal(&self, refusal: CdcRefusal<'_>) -> PlanError;
}

/// Why a statement about a base table or a log is refused. Names are given without quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CdcRefusal<'a> {
    /// The log's name belongs to an ordinary table.
    LogNameTaken {
        /// The keyspace.
        keyspace: &'a str,
        /// The base table.
        base: &'a str,
    },
    /// A log cannot have a log.
    NestedLog {
        /// The keyspace.
        keyspace: &'a str,
        /// The log that would be a base.
        log: &'a str,
    },
    /// A counter column added to a table with a log.
    CounterColumnAdded {
        /// The column.
        column: &'a str,
    },
    /// Columns of a log added, dropped or retyped.
    LogColumnsModified {
        /// Whether the log is attached.
        attached: bool,
    },
    /// A column of a log renamed.
    LogColumnRenamed {
        /// Whether the log is attached.
        attached: bool,
    },
    /// An attached log dropped.
    AttachedLogDropped {
        /// The log.
        log: &'a str,
    },
    /// `tombstone_gc = {'mode': 'repair'}` for a log.
    LogTombstoneGcRepair,
}

/// Whether `table` is the log of a table whose changes it receives.
pub(in super::super) fn is_attached_log(keyspace: &KeyspaceDef, table: &TableDef) -> bool {
    table.is_cdc_log() && keyspace.tables.values().any(|base| base.cdc_log == Some(table.id))
}

/// The log that belongs to `base`, attached or not.
pub(super) fn log_of<'k>(base: &TableDef, keyspace: &'k KeyspaceDef) -> Option<&'k Arc<TableDef>> {
    keyspace.tables.values().find(|table| table.is_cdc_log() && table.cdc_base == Some(base.id))
}

/// Brings the log into step with `base`, whose options are those it is to have: the log is made,
/// attached, altered or detached, and `base` says which one it has. `base` itself is put into the
/// keyspace by the caller.
pub(super) fn sync_log(
    base: &mut TableDef,
    keyspace: &mut KeyspaceDef,
    change: &mut SchemaChange,
    context: &mut DdlContext<'_>,
) -> Result<(), PlanError> {
    if base.cdc_enabled().is_none() {
        base.cdc_log = None;
        return Ok(());
    }
    if base.is_cdc_log() {
        let (keyspace, log) = (&*base.keyspace, &*base.name);
        return Err(context.cdc.refusal(CdcRefusal::NestedLog { keyspace, log }));
    }
    let name = context.cdc.log_table_name(&base.name);
    let (log, kind) = match keyspace.tables.get(name.as_str()) {
        None => {
            let id = TableId((context.fresh_table_id)());
            (context.cdc.new_log_table(base, id)?, ChangeKind::Created)
        }
        Some(log) if log.is_cdc_log() && log.cdc_base == Some(base.id) => {
            let synced = context.cdc.sync_log_table(base, log, context.now_micros)?;
            if synced == **log {
                base.cdc_log = Some(log.id);
                return Ok(());
            }
            (synced, ChangeKind::Updated)
        }
        Some(_) => {
            let (keyspace, base) = (&*base.keyspace, &*base.name);
            return Err(context.cdc.refusal(CdcRefusal::LogNameTaken { keyspace, base }));
        }
    };
    base.cdc_log = Some(log.id);
    change.table_event(kind, &log);
    keyspace.tables.insert(log.name.clone(), Arc::new(log));
    Ok(())
}

/// Drops the log of a base table that was dropped, attached or not.
pub(super) fn drop_log_of(base: &TableDef, keyspace: &mut KeyspaceDef, change: &mut SchemaChange) {
    if let Some(log) = log_of(base, keyspace).cloned() {
        keyspace.tables.remove(&log.name);
        change.table_event(ChangeKind::Dropped, &log);
    }
}
