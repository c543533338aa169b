//! What change data capture adds to a write, without the client and without the log on disk: the
//! decision alone, the decision with the look at the row and the apply of what it made, and the
//! same for rows that lie in a file.

use benches::dataset::{COLUMN_COUNT, Random, Values, key};
use cdc::place::Leader;
use cdc::{Content, Generation, Generations, LogBuffer, LogLayout, Need, WriteInput, decide, need};
use criterion::{Criterion, criterion_group, criterion_main};
use env::Disk;
use model::entry::{Placement, WriteEntryWriter};
use model::mutation::{MutationView, MutationWriter};
use model::row::{Cell, CellContent, Marker, RowHead};
use model::schema::Partitioner;
use model::token::murmur3_token;
use model::{
    CdcOptions, ColumnDef, ColumnId, ColumnKind, CqlType, DeltaMode, PreimageMode, TableDef,
    TableId, TableOptions,
};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use storage::{Engine, EngineOptions, FlushReason, RowInPlace};

const TABLE: TableId = TableId(7);
const LOG: TableId = TableId(8);
const GROUP: u64 = 1;
const ROW_COUNT: u64 = 100_000;
/// When the first row was written, in microseconds.
const START: i64 = 1_700_000_000_000_000;

/// The modes of the table in `docs/benchmarks.md`.
fn modes() -> [(&'static str, CdcOptions); 4] {
    let delta = CdcOptions { enabled: true, ..CdcOptions::default() };
    let full = PreimageMode::Full;
    [
        ("delta", delta),
        ("delta_keys", CdcOptions { delta: DeltaMode::Keys, ..delta }),
        ("preimage", CdcOptions { preimage: PreimageMode::Touched, ..delta }),
        ("pre_and_postimage", CdcOptions { preimage: full, postimage: true, ..delta }),
    ]
}

fn base_table(options: CdcOptions) -> TableDef {
    let column = |id: usize, name: &str, kind| ColumnDef {
        id: ColumnId::try_from(id).expect("it is small"),
        name: name.into(),
        cql_type: CqlType::Blob,
        kind,
        descending: false,
    };
    let mut columns = vec![column(0, "key", ColumnKind::PartitionKey(0))];
    columns.extend((0..COLUMN_COUNT).map(|c| column(c + 1, &format!("c{c}"), ColumnKind::Regular)));
    TableDef {
        id: TABLE,
        keyspace: "bench".into(),
        name: "rows".into(),
        columns,
        dropped_columns: Vec::new(),
        next_column_id: 10,
        version: 1,
        partitioner: Partitioner::Murmur3,
        cdc_base: None,
        cdc_log: Some(LOG),
        options: TableOptions { cdc: Some(options), ..TableOptions::default() },
    }
}

/// A shard in small: an engine and what its leader keeps.
struct Shard {
    engine: Engine,
    layout: LogLayout,
    generations: Generations,
    times: Placement,
    index: u64,
    log: LogBuffer,
    payload: Vec<u8>,
    values: Values,
    mutation: Vec<u8>,
}

impl Shard {
    fn new(dir: &Path, options: CdcOptions) -> Shard {
        let base = Arc::new(base_table(options));
        let log = Arc::new(cdc::new_log_table(&base, LOG).expect("the table can have a log"));
        let mut engine = Engine::open(Disk::real(), dir, EngineOptions::default())
            .expect("the directory is new");
        engine.configure_table(&base);
        engine.configure_table(&log);
        let layout = LogLayout::new(base, log).expect("the log has all columns");
        let generation = Generation::new(0, &[i64::MIN / 2, 0, i64::MAX / 2, i64::MAX]);
        Shard {
            engine,
            layout,
            generations: [generation].into_iter().collect(),
            times: Placement { closed: START - 5_000_000, ..Placement::START },
            index: 0,
            log: LogBuffer::new(),
            payload: Vec::new(),
            values: Values::new(),
            mutation: Vec::new(),
        }
    }

    /// One more than all timestamps so far.
    fn next_timestamp(&self) -> i64 {
        START + self.index.cast_signed() + 1
    }

    /// Makes the mutation that an INSERT of the row becomes.
    fn make_mutation(&mut self, number: u64) {
        let timestamp = self.next_timestamp();
        self.mutation.clear();
        let mut writer = MutationWriter::new(&mut self.mutation, TABLE, 1, &key(number));
        let head = RowHead { marker: Some(Marker { timestamp, expiry: None }), tombstone: None };
        writer.row(&[], timestamp, head, |row| {
            for column in 0..COLUMN_COUNT {
                let value = self.values.value(number, column);
                let content = CellContent::Live { value, expiry: None };
                let column = ColumnId::try_from(column + 1).expect("it is small");
                row.cell(&Cell { column, path: None, timestamp, content });
            }
        });
    }

    /// Decides the mutation and makes the payload of its entry.
    fn decide(&mut self) {
        let timestamp = self.next_timestamp();
        let mutation = MutationView::new(&self.mutation).expect("it was just written");
        let token = murmur3_token(mutation.key());
        let input = WriteInput {
            layout: &self.layout,
            generations: &self.generations,
            mutation,
            token,
            newest: self.engine.newest_timestamp(TABLE, token, mutation.key()),
            leader: Leader { times: self.times, started_at: START - 1 },
            clock_micros: timestamp,
            now_seconds: timestamp / 1_000_000,
            last_log_time: None,
            room: None,
        };
        let need = need(&input).expect("the mutation is well-formed");
        let content = match need {
            Need::Nothing => None,
            Need::Row(clustering) => {
                let (engine, key) = (&mut self.engine, mutation.key());
                if engine.row_in_place(TABLE, token, key, clustering) == RowInPlace::InPieces {
                    engine.gather_row(TABLE, token, key, clustering).expect("pages are cached");
                }
                match engine.row_in_place(TABLE, token, key, clustering) {
                    RowInPlace::Absent => Some(Content::Row { clustering, row: None }),
                    RowInPlace::Whole(row) => Some(Content::Row { clustering, row: Some(row) }),
                    RowInPlace::InPieces => unreachable!("it was gathered"),
                }
            }
            Need::Content(_) => unreachable!("the write changes one row"),
        };
        let mut counter = self.index << 15;
        let mut uuid_counter = || {
            counter += 1;
            counter
        };
        let decision = decide(&input, content, &mut uuid_counter, &mut self.log)
            .expect("the mutation is well-formed");
        self.times = decision.times;
        self.payload.clear();
        let mut entry = WriteEntryWriter::new(&mut self.payload);
        entry.mutation(|out| out.extend_from_slice(mutation.as_bytes()));
        for log_mutation in self.log.mutations() {
            entry.mutation(|out| out.extend_from_slice(log_mutation));
        }
        entry.finish(&self.times, timestamp);
    }

    /// Applies the payload that was made last.
    fn apply(&mut self) {
        self.index += 1;
        let entry = model::entry::Entry::decode(&self.payload).expect("it was just written");
        let model::entry::Entry::Write { mutations, placement, .. } = entry else {
            unreachable!("it is a write");
        };
        for mutation in mutations {
            let mutation = mutation.expect("it was just written");
            self.engine.apply(GROUP, self.index, &mutation);
        }
        self.engine.raise_placement(GROUP, &placement);
    }

    fn write(&mut self, number: u64) {
        self.make_mutation(number);
        self.decide();
        self.apply();
    }

    /// Writes all memtables out, as a long run does again and again.
    fn flush(&mut self) {
        let disk = self.engine.disk().clone();
        loop {
            let flush = self.engine.flush_job(FlushReason::Everything);
            let Some(job) = flush.or_else(|| self.engine.manifest_job()) else { return };
            self.engine.finish(job.run(&disk)).expect("the disk works");
        }
    }
}

fn filled(dir: &Path, options: CdcOptions) -> Shard {
    let mut shard = Shard::new(dir, options);
    (0..ROW_COUNT).for_each(|number| shard.write(number));
    shard
}

/// The decision of one row's write, again and again.
fn decisions(c: &mut Criterion) {
    for (mode, options) in modes() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut shard = Shard::new(dir.path(), options);
        shard.write(1);
        shard.make_mutation(1);
        c.bench_function(&format!("decide/{mode}"), |b| {
            b.iter(|| {
                shard.decide();
                black_box(shard.payload.len())
            });
        });
    }
}

