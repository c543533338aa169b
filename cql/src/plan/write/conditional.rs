//! Conditional writes: what travels to the leader, and what the client is told.
//!
//! ```text
//! WritePlan, BatchConditions --bind--> BoundConditional: ConditionalWrite, ConditionalAnswer
//! ConditionalWrite + Content --holds, rows--> ConditionalOutcome
//! ConditionalAnswer + ConditionalOutcome ---> RESULT
//! ```
//!
//! A conditional write changes one partition. Its mutation carries no timestamp, whatever the
//! request says: the leader's is above everything that the condition has seen. A client that is
//! refused sees the rows that were asked about, as far as they exist: all columns where existence
//! was asked, else those that were tested, behind the primary key in a batch. Statics are shown
//! where they were asked about or would have been changed. Where nothing but static columns are
//! asked about, the first row of the partition stands for all.

use super::attributes::BoundAttributes;
use super::batch::{BatchItem, merge_writes};
use super::bind::{PartitionWrite, WRITE_BYTES_MAX, check_length};
use super::cells::CellMaker;
use super::prepare::{Target, WritePlan};
use crate::plan::condition::{Condition, RowCondition, RowTest};
use crate::plan::context::{BindContext, BoundValues};
use crate::plan::error::PlanError;
use crate::plan::select::{column_value, columns_of_wildcard};
use crate::wire::{
    ColumnSpec, OpenRows, ResponseHead, ResponseTooLarge, ResultMetadata, RowsHead, write_cell,
};
use model::clustering::decode_component;
use model::key::PartitionKeyParts;
use model::partition::Partition;
use model::read::Slice;
use model::row::{RowView, UNSTAMPED};
use model::{ColumnId, ColumnKind, CqlType, EpochSeconds, TableDef, ValueError};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A change of one partition that is made if all conditions hold. Plain data.
#[derive(Clone, Debug, PartialEq)]
pub struct ConditionalWrite {
    /// The change, without timestamps.
    pub write: PartitionWrite,
    /// What is asked: of the static row first, then of rows in their order; of none twice.
    pub conditions: Vec<RowCondition>,
    /// What a refused client sees.
    pub shown: ShownColumns,
}

/// What a refused client sees of each row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownColumns {
    /// The columns behind `[applied]`.
    pub columns: Arc<[ColumnId]>,
    /// Whether static columns have their values; else they are null.
    pub shows_static: bool,
    /// Whether regular columns have theirs.
    pub shows_regular: bool,
}

/// What became of a conditional write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConditionalOutcome {
    /// The conditions held, and the change was made.
    Applied,
    /// They did not, and nothing was changed.
    Refused(Box<RefusedRows>),
}

/// The rows that a refused client sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusedRows {
    /// How many; none when nothing of what was asked about exists.
    pub row_count: u32,
    /// Their cells as a result has them, each row's `[applied]` included.
    pub cells: Vec<u8>,
}

/// The columns of the answers that a statement, or a batch, may get.
#[derive(Debug, PartialEq)]
pub struct ConditionalAnswer {
    applied: ResultMetadata,
    with_rows: ResultMetadata,
}

/// A conditional write of one execution.
#[derive(Clone, Debug, PartialEq)]
pub struct BoundConditional {
    /// For the leader.
    pub write: ConditionalWrite,
    /// For the client.
    pub answer: Arc<ConditionalAnswer>,
    /// USING TIMEOUT, in nanoseconds.
    pub timeout_nanos: Option<u64>,
}

/// What a statement asks, prepared.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PreparedCondition {
    pub(super) condition: Condition,
    batch: BatchConditions,
}

/// What the statements of a batch ask together.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchConditions {
    shown: ShownColumns,
    answer: Arc<ConditionalAnswer>,
}

