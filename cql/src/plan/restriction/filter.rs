//! Relations that are checked row by row.

use super::keys::bind_value;
use super::relation::{Prepared, Test};
use crate::plan::context::{BindContext, BoundValues};
use crate::plan::error::PlanError;
use crate::plan::term::{BoundTerm, PreparedTerm};
use crate::syntax::ast::Comparison;
use model::value::{ListView, MapView, TupleView, compare_values};
use model::{ColumnDef, CqlType, TableDef, ValueError};
use std::borrow::Cow;
use std::cmp::Ordering;

/// A relation that rows are checked against.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter(Prepared);

/// A [`Filter`] with its values.
#[derive(Clone, Debug, PartialEq)]
pub struct BoundFilter {
    /// Indexes of the columns in [`TableDef::columns`].
    columns: Vec<usize>,
    is_tuple: bool,
    test: BoundTest,
}

#[derive(Clone, Debug, PartialEq)]
enum BoundTest {
    /// Equal to one of these.
    OneOf(Vec<Vec<u8>>),
    /// Compares so with this.
    Compare(Comparison, Vec<u8>),
    /// Has this element, or this value of a map.
    Contains(Vec<u8>),
    /// Has this key.
    ContainsKey(Vec<u8>),
    /// Has this value at this key.
    Entry(Vec<u8>, Vec<u8>),
}

impl Filter {
    pub(super) fn new(relation: Prepared) -> Filter {
        Filter(relation)
    }

    /// The columns that it reads, by index in [`TableDef::columns`].
    pub fn columns(&self) -> &[usize] {
        &self.0.columns
    }

    pub(super) fn bind(
        &self,
        table: &TableDef,
        values: &BoundValues,
        context: &mut BindContext,
    ) -> Result<BoundFilter, PlanError> {
        let relation = &self.0;
        let Some(column) = relation.columns.first().map(|index| &table.columns[*index]) else {
            return Err(PlanError::invalid("A relation without columns"));
        };
        let mut value = |term| bind_value(term, column, values, context).map(Cow::into_owned);
        let test = match &relation.test {
            Test::Compare(comparison, term) => BoundTest::Compare(*comparison, value(term)?),
            Test::Contains(term) => BoundTest::Contains(value(term)?),
            Test::ContainsKey(term) => BoundTest::ContainsKey(value(term)?),
            Test::Entry { key, value: term } => BoundTest::Entry(
                bind_entry(key, "key", column, values, context)?,
                bind_entry(term, "value", column, values, context)?,
            ),
            Test::Choice(choice) => {
                let choices = choice.bind(column, values, context)?;
                BoundTest::OneOf(choices.into_iter().map(Cow::into_owned).collect())
            }
        };
        let columns = relation.columns.clone();
        Ok(BoundFilter { columns, is_tuple: relation.is_tuple, test })
    }
}

/// The key or the value (`part`) of a map's entry.
fn bind_entry(
    term: &PreparedTerm,
    part: &str,
    column: &ColumnDef,
    values: &BoundValues,
    context: &mut BindContext,
) -> Result<Vec<u8>, PlanError> {
    let state = match term.bind(values, context)? {
        BoundTerm::Value(bytes) => return Ok(bytes.into_owned()),
        BoundTerm::Null => "null",
        BoundTerm::Unset => "unset",
    };
    Err(PlanError::invalid(format!("Unsupported {state} map {part} for column {}", column.name)))
}

impl BoundFilter {
    /// Whether a row passes; `value_of` gives its columns' serialized values by their index. A
    /// column that is null passes nothing.
    pub fn passes<'r>(
        &self,
        table: &TableDef,
        mut value_of: impl FnMut(usize) -> Result<Option<Cow<'r, [u8]>>, PlanError>,
    ) -> Result<bool, PlanError> {
        let mut row_values = Vec::with_capacity(self.columns.len());
        for index in &self.columns {
            let Some(value) = value_of(*index)? else { return Ok(false) };
            row_values.push(value);
        }
        let ([index], [value], false) =
            (self.columns.as_slice(), row_values.as_slice(), self.is_tuple)
        else {
            return Ok(self.passes_tuple(table, &row_values)?);
        };
        let cql_type = &table.columns[*index].cql_type;
        Ok(match &self.test {
            BoundTest::OneOf(choices) => {
                choices.iter().any(|choice| compare_values(cql_type, value, choice).is_eq())
            }
            BoundTest::Compare(comparison, bound) => {
                holds(*comparison, compare_values(cql_type, value, bound))
            }
            BoundTest::Contains(wanted) => contains(cql_type, value, wanted)?,
            BoundTest::ContainsKey(wanted) => entry_of(cql_type, value, wanted)?.is_some(),
            BoundTest::Entry(key, wanted) => match (cql_type, entry_of(cql_type, value, key)?) {
                (CqlType::Map { value: value_type, .. }, Some(found)) => {
                    compare_values(value_type, found, wanted).is_eq()
                }
                _ => false,
            },
        })
    }

    fn passes_tuple(&self, table: &TableDef, row_values: &[Cow<[u8]>]) -> Result<bool, ValueError> {
        let compare = |bound: &[u8]| {
            let columns = self.columns.iter().map(|index| &table.columns[*index]);
            compare_tuple(columns, row_values, bound)
        };
        match &self.test {
            BoundTest::OneOf(choices) => {
                for choice in choices {
                    if compare(choice)?.is_eq() {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            BoundTest::Compare(comparison, bound) => Ok(holds(*comparison, compare(bound)?)),
            _ => Ok(false),
        }
    }
}

/// Columns against the fields of a serialized tuple, each in the order of its type.
fn compare_tuple<'t>(
    columns: impl Iterator<Item = &'t ColumnDef>,
    row_values: &[Cow<[u8]>],
    tuple: &[u8],
) -> Result<Ordering, ValueError> {
    for ((column, value), field) in columns.zip(row_values).zip(TupleView::new(tuple)) {
        let field = field?.unwrap_or_default();
        let order = compare_values(&column.cql_type, value, field);
        if order.is_ne() {
            return Ok(order);
        }
    }
    Ok(Ordering::Equal)
}

/// Whether an order is what a comparison asks for.
pub(in crate::plan) fn holds(comparison: Comparison, order: Ordering) -> bool {
    match comparison {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
    }
}

/// Whether a serialized collection has an element, or a map that value.
pub(in crate::plan) fn contains(
    cql_type: &CqlType,
    value: &[u8],
    wanted: &[u8],
) -> Result<bool, ValueError> {
    match cql_type {
        CqlType::List { element, .. } | CqlType::Set { element, .. } => {
            for item in ListView::list(value)? {
                if compare_values(element, item?, wanted).is_eq() {
                    return Ok(true);
                }
            }
        }
        CqlType::Map { value: value_type, .. } => {
            for entry in MapView::new(value)? {
                if compare_values(value_type, entry?.1, wanted).is_eq() {
                    return Ok(true);
                }
            }
        }
        _ => {}
    }
    Ok(false)
}

/// The value at a key of a map.
pub(in crate::plan) fn entry_of<'v>(
    cql_type: &CqlType,
    value: &'v [u8],
    wanted: &[u8],
) -> Result<Option<&'v [u8]>, ValueError> {
    let CqlType::Map { key, .. } = cql_type else { return Ok(None) };
    for entry in MapView::new(value)? {
        let (found, value) = entry?;
        if compare_values(key, found, wanted).is_eq() {
            return Ok(Some(value));
        }
    }
    Ok(None)
}
