//! CREATE, ALTER and DROP TYPE.
//!
//! Whatever uses a type holds a copy of it, fields and all, so that reading a value needs no
//! look-up. ALTER TYPE therefore rewrites the other types and the tables of the keyspace that
//! mention the type, CDC logs among them, in the same step.

use super::super::PlanError;
use super::column_types::{check_column, check_size, column_type};
use super::errors::{syntax, unknown_keyspace};
use super::table_lookup::user_keyspace;
use super::{ChangeKind, ChangeTarget, NAME_BYTES_MAX, SchemaChange};
use crate::syntax::ast::{AlterType, AlterTypeAction, CreateType, Drop, QualifiedName, TypeName};
use model::types::UdtType;
use model::{CqlType, KeyspaceDef, Schema, TableDef, UserType};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Names that Cassandra keeps for types to come.
const RESERVED_TYPE_NAMES: &[&str] =
    &["byte", "complex", "enum", "date", "interval", "macaddr", "bitstring"];

pub(super) fn create(
    create: &CreateType,
    schema: &Schema,
    keyspace_in_use: Option<&str>,
) -> Result<SchemaChange, PlanError> {
    let keyspace_name = user_keyspace(&create.name, keyspace_in_use)?;
    let name = &create.name.name.text;
    let keyspace = schema.keyspace(keyspace_name).ok_or_else(|| unknown_keyspace(keyspace_name))?;
    if RESERVED_TYPE_NAMES.contains(&&**name) {
        return Err(syntax(format!("Invalid (reserved) user type name {name}")));
    }
    let mut change = SchemaChange::default();
    if keyspace.types.contains_key(name) {
        return if create.if_not_exists {
            Ok(change)
        } else {
            Err(PlanError::invalid(format!("A user type with name '{name}' already exists")))
        };
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(PlanError::invalid(format!(
            "Type name must not be more than {NAME_BYTES_MAX} characters long (got {} characters \
             for \"{name}\")",
            name.len()
        )));
    }
    let mut names = BTreeSet::new();
    let mut fields = Vec::with_capacity(create.fields.len());
    for (field, type_name) in &create.fields {
        if !names.insert(field.as_str()) {
            return Err(PlanError::invalid(format!(
                "Duplicate field name '{}' in type '{name}'",
                field.as_str()
            )));
        }
        fields.push((field.text.clone(), field_type(schema, keyspace_name, type_name)?));
    }
    let user_type = UserType { name: name.clone(), fields };
    check_size(&user_type.as_cql_type(&keyspace.name, true))?;
    let mut keyspace = KeyspaceDef::clone(keyspace);
    keyspace.types.insert(name.clone(), Arc::new(user_type));
    change.event(ChangeKind::Created, ChangeTarget::Type, keyspace_name, name);
    change.put.push(keyspace);
    Ok(change)
}

/// The type of a field as it was written.
fn field_type(schema: &Schema, keyspace: &str, written: &TypeName) -> Result<CqlType, PlanError> {
    let cql_type = column_type(schema, keyspace, written)?;
    match &cql_type {
        CqlType::Counter => Err(PlanError::invalid("A user type cannot contain counters")),
        CqlType::Udt(udt) if !udt.frozen => {
            Err(PlanError::invalid("A user type cannot contain non-frozen UDTs"))
        }
        _ => Ok(cql_type),
    }
}

/// The keyspace and the type of that name.
fn find<'s>(
    schema: &'s Schema,
    keyspace: &str,
    name: &QualifiedName,
) -> Option<(&'s KeyspaceDef, &'s Arc<UserType>)> {
    let keyspace = schema.keyspace(keyspace)?;
    Some((keyspace, keyspace.types.get(name.name.as_str())?))
}

