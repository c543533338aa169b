//! The IF clause of a statement, its columns found and its terms prepared.

use crate::plan::error::PlanError;
use crate::plan::markers::Receiver;
use crate::plan::names::{column_index, receiver_of};
use crate::plan::term::{Marker, PreparedTerm};
use crate::plan::term_preparer::TermPreparer;
use crate::plan::term_text::comparison_text;
use crate::syntax::ast::{self, Comparison, InValues, Operand, Predicate, Relation};
use model::{ColumnDef, ColumnId, ColumnKind, CqlType};
use std::sync::Arc;

/// An IF clause.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::plan) enum Condition {
    /// IF NOT EXISTS
    NotExists,
    /// IF EXISTS
    Exists,
    /// Tests of columns, those of regular ones before those of static ones, each in the order of
    /// the statement.
    Columns(Vec<ColumnCondition>),
}

/// A test of one column.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::plan) struct ColumnCondition {
    pub(super) column: ColumnId,
    pub(super) is_static: bool,
    /// The column's type.
    pub(super) column_type: CqlType,
    pub(super) part: Part,
    pub(super) test: Test,
}

/// What of a column is looked at.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Whole,
    Key(PreparedTerm),
    Index(PreparedTerm),
    Field(u16),
}

/// What it is asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    Compare(Comparison, PreparedTerm),
    /// `IN (terms)`
    Terms(Vec<PreparedTerm>),
    /// `IN ?`
    List(Marker),
    Contains(PreparedTerm),
    ContainsKey(PreparedTerm),
}

impl Condition {
    /// Prepares the IF clause of UPDATE or DELETE.
    pub(in crate::plan) fn prepare(
        preparer: &mut TermPreparer,
        condition: &ast::Condition,
    ) -> Result<Condition, PlanError> {
        let relations = match condition {
            ast::Condition::Exists => return Ok(Condition::Exists),
            ast::Condition::Relations(relations) => relations,
        };
        let conditions = relations.iter().map(|relation| ColumnCondition::new(preparer, relation));
        let mut conditions = conditions.collect::<Result<Vec<_>, _>>()?;
        conditions.sort_by_key(|condition| condition.is_static);
        Ok(Condition::Columns(conditions))
    }

    /// The columns that are tested, each once, in the order in which a refused client sees them;
    /// `None` where existence is asked and the client sees all.
    pub(in crate::plan) fn columns(&self) -> Option<impl Iterator<Item = ColumnId>> {
        match self {
            Condition::NotExists | Condition::Exists => None,
            Condition::Columns(conditions) => Some(conditions.iter().map(|c| c.column)),
        }
    }

    /// Whether a column is tested that each row has for itself.
    pub(in crate::plan) fn has_regular_columns(&self) -> bool {
        matches!(self, Condition::Columns(conditions) if conditions.iter().any(|c| !c.is_static))
    }

    /// Whether a column is tested that the rows of a partition share.
    pub(in crate::plan) fn has_static_columns(&self) -> bool {
        matches!(self, Condition::Columns(conditions) if conditions.iter().any(|c| c.is_static))
    }
}

impl ColumnCondition {
    fn new(preparer: &mut TermPreparer, relation: &Relation) -> Result<Self, PlanError> {
        let table = preparer.table;
        let name = match &relation.operand {
            Operand::Column(name)
            | Operand::Element { column: name, .. }
            | Operand::Field { column: name, .. } => name,
            Operand::Columns(_) | Operand::Token(_) => {
                return Err(PlanError::invalid("Conditions are about single columns"));
            }
        };
        let column = &table.columns[column_index(table, name)?];
        if matches!(column.kind, ColumnKind::PartitionKey(_) | ColumnKind::Clustering(_)) {
            return Err(PlanError::invalid(format!(
                "PRIMARY KEY column '{}' cannot have IF conditions",
                column.name
            )));
        }
        if column.cql_type == CqlType::Counter {
            return Err(PlanError::invalid("Conditions on counters are not supported"));
        }
        let (part, receiver) = prepare_part(preparer, column, &relation.operand)?;
        Ok(ColumnCondition {
            column: column.id,
            is_static: column.kind == ColumnKind::Static,
            column_type: column.cql_type.clone(),
            part,
            test: prepare_test(preparer, &receiver, &relation.predicate)?,
        })
    }
}

