//! Bind markers: what each waits for, as it is told to clients.

use super::error::PlanError;
use crate::syntax::ast::{Marker, Position};
use model::{CqlType, TableDef};
use std::sync::Arc;

/// What a bind marker waits for: the column specification that PREPARE answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindSpec {
    /// Keyspace of the table.
    pub keyspace: Arc<str>,
    /// The table.
    pub table: Arc<str>,
    /// The marker's own name, or that of what it is assigned to (`v`, `in(c)`, `[limit]`).
    pub name: Arc<str>,
    /// The type of its value.
    pub cql_type: CqlType,
}

/// What a value is for: it names a marker, appears in errors, and has the type that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// The column, or a pseudo name such as `[ttl]`.
    pub name: Arc<str>,
    /// The type.
    pub cql_type: CqlType,
}

impl Receiver {
    /// A receiver of that name and type.
    pub fn new(name: impl Into<Arc<str>>, cql_type: CqlType) -> Receiver {
        Receiver { name: name.into(), cql_type }
    }

    /// A part of this one: `key(m)`, `value(m)`, `in(c)`, `idx(l)`.
    pub fn part(&self, part: &str, cql_type: CqlType) -> Receiver {
        Receiver::new(format!("{part}({})", self.name), cql_type)
    }
}

/// Collects what the markers of one statement wait for while its terms are prepared.
#[derive(Debug)]
pub struct MarkerSpecs<'a> {
    markers: &'a [Marker],
    specs: Vec<Option<BindSpec>>,
}

impl<'a> MarkerSpecs<'a> {
    /// Nothing is known yet of these markers.
    pub fn new(markers: &'a [Marker]) -> MarkerSpecs<'a> {
        MarkerSpecs { markers, specs: vec![None; markers.len()] }
    }

    /// The marker of that index receives its value for `receiver`.
    pub fn assign(
        &mut self,
        index: u16,
        keyspace: &Arc<str>,
        table: &Arc<str>,
        receiver: &Receiver,
    ) -> Result<(), PlanError> {
        let index = usize::from(index);
        let (Some(marker), Some(spec)) = (self.markers.get(index), self.specs.get_mut(index))
        else {
            return Err(PlanError::invalid(format!("Unknown bind marker {index}")));
        };
        let name = marker.name.as_ref().map_or(&receiver.name, |name| &name.text).clone();
        *spec = Some(BindSpec {
            keyspace: keyspace.clone(),
            table: table.clone(),
            name,
            cql_type: receiver.cql_type.clone(),
        });
        Ok(())
    }

    /// Whether the marker has a receiver by now.
    pub fn is_assigned(&self, index: u16) -> bool {
        self.specs.get(usize::from(index)).is_some_and(Option::is_some)
    }

    /// All specifications in order. Errors when a marker stands where no type is known.
    pub fn finish(self) -> Result<Vec<BindSpec>, PlanError> {
        let unknown = |position: &Position| {
            PlanError::invalid(format!("{position}: cannot infer the type of the bind marker"))
        };
        self.specs
            .into_iter()
            .zip(self.markers)
            .map(|(spec, marker)| spec.ok_or_else(|| unknown(&marker.position)))
            .collect()
    }
}

/// Indexes of the markers that are exactly the partition key's columns, in the key's order; empty
/// unless every column has one. Drivers compute the token from them.
pub fn partition_key_indexes(table: &TableDef, slots: &[Option<u16>]) -> Vec<u16> {
    let indexes: Option<Vec<u16>> = slots.iter().copied().collect();
    indexes.filter(|indexes| indexes.len() == table.partition_key_count()).unwrap_or_default()
}
