//! Which types may stand where: in a column, in a key, in a user-defined type.
//!
//! Types of user-defined types grow with every level that uses the level below twice, so what a
//! type may hold in all is bounded ([`TYPE_NODES_MAX`]) before anything walks it.

use super::super::PlanError;
use super::super::type_name::resolve_type;
use super::errors::syntax;
use crate::syntax::ast::TypeName;
use model::value::TYPE_DEPTH_MAX;
use model::{ColumnDef, ColumnKind, CqlType, Schema};

/// Most types that one type may consist of, itself and fields of user types included.
pub(super) const TYPE_NODES_MAX: usize = 4_096;

/// The type of a column or field as it was written, checked.
pub(super) fn column_type(
    schema: &Schema,
    keyspace: &str,
    written: &TypeName,
) -> Result<CqlType, PlanError> {
    check_written(written)?;
    let cql_type = resolve_type(schema, keyspace, written)?;
    check_size(&cql_type)?;
    check_nesting(&cql_type)?;
    Ok(cql_type)
}

/// Refuses `frozen` around what is one value anyway. The parser bounds the depth.
fn check_written(written: &TypeName) -> Result<(), PlanError> {
    match written {
        TypeName::Frozen(inner) => {
            if let TypeName::Native(native) = &**inner {
                return Err(syntax(format!(
                    "frozen<> is only allowed on collections, tuples, and user-defined types (got \
                     {native})"
                )));
            }
            check_written(inner)
        }
        TypeName::List(inner) | TypeName::Set(inner) | TypeName::Vector { element: inner, .. } => {
            check_written(inner)
        }
        TypeName::Map(key, value) => {
            check_written(key)?;
            check_written(value)
        }
        TypeName::Tuple(fields) => fields.iter().try_for_each(check_written),
        TypeName::Native(_) | TypeName::User(_) | TypeName::Custom { .. } => Ok(()),
    }
}

/// Refuses a type that is too deep or holds too many others.
pub(super) fn check_size(cql_type: &CqlType) -> Result<(), PlanError> {
    let mut nodes_left = TYPE_NODES_MAX;
    if count_nodes(cql_type, TYPE_DEPTH_MAX, &mut nodes_left) {
        return Ok(());
    }
    Err(PlanError::invalid(format!(
        "A type may be at most {TYPE_DEPTH_MAX} levels deep and consist of at most \
         {TYPE_NODES_MAX} types, those inside user types included"
    )))
}

/// Whether the type stays within both limits; stops at the first that is reached.
fn count_nodes(cql_type: &CqlType, depth_left: usize, nodes_left: &mut usize) -> bool {
    if depth_left == 0 || *nodes_left == 0 {
        return false;
    }
    *nodes_left -= 1;
    let mut inside = |inner: &CqlType| count_nodes(inner, depth_left - 1, nodes_left);
    match cql_type {
        CqlType::List { element, .. }
        | CqlType::Set { element, .. }
        | CqlType::Vector { element, .. } => inside(element),
        CqlType::Map { key, value, .. } => inside(key) && inside(value),
        CqlType::Tuple(fields) => fields.iter().all(inside),
        CqlType::Udt(udt) => udt.fields.iter().all(|(_, field)| inside(field)),
        _ => true,
    }
}

/// Refuses counters and durations where they have no meaning, and cells inside cells.
fn check_nesting(cql_type: &CqlType) -> Result<(), PlanError> {
    let refuse = |what: &str| Err(PlanError::invalid(format!("{what}: {cql_type}")));
    let check_element = |element: &CqlType| {
        if *element == CqlType::Counter {
            return refuse("Counters are not allowed inside collections");
        }
        if element.is_multi_cell() {
            return refuse(if element.is_collection() {
                "Non-frozen collections are not allowed inside collections"
            } else {
                "Non-frozen UDTs are not allowed inside collections"
            });
        }
        check_nesting(element)
    };
    match cql_type {
        CqlType::List { element, .. } => check_element(element),
        CqlType::Set { element, .. } => {
            if **element == CqlType::Duration {
                return refuse("Durations are not allowed inside sets");
            }
            check_ordered(element, "inside sets")?;
            check_element(element)
        }
        CqlType::Map { key, value, .. } => {
            if **key == CqlType::Duration {
                return refuse("Durations are not allowed as map keys");
            }
            check_ordered(key, "as map keys")?;
            check_element(key)?;
            check_element(value)
        }
        CqlType::Tuple(fields) => {
            if fields.contains(&CqlType::Counter) {
                return Err(PlanError::invalid("Counters are not allowed inside tuples"));
            }
            fields.iter().try_for_each(check_nesting)
        }
        CqlType::Vector { element, .. } => {
            if **element == CqlType::Counter {
                return Err(PlanError::invalid("Counters are not allowed inside vectors"));
            }
            check_nesting(element)
        }
        // Its fields were checked when it was made.
        _ => Ok(()),
    }
}

/// Durations have no order, so nothing that is sorted may hold them at any depth.
fn check_ordered(cql_type: &CqlType, place: &str) -> Result<(), PlanError> {
    if !cql_type.holds_duration() {
        return Ok(());
    }
    Err(PlanError::invalid(format!("Durations are not allowed {place}: {cql_type}")))
}

/// Refuses a type that no column of a key can have.
pub(super) fn check_key_type(column: &str, cql_type: &CqlType) -> Result<(), PlanError> {
    let refuse =
        |what: String| Err(PlanError::invalid(format!("{what} for PRIMARY KEY column '{column}'")));
    match cql_type {
        CqlType::Counter => refuse("counter type is not supported".to_owned()),
        CqlType::Udt(udt) if !udt.frozen => refuse(format!(
            "Invalid non-frozen user-defined type \"{}.{}\"",
            udt.keyspace, udt.name
        )),
        collection if collection.is_multi_cell() => {
            refuse(format!("Invalid non-frozen collection type {collection}"))
        }
        other if other.holds_duration() => refuse("duration type is not supported".to_owned()),
        _ => Ok(()),
    }
}

/// Refuses a type that no column outside of the key can have.
pub(super) fn check_data_type(cql_type: &CqlType) -> Result<(), PlanError> {
    match cql_type {
        CqlType::Udt(udt)
            if !udt.frozen && udt.fields.iter().any(|(_, field)| field.is_multi_cell()) =>
        {
            Err(PlanError::invalid(
                "Non-frozen UDTs with nested non-frozen collections are not supported",
            ))
        }
        _ => Ok(()),
    }
}

/// Everything that holds of a column's type, for one that changed inside.
pub(super) fn check_column(column: &ColumnDef) -> Result<(), PlanError> {
    check_size(&column.cql_type)?;
    check_nesting(&column.cql_type)?;
    match column.kind {
        ColumnKind::PartitionKey(_) | ColumnKind::Clustering(_) => {
            check_key_type(&column.name, &column.cql_type)
        }
        ColumnKind::Static | ColumnKind::Regular => check_data_type(&column.cql_type),
    }
}
