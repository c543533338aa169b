//! The engine of one shard, and the commit log under it, on a directory of their own.

use benches::dataset::{COLUMN_COUNT, Random, Values, key};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use env::Disk;
use model::mutation::{MutationView, MutationWriter};
use model::row::{Cell, CellContent, Marker, RowHead};
use model::schema::Partitioner;
use model::token::murmur3_token;
use model::{ColumnId, TableDef, TableId, TableOptions};
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;
use storage::commitlog::{CommitLog, LogOptions, SyncMode};
use storage::{Engine, EngineOptions, FlushReason};

const TABLE: TableId = TableId(7);
const GROUP: u64 = 1;
/// Rows of the hot table: more than the processor's caches hold.
const ROW_COUNT: u64 = 200_000;
/// Rows of one flush and of one replay.
const BATCH_COUNT: u64 = 50_000;

fn table() -> TableDef {
    TableDef {
        id: TABLE,
        keyspace: "bench".into(),
        name: "rows".into(),
        columns: Vec::new(),
        dropped_columns: Vec::new(),
        next_column_id: 10,
        version: 1,
        partitioner: Partitioner::Murmur3,
        cdc_base: None,
        cdc_log: None,
        options: TableOptions::default(),
    }
}

/// The mutation that an INSERT of a row of the data set becomes.
fn mutation(data: &Values, number: u64, timestamp: i64) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = MutationWriter::new(&mut out, TABLE, 1, &key(number));
    let head = RowHead { marker: Some(Marker { timestamp, expiry: None }), tombstone: None };
    writer.row(&[], timestamp, head, |row| {
        for column in 0..COLUMN_COUNT {
            let content = CellContent::Live { value: data.value(number, column), expiry: None };
            let column = ColumnId::try_from(column + 1).expect("it is small");
            row.cell(&Cell { column, path: None, timestamp, content });
        }
    });
    out
}

fn mutations(range: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    let data = Values::new();
    range.map(|number| mutation(&data, number, 1)).collect()
}

fn engine(dir: &Path) -> Engine {
    let options = EngineOptions::default();
    let mut engine = Engine::open(Disk::real(), dir, options).expect("the directory is new");
    engine.configure_table(&table());
    engine
}

fn apply_all(engine: &mut Engine, mutations: &[Vec<u8>]) {
    for (index, bytes) in mutations.iter().enumerate() {
        let view = MutationView::new(bytes).expect("it was just written");
        engine.apply(GROUP, 1 + index as u64, &view);
    }
}

/// Writes all memtables out, and lists them.
fn flush(engine: &mut Engine) {
    let disk = engine.disk().clone();
    while let Some(job) =
        engine.flush_job(FlushReason::Everything).or_else(|| engine.manifest_job())
    {
        engine.finish(job.run(&disk)).expect("the disk works");
    }
}

fn apply_and_read(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut engine = engine(dir.path());
    let rows = mutations(0..ROW_COUNT);
    apply_all(&mut engine, &rows);
    let data = Values::new();
    let (mut random, mut index) = (Random::new(1), ROW_COUNT);
    c.bench_function("apply/overwrite", |b| {
        let next = || {
            index += 1;
            mutation(&data, random.below(ROW_COUNT), i64::try_from(index).expect("it is small"))
        };
        b.iter_batched(
            next,
            |bytes| {
                let view = MutationView::new(&bytes).expect("it was just written");
                engine.apply(GROUP, 1, &view);
            },
            BatchSize::SmallInput,
        );
    });
    c.bench_function("read_row/memtable", |b| {
        b.iter(|| read(&mut engine, random.below(ROW_COUNT)));
    });
    flush(&mut engine);
    c.bench_function("read_row/table_file,cached", |b| {
        b.iter(|| read(&mut engine, random.below(ROW_COUNT)));
    });
}

fn read(engine: &mut Engine, number: u64) {
    let key = key(number);
    loop {
        let read = engine.read_row(TABLE, murmur3_token(&key), &key, &[], 10, false, |_, row| {
            black_box(row.expect("it was written").cells().count())
        });
        match read {
            Ok(cells) => return assert_eq!(cells, COLUMN_COUNT),
            Err(storage::ReadError::Miss(miss)) => {
                engine.block_loaded(miss.load().expect("the disk works"));
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

fn flush_and_replay(c: &mut Criterion) {
    let rows = mutations(0..BATCH_COUNT);
    let mut group = c.benchmark_group("bulk");
    group.sample_size(10);
    group.throughput(Throughput::Elements(BATCH_COUNT));
    group.bench_function("replay_into_memtable", |b| {
        b.iter_batched(
            || {
                let dir = tempfile::tempdir().expect("a temporary directory");
                let engine = engine(dir.path());
                (dir, engine)
            },
            |(dir, mut engine)| {
                apply_all(&mut engine, &rows);
                (dir, engine)
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("flush", |b| {
        b.iter_batched(
            || {
                let dir = tempfile::tempdir().expect("a temporary directory");
                let mut engine = engine(dir.path());
                apply_all(&mut engine, &rows);
                (dir, engine)
            },
            |(dir, mut engine)| {
                flush(&mut engine);
                (dir, engine)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn commit_log(c: &mut Criterion) {
    let payload = mutation(&Values::new(), 1, 1);
    let mut group = c.benchmark_group("commit_log");
    group.sample_size(10);
    group.throughput(Throughput::Elements(BATCH_COUNT));
    group.bench_function("append/entries_a_write=256", |b| {
        b.iter_batched(
            || tempfile::tempdir().expect("a temporary directory"),
            |dir| {
                append(dir.path(), &payload);
                dir
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// Appends on this thread, which is the writer as well: a write of 256 entries at a time, and the
/// segments used again as if all of it were flushed.
fn append(dir: &Path, payload: &[u8]) {
    let sync = SyncMode::Periodic { every: Duration::from_secs(10) };
    let options = LogOptions { sync, ..LogOptions::new(0, 1) };
    let (mut log, _) = CommitLog::open(&Disk::real(), dir, options).expect("the directory is new");
    for index in 1..=BATCH_COUNT {
        log.append_entry(GROUP, 1, index, &[payload]).expect("there is room");
        if index % 256 == 0 {
            log.submit().expect("the disk works");
            log.release(|_| index);
        }
    }
    black_box(log.appended());
}

criterion_group!(storage_benches, apply_and_read, flush_and_replay, commit_log);
criterion_main!(storage_benches);
