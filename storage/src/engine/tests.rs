//! The engine against a model: a map of [`Partition`]s that takes the same mutations.

mod corruption;
mod crash;
mod kept;
#[cfg(debug_assertions)]
mod planted;
mod snapshot;
mod snapshot_crash;

use super::jobs::FlushReason;
use super::*;
use crate::error::ReadError;
use crate::read::page::ReadProgress;
use model::mutation::MutationWriter;
use model::partition::Partition;
use model::read::{END_POSITION, Page, ReadCommand, ReadScope, ResumePoint, Slice};
use model::row::{Cell, CellContent, Deletion, Expiry, Marker, RowHead, RowView, RowWriter};
use model::schema::{Partitioner, TableOptions};
use model::{EpochSeconds, Token};

pub(crate) const TABLE: TableId = TableId(7);
pub(crate) const NOW: EpochSeconds = 1_000;

/// A small deterministic generator.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

pub(crate) fn table_def(id: TableId, options: TableOptions) -> TableDef {
    TableDef {
        id,
        keyspace: "ks".into(),
        name: "t".into(),
        columns: Vec::new(),
        dropped_columns: Vec::new(),
        next_column_id: 10,
        version: 1,
        partitioner: Partitioner::Murmur3,
        cdc_base: None,
        cdc_log: None,
        options,
    }
}

pub(crate) type Model = BTreeMap<(Token, Vec<u8>), Partition>;

fn random_timestamp(random: &mut Random) -> i64 {
    100 + random.below(40) as i64
}

fn random_deletion(random: &mut Random) -> Deletion {
    Deletion { timestamp: random_timestamp(random), deleted_at: 900 + random.below(50) as i64 }
}

fn write_cells(random: &mut Random, timestamp: i64, writer: &mut RowWriter) {
    for column in 1..4 {
        let expiry = random
            .one_in(4)
            .then(|| Expiry { ttl_seconds: 10, expires_at: NOW - 20 + random.below(40) as i64 });
        let value = [random.below(250) as u8; 40];
        let content = match random.below(4) {
            0 => continue,
            1 => CellContent::Tombstone { deleted_at: 900 + random.below(50) as i64 },
            _ => CellContent::Live { value: &value[..random.below(41) as usize], expiry },
        };
        writer.cell(&Cell { column, path: None, timestamp, content });
    }
    if random.one_in(3) {
        let content = CellContent::CollectionTombstone { deleted_at: 900 };
        writer.cell(&Cell { column: 5, path: None, timestamp: timestamp - 1, content });
    }
    if random.one_in(2) {
        let content = CellContent::Live { value: b"element", expiry: None };
        let path = [random.below(3) as u8];
        writer.cell(&Cell { column: 5, path: Some(&path), timestamp, content });
    }
}

/// A row does not hold what its own tombstone hides: planners merge before they write.
fn random_head(random: &mut Random, timestamp: i64) -> RowHead {
    RowHead {
        marker: random.one_in(2).then_some(Marker { timestamp, expiry: None }),
        tombstone: random
            .one_in(8)
            .then(|| random_deletion(random))
            .filter(|deletion| deletion.timestamp < timestamp - 1),
    }
}

fn random_clustering(random: &mut Random) -> Vec<u8> {
    format!("{:04}", random.below(60)).into_bytes()
}

pub(crate) fn random_mutation(random: &mut Random, key_count: u64) -> Vec<u8> {
    let key = random.below(key_count).to_be_bytes();
    let mut out = Vec::new();
    let mut writer = MutationWriter::new(&mut out, TABLE, 1, &key);
    if random.one_in(30) {
        writer.partition_tombstone(random_deletion(random));
    }
    if random.one_in(6) {
        let timestamp = random_timestamp(random);
        writer.static_row(timestamp, RowHead { marker: None, tombstone: None }, |row| {
            write_cells(random, timestamp, row);
        });
    }
    if random.one_in(10) {
        let (start, end) = (random_clustering(random), random_clustering(random));
        if start < end {
            writer.range_tombstone(&start, &end, random_deletion(random));
        }
    }
    let mut clusterings: Vec<_> = (0..random.below(4)).map(|_| random_clustering(random)).collect();
    clusterings.sort();
    clusterings.dedup();
    for clustering in clusterings {
        let timestamp = random_timestamp(random);
        let head = random_head(random, timestamp);
        writer.row(&clustering, timestamp, head, |row| write_cells(random, timestamp, row));
    }
    out
}

