//! What changefeeds ask of the schema: which tables they may be on, and that these have a log with
//! the images they need, for as long as they need it.
//!
//! A table's [`TableOptions::feed_log`](model::schema::TableOptions) is there exactly while a feed
//! is on the table. The user's own option `cdc` is another thing and shown alone; writes are logged
//! as both together ask ([`TableDef::cdc_enabled`]).

use super::super::PlanError;
use super::super::names::find_table;
use super::super::system_schema::is_system_keyspace;
use super::cdc::sync_log;
use super::{ChangeKind, DdlContext, SchemaChange};
use crate::syntax::ast::QualifiedName;
use model::{FeedLog, KeyspaceDef, Schema, TableDef};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the feeds on a table, by keyspace and name, need of its log; `None` where there is none.
pub type FeedLogs = BTreeMap<(Arc<str>, Arc<str>), Option<FeedLog>>;

/// Tables that one feed may be on.
const FEED_TABLES_MAX: usize = 64;

/// The tables that a feed is to be on, in the order in which they were named.
///
/// Errors when one does not exist, is named twice, has no log or cannot have one; and when they are
/// of several keyspaces, since a keyspace says where data lie and a feed reads its tables as one.
pub fn feed_tables(
    names: &[QualifiedName],
    schema: &Schema,
    keyspace_in_use: Option<&str>,
) -> Result<Vec<Arc<TableDef>>, PlanError> {
    if names.len() > FEED_TABLES_MAX {
        return refuse(format!("a changefeed is on at most {FEED_TABLES_MAX} tables"));
    }
    let mut tables: Vec<Arc<TableDef>> = Vec::with_capacity(names.len());
    for name in names {
        let table = find_table(schema, keyspace_in_use, name)?;
        let TableDef { keyspace, name, .. } = &**table;
        if is_system_keyspace(keyspace) {
            return refuse(format!("{keyspace}.{name} is a table of the system: it has no log"));
        }
        if table.is_cdc_log() {
            return refuse(format!(
                "{keyspace}.{name} is a CDC log itself: a changefeed is on the table that it is of"
            ));
        }
        if table.is_counter() {
            return refuse(format!("{keyspace}.{name} has counters, whose changes are not logged"));
        }
        if let Some(first) = tables.first().filter(|first| first.keyspace != *keyspace) {
            return refuse(format!(
                "the tables of a changefeed are of one keyspace: {keyspace}.{name} is not in {}",
                first.keyspace
            ));
        }
        if tables.iter().any(|other| other.id == table.id) {
            return refuse(format!("{keyspace}.{name} is named twice"));
        }
        tables.push(table.clone());
    }
    Ok(tables)
}

/// Sees to it that every table of `wanted` has what its feeds need. Tables that do not exist are
/// passed over.
pub fn set_feed_logs(
    wanted: &FeedLogs,
    schema: &Schema,
    context: &mut DdlContext<'_>,
) -> Result<SchemaChange, PlanError> {
    let mut change = SchemaChange::default();
    let mut keyspaces: BTreeMap<Arc<str>, KeyspaceDef> = BTreeMap::new();
    for ((keyspace_name, name), feed_log) in wanted {
        let Some(keyspace) = schema.keyspace(keyspace_name) else { continue };
        let Some(old) = keyspace.tables.get(name) else { continue };
        if old.options.feed_log == *feed_log {
            continue;
        }
        let mut table = TableDef::clone(old);
        table.options.feed_log = *feed_log;
        table.version += 1;
        let keyspace =
            keyspaces.entry(keyspace_name.clone()).or_insert_with(|| KeyspaceDef::clone(keyspace));
        change.table_event(ChangeKind::Updated, &table);
        sync_log(&mut table, keyspace, &mut change, context)?;
        if old.cdc_enabled() != table.cdc_enabled() {
            change.logs_switched.push(table.id);
        }
        keyspace.tables.insert(table.name.clone(), Arc::new(table));
    }
    change.put = keyspaces.into_values().collect();
    Ok(change)
}

/// A table with a feed may not be `done`: the feed could not tell of it.
pub(in super::super) fn check_no_feeds(table: &TableDef, done: &str) -> Result<(), PlanError> {
    if table.options.feed_log.is_none() {
        return Ok(());
    }
    refuse(format!(
        "{}.{} cannot be {done} while there is a changefeed on it: DROP CHANGEFEED first",
        table.keyspace, table.name
    ))
}

/// The log that a feed reads may not be turned off.
pub(super) fn check_feeds_are_served(old: &TableDef, new: &TableDef) -> Result<(), PlanError> {
    let is_on = |table: &TableDef| table.options.cdc.is_some_and(|cdc| cdc.enabled);
    if is_on(old) && !is_on(new) { check_no_feeds(old, "without its log") } else { Ok(()) }
}

fn refuse<T>(message: String) -> Result<T, PlanError> {
    Err(PlanError::invalid(message))
}
