//! An expression over a row, as a changefeed's filter is one: bound to a table's columns, values in
//! their serialised form, evaluated without allocating.
//!
//! As in SQL there are three outcomes: a comparison with null is neither true nor false, NOT of that
//! is the same, AND and OR are what they are whatever the unknown part would be.
//! Values compare in the order of their type.

use crate::schema::{ColumnDef, ColumnId, ColumnKind};
use crate::types::CqlType;
use crate::value::compare_values;
use std::cmp::Ordering;
use std::sync::Arc;

/// A column that a filter names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterColumn {
    /// Its identity.
    pub id: ColumnId,
    /// Its name.
    pub name: Arc<str>,
    /// Its type.
    pub cql_type: CqlType,
    /// Its part in the table.
    pub kind: ColumnKind,
}

impl FilterColumn {
    /// A column of a table.
    pub fn new(column: &ColumnDef) -> FilterColumn {
        FilterColumn {
            id: column.id,
            name: column.name.clone(),
            cql_type: column.cql_type.clone(),
            kind: column.kind,
        }
    }

    /// Whether it is part of the primary key.
    pub fn is_key(&self) -> bool {
        matches!(self.kind, ColumnKind::PartitionKey(_) | ColumnKind::Clustering(_))
    }
}

/// How two values compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Comparison {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Comparison::Equal => order.is_eq(),
            Comparison::NotEqual => order.is_ne(),
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
        }
    }
}

/// An expression that is true, false or unknown of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// A column against a value of its type.
    Compare(FilterColumn, Comparison, Box<[u8]>),
    /// A column among values of its type.
    In(FilterColumn, Vec<Box<[u8]>>),
    /// A text against a pattern: `%` is any text, `_` any character.
    Like(FilterColumn, Box<str>),
    /// A column without a value.
    IsNull(FilterColumn),
    /// A column with a value.
    IsNotNull(FilterColumn),
    /// All of these.
    And(Vec<Filter>),
    /// Any of these.
    Or(Vec<Filter>),
    /// The opposite.
    Not(Box<Filter>),
}

impl Filter {
    /// What it says of the row whose values `value_of` gives; `None` is unknown. Values are of the
    /// columns' types. The recursion is as deep as the expression that was parsed.
    pub fn evaluate<'r>(
        &self,
        value_of: &impl Fn(&FilterColumn) -> Option<&'r [u8]>,
    ) -> Option<bool> {
        match self {
            Filter::Compare(column, comparison, wanted) => {
                let order = compare_values(&column.cql_type, value_of(column)?, wanted);
                Some(comparison.holds(order))
            }
            Filter::In(column, wanted) => {
                let value = value_of(column)?;
                let mut wanted = wanted.iter();
                Some(wanted.any(|wanted| compare_values(&column.cql_type, value, wanted).is_eq()))
            }
            Filter::Like(column, pattern) => {
                Some(is_like(std::str::from_utf8(value_of(column)?).ok()?, pattern))
            }
            Filter::IsNull(column) => Some(value_of(column).is_none()),
            Filter::IsNotNull(column) => Some(value_of(column).is_some()),
            Filter::And(parts) => all(parts.iter().map(|part| part.evaluate(value_of))),
            Filter::Or(parts) => {
                all(parts.iter().map(|part| part.evaluate(value_of).map(|holds| !holds)))
                    .map(|none| !none)
            }
            Filter::Not(inner) => inner.evaluate(value_of).map(|holds| !holds),
        }
    }

    /// The first column that it names and `is_unwelcome` is true of.
    pub fn find_column(
        &self,
        is_unwelcome: &impl Fn(&FilterColumn) -> bool,
    ) -> Option<&FilterColumn> {
        match self {
            Filter::Compare(column, ..)
            | Filter::In(column, _)
            | Filter::Like(column, _)
            | Filter::IsNull(column)
            | Filter::IsNotNull(column) => Some(column).filter(|column| is_unwelcome(column)),
            Filter::And(parts) | Filter::Or(parts) => {
                parts.iter().find_map(|part| part.find_column(is_unwelcome))
            }
            Filter::Not(inner) => inner.find_column(is_unwelcome),
        }
    }
}

/// False if any is, else unknown if any is, else true.
fn all(mut parts: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut outcome = Some(true);
    loop {
        match parts.next() {
            None => return outcome,
            Some(Some(false)) => return Some(false),
            Some(None) => outcome = None,
            Some(Some(true)) => {}
        }
    }
}