pub(crate) fn apply_to_model(model: &mut Model, bytes: &[u8]) {
    let mutation = MutationView::check(bytes).unwrap();
    if mutation.is_empty() {
        return;
    }
    let token = model::token::murmur3_token(mutation.key());
    model.entry((token, mutation.key().to_vec())).or_default().apply(&mutation);
}

/// A row's content, whatever its encoding; `None` when it is not live.
type Meaning = (RowHead, Vec<(u32, Option<Vec<u8>>, i64, String)>);

fn meaning(row: RowView) -> Meaning {
    let (head, cells) = row.parts();
    let cell =
        |c: Cell| (c.column, c.path.map(<[u8]>::to_vec), c.timestamp, format!("{:?}", c.content));
    (head, cells.map(cell).collect())
}

/// What a client sees of a row: live cells only, no tombstones.
fn visible(row: RowView) -> Meaning {
    let (head, cells) = row.parts();
    let head = RowHead { tombstone: None, marker: head.marker.filter(|m| m.is_live(NOW)) };
    let cells = cells.filter(|c| c.live_value(NOW).is_some());
    let cell =
        |c: Cell| (c.column, c.path.map(<[u8]>::to_vec), c.timestamp, format!("{:?}", c.content));
    (head, cells.map(cell).collect())
}

/// Runs a read to its end, loading what is missed.
pub(crate) fn retry<R>(
    engine: &mut Engine,
    mut read: impl FnMut(&mut Engine) -> Result<R, ReadError>,
) -> Result<R, ReadError> {
    loop {
        match read(engine) {
            Err(ReadError::Miss(miss)) => {
                let loaded = miss.load().map_err(ReadError::Storage)?;
                engine.block_loaded(loaded);
            }
            Err(ReadError::Paused) => {}
            other => return other,
        }
    }
}

/// A row of an answer with its partition: key, static row, clustering key and row.
type Answer = (Vec<u8>, Option<Meaning>, Option<(Vec<u8>, Meaning)>);
type Rows = Vec<(Vec<u8>, Option<Meaning>, Vec<(Vec<u8>, Meaning)>)>;

fn rows_of(page: &Page) -> Rows {
    use model::mutation::MutationItem;
    let mut out: Rows = Vec::new();
    for partition in page.partitions() {
        let partition = partition.unwrap();
        let mut entry = (partition.key().to_vec(), None, Vec::new());
        for item in partition.items() {
            match item {
                MutationItem::StaticRow(row) => entry.1 = Some(visible(row)),
                MutationItem::Row { clustering, row } => {
                    entry.2.push((clustering.to_vec(), visible(row)));
                }
                other => panic!("a page holds {other:?}"),
            }
        }
        out.push(entry);
    }
    out
}

/// The whole answer of a read, in one list: what pages add up to.
fn expected(model: &Model, command: &ReadCommand) -> Vec<Answer> {
    let mut out = Vec::new();
    for ((token, key), partition) in model {
        let is_in = match &command.scope {
            ReadScope::Partition(wanted) => **wanted == **key,
            ReadScope::TokenRange { first, last } => *first <= token.0 && token.0 <= *last,
        };
        if !is_in {
            continue;
        }
        let static_row = partition
            .effective_static_row()
            .filter(|row| command.include_static && RowView::new(row).is_live(NOW))
            .map(|row| visible(RowView::new(&row)));
        let mut rows: Vec<_> = command
            .slices
            .iter()
            .flat_map(|s| partition.effective_rows(&s.start, &s.end))
            .filter(|(_, row)| RowView::new(row).is_live(NOW))
            .map(|(clustering, row)| (clustering.to_vec(), visible(RowView::new(&row))))
            .collect();
        if command.reversed {
            rows.reverse();
        }
        rows.truncate(command.partition_row_limit as usize);
        if rows.is_empty() && static_row.is_some() {
            out.push((key.clone(), static_row.clone(), None));
        }
        out.extend(rows.into_iter().map(|row| (key.clone(), static_row.clone(), Some(row))));
    }
    out
}

