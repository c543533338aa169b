//! One statement, prepared: its plan, what its markers wait for, what it depends on.

use super::ddl::check_no_feeds;
use super::describe::DescribePlan;
use super::error::PlanError;
use super::markers::{BindSpec, MarkerSpecs, partition_key_indexes};
use super::names::find_table;
use super::select::SelectPlan;
use super::write::{BatchPlan, WritePlan};
use crate::syntax;
use crate::syntax::ast::{Modification, ParsedStatement, QualifiedName, Statement};
use model::{Schema, TableDef};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// What SHOW CHANGEFEEDS shows, columns in this order.
const SHOW_CHANGEFEEDS: &str = "SELECT name, \"table\", state, last_sequence, events_delivered, \
     phase, sink, owner, lag_ms, resolved, scan_progress, retries, last_error, created_at, \
     options, skipped, last_skipped, keyspace_name FROM system_views.changefeeds";

/// A statement, ready to be bound any number of times under the schema it was prepared for.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// What it does.
    pub plan: Plan,
    /// What each marker waits for, in order.
    pub bind_specs: Vec<BindSpec>,
    /// Which markers are the partition key, in the key's order; empty unless all of it is bound
    /// by markers. For the drivers' token awareness.
    pub partition_key_indexes: Vec<u16>,
    /// Keyspace and name of each table it is about, each once: when one of them changes, the
    /// statement has to be prepared again.
    pub tables: Vec<(Arc<str>, Arc<str>)>,
}

/// What a statement does.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// SELECT.
    Select(Arc<SelectPlan>),
    /// INSERT, UPDATE or DELETE.
    Write(Box<WritePlan>),
    /// BATCH.
    Batch(Box<BatchPlan>),
    /// USE: the keyspace.
    Use(Arc<str>),
    /// TRUNCATE: the table.
    Truncate(Arc<TableDef>),
    /// DESCRIBE.
    Describe(Arc<DescribePlan>),
    /// A change of the schema or of changefeeds, which is checked when it is made.
    Definition(Box<Statement>),
}

impl Plan {
    /// Whether it is a conditional write, which the partition's first replica decides fastest.
    pub fn is_conditional(&self) -> bool {
        match self {
            Plan::Write(write) => write.is_conditional(),
            Plan::Batch(batch) => batch.is_conditional(),
            _ => false,
        }
    }
}

/// Prepares a statement under a schema, with `keyspace` in use.
pub fn prepare(
    parsed: &ParsedStatement,
    schema: &Schema,
    keyspace: Option<&str>,
) -> Result<Prepared, PlanError> {
    let mut markers = MarkerSpecs::new(&parsed.markers);
    let mut key_indexes = Vec::new();
    let (plan, tables) = match &parsed.statement {
        Statement::Select(select) => {
            let select = SelectPlan::prepare(select, schema, keyspace, &mut markers)?;
            key_indexes = partition_key_indexes(&select.table, &select.partition_key_slots());
            let table = select.table.clone();
            (Plan::Select(Arc::new(select)), vec![table])
        }
        Statement::Modification(modification) => {
            let write = WritePlan::prepare(modification, schema, keyspace, &mut markers)?;
            key_indexes = partition_key_indexes(&write.table, &write.partition_key_slots());
            let table = write.table.clone();
            (Plan::Write(Box::new(write)), vec![table])
        }
        Statement::Batch(batch) => {
            let batch = BatchPlan::prepare(batch, schema, keyspace, &mut markers)?;
            let tables = batch.statements.iter().map(|write| write.table.clone()).collect();
            (Plan::Batch(Box::new(batch)), tables)
        }
        Statement::Use(name) => {
            if schema.keyspace(name.as_str()).is_none() {
                let message = format!("Keyspace '{}' does not exist", name.as_str());
                return Err(PlanError::invalid(message));
            }
            (Plan::Use(name.text.clone()), Vec::new())
        }
        Statement::Truncate(name) => {
            let table = find_table(schema, keyspace, name)?;
            check_no_feeds(table, "truncated")?;
            (Plan::Truncate(table.clone()), vec![table.clone()])
        }
        Statement::Describe(describe) => {
            let describe = DescribePlan::prepare(describe, keyspace)?;
            (Plan::Describe(Arc::new(describe)), Vec::new())
        }
        Statement::ShowChangefeeds => {
            let parsed = syntax::parse(SHOW_CHANGEFEEDS)?.statement;
            let Statement::Select(select) = &parsed else { unreachable!("the text is a SELECT") };
            let select = SelectPlan::prepare(select, schema, None, &mut markers)?;
            let table = select.table.clone();
            (Plan::Select(Arc::new(select)), vec![table])
        }
        Statement::Unsupported { what, .. } => {
            return Err(PlanError::invalid(format!("{what} is not supported")));
        }
        definition => (Plan::Definition(Box::new(definition.clone())), Vec::new()),
    };
    let mut tables: Vec<_> =
        tables.iter().map(|table| (table.keyspace.clone(), table.name.clone())).collect();
    tables.sort_unstable();
    tables.dedup();
    let bind_specs = markers.finish()?;
    Ok(Prepared { plan, bind_specs, partition_key_indexes: key_indexes, tables })
}

/// The identity of a prepared statement: a pure function of its text, and of the keyspace in use if
/// the statement depends on that. The same on every node and in every version, since drivers
/// prepare again on another node and demand the same id.
///
/// The statement cache is shared by all clients, so nobody may be able to craft two texts with one
/// id: it is the first half of a SHA-256.
pub fn statement_id(parsed: &ParsedStatement, text: &str, keyspace: Option<&str>) -> [u8; 16] {
    let keyspace = keyspace.filter(|_| depends_on_keyspace(&parsed.statement)).unwrap_or("");
    let mut hash = Sha256::new();
    hash.update((keyspace.len() as u64).to_be_bytes());
    hash.update(keyspace.as_bytes());
    hash.update(text.as_bytes());
    first_half(&hash.finalize())
}

/// Sixteen bytes that stand for any number of bytes: the same on every node and in every version,
/// and nobody can craft two inputs with one digest.
pub fn digest(bytes: &[u8]) -> [u8; 16] {
    first_half(&Sha256::digest(bytes))
}

fn first_half(digest: &[u8]) -> [u8; 16] {
    *digest.first_chunk().expect("a SHA-256 has 32 bytes")
}

/// Whether the statement means something else under another USE.
fn depends_on_keyspace(statement: &Statement) -> bool {
    let is_bare = |name: &QualifiedName| name.keyspace.is_none();
    match statement {
        Statement::Select(select) => is_bare(&select.table),
        Statement::Modification(modification) => is_bare(modified_table(modification)),
        Statement::Batch(batch) => {
            batch.statements.iter().any(|statement| is_bare(modified_table(statement)))
        }
        Statement::Truncate(name) => is_bare(name),
        Statement::Use(_) | Statement::ShowChangefeeds => false,
        // Definitions may name types without their keyspace, DESCRIBE lists the one in use.
        _ => true,
    }
}

fn modified_table(modification: &Modification) -> &QualifiedName {
    match modification {
        Modification::Insert(insert) => &insert.table,
        Modification::Update(update) => &update.table,
        Modification::Delete(delete) => &delete.table,
    }
}