/// Whether a text fits a pattern. Goes back to the last `%` only: the steps are at most the product
/// of the lengths.
fn is_like(text: &str, pattern: &str) -> bool {
    let (mut text, mut pattern) = (text.chars(), pattern.chars());
    // Behind the last `%`, and the text that it has not taken yet.
    let mut retry = None;
    loop {
        let (text_before, pattern_before) = (text.clone(), pattern.clone());
        let fits = match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some('%'), _) => {
                text = text_before;
                retry = Some((pattern.clone(), text.clone()));
                continue;
            }
            (Some('_'), Some(_)) => true,
            (Some(wanted), Some(found)) => wanted == found,
            (Some(_), None) => {
                // The text has ended: only `%` may follow.
                return pattern_before.clone().all(|c| c == '%');
            }
            (None, Some(_)) => false,
        };
        if !fits {
            let Some((behind, mut rest)) = retry.take() else { return false };
            if rest.next().is_none() {
                return false;
            }
            (pattern, text) = (behind.clone(), rest.clone());
            retry = Some((behind, rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(id: ColumnId, cql_type: CqlType) -> FilterColumn {
        let name = format!("c{id}").into();
        FilterColumn { id, name, cql_type, kind: ColumnKind::Regular }
    }

    fn compare(id: ColumnId, comparison: Comparison, value: i32) -> Filter {
        Filter::Compare(column(id, CqlType::Int), comparison, value.to_be_bytes().into())
    }

    /// Of a row with c0 = 5 and c1 = null.
    fn outcome(filter: &Filter) -> Option<bool> {
        let five = 5_i32.to_be_bytes();
        filter.evaluate(&|column| (column.id == 0).then_some(&five[..]))
    }

    #[test]
    fn values_compare_in_the_order_of_their_type() {
        for (comparison, outcomes) in [
            (Comparison::Equal, [false, true, false]),
            (Comparison::NotEqual, [true, false, true]),
            (Comparison::Less, [false, false, true]),
            (Comparison::LessOrEqual, [false, true, true]),
            (Comparison::Greater, [true, false, false]),
            (Comparison::GreaterOrEqual, [true, true, false]),
        ] {
            let found = [-1, 5, 7].map(|value| outcome(&compare(0, comparison, value)).unwrap());
            assert_eq!(found, outcomes, "{comparison:?}");
        }
        let among = |values: [i32; 2]| {
            let values = values.map(|value| value.to_be_bytes().into()).into();
            outcome(&Filter::In(column(0, CqlType::Int), values))
        };
        assert_eq!((among([1, 5]), among([1, 2])), (Some(true), Some(false)));
    }

    #[test]
    fn null_is_neither_true_nor_false() {
        let yes = || compare(0, Comparison::Equal, 5);
        let no = || compare(0, Comparison::Equal, 6);
        let unknown = || compare(1, Comparison::Equal, 5);
        assert_eq!(outcome(&unknown()), None);
        assert_eq!(outcome(&Filter::Not(Box::new(unknown()))), None);
        assert_eq!(outcome(&Filter::Not(Box::new(no()))), Some(true));
        for (parts, and, or) in [
            (vec![yes(), unknown()], None, Some(true)),
            (vec![unknown(), no()], Some(false), None),
            (vec![yes(), no()], Some(false), Some(true)),
            (vec![no(), no()], Some(false), Some(false)),
            (vec![unknown(), yes()], None, Some(true)),
        ] {
            assert_eq!(outcome(&Filter::And(parts.clone())), and);
            assert_eq!(outcome(&Filter::Or(parts)), or);
        }
        let is_null = |id| outcome(&Filter::IsNull(column(id, CqlType::Int)));
        assert_eq!((is_null(0), is_null(1)), (Some(false), Some(true)));
        let is_not_null = |id| outcome(&Filter::IsNotNull(column(id, CqlType::Int)));
        assert_eq!((is_not_null(0), is_not_null(1)), (Some(true), Some(false)));
    }

    #[test]
    fn patterns_have_wildcards() {
        for (text, pattern, expected) in [
            ("", "", true),
            ("", "%", true),
            ("a", "", false),
            ("abc", "abc", true),
            ("abc", "a_c", true),
            ("abc", "a_", false),
            ("abc", "%", true),
            ("abc", "%c", true),
            ("abc", "a%", true),
            ("abc", "%b%", true),
            ("abc", "%%_", true),
            ("abc", "%d%", false),
            ("aXbXc", "a%X_", true),
            ("größe", "gr__e", true),
            ("ab", "ab%%", true),
            ("ab", "ab_", false),
            ("aab", "%ab", true),
        ] {
            assert_eq!(is_like(text, pattern), expected, "{text} LIKE {pattern}");
        }
        let long = "a".repeat(10_000);
        assert!(!is_like(&long, "%a%a%a%a%b"));
    }

    #[test]
    fn columns_are_found() {
        let filter = Filter::Not(Box::new(Filter::And(vec![
            compare(0, Comparison::Equal, 1),
            Filter::Or(vec![compare(2, Comparison::Equal, 1), compare(3, Comparison::Equal, 1)]),
        ])));
        assert_eq!(filter.find_column(&|column| column.id > 1).unwrap().id, 2);
        assert_eq!(filter.find_column(&|column| column.id > 3), None);
    }
}
