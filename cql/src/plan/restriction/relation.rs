//! One relation of a WHERE clause, its columns found and its terms prepared.

use super::analyse::Rules;
use super::keys::Choice;
use crate::plan::error::PlanError;
use crate::plan::markers::Receiver;
use crate::plan::names::{column_index, receiver_of};
use crate::plan::term::{Marker, PreparedTerm};
use crate::plan::term_preparer::TermPreparer;
use crate::plan::term_text::{comparison_text, predicate_text, term_text};
use crate::syntax::ast::{
    Comparison, InValues, Name, Operand, Predicate, Relation, Term, TermKind,
};
use model::{ColumnKind, CqlType, TableDef};
use std::sync::Arc;

/// What is asked of the columns of a relation.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    /// `=` or `IN`.
    Choice(Choice),
    /// An inequality.
    Compare(Comparison, PreparedTerm),
    /// `CONTAINS`
    Contains(PreparedTerm),
    /// `CONTAINS KEY`
    ContainsKey(PreparedTerm),
    /// `column[key] = value`
    Entry {
        /// Key of a map.
        key: PreparedTerm,
        /// The value at it.
        value: PreparedTerm,
    },
}

/// Where the columns of a relation stand in their table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `token(…)` of the partition key.
    Token,
    /// The partition key.
    Partition,
    /// The clustering columns.
    Clustering,
    /// Static and regular columns.
    Data,
}

/// A relation, prepared.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Prepared {
    /// Where the columns stand.
    pub(super) place: Place,
    /// Indexes of the columns in [`TableDef::columns`].
    pub(super) columns: Vec<usize>,
    /// Whether values are tuples.
    pub(super) is_tuple: bool,
    /// What is asked.
    pub(super) test: Test,
}

impl Prepared {
    /// Prepares a relation.
    pub(super) fn new(
        preparer: &mut TermPreparer,
        relation: &Relation,
        rules: &Rules,
    ) -> Result<Prepared, PlanError> {
        rules.check(&relation.predicate)?;
        let table = preparer.table;
        match &relation.operand {
            Operand::Column(name) => {
                let index = column_index(table, name)?;
                let column = &table.columns[index];
                let test = prepare_test(preparer, &receiver_of(column), &relation.predicate)?;
                let place = match column.kind {
                    ColumnKind::PartitionKey(_) => Place::Partition,
                    ColumnKind::Clustering(_) => Place::Clustering,
                    ColumnKind::Static | ColumnKind::Regular => Place::Data,
                };
                Ok(Prepared { place, columns: vec![index], is_tuple: false, test })
            }
            Operand::Columns(names) => {
                let columns = clustering_columns(table, names, &relation.predicate)?;
                let receiver = tuple_receiver(table, &columns);
                check_tuple_lengths(columns.len(), &relation.predicate)?;
                let test = prepare_test(preparer, &receiver, &relation.predicate)?;
                Ok(Prepared { place: Place::Clustering, columns, is_tuple: true, test })
            }
            Operand::Token(names) => {
                let columns = token_columns(table, names)?;
                let receiver = Receiver::new("partition key token", CqlType::BigInt);
                let test = prepare_test(preparer, &receiver, &relation.predicate)?;
                Ok(Prepared { place: Place::Token, columns, is_tuple: false, test })
            }
            Operand::Element { column, key } => prepare_entry(preparer, relation, column, key),
            Operand::Field { column, field } => Err(PlanError::invalid(format!(
                "Relations on fields of user types are not supported in WHERE: {}.{}",
                column.as_str(),
                field.as_str()
            ))),
        }
    }
}

/// `(a, b)`: neighbouring clustering columns.
fn clustering_columns(
    table: &TableDef,
    names: &[Name],
    predicate: &Predicate,
) -> Result<Vec<usize>, PlanError> {
    let relation = || format!("({}) {}", joined(names, ", "), predicate_text(predicate));
    let mut columns: Vec<usize> = Vec::with_capacity(names.len());
    for name in names {
        let index = column_index(table, name)?;
        if !matches!(table.columns[index].kind, ColumnKind::Clustering(_)) {
            return Err(PlanError::invalid(format!(
                "Multi-column relations can only be applied to clustering columns but was applied \
                 to: {}",
                name.as_str()
            )));
        }
        if columns.contains(&index) {
            return Err(PlanError::invalid(format!(
                "Column \"{}\" appeared twice in a relation: {}",
                name.as_str(),
                relation()
            )));
        }
        if columns.last().is_some_and(|last| last + 1 != index) {
            return Err(PlanError::invalid(format!(
                "Clustering columns must appear in the PRIMARY KEY order in multi-column \
                 relations: {}",
                relation()
            )));
        }
        columns.push(index);
    }
    Ok(columns)
}

