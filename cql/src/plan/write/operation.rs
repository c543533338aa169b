//! What a write does to one column, prepared: assignments of UPDATE and INSERT, targets of DELETE.
//!
//! Which forms a column takes depends on its type alone: one value is set or deleted; a column of
//! several cells (a collection or user type that is not frozen) is overwritten, or single elements
//! of it are. [`super::cells`] makes cells of these.

use super::counter::{cannot_be_set, prepare_increment};
use crate::plan::error::{ErrorKind, PlanError};
use crate::plan::markers::Receiver;
use crate::plan::names::{receiver_of, table_column};
use crate::plan::term::PreparedTerm;
use crate::plan::term_preparer::{Fit, TermPreparer};
use crate::plan::term_text::term_text;
use crate::syntax::ast::{Assignment, AssignmentOperation, DeleteTarget, Name, Term};
use model::{ColumnDef, ColumnId, CqlType, TableDef};

/// A change of one column.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ColumnOperation {
    pub(super) column: ColumnId,
    pub(super) is_static: bool,
    pub(super) cql_type: CqlType,
    pub(super) change: ColumnChange,
}

/// How a column changes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ColumnChange {
    /// The value of a column of one cell; null deletes it.
    SetValue(PreparedTerm),
    /// All cells of a column of several; what it had goes first.
    Overwrite(PreparedTerm),
    /// Elements of a set, entries of a map.
    AddElements(PreparedTerm),
    /// Elements behind a list's last.
    Append(PreparedTerm),
    /// Elements before a list's first, in their order.
    Prepend(PreparedTerm),
    /// Elements of a set, keys of a map: the term is a set of them.
    RemoveKeys(PreparedTerm),
    /// Values of a list, wherever they are.
    RemoveValues(PreparedTerm),
    /// One entry of a map.
    SetEntry { key: PreparedTerm, value: PreparedTerm },
    /// The list's element of that index.
    SetIndex { index: PreparedTerm, value: PreparedTerm },
    /// The list's cell of that timeuuid.
    SetListCell { cell: PreparedTerm, value: PreparedTerm },
    /// One field of a user type.
    SetField { index: u16, value: PreparedTerm },
    /// What is added to a counter, or taken from it.
    Increment { term: PreparedTerm, is_negative: bool },
    /// The column, whatever its form.
    Delete,
    /// An element of a set, an entry of a map.
    DeleteKey(PreparedTerm),
    /// The list's element of that index.
    DeleteIndex(PreparedTerm),
    /// One field of a user type.
    DeleteField(u16),
}

impl ColumnOperation {
    fn new(column: &ColumnDef, change: ColumnChange) -> ColumnOperation {
        ColumnOperation {
            column: column.id,
            is_static: column.kind == model::ColumnKind::Static,
            cql_type: column.cql_type.clone(),
            change,
        }
    }

    /// Whether the column is set or deleted as a whole, so that no second change can go with it.
    fn is_whole(&self) -> bool {
        use ColumnChange::{Delete, Overwrite, SetValue};
        matches!(self.change, SetValue(_) | Overwrite(_) | Delete)
    }
}

/// Sorts operations for the row's order of cells. Errors when a column is changed in ways that
/// contradict each other.
pub(super) fn in_column_order(
    table: &TableDef,
    mut operations: Vec<ColumnOperation>,
) -> Result<Vec<ColumnOperation>, PlanError> {
    operations.sort_by_key(|operation| operation.column);
    // To delete a column twice is to delete it.
    operations.dedup_by(|a, b| {
        let is_delete = |operation: &ColumnOperation| operation.change == ColumnChange::Delete;
        a.column == b.column && is_delete(a) && is_delete(b)
    });
    for group in operations.chunk_by(|a, b| a.column == b.column) {
        if group.len() > 1 && group.iter().any(ColumnOperation::is_whole) {
            let name = table.column_by_id(group[0].column).map_or("", |column| &column.name);
            // Cassandra finds this while it parses, and says so by the kind of the error.
            return Err(PlanError {
                kind: ErrorKind::Syntax,
                message: format!("Multiple incompatible setting of column {name}").into(),
            });
        }
    }
    Ok(operations)
}

