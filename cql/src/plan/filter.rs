//! The filter of a changefeed, bound to a table: names become columns, terms become bytes.

use super::error::PlanError;
use super::markers::{MarkerSpecs, Receiver};
use super::term::PreparedTerm;
use super::term_preparer::TermPreparer;
use crate::syntax::ast::{Comparison as Operator, Name, Position, Term};
use crate::syntax::{FilterExpression, FilterPredicate, parse_filter};
use model::filter::{Comparison, Filter, FilterColumn};
use model::{ColumnKind, CqlType, Schema, TableDef};

/// The filter in `text` over rows of `table`.
///
/// Errors name the place in the filter's text, and the column: it does not parse, a column is unknown
/// or static, a value is not of the column's type or not constant, a type cannot be compared.
pub fn prepare_filter(schema: &Schema, table: &TableDef, text: &str) -> Result<Filter, PlanError> {
    let expression = parse_filter(text)
        .map_err(|error| PlanError::invalid(format!("the filter does not parse: {error}")))?;
    let mut markers = MarkerSpecs::new(&[]);
    let terms = TermPreparer { schema, table, markers: &mut markers };
    Binder { table, terms }.expression(&expression)
}

struct Binder<'a, 'm> {
    table: &'a TableDef,
    terms: TermPreparer<'a, 'm>,
}

impl Binder<'_, '_> {
    fn expression(&mut self, expression: &FilterExpression) -> Result<Filter, PlanError> {
        let mut all = |parts: &[FilterExpression]| -> Result<Vec<Filter>, PlanError> {
            parts.iter().map(|part| self.expression(part)).collect()
        };
        Ok(match expression {
            FilterExpression::And(parts) => Filter::And(all(parts)?),
            FilterExpression::Or(parts) => Filter::Or(all(parts)?),
            FilterExpression::Not(inner) => Filter::Not(Box::new(self.expression(inner)?)),
            FilterExpression::Predicate(name, predicate) => self.predicate(name, predicate)?,
        })
    }

    fn predicate(&mut self, name: &Name, predicate: &FilterPredicate) -> Result<Filter, PlanError> {
        let column = self.column(name)?;
        Ok(match predicate {
            FilterPredicate::IsNull => Filter::IsNull(column),
            FilterPredicate::IsNotNull => Filter::IsNotNull(column),
            FilterPredicate::Compare(operator, term) => {
                check_comparable(name, &column)?;
                let value = self.value(&column, term)?;
                Filter::Compare(column, comparison(*operator), value)
            }
            FilterPredicate::In(terms) => {
                check_comparable(name, &column)?;
                let values = terms.iter().map(|term| self.value(&column, term));
                let values = values.collect::<Result<_, _>>()?;
                Filter::In(column, values)
            }
            FilterPredicate::Like(term) => {
                if !matches!(column.cql_type, CqlType::Text | CqlType::Ascii) {
                    let cql_type = &column.cql_type;
                    return Err(wrong(
                        name.position,
                        format!("LIKE is for text: column {} is of type {cql_type}", name.text),
                    ));
                }
                let pattern = String::from_utf8(self.value(&column, term)?.into_vec());
                let pattern =
                    pattern.map_err(|_| wrong(term.position, "the pattern is no text"))?;
                Filter::Like(column, pattern.into())
            }
        })
    }

    fn column(&self, name: &Name) -> Result<FilterColumn, PlanError> {
        let table = &self.table.name;
        let Some(column) = self.table.column(&name.text) else {
            let text = &name.text;
            return Err(wrong(name.position, format!("table {table} has no column {text}")));
        };
        if column.kind == ColumnKind::Static {
            let message =
                format!("column {} is static: a filter sees the row that changed", name.text);
            return Err(wrong(name.position, message));
        }
        Ok(FilterColumn::new(column))
    }

    fn value(&mut self, column: &FilterColumn, term: &Term) -> Result<Box<[u8]>, PlanError> {
        let receiver = Receiver::new(column.name.clone(), column.cql_type.clone());
        let prepared = self
            .terms
            .prepare(term, &receiver)
            .map_err(|error| wrong(term.position, error.message))?;
        match prepared {
            PreparedTerm::Constant(value) => Ok(value),
            PreparedTerm::Null => Err(wrong(
                term.position,
                format!("column {} is compared with null: use IS NULL", column.name),
            )),
            _ => Err(wrong(
                term.position,
                format!("the value of column {} must be a constant", column.name),
            )),
        }
    }
}

fn check_comparable(name: &Name, column: &FilterColumn) -> Result<(), PlanError> {
    if column.cql_type.is_multi_cell() || column.cql_type.holds_duration() {
        let cql_type = &column.cql_type;
        let message =
            format!("column {} of type {cql_type} cannot be compared in a filter", name.text);
        return Err(wrong(name.position, message));
    }
    Ok(())
}

fn comparison(operator: Operator) -> Comparison {
    match operator {
        Operator::Equal => Comparison::Equal,
        Operator::NotEqual => Comparison::NotEqual,
        Operator::Less => Comparison::Less,
        Operator::LessOrEqual => Comparison::LessOrEqual,
        Operator::Greater => Comparison::Greater,
        Operator::GreaterOrEqual => Comparison::GreaterOrEqual,
    }
}

fn wrong(position: Position, message: impl std::fmt::Display) -> PlanError {
    let (line, column) = (position.line, position.column);
    PlanError::invalid(format!("the filter is wrong: line {line}:{column} {message}"))
}

#[cfg(test)]
mod tests;