fn token_columns(table: &TableDef, names: &[Name]) -> Result<Vec<usize>, PlanError> {
    let columns =
        names.iter().map(|name| column_index(table, name)).collect::<Result<Vec<_>, _>>()?;
    let key = table.partition_key();
    if columns.iter().enumerate().any(|(place, index)| columns[..place].contains(index)) {
        return Err(PlanError::invalid(
            "The token() function contains duplicate partition key components",
        ));
    }
    let is_key = |index: &usize| *index < key.len();
    if columns.iter().any(is_key) && !columns.iter().all(is_key) {
        return Err(PlanError::invalid(
            "The token() function must contains only partition key components",
        ));
    }
    if columns.len() != key.len() || !columns.iter().all(is_key) {
        return Err(PlanError::invalid(
            "The token() function must be applied to all partition key components or none of them",
        ));
    }
    if !columns.iter().copied().eq(0..key.len()) {
        let names: Vec<&str> = key.iter().map(|column| &*column.name).collect();
        return Err(PlanError::invalid(format!(
            "The token function arguments must be in the partition key order: {}",
            names.join(", ")
        )));
    }
    Ok(columns)
}

fn joined(names: &[Name], separator: &str) -> String {
    names.iter().map(Name::as_str).collect::<Vec<_>>().join(separator)
}

fn tuple_receiver(table: &TableDef, columns: &[usize]) -> Receiver {
    let names: Vec<&str> = columns.iter().map(|index| &*table.columns[*index].name).collect();
    let types = columns.iter().map(|index| table.columns[*index].cql_type.freeze());
    Receiver::new(format!("({})", names.join(",")), CqlType::Tuple(types.collect()))
}

fn prepare_test(
    preparer: &mut TermPreparer,
    receiver: &Receiver,
    predicate: &Predicate,
) -> Result<Test, PlanError> {
    Ok(match predicate {
        Predicate::Compare(comparison, term) => {
            prepare_comparison(preparer, receiver, *comparison, term)?
        }
        Predicate::In(InValues::Terms(terms)) => {
            check_comparable(receiver, "IN", false)?;
            let terms = terms.iter().map(|term| preparer.prepare(term, receiver));
            let terms = terms.collect::<Result<Vec<_>, _>>()?;
            // IN of one value is an equality, in Cassandra's errors too.
            Test::Choice(match <[PreparedTerm; 1]>::try_from(terms) {
                Ok([only]) => Choice::One(only),
                Err(terms) => Choice::Terms(terms),
            })
        }
        Predicate::In(InValues::Marker { index, .. }) => {
            check_comparable(receiver, "IN", false)?;
            let element = Arc::new(receiver.cql_type.freeze());
            let list = CqlType::List { element, frozen: true };
            let name = match receiver.name.strip_prefix('(') {
                Some(columns) => format!("in({columns}"),
                None => format!("in({})", receiver.name),
            };
            let receiver = Receiver::new(name, list);
            let table = preparer.table;
            preparer.markers.assign(*index, &table.keyspace, &table.name, &receiver)?;
            Test::Choice(Choice::List(Marker { slot: *index, cql_type: receiver.cql_type }))
        }
        Predicate::Contains(term) => {
            let element = match &receiver.cql_type {
                CqlType::List { element, .. } | CqlType::Set { element, .. } => element,
                CqlType::Map { value, .. } => value,
                _ => return Err(not_a_collection("CONTAINS", receiver)),
            };
            let part = receiver.part("value", (**element).clone());
            Test::Contains(preparer.prepare(term, &part)?)
        }
        Predicate::ContainsKey(term) => {
            let CqlType::Map { key, .. } = &receiver.cql_type else {
                return Err(PlanError::invalid(format!(
                    "Cannot use CONTAINS KEY on non-map column {}",
                    receiver.name
                )));
            };
            let part = receiver.part("key", (**key).clone());
            Test::ContainsKey(preparer.prepare(term, &part)?)
        }
        Predicate::Like(term) => {
            preparer.prepare(term, receiver)?;
            return Err(PlanError::invalid(format!(
                "LIKE restriction is only supported on properly indexed columns. {} LIKE {} is not \
                 valid.",
                receiver.name,
                term_text(term)
            )));
        }
        Predicate::IsNotNull => {
            return Err(PlanError::invalid(format!(
                "Unsupported restriction: {} IS NOT NULL",
                receiver.name
            )));
        }
    })
}