pub(crate) fn whole_table() -> ReadCommand {
    ReadCommand {
        table: TABLE,
        scope: ReadScope::TokenRange { first: i64::MIN, last: i64::MAX },
        slices: [Slice::all()].into(),
        reversed: false,
        include_static: true,
        now: NOW,
        row_limit: u32::MAX,
        partition_row_limit: u32::MAX,
        page_bytes: usize::MAX,
        resume: None,
    }
}

fn random_command(random: &mut Random, key_count: u64) -> ReadCommand {
    let scope = if random.one_in(2) {
        ReadScope::Partition(random.below(key_count).to_be_bytes().as_slice().into())
    } else {
        let a = random.below(u64::MAX) as i64;
        let b = random.below(u64::MAX) as i64;
        ReadScope::TokenRange { first: a.min(b), last: a.max(b) }
    };
    let mut bounds: Vec<_> = (0..2 * random.below(3)).map(|_| random_clustering(random)).collect();
    bounds.sort();
    bounds.dedup();
    let mut slices: Vec<Slice> = bounds
        .chunks_exact(2)
        .map(|b| Slice { start: b[0].as_slice().into(), end: b[1].as_slice().into() })
        .collect();
    if slices.is_empty() {
        slices.push(Slice { start: Box::default(), end: END_POSITION.into() });
    }
    let limit = |random: &mut Random| {
        if random.one_in(2) { u32::MAX } else { 1 + random.below(5) as u32 }
    };
    ReadCommand {
        scope,
        slices: slices.into(),
        reversed: random.one_in(2),
        include_static: random.one_in(2),
        row_limit: limit(random),
        partition_row_limit: limit(random),
        page_bytes: if random.one_in(2) { usize::MAX } else { 1 + random.below(300) as usize },
        ..whole_table()
    }
}

/// Reads all pages of a command and compares them with the model's answer.
pub(crate) fn check_read(engine: &mut Engine, model: &Model, mut command: ReadCommand) {
    let mut found = Vec::new();
    let expected = expected(model, &command);
    loop {
        let mut progress = ReadProgress::default();
        let page = retry(engine, |e| e.read(&command, &mut progress)).unwrap();
        assert!(page.row_count <= command.row_limit, "{} rows", page.row_count);
        let mut count = 0;
        for (key, static_row, rows) in rows_of(&page) {
            count += rows.len().max(1);
            if rows.is_empty() {
                found.push((key.clone(), static_row.clone(), None));
            }
            found.extend(rows.into_iter().map(|r| (key.clone(), static_row.clone(), Some(r))));
        }
        assert_eq!(page.row_count as usize, count);
        let Some(resume) = page.resume else { break };
        let is_later = |old: &ResumePoint| *old != resume;
        assert!(command.resume.as_ref().is_none_or(is_later), "no progress at {resume:?}");
        command.resume = Some(resume);
    }
    let differs = found.iter().zip(&expected).position(|(a, b)| a != b);
    let differs = differs.unwrap_or(found.len().min(expected.len()));
    assert_eq!(found.get(differs), expected.get(differs), "row {differs} of {command:?}");
}

pub(crate) fn check_point_reads(engine: &mut Engine, model: &Model, random: &mut Random) {
    for ((token, key), partition) in model {
        let clustering = random_clustering(random);
        let (static_row, row) = retry(engine, |e| {
            e.read_row(TABLE, *token, key, &clustering, NOW, true, |s, r| {
                (s.map(visible), r.map(visible))
            })
        })
        .unwrap();
        let live = |row: std::borrow::Cow<[u8]>| {
            let row = RowView::new(&row);
            row.is_live(NOW).then(|| visible(row))
        };
        assert_eq!(row, partition.effective_row(&clustering).and_then(live));
        assert_eq!(static_row, partition.effective_static_row().and_then(live));
        let newest = engine.newest_timestamp(TABLE, *token, key);
        assert!(newest >= partition.newest_timestamp(), "{newest:?}");
    }
}

