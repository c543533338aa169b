//! Types as they were written to types as the schema knows them.

use super::error::PlanError;
use crate::syntax::ast::{QualifiedName, TypeName};
use model::{CqlType, Schema};
use std::sync::Arc;

/// The type that `written` names, seen from `keyspace`.
///
/// Collections and user types come out as they were written, frozen or not, at every level; it is
/// for the caller to refuse what may not stand there. What stands inside `frozen<…>` is frozen.
pub fn resolve_type(
    schema: &Schema,
    keyspace: &str,
    written: &TypeName,
) -> Result<CqlType, PlanError> {
    let inner = |t: &TypeName| resolve_type(schema, keyspace, t).map(Arc::new);
    Ok(match written {
        TypeName::Native(native) => native.clone(),
        TypeName::List(element) => CqlType::List { element: inner(element)?, frozen: false },
        TypeName::Set(element) => CqlType::Set { element: inner(element)?, frozen: false },
        TypeName::Map(key, value) => {
            CqlType::Map { key: inner(key)?, value: inner(value)?, frozen: false }
        }
        TypeName::Frozen(inner) => resolve_type(schema, keyspace, inner)?.freeze(),
        TypeName::Tuple(fields) => {
            let fields = fields.iter().map(|f| resolve_type(schema, keyspace, f));
            // A tuple is one value, so everything inside it is.
            CqlType::Tuple(fields.collect::<Result<_, _>>()?).freeze()
        }
        TypeName::Vector { element, dimension } => {
            let dimension = u16::try_from(*dimension)
                .ok()
                .filter(|d| (1..=8192).contains(d))
                .ok_or_else(|| {
                    PlanError::invalid(format!(
                        "vectors may only have between 1 and 8192 dimensions; given {dimension}"
                    ))
                })?;
            let element = Arc::new(resolve_type(schema, keyspace, element)?.freeze());
            CqlType::Vector { element, dimension }
        }
        TypeName::User(name) => resolve_user_type(schema, keyspace, name)?,
        TypeName::Custom { class, .. } => {
            return Err(PlanError::invalid(format!("Unable to find custom type {class}")));
        }
    })
}

fn resolve_user_type(
    schema: &Schema,
    keyspace: &str,
    name: &QualifiedName,
) -> Result<CqlType, PlanError> {
    let type_keyspace = name.keyspace.as_ref().map_or(keyspace, |k| k.as_str());
    if type_keyspace != keyspace {
        return Err(PlanError::invalid(format!(
            "Statement on keyspace {keyspace} cannot refer to a user type in keyspace \
             {type_keyspace}; user types can only be used in the keyspace they are defined in"
        )));
    }
    let unknown = || PlanError::invalid(format!("Unknown type {keyspace}.{}", name.name.as_str()));
    let definition = schema.keyspace(keyspace).ok_or_else(unknown)?;
    let user_type = definition.types.get(name.name.as_str()).ok_or_else(unknown)?;
    Ok(user_type.as_cql_type(&definition.name, false))
}
