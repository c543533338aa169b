//! INSERT, UPDATE and DELETE to a [`WritePlan`].

use super::attributes::Attributes;
use super::conditional::{PreparedCondition, check_deletion};
use super::counter;
use super::operation::{
    ColumnChange, ColumnOperation, in_column_order, prepare_assignment, prepare_deletion, set_to,
};
use crate::plan::condition::Condition;
use crate::plan::error::PlanError;
use crate::plan::insert_json;
use crate::plan::markers::MarkerSpecs;
use crate::plan::names::{find_table, receiver_of, table_column};
use crate::plan::restriction::{
    Choice, Clustering, ClusteringChoice, KeySelection, PartitionKeys, Rules, keys_missing,
};
use crate::plan::term::PreparedTerm;
use crate::plan::term_preparer::TermPreparer;
use crate::syntax::ast::{self, Delete, Insert, InsertValues, Modification, Name, Term, Update};
use model::{ColumnDef, ColumnKind, Schema, TableDef};
use std::sync::Arc;

/// A write, ready to be bound any number of times.
#[derive(Clone, Debug, PartialEq)]
pub struct WritePlan {
    /// The table, as it was when the statement was prepared.
    pub table: Arc<TableDef>,
    pub(super) attributes: Attributes,
    pub(super) keys: KeySelection,
    pub(super) target: Target,
    /// Changes of the static row, by column.
    pub(super) static_operations: Vec<ColumnOperation>,
    /// Changes of each row, by column.
    pub(super) row_operations: Vec<ColumnOperation>,
    /// DELETE.
    pub(super) is_deletion: bool,
    /// Of a counter table.
    pub(super) is_counter: bool,
    /// IF.
    pub(super) conditional: Option<Box<PreparedCondition>>,
}

/// What of a partition is written, besides the static row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The static row alone.
    StaticRow,
    /// Cells of the rows named.
    Rows,
    /// Cells of the rows named, and that they exist.
    InsertedRows,
    /// The rows named are deleted.
    DeletedRows,
    /// Ranges of rows are deleted.
    DeletedRanges,
    /// The partition is deleted.
    DeletedPartition,
}

impl WritePlan {
    /// Prepares one statement; what its markers wait for goes into `markers`.
    pub fn prepare(
        modification: &Modification,
        schema: &Schema,
        keyspace: Option<&str>,
        markers: &mut MarkerSpecs,
    ) -> Result<WritePlan, PlanError> {
        let name = match modification {
            Modification::Insert(insert) => &insert.table,
            Modification::Update(update) => &update.table,
            Modification::Delete(delete) => &delete.table,
        };
        let table = find_table(schema, keyspace, name)?;
        let mut preparer = TermPreparer { schema, table, markers };
        let is_counter = table.is_counter();
        if let (true, Modification::Insert(_)) = (is_counter, modification) {
            return Err(PlanError::invalid(
                "INSERT statements are not allowed on counter tables, use UPDATE instead",
            ));
        }
        let (mut plan, condition) = match modification {
            Modification::Insert(insert) => {
                let condition = insert.if_not_exists.then_some(Condition::NotExists);
                (prepare_insert(&mut preparer, table, insert)?, condition)
            }
            Modification::Update(update) => prepare_update(&mut preparer, table, update)?,
            Modification::Delete(delete) => prepare_delete(&mut preparer, table, delete)?,
        };
        plan.is_counter = is_counter;
        if is_counter {
            counter::check(&plan, condition.as_ref())?;
        }
        if let Some(condition) = condition {
            if plan.has_timestamp() {
                return Err(PlanError::invalid(
                    "Cannot provide custom timestamp for conditional updates",
                ));
            }
            plan.refuse_list_cells()?;
            plan.conditional = Some(Box::new(PreparedCondition::new(table, condition, &plan)));
        }
        Ok(plan)
    }

    /// For each column of the partition key the marker that alone gives its value, if one does.
    pub fn partition_key_slots(&self) -> Vec<Option<u16>> {
        self.keys.partition.marker_slots()
    }