/// Rows that lie in one piece are as the model has them, and those that are gathered lie so.
fn check_rows_in_place(engine: &mut Engine, model: &Model, random: &mut Random) {
    for ((token, key), partition) in model {
        let clustering = random_clustering(random);
        let gathers = random.one_in(2)
            && retry(engine, |e| e.gather_row(TABLE, *token, key, &clustering)).unwrap();
        let expected = partition.effective_row(&clustering);
        let expected = expected.map_or((NOTHING, Vec::new()), |row| settled(&row));
        match engine.row_in_place(TABLE, *token, key, &clustering) {
            RowInPlace::Whole(row) => assert_eq!(settled(row.as_bytes()), expected),
            RowInPlace::Absent => assert_eq!(((NOTHING, Vec::new()), false), (expected, gathers)),
            RowInPlace::InPieces => assert!(!gathers, "a gathered row lies in one piece"),
        }
    }
}

const NOTHING: RowHead = RowHead { marker: None, tombstone: None };

/// A row's content without what its own tombstones hide.
fn settled(row: &[u8]) -> Meaning {
    let mut out = Vec::new();
    model::merge::merge_rows(RowView::new(row), RowView::new(row), &mut out);
    meaning(RowView::new(&out))
}

fn ranges_left(partition: &Partition) -> model::range_tombstones::RangeTombstones {
    let mut ranges = partition.range_tombstones.clone();
    if let Some(deletion) = partition.deletion {
        ranges.shadow(deletion);
    }
    ranges
}

/// Compares whole partitions, tombstones included, as they are left under their tombstones.
pub(crate) fn check_partitions(engine: &mut Engine, model: &Model) {
    for ((token, key), expected) in model {
        check_partition(engine, TABLE, *token, key, expected);
    }
}

fn check_partition(
    engine: &mut Engine,
    table: TableId,
    token: Token,
    key: &[u8],
    expected: &Partition,
) {
    let slices = [Slice::all()];
    let found = retry(engine, |e| e.load_partition(table, token, key, &slices)).unwrap();
    check_limits(engine, (table, token, key), &found);
    assert_eq!(found.deletion, expected.deletion);
    assert_eq!(ranges_left(&found), ranges_left(expected));
    let is_anything = |row: &Meaning| !row.1.is_empty() || row.0 != NOTHING;
    let static_row =
        |p: &Partition| p.effective_static_row().map(|row| settled(&row)).filter(is_anything);
    assert_eq!(static_row(&found), static_row(expected));
    let all = |p: &Partition| -> Vec<_> {
        p.effective_rows(b"", END_POSITION)
            .map(|(c, row)| (c.to_vec(), settled(&row)))
            .filter(|(_, row)| is_anything(row))
            .collect()
    };
    assert_eq!(all(&found), all(expected));
}

/// What has just as many rows and bytes as may be is read, and what has one more is not.
fn check_limits(
    engine: &mut Engine,
    (table, token, key): (TableId, Token, &[u8]),
    found: &Partition,
) {
    let rows = found.rows.len();
    let bytes: usize = found.rows.iter().map(|(c, row)| c.len() + row.len()).sum();
    let slices = [Slice::all()];
    let mut load = |rows_max, bytes_max| {
        let limits = (rows_max, bytes_max);
        retry(engine, |e| e.load_partition_if_small(table, token, key, &slices, limits)).unwrap()
    };
    assert_eq!(load(rows, bytes).map(|partition| partition.rows.len()), Some(rows));
    if rows > 0 {
        assert!(load(rows - 1, bytes).is_none() && load(rows, bytes - 1).is_none());
    }
}