/// What the leader found of the rows that are asked about.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// The one row of [`ConditionalWrite::only_row`].
    Row(Option<RowView<'a>>),
    /// The static row and all rows of [`ConditionalWrite::slices`].
    Partition(&'a Partition),
}

impl Content<'_> {
    fn row(&self, clustering: &[u8], now: EpochSeconds) -> Option<Cow<'_, [u8]>> {
        let row = match self {
            Content::Row(row) => row.map(|row| Cow::Borrowed(row.as_bytes())),
            Content::Partition(partition) => partition.effective_row(clustering),
        };
        row.filter(|row| RowView::new(row).is_live(now))
    }

    fn static_row(&self, now: EpochSeconds) -> Option<Cow<'_, [u8]>> {
        let row = match self {
            Content::Row(_) => None,
            Content::Partition(partition) => partition.effective_static_row(),
        };
        row.filter(|row| RowView::new(row).is_live(now))
    }
}

/// `[applied]`: false.
const REFUSED: &[u8] = &[0];

impl ConditionalWrite {
    /// The clustering key of the row that is asked about, when it is one and nothing is to be known
    /// of the static row.
    pub fn only_row(&self) -> Option<&[u8]> {
        match self.conditions.as_slice() {
            [RowCondition { clustering: Some(clustering), .. }] if !self.shown.shows_static => {
                Some(clustering)
            }
            _ => None,
        }
    }

    /// The rows that are asked about.
    pub fn slices(&self) -> Vec<Slice> {
        let rows = self.conditions.iter().filter_map(|c| c.clustering.as_deref());
        rows.map(Slice::of_row).collect()
    }

    /// Whether a refused client sees the first row of the partition, for want of others.
    pub fn shows_first_row(&self) -> bool {
        self.conditions.iter().all(|condition| condition.clustering.is_none())
    }

