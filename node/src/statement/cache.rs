//! Prepared statements, for all shards of the node.
//!
//! Drivers prepare on one connection and execute on another, of any shard, so the cache is shared.
//! It is bounded by count and by bytes of text, and forgets the least recently used: clients whose
//! statement is gone prepare it again by themselves. Each entry is planned for one schema; one
//! whose tables have changed since is planned anew when it is used, under the same id.
//!
//! Each shard has the statements that it ran last at hand ([`RecentStatements`]): finding one there
//! takes no lock and touches no memory that other shards write to.

use crate::view::View;
use cql::plan::{self, Plan, PlanError, Prepared};
use cql::syntax;
use cql::syntax::ast::ParsedStatement;
use cql::wire::{BindMetadata, ColumnSpec, ResultMetadata, Version};
use model::schema::Partitioner;
use model::token::token_of;
use model::{TableId, Token};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
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
    /// What an execution will look at in memory, if that can be told from its values.
    pub foreseen: Option<ForeseenPartition>,
    /// The schema it was planned for.
    pub schema_version: u64,
    /// When it was last used, by the cache's clock.
    used: AtomicU64,
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
        let foreseen = ForeseenPartition::of(&prepared);
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
            foreseen,
            schema_version: view.index(),
            used: AtomicU64::new(0),
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

/// A partition that an execution will look at as soon as its turn comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForeseenPartition {
    table: TableId,
    partitioner: Partitioner,
    /// The marker whose value is the key.
    pub key_slot: u16,
    is_decided: bool,
}

/// What one request will look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Foreseen {
    pub table: TableId,
    pub token: Token,
    /// Whether it is a conditional write. Its row is read in its turn, where that of another write is
    /// merged later, and lies apart if updates made it outgrow its first place.
    pub is_decided: bool,
}

impl ForeseenPartition {
    /// Of a statement that reads one row, or writes, where one marker is the whole key.
    fn of(prepared: &Prepared) -> Option<Self> {
        let (table, is_decided) = match &prepared.plan {
            Plan::Select(plan) if plan.is_point_read() => (&plan.table, false),
            Plan::Write(plan) => (&plan.table, plan.is_conditional()),
            _ => return None,
        };
        let ([_], &[key_slot]) = (table.partition_key(), &prepared.partition_key_indexes[..])
        else {
            return None;
        };
        let partitioner = table.partitioner;
        Some(ForeseenPartition { table: table.id, partitioner, key_slot, is_decided })
    }

    /// With the key that the request names.
    pub(crate) fn of_key(&self, key: &[u8]) -> Foreseen {
        let token = token_of(self.partitioner, key);
        Foreseen { table: self.table, token, is_decided: self.is_decided }
    }
}

/// The columns of statements that return rows.
fn result_metadata(plan: &Plan) -> Option<&ResultMetadata> {
    match plan {
        Plan::Select(select) => Some(&select.metadata),
        Plan::Describe(describe) => Some(&describe.metadata),
        Plan::Write(_)
        | Plan::Batch(_)
        | Plan::Use(_)
        | Plan::Truncate(_)
        | Plan::Definition(_) => None,
    }
}

/// The statements of the node.
#[derive(Debug, Default)]
pub(crate) struct StatementCache {
    inner: Mutex<Inner>,
    /// Counts preparations and looks, to tell the least recent.
    clock: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    statements: HashMap<StatementId, Arc<PreparedStatement>>,
    text_bytes: usize,
}

impl StatementCache {
    /// The statement of that id.
    pub(crate) fn get(&self, id: &[u8]) -> Option<Arc<PreparedStatement>> {
        let id: StatementId = id.try_into().ok()?;
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let statement = inner.statements.get(&id)?.clone();
        drop(inner);
        self.clock.fetch_add(1, Ordering::Relaxed);
        self.note_use(&statement);
        Some(statement)
    }

    /// Notes that a statement was used that [`StatementCache::get`] gave out before.
    #[inline]
    fn note_use(&self, statement: &PreparedStatement) {
        let now = self.clock.load(Ordering::Relaxed);
        if statement.used.load(Ordering::Relaxed) != now {
            statement.used.store(now, Ordering::Relaxed);
        }
    }

    /// Keeps a statement, in place of an older plan of it.
    pub(crate) fn put(&self, statement: Arc<PreparedStatement>) {
        self.clock.fetch_add(1, Ordering::Relaxed);
        self.note_use(&statement);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.text_bytes += statement.text.len();
        if let Some(old) = inner.statements.insert(statement.id, statement) {
            inner.text_bytes -= old.text.len();
        }
        while inner.statements.len() > STATEMENTS_MAX || inner.text_bytes > TEXT_BYTES_MAX {
            inner.forget_oldest();
        }
    }

    /// Every statement, for `system.prepared_statements`.
    pub(crate) fn all(&self) -> Vec<Arc<PreparedStatement>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = inner.statements.values().cloned().collect();
        all.sort_by_key(|statement| statement.id);
        all
    }
}

impl Inner {
    /// Forgets the least recently used eighth, so that the search for it is paid rarely.
    fn forget_oldest(&mut self) {
        let uses = self.statements.values().map(|s| (s.used.load(Ordering::Relaxed), s.id));
        let mut uses: Vec<_> = uses.collect();
        uses.sort_unstable();
        for (_, id) in &uses[..uses.len().div_ceil(8)] {
            if let Some(statement) = self.statements.remove(id) {
                self.text_bytes -= statement.text.len();
            }
        }
    }
}

/// Places for the statements that a shard ran last; one for each first byte of an id, which is a
/// hash.
const RECENT_STATEMENTS_MAX: usize = 256;
/// A longer text is looked for in the cache each time, so that all recent statements of a shard
/// together have 4 MiB at most.
const RECENT_TEXT_BYTES_MAX: usize = 16 << 10;

/// A shard's hold on a statement, counted by the shard alone: see [`crate::view::SeenView`].
pub(crate) type SeenStatement = Rc<Arc<PreparedStatement>>;

/// The statements that one shard ran last.
#[derive(Debug)]
pub(crate) struct RecentStatements {
    places: Vec<Option<SeenStatement>>,
}

impl Default for RecentStatements {
    fn default() -> Self {
        RecentStatements { places: vec![None; RECENT_STATEMENTS_MAX] }
    }
}

impl RecentStatements {
    /// The statement of that id, if it was run lately and still means the same under the view.
    #[inline]
    pub(crate) fn get(
        &self,
        id: &[u8],
        view: &View,
        all: &StatementCache,
    ) -> Option<SeenStatement> {
        let statement = self.peek(id, view)?;
        all.note_use(statement);
        Some(statement.clone())
    }

    /// The same, without using it.
    #[inline]
    pub(crate) fn peek(&self, id: &[u8], view: &View) -> Option<&SeenStatement> {
        let statement = self.places[usize::from(*id.first()?)].as_ref()?;
        (statement.id[..] == *id && statement.is_current(view)).then_some(statement)
    }

    /// Keeps a statement at hand.
    pub(crate) fn put(&mut self, statement: Arc<PreparedStatement>) -> SeenStatement {
        let statement = Rc::new(statement);
        if statement.text.len() <= RECENT_TEXT_BYTES_MAX {
            self.places[usize::from(statement.id[0])] = Some(statement.clone());
        }
        statement
    }
}
