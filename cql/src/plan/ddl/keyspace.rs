//! CREATE, ALTER and DROP KEYSPACE.

use super::super::PlanError;
use super::super::system_schema::is_system_keyspace;
use super::errors::{check_keyspace_name, check_user_keyspace, keyspace_exists, unknown_keyspace};
use super::properties::Properties;
use super::replication::{factor_warnings, parse_replication};
use super::{ChangeKind, ChangeTarget, DdlContext, SchemaChange};
use crate::syntax::ast::{AlterKeyspace, CreateKeyspace, DropKeyspace, Property};
use model::schema::Replication;
use model::{KeyspaceDef, Schema};
use std::collections::BTreeMap;

pub(super) fn create(
    create: &CreateKeyspace,
    schema: &Schema,
    context: &DdlContext<'_>,
) -> Result<SchemaChange, PlanError> {
    let name = create.name.as_str();
    check_keyspace_name(name)?;
    if is_system_keyspace(name) {
        return Err(PlanError::invalid(format!("System keyspace '{name}' is not user-modifiable")));
    }
    let wanted = KeyspaceProperties::read(&create.properties)?;
    if schema.keyspace(name).is_some() {
        return if create.if_not_exists {
            Ok(SchemaChange::default())
        } else {
            Err(keyspace_exists(name))
        };
    }
    let replication = wanted
        .replication
        .ok_or_else(|| PlanError::invalid("Missing mandatory option 'replication'"))?;
    let replication = parse_replication(name, replication, None, context.data_centres)?;
    let keyspace = KeyspaceDef {
        name: name.into(),
        replication,
        durable_writes: wanted.durable_writes.unwrap_or(true),
        tables: BTreeMap::new(),
        types: BTreeMap::new(),
    };
    Ok(changed(keyspace, ChangeKind::Created, context))
}

pub(super) fn alter(
    alter: &AlterKeyspace,
    schema: &Schema,
    context: &DdlContext<'_>,
) -> Result<SchemaChange, PlanError> {
    let name = alter.name.as_str();
    check_user_keyspace(name)?;
    let wanted = KeyspaceProperties::read(&alter.properties)?;
    let Some(old) = schema.keyspace(name) else {
        return if alter.if_exists {
            Ok(SchemaChange::default())
        } else {
            Err(unknown_keyspace(name))
        };
    };
    let mut keyspace = KeyspaceDef::clone(old);
    if let Some(options) = wanted.replication {
        let previous: Replication = keyspace.replication;
        keyspace.replication =
            parse_replication(name, options, Some(&previous), context.data_centres)?;
    }
    keyspace.durable_writes = wanted.durable_writes.unwrap_or(keyspace.durable_writes);
    if keyspace == **old {
        let warnings = factor_warnings(name, &keyspace.replication, context.data_centres);
        return Ok(SchemaChange { warnings, ..SchemaChange::default() });
    }
    Ok(changed(keyspace, ChangeKind::Updated, context))
}

pub(super) fn drop(drop: &DropKeyspace, schema: &Schema) -> Result<SchemaChange, PlanError> {
    let name = drop.name.as_str();
    check_user_keyspace(name)?;
    let mut change = SchemaChange::default();
    match schema.keyspace(name) {
        Some(keyspace) => {
            change.remove.push(keyspace.name.clone());
            change.event(ChangeKind::Dropped, ChangeTarget::Keyspace, name, "");
        }
        None if drop.if_exists => {}
        None => return Err(unknown_keyspace(name)),
    }
    Ok(change)
}

fn changed(keyspace: KeyspaceDef, kind: ChangeKind, context: &DdlContext<'_>) -> SchemaChange {
    let warnings = factor_warnings(&keyspace.name, &keyspace.replication, context.data_centres);
    let mut change = SchemaChange { warnings, ..SchemaChange::default() };
    change.event(kind, ChangeTarget::Keyspace, &keyspace.name, "");
    change.put.push(keyspace);
    change
}

struct KeyspaceProperties {
    replication: Option<BTreeMap<String, String>>,
    durable_writes: Option<bool>,
}

impl KeyspaceProperties {
    fn read(properties: &[Property]) -> Result<Self, PlanError> {
        let mut properties = Properties::new(properties);
        let replication = properties.take_map("replication")?;
        let durable_writes = properties.take_boolean("durable_writes")?;
        if let Some(tablets) = properties.take_map("tablets")? {
            check_tablets(&tablets)?;
        }
        properties.finish()?;
        Ok(KeyspaceProperties { replication, durable_writes })
    }
}

/// ScyllaDB's `tablets` may be said to be off, which they are.
fn check_tablets(tablets: &BTreeMap<String, String>) -> Result<(), PlanError> {
    for (key, value) in tablets {
        let enabled = match (key.as_str(), value.to_ascii_lowercase().as_str()) {
            ("enabled", "false") => false,
            ("enabled", "true") | ("initial", _) => true,
            ("enabled", _) => {
                return Err(PlanError::config(format!(
                    "Tablets enabled value must be true or false; found: {value}"
                )));
            }
            _ => return Err(PlanError::config(format!("Unrecognized tablets option {key}"))),
        };
        if enabled {
            return Err(PlanError::config(
                "Tablets are not supported: ranges of the ring are what data is cut into. Leave \
                 the option out, or set tablets = {'enabled': false}",
            ));
        }
    }
    Ok(())
}
