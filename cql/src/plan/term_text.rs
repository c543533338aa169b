//! Terms as text, for errors that name them.

use super::arithmetic::symbol;
use crate::syntax::ast::{Comparison, InValues, Literal, Predicate, Term, TermKind};
use model::CqlType;
use model::literal::{format_duration, format_value};

/// The name of a literal's kind, as Cassandra's errors have it.
pub(super) fn literal_kind(literal: &Literal) -> &'static str {
    match literal {
        Literal::Integer(_) => "INTEGER",
        Literal::Float(_) => "FLOAT",
        Literal::String(_) => "STRING",
        Literal::Uuid(_) => "UUID",
        Literal::Blob(_) => "HEX",
        Literal::Boolean(_) => "BOOLEAN",
        Literal::Duration { .. } => "DURATION",
        Literal::Null => "NULL",
    }
}

/// A literal's value, a string without its quotes.
pub(super) fn literal_text(literal: &Literal) -> String {
    match literal {
        Literal::Integer(text) | Literal::Float(text) | Literal::String(text) => text.clone(),
        Literal::Uuid(uuid) => format_value(&CqlType::Uuid, &uuid.to_be_bytes()),
        Literal::Blob(bytes) => format_value(&CqlType::Blob, bytes),
        Literal::Boolean(value) => value.to_string(),
        Literal::Duration { months, days, nanoseconds } => {
            format_duration(*months, *days, *nanoseconds)
        }
        Literal::Null => "NULL".to_owned(),
    }
}

/// A term much as it was written.
pub(super) fn term_text(term: &Term) -> String {
    let joined = |terms: &[Term]| terms.iter().map(term_text).collect::<Vec<_>>().join(", ");
    match &term.kind {
        TermKind::Literal(Literal::String(text)) => format!("'{text}'"),
        TermKind::Literal(literal) => literal_text(literal),
        TermKind::Marker(_) => "?".to_owned(),
        TermKind::List(items) => format!("[{}]", joined(items)),
        TermKind::Set(items) => format!("{{{}}}", joined(items)),
        TermKind::Map(entries) => {
            let entry =
                |(key, value): &(Term, Term)| format!("{}: {}", term_text(key), term_text(value));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        TermKind::EmptySetOrMap => "{}".to_owned(),
        TermKind::UserType(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| format!("{}: {}", name.as_str(), term_text(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        TermKind::Tuple(items) => format!("({})", joined(items)),
        TermKind::Function(call) => {
            format!("{}({})", call.function.name.as_str(), joined(&call.arguments))
        }
        TermKind::Cast { type_name, term } => format!("({type_name}){}", term_text(term)),
        TermKind::Arithmetic { left, operator, right } => {
            let operator = symbol(*operator);
            format!("{} {operator} {}", term_text(left), term_text(right))
        }
        TermKind::Negate(term) => format!("-{}", term_text(term)),
    }
}

/// A comparison's operator.
pub(super) fn comparison_text(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "=",
        Comparison::NotEqual => "!=",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
    }
}

/// The right side of a relation with its operator: `> 5`, `IN (1, 2)`.
pub(super) fn predicate_text(predicate: &Predicate) -> String {
    let (operator, term) = match predicate {
        Predicate::Compare(comparison, term) => (comparison_text(*comparison), term),
        Predicate::In(InValues::Terms(terms)) => {
            let terms: Vec<_> = terms.iter().map(term_text).collect();
            return format!("IN ({})", terms.join(", "));
        }
        Predicate::In(InValues::Marker { .. }) => return "IN ?".to_owned(),
        Predicate::Contains(term) => ("CONTAINS", term),
        Predicate::ContainsKey(term) => ("CONTAINS KEY", term),
        Predicate::Like(term) => ("LIKE", term),
        Predicate::IsNotNull => return "IS NOT null".to_owned(),
    };
    format!("{operator} {}", term_text(term))
}
