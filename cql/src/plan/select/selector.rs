//! Values computed from a row.

use super::generic::GenericFunction;
use super::row::{Slot, live_elements};
use crate::plan::context::BindContext;
use crate::plan::error::PlanError;
use crate::plan::function::Function;
use crate::syntax::ast::CellMetadataFunction;
use model::path::encode_path;
use model::row::{Cell, CellContent};
use model::value::{CollectionBuilder, ListView, MapView, TupleView, compare_values, push_value};
use model::{CqlType, EpochSeconds, TableDef};
use std::borrow::Cow;
use std::sync::Arc;

/// A value computed from a row, its type known.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression {
    /// A column, by index in the table's columns.
    Column(usize),
    /// A term, by index among the bound terms of the selection.
    Term(usize),
    /// An aggregate's result, by index.
    Aggregate(usize),
    /// A function.
    Call {
        /// Its overload.
        function: Arc<Function>,
        /// As many as it takes.
        arguments: Vec<Expression>,
    },
    /// A conversion.
    Cast {
        /// What is converted.
        value: Box<Expression>,
        /// Its type.
        from: CqlType,
        /// The type wanted.
        to: CqlType,
    },
    /// Timestamp or time to live of a column or of a part of it.
    Metadata {
        /// Which of them.
        function: CellMetadataFunction,
        /// The column, by index in the table's columns.
        column: usize,
        /// The part of a multi-cell column.
        part: Option<Part>,
    },
    /// An element of a collection.
    Element {
        /// The collection.
        collection: Box<Expression>,
        /// Its type.
        cql_type: CqlType,
        /// The term of the key.
        key: usize,
    },
    /// The elements of a set or map between two keys, both included.
    Slice {
        /// The collection.
        collection: Box<Expression>,
        /// Its type.
        cql_type: CqlType,
        /// The term of the first key.
        from: Option<usize>,
        /// The term of the last key.
        to: Option<usize>,
    },
    /// A field of a user type.
    Field {
        /// The user type's value.
        value: Box<Expression>,
        /// Which field.
        index: usize,
    },
    /// A function whose types follow from its arguments.
    Generic {
        /// Which.
        function: GenericFunction,
        /// As many as it takes.
        arguments: Vec<Expression>,
    },
    /// Nothing.
    Null,
    /// A collection, tuple, vector or user type made of values.
    Composite {
        /// Its type.
        cql_type: CqlType,
        /// Its elements or fields; of a map keys and values in turns.
        parts: Vec<Expression>,
    },
}

/// A part of a multi-cell column.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    /// The element at the key that a term gives.
    Element(usize),
    /// A field.
    Field(u16),
    /// The elements between two keys, both included.
    Slice {
        /// The term of the first key.
        from: Option<usize>,
        /// The term of the last key.
        to: Option<usize>,
    },
}

/// What expressions are computed from.
pub(super) struct Scope<'s, 'r> {
    pub(super) table: &'s TableDef,
    /// One for each column of the table.
    pub(super) slots: &'s [Slot<'r>],
    /// Terms of the selection.
    pub(super) terms: &'s [Option<Vec<u8>>],
    /// Results of aggregates.
    pub(super) aggregates: &'s [Option<Vec<u8>>],
    /// The time that decides about expired cells.
    pub(super) now: EpochSeconds,
}

type Value<'v> = Option<Cow<'v, [u8]>>;

