//! What golden scripts cannot show well: limits, ids, work that must not explode.

use super::testing::{context, table};
use super::*;
use crate::syntax::parse;
use crate::wire::Value;
use model::schema::Replication;
use model::{KeyspaceDef, Schema};
use std::collections::BTreeMap;
use std::sync::Arc;

/// `ks.t (k int PRIMARY KEY, v text)`.
fn schema() -> Schema {
    let table = table();
    let keyspace = KeyspaceDef {
        name: "ks".into(),
        replication: Replication::Local,
        durable_writes: true,
        tables: BTreeMap::from([(table.name.clone(), Arc::new(table))]),
        types: BTreeMap::new(),
    };
    Schema { version: 1, keyspaces: BTreeMap::from([(keyspace.name.clone(), Arc::new(keyspace))]) }
}

fn bind(text: &str, slots: &[Value]) -> Result<write::BoundWrite, PlanError> {
    let prepared = prepare(&parse(text).unwrap(), &schema(), None)?;
    let Plan::Write(plan) = &prepared.plan else { panic!("a write") };
    context(|context| plan.bind(BoundValues::new(slots), context))
}

/// A serialized `list<int>` of that many different numbers.
fn numbers(count: i32) -> Vec<u8> {
    let mut list = Vec::new();
    let mut builder = model::value::CollectionBuilder::new(&mut list);
    (0..count).for_each(|number| builder.element(&number.to_be_bytes()));
    builder.finish();
    list
}

#[test]
fn one_request_cannot_multiply_without_bound() {
    let update = "UPDATE ks.t SET v = ? WHERE k IN ?";
    let (many, some) = (numbers(70_000), numbers(100));
    let error = bind(update, &[Value::Set(b"x"), Value::Set(&many)]).unwrap_err();
    assert_eq!(
        error.message,
        "The IN restrictions select 70000 keys, more than the maximum of 65535"
    );
    let long = vec![b'x'; 1 << 20];
    let error = bind(update, &[Value::Set(&long), Value::Set(&some)]).unwrap_err();
    assert!(error.message.ends_with("too large for the maximum size of 67108864"), "{error}");
    assert_eq!(bind(update, &[Value::Set(b"x"), Value::Set(&some)]).unwrap().partitions.len(), 100);
}

#[test]
fn nested_calls_of_overloaded_functions_are_prepared_in_time() {
    // Each level has two overloads: trying all of them for all levels would never end.
    let depth = 25;
    let text = format!(
        "INSERT INTO ks.t (k, v) VALUES (1, {}now(){})",
        "totimestamp(todate(".repeat(depth),
        "))".repeat(depth)
    );
    let error = bind(&text, &[]).unwrap_err();
    assert!(error.message.starts_with("Invalid call to function totimestamp"), "{error}");
}

#[test]
fn ids_depend_on_the_keyspace_in_use_only_where_the_statement_does() {
    let id = |text: &str, keyspace| statement_id(&parse(text).unwrap(), text, keyspace);
    let qualified = "INSERT INTO ks.t (k) VALUES (?)";
    assert_eq!(id(qualified, Some("a")), id(qualified, None));
    let bare = "INSERT INTO t (k) VALUES (?)";
    assert_ne!(id(bare, Some("a")), id(bare, Some("b")));
    let batch =
        "BEGIN BATCH INSERT INTO ks.t (k) VALUES (1); DELETE FROM t WHERE k = 1; APPLY BATCH";
    assert_ne!(id(batch, Some("a")), id(batch, Some("b")));
    // Ids are compared across versions and nodes.
    let pinned = 0xa85e_2d2d_4178_d1a8_94c5_4714_aef5_1e7b;
    assert_eq!(u128::from_be_bytes(id(qualified, None)), pinned);
}

#[test]
fn a_statement_names_the_tables_it_depends_on() {
    let text =
        "BEGIN BATCH DELETE FROM ks.t WHERE k = 1; DELETE FROM ks.t WHERE k = 2; APPLY BATCH";
    let prepared = prepare(&parse(text).unwrap(), &schema(), None).unwrap();
    assert_eq!(prepared.tables, [("ks".into(), "t".into())]);
    let error = prepare(&parse("DELETE FROM t WHERE k = 1").unwrap(), &schema(), None).unwrap_err();
    assert_eq!(
        error.message,
        "No keyspace has been specified. USE a keyspace, or explicitly specify keyspace.tablename"
    );
}
