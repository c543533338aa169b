//! Schema statements: one statement and one schema in, what changes out.
//!
//! [`apply`] is a pure function. It never changes the schema it is given; the caller puts the
//! [`SchemaChange`] into the metadata log and into its own copy
//! ([`SchemaChange::applied_to`]), so every node comes to the same schema. What it promises:
//!
//! - A refused statement changes nothing; texts are Cassandra's, or ScyllaDB's where it is about
//!   change data capture.
//! - Column ids are never reused, a table's version rises with every change of it, columns stand in
//!   the order that [`model::schema`] promises.
//! - A base table and its CDC log change in one step ([`cdc`]).
//!
//! It does not know: who may do what, time and randomness (they come in), the rules of the log
//! table itself (the trait [`CdcTables`]).

mod alter_table;
pub mod cdc;
mod column_types;
mod create_table;
mod drop;
mod errors;
mod feeds;
mod keyspace;
mod options;
mod properties;
mod replication;
mod table_lookup;
#[cfg(test)]
pub(in crate::plan) mod tests;
mod user_type;

pub use cdc::{CdcRefusal, CdcTables};
pub(in crate::plan) use feeds::check_no_feeds;
pub use feeds::{FeedLogs, feed_tables, set_feed_logs};
pub(in crate::plan) use options::double;

use super::PlanError;
use crate::syntax::ast::Statement;
use model::{KeyspaceDef, Schema, TableDef, TableId};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Longest name of a keyspace, table or type, in bytes: a log table's name and an id have to fit
/// into a file's name beside it.
pub const NAME_BYTES_MAX: usize = 222;
/// Longest name of a keyspace, in bytes, which is Cassandra's bound too.
pub const KEYSPACE_NAME_BYTES_MAX: usize = 48;

/// The circumstances of a schema statement.
pub struct DdlContext<'a> {
    /// The time, in microseconds since the epoch: when a column counts as dropped.
    pub now_micros: i64,
    /// An id that no table has had: a version 1 UUID, which is what clients see.
    pub fresh_table_id: &'a mut dyn FnMut() -> u128,
    /// Whether a table that is dropped by now had this id.
    pub is_dropped_id: &'a dyn Fn(TableId) -> bool,
    /// The data centres and how many nodes each has.
    pub data_centres: &'a BTreeMap<String, u32>,
    /// The rules of CDC logs.
    pub cdc: &'a dyn CdcTables,
}

impl fmt::Debug for DdlContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DdlContext")
            .field("now_micros", &self.now_micros)
            .field("data_centres", &self.data_centres)
            .finish_non_exhaustive()
    }
}

/// What a statement does to the schema.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SchemaChange {
    /// Keyspaces that are new or take the place of the one of that name.
    pub put: Vec<KeyspaceDef>,
    /// Keyspaces that are no more.
    pub remove: Vec<Arc<str>>,
    /// What clients are told; the first is the statement's own result. Empty when the statement
    /// found nothing to do, as IF NOT EXISTS allows: its result is Void.
    pub events: Vec<SchemaEvent>,
    /// What goes beside the answer.
    pub warnings: Vec<String>,
    /// Tables whose changes are logged otherwise from this statement on, or not at all any more; and
    /// those of which it says what is so already, since whoever said so before may have failed to
    /// make it heard.
    pub logs_switched: Vec<TableId>,
}

impl SchemaChange {
    /// The schema after the change, which is the `version`th.
    pub fn applied_to(&self, schema: &Schema, version: u64) -> Schema {
        let mut keyspaces = schema.keyspaces.clone();
        for name in &self.remove {
            keyspaces.remove(name);
        }
        for keyspace in &self.put {
            keyspaces.insert(keyspace.name.clone(), Arc::new(keyspace.clone()));
        }
        Schema { version, keyspaces }
    }

    /// Whether the statement found nothing to do.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    fn event(&mut self, change: ChangeKind, target: ChangeTarget, keyspace: &str, name: &str) {
        let (keyspace, name) = (keyspace.into(), name.into());
        self.events.push(SchemaEvent { change, target, keyspace, name });
    }

    fn table_event(&mut self, change: ChangeKind, table: &TableDef) {
        self.event(change, ChangeTarget::Table, &table.keyspace, &table.name);
    }
}

/// What clients that registered for changes of the schema are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaEvent {
    /// What happened.
    pub change: ChangeKind,
    /// To what.
    pub target: ChangeTarget,
    /// The keyspace.
    pub keyspace: Arc<str>,
    /// The table or type; empty when it is the keyspace.
    pub name: Arc<str>,
}

/// What happened to a part of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Created,
    /// It is another now.
    Updated,
    /// It is no more.
    Dropped,
}

/// Which part of the schema changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeTarget {
    /// A keyspace.
    Keyspace,
    /// A table.
    Table,
    /// A user-defined type.
    Type,
}

/// What a schema statement changes. `keyspace_in_use` serves names that are written without one.
///
/// Errors when the statement is refused, and when it is not a schema statement.
pub fn apply(
    statement: &Statement,
    schema: &Schema,
    keyspace_in_use: Option<&str>,
    context: &mut DdlContext<'_>,
) -> Result<SchemaChange, PlanError> {
    match statement {
        Statement::CreateKeyspace(create) => keyspace::create(create, schema, context),
        Statement::AlterKeyspace(alter) => keyspace::alter(alter, schema, context),
        Statement::DropKeyspace(drop) => keyspace::drop(drop, schema),
        Statement::CreateTable(create) => {
            create_table::create(create, schema, keyspace_in_use, context)
        }
        Statement::AlterTable(alter) => alter_table::alter(alter, schema, keyspace_in_use, context),
        Statement::CreateType(create) => user_type::create(create, schema, keyspace_in_use),
        Statement::AlterType(alter) => user_type::alter(alter, schema, keyspace_in_use),
        Statement::DropType(drop) => user_type::drop(drop, schema, keyspace_in_use),
        Statement::DropTable(drop) => drop::drop_table(drop, schema, keyspace_in_use, context),
        _ => Err(PlanError::invalid("This is no statement about the schema")),
    }
}

/// A table of the system's own from its CREATE TABLE statement, a constant of this crate.
pub(super) fn system_table(keyspace: &str, statement: &str) -> TableDef {
    let parsed = crate::syntax::parse(statement).map(|parsed| parsed.statement);
    let Ok(Statement::CreateTable(create)) = parsed else {
        panic!("a definition of a system table does not parse: {statement}")
    };
    create_table::system_table(&create, keyspace).expect("system tables are well-defined")
}