    /// Refuses a statement that names a list's cell by its place, to be made under a condition: the
    /// leader gives the elements of conditional writes their places.
    pub(super) fn refuse_list_cells(&self) -> Result<(), PlanError> {
        let operations = self.static_operations.iter().chain(&self.row_operations);
        let mut changes = operations.map(|operation| &operation.change);
        if changes.any(|change| matches!(change, ColumnChange::SetListCell { .. })) {
            return Err(PlanError::invalid(
                "SCYLLA_TIMEUUID_LIST_INDEX cannot be used in conditional updates",
            ));
        }
        Ok(())
    }

    /// Whether the statement names a timestamp of its own.
    pub fn has_timestamp(&self) -> bool {
        self.attributes.has_timestamp()
    }

    /// Whether it is about counters.
    #[inline]
    pub fn is_counter(&self) -> bool {
        self.is_counter
    }

    fn new(
        table: &Arc<TableDef>,
        attributes: Attributes,
        keys: KeySelection,
        target: Target,
        operations: Vec<ColumnOperation>,
    ) -> WritePlan {
        let (static_operations, row_operations) =
            operations.into_iter().partition(|operation| operation.is_static);
        let table = table.clone();
        WritePlan {
            table,
            attributes,
            keys,
            target,
            static_operations,
            row_operations,
            is_deletion: false,
            is_counter: false,
            conditional: None,
        }
    }
}

fn prepare_insert(
    preparer: &mut TermPreparer,
    table: &Arc<TableDef>,
    insert: &Insert,
) -> Result<WritePlan, PlanError> {
    let values = match &insert.values {
        InsertValues::Columns { columns, values } => {
            insert_values(preparer, table, columns, values)?
        }
        InsertValues::Json { value, default_unset } => {
            insert_json::prepare(preparer, value, *default_unset)?
        }
    };
    let mut keys: Vec<Option<PreparedTerm>> =
        vec![None; table.partition_key_count() + table.clustering_count()];
    let mut operations: Vec<ColumnOperation> = Vec::new();
    for (column, term) in values {
        let is_repeated = match column.kind {
            ColumnKind::PartitionKey(_) | ColumnKind::Clustering(_) => {
                let index = match column.kind {
                    ColumnKind::Clustering(index) => {
                        table.partition_key_count() + usize::from(index)
                    }
                    ColumnKind::PartitionKey(index) => usize::from(index),
                    ColumnKind::Static | ColumnKind::Regular => keys.len(),
                };
                keys.get_mut(index).is_none_or(|slot| slot.replace(term).is_some())
            }
            ColumnKind::Static | ColumnKind::Regular => {
                let is_repeated = operations.iter().any(|other| other.column == column.id);
                operations.push(set_to(column, term));
                is_repeated
            }
        };
        if is_repeated {
            return Err(PlanError::invalid("The column names contains duplicates"));
        }
    }
    let clustering = keys.split_off(table.partition_key_count());
    let keys = insert_keys(table, keys, clustering, &operations)?;
    let target =
        if keys.has_full_clustering(table) { Target::InsertedRows } else { Target::StaticRow };
    let attributes = Attributes::prepare(preparer, &insert.using)?;
    let operations = in_column_order(table, operations)?;
    Ok(WritePlan::new(table, attributes, keys, target, operations))
}

/// What VALUES gives each of the named columns.
fn insert_values<'t>(
    preparer: &mut TermPreparer,
    table: &'t TableDef,
    columns: &[Name],
    values: &[Term],
) -> Result<Vec<(&'t ColumnDef, PreparedTerm)>, PlanError> {
    if columns.len() != values.len() {
        return Err(PlanError::invalid("Unmatched column names/values"));
    }
    let pairs = columns.iter().zip(values);
    pairs
        .map(|(name, term)| {
            let column = table_column(table, name)?;
            Ok((column, preparer.prepare(term, &receiver_of(column))?))
        })
        .collect()
}

fn prepare_condition(
    preparer: &mut TermPreparer,
    condition: Option<&ast::Condition>,
) -> Result<Option<Condition>, PlanError> {
    condition.map(|condition| Condition::prepare(preparer, condition)).transpose()
}

/// Whether a condition is about a row, so that it has to be named.
fn asks_of_rows(condition: Option<&Condition>) -> bool {
    condition.is_some_and(Condition::has_regular_columns)
}

