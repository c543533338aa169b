//! Prepared statements, for all shards of the node.
//!
//! Drivers prepare on one connection and execute on another, of any shard, so the cache is shared.
//! It is bounded by count and by bytes of text, and forgets the least recently used: clients whose
//! statement is gone prepare it again by themselves. Each entry is planned for one schema; one
//! whose tables have changed since is planned anew when it is used, under the same id.

use crate::view::View;
use cql::plan::{self, Plan, PlanError, Prepared};
use cql::syntax;
use cql::syntax::ast::ParsedStatement;
use cql::wire::{BindMetadata, ColumnSpec, ResultMetadata, Version};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Most statements kept.
const STATEMENTS_MAX: usize = 16_384;
/// Most bytes of statement text kept.
const TEXT_BYTES_MAX: usize = 64 << 20;

/// The identity of a prepared statement on the wire.
pub(crate) type StatementId = [u8; 16];

/// A statement, planned for the schema of one view.
#[derive(Debug)]
pub(crate) struct PreparedStatement {
    pub id: StatementId,
    pub text: Arc<str>,
    /// The keyspace in use when it was prepared.
    pub keyspace: Option<Arc<str>>,
    pub prepared: Prepared,
    pub bind_metadata: BindMetadata,
    /// Of statements that return no rows; the others have their own.
    no_columns: ResultMetadata,
    /// Changes when the columns of the result change.
    pub result_metadata_id: [u8; 16],
    /// The schema it was planned for.
    pub schema_version: u64,
}

impl PreparedStatement {
    /// Parses and plans a text.
    pub(crate) fn plan(
        view: &View,
        text: &str,
        keyspace: Option<Arc<str>>,
    ) -> Result<PreparedStatement, PlanError> {
        let parsed = syntax::parse(text)?;
        Self::plan_parsed(view, &parsed, text, keyspace)
    }

    /// Plans a parsed text.
    pub(crate) fn plan_parsed(
        view: &View,
        parsed: &ParsedStatement,
        text: &str,
        keyspace: Option<Arc<str>>,
    ) -> Result<PreparedStatement, PlanError> {
        let prepared = plan::prepare(parsed, &view.schema, keyspace.as_deref())?;
        let id = plan::statement_id(parsed, text, keyspace.as_deref());
        let markers: Vec<ColumnSpec> = prepared
            .bind_specs
            .iter()
            .map(|spec| ColumnSpec {
                keyspace: spec.keyspace.clone(),
                table: spec.table.clone(),
                name: spec.name.clone(),
                cql_type: spec.cql_type.clone(),
            })
            .collect();
        let bind_metadata = BindMetadata::new(&markers, &prepared.partition_key_indexes);
        let no_columns = ResultMetadata::new(&[]);
        let columns = result_metadata(&prepared.plan).unwrap_or(&no_columns);
        let result_metadata_id = plan::digest(columns.encoded(Version::V5));
        Ok(PreparedStatement {
            id,
            text: text.into(),
            keyspace,
            prepared,
            bind_metadata,
            no_columns,
            result_metadata_id,
            schema_version: view.index(),
        })
    }

    /// The columns of its result.
    pub(crate) fn result_metadata(&self) -> &ResultMetadata {
        result_metadata(&self.prepared.plan).unwrap_or(&self.no_columns)
    }

    /// Whether it still means the same under this view.
    pub(crate) fn is_current(&self, view: &View) -> bool {
        self.schema_version == view.index()
    }
}

/// The columns of statements that return rows.
fn result_metadata(plan: &Plan) -> Option<&ResultMetadata> {
    match plan {
        Plan::Select(select) => Some(&select.metadata),
        Plan::Describe(describe) => Some(&describe.metadata),
        Plan::Write(_) | Plan::Batch(_) | Plan::Use(_) | Plan::Truncate(_) => None,
    }
}

/// The statements of the node.
#[derive(Debug, Default)]
pub(crate) struct StatementCache {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    statements: HashMap<StatementId, Entry>,
    /// Counts uses, to tell the least recent.
    clock: u64,
    text_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    statement: Arc<PreparedStatement>,
    used: u64,
}

impl StatementCache {
    /// The statement of that id.
    pub(crate) fn get(&self, id: &[u8]) -> Option<Arc<PreparedStatement>> {
        let id: StatementId = id.try_into().ok()?;
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.clock += 1;
        let clock = inner.clock;
        let entry = inner.statements.get_mut(&id)?;
        entry.used = clock;
        Some(entry.statement.clone())
    }

    /// Keeps a statement, in place of an older plan of it.
    pub(crate) fn put(&self, statement: Arc<PreparedStatement>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.clock += 1;
        let used = inner.clock;
        inner.text_bytes += statement.text.len();
        if let Some(old) = inner.statements.insert(statement.id, Entry { statement, used }) {
            inner.text_bytes -= old.statement.text.len();
        }
        while inner.statements.len() > STATEMENTS_MAX || inner.text_bytes > TEXT_BYTES_MAX {
            inner.forget_oldest();
        }
    }

    /// Every statement, for `system.prepared_statements`.
    pub(crate) fn all(&self) -> Vec<Arc<PreparedStatement>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = inner.statements.values().map(|e| e.statement.clone()).collect();
        all.sort_by_key(|statement| statement.id);
        all
    }
}

impl Inner {
    /// Forgets the least recently used eighth, so that the search for it is paid rarely.
    fn forget_oldest(&mut self) {
        let mut uses: Vec<u64> = self.statements.values().map(|entry| entry.used).collect();
        uses.sort_unstable();
        let Some(limit) = uses.get(uses.len() / 8).copied() else { return };
        let text_bytes = &mut self.text_bytes;
        self.statements.retain(|_, entry| {
            let is_kept = entry.used > limit;
            if !is_kept {
                *text_bytes -= entry.statement.text.len();
            }
            is_kept
        });
    }
}
