//! Functions whose types follow from those of their arguments: of collections (`map_keys`,
//! `collection_sum` …), of vectors (`similarity_cosine` …), and of any type (`to_json`).
//!
//! They stand in selections only. An argument that is a literal needs another one to tell its type,
//! or a hint.

use super::aggregate::{Aggregate, AggregateState};
use super::selection::{Compiled, Compiler};
use super::selector::Expression;
use crate::plan::arithmetic;
use crate::plan::error::PlanError;
use crate::plan::term_text::term_text;
use crate::syntax::ast::{Selector, SelectorKind, Term, TermKind};
use model::CqlType;
use model::json::{JsonStyle, push_json_value};
use model::value::{CollectionBuilder, ListView, MapView};
use std::sync::Arc;

/// Such a function, its types known.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum GenericFunction {
    /// `map_keys`
    MapKeys,
    /// `map_values`
    MapValues,
    /// `collection_count`; of a map its entries.
    Count {
        /// Whether the argument is a map.
        of_map: bool,
    },
    /// `collection_min` and its kin: the aggregate over the elements.
    Elements(Aggregate),
    /// `similarity_…` of two vectors of floats.
    Similarity(Similarity),
    /// `to_json` of a value of that type.
    ToJson(CqlType),
}

/// How alike two vectors are: 1 for equal ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Similarity {
    /// By the angle between them.
    Cosine,
    /// By the square of their distance.
    Euclidean,
    /// By their product, which says something for vectors of length one.
    DotProduct,
}

/// What a function asks of its argument, in the words of Cassandra's errors.
const PARAMETERS: &[(&str, &str)] = &[
    ("map_keys", "map"),
    ("map_values", "map"),
    ("collection_count", "collection"),
    ("collection_min", "set or list"),
    ("collection_max", "set or list"),
    ("collection_sum", "numeric set/list"),
    ("collection_avg", "numeric set/list"),
    ("to_json", "any"),
    // The name it had before Cassandra 5.
    ("tojson", "any"),
];

impl Compiler<'_, '_, '_> {
    /// A call of one of these functions; `None` if the name is none of theirs.
    pub(super) fn generic_function(
        &mut self,
        name: &str,
        arguments: &[Selector],
    ) -> Result<Option<Compiled>, PlanError> {
        if let Some(similarity) = similarity_of(name) {
            return self.similarity(similarity, name, arguments).map(Some);
        }
        let Some((_, wanted)) = PARAMETERS.iter().find(|(known, _)| *known == name) else {
            return Ok(None);
        };
        let [argument] = arguments else {
            return Err(PlanError::invalid(format!(
                "Invalid number of arguments for function system.{name}({wanted})"
            )));
        };
        if let SelectorKind::Term(kind) = &argument.kind
            && !matches!(kind, TermKind::Cast { .. })
        {
            let term = Term { position: argument.position, kind: kind.clone() };
            return Err(PlanError::invalid(format!(
                "Cannot infer type of argument {} in call to function system.{name}({wanted}): \
                 use type casts to disambiguate",
                term_text(&term)
            )));
        }
        let argument = self.compile(argument)?;
        let Some((function, cql_type)) = of_collection(name, &argument.cql_type) else {
            return Err(wrong_argument(name, wanted, &argument));
        };
        let name = format!("system.{name}({})", argument.name);
        let arguments = vec![argument.expression];
        let expression = Expression::Generic { function, arguments };
        Ok(Some(Compiled { expression, cql_type, name }))
    }

    fn similarity(
        &mut self,
        similarity: Similarity,
        name: &str,
        arguments: &[Selector],
    ) -> Result<Compiled, PlanError> {
        let [left, right] = arguments else {
            return Err(PlanError::invalid(format!(
                "Invalid number of arguments for function system.{name}(vector<float, n>, \
                 vector<float, n>)"
            )));
        };
        let (left, right) = (self.vector(name, left)?, self.vector(name, right)?);
        let dimension = |vector: &Vector| match vector {
            Vector::Compiled(_, dimension) => Some(*dimension),
            Vector::Term(_, dimension) => *dimension,
        };
        let dimensions = match (dimension(&left), dimension(&right)) {
            (Some(left), Some(right)) if left != right => {
                return Err(PlanError::invalid(
                    "All arguments must have the same vector dimensions",
                ));
            }
            (left, right) => left.or(right),
        };
        let mut typed = |vector| match (vector, dimensions) {
            (Vector::Compiled(compiled, _), _) => Ok(compiled),
            (Vector::Term(term, _), Some(dimension)) => {
                let element = Arc::new(CqlType::Float);
                self.term_as(&term, CqlType::Vector { element, dimension })
            }
            (Vector::Term(term, _), None) => Err(PlanError::invalid(format!(
                "Cannot infer type of argument {} in call to function system.{name}: use type \
                 casts to disambiguate",
                term_text(&term)
            ))),
        };
        let (left, right) = (typed(left)?, typed(right)?);
        let name = format!("system.{name}({}, {})", left.name, right.name);
        let expression = Expression::Generic {
            function: GenericFunction::Similarity(similarity),
            arguments: vec![left.expression, right.expression],
        };
        Ok(Compiled { expression, cql_type: CqlType::Float, name })
    }

    fn vector(&mut self, name: &str, selector: &Selector) -> Result<Vector, PlanError> {
        const WANTED: &str = "float vector";
        if let SelectorKind::Term(kind) = &selector.kind
            && !matches!(kind, TermKind::Cast { .. })
        {
            let term = Term { position: selector.position, kind: kind.clone() };
            let dimension = match kind {
                TermKind::List(items) => u16::try_from(items.len()).ok(),
                _ => None,
            };
            return Ok(Vector::Term(term, dimension));
        }
        let compiled = self.compile(selector)?;
        match &compiled.cql_type {
            CqlType::Vector { element, dimension } if **element == CqlType::Float => {
                let dimension = *dimension;
                Ok(Vector::Compiled(compiled, dimension))
            }
            _ => Err(wrong_argument(name, WANTED, &compiled)),
        }
    }
}