    /// Whether all conditions hold.
    pub fn holds(&self, content: &Content, now: EpochSeconds) -> Result<bool, ValueError> {
        for RowCondition { clustering, test } in &self.conditions {
            let row = match clustering {
                Some(clustering) => content.row(clustering, now),
                None => content.static_row(now),
            };
            if !test.holds(&self.write.table, row.as_deref().map(RowView::new), now)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The rows that a refused client sees. `first_row` is the partition's first live one, if
    /// [`Self::shows_first_row`] asks for it.
    pub fn refused_rows(
        &self,
        content: &Content,
        first_row: Option<(&[u8], RowView)>,
        now: EpochSeconds,
    ) -> Result<RefusedRows, ValueError> {
        let static_row = content.static_row(now).filter(|_| self.shown.shows_static);
        let static_row = static_row.as_deref().map(RowView::new);
        let mut rows = RefusedRows::default();
        for clustering in self.conditions.iter().filter_map(|c| c.clustering.as_deref()) {
            if let Some(row) = content.row(clustering, now) {
                let row = Some((clustering, RowView::new(&row)));
                self.write_row(static_row, row, now, &mut rows)?;
            }
        }
        if let Some(row) = first_row {
            self.write_row(static_row, Some(row), now, &mut rows)?;
        }
        if rows.row_count == 0 && static_row.is_some() {
            self.write_row(static_row, None, now, &mut rows)?;
        }
        Ok(rows)
    }

    fn write_row(
        &self,
        static_row: Option<RowView>,
        row: Option<(&[u8], RowView)>,
        now: EpochSeconds,
        out: &mut RefusedRows,
    ) -> Result<(), ValueError> {
        let (table, cells) = (&*self.write.table, &mut out.cells);
        let mut clustering = Vec::new();
        if let Some((mut encoded, _)) = row {
            for column in table.clustering_key() {
                let mut value = Vec::new();
                decode_component(&column.cql_type, column.descending, &mut encoded, &mut value)?;
                clustering.push(value);
            }
        }
        write_cell(cells, Some(REFUSED));
        for id in &*self.shown.columns {
            let Some(column) = table.column_by_id(*id) else {
                write_cell(cells, None);
                continue;
            };
            let value_of = |row: Option<RowView>| match row {
                Some(row) => column_value(row, column, now).map(|value| value.map(Cow::into_owned)),
                None => Ok(None),
            };
            let value = match column.kind {
                ColumnKind::PartitionKey(index) => {
                    let key = self.write.key();
                    let mut parts = PartitionKeyParts::new(table.partition_key_count(), key);
                    parts.nth(usize::from(index)).transpose()?.map(<[u8]>::to_vec)
                }
                ColumnKind::Clustering(index) => clustering.get(usize::from(index)).cloned(),
                ColumnKind::Static => value_of(static_row)?,
                ColumnKind::Regular => {
                    value_of(row.map(|(_, row)| row).filter(|_| self.shown.shows_regular))?
                }
            };
            write_cell(cells, value.as_deref());
        }
        out.row_count += 1;
        Ok(())
    }
}

impl ConditionalAnswer {
    fn new(table: &TableDef, columns: &[ColumnId]) -> Self {
        let spec = |name: &Arc<str>, cql_type: &CqlType| ColumnSpec {
            keyspace: table.keyspace.clone(),
            table: table.name.clone(),
            name: name.clone(),
            cql_type: cql_type.clone(),
        };
        let mut specs = vec![spec(&"[applied]".into(), &CqlType::Boolean)];
        let applied = ResultMetadata::new(&specs);
        let columns = columns.iter().filter_map(|id| table.column_by_id(*id));
        specs.extend(columns.map(|column| spec(&column.name, &column.cql_type)));
        ConditionalAnswer { applied, with_rows: ResultMetadata::new(&specs) }
    }

    /// Writes the result. Its columns depend on what became of the write, so they are always sent.
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        head: &ResponseHead,
        outcome: &ConditionalOutcome,
    ) -> Result<(), ResponseTooLarge> {
        let refused = match outcome {
            ConditionalOutcome::Applied => None,
            ConditionalOutcome::Refused(rows) => Some(&**rows),
        };
        let with_rows = refused.filter(|rows| rows.row_count > 0);
        let metadata = if with_rows.is_some() { &self.with_rows } else { &self.applied };
        let rows_head = RowsHead { metadata, skip_metadata: false, new_metadata_id: None };
        let mut rows = OpenRows::begin(out, head, &rows_head);
        if let Some(refused) = with_rows {
            out.extend_from_slice(&refused.cells);
            (0..refused.row_count).for_each(|_| rows.row_written());
        } else {
            write_cell(out, Some(&[u8::from(refused.is_none())]));
            rows.row_written();
        }
        rows.finish(out, None)
    }
}

impl PreparedCondition {
    /// Of a statement with these properties.
    pub(super) fn new(table: &Arc<TableDef>, condition: Condition, plan: &WritePlan) -> Self {
        let shown = match condition.columns() {
            None => ShownColumns::all(table, plan.changes_static(), plan.changes_regular()),
            Some(columns) => ShownColumns {
                columns: without_repeats(columns),
                shows_static: condition.has_static_columns(),
                shows_regular: true,
            },
        };
        let answer = Arc::new(ConditionalAnswer::new(table, &shown.columns));
        PreparedCondition { condition, batch: BatchConditions { shown, answer } }
    }
}

impl ShownColumns {
    /// Those of `SELECT *`.
    fn all(table: &TableDef, shows_static: bool, shows_regular: bool) -> Self {
        let columns = columns_of_wildcard(table).into_iter();
        let columns = columns.map(|index| table.columns[index].id).collect();
        ShownColumns { columns, shows_static, shows_regular }
    }
}

fn without_repeats(columns: impl Iterator<Item = ColumnId>) -> Arc<[ColumnId]> {
    let mut shown = Vec::new();
    for column in columns {
        if !shown.contains(&column) {
            shown.push(column);
        }
    }
    shown.into()
}

impl BatchConditions {
    /// What the statements of a batch ask; nothing if none of them is conditional. Errors when they
    /// are not of one table.
    pub fn of<'a>(
        plans: &(impl Iterator<Item = &'a WritePlan> + Clone),
    ) -> Result<Option<BatchConditions>, PlanError> {
        let mut conditions =
            plans.clone().filter_map(|plan| plan.conditional.as_deref()).peekable();
        if conditions.peek().is_none() {
            return Ok(None);
        }
        plans.clone().try_for_each(WritePlan::refuse_list_cells)?;
        let Some(table) = plans.clone().next().map(|plan| &plan.table) else { return Ok(None) };
        if plans.clone().any(|plan| plan.table.id != table.id) {
            return Err(PlanError::invalid("Batch with conditions cannot span multiple tables"));
        }
        let conditions = conditions.map(|prepared| &prepared.condition);
        let tests_static = conditions.clone().any(Condition::has_static_columns);
        let tested: Option<Vec<_>> = conditions.map(Condition::columns).collect();
        let shown = match tested {
            None => {
                let shows_static = tests_static || plans.clone().any(WritePlan::changes_static);
                ShownColumns::all(
                    table,
                    shows_static,
                    plans.clone().any(WritePlan::changes_regular),
                )
            }
            Some(tested) => {
                let key = table.partition_key().iter().chain(table.clustering_key());
                let columns = key.map(|column| column.id).chain(tested.into_iter().flatten());
                let columns = without_repeats(columns);
                ShownColumns { columns, shows_static: tests_static, shows_regular: true }
            }
        };
        let answer = Arc::new(ConditionalAnswer::new(table, &shown.columns));
        Ok(Some(BatchConditions { shown, answer }))
    }

