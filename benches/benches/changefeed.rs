//! What an event costs, from the log rows of one change to the bytes of its message: numbers, values
//! found, JSON written. Neither the source nor a sink takes part.
//!
//! The rows have eight columns of usual types; an event of whole rows has about 400 bytes.

use bytes::Bytes;
use cdc::log_table::{END_OF_BATCH, OPERATION};
use cdc::time_uuid::log_time_uuid;
use changefeed::options::{self, Given, OptionValue};
use changefeed::sequence::Sequencer;
use changefeed::{LogRow, Renderer, SinkKind, TableShape};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::clustering::encode_component;
use model::codec::DecodeError;
use model::literal::parse_literal;
use model::mutation::{MutationView, MutationWriter};
use model::schema::Partitioner;
use model::{ColumnDef, ColumnKind, CqlType, TableDef, TableId, TableOptions};
use std::hint::black_box;

/// Changes that are rendered in one go.
const GROUP_COUNT: usize = 256;
/// When the first was made, in microseconds.
const START: i64 = 1_700_000_000_000_000;

/// Name, type and value of the columns.
const COLUMNS: [(&str, &str, &str); 8] = [
    ("id", "uuid", "550e8400-e29b-41d4-a716-446655440000"),
    ("address", "text", "Am Alten Bahnhof 17, 53111 Bonn, Germany (c/o \"Tethys\")"),
    ("amount", "bigint", "123456789"),
    ("created_at", "timestamp", "2026-11-21T13:00:00.123Z"),
    ("customer", "text", "customer-0000000000000000000000000000001234567890"),
    ("note", "text", "Leave it with the neighbours if nobody answers the door, and ring twice."),
    ("status", "text", "shipped"),
    ("weight", "double", "12.625"),
];

fn base_table() -> TableDef {
    let columns = COLUMNS.iter().enumerate().map(|(id, (name, cql_type, _))| ColumnDef {
        id: id as u32,
        name: (*name).into(),
        cql_type: CqlType::native_from_name(cql_type).expect("a native type"),
        kind: if id == 0 { ColumnKind::PartitionKey(0) } else { ColumnKind::Regular },
        descending: false,
    });
    TableDef {
        id: TableId(7),
        keyspace: "shop".into(),
        name: "orders".into(),
        columns: columns.collect(),
        dropped_columns: Vec::new(),
        next_column_id: 8,
        version: 1,
        partitioner: Partitioner::Murmur3,
        cdc_base: None,
        cdc_log: Some(TableId(8)),
        options: TableOptions::default(),
    }
}

/// Updates of the column `status`: the row before, the change, the row after.
fn log_rows(shape: &TableShape, log: &TableDef) -> Vec<LogRow> {
    let mut rows = Vec::new();
    for change in 0..GROUP_COUNT {
        let micros = START + 10 * change as i64;
        let mut mutation = Vec::new();
        let mut writer = MutationWriter::new(&mut mutation, log.id, 1, &[5; 16]);
        for (number, operation) in [(0_i32, 0_u8), (1, 1), (2, 9)] {
            let mut clustering = Vec::new();
            let time = log_time_uuid(micros, change as u64);
            for (cql_type, value) in
                [(CqlType::TimeUuid, &time[..]), (CqlType::Int, &number.to_be_bytes())]
            {
                encode_component(&cql_type, false, value, &mut clustering).expect("a value");
            }
            let written = writer.value_row(&clustering, micros, None, |row| {
                let mut set = |name: &str, value: &[u8]| {
                    row.value(log.column(name).expect("a column of the log").id, value);
                };
                set(OPERATION, &[operation]);
                if operation == 9 {
                    set(END_OF_BATCH, &[1]);
                }
                for (name, cql_type, text) in COLUMNS {
                    if operation != 1 || matches!(name, "id" | "status") {
                        let cql_type = CqlType::native_from_name(cql_type).expect("a type");
                        set(name, &parse_literal(&cql_type, text).expect("a literal"));
                    }
                }
                Ok::<_, DecodeError>(())
            });
            written.expect("a row");
        }
        let view = MutationView::check(&mutation).expect("a mutation");
        shape.read_rows(&view, &mut rows).expect("rows of the log");
    }
    rows
}

fn render(criterion: &mut Criterion) {
    let base = base_table();
    let log = cdc::new_log_table(&base, TableId(8)).expect("a log");
    let shape = TableShape::new(&base, &log).expect("the log has the columns");
    let rows = log_rows(&shape, &log);
    let mut group = criterion.benchmark_group("changefeed");
    group.throughput(Throughput::Elements(GROUP_COUNT as u64));
    for (name, given) in [
        ("full", vec![]),
        ("full_with_old_values", vec![("include_old_values", "true")]),
        ("delta", vec![("event_kind", "delta")]),
        ("patch", vec![("event_kind", "patch")]),
        ("debezium", vec![("envelope", "debezium")]),
    ] {
        let given: Given = given
            .into_iter()
            .map(|(name, value)| (name.to_owned(), OptionValue::Text(value.to_owned())))
            .collect();
        let options = options::parse(SinkKind::Kafka, &given).expect("options");
        let renderer = Renderer::new("a_feed", &options);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let (mut sequencer, _) = Sequencer::start(START);
                let mut messages = Vec::with_capacity(GROUP_COUNT);
                for group in sequencer.number(&rows) {
                    renderer.render(&shape, group, None, None, &mut messages).expect("events");
                }
                black_box(messages);
            });
        });
    }
    let mut sent = Vec::new();
    for row in &rows {
        row.encode(&mut sent);
    }
    let sent = Bytes::from(sent);
    group.bench_function("rows_between_nodes", |bencher| {
        bencher.iter(|| black_box(LogRow::decode_all(&sent).expect("rows")));
    });
    group.finish();
}

criterion_group!(benches, render);
criterion_main!(benches);