/// The column of that name that a statement changes; never one of the primary key.
pub(super) fn changed_column<'t>(
    table: &'t TableDef,
    name: &Name,
    key_error: impl FnOnce(&str) -> String,
) -> Result<&'t ColumnDef, PlanError> {
    let column = table_column(table, name)?;
    match column.kind {
        model::ColumnKind::Static | model::ColumnKind::Regular => Ok(column),
        _ => Err(PlanError::invalid(key_error(name.as_str()))),
    }
}

/// `column = term`, and a value of INSERT.
pub(super) fn prepare_set(
    preparer: &mut TermPreparer,
    column: &ColumnDef,
    term: &Term,
) -> Result<ColumnOperation, PlanError> {
    if column.cql_type == CqlType::Counter {
        return Err(cannot_be_set(column));
    }
    let term = preparer.prepare(term, &receiver_of(column))?;
    Ok(set_to(column, term))
}

/// The column gets that value.
pub(super) fn set_to(column: &ColumnDef, term: PreparedTerm) -> ColumnOperation {
    let change = if column.cql_type.is_multi_cell() {
        ColumnChange::Overwrite(term)
    } else {
        ColumnChange::SetValue(term)
    };
    ColumnOperation::new(column, change)
}

/// One assignment of UPDATE.
pub(super) fn prepare_assignment(
    preparer: &mut TermPreparer,
    assignment: &Assignment,
) -> Result<ColumnOperation, PlanError> {
    let table = preparer.table;
    let column = changed_column(table, &assignment.column, |name| {
        format!("PRIMARY KEY part {name} found in SET part")
    })?;
    let change = match &assignment.operation {
        AssignmentOperation::Set(term) => return prepare_set(preparer, column, term),
        AssignmentOperation::Add(term) => prepare_add(preparer, column, term)?,
        AssignmentOperation::Prepend(term) => prepare_prepend(preparer, column, term)?,
        AssignmentOperation::Subtract(term) => prepare_subtract(preparer, column, term)?,
        AssignmentOperation::SetElement { key, value } => {
            prepare_set_element(preparer, column, key, value)?
        }
        AssignmentOperation::SetListCell { cell, value } => {
            prepare_set_list_cell(preparer, column, cell, value)?
        }
        AssignmentOperation::SetField { field, value } => {
            let operation = || format!("{}.{} = {}", column.name, field.as_str(), term_text(value));
            let (index, field_type) = user_type_field(column, field, operation)?;
            let name = format!("{}.{}", column.name, field.as_str());
            let value = preparer.prepare(value, &Receiver::new(name, field_type))?;
            ColumnChange::SetField { index, value }
        }
    };
    Ok(ColumnOperation::new(column, change))
}

fn prepare_add(
    preparer: &mut TermPreparer,
    column: &ColumnDef,
    term: &Term,
) -> Result<ColumnChange, PlanError> {
    if column.cql_type == CqlType::Counter {
        return prepare_increment(preparer, column, term, false);
    }
    let operation = || format!("{0} = {0} + {1}", column.name, term_text(term));
    require_cells(column, "non counter", operation)?;
    if matches!(column.cql_type, CqlType::Map { .. }) {
        require_fit(preparer, term, &column.cql_type, "addition has to be a map")?;
    }
    let value = preparer.prepare(term, &receiver_of(column))?;
    Ok(if is_list(column) { ColumnChange::Append(value) } else { ColumnChange::AddElements(value) })
}

fn prepare_prepend(
    preparer: &mut TermPreparer,
    column: &ColumnDef,
    term: &Term,
) -> Result<ColumnChange, PlanError> {
    let operation = format!("{1} + {0}", column.name, term_text(term));
    if !is_list(column) {
        // As Cassandra writes it.
        let operation = format!("{0} = {1} - {0}", column.name, term_text(term));
        return Err(invalid_operation(&operation, "non list", column));
    }
    require_cells(column, "non list", || format!("{} = {operation}", column.name))?;
    Ok(ColumnChange::Prepend(preparer.prepare(term, &receiver_of(column))?))
}

