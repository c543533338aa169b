//! Sixteen EXECUTE frames in one read: decoded, parsed, and answered into one buffer.

use benches::dataset::{COLUMN_COUNT, Values as DataSet, key};
use cql::wire::client::RequestWriter;
use cql::wire::{
    ColumnSpec, Consistency, Extensions, FRAME_BODY_BYTES_MAX, FrameDecoder, Framing, OpenRows,
    QueryParameters, Request, ResponseHead, ResultMetadata, RowsHead, Value, Values, Version,
    write_cell, write_void,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::CqlType;
use std::hint::black_box;

const FRAMES: u16 = 16;

/// Requests that write a row each, or read one.
fn requests(writes: bool) -> Vec<u8> {
    let data = DataSet::new();
    let parameters = QueryParameters {
        skip_metadata: !writes,
        ..QueryParameters::with_consistency(Consistency::One)
    };
    let mut out = Vec::new();
    for stream in 0..FRAMES {
        let number = u64::from(stream);
        let key = key(number);
        let mut values = vec![Value::Set(&key)];
        if writes {
            values.extend((0..COLUMN_COUNT).map(|column| Value::Set(data.value(number, column))));
        }
        let stream = stream.cast_signed();
        let writer = RequestWriter { out: &mut out, version: Version::V4, stream };
        writer.execute(&[1; 16], None, &parameters, &values);
    }
    out
}

/// Everything of a turn of a connection but the work: `answer` writes a response.
fn turn(
    bytes: &[u8],
    decoder: &mut FrameDecoder,
    values: &mut Values,
    out: &mut Vec<u8>,
    mut answer: impl FnMut(&mut Vec<u8>, &ResponseHead, &Values),
) {
    out.clear();
    decoder.feed(bytes);
    while let Some(frame) = decoder.next_frame().expect("the frames are well-formed") {
        let request = Request::parse(&frame, Extensions::default(), values);
        assert!(matches!(black_box(request), Ok(Request::Execute { .. })));
        answer(out, &ResponseHead::new(Version::V4, frame.header.stream), values);
        values.clear();
    }
}

fn execute(c: &mut Criterion) {
    let columns: Vec<_> = (0..COLUMN_COUNT)
        .map(|column| ColumnSpec {
            keyspace: "bench".into(),
            table: "rows".into(),
            name: format!("c{column}").into(),
            cql_type: CqlType::Blob,
        })
        .collect();
    let metadata = ResultMetadata::new(&columns);
    let mut decoder = FrameDecoder::for_requests();
    decoder.started(Version::V4, Framing::Plain, FRAME_BODY_BYTES_MAX);
    let (mut values, mut out) = (Values::new(), Vec::new());
    let mut group = c.benchmark_group("wire");
    group.throughput(Throughput::Elements(u64::from(FRAMES)));
    let (writes, reads) = (requests(true), requests(false));
    group.bench_function("execute/answer=void", |b| {
        b.iter(|| {
            turn(&writes, &mut decoder, &mut values, &mut out, |out, head, _| {
                write_void(out, head).expect("it is short");
            });
        });
    });
    group.bench_function("execute/answer=row", |b| {
        b.iter(|| {
            turn(&reads, &mut decoder, &mut values, &mut out, |out, head, _| {
                let head_of_rows =
                    RowsHead { metadata: &metadata, skip_metadata: true, new_metadata_id: None };
                let mut rows = OpenRows::begin(out, head, &head_of_rows);
                (0..COLUMN_COUNT).for_each(|_| write_cell(out, Some(&[7; 27])));
                rows.row_written();
                rows.finish(out, None).expect("it is short");
            });
        });
    });
    group.finish();
}

criterion_group!(wire_benches, execute);
criterion_main!(wire_benches);
