//! Terms ready to run: what PREPARE makes of a literal, a marker, a collection or a call, and what
//! binding makes of that.
//!
//! Everything that does not depend on bound values is computed when the statement is prepared: a
//! literal is bytes of the right type by then, and so is a collection or a call of a pure function
//! over literals. Binding a marker checks the value against its type, once, and hands out the
//! request's own bytes; only a set or map whose elements came out of order is copied, in order.
//!
//! How the syntax tree becomes a [`PreparedTerm`] is in [`super::term_preparer`].

use super::composite;
use super::context::{BindContext, BoundValues};
use super::error::PlanError;
use super::function::Function;
use super::insert_json::JsonMember;
use crate::wire::Value;
use model::CqlType;
use model::value::{normalize, validate};
use std::borrow::Cow;
use std::sync::Arc;

/// A term whose type is known and checked.
#[derive(Clone, Debug, PartialEq)]
pub enum PreparedTerm {
    /// The constant null.
    Null,
    /// A serialized value, valid for its type.
    Constant(Box<[u8]>),
    /// A value that comes with the request.
    Marker(Marker),
    /// A collection, tuple, user type or vector of which some part is not constant.
    Composite(Box<Composite>),
    /// A call of which the function is not pure or some argument is not constant.
    Call(Box<Call>),
    /// A column's value in a JSON text that comes with the request.
    JsonMember(Box<JsonMember>),
}

/// A bind marker.
#[derive(Clone, Debug, PartialEq)]
pub struct Marker {
    /// Its place among the statement's markers.
    pub slot: u16,
    /// The type that its value must have.
    pub cql_type: CqlType,
}

impl Marker {
    /// Its value, checked and in normal order.
    #[inline]
    pub fn bind<'a>(&self, values: &BoundValues<'a>) -> Result<BoundTerm<'a>, PlanError> {
        Ok(match self.bind_in_place(values)? {
            Value::Null => BoundTerm::Null,
            Value::Unset => BoundTerm::Unset,
            Value::Set(bytes) if self.cql_type.has_parts() => {
                BoundTerm::Value(normalize(&self.cql_type, bytes)?)
            }
            Value::Set(bytes) => BoundTerm::Value(Cow::Borrowed(bytes)),
        })
    }

    /// Its value as it stands in the request, checked; in normal order unless its type has parts.
    #[inline]
    pub fn bind_in_place<'a>(&self, values: &BoundValues<'a>) -> Result<Value<'a>, PlanError> {
        let value = values.slot(self.slot);
        if let Value::Set(bytes) = value {
            validate(&self.cql_type, bytes)?;
        }
        Ok(value)
    }
}

/// A value made of parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Composite {
    /// The type of the whole.
    pub cql_type: CqlType,
    /// The parts; of a map keys and values in turns.
    pub parts: Vec<PreparedTerm>,
}

/// A function call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// What is called, its overload chosen.
    pub function: Arc<Function>,
    /// As many as the function takes.
    pub arguments: Vec<PreparedTerm>,
}

/// A term's value in one execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BoundTerm<'a> {
    /// Null.
    Null,
    /// Not set by the client.
    Unset,
    /// Serialized and valid; may be of zero bytes.
    Value(Cow<'a, [u8]>),
}

impl BoundTerm<'_> {
    /// The bytes, unless null or unset.
    #[inline]
    pub fn as_value(&self) -> Option<&[u8]> {
        match self {
            BoundTerm::Value(bytes) => Some(bytes),
            BoundTerm::Null | BoundTerm::Unset => None,
        }
    }
}

impl PreparedTerm {
    /// Whether the value is the same in every execution.
    pub fn is_constant(&self) -> bool {
        matches!(self, PreparedTerm::Null | PreparedTerm::Constant(_))
    }

    /// The marker's index, when the term is nothing but a marker.
    pub fn marker_slot(&self) -> Option<u16> {
        match self {
            PreparedTerm::Marker(marker) => Some(marker.slot),
            _ => None,
        }
    }

    /// The value in one execution. Allocates nothing for constants and markers (except see the
    /// head of this file).
    #[inline]
    pub fn bind<'a>(
        &'a self,
        values: &BoundValues<'a>,
        context: &mut BindContext<'_>,
    ) -> Result<BoundTerm<'a>, PlanError> {
        match self {
            PreparedTerm::Null => Ok(BoundTerm::Null),
            PreparedTerm::Constant(bytes) => Ok(BoundTerm::Value(Cow::Borrowed(bytes))),
            PreparedTerm::Marker(marker) => marker.bind(values),
            PreparedTerm::Composite(composite) => composite.bind(values, context),
            PreparedTerm::Call(call) => call.bind(values, context),
            PreparedTerm::JsonMember(member) => member.bind(values, context),
        }
    }
}

impl Composite {
    fn bind<'a>(
        &'a self,
        values: &BoundValues<'a>,
        context: &mut BindContext<'_>,
    ) -> Result<BoundTerm<'a>, PlanError> {
        let parts = self
            .parts
            .iter()
            .map(|part| part.bind(values, context))
            .collect::<Result<Vec<_>, _>>()?;
        let bytes = composite::build(&self.cql_type, &parts)?;
        Ok(BoundTerm::Value(Cow::Owned(bytes)))
    }
}

impl Call {
    fn bind<'a>(
        &'a self,
        values: &BoundValues<'a>,
        context: &mut BindContext<'_>,
    ) -> Result<BoundTerm<'a>, PlanError> {
        let mut arguments = Vec::with_capacity(self.arguments.len());
        for argument in &self.arguments {
            let bound = argument.bind(values, context)?;
            if bound == BoundTerm::Unset {
                return Err(PlanError::invalid(format!(
                    "Invalid unset value for argument in call to function {}",
                    self.function.name
                )));
            }
            arguments.push(bound);
        }
        let arguments: Vec<Option<&[u8]>> = arguments.iter().map(BoundTerm::as_value).collect();
        Ok(match self.function.call(&arguments, context)? {
            Some(bytes) => BoundTerm::Value(Cow::Owned(bytes)),
            None => BoundTerm::Null,
        })
    }
}
