//! The filter of a changefeed: an expression like WHERE, with OR, NOT and parentheses besides.
//!
//! ```text
//! expression := conjunction (OR conjunction)*
//! conjunction := negation (AND negation)*
//! negation   := NOT negation | '(' expression ')' | column predicate
//! predicate  := comparison term | [NOT] IN '(' term, … ')' | [NOT] LIKE term | IS [NOT] NULL
//! ```
//!
//! Terms are those of statements, without bind markers.

use super::ast::{Comparison, Name, Position, Term};
use super::error::SyntaxError;
use super::lexer::TokenKind;
use super::parser::{Parsed, Parser};

/// A filter as it is written.
#[derive(Clone, Debug, PartialEq)]
pub enum FilterExpression {
    /// Something said of a column.
    Predicate(Name, FilterPredicate),
    /// All of these.
    And(Vec<FilterExpression>),
    /// Any of these.
    Or(Vec<FilterExpression>),
    /// The opposite.
    Not(Box<FilterExpression>),
}

/// What is said of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum FilterPredicate {
    /// How it compares to a value.
    Compare(Comparison, Term),
    /// That it is one of these values.
    In(Vec<Term>),
    /// That it fits a pattern.
    Like(Term),
    /// That it has no value.
    IsNull,
    /// That it has a value.
    IsNotNull,
}

/// Reads a filter.
pub fn parse_filter(text: &str) -> Result<FilterExpression, SyntaxError> {
    let mut parser = Parser::of(text)?;
    let filter = parser.filter_expression()?;
    if !parser.at(TokenKind::End) {
        return Err(parser.unexpected_instead_of("AND, OR or the end of the filter"));
    }
    Ok(filter)
}

impl Parser<'_> {
    fn filter_expression(&mut self) -> Parsed<FilterExpression> {
        self.nested(|parser| {
            let mut parts = vec![parser.filter_conjunction()?];
            while parser.accept_word("OR")? {
                parts.push(parser.filter_conjunction()?);
            }
            Ok(joined(parts, FilterExpression::Or))
        })
    }

    fn filter_conjunction(&mut self) -> Parsed<FilterExpression> {
        let parts = self.and_separated(Self::filter_negation)?;
        Ok(joined(parts, FilterExpression::And))
    }

    fn filter_negation(&mut self) -> Parsed<FilterExpression> {
        if self.accept_word("NOT")? {
            let inner = self.nested(Self::filter_negation)?;
            return Ok(FilterExpression::Not(Box::new(inner)));
        }
        if self.accept(TokenKind::ParenthesisOpen)? {
            let inner = self.filter_expression()?;
            self.expect(TokenKind::ParenthesisClose)?;
            return Ok(inner);
        }
        let column = self.name("a column")?;
        self.filter_predicate(column)
    }

    fn filter_predicate(&mut self, column: Name) -> Parsed<FilterExpression> {
        if self.accept_word("IS")? {
            let predicate = if self.accept_word("NOT")? {
                FilterPredicate::IsNotNull
            } else {
                FilterPredicate::IsNull
            };
            self.expect_word("NULL")?;
            return Ok(FilterExpression::Predicate(column, predicate));
        }
        let is_negated = self.accept_word("NOT")?;
        let predicate = if self.accept_word("IN")? {
            FilterPredicate::In(self.parenthesised(Self::filter_term)?)
        } else if self.accept_word("LIKE")? {
            FilterPredicate::Like(self.filter_term()?)
        } else if is_negated {
            return Err(self.unexpected());
        } else {
            let operator = self.comparison_operator()?;
            FilterPredicate::Compare(operator, self.filter_term()?)
        };
        let predicate = FilterExpression::Predicate(column, predicate);
        Ok(if is_negated { FilterExpression::Not(Box::new(predicate)) } else { predicate })
    }

    fn filter_term(&mut self) -> Parsed<Term> {
        let position: Position = self.position();
        let term = self.term()?;
        if self.markers.is_empty() {
            return Ok(term);
        }
        Err(self.invalid_at(position, "a filter has no bind markers"))
    }
}

/// One part stands for itself.
fn joined(
    mut parts: Vec<FilterExpression>,
    join: fn(Vec<FilterExpression>) -> FilterExpression,
) -> FilterExpression {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            join(parts)
        }
        None => join(parts),
    }
}