pub(crate) fn new_engine(disk: &Disk, options: TableOptions) -> Engine {
    let engine_options =
        EngineOptions { memtable_bytes_max: 1 << 20, block_cache_bytes_max: 1 << 20 };
    let mut engine = Engine::open(disk.clone(), Path::new("/shard"), engine_options).unwrap();
    engine.configure_table(&table_def(TABLE, options));
    engine
}

#[test]
fn a_memtable_answers_every_read_as_the_model_does() {
    for seed in 1..20 {
        let mut random = Random(seed * 0x9e37_79b9);
        let (disk, _control) = Disk::simulated(seed);
        let mut engine = new_engine(&disk, TableOptions::default());
        let mut model = Model::new();
        let mutations: Vec<_> = (1..300).map(|_| random_mutation(&mut random, 12)).collect();
        let entries = mutations.iter().zip(1..);
        let mut batch = entries.map(|(bytes, index)| {
            apply_to_model(&mut model, bytes);
            Committed { group: 1, index, mutation: MutationView::check(bytes).unwrap() }
        });
        // Some one by one, the others all at once, as after a restart.
        for Committed { group, index, mutation } in batch.by_ref().take(100) {
            engine.apply(group, index, &mutation);
        }
        let batch: Vec<_> = batch.collect();
        engine.apply_all(&batch);
        check_partitions(&mut engine, &model);
        check_point_reads(&mut engine, &model, &mut random);
        for _ in 0..60 {
            check_read(&mut engine, &model, random_command(&mut random, 12));
        }
        assert_eq!(engine.needed_indexes().get(&1), Some(&1));
    }
}

#[test]
fn truncation_hides_what_was_applied_before_in_its_tokens() {
    let mut random = Random(99);
    let (disk, _control) = Disk::simulated(1);
    let mut engine = new_engine(&disk, TableOptions::default());
    let mut model = Model::new();
    let write = |engine: &mut Engine, model: &mut Model, random: &mut Random, index| {
        let bytes = random_mutation(random, 12);
        engine.apply(1, index, &MutationView::check(&bytes).unwrap());
        apply_to_model(model, &bytes);
    };
    for index in 1..100 {
        write(&mut engine, &mut model, &mut random, index);
    }
    engine.truncate(1, 100, TABLE, TokenInterval { first: i64::MIN, last: -1 });
    model.retain(|(token, _), _| token.0 >= 0);
    for index in 101..120 {
        write(&mut engine, &mut model, &mut random, index);
    }
    check_partitions(&mut engine, &model);
    check_read(&mut engine, &model, whole_table());
}

/// Runs every job that is due, and those that follow from them.
pub(crate) fn run_jobs(engine: &mut Engine, reason: FlushReason) {
    let disk = engine.disk().clone();
    while let Some(job) = engine.flush_job(reason).or_else(|| engine.manifest_job()) {
        engine.finish(job.run(&disk)).unwrap();
    }
}

fn run_compactions(engine: &mut Engine, now: EpochSeconds) {
    let disk = engine.disk().clone();
    while let Some(job) = engine.compaction_job(now).or_else(|| engine.manifest_job()) {
        engine.finish(job.run(&disk)).unwrap();
    }
}

fn major_compaction(engine: &mut Engine, now: EpochSeconds) {
    let disk = engine.disk().clone();
    if let Some(job) = engine.major_compaction_job(TABLE, now) {
        engine.finish(job.run(&disk)).unwrap();
    }
    run_jobs(engine, FlushReason::Pressure);
}

/// A small block size makes wide partitions span many blocks.
fn shrink_blocks(engine: &mut Engine) {
    if let Some(state) = engine.tables.get_mut(&TABLE) {
        state.config.writer.block_bytes = 300;
    }
}

fn reopen(engine: Engine) -> Engine {
    let disk = engine.disk().clone();
    drop(engine);
    let mut engine = new_engine(&disk, TableOptions::default());
    shrink_blocks(&mut engine);
    engine
}

fn check_everything(engine: &mut Engine, model: &Model, random: &mut Random) {
    check_partitions(engine, model);
    check_point_reads(engine, model, random);
    check_read(engine, model, whole_table());
    for _ in 0..15 {
        check_read(engine, model, random_command(random, 12));
    }
}

