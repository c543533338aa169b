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
const ROW_COUNTS: [u64; 2] = [200_000, 1_000_000];
/// Requests that come with one read from a socket.
const BATCHED_COUNT: usize = 16;
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

/// Makes mutations in one buffer, so that a loop measures little but the engine.
struct Rows {
    data: Values,
    buffer: Vec<u8>,
}

impl Rows {
    fn new() -> Self {
        Rows { data: Values::new(), buffer: Vec::new() }
    }

    fn mutation(&mut self, number: u64, timestamp: i64) -> &[u8] {
        self.buffer.clear();
        write_mutation(&mut self.buffer, &self.data, number, timestamp);
        &self.buffer
    }
}

fn mutation(data: &Values, number: u64, timestamp: i64) -> Vec<u8> {
    let mut out = Vec::new();
    write_mutation(&mut out, data, number, timestamp);
    out
}

/// The mutation that an INSERT of a row of the data set becomes.
fn write_mutation(out: &mut Vec<u8>, data: &Values, number: u64, timestamp: i64) {
    let mut writer = MutationWriter::new(out, TABLE, 1, &key(number));
    let head = RowHead { marker: Some(Marker { timestamp, expiry: None }), tombstone: None };
    writer.row(&[], timestamp, head, |row| {
        for column in 0..COLUMN_COUNT {
            let content = CellContent::Live { value: data.value(number, column), expiry: None };
            let column = ColumnId::try_from(column + 1).expect("it is small");
            row.cell(&Cell { column, path: None, timestamp, content });
        }
    });
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

fn apply_all(engine: &mut Engine, mutations: &[Vec<u8>], first_index: u64) {
    for (index, bytes) in (first_index..).zip(mutations) {
        let view = MutationView::new(bytes).expect("it was just written");
        engine.apply(GROUP, index, &view);
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

/// Point operations on memtables of growing size: what a prepared statement costs the engine.
fn points(c: &mut Criterion) {
    for row_count in ROW_COUNTS {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut engine = engine(dir.path());
        let mut index = 0;
        let mut rows = Rows::new();
        for number in 0..row_count {
            index += 1;
            let view = MutationView::new(rows.mutation(number, 1)).expect("it was just written");
            engine.apply(GROUP, index, &view);
        }
        let mut random = Random::new(1);
        c.bench_function(&format!("prepare_only/rows={row_count}"), |b| {
            b.iter(|| {
                let number = random.below(row_count);
                black_box(rows.mutation(number, i64::try_from(number).expect("it is small")));
            });
        });
        c.bench_function(&format!("overwrite/rows={row_count}"), |b| {
            b.iter(|| {
                index += 1;
                let timestamp = i64::try_from(index).expect("it is small");
                let bytes = rows.mutation(random.below(row_count), timestamp);
                let view = MutationView::new(bytes).expect("it was just written");
                let token = murmur3_token(view.key());
                black_box(engine.newest_timestamp(TABLE, token, view.key()));
                engine.apply(GROUP, index, &view);
            });
        });
        overwrite_prefetched(c, &mut engine, row_count);
        c.bench_function(&format!("read_row/memtable,rows={row_count}"), |b| {
            b.iter(|| read(&mut engine, random.below(row_count)));
        });
        c.bench_function(&format!("read_row/absent,rows={row_count}"), |b| {
            b.iter(|| {
                let key = key(random.below(row_count) + row_count);
                let token = murmur3_token(&key);
                let is_there = engine
                    .read_row(TABLE, token, &key, &[], 10, false, |_, row| row.is_some())
                    .expect("all is in memory");
                assert!(!is_there);
            });
        });
        flush(&mut engine);
        if row_count == ROW_COUNTS[0] {
            c.bench_function("read_row/table_file,cached", |b| {
                b.iter(|| read(&mut engine, random.below(row_count)));
            });
        }
    }
}

/// As the node does it: all requests of one read from a socket are looked ahead of. The time is
/// that of the whole batch.
fn overwrite_prefetched(c: &mut Criterion, engine: &mut Engine, row_count: u64) {
    let (data, mut random, mut timestamp) = (Values::new(), Random::new(2), 1 << 40);
    let mut batch: Vec<Vec<u8>> = vec![Vec::new(); BATCHED_COUNT];
    c.bench_function(&format!("overwrite/rows={row_count},batch={BATCHED_COUNT}"), |b| {
        b.iter(|| {
            timestamp += 1;
            for bytes in &mut batch {
                bytes.clear();
                write_mutation(bytes, &data, random.below(row_count), timestamp);
            }
            let view_of = |bytes| MutationView::new(bytes).expect("it was just written");
            let tokens: [_; BATCHED_COUNT] =
                std::array::from_fn(|at| murmur3_token(view_of(&batch[at]).key()));
            for token in tokens {
                engine.prefetch_index(TABLE, token);
            }
            for token in tokens {
                engine.prefetch_partition(TABLE, token);
            }
            for (bytes, token) in batch.iter().zip(tokens) {
                let view = view_of(bytes);
                black_box(engine.newest_timestamp(TABLE, token, view.key()));
                engine.apply(GROUP, 1, &view);
            }
        });
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
                apply_all(&mut engine, &rows, 1);
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
                apply_all(&mut engine, &rows, 1);
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

/// Merging files into one: some that each hold rows of the whole ring, as memtables leave them, and
/// more that each hold a part of it, as a node has them that was filled by others.
fn merge(c: &mut Criterion) {
    let mut rows = mutations(0..BATCH_COUNT);
    let mut group = c.benchmark_group("merge");
    group.sample_size(10);
    group.throughput(Throughput::Elements(BATCH_COUNT));
    for (name, file_count) in [("of_the_whole_ring", 4), ("of_parts_of_it", 32)] {
        group.bench_function(format!("{name}/files={file_count}"), |b| {
            b.iter_batched(
                || {
                    let dir = tempfile::tempdir().expect("a temporary directory");
                    let mut engine = engine(dir.path());
                    let chunks = rows.chunks(rows.len().div_ceil(file_count));
                    for (index, rows) in chunks.enumerate() {
                        apply_all(&mut engine, rows, 1 + index as u64 * BATCH_COUNT);
                        flush(&mut engine);
                    }
                    (dir, engine)
                },
                |(dir, mut engine)| {
                    let disk = engine.disk().clone();
                    let job = engine.major_compaction_job(TABLE, 10).expect("there are files");
                    engine.finish(job.run(&disk)).expect("the disk works");
                    (dir, engine)
                },
                BatchSize::PerIteration,
            );
        });
        rows.sort_by_cached_key(|bytes| {
            murmur3_token(MutationView::new(bytes).expect("it was just written").key())
        });
    }
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

criterion_group!(storage_benches, points, flush_and_replay, merge, commit_log);
criterion_main!(storage_benches);