/// What of the column is looked at, and what it is compared with.
fn prepare_part(
    preparer: &mut TermPreparer,
    column: &ColumnDef,
    operand: &Operand,
) -> Result<(Part, Receiver), PlanError> {
    let receiver = receiver_of(column);
    match operand {
        Operand::Element { key, .. } => match &column.cql_type {
            CqlType::Map { key: key_type, value, .. } => {
                let key = preparer.prepare(key, &receiver.part("key", (**key_type).clone()))?;
                Ok((Part::Key(key), receiver.part("value", (**value).clone())))
            }
            CqlType::List { element, .. } => {
                let index = preparer.prepare(key, &receiver.part("idx", CqlType::Int))?;
                Ok((Part::Index(index), receiver.part("value", (**element).clone())))
            }
            other => {
                let kind =
                    if matches!(other, CqlType::Set { .. }) { "set" } else { "non-collection" };
                Err(PlanError::invalid(format!(
                    "Invalid element access syntax for {kind} column {}",
                    column.name
                )))
            }
        },
        Operand::Field { field, .. } => {
            let CqlType::Udt(udt) = &column.cql_type else {
                return Err(PlanError::invalid(format!(
                    "Invalid field access syntax for non-UDT column {}",
                    column.name
                )));
            };
            let mut fields = (0..).zip(&udt.fields);
            let found = fields.find(|(_, (name, _))| **name == *field.text);
            let Some((index, (name, cql_type))) = found else {
                return Err(PlanError::invalid(format!(
                    "Unknown field {} for column {}",
                    field.as_str(),
                    column.name
                )));
            };
            let name = format!("{}.{name}", column.name);
            Ok((Part::Field(index), Receiver::new(name, cql_type.clone())))
        }
        _ => Ok((Part::Whole, receiver)),
    }
}

fn prepare_test(
    preparer: &mut TermPreparer,
    receiver: &Receiver,
    predicate: &Predicate,
) -> Result<Test, PlanError> {
    let refused =
        |what: String| PlanError::invalid(format!("Cannot use {what} column {}", receiver.name));
    Ok(match predicate {
        Predicate::Compare(comparison, term) => {
            check_order(*comparison, &receiver.cql_type)?;
            Test::Compare(*comparison, preparer.prepare(term, receiver)?)
        }
        Predicate::In(InValues::Terms(terms)) => {
            let terms = terms.iter().map(|term| preparer.prepare(term, receiver));
            Test::Terms(terms.collect::<Result<_, _>>()?)
        }
        Predicate::In(InValues::Marker { index, .. }) => {
            let element = Arc::new(receiver.cql_type.freeze());
            let list = receiver.part("in", CqlType::List { element, frozen: true });
            let table = preparer.table;
            preparer.markers.assign(*index, &table.keyspace, &table.name, &list)?;
            Test::List(Marker { slot: *index, cql_type: list.cql_type })
        }
        Predicate::Contains(term) => {
            let element = match &receiver.cql_type {
                CqlType::List { element, .. } | CqlType::Set { element, .. } => element,
                CqlType::Map { value, .. } => value,
                _ => return Err(refused("CONTAINS on non-collection".to_owned())),
            };
            let element = receiver.part("value", (**element).clone());
            Test::Contains(preparer.prepare(term, &element)?)
        }
        Predicate::ContainsKey(term) => {
            let CqlType::Map { key, .. } = &receiver.cql_type else {
                return Err(refused("CONTAINS KEY on non-map".to_owned()));
            };
            let key = receiver.part("key", (**key).clone());
            Test::ContainsKey(preparer.prepare(term, &key)?)
        }
        Predicate::Like(_) | Predicate::IsNotNull => {
            let operator = if let Predicate::Like(_) = predicate { "LIKE" } else { "IS NOT NULL" };
            return Err(refused(format!("{operator} in a condition on")));
        }
    })
}

/// Durations have no order, nor has what holds them.
fn check_order(comparison: Comparison, cql_type: &CqlType) -> Result<(), PlanError> {
    let is_inequality = !matches!(comparison, Comparison::Equal | Comparison::NotEqual);
    if !is_inequality || !cql_type.holds_duration() {
        return Ok(());
    }
    let what = match cql_type {
        CqlType::Duration => {
            return Err(PlanError::invalid(format!(
                "Slice conditions ( {} ) are not supported on durations",
                comparison_text(comparison)
            )));
        }
        CqlType::Tuple(_) => "tuples",
        CqlType::Udt(_) => "UDTs",
        CqlType::Vector { .. } => "vectors",
        _ => "collections",
    };
    Err(PlanError::invalid(format!(
        "Slice conditions are not supported on {what} containing durations"
    )))
}