/// All key columns must have a value, but for an INSERT of nothing but static columns.
fn insert_keys(
    table: &TableDef,
    partition: Vec<Option<PreparedTerm>>,
    clustering: Vec<Option<PreparedTerm>>,
    operations: &[ColumnOperation],
) -> Result<KeySelection, PlanError> {
    require(table.partition_key(), &partition, "partition key parts")?;
    let partition = PartitionKeys(partition.into_iter().flatten().map(Choice::One).collect());
    let is_unnamed = !clustering.is_empty() && clustering.iter().all(Option::is_none);
    if is_static(operations) && is_unnamed {
        return Ok(KeySelection { partition, clustering: Clustering::default() });
    }
    require(table.clustering_key(), &clustering, "clustering keys")?;
    let single = |(index, term)| ClusteringChoice {
        columns: index..index + 1,
        is_tuple: false,
        choice: Choice::One(term),
    };
    let prefix = clustering.into_iter().flatten().enumerate().map(single).collect();
    Ok(KeySelection { partition, clustering: Clustering { prefix, bounds: Vec::new() } })
}

/// Every one of these columns needs a term.
fn require(
    columns: &[ColumnDef],
    terms: &[Option<PreparedTerm>],
    what: &str,
) -> Result<(), PlanError> {
    let missing = columns.iter().zip(terms).filter(|(_, term)| term.is_none());
    let mut missing = missing.map(|(column, _)| column).peekable();
    match missing.peek() {
        Some(_) => Err(keys_missing(what, missing)),
        None => Ok(()),
    }
}

/// Whether nothing but static columns are changed.
fn is_static(operations: &[ColumnOperation]) -> bool {
    !operations.is_empty() && operations.iter().all(|operation| operation.is_static)
}

fn prepare_update(
    preparer: &mut TermPreparer,
    table: &Arc<TableDef>,
    update: &Update,
) -> Result<(WritePlan, Option<Condition>), PlanError> {
    let attributes = Attributes::prepare(preparer, &update.using)?;
    let operations = update
        .assignments
        .iter()
        .map(|assignment| prepare_assignment(preparer, assignment))
        .collect::<Result<Vec<_>, _>>()?;
    let operations = in_column_order(table, operations)?;
    let condition = prepare_condition(preparer, update.condition.as_ref())?;
    let is_static = is_static(&operations) && !asks_of_rows(condition.as_ref());
    let keys = KeySelection::prepare(preparer, &update.relations, &Rules::UPDATE, is_static)?;
    let target = if is_static { Target::StaticRow } else { Target::Rows };
    Ok((WritePlan::new(table, attributes, keys, target, operations), condition))
}

fn prepare_delete(
    preparer: &mut TermPreparer,
    table: &Arc<TableDef>,
    delete: &Delete,
) -> Result<(WritePlan, Option<Condition>), PlanError> {
    let operations = delete
        .targets
        .iter()
        .map(|target| prepare_deletion(preparer, target))
        .collect::<Result<Vec<_>, _>>()?;
    let operations = in_column_order(table, operations)?;
    let attributes = Attributes::prepare(preparer, &delete.using)?;
    let condition = prepare_condition(preparer, delete.condition.as_ref())?;
    let deletes_static = is_static(&operations);
    let is_static = deletes_static && !asks_of_rows(condition.as_ref());
    let keys = KeySelection::prepare(preparer, &delete.relations, &Rules::DELETE, is_static)?;
    if let Some(condition) = &condition {
        check_deletion(deletes_static, keys.has_full_clustering(table), condition)?;
    }
    let target = match (operations.is_empty(), keys.has_full_clustering(table)) {
        (true, _) if keys.clustering.is_empty() => Target::DeletedPartition,
        (true, true) => Target::DeletedRows,
        (true, false) => Target::DeletedRanges,
        (false, _) if is_static => Target::StaticRow,
        (false, true) => Target::Rows,
        (false, false) => {
            return Err(PlanError::invalid(
                "Range deletions are not supported for specific columns",
            ));
        }
    };
    let plan = WritePlan::new(table, attributes, keys, target, operations);
    Ok((WritePlan { is_deletion: true, ..plan }, condition))
}