    /// Binds the statements of a batch.
    pub fn bind<'a>(
        &self,
        items: impl Iterator<Item = BatchItem<'a>>,
        context: &mut BindContext,
    ) -> Result<BoundConditional, PlanError> {
        let mut writes: Vec<PartitionWrite> = Vec::new();
        let mut conditions = Conditions::default();
        let mut timeout_nanos: Option<u64> = None;
        let mut byte_count = 0;
        for item in items {
            let mut asked = Vec::new();
            let (write, timeout) = item.plan.bind_one(&item.values, context, true, &mut asked)?;
            byte_count += write.mutation.len();
            check_length(byte_count, WRITE_BYTES_MAX)?;
            if writes.first().is_some_and(|first| first.key() != write.key()) {
                let message = "Batch with conditions cannot span multiple partitions";
                return Err(PlanError::invalid(message));
            }
            writes.push(write);
            asked.into_iter().try_for_each(|condition| conditions.add(condition))?;
            timeout_nanos = timeout_nanos.into_iter().chain(timeout).min();
        }
        let write = merge_writes(writes, context.now_micros)?;
        let write =
            ConditionalWrite { write, conditions: conditions.finish(), shown: self.shown.clone() };
        Ok(BoundConditional { write, answer: self.answer.clone(), timeout_nanos })
    }
}

/// The conditions of a batch by row, the static one first.
#[derive(Default)]
struct Conditions(BTreeMap<Option<Vec<u8>>, RowTest>);

impl Conditions {
    fn add(&mut self, condition: RowCondition) -> Result<(), PlanError> {
        let RowCondition { clustering, test } = condition;
        let Some(former) = self.0.get_mut(&clustering) else {
            self.0.insert(clustering, test);
            return Ok(());
        };
        let mixed = match (former, test) {
            (RowTest::Columns(former), RowTest::Columns(tests)) => {
                former.extend(tests);
                return Ok(());
            }
            (RowTest::Exists, RowTest::Exists) | (RowTest::NotExists, RowTest::NotExists) => {
                return Ok(());
            }
            (RowTest::Exists, RowTest::NotExists) | (RowTest::NotExists, RowTest::Exists) => {
                "Cannot mix IF EXISTS and IF NOT EXISTS conditions for the same row"
            }
            (RowTest::Columns(_), RowTest::Exists) => {
                "Cannot mix IF conditions and IF EXISTS for the same row"
            }
            _ => "Cannot mix IF conditions and IF NOT EXISTS for the same row",
        };
        Err(PlanError::invalid(mixed))
    }

