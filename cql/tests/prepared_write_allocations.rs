//! Binding a prepared write of one row allocates its results and one scratch buffer, however many
//! columns it writes; binding a prepared read of one row allocates its keys alone.

#![expect(unsafe_code, reason = "counting allocations takes a global allocator")]

use cql::plan::{BindContext, BoundValues, Plan, prepare};
use cql::syntax::parse;
use cql::wire::Value;
use model::schema::{Partitioner, Replication};
use model::{ColumnDef, ColumnKind, CqlType, KeyspaceDef, Schema, TableDef, TableId, TableOptions};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// `ks.t (k bigint, c bigint, v0 text, … v9 text, PRIMARY KEY (k, c))`
fn schema() -> Schema {
    let column = |id, name: &str, cql_type, kind| ColumnDef {
        id,
        name: name.into(),
        cql_type,
        kind,
        descending: false,
    };
    let mut columns = vec![
        column(0, "k", CqlType::BigInt, ColumnKind::PartitionKey(0)),
        column(1, "c", CqlType::BigInt, ColumnKind::Clustering(0)),
    ];
    for index in 0..10 {
        columns.push(column(2 + index, &format!("v{index}"), CqlType::Text, ColumnKind::Regular));
    }
    let table = TableDef {
        id: TableId(1),
        keyspace: "ks".into(),
        name: "t".into(),
        columns,
        dropped_columns: Vec::new(),
        next_column_id: 12,
        version: 1,
        partitioner: Partitioner::Murmur3,
        cdc_base: None,
        cdc_log: None,
        options: TableOptions::default(),
    };
    let keyspace = KeyspaceDef {
        name: "ks".into(),
        replication: Replication::Local,
        durable_writes: true,
        tables: BTreeMap::from([(table.name.clone(), Arc::new(table))]),
        types: BTreeMap::new(),
    };
    Schema { version: 1, keyspaces: BTreeMap::from([(keyspace.name.clone(), Arc::new(keyspace))]) }
}

/// Allocations of one binding of `text` with these values.
fn allocations(text: &str, values: &[Value]) -> u64 {
    let parsed = parse(text).expect("the statement is CQL");
    let prepared = prepare(&parsed, &schema(), None).expect("the statement fits the schema");
    let (mut fresh_timeuuid, mut fresh_uuid) = (|| [0x10; 16], || [0; 16]);
    let mut context = BindContext {
        now_micros: 1,
        now_seconds: 1,
        default_timestamp: None,
        fresh_timeuuid: &mut fresh_timeuuid,
        fresh_uuid: &mut fresh_uuid,
        json: None,
    };
    let before = ALLOCATIONS.get();
    match &prepared.plan {
        Plan::Write(plan) => {
            let bound = plan.bind(BoundValues::new(values), &mut context).expect("values fit");
            assert_eq!(bound.partitions.len(), 1);
            ALLOCATIONS.get() - before
        }
        Plan::Select(plan) => {
            assert!(plan.is_point_read(), "one row is named");
            let point = plan.bind_point(&BoundValues::new(values), &mut context);
            let after = ALLOCATIONS.get();
            assert!(!point.expect("values fit").key.is_empty());
            after - before
        }
        _ => panic!("a write or a read"),
    }
}

#[test]
fn a_prepared_point_read_allocates_its_keys() {
    let key = Value::Set(&[0; 8]);
    let text = "SELECT v0 FROM ks.t WHERE k = ? AND c = ?";
    assert_eq!(allocations(text, &[key, key]), 2);
}

#[test]
fn a_prepared_row_takes_three_allocations() {
    let key = Value::Set(&[0; 8]);
    let text = Value::Set(b"0123456789");
    let mut values = vec![key, key];
    values.extend([text; 10]);
    let columns = (0..10).map(|index| format!("v{index}")).collect::<Vec<_>>();
    let insert = format!(
        "INSERT INTO ks.t (k, c, {}) VALUES (?, ?{})",
        columns.join(", "),
        ", ?".repeat(10)
    );
    // The mutation, the list of one partition; the clustering key is scratch.
    assert_eq!(allocations(&insert, &values), 3);
    let update = "UPDATE ks.t SET v0 = ?, v1 = 'constant' WHERE k = ? AND c = ?";
    assert_eq!(allocations(update, &[text, key, key]), 3);
}