fn prepare_subtract(
    preparer: &mut TermPreparer,
    column: &ColumnDef,
    term: &Term,
) -> Result<ColumnChange, PlanError> {
    if column.cql_type == CqlType::Counter {
        return prepare_increment(preparer, column, term, true);
    }
    let operation = || format!("{0} = {0} - {1}", column.name, term_text(term));
    require_cells(column, "non counter", operation)?;
    Ok(match &column.cql_type {
        // A map gives up keys: a set of them, under the map's own name.
        CqlType::Map { key, .. } => {
            let keys = CqlType::Set { element: key.clone(), frozen: false };
            require_fit(preparer, term, &keys, "substraction has to be a set")?;
            let keys = Receiver::new(column.name.clone(), keys);
            ColumnChange::RemoveKeys(preparer.prepare(term, &keys)?)
        }
        CqlType::Set { .. } => {
            ColumnChange::RemoveKeys(preparer.prepare(term, &receiver_of(column))?)
        }
        _ => ColumnChange::RemoveValues(preparer.prepare(term, &receiver_of(column))?),
    })
}

/// What a map is given, or gives up, has to be of a type; `wanted` is spelled as Cassandra does.
fn require_fit(
    preparer: &TermPreparer,
    term: &Term,
    cql_type: &CqlType,
    wanted: &str,
) -> Result<(), PlanError> {
    if preparer.fit(term, cql_type) != Fit::None {
        return Ok(());
    }
    let found = term_text(term);
    Err(PlanError::invalid(format!("Value for a map {wanted}, but was: '{found}'")))
}

fn prepare_set_element(
    preparer: &mut TermPreparer,
    column: &ColumnDef,
    key: &Term,
    value: &Term,
) -> Result<ColumnChange, PlanError> {
    let operation = || format!("{}[{}] = {}", column.name, term_text(key), term_text(value));
    let receiver = receiver_of(column);
    let (CqlType::List { element: value_type, .. } | CqlType::Map { value: value_type, .. }) =
        &column.cql_type
    else {
        let kind =
            if matches!(column.cql_type, CqlType::Set { .. }) { "set" } else { "non collection" };
        return Err(invalid_operation(&operation(), kind, column));
    };
    require_cells(column, "non collection", operation)?;
    let value_receiver = receiver.part("value", (**value_type).clone());
    Ok(if let CqlType::Map { key: key_type, .. } = &column.cql_type {
        let key = preparer.prepare(key, &receiver.part("key", (**key_type).clone()))?;
        ColumnChange::SetEntry { key, value: preparer.prepare(value, &value_receiver)? }
    } else {
        let index = preparer.prepare(key, &receiver.part("idx", CqlType::Int))?;
        ColumnChange::SetIndex { index, value: preparer.prepare(value, &value_receiver)? }
    })
}

fn prepare_set_list_cell(
    preparer: &mut TermPreparer,
    column: &ColumnDef,
    cell: &Term,
    value: &Term,
) -> Result<ColumnChange, PlanError> {
    let operation = || {
        let (cell, value) = (term_text(cell), term_text(value));
        format!("{}[SCYLLA_TIMEUUID_LIST_INDEX({cell})] = {value}", column.name)
    };
    let CqlType::List { element, .. } = &column.cql_type else {
        return Err(invalid_operation(&operation(), "non list", column));
    };
    require_cells(column, "non list", operation)?;
    let receiver = receiver_of(column);
    let cell = preparer.prepare(cell, &receiver.part("uuid", CqlType::TimeUuid))?;
    let value = preparer.prepare(value, &receiver.part("value", (**element).clone()))?;
    Ok(ColumnChange::SetListCell { cell, value })
}