pub(super) fn alter(
    alter: &AlterType,
    schema: &Schema,
    keyspace_in_use: Option<&str>,
) -> Result<SchemaChange, PlanError> {
    let keyspace_name = user_keyspace(&alter.name, keyspace_in_use)?;
    let Some((keyspace, old)) = find(schema, keyspace_name, &alter.name) else {
        return if alter.if_exists {
            Ok(SchemaChange::default())
        } else {
            let name = alter.name.name.as_str();
            Err(PlanError::invalid(format!("Type {keyspace_name}.{name} doesn't exist")))
        };
    };
    let mut user_type = UserType::clone(old);
    match &alter.action {
        AlterTypeAction::Add { if_not_exists, field, type_name } => {
            if user_type.fields.iter().any(|(name, _)| *name == field.text) {
                return if *if_not_exists {
                    Ok(SchemaChange::default())
                } else {
                    Err(PlanError::invalid(format!(
                        "Cannot add field {0} to type {keyspace_name}.{1}: a field with name {0} \
                         already exists",
                        field.as_str(),
                        old.name
                    )))
                };
            }
            let cql_type = field_type(schema, keyspace_name, type_name)?;
            if cql_type.mentions_udt(keyspace_name, &old.name) {
                return Err(PlanError::invalid(format!(
                    "Cannot add new field {} of type {cql_type} to user type {keyspace_name}.{} as \
                     it would create a circular reference",
                    field.as_str(),
                    old.name
                )));
            }
            check_no_partition_key(keyspace, old, (field.as_str(), &cql_type))?;
            user_type.fields.push((field.text.clone(), cql_type));
        }
        AlterTypeAction::Rename { if_exists, fields } => {
            for (from, to) in fields {
                rename_field(&mut user_type, keyspace_name, (from.as_str(), &to.text), *if_exists)?;
            }
        }
        AlterTypeAction::AlterField { .. } => {
            return Err(PlanError::invalid("Altering field types is no longer supported"));
        }
    }
    if user_type == **old {
        return Ok(SchemaChange::default());
    }
    replace(keyspace, user_type)
}

/// A field more would change the bytes of partition keys that are stored.
fn check_no_partition_key(
    keyspace: &KeyspaceDef,
    user_type: &UserType,
    (field, field_type): (&str, &CqlType),
) -> Result<(), PlanError> {
    let mentions = |t: &CqlType| t.mentions_udt(&keyspace.name, &user_type.name);
    let is_keyed = |table: &TableDef| table.partition_key().iter().any(|c| mentions(&c.cql_type));
    let tables = keyspace.tables.values().filter(|table| is_keyed(table));
    let tables: Vec<String> =
        tables.map(|table| format!("{}.{}", table.keyspace, table.name)).collect();
    if tables.is_empty() {
        return Ok(());
    }
    Err(PlanError::invalid(format!(
        "Cannot add new field {field} of type {field_type} to user type {}.{} as the type is being \
         used in partition key by the following tables: {}",
        keyspace.name,
        user_type.name,
        tables.join(", ")
    )))
}

fn rename_field(
    user_type: &mut UserType,
    keyspace: &str,
    (from, to): (&str, &Arc<str>),
    if_exists: bool,
) -> Result<(), PlanError> {
    let name = user_type.name.clone();
    let Some(place) = user_type.fields.iter().position(|(field, _)| &**field == from) else {
        return if if_exists {
            Ok(())
        } else {
            Err(PlanError::invalid(format!("Unkown field {from} in user type {keyspace}.{name}")))
        };
    };
    if user_type.fields.iter().enumerate().any(|(other, (field, _))| field == to && other != place)
    {
        return Err(PlanError::invalid(format!("Duplicate field name {to} in type {name}")));
    }
    user_type.fields[place].0 = to.clone();
    Ok(())
}

