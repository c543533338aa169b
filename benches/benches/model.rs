//! Rows and clustering keys: what every write and every read does to them.

use criterion::{Criterion, criterion_group, criterion_main};
use model::clustering::{decode_clustering, encode_clustering};
use model::merge::merge_rows;
use model::row::{Cell, CellContent, Marker, RowHead, RowView, RowWriter};
use model::{ColumnDef, ColumnKind, CqlType, TableDef, TableId, TableOptions};
use std::hint::black_box;

/// A row of five values of 27 bytes, written at one time.
fn row(timestamp: i64) -> Vec<u8> {
    let mut out = Vec::new();
    let marker = Some(Marker { timestamp, expiry: None });
    let head = RowHead { marker, tombstone: None };
    let mut writer = RowWriter::new(&mut out, timestamp, head);
    for column in 1..6_u32 {
        let content = CellContent::Live { value: &[7; 27], expiry: None };
        writer.cell(&Cell { column, path: None, timestamp, content });
    }
    out
}

/// `(k int, a bigint, b text, PRIMARY KEY (k, a, b)) WITH CLUSTERING ORDER BY (a DESC, b ASC)`
fn table() -> TableDef {
    let column = |id, name: &str, kind, cql_type, descending| ColumnDef {
        id,
        name: name.into(),
        cql_type,
        kind,
        descending,
    };
    TableDef {
        id: TableId(1),
        keyspace: "ks".into(),
        name: "t".into(),
        columns: vec![
            column(1, "k", ColumnKind::PartitionKey(0), CqlType::Int, false),
            column(2, "a", ColumnKind::Clustering(0), CqlType::BigInt, true),
            column(3, "b", ColumnKind::Clustering(1), CqlType::Text, false),
        ],
        dropped_columns: Vec::new(),
        next_column_id: 4,
        version: 1,
        partitioner: model::schema::Partitioner::Murmur3,
        cdc_base: None,
        cdc_log: None,
        options: TableOptions::default(),
    }
}

fn merge(c: &mut Criterion) {
    let (older, newer) = (row(1), row(2));
    let mut out = Vec::new();
    c.bench_function("merge_rows/columns=5", |b| {
        b.iter(|| {
            out.clear();
            merge_rows(RowView::new(black_box(&older)), RowView::new(black_box(&newer)), &mut out);
        });
    });
}

fn clustering(c: &mut Criterion) {
    let table = table();
    let number = 1_234_567_890_i64.to_be_bytes();
    let values: [&[u8]; 2] = [&number, b"a text of common length"];
    c.bench_function("encode_clustering/bigint_desc,text", |b| {
        b.iter(|| encode_clustering(&table, black_box(&values)));
    });
    let encoded = encode_clustering(&table, &values).expect("the values are of their types");
    c.bench_function("decode_clustering/bigint_desc,text", |b| {
        b.iter(|| decode_clustering(&table, black_box(&encoded)));
    });
}

criterion_group!(model_benches, merge, clustering);
criterion_main!(model_benches);