/// An argument that is, or is to become, a vector.
enum Vector {
    Compiled(Compiled, u16),
    /// With its dimension, if it is a list.
    Term(Term, Option<u16>),
}

fn wrong_argument(function: &str, wanted: &str, argument: &Compiled) -> PlanError {
    PlanError::invalid(format!(
        "Function system.{function} requires a {wanted} argument, but found argument {} of type {}",
        argument.name, argument.cql_type
    ))
}

fn similarity_of(name: &str) -> Option<Similarity> {
    match name {
        "similarity_cosine" => Some(Similarity::Cosine),
        "similarity_euclidean" => Some(Similarity::Euclidean),
        "similarity_dot_product" => Some(Similarity::DotProduct),
        _ => None,
    }
}

/// The function of that name on a type, and what it returns.
fn of_collection(name: &str, argument: &CqlType) -> Option<(GenericFunction, CqlType)> {
    let frozen = true;
    Some(match (name, argument) {
        ("to_json" | "tojson", _) => (GenericFunction::ToJson(argument.clone()), CqlType::Text),
        ("map_keys", CqlType::Map { key, .. }) => {
            (GenericFunction::MapKeys, CqlType::Set { element: key.clone(), frozen })
        }
        ("map_values", CqlType::Map { value, .. }) => {
            (GenericFunction::MapValues, CqlType::List { element: value.clone(), frozen })
        }
        ("collection_count", CqlType::Map { .. }) => {
            (GenericFunction::Count { of_map: true }, CqlType::Int)
        }
        ("collection_count", CqlType::List { .. } | CqlType::Set { .. }) => {
            (GenericFunction::Count { of_map: false }, CqlType::Int)
        }
        (_, CqlType::List { element, .. } | CqlType::Set { element, .. }) => {
            let aggregate = name.strip_prefix("collection_")?;
            let is_number = arithmetic::result_type(element, element).is_some();
            if matches!(aggregate, "sum" | "avg") && !is_number {
                return None;
            }
            let aggregate = Aggregate::new(aggregate, element).ok()?;
            let returns = aggregate.returns();
            (GenericFunction::Elements(aggregate), returns)
        }
        _ => return None,
    })
}

impl GenericFunction {
    /// Its value; null if an argument is.
    pub(super) fn call(&self, arguments: &[Option<&[u8]>]) -> Result<Option<Vec<u8>>, PlanError> {
        let Some(arguments) = arguments.iter().copied().collect::<Option<Vec<&[u8]>>>() else {
            let is_json = matches!(self, GenericFunction::ToJson(_));
            return Ok(is_json.then(|| b"null".to_vec()));
        };
        let value = arguments.first().copied().unwrap_or_default();
        let mut out = Vec::new();
        match self {
            GenericFunction::MapKeys | GenericFunction::MapValues => {
                let mut builder = CollectionBuilder::new(&mut out);
                for entry in MapView::new(value)? {
                    let (key, value) = entry?;
                    let is_keys = *self == GenericFunction::MapKeys;
                    builder.element(if is_keys { key } else { value });
                }
                builder.finish();
            }
            GenericFunction::Count { of_map } => {
                let count = if *of_map {
                    MapView::new(value)?.count()
                } else {
                    ListView::list(value)?.count()
                };
                out.extend_from_slice(&i32::try_from(count).unwrap_or(i32::MAX).to_be_bytes());
            }
            GenericFunction::Elements(aggregate) => {
                let mut state = AggregateState::default();
                for element in ListView::list(value)? {
                    aggregate.add(&mut state, Some(element?))?;
                }
                return Ok(aggregate.finish(&state));
            }
            GenericFunction::ToJson(cql_type) => {
                let mut text = String::new();
                push_json_value(&mut text, JsonStyle::Spaced, cql_type, value)?;
                out = text.into_bytes();
            }
            GenericFunction::Similarity(similarity) => {
                let other = arguments.get(1).copied().unwrap_or_default();
                return similarity.of(value, other);
            }
        }
        Ok(Some(out))
    }
}

impl Similarity {
    /// Of two serialized vectors; null where one has no bytes.
    fn of(self, left: &[u8], right: &[u8]) -> Result<Option<Vec<u8>>, PlanError> {
        if left.is_empty() || right.is_empty() {
            return Ok(None);
        }
        let floats = |bytes: &[u8]| -> Vec<f32> {
            let (chunks, _) = bytes.as_chunks();
            chunks.iter().map(|chunk| f32::from_be_bytes(*chunk)).collect()
        };
        let (left, right) = (floats(left), floats(right));
        let pairs = || left.iter().zip(&right);
        let dot = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
        let result = match self {
            Similarity::DotProduct => f32::midpoint(1.0, dot(&left, &right)),
            Similarity::Euclidean => {
                let distance: f32 = pairs().map(|(a, b)| (a - b) * (a - b)).sum();
                1.0 / (1.0 + distance)
            }
            Similarity::Cosine => {
                let (left_square, right_square) = (dot(&left, &left), dot(&right, &right));
                if left_square == 0.0 || right_square == 0.0 {
                    return Err(PlanError::invalid(
                        "Function system.similarity_cosine doesn't support all-zero vectors.",
                    ));
                }
                let lengths = f64::from(left_square) * f64::from(right_square);
                f32::midpoint(1.0, (f64::from(dot(&left, &right)) / lengths.sqrt()) as f32)
            }
        };
        Ok(Some(result.to_be_bytes().to_vec()))
    }
}