/// Puts the type's new definition wherever it is mentioned.
fn replace(keyspace: &KeyspaceDef, user_type: UserType) -> Result<SchemaChange, PlanError> {
    let mut change = SchemaChange::default();
    let mut keyspace = keyspace.clone();
    check_size(&user_type.as_cql_type(&keyspace.name, true))?;
    change.event(ChangeKind::Updated, ChangeTarget::Type, &keyspace.name, &user_type.name);
    let rewritten = |cql_type: &CqlType| rewritten(cql_type, &keyspace.name, &user_type);
    for other in keyspace.types.values_mut() {
        let mentions =
            |(_, t): &(Arc<str>, CqlType)| t.mentions_udt(&keyspace.name, &user_type.name);
        if other.fields.iter().any(mentions) {
            let fields = other.fields.iter().map(|(name, t)| (name.clone(), rewritten(t)));
            let other_type = UserType { name: other.name.clone(), fields: fields.collect() };
            check_size(&other_type.as_cql_type(&keyspace.name, true))?;
            *other = Arc::new(other_type);
        }
    }
    for table in keyspace.tables.values_mut() {
        let is_mentioned = |t: &CqlType| t.mentions_udt(&keyspace.name, &user_type.name);
        if !table.columns.iter().any(|column| is_mentioned(&column.cql_type)) {
            continue;
        }
        let mut altered = TableDef::clone(table);
        for column in &mut altered.columns {
            column.cql_type = rewritten(&column.cql_type);
            check_column(column)?;
        }
        altered.version += 1;
        change.table_event(ChangeKind::Updated, &altered);
        *table = Arc::new(altered);
    }
    keyspace.types.insert(user_type.name.clone(), Arc::new(user_type));
    change.put.push(keyspace);
    Ok(change)
}

/// The type with the new definition of `user_type` in it.
fn rewritten(cql_type: &CqlType, keyspace: &Arc<str>, user_type: &UserType) -> CqlType {
    let inside = |inner: &CqlType| rewritten(inner, keyspace, user_type);
    match cql_type {
        CqlType::List { element, frozen } => {
            CqlType::List { element: Arc::new(inside(element)), frozen: *frozen }
        }
        CqlType::Set { element, frozen } => {
            CqlType::Set { element: Arc::new(inside(element)), frozen: *frozen }
        }
        CqlType::Map { key, value, frozen } => CqlType::Map {
            key: Arc::new(inside(key)),
            value: Arc::new(inside(value)),
            frozen: *frozen,
        },
        CqlType::Vector { element, dimension } => {
            CqlType::Vector { element: Arc::new(inside(element)), dimension: *dimension }
        }
        CqlType::Tuple(fields) => CqlType::Tuple(fields.iter().map(inside).collect()),
        CqlType::Udt(udt) if udt.name == user_type.name && udt.keyspace == *keyspace => {
            let new = user_type.as_cql_type(keyspace, false);
            if udt.frozen { new.freeze() } else { new }
        }
        CqlType::Udt(udt) => CqlType::Udt(Arc::new(UdtType {
            keyspace: udt.keyspace.clone(),
            name: udt.name.clone(),
            fields: udt.fields.iter().map(|(name, t)| (name.clone(), inside(t))).collect(),
            frozen: udt.frozen,
        })),
        native => native.clone(),
    }
}

pub(super) fn drop(
    drop: &Drop,
    schema: &Schema,
    keyspace_in_use: Option<&str>,
) -> Result<SchemaChange, PlanError> {
    let keyspace_name = user_keyspace(&drop.name, keyspace_in_use)?;
    let mut change = SchemaChange::default();
    let Some((keyspace, user_type)) = find(schema, keyspace_name, &drop.name) else {
        return if drop.if_exists {
            Ok(change)
        } else {
            let name = drop.name.name.as_str();
            Err(PlanError::invalid(format!("Type '{keyspace_name}.{name}' doesn't exist")))
        };
    };
    let name = &user_type.name;
    let mentions = |cql_type: &CqlType| cql_type.mentions_udt(keyspace_name, name);
    let types = keyspace.types.values().filter(|t| t.fields.iter().any(|(_, f)| mentions(f)));
    let types: Vec<&str> = types.map(|t| &*t.name).collect();
    let tables = keyspace.tables.values();
    let tables = tables.filter(|t| t.columns.iter().any(|column| mentions(&column.cql_type)));
    let tables: Vec<&str> = tables.map(|t| &*t.name).collect();
    for (kind, users) in [("user types", types), ("tables", tables)] {
        if !users.is_empty() {
            return Err(PlanError::invalid(format!(
                "Cannot drop user type '{keyspace_name}.{name}' as it is still used by {kind} {}",
                users.join(", ")
            )));
        }
    }
    let mut keyspace = KeyspaceDef::clone(keyspace);
    keyspace.types.remove(name);
    change.event(ChangeKind::Dropped, ChangeTarget::Type, keyspace_name, name);
    change.put.push(keyspace);
    Ok(change)
}