/// One target of DELETE.
pub(super) fn prepare_deletion(
    preparer: &mut TermPreparer,
    target: &DeleteTarget,
) -> Result<ColumnOperation, PlanError> {
    let (DeleteTarget::Column(name)
    | DeleteTarget::Element { column: name, .. }
    | DeleteTarget::Field { column: name, .. }) = target;
    let table = preparer.table;
    let column = changed_column(table, name, |name| {
        format!("Invalid identifier {name} for deletion (should not be a PRIMARY KEY part)")
    })?;
    let change = match target {
        DeleteTarget::Column(_) => ColumnChange::Delete,
        DeleteTarget::Element { key, .. } => prepare_delete_element(preparer, column, key)?,
        DeleteTarget::Field { field, .. } => {
            check_field_deletion(column)?;
            let operation = || format!("{}.{}", column.name, field.as_str());
            ColumnChange::DeleteField(user_type_field(column, field, operation)?.0)
        }
    };
    Ok(ColumnOperation::new(column, change))
}

fn prepare_delete_element(
    preparer: &mut TermPreparer,
    column: &ColumnDef,
    key: &Term,
) -> Result<ColumnChange, PlanError> {
    if !column.cql_type.is_collection() {
        return Err(PlanError::invalid(format!(
            "Invalid deletion operation for non collection column {}",
            column.name
        )));
    }
    if !column.cql_type.is_multi_cell() {
        return Err(PlanError::invalid(format!(
            "Invalid deletion operation for frozen collection column {}",
            column.name
        )));
    }
    let receiver = receiver_of(column);
    Ok(match &column.cql_type {
        CqlType::Map { key: key_type, .. } => ColumnChange::DeleteKey(
            preparer.prepare(key, &receiver.part("key", (**key_type).clone()))?,
        ),
        CqlType::Set { element, .. } => ColumnChange::DeleteKey(
            preparer.prepare(key, &receiver.part("value", (**element).clone()))?,
        ),
        _ => ColumnChange::DeleteIndex(preparer.prepare(key, &receiver.part("idx", CqlType::Int))?),
    })
}

/// Fields go one by one only from a user type that is stored so.
fn check_field_deletion(column: &ColumnDef) -> Result<(), PlanError> {
    let name = &column.name;
    Err(PlanError::invalid(match &column.cql_type {
        CqlType::Udt(udt) if !udt.frozen => return Ok(()),
        CqlType::Udt(_) => format!("Frozen UDT column {name} does not support field deletions"),
        _ => format!("Invalid field deletion operation for non-UDT column {name}"),
    }))
}

/// Index and type of a field of a user type that is not frozen.
fn user_type_field(
    column: &ColumnDef,
    field: &Name,
    operation: impl Fn() -> String,
) -> Result<(u16, CqlType), PlanError> {
    let CqlType::Udt(udt) = &column.cql_type else {
        return Err(invalid_operation(&operation(), "non-UDT", column));
    };
    if udt.frozen {
        return Err(invalid_operation(&operation(), "frozen UDT", column));
    }
    let index = udt.fields.iter().position(|(name, _)| **name == *field.text);
    index
        .and_then(|index| Some((u16::try_from(index).ok()?, udt.fields[index].1.clone())))
        .ok_or_else(|| {
            PlanError::invalid(format!(
                "UDT column {} does not have a field named {}",
                column.name,
                field.as_str()
            ))
        })
}

/// Errors unless the column is a collection that is stored as several cells.
fn require_cells(
    column: &ColumnDef,
    otherwise: &str,
    operation: impl Fn() -> String,
) -> Result<(), PlanError> {
    if !column.cql_type.is_collection() {
        return Err(invalid_operation(&operation(), otherwise, column));
    }
    if !column.cql_type.is_multi_cell() {
        return Err(invalid_operation(&operation(), "frozen collection", column));
    }
    Ok(())
}

fn is_list(column: &ColumnDef) -> bool {
    matches!(column.cql_type, CqlType::List { .. })
}

fn invalid_operation(operation: &str, kind: &str, column: &ColumnDef) -> PlanError {
    PlanError::invalid(format!("Invalid operation ({operation}) for {kind} column {}", column.name))
}