impl Expression {
    /// The serialized value, or null.
    pub(super) fn value<'s>(&'s self, scope: &Scope<'s, 's>) -> Result<Value<'s>, PlanError> {
        let term = |index: &usize| scope.terms.get(*index).and_then(Option::as_deref);
        Ok(match self {
            Expression::Column(index) => scope.column(*index)?,
            Expression::Term(index) => term(index).map(Cow::Borrowed),
            Expression::Null => None,
            Expression::Aggregate(index) => {
                scope.aggregates.get(*index).and_then(Option::as_deref).map(Cow::Borrowed)
            }
            Expression::Call { function, arguments } => {
                let values = arguments.iter().map(|argument| argument.value(scope));
                let values = values.collect::<Result<Vec<_>, _>>()?;
                let values: Vec<Option<&[u8]>> = values.iter().map(Option::as_deref).collect();
                call(function, &values)?.map(Cow::Owned)
            }
            Expression::Generic { function, arguments } => {
                let values = arguments.iter().map(|argument| argument.value(scope));
                let values = values.collect::<Result<Vec<_>, _>>()?;
                let values: Vec<Option<&[u8]>> = values.iter().map(Option::as_deref).collect();
                function.call(&values)?.map(Cow::Owned)
            }
            Expression::Cast { value, from, to } => match value.value(scope)? {
                Some(value) => super::cast::cast(from, to, &value)?.map(Cow::Owned),
                None => None,
            },
            Expression::Metadata { function, column, part } => {
                scope.metadata(*function, *column, part.as_ref())?.map(Cow::Owned)
            }
            Expression::Element { collection, cql_type, key } => {
                match (collection.value(scope)?, term(key)) {
                    (Some(value), Some(key)) => element(cql_type, &value, key)?.map(Cow::Owned),
                    _ => None,
                }
            }
            Expression::Slice { collection, cql_type, from, to } => {
                match collection.value(scope)? {
                    Some(value) => {
                        let (from, to) = (from.as_ref(), to.as_ref());
                        let bounds = (from.and_then(term), to.and_then(term));
                        slice(cql_type, &value, bounds)?.map(Cow::Owned)
                    }
                    None => None,
                }
            }
            Expression::Field { value, index } => match value.value(scope)? {
                Some(value) => {
                    let field = TupleView::new(&value).nth(*index).transpose()?.flatten();
                    field.map(|field| Cow::Owned(field.to_vec()))
                }
                None => None,
            },
            Expression::Composite { cql_type, parts } => {
                let parts = parts.iter().map(|part| part.value(scope));
                let parts = parts.collect::<Result<Vec<_>, _>>()?;
                Some(Cow::Owned(super::composite::build(cql_type, &parts)?))
            }
        })
    }

    /// The columns that it reads, by index.
    pub(super) fn for_each_column(&self, visit: &mut impl FnMut(usize)) {
        match self {
            Expression::Column(index) | Expression::Metadata { column: index, .. } => visit(*index),
            Expression::Term(_) | Expression::Aggregate(_) | Expression::Null => {}
            Expression::Call { arguments, .. }
            | Expression::Generic { arguments, .. }
            | Expression::Composite { parts: arguments, .. } => {
                for argument in arguments {
                    argument.for_each_column(visit);
                }
            }
            Expression::Cast { value, .. }
            | Expression::Element { collection: value, .. }
            | Expression::Slice { collection: value, .. }
            | Expression::Field { value, .. } => value.for_each_column(visit),
        }
    }
}

/// Calls a function that reads neither clock nor entropy: those that do became terms.
fn call(function: &Function, arguments: &[Option<&[u8]>]) -> Result<Option<Vec<u8>>, PlanError> {
    let (mut no_timeuuid, mut no_uuid) = (|| [0; 16], || [0; 16]);
    let mut context = BindContext {
        now_micros: 0,
        now_seconds: 0,
        default_timestamp: None,
        fresh_timeuuid: &mut no_timeuuid,
        fresh_uuid: &mut no_uuid,
        json: None,
    };
    function.call(arguments, &mut context)
}