#[test]
fn memtables_files_and_merges_answer_every_read_as_the_model_does() {
    for seed in 1..10 {
        let mut random = Random(seed * 0x9e37_79b9);
        let (disk, control) = Disk::simulated(seed);
        control.set_page_cache_cold(seed % 2 == 0);
        let mut engine = new_engine(&disk, TableOptions::default());
        shrink_blocks(&mut engine);
        let mut model = Model::new();
        let mut log: Vec<Vec<u8>> = Vec::new();
        for step in 0..60 {
            for _ in 0..random.below(12) {
                let bytes = random_mutation(&mut random, 12);
                log.push(bytes.clone());
                engine.apply(1, log.len() as u64, &MutationView::check(&bytes).unwrap());
                apply_to_model(&mut model, &bytes);
            }
            match random.below(8) {
                0..3 => run_jobs(&mut engine, FlushReason::Everything),
                3 => run_compactions(&mut engine, NOW),
                4 if step % 3 == 0 => major_compaction(&mut engine, NOW),
                5 => {
                    let needed = engine.needed_indexes().get(&1).copied();
                    engine = reopen(engine);
                    let first = needed.unwrap_or(log.len() as u64 + 1);
                    for index in first..=log.len() as u64 {
                        let bytes = &log[index as usize - 1];
                        engine.apply(1, index, &MutationView::check(bytes).unwrap());
                    }
                }
                _ => check_everything(&mut engine, &model, &mut random),
            }
            check_rows_in_place(&mut engine, &model, &mut random);
        }
        check_everything(&mut engine, &model, &mut random);
    }
}

/// Merges of any few files forget only what nothing in the other files needs.
#[test]
fn what_is_dead_goes_in_a_merge_and_stays_gone() {
    for seed in 1..8 {
        let mut random = Random(seed * 31);
        let (disk, _control) = Disk::simulated(seed);
        let mut engine = new_engine(&disk, TableOptions::default());
        let mut model = Model::new();
        for index in 1..300 {
            let bytes = random_mutation(&mut random, 6);
            engine.apply(1, index, &MutationView::check(&bytes).unwrap());
            apply_to_model(&mut model, &bytes);
            if index % 20 == 0 {
                run_jobs(&mut engine, FlushReason::Everything);
            }
        }
        run_jobs(&mut engine, FlushReason::Everything);
        let before = engine.statistics().tombstone_count;
        while engine.statistics().file_count > 1 {
            let ids = live_files(&engine);
            let mut picked: Vec<u64> =
                ids.iter().copied().filter(|_| random.one_in(3)).take(3).collect();
            picked.extend(ids.first().filter(|_| picked.len() < 2));
            picked.dedup();
            let job = engine.start_compaction(TABLE, &picked, NOW).unwrap();
            engine.finish(job.run(&disk)).unwrap();
            run_jobs(&mut engine, FlushReason::Pressure);
            check_read(&mut engine, &model, whole_table());
            check_point_reads_visible(&mut engine, &model, &mut random);
        }
        let after = engine.statistics().tombstone_count;
        assert!(after < before / 2, "{after} tombstones and expiring cells of {before} are left");
        // Every deletion of the test was made before now; expiry times lie on both sides of it.
        let job = engine.start_compaction(TABLE, &live_files(&engine), NOW + 100).unwrap();
        engine.finish(job.run(&disk)).unwrap();
        assert_eq!(engine.statistics().tombstone_count, 0);
        check_read_at(&mut engine, &model, NOW + 100);
    }
}

fn live_files(engine: &Engine) -> Vec<u64> {
    engine.tables[&TABLE].live.iter().map(|l| l.table.id()).collect()
}