/// Making, deciding and applying writes of rows in memory.
fn writes(c: &mut Criterion) {
    for (mode, options) in modes() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut shard = filled(dir.path(), options);
        let mut random = Random::new(1);
        c.bench_function(&format!("write/{mode}"), |b| {
            b.iter(|| shard.write(random.below(ROW_COUNT)));
        });
    }
}

/// The same, of rows that lay in a file: a row is brought to memory by the first write to it.
fn writes_of_filed_rows(c: &mut Criterion) {
    for (mode, options) in modes().into_iter().skip(2) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut shard = filled(dir.path(), options);
        shard.flush();
        let mut random = Random::new(1);
        c.bench_function(&format!("write_filed/{mode}"), |b| {
            b.iter(|| shard.write(random.below(ROW_COUNT)));
        });
    }
}

/// Writing a memtable of 100,000 log rows to a file.
fn flushes(c: &mut Criterion) {
    let (mode, options) = modes()[0];
    c.bench_function(&format!("flush/{mode}"), |b| {
        let setup = || {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let mut shard = Shard::new(dir.path(), options);
            // All of one key: the base table has next to nothing to write.
            (0..ROW_COUNT).for_each(|_| shard.write(1));
            (shard, dir)
        };
        let flush = |(mut shard, dir): (Shard, tempfile::TempDir)| {
            shard.flush();
            (shard, dir)
        };
        b.iter_batched(setup, flush, criterion::BatchSize::PerIteration);
    });
}

criterion_group!(cdc_benches, decisions, writes, writes_of_filed_rows, flushes);
criterion_main!(cdc_benches);