fn prepare_comparison(
    preparer: &mut TermPreparer,
    receiver: &Receiver,
    comparison: Comparison,
    term: &Term,
) -> Result<Test, PlanError> {
    if comparison == Comparison::NotEqual {
        return Err(PlanError::invalid(format!(
            "Unsupported \"!=\" relation: {} != {}",
            receiver.name,
            term_text(term)
        )));
    }
    let is_slice = comparison != Comparison::Equal;
    check_comparable(receiver, comparison_text(comparison), is_slice)?;
    let term = preparer.prepare(term, receiver)?;
    Ok(match comparison {
        Comparison::Equal => Test::Choice(Choice::One(term)),
        _ => Test::Compare(comparison, term),
    })
}

/// The tuples that several columns are compared with have a value for each.
fn check_tuple_lengths(column_count: usize, predicate: &Predicate) -> Result<(), PlanError> {
    let terms = match predicate {
        Predicate::Compare(_, term) => std::slice::from_ref(term),
        Predicate::In(InValues::Terms(terms)) => terms.as_slice(),
        _ => &[],
    };
    for term in terms {
        if let TermKind::Tuple(values) = &term.kind
            && values.len() != column_count
        {
            return Err(PlanError::invalid(format!(
                "Expected {column_count} elements in value tuple, but got {}: {}",
                values.len(),
                term_text(term)
            )));
        }
    }
    Ok(())
}

/// Refuses comparisons that the type has no meaning for.
fn check_comparable(receiver: &Receiver, operator: &str, is_slice: bool) -> Result<(), PlanError> {
    let (name, cql_type) = (&receiver.name, &receiver.cql_type);
    if cql_type.is_multi_cell() {
        if !cql_type.is_collection() {
            return Err(PlanError::invalid(format!(
                "Non-frozen UDT column '{name}' ({cql_type}) cannot be restricted by any relation"
            )));
        }
        return Err(PlanError::invalid(format!(
            "Collection column '{name}' ({cql_type}) cannot be restricted by a '{operator}' relation"
        )));
    }
    if *cql_type == CqlType::Duration && is_slice {
        return Err(PlanError::invalid("Slice restrictions are not supported on duration columns"));
    }
    Ok(())
}

fn not_a_collection(operator: &str, receiver: &Receiver) -> PlanError {
    PlanError::invalid(format!("Cannot use {operator} on non-collection column {}", receiver.name))
}

/// `column[key] = value`
fn prepare_entry(
    preparer: &mut TermPreparer,
    relation: &Relation,
    column: &Name,
    key: &Term,
) -> Result<Prepared, PlanError> {
    let table = preparer.table;
    let index = column_index(table, column)?;
    let column = &table.columns[index];
    let receiver = receiver_of(column);
    if let CqlType::List { .. } = &column.cql_type {
        return Err(PlanError::invalid(
            "Indexes on list entries (l[index] = value) are not currently supported.",
        ));
    }
    let CqlType::Map { key: key_type, value: value_type, .. } = &column.cql_type else {
        return Err(PlanError::invalid(format!("Column {} cannot be used as a map", column.name)));
    };
    let Predicate::Compare(Comparison::Equal, value) = &relation.predicate else {
        return Err(PlanError::invalid("Only EQ relations are supported on map entries"));
    };
    let key = preparer.prepare(key, &receiver.part("key", (**key_type).clone()))?;
    let value = preparer.prepare(value, &receiver.part("value", (**value_type).clone()))?;
    let place = if index < table.partition_key_count() {
        Place::Partition
    } else if index < table.partition_key_count() + table.clustering_count() {
        Place::Clustering
    } else {
        Place::Data
    };
    let test = Test::Entry { key, value };
    Ok(Prepared { place, columns: vec![index], is_tuple: false, test })
}