/// Purged tombstones are no longer in `newest_timestamp`: only what is visible is compared.
fn check_point_reads_visible(engine: &mut Engine, model: &Model, random: &mut Random) {
    for ((token, key), partition) in model {
        let clustering = random_clustering(random);
        let row = retry(engine, |e| {
            e.read_row(TABLE, *token, key, &clustering, NOW, false, |_, r| r.map(visible))
        })
        .unwrap();
        let expected = partition.effective_row(&clustering);
        let expected = expected.as_ref().map(|row| RowView::new(row)).filter(|r| r.is_live(NOW));
        assert_eq!(row, expected.map(visible));
    }
}

/// The keys of the rows that are live at another time.
fn check_read_at(engine: &mut Engine, model: &Model, now: EpochSeconds) {
    let command = ReadCommand { now, include_static: false, ..whole_table() };
    let mut progress = ReadProgress::default();
    let page = retry(engine, |e| e.read(&command, &mut progress)).unwrap();
    let found: Vec<_> = rows_of(&page)
        .into_iter()
        .flat_map(|(key, _, rows)| rows.into_iter().map(move |row| (key.clone(), row.0)))
        .collect();
    let mut expected = Vec::new();
    for ((_, key), partition) in model {
        for (clustering, row) in partition.effective_rows(b"", END_POSITION) {
            if RowView::new(&row).is_live(now) {
                expected.push((key.clone(), clustering.to_vec()));
            }
        }
    }
    assert_eq!(found, expected);
}

#[test]
fn partitions_that_share_a_token_are_kept_apart() {
    use model::row::RowHead;
    let (disk, _control) = Disk::simulated(1);
    let mut engine = new_engine(&disk, TableOptions::default());
    let mut log = table_def(TableId(8), TableOptions::default());
    log.partitioner = Partitioner::CdcStream;
    engine.configure_table(&log);
    let stream = |token: i64, id: u64| [token.to_be_bytes(), id.to_be_bytes()].concat();
    let mut keys = Vec::new();
    for (index, (token, id)) in
        [(5, 9), (5, 1), (-3, 4), (5, 4), (-3, 1), (7, 0)].into_iter().enumerate()
    {
        let key = stream(token, id);
        let mut bytes = Vec::new();
        let marker = Some(Marker { timestamp: 1, expiry: None });
        MutationWriter::new(&mut bytes, TableId(8), 1, &key).row(
            b"c",
            1,
            RowHead { marker, tombstone: None },
            |_| (),
        );
        engine.apply(1, index as u64 + 1, &MutationView::check(&bytes).unwrap());
        keys.push(((token, id), key));
        if index == 2 {
            run_jobs(&mut engine, FlushReason::Everything);
        }
    }
    keys.sort();
    let command = ReadCommand { table: TableId(8), row_limit: 2, ..whole_table() };
    let mut found = Vec::new();
    let mut resume = None;
    loop {
        let command = ReadCommand { resume: resume.take(), ..command.clone() };
        let page = engine.read(&command, &mut ReadProgress::default()).unwrap();
        found.extend(rows_of(&page).into_iter().map(|(key, _, _)| key));
        resume = page.resume;
        if resume.is_none() {
            break;
        }
    }
    assert_eq!(found, keys.into_iter().map(|(_, key)| key).collect::<Vec<_>>());
}

#[test]
fn a_long_read_lets_others_run_and_goes_on() {
    let (disk, _control) = Disk::simulated(1);
    let mut engine = new_engine(&disk, TableOptions::default());
    let mut bytes = Vec::new();
    let mut writer = MutationWriter::new(&mut bytes, TABLE, 1, b"wide");
    for i in 0..9_000_u32 {
        let marker = Some(Marker { timestamp: 1, expiry: None });
        writer.row(&i.to_be_bytes(), 1, RowHead { marker, tombstone: None }, |_| ());
    }
    engine.apply(1, 1, &MutationView::check(&bytes).unwrap());
    let mut progress = ReadProgress::default();
    let mut pauses = 0;
    let page = loop {
        match engine.read(&whole_table(), &mut progress) {
            Ok(page) => break page,
            Err(ReadError::Paused) => pauses += 1,
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!((page.row_count, pauses), (9_000, 4));
    assert_eq!(rows_of(&page).len(), 1, "one partition, however often the read paused");
}