impl<'s> Scope<'s, 's> {
    /// A column's serialized value, or null.
    pub(super) fn column(&self, index: usize) -> Result<Value<'s>, PlanError> {
        match (self.slots.get(index), self.table.columns.get(index)) {
            (Some(slot), Some(column)) => slot.value(column.id, &column.cql_type, self.now),
            _ => Ok(None),
        }
    }

    fn metadata(
        &self,
        function: CellMetadataFunction,
        index: usize,
        part: Option<&Part>,
    ) -> Result<Option<Vec<u8>>, PlanError> {
        let (Some(slot), Some(column)) = (self.slots.get(index), self.table.columns.get(index))
        else {
            return Ok(None);
        };
        let cells = match slot {
            Slot::Cell(cell) => return Ok(metadata_of(function, cell, self.now)),
            Slot::Elements(cells) => cells,
            Slot::Null | Slot::Value(_) => return Ok(None),
        };
        let mut elements = live_elements(cells, column.id, self.now);
        let term = |index: &usize| self.terms.get(*index).and_then(Option::as_deref);
        let path_of = |key: &[u8]| {
            let mut path = Vec::new();
            encode_path(&column.cql_type, key, &mut path).map(|()| path)
        };
        let path = match part {
            Some(Part::Field(index)) => Some(index.to_be_bytes().to_vec()),
            Some(Part::Element(key)) => match term(key) {
                Some(key) => Some(path_of(key)?),
                None => return Ok(None),
            },
            Some(Part::Slice { .. }) | None => None,
        };
        if let Some(path) = path {
            let found = elements.find(|(at, _, _)| *at == path);
            return Ok(found.and_then(|(_, _, cell)| metadata_of(function, &cell, self.now)));
        }
        let bound = |key: &Option<usize>| key.as_ref().and_then(term).map(path_of).transpose();
        let (from, to) = match part {
            Some(Part::Slice { from, to }) => (bound(from)?, bound(to)?),
            _ => (None, None),
        };
        // Paths compare as their keys do.
        let elements = elements.filter(|(at, _, _)| {
            from.as_ref().is_none_or(|from| *at >= from.as_slice())
                && to.as_ref().is_none_or(|to| *at <= to.as_slice())
        });
        if function == CellMetadataFunction::MaxWriteTime {
            let newest = elements.map(|(_, _, cell)| cell.timestamp).max();
            return Ok(newest.map(|timestamp| timestamp.to_be_bytes().to_vec()));
        }
        Ok(self.metadata_list(function, &column.cql_type, elements))
    }

    /// One for each element, or for each field of a user type; null when there are none.
    fn metadata_list<'r>(
        &self,
        function: CellMetadataFunction,
        cql_type: &CqlType,
        elements: impl Iterator<Item = (&'r [u8], &'r [u8], Cell<'r>)>,
    ) -> Option<Vec<u8>> {
        let mut of_elements: Vec<Option<Vec<u8>>> = Vec::new();
        for (path, _, cell) in elements {
            if let (CqlType::Udt(_), [high, low]) = (cql_type, path) {
                let field = usize::from(u16::from_be_bytes([*high, *low]));
                of_elements.resize(field.max(of_elements.len()), None);
            }
            of_elements.push(metadata_of(function, &cell, self.now));
        }
        if of_elements.is_empty() {
            return None;
        }
        if let CqlType::Udt(udt) = cql_type {
            of_elements.resize(udt.fields.len().max(of_elements.len()), None);
        }
        let mut list = (of_elements.len() as u32).to_be_bytes().to_vec();
        for metadata in &of_elements {
            push_value(&mut list, metadata.as_deref());
        }
        Some(list)
    }
}

fn metadata_of(function: CellMetadataFunction, cell: &Cell, now: EpochSeconds) -> Option<Vec<u8>> {
    match function {
        CellMetadataFunction::WriteTime | CellMetadataFunction::MaxWriteTime => {
            Some(cell.timestamp.to_be_bytes().to_vec())
        }
        CellMetadataFunction::Ttl => match cell.content {
            CellContent::Live { expiry: Some(expiry), .. } => {
                let left = i32::try_from(expiry.expires_at.saturating_sub(now));
                Some(left.unwrap_or(i32::MAX).to_be_bytes().to_vec())
            }
            _ => None,
        },
    }
}

/// The value at a key of a map; the element itself if a set has it.
fn element(cql_type: &CqlType, value: &[u8], key: &[u8]) -> Result<Option<Vec<u8>>, PlanError> {
    match cql_type {
        CqlType::Map { key: key_type, .. } => {
            for entry in MapView::new(value)? {
                let (found, value) = entry?;
                if compare_values(key_type, found, key).is_eq() {
                    return Ok(Some(value.to_vec()));
                }
            }
        }
        CqlType::Set { element, .. } => {
            for found in ListView::set(value)? {
                let found = found?;
                if compare_values(element, found, key).is_eq() {
                    return Ok(Some(found.to_vec()));
                }
            }
        }
        _ => {}
    }
    Ok(None)
}

/// The part of a set or map between two keys; null when it is empty.
fn slice(
    cql_type: &CqlType,
    value: &[u8],
    (from, to): (Option<&[u8]>, Option<&[u8]>),
) -> Result<Option<Vec<u8>>, PlanError> {
    let is_in = |key_type: &CqlType, key: &[u8]| {
        from.is_none_or(|from| compare_values(key_type, key, from).is_ge())
            && to.is_none_or(|to| compare_values(key_type, key, to).is_le())
    };
    let mut out = Vec::new();
    let mut builder = CollectionBuilder::new(&mut out);
    let mut is_empty = true;
    match cql_type {
        CqlType::Map { key: key_type, .. } => {
            for entry in MapView::new(value)? {
                let (key, value) = entry?;
                if is_in(key_type, key) {
                    builder.entry(key, value);
                    is_empty = false;
                }
            }
        }
        CqlType::Set { element, .. } => {
            for key in ListView::set(value)? {
                let key = key?;
                if is_in(element, key) {
                    builder.element(key);
                    is_empty = false;
                }
            }
        }
        _ => {}
    }
    builder.finish();
    Ok((!is_empty).then_some(out))
}
