//! What the tests of plans share.

use super::context::BindContext;
use super::error::PlanError;
use super::markers::{BindSpec, MarkerSpecs, Receiver};
use super::term::PreparedTerm;
use super::term_preparer::TermPreparer;
use super::type_name::resolve_type;
use crate::syntax::ast::{
    CreateTable, Direction, InsertValues, Literal, Modification, Name, PropertyValue, Statement,
    Term, TermKind,
};
use crate::syntax::parse;
use crate::wire::Value;
use model::schema::Partitioner;
use model::timeuuid::{ietf_low_bits, timeuuid_from_micros};
use model::{ColumnDef, ColumnKind, CqlType, Schema, TableDef, TableId, TableOptions, UserType};
use std::sync::Arc;

/// The microsecond at which tests run.
pub(crate) const NOW_MICROS: i64 = 1_700_000_000_123_456;

/// Runs with a context whose clock stands still and whose UUIDs count up.
pub(crate) fn context<R>(run: impl FnOnce(&mut BindContext<'_>) -> R) -> R {
    let mut count = 0;
    let mut fresh_timeuuid = || {
        count += 1;
        timeuuid_from_micros(NOW_MICROS + count, ietf_low_bits(0))
    };
    let mut fresh_uuid = || [0x42; 16];
    run(&mut BindContext {
        now_micros: NOW_MICROS,
        now_seconds: NOW_MICROS / 1_000_000,
        default_timestamp: None,
        fresh_timeuuid: &mut fresh_timeuuid,
        fresh_uuid: &mut fresh_uuid,
        json: None,
    })
}

/// `ks.t (k int PRIMARY KEY, v text)`.
pub(crate) fn table() -> TableDef {
    let column = |id, name: &str, cql_type, kind| ColumnDef {
        id,
        name: name.into(),
        cql_type,
        kind,
        descending: false,
    };
    TableDef {
        id: TableId(1),
        keyspace: "ks".into(),
        name: "t".into(),
        columns: vec![
            column(0, "k", CqlType::Int, ColumnKind::PartitionKey(0)),
            column(1, "v", CqlType::Text, ColumnKind::Regular),
        ],
        dropped_columns: Vec::new(),
        next_column_id: 2,
        version: 1,
        partitioner: Partitioner::Murmur3,
        cdc_base: None,
        cdc_log: None,
        options: TableOptions::default(),
    }
}

/// Carries out CREATE TABLE and CREATE TYPE in the keyspace `ks` as far as tests need it; false
/// for other statements.
pub(crate) fn define(schema: &mut Schema, statement: &Statement) -> Result<bool, PlanError> {
    let mut keyspace = schema.keyspaces["ks"].as_ref().clone();
    match statement {
        Statement::CreateTable(create) => {
            let table = table_of(schema, create)?;
            keyspace.tables.insert(table.name.clone(), Arc::new(table));
        }
        Statement::CreateType(create) => {
            let fields = create.fields.iter().map(|(name, type_name)| {
                Ok((name.text.clone(), resolve_type(schema, "ks", type_name)?.freeze()))
            });
            let user_type = UserType {
                name: create.name.name.text.clone(),
                fields: fields.collect::<Result<_, PlanError>>()?,
            };
            keyspace.types.insert(user_type.name.clone(), Arc::new(user_type));
        }
        _ => return Ok(false),
    }
    schema.keyspaces.insert("ks".into(), Arc::new(keyspace));
    Ok(true)
}

fn table_of(schema: &Schema, create: &CreateTable) -> Result<TableDef, PlanError> {
    let key = &create.primary_keys[0];
    let position = |names: &[Name], name: &Name| {
        names.iter().position(|other| other.text == name.text).map(|index| index as u16)
    };
    let mut columns = Vec::new();
    for (id, column) in (0..).zip(&create.columns) {
        let kind = if let Some(index) = position(&key.partition, &column.name) {
            ColumnKind::PartitionKey(index)
        } else if let Some(index) = position(&key.clustering, &column.name) {
            ColumnKind::Clustering(index)
        } else if column.is_static {
            ColumnKind::Static
        } else {
            ColumnKind::Regular
        };
        let order = &create.properties.clustering_order;
        columns.push(ColumnDef {
            id,
            name: column.name.text.clone(),
            cql_type: resolve_type(schema, "ks", &column.type_name)?,
            kind,
            descending: order.iter().any(|(name, direction)| {
                name.text == column.name.text && *direction == Direction::Descending
            }),
        });
    }
    columns.sort_by_key(|column| match column.kind {
        ColumnKind::PartitionKey(index) => (0, index, "".into()),
        ColumnKind::Clustering(index) => (1, index, "".into()),
        ColumnKind::Static | ColumnKind::Regular => (2, 0, column.name.clone()),
    });
    let mut definition = table();
    definition.name = create.table.name.text.clone();
    definition.id = TableId(u128::from(
        definition
            .name
            .bytes()
            .fold(0_u64, |id, byte| id.wrapping_mul(31).wrapping_add(u64::from(byte))),
    ));
    definition.next_column_id = columns.len() as u32;
    definition.columns = columns;
    for property in &create.properties.properties {
        if property.name.as_str() == "default_time_to_live"
            && let PropertyValue::Text(text) = &property.value
        {
            definition.options.default_time_to_live = text.parse().unwrap();
        }
    }
    Ok(definition)
}

/// A value to bind.
#[derive(Debug)]
pub(crate) enum TestValue {
    Null,
    Unset,
    Bytes(Vec<u8>),
}

impl TestValue {
    pub(crate) fn as_wire(&self) -> Value<'_> {
        match self {
            TestValue::Null => Value::Null,
            TestValue::Unset => Value::Unset,
            TestValue::Bytes(bytes) => Value::Set(bytes),
        }
    }
}

/// The values written as CQL terms, separated by commas, each as its marker's type; `unset` is
/// unset, and a blob stands for the bytes themselves.
pub(crate) fn values_of(schema: &Schema, specs: &[BindSpec], written: &str) -> Vec<TestValue> {
    if written.is_empty() {
        return Vec::new();
    }
    let text = format!("INSERT INTO t (a) VALUES ({})", written.replace("unset", "not_set()"));
    let parsed = parse(&text).expect("values are terms");
    let Statement::Modification(Modification::Insert(insert)) = parsed.statement else {
        panic!("an INSERT");
    };
    let InsertValues::Columns { values, .. } = insert.values else { panic!("columns") };
    let mut markers = MarkerSpecs::new(&[]);
    let table = table();
    let mut preparer = TermPreparer { schema, table: &table, markers: &mut markers };
    let one = |(index, term): (usize, &Term)| match &term.kind {
        TermKind::Function(call) if call.function.name.as_str() == "not_set" => TestValue::Unset,
        TermKind::Literal(Literal::Blob(bytes)) => TestValue::Bytes(bytes.clone()),
        _ => {
            let cql_type = specs.get(index).map_or(CqlType::Blob, |spec| spec.cql_type.clone());
            match preparer.prepare(term, &Receiver::new("value", cql_type)).unwrap() {
                PreparedTerm::Constant(bytes) => TestValue::Bytes(bytes.into()),
                PreparedTerm::Null => TestValue::Null,
                other => panic!("{other:?} is not a constant"),
            }
        }
    };
    values.iter().enumerate().map(one).collect()
}
