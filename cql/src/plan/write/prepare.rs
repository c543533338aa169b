//! INSERT, UPDATE and DELETE to a [`WritePlan`].

use super::attributes::Attributes;
use super::keys::{Choice, ClusteringChoice, KeySelection};
use super::operation::{
    ColumnOperation, in_column_order, prepare_assignment, prepare_deletion, prepare_set,
};
use super::where_clause::prepare_where;
use crate::plan::error::PlanError;
use crate::plan::markers::MarkerSpecs;
use crate::plan::names::{find_table, receiver_of, table_column};
use crate::plan::term::PreparedTerm;
use crate::plan::term_preparer::TermPreparer;
use crate::syntax::ast::{Delete, Insert, InsertValues, Modification, Update};
use model::{ColumnKind, Schema, TableDef};
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
        let slot = |choice: &Choice| match choice {
            Choice::One(term) => term.marker_slot(),
            Choice::Terms(_) | Choice::List(_) => None,
        };
        self.keys.partition.iter().map(slot).collect()
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
    let missing = |terms: &[Option<PreparedTerm>], columns: &[model::ColumnDef]| {
        let names = terms.iter().zip(columns).filter(|(term, _)| term.is_none());
        names.map(|(_, column)| &*column.name).collect::<Vec<&str>>().join(", ")
    };
    let missing_partition = missing(&partition, table.partition_key());
    if !missing_partition.is_empty() {
        return Err(PlanError::invalid(format!(
            "Some partition key parts are missing: {missing_partition}"
        )));
    }
    let only_static =
        !operations.is_empty() && operations.iter().all(|operation| operation.is_static);
    let mut selection = KeySelection {
        partition: partition.into_iter().flatten().map(Choice::One).collect(),
        ..KeySelection::default()
    };
    if only_static && !clustering.is_empty() && clustering.iter().all(Option::is_none) {
        return Ok(selection);
    }
    require_clustering(&missing(&clustering, table.clustering_key()))?;
    for (index, term) in clustering.into_iter().flatten().enumerate() {
        let columns = index..index + 1;
        let choice = Choice::One(term);
        selection.clustering.push(ClusteringChoice { columns, is_tuple: false, choice });
    }
    Ok(selection)
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
    let keys = prepare_where(preparer, &update.relations, "UPDATE")?;
    let target = cells_target(table, &keys, &operations, "UPDATE")?;
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
    let keys = prepare_where(preparer, &delete.relations, "DELETE")?;
    let target = if operations.is_empty() {
        if !keys.restricts_clustering() {
            Target::DeletedPartition
        } else if keys.has_full_clustering(table) {
            Target::DeletedRows
        } else {
            Target::DeletedRanges
        }
    } else {
        let is_range = !keys.has_full_clustering(table);
        if is_range && !operations.iter().all(|operation| operation.is_static) {
            return Err(PlanError::invalid(
                "Range deletions are not supported for specific columns",
            ));
        }
        cells_target(table, &keys, &operations, "DELETE")?
    };
    Ok(WritePlan::new(table, attributes, keys, target, operations))
}

/// The target of a statement that changes cells: rows need their whole key, the static row none
/// of the clustering columns.
fn cells_target(
    table: &TableDef,
    keys: &KeySelection,
    operations: &[ColumnOperation],
    statement: &str,
) -> Result<Target, PlanError> {
    if operations.iter().all(|operation| operation.is_static) {
        if keys.restricts_clustering() {
            return Err(PlanError::invalid(format!(
                "Invalid restrictions on clustering columns since the {statement} statement \
                 modifies only static columns"
            )));
        }
        return Ok(Target::StaticRow);
    }
    let missing = &table.clustering_key()[keys.clustering_column_count()..];
    let missing: Vec<&str> = missing.iter().map(|column| &*column.name).collect();
    require_clustering(&missing.join(", "))?;
    Ok(Target::Rows)
}

fn require_clustering(missing: &str) -> Result<(), PlanError> {
    if missing.is_empty() {
        return Ok(());
    }
    Err(PlanError::invalid(format!("Some clustering keys are missing: {missing}")))
}
