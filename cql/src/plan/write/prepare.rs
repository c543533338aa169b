//! INSERT, UPDATE and DELETE to a [`WritePlan`].

use super::attributes::Attributes;
use super::operation::{
    ColumnOperation, in_column_order, prepare_assignment, prepare_deletion, prepare_set,
};
use crate::plan::error::PlanError;
use crate::plan::markers::MarkerSpecs;
use crate::plan::names::{find_table, receiver_of, table_column};
use crate::plan::restriction::{
    Choice, Clustering, ClusteringChoice, KeySelection, PartitionKeys, Rules, keys_missing,
};
use crate::plan::term::PreparedTerm;
use crate::plan::term_preparer::TermPreparer;
use crate::syntax::ast::{Delete, Insert, InsertValues, Modification, Update};
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
        let (name, has_condition) = match modification {
            Modification::Insert(insert) => (&insert.table, insert.if_not_exists),
            Modification::Update(update) => (&update.table, update.condition.is_some()),
            Modification::Delete(delete) => (&delete.table, delete.condition.is_some()),
        };
        let table = find_table(schema, keyspace, name)?;
        if has_condition {
            return Err(PlanError::invalid("Conditional statements (IF …) are not supported yet"));
        }
        if table.is_counter() {
            return Err(PlanError::invalid("Counter tables are not supported yet"));
        }
        let mut preparer = TermPreparer { schema, table, markers };
        match modification {
            Modification::Insert(insert) => prepare_insert(&mut preparer, table, insert),
            Modification::Update(update) => prepare_update(&mut preparer, table, update),
            Modification::Delete(delete) => prepare_delete(&mut preparer, table, delete),
        }
    }

    /// For each column of the partition key the marker that alone gives its value, if one does.
    pub fn partition_key_slots(&self) -> Vec<Option<u16>> {
        self.keys.partition.marker_slots()
    }

    /// Whether the statement names a timestamp of its own.
    pub fn has_timestamp(&self) -> bool {
        self.attributes.has_timestamp()
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
        WritePlan { table, attributes, keys, target, static_operations, row_operations }
    }
}

fn prepare_insert(
    preparer: &mut TermPreparer,
    table: &Arc<TableDef>,
    insert: &Insert,
) -> Result<WritePlan, PlanError> {
    let InsertValues::Columns { columns, values } = &insert.values else {
        return Err(PlanError::invalid("INSERT JSON is not supported yet"));
    };
    if columns.len() != values.len() {
        return Err(PlanError::invalid("Unmatched column names/values"));
    }
    let mut keys: Vec<Option<PreparedTerm>> =
        vec![None; table.partition_key_count() + table.clustering_count()];
    let mut operations: Vec<ColumnOperation> = Vec::new();
    for (name, term) in columns.iter().zip(values) {
        let column = table_column(table, name)?;
        let is_repeated = match column.kind {
            ColumnKind::PartitionKey(_) | ColumnKind::Clustering(_) => {
                let index = match column.kind {
                    ColumnKind::Clustering(index) => {
                        table.partition_key_count() + usize::from(index)
                    }
                    ColumnKind::PartitionKey(index) => usize::from(index),
                    ColumnKind::Static | ColumnKind::Regular => keys.len(),
                };
                let term = preparer.prepare(term, &receiver_of(column))?;
                keys.get_mut(index).is_none_or(|slot| slot.replace(term).is_some())
            }
            ColumnKind::Static | ColumnKind::Regular => {
                let is_repeated = operations.iter().any(|other| other.column == column.id);
                operations.push(prepare_set(preparer, column, term)?);
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
) -> Result<WritePlan, PlanError> {
    let attributes = Attributes::prepare(preparer, &update.using)?;
    let operations = update
        .assignments
        .iter()
        .map(|assignment| prepare_assignment(preparer, assignment))
        .collect::<Result<Vec<_>, _>>()?;
    let operations = in_column_order(table, operations)?;
    let is_static = is_static(&operations);
    let keys = KeySelection::prepare(preparer, &update.relations, &Rules::UPDATE, is_static)?;
    let target = if is_static { Target::StaticRow } else { Target::Rows };
    Ok(WritePlan::new(table, attributes, keys, target, operations))
}

fn prepare_delete(
    preparer: &mut TermPreparer,
    table: &Arc<TableDef>,
    delete: &Delete,
) -> Result<WritePlan, PlanError> {
    let operations = delete
        .targets
        .iter()
        .map(|target| prepare_deletion(preparer, target))
        .collect::<Result<Vec<_>, _>>()?;
    let operations = in_column_order(table, operations)?;
    let attributes = Attributes::prepare(preparer, &delete.using)?;
    let is_static = is_static(&operations);
    let keys = KeySelection::prepare(preparer, &delete.relations, &Rules::DELETE, is_static)?;
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
    Ok(WritePlan::new(table, attributes, keys, target, operations))
}
