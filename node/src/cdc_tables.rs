//! What schema statements ask about CDC logs, answered by the crate `cdc`: `cql` may not know it.

use cdc::{CdcError, CdcErrorKind, error, log_table, options};
use cql::plan::ddl::{CdcRefusal, CdcTables};
use cql::plan::{ErrorKind, PlanError};
use model::{CdcOptions, TableDef, TableId};
use std::collections::BTreeMap;

/// The rules of CDC logs.
#[derive(Debug)]
pub(crate) struct CdcLogTables;

impl CdcTables for CdcLogTables {
    fn parse_for_create(
        &self,
        map: &BTreeMap<String, String>,
    ) -> Result<Option<CdcOptions>, PlanError> {
        options::parse_for_create(map).map_err(plan_error)
    }

    fn parse_for_alter(&self, map: &BTreeMap<String, String>) -> Result<CdcOptions, PlanError> {
        options::parse_for_alter(map).map_err(plan_error)
    }

    fn to_map(&self, options: CdcOptions) -> BTreeMap<String, String> {
        options::to_map(options)
    }

    fn to_blob(&self, options: CdcOptions) -> Vec<u8> {
        options::to_blob(options)
    }

    fn log_table_name(&self, base: &str) -> String {
        log_table::log_table_name(base)
    }

    fn new_log_table(&self, base: &TableDef, id: TableId) -> Result<TableDef, PlanError> {
        log_table::new_log_table(base, id).map_err(plan_error)
    }

    fn sync_log_table(
        &self,
        base: &TableDef,
        log: &TableDef,
        now_micros: i64,
    ) -> Result<TableDef, PlanError> {
        log_table::sync_log_table(base, log, now_micros).map_err(plan_error)
    }

    fn refusal(&self, refusal: CdcRefusal<'_>) -> PlanError {
        plan_error(match refusal {
            CdcRefusal::LogNameTaken { keyspace, base } => error::log_name_taken(keyspace, base),
            CdcRefusal::NestedLog { keyspace, log } => error::nested_log(keyspace, log),
            CdcRefusal::CounterColumnAdded { column } => error::counter_column_added(column),
            CdcRefusal::LogColumnsModified { attached } => error::log_columns_modified(attached),
            CdcRefusal::LogColumnRenamed { attached } => error::log_column_renamed(attached),
            CdcRefusal::AttachedLogDropped { log } => error::attached_log_dropped(log),
            CdcRefusal::LogTombstoneGcRepair => error::log_tombstone_gc_repair(),
        })
    }
}

fn plan_error(error: CdcError) -> PlanError {
    let kind = match error.kind {
        CdcErrorKind::Config => ErrorKind::Config,
        CdcErrorKind::Invalid => ErrorKind::Invalid,
        CdcErrorKind::Unauthorized => ErrorKind::Unauthorized,
    };
    PlanError { kind, message: error.message.into() }
}