    fn finish(self) -> Vec<RowCondition> {
        let conditions = self.0.into_iter();
        conditions.map(|(clustering, test)| RowCondition { clustering, test }).collect()
    }
}

impl WritePlan {
    /// Whether it has an IF clause, so that it is bound by [`Self::bind_conditional`].
    #[inline]
    pub fn is_conditional(&self) -> bool {
        self.conditional.is_some()
    }

    /// The change, if there is a condition, and what it is.
    pub fn bind_conditional(
        &self,
        values: BoundValues,
        context: &mut BindContext,
    ) -> Result<BoundConditional, PlanError> {
        let Some(prepared) = &self.conditional else {
            return Err(PlanError::invalid("The statement has no condition"));
        };
        let mut conditions = Vec::with_capacity(2);
        let (write, timeout_nanos) = self.bind_one(&values, context, false, &mut conditions)?;
        let BatchConditions { shown, answer } = &prepared.batch;
        let write = ConditionalWrite { write, conditions, shown: shown.clone() };
        Ok(BoundConditional { write, answer: answer.clone(), timeout_nanos })
    }

    /// The change of one partition, without a timestamp; what is asked goes into `conditions`.
    fn bind_one(
        &self,
        values: &BoundValues,
        context: &mut BindContext,
        is_in_batch: bool,
        conditions: &mut Vec<RowCondition>,
    ) -> Result<(PartitionWrite, Option<u64>), PlanError> {
        let table = &*self.table;
        let what = if self.is_deletion { "deletions" } else { "updates" };
        if self.keys.partition.is_several() {
            return Err(PlanError::invalid(if is_in_batch {
                "Batch with conditions cannot span multiple partitions (you cannot use IN on the \
                 partition key)"
                    .to_owned()
            } else {
                format!("IN on the partition key is not supported with conditional {what}")
            }));
        }
        if self.keys.clustering.prefix.iter().any(|choice| choice.choice.is_several()) {
            let message = format!(
                "IN on the clustering key columns is not supported with conditional {what}"
            );
            return Err(PlanError::invalid(message));
        }
        let default_ttl_seconds = table.options.default_time_to_live;
        let attributes = self.attributes.bind(values, context, default_ttl_seconds)?;
        let attributes = BoundAttributes { timestamp: UNSTAMPED, ..attributes };
        let keys = self.keys.partition.bind(table, values, context)?;
        let (rows, ranges) = self.bind_rows(values, context)?;
        let rows = rows.as_slice();
        if let Some(prepared) = &self.conditional {
            // A partition that is deleted under a condition is one row: it has no clustering.
            let whole = (self.target == Target::DeletedPartition).then_some(&[][..]);
            let clustering = rows.first().map(|row| row.encoded.as_slice()).or(whole);
            prepared.condition.bind(clustering, values, context, conditions)?;
        }
        let Some(key) = keys.into_items().next() else {
            return Err(PlanError::invalid("A conditional write names one partition"));
        };
        let mut maker = CellMaker::new(*values, context, attributes);
        let write = self.bind_partition(&key, rows, &ranges, &mut maker)?;
        Ok((write, attributes.timeout_nanos))
    }

    fn changes_static(&self) -> bool {
        !self.static_operations.is_empty()
    }

    fn changes_regular(&self) -> bool {
        self.target != Target::StaticRow
    }
}

/// Refuses conditions where a DELETE does not name one row.
pub(super) fn check_deletion(
    is_of_static_columns: bool,
    has_full_clustering: bool,
    condition: &Condition,
) -> Result<(), PlanError> {
    const RULE: &str = "DELETE statements must restrict all PRIMARY KEY columns with equality \
                        relations in order to";
    if has_full_clustering {
        return Ok(());
    }
    if !is_of_static_columns {
        return Err(PlanError::invalid(format!("{RULE} delete non static columns")));
    }
    if condition.has_regular_columns() {
        let message = format!("{RULE} use IF condition on non static columns");
        return Err(PlanError::invalid(message));
    }
    Ok(())
}
